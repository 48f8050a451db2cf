//! CloudFormation.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{
    Capability, ChangeAction, ChangeSetStatus, ChangeSetType, EvaluationType, EventFilter, ExecutionStatus,
    OperationEvent, Parameter, PolicyAction, Replacement, RequiresRecreation, ResourceChangeDetail,
    ResourceToImport, Stack, StackEvent, Tag, TemplateStage,
};
use chrono::DateTime;
use sha2::{Digest, Sha256};

use super::answers::{Pages, missing};
use super::templates::{Part, Templates};
use super::{failure, is_missing, refusal};
use crate::model::changes::differences;
use crate::model::deployed::{
    Action, ChangeSet, ChangeSetId, ChangeSetRequest, ChangeSetState, DeployedStack, EventMark, Execution,
    Import, Phase, PropertyChange, ResourceChange, ResourceEvent, StackResource,
};
use crate::model::nested;
use crate::model::stack_policy;
use crate::port::cloud::{Cloud, CloudError};
use crate::port::repair::Repair;
use crate::port::store::Store;

/// Bytes of a template that CloudFormation takes within a request.
const INLINE_MOST: usize = 51_200;

/// CloudFormation behind the SDK's client.
pub struct CloudFormation {
    client: Client,
    store: Arc<dyn Store>,
    templates: Option<Templates>,
}

impl CloudFormation {
    /// Wraps `client`; templates that are too large for a request go through `store`, and those
    /// of stacks that have not changed come from `templates`.
    pub fn new(client: Client, store: Arc<dyn Store>, templates: Option<Templates>) -> Self {
        Self { client, store, templates }
    }
}

impl CloudFormation {
    /// Adds what a stack whose creation did not end does not tell itself: the change sets that wait for it,
    /// and the tags it is to have, by which its owner is known.
    async fn unfinished(&self, stack: &mut DeployedStack) -> Result<(), CloudError> {
        self.waiting(stack).await?;
        let set = match stack.phase() {
            Phase::InReview => stack.waiting.first().cloned(),
            Phase::FailedCreate | Phase::Busy => stack.change_set.clone(),
            Phase::Settled | Phase::Stuck | Phase::Gone => None,
        };
        let Some(set) = set.filter(|_| stack.tags.is_empty()) else { return Ok(()) };
        let request = self.client.describe_change_set().change_set_name(&set);
        // An id is enough for itself; a name is one of its stack's.
        let request = if set.starts_with("arn:") { request } else { request.stack_name(&stack.name) };
        match request.send().await {
            Ok(answer) => stack.tags = tags(answer.tags),
            // It may have been executed or deleted a moment ago.
            Err(error) => match refusal(&error) {
                Some(("ChangeSetNotFound" | "ChangeSetNotFoundException" | "ValidationError", _)) => {}
                _ => return Err(failure(format!("reading change set `{set}`"), error)),
            },
        }
        Ok(())
    }

    /// Adds the change sets that wait for a stack in review.
    async fn waiting(&self, stack: &mut DeployedStack) -> Result<(), CloudError> {
        if stack.status != "REVIEW_IN_PROGRESS" {
            return Ok(());
        }
        let doing = format!("listing the change sets of `{}`", stack.name);
        let mut pages = self.client.list_change_sets().stack_name(&stack.name).into_paginator().send();
        let mut read = Pages::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(&doing, error))?;
            read.read(page.next_token());
            for set in page.summaries.unwrap_or_default() {
                // Whose it is shows in its name: one without a name would be taken for ours.
                let name = set.change_set_name.ok_or_else(|| missing(&doing, "ChangeSetName"))?;
                stack.waiting.push(name);
            }
        }
        read.finish(doing)
    }
}

impl CloudFormation {
    /// The template with the addresses of those nested in it, which are in the bucket then.
    async fn with_nested(&self, request: &ChangeSetRequest) -> Result<String, CloudError> {
        let mut addresses: Vec<(String, String)> = Vec::new();
        for nested in &request.nested {
            // The key is that of the text with what stands for addresses: the same in every account.
            let (key, text) = (nested.key(), resolved(&nested.text, &addresses));
            let address = self.store.publish(&key, text.as_bytes()).await?;
            addresses.push((key, address));
        }
        Ok(resolved(&request.template, &addresses))
    }

    /// The texts that a request comes down to: the template, and those nested in it by their keys.
    async fn texts(&self, request: &ChangeSetRequest) -> Result<(String, Vec<(String, String)>), CloudError> {
        let mut addresses: Vec<(String, String)> = Vec::new();
        let mut texts = Vec::new();
        for nested in &request.nested {
            let key = nested.key();
            texts.push((key.clone(), resolved(&nested.text, &addresses)));
            let address = self.store.address(&key).await?;
            addresses.push((key, address));
        }
        Ok((resolved(&request.template, &addresses), texts))
    }

    /// The template that a change set was made with, as it was given.
    async fn submitted(&self, id: &str) -> Result<String, CloudError> {
        let request = self.client.get_template().change_set_name(id).template_stage(TemplateStage::Original);
        let answer = request.send().await;
        let answer =
            answer.map_err(|error| failure(format!("reading the template of change set `{id}`"), error))?;
        answer
            .template_body
            .ok_or_else(|| missing(format!("reading the template of change set `{id}`"), "TemplateBody"))
    }

