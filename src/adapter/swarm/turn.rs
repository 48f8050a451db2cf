//! The turn to join again, kept in the swarm as a config object of a fixed name: the managers take
//! one object of a name, whichever of them was asked.

use std::collections::HashMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::models::{Config, ConfigSpec};
use serde::{Deserialize, Serialize};

use super::Swarm;
use crate::model::name::MachineId;
use crate::model::standing::HeldTurn;
use crate::port::cluster::ClusterError;
use crate::port::standing::Turns;

/// The object's name. Those of revisions have a service's name and a number after the first dot.
const NAME: &str = "fleetwright.turn";
/// The version of [`Stored`] that is written.
const VERSION: u32 = 1;

/// The object's data.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    machine: MachineId,
    since: i64,
}

fn object(machine: &MachineId, since: i64) -> Result<ConfigSpec, serde_json::Error> {
    let stored = Stored { version: VERSION, machine: machine.clone(), since };
    Ok(ConfigSpec {
        name: Some(NAME.to_owned()),
        labels: Some(HashMap::new()),
        data: Some(STANDARD.encode(serde_json::to_vec(&stored)?)),
        templating: None,
    })
}

/// The turn among the swarm's config objects.
///
/// # Errors
/// When what is there cannot be read: no turn may be given beside it.
fn held(configs: &[Config]) -> Result<Option<HeldTurn>, ClusterError> {
    let is_it = |config: &&Config| config.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(NAME);
    let Some(config) = configs.iter().find(is_it) else { return Ok(None) };
    let bad = |reason: String| ClusterError::Engine {
        doing: format!("reading the config object `{NAME}`, which says which machine joins"),
        reason,
    };
    let data = config.spec.as_ref().and_then(|spec| spec.data.as_deref()).unwrap_or_default();
    let data = STANDARD.decode(data).map_err(|error| bad(error.to_string()))?;
    let stored: Stored = serde_json::from_slice(&data).map_err(|error| bad(error.to_string()))?;
    if stored.version != VERSION {
        return Err(bad(format!("its version is {}, and this program knows {VERSION}", stored.version)));
    }
    let id = config.id.clone().ok_or_else(|| bad("the engine gave it no id".to_owned()))?;
    Ok(Some(HeldTurn { id, machine: stored.machine, since: stored.since }))
}

#[async_trait]
impl Turns for Swarm {
    async fn held_turn(&self) -> Result<Option<HeldTurn>, ClusterError> {
        held(&self.engine.configs().await?)
    }

    async fn take_turn(&self, machine: &MachineId, now: i64) -> Result<bool, ClusterError> {
        let spec = object(machine, now).map_err(|error| super::broken(&error))?;
        Ok(self.engine.create_config(spec).await?.is_some())
    }

    async fn end_turn(&self, held: &HeldTurn) -> Result<(), ClusterError> {
        self.engine.delete_config(&held.id).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(data: &str) -> Config {
        let spec = ConfigSpec {
            name: Some(NAME.to_owned()),
            data: Some(STANDARD.encode(data)),
            ..ConfigSpec::default()
        };
        Config { id: Some("c1".into()), spec: Some(spec), ..Config::default() }
    }

    #[test]
    fn the_turn_is_read_as_it_was_written() {
        let machine: MachineId = "i-1".parse().expect("an id");
        let spec = object(&machine, 1_795_514_400).expect("JSON");
        let config = Config { id: Some("c1".into()), spec: Some(spec), ..Config::default() };
        let turn = HeldTurn { id: "c1".into(), machine, since: 1_795_514_400 };
        assert_eq!(held(&[config]).expect("readable"), Some(turn));
        assert_eq!(held(&[]).expect("readable"), None);
    }

    /// What version 1 wrote; later versions must read it.
    #[test]
    fn the_first_format_can_be_read() {
        let turn = held(&[config(r#"{"version":1,"machine":"i-1","since":7}"#)]).expect("readable");
        assert_eq!(turn.map(|turn| (turn.machine.to_string(), turn.since)), Some(("i-1".to_owned(), 7)));
    }

    #[test]
    fn what_can_t_be_read_is_no_free_turn() {
        for text in ["", "{}", r#"{"version":2,"machine":"i-1","since":7}"#] {
            assert!(held(&[config(text)]).is_err(), "{text}");
        }
    }

    #[test]
    fn every_recorded_turn_loads() {
        for (name, text) in crate::source::samples::of("turn") {
            let turn = held(&[config(&text)]).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(turn.map(|turn| turn.machine.to_string()).as_deref(), Some("i-1"), "{name}");
        }
    }
}
