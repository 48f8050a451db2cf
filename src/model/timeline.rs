//! What happened to services, machines and jobs, as control machines record it.
//!
//! Each control machine records what it sees and what it is sent, so the same occurrence is usually
//! recorded several times. Its id follows from the occurrence, so that readers find the copies.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::name::{JobName, MachineId, ServiceName};

/// The version of an event, and of what is sent of events.
pub const TIMELINE_VERSION: u32 = 1;
/// Events of this age are always kept, within the limit of each subject.
pub const KEPT: TimeDelta = TimeDelta::hours(24);
/// How many events of one service, machine or job are kept: one that fails all the time
/// pushes out only its own events.
pub const MOST_OF_ONE: u32 = 1_000;
/// How many events are kept in all.
pub const MOST: u32 = 50_000;
/// What separates the parts of an id that follow from the occurrence from the time at which it was seen.
const SEEN: char = '~';
/// Observations of one occurrence that has no time of its own are less far apart than this.
const APART: TimeDelta = TimeDelta::seconds(20);
/// The longest text of an event, in characters.
const TEXT_MOST: usize = 400;
/// How many lines of output an event has.
const LINES_MOST: usize = 20;

/// What kind of event it is. `text` says the rest to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// A revision of a service began to roll out.
    Deployed,
    /// The `pre_deploy` command of a revision began to run.
    PreDeployStarted,
    /// The `pre_deploy` command of a revision succeeded.
    PreDeploySucceeded,
    /// The rollout of a revision is complete.
    RolledOut,
    /// The rollout of a revision failed, and the revision before was restored.
    RolledBack,
    /// The rollout of a revision failed and could not be undone.
    RolloutFailed,
    /// The number of a service's instances was changed.
    Scaled,
    /// A service was stopped.
    Stopped,
    /// A service was started again.
    Started,
    /// A service or job was removed.
    Removed,
    /// An instance waits for a machine.
    Waiting,
    /// An instance was given a machine.
    Placed,
    /// An instance became healthy.
    Healthy,
    /// The health check of an instance fails.
    Unhealthy,
    /// An instance ended, and was not meant to.
    Ended,
    /// An instance was killed because it used too much memory.
    OutOfMemory,
    /// An instance is being stopped, as it is meant to.
    Stopping,
    /// An instance is being moved off its machine.
    Moved,
    /// An instance or a machine does not answer.
    Lost,
    /// A machine joined the cluster.
    Joined,
    /// A machine is no longer a member of the cluster.
    Left,
    /// A machine answers again, or takes work again.
    Ready,
    /// A machine is being emptied.
    Draining,
    /// A machine takes no new work.
    Paused,
    /// A machine reboots.
    Rebooting,
    /// A machine runs short of disk, inodes or memory.
    Pressure,
    /// A machine has enough of it again.
    Relieved,
    /// A machine leads the control machines.
    Leads,
    /// A job was deployed.
    JobDeployed,
    /// Somebody ran a job.
    JobRun,
    /// An occurrence of a job failed.
    JobFailed,
    /// A watched file was deployed.
    HostFileDeployed,
    /// A watched file can't be rendered, checked, written, or its program reloaded.
    HostFileFailed,
    /// A watched file is as it should be again.
    HostFileWell,
    /// Something that a later version records.
    #[serde(other)]
    Other,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// [`TIMELINE_VERSION`].
    pub version: u32,
    /// The same for every record of the same occurrence; see [`merged`].
    pub id: String,
    /// When it happened, as far as that is known, or when it was seen.
    pub at: DateTime<Utc>,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// The job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// The instance, `web@1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The machine that it is about, or on which it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// Who asked for it, as in the audit log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// What happened, for people; the subject is not repeated in it.
    pub text: String,
    /// The last lines of output, oldest first; none for those who may not read logs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

