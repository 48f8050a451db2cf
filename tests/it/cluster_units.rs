//! systemd units that the cluster places, on a real fleet: they are deployed, logged, updated, rolled back and removed
//! as services are, and keep running while their machine's agent and engine are killed.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetwright::model::service::InstanceState;
use fleetwright::port::cluster::Snapshot;

use crate::support::lab::{Lab, poll, service};
use crate::support::units::{self, put, sh};

/// A unit for every worker, with a secret, a file of its own, and a health check.
const SERVICE: &str = "\
hello:
  unit: hello.service
  every_machine: true
  placement: {role: worker}
  env: {GREETING: \"good day\"}
  secrets: [{name: hello-password, env: PASSWORD}]
  files:
    - templates/files/hello.txt:/etc/hello.txt
    - templates/files/hello.py:/opt/hello.py
  ports: [{container: 18080, host: 18080}]
  health: {http: /health, port: 18080, interval: 1s, timeout: 2s}
  resources: {limits: {memory: 64MiB}}
  update: {monitor: 1s}
";

/// The unit, which answers with `word` and what it was given.
fn unit(word: &str) -> String {
    format!(
        "[Unit]\nDescription=Says hello\n\n[Service]\n\
         ExecStart=/usr/bin/python3 /opt/hello.py /etc/hello.txt {word}\n"
    )
}

/// What it executes.
const SCRIPT: &str = r#"
import http.server, os, signal, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        words = [sys.argv[2], os.environ["GREETING"], os.environ["PASSWORD"], open(sys.argv[1]).read().strip()]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join(words).encode())

    def log_message(self, *words):
        pass

