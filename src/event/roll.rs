//! What happens while a group's machines are replaced.

use serde::{Deserialize, Serialize};

/// Something that happened to a roll. The group is named as the cloud names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum RollEvent {
    /// It began, or goes on after it was stopped.
    Began {
        /// The group.
        group: String,
        /// The machines to be replaced.
        machines: Vec<String>,
        /// Whether it goes on from where an earlier one was stopped.
        resumed: bool,
    },
    /// The group's capacity was set.
    Capacity {
        /// The group.
        group: String,
        /// How many machines there shall be.
        desired: u32,
        /// The most there may be.
        max: u32,
    },
    /// Machines are being emptied.
    Draining {
        /// The group.
        group: String,
        /// The machines.
        machines: Vec<String>,
    },
    /// Machines run nothing and are being terminated.
    Terminating {
        /// The group.
        group: String,
        /// The machines.
        machines: Vec<String>,
    },
    /// Nothing can be done before something else happens.
    Waiting {
        /// The group.
        group: String,
        /// For what, one line.
        text: String,
    },
    /// It is done.
    Done {
        /// The group.
        group: String,
        /// The machines that were replaced, by this run.
        replaced: Vec<String>,
        /// How long it took, in seconds.
        seconds: f64,
    },
}
