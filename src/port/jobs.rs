//! Jobs: as people ask for them, and as a leader keeps them.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::cluster::ClusterError;
use super::cluster_wire::CommandRequest;
use crate::model::before::{self, Waits};
use crate::model::job::{JobDeployment, Jobs, OccurrenceId};
use crate::model::name::{JobName, ServiceName};
use crate::model::occurrence::{Action, Claimed, Job, Permit};
use crate::model::service::Symptoms;

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Of the standard output.
    Out(String),
    /// Of the standard error.
    Err(String),
}

/// The jobs of a cluster. Every method may be called again after any failure.
#[async_trait]
pub trait JobCluster: Send + Sync {
    /// All jobs with their occurrences.
    async fn jobs(&self) -> Result<Jobs, ClusterError>;

    /// Makes a job what `job` says, and returns the number of its definition. Neither an occurrence
    /// that runs nor one that is due is lost or doubled by it.
    async fn deploy_job(&self, job: &JobDeployment) -> Result<u64, ClusterError>;

    /// What a job is deployed as.
    async fn deployed_job(&self, name: &JobName) -> Result<JobDeployment, ClusterError>;

    /// Removes a job. An occurrence that is running continues to its end.
    async fn remove_job(&self, name: &JobName) -> Result<(), ClusterError>;

    /// Asks for an occurrence of a job, with an id that the caller has chosen, for `by`.
    async fn run_job(&self, id: &OccurrenceId, by: Option<&str>) -> Result<(), ClusterError>;

    /// Asks for a command with the image and settings of the service that the id names.
    async fn run_command(
        &self,
        id: &OccurrenceId,
        request: &CommandRequest,
        by: Option<&str>,
    ) -> Result<(), ClusterError>;

    /// The output of an occurrence, the last `tail` lines and, when `follow`, those to come until dropped.
    async fn occurrence_logs(
        &self,
        id: &OccurrenceId,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output, ClusterError>>, ClusterError>;
}

/// Where jobs are kept, as a leader and a control machine that permits attempts use it.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// What there is now.
    async fn view(&self) -> Result<Box<dyn JobView>, ClusterError>;

    /// Notes how the container of a task ended, if the task is an attempt's.
    async fn ended(&self, task: &str, seen: &Symptoms) -> Result<(), ClusterError>;
}

/// What there was at one moment. What is done to it is done only as it was seen.
#[async_trait]
pub trait JobView: Send + Sync {
    /// The jobs.
    fn jobs(&self) -> &[Job];

    /// The occurrences.
    fn claimed(&self) -> &[Claimed];

    /// Carries out an action. One whose ground has changed since is not carried out, which is no error.
    async fn perform(&self, action: &Action) -> Result<(), ClusterError>;

    /// The services with revisions that wait for their command.
    fn waiting(&self) -> &[(ServiceName, Waits)];

    /// Carries out an action about a revision that waits. One whose ground has changed since is not carried
    /// out, which is no error.
    async fn perform_before(&self, service: &ServiceName, action: before::Action)
    -> Result<(), ClusterError>;

    /// The attempt that a task is to run; `None` for a task that is to stop, or that does not belong to this project.
    fn attempt_of(&self, task: &str) -> Option<(OccurrenceId, u32)>;

    /// What the helper calls itself that has taken the permit of an attempt.
    fn holder(&self, id: &OccurrenceId, attempt: u32) -> Option<&str>;

    /// The permits of other occurrences of the same job.
    fn rivals(&self, id: &OccurrenceId) -> Vec<Permit>;

    /// Takes the permit of an attempt for a task; `false` when it is taken.
    async fn take(
        &self,
        id: &OccurrenceId,
        attempt: u32,
        task: &str,
        nonce: &str,
    ) -> Result<bool, ClusterError>;

    /// Makes a permit void whose attempt has not been informed of it.
    async fn return_permit(&self, id: &OccurrenceId, attempt: u32) -> Result<(), ClusterError>;
}

/// The way of a machine's agent to permits.
#[async_trait]
pub trait AskPermit: Send + Sync {
    /// Asks for the permit of the attempt that a task on this machine is to run. `nonce` is what the
    /// task's helper calls itself: with the same it may ask again.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] or [`ClusterError::Denied`] when it must not run; anything else when
    /// that is not known yet.
    async fn permit(&self, task: &str, nonce: &str) -> Result<(), ClusterError>;
}
