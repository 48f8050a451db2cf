//! Making a plan: what is deployed is looked at, what differs is asked of CloudFormation,
//! and nothing is left behind.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::cause::refused;
use super::follow::{Pace, computed};
use crate::event::Events;
use crate::model::deployed::{ChangeSet, ChangeSetRequest, ChangeSetState, DeployedStack, Phase};
use crate::model::group::Group;
use crate::model::name::{EnvironmentName, ProjectName, StackName};
use crate::model::parameter::Given;
use crate::model::stack::{ENVIRONMENT_TAG, PROJECT_TAG, RenderedStack, STACK_TAG};
use crate::plan::owner::{Purpose, refusal};
use crate::plan::stack::{
    self, Blocked, CHANGE_SET_PREFIX, Desired, Existing, LeftStack, Outputs, PLAN_VERSION, ParameterValue,
    Plan, StackAction, StackPlan,
};
use crate::plan::warnings::{self, Warning};
use crate::plan::{condition, sizes};
use crate::port::cloud::{Cloud, CloudError};
use crate::port::groups::Groups;
use crate::repo::document;
use crate::source::SourceFile;

/// How many calls that read are under way at once.
const CALLS_AT_ONCE: usize = 8;

/// The status of a stack that does not exist, in a plan that blocks it.
const NOT_CREATED: &str = "not created";

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The cloud did not do what it was asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// CloudFormation can't make a change set of it.
    #[error("CloudFormation refuses the change of stack `{stack}`: {reason}")]
    Rejected {
        /// The stack.
        stack: StackName,
        /// CloudFormation's words.
        reason: String,
    },
    /// A parameter does not accept what another stack's output gives it.
    #[error("the parameter `{parameter}` of stack `{stack}` at {place} does not accept its value: {why}")]
    Refused {
        /// The stack.
        stack: StackName,
        /// The parameter.
        parameter: String,
        /// Where it is given.
        place: String,
        /// Why.
        why: String,
    },
    /// A rendered template that can't be read as one.
    #[error("the rendered template of stack `{stack}` is not a CloudFormation template")]
    NoTemplate {
        /// The stack.
        stack: StackName,
    },
    /// A signal came.
    #[error("stopped before the plan was complete; nothing was changed")]
    Stopped,
}

/// What is wanted of one environment.
#[derive(Debug)]
pub struct Wanted {
    /// The project.
    pub project: ProjectName,
    /// The environment.
    pub environment: EnvironmentName,
    /// Its region.
    pub region: String,
    /// Its stacks, each after those it depends on.
    pub stacks: Vec<WantedStack>,
    /// The stacks that were asked for; empty where all were.
    pub selected: Vec<StackName>,
}

/// One stack that is wanted.
#[derive(Debug)]
pub struct WantedStack {
    /// The stack.
    pub stack: RenderedStack,
    /// Its template as a tree.
    pub document: Value,
    /// The file its template was rendered from, for naming lines in it.
    pub source: Option<Arc<SourceFile>>,
}

impl WantedStack {
    /// Reads the rendered template.
    ///
    /// # Errors
    /// When it is no template.
    pub fn new(stack: RenderedStack, source: Option<Arc<SourceFile>>) -> Result<Self, PlanError> {
        match document::read(&stack.template) {
            Some(document) => Ok(Self { stack, document, source }),
            None => Err(PlanError::NoTemplate { stack: stack.name }),
        }
    }

    /// The stack as it is wanted.
    pub fn desired(&self) -> Desired<'_> {
        Desired { stack: &self.stack, document: &self.document }
    }
}

impl Wanted {
    /// The stacks to be worked on: all of them, or those that were asked for and all that these depend on.
    pub fn chosen(&self) -> impl Iterator<Item = &WantedStack> {
        let names = self.chosen_names();
        self.stacks.iter().filter(move |wanted| names.contains(&wanted.stack.name))
    }

    fn chosen_names(&self) -> BTreeSet<StackName> {
        if self.selected.is_empty() {
            return self.stacks.iter().map(|wanted| wanted.stack.name.clone()).collect();
        }
        let mut names: BTreeSet<StackName> = self.selected.iter().cloned().collect();
        // Each stack stands after those it depends on, so one pass from the last reaches all of them.
        for wanted in self.stacks.iter().rev() {
            if names.contains(&wanted.stack.name) {
                names.extend(wanted.stack.depends_on.iter().cloned());
            }
        }
        names
    }