    /// The change set of that name, where there is one: an earlier try, whose answer was lost, made it.
    async fn named(&self, request: &ChangeSetRequest) -> Result<Option<ChangeSetId>, CloudError> {
        let doing = format!("looking for change set `{}`", request.name);
        let asked = self.client.describe_change_set().stack_name(&request.stack);
        match asked.change_set_name(&request.name).send().await {
            Ok(answer) => {
                Ok(Some(ChangeSetId(answer.change_set_id.ok_or_else(|| missing(doing, "ChangeSetId"))?)))
            }
            Err(error) => match refusal(&error) {
                Some((code, _)) if is_no_change_set(code) => Ok(None),
                Some(("ValidationError", words)) if words.contains("does not exist") => Ok(None),
                _ => Err(failure(doing, error)),
            },
        }
    }

    /// The change sets of nested stacks within a change set, each with its resource.
    async fn within(&self, id: &str) -> Result<Vec<(String, String)>, CloudError> {
        let doing = format!("reading change set `{id}`");
        let mut found = Vec::new();
        let (mut token, mut pages) = (None, Pages::default());
        loop {
            let request = self.client.describe_change_set().change_set_name(id).set_next_token(token);
            let page = request.send().await;
            let page = page.map_err(|error| failure(&doing, error))?;
            token = pages.next(page.next_token.as_deref(), &doing)?;
            let changes = page.changes.unwrap_or_default().into_iter().filter_map(|c| c.resource_change);
            for change in changes {
                let Some(inner) = change.change_set_id else { continue };
                let name = change.logical_resource_id.ok_or_else(|| missing(&doing, "LogicalResourceId"))?;
                found.push((inner, name));
            }
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}

/// `text` with the addresses of nested templates in the places of those that stand for them.
fn resolved(text: &str, addresses: &[(String, String)]) -> String {
    addresses.iter().fold(text.to_owned(), |text, (key, at)| nested::resolved(&text, at, key))
}

/// Whether two texts are the same template; services differ in how they treat the line end behind it.
fn same(a: &str, b: &str) -> bool {
    a.trim_end() == b.trim_end()
}

/// CloudFormation's means of repair.
#[derive(Debug)]
pub struct Repairs {
    client: Client,
}

impl Repairs {
    /// Wraps `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl Cloud for CloudFormation {
    async fn stacks(&self) -> Result<Vec<DeployedStack>, CloudError> {
        const DOING: &str = "listing stacks";
        let mut pages = self.client.describe_stacks().into_paginator().send();
        let mut found = Vec::new();
        let mut read = Pages::default();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(DOING, error))?;
            read.read(page.next_token());
            // A stack that is left out here would be created, or kept as one that nobody knows.
            for stack in page.stacks.ok_or_else(|| missing(DOING, "Stacks"))? {
                found.push(deployed(stack, DOING)?);
            }
        }
        read.finish(DOING)?;
        found.retain(|stack| stack.status != "DELETE_COMPLETE");
        for stack in &mut found {
            self.unfinished(stack).await?;
        }
        Ok(found)
    }

    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, CloudError> {
        match self.client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => {
                let (by_id, doing) = (name.starts_with("arn:"), format!("reading stack `{name}`"));
                // One that does not exist is an error of its own, so there must be one here.
                let stacks = answer.stacks.filter(|stacks| !stacks.is_empty());
                let stacks = stacks.ok_or_else(|| missing(&doing, "Stacks"))?;
                let stacks = stacks.into_iter().map(|stack| deployed(stack, &doing));
                let stacks = stacks.collect::<Result<Vec<_>, _>>()?;
                let mut found = stacks
                    .into_iter()
                    .filter(|stack| if by_id { stack.id == name } else { stack.name == name })
                    .find(|stack| by_id || stack.status != "DELETE_COMPLETE");
                if let Some(stack) = &mut found {
                    self.unfinished(stack).await?;
                }
                Ok(found)
            }
            Err(error) => match refusal(&error) {
                Some(("ValidationError", words)) if words.contains("does not exist") => Ok(None),
                _ => Err(failure(format!("reading stack `{name}`"), error)),
            },
        }
    }

    async fn template(&self, stack: &DeployedStack) -> Result<String, CloudError> {
        if let Some(known) =
            self.templates.as_ref().and_then(|templates| templates.get(stack, Part::Template))
        {
            return Ok(known);
        }
        let answer = self.client.get_template().stack_name(&stack.name).send().await;
        let answer = answer
            .map_err(|error| failure(format!("reading the template of stack `{}`", stack.name), error))?;
        let body = answer.template_body.filter(|body| !body.trim().is_empty());
        let body = body.ok_or_else(|| {
            missing(format!("reading the template of stack `{}`", stack.name), "TemplateBody")
        })?;
        let template = nested::abstracted(&body);
        if let Some(templates) = &self.templates {
            templates.keep(stack, Part::Template, &template);
        }
        Ok(template)
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<ChangeSetId, CloudError> {
        let kind = match (request.create, request.imports.is_empty()) {
            (_, false) => ChangeSetType::Import,
            (true, true) => ChangeSetType::Create,
            (false, true) => ChangeSetType::Update,
        };
        let parameters = request.parameters.iter().map(parameter).chain(request.kept.iter().map(kept));
        let imports = request.imports.iter().map(import).collect::<Vec<_>>();
        let template = self.with_nested(request).await?;
        let (body, url) = if template.len() <= INLINE_MOST {
            (Some(template), None)
        } else {
            (None, Some(self.store.publish(&nested::key(&template), template.as_bytes()).await?))
        };
        let answer = self
            .client
            .create_change_set()
            .stack_name(&request.stack)
            .change_set_name(&request.name)
            // A repeated request (its answer was lost) is then taken for the first one.
            .client_token(token(&[&request.stack, &request.name]))
            .change_set_type(kind)
            .set_template_body(body)
            .set_template_url(url)
            .set_include_nested_stacks((!request.nested.is_empty() && !request.create).then_some(true))
            .set_parameters(Some(parameters.collect()))
            .set_resources_to_import(Some(imports).filter(|imports| !imports.is_empty()))
            .set_tags(Some(request.tags.iter().map(tag).collect()))
            // Templates are the user's own and shown before they are applied, roles and macros included.
            .capabilities(Capability::CapabilityNamedIam)
            .capabilities(Capability::CapabilityAutoExpand)
            .send()
            .await;
        let doing = format!("creating a change set for stack `{}`", request.stack);
        match answer {
            Ok(answer) => match answer.id.filter(|id| !id.is_empty()) {
                Some(id) => Ok(ChangeSetId(id)),
                None => self.named(request).await?.ok_or_else(|| missing(doing, "Id")),
            },
            // Not every endpoint knows a repeated request by its token. The name is this one's alone.
            Err(error) => match refusal(&error) {
                Some((code, words)) if exists_already(code, words) => match self.named(request).await {
                    Ok(Some(id)) => Ok(id),
                    Ok(None) | Err(_) => Err(failure(doing, error)),
                },
                _ => Err(failure(doing, error)),
            },
        }
    }

    async fn change_set(&self, id: &ChangeSetId) -> Result<ChangeSet, CloudError> {
        let doing = format!("reading change set `{}`", id.0);
        let (mut token, mut pages) = (None, Pages::default());
        let mut changes = Vec::new();
        loop {
            let page = self
                .client
                .describe_change_set()
                .change_set_name(&id.0)
                .include_property_values(true)
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| failure(&doing, error))?;
            token = pages.next(page.next_token.as_deref(), &doing)?;
            for told in page.changes.unwrap_or_default().into_iter().filter_map(|c| c.resource_change) {
                let nested = told.change_set_id.clone();
                let told = change(told, &doing)?;
                if let Some(nested) = nested {
                    // What happens within a nested stack is told by a change set of its own.
                    let within = Box::pin(self.change_set(&ChangeSetId(nested))).await?;
                    changes.extend(within.changes.into_iter().map(|change| ResourceChange {
                        resource: format!("{}.{}", told.resource, change.resource),
                        ..change
                    }));
                }
                changes.push(told);
            }
            if token.is_none() {
                let reason = page.status_reason.unwrap_or_default();
                let status = page.status.ok_or_else(|| missing(&doing, "Status"))?;
                // One that is computed may still not be executed; then the reason says why.
                let state = match (state(&status, reason.clone()), page.execution_status) {
                    (
                        ChangeSetState::Ready,
                        Some(ExecutionStatus::Unavailable | ExecutionStatus::Obsolete),
                    ) => ChangeSetState::Failed { reason },
                    (state, _) => state,
                };
                return Ok(ChangeSet { id: id.clone(), state, changes });
            }
        }
    }

    async fn exchanged(
        &self,
        id: &ChangeSetId,
        request: &ChangeSetRequest,
    ) -> Result<Option<String>, CloudError> {
        let (template, nested) = self.texts(request).await?;
        // One within the request came from us, and nobody was in between.
        if template.len() > INLINE_MOST && !same(&self.submitted(&id.0).await?, &template) {
            return Ok(Some("the template".to_owned()));
        }
        if nested.is_empty() {
            return Ok(None);
        }
        let mut left = vec![(id.0.clone(), String::new())];
        while let Some((set, path)) = left.pop() {
            for (inner, resource) in self.within(&set).await? {
                let text = self.submitted(&inner).await?;
                let path = if path.is_empty() { resource } else { format!("{path}.{resource}") };
                if !nested.iter().any(|(_, ours)| same(ours, &text)) {
                    return Ok(Some(format!("the template nested as `{path}`")));
                }
                left.push((inner, path));
            }
        }
        // CloudFormation reads those of new nested stacks again when it creates them.
        for ((key, text), source) in nested.iter().zip(&request.nested) {
            let there = self.store.get(key).await?;
            if there.is_none_or(|object| object.bytes != text.as_bytes()) {
                return Ok(Some(format!("the nested template {}", source.file)));
            }
        }
        Ok(None)
    }

    async fn execute_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError> {
        // The same token for the same change set: a repeated request (its answer was
        // lost) is then taken for the first one.
        self.client
            .execute_change_set()
            .change_set_name(&id.0)
            .client_request_token(token(&[&id.0]))
            .send()
            .await
            .map_err(|error| failure(format!("executing change set `{}`", id.0), error))?;
        Ok(())
    }

    async fn execution(&self, id: &ChangeSetId) -> Result<Execution, CloudError> {
        match self.client.describe_change_set().change_set_name(&id.0).send().await {
            Ok(answer) => Ok(match answer.execution_status {
                Some(ExecutionStatus::Available) => Execution::Waiting,
                Some(ExecutionStatus::ExecuteInProgress) => Execution::Running,
                Some(ExecutionStatus::ExecuteComplete) => Execution::Done,
                Some(ExecutionStatus::ExecuteFailed) => Execution::Failed,
                Some(ExecutionStatus::Obsolete) => Execution::Obsolete,
                _ => Execution::Unknown,
            }),
            Err(error) => match refusal(&error) {
                Some((code, _)) if is_no_change_set(code) => Ok(Execution::Missing),
                _ => Err(failure(format!("reading change set `{}`", id.0), error)),
            },
        }
    }

    async fn importers(&self, export: &str) -> Result<Vec<String>, CloudError> {
        let doing = format!("asking who imports `{export}`");
        let mut pages = self.client.list_imports().export_name(export).into_paginator().send();
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) => match refusal(&error) {
                    // Nobody does, or the endpoint does not know.
                    Some((_, words))
                        if words.contains("not imported") || words.contains("does not exist") =>
                    {
                        return Ok(Vec::new());
                    }
                    _ if is_missing(&error) => return Ok(Vec::new()),
                    _ => return Err(failure(doing, error)),
                },
            };
            read.read(page.next_token());
            found.extend(page.imports.unwrap_or_default());
        }
        read.finish(doing)?;
        Ok(found)
    }

    async fn delete_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError> {
        match self.client.delete_change_set().change_set_name(&id.0).send().await {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error) {
                Some((code, _)) if is_no_change_set(code) => Ok(()),
                _ => Err(failure(format!("deleting change set `{}`", id.0), error)),
            },
        }
    }

    async fn protect(&self, stack: &str, protect: bool) -> Result<(), CloudError> {
        let request = self.client.update_termination_protection().stack_name(stack);
        let answer = request.enable_termination_protection(protect).send().await;
        let doing = format!("protecting stack `{stack}`");
        answer.map_err(|error| failure(&doing, error))?;
        // What is believed to be protected, and is not, can be lost.
        match self.stack(stack).await? {
            Some(now) if now.protected == protect => Ok(()),
            _ => Err(missing(doing, "EnableTerminationProtection as it was set")),
        }
    }

    async fn policy(&self, stack: &DeployedStack) -> Result<Option<String>, CloudError> {
        if let Some(known) = self.templates.as_ref().and_then(|templates| templates.get(stack, Part::Policy))
        {
            return Ok(Some(known).filter(|document| !document.is_empty()));
        }
        match self.client.get_stack_policy().stack_name(&stack.id).send().await {
            Ok(answer) => {
                let document = answer.stack_policy_body.filter(|document| !document.trim().is_empty());
                if let Some(templates) = &self.templates {
                    templates.keep(stack, Part::Policy, document.as_deref().unwrap_or_default());
                }
                Ok(document)
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(failure(format!("reading the policy of stack `{}`", stack.name), error)),
        }
    }

    async fn set_policy(&self, stack: &DeployedStack, document: &str) -> Result<(), CloudError> {
        if let Some(templates) = &self.templates {
            templates.forget(stack, Part::Policy);
        }
        let doing = format!("setting the policy of stack `{}`", stack.name);
        let request = self.client.set_stack_policy().stack_name(&stack.id).stack_policy_body(document);
        request.send().await.map_err(|error| failure(&doing, error))?;
        let asked = self.client.get_stack_policy().stack_name(&stack.id).send().await;
        let now = match asked {
            Ok(answer) => answer.stack_policy_body.unwrap_or_default(),
            Err(error) if is_missing(&error) => return Ok(()),
            Err(error) => return Err(failure(doing, error)),
        };
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
        let same = match (read(&now), read(document)) {
            (Some(now), Some(wanted)) => stack_policy::same(&now, &wanted),
            _ => now == document,
        };
        if same { Ok(()) } else { Err(missing(doing, "StackPolicyBody as it was set")) }
    }

    async fn delete_stack(&self, stack: &str) -> Result<(), CloudError> {
        self.client
            .delete_stack()
            .stack_name(stack)
            .send()
            .await
            .map_err(|error| failure(format!("deleting stack `{stack}`"), error))?;
        Ok(())
    }

    async fn mark(&self, stack: &str) -> Result<EventMark, CloudError> {
        let doing = format!("reading the events of stack `{stack}`");
        let mut mark = EventMark::default();
        let (mut token, mut pages) = (None, Pages::default());
        // A page may be empty and not the last. All of the first one with events counts: those of
        // the same time may come in any order.
        loop {
            let page = match self
                .client
                .describe_stack_events()
                .stack_name(stack)
                .set_next_token(token)
                .send()
                .await
            {
                Ok(page) => page,
                Err(error) => match refusal(&error) {
                    Some(("ValidationError", words)) if words.contains("does not exist") => return Ok(mark),
                    _ => return Err(failure(doing, error)),
                },
            };
            token = pages.next(page.next_token.as_deref(), &doing)?;
            let events = page.stack_events.unwrap_or_default().into_iter().filter_map(resource_event);
            mark.add(&events.collect::<Vec<_>>());
            if token.is_none() || !mark.known.is_empty() {
                return Ok(mark);
            }
        }
    }

    async fn validations(
        &self,
        stack: &str,
        change_set: Option<&ChangeSetId>,
    ) -> Result<Vec<ResourceEvent>, CloudError> {
        let request = match change_set {
            Some(id) => self.client.describe_events().change_set_name(&id.0),
            None => self.client.describe_events().stack_name(stack),
        };
        let failed = EventFilter::builder().failed_events(true).build();
        let mut pages = request.filters(failed).into_paginator().send();
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is_missing(&error) => return Ok(Vec::new()),
                Err(error) => return Err(failure(format!("reading what is wrong with `{stack}`"), error)),
            };
            read.read(page.next_token());
            found.extend(page.operation_events.unwrap_or_default().into_iter().filter_map(validation));
        }
        read.finish(format!("reading what is wrong with `{stack}`"))?;
        found.reverse();
        Ok(found)
    }

    async fn events(&self, stack: &str, mark: &EventMark) -> Result<Vec<ResourceEvent>, CloudError> {
        let doing = format!("reading the events of stack `{stack}`");
        let mut found: Vec<ResourceEvent> = Vec::new();
        let (mut token, mut pages) = (None, Pages::default());
        loop {
            let request = self.client.describe_stack_events().stack_name(stack).set_next_token(token);
            let page = request.send().await.map_err(|error| failure(&doing, error))?;
            token = pages.next(page.next_token.as_deref(), &doing)?;
            let events = page.stack_events.unwrap_or_default().into_iter().filter_map(resource_event);
            let (news, known): (Vec<_>, Vec<_>) = events.partition(|event| mark.is_news(event));
            found.extend(news);
            if token.is_none() || !known.is_empty() {
                break;
            }
        }
        found.reverse();
        // The order of the answer holds among events of the same time only.
        found.sort_by_key(|event| event.at);
        Ok(found)
    }
}

