//! Leave to reboot, through the API.

use async_trait::async_trait;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::name::{BootId, MachineId};
use crate::model::reboot::{Answer, Mark, Returned};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{RebootRequest, RebootState};
use crate::port::reboot::AskLeave;

#[async_trait]
impl AskLeave for ClusterApi {
    async fn mark(&self, machine: &MachineId) -> Result<Option<Mark>, ClusterError> {
        let state: RebootState =
            self.0.answer(Method::GET, &path(machine), None::<&()>, Again::Always).await?;
        Ok(state.mark)
    }

    async fn ask(&self, machine: &MachineId, boot: &BootId) -> Result<Answer, ClusterError> {
        let body = RebootRequest { boot: boot.clone() };
        self.0.answer(Method::PUT, &path(machine), Some(&body), Again::Always).await
    }

    async fn give_back(&self, machine: &MachineId) -> Result<Returned, ClusterError> {
        self.0.answer(Method::DELETE, &path(machine), None::<&()>, Again::Always).await
    }
}

fn path(machine: &MachineId) -> String {
    format!("machines/{machine}/reboot")
}
