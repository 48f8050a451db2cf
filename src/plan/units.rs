//! What a machine's agent does about the units of services: pure.
//!
//! The cluster's scheduler places a placeholder, and the agent runs the units for as long as the placeholder is meant
//! to run. A placeholder that is gone says little: the engine may have been restarted. So its units stay until the
//! managers say that their task is over, and a new placeholder of the same instance takes them over as they run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::unit::{OnDisconnect, Standing, UnitState, Which, Why};

pub mod files;
#[cfg(test)]
mod simulation;
pub mod standing;
#[cfg(test)]
mod tests;

/// How long a placeholder that the engine asks to stop is kept waiting while no manager says why. The engine ends with its
/// placeholders, and is not to be held up by them for long.
const PATIENCE: Duration = Duration::from_secs(3);

/// A placeholder that is connected to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// What it stands for.
    pub which: Which,
    /// Since when the engine has asked it to stop, by the agent's own clock.
    pub told: Option<Duration>,
}

/// The units of an instance as systemd shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// They are being started.
    Starting,
    /// All of them are active.
    Active,
    /// One of them failed, and why. Others may still run.
    Failed(String),
    /// One of them ended, and did not fail. Others still run.
    Ended(String),
    /// None of them runs.
    Stopped,
}

/// Units that were installed on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What they are.
    pub which: Which,
    /// What systemd shows of them.
    pub state: State,
    /// Why they are being stopped, if they are.
    pub stopping: Option<Why>,
    /// Whether their health check has failed for good.
    pub unhealthy: bool,
}

impl Instance {
    fn is_alive(&self) -> bool {
        self.stopping.is_none() && matches!(self.state, State::Starting | State::Active)
    }
}

/// What the managers say of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Whether it is to run here.
    pub standing: Standing,
    /// Its epoch.
    pub epoch: u64,
}

/// All that a decision depends on.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The agent's own clock.
    pub now: Duration,
    /// The placeholders that are connected.
    pub placeholders: &'a [Placeholder],
    /// What is installed.
    pub instances: &'a [Instance],
    /// What the managers said of tasks in the last answer; empty where it is too old.
    pub known: &'a BTreeMap<String, Known>,
    /// When a manager answered last.
    pub heard: Duration,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Install and start the units of this placeholder.
    Start(String),
    /// The units of the first task belong to the second from now on.
    Adopt(String, String),
    /// Stop the units of this task.
    Stop(String, Why),
    /// Remove the units of this task.
    Remove(String),
    /// Have the placeholder of this task end, and leave its units as they are.
    Release(String),
    /// Its units have ended: have the placeholder of this task end with that status, after saying why.
    End(String, u8, String),
}

/// The state of an instance, from the states of the units that it starts. Where they are being stopped, one that
/// failed counts as stopped once no other runs.
pub fn state(start: &[String], shown: &BTreeMap<String, UnitState>, stopping: bool) -> State {
    let of = |active: &'static str| {
        start.iter().find(move |name| shown.get(*name).is_some_and(|unit| unit.active == active))
    };
    let over = |name: &String| {
        shown.get(name).is_none_or(|unit| matches!(unit.active.as_str(), "inactive" | "failed") && !unit.job)
    };
    if stopping {
        return if start.iter().all(over) { State::Stopped } else { State::Active };
    }
    if let Some(name) = of("failed") {
        let result = shown.get(name).map_or("", |unit| unit.result.as_str());
        return State::Failed(format!("{name} failed: {}", words(result)));
    }
    let rests = |name: &&String| shown.get(*name).is_none_or(|unit| unit.active == "inactive" && !unit.job);
    if start.iter().all(|name| rests(&name)) {
        return State::Stopped;
    }
    if let Some(name) = start.iter().find(rests) {
        return State::Ended(name.clone());
    }
    let runs = |name: &String| {
        shown.get(name).is_some_and(|unit| matches!(unit.active.as_str(), "active" | "reloading"))
    };
    if start.iter().all(runs) { State::Active } else { State::Starting }
}

/// systemd's word for how a unit failed, in a person's.
fn words(result: &str) -> &str {
    match result {
        "exit-code" => "its process ended with an error",
        "signal" => "its process was killed by a signal",
        "core-dump" => "its process crashed",
        "oom-kill" => "it used more memory than it may",
        "timeout" => "it took too long to start or stop",
        "watchdog" => "its watchdog heard nothing of it",
        "start-limit-hit" => "it was started too often in a short time",
        "resources" => "the machine could not provide what it needs, see its journal",
        "protocol" => "it did not keep to the protocol of its `Type=`",
        "exec-condition" => "its `ExecCondition=` was not met",
        other => other,
    }
}

/// What is to be done, and of which tasks the managers are to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// What is to be done.
    pub actions: Vec<Action>,
    /// The tasks that the managers are to be asked about.
    pub ask: Vec<String>,
}

impl Decision {
    fn ask(&mut self, task: &str) {
        if !self.ask.iter().any(|known| known == task) {
            self.ask.push(task.to_owned());
        }
    }

    fn release(&mut self, task: &str) {
        self.actions.push(Action::Release(task.to_owned()));
    }

    fn end(&mut self, task: &str, status: u8, reason: impl Into<String>) {
        self.actions.push(Action::End(task.to_owned(), status, reason.into()));
    }
}

