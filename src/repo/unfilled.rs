//! `${env.NAME}` and `${stack.Output}` where nothing is filled in: in services, pipelines and `access`.
//!
//! There they would reach a container or a builder as they are written. Any other `${...}` is left alone: it may be
//! meant for a shell.

use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{Kind, Node};

/// Reports references below `node` that are not filled in. `stacks` are the names of the repository's stacks.
pub fn check(
    file: &Arc<SourceFile>,
    node: &Node,
    what: &str,
    stacks: &[&str],
    problems: &mut Vec<Diagnostic>,
) {
    if !file.text().contains("${") {
        return;
    }
    match &node.kind {
        Kind::Scalar { text, .. } => scalar(file, node, text, what, stacks, problems),
        Kind::Sequence(items) => items.iter().for_each(|item| check(file, item, what, stacks, problems)),
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                check(file, key, what, stacks, problems);
                check(file, value, what, stacks, problems);
            }
        }
    }
}

fn scalar(
    file: &Arc<SourceFile>,
    node: &Node,
    text: &str,
    what: &str,
    stacks: &[&str],
    problems: &mut Vec<Diagnostic>,
) {
    let mut from = 0;
    while let Some(found) = text[from..].find("${") {
        let at = from + found;
        let Some(length) = text[at..].find('}') else { return };
        let reference = &text[at..=at + length];
        from = at + length + 1;
        let Some((name, rest)) = reference[2..reference.len() - 1].split_once('.') else { continue };
        let (message, help) = if name == "env" {
            let help = "write the value itself; `${env.NAME}` is for fleetwright.yaml and for `values`, `parameters` and `tags` of stacks";
            (format!("`{reference}` would stay as it is: no reference is resolved in {what}"), help)
        } else if stacks.contains(&name)
            && rest.bytes().all(|b| b.is_ascii_alphanumeric())
            && !rest.is_empty()
        {
            let help = "outputs of stacks can be used in `parameters` of a stack only";
            (format!("`{reference}` would stay as it is: no reference is resolved in {what}"), help)
        } else {
            continue;
        };
        let slice = file.slice(node.span);
        let span = slice.find(reference).map_or(crate::yaml::first_line(file, node.span), |at| {
            Span::new(node.span.start + at, node.span.start + at + reference.len())
        });
        problems.push(Diagnostic::error("misplaced-reference", message).at(file, span, "").help(help));
    }
}
