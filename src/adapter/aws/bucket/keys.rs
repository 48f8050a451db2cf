//! Objects that are written once: audit events.

use async_trait::async_trait;

use super::super::answers::{Pages, missing};
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
        let name = &self.home().await?.name;
        let mut pages = self.list(prefix).await?.into_paginator().send();
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => {
                    read.read(page.next_continuation_token());
                    for object in page.contents.unwrap_or_default() {
                        let doing = || format!("listing `{prefix}` of the bucket `{name}`");
                        found.push(object.key.ok_or_else(|| missing(doing(), "Key"))?);
                    }
                    if page.is_truncated == Some(true) && page.next_continuation_token.is_none() {
                        let doing = format!("listing `{prefix}` of the bucket `{name}`");
                        return Err(missing(doing, "NextContinuationToken"));
                    }
                }
                Err(error) => match refusal(&error) {
                    Some(("NoSuchBucket", _)) => return Ok(Vec::new()),
                    _ => return Err(failure(format!("listing `{prefix}` of the bucket `{name}`"), error)),
                },
            }
        }
        read.finish(format!("listing `{prefix}` of the bucket `{name}`"))?;
        found.sort();
        Ok(found)
    }

    async fn read(&self, key: &str) -> Result<Option<Vec<u8>>, CloudError> {
        Ok(self.get(key).await?.map(|object| object.bytes))
    }
}
