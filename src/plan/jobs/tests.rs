use super::*;
use crate::model::schedule::Schedule;

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-11-29T{text}Z").parse().expect("a time")
}

fn job(cron: &str) -> Job {
    let schedule = Schedule { cron: cron.to_owned(), timezone: "UTC".to_owned() };
    Job {
        name: "report".parse().expect("a name"),
        times: Some(schedule.times().expect("a schedule")),
        from: at("00:00:00"),
        recorded: at("00:00:00"),
        catch_up: None,
    }
}

fn claimed(time: &str, overlap: Overlap, attempts: Vec<Attempt>) -> Claimed {
    Claimed {
        id: OccurrenceId::due(&job("* * * * *").name, at(time)),
        at: at(time),
        rules: Some(Rules { overlap, timeout: Some(Duration::from_secs(60)), retries: 1 }),
        problem: None,
        wanted: true,
        outdated: false,
        attempts,
        outcome: None,
    }
}

fn held(number: u32, since: &str, service: Option<Task>, end: Option<End>) -> Attempt {
    let permit = Permit::Held { since: at(since), stop: None, lost: None, end };
    Attempt { number, since: at(since), permit, service }
}

fn ended(time: &str, status: i64) -> Option<End> {
    Some(End { at: at(time), exit: Exit::Status(Some(status)) })
}

#[test]
fn what_is_due_is_claimed_once_and_what_is_late_is_recorded_as_missed() {
    let claims = |now: &str, catch_up: Option<u64>, known: &[Claimed]| {
        let job = Job { catch_up: catch_up.map(Duration::from_secs), ..job("*/10 * * * *") };
        let found: Vec<String> = decide(at(now), &[job], known)
            .into_iter()
            .filter_map(|action| match action {
                Action::Claim { at, missed, .. } => {
                    Some(format!("{}{}", at.format("%H:%M"), if missed { " missed" } else { "" }))
                }
                _ => None,
            })
            .collect();
        found.join(", ")
    };
    assert_eq!(claims("00:09:59", None, &[]), "");
    assert_eq!(claims("00:10:00", None, &[]), "00:10");
    assert_eq!(claims("00:10:02", None, &[claimed("00:10:00", Overlap::Skip, vec![])]), "");
    assert_eq!(claims("00:11:31", None, &[]), "00:10 missed");
    assert_eq!(claims("00:31:00", None, &[]), "00:10 missed, 00:20 missed, 00:30");
    assert_eq!(claims("00:31:00", Some(900), &[]), "00:10 missed, 00:20, 00:30");
    // Of a long outage only the newest are recorded.
    assert_eq!(claims("23:05:00", None, &[]).split(", ").count(), MISSED);
}

#[test]
fn an_overlap_is_settled_as_the_file_says() {
    let running = || vec![held(1, "00:10:01", Some(Task::Running), None)];
    let decided = |overlap, now: &str| {
        let both = [claimed("00:10:00", overlap, running()), claimed("00:11:00", overlap, vec![])];
        decide(at(now), &[Job { times: None, ..job("* * * * *") }], &both)
    };
    let [Action::Void { why: Void::Withdrawn(Outcome::Skipped, _), attempt: 1, .. }] =
        decided(Overlap::Skip, "00:11:00").as_slice().to_vec()[..]
    else {
        panic!("{:?}", decided(Overlap::Skip, "00:11:00"))
    };
    assert_eq!(decided(Overlap::Queue, "00:11:00"), []);
    let replaced = decided(Overlap::Replace, "00:11:00");
    assert!(matches!(replaced[..], [Action::Stop { why: Stop::Replaced, .. }]), "{replaced:?}");
    let late = decided(Overlap::Queue, "00:11:02");
    assert!(matches!(late[..], [Action::Stop { why: Stop::TimedOut, .. }]), "{late:?}");
}

