//! The routes of the pages of services and machines: what the cluster reports, what happened, logs, and the way back to
//! an earlier revision.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures_util::StreamExt as _;
use tera::Context;

use super::callers::Who;
use super::form::Fields;
use super::page_routes::{frame, see};
use super::pages::cluster::{
    ChangeView, ClusterView, EventsView, InstanceView, LineView, MachineView, OriginView, ServiceView,
    WhyView,
};
use super::pages::{self, Frame};
use super::pipeline::{Pipelines, Seen};
use super::pipeline_api::Refused;
use super::strict::{StrictPath, StrictQuery};
use crate::driver::stack_board::Board;
use crate::model::line::plain;
use crate::model::logs::{LogItem, LogQuery};
use crate::model::machine::Machine;
use crate::model::name::ServiceName;
use crate::model::run::{Run, StepAction, StepResult, StepState};
use crate::model::service::{Deployed, Revision, ServiceStatus};
use crate::model::timeline::{EventPage, EventQuery};
use crate::plan::deploy::{FieldChange, service_plan};
use crate::plan::why::{Known, why};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::journal::{Journal, JournalError, Which};
use crate::port::streams::{ReadEvents, ReadLogs};

/// How many events a page shows.
const EVENTS: u32 = 60;
/// How long events are shown without asking again, however many viewers there are.
const EVENTS_FRESH: Duration = Duration::from_secs(4);
/// How many services and machines events are kept of.
const EVENTS_KEPT: usize = 64;
/// How long control machines may take for events or logs.
const SLOW: Duration = Duration::from_secs(15);
/// How many lines of a log a page shows at most.
const LINES_MOST: usize = 5000;
/// How many runs of a commit are searched for the one that deployed it.
const RUNS_OF_COMMIT: u32 = 20;

/// The cluster, for the pages.
pub struct Reach {
    /// What runs in it.
    pub cluster: Arc<dyn Cluster>,
    /// What instances print.
    pub logs: Arc<dyn ReadLogs>,
    /// What happened.
    pub events: Arc<dyn ReadEvents>,
    recent: Mutex<HashMap<String, (Instant, Happened)>>,
}

/// Events that viewers share, or why there are none.
type Happened = Arc<Result<EventPage, String>>;

impl Reach {
    /// Reaches one and the same cluster.
    pub fn new<C: Cluster + ReadLogs + ReadEvents + 'static>(cluster: &Arc<C>) -> Self {
        Self {
            cluster: Arc::clone(cluster) as Arc<dyn Cluster>,
            logs: Arc::clone(cluster) as Arc<dyn ReadLogs>,
            events: Arc::clone(cluster) as Arc<dyn ReadEvents>,
            recent: Mutex::default(),
        }
    }

    /// The newest events of a service or machine, or why there are none.
    async fn happened(&self, of: &str) -> Happened {
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, page)) = lock().get(of).filter(|(at, _)| at.elapsed() < EVENTS_FRESH) {
            return Arc::clone(page);
        }
        let query = EventQuery { since: None, of: vec![of.to_owned()], limit: EVENTS };
        let read = match tokio::time::timeout(SLOW, self.events.read_events(&query)).await {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {}", crate::view::time::human(SLOW))),
        };
        let page = Arc::new(read);
        let mut recent = lock();
        if recent.len() >= EVENTS_KEPT {
            recent.clear();
        }
        recent.insert(of.to_owned(), (Instant::now(), Arc::clone(&page)));
        page
    }
}

/// `value` as a template gets it, without what must not be shown.
pub(super) fn shown(server: &Pipelines, value: &impl serde::Serialize) -> serde_json::Value {
    server.parts.mask.json(serde_json::to_value(value).unwrap_or_default())
}

fn seen(server: &Pipelines) -> Seen {
    server.seen.borrow().masked(&server.parts.mask)
}

/// A page that says why something is not shown or done.
fn problem(server: &Pipelines, who: &Who, status: StatusCode, message: &str, next: &str) -> Response {
    let mask = &server.parts.mask;
    pages::refused(&frame(server, Some(who)), status, &mask.mask(message), Some(&mask.mask(next)))
}

