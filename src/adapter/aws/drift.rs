//! CloudFormation's drift detection, and launch templates as EC2 has them.

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{
    StackDriftDetectionStatus, StackResourceDrift, StackResourceDriftStatus,
};

use super::answers::{Pages, missing};
use super::ec2::Ec2;
use super::templates::{Part, Templates};
use super::{failure, is_missing};
use crate::model::deployed::{DeployedStack, PropertyChange};
use crate::model::drift::{Detection, DriftState, ResourceDrift, TemplateVersion};
use crate::port::cloud::CloudError;
use crate::port::drift::Drift;

/// CloudFormation and EC2 of one account in one region.
pub struct Drifts {
    client: Client,
    ec2: Ec2,
    known: Option<Templates>,
}

impl Drifts {
    /// The two, behind these clients; what is `known` of a stack that turns out to be otherwise is forgotten.
    pub fn new(client: Client, ec2: Ec2, known: Option<Templates>) -> Self {
        Self { client, ec2, known }
    }
}

#[async_trait]
impl Drift for Drifts {
    async fn detect(&self, stack: &str) -> Result<Option<String>, CloudError> {
        match self.client.detect_stack_drift().stack_name(stack).send().await {
            Ok(answer) => match answer.stack_drift_detection_id.filter(|id| !id.is_empty()) {
                Some(id) => Ok(Some(id)),
                None => {
                    Err(missing(format!("detecting the drift of stack `{stack}`"), "StackDriftDetectionId"))
                }
            },
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure(format!("detecting the drift of stack `{stack}`"), error)),
        }
    }

    async fn detection(&self, id: &str) -> Result<Detection, CloudError> {
        let request = self.client.describe_stack_drift_detection_status().stack_drift_detection_id(id);
        let answer =
            request.send().await.map_err(|error| failure("asking how far the drift detection is", error))?;
        Ok(match answer.detection_status {
            Some(StackDriftDetectionStatus::DetectionInProgress) => Detection::Running,
            Some(StackDriftDetectionStatus::DetectionFailed) => {
                Detection::Failed { reason: answer.detection_status_reason.unwrap_or_default() }
            }
            Some(StackDriftDetectionStatus::DetectionComplete) => Detection::Done,
            // What is not known to be complete is not taken for it.
            Some(other) => Detection::Failed { reason: format!("its status is {}", other.as_str()) },
            None => return Err(missing("asking how far the drift detection is", "DetectionStatus")),
        })
    }

    async fn drifts(&self, stack: &str) -> Result<Vec<ResourceDrift>, CloudError> {
        let doing = format!("reading the drift of stack `{stack}`");
        let (mut token, mut pages) = (None, Pages::default());
        let mut found = Vec::new();
        loop {
            let request = self.client.describe_stack_resource_drifts().stack_name(stack);
            let page = request.set_next_token(token).send().await.map_err(|error| failure(&doing, error))?;
            token = pages.next(page.next_token.as_deref(), &doing)?;
            found.extend(page.stack_resource_drifts.unwrap_or_default().into_iter().filter_map(drift));
            if token.is_none() {
                found.sort_by(|a, b| a.resource.cmp(&b.resource));
                return Ok(found);
            }
        }
    }

    async fn policy(&self, stack: &DeployedStack) -> Result<Option<String>, CloudError> {
        if let Some(known) = &self.known {
            known.forget(stack, Part::Policy);
        }
        match self.client.get_stack_policy().stack_name(&stack.id).send().await {
            Ok(answer) => Ok(answer.stack_policy_body.filter(|document| !document.trim().is_empty())),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure(format!("reading the policy of stack `{}`", stack.name), error)),
        }
    }

    async fn launch_template(&self, id: &str) -> Result<Option<TemplateVersion>, CloudError> {
        self.ec2.launch_template(id).await
    }
}

/// `None` for one that was not looked at.
fn drift(from: StackResourceDrift) -> Option<ResourceDrift> {
    let state = match from.stack_resource_drift_status? {
        StackResourceDriftStatus::InSync => DriftState::InSync,
        StackResourceDriftStatus::Modified => DriftState::Modified,
        StackResourceDriftStatus::Deleted => DriftState::Deleted,
        _ => return None,
    };
    let mut differences: Vec<PropertyChange> = from
        .property_differences
        .unwrap_or_default()
        .into_iter()
        .map(|difference| PropertyChange {
            path: difference.property_path.unwrap_or_default().trim_start_matches('/').replace('/', "."),
            before: difference.expected_value.filter(|value| value != "null"),
            after: difference.actual_value.filter(|value| value != "null"),
        })
        .collect();
    differences.sort_by(|a, b| a.path.cmp(&b.path));
    Some(ResourceDrift {
        resource: from.logical_resource_id?,
        resource_type: from.resource_type.unwrap_or_default(),
        physical_id: from.physical_resource_id.unwrap_or_default(),
        state,
        differences,
    })
}