#[test]
fn a_failure_is_tried_again_after_a_while_and_a_lost_machine_is_not() {
    let decided = |attempts: Vec<Attempt>, now: &str| {
        decide(
            at(now),
            &[Job { times: None, ..job("* * * * *") }],
            &[claimed("00:10:00", Overlap::Skip, attempts)],
        )
    };
    let failed = |number, time: &str| held(number, time, None, ended(time, 1));
    assert_eq!(decided(vec![failed(1, "00:10:05")], "00:10:10"), []);
    let again = decided(vec![failed(1, "00:10:05")], "00:10:15");
    assert!(matches!(again[..], [Action::Start { attempt: 2, .. }]), "{again:?}");
    let over = decided(vec![failed(1, "00:10:05"), failed(2, "00:10:20")], "00:10:20");
    assert!(matches!(over[..], [Action::Settle { outcome: Outcome::Failed, .. }]), "{over:?}");
    let lost = |lost: Option<&str>, now: &str| {
        let mut one = held(1, "00:10:01", Some(Task::Lost), None);
        if let Permit::Held { lost: noted, .. } = &mut one.permit {
            *noted = lost.map(at);
        }
        decided(vec![one], now)
    };
    assert!(matches!(lost(None, "00:10:30")[..], [Action::Lost { lost: true, .. }]));
    assert_eq!(lost(Some("00:10:30"), "00:11:00"), []);
    assert!(matches!(
        lost(Some("00:10:30"), "00:11:30")[..],
        [Action::End { end: End { exit: Exit::Unknown, .. }, .. }]
    ));
    let unknown = End { at: at("00:11:30"), exit: Exit::Unknown };
    let unknown = decided(vec![held(1, "00:10:01", None, Some(unknown))], "00:11:31");
    assert!(matches!(unknown[..], [Action::Settle { outcome: Outcome::Unknown, .. }]), "{unknown:?}");
}

#[test]
fn only_the_next_attempt_of_an_open_occurrence_is_permitted() {
    use super::permit::{Refusal, after, before};
    let fresh = claimed("00:10:00", Overlap::Skip, vec![]);
    assert_eq!(before(Some(&fresh), 1, None), Ok(()));
    assert_eq!(before(Some(&fresh), 2, None), Err(Refusal::NotNext));
    assert_eq!(before(None, 1, None), Err(Refusal::Over));
    assert_eq!(before(Some(&fresh), 1, Some(at("00:10:00"))), Err(Refusal::Over), "it was forgotten");
    let failed = claimed("00:10:00", Overlap::Skip, vec![held(1, "00:10:05", None, ended("00:10:06", 1))]);
    assert_eq!(before(Some(&failed), 2, None), Ok(()));
    assert_eq!(before(Some(&failed), 1, None), Err(Refusal::Taken));
    let runs = held(1, "00:10:05", None, None).permit;
    assert_eq!(after(Some(&fresh), None, [&runs].into_iter()), Err(Refusal::Another));
    let over = held(1, "00:10:05", None, ended("00:10:06", 0)).permit;
    assert_eq!(after(Some(&fresh), None, [&over].into_iter()), Ok(()));
}

#[test]
fn a_revision_s_command_is_never_stopped_for_a_newer_one_which_waits_for_it() {
    let rules = Rules { overlap: Overlap::Queue, timeout: Some(Duration::from_secs(300)), retries: 0 };
    let one = |revision: u64, time: &str, wanted, attempts| Claimed {
        id: OccurrenceId::before("web", revision),
        at: at(time),
        rules: Some(rules),
        problem: None,
        wanted,
        outdated: false,
        attempts,
        outcome: None,
    };
    let runs = one(2, "00:00:00", false, vec![held(1, "00:00:01", Some(Task::Running), None)]);
    let newer = one(3, "00:00:30", true, vec![]);
    assert_eq!(decide(at("00:01:00"), &[], &[runs.clone(), newer.clone()]), []);
    let late = decide(at("00:05:01"), &[], &[runs.clone(), newer.clone()]);
    assert!(matches!(late[..], [Action::Stop { why: Stop::TimedOut, .. }]), "{late:?}");
    let id = newer.id.clone();
    assert_eq!(decide(at("00:01:00"), &[], std::slice::from_ref(&newer)), [Action::Start { id, attempt: 1 }]);
    // One that has not begun gives way at once, and gets no permit any more.
    let waits = one(2, "00:00:00", false, vec![]);
    let withdrawn = decide(at("00:01:00"), &[], std::slice::from_ref(&waits));
    assert!(
        matches!(&withdrawn[..], [Action::Void { why: Void::Withdrawn(Outcome::Replaced, _), .. }]),
        "{withdrawn:?}"
    );
    assert_eq!(permit::before(Some(&waits), 1, None), Err(permit::Refusal::Over));
    assert_eq!(permit::before(Some(&newer), 1, None), Ok(()));
    let rival = Permit::Held { since: at("00:00:01"), stop: None, lost: None, end: None };
    assert_eq!(permit::after(Some(&newer), None, [&rival].into_iter()), Err(permit::Refusal::Another));
}