fn cluster_problem(server: &Pipelines, who: &Who, error: &ClusterError) -> Response {
    let (status, next) = match error {
        ClusterError::Unreachable { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "control machines may still be starting; load the page again")
        }
        ClusterError::NotFound { .. } => (StatusCode::NOT_FOUND, "the services page lists what there is"),
        ClusterError::Refused { .. } => (StatusCode::CONFLICT, "nothing was changed; try again then"),
        ClusterError::Denied { .. } => {
            (StatusCode::FORBIDDEN, "give the identity of `serve` the level that it needs, under `access:`")
        }
        ClusterError::Engine { .. } => {
            (StatusCode::BAD_GATEWAY, "see the agent's journal on a control machine")
        }
    };
    problem(server, who, status, &error.to_string(), next)
}

fn no_service(server: &Pipelines, who: &Who, name: &str) -> Response {
    let message = format!("there is no service `{name}` in the cluster");
    problem(server, who, StatusCode::NOT_FOUND, &message, "the services page lists what there is")
}

/// The service of that name; where there is none, why.
fn service_called(seen: &Seen, name: &str) -> Result<ServiceStatus, Option<String>> {
    let Some((snapshot, _)) = &seen.snapshot else {
        let why = seen.lost.as_deref().unwrap_or("it has not answered yet");
        return Err(Some(format!("the cluster does not answer: {why}")));
    };
    let found = snapshot.services.iter().find(|service| service.name.as_str() == name);
    found.cloned().ok_or(None)
}

/// `GET /services`.
pub async fn services(State(server): State<Pipelines>, Extension(who): Extension<Who>) -> Html<String> {
    Html(services_page(&frame(&server, Some(&who)), &seen(&server), Utc::now()))
}

pub(super) fn services_page(frame: &Frame, seen: &Seen, now: DateTime<Utc>) -> String {
    let mut more = Context::new();
    more.insert("cluster", &ClusterView::new(seen, now));
    pages::render("services.html", frame, "Services", "services", more)
}

/// The runs that deployed the revisions of a service, by the revisions' numbers.
fn deployed_by(
    journal: &dyn Journal,
    service: &ServiceName,
    history: &[Revision],
) -> Result<BTreeMap<u64, i64>, JournalError> {
    let mut found = BTreeMap::new();
    let commits: BTreeSet<&str> = history.iter().map(|revision| revision.origin.commit.as_str()).collect();
    for commit in commits.into_iter().filter(|commit| !commit.is_empty()) {
        let runs = journal.runs(&Which::Fitting {
            pipeline: None,
            state: None,
            commit: Some(commit.to_owned()),
            before: None,
            limit: RUNS_OF_COMMIT,
        })?;
        for revision in history.iter().filter(|revision| revision.origin.commit == commit) {
            let exact = runs.iter().find(|run| rolled_out(run).contains(&(service, revision.number)));
            // The number of one that failed is not kept; the commit's newest run that deploys the service is near.
            let near = || runs.iter().find(|run| deploys(run, service));
            if let Some(run) = exact.or_else(near) {
                found.insert(revision.number, run.id.0);
            }
        }
    }
    Ok(found)
}

/// The revisions that a run has rolled out, or rolls out now.
fn rolled_out(run: &Run) -> Vec<(&ServiceName, u64)> {
    let actions = run.config.iter().flat_map(|config| &config.steps);
    let each = run.steps.iter().zip(actions).flat_map(|(step, action)| match (&step.state, action) {
        (StepState::Succeeded { result: StepResult::Rollout { service, revision } }, _) => {
            vec![(service, *revision)]
        }
        (StepState::Succeeded { result: StepResult::Release(all) }, _) => {
            all.iter().map(|one| (&one.service, one.revision)).collect()
        }
        (StepState::Following { revision }, StepAction::Rollout(spec)) => vec![(&spec.name, *revision)],
        (StepState::Releasing { revisions, .. }, StepAction::Release(specs)) => {
            specs.iter().map(|spec| &spec.name).zip(revisions.iter().copied()).collect()
        }
        _ => Vec::new(),
    });
    each.collect()
}

/// Whether a run deploys a service.
fn deploys(run: &Run, service: &ServiceName) -> bool {
    run.config.iter().flat_map(|config| &config.steps).any(|action| match action {
        StepAction::Rollout(spec) => spec.name == *service,
        StepAction::Release(specs) => specs.iter().any(|spec| spec.name == *service),
        _ => false,
    })
}

