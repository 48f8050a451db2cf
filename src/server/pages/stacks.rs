//! What the template of stacks is filled with.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::super::pipeline::Seen;
use super::views::ago;
use crate::driver::stack_board::{Board, Checked, StackNow, Unread};
use crate::model::deployed::Phase;
use crate::model::drift::DriftState;
use crate::plan::drift::{Drifted, FoundBy, StackDrift};
use crate::view::words::count;

/// The stacks of the environment.
#[derive(Debug, Serialize)]
pub struct StacksView {
    asking: bool,
    lost: Option<LostView>,
    listed: Option<String>,
    stacks: Vec<StackView>,
    checking: Option<String>,
    checked: Option<CheckedView>,
}

/// Why something can't be read, and what to do.
#[derive(Debug, Serialize)]
struct LostView {
    reason: String,
    next: String,
}

impl LostView {
    fn new(unread: &Unread) -> Self {
        Self { reason: unread.reason.trim_end_matches('.').to_owned(), next: unread.next.clone() }
    }
}

#[derive(Debug, Serialize)]
struct StackView {
    name: String,
    cloud_name: String,
    class: &'static str,
    state: String,
    reason: String,
    updated: Option<String>,
    /// Desired, fewest and most machines of its group.
    group: Option<(u32, u32, u32)>,
    machines: Vec<String>,
    drift: Option<DriftView>,
}

/// The last check for drift.
#[derive(Debug, Serialize)]
struct CheckedView {
    words: String,
    class: &'static str,
    lost: Option<LostView>,
}

/// The drift of a stack.
#[derive(Debug, Serialize)]
struct DriftView {
    words: String,
    class: &'static str,
    drifted: Vec<DriftedView>,
    not_checked: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct DriftedView {
    resource: String,
    kind: String,
    id: String,
    words: &'static str,
    class: &'static str,
    differences: Vec<(String, String, String)>,
    user_data: Option<String>,
    note: Option<String>,
}

impl StacksView {
    /// Of what is known, as of `now`; the user data of machines is shown to those who may read logs.
    pub fn new(board: &Board, seen: &Seen, may_read: bool, now: DateTime<Utc>) -> Self {
        let listed = board.listed.as_ref();
        let stacks = listed.and_then(|listed| listed.result.as_ref().ok()).map_or(&[][..], Vec::as_slice);
        let report = board.checked.as_ref().and_then(|checked| checked.result.as_ref().ok());
        let drift = |stack: &StackNow| {
            let name = stack.name.as_ref()?;
            report?.stacks.iter().find(|drift| drift.stack == *name)
        };
        Self {
            asking: listed.is_none(),
            lost: listed.and_then(|listed| listed.result.as_ref().err()).map(LostView::new),
            listed: listed.map(|listed| ago(listed.at, now)),
            stacks: stacks
                .iter()
                .map(|stack| {
                    StackView::new(stack, drift(stack).map(|d| DriftView::new(d, may_read)), seen, now)
                })
                .collect(),
            checking: board
                .checking
                .as_ref()
                .map(|(since, by)| format!("asked for {by}, {}", ago(*since, now))),
            checked: board.checked.as_ref().map(|checked| CheckedView::new(checked, now)),
        }
    }
}

impl CheckedView {
    fn new(checked: &Checked, now: DateTime<Utc>) -> Self {
        let when = format!("asked for {}, {}", checked.by, ago(checked.at, now));
        match &checked.result {
            Err(unread) => Self {
                words: format!("The check failed ({when})"),
                class: "bad",
                lost: Some(LostView::new(unread)),
            },
            Ok(report) => {
                let drifted: usize = report.stacks.iter().map(|stack| stack.drifted.len()).sum();
                let checked: usize = report.stacks.iter().map(|stack| stack.checked).sum();
                let of = count(checked, "resource");
                match drifted {
                    0 => Self { words: format!("No drift in {of} ({when})"), class: "good", lost: None },
                    1 => Self { words: format!("1 of {of} differs ({when})"), class: "bad", lost: None },
                    drifted => {
                        Self { words: format!("{drifted} of {of} differ ({when})"), class: "bad", lost: None }
                    }
                }
            }
        }
    }
}

impl StackView {
    fn new(stack: &StackNow, drift: Option<DriftView>, seen: &Seen, now: DateTime<Utc>) -> Self {
        let (class, state) = match (&stack.deployed, &stack.name) {
            (None, _) => ("", "does not exist yet".to_owned()),
            (Some(_), _) if stack.not_ours.is_some() => ("bad", "not this environment's".to_owned()),
            (Some(_), None) => ("busy", "no longer in the repository".to_owned()),
            (Some(deployed), Some(_)) => {
                let class = match deployed.phase() {
                    // What was undone is settled, and yet not what somebody wanted.
                    Phase::Settled if deployed.status.contains("ROLLBACK") => "bad",
                    Phase::Settled => "good",
                    Phase::Busy | Phase::InReview => "busy",
                    Phase::FailedCreate | Phase::Stuck | Phase::Gone => "bad",
                };
                (class, deployed.status.clone())
            }
        };
        let machines = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.machines);
        let machines = machines.filter(|machine| machine.group == stack.cloud_name);
        let of_stack = stack.deployed.as_ref().map(|deployed| deployed.status_reason.clone());
        Self {
            name: stack.name.as_ref().map_or_else(|| stack.cloud_name.clone(), ToString::to_string),
            cloud_name: stack.cloud_name.clone(),
            class,
            state,
            reason: stack.not_ours.clone().or(of_stack).unwrap_or_default(),
            updated: stack.deployed.as_ref().and_then(|deployed| deployed.updated).map(|at| ago(at, now)),
            group: stack.group.as_ref().map(|group| {
                let capacity = group.capacity;
                (capacity.desired, capacity.min, capacity.max)
            }),
            machines: machines.map(|machine| machine.id.to_string()).collect(),
            drift,
        }
    }
}

