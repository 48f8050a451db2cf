//! Definitions of watched files in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fleetwright::driver::host_files::FeedSource;
use fleetwright::model::host_file::{Definition, HostFileSpec};
use fleetwright::model::name::HostFileName;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::host_files::HostFileCluster;
use fleetwright::port::membership::Membership;

/// The definitions.
#[derive(Default)]
pub struct Definitions(Mutex<BTreeMap<HostFileName, Definition>>);

#[async_trait]
impl HostFileCluster for Definitions {
    async fn host_files(&self) -> Result<Vec<Definition>, ClusterError> {
        Ok(self.0.lock().expect("not poisoned").values().cloned().collect())
    }

    async fn deploy_host_file(&self, spec: &HostFileSpec) -> Result<u64, ClusterError> {
        let mut all = self.0.lock().expect("not poisoned");
        let number = all.get(&spec.name).map_or(0, |known| known.number) + 1;
        all.insert(spec.name.clone(), Definition { number, spec: spec.clone() });
        Ok(number)
    }

    async fn remove_host_file(&self, name: &HostFileName) -> Result<(), ClusterError> {
        let removed = self.0.lock().expect("not poisoned").remove(name);
        removed
            .map(drop)
            .ok_or_else(|| ClusterError::NotFound { what: "watched file", name: name.to_string() })
    }
}

/// Definitions, and what machines are sent of them.
pub fn of(cluster: Arc<dyn Cluster>, membership: Arc<dyn Membership>) -> (Arc<Definitions>, FeedSource) {
    let files = Arc::new(Definitions::default());
    let feeds = FeedSource::new(cluster, files.clone(), membership, None);
    (files, feeds)
}
