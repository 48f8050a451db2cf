//! What the engine reports, as the model sees it. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bollard::models::{
    Config, EndpointPortConfig, EndpointPortConfigProtocolEnum, Node,
    NodeSpecAvailabilityEnum as Availability, NodeState, Service, ServiceSpec,
    ServiceSpecUpdateConfigFailureActionEnum, Task, TaskState,
};
use chrono::{DateTime, Utc};

use super::before;
use super::history::{self, Now, Record};
use super::host_files::host_file_states;
use super::lineage::Lineage;
use super::placeholder::UNITS;
use super::ports;
use super::scaled;
use super::spec::{self, NODE, SERVICE};
use super::verdict::{Limits, Progress, Verdict, judge};
use crate::model::machine::{Machine, MachineState, Role};
use crate::model::member::the_one;
use crate::model::name::MachineId;
use crate::model::reboot::Mark;
use crate::model::service::{
    FailedInstance, Instance, InstancePort, InstanceState, Protocol, PublishedPort, RevisionState, Scale,
    ServiceStatus, Symptoms,
};

/// The label that holds a machine's instance id.
pub const INSTANCE: &str = "fleetwright.instance";
/// The label that holds a machine's private address.
pub const ADDRESS: &str = "fleetwright.address";
/// The label that holds when emptying a machine began.
pub const DRAIN: &str = "fleetwright.drain";

/// The label that holds the [`Mark`] of a machine that is to reboot.
pub const REBOOT: &str = "fleetwright.reboot";

/// The label that holds how full a machine is. It is no metadata, so it does not begin as that does.
pub const PRESSURE: &str = "fleetwright-pressure";

/// The label of a machine whose agent has seen its engine stop.
pub const GONE: &str = "fleetwright.engine-gone";

/// All that was read from the engine at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// When it was read.
    pub at: DateTime<Utc>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The services, ours and others'.
    pub services: Vec<Service>,
    /// Their tasks.
    pub tasks: Vec<Task>,
    /// The config objects.
    pub configs: Vec<Config>,
}

impl Observed {
    /// The machines as of `now`, sorted by role, then id. Nodes that no agent has registered yet are
    /// left out.
    pub fn machines(&self, now: DateTime<Utc>) -> Vec<Machine> {
        let mut machines: Vec<_> = self.nodes.iter().filter_map(|node| machine(node, now)).collect();
        machines.sort_by(|a, b| (a.role, &a.id).cmp(&(b.role, &b.id)));
        machines
    }

    /// Our services, sorted by name.
    pub fn service_statuses(&self) -> Vec<ServiceStatus> {
        let mut statuses: Vec<_> = self.services.iter().filter_map(|service| self.status(service)).collect();
        statuses.extend(self.service_names().iter().filter_map(|name| self.not_yet(name)));
        statuses.sort_by(|a, b| a.name.cmp(&b.name));
        statuses
    }

    /// The highest version of anything: it grows with every change of the swarm's state.
    pub fn index(&self) -> u64 {
        let nodes = self.nodes.iter().map(|node| &node.version);
        let services = self.services.iter().map(|service| &service.version);
        let tasks = self.tasks.iter().map(|task| &task.version);
        let configs = self.configs.iter().map(|config| &config.version);
        nodes
            .chain(services)
            .chain(tasks)
            .chain(configs)
            .filter_map(|version| version.as_ref().and_then(|version| version.index))
            .max()
            .unwrap_or(0)
    }

