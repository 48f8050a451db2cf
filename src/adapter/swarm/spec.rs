//! A [`Deployment`] as Swarm's service specification, and back: pure, and the only place
//! that knows which labels we write.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{
    EndpointPortConfig, EndpointPortConfigProtocolEnum, EndpointPortConfigPublishModeEnum, EndpointSpec,
    EndpointSpecModeEnum, HealthConfig, Limit, Mount, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkAttachmentConfig, ResourceObject, ResourcesUlimits, ServiceSpec,
    ServiceSpecMode, ServiceSpecModeReplicated, ServiceSpecRollbackConfig,
    ServiceSpecRollbackConfigFailureActionEnum, ServiceSpecRollbackConfigOrderEnum, ServiceSpecUpdateConfig,
    ServiceSpecUpdateConfigFailureActionEnum, ServiceSpecUpdateConfigOrderEnum, TaskSpec,
    TaskSpecContainerSpec, TaskSpecContainerSpecConfigs, TaskSpecContainerSpecFile,
    TaskSpecContainerSpecFile1, TaskSpecContainerSpecSecrets, TaskSpecLogDriver, TaskSpecPlacement,
    TaskSpecPlacementPreferences, TaskSpecPlacementSpread, TaskSpecResources, TaskSpecRestartPolicy,
    TaskSpecRestartPolicyConditionEnum,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::mounted;
use super::placeholder::{self, DOOR_IN_CONTAINER, DOOR_ON_MACHINE, UNITS, placed};
use crate::model::container::{ContainerSettings, RestartCondition};
use crate::model::feature::{Feature, Features, Needs};
use crate::model::mount::{Owned, VolumeMount, VolumeSource};
use crate::model::name::Digest;
use crate::model::role::{self, ROLE_PORT, TOKEN_FILE};
use crate::model::service::{Deployment, HealthCheck, HealthProbe, Protocol, Scale};

/// The label that names a service of ours; anything without it is somebody else's.
pub const SERVICE: &str = "fleetwright.service";
/// The label that holds the number of the revision. Containers have none: the engine would replace
/// every instance for a revision that changes nothing about them.
pub const REVISION: &str = "fleetwright.revision";
/// The label of services, containers and records that holds the id of the template of instances: see
/// `template_id`.
pub const TEMPLATE: &str = "fleetwright.template";
/// What the labels of a machine begin with.
pub const NODE: &str = "fleetwright.";
/// The label of nodes whose machine a control machine has registered. The engine's constraints know
/// only equality, so "has any instance id" needs a label of its own.
pub const REGISTERED: &str = "fleetwright.registered";
/// The value of labels that are either set or absent.
pub const YES: &str = "yes";

/// The label of containers with the time of the last requested restart.
const RESTARTED: &str = "fleetwright.restarted";

/// What follows [`NODE`] in the labels that hold what a machine's agent can do, one for each feature.
pub const FEATURE: &str = "feature.";

/// Where the agent puts the health probe on every machine.
pub const PROBE_ON_MACHINE: &str = "/var/lib/fleetwright/probe";
/// Where a container sees it.
pub const PROBE_IN_CONTAINER: &str = "/.fleetwright/probe";

/// The label that the engine gives the containers of its tasks, with the task's id.
pub const TASK: &str = "com.docker.swarm.task.id";
/// The label of containers that have a role, with the role as the deployment names it. A control machine reads it
/// in the managers' record of the task, never in what a machine says.
pub const ROLE: &str = "fleetwright.aws-role";

/// The overlay network that services share.
pub const NETWORK: &str = "fleetwright";

/// How much longer than its drain time an instance may take to end before it is killed.
const GRACE_AFTER_DRAIN: Duration = Duration::from_secs(5);
/// Time between the end of an instance and the start of the one that replaces it.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// Time between two instances of a rollout that stops them first, or has no health check. Without it, the engine may
/// replace the next one before it notices that the last one has failed.
const NOTICE: Duration = Duration::from_millis(500);

/// Whether the rollout of a specification may be undone by the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Restore the revision before.
    RollBack,
    /// Stop where it is: what is being rolled out is itself the way back.
    Stop,
}

