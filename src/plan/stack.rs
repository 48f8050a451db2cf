//! What apply would do to each stack, and why.
//!
//! The plan of a stack is predicted from its rendered template and what is deployed; a
//! change set, where one can be made, then confirms it. Stacks that do not exist yet are
//! predicted only: a change set for them would leave a stack behind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::access::AccessChange;
use super::document::{self, Reference};
use super::notify::NotifyChange;
use super::owner::{self, Purpose};
use super::secret::{Uncompared, uncompared};
use super::sizes::GroupSize;
use super::warnings::Warning;
use super::{guard, predict, replacement};
use crate::model::deployed::{Action, ChangeSet, ChangeSetState, DeployedStack, Phase, PropertyChange};
use crate::model::group::{Group, Lifecycle};
use crate::model::name::{EnvironmentName, MachineId, ProjectName, StackName};
use crate::model::stack::{Moment, RenderedStack};

/// The version of the plan's JSON document; raised when a field changes its meaning.
pub const PLAN_VERSION: u32 = 1;

/// How change sets of ours are named; what carries another name is somebody else's.
pub const CHANGE_SET_PREFIX: &str = "fleetwright-";

/// What CloudFormation writes where a value is known only after the change.
const KNOWN_AFTER_APPLY: &str = "{{changeSet:KNOWN_AFTER_APPLY}}";

/// What apply would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_VERSION`].
    pub version: u32,
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Its region.
    pub region: String,
    /// The stacks that were asked for; empty where all of the environment were. The plan is of them and of what
    /// they depend on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selected: Vec<StackName>,
    /// The stacks that the plan leaves out, since they were not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_selected: Vec<StackName>,
    /// The stacks, each after those it depends on.
    pub stacks: Vec<StackPlan>,
    /// Stacks of the environment that the repository no longer has.
    #[serde(default)]
    pub left: Vec<LeftStack>,
    /// How access to the environment's cluster changes; `None` where it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessChange>,
    /// How it changes whom the environment's cluster notifies; `None` where it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<NotifyChange>,
}

/// A stack that the repository no longer has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftStack {
    /// Its name in CloudFormation.
    pub cloud_name: String,
    /// Its id (ARN).
    pub id: String,
    /// Its status.
    pub status: String,
    /// Whether CloudFormation refuses to delete it.
    pub protected: bool,
    /// Whether apply deletes it.
    pub delete: bool,
}

impl Plan {
    /// The stacks that apply deletes.
    pub fn deleted(&self) -> impl Iterator<Item = &LeftStack> {
        self.left.iter().filter(|left| left.delete)
    }

    /// Whether apply would change anything.
    pub fn has_changes(&self) -> bool {
        self.access.is_some()
            || self.notify.is_some()
            || self.deleted().next().is_some()
            || self.stacks.iter().any(|stack| !matches!(stack.action, StackAction::Unchanged))
    }

    /// Whether apply would delete or replace a resource, or may.
    pub fn destroys(&self) -> bool {
        let updated = self.stacks.iter().filter(|stack| stack.action == StackAction::Update);
        updated.flat_map(|stack| &stack.resources).any(|resource| match resource.action {
            Action::Create | Action::Update => false,
            Action::MaybeReplace | Action::Replace | Action::Delete => true,
        })
    }

    /// Whether apply can change anything: what is blocked, it leaves as it is.
    pub fn has_work(&self) -> bool {
        self.access.is_some()
            || self.notify.is_some()
            || self.deleted().next().is_some()
            || self.stacks.iter().any(|s| matches!(s.action, StackAction::Create | StackAction::Update))
    }

    /// The stacks that can't be planned.
    pub fn blocked(&self) -> impl Iterator<Item = (&StackPlan, &Blocked)> {
        self.stacks.iter().filter_map(|stack| match &stack.action {
            StackAction::Blocked(blocked) => Some((stack, blocked)),
            StackAction::Create | StackAction::Update | StackAction::Unchanged => None,
        })
    }

