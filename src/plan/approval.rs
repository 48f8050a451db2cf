//! What people approve. Pure.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::name::{CommitId, Digest};
use crate::model::run::StepAction;

/// What is about to be done.
#[derive(Debug, Serialize)]
pub struct Proposal<'a> {
    /// The commit.
    pub commit: &'a CommitId,
    /// The environment.
    pub environment: &'a str,
    /// The images that steps before have put into the registry, with their digests.
    pub images: BTreeMap<&'a String, &'a Digest>,
    /// What steps before have planned, by their names, as hashes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub plans: BTreeMap<&'a String, &'a String>,
    /// The question and the steps after it, with everything that they say.
    pub steps: Vec<&'a StepAction>,
}

/// The hash of a proposal: an answer to it counts for nothing else.
pub fn shown(proposal: &Proposal<'_>) -> String {
    // What a machine has frozen can always be written as JSON; if not, no answer fits.
    let text = serde_json::to_vec(proposal).unwrap_or_default();
    let hash = Sha256::digest(text);
    hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_digest_commit_or_step_is_another_question() {
        let commit: CommitId = "a".repeat(40).parse().expect("a commit");
        let digest: Digest = format!("sha256:{}", "1".repeat(64)).parse().expect("a digest");
        let other: Digest = format!("sha256:{}", "2".repeat(64)).parse().expect("a digest");
        let image = "demo/web".to_owned();
        let with = |environment, digest, steps| {
            shown(&Proposal {
                commit: &commit,
                environment,
                images: BTreeMap::from([(&image, digest)]),
                plans: BTreeMap::new(),
                steps,
            })
        };
        let first = with("production", &digest, vec![&StepAction::Source]);
        assert_eq!(first.len(), 24);
        assert_eq!(first, with("production", &digest, vec![&StepAction::Source]));
        assert_ne!(first, with("production", &other, vec![&StepAction::Source]));
        assert_ne!(first, with("staging", &digest, vec![&StepAction::Source]));
        assert_ne!(first, with("production", &digest, Vec::new()));
    }
}
