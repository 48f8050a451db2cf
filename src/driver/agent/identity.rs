//! The machine becomes known to the cluster: its node gets its labels.

use std::collections::BTreeMap;

use super::{Agent, AgentError};
use crate::model::feature::{Features, feature_labels};
use crate::model::machine::Role;
use crate::plan::identity::{labels, member};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::Registration;

impl Agent {
    /// Registers this machine's node. A control machine derives the labels of its own node as it
    /// does those of others: from its group. A worker asks for that, and says nothing of itself.
    pub(super) async fn register(&self, node: &str) -> Result<(), AgentError> {
        match self.me.role {
            Role::Control => {
                let groups: Vec<_> = self.groups.group(&self.me.group).await?.into_iter().collect();
                let member = member(&groups, &self.me.instance)
                    .map_err(|error| ClusterError::Denied { reason: error.to_string() })?;
                let mut labels = labels(&member, self.me.address);
                labels.extend(feature_labels(Features::own()));
                self.engine.register(node, &labels).await?;
            }
            Role::Worker => {
                let registration = Registration {
                    node: node.to_owned(),
                    labels: BTreeMap::new(),
                    features: Features::own(),
                };
                self.control.register(&self.me.instance, &registration).await?;
            }
        }
        Ok(())
    }
}
