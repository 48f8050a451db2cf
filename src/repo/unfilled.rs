//! `${env.NAME}`, `${stack.Output}` and `${ssm:NAME}` where they are not resolved: in services, jobs and pipelines.
//!
//! There they would reach a container or a builder as they are written. Any other `${...}` is left alone: it may be
//! meant for a shell. In the variables of services and jobs (`env`), only `${env.NAME}` is not resolved.

use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile};
use crate::yaml::{Kind, Node};

/// Reports references below `node` that are not resolved. `stacks` are the names of the repository's stacks.
pub fn check(
    file: &Arc<SourceFile>,
    node: &Node,
    what: &str,
    stacks: &[&str],
    problems: &mut Vec<Diagnostic>,
) {
    if file.text().contains("${") {
        Unfilled { file, what, stacks, problems }.below(node, false);
    }
}

struct Unfilled<'a> {
    file: &'a Arc<SourceFile>,
    what: &'a str,
    stacks: &'a [&'a str],
    problems: &'a mut Vec<Diagnostic>,
}

impl Unfilled<'_> {
    /// `resolves` says whether `node` is part of variables, where outputs and parameters are resolved.
    fn below(&mut self, node: &Node, resolves: bool) {
        match &node.kind {
            Kind::Scalar { text, .. } => self.scalar(node, text, resolves),
            Kind::Sequence(items) => items.iter().for_each(|item| self.below(item, false)),
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    self.below(key, false);
                    let variables = matches!(key.text(), Some("env" | "environment" | "aws_role"));
                    self.below(value, resolves || variables);
                }
            }
        }
    }

    fn scalar(&mut self, node: &Node, text: &str, resolves: bool) {
        let mut from = 0;
        while let Some(found) = text[from..].find("${") {
            let at = from + found;
            let Some(length) = text[at..].find('}') else { return };
            let reference = &text[at..=at + length];
            from = at + length + 1;
            let inner = &reference[2..reference.len() - 1];
            let help = if inner.starts_with("env.") {
                "write the value itself; `${env.NAME}` is for fleetwright.yaml and for `values`, `parameters` and `tags` of stacks"
            } else if !resolves && self.is_looked_up(inner) {
                "outputs of stacks and parameters of Systems Manager can be used in `env` and `aws_role` of services and jobs, and in `parameters` of stacks"
            } else {
                continue;
            };
            let message = format!("`{reference}` is not resolved here, in {}", self.what);
            let span = super::interpolate::part_of(self.file, node, reference);
            let diagnostic = Diagnostic::error("misplaced-reference", message);
            self.problems.push(diagnostic.at(self.file, span, "").help(help));
        }
    }

    /// Whether `inner` names an output of a stack or a parameter.
    fn is_looked_up(&self, inner: &str) -> bool {
        inner.starts_with("ssm:/")
            || inner.split_once('.').is_some_and(|(name, output)| {
                let is_output = !output.is_empty() && output.bytes().all(|b| b.is_ascii_alphanumeric());
                is_output && self.stacks.contains(&name)
            })
    }
}