    /// Our service of that name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| name_of(service) == Some(name))
    }

    /// The names of our services, and of those of which only records are left.
    pub fn service_names(&self) -> BTreeSet<String> {
        let services = self.services.iter().filter_map(name_of).map(str::to_owned);
        services.chain(self.configs.iter().filter_map(Record::read).map(|record| record.service)).collect()
    }

    /// The revisions that are kept of a service.
    pub fn records(&self, name: &str) -> Vec<Record> {
        self.configs.iter().filter_map(Record::read).filter(|record| record.service == name).collect()
    }

    /// What the engine says about a service at this moment.
    pub fn now(&self, service: &Service) -> Now {
        let lineage = self.lineage(service);
        let current = lineage.current;
        let instances = self.instances(service);
        let update = service.update_status.as_ref();
        let mut failures: HashMap<u64, (DateTime<Utc>, String)> = HashMap::new();
        for task in self.tasks_of(service) {
            let Some((at, text)) = failure(task, name_of(service).unwrap_or_default()) else { continue };
            let Some(revision) = lineage.of(task) else { continue };
            let first = failures.entry(revision).or_insert_with(|| (at, text.clone()));
            if at < first.0 {
                *first = (at, text);
            }
        }
        let of_current: BTreeSet<&str> = self
            .tasks_of(service)
            .filter(|task| lineage.of(task) == current)
            .filter_map(|task| task.id.as_deref())
            .collect();
        let ours = || instances.iter().filter(|instance| of_current.contains(instance.id.as_str()));
        let healthy: Vec<Duration> = ours()
            .filter(|instance| instance.state == InstanceState::Healthy)
            .map(|instance| since(self.at, instance.since))
            .collect();
        let waiting = ours().find(|instance| instance.state != InstanceState::Healthy);
        let desired = self.desired(service);
        let current = current.unwrap_or(0);
        let whole = healthy.len() >= desired as usize;
        let progress = Progress {
            age: Duration::ZERO,
            desired,
            healthy,
            failures: self.failures_by_slot(service, &lineage).into_values().max().unwrap_or(0),
        };
        let records = self.records(name_of(service).unwrap_or_default());
        let record = records.iter().find(|record| record.number == current);
        let verdict = record.and_then(|record| {
            let spec = &record.deployment().ok()?.spec;
            let progress = Progress { age: since(self.at, record.since), ..progress };
            Some(judge(&progress, Limits::of(spec, desired)))
        });
        Now {
            current,
            update: update.and_then(|update| update.state),
            update_message: update.and_then(|update| update.message.clone()),
            whole,
            failures: failures.into_iter().map(|(revision, (_, text))| (revision, text)).collect(),
            // A record that can't be read has no limits: the engine alone decides.
            verdict: verdict.unwrap_or(if whole { Verdict::Succeeded } else { Verdict::Open }),
            waiting: waiting.map(waits),
            rolls_back: rolls_back(service),
            commands: before::commands(self, &records),
        }
    }

    /// Which revision each task of a service belongs to.
    pub fn lineage(&self, service: &Service) -> Lineage {
        Lineage::new(service, &self.records(name_of(service).unwrap_or_default()))
    }

    /// How often each instance of the current revision has failed, as far as the engine remembers.
    fn failures_by_slot(&self, service: &Service, lineage: &Lineage) -> HashMap<Slot, u32> {
        let mut found = HashMap::new();
        for task in self.tasks_of(service) {
            let state = task.status.as_ref().and_then(|status| status.state);
            // One that the engine stopped would be `shutdown`: these ended on their own.
            let failed = matches!(state, Some(TaskState::FAILED | TaskState::REJECTED | TaskState::COMPLETE));
            if failed && lineage.of(task) == lineage.current {
                *found.entry(slot(task)).or_default() += 1;
            }
        }
        found
    }

    /// A task that failed, as its machine saw it; `None` while it runs, and for one that was meant to stop.
    pub fn failed(&self, task: &Task, service: &str, seen: &Symptoms) -> Option<FailedInstance> {
        let ended = seen.ended.as_ref()?;
        let state = task.status.as_ref().and_then(|status| status.state);
        // The engine changes what it wants of a task before it stops it, and again after one failed.
        let own = matches!(state, Some(TaskState::FAILED | TaskState::REJECTED | TaskState::COMPLETE));
        if !own && matches!(task.desired_state, Some(TaskState::SHUTDOWN | TaskState::REMOVE)) {
            return None;
        }
        let node = self.nodes.iter().find(|node| node.id.is_some() && node.id == task.node_id);
        Some(FailedInstance {
            name: task_name(task, service),
            machine: node.and_then(|node| label(node, INSTANCE)).and_then(|id| id.parse().ok()),
            at: self.at,
            exit: ended.exit,
            error: ended.error.as_deref().map(short),
            out_of_memory: ended.out_of_memory,
            probe: seen.probe.as_deref().map(short),
            lines: ended.lines.clone(),
        })
    }

    /// The tasks of a service.
    pub fn tasks_of<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Task> {
        self.tasks.iter().filter(|task| task.service_id.is_some() && task.service_id == service.id)
    }

    /// The node with that instance: the one that answers, where the machine has joined again.
    /// When two answer, neither is acted on, since only one can be right.
    pub fn node(&self, machine: &MachineId) -> Option<&Node> {
        let nodes = self.nodes.iter().filter(|node| label(node, INSTANCE) == Some(machine.as_str()));
        the_one(nodes.map(|node| (is_up(node), node)))
    }

    /// How many instances of a service there should be.
    pub fn desired(&self, service: &Service) -> u32 {
        replicas(service).unwrap_or_else(|| {
            let fitting = self.nodes.iter().filter(|node| takes_work(node) && fits(service, node)).count();
            u32::try_from(fitting).unwrap_or(u32::MAX)
        })
    }

    /// A service of which nothing runs yet, because its first revision waits for its command or failed in it.
    fn not_yet(&self, name: &str) -> Option<ServiceStatus> {
        if self.service(name).is_some() {
            return None;
        }
        let records = self.records(name);
        records.iter().max_by_key(|record| record.number)?.before?;
        let now = Now { commands: before::commands(self, &records), ..Now::default() };
        Some(ServiceStatus {
            name: name.parse().ok()?,
            desired: 0,
            scaled_from: None,
            stopped: false,
            instances: Vec::new(),
            history: history::shown(history::derive(&records, &now), &now),
        })
    }

    fn status(&self, service: &Service) -> Option<ServiceStatus> {
        let name = name_of(service)?;
        let now = self.now(service);
        let derived = history::derive(&self.records(name), &now);
        Some(ServiceStatus {
            name: name.parse().ok()?,
            desired: self.desired(service),
            scaled_from: scaled::of(service).and_then(|held| match held.from {
                Scale::Replicas(count) => Some(count),
                Scale::EveryMachine => None,
            }),
            stopped: scaled::of(service).is_some_and(|held| held.stopped_at.is_some()),
            instances: self.instances(service),
            history: history::shown(derived, &now),
        })
    }

    fn instances(&self, service: &Service) -> Vec<Instance> {
        let name = name_of(service).unwrap_or_default();
        let nodes: HashMap<&str, &Node> =
            self.nodes.iter().filter_map(|node| Some((node.id.as_deref()?, node))).collect();
        let ports = PortsOf::of(service);
        let lineage = self.lineage(service);
        let failures = self.failures_by_slot(service, &lineage);
        let trial = trial(service);
        let mut instances: Vec<Instance> = Vec::new();
        let mut failed: BTreeMap<String, (Instance, &Task)> = BTreeMap::new();
        // The newest task of each slot that ended as it was meant to.
        let mut ended: HashMap<Slot, Option<DateTime<Utc>>> = HashMap::new();
        for task in self.tasks_of(service) {
            let node = task.node_id.as_deref().and_then(|id| nodes.get(id).copied());
            let Some(mut instance) = instance(task, name, node, &ports) else {
                let newest = ended.entry(slot(task)).or_default();
                *newest = (*newest).max(task.created_at);
                continue;
            };
            if lineage.of(task) == lineage.current {
                instance.restarts = failures.get(&slot(task)).copied().unwrap_or(0);
            }
            // Without a check, a program that crashes again and again would be healthy in between.
            if instance.state == InstanceState::Healthy
                && instance.restarts > 0
                && trial.is_some_and(|trial| since(self.at, instance.since) < trial)
            {
                instance.state = InstanceState::Starting;
            }
            if instance.state == InstanceState::Failed {
                let newer = failed.get(&instance.name).is_none_or(|(known, _)| known.since < instance.since);
                if newer {
                    failed.insert(instance.name.clone(), (instance, task));
                }
            } else {
                instances.push(instance);
            }
        }
        // The last failure explains why nothing healthy stands in its place yet, and is old news afterwards.
        for (name, (instance, task)) in failed {
            let healed =
                instances.iter().any(|other| other.name == name && other.state == InstanceState::Healthy);
            // Another ran in its place since, and was scaled down.
            let replaced = ended.get(&slot(task)).is_some_and(|newest| *newest > task.created_at);
            if !healed && !replaced {
                instances.push(instance);
            }
        }
        instances.sort_by(|a, b| (natural(&a.name), &a.id).cmp(&(natural(&b.name), &b.id)));
        instances
    }
}

