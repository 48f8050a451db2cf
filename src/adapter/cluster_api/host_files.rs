//! Watched files, through the API.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::StreamExt as _;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::feature::{Feature, Needs, check};
use crate::model::host_file::{Definition, HOST_FILE_VERSION, HostFileSpec};
use crate::model::host_file_state::HostFileStates;
use crate::model::name::{HostFileName, MachineId};
use crate::port::cluster::{Cluster as _, ClusterError};
use crate::port::cluster_wire::{Changed, FeedItem, HostFileList, HostFileReport, KeyList, KeysRequest};
use crate::port::host_files::{Feeds, HostFileCluster, Lines, ReadKeys};

#[async_trait]
impl HostFileCluster for ClusterApi {
    async fn host_files(&self) -> Result<Vec<Definition>, ClusterError> {
        let list: HostFileList = self.0.answer(Method::GET, "host-files", None::<&()>, Again::Always).await?;
        Ok(list.files)
    }

    async fn deploy_host_file(&self, spec: &HostFileSpec) -> Result<u64, ClusterError> {
        // A machine whose agent does not know them would never have the file.
        let all = [Feature::HostFiles].into_iter().collect();
        let needs = Needs { control: all, machines: all };
        let machines = self.snapshot().await?.machines;
        check(needs, &machines).map_err(|old| ClusterError::Refused {
            reason: format!("`{}` was not deployed: {old}", spec.name),
        })?;
        let path = format!("host-files/{}", spec.name);
        let changed: Changed = self.0.answer(Method::PUT, &path, Some(spec), Again::Always).await?;
        Ok(changed.revision)
    }

    async fn remove_host_file(&self, name: &HostFileName) -> Result<(), ClusterError> {
        let path = format!("host-files/{name}");
        self.0.call(Method::DELETE, &path, None::<&()>, Again::OnlyUnsent).await.map(|_: Option<()>| ())
    }
}

#[async_trait]
impl ReadKeys for ClusterApi {
    async fn read_keys(&self, prefixes: &[String]) -> Result<BTreeMap<String, String>, ClusterError> {
        let request = KeysRequest { prefixes: prefixes.to_vec() };
        let list: KeyList = self.0.answer(Method::POST, "keys", Some(&request), Again::Always).await?;
        Ok(list.keys)
    }
}

#[async_trait]
impl Feeds for ClusterApi {
    async fn feed(&self, machine: &MachineId) -> Result<Lines, ClusterError> {
        let path = format!("machines/{machine}/host-files");
        let lines = self.0.open::<FeedItem>(&path).await?;
        let endpoint = self.0.described().await;
        Ok(lines
            .map(move |line| {
                let endpoint = endpoint.clone();
                match line {
                    Ok(FeedItem::Line(line)) if line.version == HOST_FILE_VERSION => Ok(*line),
                    Ok(FeedItem::Line(line)) => Err(ClusterError::Unreachable {
                        endpoint,
                        reason: format!(
                            "its watched files have version {}, which this agent does not know",
                            line.version
                        ),
                    }),
                    Ok(FeedItem::Error(error)) => Err(error.into_error(&endpoint)),
                    Err(reason) => Err(ClusterError::Unreachable { endpoint, reason }),
                }
            })
            .boxed())
    }

    async fn report(&self, machine: &MachineId, states: &HostFileStates) -> Result<(), ClusterError> {
        let path = format!("machines/{machine}/host-files");
        let report = HostFileReport::from(states);
        self.0.call(Method::PUT, &path, Some(&report), Again::Always).await.map(|_: Option<()>| ())
    }
}
