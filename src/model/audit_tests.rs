use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
}

fn begun(id: &str, seconds: i64) -> Begun {
    Begun {
        version: AUDIT_VERSION,
        id: id.into(),
        at: at(seconds),
        by: "arn:aws:sts::123456789012:assumed-role/deploy/Ada".into(),
        level: Some(Level::Deployer),
        from: Some("10.0.0.9".parse().expect("an address")),
        operation: "deploy".into(),
        target: "service/web".into(),
        details: BTreeMap::new(),
        recorded_by: "i-1".into(),
    }
}

fn ended(id: &str, seconds: i64, outcome: Outcome) -> AuditEvent {
    AuditEvent::Ended(Ended {
        version: AUDIT_VERSION,
        id: id.into(),
        at: at(seconds),
        outcome,
        reason: None,
        details: BTreeMap::new(),
    })
}

#[test]
fn a_change_without_an_end_is_unknown_and_an_end_without_a_change_is_dropped() {
    let changes = merge([
        ended("b", 9, Outcome::Done),
        ended("gone", 2, Outcome::Done),
        AuditEvent::Begun(begun("b", 8)),
        AuditEvent::Begun(begun("a", 1)),
    ]);
    let seen: Vec<_> = changes.iter().map(|change| (change.begun.id.as_str(), change.outcome())).collect();
    assert_eq!(seen, [("a", "unknown"), ("b", "done")]);
}

#[test]
fn waiting_ends_with_what_came_of_it() {
    let events = [
        AuditEvent::Begun(begun("a", 1)),
        ended("a", 2, Outcome::Waiting),
        ended("a", 5, Outcome::Done),
        // The answer of another machine, whose clock is ahead.
        ended("a", 7, Outcome::Waiting),
    ];
    assert_eq!(merge(events)[0].outcome(), "done");
}

#[test]
fn filters_take_what_they_say() {
    let change =
        &merge([AuditEvent::Begun(Begun { target: "machine/i-1,machine/i-2".into(), ..begun("a", 60) })])[0];
    let takes = |filter: Filter| filter.takes(change);
    assert!(takes(Filter::default()));
    assert!(takes(Filter { since: Some(at(60)), ..Filter::default() }));
    assert!(!takes(Filter { since: Some(at(61)), ..Filter::default() }));
    assert!(takes(Filter { by: Some("ada".into()), ..Filter::default() }));
    assert!(!takes(Filter { by: Some("bob".into()), ..Filter::default() }));
    for target in ["i-2", "machine/i-1"] {
        assert!(takes(Filter { target: Some(target.into()), ..Filter::default() }), "{target}");
    }
    for target in ["i-", "service/i-1", "machine", ""] {
        assert!(!takes(Filter { target: Some(target.into()), ..Filter::default() }), "{target}");
    }
}

#[test]
fn texts_are_bounded_and_of_one_line() {
    assert_eq!(bounded("a\nb\u{1b}[31m"), "a b [31m");
    let long = bounded(&"ä".repeat(1000));
    assert_eq!((long.chars().count(), long.ends_with('…')), (300, true));
}

/// Lines that version 1 wrote; they must be readable for ever.
const SAMPLE_1: &str = r#"{"begun":{"version":1,"id":"i-1-ab-7","at":"2026-11-28T12:00:00Z","by":"arn:aws:iam::123456789012:user/ada","level":"deployer","from":"10.0.0.9","operation":"deploy","target":"service/web","details":{"digest":"sha256:0"},"recorded_by":"i-1"}}
{"ended":{"version":1,"id":"i-1-ab-7","at":"2026-11-28T12:00:01Z","outcome":"done","details":{"revision":"3"}}}
{"begun":{"version":1,"id":"i-1-ab-8","at":"2026-11-28T12:01:00Z","by":"machine/i-9","operation":"reboot","target":"machine/i-9","recorded_by":"i-1"}}
"#;