/// `GET /services/{name}`.
pub async fn service(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(name): StrictPath<String>,
) -> Result<Response, Refused> {
    let seen = seen(&server);
    let status = match service_called(&seen, &name) {
        Ok(status) => status,
        Err(None) => return Ok(no_service(&server, &who, &name)),
        Err(Some(why)) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(problem(&server, &who, status, &why, "load the page again"));
        }
    };
    let runs = deployed_by(&*server.parts.journal, &status.name, &status.history)?;
    let happened = server.reach.happened(&name).await;
    let around = frame(&server, Some(&who));
    let events = shown(&server, &EventsView::new(&happened, around.may_read));
    let page = happened.as_ref().as_ref();
    let machines = seen.snapshot.as_ref().map(|(snapshot, _)| snapshot.machines.clone()).unwrap_or_default();
    let answer = why(&Known {
        service: &status,
        machines: &machines,
        events: page.map_or(&[][..], |page| page.events.as_slice()),
        placement: None,
    });
    let why = shown(&server, &WhyView::new(&answer));
    Ok(Html(service_page(&around, &seen, &status, &runs, (why, events), Utc::now())).into_response())
}

pub(super) fn service_page(
    frame: &Frame,
    seen: &Seen,
    status: &ServiceStatus,
    runs: &BTreeMap<u64, i64>,
    (why, events): (serde_json::Value, serde_json::Value),
    now: DateTime<Utc>,
) -> String {
    let mut more = Context::new();
    more.insert("cluster", &ClusterView::new(seen, now));
    more.insert("service", &ServiceView::new(status, runs, now));
    more.insert("why", &why);
    more.insert("happened", &events);
    pages::render("service.html", frame, status.name.as_str(), "services", more)
}

/// Which lines are shown, as a form sends it: what is not chosen is empty.
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    #[serde(default)]
    instance: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    since: String,
    #[serde(default)]
    lines: String,
    #[serde(default)]
    follow: String,
}

/// The choices of times.
const SINCE: &[(&str, &str, i64)] = &[
    ("10m", "the last 10 minutes", 10),
    ("1h", "the last hour", 60),
    ("6h", "the last 6 hours", 360),
    ("1d", "the last day", 1440),
];
/// The choices of numbers of lines, of each instance.
const LINES: &[&str] = &["100", "500", "2000"];

impl Lines {
    fn query(&self, now: DateTime<Utc>) -> LogQuery {
        let since = SINCE.iter().find(|(key, ..)| *key == self.since);
        let tail = LINES.iter().find(|choice| **choice == self.lines).unwrap_or(&LINES[0]);
        LogQuery {
            slot: self.instance.split_once('@').map(|(_, slot)| slot.to_owned()),
            since: since.map(|(_, _, minutes)| now - TimeDelta::minutes(*minutes)),
            until: None,
            grep: (!self.text.is_empty()).then(|| self.text.clone()),
            tail: tail.parse().ok(),
            follow: false,
        }
    }

    /// The same choice at another path.
    fn link(&self, path: &str) -> String {
        use crate::model::percent::encoded;
        format!(
            "{path}?instance={}&text={}&since={}&lines={}",
            encoded(&self.instance),
            encoded(&self.text),
            encoded(&self.since),
            encoded(&self.lines)
        )
    }
}

/// What was read of a log.
#[derive(Debug, Default)]
pub(super) struct ReadLines {
    lines: VecDeque<LineView>,
    missing: BTreeSet<String>,
}

