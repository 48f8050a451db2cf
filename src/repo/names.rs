//! Names that are made of other names, and that must not come to the same.
//!
//! PROJECT-ENVIRONMENT-STACK is the name of a stack, of its group and of its launch template. Since `-` may stand
//! in each of the three, different ones can make the same text: `dev` and `x-a`, `dev-x` and `a`. Names whose parts
//! stand between slashes (parameters, objects of the bucket) can't.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document;
use super::with_suggestion;
use crate::model::name::StackName;
use crate::model::project::{Environment, Repository};
use crate::model::setting::{Place, Setting};
use crate::model::stack::{RenderedStack, Stack};
use crate::source::Diagnostic;

/// Properties by which templates give groups and launch templates the name of their stack.
const DERIVED: [(&str, &str); 2] = [
    ("AWS::AutoScaling::AutoScalingGroup", "AutoScalingGroupName"),
    ("AWS::EC2::LaunchTemplate", "LaunchTemplateName"),
];

/// A stack of an environment, and a name that it has.
struct Named<'r> {
    environment: &'r Environment,
    stack: &'r StackName,
    name: String,
    /// Where the name is chosen, or else the stack.
    place: &'r Place,
    /// Whether it is chosen (`cloud_name`).
    chosen: bool,
}

/// The stack's name in CloudFormation.
pub fn cloud_name(repository: &Repository, environment: &Environment, stack: &Stack) -> String {
    match stack.cloud_names.iter().find(|chosen| chosen.environment == environment.name) {
        Some(chosen) => chosen.name.clone(),
        None => repository.cloud_name(&environment.name, &stack.name),
    }
}

/// Says which stacks have the same name in CloudFormation, and which `cloud_name` is for no environment.
pub fn check(repository: &Repository, problems: &mut Vec<Diagnostic>) {
    unknown_environments(repository, problems);
    let mut all: Vec<Named<'_>> = Vec::new();
    for environment in &repository.environments {
        for stack in &repository.stacks {
            let chosen = stack.cloud_names.iter().find(|chosen| chosen.environment == environment.name);
            all.push(Named {
                environment,
                stack: &stack.name,
                name: cloud_name(repository, environment, stack),
                place: chosen.map_or(&stack.place, |chosen| &chosen.place),
                chosen: chosen.is_some(),
            });
        }
    }
    collisions(&all, "in CloudFormation", problems);
}

/// Says which groups and launch templates have the same name although their stacks don't: those of stacks with a
/// `cloud_name` still have the usual one.
pub fn check_rendered(
    repository: &Repository,
    rendered: &[(&Environment, Vec<RenderedStack>)],
    problems: &mut Vec<Diagnostic>,
) {
    let mut usual: BTreeMap<String, usize> = BTreeMap::new();
    let pairs = repository.environments.iter().flat_map(|e| repository.stacks.iter().map(move |s| (e, s)));
    for (environment, stack) in pairs {
        *usual.entry(repository.cloud_name(&environment.name, &stack.name)).or_default() += 1;
    }
    usual.retain(|_, times| *times > 1);
    if usual.is_empty() {
        return;
    }
    for (kind, property) in DERIVED {
        let mut all = Vec::new();
        for (environment, stacks) in rendered {
            for stack in stacks {
                let name = repository.cloud_name(&environment.name, &stack.name);
                if usual.contains_key(&name) && has(stack, kind, property, &name) {
                    let (stack, place) = (&stack.name, &stack.place);
                    all.push(Named { environment, stack, name, place, chosen: false });
                }
            }
        }
        let what = if kind.ends_with("Group") { "as an autoscaling group" } else { "as a launch template" };
        let mut found = Vec::new();
        collisions(&all, what, &mut found);
        // Where the stacks collide as well, that was said; so was it where the group does.
        found.retain(|problem| !problems.iter().any(|other| same_place(other, problem)));
        problems.extend(found);
    }
}

fn same_place(a: &Diagnostic, b: &Diagnostic) -> bool {
    a.code == b.code && a.label.as_ref().map(|label| label.span) == b.label.as_ref().map(|label| label.span)
}

