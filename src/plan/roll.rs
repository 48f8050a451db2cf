//! Replacing a group's machines, new ones first: from what is observed to the next step.
//!
//! Everything that must survive a crash is observed anew: what the roll is for stands in
//! a tag on the group, everything else in the group's and the cluster's own state. So a
//! roll that was killed at any point goes on when it is run again.
//!
//! What holds at every step:
//! - the machines that are ready never become fewer than the group wants, through us;
//! - a machine is terminated only when it runs nothing and every service is whole;
//! - the desired capacity never exceeds the group's own by more than a batch.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::group::{Capacity, Group, GroupInstance, LaunchTemplate, Lifecycle};
use crate::model::machine::{Machine, MachineState, Role};
use crate::model::name::MachineId;
use crate::model::service::{InstanceState, ServiceStatus};

/// The tag on the group that says a roll is under way, and what for.
pub const INTENT_TAG: &str = "fleetwright:roll";

/// With `--all` there is no telling old machines by their version: tags `fleetwright:roll:0` and
/// on hold the ids, as many in each as fit.
pub const OLD_TAG: &str = "fleetwright:roll:";

/// The most characters that a tag's value may have.
const TAG_LENGTH: usize = 256;

/// The version of [`Intent`]'s JSON.
const INTENT_VERSION: u32 = 1;

/// What a roll is for, written down before anything is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// The version of this document.
    #[serde(rename = "v")]
    pub version: u32,
    /// The group's capacity before the roll, to be restored.
    pub min: u32,
    /// See `min`.
    pub max: u32,
    /// See `min`.
    pub desired: u32,
    /// The launch template version that machines shall have, `lt-…:7`.
    pub to: String,
    /// When the roll began, seconds since 1970.
    pub at: i64,
    /// Whether every machine that was there at the beginning is replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Intent {
    /// The capacity to be restored.
    pub fn capacity(&self) -> Capacity {
        Capacity { min: self.min, max: self.max, desired: self.desired }
    }
}

/// Why a roll can't be decided on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The tag does not hold what it should.
    #[error("the tag `{INTENT_TAG}` of group `{group}` can't be read: {reason}")]
    BadIntent {
        /// The group.
        group: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The group follows `$Latest` or `$Default`.
    #[error(
        "group `{group}` follows launch template version `{version}`, so its machines' age can't be told"
    )]
    FollowsLatest {
        /// The group.
        group: String,
        /// The version it follows.
        version: String,
    },
}

/// All that the next step depends on.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// The group.
    pub group: &'a Group,
    /// Its role in the cluster.
    pub role: Role,
    /// Every machine of the cluster.
    pub machines: &'a [Machine],
    /// Every service of the cluster.
    pub services: &'a [ServiceStatus],
    /// The time, seconds since 1970.
    pub now: i64,
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How many machines are replaced at a time; one where the role is control.
    pub batch: u32,
    /// Whether to replace every machine, not only those of another version.
    pub all: bool,
}

/// What to do next. Each may be done again without harm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put these tags on the group, in this order: the last makes the roll begin.
    Begin {
        /// Keys and values.
        tags: Vec<(String, String)>,
    },
    /// Set the group's capacity.
    SetCapacity(Capacity),
    /// Move everything off these machines.
    Drain(Vec<MachineId>),
    /// Terminate these through their group, lowering its desired capacity with each.
    Terminate(Vec<MachineId>),
    /// Look again later.
    Wait(Waiting),
    /// Take these tags off the group, in this order: the roll is done.
    End {
        /// Keys.
        tags: Vec<String>,
    },
    /// There is nothing to do (any more).
    Done,
}

/// What a roll waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// The group is still launching machines.
    Launching {
        /// How many are in service.
        have: u32,
        /// How many there shall be.
        want: u32,
    },
    /// Machines are in service but not ready members of the cluster yet.
    Joining(Vec<MachineId>),
    /// Machines are leaving the group or the cluster.
    Leaving(Vec<MachineId>),
    /// Services do not have all their healthy instances.
    NotWhole(Vec<String>),
    /// Control machines are not ready, and a roll must not add to that.
    ControlNotReady(Vec<MachineId>),
}