    /// Puts what `f` makes of it in the place of every value that the plan shows; names stay.
    pub fn map_values(&mut self, f: impl Fn(&str) -> String) {
        for stack in &mut self.stacks {
            for parameter in &mut stack.parameters {
                parameter.before = parameter.before.as_deref().map(&f);
                if let ParameterValue::Known(text) = &mut parameter.after {
                    *text = f(text);
                }
            }
            for warning in &mut stack.warnings {
                if let Warning::NameTaken { name, .. } = warning {
                    *name = f(name);
                }
            }
            let properties = stack.resources.iter_mut().flat_map(|resource| &mut resource.properties);
            for change in properties.chain(&mut stack.tags).chain(&mut stack.outputs) {
                change.before = change.before.as_deref().map(&f);
                change.after = change.after.as_deref().map(&f);
            }
            for resource in &mut stack.resources {
                let Some(user_data) = resource.user_data.as_mut() else { continue };
                user_data.diff = user_data.diff.as_deref().map(&f);
                for effect in user_data.effects.iter_mut().flatten() {
                    effect.name = f(&effect.name);
                }
            }
            if let StackAction::Blocked(blocked) = &mut stack.action {
                blocked.why = f(&blocked.why);
            }
        }
    }

    /// The plan of one stack.
    pub fn stack(&self, name: &StackName) -> Option<&StackPlan> {
        self.stacks.iter().find(|stack| stack.stack == *name)
    }
}

/// What apply would do to one stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackPlan {
    /// The stack, as the repository names it.
    pub stack: StackName,
    /// As CloudFormation names it.
    pub cloud_name: String,
    /// Its template's file.
    pub template_file: String,
    /// The stacks whose outputs it uses.
    pub depends_on: Vec<StackName>,
    /// What is done.
    pub action: StackAction,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Parameters that change.
    pub parameters: Vec<ParameterChange>,
    /// Parameters that were not compared, since nobody tells their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncompared: Vec<Uncompared>,
    /// Tags that change; the path is the tag's key.
    pub tags: Vec<PropertyChange>,
    /// What its protection from deletion changes to; `None` where it stays.
    pub protect: Option<bool>,
    /// How its policy changes, in unified form; `None` where it stays.
    #[serde(default)]
    pub policy: Option<String>,
    /// What is run before and after.
    #[serde(default)]
    pub hooks: Vec<PlannedHook>,
    /// Resources that change, sorted by logical id.
    pub resources: Vec<ResourcePlan>,
    /// What follows for what runs.
    pub consequences: Vec<Consequence>,
    /// Outputs that change; the path is the output's name.
    #[serde(default)]
    pub outputs: Vec<PropertyChange>,
    /// What happens to the sizes of groups that live.
    #[serde(default)]
    pub sizes: Vec<GroupSize>,
    /// What to think about before it is applied.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

impl StackPlan {
    /// Whether its update needs more than a change of its settings, which are no part of change sets.
    pub fn needs_change_set(&self) -> bool {
        self.action == StackAction::Update && self.reasons.iter().any(|reason| !reason.is_setting())
    }
}

/// A program that apply runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedHook {
    /// When.
    pub when: Moment,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// What is done to a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StackAction {
    /// It is created.
    Create,
    /// It is updated.
    Update,
    /// Nothing.
    Unchanged,
    /// Nothing can be done before a person does something.
    Blocked(Blocked),
}

/// Why nothing can be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// CloudFormation's status of the stack.
    pub status: String,
    /// What is the matter.
    pub why: String,
    /// What to do.
    pub next: String,
}

/// Why a stack is created or updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It does not exist.
    New,
    /// Its template differs from the deployed one.
    Template,
    /// A parameter differs.
    Parameter,
    /// A parameter comes from another stack that changes, and may differ.
    AfterApply,
    /// A tag differs.
    Tags,
    /// Its protection from deletion differs.
    Protection,
    /// Its policy differs.
    Policy,
}

impl Reason {
    /// Whether it is about a setting of the stack itself, which no change set is needed for.
    fn is_setting(self) -> bool {
        matches!(self, Self::Protection | Self::Policy)
    }
}

/// A parameter's value, as far as it is known before apply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterValue {
    /// Known.
    Known(String),
    /// Known after apply; the text holds the references.
    AfterApply(String),
    /// Never shown.
    Hidden,
}

