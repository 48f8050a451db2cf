//! Leaders that write to the bucket at the same time, with what they saw at different times,
//! through requests that are delayed, lost, or carried out without an answer.

use super::tests::{held, kept};
use super::*;
use crate::model::desired::{Rank, Stored};
use crate::model::service::RevisionState;
use crate::plan::dice::Dice;

/// How many histories are tried.
const SEEDS: u64 = 4000;

/// The engine's state: what a majority agreed on.
#[derive(Clone)]
struct Engine {
    generation: u64,
    index: u64,
    held: Option<Held>,
}

impl Engine {
    /// Something happens to the service.
    fn step(&mut self, dice: &mut Dice) {
        self.index += 1 + dice.below(3);
        let number = self.held.as_ref().map_or(0, |held| held.number);
        let revisions = match self.held.as_ref().map(|held| &held.state) {
            Some(HeldState::Settled(revisions)) => revisions.clone(),
            Some(HeldState::Moving | HeldState::Removed) | None => Vec::new(),
        };
        let replaced = |mut revisions: Vec<Kept>| {
            for one in &mut revisions {
                if one.state == RevisionState::Running {
                    one.state = RevisionState::Replaced;
                }
            }
            revisions
        };
        let (number, state) = match dice.below(6) {
            0 => (number + 1, HeldState::Moving),
            1 if number > 0 => (number + 1, HeldState::Removed),
            2 => {
                let mut revisions = revisions;
                revisions.push(kept(number + 1, RevisionState::RolledBack));
                (number + 1, HeldState::Settled(revisions))
            }
            // The same revision gets another outcome: a first rollout that failed became whole.
            3 if !revisions.is_empty() => {
                let mut revisions = revisions;
                if let Some(last) = revisions.last_mut() {
                    last.state = RevisionState::Running;
                    last.ran = true;
                }
                (number, HeldState::Settled(revisions))
            }
            _ => {
                let mut revisions = replaced(revisions);
                revisions.push(kept(number + 1, RevisionState::Running));
                (number + 1, HeldState::Settled(revisions))
            }
        };
        self.held = Some(held(number, self.index, state));
    }
}

/// The bucket, with a tag for every writing.
#[derive(Default)]
struct Object {
    stored: Bucket,
    writings: u64,
    highest: Option<Rank>,
}

impl Object {
    /// Carries a request out as S3 does.
    fn put(&mut self, write: &Write, seed: u64) {
        let there = self.stored.get(&write.document.service).map(|stored| stored.tag.clone());
        if there != write.replaces {
            return;
        }
        let rank = write.document.rank();
        assert!(self.highest.is_none_or(|highest| highest <= rank), "seed {seed}: an older document won");
        self.highest = Some(rank);
        self.writings += 1;
        let bytes = write.document.to_bytes();
        let document = Document::read(&write.document.service, &bytes);
        let stored = Stored { tag: self.writings.to_string(), document };
        self.stored.insert(write.document.service.clone(), stored);
    }
}

/// One that leads, or believes that it does.
struct Leader {
    seen: Engine,
    bucket: Bucket,
    under_way: Vec<Write>,
}

#[test]
fn the_newest_document_wins_whoever_writes_and_whatever_is_lost() {
    for seed in 1..=SEEDS {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut engine = Engine { generation: 1, index: 0, held: None };
        let mut object = Object::default();
        let mut leaders: Vec<Leader> = (0..3)
            .map(|_| Leader { seen: engine.clone(), bucket: Bucket::new(), under_way: Vec::new() })
            .collect();
        for _ in 0..60 {
            let which = usize::try_from(dice.below(3)).expect("it is small");
            match dice.below(8) {
                0 | 1 => engine.step(&mut dice),
                // A leader looks at the engine; one that was cut off keeps what it saw before.
                2 => leaders[which].seen = engine.clone(),
                3 => leaders[which].bucket = object.stored.clone(),
                4 => {
                    let leader = &mut leaders[which];
                    let held: Vec<Held> = leader.seen.held.iter().cloned().collect();
                    leader.under_way.extend(keep(leader.seen.generation, &held, &leader.bucket).writes);
                }
                5 if !leaders[which].under_way.is_empty() => {
                    // It arrives, in any order, and the leader may never hear of it.
                    let count = leaders[which].under_way.len() as u64;
                    let at = usize::try_from(dice.below(count)).expect("it is small");
                    let write = leaders[which].under_way[at].clone();
                    object.put(&write, seed);
                    // Now and then it is sent again.
                    if dice.below(3) > 0 {
                        leaders[which].under_way.remove(at);
                    }
                }
                6 if !leaders[which].under_way.is_empty() => {
                    leaders[which].under_way.pop();
                }
                7 if dice.below(6) == 0 => {
                    // A majority is lost: what was agreed on last is lost with it, and a new generation begins.
                    engine.generation += 1;
                    engine.index = dice.below(engine.index + 1);
                }
                _ => {}
            }
        }
        // In the end one leader sees everything, and nothing is under way any more.
        for leader in &leaders {
            for write in &leader.under_way {
                object.put(write, seed);
            }
        }
        if engine.held.as_ref().is_none_or(|held| held.state == HeldState::Moving) {
            engine.index += 1;
            engine.held = Some(held(
                engine.held.as_ref().map_or(1, |held| held.number),
                engine.index,
                HeldState::Settled(vec![kept(1, RevisionState::Running)]),
            ));
        }
        let now: Vec<Held> = engine.held.iter().cloned().collect();
        for write in keep(engine.generation, &now, &object.stored).writes {
            object.put(&write, seed);
        }
        let wanted = document(engine.generation, &now[0]).expect("it is settled");
        let there = object.stored.get(&now[0].service).expect("it is written");
        let there = there.document.as_ref().expect("it can be read");
        assert!(there.says_the_same(&wanted), "seed {seed}: {there:?} and not {wanted:?}");
        let left = keep(engine.generation, &now, &object.stored);
        assert_eq!(left.writes, [], "seed {seed}: it settles");
        // A cluster that begins with nothing gets exactly that.
        assert_eq!(restore(&[], &object.stored).restore, std::slice::from_ref(there), "seed {seed}");
        assert_eq!(restore(&now, &object.stored).restore, [], "seed {seed}");
    }
}
