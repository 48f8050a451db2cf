//! The project's bucket: made when it is first needed, one for each account and region.

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::sync::OnceCell;

use super::{failure, refusal};
use crate::model::name::ProjectName;
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Object, Store};

mod keys;

/// The longest name that a bucket may have.
const LONGEST: usize = 63;

/// A bucket whose name is known once the account is.
#[derive(Debug)]
pub struct Bucket {
    s3: Client,
    sts: aws_sdk_sts::Client,
    project: ProjectName,
    region: String,
    name: OnceCell<String>,
}

impl Bucket {
    /// The bucket of `project` in the region of the clients.
    pub fn new(s3: Client, sts: aws_sdk_sts::Client, project: ProjectName, region: String) -> Self {
        Self { s3, sts, project, region, name: OnceCell::new() }
    }

    async fn name(&self) -> Result<&str, CloudError> {
        let name = self.name.get_or_try_init(|| async {
            let identity = self.sts.get_caller_identity().send().await;
            let identity = identity.map_err(|error| failure("asking which account this is", error))?;
            Ok::<_, CloudError>(name(
                self.project.as_str(),
                &identity.account.unwrap_or_default(),
                &self.region,
            ))
        });
        name.await.map(String::as_str)
    }

    /// The request that lists the objects whose keys begin with `prefix`.
    pub(super) async fn list(
        &self,
        prefix: &str,
    ) -> Result<aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder, CloudError>
    {
        Ok(self.s3.list_objects_v2().bucket(self.name().await?).prefix(prefix))
    }

    /// Makes the bucket; one that is ours already is no error.
    async fn create(&self) -> Result<(), CloudError> {
        let name = self.name().await?;
        let mut request = self.s3.create_bucket().bucket(name);
        // The first region is the only one that must not be named.
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let config = CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(config);
        }
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error) {
                Some(("BucketAlreadyOwnedByYou", _)) => Ok(()),
                _ => Err(failure(format!("creating the bucket `{name}`"), error)),
            },
        }
    }

    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Option<&Condition>,
    ) -> Result<Option<String>, CloudError> {
        let name = self.name().await?;
        let mut created = false;
        loop {
            let mut request =
                self.s3.put_object().bucket(name).key(key).body(ByteStream::from(bytes.to_vec()));
            match condition {
                Some(Condition::Absent) => request = request.if_none_match("*"),
                Some(Condition::Is(tag)) => request = request.if_match(tag),
                None => {}
            }
            let error = match request.send().await {
                Ok(answer) => return Ok(Some(answer.e_tag.unwrap_or_default())),
                Err(error) => error,
            };
            match refusal(&error) {
                // The second is what a race with another writer gives, the third what If-Match
                // gives for an object that is gone.
                Some(("PreconditionFailed" | "ConditionalRequestConflict" | "NoSuchKey", _)) => {
                    return Ok(None);
                }
                Some(("NoSuchBucket", _)) if !created => {
                    created = true;
                    self.create().await?;
                }
                _ => return Err(failure(format!("writing `{key}` to the bucket `{name}`"), error)),
            }
        }
    }
}

/// The bucket's name; one that would be too long has a hash in it.
fn name(project: &str, account: &str, region: &str) -> String {
    let name = format!("fleetwright-{project}-{account}-{region}");
    if name.len() <= LONGEST {
        return name;
    }
    let hash: String = Sha256::digest(&name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("fleetwright-{hash}-{account}")
}

#[async_trait]
impl Store for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Object>, CloudError> {
        let name = self.name().await?;
        let reading = || format!("reading `{key}` of the bucket `{name}`");
        match self.s3.get_object().bucket(name).key(key).send().await {
            Ok(answer) => {
                let tag = answer.e_tag.clone().unwrap_or_default();
                let bytes = answer.body.collect().await.map_err(|error| CloudError::Unreachable {
                    doing: reading(),
                    reason: error.to_string(),
                })?;
                Ok(Some(Object { bytes: bytes.to_vec(), tag }))
            }
            Err(error) => match refusal(&error) {
                Some(("NoSuchKey" | "NoSuchBucket", _)) => Ok(None),
                _ => Err(failure(reading(), error)),
            },
        }
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Option<String>, CloudError> {
        self.write(key, bytes, Some(&condition)).await
    }

    async fn publish(&self, key: &str, bytes: &[u8]) -> Result<String, CloudError> {
        self.write(key, bytes, None).await?;
        // The address without a signature: CloudFormation reads with the caller's own rights.
        let name = self.name().await?;
        let any =
            PresigningConfig::expires_in(Duration::from_secs(60)).map_err(|error| CloudError::Refused {
                doing: "finding an object's address".to_owned(),
                code: "Presigning".to_owned(),
                reason: error.to_string(),
            })?;
        let signed = self.s3.get_object().bucket(name).key(key).presigned(any).await;
        let signed = signed.map_err(|error| failure("finding an object's address", error))?;
        Ok(signed.uri().split('?').next().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_name_is_never_too_long() {
        assert_eq!(name("shop", "123456789012", "eu-west-1"), "fleetwright-shop-123456789012-eu-west-1");
        let long = name(&"x".repeat(40), "123456789012", "ap-southeast-1");
        assert!(long.len() <= LONGEST && long.ends_with("-123456789012"), "{long}");
        assert_ne!(long, name(&"y".repeat(40), "123456789012", "ap-southeast-1"));
    }
}
