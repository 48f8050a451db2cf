//! Backups in a bucket.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::AsyncWriteExt as _;

use super::super::{failure, refusal};
use super::{Bucket, Home};
use crate::adapter::private_file;
use crate::port::backups::Backups;
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Object, Store as _};

/// The least that a transfer is waited for, and how many bytes a second a slow one moves.
const SLOW: (Duration, u64) = (Duration::from_secs(60), 100_000);

#[async_trait]
impl Backups for Bucket {
    async fn place(&self, key: &str) -> Result<String, CloudError> {
        Ok(format!("s3://{}/{key}", self.home().await?.name))
    }

    async fn read(&self, key: &str) -> Result<Option<Object>, CloudError> {
        self.get(key).await
    }

    async fn write(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<bool, CloudError> {
        Ok(self.put(key, bytes, condition).await?.is_some())
    }

    async fn upload(&self, key: &str, file: &Path, sum: &[u8; 32]) -> Result<(), CloudError> {
        self.protect().await?;
        let Home { name, account } = self.home().await?;
        let doing = || format!("writing `{key}` to the bucket `{name}`");
        let local = |error: &dyn std::fmt::Display| CloudError::Refused {
            doing: doing(),
            code: "File".to_owned(),
            reason: format!("{}: {error}", file.display()),
        };
        let length = std::fs::metadata(file).map_err(|error| local(&error))?.len();
        let body = ByteStream::from_path(file).await.map_err(|error| local(&error))?;
        let time = SLOW.0 + Duration::from_secs(length / SLOW.1);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(time).build();
        let config = aws_sdk_s3::config::Builder::new().timeout_config(timeouts);
        let request = self.s3.put_object().bucket(name).expected_bucket_owner(account).key(key).body(body);
        let request = request.checksum_sha256(STANDARD.encode(sum));
        match request.customize().config_override(config).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explained(doing(), error).await),
        }
    }

    async fn download(&self, key: &str, file: &Path) -> Result<bool, CloudError> {
        let Home { name, account } = self.home().await?;
        let doing = || format!("reading `{key}` of the bucket `{name}`");
        let request = self.s3.get_object().bucket(name).expected_bucket_owner(account).key(key);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => match refusal(&error) {
                Some(("NoSuchKey" | "NoSuchBucket", _)) => return Ok(false),
                _ => return Err(self.explained(doing(), error).await),
            },
        };
        let local = |error: std::io::Error| CloudError::Refused {
            doing: doing(),
            code: "File".to_owned(),
            reason: format!("{}: {error}", file.display()),
        };
        let mut out = tokio::fs::File::from_std(private_file::create(file).map_err(local)?);
        let mut body = answer.body;
        loop {
            match body.try_next().await {
                Ok(Some(bytes)) => out.write_all(&bytes).await.map_err(local)?,
                Ok(None) => break,
                Err(error) => {
                    return Err(CloudError::Unreachable { doing: doing(), reason: error.to_string() });
                }
            }
        }
        out.sync_all().await.map_err(local)?;
        Ok(true)
    }

    async fn remove(&self, key: &str) -> Result<(), CloudError> {
        let Home { name, account } = self.home().await?;
        let request = self.s3.delete_object().bucket(name).expected_bucket_owner(account).key(key);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(format!("removing `{key}` of the bucket `{name}`"), error)),
        }
    }
}