/// A parameter that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterChange {
    /// Its name.
    pub name: String,
    /// The value deployed; `None` when there is none.
    pub before: Option<String>,
    /// The value wanted.
    pub after: ParameterValue,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// CloudFormation, in a change set.
    Confirmed,
    /// We, from the templates.
    Predicted,
    /// Nobody yet: it depends on values that are known only after apply.
    Unknown,
}

/// What happens to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourcePlan {
    /// Its logical id.
    pub resource: String,
    /// Its type.
    pub resource_type: String,
    /// What happens.
    pub action: Action,
    /// Who says so.
    pub claim: Claim,
    /// Its properties that change; none are listed for a resource that is created.
    pub properties: Vec<PropertyChange>,
    /// The change of its user data.
    pub user_data: Option<UserDataChange>,
}

/// A change of user data, decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDataChange {
    /// Lines of the new text; 0 when there is none.
    pub lines: usize,
    /// The difference in unified form; `None` when there was no user data before.
    pub diff: Option<String>,
    /// What it changes of a machine; `None` when there was no user data before.
    #[serde(default)]
    pub effects: Option<Vec<UserDataEffect>>,
}

/// What a change of user data changes of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserDataEffect {
    /// What it is: `file`, `unit`, `user`, `package`, `command`, ...
    pub what: String,
    /// Its name: a path, a unit, a command.
    pub name: String,
    /// `added`, `changed` or `removed`.
    pub change: String,
    /// What a machine with the new user data does with it: `next-boot` (done again at each boot), `stays`
    /// (never undone) or `new-machines` (done once for each machine).
    pub reach: String,
}

/// What follows for what runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum Consequence {
    /// Machines keep an older launch template version until they are rolled.
    MachinesToRoll {
        /// The group.
        group: String,
        /// The launch template's name.
        launch_template: String,
        /// The version that new machines get.
        version: String,
        /// Whether that version exists already, or apply makes it.
        made_by_apply: bool,
        /// The machines that run another version.
        machines: Vec<OldMachine>,
    },
}

/// A machine that runs another launch template version than its group's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldMachine {
    /// Its id.
    pub id: MachineId,
    /// The version it was launched from; `None` when it was launched from no template.
    pub version: Option<String>,
}

/// A stack as it is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Desired<'a> {
    /// The stack.
    pub stack: &'a RenderedStack,
    /// Its template as a tree.
    pub document: &'a Value,
}

/// A stack as it is.
#[derive(Debug, Clone, Copy)]
pub struct Existing<'a> {
    /// The stack.
    pub stack: &'a DeployedStack,
    /// Its template, byte for byte.
    pub template: &'a str,
    /// Its template as a tree; `None` when it can't be read as one.
    pub document: Option<&'a Value>,
}

/// The outputs of a stack that others use, as far as they are known before apply.
pub type Outputs = BTreeMap<String, String>;

/// The values of a stack's parameters, given the known outputs of the stacks it depends on.
pub fn resolve(
    stack: &RenderedStack,
    outputs: &BTreeMap<StackName, Outputs>,
) -> BTreeMap<String, ParameterValue> {
    let resolved = stack.parameters.iter().map(|(name, value)| {
        if stack.kept.contains_key(name) {
            return (name.clone(), ParameterValue::Hidden);
        }
        let known = value.resolve(|r| outputs.get(&r.stack).and_then(|o| o.get(&r.output)).cloned());
        let value = match known {
            Ok(text) => ParameterValue::Known(text),
            Err(_) => ParameterValue::AfterApply(value.to_string()),
        };
        (name.clone(), value)
    });
    resolved.collect()
}