impl TimelineEvent {
    /// An event about nothing in particular yet. `id` must follow from the occurrence.
    pub fn new(id: String, at: DateTime<Utc>, kind: EventKind, text: impl Into<String>) -> Self {
        Self {
            version: TIMELINE_VERSION,
            id,
            at,
            kind,
            service: None,
            job: None,
            instance: None,
            machine: None,
            by: None,
            text: text.into().chars().filter(|c| !c.is_control()).take(TEXT_MOST).collect(),
            lines: Vec::new(),
        }
    }

    /// An event whose occurrence has no time of its own: `key` says what happened, and `at` when it was seen.
    pub fn seen(key: &str, at: DateTime<Utc>, kind: EventKind, text: impl Into<String>) -> Self {
        Self::new(format!("{key}{SEEN}{}", at.timestamp_millis()), at, kind, text)
    }

    /// The same, of a service.
    #[must_use]
    pub fn of(self, service: &ServiceName) -> Self {
        Self { service: Some(service.clone()), ..self }
    }

    /// The same, of a job.
    #[must_use]
    pub fn of_job(self, job: &JobName) -> Self {
        Self { job: Some(job.clone()), ..self }
    }

    /// The same, of an instance.
    #[must_use]
    pub fn instance(self, name: &str) -> Self {
        Self { instance: Some(name.to_owned()), ..self }
    }

    /// The same, about a machine or on it.
    #[must_use]
    pub fn on(self, machine: Option<&MachineId>) -> Self {
        Self { machine: machine.cloned(), ..self }
    }

    /// The same, asked for by somebody.
    #[must_use]
    pub fn by(self, who: impl Into<String>) -> Self {
        Self { by: Some(who.into()), ..self }
    }

    /// The same, with the last of those lines of output.
    #[must_use]
    pub fn printed(self, lines: &[String]) -> Self {
        Self { lines: lines[lines.len().saturating_sub(LINES_MOST)..].to_vec(), ..self }
    }

    /// What it is about, in one word: an instance, a service, a job or a machine.
    pub fn subject(&self) -> &str {
        self.instance
            .as_deref()
            .or_else(|| self.service.as_ref().map(ServiceName::as_str))
            .or_else(|| self.job.as_ref().map(JobName::as_str))
            .or_else(|| self.machine.as_ref().map(MachineId::as_str))
            .unwrap_or("-")
    }

    /// Whose limit it counts towards: its service, job or machine.
    pub fn owner(&self) -> String {
        match (&self.service, &self.job, &self.machine) {
            (Some(service), _, _) => format!("service/{service}"),
            (None, Some(job), _) => format!("job/{job}"),
            (None, None, Some(machine)) => format!("machine/{machine}"),
            (None, None, None) => "-".to_owned(),
        }
    }

    /// How much it says: of several records of one occurrence, the one that says most is shown.
    fn says(&self) -> (bool, bool, usize) {
        (self.by.is_some(), !self.lines.is_empty(), self.text.len())
    }

    /// One record of two of the same occurrence: the earliest time, with the one that says most.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        let at = self.at.min(other.at);
        let id = if self.at <= other.at { self.id.clone() } else { other.id.clone() };
        let first = (self.says(), &other.id, &other.text) >= (other.says(), &self.id, &self.text);
        let (more, less) = if first { (self, other) } else { (other, self) };
        let lines = if more.lines.is_empty() { less.lines } else { more.lines };
        Self { id, at, by: more.by.or(less.by), lines, ..more }
    }

    /// What the occurrence is, without the time at which it was seen.
    fn key(&self) -> &str {
        self.id.split(SEEN).next().unwrap_or_default()
    }

    fn has_time_of_its_own(&self) -> bool {
        !self.id.contains(SEEN)
    }
}

/// Which occurrences were shown already, where the records of them come one after the other.
#[derive(Debug, Default)]
pub struct Shown(BTreeMap<String, Vec<DateTime<Utc>>>);

