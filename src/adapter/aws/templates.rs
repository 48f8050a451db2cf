//! Templates of deployed stacks, kept between commands: a stack that has not changed since is not
//! asked for its template again. Losing them costs a call each, and nothing else.

use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::model::deployed::{DeployedStack, Phase};

/// Version of the files; one of another version is not read.
const VERSION: u32 = 1;

/// A folder of templates, a file for each stack.
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

    /// The template of a stack, if it is known and the stack has not changed since.
    pub fn get(&self, stack: &DeployedStack) -> Option<String> {
        let state = state(stack)?;
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.file(stack)).ok()?).ok()?;
        (kept.version == VERSION && kept.state == state).then_some(kept.template)
    }

    /// Keeps the template of a stack, if it can be told when that changes.
    pub fn keep(&self, stack: &DeployedStack, template: &str) {
        let Some(state) = state(stack) else { return };
        let kept = Kept { version: VERSION, state, template: template.to_owned() };
        let write = || -> std::io::Result<()> {
            std::fs::create_dir_all(&self.folder)?;
            // Made with mode 0600: templates may hold user data.
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(&serde_json::to_vec(&kept)?)?;
            file.persist(self.file(stack))?;
            Ok(())
        };
        if let Err(error) = write() {
            tracing::debug!(%error, stack = stack.name, "its template is not kept");
        }
    }

    fn file(&self, stack: &DeployedStack) -> PathBuf {
        let hash: String = Sha256::digest(&stack.id).iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(hash)
    }
}

/// What changes whenever a stack's template may have: every update has its time and, where it came
/// from a change set, that set's id. `None` while it changes, or where neither is told.
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
        assert_eq!(templates.get(&stack), None);
        templates.keep(&stack, "Resources: {}");
        assert_eq!(templates.get(&stack).as_deref(), Some("Resources: {}"));
        let changed = [
            DeployedStack { updated: chrono::DateTime::from_timestamp(1_700_000_001, 0), ..stack.clone() },
            DeployedStack { change_set: Some("set-2".to_owned()), ..stack.clone() },
            DeployedStack { status: "UPDATE_ROLLBACK_COMPLETE".to_owned(), ..stack.clone() },
            DeployedStack { id: "arn:2".to_owned(), ..stack.clone() },
            DeployedStack { updated: None, ..stack.clone() },
        ];
        for stack in changed {
            assert_eq!(templates.get(&stack), None, "{stack:?}");
        }
        let busy = DeployedStack { status: "UPDATE_IN_PROGRESS".to_owned(), ..stack };
        templates.keep(&busy, "Resources: {A: {}}");
        assert_eq!(templates.get(&busy), None);
    }
}
