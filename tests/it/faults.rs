//! What happens when parts die for real.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use fleetwright::model::machine::Role;
use fleetwright::model::name::MachineId;
use fleetwright::model::service::{InstanceState, RevisionState};
use fleetwright::port::cluster::Snapshot;

use crate::support::lab::{Lab, poll, ready, service, tool};

const DOCKERFILE: &str = "FROM demo/base:1\nCOPY www /www\n";

/// Commits something new to the application, in a run of its own that must succeed.
pub fn deploy(lab: &Lab, text: &str) -> String {
    let commit = lab.commit(
        text,
        &[("Dockerfile", DOCKERFILE), ("www/index.html", &format!("{text}\n")), ("www/health", "ok\n")],
    );
    let run = lab.pipeline(&["pipeline", "run", "web"]);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    commit
}

/// Whether that commit runs, whole.
pub fn running(snapshot: &Snapshot, commit: &str) -> bool {
    service(snapshot, "web").is_some_and(|web| {
        web.is_whole()
            && web.history.iter().any(|r| r.origin.commit == commit && r.state == RevisionState::Running)
    })
}

/// Text that no other test run has committed.
pub fn unique(what: &str) -> String {
    format!("{what} {}", chrono::Utc::now().timestamp_micros())
}

#[test]
fn plan_after_apply_says_no_change() {
    let lab = Lab::up();
    let output = lab.run(&["plan"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("no change"), "{text}");
}

#[test]
fn a_server_killed_during_a_build_ends_the_run_once() {
    let lab = Lab::up();
    let log = lab.infra.path().join("serve.log");
    let text = unique("killed");
    let commit = lab.commit(
        &text,
        &[
            // Long enough to be killed in the middle of; the argument makes the step this test's own.
            ("Dockerfile", &format!("FROM demo/base:1\nCOPY www /www\nRUN : {text} && sleep 6\n")),
            ("www/index.html", &format!("{text}\n")),
            ("www/health", "ok\n"),
        ],
    );
    let runs = || -> Vec<serde_json::Value> {
        let list: serde_json::Value =
            serde_json::from_str(&lab.ok(&["pipeline", "list", "--output", "json"])).expect("a document");
        let runs = list["runs"].as_array().expect("a list of runs").clone();
        runs.into_iter().filter(|run| run["commit"] == commit.as_str()).collect()
    };
    {
        let _serve = lab.spawn(&["serve", "--listen", "127.0.0.1:0"], &log);
        poll(Duration::from_secs(60), || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("sleep 6")).then_some(())
        })
        .unwrap_or_else(|| panic!("no build began:\n{}", std::fs::read_to_string(&log).unwrap_or_default()));
    } // Dropping it is kill -9.
    let _serve = lab.spawn(&["serve", "--listen", "127.0.0.1:0"], &log);
    lab.until("the killed run's commit is running", Duration::from_secs(120), |snapshot| {
        running(snapshot, &commit).then_some(())
    });
    poll(Duration::from_secs(30), || runs().iter().all(|run| run["state"] == "succeeded").then_some(()))
        .unwrap_or_else(|| panic!("the run did not end: {:?}", runs()));
    assert_eq!(runs().len(), 1, "one commit is one run: {:?}", runs());
}

#[test]
fn a_lost_worker_s_instances_run_elsewhere_and_it_is_replaced() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("lost worker"));
    let (lost, container) = lab.until("an instance is healthy", Duration::from_secs(60), |snapshot| {
        let web = service(snapshot, "web")?;
        let id = web.instances.iter().find(|i| i.state == InstanceState::Healthy)?.machine.clone()?;
        let machine = snapshot.machines.iter().find(|m| m.id == id)?;
        Some((id, lab.container(machine)))
    });
    let begun = Instant::now();
    tool("docker", &["rm", "-f", &container]);
    lab.until("its instances run elsewhere", Duration::from_secs(90), |snapshot| {
        let web = service(snapshot, "web")?;
        let elsewhere = web
            .instances
            .iter()
            .filter(|i| i.state == InstanceState::Healthy)
            .all(|i| i.machine.as_ref() != Some(&lost));
        (elsewhere && running(snapshot, &commit)).then_some(())
    });
    println!("a lost worker's instances ran elsewhere after {:.1} s", begun.elapsed().as_secs_f64());
    lab.until("its group has replaced it", Duration::from_secs(120), |snapshot| {
        let gone = snapshot.machines.iter().all(|machine| machine.id != lost);
        (gone && ready(snapshot, Role::Worker) >= 2).then_some(())
    });
}