/// `GET /services/{name}/logs`.
pub async fn logs(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(name): StrictPath<String>,
    StrictQuery(chosen): StrictQuery<Lines>,
) -> Response {
    let Ok(service) = name.parse::<ServiceName>() else { return no_service(&server, &who, &name) };
    let read = async {
        let mut items = server.reach.logs.read_logs(&service, &chosen.query(Utc::now())).await?;
        let mut read = ReadLines::default();
        while let Some(item) = items.next().await {
            match item? {
                LogItem::Entry(entry) => {
                    if read.lines.len() == LINES_MOST {
                        read.lines.pop_front();
                    }
                    let text = server.parts.mask.mask(&plain(&entry.text));
                    read.lines.push_back(LineView::new(&entry, text));
                }
                LogItem::Live => {}
                LogItem::Missing { machine, reason } => {
                    read.missing.insert(server.parts.mask.mask(&format!("{machine}: {reason}")));
                }
            }
        }
        Ok(read)
    };
    let read = match tokio::time::timeout(SLOW, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => return cluster_problem(&server, &who, &error),
        Err(_) => {
            let message =
                format!("the logs of {name} have not come within {}", crate::view::time::human(SLOW));
            let next = "choose fewer lines, or one instance";
            return problem(&server, &who, StatusCode::GATEWAY_TIMEOUT, &message, next);
        }
    };
    let seen = seen(&server);
    let snapshot = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
    let instances: BTreeSet<&str> = snapshot
        .filter(|status| status.name == service)
        .flat_map(|status| &status.instances)
        .map(|instance| instance.name.as_str())
        .collect();
    Html(logs_page(&frame(&server, Some(&who)), &service, &chosen, &instances, &read)).into_response()
}

pub(super) fn logs_page(
    frame: &Frame,
    service: &ServiceName,
    chosen: &Lines,
    instances: &BTreeSet<&str>,
    read: &ReadLines,
) -> String {
    let mut more = Context::new();
    let path = format!("/services/{service}/logs");
    more.insert("name", service);
    more.insert("instances", instances);
    more.insert("times", SINCE);
    more.insert("counts", LINES);
    more.insert("instance", &chosen.instance);
    more.insert("text", &chosen.text);
    more.insert("since", &chosen.since);
    more.insert("count", if chosen.lines.is_empty() { LINES[0] } else { chosen.lines.as_str() });
    more.insert("follow", &!chosen.follow.is_empty());
    more.insert("raw", &chosen.link(&format!("{path}/raw")));
    more.insert("lines", &read.lines);
    more.insert("missing", &read.missing);
    pages::render("service_logs.html", frame, &format!("Logs of {service}"), "services", more)
}

/// `GET /services/{name}/logs/raw`: the same lines as text, all of a time where one is chosen.
pub async fn raw_logs(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(name): StrictPath<String>,
    StrictQuery(chosen): StrictQuery<Lines>,
) -> Response {
    let Ok(service) = name.parse::<ServiceName>() else { return no_service(&server, &who, &name) };
    let mut query = chosen.query(Utc::now());
    if query.since.is_some() {
        query.tail = None;
    }
    let items = match server.reach.logs.read_logs(&service, &query).await {
        Ok(items) => items,
        Err(error) => return cluster_problem(&server, &who, &error),
    };
    let mask = server.parts.mask.clone();
    let lines = items.filter_map(move |item| {
        let line = match item {
            Ok(LogItem::Entry(entry)) => {
                let at = entry.at.to_rfc3339_opts(SecondsFormat::Millis, true);
                let line = format!("{at} {} {} | {}\n", entry.instance, entry.machine, entry.text);
                Some(Ok(Bytes::from(mask.mask(&line))))
            }
            Ok(LogItem::Live) => None,
            Ok(LogItem::Missing { machine, reason }) => Some(Ok(Bytes::from(
                mask.mask(&format!("lines of machine {machine} are missing: {reason}\n")),
            ))),
            Err(error) => Some(Err(std::io::Error::other(error))),
        };
        std::future::ready(line)
    });
    let name = format!("attachment; filename=\"{service}.log\"");
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    (headers, Body::from_stream(lines)).into_response()
}

/// Where a rollback leads.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct To {
    #[serde(default)]
    to: Option<u64>,
}

/// `GET /services/{name}/rollback?to=`: what would run, and what that changes.
pub async fn rollback_form(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(name): StrictPath<String>,
    StrictQuery(To { to }): StrictQuery<To>,
) -> Response {
    let Ok(service) = name.parse::<ServiceName>() else { return no_service(&server, &who, &name) };
    let Some(to) = to else {
        let next = "choose it on the page of the service";
        return problem(&server, &who, StatusCode::BAD_REQUEST, "no revision was named", next);
    };
    let cluster = &server.reach.cluster;
    let both =
        async { tokio::try_join!(cluster.deployed(&service, None), cluster.deployed(&service, Some(to))) };
    match both.await {
        Ok((now, then)) => {
            let (now, then) = (DeployedView::new(&now), (DeployedView::new(&then), changes(&now, &then)));
            let html = rollback_page(
                &frame(&server, Some(&who)),
                &service,
                (shown(&server, &now), shown(&server, &then.0)),
                &shown(&server, &then.1),
            );
            Html(html).into_response()
        }
        Err(error) => cluster_problem(&server, &who, &error),
    }
}

