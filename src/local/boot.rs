//! Booting a cloud-config for real: one machine in a container, from its first boot to the end of cloud-init,
//! and what it has come to. The machine image is the local cloud's.

pub mod expect;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::error::LocalError;
use super::home::{Home, make_dir, remove_dir, write_file};
use super::machines::{CAPABILITIES, cgroup_settings};

/// How often the machine is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How long units that cloud-init has started may take to come to rest.
const REST: Duration = Duration::from_secs(30);
/// What the machine runs first, with the command that boots it behind. The user data may start an agent, and on an
/// instance of EC2 that one would find a metadata service and take itself for this computer.
const ALONE: &str = "ip route add unreachable 169.254.169.254 && exec \"$@\"";
/// Bytes of a file, or of a program's output, that are kept.
const TEXT_MOST: usize = 64 << 10;

/// What is to be booted, and what is looked at afterwards.
#[derive(Debug, Clone, Default)]
pub struct Boot {
    /// The user data.
    pub user_data: String,
    /// Files that are looked at, by path.
    pub files: Vec<String>,
    /// Units that are looked at.
    pub units: Vec<String>,
    /// Programs that are run.
    pub commands: Vec<Vec<String>>,
    /// Files and folders of this computer that the machine has from the start, read-only.
    pub brought: Vec<Brought>,
    /// How long cloud-init may take.
    pub limit: Duration,
}

/// A file or folder of this computer that a machine has as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// Where it is on this computer, an absolute path.
    pub here: PathBuf,
    /// Where the machine has it, an absolute path.
    pub there: String,
}

/// What a machine has come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Booted {
    /// Whether cloud-init was done in time.
    pub done: bool,
    /// Seconds from the machine's start to the end of cloud-init.
    pub seconds: f64,
    /// cloud-init's errors.
    pub errors: Vec<String>,
    /// Warnings in cloud-init's log.
    pub warnings: Vec<String>,
    /// Units that have failed.
    pub failed: Vec<String>,
    /// Units that were looked at.
    pub units: BTreeMap<String, Unit>,
    /// Files that were looked at and are there.
    pub files: BTreeMap<String, Seen>,
    /// Programs that were run.
    pub ran: Vec<Ran>,
}

/// A unit's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// `active`, `inactive`, `failed`, ...
    pub active: String,
    /// `enabled`, `disabled`, `static`, ...; empty when there is no such unit.
    pub enabled: String,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Its mode in octal digits.
    pub mode: String,
    /// `user:group`.
    pub owner: String,
    /// Its size.
    pub bytes: u64,
    /// Its text, the first part of a large one.
    #[serde(skip)]
    pub text: String,
}

/// A program that was run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ran {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The status it ended with.
    pub status: i64,
    /// What it said, the first part of a long text.
    pub output: String,
}

/// Boots a machine of `image`, and removes it again whatever comes of it; `None` when a signal came first.
///
/// # Errors
/// When Docker refuses, or the machine's files can't be written.
pub async fn boot(
    docker: &Docker,
    home: &Home,
    image: &str,
    boot: &Boot,
    stop: &CancellationToken,
) -> Result<Option<Booted>, LocalError> {
    let name = format!("fleetwright-boot-{}", std::process::id());
    let folder = home.scratch(&name);
    let machine = Machine { docker, name: &name };
    let booted = tokio::select! {
        booted = machine.run(image, &folder, boot) => booted.map(Some),
        () = stop.cancelled() => Ok(None),
    };
    machine.remove().await?;
    remove_dir(&folder)?;
    booted
}

struct Machine<'a> {
    docker: &'a Docker,
    name: &'a str,
}

