//! Steps of pipelines in containers of the Docker Engine.
//!
//! A run has a volume, a network and a container for each attempt at a step, all named and labelled after the run, so
//! that another process finds them again. A container is created before it is started, and both is safe to repeat:
//! one that has ended is never started a second time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum, HostConfig, HostConfigLogConfig, Mount, MountType,
    NetworkCreateRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::docker_build::{DockerImages, failed};
use super::metadata_rule;
use super::probe::PROBE;
use super::swarm::{placeholder_archive, placeholder_image};
use crate::model::image::{ContextFile, EntryKind};
use crate::model::line::LINE_MAX;
use crate::model::run::{RunId, SECRET_FILES, secret_file};
use crate::model::secret::Secret;
use crate::model::service::Limits;
use crate::model::step_container::{ContainerEnd, ContainerRequest};
use crate::model::step_files::StepFile;
use crate::port::images::{ImageError, Lines, Open};
use crate::port::step_containers::{
    Attempt, Printed, PrintedLine, Program, StepContainers, Wanted, WorkspaceFiles,
};
use crate::port::streams::Process;

mod caches;
mod collect;
mod companions;
mod kept;
mod shell;
mod storage;

/// The folder of the workspace in a step's container.
pub const WORKSPACE: &str = "/workspace";
/// Where the helper lies in a step's container.
const HELPER: &str = "/.fleetwright/probe";
/// Where secrets lie in a step's container.
const SECRETS: &str = SECRET_FILES;
/// The label with whose runs something is of.
const SCOPE: &str = "fleetwright.pipelines";
/// The label with the run's number.
const RUN: &str = "fleetwright.run";
/// The label of a container in which somebody has a shell.
const SHELL: &str = "fleetwright.shell";
/// How long a step has to end when its run is cancelled, in seconds.
const GRACE: i32 = 10;
/// The largest log of a step. Less than everything would be rotated away while it is read.
const LOG_MOST: &str = "1000g";
/// How many processes a step may have.
const PROCESSES: i64 = 4_096;
/// What the bridges of runs begin with. Names of interfaces have 15 characters at most.
const BRIDGE: &str = "fwr-";
/// What a step may do as root of its container: install packages and change owners, and nothing to the machine.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];
/// Time between two attempts to read a log that ends while its container runs.
const AGAIN: Duration = Duration::from_secs(1);
/// How many pieces of a log are read before others get their turn.
const TURNS: u32 = 64;
/// How long a line is before it becomes several, in bytes as they were printed.
const PIECE: usize = LINE_MAX;
/// How much is known of the pieces beside one, in bytes: a parameter holds 8 KiB, which can be three times as long in the
/// forms that are masked.
const BESIDE: usize = 24 * 1024;
/// How many pieces of an archive wait to be sent.
const PIECES: usize = 16;

/// The engine, for the runs of one journal.
pub struct EngineSteps {
    images: Arc<DockerImages>,
    scope: String,
    /// Held while a network is made: the engine takes two of one name, and then fails at the second's bridge.
    networks: tokio::sync::Mutex<()>,
}

impl EngineSteps {
    /// For runs whose numbers are those of the journal that `journal` identifies.
    pub fn new(images: Arc<DockerImages>, journal: &str) -> Self {
        let hash = Sha256::digest(journal.as_bytes());
        let scope = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        Self { images, scope, networks: tokio::sync::Mutex::default() }
    }

    fn docker(&self) -> &Docker {
        self.images.docker()
    }

    /// What the volume and the network of a run are called.
    fn name(&self, run: RunId) -> String {
        format!("fleetwright-run-{}-{run}", self.scope)
    }

    fn container(&self, attempt: Attempt) -> String {
        format!("{}-{}-{}", self.name(attempt.run), attempt.step + 1, attempt.number)
    }

    fn labels(&self, run: RunId) -> HashMap<String, String> {
        HashMap::from([(SCOPE.to_owned(), self.scope.clone()), (RUN.to_owned(), run.to_string())])
    }

    /// What is of one run, or of all.
    fn filters(&self, run: Option<RunId>) -> HashMap<String, Vec<String>> {
        let scope = format!("{SCOPE}={}", self.scope);
        let run = run.map(|run| format!("{RUN}={run}"));
        HashMap::from([("label".to_owned(), std::iter::once(scope).chain(run).collect())])
    }

