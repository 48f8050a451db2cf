//! Which results a retry from a step takes over from the earlier run. Pure.
//!
//! A step is run again when the earlier run did not bring it to success, when it is the one that was named, or when it
//! needs something that is run again: a step before it, an image that is built again, an approval of other steps.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::infra_step::InfraWork;
use crate::model::job::Runs;
use crate::model::run::{After, Run, RunConfig, RunId, RunState, StepAction, StepResult, StepState, Taken};

/// Why nothing can be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The run is quarantined.
    #[error("run {0} is quarantined: it is resumed where it stopped, and not from a step")]
    Quarantined(RunId),
    /// The run ended before its first step.
    #[error("run {0} ended before its first step")]
    NeverBegan(RunId),
    /// The pipeline has other steps now.
    #[error("the steps of pipeline `{pipeline}` have changed since run {run}: {what}")]
    Changed {
        /// The pipeline.
        pipeline: String,
        /// The earlier run.
        run: RunId,
        /// What is different.
        what: String,
    },
    /// The step is not part of the run.
    #[error("`{step}` was left out of run {run}: {reason}")]
    LeftOut {
        /// The earlier run.
        run: RunId,
        /// The step.
        step: String,
        /// Why.
        reason: String,
    },
}

/// What a retry of `run` from the step at `from` takes over, where the pipeline says `now` what it does.
///
/// # Errors
/// When the pipeline has changed, or the run has nothing to take over.
pub fn taken_over(run: &Run, now: &RunConfig, from: usize) -> Result<Taken, Unfit> {
    if run.state == RunState::Quarantined {
        return Err(Unfit::Quarantined(run.id));
    }
    let Some(then) = run.config.as_ref().filter(|_| !run.steps.is_empty()) else {
        return Err(Unfit::NeverBegan(run.id));
    };
    let changed = |what: String| Unfit::Changed { pipeline: run.pipeline.to_string(), run: run.id, what };
    same_shape(then, now).map_err(changed)?;
    if let Some(reason) = now.left_out.get(&from) {
        let step = run.steps.get(from).map_or_else(String::new, |step| step.name.clone());
        return Err(Unfit::LeftOut { run: run.id, step, reason: reason.clone() });
    }
    let again = again(run, then, now, from);
    let results: BTreeMap<usize, StepResult> = run
        .steps
        .iter()
        .enumerate()
        .filter(|(index, _)| !again.contains(index) && !now.left_out.contains_key(index))
        .filter_map(|(index, step)| match &step.state {
            StepState::Succeeded { result } => Some((index, result.clone())),
            _ => None,
        })
        .collect();
    for index in results.keys() {
        if then.steps.get(*index) != now.steps.get(*index) {
            let name = now.steps.get(*index).map_or_else(String::new, StepAction::name);
            return Err(changed(format!("`{name}`, which would not be run again, is another one")));
        }
    }
    let runs_commands =
        again.iter().any(|index| is_command(now, *index) && !now.left_out.contains_key(index));
    let workspace = runs_commands && results.keys().any(|index| now.steps[*index] == StepAction::Source);
    let step = now.steps.get(from).map_or_else(String::new, StepAction::name);
    Ok(Taken { run: run.id, from: step, workspace, results })
}

/// Whether the steps are still the same ones, in the same order.
fn same_shape(then: &RunConfig, now: &RunConfig) -> Result<(), String> {
    if then.environment != now.environment {
        return Err(format!("it was for environment `{}`", then.environment));
    }
    let names = |config: &RunConfig| config.steps.iter().map(StepAction::name).collect::<Vec<_>>();
    let (old, new) = (names(then), names(now));
    if old != new {
        let gone = old.iter().find(|name| !new.contains(name));
        let added = new.iter().find(|name| !old.contains(name));
        return Err(match (gone, added) {
            (Some(gone), _) => format!("`{gone}` is not there any more"),
            (None, Some(added)) => format!("`{added}` was added"),
            (None, None) => "they are in another order".to_owned(),
        });
    }
    let differs =
        |index: &usize| then.needs(*index) != now.needs(*index) || then.after(*index) != now.after(*index);
    match (0..new.len()).find(differs) {
        Some(index) => Err(format!("`{}` needs other steps, or is run in another case", new[index])),
        None => Ok(()),
    }
}

