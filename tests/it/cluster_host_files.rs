//! Watched files on a real fleet: rendered from its services and from keys in etcd, checked, replaced, and their
//! programs reloaded.

use std::time::Duration;

use fleetwright::model::host_file_state::FileStep;
use fleetwright::model::machine::Role;
use fleetwright::model::service::InstanceState;

use crate::faults::{deploy, unique};
use crate::support::lab::{Lab, poll, service, tool};
use crate::support::units::put;

const DEFINITION: &str = r#"app:
  template: templates/host_files/app.conf
  path: /run/app/app.conf
  mode: "0640"
  owner: root:adm
  services: [web]
  machines: true
  keys: [/app]
  check: [grep, -q, "^instances", "{candidate}"]
  reload: [sh, -c, "test ! -e /run/broken && cat /run/app/app.conf >> /run/app-loaded && echo loaded >> /run/app-loaded"]
"#;

const TEMPLATE: &str = r#"# of <{ machine.id }> in <{ project }>/<{ environment }>, <{ machines | length }> machines
motd <{ getv(key="/app/motd", default="none") }>
instances <% for one in services.web.instances %><% if one.healthy %><{ one.address }>:<{ one.port }> <% endif %><% endfor %>
"#;

/// A machine's container.
fn on(container: &str, script: &str) -> (bool, String) {
    let output = std::process::Command::new("docker")
        .args(["exec", container, "sh", "-c", script])
        .output()
        .expect("docker runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn file(container: &str) -> Option<String> {
    let (there, text) = on(container, "cat /run/app/app.conf");
    there.then_some(text)
}

/// The addresses of the healthy instances of `web`, as a file has them.
fn instances(lab: &Lab) -> Option<Vec<String>> {
    let snapshot = lab.snapshot()?;
    let web = service(&snapshot, "web").filter(|web| web.is_whole())?;
    let healthy = web.instances.iter().filter(|one| one.state == InstanceState::Healthy);
    let mut found: Vec<String> =
        healthy.flat_map(|one| one.addresses.iter().map(ToString::to_string)).collect();
    found.sort();
    Some(found)
}

fn listed(text: &str) -> Vec<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("instances ")).unwrap_or_default();
    let mut found: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    found.sort();
    found
}

