# Fetches the agent into $agent, unless it is there: from the project's bucket, as the machine's role.
# Nothing is fetched from a bucket of another account, and nothing is kept whose checksum differs.
version="<{ agent_version }>"
sum="<{ agent_sha256 }>"
if echo "$sum  $agent" | sha256sum --check --status 2>/dev/null; then
  exit 0
fi
ask() {
  curl --fail --silent --show-error --connect-timeout 5 --retry 5 --retry-connrefused "$@"
}
metadata=http://169.254.169.254/latest
session=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" "$metadata/api/token")
about() {
  ask --header "X-aws-ec2-metadata-token: $session" "$metadata/$1"
}
# The text of that name in a JSON document.
field() {
  sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}
region=$(about meta-data/placement/region)
account=$(about dynamic/instance-identity/document | field accountId)
role=$(about meta-data/iam/security-credentials/)
keys=$(about "meta-data/iam/security-credentials/$role")
bucket="<{ project_bucket | replace(from="${AWS::AccountId}", to="$account") | replace(from="${AWS::Region}", to="$region") }>"
endpoint=${AWS_ENDPOINT_URL_S3:-${AWS_ENDPOINT_URL:-}}
if [ -n "$endpoint" ]; then
  url="$endpoint/$bucket/agent/$version/$sum"
else
  url="https://$bucket.s3.$region.$(about meta-data/services/domain)/agent/$version/$sum"
fi
# Arguments can be read by every program on the machine, standard input can't.
ask --config - --aws-sigv4 "aws:amz:$region:s3" --output "$agent.new" "$url" <<EOF || {
user = "$(echo "$keys" | field AccessKeyId):$(echo "$keys" | field SecretAccessKey)"
header = "x-amz-security-token: $(echo "$keys" | field Token)"
header = "x-amz-expected-bucket-owner: $account"
header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"
EOF
  echo "agent $version can't be fetched from $url" >&2
  exit 1
}
if ! echo "$sum  $agent.new" | sha256sum --check --status; then
  echo "what is at $url does not have the checksum $sum" >&2
  rm -f "$agent.new"
  exit 1
fi
chmod 0755 "$agent.new"
mv "$agent.new" "$agent"