    fn workspace(&self, run: RunId) -> Mount {
        Mount {
            target: Some(WORKSPACE.to_owned()),
            source: Some(self.name(run)),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        }
    }

    /// Makes sure of a network of the run, from which no metadata service can be reached.
    async fn network(&self, run: RunId, name: String) -> Result<(), ImageError> {
        if self.images.is_here() {
            metadata_rule::ensure_for(&format!("{BRIDGE}+")).await?;
        }
        let _alone = self.networks.lock().await;
        match self.docker().inspect_network(&name, None).await {
            Ok(_) => return Ok(()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(error, None)),
        }
        let hash = Sha256::digest(name.as_bytes());
        let bridge: String = hash.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        let options =
            HashMap::from([("com.docker.network.bridge.name".to_owned(), format!("{BRIDGE}{bridge}"))]);
        let request = NetworkCreateRequest {
            name,
            driver: Some("bridge".to_owned()),
            options: Some(options),
            labels: Some(self.labels(run)),
            ..NetworkCreateRequest::default()
        };
        self.docker().create_network(request).await.map_err(|error| failed(error, None))?;
        Ok(())
    }

    /// Makes sure of the image without a file.
    async fn load_placeholder(&self) -> Result<(), ImageError> {
        if let Err(Error::DockerResponseServerError { status_code: 404, .. }) =
            self.docker().inspect_image(&placeholder_image()).await
        {
            let archive = placeholder_archive().map_err(|error| memory(&error))?;
            let body = bollard::body_full(Bytes::from(archive));
            let options = bollard::query_parameters::ImportImageOptions::default();
            let mut loading = std::pin::pin!(self.docker().import_image(options, body, None));
            while let Some(step) = loading.next().await {
                step.map_err(|error| failed(error, None))?;
            }
        }
        Ok(())
    }

    /// Makes the volume of a run, unless it is there.
    async fn make_volume(&self, run: RunId) -> Result<(), ImageError> {
        let request = VolumeCreateRequest {
            name: Some(self.name(run)),
            labels: Some(self.labels(run)),
            ..VolumeCreateRequest::default()
        };
        self.docker().create_volume(request).await.map_err(|error| failed(error, None))?;
        Ok(())
    }

    /// Makes a container that only files are put into, puts them there, and removes it.
    async fn upload(&self, run: RunId, files: WorkspaceFiles) -> Result<(), ImageError> {
        self.load_placeholder().await?;
        let name = format!("{}-files", self.name(run));
        self.remove(&name).await?;
        self.create_idle(run, &name, self.workspace(run)).await?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let handle = Handle::current();
        let packing = tokio::task::spawn_blocking(move || pack(files, sender, &handle));
        // The engine leaves the mode of a folder alone that the archive calls `.`.
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let sent = self
            .docker()
            .upload_to_container(&name, Some(options), bollard::body_stream(ReceiverStream::new(pieces)))
            .await;
        // Why the archive could not be made says more than that it ended early.
        match packing.await {
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => return Err(memory(&error)),
            Ok(_) => {}
            Err(error) => return Err(memory(&io::Error::other(error))),
        }
        sent.map_err(|error| failed(error, None))?;
        self.remove(&name).await
    }