/// What the engine starts again in place of a task: a slot, or the service's task on a node.
type Slot = (i64, Option<String>);

fn slot(task: &Task) -> Slot {
    match task.slot {
        Some(slot) if slot > 0 => (slot, None),
        _ => (0, task.node_id.clone()),
    }
}

/// How long an instance that has failed must run until it counts as healthy, where no check says.
fn trial(service: &Service) -> Option<Duration> {
    let spec = service.spec.as_ref()?;
    let check = spec.task_template.as_ref()?.container_spec.as_ref()?.health_check.as_ref();
    let none = |test: &Vec<String>| test.first().is_none_or(|word| word == "NONE");
    if check.is_some_and(|check| check.test.as_ref().is_some_and(|test| !none(test))) {
        return None;
    }
    let monitor = spec.update_config.as_ref()?.monitor?;
    Some(Duration::from_nanos(u64::try_from(monitor).ok()?))
}

/// Whether the engine goes back to the revision before when an update fails.
fn rolls_back(service: &Service) -> bool {
    let update = service.spec.as_ref().and_then(|spec| spec.update_config.as_ref());
    update.and_then(|update| update.failure_action)
        == Some(ServiceSpecUpdateConfigFailureActionEnum::ROLLBACK)
}

/// Why an instance is not healthy, for a rollout that has taken too long.
fn waits(instance: &Instance) -> String {
    let state = match instance.state {
        InstanceState::Pending => "has no machine",
        InstanceState::Starting => "has not become healthy",
        InstanceState::Healthy => "is healthy",
        InstanceState::Stopping => "is stopping",
        InstanceState::Failed => "failed",
    };
    let more = instance.message.as_deref().map_or_else(String::new, |message| format!(": {message}"));
    format!("{} {state}{more}", instance.name)
}