/// Swarm's specification for revision `number`.
pub fn service_spec(deployment: &Deployment, number: u64, on_failure: OnFailure) -> ServiceSpec {
    let spec = &deployment.spec;
    let units = spec.units.as_ref();
    // A fixed port can't be held by the old and the new instance on one machine.
    let fixed = spec.ports.iter().any(|port| port.host.is_some());
    // Nor can a volume be written by both.
    let exclusive = fixed
        || spec.container.named_volumes().next().is_some()
        // The old instance holds the numbers that keep it apart from others, too.
        || units.is_some_and(|units| units.exclusive || !units.apart.is_empty());
    // What runs counts as healthy then, also if it is about to end.
    let unchecked = spec.health.is_none();
    let (template, id) = template(deployment);
    let labels = HashMap::from([
        (SERVICE.to_owned(), spec.name.to_string()),
        (REVISION.to_owned(), number.to_string()),
        (TEMPLATE.to_owned(), id),
    ]);
    let mut specified = ServiceSpec {
        name: Some(spec.name.to_string()),
        labels: Some(labels),
        mode: Some(match spec.scale {
            Scale::Replicas(count) => ServiceSpecMode {
                replicated: Some(ServiceSpecModeReplicated { replicas: Some(i64::from(count)) }),
                ..Default::default()
            },
            Scale::EveryMachine => ServiceSpecMode { global: Some(HashMap::new()), ..Default::default() },
        }),
        task_template: Some(template),
        update_config: Some(ServiceSpecUpdateConfig {
            parallelism: Some(i64::from(spec.update.parallel.max(1))),
            failure_action: Some(match on_failure {
                OnFailure::RollBack => ServiceSpecUpdateConfigFailureActionEnum::ROLLBACK,
                OnFailure::Stop => ServiceSpecUpdateConfigFailureActionEnum::PAUSE,
            }),
            delay: unchecked.then(|| nanos(NOTICE)),
            monitor: Some(nanos(spec.update.monitor)),
            max_failure_ratio: Some(0.0),
            order: Some(ServiceSpecUpdateConfigOrderEnum::START_FIRST),
        }),
        rollback_config: Some(ServiceSpecRollbackConfig {
            parallelism: Some(i64::from(spec.update.parallel.max(1))),
            delay: unchecked.then(|| nanos(NOTICE)),
            failure_action: Some(ServiceSpecRollbackConfigFailureActionEnum::PAUSE),
            monitor: Some(nanos(spec.update.monitor)),
            max_failure_ratio: Some(0.0),
            order: Some(ServiceSpecRollbackConfigOrderEnum::START_FIRST),
        }),
        // Virtual addresses and the routing mesh need IPVS, which not every kernel has;
        // and a balancer must know each instance to take one out before it stops.
        endpoint_spec: Some(EndpointSpec {
            mode: Some(EndpointSpecModeEnum::DNSRR),
            ports: Some(
                spec.ports
                    .iter()
                    .map(|port| EndpointPortConfig {
                        protocol: Some(match port.protocol {
                            Protocol::Tcp => EndpointPortConfigProtocolEnum::TCP,
                            Protocol::Udp => EndpointPortConfigProtocolEnum::UDP,
                        }),
                        target_port: Some(i64::from(port.container)),
                        published_port: port.host.map(i64::from),
                        publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
                        ..Default::default()
                    })
                    .chain(units.iter().flat_map(|units| &units.apart).map(apart))
                    .collect(),
            ),
        }),
        networks: None,
    };
    if exclusive {
        stop_first(&mut specified);
    }
    specified
}

/// Has rollouts stop an instance before they start the one that replaces it.
pub fn stop_first(spec: &mut ServiceSpec) {
    if let Some(update) = &mut spec.update_config {
        update.order = Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST);
        update.delay = Some(nanos(NOTICE));
    }
    if let Some(rollback) = &mut spec.rollback_config {
        rollback.order = Some(ServiceSpecRollbackConfigOrderEnum::STOP_FIRST);
        rollback.delay = Some(nanos(NOTICE));
    }
}

/// A port that nothing listens at. The scheduler places no two containers with the same one on a machine, so it keeps
/// services apart.
fn apart(number: &u16) -> EndpointPortConfig {
    EndpointPortConfig {
        protocol: Some(EndpointPortConfigProtocolEnum::SCTP),
        target_port: Some(i64::from(*number)),
        published_port: Some(i64::from(*number)),
        publish_mode: Some(EndpointPortConfigPublishModeEnum::HOST),
        ..Default::default()
    }
}

/// The id of the template that a deployment's instances are made from. Two deployments that differ only
/// in the number of instances have the same.
pub fn template_id(deployment: &Deployment) -> String {
    template(deployment).1
}