    /// Removes a container, if it is there.
    async fn remove(&self, name: &str) -> Result<(), ImageError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        absent(self.docker().remove_container(name, Some(options)).await)
    }

    /// Masks the secrets that a container has, before anything that it prints is read: another process may have created
    /// it, and the parameters may have other values by now.
    async fn learn(&self, container: &str) -> Result<(), ImageError> {
        let found = self.secrets_of(container).await?;
        let values: Vec<Secret<String>> = found.into_iter().map(|(_, value)| value).collect();
        self.images.hide(&values);
        Ok(())
    }

    /// The secrets in a container's files, by their variables; none of a container that is not there.
    async fn secrets_of(&self, container: &str) -> Result<Vec<(String, Secret<String>)>, ImageError> {
        let found = match self.docker().inspect_container(container, None).await {
            Ok(found) => found,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(Vec::new()),
            Err(error) => return Err(failed(error, None)),
        };
        let config = found.config.unwrap_or_default();
        let (entry, env) = (config.entrypoint.unwrap_or_default(), config.env.unwrap_or_default());
        if !entry.iter().chain(&env).any(|word| word.contains(SECRETS)) {
            return Ok(Vec::new());
        }
        let options = DownloadFromContainerOptionsBuilder::default().path(SECRETS).build();
        let mut pieces = std::pin::pin!(self.docker().download_from_container(container, Some(options)));
        let mut bytes = Vec::new();
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => bytes.extend_from_slice(&piece),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(Vec::new()),
                Err(error) => return Err(failed(error, None)),
            }
        }
        let mut values = Vec::new();
        let mut archive = tar::Archive::new(&bytes[..]);
        for file in archive.entries().map_err(|error| memory(&error))? {
            let mut file = file.map_err(|error| memory(&error))?;
            if !file.header().entry_type().is_file() {
                continue;
            }
            let mut value = Vec::new();
            file.read_to_end(&mut value).map_err(|error| memory(&error))?;
            let path = file.path().map_err(|error| memory(&error))?.into_owned();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            values.push((name, Secret::new(String::from_utf8_lossy(&value).into_owned())));
        }
        Ok(values)
    }

    /// Puts the helper and the values of secrets into a container that was created, and opens folders in it to every user.
    async fn equip(
        &self,
        container: &str,
        secrets: &HashMap<String, Secret<String>>,
        open: &[String],
    ) -> Result<(), ImageError> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut put = |path: &str, mode: u32, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_mode(mode);
            header.set_size(bytes.len() as u64);
            archive.append_data(&mut header, path.trim_start_matches('/'), bytes)
        };
        put(HELPER, 0o755, PROBE).map_err(|error| memory(&error))?;
        for (name, value) in secrets {
            // A step whose image has another user reads it as well; nobody else is in the container.
            put(&format!("{SECRETS}/{name}"), 0o444, value.expose().as_bytes())
                .map_err(|error| memory(&error))?;
        }
        for folder in open {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o777);
            header.set_size(0);
            archive
                .append_data(&mut header, folder.trim_start_matches('/'), io::empty())
                .map_err(|error| memory(&error))?;
        }
        let bytes = archive.into_inner().map_err(|error| memory(&error))?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let body = bollard::body_full(Bytes::from(bytes));
        self.docker()
            .upload_to_container(container, Some(options), body)
            .await
            .map_err(|error| failed(error, None))
    }
}

#[async_trait]
impl StepContainers for EngineSteps {
    async fn pull(&self, image: &str, lines: Lines<'_>) -> Result<(), ImageError> {
        self.images.pull(image, lines).await
    }

    async fn prepare(&self, run: RunId, files: WorkspaceFiles) -> Result<(), ImageError> {
        self.make_volume(run).await?;
        // A network takes the engine as long as the files do, and the first step would wait for it.
        let (uploaded, connected) = tokio::join!(self.upload(run, files), self.network(run, self.name(run)));
        uploaded.and(connected)
    }

