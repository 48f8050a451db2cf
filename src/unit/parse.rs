//! The text of a unit file as items that tile it: nothing is lost, so it can be given back.
//!
//! Follows systemd's own reader. Lines end in `\n`, `\r`, `\0` or one of each; `#` and `;` begin
//! a comment also between the lines of a continuation; a line that ends in an odd number of
//! backslashes goes on in the next, with a space for the last of them.

use std::ops::Range;
use std::sync::Arc;

use crate::source::{SourceFile, Span};

/// The longest line that systemd reads, joined or not.
pub const LINE_MAX: usize = 1024 * 1024;

/// A unit file, in the order written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFile {
    source: Arc<SourceFile>,
    items: Vec<Item>,
}

/// What a line, or several joined by backslashes, is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// All its bytes, with line ends and the comments in between. The items tile the text.
    pub span: Span,
    /// What it is.
    pub kind: ItemKind,
}

/// The kinds of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemKind {
    /// Nothing but white space.
    Blank,
    /// A comment.
    Comment,
    /// `[Name]`: the name.
    Section(Text),
    /// `Key=value`.
    Entry(Entry),
    /// None of these.
    Broken(Broken, Text),
}

/// An assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, without white space around it.
    pub key: Text,
    /// The value, joined, without white space around it.
    pub value: Text,
}

/// Why a line is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// It begins with `[`, but is no section; systemd refuses the file.
    Header,
    /// It has no `=`; systemd ignores it.
    NoEquals,
    /// It is too long; systemd refuses the file.
    TooLong,
}

/// A part of a line as systemd sees it, which knows where each byte was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    text: String,
    /// For each physical line: where it begins in `text`, and where in the file.
    pieces: Vec<(usize, usize)>,
}

impl Text {
    /// The text, joined.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where byte `at` of the text was read.
    fn source(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|(start, _)| *start <= at).saturating_sub(1);
        self.pieces.get(index).map_or(0, |(start, source)| source + (at - start))
    }

    /// All of it in the file, over several lines if it was written so.
    pub fn span(&self) -> Span {
        let start = self.source(0);
        // The end belongs to the last byte, not to what may follow in another line.
        let end = if self.text.is_empty() { start } else { self.source(self.text.len() - 1) + 1 };
        Span::new(start, end)
    }

    /// Where `range` of the text stands in the file, up to the end of its first line: what
    /// spreads over many is not underlined.
    pub fn mark(&self, range: Range<usize>) -> Span {
        let next = self.pieces.iter().map(|(start, _)| *start).find(|start| *start > range.start);
        let end = range.end.min(next.unwrap_or(usize::MAX)).min(self.text.len());
        let line = self.text.get(range.start..end).unwrap_or_default();
        let line = if range.end > end { line.trim_end() } else { line };
        let start = self.source(range.start);
        Span::new(start, start + line.len())
    }

    /// The physical lines after the first: where in the text they begin.
    pub fn lines(&self) -> impl Iterator<Item = usize> + '_ {
        self.pieces.iter().map(|(start, _)| *start).filter(|start| *start > 0)
    }

    /// The part in `range`, trimmed.
    fn part(&self, range: Range<usize>) -> Self {
        let text = &self.text[range.clone()];
        let start = range.start + (text.len() - text.trim_start_matches(WHITESPACE).len());
        let text = text.trim_matches(WHITESPACE);
        let end = start + text.len();
        let mut pieces = vec![(0, self.source(start))];
        pieces.extend(
            self.pieces
                .iter()
                .filter(|(at, _)| *at > start && *at < end)
                .map(|(at, source)| (at - start, *source)),
        );
        Self { text: text.to_owned(), pieces }
    }
}

/// What systemd strips. Other Unicode spaces belong to the value.
pub const WHITESPACE: [char; 4] = [' ', '\t', '\n', '\r'];

