//! YAML text to a tree that keeps order, tags and the place of every key and value.
//!
//! The one place that knows the YAML parser. It knows nothing of what files mean; it
//! only refuses what no file of ours may have: syntax errors, duplicate keys, more than
//! one document, and documents that grow beyond a budget through aliases.

use crate::source::{SourceFile, Span};

mod parse;

pub use parse::parse;

/// A value of a YAML document.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The bytes it was read from; for block collections from the first key or item, for
    /// block texts (`|`, `>`) from the first character after the indentation.
    pub span: Span,
    /// Its tag as written, `!Sub` or `!!str`.
    pub tag: Option<String>,
    /// What it is.
    pub kind: Kind,
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A scalar: its text, and whether it was written without quotes (and so may be a number,
    /// a boolean or nothing).
    Scalar {
        /// The text.
        text: String,
        /// Whether it was written without quotes.
        plain: bool,
    },
    /// A sequence.
    Sequence(Vec<Node>),
    /// A mapping, in the order written, keys unique.
    Mapping(Vec<(Node, Node)>),
}

/// What a scalar is by YAML 1.2's core schema, except that numbers with leading zeros are texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'n> {
    /// Nothing.
    Null,
    /// `true` or `false`; `yes` and `on` are texts.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(&'n str),
}

impl Node {
    /// The scalar, if it is one.
    pub fn scalar(&self) -> Option<Scalar<'_>> {
        match &self.kind {
            Kind::Scalar { text, plain } if *plain && self.tag.is_none() => Some(resolve(text)),
            Kind::Scalar { text, .. } => Some(Scalar::Text(text)),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// The scalar's text as written.
    pub fn text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar { text, .. } => Some(text),
            Kind::Sequence(_) | Kind::Mapping(_) => None,
        }
    }

    /// The entries, if it is a mapping.
    pub fn entries(&self) -> Option<&[(Node, Node)]> {
        match &self.kind {
            Kind::Mapping(entries) => Some(entries),
            Kind::Scalar { .. } | Kind::Sequence(_) => None,
        }
    }

    /// The items, if it is a sequence.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::Sequence(items) => Some(items),
            Kind::Scalar { .. } | Kind::Mapping(_) => None,
        }
    }

    /// The entry of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|(_, value)| value)
    }

    /// The key and the value of a mapping's entry.
    pub fn entry(&self, key: &str) -> Option<&(Node, Node)> {
        self.entries()?.iter().find(|(name, _)| name.text() == Some(key))
    }

    /// What it is, in words, such as "a list".
    pub fn what(&self) -> &'static str {
        match (&self.kind, self.scalar()) {
            (Kind::Mapping(_), _) => "a mapping",
            (Kind::Sequence(_), _) => "a list",
            (_, Some(Scalar::Null)) => "nothing",
            (_, Some(Scalar::Bool(_))) => "a boolean",
            (_, Some(Scalar::Integer(_) | Scalar::Float(_))) => "a number",
            (_, Some(Scalar::Text(_)) | None) => "a text",
        }
    }
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Scalar::Text(text);
    }
    if digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.") {
        return Scalar::Text(text);
    }
    if let Ok(number) = text.parse() {
        return Scalar::Integer(number);
    }
    let numeric = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if numeric && number.is_finite() => Scalar::Float(number),
        _ => Scalar::Text(text),
    }
}

/// The part of `span` that stands in its first line.
pub fn first_line(file: &SourceFile, span: Span) -> Span {
    let line = file.slice(span).lines().next().unwrap_or("").trim_end();
    Span::new(span.start, span.start + line.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::source::Diagnostic;

    fn tree(text: &str) -> (Arc<SourceFile>, Node, Vec<Diagnostic>) {
        let file = SourceFile::new("a.yaml", text);
        let mut problems = Vec::new();
        let node = parse(&file, &mut problems).expect("it is YAML");
        (file, node, problems)
    }

    #[test]
    fn every_key_and_value_knows_its_bytes() {
        let (file, root, _) = tree("größe: [ä, \"ö ü\"]\n# é\nß: |\n  x\n  y\nlast: {a: 'b'}\n");
        let entries = root.entries().expect("a mapping");
        let keys: Vec<&str> = entries.iter().map(|(key, _)| file.slice(key.span)).collect();
        assert_eq!(keys, ["größe", "ß", "last"]);
        let values: Vec<&str> = entries.iter().map(|(_, value)| file.slice(value.span)).collect();
        assert_eq!(values, ["[ä, \"ö ü\"]", "x\n  y", "{a: 'b'}"]);
        let items: Vec<&str> =
            entries[0].1.items().expect("a list").iter().map(|i| file.slice(i.span)).collect();
        assert_eq!(items, ["ä", "\"ö ü\""]);
    }

    #[test]
    fn tags_are_kept_as_written() {
        let (_, root, _) = tree("a: !Ref Vpc\nb: !GetAtt A.B\nc: !Sub [x, {}]\nd: !!str 1\n");
        let tags: Vec<Option<&str>> =
            root.entries().expect("a mapping").iter().map(|(_, value)| value.tag.as_deref()).collect();
        assert_eq!(tags, [Some("!Ref"), Some("!GetAtt"), Some("!Sub"), Some("!!str")]);
        assert_eq!(root.get("d").and_then(Node::scalar), Some(Scalar::Text("1")));
    }

    #[test]
    fn plain_scalars_are_what_yaml_1_2_says() {
        let cases = [
            ("yes", Scalar::Text("yes")),
            ("on", Scalar::Text("on")),
            ("true", Scalar::Bool(true)),
            ("007", Scalar::Text("007")),
            ("0", Scalar::Integer(0)),
            ("-12", Scalar::Integer(-12)),
            ("0.25", Scalar::Float(0.25)),
            ("1:30", Scalar::Text("1:30")),
            ("1e3", Scalar::Float(1000.0)),
            ("~", Scalar::Null),
            ("\"1\"", Scalar::Text("1")),
        ];
        for (text, expected) in cases {
            let (_, root, _) = tree(&format!("a: {text}\n"));
            assert_eq!(root.get("a").and_then(Node::scalar), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_duplicate_key_is_reported_and_the_first_is_kept() {
        for others in [1, 40] {
            let others: String = (0..others).map(|number| format!("k{number}: 2\n")).collect();
            let (_, root, problems) = tree(&format!("x: 0\na: 1\n{others}a: 3\na: 4\n"));
            assert_eq!(root.get("a").and_then(Node::scalar), Some(Scalar::Integer(1)));
            let labels: Vec<&str> =
                problems.iter().filter_map(|p| Some(p.label.as_ref()?.text.as_str())).collect();
            assert_eq!(labels, ["first given in line 2"; 2]);
        }
    }

    #[test]
    fn a_laugh_bomb_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..30 {
            let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
        }
        let mut problems = Vec::new();
        assert_eq!(parse(&SourceFile::new("bomb.yaml", text), &mut problems), None);
        assert_eq!(problems[0].code, "yaml-too-large");
    }
}