#[test]
fn every_control_machine_can_be_replaced() {
    let lab = Lab::up();
    let control = |snapshot: &Snapshot| {
        snapshot.machines.iter().filter(|m| m.role == Role::Control).cloned().collect::<Vec<_>>()
    };
    let all = control(&lab.snapshot().expect("a cluster"));
    // Each takes most of a minute: the leader stands for all of them, unless the long form is asked for.
    let long = std::env::var("FLEETWRIGHT_OUTAGES").is_ok_and(|which| which == "all");
    let before: Vec<_> = all.into_iter().filter(|machine| long || machine.leader).collect();
    for machine in &before {
        lab.terminate(machine);
        lab.until("a new control machine is ready", Duration::from_secs(240), |snapshot| {
            let gone = snapshot.machines.iter().all(|m| m.id != machine.id);
            (gone && ready(snapshot, Role::Control) == 3).then_some(())
        });
    }
    let after = control(&lab.snapshot().expect("a cluster"));
    let ids = |machines: &[_]| -> BTreeSet<MachineId> {
        machines.iter().map(|m: &fleetwright::model::machine::Machine| m.id.clone()).collect()
    };
    assert!(ids(&before).is_disjoint(&ids(&after)));
    assert!(
        before.iter().all(|old| after.iter().all(|new| new.address != old.address)),
        "every address is new: {before:#?} {after:#?}"
    );
    // Their etcd has followed: three members, none of them of a machine that is gone.
    let asked = lab.container(&after[0]);
    let line = "set -a && . /run/fleetwright/etcd-client.env && etcdctl endpoint health >/dev/null && etcdctl member list";
    let members = || {
        let output =
            Command::new("docker").args(["exec", &asked, "sh", "-c", line]).output().expect("docker runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let whole = || {
        let members = members();
        let votes = members.lines().filter(|member| member.contains("started") && member.ends_with("false"));
        (votes.count() == 3
            && members.lines().count() == 3
            && after.iter().all(|machine| members.contains(machine.id.as_str())))
        .then_some(())
    };
    assert!(poll(Duration::from_secs(120), whole).is_some(), "{}", members());
    let commit = deploy(&lab, &unique("after the managers"));
    lab.until("the cluster takes a deploy", Duration::from_secs(60), |s| running(s, &commit).then_some(()));
}

/// A process that is stopped, and goes on when the test ends, however it ends.
struct Paused(String);

impl Paused {
    fn new(pid: String) -> Self {
        tool("kill", &["-STOP", &pid]);
        Self(pid)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        tool("kill", &["-CONT", &self.0]);
    }
}

#[test]
fn a_registry_away_for_ten_seconds_moves_nothing() {
    let lab = Lab::up();
    deploy(&lab, &unique("registry"));
    let instances = |snapshot: &Snapshot| -> Option<BTreeSet<String>> {
        let web = service(snapshot, "web")?;
        // What an earlier rollout left behind may still be stopping, and is not what is watched here.
        let healthy = web.instances.iter().filter(|i| i.state == InstanceState::Healthy);
        web.is_whole().then(|| healthy.map(|i| i.id.clone()).collect())
    };
    let before = lab.until("the service is whole", Duration::from_secs(60), instances);
    let registry = Paused::new(lab.pid("registry"));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let seen = lab.snapshot().expect("the cluster does not need the registry");
        assert_eq!(instances(&seen), Some(before.clone()));
    }
    drop(registry);
    assert_eq!(lab.until("the service is whole", Duration::from_secs(10), instances), before);
    deploy(&lab, &unique("registry is back"));
}

