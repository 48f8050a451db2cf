//! A document written anew for a target: normalised where it is of the target's own dialect,
//! translated where it is of the other, or for Ignition.
//!
//! Nothing is left out without a word: what the target has no counterpart for is a finding, and
//! then there is no document.

use std::sync::Arc;

use super::content::Encoding;
use super::document::{Document, Kind};
use super::emit;
use super::finding::{Finding, Report};
use super::model::{Config, File};
use super::normal::normal;
use super::scalar::{Scalar, scalar};
use super::target::{Dialect, Target};
use super::{Verdict, check};
use crate::source::{Severity, SourceFile, Span};
use crate::yaml::Node;

mod to_cloud_init;
mod to_coreos;
mod tree;

/// The line that a cloud-config begins with.
const HEADER: &str = "#cloud-config\n";

/// Errors that say that the model does not hold what was written, whoever reads it.
const UNREAD: [&str; 15] = [
    "bad-mode",
    "bad-value",
    "command-is-mapping",
    "duplicate-key",
    "empty-document",
    "missing-key",
    "part-not-included",
    "second-document",
    "undecodable-content",
    "unknown-key",
    "unquoted-mode",
    "wrong-dialect",
    "wrong-type",
    "yaml-syntax",
    "yaml-too-large",
];

/// Writes the document `file` for `target`.
///
/// # Errors
/// When it can't be: what is wrong with it, or has no counterpart.
pub fn convert(file: &Arc<SourceFile>, target: Target) -> Result<String, Verdict> {
    let document = Document::read(file);
    let dialect = document.dialect();
    let own = Target::defaults(dialect).contains(&target);
    // Who reads the document as it is: the target itself, or the most lenient of its dialect.
    let reader = match dialect {
        _ if own => target,
        Dialect::CoreOs => Target::CoreosLegacy,
        Dialect::CloudInit => Target::CloudInit23_4,
    };
    let refused = |findings: Vec<Finding>| {
        let mut verdict = check(file, &[reader, target]);
        verdict.targets = vec![target];
        verdict.findings = findings;
        verdict
    };
    let asked = if target == Target::Ignition3_3 { vec![reader, target] } else { vec![reader] };
    let counts =
        |finding: &Finding| own || finding.targets.contains(&target) || UNREAD.contains(&finding.code);
    let mut errors = check(file, &asked).findings;
    for finding in &mut errors {
        // The comment that names the parts would be gone, and nobody would put them in any more.
        if finding.code == "part-not-included" {
            finding.severity = Severity::Error;
        }
    }
    errors.retain(|finding| finding.is_error() && counts(finding) && !is_mended(finding, file));
    let Some(root) = document
        .root
        .as_ref()
        .filter(|root| errors.is_empty() && document.kind == Kind::CloudConfig && root.entries().is_some())
    else {
        if errors.is_empty() {
            let line = file.text().lines().next().unwrap_or("").trim_end().len();
            let mut report = Report::new(file, std::slice::from_ref(&target));
            let finding =
                Finding::error("not-in-target", Span::new(0, line), "only a cloud-config can be converted");
            report.add(&[target], finding);
            errors = report.finish(file, None);
        }
        return Err(refused(errors));
    };
    let config = Config::read(root, dialect);
    let mut report = Report::new(file, std::slice::from_ref(&target));
    let text = match target {
        Target::Ignition3_3 => emit::ignition(&config, &mut report),
        _ if own => body(&normal(root, dialect)),
        _ => {
            tokens(file, target, &mut report);
            match dialect {
                Dialect::CoreOs => body(&to_cloud_init::tree(&config, target, &mut report)),
                Dialect::CloudInit => body(&to_coreos::tree(&config, target, &mut report)),
            }
        }
    };
    let findings = report.finish(file, Some(root));
    if !findings.is_empty() {
        return Err(refused(findings));
    }
    if target != Target::Ignition3_3 {
        let made = SourceFile::new(format!("{} for {target}", file.name()), text.as_str());
        let mut verdict = check(&made, &[target]);
        verdict.findings.retain(|finding| finding.is_error() && finding.code != "user-data-too-large");
        if !verdict.findings.is_empty() {
            return Err(verdict);
        }
    }
    Ok(text)
}

fn body(root: &Node) -> String {
    HEADER.to_owned() + &emit::yaml(root).text
}

/// Whether writing the document anew is what mends it. How large it is, is for the new one to say.
fn is_mended(finding: &Finding, file: &SourceFile) -> bool {
    match finding.code {
        "bad-header" | "hyphenated-key" | "user-data-too-large" => true,
        // All engines agree about a mode that begins with a zero.
        "unquoted-mode" => file.slice(finding.span).starts_with('0'),
        _ => false,
    }
}

/// `$private_ipv4` and its like, which only one of the two engines replaces.
fn tokens(file: &Arc<SourceFile>, target: Target, report: &mut Report<'_>) {
    let found = check(file, &[Target::CloudInit23_4]).findings;
    for finding in found.into_iter().filter(|finding| finding.code == "token-not-replaced") {
        let token = file.slice(finding.span);
        let message = if Target::CLOUD_INIT.contains(&target) {
            format!("`{token}` is replaced by coreos-cloudinit, and stays as it is with cloud-init")
        } else {
            format!("`{token}` stays as it is with cloud-init, and is replaced by coreos-cloudinit")
        };
        report.add(&[target], Finding::error("not-in-target", finding.span, message));
    }
}

/// What a translation has no counterpart for.
fn refuse(report: &mut Report<'_>, target: Target, span: Span, message: impl Into<String>, help: &str) {
    let finding = Finding::error("not-in-target", span, message);
    report.add(&[target], if help.is_empty() { finding } else { finding.help(help) });
}

/// Puts the content as it was written, and how it is encoded by the name that both engines know.
fn content(file: &File<'_>, out: &mut tree::Map) {
    let encoding = match file.encoding {
        Encoding::Plain => None,
        Encoding::Base64 => Some("b64"),
        Encoding::Gzip => Some("gzip"),
        Encoding::GzipBase64 => Some("gz+b64"),
    };
    if let Some(encoding) = encoding {
        out.put("encoding", tree::text(encoding));
    }
    if let Some(content) = file.content {
        let tag = content.tag.clone().filter(|tag| tag == "!!binary");
        let written = tree::text(content.text().unwrap_or_default());
        let nothing = scalar(content) == Some(Scalar::Null);
        out.put(
            "content",
            if nothing { tree::text("") } else { Node { tag, span: content.span, ..written } },
        );
    }
}

#[cfg(test)]
mod tests;