/// What the engine makes instances from, with its id in the labels of the container.
fn template(deployment: &Deployment) -> (TaskSpec, String) {
    let units = deployment.spec.units.is_some();
    let placed = placed(deployment);
    let deployment = placed.as_ref();
    let mut container = container(deployment);
    let mut template = TaskSpec {
        container_spec: Some(container.clone()),
        resources: Some(resources(deployment)),
        restart_policy: Some(restart_policy(&deployment.spec.container)),
        placement: Some(TaskSpecPlacement {
            constraints: Some(placement(deployment)),
            preferences: deployment.spec.container.spread.as_ref().map(|key| {
                let spread_descriptor = Some(format!("node.labels.{NODE}{key}"));
                vec![TaskSpecPlacementPreferences {
                    spread: Some(TaskSpecPlacementSpread { spread_descriptor }),
                }]
            }),
            max_replicas: deployment.spec.container.max_per_machine.map(i64::from),
            ..Default::default()
        }),
        networks: if units {
            // A published port is reserved on the machine, and the units listen there themselves.
            Some(vec![NetworkAttachmentConfig { target: Some("host".to_owned()), ..Default::default() }])
        } else {
            shared_network(deployment)
        },
        log_driver: deployment.spec.container.logging.map(|limits| TaskSpecLogDriver {
            name: Some("json-file".to_owned()),
            options: Some(HashMap::from([
                ("max-size".to_owned(), limits.max_size_bytes.to_string()),
                ("max-file".to_owned(), limits.max_files.to_string()),
            ])),
        }),
        ..Default::default()
    };
    // Every key is a string and every number is finite, so there is nothing that JSON can't hold.
    let mut json = serde_json::to_value(&template).unwrap_or_default();
    json.sort_all_objects();
    let hash = Sha256::digest(json.to_string());
    let id: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    container.labels.get_or_insert_default().insert(TEMPLATE.to_owned(), id.clone());
    template.container_spec = Some(container);
    (template, id)
}

/// Has a specification, as the engine writes it, replace every task, for emptying machines. The
/// revision stays what it is.
pub fn force_again(spec: &mut Value) {
    let forced = spec["TaskTemplate"]["ForceUpdate"].as_u64().unwrap_or(0);
    spec["TaskTemplate"]["ForceUpdate"] = (forced + 1).into();
    // Going back from a move would only move everything again.
    if spec["UpdateConfig"].is_object() {
        spec["UpdateConfig"]["FailureAction"] = "pause".into();
    }
}

/// The network that services share, where the deployment is on it.
fn shared_network(deployment: &Deployment) -> Option<Vec<NetworkAttachmentConfig>> {
    deployment.network.then(|| {
        let name = deployment.spec.name.to_string();
        let target = Some(NETWORK.to_owned());
        vec![NetworkAttachmentConfig { target, aliases: Some(vec![name]), ..Default::default() }]
    })
}

fn restart_policy(settings: &ContainerSettings) -> TaskSpecRestartPolicy {
    let policy = settings.restart;
    let condition = match policy.map(|policy| policy.condition) {
        None | Some(RestartCondition::Any) => TaskSpecRestartPolicyConditionEnum::ANY,
        Some(RestartCondition::OnFailure) => TaskSpecRestartPolicyConditionEnum::ON_FAILURE,
        Some(RestartCondition::None) => TaskSpecRestartPolicyConditionEnum::NONE,
    };
    TaskSpecRestartPolicy {
        condition: Some(condition),
        delay: Some(nanos(policy.and_then(|policy| policy.delay).unwrap_or(RESTART_DELAY))),
        max_attempts: policy.and_then(|policy| policy.max_attempts).map(i64::from),
        window: policy.and_then(|policy| policy.window).map(nanos),
    }
}

