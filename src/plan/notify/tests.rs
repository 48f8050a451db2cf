use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::service::{Instance, InstanceState, Origin, Revision};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
}

fn receiver(secret: &str, events: &[Alert]) -> Receiver {
    Receiver {
        form: Form::Json,
        secret: secret.parse().expect("a name"),
        events: events.to_vec(),
        after: Duration::from_secs(60),
    }
}

fn receivers(all: &[Receiver]) -> Receivers {
    Receivers { version: NOTIFY_VERSION, receivers: all.to_vec() }
}

fn web(healthy: u32, state: RevisionState) -> ServiceStatus {
    let instance = |slot: u32| Instance {
        id: format!("t{slot}"),
        name: format!("web@{slot}"),
        machine: None,
        addresses: Vec::new(),
        ports: Vec::new(),
        state: InstanceState::Healthy,
        restarts: 0,
        digest: None,
        message: None,
        since: at(0),
    };
    let revision = |number, state| Revision {
        number,
        digest: None,
        origin: Origin::by_hand(),
        state,
        reason: None,
        pre_deploy: None,
        failed: None,
        since: at(0),
    };
    ServiceStatus {
        name: "web".parse().expect("a name"),
        desired: 2,
        scaled_from: None,
        stopped: false,
        instances: (0..healthy).map(instance).collect(),
        history: vec![revision(2, state), revision(1, RevisionState::Replaced)],
    }
}

/// Runs leaders through observations of `(second, healthy instances)`; what was sent, and when. `delivered` says
/// whether a message of that second arrives; `handover` is when another leader begins with what was kept.
fn run(
    observations: &[(i64, u32)],
    delivered: impl Fn(i64) -> bool,
    handover: impl Fn(i64) -> bool,
) -> Vec<(i64, bool)> {
    let to = receivers(&[receiver("hook", &Alert::ALL)]);
    let (mut notified, mut all) = (Notified::default(), Vec::new());
    let mut kept = notified.store();
    for (second, healthy) in observations {
        if handover(*second) {
            notified = Notified::restore(&kept);
        }
        let services = [web(*healthy, RevisionState::Running)];
        let seen = Seen { machines: &[], services: &services, jobs: None };
        let (due, mut next) = step(&to, &notified, &conditions(&seen, at(*second)), at(*second));
        for one in due.iter().filter(|_| delivered(*second)) {
            all.push((*second, one.message.passed));
            sent(&mut next, one, at(*second));
        }
        notified = next;
        kept = notified.store();
    }
    all
}

#[test]
fn a_service_that_is_not_whole_for_long_is_reported_once_and_again_when_it_is_whole() {
    let long: Vec<(i64, u32)> = (0..40).map(|nth| (nth * 5, if nth < 30 { 1 } else { 2 })).collect();
    assert_eq!(run(&long, |_| true, |_| false), [(60, false), (150, true)]);
    // Another leader continues with what was kept.
    assert_eq!(run(&long, |_| true, |second| second == 100), [(60, false), (150, true)]);
    // A message that does not arrive is sent again until it does.
    assert_eq!(run(&long, |second| second > 80, |_| false), [(85, false), (150, true)]);
    // One that never arrived is not taken back.
    assert_eq!(run(&long, |second| second > 150, |_| false), []);
    let short: Vec<(i64, u32)> = (0..40).map(|nth| (nth * 5, if nth < 11 { 1 } else { 2 })).collect();
    assert_eq!(run(&short, |_| true, |_| false), []);
}

#[test]
fn a_rollout_that_failed_is_reported_once_and_never_taken_back() {
    let to = receivers(&[receiver("hook", &[Alert::RolloutFailed])]);
    let mut notified = Notified::default();
    let mut ids = Vec::new();
    for second in [10, 15, 20, 1000, 90_000] {
        let services = [web(2, RevisionState::RolledBack)];
        let seen = Seen { machines: &[], services: &services, jobs: None };
        let (due, mut next) = step(&to, &notified, &conditions(&seen, at(second)), at(second));
        for one in &due {
            ids.push(one.message.id.clone());
            sent(&mut next, one, at(second));
        }
        notified = Notified::restore(&next.store());
    }
    assert_eq!(ids, ["rollout-failed.service.web.1800000000000"]);
    // A new receiver does not get the history.
    let services = [web(2, RevisionState::RolledBack)];
    let seen = Seen { machines: &[], services: &services, jobs: None };
    let late = at(3600);
    let (due, watched) = step(&to, &Notified::default(), &conditions(&seen, late), late);
    assert_eq!(due, []);
    // A rollout that fails now may have begun long ago.
    let mut slow = seen.services[0].clone();
    slow.history[0].number += 1;
    slow.history[0].since = at(1);
    slow.history[0].failed = None;
    let seen = Seen { services: std::slice::from_ref(&slow), ..seen };
    let (due, _) = step(&to, &watched, &conditions(&seen, late), late);
    assert_eq!(due.len(), 1, "{due:?}");
}