#[async_trait]
impl Repair for Repairs {
    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, CloudError> {
        let doing = format!("listing the resources of stack `{stack}`");
        let mut pages = self.client.list_stack_resources().stack_name(stack).into_paginator().send();
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(&doing, error))?;
            read.read(page.next_token());
            for resource in page.stack_resource_summaries.unwrap_or_default() {
                // What is left out here is lost without having been named.
                let lacks = |field: &str| missing(&doing, field);
                found.push(StackResource {
                    resource: resource.logical_resource_id.ok_or_else(|| lacks("LogicalResourceId"))?,
                    resource_type: resource.resource_type.ok_or_else(|| lacks("ResourceType"))?,
                    physical_id: resource.physical_resource_id.unwrap_or_default(),
                    status: resource
                        .resource_status
                        .ok_or_else(|| lacks("ResourceStatus"))?
                        .as_str()
                        .to_owned(),
                });
            }
        }
        read.finish(doing)?;
        found.sort_by(|a, b| a.resource.cmp(&b.resource));
        Ok(found)
    }

    async fn roll_back(&self, stack: &str) -> Result<(), CloudError> {
        let request = self.client.rollback_stack().stack_name(stack).client_request_token(this_time(stack));
        request
            .send()
            .await
            .map(drop)
            .map_err(|error| failure(format!("rolling stack `{stack}` back"), error))
    }

    async fn continue_rollback(&self, stack: &str, skip: &[String]) -> Result<(), CloudError> {
        let request = self.client.continue_update_rollback().stack_name(stack);
        let request = request.client_request_token(this_time(stack));
        let skip = (!skip.is_empty()).then(|| skip.to_vec());
        let answer = request.set_resources_to_skip(skip).send().await;
        answer.map(drop).map_err(|error| failure(format!("going on with the rollback of `{stack}`"), error))
    }

    async fn delete_retaining(&self, stack: &str, retain: &[String]) -> Result<(), CloudError> {
        let request =
            self.client.delete_stack().stack_name(stack).set_retain_resources(Some(retain.to_vec()));
        let answer = request.send().await;
        answer.map(drop).map_err(|error| failure(format!("deleting stack `{stack}`"), error))
    }
}

