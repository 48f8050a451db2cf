//! Why a service is in the state it is in: what is wrong, what led to it, and what to do. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::model::machine::{Machine, MachineState};
use crate::model::service::{
    Instance, InstanceState, PreDeployState, Revision, RevisionState, ServiceStatus,
};
use crate::model::timeline::{EventKind, TimelineEvent, short};
use crate::plan::timeline::instances;

/// How many events the story has at most.
const STORY: usize = 12;
/// How many it has when nothing is wrong.
const SHORT_STORY: usize = 5;

/// What is known of a service.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its status.
    pub service: &'a ServiceStatus,
    /// The machines.
    pub machines: &'a [Machine],
    /// The events of the service and of machines, oldest first.
    pub events: &'a [TimelineEvent],
    /// The metadata that a machine must have for it; `None` where the caller may not know.
    pub placement: Option<&'a BTreeMap<String, String>>,
}

/// The state of a service as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Situation {
    /// As many instances are healthy as there should be.
    Whole,
    /// It was stopped.
    Stopped,
    /// A revision is being rolled out.
    RollingOut,
    /// Its newest revision failed and was rolled back; what ran before runs.
    RolledBack,
    /// Fewer instances are healthy than there should be.
    NotWhole,
}

/// What is wrong with an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The instance.
    pub instance: String,
    /// What is wrong.
    pub text: String,
    kind: Trouble,
}

/// A kind of trouble, which has a remedy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trouble {
    Image,
    Metadata(String),
    Resources,
    Port,
    PerMachine,
    NoMachine,
    OutOfMemory,
    Health,
    Exit,
    Lost(String),
    Starting,
}

/// An event, and how often the same happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryEntry {
    /// The newest of them.
    pub event: TimelineEvent,
    /// How often.
    pub times: usize,
    /// When the first was.
    pub since: DateTime<Utc>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The state.
    pub situation: Situation,
    /// The same in a sentence or two.
    pub state: String,
    /// What is wrong with which instance.
    pub problems: Vec<Problem>,
    /// What happened, newest first.
    pub story: Vec<StoryEntry>,
    /// What to do.
    pub next: Vec<String>,
}

/// Explains the state of a service.
pub fn why(known: &Known<'_>) -> Why {
    let situation = situation(known.service);
    let problems = match situation {
        Situation::Stopped => Vec::new(),
        Situation::Whole | Situation::RollingOut | Situation::RolledBack | Situation::NotWhole => {
            known.problems()
        }
    };
    let most = if situation == Situation::Whole { SHORT_STORY } else { STORY };
    Why {
        situation,
        state: known.state(situation),
        next: known.next(situation, &problems),
        story: known.story(most),
        problems,
    }
}

fn situation(service: &ServiceStatus) -> Situation {
    let newest = service.history.first().map(|revision| revision.state);
    match newest {
        _ if service.stopped => Situation::Stopped,
        Some(RevisionState::RollingOut) => Situation::RollingOut,
        _ if !service.is_whole() => Situation::NotWhole,
        Some(RevisionState::RolledBack | RevisionState::Failed) => Situation::RolledBack,
        Some(RevisionState::Running | RevisionState::Replaced) | None => Situation::Whole,
    }
}

