//! A cluster as a whole: who holds its state, whether it can be changed, and what is kept of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::feature::Features;
use super::name::{MachineId, ServiceName};

/// How far what a cluster runs is kept outside of it, as its leader knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Durability {
    /// When the bucket was last compared with the cluster.
    pub checked: Option<DateTime<Utc>>,
    /// When something was last written to it, since this agent started.
    pub written: Option<DateTime<Utc>>,
    /// Services of which the bucket has a newer revision than the cluster.
    pub newer: Vec<ServiceName>,
    /// Services whose document can't be read, and why.
    pub unreadable: BTreeMap<ServiceName, String>,
    /// Services in the bucket that the cluster does not have.
    pub unknown: Vec<ServiceName>,
    /// Why the last comparison failed.
    pub error: Option<String>,
}

/// Where the log of a manager ends. The log with the higher term is newer, then the longer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEnd {
    /// The term of its last entry.
    pub term: u64,
    /// The index of its last entry.
    pub index: u64,
}

/// What the engine of a control machine says, which it can without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// It belongs to no cluster.
    Out,
    /// It is on its way in, or waits for a majority of the managers.
    Waiting,
    /// It is a manager, and there is a leader.
    Manager,
    /// It is a manager, and there is no leader.
    Alone,
    /// It is a worker.
    Worker,
    /// It gave up, or does not answer.
    Broken,
}

/// A manager as the cluster knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// The engine's id of it.
    pub node: String,
    /// The machine; `None` until its agent has registered it.
    pub machine: Option<MachineId>,
    /// Whether it leads.
    pub leader: bool,
    /// Whether it takes part in decisions.
    pub reachable: bool,
}

/// The etcd of a control machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EtcdView {
    /// Whether it answers, and a majority stands behind its answer.
    pub healthy: bool,
    /// Where its log ends; `None` where there is none or it can't be read.
    pub log: Option<LogEnd>,
}

/// What one control machine knows of its cluster, majority or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Version of this document, 1.
    pub version: u32,
    /// The machine that answers.
    pub machine: MachineId,
    /// Its private address.
    pub address: IpAddr,
    /// What its agent can do.
    #[serde(default)]
    pub features: Features,
    /// Its engine.
    pub engine: EngineState,
    /// The engine's own words, where it says more.
    pub message: Option<String>,
    /// The engine's id of the cluster; `None` where it can't be found.
    pub id: Option<String>,
    /// The engine's id of this machine's node.
    pub node: Option<String>,
    /// Which founding or recovery of the cluster is published; 0 before any is.
    pub generation: u64,
    /// Whether what the cluster runs is restored, so that workers may join.
    pub restored: bool,
    /// Where this machine's log ends; `None` where there is none or it can't be read.
    pub log: Option<LogEnd>,
    /// The managers; empty without a majority.
    pub managers: Vec<Manager>,
    /// What is kept outside the cluster; only the leader's is of use.
    pub durability: Durability,
    /// Its etcd; `None` where it keeps none.
    #[serde(default)]
    pub etcd: Option<EtcdView>,
}

impl View {
    /// Whether a majority of the managers decides.
    pub fn has_majority(&self) -> bool {
        self.engine == EngineState::Manager
    }

    /// Whether this machine leads.
    pub fn leads(&self) -> bool {
        self.managers.iter().any(|one| one.leader && Some(&one.node) == self.node.as_ref())
    }
}

/// The result of asking one control machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its view.
    View(Box<View>),
    /// Its agent is of a version that does not know the question.
    TooOld,
    /// It did not answer, and why.
    Silent(String),
}

/// One control machine, asked by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The machine's id, or its address where nothing else is known.
    pub machine: String,
    /// Its answer.
    pub answer: Answer,
}

impl Asked {
    /// Its view, if it gave one.
    pub fn view(&self) -> Option<&View> {
        match &self.answer {
            Answer::View(view) => Some(view),
            Answer::TooOld | Answer::Silent(_) => None,
        }
    }
}
