# Attaches the volume that the machine's tag names, and mounts it. A new volume gets a file system; one that
# has anything on it is never formatted.
set -eu
folder=/var/lib/fleetwright-serve
if mountpoint --quiet "$folder"; then
  exit 0
fi
ask() {
  curl --fail-with-body --silent --show-error --connect-timeout 5 --retry 5 --retry-connrefused "$@"
}
metadata=http://169.254.169.254/latest
session=$(ask --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 300" "$metadata/api/token")
about() {
  ask --header "X-aws-ec2-metadata-token: $session" "$metadata/$1"
}
# The text of that name in a JSON document.
field() {
  sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}
volume=$(about meta-data/tags/instance/fleetwright:journal)
instance=$(about meta-data/instance-id)
region=$(about meta-data/placement/region)
role=$(about meta-data/iam/security-credentials/)
keys=$(about "meta-data/iam/security-credentials/$role")
endpoint=${AWS_ENDPOINT_URL_EC2:-${AWS_ENDPOINT_URL:-}}
url=${endpoint:-https://ec2.$region.$(about meta-data/services/domain)}/
device() {
  for path in "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$(echo "$volume" | tr -d -)" /dev/xvdf /dev/sdf; do
    if [ -b "$path" ]; then
      echo "$path"
      return
    fi
  done
}
tries=0
while [ -z "$(device)" ]; do
  tries=$((tries + 1))
  if [ "$tries" -gt 60 ]; then
    echo "volume $volume could not be attached" >&2
    exit 1
  fi
  # The machine that had it may not be gone yet. Arguments can be read by every program, standard input can't.
  ask --config - --aws-sigv4 "aws:amz:$region:ec2" "$url" \
    --data "Action=AttachVolume&Version=2016-11-15&VolumeId=$volume&InstanceId=$instance&Device=/dev/sdf" <<KEYS || true
user = "$(echo "$keys" | field AccessKeyId):$(echo "$keys" | field SecretAccessKey)"
header = "x-amz-security-token: $(echo "$keys" | field Token)"
KEYS
  sleep 10
done
found=$(device)
# A new volume is all zeros. One that can't be read is not taken for a new one: blkid would report the same of both.
status=0
cmp --silent --bytes=4194304 "$found" /dev/zero || status=$?
if [ "$status" -eq 0 ]; then
  mkfs.ext4 -q -L fleetwright "$found"
elif [ "$status" -ne 1 ]; then
  echo "$found can't be read" >&2
  exit 1
fi
mkdir -p "$folder"
mount -o noatime,nosuid,nodev "$found" "$folder"
chmod 0700 "$folder"
