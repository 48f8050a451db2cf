//! Machines and their networks in Docker: what is there, and how one is made and removed.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;

use base64::Engine as _;
use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerSummaryStateEnum, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigCgroupnsModeEnum, Ipam, IpamConfig, NetworkCreateRequest, NetworkingConfig,
    VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, EventsOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder,
    RemoveContainerOptionsBuilder, RemoveVolumeOptions,
};
use futures_util::{Stream, StreamExt};
use ipnet::Ipv4Net;

use crate::model::name::LocalName;

use super::error::LocalError;
use super::home::{CloudFiles, make_dir, remove_dir, remove_file, write_file};
use super::instance::Instance;
use super::power::Note;
use super::reconcile::{ContainerState, Machine, Network, Observed, PowerCut};
use super::state::Ports;
use super::{HOST_NAME, REGION};

pub(super) const LABEL_CLOUD: &str = "fleetwright.local";
/// The cloud's folder: a cloud of the same name under another FLEETWRIGHT_HOME is another cloud.
pub(super) const LABEL_FOLDER: &str = "fleetwright.local.folder";
const LABEL_INSTANCE: &str = "fleetwright.local.instance";
const LABEL_VPC: &str = "fleetwright.local.vpc";

/// What systemd, cloud-init and Docker need in a machine. `--privileged` would be shorter,
/// and fails where the host itself lacks one of the capabilities.
pub(super) const CAPABILITIES: [&str; 13] = [
    "SYS_ADMIN",
    "NET_ADMIN",
    "SYS_PTRACE",
    "SYS_NICE",
    "NET_RAW",
    "MKNOD",
    "SYS_CHROOT",
    "DAC_READ_SEARCH",
    "SYSLOG",
    "LINUX_IMMUTABLE",
    "IPC_LOCK",
    "AUDIT_CONTROL",
    // Within a container it ends the container only, and the kernel says in its exit status
    // whether that was for a reboot. Without it systemd exits with 0 either way.
    "SYS_BOOT",
];

/// The exit status of a container whose init called for a reboot: the kernel ends it with SIGHUP
/// (`reboot(2)`, "Behavior inside PID namespaces"). Halting and powering off end it with SIGINT,
/// 130; killing it from outside, with 137.
const REBOOT_STATUS: i64 = 128 + 1;

/// Connects to Docker and asks it something, so that a missing engine is known at once.
///
/// # Errors
/// When none answers.
pub async fn connect() -> Result<Docker, LocalError> {
    let no_docker = |error: bollard::errors::Error| LocalError::NoDocker { reason: error.to_string() };
    let docker = Docker::connect_with_local_defaults().map_err(no_docker)?;
    docker.ping().await.map_err(no_docker)?;
    Ok(docker)
}

/// A run of a machine's container: the present one, or the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// When Docker started it, which no other run of the container shares.
    pub boot: String,
    /// Whether it has not ended.
    pub running: bool,
    /// The status it ended with.
    pub exit_status: Option<i64>,
}

/// The machines of one local cloud.
#[derive(Debug, Clone)]
pub struct Machines {
    pub(super) docker: Docker,
    name: LocalName,
    pub(super) files: CloudFiles,
}

impl Machines {
    /// Those of the cloud `name`.
    pub fn new(docker: Docker, name: LocalName, files: CloudFiles) -> Self {
        Self { docker, name, files }
    }

    /// The name of a machine's container and volume.
    pub fn container_name(&self, instance: &str) -> String {
        format!("fleetwright-{}-{instance}", self.name)
    }

    fn network_name(&self, vpc: &str) -> String {
        format!("fleetwright-{}-{vpc}", self.name)
    }

