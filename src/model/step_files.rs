//! What is kept of a step's workspace: files, and what its tests have shown.

use serde::{Deserialize, Serialize};

/// How many failed tests of a step are kept with their messages.
pub const FAILURES_MOST: usize = 100;
/// How much of a failed test's message is kept, in bytes.
pub const MESSAGE_MOST: usize = 4 * 1024;

/// A file of the workspace that was kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepFile {
    /// Its path in the workspace.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What the tests of a step have shown, all reports together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TestReport {
    /// How many tests there are.
    pub tests: u64,
    /// How many of them were left out.
    pub skipped: u64,
    /// How many of them failed.
    pub failed: u64,
    /// The failed ones, [`FAILURES_MOST`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<FailedTest>,
}

/// A test that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTest {
    /// What it is called, with what it belongs to.
    pub name: String,
    /// Why it failed, [`MESSAGE_MOST`] bytes at most.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

impl TestReport {
    /// Takes in another report of the same step.
    pub fn add(&mut self, other: Self) {
        self.tests += other.tests;
        self.skipped += other.skipped;
        self.failed += other.failed;
        let room = FAILURES_MOST.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.into_iter().take(room));
    }

    /// The names of failed tests, for a sentence: three at most.
    pub fn names(&self) -> String {
        let mut names: Vec<&str> = self.failures.iter().take(3).map(|test| test.name.as_str()).collect();
        if self.failed > names.len() as u64 && !names.is_empty() {
            names.push("...");
        }
        names.join(", ")
    }
}
