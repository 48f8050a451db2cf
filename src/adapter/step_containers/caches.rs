//! Folders that outlive runs, as volumes of the engine.

use std::collections::HashMap;

use bollard::errors::Error;
use bollard::models::{Mount, MountType, MountVolumeOptions};
use bollard::query_parameters::{ListVolumesOptionsBuilder, RemoveVolumeOptions};
use sha2::{Digest as _, Sha256};

use super::{EngineSteps, SCOPE, absent, failed};
use crate::model::step_container::CacheMount;
use crate::port::images::ImageError;

/// The label with what a volume is a cache of.
pub(super) const CACHE: &str = "fleetwright.cache";

impl EngineSteps {
    /// The volume of a cache.
    fn cache_volume(&self, cache: &CacheMount) -> String {
        let hash = Sha256::digest(format!("{}\0{}", cache.group, cache.key));
        let hash: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("fleetwright-cache-{}-{hash}", self.scope)
    }

    /// How a container gets a cache. The engine makes the volume with the container.
    pub(super) fn cache_mount(&self, cache: &CacheMount) -> Mount {
        let labels = [(SCOPE, self.scope.clone()), (CACHE, cache.group.clone())];
        let labels = labels.into_iter().map(|(name, value)| (name.to_owned(), value));
        Mount {
            target: Some(cache.path.clone()),
            source: Some(self.cache_volume(cache)),
            typ: Some(MountType::VOLUME),
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels.collect()),
                ..MountVolumeOptions::default()
            }),
            ..Mount::default()
        }
    }

    /// The folders of those caches that are empty. Where a container was `replaced` that had not been started, it may have
    /// made any of them.
    pub(super) async fn fresh_caches(
        &self,
        caches: &[CacheMount],
        replaced: bool,
    ) -> Result<Vec<String>, ImageError> {
        let mut fresh = Vec::new();
        for cache in caches {
            match self.docker().inspect_volume(&self.cache_volume(cache)).await {
                Ok(_) if !replaced => {}
                Ok(_) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                    fresh.push(cache.path.clone());
                }
                Err(error) => return Err(failed(error, None)),
            }
        }
        Ok(fresh)
    }

    /// Removes all caches.
    ///
    /// # Errors
    /// When the engine does not.
    pub async fn remove_caches(&self) -> Result<(), ImageError> {
        let scope = format!("{SCOPE}={}", self.scope);
        let filters = HashMap::from([("label".to_owned(), vec![scope, CACHE.to_owned()])]);
        let options = ListVolumesOptionsBuilder::default().filters(&filters).build();
        let volumes = self.docker().list_volumes(Some(options)).await.map_err(|error| failed(error, None))?;
        for volume in volumes.volumes.unwrap_or_default() {
            absent(self.docker().remove_volume(&volume.name, None::<RemoveVolumeOptions>).await)?;
        }
        Ok(())
    }
}
