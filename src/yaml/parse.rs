//! The parser's events to a tree.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle};

use super::{Kind, Node, first_line};
use crate::source::{Diagnostic, SourceFile, Span};

/// The most nodes a document may have, aliases expanded. The largest CloudFormation
/// template (1 MB) stays far below; a "billion laughs" document is refused in milliseconds.
const MAX_NODES: usize = 100_000;

/// The deepest nesting; recursive code downstream relies on it.
const MAX_DEPTH: usize = 100;

/// Up to so many keys are compared with each other, which costs less than to hash them.
const FEW_KEYS: usize = 16;

/// Reads the one document of `file`. Duplicate keys go to `problems` and the tree keeps
/// the first; `None` when there is no tree at all, and `problems` says why. A file
/// without any content is a null scalar.
pub fn parse(file: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut builder = Builder {
        file,
        stack: Vec::new(),
        children: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        root: None,
        problems,
    };
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
    /// How many of the builder's children belong to the collections around it.
    before: usize,
}

struct Builder<'f> {
    file: &'f Arc<SourceFile>,
    stack: Vec<Open>,
    /// What is in the open collections, outermost first: items, or keys and values in turn. One list serves all, so
    /// that each collection is allocated once, with the size that it has.
    children: Vec<Node>,
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
        self.stack.push(Open { span, tag, anchor, mapping, before: self.children.len() });
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
        let children = &self.children[open.before..];
        let first = children.first().map_or(open.span.start, |child| child.span.start);
        let last = children.iter().map(|child| child.span.end).max().unwrap_or(open.span.end);
        // A flow collection ends at its bracket; a block one where its last child ends.
        let flow = self.file.text()[open.span.start..].starts_with(['{', '[']);
        let span = if flow { Span::new(open.span.start, end.end) } else { Span::new(first, last) };
        if !open.mapping {
            let items = self.children.drain(open.before..).collect();
            return Node { span, tag: open.tag, kind: Kind::Sequence(items) };
        }
        let mut repeated = repeated_keys(children).into_iter().peekable();
        let mut entries = Vec::with_capacity(children.len() / 2);
        let mut children = self.children.drain(open.before..);
        let mut number = 0;
        while let (Some(key), Some(value)) = (children.next(), children.next()) {
            let first = repeated.next_if(|(repeated, _)| *repeated == number);
            match (key.text(), first) {
                (None, _) => self.problems.push(
                    Diagnostic::error(
                        "wrong-type",
                        format!("a key must be a text, but this is {}", key.what()),
                    )
                    .at(self.file, first_line(self.file, key.span), "not a text"),
                ),
                (Some(text), Some((_, first))) => {
                    let line = self.file.position(first.start).line;
                    self.problems.push(
                        Diagnostic::error("duplicate-key", format!("the key `{text}` is given twice")).at(
                            self.file,
                            key.span,
                            format!("first given in line {line}"),
                        ),
                    );
                }
                (Some(_), None) => entries.push((key, value)),
            }
            number += 1;
        }
        Node { span, tag: open.tag, kind: Kind::Mapping(entries) }
    }

    fn finish(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.stack.is_empty() {
            true => self.root = Some(node),
            false => self.children.push(node),
        }
    }
}

/// The numbers of the entries whose key an earlier one has, with the place of the first of those. Keys and values
/// stand in turn in `children`.
fn repeated_keys(children: &[Node]) -> Vec<(usize, Span)> {
    let keys = || {
        let keys = children.chunks_exact(2).enumerate();
        keys.filter_map(|(number, entry)| Some((number, entry[0].text()?, entry[0].span)))
    };
    if children.len() / 2 <= FEW_KEYS {
        let repeated = keys().filter_map(|(number, text, _)| {
            let (first, _, span) = keys().find(|(_, known, _)| *known == text)?;
            (first != number).then_some((number, span))
        });
        return repeated.collect();
    }
    let mut known: HashMap<&str, Span> = HashMap::new();
    let repeated = keys().filter_map(|(number, text, span)| match known.entry(text) {
        Entry::Occupied(first) => Some((number, *first.get())),
        Entry::Vacant(vacant) => {
            vacant.insert(span);
            None
        }
    });
    repeated.collect()
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