/// The time between two moments; none when the clocks say it is negative.
fn since(now: DateTime<Utc>, then: DateTime<Utc>) -> Duration {
    (now - then).to_std().unwrap_or_default()
}

/// Sorts `web@10` behind `web@9`.
fn natural(name: &str) -> (usize, &str) {
    (name.len(), name)
}

/// A label of a node.
pub fn label<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    node.spec.as_ref()?.labels.as_ref()?.get(key).map(String::as_str)
}

/// The name of a service of ours.
pub fn name_of(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.labels.as_ref()?.get(SERVICE).map(String::as_str)
}

/// Whether the scheduler may place new tasks there.
pub fn takes_work(node: &Node) -> bool {
    is_up(node) && availability(node) == Availability::ACTIVE
}

/// Whether a service's placement allows the node.
pub fn fits(service: &Service, node: &Node) -> bool {
    service.spec.as_ref().is_none_or(|spec| is_allowed(spec, node))
}

fn is_allowed(spec: &ServiceSpec, node: &Node) -> bool {
    let placement = spec.task_template.as_ref().and_then(|template| template.placement.as_ref());
    let constraints = placement.and_then(|placement| placement.constraints.as_deref()).unwrap_or_default();
    let none = HashMap::new();
    let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref()).unwrap_or(&none);
    spec::fits(constraints, labels)
}

/// Whether one instance more than there should be could run, as far as `max_per_machine` decides that.
pub fn has_room(nodes: &[Node], spec: &ServiceSpec) -> bool {
    let placement = spec.task_template.as_ref().and_then(|template| template.placement.as_ref());
    let replicas = spec.mode.as_ref().and_then(|mode| mode.replicated.as_ref()?.replicas);
    let (Some(most), Some(replicas)) = (placement.and_then(|placement| placement.max_replicas), replicas)
    else {
        return true;
    };
    let machines = nodes.iter().filter(|node| takes_work(node) && is_allowed(spec, node)).count();
    most == 0 || most.saturating_mul(i64::try_from(machines).unwrap_or(i64::MAX)) > replicas
}