#[test]
fn what_may_have_run_in_a_lost_part_of_the_cluster_does_not_begin_again() {
    let now = at("00:31:00");
    let hourly = Job { catch_up: Some(Duration::from_secs(3600)), ..job("*/30 * * * *") };
    let open = claimed("00:30:00", Overlap::Skip, vec![]);
    let waits = Attempt { permit: Permit::Free, ..held(1, "00:30:01", Some(Task::Running), None) };
    let waits = claimed("00:20:00", Overlap::Skip, vec![waits]);
    let runs = claimed("00:10:00", Overlap::Skip, vec![held(1, "00:10:01", Some(Task::Running), None)]);
    let mut over = claimed("00:05:00", Overlap::Skip, vec![]);
    over.outcome = Some((Outcome::Skipped, at("00:05:01")));
    let jobs = [hourly];
    // What was claimed elsewhere and is not known here would be started, being due.
    let due = decide(now, &jobs, &[]);
    assert!(due.iter().any(|action| matches!(action, Action::Claim { missed: false, .. })), "{due:?}");
    let actions = begin_again(now, &jobs, &[open.clone(), waits.clone(), runs, over]);
    let unknown: Vec<&OccurrenceId> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Settle { id, outcome: Outcome::Unknown, .. } => Some(id),
            _ => None,
        })
        .collect();
    assert_eq!(unknown, [&open.id, &waits.id]);
    let [.., Action::Record { until, .. }] = &actions[..] else { panic!("{actions:?}") };
    let recorded = [Job { recorded: *until, ..jobs[0].clone() }];
    assert_eq!(decide(now, &recorded, &[]), []);
    assert_eq!(decide(at("00:59:59"), &recorded, &[]), []);
    let next = decide(at("01:00:01"), &recorded, &[]);
    assert!(matches!(next[..], [Action::Claim { missed: false, .. }]), "{next:?}");
    // A helper that asks for its permit in between does not get it.
    assert_eq!(permit::before(Some(&waits), 1, Some(*until)), Err(permit::Refusal::Over));
}

#[test]
fn the_container_of_an_occurrence_is_kept_for_its_log_while_the_job_is_there_and_its_secrets_are_current() {
    let now = at("00:20:00");
    let over = Task::Ended { at: at("00:10:02"), exit: Some(0), reason: None };
    let ended = held(1, "00:10:01", Some(over), ended("00:10:02", 0));
    let mut one = claimed("00:10:00", Overlap::Skip, vec![ended]);
    one.outcome = Some((Outcome::Succeeded, at("00:10:03")));
    let removed = |jobs: &[Job], one: &Claimed| {
        let actions = decide(now, jobs, std::slice::from_ref(one));
        actions.iter().any(|action| matches!(action, Action::Remove { .. }))
    };
    let jobs = [job("0 * * * *")];
    assert!(!removed(&jobs, &one));
    assert!(removed(&[], &one), "its job was removed");
    assert!(removed(&jobs, &Claimed { outdated: true, ..one }), "a secret has a newer value");
}
