//! CloudFormation's actions that change something, and what it refuses, in its words.

use std::collections::BTreeMap;

use super::World;
use super::changes::{ChangeSet, changes};
use super::stack::{Stack, uuid};
use super::template::Wanted;
use super::wire::{Form, Refusal, text};
use super::work::{self, Fate};
use super::{ACCOUNT, REGION};

type Answered = Result<String, Refusal>;

impl World {
    /// The place of a stack, by name or id.
    pub fn find(&self, asked: &str) -> Option<usize> {
        let fits = |stack: &Stack| {
            if asked.starts_with("arn:") {
                stack.id == asked
            } else {
                stack.name == asked && !stack.is_deleted()
            }
        };
        self.stacks.iter().position(fits)
    }

    /// Whether the request was done before, by its token; its answer was lost then.
    fn is_repeated(&mut self, at: usize, form: &Form) -> bool {
        if self.forgets_tokens {
            return false;
        }
        let token =
            form.get("ClientRequestToken").map(|token| (self.stacks[at].id.clone(), token.to_owned()));
        token.is_some_and(|token| !self.tokens.insert(token))
    }

    fn existing(&self, form: &Form) -> Result<usize, Refusal> {
        let asked = form.need("StackName")?;
        self.find(asked).ok_or_else(|| Refusal::validation(format!("Stack [{asked}] does not exist")))
    }

    /// Makes a change set, and for a new stack the stack too.
    pub fn create_change_set(&mut self, form: &Form) -> Answered {
        let (name, asked) = (form.need("ChangeSetName")?, form.need("StackName")?);
        let create = form.get("ChangeSetType") == Some("CREATE");
        let body = self.template_of(form)?;
        let mut parameters = form.pairs("Parameters", "ParameterKey", "ParameterValue");
        for at in 1.. {
            let field = |name: &str| form.get(&format!("Parameters.member.{at}.{name}"));
            let Some(key) = field("ParameterKey") else { break };
            if field("UsePreviousValue") == Some("true") {
                let stack = self.find(asked).map(|at| &self.stacks[at]);
                let previous = stack.and_then(|stack| stack.is.parameters.get(key)).ok_or_else(|| {
                    Refusal::validation(format!(
                        "Invalid input for parameter key {key}. Cannot specify usePreviousValue as true for a parameter key not in the previous template"
                    ))
                })?;
                parameters.insert(key.to_owned(), previous.clone());
            }
        }
        let wanted = Wanted::read(body, parameters, form.pairs("Tags", "Key", "Value"))?;
        let found = self.find(asked);
        let at = match (found, create) {
            (None, false) => return Err(Refusal::validation(format!("Stack [{asked}] does not exist"))),
            (None, true) => {
                let serial = self.next();
                let mut stack = Stack::new(asked, "REVIEW_IN_PROGRESS", serial);
                stack.stack_event("REVIEW_IN_PROGRESS", "User Initiated");
                self.stacks.push(stack);
                self.stacks.len() - 1
            }
            (Some(at), true) if self.stacks[at].status == "REVIEW_IN_PROGRESS" => at,
            (Some(_), true) => {
                return Err(Refusal::validation(format!(
                    "Stack [{asked}] already exists and cannot be created again with the changeSet [{name}]."
                )));
            }
            (Some(at), false) => {
                let stack = &self.stacks[at];
                let updatable = stack.status.ends_with("_COMPLETE") && stack.status != "ROLLBACK_COMPLETE";
                if !updatable {
                    let (id, status) = (&stack.id, &stack.status);
                    return Err(Refusal::validation(format!(
                        "Stack:{id} is in {status} state and can not be updated."
                    )));
                }
                at
            }
        };
        let stack = &self.stacks[at];
        let token = form.get("ClientToken").map(str::to_owned);
        let twin = self.change_sets.iter().find(|set| set.stack == stack.id && set.name == name);
        if let Some(twin) = twin {
            // The same request again: its answer was lost.
            if token.is_some() && twin.token == token && !self.forgets_tokens {
                return Ok(text("Id", &twin.id) + &text("StackId", &twin.stack));
            }
            let words = format!(
                "ChangeSet {name} cannot be created due to a mismatch with existing attribute Template"
            );
            return Err(Refusal { status: 409, ..Refusal::new("AlreadyExistsException", words) });
        }
        let changes = changes(stack, &wanted)?;
        let outputs = |wanted: &Wanted| wanted.document["Outputs"].clone();
        let same = outputs(&wanted) == outputs(&stack.is) && wanted.tags == stack.is.tags;
        let (stack, empty) = (stack.id.clone(), changes.is_empty() && same && !create);
        let serial = self.next();
        let id = format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:changeSet/{name}/{}", uuid(serial));
        let answer = text("Id", &id) + &text("StackId", &stack);
        let name = name.to_owned();
        let (asked, executed) = (false, None);
        let set = ChangeSet { id, name, stack, create, wanted, changes, empty, asked, token, executed };
        self.change_sets.push(set);
        Ok(answer)
    }

