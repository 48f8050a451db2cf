//! Definitions of watched files, kept in config objects as those of jobs are, and what machines report of them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec, Node};
use bollard::query_parameters::ListConfigsOptions;
use serde::{Deserialize, Serialize};

use super::jobs::objects::{VERSION, new, versioned};
use super::observe::label;
use super::{Swarm, busy};
use crate::model::host_file::{Definition, HostFileSpec};
use crate::model::host_file_state::HostFileStates;
use crate::model::name::HostFileName;
use crate::port::cluster::ClusterError;
use crate::port::host_files::HostFileCluster;

/// The label of a definition: the file's name.
const HOST_FILE: &str = "fleetwright.host-file";
/// The label with the number of a definition.
const NUMBER: &str = "fleetwright.host-file-number";
/// The label of a definition that says that the file was removed.
const REMOVED: &str = "fleetwright.host-file-removed";
/// The label of a node with the states of its machine's files.
pub(super) const STATES: &str = "fleetwright-host-files";
/// How often a change is tried again because somebody else made one.
const ATTEMPTS: u32 = 5;

/// The data of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredFile {
    version: u32,
    file: HostFileSpec,
}

/// A definition, and the object that it is kept in.
struct Stored {
    object: String,
    name: HostFileName,
    number: u64,
    /// What it says; `None` for a removal, and why it can't be read.
    content: Option<Result<HostFileSpec, String>>,
}

impl Stored {
    fn read(config: &Config) -> Option<Self> {
        let spec = config.spec.as_ref()?;
        let labels = spec.labels.as_ref()?;
        let removed = labels.contains_key(REMOVED);
        let content = || {
            let data = spec.data.as_ref().and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default();
            versioned::<StoredFile>(&data).map(|stored| stored.file)
        };
        Some(Self {
            object: config.id.clone()?,
            name: labels.get(HOST_FILE)?.parse().ok()?,
            number: labels.get(NUMBER)?.parse().ok()?,
            content: (!removed).then(content),
        })
    }
}

fn object(spec: &HostFileSpec, number: u64) -> ConfigSpec {
    let name = &spec.name;
    let labels = [(HOST_FILE, name.to_string()), (NUMBER, number.to_string())];
    new(format!("host-files.{name}.{number}"), labels, &StoredFile { version: VERSION, file: spec.clone() })
}

fn removal(name: &HostFileName, number: u64) -> ConfigSpec {
    let labels = [(HOST_FILE, name.to_string()), (NUMBER, number.to_string()), (REMOVED, "yes".to_owned())];
    let data = serde_json::json!({ "version": VERSION, "removed": true });
    new(format!("host-files.{name}.{number}"), labels, &data)
}

/// The definitions that count: of each name the one with the highest number.
fn newest(all: Vec<Stored>) -> BTreeMap<HostFileName, Stored> {
    let mut found: BTreeMap<HostFileName, Stored> = BTreeMap::new();
    for one in all {
        if found.get(&one.name).is_none_or(|known| known.number < one.number) {
            found.insert(one.name.clone(), one);
        }
    }
    found
}

