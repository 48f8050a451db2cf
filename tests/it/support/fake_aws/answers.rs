//! CloudFormation's actions that only tell.

use super::World;
use super::changes::describe;
use super::stack::Stack;
use super::wire::{Form, Refusal, maybe, members, pairs, tag, text};

/// How many stacks a page has, how many of anything else.
const STACKS: usize = 20;
const ITEMS: usize = 10;

type Answered = Result<String, Refusal>;

fn time(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl World {
    fn asked(&self, form: &Form) -> Result<&Stack, Refusal> {
        let asked = form.need("StackName")?;
        let found = self.find(asked).map(|at| &self.stacks[at]);
        found.ok_or_else(|| Refusal::validation(format!("Stack [{asked}] does not exist")))
    }

    /// One stack, or all that are not deleted.
    pub fn describe_stacks(&self, form: &Form) -> Answered {
        if let Some(asked) = form.get("StackName") {
            let found = self.find(asked).map(|at| &self.stacks[at]);
            let found =
                found.ok_or_else(|| Refusal::validation(format!("Stack with id {asked} does not exist")))?;
            return Ok(members("Stacks", [stack(found)]));
        }
        let all: Vec<&Stack> = self.stacks.iter().filter(|stack| !stack.is_deleted()).collect();
        let (page, next) = form.page(&all, STACKS);
        Ok(members("Stacks", page.iter().map(|one| stack(one))) + &next)
    }

    /// What happened to a stack, newest first.
    pub fn describe_stack_events(&self, form: &Form) -> Answered {
        let asked = form.need("StackName")?;
        let found = self.find(asked).map(|at| &self.stacks[at]);
        let found = found.ok_or_else(|| Refusal::validation(format!("Stack [{asked}] does not exist")))?;
        // The token names the last event told, so that later ones don't move the pages.
        let token = form.get("NextToken");
        let newest = found.events.iter().rev();
        let rest: Vec<_> = match token {
            None => newest.collect(),
            Some(token) => newest.skip_while(|event| event.id != token).skip(1).collect(),
        };
        let page = &rest[..rest.len().min(ITEMS)];
        let next = page.last().filter(|_| rest.len() > ITEMS).map(|event| event.id.as_str());
        let events = page.iter().map(|event| {
            text("StackId", &found.id)
                + &text("StackName", &found.name)
                + &text("EventId", &event.id)
                + &text("LogicalResourceId", &event.resource)
                + &text("PhysicalResourceId", &event.physical)
                + &text("ResourceType", &event.kind)
                + &text("Timestamp", &time(event.at))
                + &text("ResourceStatus", &event.status)
                + &maybe("ResourceStatusReason", Some(&event.reason))
        });
        Ok(members("StackEvents", events) + &maybe("NextToken", next))
    }

    /// A stack's resources.
    pub fn list_stack_resources(&self, form: &Form) -> Answered {
        let found = self.asked(form)?;
        let (page, next) = form.page(&found.resources, ITEMS);
        let resources = page.iter().map(|resource| {
            text("LogicalResourceId", &resource.name)
                + &maybe("PhysicalResourceId", Some(&resource.id))
                + &text("ResourceType", &resource.kind)
                + &text("ResourceStatus", &resource.status)
                + &text("LastUpdatedTimestamp", &time(found.updated.unwrap_or(found.created)))
        });
        Ok(members("StackResourceSummaries", resources) + &next)
    }

    /// The template that a stack was deployed with.
    pub fn get_template(&self, form: &Form) -> Answered {
        if form.get("ChangeSetName").is_some() {
            let set = &self.change_sets[self.find_change_set(form)?];
            return Ok(text("TemplateBody", &set.wanted.text));
        }
        let found = self.asked(form)?;
        if found.status == "REVIEW_IN_PROGRESS" {
            let words = format!("Template for stack {} is not available in REVIEW_IN_PROGRESS", found.name);
            return Err(Refusal::validation(words));
        }
        Ok(text("TemplateBody", &found.is.text))
    }

    /// The stacks that import an export.
    pub fn list_imports(&self, form: &Form) -> Answered {
        let export = form.need("ExportName")?;
        let by: Vec<&String> =
            self.imports.iter().filter(|(name, _)| name == export).map(|(_, stack)| stack).collect();
        if by.is_empty() {
            return Err(Refusal::validation(format!("Export '{export}' is not imported by any stack.")));
        }
        let (page, next) = form.page(&by, 1);
        Ok(members("Imports", Vec::new()).replace("</Imports>", "")
            + &page.iter().map(|stack| text("member", stack)).collect::<String>()
            + "</Imports>"
            + &next)
    }

    /// All groups.
    pub fn describe_groups(&self) -> String {
        members("AutoScalingGroups", self.groups.iter().cloned())
    }

    /// A stack's policy.
    pub fn get_stack_policy(&self, form: &Form) -> Answered {
        Ok(maybe("StackPolicyBody", self.asked(form)?.policy.as_deref()))
    }

    /// A change set with one page of its changes.
    pub fn describe_change_set(&mut self, form: &Form) -> Answered {
        let at = self.find_change_set(form)?;
        let set = &self.change_sets[at];
        let (status, reason, execution) = set.status();
        let mut answer = text("ChangeSetId", &set.id)
            + &text("ChangeSetName", &set.name)
            + &text("StackId", &set.stack)
            + &text("Status", status)
            + &text("ExecutionStatus", execution)
            + &maybe("StatusReason", Some(reason))
            + &pairs("Parameters", "ParameterKey", "ParameterValue", &set.wanted.parameters)
            + &pairs("Tags", "Key", "Value", &set.wanted.tags);
        if status == "CREATE_COMPLETE" {
            let (page, next) = form.page(&set.changes, ITEMS);
            let values = form.is("IncludePropertyValues");
            let changes = page.iter().map(|change| describe(change, self.dialect, values));
            let mut changes = members("Changes", changes);
            // What is never shown is told as stars.
            let before = self.find(&set.stack).map(|at| &self.stacks[at].is);
            for wanted in before.into_iter().chain([&set.wanted]) {
                for (name, value) in &wanted.parameters {
                    if !value.is_empty() && fleetwright::plan::document::is_hidden(&wanted.document, name) {
                        changes = changes.replace(value.as_str(), "****");
                    }
                }
            }
            answer += &(changes + &next);
        }
        self.change_sets[at].asked |= !self.stalled;
        Ok(answer)
    }

    /// The change sets of a stack.
    pub fn list_change_sets(&self, form: &Form) -> Answered {
        let owner = &self.asked(form)?.id;
        let sets: Vec<_> = self.change_sets.iter().filter(|set| set.stack == *owner).collect();
        let (page, next) = form.page(&sets, ITEMS);
        let summaries = page.iter().map(|set| {
            let (status, _, execution) = set.status();
            text("ChangeSetId", &set.id)
                + &text("ChangeSetName", &set.name)
                + &text("StackId", &set.stack)
                + &text("Status", status)
                + &text("ExecutionStatus", execution)
        });
        Ok(members("Summaries", summaries) + &next)
    }
}

fn stack(stack: &Stack) -> String {
    // What is never shown is told as stars.
    let mut parameters = stack.is.parameters.clone();
    for (name, value) in &mut parameters {
        if fleetwright::plan::document::is_hidden(&stack.is.document, name) {
            "****".clone_into(value);
        }
    }
    let updated = stack.updated.filter(|at| *at != stack.created).map(time);
    text("StackName", &stack.name)
        + &text("StackId", &stack.id)
        + &text("StackStatus", &stack.status)
        + &maybe("StackStatusReason", Some(&stack.reason))
        + &text("CreationTime", &time(stack.created))
        + &maybe("LastUpdatedTime", updated.as_deref())
        + &maybe("ChangeSetId", stack.change_set.as_deref())
        + &text("EnableTerminationProtection", if stack.protected { "true" } else { "false" })
        + &tag("DriftInformation", &text("StackDriftStatus", "NOT_CHECKED"))
        + &pairs("Parameters", "ParameterKey", "ParameterValue", &parameters)
        + &members(
            "Outputs",
            stack.outputs.iter().map(|(name, value)| {
                let export = stack.is.document["Outputs"][name]["Export"]["Name"].as_str();
                text("OutputKey", name) + &text("OutputValue", value) + &maybe("ExportName", export)
            }),
        )
        + &pairs("Tags", "Key", "Value", &stack.is.tags)
}
