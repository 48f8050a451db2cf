//! What EC2 takes.

use crate::cloud_config::USER_DATA_MOST;
use crate::cloud_config::document::Document;
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::packed::gzip;
use crate::cloud_config::target::Target;
use crate::source::Span;
use crate::yaml::Node;

/// How many of the largest entries are listed.
const LISTED: usize = 5;

/// Checks the size.
pub fn check(document: &Document, report: &mut Report<'_>) {
    let size = document.bytes;
    if size <= USER_DATA_MOST {
        return;
    }
    let span = Span::new(0, document.file.text().lines().next().unwrap_or("").len());
    let over = size - USER_DATA_MOST;
    let message =
        format!("the user data has {size} bytes, {over} more than the {USER_DATA_MOST} that EC2 takes");
    let mut finding = Finding::error("user-data-too-large", span, message);
    let largest = largest(document.root.as_ref());
    if !largest.is_empty() {
        let list: Vec<String> = largest.iter().map(|(name, size)| format!("{name} ({size} bytes)")).collect();
        finding = finding.help(format!("the largest: {}", list.join(", ")));
    }
    let is_packed = document.bytes != document.file.text().len();
    let packed = if is_packed { 0 } else { gzip(document.file.text().as_bytes()).len() };
    let help = match packed {
        _ if is_packed => "move long files into the image, or fetch them at boot".to_owned(),
        fits if fits > 0 && fits <= USER_DATA_MOST => format!(
            "packed with gzip it has {fits} bytes, which both coreos-cloudinit and cloud-init take; or move long files \
             into the image, or fetch them at boot"
        ),
        _ => "move long files into the image, or fetch them at boot; packing does not help enough".to_owned(),
    };
    report.add(&Target::ALL, finding.help(help));
}

/// The largest entries with their size in the document.
fn largest(root: Option<&Node>) -> Vec<(String, usize)> {
    let mut sizes = Vec::new();
    collect(root, "", 0, &mut sizes);
    sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    sizes.truncate(LISTED);
    sizes
}

/// Files, units, users and what stands beside them.
fn collect(node: Option<&Node>, path: &str, depth: usize, sizes: &mut Vec<(String, usize)>) {
    let Some(node) = node else { return };
    let name = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}/{key}") };
    let size = |node: &Node| node.span.end - node.span.start;
    if let Some(entries) = node.entries().filter(|_| depth < 2) {
        for (key, value) in entries {
            let key = key.text().unwrap_or_default();
            match value.entries().is_some() || value.items().is_some() {
                true if depth == 0 => collect(Some(value), &name(key), depth + 1, sizes),
                _ if matches!(key, "units") => collect(Some(value), &name(key), depth + 1, sizes),
                _ => sizes.push((name(key), size(value))),
            }
        }
    } else if let Some(items) = node.items() {
        for (index, item) in items.iter().enumerate() {
            let own = item.get("path").or_else(|| item.get("name")).and_then(Node::text);
            sizes.push((own.map_or_else(|| name(&index.to_string()), str::to_owned), size(item)));
        }
    }
}