    /// Each stack to be worked on as it is wanted, and as it was found.
    pub fn beside<'a>(
        &'a self,
        found: &'a Found,
    ) -> impl Iterator<Item = (Desired<'a>, Option<Existing<'a>>)> {
        self.chosen().map(|wanted| (wanted.desired(), found.existing(&wanted.stack.name)))
    }

    /// The stack of that name.
    pub fn stack(&self, name: &StackName) -> Option<&WantedStack> {
        self.stacks.iter().find(|wanted| wanted.stack.name == *name)
    }
}

/// What was found deployed, by the repository's names.
#[derive(Debug, Default)]
pub struct Found {
    /// The stacks that exist.
    pub stacks: BTreeMap<StackName, DeployedStack>,
    /// Their templates, byte for byte, and as trees where they can be read.
    templates: BTreeMap<StackName, (String, Option<Value>)>,
    /// The groups, by the name of their stack.
    pub groups: BTreeMap<StackName, Group>,
    /// Stacks of the environment that the repository no longer has, newest first.
    pub left: Vec<DeployedStack>,
    /// Every group of the environment.
    pub live: Vec<Group>,
    /// The region.
    pub region: String,
}

impl Found {
    /// The deployed template as a tree; `None` where there is none that can be read.
    pub fn document(&self, name: &StackName) -> Option<&Value> {
        self.templates.get(name)?.1.as_ref()
    }

    fn existing(&self, name: &StackName) -> Option<Existing<'_>> {
        let stack = self.stacks.get(name)?;
        let (template, document) = self.templates.get(name)?;
        Some(Existing { stack, template, document: document.as_ref() })
    }
}

/// Looks at what is deployed: two calls, then one more for each stack whose template is not known.
///
/// # Errors
/// When the cloud can't be asked.
pub async fn look(cloud: &dyn Cloud, groups: &dyn Groups, wanted: &Wanted) -> Result<Found, CloudError> {
    let tags = [(PROJECT_TAG, wanted.project.as_str()), (ENVIRONMENT_TAG, wanted.environment.as_str())];
    let (stacks, groups) = tokio::try_join!(cloud.stacks(), groups.groups(&tags))?;
    let mut found = Found { region: wanted.region.clone(), ..Found::default() };
    for wanted in wanted.chosen() {
        let name = &wanted.stack.name;
        if let Some(stack) = stacks.iter().find(|stack| stack.name == wanted.stack.cloud_name) {
            found.stacks.insert(name.clone(), stack.clone());
        }
        if let Some(group) = groups.iter().find(|group| group.name == wanted.stack.cloud_name) {
            found.groups.insert(name.clone(), group.clone());
        }
    }
    found.live = groups;
    let ours = |stack: &&DeployedStack| {
        // A stack that fleetwright made says which of the repository's it is; others may have copied the rest.
        tags.iter().all(|(key, value)| stack.tags.get(*key).is_some_and(|v| v == value))
            && stack.tags.contains_key(STACK_TAG)
    };
    let is_wanted = |stack: &DeployedStack| wanted.stacks.iter().any(|w| w.stack.cloud_name == stack.name);
    // What a stack of ours has nested in it has its tags, and goes with it. Not everybody says that it is
    // nested; CloudFormation names it after the stack around it.
    let is_within = |stack: &DeployedStack| {
        let around = stack.tags.get(STACK_TAG);
        let around = wanted.stacks.iter().find(|w| around.is_some_and(|tag| tag == w.stack.name.as_str()));
        around.is_some_and(|w| stack.name.starts_with(&format!("{}-", w.stack.cloud_name)))
    };
    let left = stacks.iter().filter(ours);
    let left = left.filter(|stack| !stack.nested && !is_wanted(stack) && !is_within(stack));
    // What was not asked for is not looked at either.
    found.left = left.filter(|_| wanted.selected.is_empty()).cloned().collect();
    found.left.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    let is_ours = |name: &StackName, stack: &DeployedStack| {
        let refusal = wanted.stack(name).and_then(|w| refusal(&w.stack, stack, Purpose::Change));
        refusal.is_none()
    };
    let templates = found.stacks.iter().map(async |(name, stack)| {
        // What is in review has no template yet, and that of somebody else's stack is not ours to read.
        let text = if stack.status == "REVIEW_IN_PROGRESS" || !is_ours(name, stack) {
            String::new()
        } else {
            cloud.template(stack).await?
        };
        let document = document::read(&text);
        Ok::<_, CloudError>((name.clone(), (text, document)))
    });
    let policies = found.stacks.iter().filter(|(name, stack)| {
        let wanted = wanted.stack(name);
        stack.phase() != Phase::InReview
            && is_ours(name, stack)
            && wanted.is_some_and(|wanted| wanted.stack.policy.is_some())
    });
    let policies =
        policies.map(async |(name, stack)| Ok::<_, CloudError>((name.clone(), cloud.policy(stack).await?)));
    let policies: Vec<(StackName, Option<String>)> =
        stream::iter(policies).buffer_unordered(CALLS_AT_ONCE).try_collect().await?;
    // CloudFormation allows few calls at once.
    found.templates = stream::iter(templates).buffer_unordered(CALLS_AT_ONCE).try_collect().await?;
    for (name, policy) in policies {
        found.stacks.entry(name).and_modify(|stack| stack.policy = policy);
    }
    Ok(found)
}

