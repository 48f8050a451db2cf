//! `allOf`, `anyOf`, `oneOf`, `not` and `if`.

use super::function::{self, Form};
use super::hold::At;
use super::{Check, is_plain};
use crate::schema::Schema;
use crate::source::Diagnostic;
use crate::yaml::{Kind, Node};

/// What came of holding a value against a schema without telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fits,
    Breaks,
    /// Functions in it decide later.
    Open,
}

impl Check<'_> {
    /// `allOf`, `anyOf`, `oneOf`, `not` and `if`.
    pub fn combined(&mut self, node: &Node, schema: &Schema, at: At<'_>, depth: usize) {
        for all in &schema.all_of {
            self.hold(node, all, at, depth + 1);
        }
        for (branches, exactly_one) in [(&schema.any_of, false), (&schema.one_of, true)] {
            if branches.is_empty() {
                continue;
            }
            let verdicts: Vec<Verdict> =
                branches.iter().map(|branch| self.verdict(node, branch, at, depth)).collect();
            let fitting = verdicts.iter().filter(|verdict| **verdict == Verdict::Fits).count();
            let breaking = verdicts.iter().filter(|verdict| **verdict == Verdict::Breaks).count();
            let required: Option<Vec<String>> = branches
                .iter()
                .map(|branch| {
                    branch.only_requires().then(|| {
                        branch
                            .required
                            .iter()
                            .map(|name| format!("`{name}`"))
                            .collect::<Vec<_>>()
                            .join(" and ")
                    })
                })
                .collect();
            if breaking == branches.len() {
                match (required, &branches[..]) {
                    (Some(names), _) => {
                        let message = format!("`{}` needs {}", at.name, names.join(", or "));
                        self.error("missing-property", message, at.span, "none of them is there");
                    }
                    (None, branches) => self.nearest(node, branches, at, depth),
                }
            } else if exactly_one && fitting > 1 && required.is_some() {
                let message =
                    format!("`{}` takes only one of {}", at.name, required.unwrap_or_default().join(", "));
                self.error("conflicting-keys", message, at.span, "keep one of them");
            }
        }
        if let Some(not) = &schema.not
            && self.verdict(node, not, at, depth) == Verdict::Fits
        {
            let message = format!("`{}` can't be like this", at.name);
            self.error("invalid-value", message, at.span, "the resource type's schema excludes it");
        }
        if let Some(when) = &schema.when {
            let branch = match self.verdict(node, when, at, depth) {
                Verdict::Fits => &schema.then,
                Verdict::Breaks => &schema.otherwise,
                Verdict::Open => &None,
            };
            if let Some(branch) = branch {
                self.hold(node, branch, at, depth + 1);
            }
        }
    }

    /// None of the branches fits: what is wrong with the one that fits best is told.
    fn nearest(&mut self, node: &Node, branches: &[Schema], at: At<'_>, depth: usize) {
        if self.trying {
            return self.push(Diagnostic::error("invalid-value", "no branch fits"));
        }
        let mut best: Option<Vec<Diagnostic>> = None;
        for branch in branches {
            let found = self.aside(|check| check.hold(node, branch, at, depth + 1));
            // A branch of another kind is nobody's mistake, unless it is everybody's.
            let weight = |found: &[Diagnostic]| {
                let kinds = found.iter().filter(|problem| problem.code == "wrong-type").count();
                (kinds, found.len())
            };
            if best.as_ref().is_none_or(|best| weight(&found) < weight(best)) {
                best = Some(found);
            }
        }
        self.problems.extend(best.unwrap_or_default());
    }

    pub fn verdict(&mut self, node: &Node, schema: &Schema, at: At<'_>, depth: usize) -> Verdict {
        let before = std::mem::replace(&mut self.trying, true);
        let found = self.aside(|check| check.hold(node, schema, at, depth + 1));
        self.trying = before;
        match found.is_empty() {
            false => Verdict::Breaks,
            true if is_open(node) => Verdict::Open,
            true => Verdict::Fits,
        }
    }

    /// What `work` finds, without telling it.
    fn aside(&mut self, work: impl FnOnce(&mut Self)) -> Vec<Diagnostic> {
        let before = std::mem::take(&mut self.problems);
        work(self);
        std::mem::replace(&mut self.problems, before)
    }
}

/// Whether a function stands directly in the value, so that its entries are not all known.
fn is_open(node: &Node) -> bool {
    let call = |node: &Node| !matches!(function::form(node), Form::Data);
    match &node.kind {
        _ if call(node) => true,
        Kind::Scalar { .. } => !is_plain(node),
        Kind::Sequence(items) => items.iter().any(is_open),
        Kind::Mapping(entries) => entries.iter().any(|(_, value)| is_open(value)),
    }
}