    async fn create(
        &self,
        attempt: Attempt,
        request: &ContainerRequest,
        lines: Lines<'_>,
    ) -> Result<(), ImageError> {
        let name = self.container(attempt);
        let mut replaced = false;
        // One that was created and not equipped was never started.
        match self.docker().inspect_container(&name, None).await {
            Ok(found) => match found.state.and_then(|state| state.status) {
                Some(ContainerStateStatusEnum::CREATED) => {
                    self.remove(&name).await?;
                    replaced = true;
                }
                _ => return Ok(()),
            },
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(error, None)),
        }
        let secrets = self.images.read_secrets(&request.secrets).await?;
        // Steps that run at the same time may have companions of one name.
        let network = if request.companions.is_empty() { self.name(attempt.run) } else { name.clone() };
        self.network(attempt.run, network.clone()).await?;
        self.accompany(attempt, request, &network, lines).await?;
        let fresh = self.fresh_caches(&request.caches, replaced).await?;
        let mut entry = vec![HELPER.to_owned(), "exec".to_owned()];
        entry.extend(set_from_files(secrets.keys(), &variables_of(&request.env)));
        entry.push("--".to_owned());
        let caches = request.caches.iter().map(|cache| self.cache_mount(cache));
        let body = ContainerCreateBody {
            image: Some(request.image.clone()),
            entrypoint: Some(entry),
            cmd: Some(request.command.clone()),
            env: Some(variables_of(&request.env)),
            working_dir: Some(WORKSPACE.to_owned()),
            labels: Some(self.labels(attempt.run)),
            host_config: Some(HostConfig {
                mounts: Some(std::iter::once(self.workspace(attempt.run)).chain(caches).collect()),
                ..confined(network, request.limits)
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        self.docker().create_container(Some(options), body).await.map_err(|error| failed(error, None))?;
        self.equip(&name, &secrets, &fresh).await
    }

    async fn follow(
        &self,
        attempt: Attempt,
        known: u64,
        printed: Printed<'_>,
    ) -> Result<ContainerEnd, ImageError> {
        let name = self.container(attempt);
        self.learn(&name).await?;
        let mut known = known;
        let mut rounds = 0;
        loop {
            rounds += 1;
            if rounds > 2 {
                // It runs, and its log has ended: the engine restarts.
                tokio::time::sleep(AGAIN).await;
            }
            let state = match self.docker().inspect_container(&name, None).await {
                Ok(found) => found.state.unwrap_or_default(),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    return Ok(ContainerEnd::Gone);
                }
                Err(error) => return Err(failed(error, None)),
            };
            let ended = match state.status {
                Some(ContainerStateStatusEnum::CREATED) => {
                    let started = self.docker().start_container(&name, None::<StartContainerOptions>).await;
                    started.map_err(|error| failed(error, None))?;
                    false
                }
                Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD) => true,
                _ => false,
            };
            // Once it has ended, everything is in its log: what a follower may have missed is read again.
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).follow(!ended).build();
            let mut log = std::pin::pin!(self.docker().logs(&name, Some(options)));
            let mut lines = Splitter::default();
            let mut number = 0;
            let mut take = |piece: Piece<'_>| {
                number += 1;
                if number > known {
                    known = number;
                    let [before, text, after] = [piece.before, piece.bytes, piece.after].map(visible);
                    let (text, before, after) = (&text, &before, &after);
                    printed(PrintedLine { number, text, before, after, continues: piece.continues });
                }
            };
            for turn in 1_u32.. {
                let Some(piece) = log.next().await else { break };
                lines.push(&piece.map_err(|error| failed(error, None))?, &mut take);
                if turn % TURNS == 0 {
                    // A command that prints faster than this reads keeps nothing else of its run from its turn.
                    tokio::task::yield_now().await;
                }
            }
            if ended {
                lines.finish(&mut take);
                return Ok(ContainerEnd::Exited {
                    status: state.exit_code.unwrap_or(-1),
                    out_of_memory: state.oom_killed == Some(true),
                });
            }
        }
    }

    async fn collect(
        &self,
        attempt: Attempt,
        wanted: Wanted<'_>,
        folder: &Path,
    ) -> Result<Vec<StepFile>, ImageError> {
        self.copy_out(attempt, wanted, folder).await
    }

    async fn dismiss(&self, attempt: Attempt) -> Result<(), ImageError> {
        let options = StopContainerOptionsBuilder::default().t(GRACE).build();
        absent(self.docker().stop_container(&self.container(attempt), Some(options)).await)?;
        self.remove_companions(attempt).await
    }

    async fn has_workspace(&self, run: RunId) -> Result<bool, ImageError> {
        self.volume_is_there(run).await
    }

    async fn copy_workspace(&self, from: RunId, to: RunId) -> Result<bool, ImageError> {
        // The engine would make an empty one.
        if !self.volume_is_there(from).await? {
            return Ok(false);
        }
        self.make_volume(to).await?;
        self.copy_volume(from, to).await?;
        Ok(true)
    }

    async fn keep(&self, run: RunId, steps: &[usize]) -> Result<(), ImageError> {
        self.keep_only(run, steps).await
    }

    async fn shell(
        &self,
        run: RunId,
        step: usize,
        secrets: &BTreeMap<String, String>,
        program: &Program,
    ) -> Result<Option<Process>, ImageError> {
        self.open_shell(run, step, secrets, program).await
    }

    async fn clear(&self, run: RunId) -> Result<(), ImageError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filters(Some(run)));
        let found = self.docker().list_containers(Some(options.build())).await;
        for container in found.map_err(|error| failed(error, None))? {
            let Some(id) = container.id else { continue };
            let options = StopContainerOptionsBuilder::default().t(GRACE).build();
            absent(self.docker().stop_container(&id, Some(options)).await)?;
            self.remove(&id).await?;
        }
        let options = ListNetworksOptionsBuilder::default().filters(&self.filters(Some(run))).build();
        let networks = self.docker().list_networks(Some(options)).await;
        for network in networks.map_err(|error| failed(error, None))? {
            absent(self.docker().remove_network(network.id.as_deref().unwrap_or_default()).await)?;
        }
        let options = ListVolumesOptionsBuilder::default().filters(&self.filters(Some(run))).build();
        let volumes = self.docker().list_volumes(Some(options)).await;
        for volume in volumes.map_err(|error| failed(error, None))?.volumes.unwrap_or_default() {
            let options = None::<bollard::query_parameters::RemoveVolumeOptions>;
            absent(self.docker().remove_volume(&volume.name, options).await)?;
        }
        self.remove_shell_images(run).await
    }

    async fn left(&self) -> Result<Vec<RunId>, ImageError> {
        let mut found = BTreeSet::new();
        let mut note = |labels: Option<HashMap<String, String>>| {
            let number = labels.and_then(|labels| labels.get(RUN)?.parse().ok());
            found.extend(number.map(RunId));
        };
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filters(None)).build();
        let containers = self.docker().list_containers(Some(options)).await;
        containers
            .map_err(|error| failed(error, None))?
            .into_iter()
            .for_each(|container| note(container.labels));
        let options = ListVolumesOptionsBuilder::default().filters(&self.filters(None)).build();
        let volumes = self.docker().list_volumes(Some(options)).await;
        let volumes = volumes.map_err(|error| failed(error, None))?.volumes.unwrap_or_default();
        volumes.into_iter().for_each(|volume| note(Some(volume.labels)));
        let options = ListNetworksOptionsBuilder::default().filters(&self.filters(None)).build();
        let networks = self.docker().list_networks(Some(options)).await;
        networks.map_err(|error| failed(error, None))?.into_iter().for_each(|network| note(network.labels));
        Ok(found.into_iter().collect())
    }
}

