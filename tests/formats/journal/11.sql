CREATE TABLE run (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    pipeline TEXT NOT NULL,
    repository TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    started_by TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    queued TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    config TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    reference TEXT,
    parameters TEXT,
    asked_by TEXT
) STRICT;
CREATE INDEX run_open ON run (pipeline, id) WHERE state IN ('queued', 'running');
CREATE INDEX run_commit ON run (pipeline, commit_id);
CREATE TABLE step (
    run INTEGER NOT NULL REFERENCES run (id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    files TEXT,
    tests TEXT,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE entry (
    run INTEGER NOT NULL REFERENCES run (id),
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE seen_reference (
    repository TEXT NOT NULL,
    reference TEXT NOT NULL,
    commit_id TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (repository, reference)
) STRICT, WITHOUT ROWID;
CREATE TABLE cause (
    pipeline TEXT NOT NULL,
    words TEXT NOT NULL,
    mark TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (pipeline, words)
) STRICT, WITHOUT ROWID;
CREATE TABLE answer (
    run INTEGER NOT NULL REFERENCES run (id),
    position INTEGER NOT NULL,
    approved INTEGER NOT NULL,
    shown TEXT NOT NULL,
    answered_by TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE image (
    key TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES run (id),
    at TEXT NOT NULL,
    PRIMARY KEY (key, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE lines (
    run INTEGER NOT NULL REFERENCES run (id),
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX lines_step ON lines (run, position, first);
ALTER TABLE step ADD COLUMN fault INTEGER;
PRAGMA user_version = 4;
INSERT INTO run VALUES (1,'web','web','cccccccccccccccccccccccccccccccccccccccc','first','tag','running',NULL,'2026-11-23T22:00:00Z','2026-11-23T22:00:01Z',NULL,'{"taken": {"run": 1, "from": "run test", "workspace": true, "results": {"0": {"source": {"files": 3}}}}, "environment": "local", "push": "127.0.0.1:5000", "pull": "registry.internal:5000", "needs": [[], [0], [], [2, 1], [3], [4]], "steps": ["source", {"run": {"name": "test", "image": "demo/web", "command": ["/bin/sh", "-ec", "make test"], "env": {"A": "1"}, "secrets": {"TOKEN": "/team/token"}, "retries": 2, "limits": {"memory_bytes": 67108864, "cpu_millis": 500}, "companions": [{"name": "db", "image": "docker.io/library/postgres:16", "command": ["postgres", "-c", "fsync=off"], "env": {"POSTGRES_PASSWORD": "x"}, "health": {"probe": {"tcp": {"port": 5432}}, "interval": {"secs": 1, "nanos": 0}, "timeout": {"secs": 2, "nanos": 0}, "retries": 3, "start_period": {"secs": 5, "nanos": 0}}, "limits": {"memory_bytes": null, "cpu_millis": null}}], "caches": [{"path": "/root/.cache", "key": ["go.sum"]}], "artifacts": ["out/**"], "reports": ["report/*.xml"]}}, {"build": {"image": "demo/web", "context": ".", "dockerfile": "Dockerfile", "args": {"A": "1"}, "target": "final", "secrets": {"npm": "/team/npm"}}}, {"approve": {"name": "production", "message": "Ship it?", "level": "admin"}}, {"rollout": {"name": "web", "image": "demo/web", "command": ["serve", "--port=8080"], "scale": {"replicas": 2}, "environment": {"GREETING": "hello"}, "ports": [{"container": 8080, "host": null}, {"container": 53, "host": 53, "protocol": "udp"}], "health": {"probe": {"command": {"command": ["pg_isready", "-q"]}}, "interval": {"secs": 1, "nanos": 0}, "timeout": {"secs": 2, "nanos": 0}, "retries": 3, "start_period": {"secs": 5, "nanos": 0}}, "limits": {"memory_bytes": 67108864, "cpu_millis": 250}, "placement": {"role": "worker"}, "update": {"parallel": 1, "monitor": {"secs": 3, "nanos": 0}, "deadline": {"secs": 90, "nanos": 0}}, "drain": {"secs": 3, "nanos": 0}, "container": {"aws_role": "arn:aws:iam::123456789012:role/fleetwright/shop/prod/web", "entrypoint": ["/bin/app"], "user": "1000:1000", "workdir": "/srv", "hostname": "web", "labels": {"team": "shop"}, "extra_hosts": {"db": "10.0.1.9"}, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "read_only": true, "tmpfs": {"/tmp": {"size_bytes": 67108864, "mode": 1023}}, "ulimits": {"nofile": {"soft": 1024, "hard": 4096}}, "sysctls": {"net.core.somaxconn": "1024"}, "stop_signal": "SIGINT", "init": true, "logging": {"max_size_bytes": 10485760, "max_files": 3}, "restart": {"condition": "on-failure", "delay": {"secs": 2, "nanos": 0}, "max_attempts": 5, "window": {"secs": 60, "nanos": 0}}, "reservations": {"memory_bytes": 33554432, "cpu_millis": 100}, "spread": "zone", "max_per_machine": 2, "secrets": [{"from": "db-password", "target": "/run/secrets/db-password", "env": "DB_PASSWORD"}, {"from": "secretsmanager:team/tls", "target": "/etc/tls/key.pem", "owned": {"uid": 1000, "gid": 1000, "mode": 256}}], "files": [{"target": "/etc/app.conf", "content": "listen 8080\n", "owned": {"uid": 1000, "gid": 1000, "mode": 288}}], "volumes": [{"target": "/var/lib/app", "source": {"named": "data"}}, {"target": "/srv/shared", "source": {"nfs": {"server": "10.0.1.9", "path": "/export", "options": "nfsvers=4.1"}}, "read_only": true}, {"target": "/var/log/app", "source": {"host": "/var/log/app"}}]}, "pre_deploy": {"command": ["bin/migrate", "--all"], "timeout": {"secs": 300, "nanos": 0}}, "units": {"start": ["web@.service"], "files": {"web@.service": "[Service]\nExecStart=/usr/bin/web --instance %i\n"}, "exclusive": true, "on_disconnect": {"stop-after": {"secs": 30, "nanos": 0}}, "apart": [4711]}}}, {"release": [{"name": "web", "image": "demo/web", "command": ["serve", "--port=8080"], "scale": {"replicas": 2}, "environment": {"GREETING": "hello"}, "ports": [{"container": 8080, "host": null}, {"container": 53, "host": 53, "protocol": "udp"}], "health": {"probe": {"command": {"command": ["pg_isready", "-q"]}}, "interval": {"secs": 1, "nanos": 0}, "timeout": {"secs": 2, "nanos": 0}, "retries": 3, "start_period": {"secs": 5, "nanos": 0}}, "limits": {"memory_bytes": 67108864, "cpu_millis": 250}, "placement": {"role": "worker"}, "update": {"parallel": 1, "monitor": {"secs": 3, "nanos": 0}, "deadline": {"secs": 90, "nanos": 0}}, "drain": {"secs": 3, "nanos": 0}, "container": {"aws_role": "arn:aws:iam::123456789012:role/fleetwright/shop/prod/web", "entrypoint": ["/bin/app"], "user": "1000:1000", "workdir": "/srv", "hostname": "web", "labels": {"team": "shop"}, "extra_hosts": {"db": "10.0.1.9"}, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "read_only": true, "tmpfs": {"/tmp": {"size_bytes": 67108864, "mode": 1023}}, "ulimits": {"nofile": {"soft": 1024, "hard": 4096}}, "sysctls": {"net.core.somaxconn": "1024"}, "stop_signal": "SIGINT", "init": true, "logging": {"max_size_bytes": 10485760, "max_files": 3}, "restart": {"condition": "on-failure", "delay": {"secs": 2, "nanos": 0}, "max_attempts": 5, "window": {"secs": 60, "nanos": 0}}, "reservations": {"memory_bytes": 33554432, "cpu_millis": 100}, "spread": "zone", "max_per_machine": 2, "secrets": [{"from": "db-password", "target": "/run/secrets/db-password", "env": "DB_PASSWORD"}, {"from": "secretsmanager:team/tls", "target": "/etc/tls/key.pem", "owned": {"uid": 1000, "gid": 1000, "mode": 256}}], "files": [{"target": "/etc/app.conf", "content": "listen 8080\n", "owned": {"uid": 1000, "gid": 1000, "mode": 288}}], "volumes": [{"target": "/var/lib/app", "source": {"named": "data"}}, {"target": "/srv/shared", "source": {"nfs": {"server": "10.0.1.9", "path": "/export", "options": "nfsvers=4.1"}}, "read_only": true}, {"target": "/var/log/app", "source": {"host": "/var/log/app"}}]}, "pre_deploy": {"command": ["bin/migrate", "--all"], "timeout": {"secs": 300, "nanos": 0}}, "units": {"start": ["web@.service"], "files": {"web@.service": "[Service]\nExecStart=/usr/bin/web --instance %i\n"}, "exclusive": true, "on_disconnect": {"stop-after": {"secs": 30, "nanos": 0}}, "apart": [4711]}}, {"name": "worker", "image": "demo/web", "command": ["serve", "--port=8080"], "scale": {"replicas": 2}, "environment": {"GREETING": "hello"}, "ports": [{"container": 8080, "host": null}, {"container": 53, "host": 53, "protocol": "udp"}], "health": {"probe": {"command": {"command": ["pg_isready", "-q"]}}, "interval": {"secs": 1, "nanos": 0}, "timeout": {"secs": 2, "nanos": 0}, "retries": 3, "start_period": {"secs": 5, "nanos": 0}}, "limits": {"memory_bytes": 67108864, "cpu_millis": 250}, "placement": {"role": "worker"}, "update": {"parallel": 1, "monitor": {"secs": 3, "nanos": 0}, "deadline": {"secs": 90, "nanos": 0}}, "drain": {"secs": 3, "nanos": 0}, "container": {"aws_role": "arn:aws:iam::123456789012:role/fleetwright/shop/prod/web", "entrypoint": ["/bin/app"], "user": "1000:1000", "workdir": "/srv", "hostname": "web", "labels": {"team": "shop"}, "extra_hosts": {"db": "10.0.1.9"}, "cap_add": ["NET_ADMIN"], "cap_drop": ["ALL"], "read_only": true, "tmpfs": {"/tmp": {"size_bytes": 67108864, "mode": 1023}}, "ulimits": {"nofile": {"soft": 1024, "hard": 4096}}, "sysctls": {"net.core.somaxconn": "1024"}, "stop_signal": "SIGINT", "init": true, "logging": {"max_size_bytes": 10485760, "max_files": 3}, "restart": {"condition": "on-failure", "delay": {"secs": 2, "nanos": 0}, "max_attempts": 5, "window": {"secs": 60, "nanos": 0}}, "reservations": {"memory_bytes": 33554432, "cpu_millis": 100}, "spread": "zone", "max_per_machine": 2, "secrets": [{"from": "db-password", "target": "/run/secrets/db-password", "env": "DB_PASSWORD"}, {"from": "secretsmanager:team/tls", "target": "/etc/tls/key.pem", "owned": {"uid": 1000, "gid": 1000, "mode": 256}}], "files": [{"target": "/etc/app.conf", "content": "listen 8080\n", "owned": {"uid": 1000, "gid": 1000, "mode": 288}}], "volumes": [{"target": "/var/lib/app", "source": {"named": "data"}}, {"target": "/srv/shared", "source": {"nfs": {"server": "10.0.1.9", "path": "/export", "options": "nfsvers=4.1"}}, "read_only": true}, {"target": "/var/log/app", "source": {"host": "/var/log/app"}}]}, "pre_deploy": {"command": ["bin/migrate", "--all"], "timeout": {"secs": 300, "nanos": 0}}, "units": {"start": ["web@.service"], "files": {"web@.service": "[Service]\nExecStart=/usr/bin/web --instance %i\n"}, "exclusive": true, "on_disconnect": {"stop-after": {"secs": 30, "nanos": 0}}, "apart": [4711]}}]}], "timeouts": [90, null], "after": ["success", "success", "success", "success", "failure", "always"], "left_out": {"2": "it is for `main`, and this is v1"}}',1,'refs/tags/v1','{"VERSION": "2"}','anna');
INSERT INTO step VALUES (1,0,'step 0','{"is": "waiting"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,1,'step 1','{"is": "inspecting"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,2,'step 2','{"is": "building", "key": "k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,3,'step 3','{"is": "pushing", "key": "k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,4,'step 4','{"is": "deploying", "since": "2026-11-23T22:00:00Z"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,5,'step 5','{"is": "following", "revision": 2}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,6,'step 6','{"is": "succeeded", "result": {"image": {"image": "demo/web", "key": "k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab", "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "same_as": {"run": 1, "commit": "cccccccccccccccccccccccccccccccccccccccc"}}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,7,'step 7','{"is": "succeeded", "result": {"rollout": {"service": "web", "revision": 2}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,8,'step 8','{"is": "failed", "reason": "no route"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,10,'step 10','{"is": "releasing", "before": [3, null], "revisions": [4], "stage": {"deploying": {"since": "2026-11-29T16:00:00Z"}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,11,'step 11','{"is": "releasing", "before": [3, null], "revisions": [4, 1], "stage": "following"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,12,'step 12','{"is": "releasing", "before": [3, null], "revisions": [4, 1], "stage": {"back": {"reason": "no route"}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,13,'step 13','{"is": "succeeded", "result": {"release": [{"service": "web", "revision": 4}, {"service": "worker", "revision": 1}]}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,14,'step 14','{"is": "preparing"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,15,'step 15','{"is": "creating", "image": "127.0.0.1:5000/demo/web@sha256:1", "attempt": 1}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,16,'step 16','{"is": "executing", "image": "127.0.0.1:5000/demo/web@sha256:1", "attempt": 2, "lines": 1200}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,17,'step 17','{"is": "succeeded", "result": {"source": {"files": 12}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,18,'step 18','{"is": "succeeded", "result": {"run": {"attempts": 2}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,19,'step 19','{"is": "collecting", "attempt": 1, "end": {"exited": {"status": 1, "out_of_memory": false}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,20,'step 20','{"is": "asking", "since": "2026-11-30T22:00:00Z", "shown": "0f1e2d3c4b5a69788796a5b4"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,21,'step 21','{"is": "succeeded", "result": {"approved": {"by": "anna"}}}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO step VALUES (1,22,'step 22','{"is": "failed", "reason": "exit status 1; 1 of 3 tests failed: cart.adds"}',NULL,NULL,'[{"path": "report/a.xml", "size": 714}]','{"tests": 3, "skipped": 1, "failed": 1, "failures": [{"name": "cart.adds", "message": "expected 1"}]}',NULL);
INSERT INTO step VALUES (1,9,'step 9','{"is": "skipped"}',NULL,NULL,NULL,NULL,NULL);
INSERT INTO entry VALUES (1,1,'2026-11-23T22:00:00Z','{"what": "queued", "run": 1, "pipeline": "web", "commit": "cccccccccccccccccccccccccccccccccccccccc", "subject": "first", "trigger": "hand", "by": "anna"}');
INSERT INTO entry VALUES (1,2,'2026-11-23T22:00:00Z','{"what": "started", "run": 1, "pipeline": "web", "commit": "cccccccccccccccccccccccccccccccccccccccc", "subject": "first", "steps": ["build demo/web", "rollout web"]}');
INSERT INTO entry VALUES (1,3,'2026-11-23T22:00:00Z','{"what": "resumed", "run": 1, "pipeline": "web", "step": "build demo/web"}');
INSERT INTO entry VALUES (1,4,'2026-11-23T22:00:00Z','{"what": "step-started", "run": 1, "step": "build demo/web"}');
INSERT INTO entry VALUES (1,5,'2026-11-23T22:00:00Z','{"what": "nothing-to-build", "run": 1, "step": "build demo/web", "key": "k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab", "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "same_as": {"run": 1, "commit": "cccccccccccccccccccccccccccccccccccccccc"}}');
INSERT INTO entry VALUES (1,6,'2026-11-23T22:00:00Z','{"what": "building", "run": 1, "step": "build demo/web", "key": "k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab", "files": 3}');
INSERT INTO entry VALUES (1,7,'2026-11-23T22:00:00Z','{"what": "pushing", "run": 1, "step": "build demo/web", "reference": "demo/web:k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab"}');
INSERT INTO entry VALUES (1,8,'2026-11-23T22:00:00Z','{"what": "pushed", "run": 1, "step": "build demo/web", "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}');
INSERT INTO entry VALUES (1,9,'2026-11-23T22:00:00Z','{"what": "rollout", "run": 1, "step": "rollout web", "rollout": {"what": "started", "service": "web", "revision": 2, "digest": "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}');
INSERT INTO entry VALUES (1,10,'2026-11-23T22:00:00Z','{"what": "rollout", "run": 1, "step": "rollout web", "rollout": {"what": "progress", "service": "web", "revision": 2, "healthy": 1, "desired": 2}}');
INSERT INTO entry VALUES (1,11,'2026-11-23T22:00:00Z','{"what": "rollout", "run": 1, "step": "rollout web", "rollout": {"what": "ended", "service": "web", "revision": 2, "state": "running", "reason": null}}');
INSERT INTO entry VALUES (1,12,'2026-11-23T22:00:00Z','{"what": "rollout", "run": 1, "step": "rollout web", "rollout": {"what": "pre-deploy", "service": "web", "revision": 2, "state": "running"}}');
INSERT INTO entry VALUES (1,13,'2026-11-23T22:00:00Z','{"what": "retrying", "run": 1, "step": "build demo/web", "reason": "no route", "attempt": 2, "seconds": 1.5}');
INSERT INTO entry VALUES (1,14,'2026-11-23T22:00:00Z','{"what": "step-finished", "run": 1, "step": "build demo/web", "outcome": "succeeded", "seconds": 2.0, "reason": null}');
INSERT INTO entry VALUES (1,16,'2026-11-23T22:00:00Z','{"what": "asking", "run": 1, "step": "approve production", "message": "Ship it?"}');
INSERT INTO entry VALUES (1,15,'2026-11-23T22:00:00Z','{"what": "finished", "run": 1, "pipeline": "web", "state": "succeeded", "seconds": 9.5, "reason": null}');
INSERT INTO lines VALUES (1,17,16,1,1200);
UPDATE step SET fault = 1100 WHERE position = 16;
INSERT INTO seen_reference VALUES ('web','refs/heads/main','cccccccccccccccccccccccccccccccccccccccc','2026-11-23T22:00:00Z');
INSERT INTO cause VALUES ('nightly','schedule 0 3 * * * UTC','2026-11-30T03:00:00Z','2026-11-30T03:00:01Z');
INSERT INTO answer VALUES (1,21,1,'0f1e2d3c4b5a69788796a5b4','anna','2026-11-30T22:00:00Z');
INSERT INTO image VALUES ('k-9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab9f2c41ab','demo/web','sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',1,'2026-11-23T22:00:00Z');
