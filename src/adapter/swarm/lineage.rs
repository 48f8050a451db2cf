//! Which revision a task belongs to. Pure.
//!
//! A task carries the id of the template that it was made from. Several revisions may share one, since
//! a revision that changes nothing about instances replaces none of them.

use bollard::models::{Service, Task, TaskState};
use chrono::{DateTime, Utc};

use super::history::Record;
use super::spec::{REVISION, TEMPLATE};

/// The revisions of a service by their template.
#[derive(Debug, Clone, Default)]
pub struct Lineage {
    /// The revision that the service's specification belongs to.
    pub current: Option<u64>,
    template: Option<String>,
    /// The number, template and time of each, oldest first.
    revisions: Vec<(u64, String, DateTime<Utc>)>,
}

impl Lineage {
    /// The lineage of a service that has these records.
    pub fn new(service: &Service, records: &[Record]) -> Self {
        let labels = service.spec.as_ref().and_then(|spec| spec.labels.as_ref());
        let label = |key| labels.and_then(|labels| labels.get(key)).map(String::as_str);
        let mut revisions: Vec<_> = records
            .iter()
            .filter_map(|record| Some((record.number, record.template.clone()?, record.since)))
            .collect();
        revisions.sort();
        Self {
            current: label(REVISION).and_then(|text| text.parse().ok()),
            template: label(TEMPLATE).map(str::to_owned),
            revisions,
        }
    }

    /// The revision of a task. One that is to run belongs to the current revision if that is made
    /// from the same template; one that has ended belongs to the newest that existed when it was created.
    pub fn of(&self, task: &Task) -> Option<u64> {
        let labels = task.spec.as_ref()?.container_spec.as_ref()?.labels.as_ref()?;
        // An earlier version wrote the number into the template itself.
        if let Some(number) = labels.get(REVISION) {
            return number.parse().ok();
        }
        let template = labels.get(TEMPLATE)?;
        let ended = matches!(
            task.status.as_ref().and_then(|status| status.state),
            Some(TaskState::COMPLETE | TaskState::SHUTDOWN | TaskState::FAILED | TaskState::REJECTED)
        );
        if !ended && self.template.as_ref() == Some(template) {
            return self.current;
        }
        let same = || self.revisions.iter().filter(|(_, other, _)| other == template);
        let before = same().rfind(|(_, _, since)| task.created_at.is_some_and(|created| *since <= created));
        before.or_else(|| same().next()).map(|(number, ..)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_514_400 + second, 0).expect("a time")
    }

    /// Revisions 4 and 6 are made of `a`, 5 of `b`; the service is at `current`.
    fn lineage(current: u64, template: &str) -> Lineage {
        Lineage {
            current: Some(current),
            template: Some(template.into()),
            revisions: vec![(4, "a".into(), at(40)), (5, "b".into(), at(50)), (6, "a".into(), at(60))],
        }
    }

    fn task(template: &str, state: TaskState, created: i64) -> Task {
        let json = serde_json::json!({
            "CreatedAt": at(created).to_rfc3339(),
            "Spec": { "ContainerSpec": { "Labels": { TEMPLATE: template } } },
            "Status": { "State": state },
        });
        serde_json::from_value(json).expect("a task")
    }

    #[test]
    fn what_runs_belongs_to_the_current_revision_if_it_is_made_of_the_same() {
        assert_eq!(lineage(6, "a").of(&task("a", TaskState::RUNNING, 41)), Some(6), "it was not replaced");
        assert_eq!(lineage(6, "a").of(&task("b", TaskState::RUNNING, 51)), Some(5));
        assert_eq!(lineage(4, "a").of(&task("a", TaskState::RUNNING, 55)), Some(4), "the engine went back");
        assert_eq!(lineage(5, "b").of(&task("a", TaskState::RUNNING, 41)), Some(4));
    }

    #[test]
    fn what_failed_belongs_to_the_revision_of_its_time() {
        let of = |template, created| lineage(6, "a").of(&task(template, TaskState::FAILED, created));
        assert_eq!((of("a", 41), of("b", 51), of("a", 61)), (Some(4), Some(5), Some(6)));
        assert_eq!(of("a", 39), Some(4), "clocks differ");
        assert_eq!(of("c", 61), None);
    }

    #[test]
    fn a_task_of_an_earlier_version_says_its_revision() {
        let json = serde_json::json!({ "Spec": { "ContainerSpec": { "Labels": { REVISION: "4" } } } });
        let task: Task = serde_json::from_value(json).expect("a task");
        assert_eq!(lineage(6, "a").of(&task), Some(4));
    }
}
