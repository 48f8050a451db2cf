//! What the pipelines of a server have on the Docker Engine, besides what belongs to a run: caches, images, build cache.

use std::time::Duration;

use async_trait::async_trait;

use super::images::ImageError;
use crate::model::keep::{HeldBuildCache, HeldCache, HeldImage};

/// What an engine has of a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OnEngine {
    /// The caches of steps of this server.
    pub caches: Vec<HeldCache>,
    /// The images that builds for this server's registry have tagged.
    pub images: Vec<HeldImage>,
    /// The build cache, which is the whole engine's.
    pub build_cache: Option<HeldBuildCache>,
}

/// The room that pipelines take on an engine. Every method may be called again after any failure.
#[async_trait]
pub trait EngineStorage: Send + Sync {
    /// What there is. The engine measures everything that it has, so this can take minutes.
    async fn held(&self) -> Result<OnEngine, ImageError>;

    /// Removes a cache of this server; `false` where a container has it.
    async fn remove_cache(&self, name: &str) -> Result<bool, ImageError>;

    /// Removes a tag of an image, and the image with its last tag; `false` where a container has it.
    async fn remove_image(&self, reference: &str) -> Result<bool, ImageError>;

    /// Removes from the build cache what was not used for `unused`, and the oldest of the rest until `keep` bytes remain;
    /// gives the number of bytes that this has freed.
    async fn prune_build_cache(&self, unused: Duration, keep: u64) -> Result<u64, ImageError>;
}
