//! Stacks, and the steps by which work on them goes on.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::template::{Asked, Wanted};
use super::{ACCOUNT, REGION};

/// How long each step of the work on a stack takes.
const STEP: Duration = Duration::from_millis(12);

/// A resource of a stack.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resource {
    /// Its logical id.
    pub name: String,
    /// Its type.
    pub kind: String,
    /// Its physical id; empty for one that was never made.
    pub id: String,
    /// Its status.
    pub status: String,
    /// Its properties, as they are.
    pub properties: Value,
    /// Whether its deletion policy leaves it behind.
    pub retained: bool,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The logical id; the stack's name for the stack itself.
    pub resource: String,
    /// The type.
    pub kind: String,
    /// The physical id.
    pub physical: String,
    /// The status.
    pub status: String,
    /// The reason.
    pub reason: String,
}

/// One step of the work on a stack.
#[derive(Debug, Clone)]
pub enum Step {
    /// The stack gets a status.
    Stack(&'static str, String),
    /// A resource gets a status, and is the stack's in that form.
    Resource(Resource, &'static str, String),
    /// Something happens to what is no longer the stack's resource of that name.
    Former(Resource, &'static str, String),
    /// A resource is no longer the stack's.
    Forget(String),
    /// The stack is what it was asked to be, with these outputs.
    Commit(Box<Wanted>, BTreeMap<String, String>),
    /// There is nothing to be undone any more.
    Undone,
}

/// What a failed update has begun on a resource, and a rollback undoes.
#[derive(Debug, Clone)]
pub struct Undo {
    /// The resource before; none for one that the update added.
    pub before: Option<Resource>,
    /// The resource that the update made or made of it.
    pub after: Resource,
}

/// A stack; a deleted one is still known by its id.
#[derive(Debug)]
pub struct Stack {
    pub name: String,
    pub id: String,
    pub status: String,
    pub reason: String,
    pub created: DateTime<Utc>,
    pub updated: Option<DateTime<Utc>>,
    pub change_set: Option<String>,
    pub protected: bool,
    pub policy: Option<String>,
    pub is: Wanted,
    pub outputs: BTreeMap<String, String>,
    pub resources: Vec<Resource>,
    /// Oldest first.
    pub events: Vec<Event>,
    pub undo: Vec<Undo>,
    steps: VecDeque<Step>,
    due: Instant,
}

impl Stack {
    /// A stack in `status`, to which nothing has happened.
    pub fn new(name: &str, status: &str, serial: u32) -> Self {
        Self {
            name: name.to_owned(),
            id: format!("arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/{}", uuid(serial)),
            status: status.to_owned(),
            reason: String::new(),
            created: Utc::now(),
            updated: None,
            change_set: None,
            protected: false,
            policy: None,
            is: Wanted::default(),
            outputs: BTreeMap::new(),
            resources: Vec::new(),
            events: Vec::new(),
            undo: Vec::new(),
            steps: VecDeque::new(),
            due: Instant::now(),
        }
    }

    /// Whether it is gone.
    pub fn is_deleted(&self) -> bool {
        self.status == "DELETE_COMPLETE"
    }

    /// Its resource of that name.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// What is known of its resources as they are.
    pub fn known(&self, asked: Asked<'_>) -> Option<String> {
        match asked {
            Asked::Id(name) => self.resource(name).map(|resource| resource.id.clone()),
            Asked::Attribute(name, attribute) => {
                self.resource(name).map(|resource| format!("{attribute}-of-{}", resource.id))
            }
        }
    }

    /// Begins work: its first step is done at once, the rest as time passes.
    pub fn begin(&mut self, steps: Vec<Step>) {
        self.steps = steps.into();
        if let Some(first) = self.steps.pop_front() {
            self.step(first);
        }
        self.due = Instant::now() + STEP;
    }

    /// Whether work on it is under way.
    pub fn is_busy(&self) -> bool {
        !self.steps.is_empty()
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Instant) {
        while self.due <= now
            && let Some(step) = self.steps.pop_front()
        {
            if self.step(step) {
                self.due += STEP;
            }
        }
    }

    /// Time has stood still until now.
    pub fn resume(&mut self) {
        self.due = Instant::now() + STEP;
    }

    /// Takes a step; whether that took time.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Stack(status, reason) => {
                status.clone_into(&mut self.status);
                self.reason.clone_from(&reason);
                self.stack_event(status, &reason);
                true
            }
            Step::Resource(resource, status, reason) => {
                let resource = Resource { status: status.to_owned(), ..resource };
                self.event(&resource, status, &reason);
                match self.resources.iter_mut().find(|known| known.name == resource.name) {
                    Some(known) => *known = resource,
                    None => self.resources.push(resource),
                }
                true
            }
            Step::Former(resource, status, reason) => {
                self.event(&resource, status, &reason);
                true
            }
            Step::Forget(name) => {
                self.resources.retain(|resource| resource.name != name);
                false
            }
            Step::Commit(wanted, outputs) => {
                (self.is, self.outputs) = (*wanted, outputs);
                self.undo.clear();
                false
            }
            Step::Undone => {
                self.undo.clear();
                false
            }
        }
    }

    /// Something happened to the stack itself.
    pub fn stack_event(&mut self, status: &str, reason: &str) {
        let own = Resource {
            name: self.name.clone(),
            kind: "AWS::CloudFormation::Stack".to_owned(),
            id: self.id.clone(),
            ..Resource::default()
        };
        self.event(&own, status, reason);
    }

    fn event(&mut self, resource: &Resource, status: &str, reason: &str) {
        let number = self.events.len();
        self.events.push(Event {
            id: format!("{}-{status}-{number:04}", resource.name),
            at: Utc::now(),
            resource: resource.name.clone(),
            kind: resource.kind.clone(),
            physical: resource.id.clone(),
            status: status.to_owned(),
            reason: reason.to_owned(),
        });
    }
}

/// Something that looks like a UUID.
pub fn uuid(serial: u32) -> String {
    format!("{serial:08x}-0000-4000-8000-{:012x}", u64::from(serial) * 0x9e37)
}
