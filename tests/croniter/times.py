"""Prints the next times of schedules: a line of JSON for each line of `CRON|ZONE|SECONDS` on stdin."""

import json
import sys
from datetime import datetime, timezone
from zoneinfo import ZoneInfo

from croniter import croniter

COUNT = 3

for line in sys.stdin:
    cron, zone, seconds = line.rstrip("\n").split("|")
    start = datetime.fromtimestamp(int(seconds), timezone.utc).astimezone(ZoneInfo(zone))
    try:
        times = croniter(cron, start)
        found = [int(times.get_next(datetime).timestamp()) for _ in range(COUNT)]
    except Exception as error:  # What it rejects is reported in its own words.
        found = str(error)
    print(json.dumps(found))
