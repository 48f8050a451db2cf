//! What happened between two observations of a cluster. Pure.
//!
//! Every control machine derives events from what it observes. An event's id is made of what the
//! swarm itself keeps, such as the id of a task or the time of a revision, so that all of them record the
//! same. Where the swarm keeps nothing of the kind, the time of the observation stands for it.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::job::{Jobs, Outcome, Progress};
use crate::model::machine::{Machine, MachineState};
use crate::model::name::{MachineId, ServiceName};
use crate::model::pressure::Pressure;
use crate::model::principal::{Operation, Target};
use crate::model::service::{
    Instance, InstanceState, PreDeployState, Revision, RevisionState, ServiceStatus, Symptoms,
};
use crate::model::timeline::{EventKind, TimelineEvent};

/// A cluster at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The machines.
    pub machines: &'a [Machine],
    /// The services.
    pub services: &'a [ServiceStatus],
}

/// What happened between `before` and `after`, which was observed at `now`. Without `before` only what has
/// a time of its own is known.
pub fn derive(before: Option<Seen<'_>>, after: Seen<'_>, now: DateTime<Utc>) -> Vec<TimelineEvent> {
    let mut events = Vec::new();
    if let Some(before) = before {
        machines(before.machines, after.machines, now, &mut events);
    }
    let known = before.map_or(&[][..], |before| before.services);
    for service in after.services {
        let earlier = known.iter().find(|one| one.name == service.name);
        Change { earlier, service, machines: after.machines, now, first: before.is_none() }.all(&mut events);
    }
    for service in known.iter().filter(|one| after.services.iter().all(|other| other.name != one.name)) {
        events.push(
            TimelineEvent::seen(&format!("removed.{}", service.name), now, EventKind::Removed, "was removed")
                .of(&service.name),
        );
    }
    events
}

fn machines(before: &[Machine], after: &[Machine], now: DateTime<Utc>, events: &mut Vec<TimelineEvent>) {
    let mut push = |word: &str, machine: &Machine, kind, text: String| {
        let event = TimelineEvent::seen(&format!("{word}.{}", machine.id), now, kind, text);
        events.push(event.on(Some(&machine.id)));
    };
    for machine in after {
        let Some(earlier) = before.iter().find(|one| one.id == machine.id) else {
            let text = format!("joined as a {} machine at {}", machine.role.word(), machine.address);
            push("joined", machine, EventKind::Joined, text);
            continue;
        };
        if machine.leader && !earlier.leader {
            push("leads", machine, EventKind::Leads, "leads the control machines now".to_owned());
        }
        let before = earlier.pressure.map(Pressure::short_of).unwrap_or_default();
        let now_short = machine.pressure.map(Pressure::short_of).unwrap_or_default();
        for short in &now_short {
            if before.iter().all(|known| known.word() != short.word()) {
                let word = format!("pressure.{}", short.word());
                push(&word, machine, EventKind::Pressure, format!("runs short: {short}"));
            }
        }
        for short in before.iter().filter(|known| now_short.iter().all(|one| one.word() != known.word())) {
            let word = format!("relieved.{}", short.word());
            push(&word, machine, EventKind::Relieved, format!("has enough {} again", short.noun()));
        }
        for (name, state) in &machine.host_files {
            let before = earlier.host_files.get(name).and_then(|state| state.problem.as_ref());
            match (before, &state.problem) {
                (before, Some(problem)) if before != Some(problem) => {
                    let text = format!("watched file `{name}`: {}: {}", problem.at.words(), problem.reason);
                    push(&format!("host-file-failed.{name}"), machine, EventKind::HostFileFailed, text);
                }
                (Some(_), None) => {
                    let text = format!("watched file `{name}` is as it should be again");
                    push(&format!("host-file-well.{name}"), machine, EventKind::HostFileWell, text);
                }
                _ => {}
            }
        }
        if machine.state == earlier.state {
            continue;
        }
        let (kind, text) = match (machine.state, earlier.state) {
            (MachineState::Down, _) => (EventKind::Lost, "does not answer"),
            (MachineState::Draining, _) => (EventKind::Draining, "is being emptied"),
            (MachineState::Paused, _) => (EventKind::Paused, "takes no new work"),
            (MachineState::Rebooting, _) => (EventKind::Rebooting, "reboots"),
            (MachineState::Ready, MachineState::Down) => (EventKind::Ready, "answers again"),
            (MachineState::Ready, MachineState::Rebooting) => (EventKind::Ready, "is back after its reboot"),
            (MachineState::Ready, _) => (EventKind::Ready, "takes work again"),
        };
        push(machine.state.word(), machine, kind, text.to_owned());
    }
    for machine in before.iter().filter(|one| after.iter().all(|other| other.id != one.id)) {
        push("left", machine, EventKind::Left, "is no longer a member of the cluster".to_owned());
    }
}

