//! `${env.NAME}`, `${env.NAME:-default}`, `${stack.Output}` and `${ssm:NAME}` in texts; `$${` is a plain `${`.

use std::sync::Arc;

use super::decode::Reader;
use crate::model::name::StackName;
use crate::model::setting::{Place, Setting, Unset};
use crate::model::stack::{ParameterValue, Piece, Reference};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::Node;

/// Where the values of environment variables come from.
pub type Variables<'v> = &'v (dyn Fn(&str) -> Option<String> + Sync);

/// What a reference to a public parameter begins with.
const PUBLIC: &str = "ssm:";
/// Where AWS and the publishers of images keep public parameters.
const PUBLIC_FOLDER: &str = "/aws/service/";

/// A text with its variables filled in.
#[derive(Debug, Default)]
pub struct Filled {
    /// Texts and references, in order; neighbouring texts are one.
    pub pieces: Vec<Piece>,
    /// The references with their places, in order.
    pub references: Vec<(Reference, Place)>,
    /// The variables used.
    pub variables: Vec<String>,
    /// Those that are not set.
    pub unset: Vec<Unset>,
}

impl Filled {
    /// Adds a text at the end.
    pub fn push(&mut self, text: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.pieces.push(Piece::Text(text.to_owned())),
        }
    }

    /// Adds all of `other` at the end.
    pub fn append(&mut self, other: Self) {
        for piece in other.pieces {
            match piece {
                Piece::Text(text) => self.push(&text),
                Piece::Output(_) | Piece::Public(_) => self.pieces.push(piece),
            }
        }
        self.references.extend(other.references);
        self.variables.extend(other.variables);
        self.unset.extend(other.unset);
    }
}

/// The text of `node`, in which only environment variables may be used.
pub fn setting(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    variables: Variables<'_>,
) -> Option<Setting> {
    let text = reader.text(node, what)?;
    let place = reader.place(node);
    if !text.contains("${") {
        return Some(Setting::new(text.to_owned(), Vec::new(), Vec::new(), place));
    }
    let filled = fill(reader, node, text, variables);
    for (reference, place) in &filled.references {
        reader.problems.push(
            Diagnostic::error("misplaced-reference", format!("`{reference}` can't be used here"))
                .at(&place.file, place.span, "an output is known only when its stack exists")
                .help("outputs of other stacks can be used in `parameters` of a stack only; write `$${` for a plain `${`"),
        );
    }
    let value = ParameterValue { pieces: filled.pieces };
    if let Some(name) = value.public().next() {
        let diagnostic =
            Diagnostic::error("misplaced-reference", format!("`${{ssm:{name}}}` can't be used here")).help(
                "public parameters can be used in `parameters` of a stack only; write `$${` for a plain `${`",
            );
        reader.problem(diagnostic, node.span, "its value is asked for when the stack is planned");
    }
    Some(Setting::new(value.to_string(), filled.variables, filled.unset, place))
}

/// Takes the text of `node` apart and fills in environment variables.
pub fn fill(reader: &mut Reader<'_>, node: &Node, text: &str, variables: Variables<'_>) -> Filled {
    let mut filled = Filled::default();
    let mut rest = 0;
    while let Some(found) = text[rest..].find("${") {
        let at = rest + found;
        if text[rest..at].ends_with('$') {
            filled.push(&text[rest..at - 1]);
            filled.push("${");
            rest = at + 2;
            continue;
        }
        filled.push(&text[rest..at]);
        let Some(length) = text[at..].find('}') else {
            let span = part(reader.file, node, text, at, text.len());
            let diagnostic = Diagnostic::error("bad-reference", "`${` is never closed");
            reader.problem(diagnostic.help("write `$${` for a plain `${`"), span, "`}` is missing");
            return filled;
        };
        let end = at + length + 1;
        let span = part(reader.file, node, text, at, end);
        reference(reader, &mut filled, &text[at + 2..end - 1], span, variables);
        rest = end;
    }
    if rest < text.len() || filled.pieces.is_empty() {
        filled.push(&text[rest..]);
    }
    filled
}

