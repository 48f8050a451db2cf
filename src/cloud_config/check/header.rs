//! The first line, by which engines tell what they are given.
//!
//! coreos-cloudinit compares the first line, its end trimmed, with `#cloud-config`; legacy fails on
//! anything else, Flatcar boots as if there were nothing. cloud-init looks at how the whole text
//! starts, blanks skipped and letters lowered (`handlers/__init__.py`), but its own `schema`
//! command wants the bytes at the very start.

use crate::cloud_config::document::{Document, Kind};
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::merge::includes;
use crate::cloud_config::parts::pieces;
use crate::cloud_config::target::Target;
use crate::source::Span;

const HEADER: &str = "#cloud-config";
/// The line that makes cloud-init put instance data in.
const TEMPLATE: &str = "## template: jinja";

/// Checks the first line.
pub fn check(document: &Document, report: &mut Report<'_>) {
    let text = document.file.text();
    let line = text.lines().next().unwrap_or("");
    let span = Span::new(0, line.trim_end().len());
    match document.kind {
        Kind::CloudConfig => {
            cloud_config(text, line, span, report);
            not_done(document, report);
        }
        Kind::Script => {
            let message = "Ignition runs no scripts";
            let help = "write the script with `write_files` and run it from a unit";
            report.add(&[Target::Ignition3_3], Finding::error("not-in-ignition", span, message).help(help));
        }
        Kind::Multipart => {
            let message = "MIME multipart is not taken";
            let finding = Finding::error("wrong-dialect", span, message);
            report.add(&[Target::CoreosLegacy, Target::Ignition3_3], finding);
        }
        Kind::Ignition => {
            let message = "this is a document of Ignition";
            let targets = [Target::CoreosLegacy, Target::CloudInit22_4, Target::CloudInit23_4];
            report.add(&targets, Finding::error("wrong-dialect", span, message));
        }
        Kind::CloudInitOnly => {
            let message = "only cloud-init takes user data of this kind";
            let targets = [Target::CoreosLegacy, Target::Flatcar, Target::Ignition3_3];
            report.add(&targets, Finding::error("wrong-dialect", span, message));
            if !is_template(text) {
                let message = "user data of this kind is not checked";
                report.add(&Target::CLOUD_INIT, Finding::warning("unchecked-part", span, message));
            }
        }
        Kind::Unknown => {
            let message = if text.trim().is_empty() {
                "there is no user data".to_owned()
            } else {
                format!("no engine knows what this is: the first line must be `{HEADER}`")
            };
            report.add(&Target::ALL, Finding::error("bad-header", span, message));
        }
    }
}

fn is_template(text: &str) -> bool {
    text.get(..TEMPLATE.len()).is_some_and(|start| start.eq_ignore_ascii_case(TEMPLATE))
}

/// What stands in the text for somebody else to put something in.
fn not_done(document: &Document, report: &mut Report<'_>) {
    let text = document.file.text();
    for (name, span) in includes(text) {
        let message = format!("`{name}` is not put in here");
        let help = "`fleetwright validate` and `fleetwright render --user-data` put parts in";
        report.add(&Target::ALL, Finding::warning("part-not-included", span, message).help(help));
    }
    // Comments say what they like.
    let is_comment = |at: usize| {
        let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
        text[line..].trim_start().starts_with('#')
    };
    for (span, is_value) in pieces(text, 0) {
        let inner = text[span.start + 2..span.end - 2].trim_start_matches(['-', ' ']);
        if is_value && (inner.starts_with("v1.") || inner.starts_with("ds.")) && !is_comment(span.start) {
            let message = format!("`{}` stays as it is", &text[span.start..span.end]);
            let help = format!("write `{TEMPLATE}` into a line before `{HEADER}`");
            report.add(
                &Target::CLOUD_INIT,
                Finding::warning("template-not-rendered", span, message).help(help),
            );
        }
    }
}

fn cloud_config(text: &str, line: &str, span: Span, report: &mut Report<'_>) {
    if line.trim_end() == HEADER {
        return;
    }
    let lost = |message: String| {
        Finding::error("bad-header", span, message)
            .help("coreos-legacy refuses the document; flatcar and cloud-init boot as if there were none")
    };
    let start = text.trim_start();
    let lower = start.get(..HEADER.len()).map(str::to_lowercase);
    if text.starts_with('\u{feff}') {
        let message = format!("a byte order mark stands before `{HEADER}`");
        report.add(&Target::READERS, lost(message).help("save the file as UTF-8 without a mark"));
    } else if lower.as_deref() == Some(HEADER) {
        // cloud-init takes what follows, what comes before, and capital letters.
        let message = if line.trim().is_empty() {
            format!("a blank line stands before `{HEADER}`")
        } else if line.starts_with([' ', '\t']) {
            format!("a blank stands before `{HEADER}`")
        } else if line.starts_with(HEADER) {
            format!("something stands behind `{HEADER}`")
        } else {
            format!("`{HEADER}` must be written in small letters")
        };
        let exact = text.starts_with(HEADER);
        report.add(&Target::COREOS, lost(message.clone()));
        if !exact {
            let finding = Finding::warning("bad-header", span, message);
            report.add(
                &Target::CLOUD_INIT,
                finding.help("cloud-init takes it at boot, but `cloud-init schema` refuses it"),
            );
        }
    } else if text.lines().any(|line| line.trim_end() == HEADER) {
        report.add(&Target::READERS, lost(format!("`{HEADER}` must be the first line")));
    } else if line.starts_with('#') {
        let label = format!("write `{HEADER}`");
        report.add(&Target::READERS, lost(format!("the first line is not `{HEADER}`")).label(label));
    } else {
        report.add(&Target::READERS, lost(format!("the first line, `{HEADER}`, is missing")));
    }
}
