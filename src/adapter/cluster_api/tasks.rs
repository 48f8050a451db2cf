//! What an agent asks about the tasks of its machine, through the API.

use async_trait::async_trait;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::name::MachineId;
use crate::model::role::{RoleCredentials, TokenHash};
use crate::model::unit::{UnitTask, UnitTaskAsked};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{
    CredentialsRequest, PermitRequest, TaskCredentials, UnitTasks, UnitTasksRequest,
};
use crate::port::jobs::AskPermit;
use crate::port::roles::AskCredentials;
use crate::port::units::AskStandings;

#[async_trait]
impl AskCredentials for ClusterApi {
    async fn credentials(&self, task: &str, shown: &TokenHash) -> Result<RoleCredentials, ClusterError> {
        let path = format!("tasks/{task}/credentials");
        let request = CredentialsRequest { token_sha256: shown.0.clone() };
        let sent: TaskCredentials = self.0.answer(Method::POST, &path, Some(&request), Again::Always).await?;
        Ok(sent.into())
    }
}

#[async_trait]
impl AskStandings for ClusterApi {
    async fn standings(
        &self,
        machine: &MachineId,
        tasks: &[UnitTaskAsked],
    ) -> Result<Vec<UnitTask>, ClusterError> {
        let path = format!("machines/{machine}/units");
        let request = UnitTasksRequest { tasks: tasks.to_vec() };
        let sent: UnitTasks = self.0.answer(Method::POST, &path, Some(&request), Again::Always).await?;
        Ok(sent.tasks)
    }
}

#[async_trait]
impl AskPermit for ClusterApi {
    async fn permit(&self, task: &str, nonce: &str) -> Result<(), ClusterError> {
        let path = format!("tasks/{task}/permit");
        let request = PermitRequest { nonce: nonce.to_owned() };
        self.0.call(Method::POST, &path, Some(&request), Again::Always).await.map(|_: Option<()>| ())
    }
}
