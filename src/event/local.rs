//! What happens while the local cloud is prepared, started and removed.

use serde::{Deserialize, Serialize};

/// Something that happened to the local cloud.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum LocalEvent {
    /// A step began that takes long enough to be told of.
    Started {
        /// What it makes, such as `machine image`.
        step: String,
        /// What it does, and how long that usually takes.
        detail: String,
    },
    /// A step got on.
    Progress {
        /// The step.
        step: String,
        /// What it does now.
        detail: String,
        /// How much it has downloaded, where that is known.
        bytes: Option<u64>,
    },
    /// A step ended well.
    Finished {
        /// The step.
        step: String,
        /// What came of it.
        outcome: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// How much it downloaded, where that is known.
        bytes: Option<u64>,
    },
    /// The power of machines is about to be cut.
    PowerCycle {
        /// Their instances, in the order in which they are switched on again.
        machines: Vec<String>,
        /// The seed with which the same delays are drawn again.
        seed: u64,
    },
    /// A machine is off.
    PowerCut {
        /// Its instance.
        instance: String,
        /// For how many seconds.
        seconds: f64,
    },
    /// A machine is on again.
    PowerOn {
        /// Its instance.
        instance: String,
        /// After how many seconds.
        seconds: f64,
    },
}