impl Machine<'_> {
    async fn run(&self, image: &str, folder: &std::path::Path, boot: &Boot) -> Result<Booted, LocalError> {
        let seed = folder.join("seed");
        make_dir(&seed)?;
        write_file(&seed.join("user-data"), &boot.user_data)?;
        write_file(&seed.join("meta-data"), format!("instance-id: {0}\nlocal-hostname: boot\n", self.name))?;
        self.create(image, folder, &boot.brought).await?;
        let begun = Instant::now();
        let start = self.docker.start_container(self.name, None).await;
        start.map_err(LocalError::docker("starting the machine"))?;
        let mut booted = Booted { done: self.cloud_init(boot.limit).await, ..Booted::default() };
        booted.seconds = begun.elapsed().as_secs_f64();
        self.rest().await;
        booted.errors = self.errors().await;
        booted.warnings = self.warnings().await;
        booted.failed = self.failed().await;
        for unit in &boot.units {
            booted.units.extend(self.unit(unit).await.map(|state| (unit.clone(), state)));
        }
        for path in &boot.files {
            booted.files.extend(self.file(path).await.map(|seen| (path.clone(), seen)));
        }
        for command in &boot.commands {
            let words: Vec<&str> = command.iter().map(String::as_str).collect();
            let (status, output) = self.exec(&words).await.unwrap_or((-1, "it can't be run".to_owned()));
            booted.ran.push(Ran { command: command.clone(), status, output: output.trim_end().to_owned() });
        }
        Ok(booted)
    }

    async fn create(
        &self,
        image: &str,
        folder: &std::path::Path,
        brought: &[Brought],
    ) -> Result<(), LocalError> {
        let (cgroup_mode, cgroup_mount, command) = cgroup_settings();
        let command = ["sh", "-c", ALONE, "sh"].map(str::to_owned).into_iter().chain(command);
        let mut binds = vec![format!("{}:/var/lib/cloud/seed/nocloud:ro", folder.join("seed").display())];
        binds.extend(cgroup_mount.map(str::to_owned));
        let mounts = brought.iter().map(|file| Mount {
            typ: Some(MountType::BIND),
            source: Some(file.here.to_string_lossy().into_owned()),
            target: Some(file.there.clone()),
            read_only: Some(true),
            ..Default::default()
        });
        let tmpfs =
            ["/run", "/run/lock", "/tmp"].map(|path| (path.to_owned(), "exec,nosuid,nodev".to_owned()));
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            hostname: Some("boot".to_owned()),
            cmd: Some(command.collect()),
            // Docker in a container needs a folder that is no overlay; it goes with the container.
            volumes: Some(vec!["/var/lib/docker".to_owned()]),
            host_config: Some(HostConfig {
                binds: Some(binds),
                cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
                security_opt: Some(vec!["seccomp=unconfined".into(), "apparmor=unconfined".into()]),
                cgroupns_mode: Some(cgroup_mode),
                tmpfs: Some(tmpfs.into()),
                mounts: Some(mounts.collect()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(self.name).build();
        let created = self.docker.create_container(Some(options), body).await;
        created.map(drop).map_err(LocalError::docker("making the machine"))
    }

    async fn remove(&self) -> Result<(), LocalError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match self.docker.remove_container(self.name, Some(options)).await {
            Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) | Ok(()) => {
                Ok(())
            }
            Err(error) => Err(LocalError::docker("removing the machine")(error)),
        }
    }

    /// Whether cloud-init was done within `limit`.
    async fn cloud_init(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.says(&["test", "-e", "/run/cloud-init/result.json"]).await.is_some() {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        false
    }

    /// Until no unit is on its way any more.
    async fn rest(&self) {
        let end = Instant::now() + REST;
        while Instant::now() < end {
            let jobs = self.says(&["systemctl", "list-jobs", "--no-legend", "--plain"]).await;
            if jobs.is_some_and(|jobs| jobs.trim().is_empty()) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn errors(&self) -> Vec<String> {
        let text = self.says(&["cat", "/run/cloud-init/result.json"]).await.unwrap_or_default();
        let result: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let errors = result["v1"]["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error.as_str().map_or_else(|| error.to_string(), str::to_owned)).collect()
    }

    async fn warnings(&self) -> Vec<String> {
        let log =
            self.says(&["grep", "-F", "[WARNING]", "/var/log/cloud-init.log"]).await.unwrap_or_default();
        // The image has no SSH server, of which every boot would complain.
        let of_ssh = |warning: &str| warning.contains("ssh_host_") || warning.contains("SSH service");
        let warnings = log.lines().filter_map(|line| Some(line.split_once("[WARNING]: ")?.1));
        warnings.filter(|warning| !of_ssh(warning)).map(str::to_owned).collect()
    }

    async fn failed(&self) -> Vec<String> {
        let list = self
            .says(&["systemctl", "list-units", "--failed", "--no-legend", "--plain"])
            .await
            .unwrap_or_default();
        let mut failed: Vec<String> =
            list.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
        failed.sort();
        failed
    }

    async fn unit(&self, name: &str) -> Option<Unit> {
        let shown =
            self.says(&["systemctl", "show", "-p", "ActiveState", "-p", "UnitFileState", "--", name]).await?;
        let value = |key: &str| {
            let found = shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        Some(Unit { active: value("ActiveState"), enabled: value("UnitFileState") })
    }

    async fn file(&self, path: &str) -> Option<Seen> {
        let stat = self.says(&["stat", "-L", "-c", "%a %U:%G %s", "--", path]).await?;
        let mut words = stat.split_whitespace();
        let (mode, owner) = (words.next()?.to_owned(), words.next()?.to_owned());
        let bytes = words.next()?.parse().ok()?;
        let text = self.says(&["head", "-c", &TEXT_MOST.to_string(), "--", path]).await.unwrap_or_default();
        Some(Seen { mode, owner, bytes, text })
    }

    /// What a program says that ends well.
    async fn says(&self, command: &[&str]) -> Option<String> {
        let (status, output) = self.exec(command).await?;
        (status == 0).then_some(output)
    }

    /// Runs a program in the machine; `None` when it can't be run.
    async fn exec(&self, command: &[&str]) -> Option<(i64, String)> {
        use bollard::exec::{CreateExecOptions, StartExecResults};
        let options = CreateExecOptions {
            cmd: Some(command.to_vec()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..Default::default()
        };
        let exec = self.docker.create_exec(self.name, options).await.ok()?;
        let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&exec.id, None).await.ok()?
        else {
            return None;
        };
        let mut text = String::new();
        while let Some(Ok(chunk)) = output.next().await {
            if text.len() < TEXT_MOST {
                text.push_str(&String::from_utf8_lossy(&chunk.into_bytes()));
            }
        }
        let status = self.docker.inspect_exec(&exec.id).await.ok()?.exit_code.unwrap_or(-1);
        Some((status, text))
    }
}