fn is_command(config: &RunConfig, index: usize) -> bool {
    matches!(config.steps.get(index), Some(StepAction::Run(_)))
}

/// The positions of the steps that are run again.
fn again(run: &Run, then: &RunConfig, now: &RunConfig, from: usize) -> BTreeSet<usize> {
    let all = now.steps.len();
    let succeeded = |index: &usize| {
        matches!(run.steps.get(*index).map(|step| &step.state), Some(StepState::Succeeded { .. }))
    };
    // What is for failures, or for any outcome, answers to this run and not to the earlier one.
    let mut again: BTreeSet<usize> = (0..all)
        .filter(|index| {
            // A plan is kept only until its run has ended.
            let plans = matches!(&now.steps[*index], StepAction::Infra(spec) if matches!(spec.work, InfraWork::Plan { .. }));
            *index == from || plans || !succeeded(index) || now.after(*index) != After::Success
        })
        .filter(|index| !now.left_out.contains_key(index))
        .collect();
    loop {
        let rebuilt: BTreeSet<&str> = again
            .iter()
            .filter_map(|index| match &now.steps[*index] {
                StepAction::Build(build) => Some(build.image.as_str()),
                _ => None,
            })
            .collect();
        let mut more: Vec<usize> = (0..all)
            .filter(|index| !again.contains(index) && !now.left_out.contains_key(index))
            .filter(|index| {
                let asks = matches!(now.steps[*index], StepAction::Approve(_));
                now.needs(*index).iter().any(|need| again.contains(need))
                    || images(&now.steps[*index]).iter().any(|image| rebuilt.contains(image))
                    // An approval is one of what was shown: of the steps after it, and of what was built.
                    || (asks && (!rebuilt.is_empty() || then.steps[*index..] != now.steps[*index..]))
            })
            .collect();
        // Where every command is run again, they get the files of the commit as they are.
        let commands = (0..all).filter(|index| is_command(now, *index) && !now.left_out.contains_key(index));
        let kept = commands.filter(succeeded).any(|index| !again.contains(&index));
        if !kept && again.iter().any(|index| is_command(now, *index)) {
            let source = now.steps.iter().position(|step| *step == StepAction::Source);
            more.extend(source.filter(|index| !again.contains(index)));
        }
        if more.is_empty() {
            return again;
        }
        again.extend(more);
    }
}

