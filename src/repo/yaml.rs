//! YAML text to a tree that keeps order, tags and the place of every key and value.
//!
//! The one place that knows the YAML parser. It knows nothing of what files mean; it
//! only refuses what no file of ours may have: syntax errors, duplicate keys, more than
//! one document, and documents that grow beyond a budget through aliases.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};

use crate::source::{Diagnostic, SourceFile, Span};

/// The most nodes a document may have, aliases expanded. The largest CloudFormation
/// template (1 MB) stays far below; a "billion laughs" document is refused in milliseconds.
const MAX_NODES: usize = 100_000;

/// The deepest nesting; recursive code downstream relies on it.
const MAX_DEPTH: usize = 100;

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

/// Reads the one document of `file`. Duplicate keys go to `problems` and the tree keeps
/// the first; `None` when there is no tree at all, and `problems` says why. A file
/// without any content is a null scalar.
pub fn parse(file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut builder =
        Builder { file, stack: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None, problems };
    for event in Parser::new_from_str(file.text()) {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(error) => Err(Box::new(syntax_error(file, &error))),
        };
        if let Err(problem) = step {
            builder.problems.push(*problem);
            return None;
        }
    }
    let empty =
        || Node { span: Span::new(0, 0), tag: None, kind: Kind::Scalar { text: String::new(), plain: true } };
    Some(builder.root.unwrap_or_else(empty))
}

fn syntax_error(file: &Arc<SourceFile>, error: &granit_parser::ScanError) -> Diagnostic {
    let marker = error.marker();
    let at = marker.byte_offset().unwrap_or_else(|| file.offset(marker.line(), marker.col() + 1));
    let span = place_for_error(file.text(), at);
    let line_start = file.text()[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let diagnostic = if let Some(tab) = indenting_tab(file.text(), line_start, &error.info()) {
        let span = Span::new(tab, tab + 1);
        Diagnostic::error("yaml-syntax", "a tab is used for indentation, which YAML does not allow")
            .at(file, span, "this is a tab")
            .help("indent with spaces")
    } else {
        Diagnostic::error("yaml-syntax", "this is not valid YAML").at(file, span, error.info())
    };
    if file.text()[line_start..].trim_start().starts_with(['@', '`', '%', '<']) {
        return diagnostic.help("a text that starts with a special character needs quotes");
    }
    diagnostic
}

/// The first tab that indents the line at `line_start`, or, where the parser speaks of a
/// tab, a line after it: a plain text goes on there, so that the error comes early.
fn indenting_tab(text: &str, line_start: usize, message: &str) -> Option<usize> {
    let lines = if message.contains("tab") { usize::MAX } else { 1 };
    let mut start = line_start;
    for line in text[line_start..].split_inclusive('\n').take(lines) {
        let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
        if let Some(tab) = indent.find('\t') {
            return Some(start + tab);
        }
        start += line.len();
    }
    None
}

/// The character at `at`, or the last one before when that is past the end or a line's end.
fn place_for_error(text: &str, at: usize) -> Span {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    if at == text.len() {
        at = text.trim_end().len();
        at = text[..at].char_indices().next_back().map_or(0, |(at, _)| at);
    }
    let width = text[at..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    Span::new(at, at + width)
}

/// A collection that is being read.
struct Open {
    span: Span,
    tag: Option<String>,
    anchor: usize,
    mapping: bool,
    /// Items, or keys and values in turn.
    children: Vec<Node>,
}

struct Builder<'f> {
    file: &'f Arc<SourceFile>,
    stack: Vec<Open>,
    /// Anchored nodes with the number of nodes in each.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
    problems: &'f mut Vec<Diagnostic>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: granit_parser::Span) -> Result<(), Box<Diagnostic>> {
        let place = byte_span(self.file.text(), &span);
        let tag_text = || span.tag_span().and_then(|tag| tag.slice(self.file.text())).map(str::to_owned);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Box::new(Diagnostic::error("yaml-syntax", "a file holds one document").at(
                    self.file,
                    first_line(self.file, Span::new(place.start, self.file.text().len())),
                    "a second one starts here",
                )))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.is_some().then(tag_text).flatten();
                let plain = matches!(style, ScalarStyle::Plain);
                let node = Node { span: place, tag, kind: Kind::Scalar { text: text.into_owned(), plain } };
                self.count(1, place)?;
                self.finish(node, anchor);
                Ok(())
            }
            Event::SequenceStart(_, anchor, tag) => {
                let tag = tag.is_some().then(tag_text).flatten();
                self.open(place, tag, anchor, false)
            }
            Event::MappingStart(_, anchor, tag) => {
                let tag = tag.is_some().then(tag_text).flatten();
                self.open(place, tag, anchor, true)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.stack.pop() {
                    let anchor = open.anchor;
                    let node = self.close(open, place);
                    self.finish(node, anchor);
                }
                Ok(())
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(Box::new(
                        Diagnostic::error("yaml-syntax", "an alias refers to what it is part of").at(
                            self.file,
                            place,
                            "this alias",
                        ),
                    ));
                };
                // The size is checked before the copy is made.
                let (size, depth) = (*size, depth(node));
                self.nodes += size;
                self.check_budget(self.stack.len() + depth, place)?;
                let mut node = self.anchors[&id].0.clone();
                node.span = place;
                self.finish(node, 0);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn open(
        &mut self,
        span: Span,
        tag: Option<String>,
        anchor: usize,
        mapping: bool,
    ) -> Result<(), Box<Diagnostic>> {
        self.count(self.stack.len() + 1, span)?;
        self.stack.push(Open { span, tag, anchor, mapping, children: Vec::new() });
        Ok(())
    }

    fn count(&mut self, depth: usize, place: Span) -> Result<(), Box<Diagnostic>> {
        self.nodes += 1;
        self.check_budget(depth, place)
    }

    fn check_budget(&self, depth: usize, place: Span) -> Result<(), Box<Diagnostic>> {
        let what = if self.nodes > MAX_NODES {
            format!("the document has more than {MAX_NODES} values, aliases expanded")
        } else if depth > MAX_DEPTH {
            format!("the document is nested more than {MAX_DEPTH} levels deep")
        } else {
            return Ok(());
        };
        let place = place_for_error(self.file.text(), place.start);
        Err(Box::new(Diagnostic::error("yaml-too-large", what).at(
            self.file,
            place,
            "the limit is reached here",
        )))
    }

    fn close(&mut self, open: Open, end: Span) -> Node {
        let first = open.children.first().map_or(open.span.start, |child| child.span.start);
        let last = open.children.iter().map(|child| child.span.end).max().unwrap_or(open.span.end);
        // A flow collection ends at its bracket; a block one where its last child ends.
        let flow = self.file.text()[open.span.start..].starts_with(['{', '[']);
        let span = if flow { Span::new(open.span.start, end.end) } else { Span::new(first, last) };
        if !open.mapping {
            return Node { span, tag: open.tag, kind: Kind::Sequence(open.children) };
        }
        let mut entries = Vec::with_capacity(open.children.len() / 2);
        let mut seen: HashMap<String, Span> = HashMap::new();
        let mut children = open.children.into_iter();
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            match key.text().map(str::to_owned) {
                None => self.problems.push(
                    Diagnostic::error(
                        "wrong-type",
                        format!("a key must be a text, but this is {}", key.what()),
                    )
                    .at(self.file, first_line(self.file, key.span), "not a text"),
                ),
                Some(text) => match seen.get(&text) {
                    Some(first) => {
                        let line = self.file.position(first.start).line;
                        self.problems.push(
                            Diagnostic::error("duplicate-key", format!("the key `{text}` is given twice"))
                                .at(self.file, key.span, format!("first given in line {line}")),
                        );
                    }
                    None => {
                        seen.insert(text, key.span);
                        entries.push((key, value));
                    }
                },
            }
        }
        Node { span, tag: open.tag, kind: Kind::Mapping(entries) }
    }

    fn finish(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.stack.last_mut() {
            Some(open) => open.children.push(node),
            None => self.root = Some(node),
        }
    }
}