/// The plan of a stack, predicted from the templates. `group` is the autoscaling group
/// of the stack's name, if there is one.
pub fn predict(
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    parameters: &BTreeMap<String, ParameterValue>,
    group: Option<&Group>,
) -> StackPlan {
    let mut plan = StackPlan {
        stack: desired.stack.name.clone(),
        cloud_name: desired.stack.cloud_name.clone(),
        template_file: desired.stack.template_file.clone(),
        depends_on: desired.stack.depends_on.clone(),
        action: StackAction::Unchanged,
        reasons: Vec::new(),
        parameters: Vec::new(),
        uncompared: Vec::new(),
        tags: Vec::new(),
        protect: desired
            .stack
            .protect
            .filter(|protect| *protect != existing.is_some_and(|e| e.stack.protected)),
        policy: guard::policy_change(desired, existing),
        hooks: Vec::new(),
        resources: Vec::new(),
        consequences: Vec::new(),
        outputs: Vec::new(),
        sizes: Vec::new(),
        warnings: Vec::new(),
    };
    let Some(existing) = existing else {
        plan.action = StackAction::Create;
        plan.reasons.push(Reason::New);
        plan.parameters = parameter_changes(desired, &BTreeMap::new(), parameters);
        plan.resources = predict::created(desired.document);
        return plan;
    };
    if let Some(blocked) = owner::refusal(desired.stack, existing.stack, Purpose::Change) {
        (plan.protect, plan.policy) = (None, None);
        plan.action = StackAction::Blocked(blocked);
        return plan;
    }
    match blocked(&desired.stack.name, existing.stack) {
        Standing::Settled => {}
        Standing::OursInReview => return predict(desired, None, parameters, group),
        Standing::Blocked(blocked) => {
            plan.action = StackAction::Blocked(blocked);
            return plan;
        }
    }
    plan.parameters = parameter_changes(desired, &existing.stack.parameters, parameters);
    plan.tags = tag_changes(&existing.stack.tags, &desired.stack.tags);
    let same_text = existing.template.trim_end() == desired.stack.template.trim_end();
    if !same_text && existing.document != Some(desired.document) {
        plan.reasons.push(Reason::Template);
    }
    if plan.parameters.iter().any(|p| !matches!(p.after, ParameterValue::AfterApply(_))) {
        plan.reasons.push(Reason::Parameter);
    }
    if plan.parameters.iter().any(|p| matches!(p.after, ParameterValue::AfterApply(_))) {
        plan.reasons.push(Reason::AfterApply);
    }
    if !plan.tags.is_empty() {
        plan.reasons.push(Reason::Tags);
    }
    if plan.protect.is_some() {
        plan.reasons.push(Reason::Protection);
    }
    if plan.policy.is_some() {
        plan.reasons.push(Reason::Policy);
    }
    if !plan.reasons.is_empty() {
        plan.action = StackAction::Update;
    }
    if plan.needs_change_set() {
        plan.resources = predict::updated(existing.document, &existing.stack.parameters, desired, parameters);
        if !plan.tags.is_empty() {
            predict::tagged(&mut plan.resources, desired.document);
        }
    }
    plan.consequences = consequences(&plan, group);
    plan
}

/// Ends the plan of a stack: what its policy will not let happen, and the programs that are run.
pub fn finish(plan: &mut StackPlan, desired: Desired<'_>, existing: Option<Existing<'_>>) {
    guard::hold_back(plan, desired, existing);
    plan.uncompared = uncompared(plan, desired, existing);
    if matches!(plan.action, StackAction::Create | StackAction::Update) {
        let moments = [Moment::BeforeApply, Moment::AfterApply];
        let hooks = moments.into_iter().flat_map(|moment| desired.stack.hooks(moment));
        plan.hooks =
            hooks.map(|hook| PlannedHook { when: hook.when, command: hook.command.clone() }).collect();
    }
}

/// Blocks a stack that uses an output which apply will not bring about; `lacking` is why, by stack and output.
/// It would be said to be known after apply for ever, and every apply would fail.
pub fn need_outputs(
    plan: &mut StackPlan,
    desired: Desired<'_>,
    existing: Option<Existing<'_>>,
    lacking: &BTreeMap<StackName, BTreeMap<String, String>>,
) {
    if matches!(plan.action, StackAction::Blocked(_)) {
        return;
    }
    let missing = desired.stack.parameters.iter().find_map(|(name, value)| {
        let mut references = value.references();
        references.find_map(|r| Some((name, r, lacking.get(&r.stack)?.get(&r.output)?)))
    });
    let Some((name, reference, why)) = missing else { return };
    plan.action = StackAction::Blocked(Blocked {
        status: existing.map_or_else(|| "NOT_CREATED".to_owned(), |existing| existing.stack.status.clone()),
        why: format!(
            "its parameter `{name}` needs output `{}` of stack `{}`, {why}",
            reference.output, reference.stack
        ),
        next: format!(
            "change what `{}` is given so that it has the output, or give `{name}` another value ({})",
            reference.stack, desired.stack.place
        ),
    });
}