    fn labels(&self, more: &[(&str, &str)]) -> HashMap<String, String> {
        let folder = self.files.dir().to_string_lossy();
        let own = [(LABEL_CLOUD, self.name.as_str()), (LABEL_FOLDER, &*folder)];
        own.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn filter(&self) -> HashMap<String, Vec<String>> {
        HashMap::from([("label".to_owned(), vec![format!("{LABEL_CLOUD}={}", self.name)])])
    }

    /// Whether an object with this cloud's name belongs to this cloud. Versions before this label
    /// existed did not record the folder.
    fn is_own(&self, labels: &HashMap<String, String>) -> bool {
        labels.get(LABEL_FOLDER).is_none_or(|folder| Path::new(folder) == self.files.dir())
    }

    /// What is there now. Networks of this cloud are listed with their VPC.
    ///
    /// # Errors
    /// When Docker does not answer; nothing may be concluded then.
    pub async fn observe(&self) -> Result<Observed, LocalError> {
        let mut machines: BTreeMap<String, Option<ContainerState>> = BTreeMap::new();
        // What lies on disk and in volumes first: a container found afterwards counts more.
        for entry in std::fs::read_dir(self.files.machines()).into_iter().flatten().flatten() {
            machines.insert(entry.file_name().to_string_lossy().into_owned(), None);
        }
        let options = ListVolumesOptionsBuilder::default().filters(&self.filter()).build();
        let volumes =
            self.docker.list_volumes(Some(options)).await.map_err(LocalError::docker("listing volumes"))?;
        for volume in volumes.volumes.unwrap_or_default() {
            if self.is_own(&volume.labels)
                && let Some(instance) = volume.labels.get(LABEL_INSTANCE)
            {
                machines.insert(instance.clone(), None);
            }
        }
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filter()).build();
        let containers = self.docker.list_containers(Some(options)).await;
        for container in containers.map_err(LocalError::docker("listing machines"))? {
            let labels = container.labels.unwrap_or_default();
            let Some(instance) = labels.get(LABEL_INSTANCE).filter(|_| self.is_own(&labels)) else {
                continue;
            };
            use ContainerSummaryStateEnum as S;
            let state = match container.state.unwrap_or(S::EMPTY) {
                S::CREATED => ContainerState::Created,
                S::RUNNING | S::PAUSED | S::RESTARTING | S::STOPPING | S::EMPTY => ContainerState::Running,
                S::EXITED => match self.exit_status(instance).await? {
                    Some(REBOOT_STATUS) => ContainerState::Rebooting,
                    Some(_) => ContainerState::Stopped,
                    // Removed, or started, since it was listed: the next look tells which.
                    None => ContainerState::Removing,
                },
                S::DEAD => ContainerState::Stopped,
                S::REMOVING => ContainerState::Removing,
            };
            machines.insert(instance.clone(), Some(state));
        }
        let mut observed = Vec::new();
        for (instance, container) in machines {
            let started = self.files.machine(&instance).join("started").exists();
            let power = self.power(&instance).await?;
            observed.push(Machine { instance, container, started, power });
        }
        let machines = observed;

        let options = ListNetworksOptionsBuilder::default().filters(&self.filter()).build();
        let listed = self.docker.list_networks(Some(options)).await;
        let mut networks = Vec::new();
        for network in listed.map_err(LocalError::docker("listing networks"))? {
            let cidr = subnet(&network);
            let mut labels = network.labels.unwrap_or_default();
            let vpc = labels.remove(LABEL_VPC).filter(|_| self.is_own(&labels));
            if let (Some(vpc), Some(cidr)) = (vpc, cidr) {
                networks.push(Network { vpc, cidr });
            }
        }
        Ok(Observed { machines, networks })
    }

