//! What units do while machines, networks and processes fail, and while people drain machines, on a real fleet.
//! `make test-machines` runs it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleetwright::model::machine::Role;

use crate::support::lab::{Lab, edit, poll, ready, root, tool};
use crate::support::units::{active, placed, put, remove, sh, workers};
use crate::support::visitor::Visitor;

/// A unit that writes the time and its number into a file every 50 ms.
const TICKER: &str = "\
[Unit]
Description=Counts

[Service]
ExecStart=/bin/sh -c 'while :; do echo \"$(date +%%s%%N) ${FLEETWRIGHT_EPOCH}\" >> /run/ticks; sleep 0.05; done'
";

/// What a ticker has written on a machine: when, in milliseconds, and its number.
fn ticks(container: &str) -> Vec<(u64, u64)> {
    let text = sh(container, "cat /run/ticks 2>/dev/null || true");
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<u64>().ok());
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((number(words.next())? / 1_000_000, number(words.next())?))
        })
        .collect()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("milliseconds")
}

/// The network that a machine's container is in, with its address there.
fn network(container: &str) -> (String, String) {
    let format = "{{range $name, $one := .NetworkSettings.Networks}}{{$name}} {{$one.IPAddress}}{{end}}";
    let text = tool("docker", &["inspect", "--format", format, container]);
    let (name, address) = text.trim().split_once(' ').expect("a network and an address");
    (name.to_owned(), address.to_owned())
}

/// A machine that is frozen or cut off for longer than `stop_after`: another one takes over with a higher number, and
/// what ran first writes no more, at the latest a moment after its machine continues.
#[test]
fn a_machine_that_is_cut_off_stops_its_units_and_another_one_takes_over_with_a_higher_number() {
    let lab = Lab::up();
    put(&lab, "templates/units/ticker.service", TICKER);
    put(
        &lab,
        "services/ticker.yaml",
        "ticker: {unit: ticker.service, replicas: 1, exclusive: true, on_disconnect: {stop_after: 10s}, \
         placement: {role: worker}, update: {monitor: 1s}}\n",
    );
    for machine in workers(&lab) {
        sh(&lab.container(&machine), "rm -f /run/ticks");
    }
    lab.ok(&["deploy", "ticker", "--yes"]);
    for freeze in [true, false] {
        let first = placed(&lab, "ticker", 1).remove(0);
        let other = workers(&lab).into_iter().find(|machine| machine.id != first.id).expect("two workers");
        let (first, other) = (lab.container(&first), lab.container(&other));
        let epoch = ticks(&first).last().expect("it counts").1;
        let (net, address) = network(&first);
        let begun = now();
        if freeze {
            tool("docker", &["pause", &first]);
        } else {
            tool("docker", &["network", "disconnect", &net, &first]);
        }
        // Frozen processes write nothing, so what is written later was written after the thaw.
        let heir = poll(Duration::from_secs(120), || {
            ticks(&other).into_iter().find(|(at, number)| *at > begun && *number > epoch)
        });
        let heir = heir.expect("another one takes over, with a higher number");
        let back = now();
        if freeze {
            tool("docker", &["unpause", &first]);
        }
        let stopped = poll(Duration::from_secs(30), || active(&first, "ticker").is_empty().then_some(()));
        assert!(stopped.is_some(), "it stopped on its own");
        let last = ticks(&first).into_iter().rfind(|(_, number)| *number == epoch).expect("its last").0;
        if freeze {
            println!(
                "frozen; the heir began after {} ms; the old one wrote until {} ms after the thaw",
                heir.0 - begun,
                last.saturating_sub(back)
            );
            assert!(last < back + 3_000, "it wrote for {} ms after the thaw", last - back);
        } else {
            println!(
                "cut off; the heir began after {} ms; the old one wrote for {} ms",
                heir.0 - begun,
                last - begun
            );
            assert!(last < begun + 15_000, "it wrote for {} ms after it was cut off", last - begun);
            tool("docker", &["network", "connect", "--ip", &address, &net, &first]);
        }
        // The machine is back, and the heir is left alone.
        lab.until("both machines are ready", Duration::from_secs(180), |snapshot| {
            (ready(snapshot, Role::Worker) >= 2).then_some(())
        });
        assert_eq!(lab.container(&placed(&lab, "ticker", 1)[0]), other);
        assert!(active(&first, "ticker").is_empty());
    }
    remove(&lab, &["ticker"]);
}