/// What tells a request from any other: the same for the same parts.
fn token(parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.join("\n"));
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("fleetwright-{hash}")
}

/// A token for what may be asked of a stack again later, and is then meant anew: it only
/// covers the repetitions of one call.
fn this_time(stack: &str) -> String {
    token(&[stack, &std::process::id().to_string(), &chrono::Utc::now().timestamp_micros().to_string()])
}

fn parameter((key, value): (&String, &String)) -> Parameter {
    Parameter::builder().parameter_key(key).parameter_value(value).build()
}

fn kept(key: &String) -> Parameter {
    Parameter::builder().parameter_key(key).use_previous_value(true).build()
}

fn import(import: &Import) -> ResourceToImport {
    ResourceToImport::builder()
        .logical_resource_id(&import.resource)
        .resource_type(&import.resource_type)
        .set_resource_identifier(Some(import.identifier.clone().into_iter().collect()))
        .build()
}

fn tag((key, value): (&String, &String)) -> Tag {
    Tag::builder().key(key).value(value).build()
}

/// Whether a refusal means that there is no such change set.
fn is_no_change_set(code: &str) -> bool {
    matches!(code, "ChangeSetNotFound" | "ChangeSetNotFoundException")
}

/// Whether a refusal means that something of this name was made before.
fn exists_already(code: &str, words: &str) -> bool {
    code.starts_with("AlreadyExists") || words.contains("lready exist")
}