/// A service before and after.
struct Change<'a> {
    earlier: Option<&'a ServiceStatus>,
    service: &'a ServiceStatus,
    machines: &'a [Machine],
    now: DateTime<Utc>,
    /// Whether nothing at all was observed before.
    first: bool,
}

impl Change<'_> {
    fn all(&self, events: &mut Vec<TimelineEvent>) {
        self.number(events);
        self.revisions(events);
        self.instances(events);
    }

    fn number(&self, events: &mut Vec<TimelineEvent>) {
        let Some(earlier) = self.earlier else { return };
        let (service, now) = (self.service, self.now);
        if service.stopped != earlier.stopped {
            events.push(if service.stopped {
                stopped(&service.name, now)
            } else {
                started(&service.name, now)
            });
        } else if service.desired != earlier.desired && !every_machine(service) {
            events.push(scaled(&service.name, now, service.desired, Some(earlier.desired)));
        }
    }

    fn revisions(&self, events: &mut Vec<TimelineEvent>) {
        let history = self.earlier.map_or(&[][..], |earlier| &earlier.history);
        for revision in &self.service.history {
            let known =
                history.iter().find(|one| (one.number, one.since) == (revision.number, revision.since));
            self.pre_deploy(history, revision, events);
            if known.is_none() {
                events.push(deployed(&self.service.name, revision, self.service.history.len() == 1));
            }
            if known.is_some_and(|known| known.state == revision.state) {
                continue;
            }
            // How a revision ended is known when it is seen to end.
            if known.is_none() && self.first {
                continue;
            }
            let reason = revision.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
            let (word, kind, text) = match revision.state {
                RevisionState::Running => ("rolled-out", EventKind::RolledOut, "is rolled out".to_owned()),
                RevisionState::RolledBack => (
                    "rolled-back",
                    EventKind::RolledBack,
                    format!("failed, and the revision before was restored{reason}"),
                ),
                RevisionState::Failed => {
                    let how = revision.failure().unwrap_or("failed");
                    ("failed", EventKind::RolloutFailed, format!("{how}{reason}"))
                }
                RevisionState::RollingOut | RevisionState::Replaced => continue,
            };
            let id = format!("{word}.{}", revision_id(&self.service.name, revision));
            let event =
                TimelineEvent::new(id, self.now, kind, format!("revision {} {text}", revision.number));
            let event = event.of(&self.service.name);
            events.push(match &revision.failed {
                Some(failed) if kind != EventKind::RolledOut => event.printed(&failed.lines),
                _ => event,
            });
        }
    }

    /// How far a revision's command is. How it failed is said of the revision.
    fn pre_deploy(&self, history: &[Revision], revision: &Revision, events: &mut Vec<TimelineEvent>) {
        // The time of a revision changes when its rollout begins; its number does not.
        let earlier = history.iter().find(|one| one.number == revision.number);
        let before = earlier.and_then(|earlier| earlier.pre_deploy);
        let unknown = earlier.is_some() && before.is_none();
        if revision.pre_deploy == before || unknown || self.first {
            return;
        }
        let (word, kind, text) = match revision.pre_deploy {
            Some(PreDeployState::Running) => ("runs", EventKind::PreDeployStarted, "runs"),
            Some(PreDeployState::Succeeded) => ("succeeded", EventKind::PreDeploySucceeded, "succeeded"),
            Some(PreDeployState::Waiting | PreDeployState::Failed | PreDeployState::Unknown) | None => return,
        };
        let key = format!("pre-deploy-{word}.{}.{}", self.service.name, revision.number);
        let text = format!("the `pre_deploy` of revision {} {text}", revision.number);
        // What has begun since was not before it.
        let begun = earlier.is_some_and(|earlier| earlier.since != revision.since);
        let moment = TimeDelta::milliseconds(1);
        let at = if begun { self.now.min(revision.since - moment) } else { self.now };
        events.push(TimelineEvent::seen(&key, at, kind, text).of(&self.service.name));
    }

    fn instances(&self, events: &mut Vec<TimelineEvent>) {
        let known: BTreeMap<&str, &Instance> = self
            .earlier
            .iter()
            .flat_map(|earlier| &earlier.instances)
            .map(|instance| (instance.id.as_str(), instance))
            .collect();
        for instance in &self.service.instances {
            let earlier = known.get(instance.id.as_str()).copied();
            if earlier.is_some_and(|earlier| {
                (earlier.state, &earlier.machine, &earlier.message)
                    == (instance.state, &instance.machine, &instance.message)
            }) {
                continue;
            }
            events.extend(self.instance(earlier, instance));
        }
        let present: BTreeSet<&str> = self.service.instances.iter().map(|one| one.id.as_str()).collect();
        for instance in known.values().filter(|one| !present.contains(one.id.as_str())) {
            match instance.state {
                InstanceState::Healthy => events.push(self.stopping(instance)),
                InstanceState::Starting => events.push(self.gone_early(instance)),
                // The one has ended as it was meant to, and of the other nothing is left to say.
                InstanceState::Pending | InstanceState::Stopping | InstanceState::Failed => {}
            }
        }
    }

    /// An instance is gone that was not healthy yet. While the one that it was to replace is healthy, its
    /// failure is not listed, so that it is gone is all that is seen of it.
    fn gone_early(&self, instance: &Instance) -> TimelineEvent {
        let stopping = self.stopping(instance);
        let fewer = self.earlier.is_some_and(|earlier| self.service.desired < earlier.desired);
        if stopping.kind != EventKind::Stopping || self.service.stopped || fewer {
            return stopping;
        }
        let place = instance.machine.as_ref().map_or_else(String::new, |machine| format!(" on {machine}"));
        let text = format!("ended{place} before it was healthy");
        self.event("ended", instance, self.now, EventKind::Ended, text)
    }

    fn instance(&self, earlier: Option<&Instance>, one: &Instance) -> Vec<TimelineEvent> {
        let event = |word: &str, at, kind, text: String| self.event(word, one, at, kind, text);
        let mut events = Vec::new();
        let place = one.machine.as_ref().map_or_else(String::new, |machine| format!(" on {machine}"));
        if one.machine.is_some() && earlier.is_none_or(|earlier| earlier.machine.is_none()) {
            // What is seen only when it is healthy was placed before that.
            let moment = TimeDelta::milliseconds(i64::from(one.state != InstanceState::Starting));
            let at = one.since - moment;
            events.push(event("placed", at, EventKind::Placed, format!("started{place}")));
        }
        let message = one.message.clone().unwrap_or_default();
        match one.state {
            InstanceState::Pending if !message.is_empty() => {
                events.push(event(
                    "waiting",
                    one.since,
                    EventKind::Waiting,
                    format!("waits for a machine: {message}"),
                ));
            }
            InstanceState::Healthy => {
                let counts = format!("{}/{}", self.service.healthy(), self.service.desired);
                events.push(event(
                    "healthy",
                    one.since,
                    EventKind::Healthy,
                    format!("healthy{place}; {counts}"),
                ));
            }
            InstanceState::Failed if self.is_lost(one) => {
                events.push(event("lost", self.now, EventKind::Lost, format!("lost: {}", lost_words(one))));
            }
            // The engine rejects what a machine may no longer run, such as the service of a volume that it loses.
            InstanceState::Failed if message.contains("no longer meets constraints") => {
                events.push(self.stopping(one));
            }
            InstanceState::Failed => {
                // As the machine itself reported it, which may not have found the instance any more.
                let status = message.strip_prefix("non-zero exit (").and_then(|rest| rest.strip_suffix(')'));
                let text = match status {
                    Some(status) => format!("exited{place} with status {status}"),
                    None if message.is_empty() => format!("failed{place}"),
                    None => format!("failed{place}: {message}"),
                };
                events.push(event("ended", one.since, EventKind::Ended, text));
            }
            InstanceState::Stopping => events.push(self.stopping(one)),
            InstanceState::Pending | InstanceState::Starting => {}
        }
        events
    }

    fn event(
        &self,
        word: &str,
        instance: &Instance,
        at: DateTime<Utc>,
        kind: EventKind,
        text: String,
    ) -> TimelineEvent {
        TimelineEvent::new(format!("{word}.{}", instance.id), at, kind, text)
            .of(&self.service.name)
            .instance(&instance.name)
            .on(instance.machine.as_ref())
    }

    fn state_of(&self, machine: Option<&MachineId>) -> Option<MachineState> {
        self.machines.iter().find(|one| Some(&one.id) == machine).map(|one| one.state)
    }

    /// Whether an instance failed because its machine does not answer.
    fn is_lost(&self, instance: &Instance) -> bool {
        instance.machine.is_some()
            && matches!(self.state_of(instance.machine.as_ref()), Some(MachineState::Down) | None)
    }

    /// An instance is being stopped, and why.
    fn stopping(&self, instance: &Instance) -> TimelineEvent {
        let service = self.service;
        let newest = service.history.first();
        let place = instance.machine.as_ref().map_or_else(String::new, |machine| format!(" on {machine}"));
        let moved = match self.state_of(instance.machine.as_ref()) {
            Some(MachineState::Draining) => Some("is being emptied"),
            Some(MachineState::Rebooting) => Some("reboots"),
            Some(MachineState::Ready | MachineState::Paused | MachineState::Down) | None => None,
        };
        if let (Some(why), Some(machine)) = (moved, &instance.machine) {
            let text = format!("moved away from {machine}, which {why}");
            return self.event("stopping", instance, self.now, EventKind::Moved, text);
        }
        if self.is_lost(instance) {
            let text = format!("lost: {}", lost_words(instance));
            return self.event("lost", instance, self.now, EventKind::Lost, text);
        }
        let scaled = self.earlier.is_some_and(|earlier| service.desired < earlier.desired)
            || service.instances.len() > service.desired as usize;
        let why = match newest {
            _ if service.stopped => ": the service was stopped".to_owned(),
            Some(newest) if newest.state == RevisionState::RollingOut => {
                format!(": revision {} replaces it", newest.number)
            }
            Some(newest) if newest.state == RevisionState::RolledBack && instance.digest == newest.digest => {
                format!(": revision {} is rolled back", newest.number)
            }
            _ if scaled => format!(": the service is to have {} now", instances(service.desired)),
            _ => String::new(),
        };
        self.event(
            "stopping",
            instance,
            self.now,
            EventKind::Stopping,
            format!("is being stopped{place}{why}"),
        )
    }
}

