//! Documents within others: MIME messages, and Jinja templates of cloud-config.
//!
//! cloud-init's handlers are the source (`user_data.py`, `handlers/jinja_template.py`), and its
//! documentation of instance data for the names that a template may use.

use std::collections::{HashMap, HashSet};

use crate::cloud_config::document::{Document, Kind};
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::parts::{self, Part};
use crate::cloud_config::target::Target;
use crate::source::Span;
use crate::yaml::Node;

/// Those that open messages.
const READERS: [Target; 3] = [Target::Flatcar, Target::CloudInit22_4, Target::CloudInit23_4];

/// What a template may name: `instance-data.json`'s sections, and the keys of `v1`, which stand at
/// its root too.
const INSTANCE_DATA: [&str; 26] = [
    "availability_zone",
    "base64_encoded_keys",
    "cloud_id",
    "cloud_name",
    "distro",
    "distro_release",
    "distro_version",
    "ds",
    "instance_id",
    "kernel_release",
    "local_hostname",
    "machine",
    "merged_cfg",
    "merged_system_cfg",
    "platform",
    "public_ssh_keys",
    "python_version",
    "region",
    "sensitive_keys",
    "subplatform",
    "sys_info",
    "system_platform",
    "userdata",
    "v1",
    "variant",
    "vendordata",
];

/// Checks what is in a MIME message; gives the bytes to mask.
pub fn message(document: &Document, targets: &[Target], report: &mut Report<'_>) -> Vec<Span> {
    let parts = match parts::of_message(&document.file) {
        Ok(parts) => parts,
        Err(broken) => {
            report.add(&READERS, Finding::error("bad-message", broken.span, broken.what));
            return Vec::new();
        }
    };
    let mut secrets = Vec::new();
    let mut keys: HashMap<String, usize> = HashMap::new();
    for (number, part) in parts.iter().enumerate() {
        content_type(part, report);
        match part.kind() {
            Kind::CloudConfig => {
                let inner = Document::sampled(&part.file);
                replaced(&inner, part, number, &mut keys, report);
                secrets.extend(within(&inner, part, number, targets, report));
            }
            Kind::Unknown => {
                let message = format!("part {} is nothing that an engine knows", number + 1);
                report.add(&READERS, Finding::error("bad-header", part.span, message));
            }
            Kind::CloudInitOnly if part.content_type == "text/jinja2" => {
                if let Some(template) = parts::of_template(&part.file) {
                    // Its places are told by the part that it is.
                    let start = part.start.zip(template.start).map(|(whole, own)| whole + own);
                    let template = Part { start, ..template };
                    let inner = Document::read(&template.file);
                    secrets.extend(within(&inner, &template, number, targets, report));
                }
            }
            Kind::Script | Kind::Multipart | Kind::Ignition | Kind::CloudInitOnly => {}
        }
    }
    secrets
}

fn content_type(part: &Part, report: &mut Report<'_>) {
    let own = part.content_type.as_str();
    if parts::TYPES.contains(&own) {
        return;
    }
    let message = format!("no engine has a handler for parts of type `{own}`");
    let mut finding = Finding::error("unknown-part-type", part.span, message);
    if let Some(near) = report.suggest(own, parts::TYPES) {
        finding = finding.label(format!("did you mean `{near}`?"));
    }
    report.add(&READERS, finding.help("cloud-init passes over the part and writes a line into its log"));
}

