//! The documents of a cluster's services in the project's bucket, one object each.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::answers::{Pages, missing};
use super::bucket::Bucket;
use super::{failure, refusal};
use crate::model::desired::{Bucket as Documents, Document, Stored};
use crate::model::name::{ProjectName, ServiceName};
use crate::port::cloud::CloudError;
use crate::port::desired::Records;
use crate::port::store::{Condition, Store};

/// How many objects are fetched at a time.
const AT_A_TIME: usize = 8;
/// What the key of a document ends with.
const SUFFIX: &str = ".json";

/// The documents below one prefix of the bucket.
pub struct Documented {
    bucket: Arc<Bucket>,
    prefix: String,
    /// What follows the prefix in the keys of these documents.
    folder: &'static str,
}

impl Documented {
    /// The documents of a cluster; `prefix` is [`prefix`]'s.
    pub fn new(bucket: Arc<Bucket>, prefix: String) -> Self {
        Self { bucket, prefix, folder: "" }
    }

    /// The documents of a cluster's jobs. They lie below those of its services, where machines may
    /// write and list already; who reads services passes over them.
    pub fn of_jobs(bucket: Arc<Bucket>, prefix: String) -> Self {
        Self { bucket, prefix, folder: "jobs/" }
    }

    /// The keys below the prefix. They are listed rather than asked for one by one: without the right to list
    /// the whole bucket, S3 answers `AccessDenied` for an object that does not exist.
    async fn keys(&self) -> Result<Vec<String>, CloudError> {
        let doing = || format!("listing `{}` in the project's bucket", self.prefix);
        let mut keys = Vec::new();
        let (mut next, mut pages) = (None, Pages::default());
        loop {
            let request = self.bucket.list(&self.prefix).await?.set_continuation_token(next);
            let page = match request.send().await {
                Ok(page) => page,
                // `apply` makes the bucket; before the first one, nothing was ever written.
                Err(error) if refusal(&error).is_some_and(|(code, _)| code == "NoSuchBucket") => {
                    return Ok(Vec::new());
                }
                Err(error) => return Err(failure(doing(), error)),
            };
            for object in page.contents.unwrap_or_default() {
                keys.push(object.key.ok_or_else(|| missing(doing(), "Key"))?);
            }
            next = pages.next(page.next_continuation_token.as_deref(), &doing())?;
            if next.is_none() && page.is_truncated == Some(true) {
                return Err(missing(doing(), "NextContinuationToken"));
            }
            if next.is_none() {
                return Ok(keys);
            }
        }
    }

    fn service(&self, key: &str) -> Option<ServiceName> {
        key.strip_prefix(&self.prefix)?.strip_prefix(self.folder)?.strip_suffix(SUFFIX)?.parse().ok()
    }
}

/// Where the documents of a cluster's services are in the project's bucket.
pub fn prefix(project: &ProjectName, environment: &str, cluster: &str) -> String {
    format!("clusters/{project}/{environment}/{cluster}/services/")
}

#[async_trait]
impl Records for Documented {
    async fn read(&self) -> Result<Documents, CloudError> {
        let known = self.keys().await?.into_iter().filter_map(|key| Some((self.service(&key)?, key)));
        let fetched: Vec<Option<(ServiceName, Stored)>> = stream::iter(known.collect::<Vec<_>>())
            .map(async |(service, key)| {
                let found = self.bucket.get(&key).await?;
                Ok::<_, CloudError>(found.map(|object| {
                    let document = Document::read(&service, &object.bytes);
                    (service, Stored { tag: object.tag, document })
                }))
            })
            .buffer_unordered(AT_A_TIME)
            .try_collect()
            .await?;
        Ok(fetched.into_iter().flatten().collect())
    }

    async fn write(
        &self,
        service: &ServiceName,
        document: &Document,
        replaces: Option<&str>,
    ) -> Result<bool, CloudError> {
        let key = format!("{}{}{service}{SUFFIX}", self.prefix, self.folder);
        let condition = replaces.map_or(Condition::Absent, |tag| Condition::Is(tag.to_owned()));
        Ok(self.bucket.put(&key, &document.to_bytes(), condition).await?.is_some())
    }
}
