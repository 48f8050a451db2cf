//! Credentials of roles for containers: asked for by a machine's agent, issued by a control machine.

use async_trait::async_trait;

use super::cloud::CloudError;
use super::cluster::ClusterError;
use crate::model::name::MachineId;
use crate::model::role::{RoleCredentials, RoleTask, TokenHash};

/// The way of a machine's agent to credentials.
#[async_trait]
pub trait AskCredentials: Send + Sync {
    /// Asks for the credentials of the role of a task on this machine, whose container has shown a token.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] or [`ClusterError::Denied`] when it gets none; anything else when that is not
    /// known.
    async fn credentials(&self, task: &str, shown: &TokenHash) -> Result<RoleCredentials, ClusterError>;
}

/// What a control machine has issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuedRole {
    /// The credentials.
    pub credentials: RoleCredentials,
    /// The name of their session.
    pub session: String,
    /// The task, such as `web.2`.
    pub task: String,
}

/// Issues credentials, on a control machine.
#[async_trait]
pub trait IssueCredentials: Send + Sync {
    /// Issues the credentials of a task's role to `machine`, whose node is `node`.
    ///
    /// # Errors
    /// [`ClusterError::Refused`] when it gets none; anything else when that is not known.
    async fn issue(
        &self,
        task: &str,
        shown: &TokenHash,
        machine: &MachineId,
        node: Option<&str>,
    ) -> Result<IssuedRole, ClusterError>;
}

/// The tasks that the managers know.
#[async_trait]
pub trait RoleTasks: Send + Sync {
    /// The task with that id; `None` when there is none.
    ///
    /// # Errors
    /// When the managers can't be asked.
    async fn role_task(&self, id: &str) -> Result<Option<RoleTask>, ClusterError>;
}

/// STS, with the role of this machine.
#[async_trait]
pub trait AssumeRole: Send + Sync {
    /// Takes a role on, for a session of that name.
    ///
    /// # Errors
    /// When the role may not be assumed, or STS can't be asked.
    async fn assume(&self, role: &str, session: &str) -> Result<RoleCredentials, CloudError>;
}
