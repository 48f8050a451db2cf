//! Which notifications are due. Pure.
//!
//! What is wrong is observed again and again; a condition is remembered from when it was first
//! seen, sent once it has lasted long enough, and forgotten with a second message when it has passed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::model::duration::written;
use crate::model::job::Jobs;
use crate::model::machine::{Machine, MachineState};
use crate::model::notify::{
    Alert, Condition, Form, Message, NOTIFY_VERSION, Notified, Receiver, Receivers, Remembered,
};
use crate::model::pressure::Pressure;
use crate::model::service::{RevisionState, ServiceStatus};
use crate::model::timeline::EventKind;

/// The parameter of the receivers, below the cluster's prefix.
pub const PARAMETER: &str = "notify";
/// The parameter of what was sent, below the cluster's prefix. Only leaders write it.
pub const SENT: &str = "notified";
/// How long a machine must not answer before that is a message: a reboot of its engine is none.
const LOST_AFTER: TimeDelta = TimeDelta::seconds(20);
/// How old what happened once may be when it is first seen: a cluster that gets its first receiver does not
/// report its history.
const NEWS: TimeDelta = TimeDelta::minutes(15);
/// How long what happened once is remembered, so that no leader sends it again.
const REMEMBERED: TimeDelta = TimeDelta::days(2);

/// What a leader observes.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// The machines.
    pub machines: &'a [Machine],
    /// The services.
    pub services: &'a [ServiceStatus],
    /// The jobs; `None` when they could not be read.
    pub jobs: Option<&'a Jobs>,
}

/// What is wrong, or happened a short while ago.
pub fn conditions(seen: &Seen<'_>, now: DateTime<Utc>) -> Vec<Condition> {
    let mut found = Vec::new();
    for service in seen.services {
        let subject = format!("service/{}", service.name);
        let newest = service.history.first();
        let rolls = newest.is_some_and(|one| one.state == RevisionState::RollingOut);
        // A first rollout has nothing to lose; it fails or becomes whole.
        let is_first = rolls && service.history.len() == 1;
        if !(service.is_whole() || service.stopped || is_first) {
            let text = format!(
                "{} of {} instances of {} are healthy",
                service.healthy(),
                service.desired,
                service.name
            );
            found.push(Condition {
                alert: Alert::ServiceNotWhole,
                subject: subject.clone(),
                text,
                since: now,
            });
        }
        for revision in &service.history {
            let Some(failed) = revision.failure() else { continue };
            let cause = match (&revision.failed, &revision.reason) {
                (Some(instance), _) => format!(": {} {}", instance.name, instance.cause()),
                (None, Some(reason)) => format!(": {reason}"),
                (None, None) => String::new(),
            };
            let text = format!("revision {} of {} {failed}{cause}", revision.number, service.name);
            let at = revision.failed.as_ref().map_or(revision.since, |failed| failed.at);
            found.push(Condition { alert: Alert::RolloutFailed, subject: subject.clone(), text, since: at });
        }
    }
    for machine in seen.machines {
        let subject = format!("machine/{}", machine.id);
        if machine.state == MachineState::Down {
            let text = format!("machine {} does not answer", machine.id);
            found.push(Condition { alert: Alert::MachineLost, subject: subject.clone(), text, since: now });
        }
        let short = machine.pressure.map(Pressure::short_of).unwrap_or_default();
        if !short.is_empty() {
            let words: Vec<String> = short.iter().map(ToString::to_string).collect();
            let text = format!("machine {} runs short: {}", machine.id, words.join(", "));
            found.push(Condition { alert: Alert::MachineShort, subject, text, since: now });
        }
    }
    for event in seen.jobs.map(super::timeline::of_jobs).unwrap_or_default() {
        if let (EventKind::JobFailed, Some(job)) = (event.kind, &event.job) {
            let subject = format!("job/{job}");
            let text = format!("job {job}: {}", event.text);
            found.push(Condition { alert: Alert::JobFailed, subject, text, since: event.at });
        }
    }
    found.retain(|one| one.alert.passes() || now - one.since <= REMEMBERED);
    found
}

/// What a receiver knows a condition by. Something that happens once has its time in it.
fn key(receiver: &Receiver, condition: &Condition) -> String {
    let once = match condition.alert.passes() {
        true => String::new(),
        false => format!(" {}", condition.since.timestamp()),
    };
    format!("{} {} {}{once}", receiver.secret, condition.alert, condition.subject)
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Where it is remembered.
    pub key: String,
    /// Whom to.
    pub receiver: Receiver,
    /// The message.
    pub message: Message,
}