fn deployed(from: Stack, doing: &str) -> Result<DeployedStack, CloudError> {
    fn map<T>(list: Option<Vec<T>>, pair: fn(T) -> Option<(String, String)>) -> BTreeMap<String, String> {
        list.unwrap_or_default().into_iter().filter_map(pair).collect()
    }
    let time = |at: aws_sdk_cloudformation::primitives::DateTime| {
        DateTime::from_timestamp(at.secs(), at.subsec_nanos())
    };
    let status = from.stack_status.ok_or_else(|| missing(doing, "StackStatus"))?.as_str().to_owned();
    // The SDK puts 1970 in the place of a time that is missing.
    let created = from.creation_time.and_then(time).filter(|at| at.timestamp() > 0);
    // A stack that was updated and has no time of it would look as if it had never changed since its creation.
    let is_new = status.starts_with("CREATE_") || status.starts_with("REVIEW_");
    let updated = from.last_updated_time.and_then(time).or(created.filter(|_| is_new));
    Ok(DeployedStack {
        created,
        updated,
        name: from.stack_name.ok_or_else(|| missing(doing, "StackName"))?,
        id: from.stack_id.ok_or_else(|| missing(doing, "StackId"))?,
        status,
        status_reason: from.stack_status_reason.unwrap_or_default(),
        change_set: from.change_set_id,
        waiting: Vec::new(),
        protected: from.enable_termination_protection.unwrap_or(false),
        policy: None,
        nested: from.parent_id.is_some(),
        parameters: map(from.parameters, |p| Some((p.parameter_key?, p.parameter_value?))),
        exports: map(from.outputs.clone(), |o| Some((o.output_key?, o.export_name?))),
        outputs: map(from.outputs, |o| Some((o.output_key?, o.output_value?))),
        tags: tags(from.tags),
    })
}

