//! In-memory stand-ins for the cloud and the cluster. Time passes in them when they are asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use chrono::DateTime;
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::model::deployed::{
    Action, ChangeSet, ChangeSetId, ChangeSetRequest, ChangeSetState, DeployedStack, EventMark, Execution,
    ResourceChange, ResourceEvent, StackResource,
};
use crate::model::group::{Capacity, Group, GroupInstance, Lifecycle};
use crate::model::machine::{Machine, MachineState, Role};
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::{MachineId, ServiceName, VolumeName};
use crate::model::service::{Deployed, Deployment, Instance, InstanceState, ScaleTo, ServiceStatus};
use crate::plan::document as tree;
use crate::port::cloud::{Cloud, CloudError};
use crate::port::cluster::{Cluster, ClusterError, Snapshot};
use crate::port::groups::Groups;
use crate::port::hooks::{HookError, Hooks, Lines};
use crate::port::repair::Repair;
use crate::repo::document;

/// A CloudFormation whose stacks take a few questions to settle.
#[derive(Default)]
pub struct FakeCloud {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    stacks: BTreeMap<String, Fake>,
    change_sets: BTreeMap<String, ChangeSetRequest>,
    /// A resource of a stack that fails, and why.
    failing: BTreeMap<String, (String, String)>,
    /// Stacks that never settle.
    endless: Vec<String>,
    /// Every call that changed something, in order.
    log: Vec<String>,
    /// The most stacks that were at work at once.
    busiest: usize,
    next: u32,
}

struct Fake {
    stack: DeployedStack,
    /// What `resources` tells; those that `*_FAILED` can be neither undone nor deleted.
    resources: Vec<StackResource>,
    template: String,
    events: Vec<ResourceEvent>,
    /// What the stack becomes, and after how many more questions.
    becoming: Option<(u32, String)>,
}

impl FakeCloud {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while it holds this")
    }

    /// Puts a stack there that stands in `status` and, when it is at work, becomes `becoming`.
    pub fn stand(&self, name: &str, status: &str, becoming: Option<&str>, resources: Vec<StackResource>) {
        let stack = DeployedStack {
            name: name.to_owned(),
            id: name.to_owned(),
            status: status.to_owned(),
            ..DeployedStack::default()
        };
        let becoming = becoming.map(|status| (2, status.to_owned()));
        let fake = Fake { stack, resources, template: String::new(), events: Vec::new(), becoming };
        self.state().stacks.insert(name.to_owned(), fake);
    }

    /// Gives a stack an output.
    pub fn output(&self, stack: &str, output: &str, value: &str) {
        let mut state = self.state();
        let fake = state.stacks.get_mut(stack).expect("a stack");
        fake.stack.outputs.insert(output.to_owned(), value.to_owned());
    }

    /// The most stacks that were at work at once.
    pub fn busiest(&self) -> usize {
        self.state().busiest
    }

    /// Makes `resource` of `stack` fail from now on.
    pub fn fail(&self, stack: &str, resource: &str, reason: &str) {
        self.state().failing.insert(stack.to_owned(), (resource.to_owned(), reason.to_owned()));
    }

    /// Makes `stack` never settle, until [`FakeCloud::release`].
    pub fn hold(&self, stack: &str) {
        self.state().endless.push(stack.to_owned());
    }

    /// Lets every stack settle again.
    pub fn release(&self) {
        self.state().endless.clear();
    }

    /// Every call that changed something, in order.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Change sets that are left.
    pub fn change_sets(&self) -> usize {
        self.state().change_sets.len()
    }

    /// Changes a deployed stack behind everybody's back.
    pub fn meddle(&self, stack: &str, with: impl FnOnce(&mut DeployedStack, &mut String)) {
        let mut state = self.state();
        let fake = state.stacks.get_mut(stack).expect("the stack exists");
        with(&mut fake.stack, &mut fake.template);
    }
}