/// Makes the plan; with `prune`, stacks that the repository no longer has are to be deleted. Change
/// sets that were made for it are deleted again, whatever happens.
///
/// # Errors
/// When the cloud can't be asked, or refuses a change.
pub async fn plan(
    cloud: &dyn Cloud,
    wanted: &Wanted,
    found: &Found,
    events: &Events,
    pace: Pace,
    prune: bool,
    stop: &CancellationToken,
) -> Result<Plan, PlanError> {
    let mut planned: BTreeMap<StackName, StackPlan> = BTreeMap::new();
    let mut outputs: BTreeMap<StackName, Outputs> = BTreeMap::new();
    let mut lacking: BTreeMap<StackName, BTreeMap<String, String>> = BTreeMap::new();
    let region = wanted.region.as_str();
    let chosen: Vec<&WantedStack> = wanted.chosen().collect();
    while planned.len() < chosen.len() {
        // Everything whose dependencies are planned, at the same time.
        let wave: Vec<&WantedStack> = chosen
            .iter()
            .copied()
            .filter(|w| !planned.contains_key(&w.stack.name))
            .filter(|w| {
                w.stack.depends_on.iter().all(|d| planned.contains_key(d) || wanted.stack(d).is_none())
            })
            .collect();
        let plans = wave.iter().map(|wanted| {
            let (outputs, behind) = (&outputs, behind(wanted, &planned));
            async move {
                match behind {
                    Some(blocked) => Ok(held_up(wanted, found, outputs, blocked)),
                    None => one(cloud, wanted, found, outputs, events, pace, stop).await,
                }
            }
        });
        // Every future is driven to its end, so that none leaves its change set behind.
        let plans: Vec<Result<StackPlan, PlanError>> = join_all(plans).await;
        for (wanted, plan) in wave.iter().zip(plans) {
            let mut plan = match plan {
                // The others can go on without it.
                Err(PlanError::Rejected { reason, .. }) => rejected(wanted, found, &outputs, &reason),
                Err(error @ PlanError::Refused { .. }) => {
                    let next = "correct the output that it comes from, or the parameter's declaration, then plan again";
                    block(predicted(wanted, found, &outputs), found, error.to_string(), next.to_owned())
                }
                plan => plan?,
            };
            let name = wanted.stack.name.clone();
            let (desired, existing) = (wanted.desired(), found.existing(&name));
            stack::need_outputs(&mut plan, desired, existing, &lacking);
            let parameters = stack::resolve(&wanted.stack, &outputs);
            let lacks = condition::lacking(&plan, desired, existing, &parameters, region);
            lacking.insert(name.clone(), lacks);
            let known = stack::known_outputs(&plan, wanted.desired(), found.existing(&name));
            outputs.insert(name.clone(), known);
            planned.insert(name, plan);
        }
    }
    let stacks: Vec<StackPlan> = chosen.iter().filter_map(|w| planned.remove(&w.stack.name)).collect();
    // What is left may still be used by a stack that can't be brought up to date.
    let prune = prune && !stacks.iter().any(|plan| matches!(plan.action, StackAction::Blocked(_)));
    let not_selected = wanted.stacks.iter().map(|w| &w.stack.name);
    let not_selected = not_selected.filter(|name| chosen.iter().all(|w| w.stack.name != **name));
    let left = found.left.iter().map(|stack| LeftStack {
        cloud_name: stack.name.clone(),
        id: stack.id.clone(),
        status: stack.status.clone(),
        protected: stack.protected,
        delete: prune,
    });
    Ok(Plan {
        left: left.collect(),
        access: None,
        notify: None,
        version: PLAN_VERSION,
        project: wanted.project.clone(),
        environment: wanted.environment.clone(),
        region: wanted.region.clone(),
        selected: wanted.selected.clone(),
        not_selected: not_selected.cloned().collect(),
        stacks,
    })
}