fn tags(list: Option<Vec<Tag>>) -> BTreeMap<String, String> {
    list.unwrap_or_default().into_iter().filter_map(|t| Some((t.key?, t.value?))).collect()
}

fn state(status: &ChangeSetStatus, reason: String) -> ChangeSetState {
    match status {
        ChangeSetStatus::CreateComplete => ChangeSetState::Ready,
        ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress => ChangeSetState::Computing,
        // There is no status for it; these are the words of all its tellings.
        _ if reason.contains("didn't contain changes")
            || reason.contains("No updates are to be performed") =>
        {
            ChangeSetState::Empty
        }
        // One that is being deleted, or a status that is not known here: it is not executed.
        other if reason.is_empty() => {
            ChangeSetState::Failed { reason: format!("its status is {}", other.as_str()) }
        }
        _ => ChangeSetState::Failed { reason },
    }
}

/// What happens to a resource that is modified. `Replacement` is optional; the details say it too.
fn modification(
    replacement: Option<&Replacement>,
    policy: Option<&PolicyAction>,
    details: &[ResourceChangeDetail],
) -> Option<Action> {
    match replacement {
        Some(Replacement::True) => return Some(Action::Replace),
        Some(Replacement::Conditional) => return Some(Action::MaybeReplace),
        Some(Replacement::False) => return Some(Action::Update),
        _ => {}
    }
    let replaces = matches!(
        policy,
        Some(
            PolicyAction::ReplaceAndDelete
                | PolicyAction::ReplaceAndRetain
                | PolicyAction::ReplaceAndSnapshot
        )
    );
    let effect = |detail: &ResourceChangeDetail| {
        let is_certain = detail.evaluation != Some(EvaluationType::Dynamic);
        match detail.target.as_ref()?.requires_recreation.as_ref()? {
            RequiresRecreation::Always if is_certain => Some(Action::Replace),
            RequiresRecreation::Always | RequiresRecreation::Conditionally => Some(Action::MaybeReplace),
            RequiresRecreation::Never => Some(Action::Update),
            _ => None,
        }
    };
    let effects = details.iter().map(effect).collect::<Option<Vec<Action>>>();
    if replaces {
        return Some(Action::Replace);
    }
    effects.and_then(|effects| effects.into_iter().max())
}

