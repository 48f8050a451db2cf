//! Shells in containers like those of steps that have failed. The engine executes nothing in a container that has ended, so
//! its file system becomes an image, which a new container is made of: with the files that the step has left outside of
//! the workspace, too. The image holds no secret, since what is kept has lost them; the new container gets them again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerConfig, ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, ResizeContainerTTYOptionsBuilder, StartContainerOptions,
};
use futures_util::StreamExt as _;
use tokio::io::{AsyncWrite, split};
use tokio::time::{Instant, sleep};

use super::{EngineSteps, HELPER, RUN, SCOPE, SHELL, absent, failed, set_from_files};
use crate::adapter::swarm::exec::{plain, separate};
use crate::adapter::swarm::terminal_input::TerminalInput;
use crate::model::frame::{Signal, Size};
use crate::model::run::RunId;
use crate::port::cluster::ClusterError;
use crate::port::images::ImageError;
use crate::port::step_containers::Program;
use crate::port::streams::{Output, Process, ProcessHandle};

/// The repository of the images that shells are in.
const IMAGES: &str = "fleetwright-shell";
/// How long the engine may take to report the end of a container whose output has ended.
const REPORT: Duration = Duration::from_secs(10);
/// Time between two questions about it.
const ASK: Duration = Duration::from_millis(20);

impl EngineSteps {
    pub(super) async fn open_shell(
        &self,
        run: RunId,
        step: usize,
        secrets: &BTreeMap<String, String>,
        program: &Program,
    ) -> Result<Option<Process>, ImageError> {
        let Some(kept) = self.kept_container(run, step).await? else { return Ok(None) };
        let found =
            self.docker().inspect_container(&kept, None).await.map_err(|error| failed(error, None))?;
        let (config, host) = (found.config.unwrap_or_default(), found.host_config.unwrap_or_default());
        let values = self.images.read_secrets(secrets).await?;
        let image = self.shell_image(run, step, &kept).await?;
        // Companions have ended with the step, and with them a network of its own.
        let network = self.name(run);
        self.network(run, network.clone()).await?;
        let mut env = config.env.unwrap_or_default();
        let mut entry = vec![HELPER.to_owned(), "exec".to_owned()];
        entry.extend(set_from_files(values.keys(), &env));
        entry.push("--".to_owned());
        let terminal = program.terminal.as_ref();
        if let Some(terminal) = terminal {
            env.retain(|variable| !variable.starts_with("TERM="));
            env.push(format!("TERM={}", terminal.kind));
        }
        let mut labels = self.labels(run);
        labels.insert(SHELL.to_owned(), (step + 1).to_string());
        let body = ContainerCreateBody {
            image: Some(image),
            entrypoint: Some(entry),
            cmd: Some(program.command.clone()),
            env: Some(env),
            user: config.user,
            working_dir: config.working_dir,
            labels: Some(labels),
            tty: Some(terminal.is_some()),
            open_stdin: Some(program.input),
            // The program's input ends when the caller's does, or when the caller is gone.
            stdin_once: Some(program.input),
            attach_stdin: Some(program.input),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            host_config: Some(HostConfig {
                network_mode: Some(network),
                // What is typed and shown is nobody else's.
                log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
                ..host
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().build();
        let created = self.docker().create_container(Some(options), body).await;
        let id = created.map_err(|error| failed(error, None))?.id;
        let handle = Arc::new(Shell { docker: self.docker().clone(), id: id.clone() });
        match self.connect(&id, &values, program, Arc::clone(&handle)).await {
            Ok(process) => Ok(Some(process)),
            Err(error) => {
                handle.end().await;
                Err(error)
            }
        }
    }

    /// Starts a container whose streams are connected already, so that nothing is missed.
    async fn connect(
        &self,
        id: &str,
        secrets: &HashMap<String, crate::model::secret::Secret<String>>,
        program: &Program,
        handle: Arc<Shell>,
    ) -> Result<Process, ImageError> {
        self.equip(id, secrets, &[]).await?;
        let stdin = if program.input { "&stdin=1" } else { "" };
        let path = format!("/containers/{id}/attach?stream=1&stdout=1&stderr=1{stdin}");
        let connection = self.images.hijack(&path).await?;
        let started = self.docker().start_container(id, None::<StartContainerOptions>).await;
        started.map_err(|error| failed(error, None))?;
        let terminal = program.terminal.as_ref();
        if let Some(size) = terminal.and_then(|terminal| terminal.size) {
            handle.resize(size).await;
        }
        let (reader, writer) = split(connection);
        let output = if terminal.is_some() { plain(reader).boxed() } else { separate(reader).boxed() };
        let output: Output = output.map(|item| item.map_err(|error| lost(&error))).boxed();
        let input: Option<Box<dyn AsyncWrite + Send + Unpin>> = match (program.input, terminal) {
            (false, _) => None,
            (true, None) => Some(Box::new(writer)),
            (true, Some(_)) => Some(Box::new(TerminalInput::new(writer))),
        };
        Ok(Process { input, output, handle })
    }

    /// The container of the last attempt at a step, where it is kept.
    async fn kept_container(&self, run: RunId, step: usize) -> Result<Option<String>, ImageError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filters(Some(run)));
        let found = self.docker().list_containers(Some(options.build())).await;
        let mut last = None;
        for container in found.map_err(|error| failed(error, None))? {
            let names = container.names.unwrap_or_default();
            let attempt = names.iter().find_map(|name| self.attempt_of(run, name.trim_start_matches('/')));
            if let (Some((of, number)), Some(id)) = (attempt, container.id)
                && of == step
            {
                last = last.max(Some((number, id)));
            }
        }
        Ok(last.map(|(_, id)| id))
    }

    /// The image with the files of a container that is kept, made with the first shell.
    async fn shell_image(&self, run: RunId, step: usize, kept: &str) -> Result<String, ImageError> {
        let tag = format!("{}-{run}-{}", self.scope, step + 1);
        let name = format!("{IMAGES}:{tag}");
        match self.docker().inspect_image(&name).await {
            Ok(_) => return Ok(name),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(error, None)),
        }
        // Who is quick comes before the run is tidied up, and an image is to hold no secrets either.
        self.empty_secrets(kept).await?;
        let options = CommitContainerOptionsBuilder::default().container(kept).repo(IMAGES).tag(&tag).build();
        // The container's labels become those of the image, by which it is found.
        let committed = self.docker().commit_container(options, ContainerConfig::default()).await;
        committed.map_err(|error| failed(error, None))?;
        Ok(name)
    }

