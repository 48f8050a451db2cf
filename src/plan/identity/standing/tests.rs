//! Standing over time, with an AWS that answers, fails and changes its mind.

use proptest::prelude::*;

use super::super::tests::group;
use super::*;
use crate::model::group::Lifecycle;

#[derive(Debug, Clone, Copy)]
enum Happens {
    /// This many seconds pass.
    Pass(u64),
    /// AWS begins or ceases to answer.
    Answers(bool),
    /// The instance is terminated.
    Ends,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1..400_u64).prop_map(Happens::Pass),
        2 => any::<bool>().prop_map(Happens::Answers),
        1 => Just(Happens::Ends),
    ]
}

fn list(there: bool) -> Vec<Group> {
    let workers: &[(&str, Lifecycle)] = if there { &[("i-2", Lifecycle::InService)] } else { &[] };
    vec![group("control", "control", &[("i-1", Lifecycle::InService)]), group("workers", "worker", workers)]
}

proptest! {
    /// One that lives keeps its standing while AWS answers, and through every outage that is
    /// shorter than the bound. One that ended loses it within ten seconds of AWS answering, and
    /// never keeps it longer than the bound.
    #[test]
    fn standing_follows_the_group(
        events in proptest::collection::vec(happens(), 1..60),
        step in 1..5_u64,
    ) {
        let instance: MachineId = "i-2".parse().expect("an id");
        let (mut now, mut answers, mut there) = (1000_u64, true, true);
        let mut known: Option<(Vec<Group>, u64)> = Some((list(true), now));
        let (mut ended_at, mut answered_at) = (None, now);
        for event in events {
            let until = match event {
                Happens::Pass(seconds) => now + seconds,
                Happens::Answers(yes) => { answers = yes; now + 1 }
                Happens::Ends => { there = false; ended_at.get_or_insert(now); now + 1 }
            };
            while now < until {
                now += step;
                let mut failed = false;
                let result = loop {
                    let age = known.as_ref().map(|(groups, at)| (groups.as_slice(), now - at));
                    match standing(&Seen { list: age, failed }, &instance) {
                        Standing::Read if answers => known = Some((list(there), now)),
                        Standing::Read => {
                            prop_assert!(!failed, "asked again after a failure");
                            failed = true;
                        }
                        other => break other,
                    }
                };
                if answers {
                    answered_at = now;
                }
                match ended_at {
                    None if now - answered_at + FRESH_S <= STALE_S => {
                        prop_assert!(matches!(result, Standing::Member(_)), "{now}: {result:?}");
                    }
                    None => prop_assert!(!matches!(result, Standing::Not(_)), "{now}: {result:?}"),
                    Some(at) => {
                        let limit = if answers { FRESH_S } else { STALE_S };
                        if now - at > limit {
                            prop_assert!(!matches!(result, Standing::Member(_)), "{now}: {result:?}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_machine_that_just_began_is_looked_for_again() {
    let instance: MachineId = "i-2".parse().expect("an id");
    let old = list(false);
    let at = |age| standing(&Seen { list: Some((&old, age)), failed: false }, &instance);
    assert!(matches!(at(FRESH_ABSENT_S), Standing::Not(_)));
    assert_eq!(at(FRESH_ABSENT_S + 1), Standing::Read);
    let failed = standing(&Seen { list: Some((&old, FRESH_ABSENT_S + 1)), failed: true }, &instance);
    assert_eq!(failed, Standing::Unknown, "nobody is turned away on an old list");
    assert_eq!(standing(&Seen { list: None, failed: false }, &instance), Standing::Read);
    assert_eq!(standing(&Seen { list: None, failed: true }, &instance), Standing::Unknown);
}
