//! From places in a rendered text back to the template that it was rendered from.
//!
//! Tera keeps no record of what came from where. But most lines of a template come out as they
//! went in, so the two texts are compared line by line: what is the same in both is exact, and
//! a changed run of as many lines is taken for those lines with values put in. Within loops
//! there is no answer, and the rendered text is shown instead.

use std::sync::Arc;

use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::source::{Diagnostic, SourceFile, Span};

/// Where the lines of a rendered text came from.
pub struct Origins<'t> {
    source: &'t Arc<SourceFile>,
    rendered: &'t Arc<SourceFile>,
    lines: Vec<Option<Origin>>,
}

/// Where a rendered line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin {
    /// The line of the template, from 0.
    line: usize,
    /// Whether it is the same text.
    same: bool,
}

impl<'t> Origins<'t> {
    /// Compares the two.
    pub fn new(source: &'t Arc<SourceFile>, rendered: &'t Arc<SourceFile>) -> Self {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (source.text().lines().collect(), rendered.text().lines().collect());
        let mut lines = vec![None; new.len()];
        for op in capture_diff_slices(Algorithm::Patience, &old, &new) {
            let (from, to, count, same) = match op {
                DiffOp::Equal { old_index, new_index, len } => (old_index, new_index, len, true),
                DiffOp::Replace { old_index, old_len, new_index, new_len } if old_len == new_len => {
                    (old_index, new_index, new_len, false)
                }
                DiffOp::Replace { .. } | DiffOp::Insert { .. } | DiffOp::Delete { .. } => continue,
            };
            for at in 0..count {
                lines[to + at] = Some(Origin { line: from + at, same });
            }
        }
        Self { source, rendered, lines }
    }

    /// Moves a diagnostic's label into the template, where that can be told.
    pub fn trace(&self, problem: &mut Diagnostic) {
        let Some(label) = problem.label.as_mut() else { return };
        if !Arc::ptr_eq(&label.file, self.rendered) {
            return;
        }
        let place = self.rendered.position(label.span.start);
        let Some(origin) = self.lines.get(place.line - 1).copied().flatten() else { return };
        let from = self.source.offset(origin.line + 1, 1);
        let text = self.source.text()[from..].lines().next().unwrap_or_default();
        if origin.same {
            let begin = self.rendered.offset(place.line, 1);
            let span = Span::new(from + (label.span.start - begin), from + (label.span.end - begin));
            if span.end > from + text.len() {
                return;
            }
            label.span = span;
        } else {
            let indent = text.len() - text.trim_start().len();
            label.span = Span::new(from + indent, from + text.trim_end().len().max(indent));
            let begin = self.rendered.offset(place.line, 1);
            let line = self.rendered.text()[begin..].lines().next().unwrap_or_default().trim();
            // A long line, of user data say, would bury the message.
            if line.chars().count() <= 120 {
                problem.help.insert(0, format!("rendered, the line is `{line}`"));
            }
        }
        label.file = Arc::clone(self.source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traced(source: &str, rendered: &str, at: &str) -> (String, String) {
        let source = SourceFile::new("a.yaml", source);
        let rendered = SourceFile::new("rendered", rendered);
        let start = rendered.text().find(at).expect("it is in the text");
        let span = Span::new(start, start + at.len());
        let mut problem = Diagnostic::error("code", "message").at(&rendered, span, "");
        Origins::new(&source, &rendered).trace(&mut problem);
        let label = problem.label.expect("it has one");
        (label.file.name().to_owned(), label.file.slice(label.span).to_owned())
    }

    #[test]
    fn lines_that_stay_are_exact_even_where_they_stand_twice() {
        let source = "<% if x %>\na: 1\n<% endif %>\nb:\n  c: 1\nd:\n  c: 1\n";
        let rendered = "a: 1\nb:\n  c: 1\nd:\n  c: 1\n";
        assert_eq!(traced(source, rendered, "c: 1\nd"), ("rendered".into(), "c: 1\nd".into()));
        assert_eq!(traced(source, rendered, "b"), ("a.yaml".into(), "b".into()));
        assert_eq!(traced(source, rendered, "c: 1"), ("a.yaml".into(), "c: 1".into()));
    }

    #[test]
    fn a_line_with_a_value_put_in_is_shown_whole() {
        let (file, text) = traced("a:\n  cidr: <{ cidr }>\nb: 1\n", "a:\n  cidr: 10.0\nb: 1\n", "10.0");
        assert_eq!((file.as_str(), text.as_str()), ("a.yaml", "cidr: <{ cidr }>"));
    }

    #[test]
    fn what_a_loop_makes_is_shown_as_rendered() {
        let source = "a:\n<% for x in y %>\n  b<{ x }>: 1\n<% endfor %>\n";
        assert_eq!(traced(source, "a:\n  b1: 1\n  b2: 1\n", "b2"), ("rendered".into(), "b2".into()));
    }
}
