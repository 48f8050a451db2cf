//! Steps that are run once for each combination of values.

use crate::repo::decode::Reader;
use crate::source::{Diagnostic, Span};
use crate::yaml::{Kind, Node};

/// The most steps that one can stand for.
const TWINS_MOST: usize = 64;

/// One of the steps that a step with a matrix stands for.
pub(super) struct Twin {
    /// What it says, with values put in.
    pub body: Node,
    /// The values, for its name; empty for a step without a matrix.
    pub label: String,
}

/// A name with one of its values.
type Value = (String, String);

/// The steps that a step of `kind` stands for; `None` when its matrix can't be read.
pub(super) fn expanded(reader: &mut Reader<'_>, kind: &str, body: &Node) -> Option<Vec<Twin>> {
    let Some((key, matrix)) = body.entry("matrix").filter(|_| matches!(kind, "run" | "build")) else {
        let body = filled(reader, body, &[]);
        return Some(vec![Twin { body, label: String::new() }]);
    };
    let mut combinations: Vec<Vec<Value>> = vec![Vec::new()];
    for (name, values) in reader.entries(matrix, "`matrix`") {
        let text = name.text().unwrap_or_default();
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if text.is_empty() || !text.chars().all(word) {
            let diagnostic = Diagnostic::error("bad-name", format!("`{text}` can't be a name in a matrix"));
            reader.problem(diagnostic, name.span, "letters, digits, `-` and `_`");
            return None;
        }
        let items = reader.items(values, "values of a matrix");
        let mut texts = Vec::new();
        for item in items {
            texts.push(reader.text(item, "a value of a matrix")?.to_owned());
        }
        if texts.is_empty() {
            let diagnostic = Diagnostic::error("bad-value", format!("`{text}` of the matrix has no value"));
            reader.problem(diagnostic, name.span, "name at least one");
            return None;
        }
        combinations = combinations
            .iter()
            .flat_map(|values| {
                texts.iter().map(move |value| {
                    let own = (text.to_owned(), value.clone());
                    values.iter().cloned().chain(std::iter::once(own)).collect()
                })
            })
            .collect();
        if combinations.len() > TWINS_MOST {
            let message = format!("the matrix stands for more than {TWINS_MOST} steps");
            reader.problem(Diagnostic::error("out-of-range", message), key.span, "name fewer values");
            return None;
        }
    }
    let twins = combinations.iter().map(|values| {
        let label: Vec<String> = values.iter().map(|(name, value)| format!("{name} {value}")).collect();
        Twin { body: filled(reader, body, values), label: label.join(", ") }
    });
    Some(twins.collect())
}

/// `node` with the values of a matrix in place of `${matrix.NAME}`. A name that the matrix does not have is a problem.
fn filled(reader: &mut Reader<'_>, node: &Node, values: &[Value]) -> Node {
    let kind = match &node.kind {
        Kind::Scalar { text, plain } if text.contains("${matrix.") => {
            Kind::Scalar { text: put_in(reader, text, values, node.span), plain: *plain }
        }
        Kind::Scalar { .. } => node.kind.clone(),
        Kind::Sequence(items) => {
            Kind::Sequence(items.iter().map(|item| filled(reader, item, values)).collect())
        }
        Kind::Mapping(entries) => Kind::Mapping(
            entries.iter().map(|(key, value)| (key.clone(), filled(reader, value, values))).collect(),
        ),
    };
    Node { kind, tag: node.tag.clone(), span: node.span }
}

fn put_in(reader: &mut Reader<'_>, text: &str, values: &[Value], span: Span) -> String {
    let mut parts = text.split("${matrix.");
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        match values.iter().find(|(known, _)| known == name) {
            Some((_, value)) => whole.push_str(value),
            None => {
                let diagnostic =
                    Diagnostic::error("unknown-key", format!("the step has no `{name}` in its `matrix`"));
                let label = match values {
                    [] => "add a `matrix` to the step".to_owned(),
                    values => {
                        let names: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
                        format!("it has {}", crate::repo::decode::list(&names))
                    }
                };
                if !reader.problems.iter().any(|known| known.message == diagnostic.message) {
                    reader.problem(diagnostic, span, label);
                }
            }
        }
        whole.push_str(rest);
    }
    whole
}