/// Takes a change set's word for what the plan predicted.
pub fn confirm(plan: &mut StackPlan, change_set: &ChangeSet, group: Option<&Group>) {
    if change_set.state == ChangeSetState::Empty {
        plan.reasons.retain(|reason| reason.is_setting());
        if plan.reasons.is_empty() {
            plan.action = StackAction::Unchanged;
        }
        plan.parameters.clear();
        plan.tags.clear();
        plan.resources.clear();
    } else {
        let mut predicted: BTreeMap<String, ResourcePlan> =
            plan.resources.drain(..).map(|resource| (resource.resource.clone(), resource)).collect();
        for change in &change_set.changes {
            let known = predicted.remove(&change.resource);
            let action = replacement::action(change, known.as_ref().map_or(&[], |known| &known.properties));
            let claim = match (change.certain, action) {
                (true, _) => Claim::Confirmed,
                (false, Action::MaybeReplace) => Claim::Unknown,
                (false, _) => Claim::Predicted,
            };
            let (mut properties, user_data) = known.map(|k| (k.properties, k.user_data)).unwrap_or_default();
            let told = change.properties.iter().any(|p| p.before.is_some() || p.after.is_some());
            if change.action == Action::Create {
                properties.clear();
            } else if told || properties.is_empty() {
                properties.clone_from(&change.properties);
            }
            for value in properties.iter_mut().flat_map(|p| [&mut p.before, &mut p.after]).flatten() {
                if value.contains(KNOWN_AFTER_APPLY) {
                    *value = value.replace(KNOWN_AFTER_APPLY, predict::AFTER_APPLY);
                }
            }
            if user_data.is_some() {
                properties.retain(|property| !document::is_user_data(&property.path));
            }
            plan.resources.push(ResourcePlan {
                resource: change.resource.clone(),
                resource_type: change.resource_type.clone(),
                action,
                claim,
                properties,
                user_data,
            });
        }
        plan.resources.sort_by(|a, b| a.resource.cmp(&b.resource));
    }
    plan.consequences = consequences(plan, group);
}

/// The outputs of a stack that are known before apply: those deployed, without the ones
/// that the plan may change.
pub fn known_outputs(plan: &StackPlan, desired: Desired<'_>, existing: Option<Existing<'_>>) -> Outputs {
    let Some(existing) = existing else { return Outputs::new() };
    match plan.action {
        StackAction::Create => return Outputs::new(),
        StackAction::Unchanged | StackAction::Blocked(_) => return existing.stack.outputs.clone(),
        StackAction::Update => {}
    }
    let parameters: BTreeSet<&str> = plan.parameters.iter().map(|p| p.name.as_str()).collect();
    let known = existing.stack.outputs.iter().filter(|(name, _)| {
        let Some(after) = document::output(desired.document, name) else { return false };
        let before = existing.document.and_then(|document| document::output(document, name));
        before == Some(after)
            && document::references(after).iter().all(|reference| {
                let resource = plan.resources.iter().find(|r| r.resource == reference.name());
                let stays = resource.is_none_or(|r| keeps(r.action, reference));
                stays && !parameters.contains(reference.name())
            })
    });
    known.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether what `reference` gives stays the same when its resource goes through `action`.
pub(super) fn keeps(action: Action, reference: &Reference) -> bool {
    match (action, reference) {
        (Action::Update, Reference::Name(_)) => true,
        // An identity outlives an update in place; anything else (a version, an address) may not.
        (Action::Update, Reference::Attribute(_, attribute)) => {
            attribute.ends_with("Id") || attribute.ends_with("Arn")
        }
        (Action::Create | Action::MaybeReplace | Action::Replace | Action::Delete, _) => false,
    }
}

fn parameter_changes(
    desired: Desired<'_>,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, ParameterValue>,
) -> Vec<ParameterChange> {
    let document = desired.document;
    let mut changes = Vec::new();
    for (name, value) in after {
        let deployed = before.get(name);
        if document::is_hidden(document, name) {
            // What is deployed can't be read back: only one that is new, or set in any case, is a change.
            if deployed.is_none() || desired.stack.forced.contains(name) {
                let (name, before) = (name.clone(), deployed.cloned());
                changes.push(ParameterChange { name, before, after: ParameterValue::Hidden });
            }
            continue;
        }
        if !matches!(value, ParameterValue::Known(text) if Some(text) == deployed) {
            changes.push(ParameterChange {
                name: name.clone(),
                before: deployed.cloned(),
                after: value.clone(),
            });
        }
    }
    // A parameter that is no longer given falls back to its default.
    for (name, deployed) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        if let Some(default) = document::parameter_default(document, name)
            && default != *deployed
            && !document::is_hidden(document, name)
        {
            changes.push(ParameterChange {
                name: name.clone(),
                before: Some(deployed.clone()),
                after: ParameterValue::Known(default),
            });
        }
    }
    changes
}