/// What is due at `now`, and what is remembered apart from that: a message that was sent is marked with
/// [`sent`], and is due again until it is.
pub fn step(
    receivers: &Receivers,
    notified: &Notified,
    conditions: &[Condition],
    now: DateTime<Utc>,
) -> (Vec<Due>, Notified) {
    let mut known: BTreeMap<String, Remembered> = BTreeMap::new();
    let mut due = Vec::new();
    let mut present = BTreeSet::new();
    for receiver in &receivers.receivers {
        for condition in conditions.iter().filter(|one| receiver.events.contains(&one.alert)) {
            let key = key(receiver, condition);
            if !present.insert(key.clone()) {
                continue;
            }
            let before = notified.known.get(&key).or_else(|| known.get(&key));
            let first = before.is_none();
            let since = before.map_or(condition.since, |before| before.condition.since);
            let mut remembered = Remembered {
                condition: Condition { since, ..condition.clone() },
                sent: before.and_then(|before| before.sent),
            };
            // History when the receiver is new, or this machine has just begun to lead. Later, what is seen for the
            // first time has just happened: a rollout that failed bears the time at which it began.
            let is_new = !notified.watched.contains(&receiver.secret);
            let is_history = condition.alert == Alert::JobFailed || is_new;
            if first && is_history && !condition.alert.passes() && now - condition.since > NEWS {
                remembered.sent = Some(condition.since);
            }
            let wait = match condition.alert {
                Alert::ServiceNotWhole => TimeDelta::from_std(receiver.after).unwrap_or(TimeDelta::MAX),
                Alert::MachineLost => LOST_AFTER,
                Alert::RolloutFailed | Alert::JobFailed | Alert::MachineShort => TimeDelta::zero(),
            };
            if remembered.sent.is_none() && now - since >= wait {
                let message = message(&remembered.condition, false);
                due.push(Due { key: key.clone(), receiver: receiver.clone(), message });
            }
            known.insert(key, remembered);
        }
    }
    for (key, before) in notified.known.iter().filter(|(key, _)| !present.contains(*key)) {
        let of = |receiver: &&Receiver| self::key(receiver, &before.condition) == *key;
        match (before.condition.alert.passes(), before.sent, receivers.receivers.iter().find(of)) {
            // That it began was never sent, so that it has passed is not sent either.
            (true, None, _) | (_, _, None) => {}
            (true, Some(_), Some(receiver)) => {
                let message = message(&before.condition, true);
                due.push(Due { key: key.clone(), receiver: receiver.clone(), message });
                known.insert(key.clone(), before.clone());
            }
            (false, _, Some(_)) if now - before.condition.since <= REMEMBERED => {
                known.insert(key.clone(), before.clone());
            }
            (false, _, Some(_)) => {}
        }
    }
    let watched = receivers.receivers.iter().map(|receiver| receiver.secret.clone()).collect();
    (due, Notified { known, watched })
}

/// Marks a message as sent.
pub fn sent(notified: &mut Notified, due: &Due, now: DateTime<Utc>) {
    if due.message.passed {
        notified.known.remove(&due.key);
    } else if let Some(remembered) = notified.known.get_mut(&due.key) {
        remembered.sent = Some(now);
    }
}

fn message(condition: &Condition, passed: bool) -> Message {
    let end = if passed { ".passed" } else { "" };
    let subject = condition.subject.replace('/', ".");
    Message {
        id: format!("{}.{subject}.{}{end}", condition.alert, condition.since.timestamp_millis()),
        condition: condition.clone(),
        passed,
    }
}

/// A message as it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// [`NOTIFY_VERSION`].
    pub version: u32,
    /// The same when the message is sent again.
    pub id: String,
    /// What it is about.
    pub event: Alert,
    /// `begun` or `passed`; `happened` for what has no end.
    pub state: String,
    /// The cluster: `PROJECT/ENVIRONMENT/CLUSTER`.
    pub cluster: String,
    /// What it is about: `service/web`.
    pub subject: String,
    /// What is wrong, for people.
    pub text: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// The body of a message in that form.
pub fn body(form: Form, cluster: &str, message: &Message) -> String {
    let condition = &message.condition;
    let text = match message.passed {
        true => format!("over: {}", condition.text),
        false => condition.text.clone(),
    };
    let state = match (message.passed, condition.alert.passes()) {
        (true, _) => "passed",
        (false, true) => "begun",
        (false, false) => "happened",
    };
    let value = match form {
        Form::Slack => serde_json::json!({ "text": format!("[{cluster}] {}", escaped(&text)) }),
        Form::Json => serde_json::json!(Body {
            version: NOTIFY_VERSION,
            id: message.id.clone(),
            event: condition.alert,
            state: state.to_owned(),
            cluster: cluster.to_owned(),
            subject: condition.subject.clone(),
            text,
            since: condition.since,
        }),
    };
    value.to_string()
}

/// Slack reads these three characters as markup ("Formatting text" in its documentation).
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A change of who is notified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyChange {
    /// The parameter that holds it.
    pub parameter: String,
    /// What is published now; `None` when nothing is.
    pub before: Option<String>,
    /// What apply publishes; `None` when it withdraws it.
    pub after: Option<String>,
    /// Who is notified of what from then on, a line each, and who no longer is.
    pub lines: Vec<NotifyLine>,
}

/// One receiver that is added or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotifyLine {
    /// The receiver, by its secret, and what it is notified of.
    pub receiver: String,
    /// Whether it is added.
    pub added: bool,
}

/// What has to change so that `wanted` is published at `parameter`, where `found` is now.
pub fn change(parameter: &str, wanted: Option<&Receivers>, found: Option<&str>) -> Option<NotifyChange> {
    let after = wanted.map(Receivers::publish);
    if after.as_deref() == found {
        return None;
    }
    let before = found.and_then(|text| Receivers::read(text).ok()).unwrap_or_default();
    let empty = Receivers::default();
    let wanted = wanted.unwrap_or(&empty);
    let line = |receiver: &Receiver, added| {
        let events: Vec<&str> = receiver.events.iter().map(|alert| alert.word()).collect();
        let (form, after) = (receiver.form.key(), written(receiver.after));
        let receiver = format!("{form} {} ({}; after {after})", receiver.secret, events.join(", "));
        NotifyLine { receiver, added }
    };
    let gone =
        before.receivers.iter().filter(|one| !wanted.receivers.contains(one)).map(|one| line(one, false));
    let new =
        wanted.receivers.iter().filter(|one| !before.receivers.contains(one)).map(|one| line(one, true));
    let lines = gone.chain(new).collect();
    Some(NotifyChange { parameter: parameter.to_owned(), before: found.map(str::to_owned), after, lines })
}

#[cfg(test)]
mod tests;