/// What a container of a step may do and use.
fn confined(network: String, limits: Limits) -> HostConfig {
    let memory = limits.memory_bytes.and_then(|bytes| i64::try_from(bytes).ok());
    HostConfig {
        network_mode: Some(network),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        pids_limit: Some(PROCESSES),
        // A shell that is the first process hears no SIGTERM.
        init: Some(true),
        memory,
        // Without swap, the limit is what it says.
        memory_swap: memory,
        nano_cpus: limits.cpu_millis.and_then(|millis| i64::try_from(millis * 1_000_000).ok()),
        // All of it is read, however much it is.
        log_config: Some(HostConfigLogConfig {
            // `local` would keep bytes that are not UTF-8, but Docker 20.10 loses the end of a line longer than 16 KiB
            // there, and joins it to the next one.
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([("max-size".to_owned(), LOG_MOST.to_owned())])),
        }),
        ..HostConfig::default()
    }
}

/// What the helper sets: the variables of secrets, each with its file, but those that hold the file's path already.
fn set_from_files<'n>(names: impl Iterator<Item = &'n String>, env: &[String]) -> BTreeSet<String> {
    names.map(|name| format!("{name}={}", secret_file(name))).filter(|set| !env.contains(set)).collect()
}

/// Variables as the engine has them.
fn variables_of(env: &BTreeMap<String, String>) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// What is not there any more, or is not running, is what was wanted.
fn absent(result: Result<(), Error>) -> Result<(), ImageError> {
    match result {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 304 | 404 | 409, .. }) => Ok(()),
        Err(error) => Err(failed(error, None)),
    }
}

fn memory(error: &io::Error) -> ImageError {
    ImageError::Build { reason: format!("preparing the files of a step: {error}"), step: None }
}

