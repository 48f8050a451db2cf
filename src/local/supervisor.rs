//! The one process that stays: it starts the emulator and the registry, says in
//! `state.json` how they are, and keeps machines equal to instances.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::model::name::LocalName;

use super::base_image;
use super::emulator::{self, Emulator};
use super::error::LocalError;
use super::gateway::Gateway;
use super::home::{CloudFiles, Home, make_dir, open_log};
use super::image::{self, Release};
use super::instance::{Instance, Instances};
use super::keys::CloudKeys;
use super::machines::{self, Machines};
use super::power;
use super::process::{ProcessId, Running};
use super::reconcile::{Action, Network, reconcile};
use super::registry::{self, Credentials};
use super::state::{Part, Ports, Problem, SERVES, STATE_VERSION, State};
use super::sts::Sts;

/// How long the emulator may take until it answers.
const EMULATOR_START: Duration = Duration::from_secs(90);

/// How long a program has to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// How often orders to cut a machine's power are looked for.
const POWER: Duration = Duration::from_millis(200);

/// What the tasks share.
struct Shared {
    files: CloudFiles,
    state: Mutex<State>,
    /// Something changed that machines depend on.
    wake: Notify,
}

impl Shared {
    fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the state and writes it when it differs.
    fn update(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.clone();
        change(&mut state);
        if *state != before
            && let Err(error) = state.write(&self.files)
        {
            tracing::error!(%error, "state");
        }
    }
}

/// Runs until a signal ends it. Returns at once when another one supervises this cloud.
/// Machines run `release`, unless their image id names another one; one that takes over keeps
/// the release that the cloud has.
///
/// # Errors
/// When a part can't be started; everything started so far is stopped again.
pub async fn run(home: &Home, name: &LocalName, release: Release) -> Result<(), LocalError> {
    // Its own session: closing the terminal that `local up` was called in ends nothing.
    // It fails only for a process that leads one already.
    let _ = nix::unistd::setsid();
    let files = home.cloud(name);
    make_dir(files.dir())?;
    let Some(_lock) = lock(&files).await? else { return Ok(()) };
    let mut terminate = signals()?;

    let docker = machines::connect().await?;
    let machines = Machines::new(docker, name.clone(), files.clone());
    let before = State::read(&files);
    let left = before.as_ref().and_then(|state| {
        let emulator = state.emulator.process.as_ref().and_then(Running::adopt)?;
        Some((emulator, state.ports))
    });
    let (adopted, ports) = match left {
        Some((emulator, ports)) => (Some(emulator), ports),
        None => {
            // The instances of the machines that are left died with their emulator.
            let count = machines.remove_all().await?;
            if count > 0 {
                tracing::info!(count, "removed machines of an emulator that is gone");
            }
            if let Some(id) = before.as_ref().and_then(|state| state.registry.process.as_ref()) {
                id.stop(GRACE).await;
            }
            (None, Ports::pick()?)
        }
    };
    let release = match (&adopted, &before) {
        (Some(_), Some(state)) => state.release,
        _ => release,
    };
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    let since = Utc::now();
    let state = State {
        version: STATE_VERSION,
        serves: SERVES,
        supervisor: ProcessId::of(pid, since).unwrap_or(ProcessId { pid, ticks: 0, since }),
        ready: false,
        ports,
        emulator: Part::default(),
        registry: Part::default(),
        machine_image: image::tag(release),
        ami: image::ami(release),
        release,
        broken: None,
        problems: Vec::new(),
    };
    state.write(&files)?;
    let shared = Arc::new(Shared { files, state: Mutex::new(state), wake: Notify::new() });

    let mut tasks = JoinSet::new();
    let left_registry = before.and_then(|state| state.registry.process);
    let work = async {
        let python = home.venv().join("bin/python");
        start(&shared, &mut tasks, adopted, left_registry, python, machines).await?;
        tracing::info!("up");
        std::future::pending::<Result<(), LocalError>>().await
    };
    let result = tokio::select! {
        result = work => result,
        () = terminate.ended() => Ok(()),
    };
    tasks.abort_all();
    let state = shared.state();
    for part in [&state.registry, &state.emulator] {
        if let Some(process) = &part.process {
            process.stop(GRACE).await;
        }
    }
    shared.update(|state| {
        state.ready = false;
        state.emulator.process = None;
        state.registry.process = None;
    });
    result
}

/// The lock that tells a living supervisor. Somebody who just looks holds it for a moment.
async fn lock(files: &CloudFiles) -> Result<Option<fs::File>, LocalError> {
    let file = open_log(&files.lock())?;
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => sleep(Duration::from_millis(20)).await,
            Err(fs::TryLockError::Error(error)) => {
                return Err(LocalError::file("locking", &files.lock())(error));
            }
        }
    }
    Ok(None)
}

