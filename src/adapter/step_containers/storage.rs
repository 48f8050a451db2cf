//! The room that pipelines take on the engine: caches, images of builds, build cache.
//!
//! The engine's own types changed their form between versions of its API, in both what it measures and what it prunes: an
//! engine that does not know the name of a limit removes everything. So the version is named, and JSON is read.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::query_parameters::{RemoveImageOptions, RemoveVolumeOptions};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::caches::CACHE;
use super::{EngineSteps, SCOPE, failed};
use crate::adapter::swarm::Raw;
use crate::model::keep::{HeldBuildCache, HeldCache, HeldImage};
use crate::model::name::ImageKey;
use crate::model::percent::encoded;
use crate::port::engine_storage::{EngineStorage, OnEngine};
use crate::port::images::ImageError;

/// The last version of the API with these forms.
const LAST: (u32, u32) = (1, 47);
/// How long the engine may take to measure volumes, or to remove what it has.
const TIMEOUT: Duration = Duration::from_secs(1800);

impl EngineSteps {
    async fn raw(&self) -> Result<Raw, ImageError> {
        let version = self.docker().version().await.map_err(|error| failed(error, None))?;
        let known = version.api_version.as_deref().and_then(|version| {
            let (major, minor) = version.split_once('.')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        let (major, minor) = known.unwrap_or(LAST).min(LAST);
        let raw = Raw::new(&self.images.endpoint(), &format!("{major}.{minor}"), TIMEOUT);
        raw.map_err(|error| failed(error, None))
    }

    /// The caches among the volumes of the engine that are of this server.
    fn caches(&self, volumes: &Value) -> Vec<HeldCache> {
        let cache = |volume: &Value| {
            let labels = &volume["Labels"];
            (labels[SCOPE].as_str() == Some(&self.scope)).then_some(())?;
            Some(HeldCache {
                name: volume["Name"].as_str()?.to_owned(),
                group: labels[CACHE].as_str()?.to_owned(),
                made: time(&volume["CreatedAt"])?,
                bytes: volume["UsageData"]["Size"].as_u64().unwrap_or_default(),
                used: volume["UsageData"]["RefCount"].as_i64() != Some(0),
            })
        };
        list(volumes).filter_map(cache).collect()
    }

    /// The images of the engine that builds for this server's registry have tagged.
    fn built(&self, images: &Value) -> Vec<HeldImage> {
        let host = format!("{}/", self.images.registry_host());
        let mut found = Vec::new();
        for image in list(images) {
            let bytes = |key: &str| image[key].as_i64().and_then(|bytes| u64::try_from(bytes).ok());
            let shared = bytes("SharedSize").unwrap_or_default();
            let digests = list(&image["RepoDigests"]).filter_map(Value::as_str);
            let digests = digests.filter_map(|name| name.split_once('@')?.1.parse().ok()).collect();
            let created = image["Created"].as_i64().and_then(|at| DateTime::from_timestamp(at, 0));
            let tags = list(&image["RepoTags"]).filter_map(Value::as_str);
            let ours: BTreeMap<&str, ImageKey> = tags
                .filter(|tag| tag.starts_with(&host))
                .filter_map(|tag| Some((tag, tag.rsplit_once(':')?.1.parse().ok()?)))
                .collect();
            let Some(made) = created else { continue };
            for (reference, key) in ours {
                found.push(HeldImage {
                    reference: reference.to_owned(),
                    key,
                    digests: BTreeSet::clone(&digests),
                    made,
                    bytes: bytes("Size").unwrap_or_default().saturating_sub(shared),
                    used: image["Containers"].as_i64() != Some(0),
                });
            }
        }
        found
    }
}

#[async_trait]
impl EngineStorage for EngineSteps {
    async fn held(&self) -> Result<OnEngine, ImageError> {
        let all = self.raw().await?.get("system/df").await.map_err(|error| failed(error, None))?;
        Ok(OnEngine {
            caches: self.caches(&all["Volumes"]),
            images: self.built(&all["Images"]),
            build_cache: all.get("BuildCache").map(build_cache),
        })
    }

    async fn remove_cache(&self, name: &str) -> Result<bool, ImageError> {
        removed(self.docker().remove_volume(name, None::<RemoveVolumeOptions>).await)
    }

    async fn remove_image(&self, reference: &str) -> Result<bool, ImageError> {
        let options = None::<RemoveImageOptions>;
        let done = self.docker().remove_image(reference, options, None::<DockerCredentials>).await;
        removed(done.map(drop))
    }

    async fn prune_build_cache(&self, unused: Duration, keep: u64) -> Result<u64, ImageError> {
        let prune = async |query: String| {
            let answer = self.raw().await?.create(&format!("build/prune?{query}"), &Value::Null).await;
            let answer = answer.map_err(|error| failed(error, None))?;
            Ok::<u64, ImageError>(answer["SpaceReclaimed"].as_u64().unwrap_or_default())
        };
        // Two requests: in one, what is young would be kept whatever its size.
        let mut freed = 0;
        if !unused.is_zero() {
            let until = serde_json::json!({ "until": [format!("{}s", unused.as_secs())] });
            freed += prune(format!("filters={}", encoded(&until.to_string()))).await?;
        }
        // Zero means no limit to the engine: it removes all that is not in use, which is what zero asks for.
        Ok(freed + prune(format!("keep-storage={keep}")).await?)
    }
}

fn build_cache(all: &Value) -> HeldBuildCache {
    // What is shared is a part of an image as well.
    let own = list(all).filter(|part| part["Shared"].as_bool() != Some(true));
    let bytes = own.clone().filter_map(|part| part["Size"].as_u64()).fold(0, u64::saturating_add);
    let free = own.filter(|part| part["InUse"].as_bool() != Some(true));
    let last_used = free.filter_map(|part| time(&part["LastUsedAt"]).or_else(|| time(&part["CreatedAt"])));
    HeldBuildCache { bytes, oldest: last_used.min() }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> + Clone {
    value.as_array().map(Vec::as_slice).unwrap_or_default().iter()
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(value.as_str()?).ok()?.to_utc())
}

/// What is not there was to be removed; what a container has stays.
fn removed(result: Result<(), Error>) -> Result<bool, ImageError> {
    match result {
        Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(true),
        Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(false),
        Err(error) => Err(failed(error, None)),
    }
}