/// Whether a task still runs or is still meant to.
pub fn is_alive(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    state.is_some_and(|state| rank(state) <= rank(TaskState::RUNNING))
}

/// Whether a node answers its manager. A manager that has just become the leader takes every
/// node for `unknown` until it hears from it, and for `down` when it does not for a while: what
/// runs there goes on running, and the engine moves nothing until then. One whose agent has seen its
/// engine stop does not answer, whatever its manager still believes.
pub fn is_up(node: &Node) -> bool {
    if label(node, GONE).is_some() {
        return false;
    }
    match node.status.as_ref().and_then(|status| status.state) {
        Some(NodeState::READY | NodeState::UNKNOWN) => true,
        Some(NodeState::DOWN | NodeState::DISCONNECTED) | None => false,
    }
}

/// A node's availability; active when it says nothing.
pub fn availability(node: &Node) -> Availability {
    match node.spec.as_ref().and_then(|spec| spec.availability) {
        Some(Availability::PAUSE) => Availability::PAUSE,
        Some(Availability::DRAIN) => Availability::DRAIN,
        Some(Availability::ACTIVE | Availability::EMPTY) | None => Availability::ACTIVE,
    }
}

/// The private address of a node: what its agent said, or else where it connected from.
pub fn address(node: &Node) -> Option<IpAddr> {
    label(node, ADDRESS).or_else(|| node.status.as_ref()?.addr.as_deref()).and_then(|text| text.parse().ok())
}

/// The address that a node connected from, as the engine saw it: no label has a say in it.
pub fn connected_from(node: &Node) -> Option<IpAddr> {
    // A manager's own status may say 0.0.0.0; where the others reach it is true.
    let manager = node.manager_status.as_ref().and_then(|status| status.addr.as_deref());
    let manager = manager.and_then(|text| text.parse::<SocketAddr>().ok()).map(|address| address.ip());
    manager
        .or_else(|| node.status.as_ref()?.addr.as_deref()?.parse().ok())
        .map(|address| address.to_canonical())
        .filter(|address| !address.is_unspecified())
}

fn machine(node: &Node, now: DateTime<Utc>) -> Option<Machine> {
    let id: MachineId = label(node, INSTANCE)?.parse().ok()?;
    let manager = node.manager_status.as_ref();
    let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
    let metadata: BTreeMap<String, String> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.strip_prefix(NODE)?.to_owned(), value.clone())))
        .filter(|(key, _)| {
            !["instance", "address", "drain", "reboot", "registered", "engine-gone"].contains(&key.as_str())
        })
        .filter(|(key, _)| !key.starts_with(spec::FEATURE))
        .collect();
    let drains = label(node, DRAIN).is_some();
    // One that does not come back is down, whatever it set out to do.
    let reboots = label(node, REBOOT).and_then(|text| text.parse::<Mark>().ok());
    let reboots = reboots.is_some_and(|mark| is_up(node) || !mark.has_lapsed(now.timestamp()));
    let state = if reboots {
        MachineState::Rebooting
    } else if is_up(node) {
        match availability(node) {
            Availability::DRAIN => MachineState::Draining,
            Availability::PAUSE if drains => MachineState::Draining,
            Availability::PAUSE => MachineState::Paused,
            Availability::ACTIVE | Availability::EMPTY => MachineState::Ready,
        }
    } else {
        MachineState::Down
    };
    Some(Machine {
        id,
        address: address(node)?,
        role: if metadata.get("role").is_some_and(|role| role == Role::Control.word()) {
            Role::Control
        } else {
            Role::Worker
        },
        state,
        leader: manager.and_then(|status| status.leader).unwrap_or(false),
        group: metadata.get("group").cloned().unwrap_or_default(),
        metadata,
        features: spec::features(labels),
        pressure: label(node, PRESSURE).and_then(|text| text.parse().ok()),
        host_files: host_file_states(node),
    })
}