    fn template_of(&self, form: &Form) -> Result<String, Refusal> {
        if let Some(body) = form.get("TemplateBody") {
            if body.len() > 51_200 {
                let words = "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to 51200";
                return Err(Refusal::validation(words));
            }
            return Ok(body.to_owned());
        }
        let url = form.get("TemplateURL").and_then(|url| reqwest::Url::parse(url).ok());
        let object = url.as_ref().and_then(|url| {
            let (bucket, key) = url.path().trim_start_matches('/').split_once('/')?;
            self.buckets.object(bucket, key)
        });
        let object =
            object.ok_or_else(|| Refusal::validation("S3 error: The specified key does not exist."))?;
        String::from_utf8(object.to_vec()).map_err(|_| Refusal::validation("Template format error"))
    }

    /// The place of a change set, by id, or by name and stack.
    pub fn find_change_set(&self, form: &Form) -> Result<usize, Refusal> {
        let asked = form.need("ChangeSetName")?;
        let stack = form.get("StackName").and_then(|name| self.find(name)).map(|at| &self.stacks[at].id);
        let fits = |set: &ChangeSet| {
            set.id == asked || (set.name == asked && stack.is_some_and(|id| *id == set.stack))
        };
        self.change_sets.iter().position(fits).ok_or_else(|| Refusal {
            status: 404,
            ..Refusal::new("ChangeSetNotFound", format!("ChangeSet [{asked}] does not exist"))
        })
    }

    /// Deletes a change set; one that is gone is no error. The stack of a new one stays in review.
    pub fn delete_change_set(&mut self, form: &Form) -> Answered {
        if let Ok(at) = self.find_change_set(form) {
            self.change_sets.remove(at);
        }
        Ok(String::new())
    }

    /// Begins to carry a change set out; all others of its stack are deleted.
    pub fn execute_change_set(&mut self, form: &Form) -> Answered {
        let set = self.find_change_set(form)?;
        let token = form.get("ClientRequestToken").unwrap_or_default().to_owned();
        let set = &mut self.change_sets[set];
        if !token.is_empty() && set.executed.as_ref() == Some(&token) && !self.forgets_tokens {
            return Ok(String::new());
        }
        let (status, _, execution) = set.status();
        if execution != "AVAILABLE" {
            let state = if set.executed.is_some() { execution } else { status };
            let words =
                format!("ChangeSet [{}] cannot be executed in its current status of [{state}]", set.id);
            return Err(Refusal::new("InvalidChangeSetStatus", words));
        }
        set.executed = Some(token);
        let (id, owner, create, wanted) = (set.id.clone(), set.stack.clone(), set.create, set.wanted.clone());
        self.change_sets.retain(|other| other.stack != owner || other.id == id);
        let at = self.find(&owner).expect("a change set is deleted with its stack");
        let Self { stacks, serial, failing, .. } = self;
        let mut fate = Fate { failing, serial, keep_failed: form.is("DisableRollback") };
        let stack = &mut stacks[at];
        let now = chrono::Utc::now();
        let steps = if create {
            stack.created = now;
            stack.is = wanted.clone();
            work::create(stack, &wanted, &mut fate)?
        } else {
            let (steps, undo) = work::update(stack, &wanted, &mut fate)?;
            stack.undo = undo;
            steps
        };
        stack.updated = Some(now);
        stack.change_set = Some(id);
        stack.begin(steps);
        Ok(String::new())
    }