fn container(deployment: &Deployment) -> TaskSpecContainerSpec {
    let spec = &deployment.spec;
    let settings = &spec.container;
    let mut labels: HashMap<String, String> =
        settings.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    labels.insert(SERVICE.to_owned(), spec.name.to_string());
    if let Some(at) = deployment.restarted {
        labels.insert(RESTARTED.to_owned(), at.to_rfc3339());
    }
    if let Some(role) = &settings.aws_role {
        labels.insert(ROLE.to_owned(), role.clone());
    }
    let mut environment: Vec<String> =
        spec.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if settings.aws_role.is_some() && spec.units.is_none() {
        environment.extend(role::variables().iter().map(|(name, value)| format!("{name}={value}")));
    }
    let mounts = mounts(deployment);
    // What says nothing is left out, and so the template of an older revision stays what it was.
    let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    TaskSpecContainerSpec {
        image: Some(match &spec.units {
            Some(_) => placeholder::image(),
            None => format!("{}/{}@{}", deployment.registry, spec.image, deployment.digest),
        }),
        labels: Some(labels),
        command: given(&command(settings)),
        args: given(&spec.command),
        env: Some(environment),
        hostname: settings.hostname.clone(),
        user: settings.user.clone(),
        dir: settings.workdir.clone(),
        hosts: (!settings.extra_hosts.is_empty()).then(|| {
            settings.extra_hosts.iter().map(|(name, address)| format!("{address} {name}")).collect()
        }),
        capability_add: given(&capabilities(&settings.cap_add)),
        capability_drop: given(&capabilities(&settings.cap_drop)),
        read_only: settings.read_only.then_some(true),
        init: settings.init.then_some(true),
        ulimits: (!settings.ulimits.is_empty()).then(|| {
            let limits = settings.ulimits.iter();
            limits
                .map(|(name, limit)| ResourcesUlimits {
                    name: Some(name.clone()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect()
        }),
        sysctls: (!settings.sysctls.is_empty())
            .then(|| settings.sysctls.iter().map(|(key, value)| (key.clone(), value.clone())).collect()),
        stop_signal: settings.stop_signal.clone(),
        stop_grace_period: Some(nanos(spec.drain + GRACE_AFTER_DRAIN)),
        mounts: (!mounts.is_empty()).then_some(mounts),
        health_check: Some(health(deployment)),
        secrets: secrets(deployment),
        configs: files(settings),
        ..Default::default()
    }
}

/// Whether the helper is what a container executes first.
fn is_helped(settings: &ContainerSettings) -> bool {
    let is_placeholder = settings.labels.contains_key(UNITS);
    (settings.aws_role.is_some() && !is_placeholder)
        || settings.secrets.iter().any(|secret| secret.env.is_some())
}

/// What is executed in place of the image's own entry point. Where secrets are to be variables, it is the
/// helper, which sets them and executes what follows: so their values stand in no specification. Where there is a
/// role, it waits until the agent serves the credentials, because some SDKs ask once only.
fn command(settings: &ContainerSettings) -> Vec<String> {
    if !is_helped(settings) {
        return settings.entrypoint.clone();
    }
    let variables = settings
        .secrets
        .iter()
        .filter_map(|secret| Some(format!("{}={}", secret.env.as_ref()?, secret.target)));
    let mut command = vec![PROBE_IN_CONTAINER.to_owned(), "exec".to_owned()];
    command.extend(settings.aws_role.is_some().then(|| format!("@{ROLE_PORT}")));
    command.extend(variables);
    command.push("--".to_owned());
    command.extend(settings.entrypoint.iter().cloned());
    command
}

/// Whether what the image starts must be known, because something else is started first.
pub fn needs_entry(deployment: &Deployment) -> bool {
    let settings = &deployment.spec.container;
    // The container of units starts the helper itself.
    deployment.spec.units.is_none() && settings.entrypoint.is_empty() && is_helped(settings)
}

/// The secrets that a container mounts, without the engine's ids.
fn secrets(deployment: &Deployment) -> Option<Vec<TaskSpecContainerSpecSecrets>> {
    let mounted = deployment.spec.container.secrets.iter().map(|secret| {
        let Owned { uid, gid, mode } = secret.owned;
        let file = TaskSpecContainerSpecFile {
            name: Some(secret.target.clone()),
            uid: Some(uid.to_string()),
            gid: Some(gid.to_string()),
            mode: Some(mode),
        };
        let version = deployment.secrets.get(&secret.from);
        TaskSpecContainerSpecSecrets {
            file: Some(file),
            secret_id: None,
            secret_name: version.map(|version| mounted::secret_name(&secret.from, version)),
        }
    });
    let token = deployment.spec.container.aws_role.as_ref().map(|_| TaskSpecContainerSpecSecrets {
        file: Some(TaskSpecContainerSpecFile {
            name: Some(TOKEN_FILE.to_owned()),
            uid: Some("0".to_owned()),
            gid: Some("0".to_owned()),
            // Whoever the container runs as. Of units a copy is made, for root.
            mode: Some(if deployment.spec.units.is_some() { 0o400 } else { 0o444 }),
        }),
        secret_id: None,
        secret_name: Some(mounted::token_name(deployment)),
    });
    let mounted: Vec<_> = mounted.chain(token).collect();
    (!mounted.is_empty()).then_some(mounted)
}

/// The files that a container mounts, without the engine's ids.
fn files(settings: &ContainerSettings) -> Option<Vec<TaskSpecContainerSpecConfigs>> {
    let mounted = settings.files.iter().map(|file| {
        let Owned { uid, gid, mode } = file.owned;
        let at = TaskSpecContainerSpecFile1 {
            name: Some(file.target.clone()),
            uid: Some(uid.to_string()),
            gid: Some(gid.to_string()),
            mode: Some(mode),
        };
        TaskSpecContainerSpecConfigs {
            file: Some(at),
            config_name: Some(mounted::file_name(file)),
            ..Default::default()
        }
    });
    let mounted: Vec<_> = mounted.collect();
    (!mounted.is_empty()).then_some(mounted)
}

/// Capabilities by the engine's names for them.
fn capabilities(names: &[String]) -> Vec<String> {
    let full = |name: &String| if name == "ALL" { name.clone() } else { format!("CAP_{name}") };
    names.iter().map(full).collect()
}

fn mounts(deployment: &Deployment) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let probed = |probe: &HealthProbe| matches!(probe, HealthProbe::Http { .. } | HealthProbe::Tcp { .. });
    let settings = &deployment.spec.container;
    let units = deployment.spec.units.is_some();
    if units {
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(DOOR_ON_MACHINE.to_owned()),
            target: Some(DOOR_IN_CONTAINER.to_owned()),
            read_only: Some(true),
            ..Default::default()
        });
    }
    if units
        || is_helped(settings)
        || deployment.spec.health.as_ref().is_some_and(|check| probed(&check.probe))
    {
        mounts.push(Mount {
            typ: Some(MountType::BIND),
            source: Some(PROBE_ON_MACHINE.to_owned()),
            target: Some(PROBE_IN_CONTAINER.to_owned()),
            read_only: Some(true),
            ..Default::default()
        });
    }
    mounts.extend(settings.volumes.iter().map(volume));
    for (target, tmpfs) in &settings.tmpfs {
        mounts.push(Mount {
            typ: Some(MountType::TMPFS),
            target: Some(target.clone()),
            tmpfs_options: Some(MountTmpfsOptions {
                size_bytes: tmpfs.size_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
                mode: tmpfs.mode.map(i64::from),
                ..Default::default()
            }),
            ..Default::default()
        });
    }
    mounts
}