/// The ports that a service's instances have on their machines.
enum PortsOf {
    /// As many as the engine reports.
    Published(usize),
    /// Those that units listen at themselves.
    Own(Vec<u16>),
}

impl PortsOf {
    fn of(service: &Service) -> Self {
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|spec| spec.endpoint_spec.as_ref()).and_then(|spec| spec.ports.as_deref());
        let ports = ports.unwrap_or_default();
        let container = spec.and_then(|spec| spec.task_template.as_ref()?.container_spec.as_ref());
        let of_units = container.and_then(|container| container.labels.as_ref()?.get(UNITS)).is_some();
        if !of_units {
            return Self::Published(ports.len());
        }
        // The others keep services apart.
        let own = ports.iter().filter(|port| port.protocol != Some(EndpointPortConfigProtocolEnum::SCTP));
        Self::Own(own.filter_map(|port| u16::try_from(port.published_port?).ok()).collect())
    }
}

fn instance(task: &Task, service: &str, node: Option<&Node>, ports: &PortsOf) -> Option<Instance> {
    let status = task.status.as_ref()?;
    let state = status.state?;
    let wanted = task.desired_state == Some(TaskState::RUNNING);
    let alive = is_alive(task);
    let machine: Option<MachineId> =
        node.and_then(|node| label(node, INSTANCE)).and_then(|id| id.parse().ok());
    let mut open: Vec<PublishedPort> = Vec::new();
    let mut addresses = Vec::new();
    if let (TaskState::RUNNING, Some(node), Some(host)) = (state, node, node.and_then(address)) {
        let published = status.port_status.as_ref().and_then(|status| status.ports.as_ref());
        let published = published.into_iter().flatten();
        let known: Vec<PublishedPort> = published.filter_map(published_port).collect();
        let reported = || ports::reported(node, task.id.as_deref().unwrap_or_default());
        let found = match ports {
            PortsOf::Own(own) => own.iter().copied().map(own_port).collect(),
            // The engine forgets some after a change of leader.
            PortsOf::Published(count) if known.len() < *count => reported(),
            PortsOf::Published(_) => known,
        };
        addresses.extend(found.iter().map(|port| SocketAddr::new(host, port.host)));
        open = found;
    }
    let mut message = status.err.clone().filter(|text| !text.is_empty()).map(|text| plain(&text));
    let known = match state {
        // An end that was asked for is no failure, and neither is an end that nothing says anything about.
        TaskState::FAILED | TaskState::REJECTED => InstanceState::Failed,
        TaskState::COMPLETE | TaskState::SHUTDOWN if wanted => InstanceState::Failed,
        TaskState::COMPLETE | TaskState::SHUTDOWN | TaskState::REMOVE | TaskState::ORPHANED => return None,
        _ if node.is_some_and(|node| !is_up(node)) && alive => {
            if !wanted {
                return None;
            }
            message = Some("its machine does not answer".to_owned());
            InstanceState::Failed
        }
        // `ready` and below are stages on the way up: the engine raises the wish step by step.
        _ if matches!(task.desired_state, Some(TaskState::SHUTDOWN | TaskState::REMOVE)) => {
            InstanceState::Stopping
        }
        TaskState::RUNNING if !wanted => InstanceState::Stopping,
        TaskState::RUNNING if node.is_some_and(|node| availability(node) == Availability::DRAIN) => {
            InstanceState::Stopping
        }
        TaskState::RUNNING if matches!(ports, PortsOf::Published(count) if addresses.len() < *count) => {
            InstanceState::Starting
        }
        TaskState::RUNNING => InstanceState::Healthy,
        TaskState::NEW | TaskState::ALLOCATED | TaskState::PENDING => InstanceState::Pending,
        TaskState::ASSIGNED
        | TaskState::ACCEPTED
        | TaskState::PREPARING
        | TaskState::READY
        | TaskState::STARTING => InstanceState::Starting,
    };
    let slot = match task.slot {
        Some(slot) if slot > 0 => slot.to_string(),
        _ => machine.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
    };
    Some(Instance {
        id: task.id.clone()?,
        name: format!("{service}@{slot}"),
        machine,
        addresses,
        ports: open.into_iter().map(InstancePort::from).collect(),
        state: known,
        digest: task.spec.as_ref().and_then(|spec| spec.container_spec.as_ref()).and_then(spec::version_of),
        restarts: 0,
        message,
        since: status.timestamp.or(task.updated_at).or(task.created_at)?,
    })
}