    /// Begins to delete a stack; one that is not there is no error.
    pub fn delete_stack(&mut self, form: &Form) -> Answered {
        let Some(at) = self.find(form.need("StackName")?) else { return Ok(String::new()) };
        let Self { stacks, serial, failing, change_sets, .. } = self;
        let stack = &mut stacks[at];
        let (name, id, status) = (&stack.name, &stack.id, stack.status.as_str());
        if stack.protected {
            let words = format!("Stack [{name}] cannot be deleted while TerminationProtection is enabled");
            return Err(Refusal::validation(words));
        }
        let retain = form.list("RetainResources");
        if !retain.is_empty() && status != "DELETE_FAILED" {
            let words = format!(
                "Invalid operation on stack [{id}]. Resources can be retained only when the stack is in DELETE_FAILED state"
            );
            return Err(Refusal::validation(words));
        }
        let is_failed = |name: &&String| stack.resource(name).is_some_and(|r| r.status == "DELETE_FAILED");
        if let Some(other) = retain.iter().find(|name| !is_failed(name)) {
            let words = format!("Resource [{other}] is not in DELETE_FAILED state and can not be retained");
            return Err(Refusal::validation(words));
        }
        match status {
            "DELETE_COMPLETE" | "DELETE_IN_PROGRESS" => return Ok(String::new()),
            status if status.starts_with("UPDATE_") && status.ends_with("_IN_PROGRESS") => {
                let words = format!("Stack [{name}] cannot be deleted while in status {status}");
                return Err(Refusal::validation(words));
            }
            _ => {}
        }
        change_sets.retain(|set| set.stack != *id);
        let fate = Fate { failing, serial, keep_failed: false };
        let steps = work::delete(stack, &retain, &fate);
        stack.begin(steps);
        Ok(String::new())
    }

    /// Undoes an update, or a creation, that was left as it failed.
    pub fn rollback_stack(&mut self, form: &Form) -> Answered {
        let at = self.existing(form)?;
        if self.is_repeated(at, form) {
            return Ok(text("StackId", &self.stacks[at].id));
        }
        let Self { stacks, serial, failing, .. } = self;
        let stack = &mut stacks[at];
        let fate = Fate { failing, serial, keep_failed: false };
        let words = "User Initiated".to_owned();
        let steps = match stack.status.as_str() {
            "UPDATE_FAILED" => work::roll_back(stack, &stack.undo, words, &[], &fate),
            "CREATE_FAILED" => work::take_back(stack, &stack.resources, words, &fate),
            status => {
                return Err(Refusal::validation(format!(
                    "Stack:{} is in {status} state and can not be rolled back.",
                    stack.id
                )));
            }
        };
        stack.begin(steps);
        Ok(text("StackId", &stacks[at].id))
    }

    /// Goes on with a rollback that failed.
    pub fn continue_update_rollback(&mut self, form: &Form) -> Answered {
        let at = self.existing(form)?;
        if self.is_repeated(at, form) {
            return Ok(String::new());
        }
        let Self { stacks, serial, failing, .. } = self;
        let stack = &mut stacks[at];
        if stack.status != "UPDATE_ROLLBACK_FAILED" {
            return Err(Refusal::validation(format!(
                "Stack:{} is in {} state and can not continue an update rollback.",
                stack.id, stack.status
            )));
        }
        let skip = form.list("ResourcesToSkip");
        let is_failed = |name: &&String| stack.resource(name).is_some_and(|r| r.status == "UPDATE_FAILED");
        if let Some(other) = skip.iter().find(|name| !is_failed(name)) {
            return Err(Refusal::validation(format!(
                "Resource [{other}] is not in UPDATE_FAILED state and can not be skipped"
            )));
        }
        let fate = Fate { failing, serial, keep_failed: false };
        let steps = work::roll_back(stack, &stack.undo, "User Initiated".to_owned(), &skip, &fate);
        stack.begin(steps);
        Ok(String::new())
    }

    /// Lets `DeleteStack` refuse, or no longer.
    pub fn update_termination_protection(&mut self, form: &Form) -> Answered {
        let at = self.existing(form)?;
        self.stacks[at].protected = form.is("EnableTerminationProtection");
        Ok(text("StackId", &self.stacks[at].id))
    }

    /// Sets the stack's policy.
    pub fn set_stack_policy(&mut self, form: &Form) -> Answered {
        let at = self.existing(form)?;
        let policy = form.need("StackPolicyBody")?;
        let read: Result<BTreeMap<String, serde_json::Value>, _> = serde_json::from_str(policy);
        if !read.is_ok_and(|policy| policy.contains_key("Statement")) {
            return Err(Refusal::validation("Error validating stack policy: Invalid stack policy"));
        }
        self.stacks[at].policy = Some(policy.to_owned());
        Ok(String::new())
    }
}