/// Takes what a container prints apart into lines. The same output gives the same lines, however it arrives: each
/// channel has its own, and only a newline ends one.
#[derive(Debug, Default)]
struct Splitter {
    output: Begun,
    errors: Begun,
}

/// A line that has not ended.
#[derive(Debug, Default)]
struct Begun {
    /// The end of the piece before, and then what has come since.
    bytes: Vec<u8>,
    /// How much of it belongs to the piece before.
    before: usize,
}

/// A line, or a piece of one, with what is beside it.
struct Piece<'a> {
    before: &'a [u8],
    bytes: &'a [u8],
    after: &'a [u8],
    continues: bool,
}

/// Takes a line or a piece of one.
type Take<'a> = &'a mut (dyn FnMut(Piece<'_>) + Send);

impl Splitter {
    fn push(&mut self, piece: &LogOutput, take: Take<'_>) {
        let (begun, bytes) = match piece {
            LogOutput::StdErr { message } => (&mut self.errors, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } | LogOutput::StdIn { message } => {
                (&mut self.output, message)
            }
        };
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // There is always a first part, and each further one begins after a newline.
        begun.push(parts.next().unwrap_or_default(), take);
        for part in parts {
            begun.end(take);
            begun.push(part, take);
        }
    }

    /// What was not ended by a newline is a line as well.
    fn finish(&mut self, take: Take<'_>) {
        for begun in [&mut self.output, &mut self.errors] {
            if begun.bytes.len() > begun.before {
                begun.end(take);
            }
        }
    }
}

impl Begun {
    fn push(&mut self, bytes: &[u8], take: Take<'_>) {
        // However much comes at once, no more than a few pieces are held.
        for bytes in bytes.chunks(PIECE) {
            self.bytes.extend_from_slice(bytes);
            while self.bytes.len() - self.before >= PIECE + BESIDE {
                self.pass_on(take);
            }
        }
    }

    fn end(&mut self, take: Take<'_>) {
        while self.bytes.len() - self.before > PIECE {
            self.pass_on(take);
        }
        let (before, bytes) = self.bytes.split_at(self.before);
        take(Piece { before, bytes, after: &[], continues: false });
        self.bytes.clear();
        self.before = 0;
    }

    /// Passes the next piece on. Where it ends follows from the line alone.
    fn pass_on(&mut self, take: Take<'_>) {
        let (before, rest) = self.bytes.split_at(self.before);
        let mut end = PIECE;
        while end > PIECE - 3 && rest.get(end).is_some_and(|byte| byte & 0xc0 == 0x80) {
            end -= 1;
        }
        // The last state of a progress bar stays whole.
        if let Some(returned) = rest[..end].iter().rposition(|byte| *byte == b'\r')
            && returned >= PIECE / 2
        {
            end = returned + 1;
        }
        let (bytes, after) = rest.split_at(end);
        let after = &after[..after.len().min(BESIDE)];
        take(Piece { before, bytes, after, continues: true });
        let begin = (self.before + end).saturating_sub(BESIDE);
        self.before = self.before + end - begin;
        self.bytes.drain(..begin);
    }
}

/// Text whose bytes that are no UTF-8 can be seen.
fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Packs files into an archive that is sent while it is made.
fn pack(files: WorkspaceFiles, sender: mpsc::Sender<Bytes>, handle: &Handle) -> io::Result<()> {
    let WorkspaceFiles { files, time, open } = files;
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(1 << 16, Sending(sender)));
    // An image may have another user than root.
    let mut root = tar::Header::new_gnu();
    root.set_entry_type(tar::EntryType::Directory);
    root.set_mode(0o777);
    root.set_size(0);
    archive.append_data(&mut root, format!("{}/", inside("")), io::empty())?;
    for file in &files {
        append(&mut archive, file, time, &open, handle)?;
    }
    archive.into_inner()?.flush()
}

/// The path of a file of the workspace in an archive for the root of a container.
fn inside(path: &str) -> String {
    format!("{WORKSPACE}/{path}").trim_matches('/').to_owned()
}

fn append(
    archive: &mut tar::Builder<impl Write>,
    file: &ContextFile,
    time: DateTime<Utc>,
    open: &Open,
    handle: &Handle,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(u64::try_from(time.timestamp()).unwrap_or_default());
    match file.kind {
        EntryKind::Folder => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            archive.append_data(&mut header, inside(&file.path), io::empty())
        }
        EntryKind::Link => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            archive.append_link(&mut header, inside(&file.path), &file.target)
        }
        EntryKind::File | EntryKind::Executable => {
            header.set_mode(if file.kind == EntryKind::Executable { 0o755 } else { 0o644 });
            header.set_size(file.size);
            let reader = StreamReader::new(open(&file.blob));
            archive.append_data(
                &mut header,
                inside(&file.path),
                SyncIoBridge::new_with_handle(reader, handle.clone()),
            )
        }
        // The context leaves them out.
        EntryKind::Submodule => Ok(()),
    }
}

