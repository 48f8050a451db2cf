//! `# fleetwright: accept CODE`, on a line or the one before it: findings that somebody has looked at.
//!
//! Errors can be accepted too: schemas can be wrong, and what CloudFormation takes must not be held up by us.

use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile, Span};

const MARK: &str = "# fleetwright: accept ";

/// One code that is accepted.
struct Accept<'t> {
    code: &'t str,
    span: Span,
    line: usize,
    used: bool,
}

/// Takes out what is accepted; one that accepts nothing is a finding itself.
pub fn apply(file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) {
    if !file.text().contains(MARK) {
        return;
    }
    let mut accepts = accepts(file.text());
    problems.retain(|problem| {
        let Some(label) = &problem.label else { return true };
        let line = file.position(label.span.start).line;
        let here = |accept: &&mut Accept<'_>| {
            accept.code == problem.code && (accept.line == line || accept.line + 1 == line)
        };
        match accepts.iter_mut().find(here) {
            Some(accept) => {
                accept.used = true;
                false
            }
            None => true,
        }
    });
    for accept in accepts.iter().filter(|accept| !accept.used) {
        let message = format!("there is no finding `{}` here to be accepted", accept.code);
        let help = "it holds for its own line and the next one; remove it if the finding is gone";
        problems.push(Diagnostic::warning("unused-accept", message).at(file, accept.span, "").help(help));
    }
}

fn accepts(text: &str) -> Vec<Accept<'_>> {
    let mut accepts = Vec::new();
    let mut start = 0;
    for (number, line) in text.split('\n').enumerate() {
        if let Some(at) = line.find(MARK) {
            let codes = &line[at + MARK.len()..];
            let mut offset = start + at + MARK.len();
            for part in codes.split(',') {
                let code = part.trim();
                let from = offset + (part.len() - part.trim_start().len());
                if !code.is_empty() {
                    let span = Span::new(from, from + code.len());
                    accepts.push(Accept { code, span, line: number + 1, used: false });
                }
                offset += part.len() + 1;
            }
        }
        start += line.len() + 1;
    }
    accepts
}
