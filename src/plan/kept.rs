//! How long what a failed run has on the engine is kept. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::run::{Run, RunState, StepAction, StepState};

/// How long the workspace of a failed run, and the containers of the steps that failed, are kept.
pub const KEPT_FOR: TimeDelta = TimeDelta::hours(1);

/// What else counts.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    /// Whether the disk has no room for further runs.
    pub is_full: bool,
    /// Whether a run that has not copied the workspace yet is a retry of this one.
    pub is_awaited: bool,
}

/// Until when something of a run is kept; `None` of one that leaves nothing behind.
pub fn kept_until(run: &Run) -> Option<DateTime<Utc>> {
    let commands = run.config.iter().flat_map(|config| &config.steps);
    let has_commands = commands.into_iter().any(|step| matches!(step, StepAction::Run(_)));
    run.ended.filter(|_| run.state == RunState::Failed && has_commands).map(|ended| ended + KEPT_FOR)
}

/// Whether what a run has on the engine is kept now.
pub fn is_kept(run: &Run, now: DateTime<Utc>, circumstances: Circumstances) -> bool {
    let Some(until) = kept_until(run) else { return false };
    circumstances.is_awaited || (now < until && !circumstances.is_full)
}

/// The positions of the commands that have failed.
pub fn failed_commands(run: &Run) -> Vec<usize> {
    let actions = run.config.as_ref().map(|config| config.steps.as_slice()).unwrap_or_default();
    let failed = run.steps.iter().zip(actions).enumerate().filter(|(_, (step, action))| {
        matches!(action, StepAction::Run(_)) && matches!(step.state, StepState::Failed { .. })
    });
    failed.map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::{After, RunStep};
    use crate::plan::run::tests::{commands, config, queued_run};

    #[test]
    fn only_what_failed_is_kept_for_an_hour_while_there_is_room() {
        let ended = queued_run(1).queued;
        let steps = commands(&[vec![], vec![0]], &[After::Success; 2]);
        let step = |name: &str, state| RunStep {
            name: name.to_owned(),
            state,
            started: None,
            ended: None,
            files: Vec::new(),
            tests: None,
        };
        let reason = || StepState::Failed { reason: "exit status 1".to_owned() };
        let run = Run {
            state: RunState::Failed,
            ended: Some(ended),
            config: Some(steps),
            steps: vec![
                step("source", reason()),
                step("run s1", StepState::Skipped),
                step("run s2", reason()),
            ],
            ..queued_run(1)
        };
        let calm = Circumstances { is_full: false, is_awaited: false };
        let at = |minutes| ended + TimeDelta::minutes(minutes);
        assert!(is_kept(&run, at(59), calm) && !is_kept(&run, at(60), calm));
        assert!(!is_kept(&run, at(1), Circumstances { is_full: true, ..calm }));
        assert!(is_kept(&run, at(300), Circumstances { is_full: true, is_awaited: true }));
        assert_eq!(failed_commands(&run), [2], "the first one has no container");
        for state in [RunState::Succeeded, RunState::Cancelled, RunState::Superseded] {
            assert!(!is_kept(&Run { state, ..run.clone() }, at(1), calm), "{state:?}");
        }
        let no_commands = Run { config: Some(config()), ..run.clone() };
        assert_eq!(kept_until(&no_commands), None);
    }
}
