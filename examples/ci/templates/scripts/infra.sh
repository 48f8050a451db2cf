# Fetches the infra repository with the key that may read it. `serve` notices what has changed.
set -eu
folder=/var/lib/fleetwright-serve/infra
key=/run/fleetwright/deploy-key
if [ ! -s "$key" ]; then
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
  role=$(about meta-data/iam/security-credentials/)
  keys=$(about "meta-data/iam/security-credentials/$role")
  umask 077
  mkdir -p "${key%/*}"
  endpoint=${AWS_ENDPOINT_URL_SSM:-${AWS_ENDPOINT_URL:-}}
  url=${endpoint:-https://ssm.$region.$(about meta-data/services/domain)}/
  # Arguments can be read by every program on the machine, standard input can't.
  answer=$(ask --config - --aws-sigv4 "aws:amz:$region:ssm" "$url" \
    --header "content-type: application/x-amz-json-1.1" --header "x-amz-target: AmazonSSM.GetParameter" \
    --data '{"Name": "<{ deploy_key }>", "WithDecryption": true}' <<KEYS
user = "$(echo "$keys" | field AccessKeyId):$(echo "$keys" | field SecretAccessKey)"
header = "x-amz-security-token: $(echo "$keys" | field Token)"
KEYS
)
  printf '%s' "$answer" | field Value | sed 's/\\n/\n/g' > "$key.new"
  mv "$key.new" "$key"
fi
export GIT_SSH_COMMAND="ssh -i $key -o IdentitiesOnly=yes -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/var/lib/fleetwright-serve/known_hosts"
if [ -d "$folder/.git" ]; then
  git -C "$folder" fetch --quiet origin
  git -C "$folder" reset --quiet --hard '@{upstream}'
else
  git clone --quiet "<{ infra_repository }>" "$folder"
fi