fn change(
    from: aws_sdk_cloudformation::types::ResourceChange,
    doing: &str,
) -> Result<ResourceChange, CloudError> {
    let from_details = from.details.as_deref().unwrap_or_default();
    let modified = modification(from.replacement.as_ref(), from.policy_action.as_ref(), from_details);
    let (action, certain) = match from.action.ok_or_else(|| missing(doing, "Action"))? {
        ChangeAction::Add | ChangeAction::Import => (Action::Create, true),
        ChangeAction::Remove => (Action::Delete, true),
        ChangeAction::Modify => (modified.unwrap_or(Action::MaybeReplace), modified.is_some()),
        // What it does is known during the update, or in words that are not known here.
        _ => (modified.filter(|action| *action == Action::Replace).unwrap_or(Action::MaybeReplace), true),
    };
    let mut properties = details(from.details.unwrap_or_default());
    // There are two dialects: details with values, and whole contexts before and after.
    // AWS speaks both; the contexts also have the values where the details lack them.
    if properties.iter().all(|property| property.before.is_none() && property.after.is_none()) {
        let told =
            differences(&context(from.before_context.as_deref()), &context(from.after_context.as_deref()));
        if !told.is_empty() {
            properties = told;
        }
    }
    for value in properties.iter_mut().flat_map(|p| [&mut p.before, &mut p.after]).flatten() {
        *value = nested::abstracted(value);
    }
    Ok(ResourceChange {
        resource: from.logical_resource_id.ok_or_else(|| missing(doing, "LogicalResourceId"))?,
        resource_type: from.resource_type.unwrap_or_default(),
        action,
        certain,
        properties,
    })
}

fn details(details: Vec<aws_sdk_cloudformation::types::ResourceChangeDetail>) -> Vec<PropertyChange> {
    let mut properties: Vec<PropertyChange> = Vec::new();
    for target in details.into_iter().filter_map(|detail| detail.target) {
        let path = match target.path {
            Some(path) => path.trim_start_matches("/Properties/").trim_matches('/').replace('/', "."),
            None => {
                target.name.or_else(|| target.attribute.map(|a| a.as_str().to_owned())).unwrap_or_default()
            }
        };
        // The same property is told once a cause.
        match properties.iter_mut().find(|property| property.path == path) {
            Some(known) => {
                known.before = known.before.take().or(target.before_value);
                known.after = known.after.take().or(target.after_value);
            }
            None => properties.push(PropertyChange {
                path,
                before: target.before_value,
                after: target.after_value,
            }),
        }
    }
    properties.sort_by(|a, b| a.path.cmp(&b.path));
    properties
}

/// The properties in a context; an empty map where there is none.
fn context(text: Option<&str>) -> serde_json::Value {
    text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
        .and_then(|mut value| value.get_mut("Properties").map(serde_json::Value::take))
        .filter(serde_json::Value::is_object)
        .unwrap_or_else(|| serde_json::Value::Object(serde_json::Map::new()))
}

/// `None` for what is no finding of a validation.
fn validation(from: OperationEvent) -> Option<ResourceEvent> {
    let at = from.timestamp?;
    let reason = from.validation_status_reason.filter(|reason| !reason.is_empty())?;
    Some(ResourceEvent {
        id: from.event_id?,
        at: DateTime::from_timestamp(at.secs(), at.subsec_nanos())?,
        resource: from.logical_resource_id.unwrap_or_default(),
        resource_type: from.resource_type.unwrap_or_default(),
        status: "VALIDATION_FAILED".to_owned(),
        reason,
    })
}