impl Known<'_> {
    fn newest_event(&self, wanted: &[EventKind]) -> Option<&TimelineEvent> {
        let own = |event: &&TimelineEvent| event.service.as_ref() == Some(&self.service.name);
        self.events.iter().rev().filter(own).find(|event| wanted.contains(&event.kind))
    }

    /// Whether the newest revision was not rolled out because the outcome of its command is unknown.
    fn is_unknown(&self) -> bool {
        self.service.history.first().is_some_and(|newest| newest.pre_deploy == Some(PreDeployState::Unknown))
    }

    fn state(&self, situation: Situation) -> String {
        let service = self.service;
        let (name, healthy, desired) = (&service.name, service.healthy(), service.desired);
        let newest = service.history.first();
        let runs = service.history.iter().find(|one| one.state == RevisionState::Running);
        let runs = runs.map_or_else(String::new, |one| format!(" Revision {} runs.", one.number));
        let verb = if healthy == 1 { "is" } else { "are" };
        let counts = match (healthy, desired) {
            (_, 0) => "it is to have no instances now".to_owned(),
            (0, desired) => format!("none of {} is healthy", instances(desired)),
            (healthy, desired) => format!("{healthy} of {} {verb} healthy", instances(desired)),
        };
        let text = match situation {
            Situation::Stopped => {
                let who = self.newest_event(&[EventKind::Stopped]);
                let who = who.and_then(|event| event.by.as_ref().map(|by| format!(" by {}", short(by))));
                format!(
                    "{name} was stopped{}. It has no instances until it is started again.",
                    who.unwrap_or_default()
                )
            }
            Situation::RollingOut => {
                let number = newest.map_or(0, |revision| revision.number);
                match newest.and_then(waits_for) {
                    Some(how) => {
                        format!(
                            "{name} is not rolled out yet: revision {number} waits for its `pre_deploy`, which {how}; {counts}.{runs}"
                        )
                    }
                    None => format!("{name} is being rolled out: revision {number}; {counts}."),
                }
            }
            Situation::Whole => format!("{name} is whole: {counts}.{runs}"),
            Situation::RolledBack => {
                let failed = newest.map_or_else(String::new, failed);
                format!("{name} is whole: {counts}.{runs} {failed}")
            }
            Situation::NotWhole => {
                let failed = newest
                    .filter(|one| matches!(one.state, RevisionState::Failed | RevisionState::RolledBack));
                let failed = failed.map_or_else(String::new, |one| format!(" {}", self::failed(one)));
                format!("{name} is not whole: {counts}.{runs}{failed}")
            }
        };
        let scaled = service.scaled_from.filter(|_| !service.stopped).map(|count| {
            let who = self.newest_event(&[EventKind::Scaled]);
            let who = who.and_then(|event| event.by.as_ref().map(|by| format!(", by {}", short(by))));
            format!(
                " The number of instances was set manually{}; its file says {count}.",
                who.unwrap_or_default()
            )
        });
        text + &scaled.unwrap_or_default()
    }

    fn problems(&self) -> Vec<Problem> {
        let service = self.service;
        let bad = service.instances.iter().filter(|one| match one.state {
            InstanceState::Pending | InstanceState::Failed => true,
            InstanceState::Starting => one.restarts > 0 || one.message.is_some() || !service.is_whole(),
            InstanceState::Healthy | InstanceState::Stopping => false,
        });
        let mut problems: Vec<Problem> = Vec::new();
        for one in bad {
            // A failed instance and the one that waits in its place have one name and one cause.
            let (kind, text) = self.trouble(one);
            let problem = Problem { instance: one.name.clone(), text, kind };
            match problems.iter_mut().find(|known| known.instance == problem.instance) {
                Some(known) if problem.kind < known.kind => *known = problem,
                Some(_) => {}
                None => problems.push(problem),
            }
        }
        problems
    }

    fn trouble(&self, one: &Instance) -> (Trouble, String) {
        let message = one.message.clone().unwrap_or_default();
        let restarts = match one.restarts {
            0 => String::new(),
            1 => " (restarted once)".to_owned(),
            times => format!(" (restarted {times} times)"),
        };
        let lower = message.to_lowercase();
        let image =
            ["no such image", "manifest unknown", "pull access denied", "failed to pull", "manifest for"];
        if image.iter().any(|words| lower.contains(words)) {
            return (Trouble::Image, format!("its image can't be pulled: {message}{restarts}"));
        }
        if one.state == InstanceState::Pending && !message.is_empty() {
            return self.unplaced(&message);
        }
        let machine = one.machine.as_ref();
        let down = self.machines.iter().find(|known| Some(&known.id) == machine);
        if let Some(machine) = machine
            && one.state == InstanceState::Failed
            && down.is_none_or(|known| known.state == MachineState::Down)
        {
            return (Trouble::Lost(machine.to_string()), format!("lost: machine {machine} does not answer"));
        }
        let kinds = [EventKind::OutOfMemory, EventKind::Ended, EventKind::Unhealthy];
        let of_instance = |event: &&TimelineEvent| event.instance.as_ref() == Some(&one.name);
        let newest = self.events.iter().rev().filter(of_instance).find(|event| kinds.contains(&event.kind));
        match newest {
            Some(event) if event.kind == EventKind::OutOfMemory => {
                (Trouble::OutOfMemory, format!("{}{restarts}", event.text))
            }
            Some(event) if event.kind == EventKind::Unhealthy || event.text.contains("health check") => {
                (Trouble::Health, format!("{}{restarts}", event.text))
            }
            Some(event) => (Trouble::Exit, format!("{}{restarts}", event.text)),
            None if lower.contains("unhealthy") => (Trouble::Health, format!("{message}{restarts}")),
            None if one.state == InstanceState::Failed || one.restarts > 0 => {
                let text =
                    if message.is_empty() { "failed".to_owned() } else { format!("failed: {message}") };
                (Trouble::Exit, format!("{text}{restarts}"))
            }
            None if one.state == InstanceState::Pending => {
                (Trouble::Starting, "waits for a machine".to_owned())
            }
            None => {
                let place = machine.map_or_else(String::new, |machine| format!(" on {machine}"));
                let more = if message.is_empty() { message } else { format!(": {message}") };
                (Trouble::Starting, format!("is starting{place}{more}"))
            }
        }
    }

    /// Why the scheduler finds no machine.
    fn unplaced(&self, message: &str) -> (Trouble, String) {
        let text = format!("waits for a machine: {message}");
        for (key, value) in self.placement.into_iter().flatten() {
            let has = |machine: &&Machine| machine.metadata.get(key) == Some(value);
            let fitting: Vec<&Machine> = self.machines.iter().filter(has).collect();
            if fitting.is_empty() {
                let wanted = format!("{key}={value}");
                let text =
                    format!("waits for a machine: no machine has `{wanted}`, which `placement` asks for");
                return (Trouble::Metadata(key.clone()), text);
            }
            if fitting.iter().all(|machine| machine.state != MachineState::Ready) {
                let states: Vec<String> =
                    fitting.iter().map(|one| format!("{} is {}", one.id, one.state.word())).collect();
                let text = format!(
                    "waits for a machine: of those with `{key}={value}` none takes work ({})",
                    states.join(", ")
                );
                return (Trouble::NoMachine, text);
            }
        }
        let lower = message.to_lowercase();
        if lower.contains("insufficient resources") {
            (Trouble::Resources, text)
        } else if lower.contains("max replicas per node") {
            (Trouble::PerMachine, text)
        } else if lower.contains("port") {
            (Trouble::Port, text)
        } else {
            (Trouble::NoMachine, text)
        }
    }

    fn next(&self, situation: Situation, problems: &[Problem]) -> Vec<String> {
        let name = &self.service.name;
        match situation {
            Situation::Stopped => return vec![format!("`fleetwright start {name}` starts it")],
            Situation::RolledBack | Situation::NotWhole if self.is_unknown() => {
                return vec![format!(
                    "check whether the `pre_deploy` did its work; nothing repeats it until you run `fleetwright deploy {name}`"
                )];
            }
            Situation::RolledBack => {
                return vec![format!(
                    "fix what made the revision fail, then `fleetwright deploy {name}`; `fleetwright logs {name} --since 1h` shows what it printed"
                )];
            }
            Situation::Whole if problems.is_empty() => return Vec::new(),
            Situation::Whole | Situation::RollingOut | Situation::NotWhole => {}
        }
        let mut kinds: Vec<&Trouble> = problems.iter().map(|problem| &problem.kind).collect();
        kinds.sort();
        kinds.dedup();
        let mut next: Vec<String> = kinds.into_iter().filter_map(|kind| self.remedy(kind)).collect();
        if situation == Situation::RollingOut {
            next.push(format!("`fleetwright status {name} --watch` follows the rollout"));
        } else if next.is_empty() {
            next.push(format!("`fleetwright status {name} --watch` shows whether that changes"));
        }
        next
    }

    fn remedy(&self, kind: &Trouble) -> Option<String> {
        let name = &self.service.name;
        Some(match kind {
            Trouble::Image => format!(
                "see that the registry has the image and that machines may pull it, then `fleetwright restart {name}`"
            ),
            Trouble::Metadata(key) => format!(
                "give a group of machines the tag `fleetwright:metadata:{key}`, or change `placement` in services/{name}.yaml"
            ),
            Trouble::Resources => format!(
                "add machines to a group, or lower `resources.reservations` or `resources.limits` in services/{name}.yaml; `fleetwright machines` shows what runs where"
            ),
            Trouble::Port => format!(
                "add a machine, or lower `replicas` in services/{name}.yaml: a machine can run only one instance with that port, and no two units that conflict"
            ),
            Trouble::PerMachine => {
                format!("add a machine, or raise `max_per_machine` in services/{name}.yaml")
            }
            Trouble::NoMachine => {
                "see `fleetwright machines`: machines that are down, paused or draining take no work"
                    .to_owned()
            }
            Trouble::OutOfMemory => format!(
                "raise `resources.limits.memory` in services/{name}.yaml, or find what needs so much: `fleetwright logs {name}`"
            ),
            Trouble::Health => format!(
                "see what it prints, `fleetwright logs {name}`, and compare it with what `health` in services/{name}.yaml asks for"
            ),
            Trouble::Exit => format!("see what it printed last: `fleetwright logs {name}`"),
            Trouble::Lost(machine) => format!(
                "its instances start on other machines as soon as one has room; `fleetwright events {machine}` shows what happened to it"
            ),
            Trouble::Starting => return None,
        })
    }

    /// What happened, newest first, each thing once.
    fn story(&self, most: usize) -> Vec<StoryEntry> {
        let service = &self.service.name;
        let own = |event: &&TimelineEvent| event.service.as_ref() == Some(service);
        let ran_on = |machine: &TimelineEvent| {
            let on = |event: &TimelineEvent| event.machine.is_some() && event.machine == machine.machine;
            self.events.iter().filter(own).any(on)
        };
        let belongs = |event: &&TimelineEvent| match event.kind {
            // That it was placed is said again when it is healthy.
            EventKind::Placed => false,
            EventKind::Lost
            | EventKind::Draining
            | EventKind::Rebooting
            | EventKind::Left
            | EventKind::Ready
            | EventKind::Paused
            | EventKind::Pressure
                if event.service.is_none() =>
            {
                ran_on(event)
            }
            _ => event.service.as_ref() == Some(service),
        };
        let mut story: Vec<StoryEntry> = Vec::new();
        for event in self.events.iter().rev().filter(belongs) {
            let same = |entry: &&mut StoryEntry| {
                let other = &entry.event;
                (other.kind, &other.instance, &other.machine) == (event.kind, &event.instance, &event.machine)
                    && (other.text == event.text || event.kind == EventKind::Healthy)
            };
            match story.iter_mut().find(same) {
                Some(entry) => {
                    entry.times += 1;
                    entry.since = event.at;
                }
                None => story.push(StoryEntry { event: event.clone(), times: 1, since: event.at }),
            }
        }
        story.truncate(most);
        story
    }
}

/// How far the command is that a revision waits for, if it does.
fn waits_for(revision: &Revision) -> Option<&'static str> {
    match revision.pre_deploy? {
        PreDeployState::Running => Some("runs"),
        PreDeployState::Waiting => {
            Some("waits for a machine, its image, or the command of an earlier revision")
        }
        PreDeployState::Succeeded => None,
        // What follows from it is about to be recorded.
        PreDeployState::Failed => Some("failed"),
        PreDeployState::Unknown => Some("has an unknown outcome"),
    }
}

/// How a revision failed, in a sentence.
fn failed(revision: &Revision) -> String {
    let cause = match (&revision.failed, &revision.reason) {
        (Some(failed), _) => format!(": {} {}", failed.name, failed.cause()),
        (None, Some(reason)) => format!(": {reason}"),
        (None, None) => String::new(),
    };
    let rolled_back = if revision.state == RevisionState::RolledBack { " and was rolled back" } else { "" };
    format!("Revision {} failed{rolled_back}{cause}.", revision.number)
}

#[cfg(test)]
mod tests;