/// Units that belong together share a machine, start in systemd's own order, and stop together; a socket and a timer
/// come along.
#[test]
fn units_that_belong_together_start_in_order_and_stop_together() {
    let lab = Lab::up();
    let log = "echo \"$(date +%%s%%N) $0\" >> /run/order";
    put(
        &lab,
        "templates/units/pair.service",
        &format!(
            "[Unit]\nDescription=Main\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=/bin/sh -c 'sleep 1; {log}' pair-begins\nExecStop=/bin/sh -c '{log}' pair-ends\n"
        ),
    );
    put(
        &lab,
        "templates/units/side.service",
        &format!(
            "[Unit]\nDescription=Sidekick\nAfter=pair.service\nBindsTo=pair.service\n\n[Service]\n\
             ExecStartPre=/bin/sh -c '{log}' side-begins\nExecStart=/bin/sleep infinity\n\
             ExecStopPost=/bin/sh -c '{log}' side-ends\n"
        ),
    );
    put(
        &lab,
        "templates/units/tidy.service",
        &format!(
            "[Unit]\nDescription=Tidies up\n\n[Service]\nType=oneshot\nExecStart=/bin/sh -c '{log}' tidy\n"
        ),
    );
    put(&lab, "templates/units/tidy.timer", "[Unit]\nDescription=Sometimes\n\n[Timer]\nOnActiveSec=1h\n");
    put(
        &lab,
        "templates/units/greet.socket",
        "[Unit]\nDescription=Greets\n\n[Socket]\nListenStream=18090\nAccept=yes\n",
    );
    put(
        &lab,
        "templates/units/greet@.service",
        "[Unit]\nDescription=Says hello to one\n\n[Service]\nExecStart=/bin/echo hello\nStandardOutput=socket\n",
    );
    put(
        &lab,
        "services/pair.yaml",
        "pair: {units: [pair.service, side.service, tidy.service], replicas: 1, placement: {role: worker}, update: {monitor: 1s}}\n",
    );
    put(
        &lab,
        "services/greet.yaml",
        "greet: {unit: greet.socket, every_machine: true, placement: {role: worker}, ports: [\"18090:18090\"], \
         update: {monitor: 1s}}\n",
    );
    for machine in workers(&lab) {
        sh(&lab.container(&machine), "rm -f /run/order");
    }
    lab.ok(&["deploy", "pair", "greet", "--yes"]);
    let machine = lab.container(&placed(&lab, "pair", 1)[0]);
    let order =
        |of: &str| -> Vec<String> { sh(of, "cut -d' ' -f2 /run/order").lines().map(str::to_owned).collect() };
    assert_eq!(order(&machine), ["pair-begins", "side-begins"]);
    let units = active(&machine, "tidy");
    assert!(units.iter().any(|unit| unit.ends_with(".timer")), "its timer came along: {units:?}");
    for worker in placed(&lab, "greet", 2) {
        let container = lab.container(&worker);
        let answer = poll(Duration::from_secs(10), || {
            let said = sh(&container, "timeout 2 bash -c 'cat < /dev/tcp/127.0.0.1/18090' || true");
            said.contains("hello").then_some(())
        });
        assert!(answer.is_some(), "its socket answers");
    }
    // One of them fails: all of them stop, and start again as one.
    sh(&machine, "systemctl kill -s KILL 'side-*.service'");
    let again = poll(Duration::from_secs(60), || {
        let all: Vec<String> = workers(&lab)
            .iter()
            .flat_map(|worker| {
                let container = lab.container(worker);
                sh(&container, "cat /run/order 2>/dev/null || true")
                    .lines()
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut all = all;
        all.sort();
        let words: Vec<String> =
            all.iter().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
        (words.iter().filter(|word| *word == "side-begins").count() == 2).then_some(words)
    });
    let words = again.expect("it starts again");
    assert_eq!(
        words,
        ["pair-begins", "side-begins", "side-ends", "pair-ends", "pair-begins", "side-begins"],
        "both ended before both began"
    );
    remove(&lab, &["pair", "greet"]);
}

/// Services whose units conflict never share a machine; one that finds none says why, and starts as soon as there is
/// room.
#[test]
fn units_that_conflict_never_share_a_machine() {
    let lab = Lab::up();
    let names = ["one", "two", "three"];
    for name in names {
        put(
            &lab,
            &format!("templates/units/{name}.service"),
            &format!(
                "[Unit]\nDescription=Alone\n\n[Service]\nExecStart=/bin/sleep infinity\n\n[X-Fleet]\n{}",
                if name == "one" {
                    "Conflicts=two.service three.service\n"
                } else {
                    "Conflicts=t*.service\n"
                }
            ),
        );
        put(
            &lab,
            &format!("services/{name}.yaml"),
            &format!(
                "{name}: {{unit: {name}.service, replicas: 1, placement: {{role: worker}}, update: {{monitor: 1s}}}}\n"
            ),
        );
    }
    lab.ok(&["deploy", "one", "two", "--yes"]);
    let machines: BTreeSet<_> =
        ["one", "two"].iter().map(|name| placed(&lab, name, 1)[0].id.clone()).collect();
    assert_eq!(machines.len(), 2, "they are kept apart");
    // Both can be updated, though no machine is free for either.
    for name in ["one", "two"] {
        let path = format!("templates/units/{name}.service");
        let text = std::fs::read_to_string(lab.infra.path().join(&path)).expect("the unit");
        put(&lab, &path, &text.replace("Description=Alone", "Description=Still alone"));
    }
    lab.ok(&["deploy", "one", "two", "--yes"]);
    let mut child = lab.command(&["deploy", "three", "--yes"]).spawn().expect("the binary runs");
    let waits = poll(Duration::from_secs(60), || {
        let why = lab.run(&["why", "three"]);
        let text = String::from_utf8_lossy(&why.stdout).into_owned();
        text.contains("port").then_some(text)
    });
    println!("{}", waits.clone().unwrap_or_default());
    let waits = waits.is_some();
    // Room is made, and it starts.
    lab.ok(&["remove", "one", "--yes"]);
    let three = placed(&lab, "three", 1);
    let _ = child.kill();
    let _ = child.wait();
    assert!(waits, "it says why it waits");
    assert!(!placed(&lab, "two", 1).iter().any(|machine| machine.id == three[0].id));
    remove(&lab, &["two", "three"]);
}

/// `MachineID=` puts a unit on that machine.
#[test]
fn a_machine_that_is_named_gets_the_unit() {
    let lab = Lab::up();
    for machine in workers(&lab) {
        put(
            &lab,
            "templates/units/named.service",
            &format!(
                "[Unit]\nDescription=Here\n\n[Service]\nExecStart=/bin/sleep infinity\n\n[X-Fleet]\nMachineID={}\n",
                machine.id
            ),
        );
        put(&lab, "services/named.yaml", "named: {unit: named.service, update: {monitor: 1s}}\n");
        lab.ok(&["deploy", "named", "--yes"]);
        assert_eq!(placed(&lab, "named", 1)[0].id, machine.id);
    }
    remove(&lab, &["named"]);
}

/// A drained machine's units run elsewhere before they stop there; a unit that ignores SIGTERM is killed after its
/// time; one that flaps is restarted by systemd within its limits and then fails; systemd may be reloaded at any time.
#[test]
fn units_leave_a_drained_machine_and_a_stubborn_or_broken_one_is_dealt_with() {
    let lab = Lab::up();
    put(
        &lab,
        "templates/units/stubborn.service",
        "[Unit]\nDescription=Ignores it\n\n[Service]\nTimeoutStopSec=2s\n\
         ExecStart=/bin/sh -c \"trap '' TERM; while :; do sleep 0.2; done\"\n",
    );
    put(
        &lab,
        "services/stubborn.yaml",
        "stubborn: {unit: stubborn.service, replicas: 1, placement: {role: worker}, stop_grace_period: 5s, \
         update: {monitor: 1s}}\n",
    );
    put(
        &lab,
        "templates/units/flaps.service",
        "[Unit]\nDescription=Flaps\nStartLimitIntervalSec=60\nStartLimitBurst=3\n\n[Service]\nRestart=on-failure\n\
         RestartSec=100ms\nExecStart=/bin/sh -c 'echo here; sleep 0.3; exit 3'\n",
    );
    put(
        &lab,
        "services/flaps.yaml",
        "flaps: {unit: flaps.service, replicas: 1, placement: {role: worker}, restart: {max_attempts: 1}, \
         update: {monitor: 5s, deadline: 60s}}\n",
    );
    lab.ok(&["deploy", "stubborn", "--yes"]);
    let first = placed(&lab, "stubborn", 1).remove(0);
    let container = lab.container(&first);
    let pid = |container: &str| sh(container, "systemctl show -p MainPID --value 'stubborn-*'");
    let before = pid(&container);
    sh(&container, "systemctl daemon-reload");
    assert_eq!(pid(&container), before, "a reload stops nothing");

    lab.ok(&["drain", first.id.as_str()]);
    let next = placed(&lab, "stubborn", 1).remove(0);
    assert_ne!(next.id, first.id);
    let gone = poll(Duration::from_secs(30), || active(&container, "stubborn").is_empty().then_some(()));
    assert!(gone.is_some(), "it was killed after its time");
    lab.undrain(&first);

    let failed = lab.run(&["deploy", "flaps", "--yes"]);
    let words = [failed.stdout, failed.stderr].concat();
    let words = String::from_utf8_lossy(&words);
    println!("{words}");
    assert_eq!(failed.status.code(), Some(1), "{words}");
    assert!(words.contains("| here"), "its last lines are shown: {words}");
    remove(&lab, &["stubborn", "flaps"]);
}

/// A unit with an HTTP check on both workers is updated while somebody asks it 20 times a second.
#[test]
fn no_request_fails_while_a_unit_is_updated() {
    let lab = Lab::up();
    let script = "import http.server, os, signal, sys, threading\n\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n    \
            def do_GET(self):\n        \
                self.send_response(503 if leaving and self.path == '/health' else 200)\n        \
                self.end_headers()\n        \
                self.wfile.write(b'ok')\n\n    \
            def log_message(self, *words):\n        pass\n\n\
        leaving = []\n\n\
        def leave(*_):\n    \
            leaving.append(True)\n    \
            threading.Timer(3, os._exit, [0]).start()\n\n\
        signal.signal(signal.SIGTERM, leave)\n\
        http.server.ThreadingHTTPServer(('0.0.0.0', 18070), Handler).serve_forever()\n";
    put(&lab, "templates/files/page.py", script);
    let unit = |word: &str| {
        format!("[Unit]\nDescription=A page, {word}\n\n[Service]\nExecStart=/usr/bin/python3 /opt/page.py\n")
    };
    put(&lab, "templates/units/page.service", &unit("first"));
    put(
        &lab,
        "services/page.yaml",
        "page: {unit: page.service, every_machine: true, placement: {role: worker}, ports: [\"18070:18070\"], \
         files: [\"templates/files/page.py:/opt/page.py\"], health: {http: /health, port: 18070, interval: 1s, \
         timeout: 2s}, stop_grace_period: 10s, update: {monitor: 2s}}\n",
    );
    lab.ok(&["deploy", "page", "--yes"]);
    placed(&lab, "page", 2);
    let visitor = Visitor::start(&lab, "page");
    put(&lab, "templates/units/page.service", &unit("second"));
    lab.ok(&["deploy", "page", "--yes"]);
    let (asked, failed) = visitor.end();
    println!("{asked} requests during the update, {} failed", failed.len());
    assert!(asked > 50 && failed.is_empty(), "{asked} requests: {failed:#?}");
    remove(&lab, &["page"]);
}

/// The shipped log shipper: what a machine logs arrives at systemd-journal-remote, and an update sends nothing twice.
#[test]
fn what_machines_log_arrives_where_the_shipped_example_sends_it() {
    let lab = Lab::up();
    for file in ["services/journal.yaml", "templates/units/journal.service"] {
        let text = std::fs::read_to_string(root().join("examples/units").join(file)).expect("the example");
        put(&lab, file, &text);
    }
    let control = lab.snapshot().expect("the cluster answers").machines;
    let control =
        control.into_iter().find(|machine| machine.role == Role::Control).expect("a control machine");
    let receiver = lab.container(&control);
    edit(&lab.infra.path().join("services/journal.yaml"), "logs.internal", &control.address.to_string());
    sh(&receiver, "rm -rf /run/received && mkdir /run/received");
    let listen = "/lib/systemd/systemd-journal-remote --listen-http=19532 --output=/run/received";
    tool("docker", &["exec", "--detach", &receiver, "sh", "-c", listen]);
    lab.ok(&["deploy", "journal", "--yes"]);
    placed(&lab, "journal", 5);
    let arrived = |word: &str| {
        sh(
            &receiver,
            &format!("journalctl --quiet -D /run/received -o cat -t shipped | grep -c {word} || true"),
        )
        .trim()
        .parse::<usize>()
        .unwrap_or(0)
    };
    let machines = workers(&lab);
    for machine in &machines {
        sh(&lab.container(machine), "logger -t shipped before");
    }
    let all = poll(Duration::from_secs(60), || (arrived("before") == machines.len()).then_some(()));
    assert!(all.is_some(), "{} of {} arrived", arrived("before"), machines.len());
    // It continues where it was.
    lab.ok(&["restart", "journal"]);
    placed(&lab, "journal", 5);
    for machine in &machines {
        sh(&lab.container(machine), "logger -t shipped after");
    }
    let all = poll(Duration::from_secs(60), || (arrived("after") == machines.len()).then_some(()));
    assert!(all.is_some(), "{} of {} arrived", arrived("after"), machines.len());
    assert_eq!(arrived("before"), machines.len(), "nothing is sent twice");
    remove(&lab, &["journal"]);
    sh(&receiver, "pkill -f '[s]ystemd-journal-remote'; rm -rf /run/received");
}

/// The shipped announcer as a unit: its key is there while it runs, and is withdrawn when its machine is drained.
#[test]
fn workers_are_announced_by_the_shipped_unit_until_they_are_drained() {
    let lab = Lab::up();
    let machines = workers(&lab);
    // The machines of the tests announce themselves from their cloud-config.
    for machine in &machines {
        sh(&lab.container(machine), "systemctl stop fleetwright-announce");
    }
    let asked = lab.snapshot().expect("the cluster answers").machines;
    let asked = asked.iter().find(|machine| machine.role == Role::Control).expect("a control machine");
    let asked = lab.container(asked);
    let line = "set -a && . /run/fleetwright/etcd-client.env && etcdctl get --prefix /fleetwright/hosts/";
    let announced = || -> BTreeSet<String> {
        let text = sh(&asked, line);
        let mut lines = text.lines();
        let mut found = BTreeSet::new();
        while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
            if value.contains("\"role\": \"worker\"") {
                found.insert(key.trim_start_matches("/fleetwright/hosts/").to_owned());
            }
        }
        found
    };
    let names: BTreeSet<String> = machines.iter().map(|machine| machine.id.to_string()).collect();
    let is = |what: &str, wanted: &BTreeSet<String>| {
        let reached = poll(Duration::from_secs(60), || (announced() == *wanted).then_some(()));
        assert!(reached.is_some(), "{what}: {:?} are announced, and not {wanted:?}", announced());
    };
    is("nobody announces the workers", &BTreeSet::new());
    for file in ["services/announce.yaml", "templates/units/announce.service"] {
        let text = std::fs::read_to_string(root().join("examples/units").join(file)).expect("the example");
        put(&lab, file, &text);
    }
    lab.ok(&["deploy", "announce", "--yes"]);
    placed(&lab, "announce", 2);
    is("both run the unit", &names);
    let drained = &machines[0];
    lab.ok(&["drain", drained.id.as_str()]);
    let others: BTreeSet<String> =
        names.iter().filter(|name| *name != drained.id.as_str()).cloned().collect();
    is("one is drained", &others);
    lab.undrain(drained);
    is("it takes work again", &names);
    remove(&lab, &["announce"]);
    is("the unit is removed", &BTreeSet::new());
    for machine in &machines {
        sh(&lab.container(machine), "systemctl start fleetwright-announce");
    }
}

/// A hundred units beside a hundred plain tasks of the engine: how long both take to run and to be gone. The figures are
/// printed, in the same run.
#[test]
fn a_hundred_units_take_little_longer_than_a_hundred_tasks() {
    let count = std::env::var("FLEETWRIGHT_UNITS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let lab = Lab::up();
    put(
        &lab,
        "templates/units/many@.service",
        "[Unit]\nDescription=One of many, %i\n\n[Service]\nExecStart=/bin/sleep infinity\n",
    );
    put(
        &lab,
        "services/many.yaml",
        &format!(
            "many: {{unit: many@.service, replicas: {count}, placement: {{role: worker}}, update: {{monitor: 1s}}}}\n"
        ),
    );
    let image = image(&lab);
    let manager = |script: &str| lab.on_manager(script).expect("a manager answers");
    let running = |name: &str| {
        let script =
            format!("docker service ps {name} --format '{{{{.CurrentState}}}}' | grep -c ^Running || true");
        manager(&script).trim().parse::<usize>().unwrap_or(0)
    };
    let timed = |what: &str, done: &dyn Fn() -> bool| {
        let begun = std::time::Instant::now();
        let reached = poll(Duration::from_secs(300), || done().then_some(()));
        assert!(reached.is_some(), "{what}");
        begun.elapsed()
    };
    let of_units = {
        let begun = std::time::Instant::now();
        lab.ok(&["deploy", "many", "--yes"]);
        begun.elapsed()
    };
    assert_eq!(running("many"), count);
    let machines = workers(&lab);
    let units = |what: &str| -> usize {
        machines.iter().map(|machine| active(&lab.container(machine), what).len()).sum()
    };
    assert_eq!(units("many"), count, "a unit for each task");
    lab.ok(&["remove", "many", "--yes"]);
    let units_gone = timed("the units are gone", &|| units("many") == 0);
    manager(&format!(
        "docker service create --detach --name plain --replicas {count} --constraint node.role==worker \
         --entrypoint /bin/sh {image} -c 'trap \"exit 0\" TERM; while :; do sleep 1 & wait; done' >/dev/null"
    ));
    let of_tasks = timed("the tasks run", &|| running("plain") == count);
    manager("docker service rm plain");
    let left = || -> usize {
        machines
            .iter()
            .map(|machine| {
                sh(&lab.container(machine), "docker ps -q --filter name=^plain | wc -l")
                    .trim()
                    .parse()
                    .unwrap_or(0)
            })
            .sum::<usize>()
    };
    let tasks_gone = timed("the tasks are gone", &|| left() == 0);
    println!(
        "{count} units ran after {of_units:?} and were gone after {units_gone:?}; {count} tasks after {of_tasks:?} and {tasks_gone:?}"
    );
}

/// The image of the demo's application, which every worker can pull.
pub fn image(lab: &Lab) -> String {
    let commit = crate::faults::deploy(lab, &crate::faults::unique("units"));
    assert!(!commit.is_empty());
    let script = "docker service inspect web --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}'";
    lab.on_manager(script).expect("web is there").trim().to_owned()
}