fn tag_changes(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<PropertyChange> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| before.get(*key) != after.get(*key) && !key.starts_with("aws:"))
        .map(|key| PropertyChange {
            path: key.clone(),
            before: before.get(key).cloned(),
            after: after.get(key).cloned(),
        })
        .collect()
}

enum Standing {
    Settled,
    /// A creation of ours that stopped between making the change set and executing it.
    OursInReview,
    Blocked(Blocked),
}

/// `name` is the repository's name of it.
fn blocked(name: &StackName, stack: &DeployedStack) -> Standing {
    let (why, next) = match stack.phase() {
        Phase::Settled | Phase::Gone => return Standing::Settled,
        // An apply of ours that was stopped, or nobody's: there is nothing to lose in it.
        Phase::InReview if stack.waiting.iter().all(|name| is_ours(name)) => return Standing::OursInReview,
        Phase::InReview => (
            "somebody else made a change set to create it and has not executed it".to_owned(),
            format!("agree with them; `fleetwright recover {name}` discards it"),
        ),
        Phase::Busy => (
            "CloudFormation is at work on it".to_owned(),
            "wait until it is done, or run `fleetwright apply`, which waits for it first".to_owned(),
        ),
        Phase::FailedCreate => (
            "its creation failed, and CloudFormation can't update what never came to be".to_owned(),
            format!("`fleetwright recover {name}` deletes what is left of it, then `fleetwright apply`"),
        ),
        Phase::Stuck => (
            "its last change failed and could not be undone".to_owned(),
            format!("`fleetwright recover {name}` brings it to rest, then `fleetwright apply`"),
        ),
    };
    let why = if stack.status_reason.is_empty() { why } else { format!("{why} ({})", stack.status_reason) };
    Standing::Blocked(Blocked { status: stack.status.clone(), why, next })
}

/// Whether a change set is, by its name, one that fleetwright made.
pub fn is_ours(change_set: &str) -> bool {
    change_set.starts_with(CHANGE_SET_PREFIX)
}

fn consequences(plan: &StackPlan, group: Option<&Group>) -> Vec<Consequence> {
    let Some(group) = group else { return Vec::new() };
    let Some(current) = &group.launch_template else { return Vec::new() };
    let new_version = plan.resources.iter().any(|resource| {
        resource.resource_type == "AWS::EC2::LaunchTemplate"
            && resource.action != Action::Create
            && (resource.user_data.is_some()
                || resource.properties.iter().any(|p| p.path.starts_with("LaunchTemplateData")))
    });
    let (version, made_by_apply) = match (new_version, current.version.parse::<u64>()) {
        (true, Ok(number)) => ((number + 1).to_string(), true),
        (true, Err(_)) => ("next".to_owned(), true),
        (false, Ok(_)) => (current.version.clone(), false),
        // A group that follows `$Latest` does not say which number that is.
        (false, Err(_)) => return Vec::new(),
    };
    let machines: Vec<OldMachine> = group
        .instances
        .iter()
        .filter(|instance| matches!(instance.lifecycle, Lifecycle::Pending | Lifecycle::InService))
        .map(|i| OldMachine {
            id: i.id.clone(),
            version: i.launch_template.as_ref().map(|t| t.version.clone()),
        })
        .filter(|machine| machine.version.as_deref() != Some(version.as_str()))
        .collect();
    if machines.is_empty() {
        return Vec::new();
    }
    vec![Consequence::MachinesToRoll {
        group: group.name.clone(),
        launch_template: current.name.clone(),
        version,
        made_by_apply,
        machines,
    }]
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
