//! What is kept of a run that has failed: its workspace, and the containers of the steps that failed.

use std::collections::BTreeMap;

use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, HostConfig, Mount};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListContainersOptionsBuilder,
    ListNetworksOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{EngineSteps, GRACE, PIECES, SECRETS, SHELL, WORKSPACE, absent, failed, memory};
use crate::model::run::RunId;
use crate::port::images::ImageError;

impl EngineSteps {
    /// Whether the volume of a run is there.
    pub(super) async fn volume_is_there(&self, run: RunId) -> Result<bool, ImageError> {
        match self.docker().inspect_volume(&self.name(run)).await {
            Ok(_) => Ok(true),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
            Err(error) => Err(failed(error, None)),
        }
    }

    /// Copies the volume of `from` into that of `to`, through two containers that are never started: the engine packs the
    /// one while it unpacks the other, with owners and modes.
    pub(super) async fn copy_volume(&self, from: RunId, to: RunId) -> Result<(), ImageError> {
        self.load_placeholder().await?;
        // Both are the new run's, so that they are removed with it.
        let (source, target) = (format!("{}-from", self.name(to)), format!("{}-files", self.name(to)));
        let read_only = Mount { read_only: Some(true), ..self.workspace(from) };
        for (name, mount) in [(&source, read_only), (&target, self.workspace(to))] {
            self.remove(name).await?;
            self.create_idle(to, name, mount).await?;
        }
        let options = DownloadFromContainerOptionsBuilder::default().path(WORKSPACE).build();
        let mut download = self.docker().download_from_container(&source, Some(options));
        let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
        let reading = async move {
            while let Some(piece) = download.next().await {
                let piece = piece.map_err(|error| failed(error, None))?;
                if sender.send(piece).await.is_err() {
                    // The other end has failed, and says why.
                    break;
                }
            }
            Ok::<(), ImageError>(())
        };
        // The engine leaves the mode and the owner of a folder alone that the archive calls `.`.
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let body = bollard::body_stream(ReceiverStream::new(pieces));
        let (read, written) =
            tokio::join!(reading, self.docker().upload_to_container(&target, Some(options), body));
        // An archive that ended early may have been unpacked without an error.
        read?;
        written.map_err(|error| failed(error, None))?;
        self.remove(&source).await?;
        self.remove(&target).await
    }

    /// Creates a container of the empty image, which only gives access to a volume.
    pub(super) async fn create_idle(&self, run: RunId, name: &str, mount: Mount) -> Result<(), ImageError> {
        let body = ContainerCreateBody {
            image: Some(super::placeholder_image()),
            cmd: Some(vec!["/never-started".to_owned()]),
            labels: Some(self.labels(run)),
            host_config: Some(HostConfig {
                mounts: Some(vec![mount]),
                network_mode: Some("none".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.docker().create_container(Some(options), body).await.map_err(|error| failed(error, None))?;
        Ok(())
    }

    /// Removes all of a run but its workspace, the last container of each of `steps`, and shells that are open.
    pub(super) async fn keep_only(&self, run: RunId, steps: &[usize]) -> Result<(), ImageError> {
        let options = ListContainersOptionsBuilder::default().all(true).filters(&self.filters(Some(run)));
        let found = self.docker().list_containers(Some(options.build())).await;
        let mut last: BTreeMap<usize, (u32, String)> = BTreeMap::new();
        let mut others = Vec::new();
        for container in found.map_err(|error| failed(error, None))? {
            let Some(id) = container.id else { continue };
            if container.labels.as_ref().is_some_and(|labels| labels.contains_key(SHELL)) {
                continue;
            }
            let names = container.names.unwrap_or_default();
            let attempt = names.iter().find_map(|name| self.attempt_of(run, name.trim_start_matches('/')));
            match attempt.filter(|(step, _)| steps.contains(step)) {
                Some((step, number)) => {
                    let known = last.get(&step).is_some_and(|(other, _)| *other > number);
                    let older =
                        if known { Some(id) } else { last.insert(step, (number, id)).map(|(_, id)| id) };
                    others.extend(older);
                }
                None => others.push(id),
            }
        }
        for id in others {
            let options = StopContainerOptionsBuilder::default().t(GRACE).build();
            absent(self.docker().stop_container(&id, Some(options)).await)?;
            self.remove(&id).await?;
        }
        for (_, id) in last.into_values() {
            let options = StopContainerOptionsBuilder::default().t(GRACE).build();
            absent(self.docker().stop_container(&id, Some(options)).await)?;
            self.empty_secrets(&id).await?;
        }
        let options = ListNetworksOptionsBuilder::default().filters(&self.filters(Some(run))).build();
        let networks = self.docker().list_networks(Some(options)).await;
        for network in networks.map_err(|error| failed(error, None))? {
            let removed = self.docker().remove_network(network.id.as_deref().unwrap_or_default()).await;
            match removed {
                // A shell is in it.
                Err(Error::DockerResponseServerError { status_code: 403, .. }) => {}
                removed => absent(removed)?,
            }
        }
        Ok(())
    }

    /// The step's position and the number of the attempt whose container has that name.
    pub(super) fn attempt_of(&self, run: RunId, name: &str) -> Option<(usize, u32)> {
        let rest = name.strip_prefix(&self.name(run))?.strip_prefix('-')?;
        let (step, number) = rest.split_once('-')?;
        Some((step.parse::<usize>().ok()?.checked_sub(1)?, number.parse().ok()?))
    }

    /// Replaces the values of secrets in a container that has ended by nothing: what is kept holds none.
    pub(super) async fn empty_secrets(&self, container: &str) -> Result<(), ImageError> {
        let names = self.secrets_of(container).await?.into_iter().map(|(name, _)| name);
        let mut archive = tar::Builder::new(Vec::new());
        let mut any = false;
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o444);
            header.set_size(0);
            let path = format!("{}/{name}", SECRETS.trim_start_matches('/'));
            archive.append_data(&mut header, path, std::io::empty()).map_err(|error| memory(&error))?;
            any = true;
        }
        if !any {
            return Ok(());
        }
        let bytes = archive.into_inner().map_err(|error| memory(&error))?;
        let options = UploadToContainerOptionsBuilder::default().path("/").build();
        let body = bollard::body_full(Bytes::from(bytes));
        absent(self.docker().upload_to_container(container, Some(options), body).await)
    }
}
