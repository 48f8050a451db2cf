//! Runs the units that the cluster places on this machine.

use std::path::Path;
use std::sync::Arc;

use bollard::Docker;
use tokio::time::sleep;

use super::{Background, RETRY};
use crate::adapter::cluster_api::ClusterApi;
use crate::adapter::swarm::{DOOR, DOOR_ON_MACHINE, PROBE_ON_MACHINE};
use crate::adapter::units::{
    Checks, Placeholders, RunFolder, SystemBus, follow, keep_image, serve as serve_door,
};
use crate::driver::agent::units::{Owners, Units};
use crate::model::name::MachineId;

/// How far the journal was passed on.
const POSITION: &str = "/run/fleetwright/journal-position";

/// All that belongs to it, until this is dropped.
pub(super) struct Running {
    _parts: [Background; 4],
}

/// Begins to run them.
pub(super) fn serve(docker: Docker, control: Arc<ClusterApi>, machine: MachineId) -> Running {
    let placeholders = Placeholders::default();
    let owners = Owners::default();
    let units = Units {
        machine,
        systemd: Arc::new(SystemBus::default()),
        files: Arc::new(RunFolder::default()),
        door: Arc::new(placeholders.clone()),
        control,
        checks: Arc::new(Checks { helper: PROBE_ON_MACHINE }),
    };
    let image = docker.clone();
    let keep = Background::spawn(async move { match keep_image(image).await {} });
    let door = placeholders.clone();
    let door = Background::spawn(async move {
        loop {
            let Err(error) = serve_door(Path::new(DOOR_ON_MACHINE), DOOR, docker.clone(), door.clone()).await;
            tracing::warn!(%error, folder = DOOR_ON_MACHINE, "serving the placeholders of units");
            sleep(RETRY).await;
        }
    });
    let owned = owners.clone();
    let run = Background::spawn(async move { match units.run(&owned).await {} });
    let journal = Background::spawn(async move {
        let pass_on = |entry: &crate::adapter::units::Entry| {
            if let Some(task) = owners.task(&entry.unit) {
                for line in entry.text.split(|byte| *byte == b'\n') {
                    crate::port::units::Door::print(&placeholders, &task, line);
                }
            }
        };
        match follow(Path::new(POSITION), pass_on).await {}
    });
    Running { _parts: [keep, door, run, journal] }
}