fn lost_words(instance: &Instance) -> String {
    let machine = instance.machine.as_ref().map_or_else(|| "its machine".to_owned(), ToString::to_string);
    format!("{machine} does not answer")
}

/// Whether a service has one instance on every machine: their number follows from the machines.
fn every_machine(service: &ServiceStatus) -> bool {
    let slot = |instance: &Instance| {
        let slot = instance.name.rsplit('@').next().unwrap_or_default().to_owned();
        slot.parse::<u64>().is_ok()
    };
    !service.instances.is_empty() && !service.instances.iter().any(slot)
}

fn revision_id(service: &ServiceName, revision: &Revision) -> String {
    format!("{service}.{}.{}", revision.number, revision.since.timestamp_millis())
}

/// A revision began to roll out.
pub fn deployed(service: &ServiceName, revision: &Revision, first: bool) -> TimelineEvent {
    let origin = &revision.origin;
    let from = if origin.commit.is_empty() {
        String::new()
    } else {
        let commit: String = origin.commit.chars().take(7).collect();
        let subject =
            if origin.subject.is_empty() { String::new() } else { format!(" \"{}\"", origin.subject) };
        format!(", {}@{commit}{subject}", origin.repository)
    };
    let word = match revision.pre_deploy {
        Some(PreDeployState::Succeeded) => "begins to roll out",
        Some(_) => "deployed, to be rolled out after its `pre_deploy`",
        None if first => "deployed",
        None => "begins to roll out",
    };
    TimelineEvent::new(
        format!("deployed.{}", revision_id(service, revision)),
        revision.since,
        EventKind::Deployed,
        format!("revision {} {word}: {}{from}", revision.number, revision.image()),
    )
    .of(service)
}

