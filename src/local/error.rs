//! Why the local cloud could not do something, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why the local cloud could not do something.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file or folder could not be read or written.
    #[error("{doing} `{path}`: {source}")]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing answers on Docker's socket.
    #[error("Docker does not answer: {reason}")]
    NoDocker {
        /// What happened.
        reason: String,
    },
    /// Docker refused something.
    #[error("{doing}: {source}")]
    Docker {
        /// What was tried, on what.
        doing: String,
        /// What Docker said.
        #[source]
        source: bollard::errors::Error,
    },
    /// A program that is needed is not there.
    #[error("`{program}` is needed {why} and is not installed")]
    Missing {
        /// The program.
        program: &'static str,
        /// What for.
        why: &'static str,
        /// How to get it.
        get: &'static str,
    },
    /// A program failed.
    #[error("{doing}: `{program}` failed: {reason}")]
    Program {
        /// What was tried.
        doing: &'static str,
        /// The program.
        program: String,
        /// Its last words, or how it ended.
        reason: String,
        /// Where all it printed is kept.
        log: PathBuf,
    },
    /// The machines' network overlaps with one of the host's.
    #[error("the machines' network {cidr} can't be made: {reason}")]
    Network {
        /// The VPC's address range.
        cidr: String,
        /// What Docker said.
        reason: String,
    },
    /// Another local cloud uses the range of the machines' network.
    #[error("the machines' network {cidr} can't be made: local cloud `{cloud}` in {} uses it", folder.display())]
    Taken {
        /// The range that is in use.
        cidr: String,
        /// The other cloud.
        cloud: String,
        /// Its folder.
        folder: PathBuf,
    },
    /// No port is free, or the ones asked for are taken.
    #[error("port {port} on 127.0.0.1 can't be had: {source}")]
    Port {
        /// The port.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The emulator did not do what it was asked.
    #[error("{doing}: {reason}")]
    Emulator {
        /// What was tried.
        doing: &'static str,
        /// What happened.
        reason: String,
    },
    /// The supervisor ended before all was up.
    #[error("the local cloud did not start: {reason}")]
    NotStarted {
        /// Its last words.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// The certificate or password could not be made.
    #[error("making the registry's {what}: {reason}")]
    Credentials {
        /// `certificate` or `password file`.
        what: &'static str,
        /// What happened.
        reason: String,
    },
    /// A setting has a value that can't be used.
    #[error("{setting} is `{value}`: {rule}")]
    Setting {
        /// The variable or option.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No local cloud of this name is up.
    #[error("no local cloud named `{name}` is up")]
    NotUp {
        /// The name.
        name: String,
    },
    /// A machine is not there, or not in the state that is needed.
    #[error("machine `{instance}`: {why}")]
    NoMachine {
        /// Its instance.
        instance: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A machine was removed while its power was cut.
    #[error("machine `{instance}` was removed while its power was cut")]
    Removed {
        /// Its instance.
        instance: String,
    },
    /// No machine fits.
    #[error("the local cloud has no machine {which}")]
    NoMachines {
        /// What was asked for.
        which: String,
    },
    /// The supervisor did not carry out an order to cut a machine's power.
    #[error("machine `{instance}`: the supervisor has not {doing}")]
    NotSwitched {
        /// Its instance.
        instance: String,
        /// `cut the power` or `switched the machine on again`.
        doing: &'static str,
    },
    /// The local cloud lost something that can't be restored.
    #[error("the local cloud `{name}` is broken: {reason}")]
    Broken {
        /// The name.
        name: String,
        /// What was lost.
        reason: String,
    },
}

impl LocalError {
    /// Wraps an I/O error with what was tried on which file.
    pub fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { doing, path: path.to_owned(), source }
    }

    /// Wraps an error of Docker's.
    pub fn docker(doing: impl Into<String>) -> impl FnOnce(bollard::errors::Error) -> Self {
        move |source| Self::Docker { doing: doing.into(), source }
    }

    /// The next step for a person.
    pub fn next(&self) -> String {
        match self {
            Self::File { .. } => {
                "check the folder's owner and free space, or choose another with FLEETWRIGHT_HOME".into()
            }
            Self::NoDocker { .. } => {
                "start Docker (`scripts/setup run` does), or point DOCKER_HOST at a local engine".into()
            }
            Self::Docker { .. } => "look at Docker's own log; then run the command again".into(),
            Self::Missing { get, .. } => (*get).into(),
            Self::Program { log, .. } | Self::NotStarted { log, .. } => {
                format!("read {}; then run the command again", log.display())
            }
            Self::Network { .. } => {
                "choose a range that nothing else on this machine uses: VpcCidr and the subnets in \
                 stacks/network.yaml; then `fleetwright local down && fleetwright local up`"
                    .into()
            }
            Self::Taken { cloud, folder, .. } => {
                // The folder is HOME/local/NAME.
                let home = folder.ancestors().nth(2).unwrap_or(folder);
                format!("run `FLEETWRIGHT_HOME={} fleetwright local down --name {cloud}`", home.display())
            }
            Self::Port { .. } => {
                "stop what uses it, or set FLEETWRIGHT_LOCAL_PORT_BASE to the first of four free ports".into()
            }
            Self::Emulator { .. } => "look at `fleetwright local status` and the emulator's log".into(),
            Self::Credentials { .. } => "run `fleetwright local down`, then `fleetwright local up`".into(),
            Self::Setting { .. } => "correct it, or unset it for the default".into(),
            Self::NotUp { name } if name == "local" => "run `fleetwright local up`".into(),
            Self::NotUp { name } => format!("run `fleetwright local up --name {name}`"),
            Self::NoMachine { .. } | Self::NoMachines { .. } | Self::Removed { .. } => {
                "`fleetwright local status` lists the machines and their state".into()
            }
            Self::NotSwitched { .. } => {
                "read the supervisor's log (`fleetwright local status` says where); one of an older version \
                 does not know power cuts: end it, and run `fleetwright local up`"
                    .into()
            }
            Self::Broken { name, .. } if name == "local" => {
                "run `fleetwright local down && fleetwright local up`; stacks must be applied again".into()
            }
            Self::Broken { name, .. } => format!(
                "run `fleetwright local down --name {name} && fleetwright local up --name {name}`; \
                 stacks must be applied again"
            ),
        }
    }
}
