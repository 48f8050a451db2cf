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
mod failure;
mod groups;
mod parameters;
mod patience;
mod profile;
pub mod records;
mod secrets;
mod sts;
mod templates;
mod watch;

pub use sts::{Signer, Sts};
pub use watch::UnderWay;

use failure::{failure, is_missing, refusal};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_cloudformation::config::retry::RetryPartition;
use aws_sdk_ssm::config::SharedCredentialsProvider;

use crate::model::name::ProjectName;
use crate::port::archive::Archive;
use crate::port::backups::Backups;
use crate::port::cloud::{Cloud, CloudError};
use crate::port::desired::Records;
use crate::port::drift::Drift;
use crate::port::groups::Groups;
use crate::port::identity::Prove;
use crate::port::parameters::Parameters;
use crate::port::repair::Repair;
use crate::port::roles::AssumeRole;
use crate::port::secrets::{SecretKeeper, SecretValues};
use crate::port::store::Store;

/// Everything needed to talk to one account in one region. Cheap to clone; credentials
/// are fetched once and connections are shared.
#[derive(Debug, Clone)]
pub struct Aws {
    config: SdkConfig,
    patience: patience::Patience,
    /// What calls of CloudFormation may be repeated, all together.
    budget: RetryPartition,
    /// The calls that are under way.
    watch: watch::Watch,
}

/// A client of one of the SDK's crates.
macro_rules! client {
    ($aws:expr, $service:ident) => {{
        let config = $service::config::Builder::from(&$aws.config);
        let config = config
            .retry_classifier($aws.patience.clone())
            .interceptor($aws.watch.clone())
            .interceptor(answers::Whole);
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
        let watch = watch::Watch::default();
        let Some(role) = role else { return Self { config, patience, budget, watch } };
        let provider = AssumeRoleProvider::builder(role).session_name("fleetwright").configure(&config);
        let credentials = SharedCredentialsProvider::new(provider.build().await);
        // What was kept for the caller's own credentials would be used for the role's.
        let config = config.into_builder().credentials_provider(credentials);
        let config = config.identity_cache(IdentityCache::lazy().build()).build();
        Self { config, patience, budget, watch }
    }

    /// Refuses an endpoint that no request can be sent to.
    ///
    /// # Errors
    /// With the variable that names it.
    pub fn usable(&self) -> Result<(), CloudError> {
        profile::endpoints(self.config.endpoint_url())
    }

    /// The call that has been under way longest, if any is.
    pub fn under_way(&self) -> Option<UnderWay> {
        self.watch.longest()
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

    /// Assumes roles with the same credentials.
    pub fn roles(&self) -> Arc<dyn AssumeRole> {
        Arc::new(sts::Roles::new(client!(self, aws_sdk_sts)))
    }

    /// The region that calls go to.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(Region::as_ref)
    }

    fn cloudformation(&self) -> aws_sdk_cloudformation::Client {
        let config = aws_sdk_cloudformation::config::Builder::from(&self.config)
            .retry_classifier(self.patience.clone())
            .interceptor(self.watch.clone())
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

    /// The same of its jobs.
    pub fn job_records(&self, project: &ProjectName, environment: &str, cluster: &str) -> Arc<dyn Records> {
        Arc::new(records::Documented::of_jobs(
            self.bucket(project),
            records::prefix(project, environment, cluster),
        ))
    }

    /// What is written once to the bucket of a project and never changed; nothing is asked of
    /// AWS before it is needed.
    pub fn archive(&self, project: &ProjectName) -> Arc<dyn Archive> {
        self.bucket(project)
    }

    /// Backups in the bucket of a project.
    pub fn backups(&self, project: &ProjectName) -> Arc<dyn Backups> {
        self.bucket(project)
    }

    /// Backups in a bucket of that name.
    pub fn backups_in(&self, project: &ProjectName, bucket: &str) -> Arc<dyn Backups> {
        Arc::new(self.bucket_of(project).called(bucket))
    }

    fn bucket(&self, project: &ProjectName) -> Arc<bucket::Bucket> {
        Arc::new(self.bucket_of(project))
    }

    fn bucket_of(&self, project: &ProjectName) -> bucket::Bucket {
        let mut config = aws_sdk_s3::config::Builder::from(&self.config)
            .retry_classifier(self.patience.clone())
            .interceptor(self.watch.clone())
            .interceptor(answers::Whole);
        // Only AWS itself answers under a name for each bucket.
        config.set_force_path_style(Some(self.config.endpoint_url().is_some()));
        let s3 = aws_sdk_s3::Client::from_conf(config.build());
        let region = self.region().unwrap_or("us-east-1").to_owned();
        bucket::Bucket::new(s3, client!(self, aws_sdk_sts), project.clone(), region)
    }

    /// Autoscaling groups.
    pub fn groups(&self) -> Arc<dyn Groups> {
        Arc::new(groups::AutoScaling::new(client!(self, aws_sdk_autoscaling)))
    }

    /// Tokens for registries of ECR.
    pub fn ecr(&self) -> Arc<ecr::EcrTokens> {
        Arc::new(ecr::EcrTokens::new(self.config.clone()))
    }

    /// The secrets of the environment whose cluster has `prefix`, for the one who keeps them.
    pub fn secret_keeper(&self, prefix: &str) -> Arc<dyn SecretKeeper> {
        self.secrets(prefix)
    }

    /// The values of the same secrets.
    pub fn secret_values(&self, prefix: &str) -> Arc<dyn SecretValues> {
        self.secrets(prefix)
    }

    fn secrets(&self, prefix: &str) -> Arc<secrets::EnvironmentSecrets> {
        let manager = client!(self, aws_sdk_secretsmanager);
        Arc::new(secrets::EnvironmentSecrets::new(client!(self, aws_sdk_ssm), manager, prefix))
    }

    /// The parameter store of Systems Manager.
    pub fn parameters(&self) -> Arc<dyn Parameters> {
        Arc::new(parameters::ParameterStore::new(client!(self, aws_sdk_ssm)))
    }
}