impl DriftView {
    fn new(drift: &StackDrift, may_read: bool) -> Self {
        let (class, words) = match (drift.drifted.len(), drift.checked) {
            (0, 0) => ("", "nothing could be checked".to_owned()),
            (0, checked) => ("good", format!("no drift in {}", count(checked, "resource"))),
            (drifted, checked) => ("bad", format!("drift in {drifted} of {}", count(checked, "resource"))),
        };
        // What has one reason stands on one line.
        let mut not_checked: Vec<(String, String)> = Vec::new();
        for one in &drift.not_checked {
            let name = match one.properties.as_slice() {
                [] => one.resource.clone(),
                properties => format!("{} {}", one.resource, properties.join(" ")),
            };
            match not_checked.iter_mut().find(|(_, why)| *why == one.why) {
                Some((names, _)) => *names = format!("{names}, {name}"),
                None => not_checked.push((name, one.why.clone())),
            }
        }
        Self {
            words,
            class,
            drifted: drift.drifted.iter().map(|one| DriftedView::new(one, may_read)).collect(),
            not_checked,
        }
    }
}

impl DriftedView {
    fn new(drifted: &Drifted, may_read: bool) -> Self {
        let (class, words) = match (drifted.state, drifted.found_by) {
            (DriftState::Deleted, _) => ("bad", "is gone"),
            (_, FoundBy::CloudFormation) => ("busy", "differs, found by CloudFormation"),
            (_, FoundBy::Fleetwright) => ("busy", "differs, found by fleetwright"),
        };
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let differences = drifted.differences.iter();
        Self {
            resource: drifted.resource.clone(),
            kind: drifted.resource_type.clone(),
            id: drifted.physical_id.clone(),
            words,
            class,
            differences: differences
                .map(|one| (one.path.clone(), value(&one.before), value(&one.after)))
                .collect(),
            user_data: drifted.user_data.clone().filter(|_| may_read),
            note: drifted.note.clone(),
        }
    }
}