impl UnitFile {
    /// Reads `source`. Every text is a unit file; what systemd would not read is an item too.
    pub fn parse(source: &Arc<SourceFile>) -> Self {
        let mut items = Vec::new();
        let mut open: Option<(usize, Text)> = None;
        let mut at = 0;
        let text = source.text();
        while at < text.len() {
            let (content, next) = line(text, at);
            let begin = at;
            at = next;
            let start =
                content.start + if content.start == 0 && text.starts_with('\u{feff}') { 3 } else { 0 };
            let content = &text[start..content.end];
            let trimmed = content.trim_matches(WHITESPACE);
            if trimmed.starts_with(['#', ';']) {
                if open.is_none() {
                    items.push(Item { span: Span::new(begin, next), kind: ItemKind::Comment });
                }
                continue;
            }
            let (begin, mut joined) =
                open.take().unwrap_or_else(|| (begin, Text { text: String::new(), pieces: Vec::new() }));
            joined.pieces.push((joined.text.len(), start));
            joined.text.push_str(content);
            let slashes = content.bytes().rev().take_while(|byte| *byte == b'\\').count();
            if slashes % 2 == 1 {
                joined.text.pop();
                joined.text.push(' ');
                open = Some((begin, joined));
            } else {
                items.push(Item { span: Span::new(begin, next), kind: kind(joined) });
            }
        }
        if let Some((begin, joined)) = open {
            items.push(Item { span: Span::new(begin, text.len()), kind: kind(joined) });
        }
        Self { source: Arc::clone(source), items }
    }

    /// The file it was read from.
    pub fn source(&self) -> &Arc<SourceFile> {
        &self.source
    }

    /// Its lines.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The text, byte for byte.
    pub fn emit(&self) -> String {
        self.items.iter().map(|item| self.source.slice(item.span)).collect()
    }

    /// The assignments, each with the name of its section, empty before the first.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        let mut section = "";
        self.items.iter().filter_map(move |item| match &item.kind {
            ItemKind::Section(name) => {
                section = name.as_str();
                None
            }
            ItemKind::Entry(entry) => Some((section, entry)),
            ItemKind::Blank | ItemKind::Comment | ItemKind::Broken(..) => None,
        })
    }
}

/// The content of the line at `at`, and where the next begins.
fn line(text: &str, at: usize) -> (Range<usize>, usize) {
    let bytes = text.as_bytes();
    let end = bytes[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0));
    let end = end.map_or(bytes.len(), |length| at + length);
    let mut next = end;
    // As systemd: each of the three ends a line together with others, but not twice.
    while next < bytes.len()
        && matches!(bytes[next], b'\n' | b'\r' | 0)
        && !bytes[end..next].contains(&bytes[next])
        && !bytes[end..next].contains(&0)
    {
        next += 1;
    }
    (at..end, next)
}

fn kind(line: Text) -> ItemKind {
    let whole = line.part(0..line.text.len());
    if line.text.len() > LINE_MAX {
        return ItemKind::Broken(Broken::TooLong, whole);
    }
    if whole.text.is_empty() {
        return ItemKind::Blank;
    }
    if let Some(rest) = whole.text.strip_prefix('[') {
        return match rest.strip_suffix(']') {
            Some(name) if is_safe(name) => {
                let end = whole.text.len() - 1;
                ItemKind::Section(untrimmed(&whole, 1..end))
            }
            _ => ItemKind::Broken(Broken::Header, whole),
        };
    }
    match line.text.find('=') {
        Some(equals) => ItemKind::Entry(Entry {
            key: line.part(0..equals),
            value: line.part(equals + 1..line.text.len()),
        }),
        None => ItemKind::Broken(Broken::NoEquals, whole),
    }
}

/// Names of sections keep their white space: `[ Unit ]` is not `[Unit]`.
fn untrimmed(text: &Text, range: Range<usize>) -> Text {
    let mut pieces = vec![(0, text.source(range.start))];
    let inner = text.pieces.iter().filter(|(at, _)| *at > range.start && *at < range.end);
    pieces.extend(inner.map(|(at, source)| (at - range.start, *source)));
    Text { text: text.text[range].to_owned(), pieces }
}