/// A key that an earlier part has too: unless a part says how to merge, the later one replaces it.
fn replaced(
    inner: &Document,
    part: &Part,
    number: usize,
    keys: &mut HashMap<String, usize>,
    report: &mut Report<'_>,
) {
    let entries = inner.root.as_ref().and_then(Node::entries).unwrap_or_default();
    let says_how =
        ["merge_how", "merge_type"].iter().any(|key| entries.iter().any(|(own, _)| own.text() == Some(key)));
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        let earlier = keys.insert(name.to_owned(), number + 1);
        if let Some(earlier) = earlier.filter(|_| !says_how && !name.starts_with("merge_")) {
            let message = format!("`{name}` takes the place of what part {earlier} has for it");
            let span =
                part.start.map_or(part.span, |start| Span::new(start + key.span.start, start + key.span.end));
            let help = "say `merge_how` in the part if they shall be merged, or write one part";
            report.add(&READERS, Finding::warning("part-replaces-key", span, message).help(help));
        }
    }
}

/// Checks a Jinja template; gives the bytes to mask.
pub fn template(document: &Document, targets: &[Target], report: &mut Report<'_>) -> Vec<Span> {
    let Some(template) = parts::of_template(&document.file) else { return Vec::new() };
    names(document, report);
    let inner = Document::read(&template.file);
    within(&inner, &template, 0, targets, report)
}

/// What a template puts in must be there.
fn names(document: &Document, report: &mut Report<'_>) {
    let text = document.file.text();
    let pieces = parts::pieces(text, 0);
    let given = words(text, &pieces);
    for (span, is_value) in pieces {
        if !is_value {
            continue;
        }
        let inner = &text[span.start + 2..span.end - 2];
        let begin = inner.len() - inner.trim_start_matches(['-', ' ', '\n', '\t']).len();
        let name = inner[begin..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !is_name || INSTANCE_DATA.contains(&name.trim_start_matches('_')) || given.contains(name) {
            continue;
        }
        let at = span.start + 2 + begin;
        let message = format!("there is no `{name}` in cloud-init's instance data");
        let mut finding = Finding::warning("unknown-instance-data", Span::new(at, at + name.len()), message);
        if let Some(near) = report.suggest(name, INSTANCE_DATA) {
            finding = finding.label(format!("did you mean `{near}`?"));
        }
        let help = format!("cloud-init puts `CI_MISSING_JINJA_VAR/{name}` there");
        report.add(&Target::CLOUD_INIT, finding.help(help));
    }
}

/// The words of statements: a name that a template gives itself is among them.
fn words<'t>(text: &'t str, pieces: &[(Span, bool)]) -> HashSet<&'t str> {
    let statements = pieces.iter().filter(|(_, is_value)| !is_value);
    let texts = statements.map(|(span, _)| &text[span.start..span.end]);
    texts.flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_')).collect()
}

/// Checks a document within another, and tells what is found there in the places of the whole.
fn within(
    inner: &Document,
    part: &Part,
    number: usize,
    targets: &[Target],
    report: &mut Report<'_>,
) -> Vec<Span> {
    let mut own = Report::new(&inner.read, targets);
    super::header::check(inner, &mut own);
    let secrets = super::body(inner, &mut own);
    let findings = own.finish(&inner.read, inner.root.as_ref());
    let is_message = part.content_type != "text/jinja2";
    let moved =
        |span: Span| part.start.map_or(part.span, |start| Span::new(start + span.start, start + span.end));
    let is_open = |span: Span| {
        let (Some(start), false) = (part.start, is_message) else { return false };
        let whole = report.text();
        let from = whole[..start + span.start].rfind('\n').map_or(0, |end| end + 1);
        let line = whole[from..].lines().next().unwrap_or("");
        line.contains("{{") || line.contains("{%")
    };
    let findings: Vec<Finding> = findings
        .into_iter()
        // What a template puts in is not known.
        .filter(|finding| !is_open(finding.span))
        .map(|mut finding| {
            if part.start.is_none() {
                let line = inner.file.position(finding.span.start).line;
                finding.message = format!("line {line} of part {}: {}", number + 1, finding.message);
            }
            if is_message {
                finding.path = format!("part {}/{}", number + 1, finding.path);
            }
            finding.span = moved(finding.span);
            finding
        })
        .collect();
    report.extend(findings);
    secrets.into_iter().map(moved).collect()
}
