//! CloudFormation.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types::{
    Capability, ChangeAction, ChangeSetStatus, ChangeSetType, EventFilter, ExecutionStatus, OperationEvent,
    Parameter, Replacement, ResourceToImport, Stack, StackEvent, Tag, TemplateStage,
};
use chrono::DateTime;
use sha2::{Digest, Sha256};

use super::templates::{Part, Templates};
use super::{failure, is_missing, refusal};
use crate::model::changes::differences;
use crate::model::deployed::{
    Action, ChangeSet, ChangeSetId, ChangeSetRequest, ChangeSetState, DeployedStack, Import, Phase,
    PropertyChange, ResourceChange, ResourceEvent, StackResource,
};
use crate::model::nested;
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
        let mut pages = self.client.list_change_sets().stack_name(&stack.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| failure(format!("listing the change sets of `{}`", stack.name), error))?;
            let names = page.summaries.unwrap_or_default().into_iter().filter_map(|set| set.change_set_name);
            stack.waiting.extend(names);
        }
        Ok(())
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
        Ok(answer.template_body.unwrap_or_default())
    }

    /// The change sets of nested stacks within a change set, each with its resource.
    async fn within(&self, id: &str) -> Result<Vec<(String, String)>, CloudError> {
        let mut pages = Vec::new();
        let mut token = None;
        loop {
            let request = self.client.describe_change_set().change_set_name(id).set_next_token(token);
            let page = request.send().await;
            let page = page.map_err(|error| failure(format!("reading change set `{id}`"), error))?;
            let changes = page.changes.unwrap_or_default().into_iter().filter_map(|c| c.resource_change);
            pages.extend(
                changes.filter_map(|change| Some((change.change_set_id?, change.logical_resource_id?))),
            );
            token = page.next_token;
            if token.is_none() {
                return Ok(pages);
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
        let mut pages = self.client.describe_stacks().into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure("listing stacks", error))?;
            found.extend(page.stacks.unwrap_or_default().into_iter().filter_map(deployed));
        }
        found.retain(|stack| stack.status != "DELETE_COMPLETE");
        for stack in &mut found {
            self.unfinished(stack).await?;
        }
        Ok(found)
    }

    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, CloudError> {
        match self.client.describe_stacks().stack_name(name).send().await {
            Ok(answer) => {
                let by_id = name.starts_with("arn:");
                let mut found = answer.stacks.unwrap_or_default().into_iter().filter_map(deployed);
                let mut found = found.find(|stack| by_id || stack.status != "DELETE_COMPLETE");
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
        let template = nested::abstracted(&answer.template_body.unwrap_or_default());
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
            .await
            .map_err(|error| {
                failure(format!("creating a change set for stack `{}`", request.stack), error)
            })?;
        Ok(ChangeSetId(answer.id.unwrap_or_default()))
    }

    async fn change_set(&self, id: &ChangeSetId) -> Result<ChangeSet, CloudError> {
        let mut token = None;
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
                .map_err(|error| failure(format!("reading change set `{}`", id.0), error))?;
            for told in page.changes.unwrap_or_default().into_iter().filter_map(|c| c.resource_change) {
                let nested = told.change_set_id.clone();
                let Some(told) = change(told) else { continue };
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
            if page.next_token.is_none() {
                let reason = page.status_reason.unwrap_or_default();
                // One that is computed may still not be executed; then the reason says why.
                let state = match (state(page.status, reason.clone()), page.execution_status) {
                    (ChangeSetState::Ready, Some(ExecutionStatus::Unavailable)) => {
                        ChangeSetState::Failed { reason }
                    }
                    (state, _) => state,
                };
                return Ok(ChangeSet { id: id.clone(), state, changes });
            }
            token = page.next_token;
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

    async fn delete_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError> {
        match self.client.delete_change_set().change_set_name(&id.0).send().await {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error) {
                Some(("ChangeSetNotFound" | "ChangeSetNotFoundException", _)) => Ok(()),
                _ => Err(failure(format!("deleting change set `{}`", id.0), error)),
            },
        }
    }

    async fn protect(&self, stack: &str, protect: bool) -> Result<(), CloudError> {
        let request = self.client.update_termination_protection().stack_name(stack);
        let answer = request.enable_termination_protection(protect).send().await;
        answer.map(drop).map_err(|error| failure(format!("protecting stack `{stack}`"), error))
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
        let request = self.client.set_stack_policy().stack_name(&stack.id).stack_policy_body(document);
        let answer = request.send().await;
        answer
            .map(drop)
            .map_err(|error| failure(format!("setting the policy of stack `{}`", stack.name), error))
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

    async fn last_event(&self, stack: &str) -> Result<Option<String>, CloudError> {
        match self.client.describe_stack_events().stack_name(stack).send().await {
            Ok(answer) => Ok(answer.stack_events.unwrap_or_default().into_iter().find_map(|e| e.event_id)),
            Err(error) => match refusal(&error) {
                Some(("ValidationError", words)) if words.contains("does not exist") => Ok(None),
                _ => Err(failure(format!("reading the events of stack `{stack}`"), error)),
            },
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
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = match page {
                Ok(page) => page,
                Err(error) if is_missing(&error) => return Ok(Vec::new()),
                Err(error) => return Err(failure(format!("reading what is wrong with `{stack}`"), error)),
            };
            found.extend(page.operation_events.unwrap_or_default().into_iter().filter_map(validation));
        }
        found.reverse();
        Ok(found)
    }

    async fn events(&self, stack: &str, after: Option<&str>) -> Result<Vec<ResourceEvent>, CloudError> {
        let mut pages = self.client.describe_stack_events().stack_name(stack).into_paginator().send();
        let mut found = Vec::new();
        'pages: while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| failure(format!("reading the events of stack `{stack}`"), error))?;
            for event in page.stack_events.unwrap_or_default().into_iter().filter_map(resource_event) {
                if after.is_some_and(|after| event.id == after) {
                    break 'pages;
                }
                found.push(event);
            }
        }
        found.reverse();
        Ok(found)
    }
}

#[async_trait]
impl Repair for Repairs {
    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, CloudError> {
        let mut pages = self.client.list_stack_resources().stack_name(stack).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page =
                page.map_err(|error| failure(format!("listing the resources of stack `{stack}`"), error))?;
            found.extend(page.stack_resource_summaries.unwrap_or_default().into_iter().filter_map(
                |resource| {
                    Some(StackResource {
                        resource: resource.logical_resource_id?,
                        resource_type: resource.resource_type?,
                        physical_id: resource.physical_resource_id.unwrap_or_default(),
                        status: resource.resource_status?.as_str().to_owned(),
                    })
                },
            ));
        }
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

fn deployed(from: Stack) -> Option<DeployedStack> {
    fn map<T>(list: Option<Vec<T>>, pair: fn(T) -> Option<(String, String)>) -> BTreeMap<String, String> {
        list.unwrap_or_default().into_iter().filter_map(pair).collect()
    }
    let updated = from.last_updated_time.or(from.creation_time);
    Some(DeployedStack {
        updated: updated.and_then(|at| DateTime::from_timestamp(at.secs(), at.subsec_nanos())),
        name: from.stack_name?,
        id: from.stack_id?,
        status: from.stack_status?.as_str().to_owned(),
        status_reason: from.stack_status_reason.unwrap_or_default(),
        change_set: from.change_set_id,
        waiting: Vec::new(),
        protected: from.enable_termination_protection.unwrap_or(false),
        policy: None,
        nested: from.parent_id.is_some(),
        parameters: map(from.parameters, |p| Some((p.parameter_key?, p.parameter_value?))),
        outputs: map(from.outputs, |o| Some((o.output_key?, o.output_value?))),
        tags: tags(from.tags),
    })
}

fn tags(list: Option<Vec<Tag>>) -> BTreeMap<String, String> {
    list.unwrap_or_default().into_iter().filter_map(|t| Some((t.key?, t.value?))).collect()
}

fn state(status: Option<ChangeSetStatus>, reason: String) -> ChangeSetState {
    match status {
        Some(ChangeSetStatus::CreateComplete) => ChangeSetState::Ready,
        Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => ChangeSetState::Computing,
        // There is no status for it; these are the words of all its tellings.
        _ if reason.contains("didn't contain changes")
            || reason.contains("No updates are to be performed") =>
        {
            ChangeSetState::Empty
        }
        _ => ChangeSetState::Failed { reason },
    }
}

fn change(from: aws_sdk_cloudformation::types::ResourceChange) -> Option<ResourceChange> {
    let action = match (from.action?, &from.replacement) {
        (ChangeAction::Add | ChangeAction::Import, _) => Action::Create,
        (ChangeAction::Remove, _) => Action::Delete,
        (_, Some(Replacement::True)) => Action::Replace,
        (_, Some(Replacement::Conditional)) | (ChangeAction::Dynamic, _) => Action::MaybeReplace,
        _ => Action::Update,
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
    Some(ResourceChange {
        resource: from.logical_resource_id?,
        resource_type: from.resource_type.unwrap_or_default(),
        action,
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
        ResourceAttribute, ResourceChange as Told, ResourceChangeDetail, ResourceTargetDefinition,
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
        let told = change(detailed).expect("a change");
        assert_eq!(told.action, Action::Update);
        assert_eq!(told.properties, [property("MaxSize", Some("4"), Some("6"))]);

        let contexts = Told::builder()
            .action(ChangeAction::Modify)
            .logical_resource_id("Group")
            .replacement(Replacement::True)
            .before_context(r#"{"Properties":{"MaxSize":"4","Name":"a"}}"#)
            .after_context(r#"{"Properties":{"MaxSize":"6","Name":"a"}}"#)
            .build();
        let told = change(contexts).expect("a change");
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
        let told = change(bare).expect("a change");
        assert_eq!(told.action, Action::MaybeReplace);
        assert_eq!(told.properties, [property("CidrBlock", None, None)]);
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
        assert_eq!(state(Some(ChangeSetStatus::Failed), words.to_owned()), ChangeSetState::Empty);
        let words = "No updates are to be performed.";
        assert_eq!(state(Some(ChangeSetStatus::Failed), words.to_owned()), ChangeSetState::Empty);
        assert!(matches!(
            state(Some(ChangeSetStatus::Failed), "Template error".to_owned()),
            ChangeSetState::Failed { .. }
        ));
    }
}