/// The first stack that `wanted` depends on and that is blocked.
fn behind<'p>(wanted: &WantedStack, planned: &'p BTreeMap<StackName, StackPlan>) -> Option<&'p StackName> {
    let before = wanted.stack.depends_on.iter().filter_map(|name| planned.get(name));
    before.filter(|plan| matches!(plan.action, StackAction::Blocked(_))).map(|plan| &plan.stack).next()
}

/// The plan of a stack that waits for a blocked one. One that is as the repository says waits for nothing.
fn held_up(
    wanted: &WantedStack,
    found: &Found,
    outputs: &BTreeMap<StackName, Outputs>,
    blocked: &StackName,
) -> StackPlan {
    let plan = predicted(wanted, found, outputs);
    match plan.action {
        StackAction::Create | StackAction::Update => {}
        StackAction::Unchanged | StackAction::Blocked(_) => return plan,
    }
    let why = format!("it depends on `{blocked}`, which is blocked");
    let next = format!("its turn comes when `{blocked}` is no longer blocked");
    block(plan, found, why, next)
}

/// The plan of a stack whose change CloudFormation refuses to compute.
fn rejected(
    wanted: &WantedStack,
    found: &Found,
    outputs: &BTreeMap<StackName, Outputs>,
    reason: &str,
) -> StackPlan {
    let why = format!("CloudFormation refuses the change: {reason}");
    let next = "correct the template or the stack's parameters, then plan again".to_owned();
    block(predicted(wanted, found, outputs), found, why, next)
}

fn predicted(wanted: &WantedStack, found: &Found, outputs: &BTreeMap<StackName, Outputs>) -> StackPlan {
    let name = &wanted.stack.name;
    let parameters = stack::resolve(&wanted.stack, outputs);
    stack::predict(wanted.desired(), found.existing(name), &parameters, found.groups.get(name))
}

fn block(mut plan: StackPlan, found: &Found, why: String, next: String) -> StackPlan {
    let existing = found.stacks.get(&plan.stack);
    let status = existing.map_or_else(|| NOT_CREATED.to_owned(), |stack| stack.status.clone());
    plan.consequences.clear();
    plan.action = StackAction::Blocked(Blocked { status, why, next });
    plan
}

/// The plan of one stack, given the outputs of those it depends on.
///
/// # Errors
/// When the cloud can't be asked, or refuses the change.
pub async fn one(
    cloud: &dyn Cloud,
    wanted: &WantedStack,
    found: &Found,
    outputs: &BTreeMap<StackName, Outputs>,
    events: &Events,
    pace: Pace,
    stop: &CancellationToken,
) -> Result<StackPlan, PlanError> {
    let mut plan = confirmed(cloud, wanted, found, outputs, events, pace, stop).await?;
    let (desired, existing) = (wanted.desired(), found.existing(&wanted.stack.name));
    let (parameters, region) = (stack::resolve(&wanted.stack, outputs), found.region.as_str());
    plan.sizes = sizes::sizes(&plan, desired, existing, &parameters, &found.live, region);
    plan.outputs = warnings::outputs(&plan, desired, existing, &parameters, region);
    plan.warnings = warned(cloud, &plan, wanted, found, &parameters).await?;
    stack::finish(&mut plan, desired, existing);
    Ok(plan)
}

/// What to think about before the plan of a stack is applied. Others are asked only where an export may change.
async fn warned(
    cloud: &dyn Cloud,
    plan: &StackPlan,
    wanted: &WantedStack,
    found: &Found,
    parameters: &BTreeMap<String, ParameterValue>,
) -> Result<Vec<Warning>, CloudError> {
    let (desired, existing) = (wanted.desired(), found.existing(&wanted.stack.name));
    let region = found.region.as_str();
    let known = stack::known_outputs(plan, desired, existing);
    let mut warnings = warnings::renames(plan, desired, existing);
    warnings.extend(warnings::names_taken(plan, desired, existing, parameters, region));
    let at_risk = warnings::exports_at_risk(plan, desired, existing, parameters, &known, region);
    for (export, output, goes) in at_risk {
        let importers = match cloud.importers(&export).await {
            // A plan is not refused for want of a warning.
            Err(CloudError::Denied { .. }) => continue,
            importers => importers?,
        };
        if !importers.is_empty() {
            warnings.push(Warning::ExportInUse { export, output, goes, importers });
        }
    }
    if plan.action == StackAction::Create {
        for left in found.left.iter().filter(|left| left.phase() != Phase::InReview) {
            // Rights may be missing for what is no longer ours to change.
            let Ok(template) = cloud.template(left).await else { continue };
            let deployed = document::read(&template);
            if deployed.is_some_and(|deployed| warnings::is_same_stack(desired.document, &deployed)) {
                warnings.push(Warning::StackRenamed { from: left.name.clone() });
            }
        }
    }
    Ok(warnings)
}