    /// Makes the network of a VPC. What clouds that nobody runs left in its range is removed.
    ///
    /// # Errors
    /// [`LocalError::Taken`] when another local cloud uses the range, [`LocalError::Network`] when something else on
    /// this host does.
    pub async fn create_network(&self, network: &Network) -> Result<(), LocalError> {
        let cidr = network.cidr;
        let overlaps = |reason: String| LocalError::Network { cidr: cidr.to_string(), reason };
        self.make_room(cidr).await?;
        // Docker looks at its own networks only; a VPN's or a house network's route would be shadowed.
        let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        if let Some((interface, route)) = overlapping_route(&routes, cidr) {
            return Err(overlaps(format!("the route to {route} on {interface} overlaps with it")));
        }
        let request = NetworkCreateRequest {
            name: self.network_name(&network.vpc),
            driver: Some("bridge".into()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(cidr.to_string()),
                    gateway: Some(gateway(cidr).to_string()),
                    ..Default::default()
                }]),
                ..Default::default()
            }),
            labels: Some(self.labels(&[(LABEL_VPC, &network.vpc)])),
            ..Default::default()
        };
        match self.docker.create_network(request).await {
            Ok(_) => Ok(()),
            Err(bollard::errors::Error::DockerResponseServerError { message, .. })
                if message.contains("overlap") =>
            {
                Err(overlaps(message))
            }
            Err(error) => Err(LocalError::docker(format!("making the network of {}", network.vpc))(error)),
        }
    }

    /// Removes the network of a VPC.
    ///
    /// # Errors
    /// When Docker refuses; one that is not there is no error.
    pub async fn remove_network(&self, vpc: &str) -> Result<(), LocalError> {
        let doing = format!("removing the network of {vpc}");
        absent_is_fine(self.docker.remove_network(&self.network_name(vpc)).await, doing)
    }

    /// Makes and starts the machine of an instance.
    ///
    /// # Errors
    /// When its files can't be written or Docker refuses.
    pub async fn start(&self, instance: &Instance, image: &str, ports: Ports) -> Result<(), LocalError> {
        let Some(place) = instance.place() else { return Ok(()) };
        let name = self.container_name(&instance.id);
        let doing = format!("starting the machine of {}", instance.id);
        // What an earlier attempt left.
        self.remove_container(&instance.id).await?;
        let gateway = gateway(place.cidr);
        let files = self.files.machine(&instance.id);
        self.forget_power_cut(&instance.id)?;
        write_machine_files(&files, instance, gateway, ports)?;
        let labels = self.labels(&[(LABEL_INSTANCE, &instance.id)]);
        // Named and labelled, so that it can be found when the container is gone.
        let volume = VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(labels.clone()),
            ..Default::default()
        };
        self.docker.create_volume(volume).await.map_err(LocalError::docker(doing.clone()))?;
        let endpoint = EndpointSettings {
            ipam_config: Some(EndpointIpamConfig {
                ipv4_address: Some(place.address.to_string()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let network = self.network_name(place.vpc);
        let (cgroup_mode, cgroup_mount, command) = cgroup_settings();
        let mut binds = vec![
            format!("{name}:/var/lib/docker"),
            format!("{}:/var/lib/cloud/seed/nocloud:ro", files.join("seed").display()),
            format!("{}:/etc/local-cloud/metadata:ro", files.join("metadata").display()),
            format!(
                "{}:/etc/systemd/system.conf.d/50-local-cloud.conf:ro",
                files.join("environment.conf").display()
            ),
        ];
        binds.extend(cgroup_mount.map(str::to_owned));
        let tmpfs =
            ["/run", "/run/lock", "/tmp"].map(|path| (path.to_owned(), "exec,nosuid,nodev".to_owned()));
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            hostname: Some(instance.id.clone()),
            cmd: Some(command),
            labels: Some(labels),
            host_config: Some(HostConfig {
                binds: Some(binds),
                cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
                security_opt: Some(vec!["seccomp=unconfined".into(), "apparmor=unconfined".into()]),
                cgroupns_mode: Some(cgroup_mode),
                tmpfs: Some(tmpfs.into()),
                extra_hosts: Some(vec![format!("{HOST_NAME}:{gateway}")]),
                network_mode: Some(network.clone()),
                ..Default::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network, endpoint)])),
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        let created = self.docker.create_container(Some(options), body).await;
        created.map_err(LocalError::docker(doing.clone()))?;
        // Noted before it is tried: were this process killed in between, the container would
        // be found `created`, and only such a one is ever started a second time.
        write_file(&files.join("started"), "")?;
        self.docker.start_container(&name, None).await.map_err(LocalError::docker(doing))
    }

    /// How an exited container ended; `None` when it is not there, or runs again.
    async fn exit_status(&self, instance: &str) -> Result<Option<i64>, LocalError> {
        let run = self.run(instance).await?;
        Ok(run.filter(|run| !run.running).and_then(|run| run.exit_status))
    }

    /// The run of a machine's container; `None` when there is no container.
    ///
    /// # Errors
    /// When Docker does not answer.
    pub async fn run(&self, instance: &str) -> Result<Option<Run>, LocalError> {
        match self.docker.inspect_container(&self.container_name(instance), None).await {
            Ok(seen) => Ok(seen.state.map(|state| Run {
                boot: state.started_at.unwrap_or_default(),
                running: state.running.unwrap_or(false),
                exit_status: state.exit_code,
            })),
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
            Err(error) => Err(LocalError::docker(format!("inspecting the machine of {instance}"))(error)),
        }
    }

    /// What the note of a power cut says, if there is one.
    async fn power(&self, instance: &str) -> Result<PowerCut, LocalError> {
        if !self.files.power_cut(instance).exists() {
            return Ok(PowerCut::None);
        }
        // One that can't be carried out counts as carried out, and is removed.
        let Some(note) = Note::read(&self.files, instance) else { return Ok(PowerCut::Done) };
        let run = self.run(instance).await?;
        Ok(run.map_or(PowerCut::Done, |run| note.on(&run.boot, chrono::Utc::now())))
    }

    /// Kills the container of a machine. Nothing in it is notified.
    ///
    /// # Errors
    /// When Docker refuses; one that has ended already is no error.
    pub async fn cut_power(&self, instance: &str) -> Result<(), LocalError> {
        let options = KillContainerOptionsBuilder::default().signal("SIGKILL").build();
        let killed = self.docker.kill_container(&self.container_name(instance), Some(options)).await;
        match killed {
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
            other => other.map_err(LocalError::docker(format!("cutting the power of {instance}"))),
        }
    }

    /// Starts the container of a machine whose power was cut. Its disks are as they were; `/run` is new.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn switch_on(&self, instance: &str) -> Result<(), LocalError> {
        self.restart(instance).await?;
        // Last: a note that stays behind names a boot that has ended.
        self.forget_power_cut(instance)
    }

    /// Removes the note of a power cut.
    ///
    /// # Errors
    /// When it can't be removed.
    pub fn forget_power_cut(&self, instance: &str) -> Result<(), LocalError> {
        remove_file(&self.files.power_cut(instance))
    }

    /// Starts the container of a machine that reboots. Its disks are as they were; `/run` is new.
    ///
    /// # Errors
    /// When Docker refuses; one that is not there any more is no error.
    pub async fn restart(&self, instance: &str) -> Result<(), LocalError> {
        let started = self.docker.start_container(&self.container_name(instance), None).await;
        absent_is_fine(started, format!("starting the machine of {instance} again"))
    }

    async fn remove_container(&self, instance: &str) -> Result<(), LocalError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        let removed = self.docker.remove_container(&self.container_name(instance), Some(options)).await;
        absent_is_fine(removed, format!("removing the machine of {instance}"))
    }

    /// Removes container, volume and files of a machine, whichever are there.
    ///
    /// # Errors
    /// When Docker refuses.
    pub async fn remove(&self, instance: &str) -> Result<(), LocalError> {
        self.remove_container(instance).await?;
        let volume = self.container_name(instance);
        let removed = self.docker.remove_volume(&volume, None::<RemoveVolumeOptions>).await;
        absent_is_fine(removed, format!("removing the volume of {instance}"))?;
        remove_dir(&self.files.machine(instance))
    }

    /// Removes every machine and network of this cloud; returns how many machines there were.
    ///
    /// # Errors
    /// When Docker does not answer or refuses.
    pub async fn remove_all(&self) -> Result<usize, LocalError> {
        let observed = self.observe().await?;
        let removals = observed.machines.iter().map(|machine| self.remove(&machine.instance));
        for removed in futures_util::future::join_all(removals).await {
            removed?;
        }
        for network in &observed.networks {
            self.remove_network(&network.vpc).await?;
        }
        Ok(observed.machines.iter().filter(|m| m.container.is_some()).count())
    }

    /// Yields whenever a machine dies or is removed, by whomever; ends when Docker goes away.
    pub fn deaths(&self) -> impl Stream<Item = ()> + use<> {
        let mut filter = self.filter();
        filter.insert("type".into(), vec!["container".into()]);
        filter.insert("event".into(), vec!["die".into(), "destroy".into()]);
        let events = self.docker.events(Some(EventsOptionsBuilder::default().filters(&filter).build()));
        events.take_while(|event| std::future::ready(event.is_ok())).map(drop)
    }

    /// What cloud-init of a machine has come to: `done`, `running` or the first error.
    pub async fn cloud_init(&self, instance: &str) -> Option<String> {
        // result.json is written at the end, with the errors.
        let text = self.read_in(instance, "/run/cloud-init/result.json").await?;
        let Ok(result) = serde_json::from_str::<serde_json::Value>(&text) else {
            return Some("running".into());
        };
        let errors = result["v1"]["errors"].as_array().cloned().unwrap_or_default();
        Some(match errors.first() {
            None => "done".into(),
            Some(error) => format!("error: {}", error.as_str().unwrap_or_default()),
        })
    }

    /// Reads a file inside a machine; empty when it is not there.
    async fn read_in(&self, instance: &str, path: &str) -> Option<String> {
        use bollard::exec::{CreateExecOptions, StartExecResults};
        let options = CreateExecOptions {
            cmd: Some(vec!["cat", path]),
            attach_stdout: Some(true),
            ..Default::default()
        };
        let exec = self.docker.create_exec(&self.container_name(instance), options).await.ok()?;
        let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&exec.id, None).await.ok()?
        else {
            return None;
        };
        let mut text = String::new();
        while let Some(Ok(chunk)) = output.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.into_bytes()));
        }
        Some(text)
    }
}

