//! Templates and policies of deployed stacks, kept between commands: a stack that has not changed since
//! is not asked for them again. Losing them costs a call each, and nothing else.

use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::adapter::private_file;
use crate::model::deployed::{DeployedStack, Phase};

/// Version of the files; one of another version is not read.
const VERSION: u32 = 1;

/// What is kept of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its template.
    Template,
    /// Its policy; empty when it has none. One that somebody else sets is not noticed before the stack
    /// changes: nothing that CloudFormation tells of a stack shows it.
    Policy,
}

/// A folder of templates and policies, a file for each.
#[derive(Debug, Clone)]
pub struct Templates {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    state: String,
    template: String,
}

impl Templates {
    /// Those in `folder`, which need not exist.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What is kept of a stack, if it is known and the stack has not changed since.
    pub fn get(&self, stack: &DeployedStack, part: Part) -> Option<String> {
        let state = state(stack)?;
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.file(stack, part)).ok()?).ok()?;
        (kept.version == VERSION && kept.state == state).then_some(kept.template)
    }

    /// Keeps a part of a stack, if it can be told when that changes.
    pub fn keep(&self, stack: &DeployedStack, part: Part, template: &str) {
        let Some(state) = state(stack) else { return };
        let kept = Kept { version: VERSION, state, template: template.to_owned() };
        let write = || -> std::io::Result<()> {
            private_file::make_folder(&self.folder)?;
            // Made with mode 0600: templates may hold user data.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(&kept)?)?;
            file.persist(self.file(stack, part))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, stack = stack.name, "it is not kept");
        }
    }

    /// Keeps it no longer.
    pub fn forget(&self, stack: &DeployedStack, part: Part) {
        // One that was never kept is no error.
        let _ = std::fs::remove_file(self.file(stack, part));
    }

    fn file(&self, stack: &DeployedStack, part: Part) -> PathBuf {
        let hash: String = Sha256::digest(&stack.id).iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(match part {
            Part::Template => hash,
            Part::Policy => format!("{hash}.policy"),
        })
    }
}

/// What changes whenever a stack's template may have: every update has its time and, where it came
/// from a change set, that set's id. `None` while it changes, or where the time is not told.
fn state(stack: &DeployedStack) -> Option<String> {
    let updated = stack.updated.filter(|_| stack.phase() == Phase::Settled)?;
    let change_set = stack.change_set.as_deref().unwrap_or_default();
    Some(format!("{} {} {change_set}", stack.status, updated.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_known_until_its_stack_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let templates = Templates::new(folder.path().join("templates"));
        let stack = DeployedStack {
            name: "demo-local-db".to_owned(),
            id: "arn:1".to_owned(),
            status: "UPDATE_COMPLETE".to_owned(),
            updated: chrono::DateTime::from_timestamp(1_700_000_000, 0),
            change_set: Some("set-1".to_owned()),
            ..DeployedStack::default()
        };
        assert_eq!(templates.get(&stack, Part::Template), None);
        templates.keep(&stack, Part::Template, "Resources: {}");
        assert_eq!(templates.get(&stack, Part::Template).as_deref(), Some("Resources: {}"));
        let changed = [
            DeployedStack { updated: chrono::DateTime::from_timestamp(1_700_000_001, 0), ..stack.clone() },
            DeployedStack { change_set: Some("set-2".to_owned()), ..stack.clone() },
            DeployedStack { status: "UPDATE_ROLLBACK_COMPLETE".to_owned(), ..stack.clone() },
            DeployedStack { id: "arn:2".to_owned(), ..stack.clone() },
            DeployedStack { updated: None, ..stack.clone() },
        ];
        for stack in changed {
            assert_eq!(templates.get(&stack, Part::Template), None, "{stack:?}");
        }
        let busy = DeployedStack { status: "UPDATE_IN_PROGRESS".to_owned(), ..stack };
        templates.keep(&busy, Part::Template, "Resources: {A: {}}");
        assert_eq!(templates.get(&busy, Part::Template), None);
    }

    #[test]
    fn every_recorded_template_loads() {
        for (name, text) in crate::source::samples::of("known-template") {
            let kept: Kept = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(kept.version <= VERSION && !kept.template.is_empty(), "{name}");
        }
    }
}
