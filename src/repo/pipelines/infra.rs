//! Steps in which fleetwright itself works: `plan`, `apply`, `deploy`, `drift`, and `job`.

use std::str::FromStr;

use super::Parsed;
use super::steps::{own_name, parsed, path};
use crate::model::infra_step::{InfraSpec, InfraWork};
use crate::model::name::{BadName, JobName, ServiceName, StackName};
use crate::model::pipeline::{Action, JobRun, Step, When};
use crate::repo::decode::{Fields, Reader};
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

/// What stands for everything in the place of names.
const ALL: &str = "all";
/// What every kind of step has.
const COMMON: [&str; 4] = ["name", "needs", "when", "timeout"];

fn keys(own: &[&'static str]) -> Vec<&'static str> {
    own.iter().chain(&COMMON).copied().collect()
}

/// A step whose value may be only names, or `all`.
enum Value<'n> {
    /// The names alone; none for all.
    Names(Vec<(String, Span)>),
    /// A mapping.
    Fields(Fields<'n>),
}

/// Names of type `T`, or `all`.
fn names<T>(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Vec<(String, Span)>>
where
    T: FromStr<Err = BadName> + ToString,
{
    if let Some(text) = node.text() {
        if text == ALL {
            return Some(Vec::new());
        }
        return Some(vec![(reader.name::<T>(node)?.to_string(), node.span)]);
    }
    let items = reader.items(node, what);
    if items.is_empty() {
        if node.items().is_some() {
            let diagnostic = Diagnostic::error("missing-key", format!("{what} names nothing"));
            reader.problem(diagnostic, node.span, "write `all`, or names");
        }
        return None;
    }
    let mut found: Vec<(String, Span)> = Vec::new();
    for item in items {
        let name = reader.name::<T>(item)?.to_string();
        if found.iter().any(|(known, _)| *known == name) {
            let diagnostic = Diagnostic::error("duplicate-name", format!("`{name}` is named twice"));
            reader.problem(diagnostic, item.span, "remove it");
            return None;
        }
        found.push((name, item.span));
    }
    Some(found)
}

fn value<'n, T>(
    reader: &mut Reader<'_>,
    node: &'n Node,
    place: Span,
    (what, list, own): (&'static str, &str, &[&'static str]),
) -> Option<Value<'n>>
where
    T: FromStr<Err = BadName> + ToString,
{
    if node.text().is_some() || node.items().is_some() {
        return names::<T>(reader, node, list).map(Value::Names);
    }
    reader.fields(node, place, what, &keys(own)).map(Value::Fields)
}

fn folder(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<String> {
    match fields.get("folder") {
        None => Some(".".to_owned()),
        Some(node) => path(reader, node, "`folder`"),
    }
}

fn bare(names: Vec<(String, Span)>) -> Vec<String> {
    names.into_iter().map(|(name, _)| name).collect()
}

/// A step without a mapping.
fn short(reader: &Reader<'_>, node: &Node, name: String, action: Action) -> Parsed {
    let place = reader.place(node);
    let step = Step { action, needs: Vec::new(), timeout: None, when: When::default(), place };
    Parsed { step, name, needs: None, twin: (0, 1) }
}

/// Shows what `apply` would change.
pub(super) fn plan(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Parsed> {
    let spec = |name: &str, folder, stacks, services| {
        let work = InfraWork::Plan { stacks, services };
        Action::Infra(InfraSpec { name: name.to_owned(), folder, work })
    };
    match value::<StackName>(
        reader,
        node,
        place,
        ("a plan step", "`plan`", &["stacks", "services", "folder"]),
    )? {
        Value::Names(stacks) => {
            let action = spec("plan", ".".to_owned(), bare(stacks), false);
            Some(short(reader, node, "plan".to_owned(), action))
        }
        Value::Fields(fields) => {
            let name = own_name(reader, &fields).unwrap_or_else(|| "plan".to_owned());
            let stacks = match fields.get("stacks") {
                None => Vec::new(),
                Some(node) => bare(names::<StackName>(reader, node, "`stacks`")?),
            };
            let services = fields.get("services").and_then(|node| reader.boolean(node, "`services`"));
            let folder = folder(reader, &fields)?;
            let action = spec(&name, folder, stacks, services.unwrap_or_default());
            let at = reader.place(node);
            Some(parsed(reader, &fields, at, name, action))
        }
    }
}

/// Looks for drift.
pub(super) fn drift(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Parsed> {
    let spec = |name: &str, folder, stacks| {
        Action::Infra(InfraSpec { name: name.to_owned(), folder, work: InfraWork::Drift { stacks } })
    };
    match value::<StackName>(reader, node, place, ("a drift step", "`drift`", &["stacks", "folder"]))? {
        Value::Names(stacks) => {
            let action = spec("drift", ".".to_owned(), bare(stacks));
            Some(short(reader, node, "drift".to_owned(), action))
        }
        Value::Fields(fields) => {
            let name = own_name(reader, &fields).unwrap_or_else(|| "drift".to_owned());
            let stacks = match fields.get("stacks") {
                None => Vec::new(),
                Some(node) => bare(names::<StackName>(reader, node, "`stacks`")?),
            };
            let action = spec(&name, folder(reader, &fields)?, stacks);
            let at = reader.place(node);
            Some(parsed(reader, &fields, at, name, action))
        }
    }
}

/// Deploys services and jobs as the commit describes them.
pub(super) fn deploy(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Parsed> {
    let spec = |name: &str, folder, services| {
        Action::Infra(InfraSpec { name: name.to_owned(), folder, work: InfraWork::Deploy { services } })
    };
    match value::<ServiceName>(reader, node, place, ("a deploy step", "`deploy`", &["services", "folder"]))? {
        Value::Names(services) => {
            let action = spec("deploy", ".".to_owned(), bare(services));
            Some(short(reader, node, "deploy".to_owned(), action))
        }
        Value::Fields(fields) => {
            let name = own_name(reader, &fields).unwrap_or_else(|| "deploy".to_owned());
            let services = match fields.get("services") {
                None => Vec::new(),
                Some(node) => bare(names::<ServiceName>(reader, node, "`services`")?),
            };
            let action = spec(&name, folder(reader, &fields)?, services);
            let at = reader.place(node);
            Some(parsed(reader, &fields, at, name, action))
        }
    }
}

/// Runs a job.
pub(super) fn job(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Parsed> {
    if node.text().is_some() {
        let job: JobName = reader.name(node)?;
        let name = job.to_string();
        return Some(short(reader, node, name.clone(), Action::Job(JobRun { job, name })));
    }
    let fields = reader.fields(node, place, "a job step", &keys(&["job"]))?;
    let own = own_name(reader, &fields);
    let at = reader.required(&fields, "job")?;
    let job: JobName = reader.name(at)?;
    let name = own.unwrap_or_else(|| job.to_string());
    let at = reader.place(at);
    Some(parsed(reader, &fields, at, name.clone(), Action::Job(JobRun { job, name })))
}

/// Applies what the plan of a step before says. What it is called is the value, or `plan`.
pub(super) fn apply(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Parsed> {
    let spec = |name: &str, plan: &str| {
        let work = InfraWork::Apply { plan: plan.to_owned() };
        // The plan says where it was made.
        Action::Infra(InfraSpec { name: name.to_owned(), folder: ".".to_owned(), work })
    };
    if let Some(plan) = node.text() {
        return Some(short(reader, node, "apply".to_owned(), spec("apply", plan)));
    }
    let fields = reader.fields(node, place, "an apply step", &keys(&["plan"]))?;
    let name = own_name(reader, &fields).unwrap_or_else(|| "apply".to_owned());
    let plan = match fields.get("plan") {
        None => "plan",
        Some(node) => reader.text(node, "`plan`")?,
    };
    let (action, at) = (spec(&name, plan), reader.place(fields.get("plan").unwrap_or(node)));
    Some(parsed(reader, &fields, at, name, action))
}

/// Lets every apply step need the step that plans, and gives it that one's folder; reports those for which there is none.
pub(super) fn planned(reader: &mut Reader<'_>, steps: &mut [Step], complete: bool) {
    for index in 0..steps.len() {
        let Action::Infra(InfraSpec { work: InfraWork::Apply { plan }, .. }) = &steps[index].action else {
            continue;
        };
        let (plan, span) = (plan.clone(), steps[index].place.span);
        let plans = |step: &Step| match &step.action {
            Action::Infra(spec) if matches!(spec.work, InfraWork::Plan { .. }) => Some(spec.clone()),
            _ => None,
        };
        let before = steps[..index].iter().map(plans).enumerate().rev();
        let mut found = before.filter_map(|(at, spec)| spec.map(|spec| (at, spec)));
        match found.find(|(_, spec)| spec.name == plan) {
            Some((at, spec)) => {
                if !steps[index].needs.contains(&at) {
                    steps[index].needs.push(at);
                }
                if let Action::Infra(own) = &mut steps[index].action {
                    own.folder = spec.folder;
                }
            }
            None if complete => {
                let message = format!("no plan step before this one is called `{plan}`");
                let names: Vec<String> =
                    steps[..index].iter().filter_map(plans).map(|spec| format!("`{}`", spec.name)).collect();
                let label = match names.is_empty() {
                    true => "put `- plan: all` before it: what was planned is what is applied".to_owned(),
                    false => format!("name one of {}", names.join(", ")),
                };
                reader.problem(Diagnostic::error("unknown-step", message), span, label);
            }
            None => {}
        }
    }
}