/// The range of a network.
pub(super) fn subnet(network: &bollard::models::Network) -> Option<Ipv4Net> {
    let configs = network.ipam.as_ref()?.config.as_ref()?;
    configs.iter().find_map(|config| config.subnet.as_ref()?.parse().ok())
}

pub(super) fn absent_is_fine(
    result: Result<(), bollard::errors::Error>,
    doing: String,
) -> Result<(), LocalError> {
    match result {
        // 409: somebody else removes it at this moment.
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 409, message })
            if message.contains("already in progress") =>
        {
            Ok(())
        }
        other => other.map_err(LocalError::docker(doing)),
    }
}

/// The host's address in a network: the first.
pub fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(cidr.network()) + 1)
}

/// Gives each boot of a machine an id of its own, where Linux has it: the host's is the same for
/// all machines and all their boots, and the journal and the agent tell boots apart by it.
///
/// Docker 26 starts no container in a network whose IPv6 it can't switch off, and Docker mounts
/// /proc/sys read-only: only the settings of the machine's own network become writable.
const BOOT: &str = "mount --bind /proc/sys/net /proc/sys/net && \
    mount -o remount,bind,rw /proc/sys/net && cat /proc/sys/kernel/random/uuid > /run/boot-id && \
    mount --bind /run/boot-id /proc/sys/kernel/random/boot_id && exec /sbin/init";