async fn confirmed(
    cloud: &dyn Cloud,
    wanted: &WantedStack,
    found: &Found,
    outputs: &BTreeMap<StackName, Outputs>,
    events: &Events,
    pace: Pace,
    stop: &CancellationToken,
) -> Result<StackPlan, PlanError> {
    let name = &wanted.stack.name;
    let parameters = stack::resolve(&wanted.stack, outputs);
    judged(&wanted.stack, &parameters)?;
    let group = found.groups.get(name);
    let mut plan = stack::predict(wanted.desired(), found.existing(name), &parameters, group);
    let Some(known) = known(&parameters) else { return Ok(plan) };
    if !plan.needs_change_set() {
        return Ok(plan);
    }
    events.note(format!("asking CloudFormation what the change of {name} does"));
    let request = request(&wanted.stack, known, false);
    let id = cloud.create_change_set(&request).await.map_err(|error| about_stack(name, error))?;
    let mut change_set = computed(cloud, &id, pace, Duration::ZERO, stop).await;
    if let Ok(Some(ChangeSet { state: ChangeSetState::Failed { reason }, .. })) = &mut change_set {
        *reason = refused(cloud, &request.stack, &id, reason).await;
    }
    cloud.delete_change_set(&id).await?;
    let change_set: ChangeSet = change_set?.ok_or(PlanError::Stopped)?;
    if let ChangeSetState::Failed { reason } = change_set.state {
        return Err(PlanError::Rejected { stack: name.clone(), reason });
    }
    stack::confirm(&mut plan, &change_set, group);
    Ok(plan)
}

/// Compares values that come from other stacks with what the template declares; what the repository's files
/// say was compared when they were read.
fn judged(stack: &RenderedStack, parameters: &BTreeMap<String, ParameterValue>) -> Result<(), PlanError> {
    for (name, value) in &stack.parameters {
        let (Some(ParameterValue::Known(text)), Some(rules)) = (parameters.get(name), stack.rules.get(name))
        else {
            continue;
        };
        if value.references().next().is_none() {
            continue;
        }
        if let Some(refusal) = rules.refusals(&Given::Text(text.clone()), None).into_iter().next() {
            return Err(PlanError::Refused {
                stack: stack.name.clone(),
                parameter: name.clone(),
                place: stack.place_of(name).to_string(),
                why: refusal.why,
            });
        }
    }
    Ok(())
}

/// What CloudFormation finds wrong with one stack does not stop the plan of the others.
fn about_stack(stack: &StackName, error: CloudError) -> PlanError {
    match error {
        CloudError::Refused { code, reason, .. } if !is_overload(&code) => {
            PlanError::Rejected { stack: stack.clone(), reason: format!("{reason} ({code})") }
        }
        error => PlanError::Cloud(error),
    }
}

/// Whether a refusal says that there were too many calls.
fn is_overload(code: &str) -> bool {
    ["Throttl", "RequestLimitExceeded", "TooManyRequests", "SlowDown"].iter().any(|word| code.contains(word))
}

/// The values, if all of them are known.
fn known(parameters: &BTreeMap<String, ParameterValue>) -> Option<BTreeMap<String, String>> {
    parameters
        .iter()
        .filter_map(|(name, value)| match value {
            ParameterValue::Known(text) => Some(Some((name.clone(), text.clone()))),
            ParameterValue::AfterApply(_) => Some(None),
            // The stack keeps what it has.
            ParameterValue::Hidden => None,
        })
        .collect()
}

/// The change set that makes `stack` what it shall be.
pub(super) fn request(
    stack: &RenderedStack,
    parameters: BTreeMap<String, String>,
    create: bool,
) -> ChangeSetRequest {
    let stamp = chrono::Utc::now().timestamp_millis();
    // Two machines may make one at the same time, and each must know its own by its name.
    let chance = RandomState::new().hash_one(stamp);
    ChangeSetRequest {
        stack: stack.cloud_name.clone(),
        name: format!("{CHANGE_SET_PREFIX}{stamp}-{chance:016x}"),
        create,
        template: stack.template.clone(),
        parameters,
        kept: stack.kept.keys().cloned().collect(),
        tags: stack.tags.clone(),
        nested: stack.nested.clone(),
        imports: Vec::new(),
    }
}