fn stopped(service: &ServiceName, at: DateTime<Utc>) -> TimelineEvent {
    TimelineEvent::seen(&format!("stopped.{service}"), at, EventKind::Stopped, "was stopped").of(service)
}

fn started(service: &ServiceName, at: DateTime<Utc>) -> TimelineEvent {
    TimelineEvent::seen(&format!("started.{service}"), at, EventKind::Started, "was started").of(service)
}

/// `1 instance`, `2 instances`.
pub(super) fn instances(count: u32) -> String {
    if count == 1 { "1 instance".to_owned() } else { format!("{count} instances") }
}

fn scaled(service: &ServiceName, at: DateTime<Utc>, to: u32, from: Option<u32>) -> TimelineEvent {
    let text = match from {
        Some(from) => format!("scaled from {from} to {}", instances(to)),
        None => format!("scaled to {}", instances(to)),
    };
    TimelineEvent::seen(&format!("scaled.{service}.{to}"), at, EventKind::Scaled, text).of(service)
}

/// A request that was carried out, as an event: `by` is who asked, `services` what runs afterwards.
///
/// A deployment that changed nothing made no revision, and is no event.
pub fn of_request(
    by: &str,
    at: DateTime<Utc>,
    operation: Operation,
    target: &Target,
    details: &BTreeMap<String, String>,
    services: &[ServiceStatus],
) -> Vec<TimelineEvent> {
    let event = match (operation, target) {
        (Operation::Deploy | Operation::Rollback | Operation::RollbackTo, Target::Service(name)) => {
            let service = services.iter().find(|one| one.name == *name);
            let number = details.get("revision").and_then(|number| number.parse::<u64>().ok());
            let revision = service.and_then(|service| {
                service.history.iter().find(|one| Some(one.number) == number && one.since >= at - SLACK)
            });
            revision.map(|revision| {
                let event = deployed(name, revision, service.is_some_and(|one| one.history.len() == 1));
                if operation == Operation::Deploy {
                    event
                } else {
                    let why = match details.contains_key("release") {
                        true => "its release failed and is taken back",
                        false => "a rollback on request",
                    };
                    TimelineEvent { text: format!("{}, {why}", event.text), ..event }
                }
            })
        }
        (Operation::Scale, Target::Service(name)) => {
            let number = details.get("replicas").and_then(|number| number.parse().ok());
            match (number, details.get("to").map(String::as_str)) {
                (Some(to), _) => Some(scaled(name, at, to, None)),
                (None, Some("stop")) => Some(stopped(name, at)),
                (None, Some("start")) => Some(started(name, at)),
                (None, _) => None,
            }
        }
        (Operation::Remove, Target::Service(name)) => Some(
            TimelineEvent::seen(&format!("removed.{name}"), at, EventKind::Removed, "was removed").of(name),
        ),
        (Operation::Drain, Target::Machines(machines)) => {
            let drained = |machine: &MachineId| {
                let key = format!("{}.{machine}", MachineState::Draining.word());
                let event = TimelineEvent::seen(&key, at, EventKind::Draining, "is being emptied");
                event.on(Some(machine)).by(by)
            };
            return machines.iter().map(drained).collect();
        }
        (Operation::DeployJob, Target::Job(name)) => {
            let key = format!("job-deployed.{name}");
            Some(TimelineEvent::seen(&key, at, EventKind::JobDeployed, "deployed").of_job(name))
        }
        (Operation::RunJob, Target::Job(name)) => {
            let key = format!("job-run.{name}");
            Some(
                TimelineEvent::seen(&key, at, EventKind::JobRun, "is run outside of its schedule")
                    .of_job(name),
            )
        }
        (Operation::RemoveJob, Target::Job(name)) => {
            let key = format!("removed.job.{name}");
            Some(TimelineEvent::seen(&key, at, EventKind::Removed, "was removed").of_job(name))
        }
        (Operation::DeployHostFile, Target::HostFile(name)) => {
            let text = format!("watched file `{name}` was deployed");
            Some(TimelineEvent::seen(&format!("host-file.{name}"), at, EventKind::HostFileDeployed, text))
        }
        (Operation::RemoveHostFile, Target::HostFile(name)) => {
            let text = format!("watched file `{name}` was removed");
            Some(TimelineEvent::seen(&format!("removed.host-file.{name}"), at, EventKind::Removed, text))
        }
        _ => None,
    };
    event.map(|event| event.by(by)).into_iter().collect()
}

