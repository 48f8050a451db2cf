//! YAML's merge keys, `<<`: CloudFormation does not know them, and files of the repository have none either.
//!
//! They are merged all the same, so that what follows is judged as it was meant, and reported once.

use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile};
use crate::yaml::{Kind, Node};

/// Merges what `<<` names into the mappings below `root`, and reports each.
pub fn merge(file: &Arc<SourceFile>, root: &mut Node, template: bool, problems: &mut Vec<Diagnostic>) {
    if !file.text().contains("<<") {
        return;
    }
    walk(root, &mut |key: &Node| {
        let (message, help) = if template {
            (
                "CloudFormation does not merge mappings with `<<`",
                "it refuses the template: write the keys out",
            )
        } else {
            ("mappings are not merged with `<<` here", "write the keys out")
        };
        problems.push(
            Diagnostic::error("merge-key", message).at(file, key.span, "a merge key of YAML").help(help),
        );
    });
}

fn walk(node: &mut Node, report: &mut dyn FnMut(&Node)) {
    match &mut node.kind {
        Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items.iter_mut().for_each(|item| walk(item, report)),
        Kind::Mapping(entries) => {
            let is_merge =
                |key: &Node| matches!(&key.kind, Kind::Scalar { text, plain: true } if text == "<<");
            let mut merged: Vec<(Node, Node)> = Vec::new();
            entries.retain(|(key, value)| {
                if !is_merge(key) {
                    return true;
                }
                report(key);
                let sources = value.items().unwrap_or(std::slice::from_ref(value));
                merged.extend(sources.iter().flat_map(|from| from.entries().unwrap_or_default()).cloned());
                false
            });
            for (key, value) in merged {
                if entries.iter().all(|(known, _)| known.text() != key.text()) {
                    entries.push((key, value));
                }
            }
            entries.iter_mut().for_each(|(_, value)| walk(value, report));
        }
    }
}