/// The next step of rolling the group.
///
/// # Errors
/// When the group's own state does not allow a decision.
pub fn next(observed: Observed<'_>, options: Options) -> Result<Step, RollError> {
    let group = observed.group;
    let Some(intent) = intent(group)? else { return begin(observed, options) };
    let old = old_ids(group, intent.all)?;
    let batch = if observed.role == Role::Control { 1 } else { options.batch.max(1) };

    let leaving = leaving(observed);
    if !leaving.is_empty() {
        return Ok(Step::Wait(Waiting::Leaving(leaving)));
    }
    let staying: Vec<&GroupInstance> = group.instances.iter().filter(|i| !i.lifecycle.is_leaving()).collect();
    let olds: Vec<&GroupInstance> = staying.iter().copied().filter(|i| old.contains(&i.id)).collect();
    let wanted = intent.desired;
    let have = count(staying.len());
    let (mut victims, going) = if olds.is_empty() {
        if have < group.capacity.desired {
            return Ok(Step::Wait(Waiting::Launching { have, want: group.capacity.desired }));
        }
        let surplus = have.saturating_sub(wanted);
        if surplus == 0 {
            if group.capacity != intent.capacity() {
                return Ok(Step::SetCapacity(intent.capacity()));
            }
            return Ok(Step::End { tags: roll_tags(group) });
        }
        // An old machine died by itself after its replacement was asked for. The group would
        // pick any machine to go, with all that runs on it; so one is drained like an old one.
        (staying.clone(), surplus)
    } else {
        let going = count(olds.len());
        (olds, going)
    };
    victims.sort_by_key(|instance| rank(observed, instance));
    victims.truncate(going.min(batch) as usize);

    // New ones first.
    let target = wanted + count(victims.len());
    if group.capacity.desired < target {
        let max = group.capacity.max.max(target);
        return Ok(Step::SetCapacity(Capacity { max, desired: target, ..group.capacity }));
    }
    let is_victim = |id: &MachineId| victims.iter().any(|victim| victim.id == *id);
    let others: Vec<&GroupInstance> = staying.iter().copied().filter(|i| !is_victim(&i.id)).collect();
    let in_service = others.iter().filter(|i| i.lifecycle == Lifecycle::InService).count();
    if count(in_service) < wanted {
        let have = count(in_service + victims.len());
        return Ok(Step::Wait(Waiting::Launching { have, want: target }));
    }
    let not_ready: Vec<MachineId> =
        others.iter().filter(|i| !is_ready(observed, i)).map(|i| i.id.clone()).collect();
    if count(others.len() - not_ready.len()) < wanted {
        return Ok(Step::Wait(Waiting::Joining(not_ready)));
    }
    if observed.role == Role::Control {
        let shaky: Vec<MachineId> = observed
            .machines
            .iter()
            .filter(|m| m.role == Role::Control && m.state != MachineState::Ready && !is_victim(&m.id))
            .map(|m| m.id.clone())
            .chain(not_ready)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if !shaky.is_empty() {
            return Ok(Step::Wait(Waiting::ControlNotReady(shaky)));
        }
    }
    let not_whole: Vec<String> =
        observed.services.iter().filter(|s| !s.is_whole()).map(|s| s.name.to_string()).collect();
    if !not_whole.is_empty() {
        return Ok(Step::Wait(Waiting::NotWhole(not_whole)));
    }
    let undrained: Vec<MachineId> =
        victims.iter().filter(|i| !is_drained(observed, i)).map(|i| i.id.clone()).collect();
    if !undrained.is_empty() {
        return Ok(Step::Drain(undrained));
    }
    Ok(Step::Terminate(victims.iter().map(|i| i.id.clone()).collect()))
}

/// The machines that a roll would replace now.
///
/// # Errors
/// When the group's own state does not allow to tell.
pub fn candidates(group: &Group, all: bool) -> Result<Vec<MachineId>, RollError> {
    let old = if let Some(intent) = intent(group)? {
        old_ids(group, intent.all)?
    } else if all {
        group.instances.iter().map(|i| i.id.clone()).collect()
    } else {
        old_ids(group, false)?
    };
    let staying = group.instances.iter().filter(|i| !i.lifecycle.is_leaving());
    Ok(staying.map(|i| i.id.clone()).filter(|id| old.contains(id)).collect())
}

/// What the roll under way is for; `None` when none is.
///
/// # Errors
/// When the tag does not hold what it should.
pub fn intent(group: &Group) -> Result<Option<Intent>, RollError> {
    let Some(text) = group.tags.get(INTENT_TAG) else { return Ok(None) };
    let bad = |reason: String| RollError::BadIntent { group: group.name.clone(), reason };
    let intent: Intent = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if intent.version != INTENT_VERSION {
        return Err(bad(format!("its version is {}, this program knows {INTENT_VERSION}", intent.version)));
    }
    Ok(Some(intent))
}

