//! AWS: CloudFormation, autoscaling and the parameter store.
//!
//! The ordinary credential chain and AWS_ENDPOINT_URL apply; nothing here knows whether
//! the endpoint is AWS's own.

mod answers;
mod bucket;
mod cloud;
mod drift;
mod ec2;
pub mod ecr;
mod groups;
mod parameters;
mod patience;
pub mod records;
mod sts;
mod templates;

pub use sts::{Signer, Sts};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudformation::config::retry::RetryPartition;
use aws_sdk_ssm::config::SharedCredentialsProvider;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};

use crate::model::name::ProjectName;
use crate::port::archive::Archive;
use crate::port::cloud::{Cloud, CloudError};
use crate::port::desired::Records;
use crate::port::drift::Drift;
use crate::port::groups::Groups;
use crate::port::identity::Prove;
use crate::port::parameters::Parameters;
use crate::port::repair::Repair;
use crate::port::store::Store;

/// Everything needed to talk to one account in one region. Cheap to clone; credentials
/// are fetched once and connections are shared.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
    patience: patience::Patience,
    /// What calls of CloudFormation may be repeated, all together.
    budget: RetryPartition,
}

/// A client of one of the SDK's crates.
macro_rules! client {
    ($aws:expr, $service:ident) => {{
        let config = $service::config::Builder::from(&$aws.config);
        let config = config.retry_classifier($aws.patience.clone()).interceptor(answers::Whole);
        $service::Client::from_conf(config.build())
    }};
}

impl Aws {
    /// Reads the environment, the profile files and, on an instance, the metadata
    /// service. `region` wins over what they say; `role` is taken on with the credentials that they
    /// give. Nothing is asked of AWS yet.
    pub async fn connect(region: Option<&str>, role: Option<&str>) -> Self {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(Duration::from_secs(3))
            .operation_attempt_timeout(Duration::from_secs(30))
            .build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .retry_config(patience::retries())
            .timeout_config(timeouts);
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        let config = loader.load().await;
        let patience = patience::Patience::default();
        let budget = patience::budget("CloudFormation");
        let Some(role) = role else { return Self { config, patience, budget } };
        let provider = AssumeRoleProvider::builder(role).session_name("fleetwright").configure(&config);
        let credentials = SharedCredentialsProvider::new(provider.build().await);
        // What was kept for the caller's own credentials would be used for the role's.
        let config = config.into_builder().credentials_provider(credentials);
        Self { config: config.identity_cache(IdentityCache::lazy().build()).build(), patience, budget }
    }

    /// The account that calls go to.
    ///
    /// # Errors
    /// When it can't be asked, or the role may not be taken on.
    pub async fn account(&self) -> Result<String, CloudError> {
        let identity = client!(self, aws_sdk_sts).get_caller_identity().send().await;
        let identity = identity.map_err(|error| failure("asking which account this is", error))?;
        identity.account.ok_or_else(|| answers::missing("asking which account this is", "Account"))
    }

    /// Proves to others who calls, with the same credentials.
    pub fn prove(&self) -> Arc<dyn Prove> {
        Arc::new(sts::Signer::new(self.config.clone()))
    }

    /// The ARN of the principal that calls are made as.
    ///
    /// # Errors
    /// When it can't be asked, or the role may not be taken on.
    pub async fn caller(&self) -> Result<String, CloudError> {
        let identity = client!(self, aws_sdk_sts).get_caller_identity().send().await;
        let identity = identity.map_err(|error| failure("asking who this is", error))?;
        identity.arn.ok_or_else(|| answers::missing("asking who this is", "Arn"))
    }

