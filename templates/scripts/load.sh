#!/bin/sh
# Writes down once a minute what this machine has left.
set -u
trap 'exit 0' TERM
while :; do
  read -r load rest </proc/loadavg
  memory=$(awk '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { print int(100 * $2 / total) }' /proc/meminfo)
  disk=$(df -P / | awk 'NR == 2 { print 100 - $5 }')
  echo "load $load, free: $memory % of memory, $disk % of the disk"
  # A shell hears a signal while it waits, not while `sleep` runs.
  sleep 60 &
  wait $!
done
