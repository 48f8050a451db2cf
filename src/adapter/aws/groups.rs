//! EC2 Auto Scaling.

use async_trait::async_trait;
use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::{
    AutoScalingGroup, Filter, Instance, LaunchTemplateSpecification, LifecycleState, Tag,
};

use super::answers::{Pages, missing};
use super::{failure, refusal};
use crate::model::group::{Capacity, Group, GroupInstance, LaunchTemplate, Lifecycle};
use crate::model::name::MachineId;
use crate::port::cloud::CloudError;
use crate::port::groups::Groups;

/// Auto Scaling behind the SDK's client.
#[derive(Debug)]
pub struct AutoScaling {
    client: Client,
}

impl AutoScaling {
    /// Wraps `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    fn tag(group: &str, key: &str, value: Option<&str>) -> Tag {
        Tag::builder()
            .resource_id(group)
            .resource_type("auto-scaling-group")
            .key(key)
            .set_value(value.map(str::to_owned))
            .propagate_at_launch(false)
            .build()
    }
}

#[async_trait]
impl Groups for AutoScaling {
    async fn groups(&self, tags: &[(&str, &str)]) -> Result<Vec<Group>, CloudError> {
        let filters = tags
            .iter()
            .map(|(key, value)| Filter::builder().name(format!("tag:{key}")).values(*value).build())
            .collect();
        let mut pages =
            self.client.describe_auto_scaling_groups().set_filters(Some(filters)).into_paginator().send();
        const DOING: &str = "listing autoscaling groups";
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(DOING, error))?;
            read.read(page.next_token());
            for one in page.auto_scaling_groups.ok_or_else(|| missing(DOING, "AutoScalingGroups"))? {
                found.push(group(one, DOING)?);
            }
        }
        read.finish(DOING)?;
        found.retain(|group| {
            tags.iter().all(|(key, value)| group.tags.get(*key).is_some_and(|have| have == value))
        });
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn group(&self, name: &str) -> Result<Option<Group>, CloudError> {
        let request = self.client.describe_auto_scaling_groups().auto_scaling_group_names(name);
        let answer = request
            .send()
            .await
            .map_err(|error| failure(format!("reading autoscaling group `{name}`"), error))?;
        let doing = format!("reading autoscaling group `{name}`");
        let groups = answer.auto_scaling_groups.ok_or_else(|| missing(&doing, "AutoScalingGroups"))?;
        let groups = groups.into_iter().map(|one| group(one, &doing)).collect::<Result<Vec<_>, _>>()?;
        Ok(groups.into_iter().find(|group| group.name == name))
    }

    async fn set_capacity(&self, group: &str, capacity: Capacity) -> Result<(), CloudError> {
        self.client
            .update_auto_scaling_group()
            .auto_scaling_group_name(group)
            .min_size(signed(capacity.min))
            .max_size(signed(capacity.max))
            .desired_capacity(signed(capacity.desired))
            .send()
            .await
            .map_err(|error| failure(format!("setting the capacity of `{group}`"), error))?;
        Ok(())
    }

    async fn terminate(&self, instance: &MachineId, decrement: bool) -> Result<(), CloudError> {
        let request = self
            .client
            .terminate_instance_in_auto_scaling_group()
            .instance_id(instance.as_str())
            .should_decrement_desired_capacity(decrement);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error) {
                // Both mean that the group no longer counts the instance as its own.
                Some(("ValidationError", words))
                    if words.contains("not found") || words.contains("not in correct state") =>
                {
                    Ok(())
                }
                _ => Err(failure(format!("terminating `{instance}` through its group"), error)),
            },
        }
    }

    async fn termination_hooks(&self, group: &str) -> Result<Vec<String>, CloudError> {
        let answer = self
            .client
            .describe_lifecycle_hooks()
            .auto_scaling_group_name(group)
            .send()
            .await
            .map_err(|error| failure(format!("reading the lifecycle hooks of `{group}`"), error))?;
        // A hook that is left out here holds its machine for as long as it can.
        let doing = format!("reading the lifecycle hooks of `{group}`");
        let mut names = Vec::new();
        for hook in answer.lifecycle_hooks.unwrap_or_default() {
            let transition =
                hook.lifecycle_transition.ok_or_else(|| missing(&doing, "LifecycleTransition"))?;
            if transition == "autoscaling:EC2_INSTANCE_TERMINATING" {
                names.push(hook.lifecycle_hook_name.ok_or_else(|| missing(&doing, "LifecycleHookName"))?);
            }
        }
        Ok(names)
    }

    async fn complete_lifecycle(
        &self,
        group: &str,
        hook: &str,
        instance: &MachineId,
    ) -> Result<(), CloudError> {
        let request = self
            .client
            .complete_lifecycle_action()
            .auto_scaling_group_name(group)
            .lifecycle_hook_name(hook)
            .instance_id(instance.as_str())
            .lifecycle_action_result("CONTINUE");
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error) {
                Some(("ValidationError", words)) if words.contains("No active Lifecycle Action") => Ok(()),
                _ => Err(failure(format!("letting `{instance}` go from hook `{hook}`"), error)),
            },
        }
    }

    async fn heartbeat(&self, group: &str, hook: &str, instance: &MachineId) -> Result<(), CloudError> {
        self.client
            .record_lifecycle_action_heartbeat()
            .auto_scaling_group_name(group)
            .lifecycle_hook_name(hook)
            .instance_id(instance.as_str())
            .send()
            .await
            .map_err(|error| failure(format!("keeping `{instance}` in hook `{hook}`"), error))?;
        Ok(())
    }

    async fn put_tag(&self, group: &str, key: &str, value: &str) -> Result<(), CloudError> {
        self.client
            .create_or_update_tags()
            .tags(Self::tag(group, key, Some(value)))
            .send()
            .await
            .map_err(|error| failure(format!("tagging `{group}` with `{key}`"), error))?;
        Ok(())
    }

    async fn delete_tag(&self, group: &str, key: &str) -> Result<(), CloudError> {
        self.client
            .delete_tags()
            .tags(Self::tag(group, key, None))
            .send()
            .await
            .map_err(|error| failure(format!("taking tag `{key}` off `{group}`"), error))?;
        Ok(())
    }
}

