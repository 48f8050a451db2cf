#!/bin/sh
# Keeps one key in the cluster's etcd for as long as this machine serves:
#   /fleetwright/hosts/NAME -> {"address": ..., "role": ..., "since": ...}
# The key hangs on a lease. It is withdrawn before this ends, and when the machine dies it goes with the lease.
set -u
access=/run/fleetwright/etcd-client.env   # the agent writes it once an etcd is known
ttl=20                                    # seconds that the key outlives a machine that died
pause=5                                   # seconds between two rounds
lease=
said=

# Says what has changed, not what goes on.
say() {
  [ "$1" = "$said" ] || echo "$1"
  said=$1
}

# Where etcd is changes as machines come and go, so the access is read anew each time.
etcd() {
  answer=$( (set -a && . "$access" && exec timeout 10 etcdctl "$@") 2>&1) && return
  answer=${answer:-"no answer within 10 s"}
  say "etcd: ${answer##*Error: }"
  return 1
}

healthy() {
  [ ! -e /run/fleetwright/draining ] ||
    { why="it is being drained"; return 1; }
  systemctl is-active --quiet fleetwright-agent.service ||
    { why="the agent is not active"; return 1; }
  curl --silent --fail --max-time 4 --output /dev/null --unix-socket /var/run/docker.sock http://docker/_ping ||
    { why="Docker does not answer"; return 1; }
}

identify() {
  if [ -r /run/metadata/flatcar ]; then . /run/metadata/flatcar; fi
  name=${COREOS_EC2_INSTANCE_ID:-$(cat /var/lib/cloud/data/instance-id 2>/dev/null || uname -n)}
  role=$(sed -n 's/^role: *//p' /etc/fleetwright/agent.yaml)
  # Nothing is sent: it is the address that packets to the outside would leave from.
  address=$(ip -4 -o route get 198.51.100.1 | sed -n 's/.* src \([0-9.]*\).*/\1/p')
}

announce() {
  identify
  etcd lease grant "$ttl" || return
  lease=$(echo "$answer" | sed -n 's/^lease \([0-9a-f]*\) granted.*/\1/p')
  value=$(printf '{"address": "%s", "role": "%s", "since": "%s"}' \
    "$address" "$role" "$(date -u +%Y-%m-%dT%H:%M:%SZ)")
  if etcd put --lease="$lease" "/fleetwright/hosts/$name" "$value"; then
    say "announced as $name at $address"
  else
    withdraw
  fi
}

keep() {
  if etcd lease keep-alive --once "$lease"; then
    say "announced as $name at $address"
  elif [ "${answer%lease not found*}" != "$answer" ]; then
    announce
  fi
}

# A lease that can't be revoked ends by itself.
withdraw() {
  if [ -n "$lease" ]; then etcd lease revoke "$lease"; fi
  lease=
}

trap 'withdraw; exit 0' TERM INT
while :; do
  if [ ! -e "$access" ]; then
    say "waiting for $access"
  elif ! healthy; then
    withdraw
    say "not announced: $why"
  elif [ -z "$lease" ]; then
    announce
  else
    keep
  fi
  # A shell hears a signal while it waits, not while `sleep` runs.
  sleep "$pause" &
  wait $!
done
