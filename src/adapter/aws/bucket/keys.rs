//! Objects that are written once: audit events.

use async_trait::async_trait;

use super::super::{failure, refusal};
use super::Bucket;
use crate::port::archive::Archive;
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Store as _};

#[async_trait]
impl Archive for Bucket {
    async fn create(&self, key: &str, bytes: &[u8]) -> Result<bool, CloudError> {
        Ok(self.put(key, bytes, Condition::Absent).await?.is_some())
    }

    async fn keys(&self, prefix: &str) -> Result<Vec<String>, CloudError> {
        let name = self.name().await?;
        let mut pages = self.s3.list_objects_v2().bucket(name).prefix(prefix).into_paginator().send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => found
                    .extend(page.contents.unwrap_or_default().into_iter().filter_map(|object| object.key)),
                Err(error) => match refusal(&error) {
                    Some(("NoSuchBucket", _)) => return Ok(Vec::new()),
                    _ => return Err(failure(format!("listing `{prefix}` of the bucket `{name}`"), error)),
                },
            }
        }
        found.sort();
        Ok(found)
    }

    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CloudError> {
        Ok(self.get(key).await?.map(|object| object.bytes))
    }
}
