//! Keeps the watched files of this machine.

use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use chrono::Utc;

use super::{Background, Config};
use crate::adapter::cluster_api::ClusterApi;
use crate::adapter::host_files::{MachineDisk, MachinePrograms};
use crate::driver::agent::host_files::HostFiles;
use crate::host_file::Surroundings;
use crate::model::name::MachineId;

/// What variables begin with that are not for templates: they may hold the agent's own credentials.
const OWN: [&str; 2] = ["AWS_", "FLEETWRIGHT_"];

/// Keeps them, until this is dropped.
pub(super) fn keep(control: Arc<ClusterApi>, config: &Config, me: MachineId) -> Background {
    let is_open = |name: &str| !OWN.iter().any(|start| name.starts_with(start));
    let surroundings = Surroundings {
        project: config.project.to_string(),
        environment: config.environment.to_string(),
        cluster: config.cluster.to_string(),
        lookup: Arc::new(lookup),
        variables: std::env::vars().filter(|(name, _)| is_open(name)).collect(),
        now: Utc::now(),
        lenient: false,
    };
    let files = HostFiles {
        me,
        feeds: control,
        disk: Arc::new(MachineDisk::default()),
        programs: Arc::new(MachinePrograms),
        surroundings,
        clock: Arc::new(tokio::time::Instant::now),
    };
    Background::spawn(async move { match files.keep().await {} })
}

/// The addresses that this machine's resolver has.
fn lookup(name: &str) -> Result<Vec<IpAddr>, String> {
    match (name, 0).to_socket_addrs() {
        Ok(found) => Ok(found.map(|address| address.ip()).collect()),
        Err(error) => Err(format!("`{name}` can't be looked up: {error}")),
    }
}
