//! What happens to rollouts.

use serde::{Deserialize, Serialize};

use crate::model::name::{Digest, ServiceName};
use crate::model::service::{PreDeployState, RevisionState};

/// Something that happened to the rollout of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum RolloutEvent {
    /// The cluster was told.
    Started {
        /// The service.
        service: ServiceName,
        /// The revision it makes.
        revision: u64,
        /// The image.
        digest: Digest,
    },
    /// The command that runs before the revision's first instance starts is in another state.
    PreDeploy {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: u64,
        /// The state of its command.
        state: PreDeployState,
    },
    /// More, or fewer, instances of the revision are healthy.
    Progress {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: u64,
        /// How many instances of its image are healthy.
        healthy: u32,
        /// How many there should be.
        desired: u32,
    },
    /// It ended.
    Ended {
        /// The service.
        service: ServiceName,
        /// The revision.
        revision: u64,
        /// What became of it.
        state: RevisionState,
        /// Why, when there is something to say.
        reason: Option<String>,
    },
}
