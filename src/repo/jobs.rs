//! `jobs/*.yaml`: a mapping from names of jobs to what they run, and when.

use std::time::Duration;

use super::decode::{Fields, Reader, list};
use super::services::{Scope, container, environment, mounts, overlay, reference, resources, role, words};
use crate::model::job::{JobSpec, Overlap, Runs};
use crate::model::name::JobName;
use crate::model::project::{Elsewhere, Job, WantedJob};
use crate::model::schedule::{BadSchedule, Schedule, near_zone};
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span, suggest};
use crate::yaml::Node;

/// The keys of a job that concern what it runs, and when. Its container's are those of a service's.
const KEYS: [&str; 14] = [
    "image",
    "service",
    "command",
    "env",
    "resources",
    "placement",
    "stop_grace_period",
    "schedule",
    "timezone",
    "overlap",
    "catch_up",
    "timeout",
    "retries",
    "environments",
];

/// The keys of a service's container that a job has not: its command is the whole command, and it is
/// never started again by the engine.
const NOT_OF_JOBS: [&str; 2] = ["entrypoint", "restart"];

/// The most retries; more is a typing error, not a wish.
const RETRIES_MOST: i64 = 20;
/// How late an occurrence may be started at most.
const CATCH_UP_MOST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The time zone where none is given.
const UTC: &str = "UTC";

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node, scope: Scope<'_>) -> Vec<Job> {
    let entries = reader.entries(root, "a file of jobs");
    entries.iter().filter_map(|(key, value)| job(reader, key, value, scope)).collect()
}

fn job(reader: &mut Reader<'_>, key: &Node, value: &Node, scope: Scope<'_>) -> Option<Job> {
    let name: Option<JobName> = reader.name(key);
    let place = Place::new(reader.file, key.span);
    let own = value.get("environments").cloned();
    let wanted = wanted(reader, key, value, name.as_ref(), scope);
    let of_environments = overlay::in_environments(
        reader,
        (value, own.as_ref()),
        scope.environments,
        |_, _| (),
        |reader, key, merged| self::wanted(reader, key, merged, name.as_ref(), scope),
    );
    let service = value.get("service").map(|node| reader.place(node));
    Some(Job { wanted: wanted?, environments: of_environments, place, service })
}

/// The wanted state of a job, from its own keys or merged with an environment's.
fn wanted(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    name: Option<&JobName>,
    scope: Scope<'_>,
) -> Option<WantedJob> {
    let of_containers = container::KEYS.into_iter().filter(|key| !NOT_OF_JOBS.contains(key));
    let keys: Vec<&'static str> = KEYS.into_iter().chain(of_containers).chain(mounts::KEYS).collect();
    let fields = reader.fields(value, key.span, "a job", &keys)?;
    let runs = runs(reader, key, value, &fields);
    let command = reader.required(&fields, "command").map(|node| command(reader, node));
    let (env, mut later) =
        fields.get("env").map(|node| environment(reader, node, scope.stacks)).unwrap_or_default();
    let role = fields.get("aws_role").and_then(|node| role(reader, node, fields.get("env"), scope.stacks));
    let (limits, reservations) =
        fields.get("resources").map(|node| resources(reader, node)).unwrap_or_default();
    let placement = fields.get("placement").map(|node| reader.texts(node, "`placement`")).unwrap_or_default();
    let stop_grace_period =
        fields.get("stop_grace_period").and_then(|node| reader.duration(node, "`stop_grace_period`"));
    let mut container = container::decode(reader, &fields);
    container.reservations = reservations;
    if let Some((role, looked_up)) = role {
        container.aws_role = Some(role);
        later.extend(looked_up);
    }
    let files = mounts::decode(reader, value, &fields, None, &mut container);
    let schedule = schedule(reader, value, &fields);
    let overlap = match fields.get("overlap") {
        Some(node) => overlap(reader, node),
        None => Some(Overlap::default()),
    };
    let catch_up = fields.get("catch_up").and_then(|node| catch_up(reader, node));
    if let (Some((key, _)), None) = (value.entry("catch_up"), fields.get("schedule")) {
        let diagnostic = Diagnostic::error("conflicting-keys", "`catch_up` is about a schedule");
        reader.problem(diagnostic, key.span, "add `schedule`, or remove it");
    }
    let timeout = fields.get("timeout").and_then(|node| {
        let timeout = reader.duration(node, "`timeout`")?;
        if timeout.is_zero() {
            let diagnostic = Diagnostic::error("out-of-range", "`timeout` must be more than nothing");
            reader.problem(diagnostic, node.span, "leave it out for no limit");
            return None;
        }
        Some(timeout)
    });
    let retries = match fields.get("retries") {
        Some(node) => reader.integer(node, "`retries`", 0, RETRIES_MOST),
        None => Some(0),
    };
    let (runs, elsewhere) = runs?;
    let spec = JobSpec {
        name: name?.clone(),
        runs,
        command: command?,
        environment: env,
        limits,
        placement,
        stop_grace_period,
        container,
        schedule: schedule?,
        overlap: overlap?,
        catch_up,
        timeout,
        retries: retries?,
    };
    Some(WantedJob { spec, elsewhere, files, later })
}

