//! The leave to reboot, kept in the swarm.
//!
//! It is a config object of a fixed name: the managers take one object of a name, whichever
//! of them was asked, so that two machines never have leave at once. A label at the machine's
//! node says that the machine is to take work again when it is back; it stays when
//! the leave itself has gone to another machine meanwhile.

use std::collections::HashMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec, NodeSpecAvailabilityEnum as Availability};
use serde::{Deserialize, Serialize};

use super::Swarm;
use super::observe::{self, DRAIN, Observed, REBOOT};
use crate::model::name::MachineId;
use crate::model::reboot::{Leave, Mark};
use crate::port::cluster::ClusterError;
use crate::port::reboot::{Held, Leaves};

/// The object's name. Those of revisions have a service's name and a number after the first dot.
const NAME: &str = "fleetwright.reboot";
/// The version of [`Stored`] that is written.
const VERSION: u32 = 1;

/// The object's data.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    leave: Leave,
}

fn object(leave: &Leave) -> Result<ConfigSpec, serde_json::Error> {
    let stored = Stored { version: VERSION, leave: leave.clone() };
    Ok(ConfigSpec {
        name: Some(NAME.to_owned()),
        labels: Some(HashMap::new()),
        data: Some(STANDARD.encode(serde_json::to_vec(&stored)?)),
        templating: None,
    })
}

/// The leave among the swarm's config objects.
///
/// # Errors
/// When what is there can't be read: no leave must be given beside it.
fn leave(configs: &[Config]) -> Result<Option<Held>, ClusterError> {
    let is_it = |config: &&Config| config.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(NAME);
    let Some(config) = configs.iter().find(is_it) else { return Ok(None) };
    let bad = |reason: String| ClusterError::Engine {
        doing: format!("reading the config object `{NAME}`, which says who may reboot"),
        reason,
    };
    let data = config.spec.as_ref().and_then(|spec| spec.data.as_deref()).unwrap_or_default();
    let data = STANDARD.decode(data).map_err(|error| bad(error.to_string()))?;
    let stored: Stored = serde_json::from_slice(&data).map_err(|error| bad(error.to_string()))?;
    if stored.version != VERSION {
        return Err(bad(format!("its version is {}, this program knows {VERSION}", stored.version)));
    }
    let id = config.id.clone().ok_or_else(|| bad("the engine gave it no id".to_owned()))?;
    Ok(Some(Held { id, leave: stored.leave }))
}

/// The engine's id of a machine's node.
fn node<'a>(observed: &'a Observed, machine: &MachineId) -> Result<&'a bollard::models::Node, ClusterError> {
    observed
        .node(machine)
        .ok_or_else(|| ClusterError::NotFound { what: "machine", name: machine.to_string() })
}

impl Swarm {
    async fn node_id(&self, machine: &MachineId) -> Result<String, ClusterError> {
        let observed = self.engine.observe().await?;
        Ok(node(&observed, machine)?.id.clone().unwrap_or_default())
    }
}

#[async_trait]
impl Leaves for Swarm {
    async fn held(&self) -> Result<Option<Held>, ClusterError> {
        leave(&self.engine.configs().await?)
    }

    async fn take(&self, leave: &Leave) -> Result<bool, ClusterError> {
        let spec = object(leave).map_err(|error| super::broken(&error))?;
        Ok(self.engine.create_config(spec).await?.is_some())
    }

    async fn end(&self, held: &Held) -> Result<(), ClusterError> {
        self.engine.delete_config(&held.id).await
    }

    async fn mark(&self, machine: &MachineId) -> Result<Option<Mark>, ClusterError> {
        let observed = self.engine.observe().await?;
        Ok(observe::label(node(&observed, machine)?, REBOOT).and_then(|text| text.parse().ok()))
    }

    async fn set_mark(&self, machine: &MachineId, mark: &Mark) -> Result<(), ClusterError> {
        let text = mark.to_string();
        self.change(&self.node_id(machine).await?, |spec| {
            let labels = spec.labels.get_or_insert_default();
            labels.insert(REBOOT.to_owned(), text.clone()).as_ref() != Some(&text)
        })
        .await
    }

    async fn resume(&self, machine: &MachineId) -> Result<(), ClusterError> {
        self.change(&self.node_id(machine).await?, |spec| {
            let labels = spec.labels.get_or_insert_default();
            let marked = labels.remove(REBOOT).is_some();
            let drained = labels.remove(DRAIN).is_some();
            spec.availability = Some(Availability::ACTIVE);
            marked || drained
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, data: &str) -> Config {
        let spec = ConfigSpec {
            name: Some(name.to_owned()),
            data: Some(STANDARD.encode(data)),
            ..ConfigSpec::default()
        };
        Config { id: Some("c1".into()), spec: Some(spec), ..Config::default() }
    }

    #[test]
    fn the_leave_is_read_as_it_was_written() {
        let written = Leave {
            machine: "i-1".parse().expect("an id"),
            mark: "1795514400 40dd558d".parse().expect("a mark"),
        };
        let spec = object(&written).expect("JSON");
        let config = Config { id: Some("c1".into()), spec: Some(spec), ..Config::default() };
        let held = leave(&[of("fleetwright.web.1", "{}"), config]).expect("readable");
        assert_eq!(held, Some(Held { id: "c1".into(), leave: written }));
        assert_eq!(leave(&[of("fleetwright.web.1", "{}")]).expect("readable"), None);
    }

    /// What version 1 wrote; later versions must read it.
    #[test]
    fn the_first_format_can_be_read() {
        let text = r#"{"version":1,"leave":{"machine":"i-1","mark":{"since":1795514400,"boot":"40dd"}}}"#;
        let held = leave(&[of(NAME, text)]).expect("readable").expect("one");
        assert_eq!((held.leave.machine.as_str(), held.leave.mark.since), ("i-1", 1_795_514_400));
    }

    #[test]
    fn what_can_t_be_read_is_no_free_leave() {
        for text in ["", "{}", r#"{"version":2,"leave":{"machine":"i-1","mark":{"since":1,"boot":"a"}}}"#] {
            assert!(leave(&[of(NAME, text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn every_recorded_leave_loads() {
        for (name, text) in crate::source::samples::of("reboot-leave") {
            let config: Config = serde_json::from_str(&text).expect("the sample");
            let held = leave(&[config]).unwrap_or_else(|error| panic!("{name}: {error}")).expect("a leave");
            assert_eq!(held.leave.machine.as_str(), "i-1", "{name}");
        }
    }
}
