//! Where images are built and kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::git::Content;
use crate::model::image::ContextFile;
use crate::model::name::Digest;
use crate::model::secret::Secret;

/// Why an image was not built, pushed or found.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The registry can't be reached; trying again may help.
    #[error("the registry at {host} can't be reached: {reason}")]
    Registry {
        /// The registry.
        host: String,
        /// What happened.
        reason: String,
    },
    /// The registry's connection can't be trusted.
    #[error("the registry at {host} is not used: {reason}")]
    Untrusted {
        /// The registry.
        host: String,
        /// Why not, and what changes that.
        reason: String,
    },
    /// The registry refuses.
    #[error("the registry at {host} refuses {doing}: {reason}")]
    Refused {
        /// The registry.
        host: String,
        /// What was asked.
        doing: String,
        /// Its words.
        reason: String,
    },
    /// The credentials can't be had or read.
    #[error("the registry's credentials at `{parameter}`: {reason}")]
    Credentials {
        /// The parameter's name.
        parameter: String,
        /// What happened.
        reason: String,
        /// Whether trying again may help.
        transient: bool,
    },
    /// The builder can't be reached; trying again may help.
    #[error("Docker can't be reached: {reason}")]
    Builder {
        /// What happened.
        reason: String,
    },
    /// The build failed.
    #[error("{reason}")]
    Build {
        /// The first cause.
        reason: String,
        /// The step that failed, by the builder's name for it.
        step: Option<String>,
    },
    /// The name of an image is not one.
    #[error("`{name}` is not the name of an image: {reason}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ImageError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Registry { .. } | Self::Builder { .. } => true,
            Self::Credentials { transient, .. } => *transient,
            Self::Untrusted { .. } | Self::Refused { .. } | Self::Build { .. } | Self::Name { .. } => false,
        }
    }
}

/// What the builder is told.
pub struct BuildRequest {
    /// The image's repository without registry host.
    pub image: String,
    /// The tag to give it.
    pub tag: String,
    /// The text of the Dockerfile; the one in the context is a file like any other.
    pub dockerfile: String,
    /// The images that it is built from, each by its digest.
    pub bases: Vec<String>,
    /// Build arguments.
    pub args: BTreeMap<String, String>,
    /// The stage to build; `None` for the last.
    pub target: Option<String>,
    /// Keeps the folders of `RUN --mount=type=cache` apart from those of builds with another value; empty for the common ones.
    pub cache_namespace: String,
    /// The parameters that hold the build's secrets, by the secrets' ids.
    pub secrets: BTreeMap<String, String>,
    /// The files of the context.
    pub context: Vec<ContextFile>,
    /// The time of all of them.
    pub time: DateTime<Utc>,
    /// Opens a file by the id of its blob.
    pub open: Open,
}

/// Opens a file by the id of its blob.
pub type Open = Arc<dyn Fn(&str) -> Content + Send + Sync>;

/// Takes the lines that a builder or a registry says while it works.
pub type Lines<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Where images are built and kept: a builder and the environment's registry. Every
/// method may be called again after any failure; dropping a call stops its work.
#[async_trait]
pub trait ImageStore: Send + Sync {
    /// The host that images without one belong to.
    fn host(&self) -> &str;

    /// What the builder builds for, such as `linux/amd64`.
    async fn platform(&self) -> Result<String, ImageError>;

    /// The version of the builder's engine, such as `20.10.24`.
    async fn engine(&self) -> Result<String, ImageError>;

    /// The digest behind `reference` (`HOST/NAME:TAG`, or without the host for the
    /// environment's registry); `None` when the registry has no such image.
    async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError>;

    /// Builds an image and names it for the environment's registry.
    async fn build(&self, request: BuildRequest, lines: Lines<'_>) -> Result<(), ImageError>;

    /// Pushes what was built; the digest is what the registry says it holds afterwards.
    async fn push(&self, image: &str, tag: &str, lines: Lines<'_>) -> Result<Digest, ImageError>;

    /// What must never be shown in a log.
    async fn secrets(&self) -> Result<Vec<Secret<String>>, ImageError>;
}
