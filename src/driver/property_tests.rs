//! What holds for every set of stacks.

use proptest::prelude::*;

use super::tests::{Stage, stack, wanted};
use crate::event::stack::Outcome;

/// Stacks of which each may use outputs of those before it, and the sizes that they get in turn.
fn stacks() -> impl Strategy<Value = Vec<(Vec<bool>, u32, u32)>> {
    proptest::collection::vec((proptest::collection::vec(any::<bool>(), 6), 1..3u32, 1..3u32), 1..7)
}

fn names(stacks: &[(Vec<bool>, u32, u32)]) -> Vec<String> {
    (0..stacks.len()).map(|number| format!("s{number}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// After apply the plan is empty, from nothing and from any state before.
    #[test]
    fn after_apply_the_plan_is_empty(stacks in stacks()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        let names = names(&stacks);
        let make = |second: bool| {
            let own = stacks.iter().enumerate().map(|(number, (uses, first_size, second_size))| {
                let uses: Vec<&str> =
                    (0..number).filter(|other| uses[*other]).map(|other| names[other].as_str()).collect();
                stack(&names[number], &uses, if second { *second_size } else { *first_size })
            });
            wanted(own.collect())
        };
        runtime.block_on(async {
            let stage = Stage::new(std::sync::Arc::default());
            for second in [false, true] {
                let wanted = make(second);
                prop_assert!(stage.apply(&wanted).await.is_complete());
                let (plan, _) = stage.plan(&wanted).await;
                prop_assert!(!plan.has_changes(), "{:?}", plan);
                let again = stage.apply(&wanted).await;
                prop_assert!(again.stacks.iter().all(|(_, outcome)| *outcome == Outcome::Unchanged));
            }
            Ok(())
        })?;
    }
}
