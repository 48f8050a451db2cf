//! The state of runs, shown by forges beside their commits.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::run::Parts;
use crate::model::commit_status::{CommitStatus, StatusTarget};
use crate::model::name::RepositoryName;
use crate::model::run::{Run, RunId};
use crate::port::commit_statuses::CommitStatuses;
use crate::port::journal::Which;

/// How often the journal is looked at for what other processes have written.
const LOOK: Duration = Duration::from_secs(1);
/// The longest wait after a forge has refused a status.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How many of the newest runs are looked at.
const RUNS: u32 = 200;
/// Runs that ended longer ago are not reported by a process that starts.
const OLD: TimeDelta = TimeDelta::hours(1);

/// Where statuses go.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// By repository.
    pub repositories: BTreeMap<RepositoryName, StatusTarget>,
    /// The address of the page, where others can reach it.
    pub server: Option<String>,
}

/// Reports the state of runs for as long as it is polled. A status that a forge refuses is said once and sent again.
pub async fn watch(parts: &Parts, targets: &Targets, statuses: &dyn CommitStatuses) {
    let begun = Utc::now();
    let mut reported: HashMap<RunId, &'static str> = HashMap::new();
    let mut changed = parts.changed.subscribe();
    let mut complaint = None;
    let mut wait = LOOK;
    loop {
        let runs = parts.journal.runs(&Which::Newest(RUNS)).unwrap_or_default();
        let mut failed = None;
        for run in due(&runs, targets, &reported, begun) {
            let status = CommitStatus::of(run, targets.server.as_deref());
            let Some(target) = targets.repositories.get(&run.repository) else { continue };
            match statuses.report(target, &status).await {
                Ok(()) => drop(reported.insert(run.id, run.state.word())),
                Err(error) => {
                    failed = Some(error.to_string());
                    break;
                }
            }
        }
        wait = if failed.is_some() { (wait * 2).min(BACKOFF_MAX) } else { LOOK };
        if let Some(reason) = failed.as_ref().filter(|reason| complaint.as_ref() != Some(*reason)) {
            parts.events.note(format!("the state of a commit is not reported: {reason}; trying again"));
        }
        complaint = failed;
        reported.retain(|id, _| runs.iter().any(|run| run.id == *id));
        tokio::select! {
            _ = changed.changed(), if complaint.is_none() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// The runs whose state the forges do not show yet, oldest first: of one commit, the newest run counts.
fn due<'r>(
    runs: &'r [Run],
    targets: &Targets,
    reported: &HashMap<RunId, &'static str>,
    begun: DateTime<Utc>,
) -> Vec<&'r Run> {
    let is_old =
        |run: &Run| !reported.contains_key(&run.id) && run.ended.is_some_and(|ended| begun - ended > OLD);
    let is_due = |run: &&Run| {
        targets.repositories.contains_key(&run.repository)
            && reported.get(&run.id) != Some(&run.state.word())
            && !is_old(run)
    };
    let mut due: Vec<&Run> = runs.iter().filter(is_due).collect();
    due.sort_by_key(|run| run.id);
    due
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::commit_status::{DESCRIPTION_MOST, Forge};
    use crate::model::run::RunState;
    use crate::plan::run::tests::queued_run;

    #[test]
    fn each_state_has_its_word_and_long_reasons_are_cut() {
        let run = |state, reason: &str| Run { state, reason: Some(reason.to_owned()), ..queued_run(7) };
        let failed = CommitStatus::of(&run(RunState::Failed, &"é".repeat(200)), Some("https://ci.example/"));
        assert_eq!((failed.state, failed.context.as_str()), ("failure", "fleetwright/web"));
        assert_eq!(failed.link.as_deref(), Some("https://ci.example/runs/7"));
        assert_eq!(failed.description.chars().count(), DESCRIPTION_MOST);
        let queued = CommitStatus::of(&queued_run(7), None);
        assert_eq!(
            (queued.state, queued.description.as_str(), queued.link),
            ("pending", "run 7: queued", None)
        );
    }

    #[test]
    fn what_has_changed_is_due_once_and_what_ended_long_ago_is_not() {
        let target = StatusTarget {
            forge: Forge::Gitea,
            server: None,
            project: "shop/web".into(),
            token: "/shop/forge".into(),
        };
        let repositories = BTreeMap::from([("web".parse().expect("a name"), target)]);
        let targets = Targets { repositories, server: None };
        let now = queued_run(1).queued + TimeDelta::hours(9);
        let run = |id: i64, state: RunState, hours: i64| Run {
            state,
            ended: state.is_ended().then(|| now - TimeDelta::hours(hours)),
            ..queued_run(id)
        };
        let other = Run { repository: "other".parse().expect("a name"), ..run(5, RunState::Queued, 0) };
        let runs = [
            other,
            run(4, RunState::Queued, 0),
            run(3, RunState::Running, 0),
            run(2, RunState::Failed, 0),
            run(1, RunState::Succeeded, 5),
        ];
        let ids = |reported: &HashMap<RunId, &'static str>| -> Vec<i64> {
            due(&runs, &targets, reported, now).iter().map(|run| run.id.0).collect()
        };
        assert_eq!(ids(&HashMap::new()), [2, 3, 4]);
        let reported = HashMap::from([(RunId(2), "failed"), (RunId(3), "queued"), (RunId(4), "queued")]);
        assert_eq!(ids(&reported), [3], "it runs by now");
    }
}
