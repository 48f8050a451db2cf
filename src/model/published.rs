//! The agent that machines run: a build that lies in the project's bucket.

use super::name::{AgentSum, AgentVersion};

/// Where agents lie in the bucket. The roles of machines may read what is below it.
const FOLDER: &str = "agent/";

/// Stands for version and checksum where no agent is published yet.
pub const UNPUBLISHED: &str = "<unpublished agent>";

/// A build of the agent, as the repository names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedAgent {
    /// The version that it calls itself.
    pub version: AgentVersion,
    /// The checksum of the executable. Machines keep nothing that has another.
    pub sha256: AgentSum,
}

impl PublishedAgent {
    /// Its key in the project's bucket.
    pub fn key(&self) -> String {
        format!("{FOLDER}{}/{}", self.version, self.sha256)
    }
}