impl State {
    fn event(&mut self, stack: &str, resource: &str, status: &str, reason: &str) {
        self.next += 1;
        let id = self.next.to_string();
        if let Some(fake) = self.stacks.get_mut(stack) {
            fake.events.push(ResourceEvent {
                id,
                at: DateTime::UNIX_EPOCH,
                resource: resource.to_owned(),
                resource_type: if resource == stack {
                    "AWS::CloudFormation::Stack"
                } else {
                    "AWS::Fake::Thing"
                }
                .to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
            });
        }
    }

    fn delete(&mut self, stack: &str, retain: &[String]) {
        let retained =
            if retain.is_empty() { String::new() } else { format!(" without {}", retain.join(", ")) };
        self.log.push(format!("delete {stack}{retained}"));
        if let Some(fake) = self.stacks.get_mut(stack) {
            let stubborn =
                fake.resources.iter().any(|r| r.status == "DELETE_FAILED" && !retain.contains(&r.resource));
            let end = if stubborn { "DELETE_FAILED" } else { "DELETE_COMPLETE" };
            fake.stack.status = "DELETE_IN_PROGRESS".to_owned();
            fake.becoming = Some((1, end.to_owned()));
        }
    }

    /// A question was asked of `stack`: time passes.
    fn tick(&mut self, stack: &str) {
        if self.endless.iter().any(|name| name == stack) {
            return;
        }
        let Some((left, becoming)) = self.stacks.get_mut(stack).and_then(|fake| fake.becoming.clone()) else {
            return;
        };
        if left > 0 {
            if let Some(fake) = self.stacks.get_mut(stack) {
                fake.becoming = Some((left - 1, becoming));
            }
            return;
        }
        let failing = self.failing.get(stack).cloned();
        let (status, failed) = match (&failing, becoming.as_str()) {
            (Some(_), "CREATE_COMPLETE") => ("ROLLBACK_COMPLETE".to_owned(), true),
            (Some(_), "UPDATE_COMPLETE") => ("UPDATE_ROLLBACK_COMPLETE".to_owned(), true),
            _ => (becoming, false),
        };
        if let (true, Some((resource, reason))) = (failed, failing) {
            self.event(stack, "Another", "CREATE_FAILED", "Resource creation cancelled");
            self.event(stack, &resource, "CREATE_FAILED", &reason);
        }
        self.event(stack, stack, &status, "");
        if status == "DELETE_COMPLETE" {
            self.stacks.remove(stack);
            return;
        }
        if let Some(fake) = self.stacks.get_mut(stack) {
            fake.becoming = None;
            fake.stack.status = status;
            let document = document::read(&fake.template).unwrap_or_default();
            let outputs = document.get("Outputs").and_then(Value::as_object).cloned().unwrap_or_default();
            fake.stack.outputs =
                outputs.keys().map(|name| (name.clone(), format!("{stack}.{name}"))).collect();
        }
    }

    fn change_set(&self, id: &ChangeSetId) -> ChangeSet {
        let request = &self.change_sets[&id.0];
        let after = document::read(&request.template).unwrap_or_default();
        let deployed = self.stacks.get(&request.stack).filter(|_| !request.create);
        let before = deployed.and_then(|fake| document::read(&fake.template)).unwrap_or_default();
        let same_parameters = deployed.is_some_and(|fake| fake.stack.parameters == request.parameters);
        let (old, new) = (tree::resources(&before), tree::resources(&after));
        let change = |name: &str, action: Action| ResourceChange {
            resource: name.to_owned(),
            resource_type: "AWS::Fake::Thing".to_owned(),
            action,
            certain: true,
            properties: Vec::new(),
        };
        let mut changes: Vec<ResourceChange> = new
            .iter()
            .filter_map(|(name, resource)| match old.get(name) {
                None => Some(change(name, Action::Create)),
                Some(known) => {
                    let uses = tree::references(resource)
                        .iter()
                        .any(|r| tree::parameters(&after).contains(r.name()));
                    let differs = known != resource || (!same_parameters && uses);
                    differs.then(|| change(name, Action::Update))
                }
            })
            .collect();
        changes.extend(
            old.keys().filter(|name| !new.contains_key(*name)).map(|name| change(name, Action::Delete)),
        );
        let same_tags = deployed.is_none_or(|fake| fake.stack.tags == request.tags);
        let state =
            if changes.is_empty() && same_tags { ChangeSetState::Empty } else { ChangeSetState::Ready };
        ChangeSet { id: id.clone(), state, changes }
    }
}

