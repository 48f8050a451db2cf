"""Asks cloud-init for its verdict on many documents, in one process.

    schema.py FILE...           # `-` reads the names from standard input, one a line

Each goes through the function that `cloud-init schema --config-file` calls. A line of JSON is
printed for each that is refused, or taken with a warning of something deprecated, and one at the
end with how many there were and the seconds of CPU that they took, without starting.
"""

import contextlib
import io
import json
import sys
import time

from cloudinit.config import schema


def verdict(path, wanted):
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            schema.validate_cloudconfig_file(path, wanted)
    except (schema.SchemaValidationError, RuntimeError) as error:
        return {"file": path, "refused": str(error)}
    return {"file": path, "deprecated": said.getvalue().strip()} if said.getvalue().strip() else None


def main():
    paths = sys.argv[1:]
    if paths == ["-"]:
        paths = sys.stdin.read().splitlines()
    wanted = schema.get_schema()
    begun = time.process_time()
    for path in paths:
        found = verdict(path, wanted)
        if found:
            print(json.dumps(found))
    print(json.dumps({"documents": len(paths), "cpu_seconds": time.process_time() - begun}))


if __name__ == "__main__":
    main()
