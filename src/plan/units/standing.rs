//! What the managers say of the tasks that units belong to: pure.

use crate::model::unit::{PlacedTask as Task, PlacedTasks, Standing, UnitTask, UnitTaskAsked};

/// The task that somebody asks about. It may be forgotten already, so the rest says what it was.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its id.
    pub task: &'a str,
    /// Its service.
    pub service: &'a str,
    /// Its slot.
    pub slot: &'a str,
    /// The id of its template.
    pub template: &'a str,
    /// Whether its placeholder still runs.
    pub placeholder: bool,
}

/// What is to become of the units of all those tasks on `node`.
pub fn standings(asked: &[UnitTaskAsked], node: &str, placed: &PlacedTasks) -> Vec<UnitTask> {
    let PlacedTasks { tasks, everywhere } = placed;
    let newest = tasks.iter().map(|task| task.version).max().unwrap_or_default();
    let each = asked.iter().map(|one| {
        let UnitTaskAsked { task, service, slot, template, placeholder } = one;
        let own = Asked { task, service, slot, template, placeholder: *placeholder };
        // The managers count every change of all that they keep, so a later copy has a higher number than any that was
        // ever given to an earlier one.
        let epoch = tasks.iter().find(|known| known.id == *task).map_or(newest, |known| known.version);
        let standing = standing(own, node, everywhere.contains(service), tasks);
        UnitTask { task: task.clone(), standing, epoch }
    });
    each.collect()
}

/// What is to become of the units of a task on `node`. `everywhere` says that its service is to have an instance on
/// that node as on every other.
pub fn standing(asked: Asked<'_>, node: &str, everywhere: bool, tasks: &[Task]) -> Standing {
    let own = tasks.iter().find(|task| task.id == asked.task);
    match own {
        // That it has ended may be all that is known: then the managers have not decided yet.
        Some(own) if own.wanted => return Standing::Wanted,
        // It is to stop. Without a placeholder it may count as running only because its node was lost.
        Some(own) if !own.ended && asked.placeholder => return Standing::Over,
        Some(_) | None => {}
    }
    let successor = tasks
        .iter()
        .filter(|task| task.id != asked.task && task.service == asked.service && task.slot == asked.slot)
        .filter(|task| task.wanted && !task.ended)
        .max_by_key(|task| task.version);
    match successor {
        Some(next) if next.node.as_deref() == Some(node) && next.template == asked.template => {
            Standing::Succeeded(next.id.clone())
        }
        // It waits for a machine, which may be this one.
        Some(next) if next.node.is_none() && next.template == asked.template => Standing::Wanted,
        Some(_) => Standing::Over,
        // A node that was lost and is back gets its task a moment later.
        None if everywhere => Standing::Wanted,
        None => Standing::Over,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, node: Option<&str>, wanted: bool, ended: bool) -> Task {
        Task {
            id: id.to_owned(),
            service: "web".to_owned(),
            slot: "1".to_owned(),
            node: node.map(str::to_owned),
            template: "t".to_owned(),
            wanted,
            ended,
            version: 1,
        }
    }

    fn asked(placeholder: bool) -> Asked<'static> {
        Asked { task: "a", service: "web", slot: "1", template: "t", placeholder }
    }

    fn of(tasks: &[Task]) -> Standing {
        standing(asked(true), "here", false, tasks)
    }

    #[test]
    fn a_node_that_was_lost_keeps_what_every_node_is_to_have() {
        let lost = task("a", Some("here"), false, false);
        assert_eq!(
            standing(asked(true), "here", true, std::slice::from_ref(&lost)),
            Standing::Over,
            "told to stop"
        );
        assert_eq!(standing(asked(false), "here", true, std::slice::from_ref(&lost)), Standing::Wanted);
        assert_eq!(
            standing(asked(false), "here", false, std::slice::from_ref(&lost)),
            Standing::Over,
            "removed"
        );
        let elsewhere = task("b", Some("there"), true, false);
        assert_eq!(standing(asked(false), "here", false, &[lost, elsewhere]), Standing::Over, "it has moved");
    }

    #[test]
    fn a_task_is_over_when_it_is_told_to_stop_or_runs_elsewhere() {
        assert_eq!(of(&[task("a", Some("here"), true, false)]), Standing::Wanted);
        // The engine was killed: the managers know that its tasks are gone, and nothing else yet.
        assert_eq!(of(&[task("a", Some("here"), true, true)]), Standing::Wanted);
        assert_eq!(of(&[task("a", Some("here"), false, false)]), Standing::Over, "told to stop");
        assert_eq!(of(&[]), Standing::Over, "removed");
        let dead = task("a", Some("here"), false, true);
        assert_eq!(of(std::slice::from_ref(&dead)), Standing::Over, "scaled down");
        let next = |node| task("b", node, true, false);
        assert_eq!(of(&[dead.clone(), next(Some("there"))]), Standing::Over);
        assert_eq!(of(&[dead.clone(), next(None)]), Standing::Wanted);
        assert_eq!(of(&[dead.clone(), next(Some("here"))]), Standing::Succeeded("b".to_owned()));
        let newer = Task { template: "u".to_owned(), ..next(Some("here")) };
        assert_eq!(of(&[dead.clone(), newer]), Standing::Over, "it has other units");
        let other = Task { slot: "2".to_owned(), ..next(Some("here")) };
        assert_eq!(of(&[dead, other]), Standing::Over, "another instance");
    }
}