    /// The region that calls go to.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(Region::as_ref)
    }

    fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        let config = aws_sdk_cloudformation::config::Builder::from(&self.config)
            .retry_classifier(self.patience.clone())
            .interceptor(answers::Whole)
            .retry_partition(self.budget.clone());
        aws_sdk_cloudformation::Client::from_conf(config.build())
    }

    /// CloudFormation; what is too large for a request goes through `store`, and templates of
    /// stacks that have not changed are kept in `known`.
    pub fn cloud(&self, store: Arc<dyn Store>, known: Option<PathBuf>) -> Arc<dyn Cloud> {
        let client = self.cloudformation();
        Arc::new(cloud::CloudFormation::new(client, store, known.map(templates::Templates::new)))
    }

    /// CloudFormation's means of repair.
    pub fn repair(&self) -> Arc<dyn Repair> {
        Arc::new(cloud::Repairs::new(self.cloudformation()))
    }

    /// What tells how things are, apart from how CloudFormation left them; `known` as for
    /// [`Aws::cloud`].
    pub fn drift(&self, known: Option<PathBuf>) -> Arc<dyn Drift> {
        let ec2 = ec2::Ec2::new(self.config.clone());
        Arc::new(drift::Drifts::new(self.cloudformation(), ec2, known.map(templates::Templates::new)))
    }

    /// The bucket of a project; nothing is asked of AWS before it is needed.
    pub fn store(&self, project: &ProjectName) -> Arc<dyn Store> {
        self.bucket(project)
    }

    /// What is kept of the services of `cluster` in the bucket of a project.
    pub fn records(&self, project: &ProjectName, environment: &str, cluster: &str) -> Arc<dyn Records> {
        Arc::new(records::Documented::new(
            self.bucket(project),
            records::prefix(project, environment, cluster),
        ))
    }

    /// What is written once to the bucket of a project and never changed; nothing is asked of
    /// AWS before it is needed.
    pub fn archive(&self, project: &ProjectName) -> Arc<dyn Archive> {
        self.bucket(project)
    }

    fn bucket(&self, project: &ProjectName) -> Arc<bucket::Bucket> {
        let mut config = aws_sdk_s3::config::Builder::from(&self.config)
            .retry_classifier(self.patience.clone())
            .interceptor(answers::Whole);
        // Only AWS itself answers under a name for each bucket.
        config.set_force_path_style(Some(self.config.endpoint_url().is_some()));
        let s3 = aws_sdk_s3::Client::from_conf(config.build());
        let region = self.region().unwrap_or("us-east-1").to_owned();
        Arc::new(bucket::Bucket::new(s3, client!(self, aws_sdk_sts), project.clone(), region))
    }

    /// Autoscaling groups.
    pub fn groups(&self) -> Arc<dyn Groups> {
        Arc::new(groups::AutoScaling::new(client!(self, aws_sdk_autoscaling)))
    }

    /// Tokens for registries of ECR.
    pub fn ecr(&self) -> Arc<ecr::EcrTokens> {
        Arc::new(ecr::EcrTokens::new(self.config.clone()))
    }

    /// The parameter store of Systems Manager.
    pub fn parameters(&self) -> Arc<dyn Parameters> {
        Arc::new(parameters::ParameterStore::new(client!(self, aws_sdk_ssm)))
    }
}

/// The provider's code and words, when it answered with an error at all.
fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<(&str, &str)> {
    match error {
        SdkError::ServiceError(service) => {
            let error = service.err();
            Some((error.code().unwrap_or("no code"), error.message().unwrap_or("no message")))
        }
        _ => None,
    }
}

/// Whether the endpoint does not know the operation at all, as emulators don't know some.
fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let codes = ["InternalFailure", "NotImplemented", "InvalidAction", "UnknownOperation"];
    refusal(error).is_some_and(|(code, _)| codes.contains(&code))
}

/// Turns the SDK's error into ours; `doing` says what was tried, on what.
fn failure<E>(doing: impl Into<String>, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let doing = doing.into();
    if let Some((code, reason)) = refusal(&error) {
        let (code, reason) = (code.to_owned(), reason.to_owned());
        let denied = [
            "AccessDenied",
            "UnauthorizedOperation",
            "UnrecognizedClient",
            "ExpiredToken",
            "InvalidClientTokenId",
        ];
        return if denied.iter().any(|word| code.starts_with(word)) {
            CloudError::Denied { doing, reason }
        } else {
            CloudError::Refused { doing, code, reason }
        };
    }
    if let Some(answers::NotWhole::Lacks(field)) = answers::NotWhole::of(&error) {
        return answers::missing(doing, field);
    }
    let reason = chain(&error);
    match error {
        // The chain of credential providers ends here when none of them has any. A connection that is closed in
        // the middle is of a kind of its own.
        SdkError::DispatchFailure(dispatch)
            if !dispatch.is_io() && !dispatch.is_timeout() && dispatch.as_other().is_none() =>
        {
            CloudError::Denied { doing, reason }
        }
        _ => CloudError::Unreachable { doing, reason },
    }
}

/// The innermost causes of an error, where the SDK's outer layers say only "dispatch failure".
fn chain(error: &dyn std::error::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}