/// How a machine gets its control groups: with version 1 it shares the host's tree (nested
/// Docker fails in a private one); with version 2 it has a private one, which Docker mounts
/// read-only. Version 2 has not been run yet.
pub(super) fn cgroup_settings() -> (HostConfigCgroupnsModeEnum, Option<&'static str>, Vec<String>) {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        let script = format!("mount -o remount,bind,rw /sys/fs/cgroup && {BOOT}");
        (HostConfigCgroupnsModeEnum::PRIVATE, None, vec!["sh".into(), "-c".into(), script])
    } else {
        let mount = Some("/sys/fs/cgroup:/sys/fs/cgroup:rw");
        (HostConfigCgroupnsModeEnum::HOST, mount, vec!["sh".into(), "-c".into(), BOOT.into()])
    }
}

/// Writes what is mounted into a machine: its cloud-init seed, the way to the metadata
/// service, and what every unit finds in its environment instead of EC2's own endpoints.
fn write_machine_files(
    dir: &Path,
    instance: &Instance,
    gateway: Ipv4Addr,
    ports: Ports,
) -> Result<(), LocalError> {
    let seed = dir.join("seed");
    make_dir(&seed)?;
    let encoded = instance.user_data.as_deref().unwrap_or_default();
    let user_data = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .unwrap_or_else(|_| encoded.as_bytes().to_vec());
    write_file(&seed.join("user-data"), user_data)?;
    let id = &instance.id;
    write_file(&seed.join("meta-data"), format!("instance-id: {id}\nlocal-hostname: {id}\n"))?;
    write_file(&dir.join("metadata"), format!("METADATA={gateway}:{}\n", ports.metadata))?;
    let region = if instance.region.is_empty() { REGION } else { &instance.region };
    let environment = format!(
        "[Manager]\nDefaultEnvironment=AWS_ENDPOINT_URL=http://{HOST_NAME}:{} \
         AWS_ENDPOINT_URL_STS=http://{HOST_NAME}:{} AWS_REGION={region}\n",
        ports.emulator, ports.agent
    );
    write_file(&dir.join("environment.conf"), environment)
}

/// The first route of this host, in the format of /proc/net/route, that shares addresses with `cidr`.
fn overlapping_route(table: &str, cidr: Ipv4Net) -> Option<(String, Ipv4Net)> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        // The kernel writes addresses in its own byte order.
        let address = Ipv4Addr::from(number(1)?.to_ne_bytes());
        let mask = Ipv4Addr::from(number(7)?.to_ne_bytes());
        let route = Ipv4Net::with_netmask(address, mask).ok()?;
        let overlaps = route.contains(&cidr.network()) || cidr.contains(&route.network());
        // The default route overlaps with everything and yields to everything.
        (overlaps && route.prefix_len() > 0).then(|| (fields[0].to_owned(), route))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t00404D0A\t00000000\t0001\t0\t0\t0\t00C0FFFF\t0\t0\t0
";

    #[test]
    fn a_range_that_the_host_uses_is_found() {
        let found =
            |cidr: &str| overlapping_route(ROUTES, cidr.parse().unwrap()).map(|(i, r)| format!("{i} {r}"));
        assert_eq!(found("10.77.0.0/16").as_deref(), Some("tun0 10.77.64.0/18"));
        assert_eq!(found("192.0.2.128/25").as_deref(), Some("eth0 192.0.2.0/24"));
        assert_eq!(found("10.78.0.0/16"), None);
    }

    #[test]
    fn the_host_has_the_first_address() {
        assert_eq!(gateway("10.77.0.0/16".parse().unwrap()).to_string(), "10.77.0.1");
    }
}