/// Whether a resource of `kind` of the template has exactly that name.
fn has(stack: &RenderedStack, kind: &str, property: &str, name: &str) -> bool {
    if !stack.template.contains(name) {
        return false;
    }
    let document = document::read(&stack.template).unwrap_or_default();
    let resources = document.get("Resources").and_then(Value::as_object);
    resources.into_iter().flatten().any(|(_, resource)| {
        let is = |value: Option<&Value>, text: &str| value.and_then(Value::as_str) == Some(text);
        is(resource.get("Type"), kind) && is(resource.pointer(&format!("/Properties/{property}")), name)
    })
}

/// Two that have the same name where they can meet. Names that differ in case alone count as the same: some
/// services and most people take them for one.
fn collisions(all: &[Named<'_>], what: &str, problems: &mut Vec<Diagnostic>) {
    let mut by_name: BTreeMap<String, Vec<&Named<'_>>> = BTreeMap::new();
    for one in all {
        by_name.entry(one.name.to_ascii_lowercase()).or_default().push(one);
    }
    for several in by_name.into_values().filter(|several| several.len() > 1) {
        for (at, one) in several.iter().enumerate() {
            // Two definitions of one stack were reported as such.
            let is_twin = |other: &Named<'_>| {
                other.stack == one.stack && other.environment.name == one.environment.name
            };
            let meets = |other: &&&Named<'_>| can_meet(other.environment, one.environment) && !is_twin(other);
            let Some(other) = several[..at].iter().find(meets) else {
                continue;
            };
            problems.push(collision(other, one, what));
        }
    }
}

fn collision(first: &Named<'_>, second: &Named<'_>, what: &str) -> Diagnostic {
    // The one that was chosen is the one to be chosen otherwise.
    let (one, other) = if first.chosen && !second.chosen { (first, second) } else { (second, first) };
    let message = if one.environment.name == other.environment.name {
        format!(
            "`{}` is also what stack `{}` is called in `{}`",
            one.name, other.stack, other.environment.name
        )
    } else {
        let of = |named: &Named<'_>| {
            format!("stack `{}` of environment `{}`", named.stack, named.environment.name)
        };
        match one.name == other.name {
            true => format!("{} and {} are both called `{}` {what}", of(other), of(one), one.name),
            false => format!(
                "{} and {} are called `{}` and `{}` {what}, which differ in case alone",
                of(other),
                of(one),
                other.name,
                one.name
            ),
        }
    };
    let diagnostic = Diagnostic::error("duplicate-name", message);
    if one.environment.name == other.environment.name {
        return diagnostic.at(&one.place.file, one.place.span, "");
    }
    let label = format!("the other is at {}", other.place);
    diagnostic.at(&one.place.file, one.place.span, label).help(format!(
        "rename one of the stacks or of the environments (a stack that is deployed keeps its name with `cloud_name`); \
         where `{}` and `{}` are in different accounts, give both their `account`",
        other.environment.name, one.environment.name
    ))
}

/// Whether two environments can be in the same account and region.
fn can_meet(one: &Environment, other: &Environment) -> bool {
    fn differ(one: Option<&str>, other: Option<&str>) -> bool {
        matches!((one, other), (Some(one), Some(other)) if one != other)
    }
    let region = |environment: &Environment| set(&environment.region).map(str::to_owned);
    !differ(account(one).as_deref(), account(other).as_deref())
        && !differ(region(one).as_deref(), region(other).as_deref())
}

/// The account of an environment: its own, or that of its role.
fn account(environment: &Environment) -> Option<String> {
    let own = environment.account.as_ref().and_then(set).map(str::to_owned);
    let role = || {
        let role = environment.role.as_ref().and_then(set)?;
        role.split(':').nth(4).map(str::to_owned)
    };
    own.or_else(role)
}

/// The text of a setting that no variable can change.
fn set(setting: &Setting) -> Option<&str> {
    setting.is_fixed().then(|| setting.shown())
}

/// `cloud_name` is for environments that there are.
fn unknown_environments(repository: &Repository, problems: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = repository.environments.iter().map(|e| e.name.as_str()).collect();
    for chosen in repository.stacks.iter().flat_map(|stack| &stack.cloud_names) {
        let name = chosen.environment.as_str();
        if !known.contains(&name) {
            let message = format!("there is no environment `{name}`");
            let (diagnostic, place) = (Diagnostic::error("unknown-environment", message), &chosen.place);
            let what = "`environments` of fleetwright.yaml";
            problems.push(with_suggestion(diagnostic, &place.file, place.span, name, &known, what));
        }
    }
}