/// What a service runs, or ran.
#[derive(Debug, serde::Serialize)]
pub(super) struct DeployedView {
    revision: u64,
    image: String,
    digest: String,
    origin: OriginView,
}

impl DeployedView {
    pub(super) fn new(deployed: &Deployed) -> Self {
        Self {
            revision: deployed.revision,
            image: deployed.deployment.digest.short().to_string(),
            digest: deployed.deployment.digest.to_string(),
            origin: OriginView::new(&deployed.deployment.origin),
        }
    }
}

/// What changes when a service goes back; it keeps its number of instances, and gets today's secrets.
pub(super) fn changes(now: &Deployed, then: &Deployed) -> Vec<ChangeView> {
    let plan = service_plan(Some(now), &then.deployment);
    let of_secret = |field: &str| field.starts_with("secrets.") && field.ends_with(".value");
    let changes = |change: &&FieldChange| change.field != "replicas" && !of_secret(&change.field);
    plan.changes.iter().filter(changes).map(ChangeView::new).collect()
}

pub(super) fn rollback_page(
    frame: &Frame,
    service: &ServiceName,
    (now, then): (serde_json::Value, serde_json::Value),
    changes: &serde_json::Value,
) -> String {
    let mut more = Context::new();
    more.insert("name", service);
    more.insert("now", &now);
    more.insert("then", &then);
    more.insert("changes", changes);
    pages::render("rollback.html", frame, &format!("Roll back {service}"), "services", more)
}

/// `POST /services/{name}/rollback`: to revision `to`, provided that the service is still at revision `from`, as it was
/// when its form was shown.
pub async fn roll_back(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    Extension(fields): Extension<Fields>,
    StrictPath(name): StrictPath<String>,
) -> Response {
    let Ok(service) = name.parse::<ServiceName>() else { return no_service(&server, &who, &name) };
    let number = |field: &str| fields.filled(field).and_then(|value| value.parse::<u64>().ok());
    let (Some(to), Some(from)) = (number("to"), number("from")) else {
        let next = "choose a revision on the page of the service";
        return problem(&server, &who, StatusCode::BAD_REQUEST, "the form names no revisions", next);
    };
    let done = async {
        let now = server.reach.cluster.deployed(&service, None).await?.revision;
        if now != from {
            return Ok(Err(now));
        }
        server.reach.cluster.rollback(&service, Some(to)).await.map(Ok)
    };
    match done.await {
        Ok(Ok(revision)) => {
            let by = who.caller.words();
            server
                .parts
                .events
                .note(format!("{service} goes back to revision {to} as revision {revision}, asked for {by}"));
            see(&format!("/services/{service}"))
        }
        Ok(Err(now)) => {
            let message = format!(
                "{service} is at revision {now}, and was at {from} when this was shown; nothing was changed"
            );
            let next = "look at the page of the service again";
            problem(&server, &who, StatusCode::CONFLICT, &message, next)
        }
        Err(error) => cluster_problem(&server, &who, &error),
    }
}

/// `GET /machines`.
pub async fn machines(State(server): State<Pipelines>, Extension(who): Extension<Who>) -> Html<String> {
    Html(machines_page(&frame(&server, Some(&who)), &seen(&server), Utc::now()))
}

pub(super) fn machines_page(frame: &Frame, seen: &Seen, now: DateTime<Utc>) -> String {
    let mut more = Context::new();
    more.insert("cluster", &ClusterView::new(seen, now));
    pages::render("machines.html", frame, "Machines", "machines", more)
}