#[async_trait]
impl Repair for FakeCloud {
    async fn resources(&self, stack: &str) -> Result<Vec<StackResource>, CloudError> {
        Ok(self.state().stacks.get(stack).map(|fake| fake.resources.clone()).unwrap_or_default())
    }

    async fn roll_back(&self, stack: &str) -> Result<(), CloudError> {
        let mut state = self.state();
        state.log.push(format!("roll back {stack}"));
        if let Some(fake) = state.stacks.get_mut(stack) {
            fake.stack.status = "UPDATE_ROLLBACK_IN_PROGRESS".to_owned();
            fake.becoming = Some((1, "UPDATE_ROLLBACK_COMPLETE".to_owned()));
        }
        Ok(())
    }

    async fn continue_rollback(&self, stack: &str, skip: &[String]) -> Result<(), CloudError> {
        let mut state = self.state();
        state.log.push(format!("continue {stack} without {skip:?}"));
        if let Some(fake) = state.stacks.get_mut(stack) {
            let stubborn =
                fake.resources.iter().any(|r| r.status == "UPDATE_FAILED" && !skip.contains(&r.resource));
            let end = if stubborn { "UPDATE_ROLLBACK_FAILED" } else { "UPDATE_ROLLBACK_COMPLETE" };
            fake.stack.status = "UPDATE_ROLLBACK_IN_PROGRESS".to_owned();
            fake.becoming = Some((1, end.to_owned()));
        }
        Ok(())
    }

    async fn delete_retaining(&self, stack: &str, retain: &[String]) -> Result<(), CloudError> {
        self.state().delete(stack, retain);
        Ok(())
    }
}

#[async_trait]
impl Cloud for FakeCloud {
    async fn stacks(&self) -> Result<Vec<DeployedStack>, CloudError> {
        let mut state = self.state();
        let names: Vec<String> = state.stacks.keys().cloned().collect();
        names.iter().for_each(|name| state.tick(name));
        Ok(state.stacks.values().map(|fake| fake.stack.clone()).collect())
    }

    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, CloudError> {
        let mut state = self.state();
        state.tick(name);
        Ok(state.stacks.get(name).map(|fake| fake.stack.clone()))
    }

    async fn template(&self, stack: &DeployedStack) -> Result<String, CloudError> {
        Ok(self.state().stacks[&stack.name].template.clone())
    }

    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<ChangeSetId, CloudError> {
        let mut state = self.state();
        state.next += 1;
        let id = format!("arn:aws:cloudformation:eu-west-1:1:changeSet/{}/{}", request.name, state.next);
        if request.create && !state.stacks.contains_key(&request.stack) {
            let stack = DeployedStack {
                name: request.stack.clone(),
                id: request.stack.clone(),
                status: "REVIEW_IN_PROGRESS".to_owned(),
                waiting: vec![request.name.clone()],
                ..DeployedStack::default()
            };
            let fake = Fake {
                stack,
                resources: Vec::new(),
                template: String::new(),
                events: Vec::new(),
                becoming: None,
            };
            state.stacks.insert(request.stack.clone(), fake);
        }
        state.change_sets.insert(id.clone(), request.clone());
        Ok(ChangeSetId(id))
    }

    async fn change_set(&self, id: &ChangeSetId) -> Result<ChangeSet, CloudError> {
        Ok(self.state().change_set(id))
    }

    async fn exchanged(
        &self,
        _id: &ChangeSetId,
        _request: &ChangeSetRequest,
    ) -> Result<Option<String>, CloudError> {
        // It has no bucket in between.
        Ok(None)
    }