#[test]
fn files_follow_the_cluster_and_programs_read_them() {
    let lab = Lab::up();
    deploy(&lab, &unique("files"));
    // One that failed may have left three.
    lab.ok(&["scale", "web=2"]);
    lab.instances();
    let snapshot = lab.snapshot().expect("the cluster");
    let containers: Vec<(String, String)> =
        snapshot.machines.iter().map(|machine| (machine.id.to_string(), lab.container(machine))).collect();
    let control: Vec<String> = snapshot
        .machines
        .iter()
        .filter(|machine| machine.role == Role::Control)
        .map(|machine| lab.container(machine))
        .collect();
    let workers: Vec<&fleetwright::model::machine::Machine> =
        snapshot.machines.iter().filter(|machine| machine.role == Role::Worker).collect();
    let (worker_id, worker) = (workers[0].id.to_string(), lab.container(workers[0]));
    // A test that failed may have left it.
    lab.run(&["host-file", "rm", "app"]);
    put(&lab, "host_files/app.yaml", DEFINITION);
    put(&lab, "templates/host_files/app.conf", TEMPLATE);

    // What it would do is shown before it is done.
    let planned = lab.run(&["deploy", "app", "--plan"]);
    let said = String::from_utf8_lossy(&planned.stdout).into_owned();
    assert_eq!(planned.status.code(), Some(3), "{said}{}", String::from_utf8_lossy(&planned.stderr));
    assert!(said.contains("+ watched file app (/run/app/app.conf)   is created"), "{said}");
    assert!(said.contains("a new file with 3 lines") && said.contains("1 watched file to deploy"), "{said}");
    lab.ok(&["deploy", "app", "--yes"]);
    let begun = std::time::Instant::now();
    for (_, container) in &containers {
        let wanted = instances(&lab).expect("web is whole");
        let text = poll(Duration::from_secs(20), || file(container).filter(|text| listed(text) == wanted));
        text.unwrap_or_else(|| {
            panic!("{:?}\n{}", file(container), on(container, "journalctl -u fleetwright-agent -n 20").1)
        });
    }
    eprintln!("on {} machines after {:.1} s", containers.len(), begun.elapsed().as_secs_f32());
    let (_, stat) = on(&worker, "stat -c '%a %U %G' /run/app/app.conf");
    assert_eq!(stat.trim(), "640 root adm");
    // The machine and the command line render the same.
    let text = lab.ok(&["host-file", "render", "app", "--machine", &worker_id]);
    assert_eq!(Some(text), file(&worker));
    let unchanged = lab.run(&["deploy", "app", "--plan"]);
    assert_eq!(unchanged.status.code(), Some(0), "{}", String::from_utf8_lossy(&unchanged.stdout));
    let in_place = poll(Duration::from_secs(20), || {
        let text = lab.ok(&["host-file", "ls"]);
        text.contains(&format!("{0}/{0}", containers.len())).then_some(text)
    });
    in_place.unwrap_or_else(|| panic!("{}", lab.ok(&["host-file", "ls"])));

    // Keys come from etcd, at once.
    let etcdctl = |words: &str| {
        let script =
            format!("set -a && ETCDCTL_API=3 && . /run/fleetwright/etcd-client.env && etcdctl {words}");
        let (done, said) = on(&control[0], &script);
        assert!(done, "{said}");
    };
    etcdctl("put /app/motd 'good day'");
    etcdctl("put /apple 'not ours'");
    let begun = std::time::Instant::now();
    for (_, container) in &containers {
        let text =
            poll(Duration::from_secs(10), || file(container).filter(|text| text.contains("motd good day")));
        text.unwrap_or_else(|| panic!("{:?}", file(container)));
    }
    eprintln!("a key on every machine after {:.1} s", begun.elapsed().as_secs_f32());
    // Many changes at once are one reload, or two where the first was under way.
    let loads = || on(&worker, "grep -c loaded /run/app-loaded").1.trim().parse::<u32>().expect("a number");
    let before = poll(Duration::from_secs(10), || {
        let count = loads();
        on(&worker, "grep -q 'good day' /run/app-loaded").0.then_some(count)
    })
    .expect("the program has read the key");
    etcdctl(
        "put /app/motd 0 >/dev/null && for n in $(seq 1 40); do etcdctl put /app/motd $n >/dev/null; done",
    );
    poll(Duration::from_secs(10), || on(&worker, "grep -q 'motd 40' /run/app-loaded").0.then_some(()))
        .expect("the program has read the last value");
    let many = loads() - before;
    assert!(many <= 5, "{many} reloads for 41 changes");

    // Instances that come and go.
    lab.ok(&["scale", "web=3"]);
    let wanted =
        poll(Duration::from_secs(60), || instances(&lab).filter(|found| found.len() == 3)).expect("three");
    poll(Duration::from_secs(10), || file(&worker).filter(|text| listed(text) == wanted))
        .expect("it follows");

    // A file that its check refuses: the old one stays, and everybody can see why.
    put(&lab, "templates/host_files/app.conf", &TEMPLATE.replace("\ninstances ", "\nbroken "));
    let diff = lab.run(&["host-file", "diff", "app", "--machine", &worker_id]);
    let said = String::from_utf8_lossy(&diff.stdout).into_owned();
    assert!(
        diff.status.code() == Some(3) && said.contains("-instances") && said.contains("+broken"),
        "{said}"
    );
    lab.ok(&["deploy", "app", "--yes"]);
    let failed = poll(Duration::from_secs(20), || {
        let snapshot = lab.snapshot()?;
        let machine = snapshot.machines.iter().find(|machine| machine.id.as_str() == worker_id)?;
        machine.host_files.values().next()?.problem.clone()
    });
    let failed = failed.expect("it is reported");
    assert_eq!((failed.at, failed.reason.as_str()), (FileStep::Check, "exit status 1"));
    assert!(file(&worker).expect("the old one").contains("instances "), "it stays");
    let listing = lab.ok(&["host-file", "ls"]);
    assert!(listing.contains("its check fails: exit status 1"), "{listing}");
    let events = || lab.ok(&["events", "--since", "10m"]);
    poll(Duration::from_secs(20), || events().contains("watched file `app`: its check fails").then_some(()))
        .unwrap_or_else(|| panic!("{}", events()));
    put(&lab, "templates/host_files/app.conf", TEMPLATE);
    lab.ok(&["deploy", "app", "--yes"]);
    poll(Duration::from_secs(30), || events().contains("is as it should be again").then_some(()))
        .unwrap_or_else(|| panic!("{}", events()));

    // A program that can't be reloaded now is reloaded later, although the agent is killed meanwhile.
    assert!(on(&worker, "touch /run/broken").0);
    etcdctl("put /app/motd later");
    poll(Duration::from_secs(10), || file(&worker).filter(|text| text.contains("motd later")))
        .expect("in place");
    let reported = || lab.ok(&["host-file", "show", "app"]);
    poll(Duration::from_secs(20), || reported().contains("its program can't be reloaded").then_some(()))
        .unwrap_or_else(|| panic!("{}", reported()));
    assert!(on(&worker, "systemctl kill -s KILL fleetwright-agent").0);
    assert!(!on(&worker, "grep -q 'motd later' /run/app-loaded").0);
    assert!(on(&worker, "rm /run/broken").0);
    poll(Duration::from_secs(60), || on(&worker, "grep -q 'motd later' /run/app-loaded").0.then_some(()))
        .unwrap_or_else(|| panic!("{}", on(&worker, "journalctl -u fleetwright-agent -n 30").1));

    // As after a reboot: what lies in memory is gone, and programs wait for it.
    let script = "systemctl stop fleetwright-agent && rm -r /run/app /run/fleetwright/host-files-settled && \
                  (fleetwright agent settled --within 60s && cat /run/app/app.conf > /run/started-with) & sleep 1; \
                  test ! -e /run/started-with && systemctl start fleetwright-agent && wait && cat /run/started-with";
    let (done, said) = on(&worker, script);
    assert!(done && said.contains("motd later"), "{said}");

    // Removed: nothing on machines is.
    lab.ok(&["host-file", "rm", "app"]);
    assert!(lab.ok(&["host-file", "ls"]).contains("no watched files"));
    etcdctl("put /app/motd never");
    assert!(file(&worker).expect("it stays").contains("motd later"));
    lab.ok(&["scale", "web=2"]);
    etcdctl("del --prefix /app");
    tool("rm", &["-r", &lab.infra.path().join("host_files").display().to_string()]);
}