fn begin(observed: Observed<'_>, options: Options) -> Result<Step, RollError> {
    let group = observed.group;
    let old = candidates(group, options.all)?;
    if old.is_empty() {
        // Tags that a killed roll left after its intent was gone mean nothing any more.
        let left = roll_tags(group);
        return Ok(if left.is_empty() { Step::Done } else { Step::End { tags: left } });
    }
    let intent = Intent {
        version: INTENT_VERSION,
        min: group.capacity.min,
        max: group.capacity.max,
        desired: group.capacity.desired,
        to: group.launch_template.as_ref().map(|t| format!("{}:{}", t.id, t.version)).unwrap_or_default(),
        at: observed.now,
        all: options.all,
    };
    let mut tags = Vec::new();
    if options.all {
        let mut values: Vec<String> = Vec::new();
        for id in &old {
            match values.last_mut() {
                Some(value) if value.len() + 1 + id.as_str().len() <= TAG_LENGTH => {
                    value.push(' ');
                    value.push_str(id.as_str());
                }
                _ => values.push(id.to_string()),
            }
        }
        tags.extend(values.into_iter().enumerate().map(|(at, value)| (format!("{OLD_TAG}{at}"), value)));
    }
    let text = serde_json::to_string(&intent)
        .map_err(|error| RollError::BadIntent { group: group.name.clone(), reason: error.to_string() })?;
    tags.push((INTENT_TAG.to_owned(), text));
    Ok(Step::Begin { tags })
}

/// The roll's tags, the one that makes it a roll first.
fn roll_tags(group: &Group) -> Vec<String> {
    let mut tags: Vec<String> =
        group.tags.keys().filter(|key| *key == INTENT_TAG || key.starts_with(OLD_TAG)).cloned().collect();
    tags.sort_by_key(|key| key.len());
    tags
}

fn old_ids(group: &Group, all: bool) -> Result<BTreeSet<MachineId>, RollError> {
    if all {
        let values = group.tags.iter().filter(|(key, _)| key.starts_with(OLD_TAG)).map(|(_, value)| value);
        return Ok(values.flat_map(|value| value.split(' ')).filter_map(|id| id.parse().ok()).collect());
    }
    if let Some(LaunchTemplate { version, .. }) = &group.launch_template
        && version.starts_with('$')
    {
        return Err(RollError::FollowsLatest { group: group.name.clone(), version: version.clone() });
    }
    let current = group.launch_template.as_ref();
    let is_current = |i: &GroupInstance| match (&i.launch_template, current) {
        (Some(have), Some(want)) => have.id == want.id && have.version == want.version,
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    Ok(group.instances.iter().filter(|i| !is_current(i)).map(|i| i.id.clone()).collect())
}

/// Machines on their way out of the group, and members of the cluster that the group no longer has.
fn leaving(observed: Observed<'_>) -> Vec<MachineId> {
    let of_group = observed.group.instances.iter();
    let mut ids: BTreeSet<MachineId> = of_group
        .filter(|i| i.lifecycle.is_leaving() && i.lifecycle != Lifecycle::Terminated)
        .map(|i| i.id.clone())
        .collect();
    let known = |id: &MachineId| {
        observed.group.instances.iter().any(|i| i.id == *id && i.lifecycle != Lifecycle::Terminated)
    };
    let members = observed.machines.iter().filter(|m| m.group == observed.group.name);
    ids.extend(members.filter(|m| !known(&m.id)).map(|m| m.id.clone()));
    ids.into_iter().collect()
}

fn machine<'a>(observed: Observed<'a>, id: &MachineId) -> Option<&'a Machine> {
    observed.machines.iter().find(|machine| machine.id == *id)
}

fn is_ready(observed: Observed<'_>, instance: &GroupInstance) -> bool {
    instance.lifecycle == Lifecycle::InService
        && machine(observed, &instance.id).is_some_and(|machine| machine.state == MachineState::Ready)
}

/// Whether nothing runs there. Something that never joined, or that the engine has given
/// up, has nothing that could be moved.
fn is_drained(observed: Observed<'_>, instance: &GroupInstance) -> bool {
    let Some(machine) = machine(observed, &instance.id) else { return true };
    match machine.state {
        MachineState::Down => true,
        MachineState::Ready | MachineState::Paused => false,
        MachineState::Draining | MachineState::Rebooting => {
            !observed.services.iter().flat_map(|s| &s.instances).any(|instance| {
                instance.machine.as_ref() == Some(&machine.id)
                    && match instance.state {
                        InstanceState::Starting | InstanceState::Healthy | InstanceState::Stopping => true,
                        InstanceState::Pending | InstanceState::Failed => false,
                    }
            })
        }
    }
}

/// Whose turn it is: first what serves nobody, then what is being drained already, the leader last.
fn rank(observed: Observed<'_>, instance: &GroupInstance) -> (u8, MachineId) {
    let turn = match machine(observed, &instance.id) {
        None => 0,
        Some(machine) => match machine.state {
            MachineState::Down => 0,
            MachineState::Draining | MachineState::Rebooting => 1,
            MachineState::Ready | MachineState::Paused if machine.leader => 3,
            MachineState::Ready | MachineState::Paused => 2,
        },
    };
    (turn, instance.id.clone())
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "roll_tests.rs"]
mod tests;