    async fn execute_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError> {
        let mut state = self.state();
        let request = state.change_sets.remove(&id.0).expect("the change set exists");
        let kind = match (request.imports.is_empty(), request.create) {
            (false, _) => "IMPORT",
            (true, true) => "CREATE",
            (true, false) => "UPDATE",
        };
        state.log.push(format!("{} {}", kind.to_lowercase(), request.stack));
        state.next += 1;
        let now = state.next;
        if let Some(fake) = state.stacks.get_mut(&request.stack) {
            fake.stack.status = format!("{kind}_IN_PROGRESS");
            fake.stack.parameters.clone_from(&request.parameters);
            fake.stack.tags.clone_from(&request.tags);
            fake.template.clone_from(&request.template);
            fake.becoming = Some((2, format!("{kind}_COMPLETE")));
            fake.stack.updated = DateTime::from_timestamp(1_700_000_000 + i64::from(now), 0);
            if request.create {
                fake.stack.created = fake.stack.updated;
            }
        }
        let busy = state.stacks.values().filter(|fake| fake.becoming.is_some()).count();
        state.busiest = state.busiest.max(busy);
        let stack = request.stack;
        state.event(&stack.clone(), &stack, &format!("{kind}_IN_PROGRESS"), "User Initiated");
        Ok(())
    }

    async fn delete_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError> {
        self.state().change_sets.remove(&id.0);
        Ok(())
    }

    async fn protect(&self, stack: &str, protect: bool) -> Result<(), CloudError> {
        let mut state = self.state();
        state.log.push(format!("protect {stack} {protect}"));
        if let Some(fake) = state.stacks.get_mut(stack) {
            fake.stack.protected = protect;
        }
        Ok(())
    }

    async fn policy(&self, stack: &DeployedStack) -> Result<Option<String>, CloudError> {
        Ok(self.state().stacks.get(&stack.name).and_then(|fake| fake.stack.policy.clone()))
    }

    async fn set_policy(&self, stack: &DeployedStack, document: &str) -> Result<(), CloudError> {
        let mut state = self.state();
        state.log.push(format!("policy {}", stack.name));
        if let Some(fake) = state.stacks.get_mut(&stack.name) {
            fake.stack.policy = Some(document.to_owned());
        }
        Ok(())
    }

    async fn delete_stack(&self, stack: &str) -> Result<(), CloudError> {
        let mut state = self.state();
        state.delete(stack, &[]);
        Ok(())
    }

    async fn mark(&self, stack: &str) -> Result<EventMark, CloudError> {
        let mut mark = EventMark::default();
        mark.add(self.state().stacks.get(stack).into_iter().flat_map(|fake| &fake.events));
        Ok(mark)
    }

    async fn importers(&self, _export: &str) -> Result<Vec<String>, CloudError> {
        Ok(Vec::new())
    }

    async fn execution(&self, id: &ChangeSetId) -> Result<Execution, CloudError> {
        let waits = self.state().change_sets.contains_key(&id.0);
        Ok(if waits { Execution::Waiting } else { Execution::Unknown })
    }

    async fn validations(
        &self,
        _stack: &str,
        _change_set: Option<&ChangeSetId>,
    ) -> Result<Vec<ResourceEvent>, CloudError> {
        Ok(Vec::new())
    }

    async fn events(&self, stack: &str, mark: &EventMark) -> Result<Vec<ResourceEvent>, CloudError> {
        let state = self.state();
        let Some(fake) = state.stacks.get(stack) else {
            let (doing, code) = (format!("reading {stack}"), "ValidationError".to_owned());
            return Err(CloudError::Refused { doing, code, reason: "it does not exist".to_owned() });
        };
        Ok(fake.events.iter().filter(|event| mark.is_news(event)).cloned().collect())
    }
}

/// Hooks that are written down instead of run; those that hold `fail` fail.
#[derive(Default)]
pub struct FakeHooks {
    run: Mutex<Vec<String>>,
}