/// What a machine has reported of its files.
pub(super) fn host_file_states(node: &Node) -> HostFileStates {
    label(node, STATES).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

impl Swarm {
    async fn stored(&self) -> Result<Vec<Stored>, ClusterError> {
        let filters = std::collections::HashMap::from([("label".to_owned(), vec![HOST_FILE.to_owned()])]);
        let options = ListConfigsOptions { filters: Some(filters) };
        let listed = self.engine.docker().list_configs(Some(options)).await;
        let listed = listed.map_err(|error| self.engine.error("reading the watched files", error))?;
        Ok(listed.iter().filter_map(Stored::read).collect())
    }

    /// Puts an object in the place of all earlier ones of its name.
    async fn supersede(
        &self,
        name: &HostFileName,
        spec: ConfigSpec,
        all: &[Stored],
    ) -> Result<bool, ClusterError> {
        if self.engine.create_config(spec).await?.is_none() {
            return Ok(false);
        }
        for earlier in all.iter().filter(|one| one.name == *name) {
            self.engine.delete_config(&earlier.object).await?;
        }
        Ok(true)
    }
}

#[async_trait]
impl HostFileCluster for Swarm {
    async fn host_files(&self) -> Result<Vec<Definition>, ClusterError> {
        let mut found = Vec::new();
        for (name, stored) in newest(self.stored().await?) {
            match stored.content {
                Some(Ok(spec)) => found.push(Definition { number: stored.number, spec }),
                Some(Err(reason)) => {
                    tracing::warn!(file = %name, reason, "the definition of a watched file can't be read");
                }
                None => {}
            }
        }
        Ok(found)
    }

    async fn deploy_host_file(&self, spec: &HostFileSpec) -> Result<u64, ClusterError> {
        for _ in 0..ATTEMPTS {
            let all = self.stored().await?;
            let before = all.iter().filter(|one| one.name == spec.name).max_by_key(|one| one.number);
            if let Some(before) = before
                && before.content.as_ref().is_some_and(|content| content.as_ref() == Ok(spec))
            {
                return Ok(before.number);
            }
            let number = before.map_or(0, |before| before.number) + 1;
            if self.supersede(&spec.name, object(spec, number), &all).await? {
                return Ok(number);
            }
        }
        Err(busy(spec.name.as_str()))
    }

    async fn remove_host_file(&self, name: &HostFileName) -> Result<(), ClusterError> {
        for _ in 0..ATTEMPTS {
            let all = self.stored().await?;
            let before = all.iter().filter(|one| one.name == *name).max_by_key(|one| one.number);
            let Some(before) = before.filter(|before| before.content.is_some()) else {
                return Err(ClusterError::NotFound { what: "watched file", name: name.to_string() });
            };
            if self.supersede(name, removal(name, before.number + 1), &all).await? {
                return Ok(());
            }
        }
        Err(busy(name.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_number_counts_and_a_removal_too() {
        let config =
            |spec: ConfigSpec| Config { id: spec.name.clone(), spec: Some(spec), ..Config::default() };
        let sample: HostFileSpec = serde_json::from_value(serde_json::json!({
            "name": "app", "path": "/etc/app.conf", "source": "templates/host_files/app.conf", "template": "x", "mode": 420,
        }))
        .expect("a definition");
        let specs = [object(&sample, 2), object(&sample, 10), object(&sample, 9)];
        let read = |specs: &[ConfigSpec]| {
            newest(specs.iter().filter_map(|spec| Stored::read(&config(spec.clone()))).collect())
        };
        let name: HostFileName = "app".parse().expect("a name");
        let found = read(&specs);
        assert_eq!(found[&name].number, 10);
        assert_eq!(found[&name].content, Some(Ok(sample.clone())));
        let removed = read(&[specs.as_slice(), &[removal(&name, 11)]].concat());
        assert_eq!((removed[&name].number, &removed[&name].content), (11, &None));
        // One that a later version wrote is not taken for something else.
        let mut later = object(&sample, 12);
        later.data = Some(STANDARD.encode(r#"{"version": 2, "file": {}}"#));
        let found = read(&[later]);
        assert!(matches!(&found[&name].content, Some(Err(reason)) if reason.contains("version 2")));
    }

    #[test]
    fn every_recorded_form_is_read() {
        use crate::model::host_file::Selection;
        use crate::port::cluster_wire::{FeedItem, HostFileList, HostFileReport, KeyList, KeysRequest};
        use crate::port::host_files::HostFileRecord;
        for (name, text) in crate::source::samples::of("host-files") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let part = |key: &str| sample[key].clone();
            let stored =
                |key: &str| versioned::<StoredFile>(part(key).to_string().as_bytes()).expect(&name).file;
            assert_eq!(stored("stored").mode, 0o640);
            assert!(stored("stored").reload.is_some() && stored("shortest").services == Selection::default());
            let list: HostFileList = serde_json::from_value(part("list")).expect(&name);
            assert_eq!(list.files[0].spec.services, Selection::All);
            let lines: Vec<FeedItem> = serde_json::from_value(part("lines")).expect(&name);
            assert!(
                matches!(&lines[..], [FeedItem::Line(first), FeedItem::Line(_), FeedItem::Error(_)] if first.whole)
            );
            let report: HostFileReport = serde_json::from_value(part("report")).expect(&name);
            assert_eq!(HostFileReport::from(&report.clone().states()), report);
            serde_json::from_value::<KeysRequest>(part("keys-request")).expect(&name);
            let keys: KeyList = serde_json::from_value(part("keys")).expect(&name);
            assert_eq!(keys.keys.len(), 1);
            let record: HostFileRecord = serde_json::from_value(part("record")).expect(&name);
            assert!(record.due.is_some());
            serde_json::from_value::<HostFileRecord>(part("settled-record")).expect(&name);
        }
    }
}
