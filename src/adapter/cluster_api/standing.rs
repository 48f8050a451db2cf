//! Machines in doubt, through the API.

use async_trait::async_trait;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::name::MachineId;
use crate::model::standing::{STANDING_VERSION, Standing, Turn};
use crate::port::cluster::ClusterError;
use crate::port::standing::AskStanding;

#[async_trait]
impl AskStanding for ClusterApi {
    async fn standing(&self, node: &str) -> Result<Standing, ClusterError> {
        let path = format!("nodes/{node}/standing");
        let standing: Standing = self.0.answer(Method::GET, &path, None::<&()>, Again::Always).await?;
        if standing.version != STANDING_VERSION {
            return Err(ClusterError::Engine {
                doing: format!("reading the answer of /v1/{path}"),
                reason: format!(
                    "its version is {}, and this program knows {STANDING_VERSION}",
                    standing.version
                ),
            });
        }
        Ok(standing)
    }

    async fn turn(&self, machine: &MachineId) -> Result<Turn, ClusterError> {
        let path = format!("machines/{machine}/turn");
        self.0.answer(Method::PUT, &path, None::<&()>, Again::Always).await
    }
}