/// How far a revision's time may lie before the request that made it: the clocks are two machines'.
const SLACK: TimeDelta = TimeDelta::seconds(5);

/// What the machine of an instance reported of it, as an event; none for one that was meant to stop.
/// `instance` is how it was observed last.
pub fn of_symptoms(
    service: &ServiceName,
    instance: &Instance,
    seen: &Symptoms,
    now: DateTime<Utc>,
) -> Option<TimelineEvent> {
    if instance.state == InstanceState::Stopping {
        return None;
    }
    let task = &instance.id;
    let early = if instance.state == InstanceState::Starting { " before it was healthy" } else { "" };
    let place = instance.machine.as_ref().map_or_else(String::new, |machine| format!(" on {machine}"));
    let event = match (&seen.ended, &seen.probe) {
        (Some(ended), probe) => {
            let (kind, text) = if ended.out_of_memory {
                let text = format!("was killed{place}: it used more memory than `resources.limits.memory`");
                (EventKind::OutOfMemory, text)
            } else if let Some(error) = &ended.error {
                (EventKind::Ended, format!("could not start{place}: {error}"))
            } else if let Some(probe) = probe {
                let text = format!("was ended{place} because its health check failed: {}", probe.trim());
                (EventKind::Ended, text)
            } else {
                (EventKind::Ended, format!("exited{place} with status {}{early}", ended.exit))
            };
            TimelineEvent::new(format!("ended.{task}"), now, kind, text).printed(&ended.lines)
        }
        (None, Some(probe)) => TimelineEvent::new(
            format!("unhealthy.{task}"),
            now,
            EventKind::Unhealthy,
            format!("unhealthy{place}: {}", probe.trim()),
        ),
        (None, None) => TimelineEvent::new(
            format!("unhealthy.{task}"),
            now,
            EventKind::Unhealthy,
            format!("unhealthy{place}: its health check fails"),
        ),
    };
    Some(event.of(service).instance(&instance.name).on(instance.machine.as_ref()))
}

