//! What machines report of their watched files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::name::HostFileName;

/// The longest reason that is reported, in characters: it is kept with the engine's other labels of the machine.
pub const REASON_MOST: usize = 300;
/// The most files of which problems are reported.
pub const PROBLEMS_MOST: usize = 20;

/// What a machine reports of one of its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFileState {
    /// The number of the definition that the machine has applied last.
    pub number: u64,
    /// What keeps it from being applied as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<FileProblem>,
}

/// Why a file is not as it should be. The old one stays in place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileProblem {
    /// At which step.
    pub at: FileStep,
    /// Why, in at most [`REASON_MOST`] characters.
    pub reason: String,
}

/// A step on the way of a file to its program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileStep {
    /// The template is rendered.
    Render,
    /// The new file is checked.
    Check,
    /// It replaces the old one.
    Write,
    /// The program reads it.
    Reload,
}

impl FileStep {
    /// What has failed.
    pub fn words(self) -> &'static str {
        match self {
            Self::Render => "it can't be rendered",
            Self::Check => "its check fails",
            Self::Write => "it can't be written",
            Self::Reload => "its program can't be reloaded",
        }
    }
}

/// The states of a machine's files, by name.
pub type HostFileStates = BTreeMap<HostFileName, HostFileState>;