def stop(*_):
    print(sys.argv[2], "stops", flush=True)
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
print(sys.argv[2], "listens", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", 18080), Handler).serve_forever()
"#;

/// A worker, with the process of its unit.
type Processes = BTreeMap<String, String>;

fn write(lab: &Lab, word: &str) {
    for (path, text) in [
        ("services/hello.yaml", SERVICE),
        ("templates/units/hello.service", &unit(word)),
        ("templates/files/hello.txt", "from a file\n"),
        ("templates/files/hello.py", SCRIPT),
    ] {
        put(lab, path, text);
    }
}

fn workers(lab: &Lab) -> Vec<String> {
    units::workers(lab).iter().map(|machine| lab.container(machine)).collect()
}

/// The units of the service on a machine, with their main processes.
const UNITS: &str = "systemctl list-units --plain --no-legend --state=active 'hello-*.service' | cut -d' ' -f1 | \
                     while read unit; do echo $unit $(systemctl show -p MainPID --value $unit); done";

fn processes(lab: &Lab) -> Processes {
    workers(lab).into_iter().map(|worker| (worker.clone(), sh(&worker, UNITS).trim().to_owned())).collect()
}

/// Waits until every worker runs a healthy instance of the newest revision.
fn healthy(lab: &Lab, revision: u64) {
    lab.until("every worker runs its unit", Duration::from_secs(90), |snapshot: &Snapshot| {
        let found = service(snapshot, "hello")?;
        let newest = found.history.first()?;
        let healthy = found.instances.iter().filter(|one| one.state == InstanceState::Healthy).count();
        (newest.number == revision && healthy >= 2 && found.instances.len() == healthy).then_some(())
    });
}

/// What the unit on the worker answers; nothing while it begins to listen, which systemd does not wait for.
fn answer(worker: &str) -> String {
    sh(worker, "curl -s --max-time 3 http://127.0.0.1:18080/ || true")
}

/// Waits until the units on all workers answer with something that begins so.
fn all_answer(lab: &Lab, beginning: &str) {
    let ready = || workers(lab).iter().all(|worker| answer(worker).starts_with(beginning)).then_some(());
    poll(Duration::from_secs(60), ready).unwrap_or_else(|| panic!("not all answer with `{beginning}`"));
}

#[test]
fn units_are_deployed_updated_and_removed_as_services_are() {
    let lab = Lab::up();
    write(&lab, "first");
    let value = lab.infra.path().join("value");
    std::fs::write(&value, "correct-horse-battery-staple").expect("written");
    lab.ok(&["secret", "set", "hello-password", "--file", value.to_str().expect("a path")]);
    std::fs::remove_file(&value).expect("removed");
    println!("{}", lab.ok(&["deploy", "hello", "--yes"]));
    healthy(&lab, 1);
    all_answer(&lab, "first ");
    for worker in workers(&lab) {
        assert_eq!(answer(&worker), "first good day correct-horse-battery-staple from a file");
        // Nobody but root reads the secret on the machine, and no unit says it.
        let leaks =
            sh(&worker, "grep -rl correct-horse /run/systemd /etc/systemd /var/lib/fleetwright || true");
        assert_eq!(leaks, "");
        let others = sh(
            &worker,
            "setpriv --reuid 65534 --clear-groups cat /run/fleetwright/units/*/variables 2>&1 || true",
        );
        assert!(others.contains("denied"), "{others}");
        assert!(sh(&worker, "systemctl show -p MemoryMax --value 'hello-*'").contains("67108864"));
    }
    assert!(lab.ok(&["status", "hello"]).contains("healthy"));
    poll(Duration::from_secs(10), || {
        let logs = lab.ok(&["logs", "hello"]);
        (logs.matches("first listens").count() == 2).then_some(())
    })
    .expect("its lines arrive");
    let refused = lab.run(&["exec", "hello", "--", "true"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("made of units"), "{refused:?}");

    // Its agent is killed: the units keep running, and are healthy again immediately.
    let before = processes(&lab);
    for worker in before.keys() {
        sh(worker, "systemctl kill -s KILL fleetwright-agent");
    }
    healthy(&lab, 1);
    assert_eq!(processes(&lab), before);
    // So is the engine: its containers die, and those that replace them take the units over.
    for worker in before.keys() {
        sh(worker, "systemctl kill -s KILL docker && systemctl reset-failed docker; systemctl start docker");
    }
    lab.until("the engines are back", Duration::from_secs(120), |snapshot: &Snapshot| {
        (snapshot
            .machines
            .iter()
            .all(|machine| machine.state == fleetwright::model::machine::MachineState::Ready))
        .then_some(())
    });
    healthy(&lab, 1);
    assert_eq!(processes(&lab), before, "the units ran on");

    // A new text replaces them, and one that does not start leaves what runs.
    write(&lab, "second");
    let plan = lab.run(&["deploy", "hello", "--plan"]);
    let words = String::from_utf8_lossy(&plan.stdout);
    assert!(plan.status.code() == Some(3) && words.contains("units.hello.service"), "{words}");
    lab.ok(&["deploy", "hello", "--yes"]);
    healthy(&lab, 2);
    all_answer(&lab, "second ");
    for worker in workers(&lab) {
        assert_eq!(sh(&worker, UNITS).lines().count(), 1, "the old one is gone");
    }
    poll(Duration::from_secs(10), || {
        let logs = lab.ok(&["logs", "hello"]);
        (logs.matches("first stops").count() == 2).then_some(())
    })
    .expect("what the old ones printed last arrives");
    let running = processes(&lab);
    let broken = unit("third").replace("/opt/hello.py", "/opt/missing.py");
    std::fs::write(lab.infra.path().join("templates/units/hello.service"), broken).expect("written");
    let failed = lab.run(&["deploy", "hello", "--yes"]);
    let words = [failed.stdout, failed.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    println!("{words}");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        words.contains("its process ended with an error") && words.contains("is running again"),
        "{words}"
    );
    all_answer(&lab, "second ");
    let kept = processes(&lab).iter().filter(|(worker, unit)| running.get(*worker) == Some(*unit)).count();
    assert!(kept >= 1, "the other machine was not touched");

    // One that is killed is started again, with a new task.
    let worker = workers(&lab).remove(0);
    let before = sh(&worker, UNITS);
    sh(&worker, "systemctl kill -s KILL 'hello-*.service'");
    poll(Duration::from_secs(60), || {
        let now = sh(&worker, UNITS);
        (now.lines().count() == 1 && now != before).then_some(())
    })
    .expect("it is started again");

    lab.ok(&["remove", "hello", "--yes"]);
    // A secret that a file still names can't be removed.
    std::fs::remove_file(lab.infra.path().join("services/hello.yaml")).expect("removed");
    lab.ok(&["secret", "rm", "hello-password", "--yes"]);
    for worker in workers(&lab) {
        poll(Duration::from_secs(60), || {
            let left = sh(
                &worker,
                "systemctl list-units --plain --no-legend --all 'hello-*' 'fleetwright-*.target'; \
                 ls -d /run/systemd/system/hello-* /run/systemd/system/fleetwright-*.target /run/fleetwright/units/* 2>/dev/null || true",
            );
            left.is_empty().then_some(())
        })
        .expect("nothing is left");
    }
}