fn reference(
    reader: &mut Reader<'_>,
    filled: &mut Filled,
    inner: &str,
    span: Span,
    variables: Variables<'_>,
) {
    let place = Place::new(reader.file, span);
    if let Some(variable) = inner.strip_prefix("env.") {
        let (name, default) = match variable.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (variable, None),
        };
        let valid = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            let diagnostic = Diagnostic::error(
                "bad-reference",
                format!("`{name}` is not the name of an environment variable"),
            );
            let help = "write `${env.NAME}` or `${env.NAME:-default}`; NAME has letters, digits and `_`";
            reader.problem(diagnostic.help(help), span, "");
            return;
        }
        filled.variables.push(name.to_owned());
        // As in a shell, `:-` stands in for an empty value too.
        let value = variables(name).filter(|value| default.is_none() || !value.is_empty());
        match (value, default) {
            (Some(value), _) => filled.push(&value),
            (None, Some(default)) => filled.push(default),
            (None, None) => {
                filled.unset.push(Unset { variable: name.to_owned(), place });
                filled.push(&format!("<unset {name}>"));
            }
        }
        return;
    }
    if let Some(name) = inner.strip_prefix(PUBLIC) {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'_' | b'-');
        if name.starts_with(PUBLIC_FOLDER) && !name.ends_with('/') && name.bytes().all(known) {
            filled.pieces.push(Piece::Public(name.to_owned()));
            return;
        }
        let diagnostic = Diagnostic::error("bad-reference", format!("`{name}` is not a public parameter"));
        let help = format!(
            "public parameters of Systems Manager are below {PUBLIC_FOLDER}, such as `${{ssm:/aws/service/debian/release/12/latest/amd64}}`; others may be secret, and values are shown in plans"
        );
        reader.problem(diagnostic.help(help), span, "");
        return;
    }
    let parts =
        inner.split_once('.').and_then(|(stack, output)| Some((stack.parse::<StackName>().ok()?, output)));
    match parts {
        Some((stack, output)) if !output.is_empty() && output.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            let reference = Reference { stack, output: output.to_owned() };
            filled.references.push((reference.clone(), place));
            filled.pieces.push(Piece::Output(reference));
        }
        _ => {
            let diagnostic = Diagnostic::error("bad-reference", format!("`${{{inner}}}` refers to nothing"));
            let help = "write `${env.NAME}` for an environment variable, `${stack.Output}` for an output of another stack, `${ssm:/aws/service/...}` for a public parameter, or `$${` for a plain `${`";
            reader.problem(diagnostic.help(help), span, "");
        }
    }
}

/// Where `reference` stands in the scalar `node`; the whole scalar, where it can't be found.
pub fn part_of(file: &SourceFile, node: &Node, reference: &str) -> Span {
    match file.slice(node.span).find(reference) {
        Some(at) => Span::new(node.span.start + at, node.span.start + at + reference.len()),
        None => crate::yaml::first_line(file, node.span),
    }
}

/// The bytes of the file for `from..to` of a scalar's text. Where escapes or folded lines
/// make the text differ from the source, the whole scalar.
fn part(file: &Arc<SourceFile>, node: &Node, text: &str, from: usize, to: usize) -> Span {
    let source = file.slice(node.span);
    let start = if source == text {
        node.span.start
    } else if source.len() == text.len() + 2 && source.get(1..=text.len()) == Some(text) {
        node.span.start + 1
    } else {
        return match source.find(&text[from..to]) {
            Some(at) => Span::new(node.span.start + at, node.span.start + at + to - from),
            None => node.span,
        };
    };
    Span::new(start + from, start + to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    /// The pieces of `text`, `|` between them, then the codes of the problems.
    fn filled(text: &str) -> String {
        let file = SourceFile::new("a.yaml", text);
        let mut problems = Vec::new();
        let node = yaml::parse(&file, &mut problems).expect("it is YAML");
        let mut reader = Reader { file: &file, problems: &mut problems };
        let variables = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let filled = fill(&mut reader, &node, node.text().expect("a text"), &variables);
        let pieces: Vec<String> = filled
            .pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Output(reference) => format!("({reference})"),
                Piece::Public(name) => format!("<{name}>"),
            })
            .collect();
        let problems: Vec<String> = problems
            .iter()
            .map(|problem| {
                let label = problem.label.as_ref().expect("it has a place");
                format!(" {}: {}", problem.code, label.file.slice(label.span))
            })
            .collect();
        pieces.join("|") + &problems.concat()
    }

    #[test]
    fn variables_are_filled_in_and_outputs_kept() {
        assert_eq!(filled("plain"), "plain");
        assert_eq!(filled("\"\""), "");
        assert_eq!(filled("a-${env.A}-b"), "a-1-b");
        assert_eq!(filled("${env.B:-two}${env.EMPTY:-three}${env.EMPTY}."), "twothree.");
        assert_eq!(filled("${env.B:-}"), "");
        assert_eq!(filled("${env.B}"), "<unset B>");
        assert_eq!(filled("x ${network.VpcId} ${env.A}"), "x |(${network.VpcId})| 1");
        assert_eq!(filled("$${HOME} $5"), "${HOME} $5");
        assert_eq!(filled("${ssm:/aws/service/a/1.2} ${env.A}"), "|</aws/service/a/1.2>| 1");
    }

    #[test]
    fn what_refers_to_nothing_is_shown_where_it_stands() {
        assert_eq!(filled("\"ä ${nothing} ö\""), "ä | ö bad-reference: ${nothing}".replace('|', ""));
        assert_eq!(filled("ä ${env.}"), "ä  bad-reference: ${env.}");
        assert_eq!(filled("${env.1X}"), " bad-reference: ${env.1X}");
        assert_eq!(filled("ö ${open"), "ö  bad-reference: ${open");
    }
}