/// Decides what is done next. Asked again after everything that changes, it comes to rest.
pub fn decide(seen: &Seen<'_>) -> Decision {
    let mut decision = Decision::default();
    for placeholder in seen.placeholders {
        let task = &placeholder.which.task;
        match seen.instances.iter().find(|instance| instance.which.task == *task) {
            Some(instance) => held(seen, placeholder, instance, &mut decision),
            None => arrived(seen, placeholder, &mut decision),
        }
    }
    for instance in seen.instances {
        let task = &instance.which.task;
        if seen.placeholders.iter().any(|placeholder| placeholder.which.task == *task) {
            continue;
        }
        let adopted =
            decision.actions.iter().any(|done| matches!(done, Action::Adopt(from, _) if from == task));
        if !adopted {
            alone(seen, instance, &mut decision);
        }
    }
    decision
}

/// A placeholder with its units.
fn held(seen: &Seen<'_>, placeholder: &Placeholder, instance: &Instance, decision: &mut Decision) {
    let task = &instance.which.task;
    if instance.which.on_disconnect != OnDisconnect::Keep {
        decision.ask(task);
    }
    match (&instance.state, instance.stopping) {
        (State::Stopped, Some(why)) => {
            match why {
                Why::Over => decision.end(task, 0, ""),
                Why::Disconnected => decision.end(task, 1, disconnected(&instance.which)),
            }
            decision.actions.push(Action::Remove(task.clone()));
        }
        (State::Starting | State::Active | State::Failed(_) | State::Ended(_), Some(_)) => {}
        (State::Failed(reason), None) => {
            decision.end(task, 1, reason.as_str());
            decision.actions.push(Action::Stop(task.clone(), Why::Over));
        }
        (State::Ended(unit), None) => {
            decision.end(task, 0, format!("{unit} ended, and did not fail"));
            // The others are meant to end with it.
            decision.actions.push(Action::Stop(task.clone(), Why::Over));
        }
        // They did their work, or somebody stopped them by hand.
        (State::Stopped, None) => {
            decision.end(task, 0, "it ended, and did not fail");
            decision.actions.push(Action::Remove(task.clone()));
        }
        (State::Starting | State::Active, None) => {
            if is_cut_off(seen, instance) {
                decision.actions.push(Action::Stop(task.clone(), Why::Disconnected));
                return;
            }
            match (seen.known.get(task).map(|known| &known.standing), placeholder.told) {
                // Also where the engine's word was missed, because the agent was not there.
                (Some(Standing::Over), _) => decision.actions.push(Action::Stop(task.clone(), Why::Over)),
                (_, Some(_)) if instance.unhealthy => {
                    decision.actions.push(Action::Stop(task.clone(), Why::Over));
                }
                // It is the engine that stops, and not the task.
                (Some(Standing::Wanted | Standing::Succeeded(_)), Some(_)) => decision.release(task),
                (None, Some(told)) => {
                    decision.ask(task);
                    if !instance.which.exclusive && seen.now.saturating_sub(told) > PATIENCE {
                        decision.release(task);
                    }
                }
                (_, None) => {}
            }
        }
    }
}

/// A placeholder without units.
fn arrived(seen: &Seen<'_>, placeholder: &Placeholder, decision: &mut Decision) {
    let which = &placeholder.which;
    if placeholder.told.is_some() {
        return decision.release(&which.task);
    }
    let has_placeholder = |task: &str| seen.placeholders.iter().any(|other| other.which.task == task);
    let left = seen.instances.iter().find(|instance| {
        instance.which.is_again(which) && instance.is_alive() && !has_placeholder(&instance.which.task)
    });
    if let Some(left) = left {
        return decision.actions.push(Action::Adopt(left.which.task.clone(), which.task.clone()));
    }
    let rival = |instance: &Instance| instance.which.service == which.service;
    if which.exclusive && seen.instances.iter().any(rival) {
        return;
    }
    if which.on_disconnect != OnDisconnect::Keep && !seen.known.contains_key(&which.task) {
        // The number that stores check comes from the managers.
        return decision.ask(&which.task);
    }
    decision.actions.push(Action::Start(which.task.clone()));
}

/// Units without a placeholder.
fn alone(seen: &Seen<'_>, instance: &Instance, decision: &mut Decision) {
    let task = &instance.which.task;
    match (&instance.state, instance.stopping) {
        (State::Starting | State::Active, None) => {}
        (State::Starting | State::Active | State::Failed(_) | State::Ended(_), Some(_)) => return,
        (State::Failed(_) | State::Ended(_), None) => {
            return decision.actions.push(Action::Stop(task.clone(), Why::Over));
        }
        (State::Stopped, _) => return decision.actions.push(Action::Remove(task.clone())),
    }
    decision.ask(task);
    if is_cut_off(seen, instance) {
        decision.actions.push(Action::Stop(task.clone(), Why::Disconnected));
        return;
    }
    match seen.known.get(task).map(|known| &known.standing) {
        Some(Standing::Over) => decision.actions.push(Action::Stop(task.clone(), Why::Over)),
        // What was to take them over has units of its own: it came while their placeholder was still there.
        Some(Standing::Succeeded(next)) if seen.instances.iter().any(|other| other.which.task == *next) => {
            decision.actions.push(Action::Stop(task.clone(), Why::Over));
        }
        // The placeholder that takes it over has not connected yet.
        Some(Standing::Wanted | Standing::Succeeded(_)) | None => {}
    }
}

fn is_cut_off(seen: &Seen<'_>, instance: &Instance) -> bool {
    match instance.which.on_disconnect {
        OnDisconnect::Keep => false,
        OnDisconnect::StopAfter(limit) => seen.now.saturating_sub(seen.heard) >= limit,
    }
}

fn disconnected(which: &Which) -> String {
    match which.on_disconnect {
        OnDisconnect::StopAfter(limit) => {
            format!("no control machine was reached for {}", crate::model::duration::written(limit))
        }
        OnDisconnect::Keep => "no control machine was reached".to_owned(),
    }
}