fn size(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => items.iter().map(size).sum(),
        Kind::Mapping(entries) => entries.iter().map(|(key, value)| size(key) + size(value)).sum(),
    }
}

fn depth(node: &Node) -> usize {
    1 + match &node.kind {
        Kind::Scalar { .. } => 0,
        Kind::Sequence(items) => items.iter().map(depth).max().unwrap_or(0),
        Kind::Mapping(entries) => {
            entries.iter().flat_map(|(key, value)| [depth(key), depth(value)]).max().unwrap_or(0)
        }
    }
}

/// The parser's span in bytes, without the line ends that block scalars take with them.
fn byte_span(text: &str, span: &granit_parser::Span) -> Span {
    let range = span.byte_range().unwrap_or(0..0);
    let start = range.start.min(text.len());
    let end = range.end.clamp(start, text.len());
    match text.get(start..end) {
        Some(slice) => Span::new(start, start + slice.trim_end().len()),
        None => place_for_error(text, start),
    }
}

/// The part of `span` that stands in its first line.
pub fn first_line(file: &SourceFile, span: Span) -> Span {
    let line = file.slice(span).lines().next().unwrap_or("").trim_end();
    Span::new(span.start, span.start + line.len())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let (_, root, problems) = tree("a: 1\nb: 2\na: 3\n");
        assert_eq!(root.get("a").and_then(Node::scalar), Some(Scalar::Integer(1)));
        assert_eq!(problems.len(), 1);
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