#[test]
fn a_batch_of_version_1_is_read() {
    let (events, unread) = read_batch(SAMPLE_1.as_bytes());
    assert_eq!((events.len(), unread), (3, 0));
    let changes = merge(events.clone());
    assert_eq!(changes[0].outcome(), "done");
    assert_eq!(changes[0].begun.details["digest"], "sha256:0");
    assert_eq!((changes[1].outcome(), changes[1].begun.level), ("unknown", None));
    let folder = folder("shop", "production", "main");
    let written = batch(&folder, "i-1-ab", 7, 9, &events).expect("a batch");
    assert_eq!(written.bytes, SAMPLE_1.as_bytes());
    assert_eq!(written.key, "audit/shop/production/main/2026-11-28/20261128T120000000Z-i-1-ab-7-9.ndjson");
    assert_eq!(batch(&folder, "i-1-ab", 7, 9, &[]), None);
}

#[test]
fn lines_that_are_not_understood_are_counted() {
    let (events, unread) = read_batch(b"{\"begun\":{}}\n\nnot json\n{\"later\":{\"version\":9}}\n");
    assert_eq!((events.len(), unread), (0, 3));
}

#[test]
fn batches_of_the_day_before_are_read_as_well() {
    let folder = folder("shop", "production", "main");
    let key = |day: &str| format!("{folder}{day}/x.ndjson");
    let since = Some("2026-11-28T00:00:01Z".parse().expect("a time"));
    assert!(may_hold(&folder, &key("2026-11-29"), since));
    assert!(may_hold(&folder, &key("2026-11-27"), since));
    assert!(!may_hold(&folder, &key("2026-11-26"), since));
    assert!(may_hold(&folder, &key("2020-01-01"), None));
    assert!(may_hold(&folder, &key("2020-01-01"), Some(DateTime::<Utc>::MIN_UTC)), "there is no day before");
    assert!(!may_hold(&folder, "audit/shop/production-eu/main/2026-11-28/x", since));
}

#[test]
fn only_what_is_over_the_bound_goes() {
    assert_eq!((surplus(3, 10), surplus(10, 10), surplus(12, 10)), (0, 0, 2));
    assert!(Class::ALL.iter().all(|class| class.bound() >= 1_000));
}

#[test]
fn what_comes_from_outside_is_bounded_before_it_is_stored() {
    let draft = Draft {
        at: at(0),
        by: "x".repeat(1000),
        level: None,
        from: None,
        operation: "deploy".into(),
        target: "service/web\n".into(),
        details: BTreeMap::from([("commit".to_owned(), "y".repeat(1000))]),
        class: Class::Person,
    };
    let begun = draft.begun("1".into(), "i-1".into());
    assert_eq!((begun.by.chars().count(), begun.details["commit"].chars().count()), (300, 300));
    assert_eq!(begun.target, "service/web ");
}

fn event() -> impl Strategy<Value = AuditEvent> {
    let outcome = prop_oneof![
        Just(Outcome::Waiting),
        Just(Outcome::Done),
        Just(Outcome::Failed),
        Just(Outcome::Refused)
    ];
    let id = "[a-d]";
    prop_oneof![
        (id, 0..5_i64).prop_map(|(id, seconds)| AuditEvent::Begun(begun(&id, seconds))),
        (id, 0..5_i64, outcome).prop_map(|(id, seconds, outcome)| ended(&id, seconds, outcome)),
    ]
}

proptest! {
    #[test]
    fn merging_depends_on_neither_order_nor_repetition(
        events in proptest::collection::vec(event(), 0..20),
        again in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
        seed in any::<u64>(),
    ) {
        let merged = merge(events.clone());
        let mut other = events.clone();
        if !events.is_empty() {
            other.extend(again.iter().map(|index| index.get(&events).clone()));
        }
        let count = other.len().max(1);
        other.rotate_left((seed % count as u64) as usize);
        other.reverse();
        prop_assert_eq!(merge(other), merged.clone());
        let mut ids: Vec<&str> = merged.iter().map(|change| change.begun.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), merged.len(), "no change is there twice");
        prop_assert!(merged.windows(2).all(|pair| pair[0].begun.at <= pair[1].begun.at));
    }

    #[test]
    fn what_is_batched_is_read_again(events in proptest::collection::vec(event(), 1..10)) {
        let batch = batch("audit/a/b/c/", "log", 1, 9, &events).expect("a batch");
        prop_assert_eq!(read_batch(&batch.bytes), (events, 0));
    }
}
