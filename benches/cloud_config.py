#!/usr/bin/env python3
"""Compares `fleetwright cloud-config check` with `cloud-init schema` of Debian 12.

    benches/cloud_config.py                # with target/release/fleetwright
    benches/cloud_config.py --binary PATH --no-limits

Both check the same 100 documents, which are right; `scripts/setup test` unpacks cloud-init into
HOME/oracles. Ours does all of them in one run, as it is called for a repository. cloud-init's
command takes one document a run; so that nothing but the checking is compared as well, the
function that it calls is also given all of them in one process.

CPU is that of the processes and their children, the median of several turns, taken in turns. What
was measured is printed as JSON.

How long a check takes must follow from how long the document is: two of 512 KiB and 1 MiB, with units that refer
to each other, are timed as well. EC2 would refuse either, which is found, too.

Exit status: 1 if `cloud-init schema` needs less than 500 times the CPU of `cloud-config check`, or a
document of 1 MiB more than 100 ms.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = 100
TARGET = "cloud-init-22.4"
LIMIT_RATIO = 500
LIMIT_LARGE_MS = 100

DOCUMENT = """\
#cloud-config
# Machine {n} of the fleet.
hostname: worker-{n}
timezone: Europe/Berlin
package_update: true
packages: [docker.io, jq, chrony]
users:
  - default
  - name: deploy
    gecos: Deployments
    shell: /bin/bash
    groups: [adm, docker]
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys:
      - ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{n:012d} deploy@example
write_files:
  - path: /etc/docker/daemon.json
    permissions: "0644"
    content: |
      {{"log-driver": "json-file", "log-opts": {{"max-size": "{n}m", "max-file": "3"}}, "live-restore": false}}
  - path: /etc/sysctl.d/90-fleet.conf
    permissions: "0644"
    content: |
      vm.swappiness=10
      net.core.somaxconn=4096
      fs.inotify.max_user_watches={n}00000
{files}runcmd:
  - systemctl daemon-reload
  - [sysctl, --system]
  - [systemctl, enable, --now, app-{n}.service]
  - 'test -e /etc/ready || touch /etc/ready'
ntp:
  enabled: true
  servers: [time{n}.example, time.example]
growpart:
  mode: auto
  devices: [/]
"""

UNIT = """\
  - path: /etc/systemd/system/app-{n}{suffix}.service
    permissions: "0644"
    content: |
      [Unit]
      Description=Application {n}{suffix}
      After=network-online.target docker.service
      Wants=network-online.target

      [Service]
      ExecStartPre=-/usr/bin/docker rm -f app-{n}{suffix}
      ExecStart=/usr/bin/docker run --name app-{n}{suffix} -p {port}:80 registry.example/app:{n}
      Restart=always
      RestartSec=5

      [Install]
      WantedBy=multi-user.target
"""


def write_documents(folder):
    paths = []
    for n in range(1, DOCUMENTS + 1):
        suffixes = ["", "-a", "-b", "-c"][: 1 + n % 4]
        files = "".join(UNIT.format(n=n, suffix=suffix, port=8000 + n) for suffix in suffixes)
        path = folder / f"worker-{n}.yaml"
        path.write_text(DOCUMENT.format(n=n, files=files))
        paths.append(path)
    return paths


def write_large(path, size):
    """One document of about `size` bytes, in units of the kind above."""
    files, number = [], 0
    length = len(DOCUMENT.format(n=0, files=""))
    while length < size:
        files.append(UNIT.format(n=number, suffix="", port=8000 + number % 1000))
        length += len(files[-1])
        number += 1
    path.write_text(DOCUMENT.format(n=0, files="".join(files)))


def cpu_of(commands, status=0):
    """Seconds of CPU of running the commands one after the other, and what the last one printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != status:
            sys.exit(f"{' '.join(map(str, command))[:200]}: status {done.returncode}\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target" / "release" / "fleetwright"))
    parser.add_argument("--home", default=os.environ.get("FLEETWRIGHT_HOME", str(ROOT / ".fleetwright")))
    parser.add_argument("--turns", type=int, default=3, help="how often cloud-init checks all documents; ours five times as often")
    parser.add_argument("--no-limits", action="store_true", help="exit with status 0 whatever was measured")
    options = parser.parse_args()
    oracles = Path(options.home).resolve() / "oracles"
    if not (oracles / "complete").exists():
        sys.exit(f"error: cloud-init is not in {oracles}\n next: run `scripts/setup test`, which unpacks it there")
    binary = str(Path(options.binary).resolve())
    with tempfile.TemporaryDirectory() as folder:
        paths = write_documents(Path(folder))
        ours = [[binary, "cloud-config", "check", "--target", TARGET, *paths]]
        each = [[oracles / "bin" / "cloud-init", "schema", "--config-file", path] for path in paths]
        driver = [[oracles / "bin" / "python", ROOT / "tests" / "models" / "schema.py", *paths]]
        cpu = {"fleetwright": [], "cloud_init_process_each": [], "cloud_init_one_process": [], "cloud_init_function": []}
        cpu_of(ours), cpu_of(driver)
        for _ in range(options.turns):
            for _ in range(5):
                cpu["fleetwright"].append(cpu_of(ours)[0])
            cpu["cloud_init_process_each"].append(cpu_of(each)[0])
            seconds, printed = cpu_of(driver)
            lines = [json.loads(line) for line in printed.splitlines()]
            if len(lines) != 1 or lines[0]["documents"] != DOCUMENTS:
                sys.exit(f"cloud-init has something to say about documents that are right:\n{printed}")
            cpu["cloud_init_one_process"].append(seconds)
            cpu["cloud_init_function"].append(lines[0]["cpu_seconds"])
        large = {}
        for kib in (512, 1024):
            path = Path(folder) / f"large-{kib}.yaml"
            write_large(path, kib * 1024)
            command = [[binary, "cloud-config", "check", "--target", TARGET, path]]
            large[f"{kib} KiB"] = statistics.median(cpu_of(command, status=2)[0] for _ in range(9))
        size = sum(path.stat().st_size for path in paths)
    cpu = {name: statistics.median(samples) for name, samples in cpu.items()}
    ratios = {name: round(seconds / cpu["fleetwright"], 1) for name, seconds in cpu.items() if name != "fleetwright"}
    measured = {
        "documents": DOCUMENTS,
        "bytes": size,
        "cpu_seconds": {name: round(seconds, 4) for name, seconds in cpu.items()},
        "cpu_of_fleetwright_times": ratios,
        "cpu_ms_of_one_large": {name: round(seconds * 1000, 1) for name, seconds in large.items()},
        "limits": {"ratio": LIMIT_RATIO, "large_ms": LIMIT_LARGE_MS},
        "holds": ratios["cloud_init_process_each"] >= LIMIT_RATIO and large["1024 KiB"] * 1000 <= LIMIT_LARGE_MS,
    }
    print(json.dumps(measured, indent=2))
    sys.exit(0 if measured["holds"] or options.no_limits else 1)


if __name__ == "__main__":
    main()