/// The images that a step uses.
fn images(step: &StepAction) -> Vec<&str> {
    match step {
        StepAction::Run(script) => std::iter::once(script.image.as_str())
            .chain(script.companions.iter().map(|companion| companion.image.as_str()))
            .collect(),
        StepAction::Rollout(spec) => vec![&spec.image],
        StepAction::Release(specs) => specs.iter().map(|spec| spec.image.as_str()).collect(),
        StepAction::Job(spec) => match &spec.runs {
            Runs::Image(image) => vec![image],
            Runs::Service(_) => Vec::new(),
        },
        StepAction::Source | StepAction::Build(_) | StepAction::Approve(_) | StepAction::Infra(_) => {
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::access::Level;
    use crate::model::run::{Question, RunStep};
    use crate::plan::run::tests::{commands, config, queued_run, release};

    /// A run of `config` that has ended with its steps in these states.
    fn ended(config: &RunConfig, states: &[StepState]) -> Run {
        let steps = config.steps.iter().zip(states).map(|(step, state)| RunStep {
            name: step.name(),
            state: state.clone(),
            started: None,
            ended: None,
            files: Vec::new(),
            tests: None,
        });
        Run { state: RunState::Failed, steps: steps.collect(), config: Some(config.clone()), ..queued_run(7) }
    }

    fn good(step: &StepAction) -> StepState {
        let result = match step {
            StepAction::Source => StepResult::Source { files: 3 },
            StepAction::Build(build) => StepResult::Image(crate::model::run::BuiltImage {
                image: build.image.clone(),
                key: format!("k-{}", "1".repeat(64)).parse().expect("a key"),
                digest: format!("sha256:{}", "2".repeat(64)).parse().expect("a digest"),
                same_as: None,
            }),
            StepAction::Run(_) => StepResult::Run { attempts: 1 },
            StepAction::Rollout(spec) => StepResult::Rollout { service: spec.name.clone(), revision: 1 },
            StepAction::Release(_) => StepResult::Release(Vec::new()),
            StepAction::Approve(_) => StepResult::Approved { by: "anna".to_owned() },
            StepAction::Job(spec) => StepResult::Job { job: spec.name.clone() },
            StepAction::Infra(_) => StepResult::Infra { summary: "done".to_owned() },
        };
        StepState::Succeeded { result }
    }

    fn failed() -> StepState {
        StepState::Failed { reason: "exit status 1".to_owned() }
    }

    fn taken(config: &RunConfig, states: &[StepState], from: usize) -> Vec<usize> {
        let taken = taken_over(&ended(config, states), config, from).expect("it can be retried");
        taken.results.into_keys().collect()
    }

    #[test]
    fn what_the_step_does_not_touch_is_taken_over_with_the_workspace() {
        // source, s1, s2 (needs s1), s3 (needs s1), s4 (needs s2 and s3)
        let config = commands(&[vec![], vec![0], vec![0], vec![1, 2]], &[After::Success; 4]);
        let mut states: Vec<StepState> = config.steps.iter().map(good).collect();
        states[3] = failed();
        states[4] = StepState::Skipped;
        assert_eq!(taken(&config, &states, 3), [0, 1, 2]);
        assert_eq!(taken(&config, &states, 2), [0, 1], "what failed elsewhere runs again, too");
        let run = ended(&config, &states);
        assert!(taken_over(&run, &config, 3).expect("it can").workspace);
        // Every command runs again: the files of the commit are fresh ones.
        let all = taken_over(&run, &config, 1).expect("it can");
        assert!(all.results.is_empty() && !all.workspace, "{all:?}");
    }

    #[test]
    fn a_rollout_alone_needs_no_workspace_and_an_image_that_is_built_again_is_rolled_out_again() {
        let mut config = config();
        config.steps.insert(0, StepAction::Source);
        config.needs = vec![vec![], vec![], vec![]];
        let states: Vec<StepState> = config.steps.iter().map(good).collect();
        let run = ended(&config, &states);
        let rollout = taken_over(&run, &config, 2).expect("it can");
        assert_eq!(rollout.results.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert!(!rollout.workspace);
        // It does not name the build among what it needs, and uses its image.
        assert_eq!(taken(&config, &states, 1), [0]);
    }

    #[test]
    fn an_approval_counts_only_for_what_was_shown() {
        let question =
            Question { name: "approve".to_owned(), message: "Go?".to_owned(), level: Level::Deployer };
        let mut config = release();
        config.steps.insert(1, StepAction::Approve(question));
        let mut states: Vec<StepState> = config.steps.iter().map(good).collect();
        states[2] = failed();
        assert_eq!(taken(&config, &states, 2), [0, 1]);
        assert_eq!(taken(&config, &states, 0), Vec::<usize>::new());
        // The service is another one by now: it is asked again.
        let mut now = config.clone();
        if let StepAction::Release(specs) = &mut now.steps[2] {
            specs[0].command = vec!["other".to_owned()];
        }
        let taken = taken_over(&ended(&config, &states), &now, 2).expect("it can");
        assert_eq!(taken.results.into_keys().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_pipeline_that_has_changed_is_refused_with_what_is_different() {
        let config = commands(&[vec![], vec![0]], &[After::Success; 2]);
        let states: Vec<StepState> = config.steps.iter().map(good).collect();
        let run = ended(&config, &states);
        let why = |now: &RunConfig| taken_over(&run, now, 2).expect_err("it has changed").to_string();
        let fewer = commands(&[vec![]], &[After::Success]);
        insta::assert_snapshot!(why(&fewer), @"the steps of pipeline `web` have changed since run 7: `run s2` is not there any more");
        let more = commands(&[vec![], vec![0], vec![1]], &[After::Success; 3]);
        insta::assert_snapshot!(why(&more), @"the steps of pipeline `web` have changed since run 7: `run s3` was added");
        let loose = commands(&[vec![], vec![]], &[After::Success; 2]);
        insta::assert_snapshot!(why(&loose), @"the steps of pipeline `web` have changed since run 7: `run s2` needs other steps, or is run in another case");
        let mut other = config.clone();
        if let StepAction::Run(script) = &mut other.steps[1] {
            script.command = vec!["other".to_owned()];
        }
        insta::assert_snapshot!(why(&other), @"the steps of pipeline `web` have changed since run 7: `run s1`, which would not be run again, is another one");
        // The step that runs again may say something else.
        assert!(taken_over(&run, &other, 1).is_ok());
        let quarantined = Run { state: RunState::Quarantined, ..run.clone() };
        assert_eq!(taken_over(&quarantined, &config, 1), Err(Unfit::Quarantined(RunId(7))));
        let never = Run { steps: Vec::new(), config: None, ..run.clone() };
        assert_eq!(taken_over(&never, &config, 1), Err(Unfit::NeverBegan(RunId(7))));
    }

    proptest! {
        /// However steps need each other and wherever the run has failed: nothing is taken over that needs something
        /// that runs again, that did not succeed, or that is left out; and what may be taken over is.
        #[test]
        fn no_step_is_taken_over_that_needs_one_that_runs_again(
            shape in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..3), 1..8),
            outcomes in prop::collection::vec(0_u8..4, 9),
            after in prop::collection::vec(
                prop_oneof![5 => Just(After::Success), 1 => Just(After::Failure), 1 => Just(After::Always)], 8),
            left_out in prop::collection::vec(prop::bool::weighted(0.15), 8),
            from: prop::sample::Index,
        ) {
            let needs: Vec<Vec<usize>> = shape
                .iter()
                .enumerate()
                .map(|(at, of)| if at == 0 { Vec::new() } else { of.iter().map(|need| need.index(at)).collect() })
                .collect();
            let left_out = (0..needs.len()).filter(|at| left_out[*at]).map(|at| (at + 1, "not now".to_owned()));
            let config = RunConfig { left_out: left_out.collect(), ..commands(&needs, &after[..needs.len()]) };
            let states: Vec<StepState> = config
                .steps
                .iter()
                .enumerate()
                .map(|(at, step)| match outcomes[at] {
                    0 => failed(),
                    1 => StepState::Skipped,
                    _ => good(step),
                })
                .collect();
            let from = from.index(config.steps.len());
            let run = ended(&config, &states);
            match taken_over(&run, &config, from) {
                Err(Unfit::LeftOut { .. }) => prop_assert!(config.left_out.contains_key(&from)),
                Err(other) => prop_assert!(false, "{other}"),
                Ok(Taken { results, workspace, .. }) => {
                    prop_assert!(!results.contains_key(&from));
                    for index in results.keys() {
                        let succeeded = matches!(states[*index], StepState::Succeeded { .. });
                        prop_assert!(succeeded, "{index} did not succeed");
                        prop_assert!(!config.left_out.contains_key(index));
                        prop_assert_eq!(config.after(*index), After::Success);
                        for need in config.needs(*index) {
                            prop_assert!(results.contains_key(&need), "{index} needs {need}, which runs again");
                        }
                    }
                    // The workspace goes with the step that makes it, and only where a command uses it.
                    prop_assert!(!workspace || results.contains_key(&0));
                    let kept = results.keys().any(|index| is_command(&config, *index));
                    prop_assert!(!workspace || kept, "fresh files are taken from the commit");
                    // Nothing runs again without a cause.
                    let touched = |mut open: Vec<usize>| {
                        let mut seen = BTreeSet::new();
                        while let Some(next) = open.pop() {
                            if seen.insert(next) {
                                open.extend(config.needs(next));
                            }
                        }
                        seen
                    };
                    for index in 1..config.steps.len() {
                        let sound = |at: &usize| {
                            *at != from
                                && matches!(states[*at], StepState::Succeeded { .. })
                                && config.after(*at) == After::Success
                        };
                        if !config.left_out.contains_key(&index) && touched(vec![index]).iter().all(sound) {
                            prop_assert!(results.contains_key(&index), "{index} could be taken over");
                        }
                    }
                }
            }
        }
    }
}