/// The signals that end it.
struct Signals(tokio::signal::unix::Signal, tokio::signal::unix::Signal);

impl Signals {
    async fn ended(&mut self) {
        tokio::select! {
            _ = self.0.recv() => {}
            _ = self.1.recv() => {}
        }
    }
}

fn signals() -> Result<Signals, LocalError> {
    let get = |kind| signal(kind).map_err(LocalError::file("listening for", std::path::Path::new("signals")));
    Ok(Signals(get(SignalKind::terminate())?, get(SignalKind::interrupt())?))
}

/// Starts all parts, side by side, and returns when they answer.
async fn start(
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
    adopted: Option<Running>,
    left_registry: Option<ProcessId>,
    python: PathBuf,
    machines: Machines,
) -> Result<(), LocalError> {
    let ports = shared.state().ports;
    let credentials = registry::prepare(&shared.files, ports.registry)?;
    let client = registry::client(&credentials)?;
    let registry = match left_registry.as_ref().and_then(Running::adopt) {
        Some(running) => running,
        None => registry::start(&shared.files)?,
    };
    shared.update(|state| state.registry.process = Some(registry.id.clone()));

    let fresh = adopted.is_none();
    let mut running = match adopted {
        Some(running) => running,
        None => emulator::start(&shared.files, &python, ports.emulator)?,
    };
    shared.update(|state| state.emulator.process = Some(running.id.clone()));
    let emulator = Emulator::new(ports.emulator);
    let end = Instant::now() + EMULATOR_START;
    while !emulator.answers().await {
        let not_started = |reason: String| LocalError::NotStarted {
            reason: format!("the emulator: {reason}"),
            log: shared.files.log("emulator"),
        };
        tokio::select! {
            how = running.ended() => return Err(not_started(how)),
            () = sleep(Duration::from_millis(100)) => {}
        }
        if Instant::now() > end {
            return Err(not_started(format!("it did not answer for {} s", EMULATOR_START.as_secs())));
        }
    }
    shared.update(|state| state.emulator.answers = true);
    put_credentials(&emulator, &credentials, ports, fresh).await?;

    tasks.spawn(watch_emulator(shared.clone(), running, emulator.clone()));
    tasks.spawn(keep_registry(shared.clone(), registry, client.clone()));
    let (sender, instances) = watch::channel(Arc::new(Instances::default()));
    // The first list must be there before anything is decided.
    sender.send_replace(Arc::new(emulator.instances(None, Duration::ZERO).await?));
    tasks.spawn(follow_instances(shared.clone(), emulator.clone(), sender));
    tasks.spawn(follow_deaths(shared.clone(), machines.clone()));
    tasks.spawn(follow_power(shared.clone()));
    let keys = CloudKeys::open(&shared.files)?;
    // For the commands on this computer; machines find it on their gateway.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ports.agent)).await;
    let listener = listener.map_err(|source| LocalError::Port { port: ports.agent, source })?;
    // One for all: credentials that were issued on a gateway are known on every other one, and here.
    let sts = Sts::new(keys.clone(), instances.clone(), emulator.endpoint());
    let routes = sts.clone().router();
    tasks.spawn(async move {
        let _ = axum::serve(listener, routes).await;
    });
    tasks.spawn(keep_machines(shared.clone(), emulator, machines, instances, keys, sts));

    let end = Instant::now() + Duration::from_secs(20);
    while !registry::answers(&client, ports.registry).await {
        if Instant::now() > end {
            let part = shared.state().registry;
            return Err(LocalError::NotStarted {
                reason: format!("the registry: {}", part.message.unwrap_or("it does not answer".into())),
                log: shared.files.log("registry"),
            });
        }
        sleep(Duration::from_millis(50)).await;
    }
    // Applications can be built without it, so a machine without busybox is no reason to give up.
    let access = base_image::Access {
        registry: &format!("127.0.0.1:{}", ports.registry),
        username: registry::USERNAME,
        password: &credentials.password,
        ca_pem: &credentials.ca_pem,
    };
    if let Err(error) = base_image::publish(&access).await {
        tracing::warn!("{error}");
    }
    shared.update(|state| {
        state.registry.answers = true;
        state.ready = true;
    });
    Ok(())
}

/// The parameter from which agents and pipelines take the registry's password.
async fn put_credentials(
    emulator: &Emulator,
    credentials: &Credentials,
    ports: Ports,
    fresh: bool,
) -> Result<(), LocalError> {
    if !fresh {
        return Ok(());
    }
    emulator.put_secret("/fleetwright/registry", &credentials.parameter(ports.registry)).await
}