impl Shown {
    /// Whether no record of the same occurrence was shown before; it counts as shown from then on.
    pub fn is_new(&mut self, event: &TimelineEvent) -> bool {
        let own = event.has_time_of_its_own();
        let times = self.0.entry(event.key().to_owned()).or_default();
        if times.iter().any(|at| own || (event.at - *at).abs() < APART) {
            return false;
        }
        times.push(event.at);
        true
    }
}

/// `role/deploy/ada` of `arn:aws:iam::123456789012:role/deploy/ada`, for people.
pub fn short(by: &str) -> &str {
    if by.starts_with("arn:") { by.splitn(6, ':').nth(5).unwrap_or(by) } else { by }
}

/// Records of several control machines as one timeline: each occurrence once, in the order of time.
pub fn merged(events: impl IntoIterator<Item = TimelineEvent>) -> Vec<TimelineEvent> {
    let mut known: BTreeMap<String, TimelineEvent> = BTreeMap::new();
    for event in events {
        let joined = match known.remove(&event.id) {
            Some(before) => before.joined(event),
            None => event,
        };
        known.insert(joined.id.clone(), joined);
    }
    let mut all: Vec<TimelineEvent> = known.into_values().collect();
    all.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut kept: Vec<TimelineEvent> = Vec::with_capacity(all.len());
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for event in all {
        if event.has_time_of_its_own() {
            kept.push(event);
            continue;
        }
        match last.get(event.key()).copied() {
            Some(at) if event.at - kept[at].at < APART => kept[at] = kept[at].clone().joined(event),
            _ => {
                last.insert(event.key().to_owned(), kept.len());
                kept.push(event);
            }
        }
    }
    kept
}

/// Which events are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventQuery {
    /// Only from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// Only of these services, instances, jobs or machines; of all when it is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// At most so many, the newest.
    pub limit: u32,
}

impl EventQuery {
    /// Whether `event` is wanted.
    pub fn takes(&self, event: &TimelineEvent) -> bool {
        let named = |name: &String| {
            event.service.as_ref().is_some_and(|one| one.as_str() == name)
                || event.job.as_ref().is_some_and(|one| one.as_str() == name)
                || event.machine.as_ref().is_some_and(|one| one.as_str() == name)
                || event.instance.as_ref() == Some(name)
        };
        self.since.is_none_or(|since| event.at >= since) && (self.of.is_empty() || self.of.iter().any(named))
    }
}

/// A control machine whose events are missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingEvents {
    /// The control machine.
    pub machine: String,
    /// Why.
    pub reason: String,
}