impl FakeHooks {
    /// What was run: the action, the command, and what it was told of the output `Id`.
    pub fn was_run(&self) -> Vec<String> {
        self.run.lock().expect("no test panics while it holds this").clone()
    }
}

#[async_trait]
impl Hooks for FakeHooks {
    async fn run(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        line: Lines<'_>,
        _stop: &CancellationToken,
    ) -> Result<(), HookError> {
        let id = environment.get("FLEETWRIGHT_OUTPUT_Id").map_or("-", String::as_str);
        let text = format!("{} {} {id}", environment["FLEETWRIGHT_ACTION"], command.join(" "));
        line(&text);
        self.run.lock().expect("no test panics while it holds this").push(text);
        if command.iter().any(|word| word == "fail") { Err(HookError::Status { status: 3 }) } else { Ok(()) }
    }
}

/// One group and the cluster its machines form, with one service on them.
pub struct FakeFleet {
    fleet: Mutex<Fleet>,
}

struct Fleet {
    group: Group,
    machines: Vec<Machine>,
    replicas: Vec<Option<MachineId>>,
    launched: u32,
    fewest_ready: usize,
}

impl FakeFleet {
    /// A group whose machines are ready members; new ones get the group's version.
    pub fn new(group: Group) -> Self {
        let launched = u32::try_from(group.instances.len()).unwrap_or_default();
        let fleet = Fleet {
            group,
            machines: Vec::new(),
            replicas: vec![None; 3],
            launched,
            fewest_ready: usize::MAX,
        };
        let fake = Self { fleet: Mutex::new(fleet) };
        fake.fleet().join();
        fake.fleet().place();
        fake
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().expect("no test panics while it holds this")
    }

    /// The group as it is.
    pub fn now(&self) -> Group {
        self.fleet().group.clone()
    }

    /// The fewest machines that were ever ready.
    pub fn fewest_ready(&self) -> usize {
        self.fleet().fewest_ready
    }
}

impl Fleet {
    fn join(&mut self) {
        for instance in self.group.instances.iter().filter(|i| i.lifecycle == Lifecycle::InService) {
            if !self.machines.iter().any(|m| m.id == instance.id) {
                self.machines.push(Machine {
                    id: instance.id.clone(),
                    address: std::net::IpAddr::from([10, 77, 1, 4]),
                    role: Role::Worker,
                    state: MachineState::Ready,
                    leader: false,
                    group: self.group.name.clone(),
                    metadata: BTreeMap::new(),
                    features: crate::model::feature::Features::default(),
                    pressure: None,
                    host_files: Default::default(),
                });
            }
        }
    }

    fn place(&mut self) {
        let ready: Vec<MachineId> =
            self.machines.iter().filter(|m| m.state == MachineState::Ready).map(|m| m.id.clone()).collect();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            if !ready.is_empty() && !replica.as_ref().is_some_and(|at| ready.contains(at)) {
                *replica = Some(ready[number % ready.len()].clone());
            }
        }
        self.fewest_ready = self.fewest_ready.min(ready.len());
    }

    /// Time passes: whatever is under way gets one step further.
    fn tick(&mut self) {
        let leaving: Vec<MachineId> =
            self.group.instances.iter().filter(|i| i.lifecycle.is_leaving()).map(|i| i.id.clone()).collect();
        self.group.instances.retain(|i| !leaving.contains(&i.id));
        self.machines.retain(|m| !leaving.contains(&m.id));
        self.join();
        for instance in &mut self.group.instances {
            if instance.lifecycle == Lifecycle::Pending {
                instance.lifecycle = Lifecycle::InService;
            }
        }
        if self.group.instances.len() < self.group.capacity.desired as usize {
            self.launched += 1;
            self.group.instances.push(GroupInstance {
                id: format!("i-{:04}", self.launched).parse().expect("an id"),
                lifecycle: Lifecycle::Pending,
                healthy: true,
                zone: "a".to_owned(),
                launch_template: self.group.launch_template.clone(),
            });
        }
        self.place();
    }
}