/// What systemd takes in names: no control characters, no quotes, no backslashes.
pub fn is_safe(text: &str) -> bool {
    !text.chars().any(|c| c.is_ascii_control() || matches!(c, '"' | '\'' | '\\'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> UnitFile {
        UnitFile::parse(&SourceFile::new("a.service", text))
    }

    fn entries(text: &str) -> Vec<(String, String, String)> {
        let file = parse(text);
        let entry = |(section, entry): (&str, &Entry)| {
            (section.to_owned(), entry.key.as_str().to_owned(), entry.value.as_str().to_owned())
        };
        file.entries().map(entry).collect()
    }

    fn entry(section: &str, key: &str, value: &str) -> (String, String, String) {
        (section.to_owned(), key.to_owned(), value.to_owned())
    }

    #[test]
    fn white_space_around_keys_and_values_is_dropped() {
        let found = entries("[Unit]\n  Description =\t a = b \nAfter=\n");
        assert_eq!(found, [entry("Unit", "Description", "a = b"), entry("Unit", "After", "")]);
    }

    #[test]
    fn lines_are_joined_with_a_space_over_comments() {
        let text = "[Service]\nExecStart=/bin/a \\\n# not this\n  ; nor this\n  b\\\nc\n";
        assert_eq!(entries(text), [entry("Service", "ExecStart", "/bin/a    b c")]);
        assert_eq!(parse(text).emit(), text);
        // Two backslashes are one that is escaped.
        assert_eq!(entries("[S]\na=b\\\\\nc=d\n"), [entry("S", "a", "b\\\\"), entry("S", "c", "d")]);
        // A blank line ends it, as does the end of the file.
        assert_eq!(entries("[S]\na=b\\\n\nc=d\\"), [entry("S", "a", "b"), entry("S", "c", "d")]);
    }

    #[test]
    fn marks_point_into_the_line_that_is_meant() {
        let file = parse("[S]\na=first \\\n  # no\n  zweite ä\n");
        let (_, entry) = file.entries().next().expect("an entry");
        let at = entry.value.as_str().find("zweite").expect("it is there");
        let source = file.source();
        assert_eq!(source.slice(entry.value.mark(at..at + 6)), "zweite");
        assert_eq!(source.slice(entry.value.mark(0..entry.value.as_str().len())), "first");
        assert_eq!(source.slice(entry.value.span()), "first \\\n  # no\n  zweite ä");
        assert_eq!(source.slice(entry.key.span()), "a");
    }

    #[test]
    fn all_line_ends_are_known() {
        let text = "\u{feff}[S]\r\na=1\rb=2\n\rc=3\0d=4\n\ne=5";
        let found: Vec<_> =
            entries(text).into_iter().map(|(_, key, value)| format!("{key}{value}")).collect();
        assert_eq!(found, ["a1", "b2", "c3", "d4", "e5"]);
        assert_eq!(parse(text).emit(), text);
    }

    #[test]
    fn what_is_neither_is_kept() {
        let file = parse("[Unit\nword\n[ Unit ]\n[a\\b]\n");
        let kinds: Vec<_> = file.items().iter().map(|item| &item.kind).collect();
        assert!(matches!(kinds[0], ItemKind::Broken(Broken::Header, _)));
        assert!(matches!(kinds[1], ItemKind::Broken(Broken::NoEquals, _)));
        assert!(matches!(kinds[2], ItemKind::Section(name) if name.as_str() == " Unit "));
        assert!(matches!(kinds[3], ItemKind::Broken(Broken::Header, _)));
        let long = format!("[S]\na={}\n", "x".repeat(LINE_MAX));
        assert!(matches!(parse(&long).items()[1].kind, ItemKind::Broken(Broken::TooLong, _)));
    }
}
