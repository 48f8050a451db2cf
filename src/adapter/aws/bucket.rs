//! The project's bucket: made when it is first needed, one for each account and region.
//!
//! Anybody can guess its name, and bucket names are global. So every request names the account that the
//! bucket must belong to, and S3 refuses the request when it belongs to another.

use async_trait::async_trait;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::presigning::PresigningConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{
    BucketLocationConstraint, CreateBucketConfiguration, PublicAccessBlockConfiguration,
    ServerSideEncryption, ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration,
    ServerSideEncryptionRule,
};
use aws_sdk_ssm::config::http::HttpResponse;
use serde_json::json;
use std::time::Duration;
use tokio::sync::OnceCell;

use super::answers::missing;
use super::{failure, is_missing, refusal};
use crate::model::bucket;
use crate::model::name::ProjectName;
use crate::port::cloud::CloudError;
use crate::port::store::{Condition, Object, Store};

mod backups;
mod keys;

/// A bucket whose name is known once the account is.
#[derive(Debug)]
pub struct Bucket {
    s3: Client,
    sts: aws_sdk_sts::Client,
    project: ProjectName,
    region: String,
    /// Its name, where it is not the project's own.
    called: Option<String>,
    home: OnceCell<Home>,
    /// Set once the bucket is known to be protected.
    protected: OnceCell<()>,
}

/// Which bucket it is.
#[derive(Debug)]
struct Home {
    name: String,
    account: String,
}

impl Bucket {
    /// The bucket of `project` in the region of the clients.
    pub fn new(s3: Client, sts: aws_sdk_sts::Client, project: ProjectName, region: String) -> Self {
        Self { s3, sts, project, region, called: None, home: OnceCell::new(), protected: OnceCell::new() }
    }

    /// The same for a bucket of that name, which must belong to the caller's account as well.
    pub fn called(self, name: &str) -> Self {
        Self { called: Some(name.to_owned()), ..self }
    }

    async fn home(&self) -> Result<&Home, CloudError> {
        let home = self.home.get_or_try_init(|| async {
            let identity = self.sts.get_caller_identity().send().await;
            let identity = identity.map_err(|error| failure("asking which account this is", error))?;
            let account = identity.account.filter(|account| !account.is_empty());
            let account = account.ok_or_else(|| missing("asking which account this is", "Account"))?;
            let own = || bucket::name(self.project.as_str(), &account, &self.region);
            let name = self.called.clone().unwrap_or_else(own);
            Ok::<_, CloudError>(Home { name, account })
        });
        home.await
    }

    /// The request that lists the objects whose keys begin with `prefix`.
    pub(super) async fn list(
        &self,
        prefix: &str,
    ) -> Result<aws_sdk_s3::operation::list_objects_v2::builders::ListObjectsV2FluentBuilder, CloudError>
    {
        let Home { name, account } = self.home().await?;
        Ok(self.s3.list_objects_v2().bucket(name).expected_bucket_owner(account).prefix(prefix))
    }

    /// Makes the bucket; one that is ours already is no error.
    async fn create(&self) -> Result<(), CloudError> {
        let Home { name, account } = self.home().await?;
        let doing = || format!("creating the bucket `{name}`");
        let mut request = self.s3.create_bucket().bucket(name);
        // The first region is the only one that must not be named.
        if self.region != "us-east-1" {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let config = CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(config);
        }
        match request.send().await {
            Ok(_) => {}
            Err(error) => match refusal(&error) {
                Some(("BucketAlreadyOwnedByYou", _)) => {}
                Some(("BucketAlreadyExists", _)) => {
                    let (bucket, account) = (name.clone(), account.clone());
                    return Err(CloudError::Foreign { doing: doing(), bucket, account });
                }
                _ => return Err(failure(doing(), error)),
            },
        }
        self.secure().await
    }

    /// Protects the bucket, unless that was done before. The policy is set last, so that one that is there
    /// means that everything is.
    async fn protect(&self) -> Result<(), CloudError> {
        let protected = self.protected.get_or_try_init(|| async {
            let Home { name, account } = self.home().await?;
            let asked = self.s3.get_bucket_policy().bucket(name).expected_bucket_owner(account).send().await;
            match asked {
                Ok(_) => Ok(()),
                Err(error) => match refusal(&error) {
                    Some(("NoSuchBucket", _)) => self.create().await,
                    Some(("NoSuchBucketPolicy", _)) => self.secure().await,
                    // Machines may not ask, and emulators may not know.
                    _ if is_missing(&error) || is_forbidden(&error) => Ok(()),
                    _ => Err(failure(format!("reading the policy of the bucket `{name}`"), error)),
                },
            }
        });
        protected.await.copied()
    }

    async fn secure(&self) -> Result<(), CloudError> {
        let Home { name, account } = self.home().await?;
        let block = PublicAccessBlockConfiguration::builder()
            .block_public_acls(true)
            .ignore_public_acls(true)
            .block_public_policy(true)
            .restrict_public_buckets(true)
            .build();
        let request = self.s3.put_public_access_block().bucket(name).expected_bucket_owner(account);
        let done = request.public_access_block_configuration(block).send().await;
        settled(done, || format!("blocking public access to the bucket `{name}`"))?;

        let incomplete = |error: aws_sdk_s3::error::BuildError| CloudError::Refused {
            doing: format!("encrypting the bucket `{name}`"),
            code: "Request".to_owned(),
            reason: error.to_string(),
        };
        let default = ServerSideEncryptionByDefault::builder().sse_algorithm(ServerSideEncryption::Aes256);
        let rule = ServerSideEncryptionRule::builder()
            .apply_server_side_encryption_by_default(default.build().map_err(incomplete)?)
            .build();
        let rules = ServerSideEncryptionConfiguration::builder().rules(rule).build().map_err(incomplete)?;
        let request = self.s3.put_bucket_encryption().bucket(name).expected_bucket_owner(account);
        let done = request.server_side_encryption_configuration(rules).send().await;
        settled(done, || format!("encrypting the bucket `{name}`"))?;

        let request = self.s3.put_bucket_policy().bucket(name).expected_bucket_owner(account);
        let done = request.policy(tls_only(name, &self.region)).send().await;
        settled(done, || format!("setting the policy of the bucket `{name}`"))
    }