/// Occurrences of jobs that failed.
pub fn of_jobs(jobs: &Jobs) -> Vec<TimelineEvent> {
    let occurrences =
        jobs.jobs.iter().flat_map(|job| job.occurrences.iter().map(move |one| (&job.name, one)));
    let failed = occurrences.filter_map(|(job, one)| {
        let Progress::Ended(outcome) = one.progress else { return None };
        let text = match outcome {
            Outcome::Failed => match one.exit {
                Some(exit) => format!("failed with status {exit}"),
                None => "failed".to_owned(),
            },
            Outcome::TimedOut => "was stopped: it took longer than its `timeout`".to_owned(),
            Outcome::Missed => "was missed: it could not be started when it was due".to_owned(),
            Outcome::Unknown => "has an unknown outcome: its machine was lost".to_owned(),
            Outcome::Succeeded | Outcome::Skipped | Outcome::Replaced => return None,
        };
        let reason = one.reason.as_ref().map_or_else(String::new, |reason| format!(" ({reason})"));
        let at = one.ended.unwrap_or(one.at);
        let text = format!("{} {text}{reason}", one.id);
        let event = TimelineEvent::new(format!("job-failed.{}", one.id), at, EventKind::JobFailed, text);
        Some(event.of_job(job).on(one.machine.as_ref()).printed(&one.lines))
    });
    failed.collect()
}

#[cfg(test)]
mod tests;
