//! `state.json`: what the supervisor says of itself and its parts, for the other commands.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use serde::{Deserialize, Serialize};

use super::error::LocalError;
use super::home::{CloudFiles, write_file};
use super::image::Release;
use super::process::ProcessId;

/// The version of the file; another version is not taken over.
pub const STATE_VERSION: u32 = 1;

/// What a supervisor provides, in steps: 1 answers STS as well. `local up` replaces a supervisor that
/// provides less than this program's commands and machines need. Its parts keep running.
pub const SERVES: u32 = 1;

/// The ports of a local cloud, on 127.0.0.1 and on the machines' gateways alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// The emulated AWS.
    pub emulator: u16,
    /// The registry.
    pub registry: u16,
    /// The agent's executable (gateways only).
    pub agent: u16,
    /// The metadata service (gateways only).
    pub metadata: u16,
}

impl Ports {
    /// Four in a row from FLEETWRIGHT_LOCAL_PORT_BASE, or free ones that the system picks.
    ///
    /// # Errors
    /// When the variable is no port, or a port is taken.
    pub fn pick() -> Result<Self, LocalError> {
        let base = match std::env::var("FLEETWRIGHT_LOCAL_PORT_BASE") {
            Ok(text) if !text.is_empty() => {
                let base = text.parse::<u16>().ok().filter(|base| (1024..=65000).contains(base));
                Some(base.ok_or(LocalError::Setting {
                    setting: "FLEETWRIGHT_LOCAL_PORT_BASE",
                    value: text,
                    rule: "it must be a port from 1024 to 65000",
                })?)
            }
            _ => None,
        };
        let mut held = Vec::new();
        for offset in 0..4 {
            let port = base.map_or(0, |base| base + offset);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|source| LocalError::Port { port, source })?;
            held.push(listener);
        }
        let port = |at: usize| {
            let address = held[at].local_addr();
            address.map(|a| a.port()).map_err(|source| LocalError::Port { port: 0, source })
        };
        Ok(Self { emulator: port(0)?, registry: port(1)?, agent: port(2)?, metadata: port(3)? })
    }
}

/// The state of the emulator or the registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its process, while there is one.
    pub process: Option<ProcessId>,
    /// Whether it has answered since it was started.
    pub answers: bool,
    /// What is wrong, or was when it last ended.
    pub message: Option<String>,
}

/// Something that does not work, and what a person can do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What.
    pub message: String,
    /// The next step.
    pub next: String,
}

/// What the supervisor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`STATE_VERSION`] of the writer.
    pub version: u32,
    /// What it provides: [`SERVES`] of the writer.
    #[serde(default)]
    pub serves: u32,
    /// The supervisor.
    pub supervisor: ProcessId,
    /// Whether everything was started.
    pub ready: bool,
    /// The ports.
    pub ports: Ports,
    /// The emulator.
    pub emulator: Part,
    /// The registry.
    pub registry: Part,
    /// The image in Docker of machines whose image id is none of ours.
    pub machine_image: String,
    /// Its id in the emulated EC2.
    pub ami: String,
    /// Its release of Debian.
    #[serde(default)]
    pub release: Release,
    /// What was lost that can't be restored.
    pub broken: Option<String>,
    /// What does not work for now.
    pub problems: Vec<Problem>,
}

impl State {
    /// The last one written, if it is of this version.
    pub fn read(files: &CloudFiles) -> Option<Self> {
        let state: Self = serde_json::from_slice(&fs::read(files.state()).ok()?).ok()?;
        (state.version == STATE_VERSION).then_some(state)
    }

    /// Writes it; readers see the old one or the new one.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, files: &CloudFiles) -> Result<(), LocalError> {
        write_file(&files.state(), serde_json::to_vec_pretty(self).unwrap_or_default())
    }

    /// Whether a supervisor of this cloud lives: it holds a lock, which no crash leaves behind.
    pub fn is_supervised(files: &CloudFiles) -> bool {
        match fs::File::open(files.lock()) {
            Ok(file) => matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)),
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_still_loads() {
        for (name, text) in crate::source::samples::of("local-state") {
            let state: State = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(state.ports.registry, 14601);
            assert_eq!(state.release, Release::Bookworm);
            assert_eq!(state.emulator.process.map(|p| p.pid), Some(4711));
        }
    }
}
