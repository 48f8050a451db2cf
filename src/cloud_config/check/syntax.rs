//! What is wrong before there are any keys.

use crate::cloud_config::document::{Document, Kind};
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::target::Target;
use crate::source::Span;

/// Reports what YAML itself refuses, a second document, and a root that is no mapping.
pub fn check(document: &Document, report: &mut Report<'_>) {
    if document.kind != Kind::CloudConfig {
        return;
    }
    for problem in &document.problems {
        let (span, label) = match &problem.label {
            Some(label) => (label.span, label.text.clone()),
            None => (Span::default(), String::new()),
        };
        let mut finding = Finding::error(problem.code, span, problem.message.clone()).label(label);
        finding.help.clone_from(&problem.help);
        if problem.code == "duplicate-key" {
            finding = finding.help(
                "cloud-init keeps the last, coreos-legacy joins lists, flatcar refuses the whole document",
            );
        }
        report.add(&Target::ALL, finding);
    }
    if let Some(second) = document.second {
        let message = "a second YAML document starts here";
        let finding = Finding::error("second-document", second, message);
        let help = "coreos-cloudinit never reads it, cloud-init refuses both";
        report.add(&Target::READERS, finding.help(help));
        let finding = Finding::error("second-document", second, message);
        report.add(&[Target::Ignition3_3], finding.help("only the first is translated"));
    }
    let Some(root) = &document.root else { return };
    if root.entries().is_some() {
        return;
    }
    let nothing = root.text().is_some_and(str::is_empty);
    let (message, span) = if nothing {
        let line = document.file.text().lines().next().unwrap_or("").trim_end().len();
        ("the document says nothing".to_owned(), Span::new(0, line))
    } else {
        (format!("a cloud-config must be a mapping, but this is {}", root.what()), root.span)
    };
    // coreos-cloudinit is content with nothing at all.
    if nothing {
        report.add(&Target::COREOS, Finding::warning("empty-document", span, message.clone()));
        report.add(&Target::CLOUD_INIT, Finding::error("empty-document", span, message));
    } else {
        report.add(&Target::ALL, Finding::error("wrong-type", span, message));
    }
}
