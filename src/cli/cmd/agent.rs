//! `fleetwright agent`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum_server::Handle;
use serde::Deserialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing_subscriber::EnvFilter;

use crate::adapter::agents::AgentCalls;
use crate::adapter::authority::{self, Authority, Signed};
use crate::adapter::aws::{Aws, Sts};
use crate::adapter::cluster_api::{ClusterApi, Credential, MachineKey, Source};
use crate::adapter::host::SystemdHost;
use crate::adapter::issuer::ClusterIssuer;
use crate::adapter::metadata::InstanceMetadata;
use crate::adapter::permits;
use crate::adapter::probe;
use crate::adapter::raft_log::LogFiles;
use crate::adapter::registry_access::{CERTIFICATES, RegistryAccess};
use crate::adapter::swarm::{Engine, JobHolder, PERMITS_ON_MACHINE, PROBE_ON_MACHINE, SOCKET, Swarm};
use crate::adapter::timeline::{ON_MACHINE as EVENTS_ON_MACHINE, SqliteTimeline};
use crate::adapter::webhook::Webhooks;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::prefix;
use crate::cli::failure::Failure;
use crate::cli::read::plain;
use crate::driver::agent::desired::{All, Desired};
use crate::driver::agent::{Agent, Ended, Reboots, Reviver, group_of};
use crate::driver::cluster::{Own, Published};
use crate::driver::host_files::FeedSource;
use crate::driver::jobs::Permits;
use crate::driver::members::Members;
use crate::driver::notify::Notifier;
use crate::driver::rendezvous::Rendezvous;
use crate::driver::role::Issuer;
use crate::driver::standing::Standings;
use crate::driver::timeline::Events;
use crate::model::address::AddressPool;
use crate::model::identity::Caller;
use crate::model::machine::Role;
use crate::model::member::Identity;
use crate::model::name::{ClusterName, EnvironmentName, ProjectName};
use crate::model::role::RoleHome;
use crate::model::window::{BadWindow, Day, Hours, Window};
use crate::port::cluster_wire::PORT;
use crate::port::etcd::EtcdAccess;
use crate::port::membership::{ClusterSecrets, Metadata};
use crate::port::reboot::Host;
use crate::port::recovery::EtcdSurvivor;
use crate::port::standing::Restore;
use crate::port::timeline::Timeline;
use crate::server::cluster_api::{self, Api, Identities, TlsIdentity};

mod etcd;
mod host_files;
mod publish;
mod rights;
mod roles;
mod settled;
mod streams;
mod units;

use rights::Rights;

/// The engine of the machine.
const ENGINE: &str = "unix:///var/run/docker.sock";
/// Time between two attempts at what a machine needs before anything else.
const RETRY: Duration = Duration::from_secs(2);
/// Time between two looks whether the registry's authority has changed.
const REGISTRY: Duration = Duration::from_secs(120);
/// Time between two looks whether the registry's credentials have changed.
const CREDENTIALS: Duration = Duration::from_secs(30);

/// Makes this machine a member of its cluster (run by systemd)
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Started by the machine's cloud-config. Finds the cluster's other members through the parameter
store, joins them or founds the cluster, serves the cluster's API on control machines, and takes
the machine out again when its group terminates it. Its log is in the journal:
`journalctl -u fleetwright-agent`.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,

    /// What cloud-config wrote of this machine
    #[arg(long, value_name = "FILE", default_value = "/etc/fleetwright/agent.yaml")]
    config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Publish(publish::Args),
    Settled(settled::Args),
}

/// What cloud-config writes of a machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    project: ProjectName,
    environment: EnvironmentName,
    cluster: ClusterName,
    role: Role,
    registry_parameter: Option<String>,
    /// What else the registry is than one with a user and password.
    #[serde(default)]
    registry_kind: RegistryKind,
    /// Whether control machines keep an etcd; without effect on workers.
    #[serde(default)]
    etcd: bool,
    /// What a machine said of itself for placement. The tags of its group say that now.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    reboots: Option<RebootConfig>,
    /// Where the overlay networks of the cluster lie; only its founder needs it.
    #[serde(default)]
    addresses: AddressPool,
}