/// The writing end of an archive that is sent while it is made.
struct Sending(mpsc::Sender<Bytes>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of pieces, the first of two channels for `true`.
    fn lines(pieces: &[(bool, Vec<u8>)]) -> Vec<String> {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        let mut take = |piece: Piece<'_>| {
            assert!(
                piece.bytes.len() <= PIECE && piece.before.len() <= BESIDE && piece.after.len() <= BESIDE
            );
            found.push(visible(piece.bytes) + if piece.continues { "…" } else { "" });
        };
        for (output, bytes) in pieces {
            let message = Bytes::from(bytes.clone());
            let piece = match output {
                true => LogOutput::StdOut { message },
                false => LogOutput::StdErr { message },
            };
            splitter.push(&piece, &mut take);
        }
        splitter.finish(&mut take);
        found
    }

    #[test]
    fn only_a_newline_ends_a_line() {
        let all = lines(&[(true, b"one\r\n 10%\r100%\r\n\n\0\xfflast".to_vec()), (false, b"error".to_vec())]);
        assert_eq!(all, ["one\r", " 10%\r100%\r", "", "\0\\xfflast", "error"]);
    }

    #[test]
    fn a_long_line_becomes_pieces_that_have_all_of_it() {
        let exact = "x".repeat(PIECE);
        assert_eq!(lines(&[(true, exact.clone().into_bytes())]), std::slice::from_ref(&exact));
        let all = lines(&[(true, format!("{exact}é{exact}\nnext").into_bytes())]);
        assert_eq!(all, [format!("{exact}…"), format!("é{}…", &exact[2..]), "xx".into(), "next".into()]);
        // No character is cut, and the last state of progress is not either.
        let odd = format!("x{}", "é".repeat(PIECE));
        let pieces = lines(&[(true, odd.clone().into_bytes())]);
        assert_eq!(pieces.concat().replace('…', ""), odd);
        let bar = "[#####     ] 50%\r".repeat(2000);
        let pieces = lines(&[(true, bar.clone().into_bytes())]);
        assert!(pieces.len() > 1 && pieces[0].ends_with("50%\r…"), "{:?}", pieces.len());
        assert_eq!(pieces.concat().replace('…', ""), bar);
    }

    /// 50 MB without a newline: none of it is lost, and little is held.
    #[test]
    fn a_line_without_end_is_never_held_whole() {
        let mut begun = Begun::default();
        let mut bytes = 0;
        let mut take = |piece: Piece<'_>| bytes += piece.bytes.len();
        for _ in 0..50 {
            begun.push(&vec![b'x'; 1_000_000], &mut take);
            assert!(begun.bytes.capacity() < 8 * (PIECE + BESIDE));
        }
        begun.end(&mut take);
        assert_eq!(bytes, 50_000_000);
    }

    proptest! {
        #[test]
        fn a_channel_s_lines_are_the_same_however_it_is_cut(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..400),
            long in prop_oneof![3 => Just(0), 1 => PIECE - 50..3 * PIECE],
            cuts in proptest::collection::vec(1_usize..40, 1..40),
        ) {
            let text = [text, vec![b'x'; long], b"\xc3\xa9\r".to_vec()].concat();
            let whole = lines(&[(true, text.clone())]);
            let mut pieces = Vec::new();
            let mut rest = &text[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut * (1 + long / 100)).min(rest.len()));
                pieces.push((true, now.to_vec()));
                rest = later;
            }
            prop_assert_eq!(lines(&pieces), whole);
        }
    }
}
