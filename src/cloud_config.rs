//! Machines' user data: what engines at boot make of a document, and what is wrong with it.
//!
//! [`check`] holds a text against what each [`Target`] really does with it, [`effects`] says what
//! a machine would have, and [`difference`] what changes. Nothing is known here of stacks,
//! templates or AWS, but for the size that EC2 takes; rendering is done before.
//!
//! The facts are the engines' own: coreos-cloudinit's sources, cloud-init's schema and modules,
//! and what running them shows. Where an engine loses something without a word, that is an error
//! here, even if its own validator takes it.

use std::sync::Arc;

use crate::source::SourceFile;

mod check;
mod cloud_init;
mod content;
mod convert;
mod coreos;
mod difference;
mod document;
mod effects;
mod emit;
mod finding;
#[cfg(test)]
mod fuzz_tests;
mod merge;
mod model;
mod multipart;
mod normal;
mod packed;
mod parts;
mod scalar;
mod shape;
mod target;
#[cfg(test)]
mod tests;
#[cfg(test)]
#[path = "../tests/models/user_data.rs"]
mod user_data;
#[cfg(test)]
mod verdicts;

pub use check::secrets::{redacted, shown_setting};
pub use convert::convert;
pub use difference::{Change, Kind as ChangeKind, Reach, What, difference};
pub use document::{Document, Kind};
pub use effects::{Command, Effects, File, Unit, User, effects};
pub use emit::{Emitted, yaml};
pub use finding::Finding;
pub use merge::{Merged, includes, merge};
pub use model::Config;
pub use multipart::{Part, multipart};
pub use packed::{gunzip, gzip};
pub use target::{Dialect, Target};

use finding::Report;

/// Bytes of user data that EC2 takes, before base64; from its user guide.
pub const USER_DATA_MOST: usize = 16_384;

/// What [`check`] found.
#[derive(Debug)]
pub struct Verdict {
    /// The targets that were checked.
    pub targets: Vec<Target>,
    /// What was found, in the order of the document.
    pub findings: Vec<Finding>,
    /// The text with its secrets masked, place for place, to show findings in.
    pub shown: Arc<SourceFile>,
}

impl Verdict {
    /// Whether `target` would refuse the document, or lose part of it.
    pub fn refused_by(&self, target: Target) -> bool {
        self.findings.iter().any(|finding| finding.is_error() && finding.targets.contains(&target))
    }
}

/// Checks the user data in `file` for `targets`, or, where none is given, for those that its look
/// suggests.
pub fn check(file: &Arc<SourceFile>, targets: &[Target]) -> Verdict {
    check_packed(file, file.text().len(), targets)
}

/// The same for user data that has `bytes` as it is sent, packed with gzip.
pub fn check_packed(file: &Arc<SourceFile>, bytes: usize, targets: &[Target]) -> Verdict {
    let document = Document { bytes, ..Document::sampled(file) };
    let mut targets = match targets {
        [] => Target::defaults(document.dialect()).to_vec(),
        some => some.to_vec(),
    };
    targets.sort_unstable();
    targets.dedup();
    let mut report = Report::new(&document.read, &targets);
    let secrets = check::whole(&document, &targets, &mut report);
    let findings = report.finish(file, document.root.as_ref());
    Verdict { targets, findings, shown: check::secrets::masked(file, &secrets) }
}
