use chrono::DateTime;
use serde_json::json;

use super::*;
use crate::model::desired::Stored;
use crate::model::service::RevisionState;

pub(super) fn kept(number: u64, state: RevisionState) -> Kept {
    Kept {
        number,
        state,
        ran: matches!(state, RevisionState::Running | RevisionState::Replaced),
        reason: None,
        since: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
        format: 1,
        deployment: json!({"spec": {"image": "team/web"}, "digest": format!("sha256:{number}"), "later": [number]}),
    }
}

pub(super) fn held(number: u64, index: u64, state: HeldState) -> Held {
    Held { service: "web".parse().expect("a name"), number, index, state }
}

fn settled(number: u64, index: u64) -> Held {
    held(number, index, HeldState::Settled(vec![kept(number, RevisionState::Running)]))
}

fn bucket(generation: u64, held: &Held) -> Bucket {
    let document = document(generation, held).expect("it is settled");
    Bucket::from([(held.service.clone(), Stored { tag: "t".into(), document: Ok(document) })])
}

#[test]
fn a_settled_revision_is_written_once() {
    let now = settled(3, 10);
    let first = keep(1, std::slice::from_ref(&now), &Bucket::new());
    assert_eq!((first.writes.len(), first.writes[0].replaces.clone()), (1, None));
    assert_eq!(keep(1, std::slice::from_ref(&now), &bucket(1, &now)), Keeping::default());
    let later = settled(3, 12);
    assert_eq!(keep(1, &[later], &bucket(1, &now)), Keeping::default(), "nothing new to say");
}

#[test]
fn a_rollout_under_way_is_not_written() {
    assert_eq!(keep(1, &[held(3, 10, HeldState::Moving)], &Bucket::new()), Keeping::default());
}

#[test]
fn an_older_leader_does_not_overwrite_a_newer_one() {
    let stale = keep(1, &[settled(2, 8)], &bucket(1, &settled(3, 10)));
    assert_eq!((stale.writes.len(), stale.newer.len()), (0, 1));
    let same_number = keep(1, &[held(3, 8, HeldState::Settled(vec![]))], &bucket(1, &settled(3, 10)));
    assert_eq!(same_number.writes, []);
    let another_cluster = keep(1, &[settled(9, 90)], &bucket(2, &settled(3, 10)));
    assert_eq!(another_cluster.writes, [], "a cluster that was replaced has nothing to say");
    assert_eq!(keep(3, &[settled(2, 1)], &bucket(2, &settled(3, 10))).writes.len(), 1, "a recovered one has");
}

#[test]
fn a_document_of_a_later_version_is_left_alone() {
    let now = settled(3, 10);
    let mut there = bucket(1, &now);
    there.values_mut().for_each(|stored| stored.document = Err("it has version 2".into()));
    let keeping = keep(1, &[now], &there);
    assert_eq!((keeping.writes.len(), keeping.unreadable.len()), (0, 1));
    assert_eq!(restore(&[], &there).unreadable.len(), 1);
}

#[test]
fn a_removal_is_recorded_and_stays() {
    let gone = held(4, 20, HeldState::Removed);
    let keeping = keep(1, std::slice::from_ref(&gone), &bucket(1, &settled(3, 10)));
    assert!(keeping.writes[0].document.removed);
    let there = bucket(1, &gone);
    assert_eq!(keep(1, &[settled(3, 10)], &there).writes, [], "one who has not heard of it");
    let restored = restore(&[], &there).restore;
    assert_eq!(restored.len(), 1, "its number is restored");
    assert_eq!(restored[0].to_restore(), None);
}

#[test]
fn the_last_good_revision_is_restored() {
    use RevisionState::{Failed, Replaced, RolledBack, Running};
    let chosen = |revisions: Vec<Kept>| {
        let now = held(9, 1, HeldState::Settled(revisions));
        document(1, &now).and_then(|document| document.to_restore().map(|one| one.number))
    };
    assert_eq!(chosen(vec![kept(1, Replaced), kept(2, Running)]), Some(2));
    assert_eq!(chosen(vec![kept(1, Replaced), kept(2, Running), kept(3, RolledBack)]), Some(2));
    assert_eq!(chosen(vec![kept(1, Replaced), kept(2, Failed)]), Some(1));
    assert_eq!(chosen(vec![kept(1, Failed)]), Some(1), "better than nothing");
    let mut long = vec![kept(1, Running)];
    long.extend((2..40).map(|number| kept(number, RolledBack)));
    assert_eq!(chosen(long.clone()), Some(1), "however many failed since");
    let document = document(1, &held(39, 1, HeldState::Settled(long))).expect("settled");
    assert!(document.revisions.len() <= KEPT + 2, "the history is bounded: {}", document.revisions.len());
}

#[test]
fn only_what_is_lacking_is_restored() {
    let there = bucket(1, &settled(3, 10));
    assert_eq!(restore(&[settled(3, 99)], &there).restore, []);
    assert_eq!(restore(&[held(4, 99, HeldState::Moving)], &there).restore, []);
    assert_eq!(restore(&[settled(2, 99)], &there).restore.len(), 1);
    assert_eq!(restore(&[], &there).restore.len(), 1);
}

#[test]
fn what_a_later_version_wrote_is_carried() {
    let now = settled(3, 10);
    let document = document(1, &now).expect("settled");
    let read = Document::read(&now.service, &document.to_bytes()).expect("it can be read");
    assert_eq!(read, document);
    assert_eq!(read.revisions[0].deployment["later"], json!([3]));
}

#[test]
fn every_recorded_document_loads() {
    for (name, text) in crate::source::samples::of("desired") {
        let document = Document::read(&"web".parse().expect("a name"), text.as_bytes());
        let document = document.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!(document.to_restore().map(|one| one.number), Some(2), "{name}");
        assert_eq!(document.number, 3, "{name}");
    }
}