/// Events of one control machine, or of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// [`TIMELINE_VERSION`].
    pub version: u32,
    /// The events, oldest first.
    pub events: Vec<TimelineEvent>,
    /// The control machines whose events are missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<MissingEvents>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a time")
    }

    fn lost(seconds: i64) -> TimelineEvent {
        let machine: MachineId = "i-1".parse().expect("an id");
        TimelineEvent::seen("lost.i-1", at(seconds), EventKind::Lost, "does not answer").on(Some(&machine))
    }

    #[test]
    fn every_recorded_event_is_read() {
        for (name, text) in crate::source::samples::of("timeline") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let page: EventPage = serde_json::from_value(sample["page"].clone()).expect(&name);
            assert_eq!(page.events[0].kind, EventKind::OutOfMemory);
            assert_eq!(page.events[0].owner(), "service/web");
            assert_eq!(page.events[1].by.as_deref(), Some("token/ci"));
            // What a later version records is shown by its text.
            assert_eq!(page.events[2].kind, EventKind::Other);
            assert_eq!(page.missing[0].machine, "i-0f11");
            let query: EventQuery = serde_json::from_value(sample["query"].clone()).expect(&name);
            assert_eq!(query.limit, 1000);
        }
    }

    #[test]
    fn what_several_saw_is_one_event_that_says_all() {
        let web: ServiceName = "web".parse().expect("a name");
        let seen = TimelineEvent::seen("scaled.web.5", at(3), EventKind::Scaled, "scaled to 5").of(&web);
        let asked = TimelineEvent::seen("scaled.web.5", at(2), EventKind::Scaled, "scaled to 5").of(&web);
        let asked = asked.by("token/ci");
        let later = TimelineEvent::seen("scaled.web.5", at(300), EventKind::Scaled, "scaled to 5").of(&web);
        let all = merged([later, seen, asked]);
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].at, all[0].by.as_deref()), (at(2), Some("token/ci")));

        let ended = |text: &str| TimelineEvent::new("ended.t1".into(), at(1), EventKind::Ended, text);
        let reported = ended("exited with status 3").printed(&["no database".to_owned()]);
        let all = merged([ended("failed"), reported.clone(), ended("failed")]);
        assert_eq!(all, [reported]);
    }

    #[test]
    fn a_record_that_comes_later_is_the_same_occurrence() {
        let mut shown = Shown::default();
        assert!(shown.is_new(&lost(5)) && !shown.is_new(&lost(5)));
        assert!(!shown.is_new(&lost(2)), "another machine saw it earlier");
        assert!(shown.is_new(&lost(60)));
        let ended = TimelineEvent::new("ended.t1".into(), at(1), EventKind::Ended, "failed");
        assert!(shown.is_new(&ended));
        assert!(!shown.is_new(&TimelineEvent { at: at(90), ..ended }));
    }

    #[test]
    fn a_machine_that_is_lost_again_is_two_events() {
        assert_eq!(merged([lost(0), lost(1), lost(60), lost(62)]).len(), 2);
    }

    #[test]
    fn a_text_has_a_bound_and_nothing_that_a_terminal_obeys() {
        let event = TimelineEvent::new(
            "x".into(),
            at(0),
            EventKind::Ended,
            "\u{1b}[31m".to_owned() + &"é".repeat(900),
        );
        assert_eq!(event.text.chars().count(), TEXT_MOST);
        assert!(!event.text.contains('\u{1b}'));
        let lines: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        assert_eq!(event.printed(&lines).lines.first().map(String::as_str), Some("10"));
    }

    #[test]
    fn a_query_takes_what_it_names() {
        let query = |of: &[&str]| EventQuery {
            since: Some(at(0)),
            of: of.iter().map(|name| (*name).to_owned()).collect(),
            limit: 1,
        };
        let web: ServiceName = "web".parse().expect("a name");
        let machine: MachineId = "i-1".parse().expect("an id");
        let event = TimelineEvent::new("x".into(), at(1), EventKind::Placed, "started");
        let event = event.of(&web).instance("web@1").on(Some(&machine));
        for name in ["web", "web@1", "i-1"] {
            assert!(query(&[name]).takes(&event), "{name}");
        }
        assert!(!query(&["web@2"]).takes(&event) && query(&[]).takes(&event));
        assert!(!EventQuery { since: Some(at(2)), ..query(&[]) }.takes(&event));
    }

    proptest! {
        /// However the records of several observers come, each occurrence is there once, and what was merged
        /// stays as it is.
        #[test]
        fn records_of_several_observers_are_one_timeline(
            happened in prop::collection::btree_set(0_i64..40, 0..12),
            late in prop::collection::vec(0_i64..9, 3),
            order in any::<prop::sample::Index>(),
        ) {
            // Occurrences a minute apart, each seen by three machines some seconds later.
            let mut records: Vec<TimelineEvent> = late
                .iter()
                .flat_map(|late| happened.iter().map(move |minute| lost(minute * 60 + late)))
                .collect();
            let once = merged(records.clone());
            prop_assert_eq!(once.len(), happened.len());
            prop_assert!(once.is_sorted_by_key(|event| event.at));
            if !records.is_empty() {
                let middle = order.index(records.len());
                records.rotate_left(middle);
            }
            prop_assert_eq!(&merged(records), &once);
            prop_assert_eq!(&merged(once.clone()), &once);
        }
    }
}
