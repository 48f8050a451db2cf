#!/usr/bin/env python3
"""Measures the pipeline server, on this computer's Docker engine and a local cloud's registry.

    benches/serve.py                   # all of it, about five minutes
    benches/serve.py --binary PATH     # another binary; by default target/release/fleetwright
    benches/serve.py --repositories N  # how many are polled; 1,000 by default

It prints what the idle server needs, what polling costs, how long an unchanged push takes, how many pushes at once
come through, and a trivial step beside `docker run` of the same, turn by turn.
"""

import argparse
import http.server
import json
import os
import shutil
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TICKS = os.sysconf("SC_CLK_TCK")


def run(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    if done.returncode != 0:
        sys.exit(f"{command}: status {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode()


def cpu(pid):
    """CPU seconds of a process, and of those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def memory(pid):
    """Resident memory in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


class Git:
    """A git repository to push to."""

    def __init__(self, folder):
        self.folder = folder
        run("git", "init", "--quiet", "--initial-branch=main", str(folder))
        self.git("config", "user.name", "bench")
        self.git("config", "user.email", "bench@localhost")

    def git(self, *words):
        return run("git", "-C", str(self.folder), *words)

    def commit(self, subject, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD").strip()


class Https:
    """Repositories over HTTPS. What git answers to the question for references is asked once of git itself."""

    def __init__(self, folder, repository):
        self.asked = 0
        question = b"".join(
            [b"0014command=ls-refs\n", b"0016object-format=sha1", b"0001", b"0009peel\n", b"000csymrefs\n",
             b"001bref-prefix refs/heads/\n", b"0000"])
        environment = dict(os.environ, GIT_PROTOCOL="version=2")
        done = subprocess.run(["git", "upload-pack", "--stateless-rpc", str(repository)], input=question,
                              stdout=subprocess.PIPE, env=environment, check=True)
        answer = done.stdout
        advertised = subprocess.run(
            ["git", "upload-pack", "--stateless-rpc", "--advertise-refs", str(repository)],
            stdout=subprocess.PIPE, env=environment, check=True).stdout
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, kind, body):
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.reply("application/x-git-upload-pack-advertisement",
                           b"001e# service=git-upload-pack\n0000" + advertised)

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked += 1
                self.reply("application/x-git-upload-pack-result", answer)

        key, certificate, self.ca = folder / "key.pem", folder / "certificate.pem", folder / "ca.pem"
        new = ("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        # An authority is no server: rustls refuses one certificate that is both.
        run(*new, "-x509", "-keyout", str(folder / "ca-key.pem"), "-out", str(self.ca), "-days", "2", "-subj", "/CN=authority")
        run(*new, "-keyout", str(key), "-out", str(folder / "request.pem"), "-subj", "/CN=localhost")
        (folder / "names").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n")
        run("openssl", "x509", "-req", "-in", str(folder / "request.pem"), "-CA", str(self.ca), "-CAkey",
            str(folder / "ca-key.pem"), "-CAcreateserial", "-days", "2", "-extfile", str(folder / "names"),
            "-out", str(certificate))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def url(self, number):
        return f"https://localhost:{self.port}/{number}.git"


class Site:
    """A repository for `serve`, in the environment of a local cloud."""

    def __init__(self, binary, folder, name):
        self.binary, self.folder = binary, folder / name
        self.folder.mkdir()
        self.environment = dict(os.environ, FLEETWRIGHT_HOME=str(folder / f"{name}-home"))
        self.project = [f"project: {name}", "environments:", "  local:", "    region: eu-west-1", "    cluster: main",
                        "    registry:", "      push: ${env.FLEETWRIGHT_REGISTRY_PUSH}",
                        "      pull: ${env.FLEETWRIGHT_REGISTRY_PULL}", "      push_credentials: /fleetwright/registry",
                        "clusters:", "  main:", "    engine: swarm", "repositories:"]
        self.pipelines, self.server = [], None

    def repository(self, name, url, poll, steps):
        self.project.append(f"  {name}: {{url: \"{url}\", poll: {poll}}}")
        self.pipelines.append(f"{name}:\n  repository: {name}\n  steps:\n{steps}")

    def serve(self, **variables):
        (self.folder / "fleetwright.yaml").write_text("\n".join(self.project) + "\n")
        (self.folder / "pipelines").mkdir(exist_ok=True)
        (self.folder / "pipelines/all.yaml").write_text("\n".join(self.pipelines))
        self.environment.update(variables)
        self.log = open(self.folder / "serve.log", "w")
        self.server = subprocess.Popen([self.binary, "serve", "--listen", "127.0.0.1:0"], cwd=self.folder,
                                       env=self.environment, stdout=self.log, stderr=self.log)
        self.until(lambda: self.runs() is not None, "the server answers")
        return self.server.pid

    def command(self, *words):
        return subprocess.run([self.binary, *words], cwd=self.folder, env=self.environment,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def runs(self):
        done = self.command("pipeline", "list", "-o", "json", "--limit", "200")
        return json.loads(done.stdout)["runs"] if done.returncode == 0 else None

    def until(self, condition, what, limit=300):
        end = time.monotonic() + limit
        while not condition():
            if time.monotonic() > end or self.server.poll() is not None:
                sys.exit(f"never: {what}\n{(self.folder / 'serve.log').read_text()[-3000:]}")
            time.sleep(0.1)

    def ended(self, commit):
        found = [run for run in self.runs() or [] if run["commit"] == commit]
        good = bool(found) and found[0]["state"] not in ("queued", "running")
        if good and found[0]["state"] != "succeeded":
            sys.exit(f"the run of {commit} {found[0]['state']}: {self.command('pipeline', 'show', str(found[0]['id'])).stdout.decode()}")
        return found[0] if good else None

    def stop(self):
        if self.server:
            self.server.terminate()
            self.server.wait()


def seconds(run_or_step):
    def at(text):
        return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float(f"0{text[19:-1]}")
    return at(run_or_step["ended"]) - at(run_or_step["started"])


STEP = "    - run: {name: nothing, image: \"demo/base:1\", command: [\"true\"]}\n"


def polling(site, https, count):
    for number in range(count):
        site.repository(f"r{number}", https.url(number), "60s", STEP.replace("- run:", "- run:"))
    # No branch of theirs sets anything off.
    site.pipelines = [text.replace("  steps:", "  on: {branches: [other]}\n  steps:") for text in site.pipelines]
    pid = site.serve(SSL_CERT_FILE=str(https.ca), GIT_SSL_CAINFO=str(https.ca))
    site.until(lambda: https.asked >= count, "every repository has been asked once")
    time.sleep(5)
    before, asked, begun = cpu(pid), https.asked, time.monotonic()
    time.sleep(60)
    took = time.monotonic() - begun
    share = (cpu(pid) - before) / took * 100
    print(f"polling {count} repositories over HTTPS every minute: {share:.1f}% of a core "
          f"({https.asked - asked} questions in {took:.0f} s), {memory(pid):.0f} MiB")
    site.stop()


def steps(site, folder, base):
    git = Git(folder / "one")
    git.commit("first", Dockerfile="FROM demo/base:1\nCOPY page /www/page\n", page="one\n")
    site.repository("one", git.folder, "1s", STEP)
    built = Git(folder / "built")
    commit = built.commit("first", Dockerfile="FROM demo/base:1\nCOPY page /www/page\n", page="one\n")
    site.repository("built", built.folder, "1s", "    - build: {image: bench/built}\n")
    pid = site.serve()
    site.until(lambda: site.ended(commit), "the first image is built")
    time.sleep(3)
    before, begun = cpu(pid), time.monotonic()
    time.sleep(20)
    idle = (cpu(pid) - before) / (time.monotonic() - begun) * 100
    print(f"idle, with two repositories polled every second: {idle:.2f}% of a core, {memory(pid):.0f} MiB")

    spent, walls = [], []
    for number in range(15):
        before = cpu(pid)
        commit = built.commit(f"nothing new {number}")
        site.until(lambda: site.ended(commit), "an unchanged push is decided")
        found = site.ended(commit)
        shown = json.loads(site.command("pipeline", "show", str(found["id"]), "-o", "json").stdout)["run"]
        walls.append(seconds(shown))
        spent.append(cpu(pid) - before)
    print(f"an unchanged push: {statistics.median(walls) * 1000:.0f} ms from its start to its end; "
          f"{statistics.median(spent) * 1000:.0f} ms of the server's CPU, answers to this program included")

    image = run("docker", "images", "--quiet", base).split()[0]
    ours, theirs = [], []
    for number in range(12):
        commit = git.commit(f"change {number}")
        site.until(lambda: site.ended(commit), "a step has run")
        found = site.ended(commit)
        shown = json.loads(site.command("pipeline", "show", str(found["id"]), "-o", "json").stdout)["run"]
        ours.append(seconds([one for one in shown["steps"] if one["name"] == "run nothing" or one["name"].endswith("nothing")][0]))
        begun = time.perf_counter()
        run("docker", "run", "--rm", image, "true")
        theirs.append(time.perf_counter() - begun)
    ours, theirs = ours[2:], theirs[2:]
    print(f"a trivial step: {statistics.median(ours) * 1000:.0f} ms; `docker run --rm` of the same: "
          f"{statistics.median(theirs) * 1000:.0f} ms; {(statistics.median(ours) - statistics.median(theirs)) * 1000:+.0f} ms")
    site.stop()


def pushes(site, folder, count):
    gits = []
    for number in range(count):
        git = Git(folder / f"p{number}")
        git.commit("first")
        site.repository(f"p{number}", git.folder, "2s", STEP)
        gits.append(git)
    site.serve()
    site.until(lambda: len([run for run in site.runs() or [] if run["state"] == "succeeded"]) >= count, "the first runs")
    begun = time.monotonic()
    commits = [git.commit("second") for git in gits]

    def all_ended():
        done = {run["commit"] for run in site.runs() or [] if run["state"] == "succeeded"}
        return all(commit in done for commit in commits)

    site.until(all_ended, "every push has run")
    print(f"{count} pushes at once: all have run after {time.monotonic() - begun:.1f} s, "
          f"{memory(site.server.pid):.0f} MiB")
    site.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/fleetwright"))
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--pushes", type=int, default=100)
    parser.add_argument("--only", choices=["polling", "steps", "pushes"])
    arguments = parser.parse_args()
    os.environ.setdefault("FLEETWRIGHT_HOME", str(ROOT / ".fleetwright"))
    os.environ["FLEETWRIGHT_LOCAL_NAME"] = "bench"
    folder = Path(tempfile.mkdtemp(prefix="fleetwright-bench-"))
    sites = []
    try:
        run(arguments.binary, "local", "up")
        for line in run(arguments.binary, "local", "env").splitlines():
            if line.startswith("export "):
                name, value = line[len("export "):].split("=", 1)
                os.environ[name] = value.strip("'")
        push = os.environ["FLEETWRIGHT_REGISTRY_PUSH"]
        # No step is about a cluster, and none answers.
        ca = Path(os.environ["FLEETWRIGHT_HOME"]) / "local/bench/registry/ca.pem"
        os.environ.update(FLEETWRIGHT_CLUSTER_ENDPOINT="https://127.0.0.1:1", FLEETWRIGHT_CLUSTER_TOKEN="none",
                          FLEETWRIGHT_CLUSTER_CA=str(ca))

        def site(name):
            sites.append(Site(arguments.binary, folder, name))
            return sites[-1]

        if arguments.only in (None, "steps"):
            steps(site("steps"), folder, f"{push}/demo/base")
        if arguments.only in (None, "polling"):
            git = Git(folder / "polled")
            git.commit("first", page="one\n")
            polling(site("polling"), Https(folder, git.folder), arguments.repositories)
        if arguments.only in (None, "pushes"):
            pushes(site("pushes"), folder, arguments.pushes)
    finally:
        for one in sites:
            one.stop()
        run(arguments.binary, "local", "down")
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
