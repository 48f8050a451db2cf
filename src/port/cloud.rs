//! CloudFormation, as far as stacks of ours need it.

use async_trait::async_trait;

use crate::model::deployed::{
    ChangeSet, ChangeSetId, ChangeSetRequest, DeployedStack, EventMark, Execution, ResourceEvent,
};

/// Why the cloud did not do what it was asked. Shared by every trait that a cloud
/// provider stands behind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudError {
    /// Nothing answered; trying again may help.
    #[error("{doing}: the endpoint can't be reached: {reason}")]
    Unreachable {
        /// What was tried, on what.
        doing: String,
        /// What happened, and where.
        reason: String,
    },
    /// Something answered that is not AWS: a proxy, a gateway, a captive portal.
    #[error("{doing}: {address} answered with HTTP status {status}, and not as AWS does: {words}")]
    Strange {
        /// What was tried, on what.
        doing: String,
        /// What was asked.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The first words of the answer, and its kind.
        words: String,
    },
    /// The address of the endpoint can't be used.
    #[error("{name} is `{value}`, which is not an address of an endpoint: {why}")]
    Endpoint {
        /// The variable, or the setting of the profile.
        name: String,
        /// What it holds.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The provider has no time for so many calls.
    #[error("{doing}: AWS refuses so many calls, also after repeating them: {reason}")]
    Throttled {
        /// What was tried, on what.
        doing: String,
        /// What the provider said.
        reason: String,
    },
    /// The provider itself has trouble.
    #[error("{doing}: AWS could not do it: {reason}")]
    Unavailable {
        /// What was tried, on what.
        doing: String,
        /// What the provider said.
        reason: String,
    },
    /// The clock of this machine is wrong, so that signatures are of another time.
    #[error("{doing}: AWS refuses the time of the signature: {reason}")]
    Clock {
        /// What was tried, on what.
        doing: String,
        /// How far it is off, or what the provider said.
        reason: String,
    },
    /// No credentials were found.
    #[error("{doing}: there are no credentials: {reason}")]
    NoCredentials {
        /// What was tried, on what.
        doing: String,
        /// Where they were looked for.
        reason: String,
    },
    /// The credentials were good once.
    #[error("{doing}: the credentials have expired: {reason}")]
    Expired {
        /// What was tried, on what.
        doing: String,
        /// What the provider said.
        reason: String,
    },
    /// The provider does not know the credentials, or the secret is not the key's.
    #[error("{doing}: AWS does not accept the credentials: {reason}")]
    WrongCredentials {
        /// What was tried, on what.
        doing: String,
        /// What the provider said.
        reason: String,
    },
    /// The credentials may not do this.
    #[error("{doing}: not allowed: {reason}")]
    Denied {
        /// What was tried, on what.
        doing: String,
        /// What the provider said.
        reason: String,
    },
    /// Somebody else has the bucket that is meant to be ours.
    #[error("{doing}: the bucket `{bucket}` belongs to another AWS account, not to {account}")]
    Foreign {
        /// What was tried, on what.
        doing: String,
        /// The bucket.
        bucket: String,
        /// The account that it must belong to.
        account: String,
    },
    /// The provider answered, and what matters is missing in the answer.
    #[error("{doing}: the answer is incomplete: it has no `{field}`")]
    Incomplete {
        /// What was tried, on what.
        doing: String,
        /// What is missing.
        field: String,
    },
    /// The provider refused, or failed.
    #[error("{doing}: {reason} ({code})")]
    Refused {
        /// What was tried, on what.
        doing: String,
        /// The provider's code, such as `ValidationError`.
        code: String,
        /// What the provider said.
        reason: String,
    },
}