#[async_trait]
impl Groups for FakeFleet {
    async fn groups(&self, _tags: &[(&str, &str)]) -> Result<Vec<Group>, CloudError> {
        Ok(vec![self.now()])
    }

    async fn group(&self, _name: &str) -> Result<Option<Group>, CloudError> {
        let mut fleet = self.fleet();
        fleet.tick();
        Ok(Some(fleet.group.clone()))
    }

    async fn set_capacity(&self, _group: &str, capacity: Capacity) -> Result<(), CloudError> {
        self.fleet().group.capacity = capacity;
        Ok(())
    }

    async fn terminate(&self, instance: &MachineId, decrement: bool) -> Result<(), CloudError> {
        let mut fleet = self.fleet();
        assert!(decrement, "the group would replace what the roll replaces");
        let busy = fleet.replicas.iter().any(|at| at.as_ref() == Some(instance));
        assert!(!busy, "{instance} is terminated while it runs something");
        for known in fleet.group.instances.iter_mut().filter(|i| i.id == *instance) {
            known.lifecycle = Lifecycle::TerminatingWait;
        }
        fleet.group.capacity.desired -= 1;
        Ok(())
    }

    async fn termination_hooks(&self, _group: &str) -> Result<Vec<String>, CloudError> {
        Ok(vec!["drain".to_owned()])
    }

    async fn complete_lifecycle(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn heartbeat(&self, _: &str, _: &str, _: &MachineId) -> Result<(), CloudError> {
        Ok(())
    }

    async fn put_tag(&self, _group: &str, key: &str, value: &str) -> Result<(), CloudError> {
        self.fleet().group.tags.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    async fn delete_tag(&self, _group: &str, key: &str) -> Result<(), CloudError> {
        self.fleet().group.tags.remove(key);
        Ok(())
    }
}

#[async_trait]
impl Cluster for FakeFleet {
    async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
        let fleet = self.fleet();
        let instances = fleet.replicas.iter().enumerate().map(|(number, at)| Instance {
            id: number.to_string(),
            name: format!("web@{number}"),
            machine: at.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
            state: InstanceState::Healthy,
            digest: None,
            restarts: 0,
            message: None,
            since: DateTime::UNIX_EPOCH,
        });
        let web = ServiceStatus {
            name: "web".parse().expect("a name"),
            desired: 3,
            scaled_from: None,
            stopped: false,
            instances: instances.collect(),
            history: Vec::new(),
        };
        Ok(Snapshot { version: 1, revision: 1, machines: fleet.machines.clone(), services: vec![web] })
    }

    async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
        let now = self.snapshot().await;
        Ok(Box::pin(futures_util::stream::once(async move { now })))
    }

    async fn deploy(&self, _: &Deployment) -> Result<u64, ClusterError> {
        Ok(1)
    }

    async fn deployed(&self, service: &ServiceName, _: Option<u64>) -> Result<Deployed, ClusterError> {
        Err(ClusterError::NotFound { what: "service", name: service.to_string() })
    }

    async fn rollback(&self, _: &ServiceName, _: Option<u64>) -> Result<u64, ClusterError> {
        Ok(1)
    }

    async fn secret_versions(
        &self,
        _: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        Ok(BTreeMap::new())
    }

    async fn scale(&self, _: &ServiceName, _: ScaleTo) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn remove(&self, _: &ServiceName) -> Result<(), ClusterError> {
        Ok(())
    }

    async fn logs(
        &self,
        _: &ServiceName,
        _: u32,
        _: bool,
    ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
        Ok(Box::pin(futures_util::stream::empty()))
    }

    async fn drain(&self, machines: &[MachineId], _: &[VolumeName]) -> Result<(), ClusterError> {
        let mut fleet = self.fleet();
        for machine in fleet.machines.iter_mut().filter(|m| machines.contains(&m.id)) {
            machine.state = MachineState::Draining;
        }
        fleet.place();
        Ok(())
    }
}