/// An image, or a service whose image it is: one of them.
fn runs(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    fields: &Fields<'_>,
) -> Option<(Runs, Option<Elsewhere>)> {
    match (fields.get("image"), fields.get("service")) {
        (Some(node), None) => {
            let (image, elsewhere) = reference(reader, node)?;
            Some((Runs::Image(image), elsewhere))
        }
        (None, Some(node)) => Some((Runs::Service(reader.name(node)?), None)),
        (Some(_), Some(_)) => {
            let place = value.entry("image").map_or(value.span, |(key, _)| key.span);
            let diagnostic =
                Diagnostic::error("conflicting-keys", "a job has `image` or `service`, not both");
            let diagnostic = diagnostic.help("a job of a service runs the image of its present revision");
            reader.problem(diagnostic, place, "remove one of them");
            None
        }
        (None, None) => {
            let diagnostic = Diagnostic::error("missing-key", "a job needs the key `image` or `service`");
            let diagnostic = diagnostic.help("`service: web` runs the image that service `web` runs");
            reader.problem(diagnostic, key.span, "one of them is missing");
            None
        }
    }
}

/// The program and its arguments.
fn command(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let command = words(reader, node, "`command`");
    if node.items().is_some_and(<[Node]>::is_empty) || command.first().is_some_and(String::is_empty) {
        let diagnostic = Diagnostic::error("bad-value", "`command` names no program");
        reader.problem(diagnostic, node.span, "such as `[bin/report, --daily]`");
    }
    command
}

/// The schedule; the outer `None` for one that can't be used.
pub(super) fn schedule(
    reader: &mut Reader<'_>,
    value: &Node,
    fields: &Fields<'_>,
) -> Option<Option<Schedule>> {
    let span = |node: &Node| value.entry("timezone").map_or(node.span, |(key, _)| key.span);
    let (node, zone) = match (fields.get("schedule"), fields.get("timezone")) {
        (None, None) => return Some(None),
        (None, Some(node)) => {
            let diagnostic = Diagnostic::error("conflicting-keys", "`timezone` is about a schedule");
            reader.problem(diagnostic, span(node), "add `schedule`, or remove it");
            return None;
        }
        (Some(node), zone) => (node, zone),
    };
    let cron = reader.text(node, "`schedule`")?.trim().to_owned();
    let timezone = match zone {
        Some(zone) => reader.text(zone, "`timezone`")?.to_owned(),
        None => UTC.to_owned(),
    };
    let schedule = Schedule { cron, timezone };
    let Err(bad) = schedule.times() else { return Some(Some(schedule)) };
    problem(reader, &schedule, &bad, node.span, zone.map_or(node.span, |zone| zone.span));
    None
}

fn problem(reader: &mut Reader<'_>, schedule: &Schedule, bad: &BadSchedule, cron: Span, zone: Span) {
    let help =
        "write `MINUTE HOUR DAY MONTH WEEKDAY`, such as `30 2 * * *` (at 02:30) or `*/15 8-18 * * MON-FRI`";
    match bad {
        BadSchedule::Cron(reason) => {
            let message = format!("`{}` is not a schedule: {reason}", schedule.cron);
            let diagnostic = Diagnostic::error("bad-schedule", message).help(help);
            reader.problem(diagnostic, cron, "not a cron expression");
        }
        BadSchedule::Never => {
            let message = format!("no time ever fits the schedule `{}`", schedule.cron);
            let diagnostic = Diagnostic::error("bad-schedule", message).help(help);
            reader.problem(diagnostic, cron, "no month has such a day");
        }
        BadSchedule::Zone(name) => {
            let diagnostic = Diagnostic::error("bad-schedule", format!("there is no time zone `{name}`"));
            match near_zone(name) {
                Some(near) => reader.problem(diagnostic, zone, format!("did you mean `{near}`?")),
                None => {
                    let help = "name it as IANA does, such as `Europe/Berlin` or `UTC`";
                    reader.problem(diagnostic.help(help), zone, "");
                }
            }
        }
    }
}

fn overlap(reader: &mut Reader<'_>, node: &Node) -> Option<Overlap> {
    let text = reader.text(node, "`overlap`")?;
    let all = [Overlap::Skip, Overlap::Queue, Overlap::Replace];
    let found = all.into_iter().find(|overlap| overlap.word() == text);
    if found.is_none() {
        let words = all.map(Overlap::word);
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is not a rule for overlaps"));
        let label = suggest(text, words)
            .map_or_else(|| format!("one of {}", list(&words)), |near| format!("did you mean `{near}`?"));
        reader.problem(diagnostic, node.span, label);
    }
    found
}

fn catch_up(reader: &mut Reader<'_>, node: &Node) -> Option<Duration> {
    let late = reader.duration(node, "`catch_up`")?;
    if late > CATCH_UP_MOST {
        let diagnostic = Diagnostic::error("out-of-range", "`catch_up` must be at most `168h`");
        reader.problem(diagnostic, node.span, "too long");
        return None;
    }
    Some(late)
}