impl CloudError {
    /// Whether the same may succeed a little later, without anybody doing anything.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Throttled { .. } | Self::Unavailable { .. } => true,
            Self::Strange { status, .. } => *status >= 500,
            Self::Endpoint { .. }
            | Self::Clock { .. }
            | Self::NoCredentials { .. }
            | Self::Expired { .. }
            | Self::WrongCredentials { .. }
            | Self::Denied { .. }
            | Self::Foreign { .. }
            | Self::Incomplete { .. }
            | Self::Refused { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn next(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "check the network, the region and, if it is set, AWS_ENDPOINT_URL; then try again"
            }
            Self::Strange { .. } => {
                "check what stands between this machine and AWS (proxy, VPN, sign-in page) and, if it is set, AWS_ENDPOINT_URL; then try again"
            }
            Self::Endpoint { .. } => "correct it, or remove it to use AWS itself; then try again",
            Self::Throttled { .. } => {
                "wait a minute, then try again; other programs may be using up what the account may call"
            }
            Self::Unavailable { .. } => {
                "try again in some minutes; https://health.aws.amazon.com says how the service is"
            }
            Self::Clock { .. } => "set the clock of this machine (`timedatectl` shows it), then try again",
            Self::NoCredentials { .. } => {
                "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or sign in (`aws sso login`); then try again"
            }
            Self::Expired { .. } => "get new ones (`aws sso login`, or from where they came); then try again",
            Self::WrongCredentials { .. } => {
                "check AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that the region is enabled for the account; then try again"
            }
            Self::Denied { .. } => {
                "let the role or user do this (docs/provisioning.md lists what each command needs), or use other credentials; then try again"
            }
            Self::Foreign { .. } => {
                "nothing was read from it or written to it. Bucket names are global: choose another `project` in fleetwright.yaml, and report the bucket to AWS if it was made to intercept yours"
            }
            Self::Incomplete { .. } => {
                "try again; if it happens again, check what stands between here and the endpoint (a proxy, an emulator)"
            }
            Self::Refused { .. } => "correct what it names, then try again",
        }
    }
}

/// CloudFormation in one account and region. Every method may be called again after any failure.
#[async_trait]
pub trait Cloud: Send + Sync {
    /// Every stack that exists (deleted ones are left out).
    async fn stacks(&self) -> Result<Vec<DeployedStack>, CloudError>;

    /// One stack, by name or id; `None` when it does not exist. Asked by id, a deleted stack is returned.
    async fn stack(&self, name: &str) -> Result<Option<DeployedStack>, CloudError>;

    /// The template a stack was deployed with, byte for byte.
    async fn template(&self, stack: &DeployedStack) -> Result<String, CloudError>;

    /// Creates a change set; it is computed in the background.
    async fn create_change_set(&self, request: &ChangeSetRequest) -> Result<ChangeSetId, CloudError>;

    /// A change set, with all its changes.
    async fn change_set(&self, id: &ChangeSetId) -> Result<ChangeSet, CloudError>;

    /// What a change set would execute that is not what `request` says: `None` when it is the same. Templates that
    /// CloudFormation reads from a bucket may have been exchanged there in the meantime.
    async fn exchanged(
        &self,
        id: &ChangeSetId,
        request: &ChangeSetRequest,
    ) -> Result<Option<String>, CloudError>;

    /// Begins to carry a change set out.
    async fn execute_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError>;

    /// How far the execution of a change set is.
    async fn execution(&self, id: &ChangeSetId) -> Result<Execution, CloudError>;

    /// Deletes a change set; one that is gone already is no error.
    async fn delete_change_set(&self, id: &ChangeSetId) -> Result<(), CloudError>;

    /// Lets CloudFormation refuse to delete a stack, or no longer.
    async fn protect(&self, stack: &str, protect: bool) -> Result<(), CloudError>;

    /// The document of a stack's policy; `None` when it has none.
    async fn policy(&self, stack: &DeployedStack) -> Result<Option<String>, CloudError>;

    /// Gives a stack another policy.
    async fn set_policy(&self, stack: &DeployedStack, document: &str) -> Result<(), CloudError>;

    /// Begins to delete a stack; one that does not exist is no error.
    async fn delete_stack(&self, stack: &str) -> Result<(), CloudError>;

    /// Marks what has happened to a stack so far; an empty mark when nothing did, or when it does not exist.
    async fn mark(&self, stack: &str) -> Result<EventMark, CloudError>;

    /// What CloudFormation found wrong with a stack's last operation, or with a change set, before it began:
    /// some failures are told there alone.
    async fn validations(
        &self,
        stack: &str,
        change_set: Option<&ChangeSetId>,
    ) -> Result<Vec<ResourceEvent>, CloudError>;

    /// What happened to a stack after `mark`, oldest first.
    async fn events(&self, stack: &str, mark: &EventMark) -> Result<Vec<ResourceEvent>, CloudError>;

    /// The stacks that import an export of this account and region, by name.
    async fn importers(&self, export: &str) -> Result<Vec<String>, CloudError>;
}