fn group(from: AutoScalingGroup, doing: &str) -> Result<Group, CloudError> {
    let instances = from.instances.unwrap_or_default().into_iter().map(|one| instance(one, doing));
    let mut instances = instances.collect::<Result<Vec<_>, _>>()?;
    // A size that is not told is not 0: a roll sets sizes back to what they were.
    let size = |count: Option<i32>, field: &str| {
        count.and_then(|count| u32::try_from(count).ok()).ok_or_else(|| missing(doing, field))
    };
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    // A group with a mixed instances policy keeps its launch template there.
    let specification = from
        .launch_template
        .or_else(|| from.mixed_instances_policy?.launch_template?.launch_template_specification);
    Ok(Group {
        name: from.auto_scaling_group_name.ok_or_else(|| missing(doing, "AutoScalingGroupName"))?,
        capacity: Capacity {
            min: size(from.min_size, "MinSize")?,
            max: size(from.max_size, "MaxSize")?,
            desired: size(from.desired_capacity, "DesiredCapacity")?,
        },
        launch_template: specification.map(launch_template),
        instances,
        tags: from
            .tags
            .unwrap_or_default()
            .into_iter()
            .filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())))
            .collect(),
    })
}

fn instance(from: Instance, doing: &str) -> Result<GroupInstance, CloudError> {
    let id = from.instance_id.and_then(|id| id.parse().ok());
    Ok(GroupInstance {
        id: id.ok_or_else(|| missing(doing, "InstanceId"))?,
        lifecycle: lifecycle(from.lifecycle_state.ok_or_else(|| missing(doing, "LifecycleState"))?),
        healthy: from.health_status.is_none_or(|status| status.eq_ignore_ascii_case("healthy")),
        zone: from.availability_zone.unwrap_or_default(),
        launch_template: from.launch_template.map(launch_template),
    })
}

fn launch_template(from: LaunchTemplateSpecification) -> LaunchTemplate {
    LaunchTemplate {
        id: from.launch_template_id.unwrap_or_default(),
        name: from.launch_template_name.unwrap_or_default(),
        version: from.version.unwrap_or_else(|| "$Default".to_owned()),
    }
}

fn lifecycle(state: LifecycleState) -> Lifecycle {
    match state {
        LifecycleState::Pending | LifecycleState::PendingWait | LifecycleState::PendingProceed => {
            Lifecycle::Pending
        }
        LifecycleState::InService => Lifecycle::InService,
        LifecycleState::Terminating => Lifecycle::Terminating,
        LifecycleState::TerminatingWait => Lifecycle::TerminatingWait,
        LifecycleState::TerminatingProceed => Lifecycle::TerminatingProceed,
        LifecycleState::Terminated => Lifecycle::Terminated,
        // The SDK's enum grows; states it learns later are none that we serve with.
        _ => Lifecycle::Aside,
    }
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
