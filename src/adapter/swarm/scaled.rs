//! Numbers of instances that were set manually, and services that are stopped.
//!
//! Both are labels of the service and make no revision, since nothing about the instances changes.
//! Deployments keep them until the number in the service's file changes.

use std::collections::HashMap;

use bollard::models::{Service, ServiceSpec};
use serde_json::Value;

use super::observe;
use super::spec::{NODE, YES};
use crate::model::service::{Scale, ScaleTo};

/// The label with the file's number at the time when another one was set: a number, or [`EVERY`].
const FROM: &str = "fleetwright.scaled-from";
/// The label of a stopped service with the number to start it with: a number, or [`EVERY`].
const STOPPED: &str = "fleetwright.stopped-at";
/// The word for one instance on every machine.
const EVERY: &str = "every-machine";

/// The constraint that stops a service of every machine. No node ever has this label.
fn nowhere() -> String {
    format!("node.labels.{NODE}stopped == {YES}")
}

/// A number that was set manually.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manual {
    /// The file's number at the time.
    pub from: Scale,
    /// The number to start a stopped service with.
    pub stopped_at: Option<Scale>,
}

fn word(scale: Scale) -> String {
    match scale {
        Scale::Replicas(count) => count.to_string(),
        Scale::EveryMachine => EVERY.to_owned(),
    }
}

fn read_word(word: &str) -> Option<Scale> {
    if word == EVERY { Some(Scale::EveryMachine) } else { word.parse().ok().map(Scale::Replicas) }
}

/// The number that was set manually, if there is one.
pub fn of(service: &Service) -> Option<Manual> {
    manual(service.spec.as_ref()?.labels.as_ref()?)
}

fn manual(labels: &HashMap<String, String>) -> Option<Manual> {
    let from = labels.get(FROM).and_then(|word| read_word(word))?;
    Some(Manual { from, stopped_at: labels.get(STOPPED).and_then(|word| read_word(word)) })
}

/// The current number of instances; a stopped service has none.
pub fn live(service: &Service) -> Scale {
    observe::replicas(service).map_or(Scale::EveryMachine, Scale::Replicas)
}

/// The number in the service's file.
pub fn of_file(service: &Service) -> Scale {
    of(service).map_or_else(|| live(service), |held| held.from)
}

/// Carries it over to the specification of another revision.
pub fn keep(spec: &mut ServiceSpec, held: Manual) {
    let labels = spec.labels.get_or_insert_default();
    labels.insert(FROM.to_owned(), word(held.from));
    let Some(stopped_at) = held.stopped_at else { return };
    labels.insert(STOPPED.to_owned(), word(stopped_at));
    if held.from == Scale::EveryMachine
        && let Some(task) = &mut spec.task_template
    {
        task.placement.get_or_insert_default().constraints.get_or_insert_default().push(nowhere());
    }
}

/// The new number of instances, and what is remembered about it.
///
/// # Errors
/// Why the change is impossible.
pub fn next(live: Scale, held: Option<Manual>, to: ScaleTo) -> Result<(Scale, Option<Manual>), &'static str> {
    let from = held.map_or(live, |held| held.from);
    let stopped_at = held.and_then(|held| held.stopped_at);
    let unless_same = |number: Scale| (number != from).then_some(Manual { from, stopped_at: None });
    match (to, from) {
        (ScaleTo::Replicas(_), Scale::EveryMachine) => Err(
            "it runs on every machine, so it has no number of instances; `placement` chooses its machines",
        ),
        (ScaleTo::Replicas(count), Scale::Replicas(_)) => {
            let number = Scale::Replicas(count);
            Ok((number, unless_same(number)))
        }
        (ScaleTo::Stop, _) if stopped_at.is_some() => Ok((live, held)),
        (ScaleTo::Stop, Scale::EveryMachine) => {
            Ok((live, Some(Manual { from, stopped_at: Some(Scale::EveryMachine) })))
        }
        (ScaleTo::Stop, Scale::Replicas(_)) => {
            Ok((Scale::Replicas(0), Some(Manual { from, stopped_at: Some(live) })))
        }
        (ScaleTo::Start, _) => match stopped_at {
            Some(number) => Ok((number, unless_same(number))),
            None => Ok((live, held)),
        },
    }
}