    /// Removes the images that shells of a run were in.
    pub(super) async fn remove_shell_images(&self, run: RunId) -> Result<(), ImageError> {
        let labels = vec![format!("{SCOPE}={}", self.scope), format!("{RUN}={run}")];
        let filters =
            HashMap::from([("label".to_owned(), labels), ("reference".to_owned(), vec![IMAGES.to_owned()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let found = self.docker().list_images(Some(options)).await.map_err(|error| failed(error, None))?;
        for image in found {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            absent(self.docker().remove_image(&image.id, Some(options), None).await.map(drop))?;
        }
        Ok(())
    }
}

/// A container with a shell.
struct Shell {
    docker: Docker,
    id: String,
}

#[async_trait]
impl ProcessHandle for Shell {
    async fn resize(&self, size: Size) {
        let (height, width) = (i32::from(size.rows), i32::from(size.columns));
        let options = ResizeContainerTTYOptionsBuilder::default().h(height).w(width).build();
        if let Err(error) = self.docker.resize_container_tty(&self.id, options).await {
            tracing::debug!(%error, "resizing a terminal");
        }
    }

    async fn signal(&self, signal: Signal) {
        let name = match signal {
            Signal::HangUp => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::Terminate => "SIGTERM",
        };
        let options = KillContainerOptionsBuilder::default().signal(name).build();
        if let Err(error) = self.docker.kill_container(&self.id, Some(options)).await {
            tracing::debug!(%error, "a signal for a shell");
        }
    }

    async fn exit(&self) -> Result<i32, ClusterError> {
        let begun = Instant::now();
        loop {
            let seen = self.docker.inspect_container(&self.id, None).await;
            let state = seen.map_err(|error| lost(&error))?.state.unwrap_or_default();
            if state.running == Some(false)
                && let Some(status) = state.exit_code.and_then(|status| i32::try_from(status).ok())
            {
                return Ok(status);
            }
            if begun.elapsed() > REPORT {
                return Err(lost(&"its output has ended, and the engine says that it still runs"));
            }
            sleep(ASK).await;
        }
    }

    async fn end(&self) {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        if let Err(error) = self.docker.remove_container(&self.id, Some(options)).await {
            tracing::debug!(%error, "removing the container of a shell");
        }
    }
}

fn lost(reason: &dyn std::fmt::Display) -> ClusterError {
    ClusterError::Engine {
        doing: "running a program in a step's container".to_owned(),
        reason: reason.to_string(),
    }
}