/// `GET /machines/{id}`.
pub async fn machine(
    State(server): State<Pipelines>,
    Extension(who): Extension<Who>,
    StrictPath(id): StrictPath<String>,
) -> Response {
    let seen = seen(&server);
    let snapshot = seen.snapshot.as_ref().map(|(snapshot, _)| snapshot);
    let found = snapshot.and_then(|snapshot| snapshot.machines.iter().find(|one| one.id.as_str() == id));
    let Some(found) = found.cloned() else {
        let message = format!("there is no machine `{id}` in the cluster");
        let next = "the machines page lists those that there are; events of one that is gone are in `fleetwright events`";
        return problem(&server, &who, StatusCode::NOT_FOUND, &message, next);
    };
    let happened = server.reach.happened(&id).await;
    let around = frame(&server, Some(&who));
    let events = shown(&server, &EventsView::new(&happened, around.may_read));
    Html(machine_page(&around, &seen, &server.stacks.seen(), &found, events, Utc::now())).into_response()
}

pub(super) fn machine_page(
    frame: &Frame,
    seen: &Seen,
    board: &Board,
    machine: &Machine,
    events: serde_json::Value,
    now: DateTime<Utc>,
) -> String {
    let services = seen.snapshot.iter().flat_map(|(snapshot, _)| &snapshot.services);
    let on_it = services.flat_map(|service| {
        let instances = service.instances.iter();
        let here = instances.filter(|instance| instance.machine.as_ref() == Some(&machine.id));
        here.map(|instance| (service.name.to_string(), InstanceView::new(instance, now)))
    });
    let stacks = board.listed.as_ref().and_then(|listed| listed.result.as_ref().ok());
    // Machines of a group have the stack's name; without a list of stacks that is not known for sure.
    let stack = stacks.into_iter().flatten().find(|stack| stack.cloud_name == machine.group);
    let mut more = Context::new();
    more.insert("machine", &MachineView::new(machine, seen));
    more.insert("instances", &on_it.collect::<Vec<_>>());
    more.insert("stack", &stack.map(|stack| stack.cloud_name.clone()));
    more.insert("happened", &events);
    pages::render("machine.html", frame, machine.id.as_str(), "machines", more)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::logs::LogEntry;
    use crate::model::run::RunStep;
    use crate::plan::run::tests::{config, queued_run};

    /// One line that an instance has printed, and one machine whose lines are missing.
    pub fn read(text: &str) -> ReadLines {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let entry =
            LogEntry { at, instance: "web@1".into(), machine: "10-0-0-1".into(), text: text.to_owned() };
        let line = LineView::new(&entry, entry.text.clone());
        ReadLines { lines: [line].into(), missing: [format!("10-0-0-2: {text}")].into() }
    }

    #[test]
    fn lines_are_chosen_as_the_form_says() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let chosen = Lines {
            instance: "web@1".into(),
            text: "a b".into(),
            since: "1h".into(),
            lines: "500".into(),
            follow: String::new(),
        };
        let query = chosen.query(now);
        assert_eq!((query.slot.as_deref(), query.grep.as_deref()), (Some("1"), Some("a b")));
        assert_eq!((query.tail, query.since), (Some(500), Some(now - TimeDelta::hours(1))));
        assert!(chosen.link("/x").starts_with("/x?instance=web%401&text=a%20b&since=1h&lines=500"));
        let query = Lines { lines: "999999".into(), since: "odd".into(), ..Lines::default() }.query(now);
        assert_eq!((query.tail, query.since, query.slot), (Some(100), None, None), "only what is offered");
    }

    #[test]
    fn a_run_has_the_revisions_that_it_rolled_out() {
        let mut run = queued_run(1);
        run.config = Some(config());
        let web: ServiceName = "web".parse().expect("a name");
        let mut rolled = |state: StepState| {
            let step = |name: &str, state: StepState| RunStep {
                name: name.to_owned(),
                state,
                started: None,
                ended: None,
                files: Vec::new(),
                tests: None,
            };
            run.steps = vec![step("build demo/web", StepState::Waiting), step("rollout web", state)];
            assert!(deploys(&run, &web) && !deploys(&run, &"api".parse().expect("a name")));
            rolled_out(&run)
                .into_iter()
                .map(|(name, revision)| (name.to_string(), revision))
                .collect::<Vec<_>>()
        };
        assert_eq!(rolled(StepState::Following { revision: 3 }), [("web".to_owned(), 3)]);
        let result = StepResult::Rollout { service: web.clone(), revision: 4 };
        assert_eq!(rolled(StepState::Succeeded { result }), [("web".to_owned(), 4)]);
        assert!(rolled(StepState::Failed { reason: "x".into() }).is_empty(), "its revision is not known");
    }
}