/// Writes that into a specification, as the engine writes it.
pub fn edit(spec: &mut Value, number: Scale, held: Option<Manual>) {
    if let Scale::Replicas(count) = number {
        spec["Mode"]["Replicated"]["Replicas"] = count.into();
    }
    if let Some(labels) = spec["Labels"].as_object_mut() {
        labels.remove(FROM);
        labels.remove(STOPPED);
        if let Some(held) = held {
            labels.insert(FROM.to_owned(), word(held.from).into());
        }
        if let Some(stopped_at) = held.and_then(|held| held.stopped_at) {
            labels.insert(STOPPED.to_owned(), word(stopped_at).into());
        }
    }
    if number != Scale::EveryMachine {
        return;
    }
    if let Some(constraints) = spec["TaskTemplate"]["Placement"]["Constraints"].as_array_mut() {
        constraints.retain(|one| *one != nowhere());
        if held.is_some_and(|held| held.stopped_at.is_some()) {
            constraints.push(nowhere().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::spec::tests::deployment;
    use super::super::spec::{OnFailure, service_spec};
    use super::*;

    const TWO: Scale = Scale::Replicas(2);

    /// Carries steps out one after the other, as the engine's specification sees them.
    fn after(scale: Scale, steps: &[ScaleTo]) -> (Scale, Option<Manual>, Value) {
        let mut wanted = deployment("web", 'a');
        wanted.spec.scale = scale;
        let mut spec = serde_json::to_value(service_spec(&wanted, 1, OnFailure::RollBack)).expect("JSON");
        let (mut live, mut held) = (scale, None);
        for step in steps {
            if let Ok(changed) = next(live, held, *step) {
                (live, held) = changed;
                edit(&mut spec, live, held);
            }
        }
        (live, held, spec)
    }

    #[test]
    fn a_number_set_by_hand_is_remembered_with_the_file_s() {
        let (live, held, _) = after(TWO, &[ScaleTo::Replicas(5)]);
        assert_eq!((live, held), (Scale::Replicas(5), Some(Manual { from: TWO, stopped_at: None })));
        let (live, held, _) = after(TWO, &[ScaleTo::Replicas(5), ScaleTo::Replicas(2)]);
        assert_eq!((live, held), (TWO, None), "it is the file's again");
    }

    #[test]
    fn what_is_stopped_starts_with_what_it_had() {
        let (live, held, _) = after(TWO, &[ScaleTo::Replicas(5), ScaleTo::Stop, ScaleTo::Stop]);
        assert_eq!(live, Scale::Replicas(0));
        assert_eq!(held.and_then(|held| held.stopped_at), Some(Scale::Replicas(5)));
        let (live, held, _) = after(TWO, &[ScaleTo::Replicas(5), ScaleTo::Stop, ScaleTo::Start]);
        assert_eq!((live, held.map(|held| held.from)), (Scale::Replicas(5), Some(TWO)));
        let (live, held, _) = after(TWO, &[ScaleTo::Stop, ScaleTo::Start]);
        assert_eq!((live, held), (TWO, None));
    }

    #[test]
    fn a_service_of_every_machine_is_stopped_by_a_constraint_that_no_machine_meets() {
        let (live, _, spec) = after(Scale::EveryMachine, &[ScaleTo::Stop]);
        assert_eq!(live, Scale::EveryMachine);
        let constraints = spec["TaskTemplate"]["Placement"]["Constraints"].to_string();
        assert!(constraints.contains("fleetwright.stopped"), "{constraints}");
        assert!(next(Scale::EveryMachine, None, ScaleTo::Replicas(3)).is_err());
    }

    fn step() -> impl Strategy<Value = ScaleTo> {
        prop_oneof![(0u32..6).prop_map(ScaleTo::Replicas), Just(ScaleTo::Stop), Just(ScaleTo::Start)]
    }

    proptest! {
        /// What is read back of a specification is what was written, a new revision keeps it, and
        /// starting at the file's number leaves a specification as if nothing had ever happened.
        #[test]
        fn nothing_is_forgotten_and_nothing_is_left_behind(
            every: bool,
            steps in proptest::collection::vec(step(), 0..8),
        ) {
            let scale = if every { Scale::EveryMachine } else { TWO };
            let (live, held, spec) = after(scale, &steps);
            let labels: HashMap<String, String> =
                serde_json::from_value(spec["Labels"].clone()).expect("labels");
            prop_assert_eq!(manual(&labels), held);
            let mut wanted = deployment("web", 'a');
            wanted.spec.scale = live;
            let mut revised = service_spec(&wanted, 1, OnFailure::RollBack);
            if let Some(held) = held {
                keep(&mut revised, held);
            }
            let mut revised = serde_json::to_value(revised).expect("JSON");
            let mut spec = spec;
            spec.sort_all_objects();
            revised.sort_all_objects();
            prop_assert_eq!(&spec, &revised);
            let mut back = steps.clone();
            back.extend([ScaleTo::Start, ScaleTo::Replicas(2)]);
            let (_, held, mut spec) = after(scale, &back);
            prop_assert_eq!(held, None);
            spec.sort_all_objects();
            let (_, _, mut plain) = after(scale, &[]);
            plain.sort_all_objects();
            prop_assert_eq!(spec, plain);
        }
    }
}