/// How machines get the right to pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RegistryKind {
    /// By what `registry_parameter` holds, if anything.
    #[default]
    Docker,
    /// By a token of ECR that the machine's role gets.
    Ecr,
}

/// When the machine may reboot by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RebootConfig {
    window: Hours,
    days: Option<Vec<Day>>,
}

impl Config {
    fn window(&self) -> Result<Option<Window>, BadWindow> {
        let Some(reboots) = &self.reboots else { return Ok(None) };
        Window::new(reboots.window, reboots.days.as_deref()).map(Some)
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Some(Action::Publish(args)) => return publish::run(context, args).await,
        Some(Action::Settled(args)) => return settled::run(context, args).await,
        None => {}
    }
    // The journal stamps and colours lines itself.
    let filter = EnvFilter::try_from_env("FLEETWRIGHT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| crate::view::out::Log)
        .with_ansi(false)
        .without_time()
        .try_init();
    let config = config(&args.config)?;
    // Refused now, and not only when a machine wants to reboot.
    let window = config.window().map_err(|error| bad_config(&args.config, &error))?;
    let mut stop = signal(SignalKind::terminate())
        .map_err(|error| Failure::failed(format!("listening for signals: {error}"), "report this"))?;
    let agent = OnceLock::new();
    tokio::select! {
        result = live(&config, window, &agent) => return result.map(|()| Done::Ok),
        // Membership is the engine's and outlives the agent: it is taken up again at the next start.
        _ = stop.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    if let Some(agent) = agent.get() {
        agent.farewell().await;
    }
    Ok(Done::Ok)
}

fn config(path: &Path) -> Result<Config, Failure> {
    let text = plain(path).map_err(|error| bad_config(path, &error))?;
    serde_yaml::from_str(&text).map_err(|error| bad_config(path, &error))
}

fn bad_config(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let next = "cloud-config writes it: see templates/cloud-config/base.yaml";
    Failure::usage(format!("reading {}: {error}", path.display()), next)
}

/// `made` gets the agent once there is one.
async fn live(config: &Config, window: Option<Window>, made: &OnceLock<Agent>) -> Result<(), Failure> {
    probe::install(Path::new(PROBE_ON_MACHINE)).map_err(|error| {
        Failure::failed(format!("writing {PROBE_ON_MACHINE}: {error}"), "see the machine's disk")
    })?;
    let metadata = InstanceMetadata::new()
        .map_err(|error| Failure::failed(error.to_string(), "see the machine's network"))?;
    if !config.metadata.is_empty() {
        tracing::warn!(
            keys = ?config.metadata.keys(),
            "`metadata` in the agent's configuration has no effect: put tags `fleetwright:metadata:KEY` on the group"
        );
    }
    let mut me = identity(&metadata, config).await;
    let aws = Aws::connect(Some(&me.region), None).await;
    let (groups, parameters) = (aws.groups(), aws.parameters());
    let tags = [
        ("fleetwright:project", config.project.as_str()),
        ("fleetwright:environment", config.environment.as_str()),
        ("fleetwright:cluster", config.cluster.as_str()),
    ];
    while me.group.is_empty() {
        match group_of(groups.as_ref(), &tags, &me.instance).await {
            Ok(Some(group)) => me.group = group,
            Ok(None) => tracing::info!("no group lists this machine yet"),
            Err(error) => tracing::warn!(%error, "looking for this machine's group"),
        }
        if me.group.is_empty() {
            sleep(RETRY).await;
        }
    }
    let prefix = prefix(config.project.as_str(), config.environment.as_str(), config.cluster.as_str());
    tracing::info!(machine = %me.instance, address = %me.address, role = me.role.word(), group = me.group, prefix, "agent");

    let registry = config.registry_parameter.clone();
    let access = RegistryAccess::new(parameters.clone(), registry.unwrap_or_default());
    let access = Arc::new(match config.registry_kind {
        RegistryKind::Docker => access,
        RegistryKind::Ecr => access.with_ecr(aws.ecr()),
    });
    let keep = tokio::spawn(keep_authority(access.clone(), config.registry_parameter.is_some()));
    let host = SystemdHost::new();
    let engine = engine(&host).await;
    let docker = engine.docker().clone();
    let swarm = Swarm::new(engine, access.clone()).with_secrets(aws.secret_values(&prefix), access);
    let key = MachineKey::new()
        .map_err(|error| Failure::failed(format!("making this machine's key: {error}"), "report this"))?;
    let credential = Credential::Machine(aws.prove(), Arc::new(key));
    let source = Source::Rendezvous { parameters: parameters.clone(), prefix: prefix.clone(), credential };
    let control = Arc::new(ClusterApi::new(source));
    let waiting = permits::Waiting::default();
    let _permits = Background::spawn(keep_permits(docker.clone(), control.clone(), waiting.clone()));
    let _roles = (roles::guard(), roles::serve(docker.clone(), control.clone()));
    let _host_files = host_files::keep(control.clone(), config, me.instance.clone());
    let _units = units::serve(docker, control.clone(), me.instance.clone());
    let events = (me.role == Role::Control).then(|| Events::new(timeline(), me.instance.clone()));
    let notifier = match (me.role, Webhooks::new()) {
        (Role::Control, Ok(sender)) => Some(Notifier::new(
            Arc::new(swarm.clone()),
            Arc::new(swarm.clone()),
            parameters.clone(),
            aws.secret_values(&prefix),
            Arc::new(sender),
            prefix.clone(),
        )),
        (Role::Control, Err(error)) => {
            tracing::error!(error, "this machine can't send notifications");
            None
        }
        (Role::Worker, _) => None,
    };
    let listening = streams::listen(control.clone(), swarm.clone(), events.clone(), waiting);
    let cluster = config.cluster.to_string();
    let boot = host.boot().map_err(|error| {
        Failure::failed(format!("asking the kernel which boot this is: {error}"), "report this")
    })?;
    if let Some(window) = &window {
        tracing::info!(%window, "reboots when something asks for it");
    }
    let desired = (me.role == Role::Control).then(|| {
        let records = aws.records(&config.project, config.environment.as_str(), config.cluster.as_str());
        Arc::new(Desired::new(Arc::new(swarm.clone()), records))
    });
    let desired_jobs = (me.role == Role::Control).then(|| {
        let (environment, cluster) = (config.environment.as_str(), config.cluster.as_str());
        let records = aws.job_records(&config.project, environment, cluster);
        Arc::new(Desired::new(Arc::new(JobHolder(swarm.clone())), records))
    });
    let kept: Vec<Arc<Desired>> = desired.iter().chain(&desired_jobs).cloned().collect();
    let agent = made.get_or_init(|| Agent {
        me,
        tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        prefix,
        addresses: config.addresses,
        engine: Arc::new(swarm.clone()),
        host: Arc::new(host.clone()),
        control: control.clone(),
        standing: control.clone(),
        restore: desired.is_some().then(|| Arc::new(All(kept)) as Arc<dyn Restore>),
        desired: desired.clone(),
        desired_jobs,
        jobs: Arc::new(tokio::sync::Mutex::new(Arc::new(swarm.clone()))),
        groups,
        parameters,
        metadata: Arc::new(metadata),
        reboots: Reboots { window, boot, host: Arc::new(host), leave: control.clone() },
        audit: OnceLock::new(),
        events,
        notifier,
        observed: Arc::new(swarm.clone()),
        observed_jobs: Arc::new(swarm.clone()),
        leadership: tokio::sync::Mutex::default(),
        secrets: Box::new({
            let cluster = cluster.clone();
            move || authority::secrets(&cluster).map_err(|error| error.to_string())
        }),
    });
    // Opened once, before or after this machine is a member: the audit log has one writer.
    let rights = OnceCell::new();
    let open = || Rights::open(&aws, config, &agent.prefix, &agent.me.instance);
    let notice = loop {
        // A manager that waits for a majority must answer `cluster status` and `recover`.
        let entered = tokio::select! {
            entered = agent.enter() => entered,
            never = serve_early(agent, &aws, &swarm, &cluster, async || rights.get_or_init(open).await) => match never {},
        };
        let node = match entered {
            Ok(node) => node,
            Err(notice) => break notice,
        };
        tracing::info!(node, "a member of the cluster");
        let (etcd, api) = match agent.me.role {
            Role::Control => {
                let authority = authority(agent, &cluster).await;
                let etcd = if config.etcd { Some(etcd::keeper(agent, &authority.0).await) } else { None };
                let rights = rights.get_or_init(open).await;
                let _ = agent.audit.set(rights.audit.clone());
                let api = serve(agent, &aws, &swarm, authority, etcd.as_ref(), rights).await;
                (etcd, Some((api, Background::spawn(keep_credentials(swarm.clone())))))
            }
            Role::Worker => (None, None),
        };
        let access = etcd.as_ref().map_or(control.clone() as Arc<dyn EtcdAccess>, |kept| kept.access.clone());
        let client = etcd::client(agent, access);
        let keeper = etcd.as_ref().map(|kept| kept.keeper.as_ref());
        let ended = tokio::select! {
            ended = agent.stay() => ended,
            () = etcd::keep(keeper) => Ended::Outside,
        };
        if let (Ended::Notice(notice), api) = (ended, api) {
            // The API goes on while the machine hands over: others may be in the middle of something.
            agent.leave(notice, keeper).await;
            drop((api, client, listening));
            keep.abort();
            // Started again it would only do nothing: the machine is about to end.
            return std::future::pending().await;
        }
    };
    agent.leave(notice, None).await;
    std::future::pending().await
}

/// Serves the API of a control machine that is not in the cluster yet, or not any more.
async fn serve_early<'a>(
    agent: &Agent,
    aws: &Aws,
    swarm: &Swarm,
    cluster: &str,
    rights: impl AsyncFnOnce() -> &'a Rights,
) -> Infallible {
    if agent.me.role == Role::Worker {
        return std::future::pending().await;
    }
    let _api = serve(agent, aws, swarm, authority(agent, cluster).await, None, rights().await).await;
    std::future::pending().await
}

async fn identity(metadata: &InstanceMetadata, config: &Config) -> Identity {
    loop {
        match metadata.identity().await {
            Ok(found) => return Identity { role: config.role, ..found },
            Err(error) => tracing::warn!(%error, "asking what this machine is"),
        }
        sleep(RETRY).await;
    }
}

async fn engine(host: &SystemdHost) -> Engine {
    let mut reviver = Reviver::default();
    loop {
        match Engine::connect(ENGINE).await {
            Ok(engine) => return engine,
            Err(error) => tracing::warn!(%error, "waiting for the engine"),
        }
        reviver.revive(host).await;
        sleep(RETRY).await;
    }
}

async fn keep_authority(access: Arc<RegistryAccess>, wanted: bool) {
    if !wanted {
        return;
    }
    loop {
        let pause = match access.install_authority(Path::new(CERTIFICATES)).await {
            Ok(()) => REGISTRY,
            Err(error) => {
                tracing::warn!(%error, "setting up access to the registry");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

/// Gives the engine the registry's credentials whenever they have changed, and tokens of ECR
/// long before they expire.
async fn keep_credentials(swarm: Swarm) {
    loop {
        if let Err(error) = swarm.refresh_credentials().await {
            tracing::warn!(%error, "keeping the engine's credentials for the registry");
        }
        sleep(CREDENTIALS).await;
    }
}

/// The events of this machine. It joins its cluster also where they can't be kept.
fn timeline() -> Option<Arc<dyn Timeline>> {
    match SqliteTimeline::open(Path::new(EVENTS_ON_MACHINE)) {
        Ok(timeline) => Some(Arc::new(timeline)),
        Err(error) => {
            tracing::error!(%error, "this machine keeps no events: see that its disk has space, and restart its agent");
            None
        }
    }
}

/// Answers containers on this machine that ask whether they may run.
async fn keep_permits(docker: bollard::Docker, control: Arc<ClusterApi>, waiting: permits::Waiting) {
    loop {
        let folder = Path::new(PERMITS_ON_MACHINE);
        let served = permits::serve(folder, SOCKET, docker.clone(), control.clone(), &waiting).await;
        let Err(error) = served;
        tracing::warn!(%error, folder = PERMITS_ON_MACHINE, "answering what asks for a permit");
        sleep(RETRY).await;
    }
}

/// Work in the background, until this is dropped.
struct Background {
    task: JoinHandle<()>,
}

impl Background {
    fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { task: tokio::spawn(work) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The cluster's authority, as soon as it can be read.
async fn authority(agent: &Agent, cluster: &str) -> (Authority, ClusterSecrets) {
    loop {
        match agent.published().await {
            Ok(secrets) => {
                let (certificate, key) = (secrets.authority.clone(), secrets.authority_key.clone());
                return (Authority { cluster: cluster.to_owned(), certificate, key }, secrets);
            }
            Err(error) => tracing::warn!(%error, "reading the cluster's secrets"),
        }
        sleep(RETRY).await;
    }
}

/// What the API shows of itself, and how it knows callers.
async fn prepare(
    agent: &Agent,
    aws: &Aws,
    authority: &Authority,
) -> Result<(Signed, Identities, AgentCalls, RoleHome), String> {
    let signed = authority.sign(agent.me.address).map_err(|error| error.to_string())?;
    let agents = AgentCalls::new(authority.clone(), agent.me.instance.clone());
    let agents = agents.map_err(|error| error.to_string())?;
    let own = aws.caller().await.map_err(|error| error.to_string())?;
    let Caller { partition, account, .. } = Caller::read(&own).map_err(|error| error.to_string())?;
    let tag = |key: &str| {
        let found = agent.tags.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let home = RoleHome {
        partition,
        account: account.clone(),
        project: tag("fleetwright:project"),
        environment: tag("fleetwright:environment"),
    };
    let issuer = ClusterIssuer::new(authority.clone()).map_err(|error| error.to_string())?;
    let sts = Sts::new(&agent.me.region).map_err(|error| error.to_string())?;
    let members = Members::new(agent.groups.clone(), agent.tags.clone(), agent.me.instance.clone());
    let identities = Identities::new(Arc::new(issuer), Arc::new(sts), members, account);
    Ok((signed, identities, agents, home))
}

/// Serves the cluster's API, and begins again when that ends for any reason.
async fn serve(
    agent: &Agent,
    aws: &Aws,
    swarm: &Swarm,
    (authority, secrets): (Authority, ClusterSecrets),
    etcd: Option<&etcd::Kept>,
    rights: &Rights,
) -> Background {
    let (signed, identities, agents, home) = loop {
        match prepare(agent, aws, &authority).await {
            Ok(prepared) => break prepared,
            Err(reason) => tracing::warn!(reason, "preparing the API"),
        }
        sleep(RETRY).await;
    };
    let rendezvous = Rendezvous::new(Arc::clone(&agent.parameters), &agent.prefix);
    let published = Published {
        rendezvous: rendezvous.clone(),
        engine: Arc::new(swarm.clone()),
        machine: agent.me.instance.clone(),
    };
    let own = Own {
        machine: agent.me.instance.clone(),
        address: agent.me.address,
        engine: Arc::new(swarm.clone()),
        logs: Arc::new(LogFiles::default()),
        generations: Arc::new(published),
        etcd: etcd.map(|kept| Arc::clone(&kept.keeper) as Arc<dyn EtcdSurvivor>),
        desired: agent.desired.clone(),
        desired_jobs: agent.desired_jobs.clone(),
        jobs: agent.jobs.clone(),
    };
    let feeds = FeedSource::new(
        Arc::new(swarm.clone()),
        Arc::new(swarm.clone()),
        Arc::new(swarm.clone()),
        etcd.map(|kept| kept.keys.clone()),
    );
    let api = Api {
        host_files: Arc::new(swarm.clone()),
        feeds: feeds.clone(),
        cluster: Arc::new(swarm.clone()),
        jobs: Arc::new(swarm.clone()),
        permits: Arc::new(Permits::new(Arc::new(swarm.clone()))),
        roles: Arc::new(Issuer::new(Arc::new(swarm.clone()), aws.roles(), home)),
        membership: Arc::new(swarm.clone()),
        own: Arc::new(own),
        leaves: Arc::new(swarm.clone()),
        identities: Arc::new(identities),
        standings: Arc::new(Standings::new(
            Arc::new(swarm.clone()),
            Arc::new(swarm.clone()),
            Arc::new(swarm.clone()),
            rendezvous,
        )),
        access: rights.access.clone(),
        tokens: rights.access.clone(),
        audit: rights.audit.clone(),
        token: secrets.api_token,
        worker_token: secrets.worker_token,
        agents: Arc::new(agents),
        events: agent.events.clone().unwrap_or_else(|| Events::new(None, agent.me.instance.clone())),
        etcd: etcd.map(|kept| kept.access.clone()),
    };
    let tls =
        TlsIdentity { certificate: signed.certificate, key: signed.key, authority: authority.certificate };
    Background::spawn(async move {
        // It ends with the API.
        let _feeds = Background::spawn(async move { match feeds.keep().await {} });
        loop {
            let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
            match cluster_api::serve(api.clone(), address, &tls, Handle::new()).await {
                Ok(()) => {}
                Err(error) => tracing::warn!(%error, "serving the API"),
            }
            sleep(RETRY).await;
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "project: demo\nenvironment: local\ncluster: main\nrole: worker\n";

    /// What becomes of a configuration that ends so: the window, or what is wrong.
    fn read_with(reboots: &str) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("agent.yaml");
        std::fs::write(&file, format!("{REST}{reboots}")).expect("written");
        let window =
            config(&file).and_then(|config| config.window().map_err(|error| bad_config(&file, &error)));
        let window = window.map_err(|failure| format!("{failure:?}"))?;
        Ok(window.map(|window| window.to_string()))
    }

    #[test]
    fn a_machine_reboots_by_itself_only_where_the_configuration_says_when() {
        assert_eq!(read_with(""), Ok(None));
        let window = read_with("reboots:\n  window: \"02:00-05:00\"\n");
        assert_eq!(window, Ok(Some("02:00-05:00 UTC".into())));
        let window = read_with("reboots:\n  window: \"22:00-01:00\"\n  days: [Mon, Tue]\n");
        assert_eq!(window, Ok(Some("22:00-01:00 UTC on Mon, Tue".into())));
    }

    #[test]
    fn a_wrong_window_is_refused_with_what_would_be_right() {
        for (reboots, right) in [
            ("reboots: {window: at night}", "write it as"),
            ("reboots: {window: \"02:00-02:00\"}", "00:00-24:00"),
            ("reboots: {window: \"02:00-05:00\", days: [Someday]}", "write Mon, Tue"),
            ("reboots: {window: \"02:00-05:00\", days: []}", "leave `days` out"),
            ("reboots: {windows: \"02:00-05:00\"}", "windows"),
            ("reboots: {days: [Mon]}", "window"),
        ] {
            let error = read_with(reboots).expect_err(reboots);
            assert!(error.contains(right), "{reboots}: {error}");
        }
    }

    fn parse(further: &str) -> Result<Config, String> {
        let text = format!("project: demo\nenvironment: local\ncluster: main\nrole: control\n{further}");
        serde_yaml::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_machine_keeps_an_etcd_only_when_it_is_told_to() {
        assert!(!parse("").expect("a configuration").etcd);
        assert!(parse("etcd: true\n").expect("a configuration").etcd);
        let refused = parse("etdc: true\n").expect_err("a misspelt key");
        assert!(refused.contains("etdc"), "{refused}");
        parse("etcd: maybe\n").expect_err("neither true nor false");
    }

    #[test]
    fn a_cluster_s_addresses_have_a_default_and_are_checked() {
        let pool = |text: &str| parse(text).map(|config| config.addresses.to_string());
        assert_eq!(pool(""), Ok("10.200.0.0/13 in networks of /24".to_owned()));
        assert_eq!(pool("addresses: {subnet: 22}"), Ok("10.200.0.0/13 in networks of /22".to_owned()));
        assert_eq!(
            pool("addresses: {pool: 192.168.0.0/16, subnet: 25}"),
            Ok("192.168.0.0/16 in networks of /25".to_owned())
        );
        for (text, reason) in [
            ("addresses: {pool: 10.200.0.0/22}", "room for 4 networks"),
            ("addresses: {pool: 10.200.0.1/13}", "write `10.200.0.0/13`"),
            ("addresses: {pools: 10.200.0.0/13}", "pools"),
            ("addresses: {subnet: 300}", "300"),
        ] {
            let error = pool(text).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
