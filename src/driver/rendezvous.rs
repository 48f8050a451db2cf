//! The parameters through which the machines of a cluster find each other: what is created once and
//! never changed, and what says who is there.

use std::net::IpAddr;
use std::sync::Arc;

use chrono::Utc;
use serde::{Deserialize, Serialize};

use crate::model::founding::{BadLog, Entry, Holder, Log};
use crate::model::name::{MachineId, SwarmId};
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::cluster_wire::Endpoint;
use crate::port::parameters::{Parameters, Protection};

/// The version of the record that a cluster's deployments are restored.
const RESTORED_VERSION: u32 = 1;

/// Why the rendezvous did not serve.
#[derive(Debug, thiserror::Error)]
pub enum RendezvousError {
    /// The parameter store.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A record in it.
    #[error(transparent)]
    Log(#[from] BadLog),
}

/// A founding log: the swarm's, or etcd's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The swarm's.
    Swarm,
    /// etcd's.
    Etcd,
}

impl Which {
    fn folder(self) -> &'static str {
        match self {
            Self::Swarm => "founding",
            Self::Etcd => "etcd/founding",
        }
    }
}

/// The rendezvous of one cluster.
#[derive(Clone)]
pub struct Rendezvous {
    parameters: Arc<dyn Parameters>,
    prefix: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Restored {
    version: u32,
    cluster: SwarmId,
}

impl Rendezvous {
    /// The parameters below `prefix`, such as `/fleetwright/demo/local/main`.
    pub fn new(parameters: Arc<dyn Parameters>, prefix: &str) -> Self {
        Self { parameters, prefix: prefix.to_owned() }
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// A founding log.
    ///
    /// # Errors
    /// When it cannot be read, or has a record of a later version.
    pub async fn log(&self, which: Which) -> Result<Log, RendezvousError> {
        let found = self.parameters.list(&self.name(which.folder())).await?;
        let texts = found.iter().map(|one| (one.name.as_str(), one.value.expose().as_str()));
        Ok(Log::read(texts)?)
    }

    /// Creates the record that follows `log`; `false` when another was created there before.
    ///
    /// # Errors
    /// When the store does not answer: the record may have been created, or may be later.
    pub async fn append(&self, which: Which, log: &Log, entry: &Entry) -> Result<bool, RendezvousError> {
        let name = self.name(&format!("{}/{}", which.folder(), log.next_number()));
        let text = Secret::new(entry.text());
        Ok(self.parameters.create_if_absent(&name, &text, Protection::Plain).await?)
    }

    /// The machine that claimed before there was a log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn legacy(&self, which: Which) -> Result<Option<MachineId>, RendezvousError> {
        let name = match which {
            Which::Swarm => "initialiser",
            Which::Etcd => "etcd/initialiser",
        };
        let found = self.parameters.get(&self.name(name)).await?;
        Ok(found.and_then(|id| id.expose().parse().ok()))
    }

    /// Records the founder for agents of the version before the log, which would found otherwise.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_legacy(&self, machine: &MachineId) -> Result<(), RendezvousError> {
        let name = self.name("initialiser");
        if self.parameters.get(&name).await?.is_none_or(|id| id.expose() != machine.as_str()) {
            let text = Secret::new(machine.to_string());
            self.parameters.put(&name, &text, Protection::Plain).await?;
        }
        Ok(())
    }

    /// Control machines that may hold the cluster's state.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn holders(&self) -> Result<Vec<Holder>, RendezvousError> {
        let found = self.parameters.list(&self.name("members")).await?;
        let read = found.iter().map(|one| Holder::read(&one.name, one.value.expose()));
        Ok(read.collect::<Result<_, _>>()?)
    }

    /// Records that `machine` may hold state of `cluster`, under a name that is used once.
    ///
    /// # Errors
    /// When it was not written, or that is unknown.
    pub async fn hold(&self, machine: &MachineId, cluster: Option<&SwarmId>) -> Result<(), RendezvousError> {
        let key = Utc::now().timestamp_nanos_opt().unwrap_or_default();
        let name = self.name(&format!("members/{machine}/{key:x}"));
        let text = Secret::new(Holder::text(cluster));
        self.parameters.put(&name, &text, Protection::Plain).await?;
        Ok(())
    }

    /// Deletes a record of [`Self::hold`].
    ///
    /// # Errors
    /// When it was not deleted, or that is unknown.
    pub async fn withdraw(&self, machine: &MachineId, key: &str) -> Result<(), RendezvousError> {
        self.parameters.delete(&self.name(&format!("members/{machine}/{key}"))).await?;
        Ok(())
    }

    /// Control machines that serve the API, and their addresses.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn registered(&self) -> Result<Vec<(MachineId, IpAddr)>, RendezvousError> {
        let found = self.parameters.list(&self.name("control")).await?;
        let registered = found.iter().filter_map(|parameter| {
            let id = parameter.name.rsplit('/').next()?.parse().ok()?;
            Some((id, Endpoint::read(parameter.value.expose())?.address))
        });
        Ok(registered.collect())
    }

    /// A join token, `manager` or `worker`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn token(&self, role: &str) -> Result<Option<Secret<String>>, RendezvousError> {
        Ok(self.parameters.get(&self.name(&format!("join-token/{role}"))).await?)
    }

    /// Publishes a join token, unless it is published.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_token(&self, role: &str, token: &Secret<String>) -> Result<(), RendezvousError> {
        if self.token(role).await?.is_none_or(|published| published != *token) {
            let name = self.name(&format!("join-token/{role}"));
            self.parameters.put(&name, token, Protection::Encrypted).await?;
        }
        Ok(())
    }

    /// Whether the deployments of the cluster before are restored in that generation.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_restored(&self, generation: u64) -> Result<bool, RendezvousError> {
        Ok(self.parameters.get(&self.name(&format!("restored/{generation}"))).await?.is_some())
    }

    /// Records that they are.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn mark_restored(&self, generation: u64, cluster: &SwarmId) -> Result<(), RendezvousError> {
        let record = Restored { version: RESTORED_VERSION, cluster: cluster.clone() };
        let text = Secret::new(serde_json::to_string(&record).unwrap_or_default());
        let name = self.name(&format!("restored/{generation}"));
        self.parameters.create_if_absent(&name, &text, Protection::Plain).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recorded_restoration_loads() {
        for (name, text) in crate::source::samples::of("restored") {
            let record: Restored =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(record.version <= RESTORED_VERSION, "{name}");
        }
    }
}