    async fn write(
        &self,
        key: &str,
        bytes: &[u8],
        condition: Option<&Condition>,
    ) -> Result<Option<String>, CloudError> {
        self.protect().await?;
        let Home { name, account } = self.home().await?;
        let mut created = false;
        // What is large may take longer than other calls: 100 kB a second is slow.
        let time = Duration::from_secs(30 + bytes.len() as u64 / 100_000);
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(time).build();
        loop {
            let body = ByteStream::from(bytes.to_vec());
            let mut request =
                self.s3.put_object().bucket(name).expected_bucket_owner(account).key(key).body(body);
            match condition {
                Some(Condition::Absent) => request = request.if_none_match("*"),
                Some(Condition::Is(tag)) => request = request.if_match(tag),
                None => {}
            }
            let config = aws_sdk_s3::config::Builder::new().timeout_config(timeouts.clone());
            let error = match request.customize().config_override(config).send().await {
                // Without it, the next conditional write would be under no condition at all.
                Ok(answer) => match answer.e_tag {
                    Some(tag) => return Ok(Some(tag)),
                    None => return Err(missing(format!("writing `{key}` to the bucket `{name}`"), "ETag")),
                },
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
                _ => {
                    return Err(self
                        .explained(format!("writing `{key}` to the bucket `{name}`"), error)
                        .await);
                }
            }
        }
    }

    /// Turns the SDK's error into ours, and finds out whether the bucket belongs to somebody else.
    async fn explained<E>(&self, doing: String, error: SdkError<E, HttpResponse>) -> CloudError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Ok(Home { name, account }) = self.home().await else { return failure(doing, error) };
        if !is_forbidden(&error) {
            return failure(doing, error);
        }
        let ours = self.s3.head_bucket().bucket(name).expected_bucket_owner(account).send().await;
        match ours {
            Ok(_) => failure(doing, error),
            Err(refused) if is_forbidden(&refused) => {
                // The same question without the condition: it alone was in the way.
                if self.s3.head_bucket().bucket(name).send().await.is_ok() {
                    return CloudError::Foreign { doing, bucket: name.clone(), account: account.clone() };
                }
                let told = refusal(&error).map_or("Forbidden", |(_, words)| words).to_owned();
                let reason = format!(
                    "{told}; these credentials may lack the right, or the bucket may not belong to account {account}"
                );
                CloudError::Denied { doing, reason }
            }
            Err(_) => failure(doing, error),
        }
    }
}

/// Whether S3 said no without a word on why; HEAD requests are answered without a body.
fn is_forbidden<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    error.raw_response().is_some_and(|response| response.status().as_u16() == 403)
}

/// What an emulator that does not know an operation answers is no error.
fn settled<T, E>(
    done: Result<T, SdkError<E, HttpResponse>>,
    doing: impl FnOnce() -> String,
) -> Result<(), CloudError>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match done {
        Ok(_) => Ok(()),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(failure(doing(), error)),
    }
}

/// The bucket's policy: nobody reads or writes without TLS.
fn tls_only(name: &str, region: &str) -> String {
    let partition = match region {
        region if region.starts_with("cn-") => "aws-cn",
        region if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let bucket = format!("arn:{partition}:s3:::{name}");
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [bucket, format!("{bucket}/*")],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }],
    })
    .to_string()
}

#[async_trait]
impl Store for Bucket {
    async fn get(&self, key: &str) -> Result<Option<Object>, CloudError> {
        let Home { name, account } = self.home().await?;
        let reading = || format!("reading `{key}` of the bucket `{name}`");
        let request = self.s3.get_object().bucket(name).expected_bucket_owner(account);
        match request.key(key).send().await {
            Ok(answer) => {
                let tag = answer.e_tag.clone().ok_or_else(|| missing(reading(), "ETag"))?;
                let bytes = answer.body.collect().await.map_err(|error| CloudError::Unreachable {
                    doing: reading(),
                    reason: error.to_string(),
                })?;
                Ok(Some(Object { bytes: bytes.to_vec(), tag }))
            }
            Err(error) => match refusal(&error) {
                Some(("NoSuchKey" | "NoSuchBucket", _)) => Ok(None),
                _ => Err(self.explained(reading(), error).await),
            },
        }
    }

    async fn put(&self, key: &str, bytes: &[u8], condition: Condition) -> Result<Option<String>, CloudError> {
        self.write(key, bytes, Some(&condition)).await
    }

    async fn publish(&self, key: &str, bytes: &[u8]) -> Result<String, CloudError> {
        self.write(key, bytes, None).await?;
        self.address(key).await
    }

    async fn address(&self, key: &str) -> Result<String, CloudError> {
        // The address without a signature: CloudFormation reads with the caller's own rights.
        let Home { name, .. } = self.home().await?;
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