#[test]
fn each_receiver_gets_what_it_asked_for() {
    let machine = |state, disk| Machine {
        id: "i-1".parse().expect("an id"),
        address: "10.0.0.1".parse().expect("an address"),
        role: crate::model::machine::Role::Worker,
        state,
        leader: false,
        group: String::new(),
        metadata: BTreeMap::new(),
        features: crate::model::feature::Features::default(),
        pressure: Some(Pressure { disk, inodes: 1, memory_available: 50 }),
        host_files: BTreeMap::new(),
    };
    let to = receivers(&[receiver("one", &[Alert::MachineLost]), receiver("two", &[Alert::MachineShort])]);
    let machines = [machine(MachineState::Down, 97)];
    let seen = Seen { machines: &machines, services: &[], jobs: None };
    let first = step(&to, &Notified::default(), &conditions(&seen, at(0)), at(0));
    let texts = |due: &[Due]| -> Vec<(String, String)> {
        due.iter().map(|one| (one.receiver.secret.to_string(), one.message.condition.text.clone())).collect()
    };
    assert_eq!(texts(&first.0), [("two".to_owned(), "machine i-1 runs short: disk 97 % full".to_owned())]);
    let later = step(&to, &first.1, &conditions(&seen, at(30)), at(30));
    assert_eq!(later.0.len(), 2, "it was not marked as sent, and the other is due now");
    // A receiver that is removed hears nothing more.
    let mut marked = later.1.clone();
    later.0.iter().for_each(|due| sent(&mut marked, due, at(30)));
    let (due, next) = step(&receivers(&[]), &marked, &[], at(40));
    assert_eq!((due, next), (vec![], Notified::default()));
}

#[test]
fn a_message_is_written_in_the_form_of_its_receiver() {
    let condition = Condition {
        alert: Alert::ServiceNotWhole,
        subject: "service/web".into(),
        text: "1 of 2 instances of web are healthy <&>".into(),
        since: "2026-11-29T10:00:00Z".parse().expect("a time"),
    };
    let begun = message(&condition, false);
    let (_, sample) = crate::source::samples::of("notify").pop().expect("a sample");
    let sample: serde_json::Value = serde_json::from_str(&sample).expect("JSON");
    let known: Body = serde_json::from_value(sample["body"].clone()).expect("a body");
    let written: Body =
        serde_json::from_str(&body(Form::Json, "shop/production/main", &begun)).expect("JSON");
    assert_eq!(Body { text: known.text.clone(), ..written }, known);
    let passed = body(Form::Slack, "shop/production/main", &message(&condition, true));
    assert_eq!(
        passed,
        r#"{"text":"[shop/production/main] over: 1 of 2 instances of web are healthy &lt;&amp;&gt;"}"#
    );
}

#[test]
fn a_plan_names_who_is_notified_of_what() {
    let old = receivers(&[receiver("one", &[Alert::MachineLost])]);
    let new = receivers(&[receiver("two", &[Alert::MachineLost, Alert::JobFailed])]);
    assert_eq!(change("/x/notify", Some(&old), Some(&old.publish())), None);
    let found = change("/x/notify", Some(&new), Some(&old.publish())).expect("a change");
    let lines: Vec<_> = found.lines.iter().map(|line| (line.receiver.as_str(), line.added)).collect();
    assert_eq!(
        lines,
        [("url one (machine-lost; after 1m)", false), ("url two (machine-lost, job-failed; after 1m)", true)]
    );
    assert_eq!(change("/x/notify", None, Some("damaged")).expect("a change").after, None);
}

proptest! {
    /// However a service comes and goes, and whoever leads: what is over was reported before, and nothing is
    /// reported twice in between.
    #[test]
    fn messages_alternate_whoever_leads(
        healthy in prop::collection::vec(0_u32..3, 1..80),
        lost in prop::collection::vec(any::<bool>(), 80),
        leaders in prop::collection::vec(any::<bool>(), 80),
    ) {
        let observations: Vec<(i64, u32)> =
            healthy.iter().enumerate().map(|(nth, healthy)| (nth as i64 * 20, *healthy)).collect();
        let of = |all: &[bool], second: i64| all[usize::try_from(second / 20).expect("an index")];
        let told = run(&observations, |second| !of(&lost, second), |second| of(&leaders, second));
        let states: Vec<bool> = told.iter().map(|(_, passed)| *passed).collect();
        for (nth, passed) in states.iter().enumerate() {
            prop_assert_eq!(*passed, nth % 2 == 1, "{:?}", told);
        }
    }
}