fn resource_event(from: StackEvent) -> Option<ResourceEvent> {
    let at = from.timestamp?;
    Some(ResourceEvent {
        id: from.event_id?,
        at: DateTime::from_timestamp(at.secs(), at.subsec_nanos())?,
        resource: from.logical_resource_id?,
        resource_type: from.resource_type.unwrap_or_default(),
        status: from.resource_status.map(|status| status.as_str().to_owned()).unwrap_or_default(),
        reason: from.resource_status_reason.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{
        ResourceAttribute, ResourceChange as Told, ResourceTargetDefinition,
    };

    use super::*;

    fn property(path: &str, before: Option<&str>, after: Option<&str>) -> PropertyChange {
        PropertyChange {
            path: path.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        }
    }

    #[test]
    fn both_dialects_of_details_are_understood() {
        let target = ResourceTargetDefinition::builder()
            .attribute(ResourceAttribute::Properties)
            .name("MaxSize")
            .path("/Properties/MaxSize")
            .before_value("4")
            .after_value("6")
            .build();
        let detailed = Told::builder()
            .action(ChangeAction::Modify)
            .logical_resource_id("Group")
            .replacement(Replacement::False)
            .details(ResourceChangeDetail::builder().target(target).build())
            .build();
        let told = change(detailed, "reading").expect("a change");
        assert_eq!(told.action, Action::Update);
        assert_eq!(told.properties, [property("MaxSize", Some("4"), Some("6"))]);

        let contexts = Told::builder()
            .action(ChangeAction::Modify)
            .logical_resource_id("Group")
            .replacement(Replacement::True)
            .before_context(r#"{"Properties":{"MaxSize":"4","Name":"a"}}"#)
            .after_context(r#"{"Properties":{"MaxSize":"6","Name":"a"}}"#)
            .build();
        let told = change(contexts, "reading").expect("a change");
        assert_eq!(told.action, Action::Replace);
        assert_eq!(told.properties, [property("MaxSize", Some("4"), Some("6"))]);
    }

    #[test]
    fn a_detail_without_values_still_names_its_property() {
        let target = ResourceTargetDefinition::builder().name("CidrBlock").build();
        let bare = Told::builder()
            .action(ChangeAction::Modify)
            .logical_resource_id("Vpc")
            .replacement(Replacement::Conditional)
            .details(ResourceChangeDetail::builder().target(target).build())
            .build();
        let told = change(bare, "reading").expect("a change");
        assert_eq!(told.action, Action::MaybeReplace);
        assert_eq!(told.properties, [property("CidrBlock", None, None)]);
    }

    #[test]
    fn what_is_optional_in_a_change_is_not_needed_to_know_a_replacement() {
        let detail = |recreation: Option<RequiresRecreation>, evaluation: EvaluationType| {
            let target = ResourceTargetDefinition::builder().name("P").set_requires_recreation(recreation);
            ResourceChangeDetail::builder().target(target.build()).evaluation(evaluation).build()
        };
        let told = |details: Vec<ResourceChangeDetail>, policy: Option<PolicyAction>| {
            let told = Told::builder().action(ChangeAction::Modify).logical_resource_id("A");
            let told = told.set_details(Some(details)).set_policy_action(policy).build();
            let change = change(told, "reading").expect("a change");
            (change.action, change.certain)
        };
        use EvaluationType::{Dynamic, Static};
        use RequiresRecreation::{Always, Conditionally, Never};
        assert_eq!(told(vec![detail(Some(Always), Static)], None), (Action::Replace, true));
        assert_eq!(told(vec![detail(Some(Always), Dynamic)], None), (Action::MaybeReplace, true));
        assert_eq!(told(vec![detail(Some(Conditionally), Static)], None), (Action::MaybeReplace, true));
        let both = vec![detail(Some(Never), Static), detail(Some(Always), Static)];
        assert_eq!(told(both, None), (Action::Replace, true));
        assert_eq!(told(vec![detail(Some(Never), Static)], None), (Action::Update, true));
        assert_eq!(told(Vec::new(), Some(PolicyAction::ReplaceAndRetain)), (Action::Replace, true));
        // Nothing says it: it is not taken for an update in place.
        assert_eq!(told(vec![detail(None, Static)], None), (Action::MaybeReplace, false));
        assert_eq!(told(Vec::new(), None), (Action::MaybeReplace, false));
        let unknown = Told::builder().action(ChangeAction::from("Rebuild")).logical_resource_id("A").build();
        assert_eq!(change(unknown, "reading").expect("a change").action, Action::MaybeReplace);
        assert!(change(Told::builder().logical_resource_id("A").build(), "reading").is_err());
        assert!(change(Told::builder().action(ChangeAction::Add).build(), "reading").is_err());
    }

    #[test]
    fn a_stack_with_something_missing_is_not_left_out() {
        let whole = || {
            Stack::builder()
                .stack_name("a")
                .stack_id("arn:a")
                .creation_time(aws_sdk_cloudformation::primitives::DateTime::from_secs(1))
                .stack_status(aws_sdk_cloudformation::types::StackStatus::UpdateComplete)
        };
        let read = |stack: Stack| deployed(stack, "listing stacks");
        assert!(read(whole().build()).is_ok());
        assert!(read(whole().set_stack_id(None).build()).is_err());
        assert!(read(whole().set_stack_name(None).build()).is_err());
        assert!(read(whole().set_stack_status(None).build()).is_err());
        // Its creation is not when it was updated.
        assert_eq!(read(whole().build()).expect("a stack").updated, None);
        let new = whole().stack_status(aws_sdk_cloudformation::types::StackStatus::CreateComplete);
        assert!(read(new.build()).expect("a stack").updated.is_some());
    }

    #[test]
    fn every_status_of_the_sdk_is_known() {
        // Driver and plan are tested with this list; they know nothing of the SDK.
        let known = include_str!("../../driver/recover_tests.rs");
        for status in aws_sdk_cloudformation::types::StackStatus::values() {
            assert!(known.contains(&format!("(\"{status}\", ")), "{status} is missing in recover_tests.rs");
        }
    }

    #[test]
    fn an_empty_change_set_is_no_failure() {
        let words = "The submitted information didn't contain changes. Submit different information to create a change set.";
        assert_eq!(state(&ChangeSetStatus::Failed, words.to_owned()), ChangeSetState::Empty);
        let words = "No updates are to be performed.";
        assert_eq!(state(&ChangeSetStatus::Failed, words.to_owned()), ChangeSetState::Empty);
        assert!(matches!(
            state(&ChangeSetStatus::Failed, "Template error".to_owned()),
            ChangeSetState::Failed { .. }
        ));
    }
}