fn volume(mounted: &VolumeMount) -> Mount {
    let mut mount = Mount {
        typ: Some(MountType::VOLUME),
        target: Some(mounted.target.clone()),
        read_only: mounted.read_only.then_some(true),
        ..Default::default()
    };
    match &mounted.source {
        VolumeSource::Named(name) => mount.source = Some(name.to_string()),
        VolumeSource::Host(path) => {
            mount.typ = Some(MountType::BIND);
            mount.source = Some(path.clone());
        }
        VolumeSource::Nfs { server, path, options } => {
            let options = format!("addr={server},{options}");
            // An existing volume with other options would be used without a word.
            mount.source = Some(mounted::nfs_name(path, &options));
            let options = [("type", "nfs".to_owned()), ("o", options), ("device", format!(":{path}"))];
            mount.volume_options = Some(MountVolumeOptions {
                driver_config: Some(MountVolumeOptionsDriverConfig {
                    name: Some("local".to_owned()),
                    options: Some(options.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
                }),
                ..Default::default()
            });
        }
    }
    mount
}

fn health(deployment: &Deployment) -> HealthConfig {
    let Some(check) = &deployment.spec.health else {
        // The image may bring a check of its own; the spec says that running is healthy.
        return HealthConfig { test: Some(vec!["NONE".to_owned()]), ..Default::default() };
    };
    health_config(check, PROBE_IN_CONTAINER)
}

/// The engine's form of a check, in a container whose helper is at `helper`.
pub fn health_config(check: &HealthCheck, helper: &str) -> HealthConfig {
    let mut test = vec!["CMD".to_owned()];
    let helper = helper.to_owned();
    match &check.probe {
        HealthProbe::Http { port, path } => {
            test.extend([helper, "http".to_owned(), format!("127.0.0.1:{port}"), path.clone()]);
        }
        HealthProbe::Tcp { port } => test.extend([helper, "tcp".to_owned(), format!("127.0.0.1:{port}")]),
        HealthProbe::Command { command } => test.extend(command.iter().cloned()),
    }
    HealthConfig {
        test: Some(test),
        interval: Some(nanos(check.interval)),
        timeout: Some(nanos(check.timeout)),
        retries: Some(i64::from(check.retries)),
        start_period: Some(nanos(check.start_period)),
        ..Default::default()
    }
}

fn resources(deployment: &Deployment) -> TaskSpecResources {
    let limits = deployment.spec.limits;
    let memory = limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    let cpus = limits.cpu_millis.and_then(|millis| i64::try_from(millis * 1_000_000).ok());
    TaskSpecResources {
        limits: Some(Limit { nano_cpus: cpus, memory_bytes: memory, ..Default::default() }),
        // Memory is promised, so that a machine is never filled beyond what it has; CPU is shared.
        reservations: reservations(deployment).or_else(|| {
            memory.map(|bytes| ResourceObject { memory_bytes: Some(bytes), ..Default::default() })
        }),
        ..Default::default()
    }
}

/// What the service's file says that is kept free, with the memory limit where it says nothing of memory.
fn reservations(deployment: &Deployment) -> Option<ResourceObject> {
    let kept = deployment.spec.container.reservations?;
    let memory = kept.memory_bytes.or(deployment.spec.limits.memory_bytes);
    Some(ResourceObject {
        memory_bytes: memory.and_then(|bytes| i64::try_from(bytes).ok()),
        nano_cpus: kept.cpu_millis.and_then(|millis| i64::try_from(millis * 1_000_000).ok()),
        ..Default::default()
    })
}

/// What a deployment's placement asks for, and what its machines must be able to do. Nothing is ever
/// placed on a node that joined with a stolen join token, which is never registered.
fn placement(deployment: &Deployment) -> Vec<String> {
    let mut found = placement_without_volumes(deployment);
    if deployment.spec.scale != Scale::EveryMachine {
        found.extend(deployment.spec.container.named_volumes().map(mounted::constraint));
    }
    found
}

/// The same without the machine that a volume binds it to.
pub fn placement_without_volumes(deployment: &Deployment) -> Vec<String> {
    let mut found = vec![format!("node.labels.{REGISTERED} == {YES}")];
    found.extend(constraints(&deployment.spec.placement));
    found.extend(Needs::of(deployment).machines.iter().map(needs));
    found
}

/// The constraint that keeps instances off machines whose agent lacks `feature`.
pub fn needs(feature: Feature) -> String {
    format!("node.labels.{NODE}{FEATURE}{feature} == {YES}")
}

/// The features in a node's labels.
pub fn features(labels: Option<&HashMap<String, String>>) -> Features {
    let words = labels.into_iter().flatten().filter(|(_, value)| value.as_str() == YES);
    words
        .filter_map(|(key, _)| key.strip_prefix(NODE)?.strip_prefix(FEATURE)?.parse::<Feature>().ok())
        .collect()
}

/// Placement as Swarm's constraints.
pub fn constraints(placement: &BTreeMap<String, String>) -> Vec<String> {
    placement.iter().map(|(key, value)| format!("node.labels.{NODE}{key} == {value}")).collect()
}

/// Whether a machine with `labels` satisfies constraints that [`constraints`] wrote.
pub fn fits(constraints: &[String], labels: &HashMap<String, String>) -> bool {
    constraints.iter().all(|constraint| {
        constraint
            .strip_prefix("node.labels.")
            .and_then(|rest| rest.split_once(" == "))
            .is_some_and(|(key, value)| labels.get(key).is_some_and(|found| found == value))
    })
}

/// The version that a container runs: the digest in its image's reference, or that of the units it stands for.
pub fn version_of(container: &TaskSpecContainerSpec) -> Option<Digest> {
    let units = container.labels.as_ref().and_then(|labels| labels.get(UNITS));
    match units {
        Some(units) => units.parse().ok(),
        None => container.image.as_deref().and_then(digest_of),
    }
}

/// The digest in an image reference.
fn digest_of(image: &str) -> Option<Digest> {
    image.rsplit_once('@').and_then(|(_, digest)| digest.parse().ok())
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::adapter::swarm::scaled;
    use crate::model::service::{HealthCheck, Limits, Origin, Port, ServiceSpec as Wanted, UpdatePolicy};
    use crate::model::unit::{OnDisconnect, UnitSet};

    /// The deployment that this module's tests and its neighbours' use.
    pub fn deployment(name: &str, hex: char) -> Deployment {
        Deployment {
            spec: Wanted {
                name: name.parse().expect("a name"),
                image: "demo/web".into(),
                command: vec![],
                scale: Scale::Replicas(2),
                environment: BTreeMap::from([("GREETING".into(), "hello".into())]),
                ports: vec![Port { container: 8080, host: None, protocol: Protocol::Tcp }],
                health: Some(HealthCheck {
                    probe: HealthProbe::Http { port: 8080, path: "/health".into() },
                    interval: Duration::from_secs(1),
                    timeout: Duration::from_secs(2),
                    retries: 3,
                    start_period: Duration::from_secs(5),
                }),
                limits: Limits { memory_bytes: Some(64 << 20), cpu_millis: Some(250) },
                placement: BTreeMap::from([("role".into(), "worker".into())]),
                update: UpdatePolicy { parallel: 1, monitor: Duration::from_secs(3), deadline: None },
                drain: Duration::from_secs(3),
                container: ContainerSettings::default(),
                pre_deploy: None,
                units: None,
            },
            registry: "registry.internal:5000".into(),
            digest: format!("sha256:{}", hex.to_string().repeat(64)).parse().expect("a digest"),
            origin: Origin { repository: "web".into(), commit: "c".repeat(40), subject: "first".into() },
            restarted: None,
            secrets: BTreeMap::new(),
            network: true,
        }
    }

    #[test]
    fn a_deployment_becomes_a_start_first_health_gated_service() {
        let spec = service_spec(&deployment("web", 'a'), 3, OnFailure::RollBack);
        let mut json = serde_json::to_value(spec).expect("JSON");
        json.sort_all_objects();
        insta::assert_snapshot!(format!("{json:#}"));
    }

    #[test]
    fn a_fixed_port_is_freed_before_it_is_taken_again() {
        let mut fixed = deployment("web", 'a');
        fixed.spec.ports[0].host = Some(80);
        let spec = service_spec(&fixed, 1, OnFailure::RollBack);
        let order = spec.update_config.and_then(|update| update.order);
        assert_eq!(order, Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST));
    }

    #[test]
    fn a_number_that_keeps_units_apart_is_freed_before_it_is_taken_again() {
        let order = |apart: &[u16]| {
            let mut units = deployment("web", 'a');
            units.spec.units = Some(UnitSet {
                start: vec!["web.service".into()],
                files: BTreeMap::from([("web.service".into(), String::new())]),
                exclusive: false,
                on_disconnect: OnDisconnect::Keep,
                apart: apart.to_vec(),
            });
            service_spec(&units, 1, OnFailure::RollBack).update_config.and_then(|update| update.order)
        };
        assert_eq!(order(&[]), Some(ServiceSpecUpdateConfigOrderEnum::START_FIRST));
        assert_eq!(order(&[52_328]), Some(ServiceSpecUpdateConfigOrderEnum::STOP_FIRST));
    }

    #[test]
    fn a_way_back_is_not_rolled_back() {
        let spec = service_spec(&deployment("web", 'a'), 4, OnFailure::Stop);
        let action = spec.update_config.and_then(|update| update.failure_action);
        assert_eq!(action, Some(ServiceSpecUpdateConfigFailureActionEnum::PAUSE));
    }

    #[test]
    fn a_revision_that_changes_nothing_about_instances_has_the_same_template() {
        let of = |change: &dyn Fn(&mut Deployment)| {
            let mut changed = deployment("web", 'a');
            change(&mut changed);
            let spec = service_spec(&changed, 4, OnFailure::RollBack);
            (spec.task_template, template_id(&changed))
        };
        let plain = of(&|_| ());
        // As the version before wrote it: its instances are not replaced.
        assert_eq!(of(&|one| one.network = false).1, "f5b5892da1914125");
        assert_eq!(plain.0, service_spec(&deployment("web", 'a'), 9, OnFailure::Stop).task_template);
        let rest: [&dyn Fn(&mut Deployment); 3] = [
            &|one| one.spec.scale = Scale::Replicas(7),
            &|one| one.spec.update.monitor = Duration::from_secs(60),
            &|one| one.origin.commit = "d".repeat(40),
        ];
        assert!(rest.iter().all(|change| of(change) == plain));
        let instances: [&dyn Fn(&mut Deployment); 3] = [
            &|one| one.spec.limits.memory_bytes = Some(1 << 30),
            &|one| one.spec.command = vec!["serve".to_owned()],
            &|one| *one = deployment("web", 'b'),
        ];
        assert!(instances.iter().all(|change| of(change).1 != plain.1));
    }

    #[test]
    fn a_container_with_a_role_has_its_token_and_waits_for_its_credentials() {
        let mut with_role = deployment("web", 'a');
        with_role.spec.container.aws_role = Some("uploads".to_owned());
        // What a deployment says is overruled where it is about the role.
        with_role.spec.container.labels.insert(ROLE.to_owned(), "another".to_owned());
        assert!(needs_entry(&with_role));
        let spec = service_spec(&with_role, 1, OnFailure::RollBack).task_template.expect("a template");
        let container = spec.container_spec.expect("a container");
        assert_eq!(container.labels.expect("labels")[ROLE], "uploads");
        assert_eq!(container.command.expect("a command"), [PROBE_IN_CONTAINER, "exec", "@7446", "--"]);
        let variables = container.env.expect("variables");
        assert!(
            variables.contains(
                &"AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:7446/v1/credentials".to_owned()
            )
        );
        let secrets = container.secrets.expect("secrets");
        assert_eq!(secrets[0].secret_name, Some(mounted::token_name(&with_role)));
        let constraints = spec.placement.and_then(|placement| placement.constraints).expect("constraints");
        assert!(constraints.contains(&needs(Feature::AwsRoles)), "{constraints:?}");
        let mut other = with_role.clone();
        other.spec.container.aws_role = Some("other".to_owned());
        assert_ne!(template_id(&with_role), template_id(&other), "another role is another template");
    }

    #[test]
    fn moving_and_scaling_keep_everything_else() {
        let spec = service_spec(&deployment("web", 'a'), 3, OnFailure::RollBack);
        let mut spec = serde_json::to_value(spec).expect("JSON");
        spec["TaskTemplate"]["ContainerSpec"]["OfALaterEngine"] = true.into();
        let before = spec.clone();
        force_again(&mut spec);
        force_again(&mut spec);
        assert_eq!(spec["TaskTemplate"]["ForceUpdate"], 2);
        assert_eq!(spec["UpdateConfig"]["FailureAction"], "pause");
        scaled::edit(&mut spec, Scale::Replicas(5), None);
        assert_eq!(spec["Mode"]["Replicated"]["Replicas"], 5);
        spec["TaskTemplate"]["ForceUpdate"] = before["TaskTemplate"]["ForceUpdate"].clone();
        spec["UpdateConfig"]["FailureAction"] = before["UpdateConfig"]["FailureAction"].clone();
        scaled::edit(&mut spec, Scale::Replicas(2), None);
        let plain = |mut value: Value| {
            value["TaskTemplate"].as_object_mut().expect("an object").remove("ForceUpdate");
            value.sort_all_objects();
            value
        };
        assert_eq!(plain(spec), plain(before));
    }

    #[test]
    fn a_machine_that_is_too_old_gets_no_instance() {
        let wanted = [needs(Feature::StrictRequests)];
        let labels = |words: &[&str]| -> HashMap<String, String> {
            words.iter().map(|word| (format!("{NODE}{FEATURE}{word}"), "yes".to_owned())).collect()
        };
        let new = labels(&["strict-requests", "of-a-later-version"]);
        assert!(fits(&wanted, &new) && !fits(&wanted, &labels(&["carried-records"])));
        assert!(!fits(&wanted, &HashMap::new()), "one that publishes nothing");
        assert_eq!(features(Some(&new)), [Feature::StrictRequests].into_iter().collect());
    }

    #[test]
    fn a_node_that_no_control_machine_registered_gets_no_instance() {
        let mut anywhere = deployment("web", 'a');
        anywhere.spec.placement.clear();
        anywhere.network = false;
        let constraints = placement(&anywhere);
        assert!(!fits(&constraints, &HashMap::new()));
        assert!(fits(&constraints, &HashMap::from([(REGISTERED.to_owned(), YES.to_owned())])));
    }

    #[test]
    fn placement_asks_for_labels() {
        let wanted = constraints(&BTreeMap::from([("role".to_owned(), "worker".to_owned())]));
        let worker = HashMap::from([("fleetwright.role".to_owned(), "worker".to_owned())]);
        assert!(fits(&wanted, &worker));
        assert!(!fits(&wanted, &HashMap::new()));
        assert!(fits(&[], &HashMap::new()));
    }
}