/// Its managers would give its addresses out until they miss it.
#[test]
fn a_machine_whose_engine_stops_says_so_itself() {
    let lab = Lab::up();
    let commit = deploy(&lab, &unique("engine stops"));
    let (machine, manager) = lab.until("an instance is healthy", Duration::from_secs(60), |snapshot| {
        let web = service(snapshot, "web")?;
        let id = web.instances.iter().find(|i| i.state == InstanceState::Healthy)?.machine.clone()?;
        let manager = snapshot.machines.iter().find(|m| m.role == Role::Control)?;
        Some((snapshot.machines.iter().find(|m| m.id == id)?.clone(), lab.container(manager)))
    });
    let container = lab.container(&machine);
    let inside = |command: &[&str]| tool("docker", &[&["exec", &container], command].concat());
    let told = || {
        let of = format!("node.label=fleetwright.instance={}", machine.id);
        let script = format!(
            "docker node ls -q --filter {of} | xargs docker node inspect --format '{{{{json .Spec.Labels}}}}'"
        );
        tool("docker", &["exec", &manager, "sh", "-c", &script]).contains("fleetwright.engine-gone")
    };
    assert!(!told());
    let given_out = |snapshot: &Snapshot| {
        let instances = snapshot.services.iter().flat_map(|service| &service.instances);
        let mut healthy = instances.filter(|instance| instance.state == InstanceState::Healthy);
        healthy.any(|instance| instance.machine.as_ref() == Some(&machine.id))
    };
    let begun = Instant::now();
    inside(&["systemctl", "stop", "--no-block", "docker.socket", "docker.service"]);
    poll(Duration::from_secs(30), || told().then_some(())).expect("its agent says so");
    println!("told after {:.1} s", begun.elapsed().as_secs_f64());
    let snapshot = lab.snapshot().expect("a cluster");
    assert!(!given_out(&snapshot), "{snapshot:#?}");
    inside(&["systemctl", "start", "docker.socket", "docker.service"]);
    lab.until("the machine is back", Duration::from_secs(90), |snapshot| {
        (ready(snapshot, Role::Worker) >= 2 && running(snapshot, &commit) && !told()).then_some(())
    });

    // A machine that shuts down says so before its engine stops.
    inside(&["systemctl", "reboot", "--no-block"]);
    poll(Duration::from_secs(30), || told().then_some(())).expect("its agent says so");
    lab.until("the machine is back", Duration::from_secs(120), |snapshot| {
        (ready(snapshot, Role::Worker) >= 2 && running(snapshot, &commit) && !told()).then_some(())
    });
}

/// Other managers pass what they are asked on to the leader, until another one leads.
#[test]
fn status_is_answered_while_the_leader_is_stopped() {
    let lab = Lab::up();
    let leader = lab.until("a leader", Duration::from_secs(60), |snapshot| {
        (ready(snapshot, Role::Control) == 3).then_some(())?;
        snapshot.machines.iter().find(|machine| machine.leader).cloned()
    });
    let container = lab.container(&leader);
    tool("docker", &["pause", &container]);
    let begun = Instant::now();
    let answered = lab.run(&["status"]);
    tool("docker", &["unpause", &container]);
    println!("answered after {:.1} s", begun.elapsed().as_secs_f64());
    assert!(answered.status.success(), "{answered:?}");
    lab.until("all control machines are back", Duration::from_secs(90), |snapshot| {
        (ready(snapshot, Role::Control) == 3).then_some(())
    });
}

/// The server builds and rolls out a fix while the cluster still waits for what it mends.
#[test]
fn a_fix_takes_over_from_a_version_that_is_not_healthy() {
    let lab = Lab::up();
    deploy(&lab, &unique("before the fault"));
    let log = lab.infra.path().join("serve.log");
    let _serve = lab.spawn(&["serve", "--listen", "127.0.0.1:0"], &log);
    let commit = |what: &str, more: &str| {
        let (text, dockerfile) = (unique(what), format!("{DOCKERFILE}{more}"));
        let index = format!("{text}\n");
        let files = [("Dockerfile", dockerfile.as_str()), ("www/index.html", &index), ("www/health", "ok\n")];
        lab.commit(&text, &files)
    };
    let reaches = |commit: &str| {
        let begun = Instant::now();
        lab.until("a commit is running", Duration::from_secs(180), |snapshot| {
            running(snapshot, commit).then_some(())
        });
        begun.elapsed().as_secs_f64()
    };
    let plain = reaches(&commit("plain", ""));
    let broken = commit("broken", "RUN rm /www/health\n");
    lab.until("the broken version rolls out", Duration::from_secs(120), |snapshot| {
        let web = service(snapshot, "web")?;
        web.history.iter().any(|one| one.origin.commit == broken).then_some(())
    });
    let fixed = reaches(&commit("fixed", ""));
    println!("commit to healthy: {plain:.1} s plain, {fixed:.1} s as a fix");
    let told = lab.ok(&["status", "web"]);
    assert!(told.contains("running"), "{told}");
}