/// A port of units, which listen at the machine's own.
fn own_port(port: u16) -> PublishedPort {
    PublishedPort { container: port, protocol: Protocol::Tcp, host: port }
}

/// A port as a task's status has it.
fn published_port(port: &EndpointPortConfig) -> Option<PublishedPort> {
    let protocol = match port.protocol {
        Some(EndpointPortConfigProtocolEnum::UDP) => Protocol::Udp,
        _ => Protocol::Tcp,
    };
    let container = u16::try_from(port.target_port?).ok()?;
    Some(PublishedPort { container, protocol, host: u16::try_from(port.published_port?).ok()? })
}

/// The name of a task's instance in messages: `web@1`, or `web` where there is one on every machine.
pub fn task_name(task: &Task, service: &str) -> String {
    match task.slot {
        Some(slot) if slot > 0 => format!("{service}@{slot}"),
        _ => service.to_owned(),
    }
}

/// What a health check said, short enough for a message.
pub fn short(output: &str) -> String {
    output.trim().chars().filter(|c| !c.is_control()).take(200).collect()
}

/// When a task failed, and why.
fn failure(task: &Task, service: &str) -> Option<(DateTime<Utc>, String)> {
    let status = task.status.as_ref()?;
    if !matches!(status.state?, TaskState::FAILED | TaskState::REJECTED | TaskState::COMPLETE) {
        return None;
    }
    let name = task_name(task, service);
    let error = status.err.as_deref().unwrap_or_default();
    let text = if error.contains("unhealthy container") {
        format!("{name} never became healthy")
    } else if status.state == Some(TaskState::COMPLETE) {
        format!("{name} ended with exit status 0; a service's program must keep running")
    } else if error.is_empty() {
        format!("{name} failed")
    } else {
        format!("{name} failed: {}", plain(error))
    };
    Some((status.timestamp?, text))
}

/// How many instances a service is to have; `None` for one on every machine.
pub fn replicas(service: &Service) -> Option<u32> {
    let replicated = service.spec.as_ref()?.mode.as_ref()?.replicated.as_ref()?;
    Some(u32::try_from(replicated.replicas.unwrap_or(1)).unwrap_or(0))
}

/// The engine's words without its names for its own parts.
pub fn plain(error: &str) -> String {
    let text = error.trim_start_matches("task: ").replace("dockerexec: ", "");
    text.trim().to_owned()
}

/// The order in which a task goes through its states.
fn rank(state: TaskState) -> u8 {
    match state {
        TaskState::NEW => 0,
        TaskState::ALLOCATED => 1,
        TaskState::PENDING => 2,
        TaskState::ASSIGNED => 3,
        TaskState::ACCEPTED => 4,
        TaskState::PREPARING => 5,
        TaskState::READY => 6,
        TaskState::STARTING => 7,
        TaskState::RUNNING => 8,
        TaskState::COMPLETE => 9,
        TaskState::SHUTDOWN => 10,
        TaskState::FAILED => 11,
        TaskState::REJECTED => 12,
        TaskState::REMOVE => 13,
        TaskState::ORPHANED => 14,
    }
}

/// Whether anything is under way that moves addresses, so that looking often is worth it.
pub fn is_busy(statuses: &[ServiceStatus], machines: &[Machine]) -> bool {
    machines.iter().any(|machine| matches!(machine.state, MachineState::Draining | MachineState::Rebooting))
        || statuses.iter().any(|status| {
            !status.is_whole()
                || status.instances.iter().any(|i| i.state != InstanceState::Healthy)
                || status.history.first().is_some_and(|last| last.state == RevisionState::RollingOut)
        })
}

#[cfg(test)]
mod tests;
