//! Looking for drift: CloudFormation is asked to detect it, the services behind launch templates and
//! groups are asked by ourselves, stack by stack at the same time.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio_util::sync::CancellationToken;

use super::follow::Pace;
use super::plan::{Found, Wanted};
use crate::event::Events;
use crate::model::deployed::{DeployedStack, Phase};
use crate::model::drift::{Detection, ResourceDrift};
use crate::model::name::StackName;
use crate::plan::drift::{self, DRIFT_VERSION, DriftReport, NO_DETECTION, NotOurs, Seen, StackDrift};
use crate::plan::owner::{Purpose, refusal};
use crate::port::cloud::CloudError;
use crate::port::drift::Drift;
use crate::port::groups::Groups;
use crate::port::repair::Repair;

/// How many stacks are looked at at once: CloudFormation allows few calls for a whole account.
const STACKS_AT_ONCE: usize = 4;

/// Whom to ask.
pub struct Looker {
    /// Drift detection and launch templates.
    pub drift: Arc<dyn Drift>,
    /// Lists a stack's resources.
    pub repair: Arc<dyn Repair>,
    /// Autoscaling groups.
    pub groups: Arc<dyn Groups>,
    /// Where progress goes.
    pub events: Events,
    /// How often is asked.
    pub pace: Pace,
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
}

impl Looker {
    /// The drift of the stacks of `names`, or of all when there are none; `None` when a signal came first.
    ///
    /// # Errors
    /// When somebody can't be asked.
    pub async fn look(
        &self,
        wanted: &Wanted,
        found: &Found,
        names: &[StackName],
    ) -> Result<Option<DriftReport>, CloudError> {
        let asked = |name: &StackName| names.is_empty() || names.contains(name);
        let mut not_ours = Vec::new();
        for wanted in wanted.stacks.iter().filter(|wanted| asked(&wanted.stack.name)) {
            let stack = found.stacks.get(&wanted.stack.name);
            if let Some(blocked) = stack.and_then(|stack| refusal(&wanted.stack, stack, Purpose::Change)) {
                let stack = wanted.stack.name.clone();
                not_ours.push(NotOurs { stack, why: blocked.why, next: blocked.next });
            }
        }
        let is_ours = |name: &StackName| not_ours.iter().all(|other| other.stack != *name);
        let all = wanted.stacks.iter().map(|wanted| &wanted.stack.name);
        let all = all.filter(|name| asked(name) && is_ours(name));
        let (there, absent): (Vec<&StackName>, Vec<&StackName>) = all
            .partition(|name| found.stacks.get(*name).is_some_and(|stack| stack.phase() != Phase::InReview));
        let looks = there.iter().map(|name| self.one(name, wanted, found));
        let stacks: Vec<Option<StackDrift>> =
            stream::iter(looks).buffered(STACKS_AT_ONCE).try_collect().await?;
        let Some(stacks) = stacks.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        Ok(Some(DriftReport {
            version: DRIFT_VERSION,
            project: wanted.project.clone(),
            environment: wanted.environment.clone(),
            region: wanted.region.clone(),
            stacks,
            absent: absent.into_iter().cloned().collect(),
            not_ours,
        }))
    }

    async fn one(
        &self,
        name: &StackName,
        wanted: &Wanted,
        found: &Found,
    ) -> Result<Option<StackDrift>, CloudError> {
        let Some(stack) = found.stacks.get(name) else { return Ok(None) };
        self.events.note(format!("looking for drift in {name}"));
        let (detected, resources) = tokio::try_join!(self.detected(stack), self.repair.resources(&stack.id))?;
        let Some((detected, undetected)) = detected else { return Ok(None) };
        let mut launch_templates = BTreeMap::new();
        let mut groups = BTreeMap::new();
        for resource in resources.iter().filter(|resource| !resource.physical_id.is_empty()) {
            match resource.resource_type.as_str() {
                drift::LAUNCH_TEMPLATE => {
                    let newest = self.drift.launch_template(&resource.physical_id).await?;
                    launch_templates.insert(resource.resource.clone(), newest);
                }
                drift::GROUP => {
                    let group = self.groups.group(&resource.physical_id).await?;
                    groups.insert(resource.resource.clone(), group);
                }
                _ => {}
            }
        }
        let mut stack = stack.clone();
        let policy = wanted.stack(name).and_then(|wanted| wanted.stack.policy.as_ref());
        if policy.is_some() {
            // What was kept of it since the stack last changed does not count here.
            stack.policy = self.drift.policy(&stack).await?;
        }
        let seen = Seen {
            stack: &stack,
            policy,
            document: found.document(name),
            resources: &resources,
            detected: &detected,
            undetected: &undetected,
            launch_templates: &launch_templates,
            groups: &groups,
        };
        Ok(Some(drift::stack(name, &seen)))
    }

    /// What CloudFormation finds, and why it did not look at the rest; `None` when a signal came first.
    async fn detected(
        &self,
        stack: &DeployedStack,
    ) -> Result<Option<(Vec<ResourceDrift>, String)>, CloudError> {
        let nothing = |why: String| Ok(Some((Vec::new(), why)));
        if stack.phase() != Phase::Settled {
            // It would refuse.
            return nothing(format!("CloudFormation detects no drift while a stack is {}", stack.status));
        }
        let id = match self.drift.detect(&stack.id).await {
            Ok(Some(id)) => id,
            Ok(None) => return nothing("this endpoint has no drift detection".to_owned()),
            // What it refuses for this stack is no reason to say nothing of the others.
            Err(CloudError::Refused { code, reason, .. }) if code == "ValidationError" => {
                return nothing(format!("CloudFormation detects no drift here: {reason}"));
            }
            Err(error) => return Err(error),
        };
        let mut pace = self.pace;
        let why = loop {
            match self.drift.detection(&id).await? {
                Detection::Running if pace.wait(&self.stop).await => {}
                Detection::Running => return Ok(None),
                Detection::Done => break NO_DETECTION.to_owned(),
                // What it did look at counts all the same.
                Detection::Failed { reason } => break format!("CloudFormation's detection failed: {reason}"),
            }
        };
        Ok(Some((self.drift.drifts(&stack.id).await?, why)))
    }
}