/// Says so when the emulator ends: all it knew is lost, so nothing is restarted.
async fn watch_emulator(shared: Arc<Shared>, mut running: Running, emulator: Emulator) {
    let how = tokio::select! {
        how = running.ended() => how,
        () = closed(&emulator) => {
            running.stop(Duration::ZERO).await;
            "it listened no more".to_owned()
        }
    };
    tracing::error!(how, "the emulator ended");
    shared.update(|state| {
        state.emulator = Part { process: None, answers: false, message: Some(how.clone()) };
        state.broken = Some(format!("the emulator is gone ({how}), and with it all stacks and instances"));
    });
}

/// Until nobody has listened for some seconds: LocalStack can hang in its own end.
async fn closed(emulator: &Emulator) {
    let mut refusals = 0;
    while refusals < 10 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        refusals = if emulator.is_closed().await { refusals + 1 } else { 0 };
    }
}

/// Restarts the registry when it ends: what it stores is on disk.
async fn keep_registry(shared: Arc<Shared>, mut running: Running, client: reqwest::Client) {
    let port = shared.state().ports.registry;
    let mut pause = Duration::from_millis(250);
    loop {
        let begun = Instant::now();
        let how = running.ended().await;
        tracing::warn!(how, "the registry ended");
        // One that ran for a while has earned a quick restart.
        pause = if begun.elapsed() > Duration::from_secs(60) {
            Duration::from_millis(250)
        } else {
            (pause * 2).min(Duration::from_secs(10))
        };
        running = loop {
            let message = match held(&shared.files) {
                true => "stopped by `fleetwright local registry stop`".to_owned(),
                false => format!("{how}; it is restarted after {} ms", pause.as_millis()),
            };
            shared.update(|state| {
                state.registry = Part { process: None, answers: false, message: Some(message) };
            });
            sleep(pause).await;
            if held(&shared.files) {
                continue;
            }
            match registry::start(&shared.files) {
                Ok(running) => break running,
                Err(error) => tracing::error!(%error, "restarting the registry"),
            }
        };
        shared.update(|state| state.registry.process = Some(running.id.clone()));
        for _ in 0..100 {
            if registry::answers(&client, port).await {
                shared.update(|state| state.registry.answers = true);
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether somebody asked for the registry to stay away.
fn held(files: &CloudFiles) -> bool {
    registry_hold(files).exists()
}

/// As long as this file is there, the registry is not restarted.
pub fn registry_hold(files: &CloudFiles) -> PathBuf {
    files.registry().join("hold")
}

/// Keeps the list of instances up to date.
async fn follow_instances(shared: Arc<Shared>, emulator: Emulator, sender: watch::Sender<Arc<Instances>>) {
    loop {
        let since = sender.borrow().revision;
        match emulator.instances(Some(since), Duration::from_secs(20)).await {
            Ok(instances) => {
                if instances.revision != since {
                    sender.send_replace(Arc::new(instances));
                    shared.wake.notify_one();
                }
            }
            Err(error) => {
                tracing::warn!(%error, "instances");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// Wakes the keeper of machines whenever one dies.
async fn follow_deaths(shared: Arc<Shared>, machines: Machines) {
    loop {
        let mut deaths = std::pin::pin!(machines.deaths());
        while futures_util::StreamExt::next(&mut deaths).await.is_some() {
            shared.wake.notify_one();
        }
        // Docker is away; when it is back, what it lost must be looked at.
        sleep(Duration::from_secs(1)).await;
        shared.wake.notify_one();
    }
}

/// Wakes the keeper of machines when a power cut is ordered, and when it is over.
async fn follow_power(shared: Arc<Shared>) {
    let mut before = Vec::new();
    loop {
        let orders = power::orders(&shared.files, Utc::now());
        if orders != before {
            before = orders;
            shared.wake.notify_one();
        }
        sleep(POWER).await;
    }
}

/// Keeps machines equal to instances.
async fn keep_machines(
    shared: Arc<Shared>,
    emulator: Emulator,
    machines: Machines,
    instances: watch::Receiver<Arc<Instances>>,
    keys: CloudKeys,
    sts: Sts,
) {
    let mut keeper = Keeper { shared, emulator, machines, instances, gateways: BTreeMap::new(), keys, sts };
    loop {
        let pause = if keeper.shared.state().broken.is_some() {
            Duration::from_secs(5)
        } else {
            match keeper.round().await {
                Ok(Round::Settled) => Duration::from_secs(10),
                // What was done is looked at again, once the emulator had a moment to follow.
                Ok(Round::Acted) => Duration::from_millis(200),
                Ok(Round::Failed) | Err(_) => Duration::from_secs(1),
            }
        };
        tokio::select! {
            () = keeper.shared.wake.notified() => {}
            () = sleep(pause) => {}
        }
    }
}

enum Round {
    Settled,
    Acted,
    Failed,
}

struct Keeper {
    shared: Arc<Shared>,
    emulator: Emulator,
    machines: Machines,
    instances: watch::Receiver<Arc<Instances>>,
    gateways: BTreeMap<String, Gateway>,
    keys: CloudKeys,
    sts: Sts,
}

impl Keeper {
    /// Looks, decides and acts once.
    async fn round(&mut self) -> Result<Round, LocalError> {
        // Instances first: a machine made after this look can't be mistaken for one too many.
        let instances = self.instances.borrow_and_update().clone();
        let observed = match self.machines.observe().await {
            Ok(observed) => observed,
            Err(error) => {
                self.note(&[&error]);
                return Err(error);
            }
        };
        let mut errors = Vec::new();
        for network in &observed.networks {
            errors.extend(self.open(network).await.err());
        }
        let actions = reconcile(&instances.instances, &observed);
        let acted = !actions.is_empty();
        for batch in actions.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
            errors.extend(self.perform(batch, &instances.instances).await);
        }
        self.note(&errors.iter().collect::<Vec<_>>());
        Ok(match (acted, errors.is_empty()) {
            (_, false) => Round::Failed,
            (true, true) => Round::Acted,
            (false, true) => Round::Settled,
        })
    }

    /// Opens the gateway of a network, once.
    async fn open(&mut self, network: &Network) -> Result<(), LocalError> {
        if self.gateways.contains_key(&network.vpc) {
            return Ok(());
        }
        let ports = self.shared.state().ports;
        let executable = self.shared.files.executable();
        let (instances, keys) = (self.instances.clone(), self.keys.clone());
        let gateway = Gateway::open(network, ports, &executable, instances, keys, self.sts.clone()).await?;
        self.gateways.insert(network.vpc.clone(), gateway);
        Ok(())
    }

    /// Performs actions of one kind. Those on machines go side by side.
    async fn perform(&mut self, actions: &[Action], instances: &[Instance]) -> Vec<LocalError> {
        for action in actions {
            tracing::info!(?action);
        }
        let mut errors = Vec::new();
        for action in actions {
            match action {
                Action::RemoveNetwork { vpc } => {
                    self.gateways.remove(vpc);
                    errors.extend(self.machines.remove_network(vpc).await.err());
                }
                Action::CreateNetwork(network) => match self.machines.create_network(network).await {
                    Ok(()) => errors.extend(self.open(network).await.err()),
                    Err(error) => errors.push(error),
                },
                Action::ReportVanished { .. }
                | Action::Remove { .. }
                | Action::CutPower { .. }
                | Action::SwitchOn { .. }
                | Action::ForgetPowerCut { .. }
                | Action::Restart { .. }
                | Action::Start { .. } => {}
            }
        }
        let machines = actions.iter().map(|action| self.perform_one(action, instances));
        errors.extend(futures_util::future::join_all(machines).await.into_iter().filter_map(Result::err));
        errors
    }

    async fn perform_one(&self, action: &Action, instances: &[Instance]) -> Result<(), LocalError> {
        match action {
            Action::ReportVanished { instance, .. } => self.emulator.vanished(instance).await,
            Action::Remove { instance, .. } => self.machines.remove(instance).await,
            Action::CutPower { instance } => self.machines.cut_power(instance).await,
            Action::SwitchOn { instance } => self.machines.switch_on(instance).await,
            Action::ForgetPowerCut { instance } => self.machines.forget_power_cut(instance),
            Action::Restart { instance } => self.machines.restart(instance).await,
            Action::Start { instance } => {
                let Some(instance) = instances.iter().find(|i| &i.id == instance) else { return Ok(()) };
                // Its network could not be made; that error is told, this one would only hide it.
                if !instance.place().is_some_and(|place| self.gateways.contains_key(place.vpc)) {
                    return Ok(());
                }
                let state = self.shared.state();
                let release = instance.image_id.as_deref().and_then(Release::of_ami);
                let image = release.map_or(state.machine_image, image::tag);
                self.machines.start(instance, &image, state.ports).await
            }
            Action::RemoveNetwork { .. } | Action::CreateNetwork(_) => Ok(()),
        }
    }

    /// Tells what does not work, in the state and in the log.
    fn note(&self, errors: &[&LocalError]) {
        for error in errors {
            tracing::warn!(%error);
        }
        let problems = errors.iter().map(|e| Problem { message: e.to_string(), next: e.next() }).collect();
        self.shared.update(|state| state.problems = problems);
    }
}
