//! What clouds that were never taken down left in Docker: networks whose ranges another cloud needs.
//!
//! A machine that stopped is a terminated instance, so the next supervisor of its cloud could do nothing but remove
//! it. That makes it safe to remove for others too, as long as nobody supervises the cloud.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as ContainerState};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptions,
};
use ipnet::Ipv4Net;

use super::error::LocalError;
use super::home::LOCK;
use super::machines::{LABEL_CLOUD, LABEL_FOLDER, Machines, absent_is_fine, subnet};

/// Another cloud's network.
struct Foreign {
    /// Its name in Docker.
    network: String,
    cidr: Ipv4Net,
    cloud: String,
    folder: PathBuf,
}

impl Machines {
    /// Removes networks that overlap with `cidr` and belong to clouds that nobody runs, with the stopped machines
    /// on them.
    ///
    /// # Errors
    /// [`LocalError::Taken`] when one is in use, or when Docker refuses.
    pub(super) async fn make_room(&self, cidr: Ipv4Net) -> Result<(), LocalError> {
        for foreign in self.overlapping(cidr).await? {
            let machines = self.machines_of(&foreign).await?;
            let stopped = machines.iter().all(|machine| {
                matches!(
                    machine.state,
                    Some(ContainerState::CREATED | ContainerState::EXITED | ContainerState::DEAD)
                )
            });
            if !stopped || !is_abandoned(&foreign.folder) {
                let Foreign { cidr, cloud, folder, .. } = foreign;
                return Err(LocalError::Taken { cidr: cidr.to_string(), cloud, folder });
            }
            tracing::info!(network = foreign.network, folder = %foreign.folder.display(), "removing an abandoned network");
            for machine in machines {
                self.remove_foreign(&machine).await?;
            }
            let doing = format!("removing the abandoned network {}", foreign.network);
            absent_is_fine(self.docker.remove_network(&foreign.network).await, doing)?;
        }
        Ok(())
    }

    async fn overlapping(&self, cidr: Ipv4Net) -> Result<Vec<Foreign>, LocalError> {
        let filter = HashMap::from([("label".to_owned(), vec![LABEL_CLOUD.to_owned()])]);
        let options = ListNetworksOptionsBuilder::default().filters(&filter).build();
        let listed = self.docker.list_networks(Some(options)).await;
        let listed = listed.map_err(LocalError::docker("listing networks"))?;
        let foreign = listed.into_iter().filter_map(|network| {
            let subnet = subnet(&network)?;
            let overlaps = subnet.contains(&cidr) || cidr.contains(&subnet);
            let mut labels = network.labels.unwrap_or_default();
            // Versions before this label existed did not record the folder: nothing is known of those.
            let folder = PathBuf::from(labels.remove(LABEL_FOLDER)?);
            let cloud = labels.remove(LABEL_CLOUD)?;
            let is_foreign = overlaps && folder != self.files.dir();
            is_foreign.then_some(Foreign { network: network.name?, cidr: subnet, cloud, folder })
        });
        Ok(foreign.collect())
    }

    async fn machines_of(&self, foreign: &Foreign) -> Result<Vec<ContainerSummary>, LocalError> {
        let filter = HashMap::from([
            (
                "label".to_owned(),
                vec![
                    format!("{LABEL_CLOUD}={}", foreign.cloud),
                    format!("{LABEL_FOLDER}={}", foreign.folder.display()),
                ],
            ),
            ("network".to_owned(), vec![foreign.network.clone()]),
        ]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        self.docker.list_containers(Some(options)).await.map_err(LocalError::docker("listing machines"))
    }

    async fn remove_foreign(&self, machine: &ContainerSummary) -> Result<(), LocalError> {
        let Some(id) = &machine.id else { return Ok(()) };
        let doing = || format!("removing the abandoned machine {id}");
        // Not by force: one that was started in the meantime stays.
        let options = RemoveContainerOptionsBuilder::default().v(true).build();
        absent_is_fine(self.docker.remove_container(id, Some(options)).await, doing())?;
        let name = machine.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        let Some(name) = name else { return Ok(()) };
        // A machine and its volume have one name.
        absent_is_fine(self.docker.remove_volume(name, None::<RemoveVolumeOptions>).await, doing())
    }
}

/// Whether nobody supervises the cloud of that folder. A folder that can't be examined may be in use.
fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(file) => !matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}
