//! A tree as YAML that every engine reads alike.
//!
//! PyYAML and go-yaml's version 1 read YAML 1.1, go-yaml's version 3 a mixture of 1.1 and 1.2: what
//! could be a number, a boolean, a date or nothing to any of them is written in quotes when it is a
//! text, and as it was when it is none. Comments, anchors and the style of the original are gone.

use std::fmt::Write as _;

use crate::cloud_config::scalar::{Scalar, resolve};
use crate::source::Span;
use crate::yaml::{Kind, Node};

/// The longest line that a list takes before it is written one item a line.
const FLOW_MOST: usize = 100;

/// The longest text that may be a key without `?`; the specification allows 1,024.
const KEY_MOST: usize = 1_000;

/// A text that was written, and what in it came from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emitted {
    /// The text; without the line that says what it is.
    pub text: String,
    /// Scalars in the order of the text: where each stands, and where it stood in the original.
    pub places: Vec<(Span, Span)>,
}

/// Writes `root`.
pub fn yaml(root: &Node) -> Emitted {
    let mut writer = Writer { out: String::new(), places: Vec::new() };
    match &root.kind {
        Kind::Mapping(entries) if !entries.is_empty() && root.tag.is_none() => writer.mapping(entries, 0),
        Kind::Sequence(items) if !items.is_empty() && root.tag.is_none() => writer.sequence(items, 0),
        _ => {
            writer.value(root, 0, false);
            // A value is written with the blank that parts it from its key.
            let blank = usize::from(writer.out.starts_with(' '));
            writer.out.drain(..blank);
            for (span, _) in &mut writer.places {
                *span = Span::new(span.start - blank, span.end - blank);
            }
        }
    }
    Emitted { text: writer.out, places: writer.places }
}

struct Writer {
    out: String,
    places: Vec<(Span, Span)>,
}

impl Writer {
    fn indent(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// The entries, the first of them where the text ends now.
    fn mapping(&mut self, entries: &[(Node, Node)], indent: usize) {
        for (at, (key, value)) in entries.iter().enumerate() {
            if at > 0 {
                self.indent(indent);
            }
            self.key(key, indent);
            self.value(value, indent, false);
        }
    }

    fn sequence(&mut self, items: &[Node], indent: usize) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 {
                self.indent(indent);
            }
            self.out.push('-');
            self.value(item, indent, true);
        }
    }

    fn key(&mut self, key: &Node, indent: usize) {
        let text = key.text().unwrap_or_default();
        let mut written = tag(key);
        match (text.is_empty(), is_plain(key)) {
            (true, true) => written.push('~'),
            (_, true) => written.push_str(text),
            (_, false) => written.push_str(&quoted(text)),
        }
        let explicit = written.chars().count() > KEY_MOST;
        if explicit {
            self.out.push_str("? ");
        }
        self.place(&written, key.span);
        if explicit {
            self.out.push('\n');
            self.indent(indent);
        }
        self.out.push(':');
    }

    /// Writes `text`, which stood at `source`.
    fn place(&mut self, text: &str, source: Span) {
        let start = self.out.len();
        self.out.push_str(text);
        self.places.push((Span::new(start, self.out.len()), source));
    }

    /// What follows a key, or a dash if it `is_item`, and the end of the line.
    fn value(&mut self, node: &Node, indent: usize, is_item: bool) {
        let tag = tag(node);
        if !tag.is_empty() {
            self.out.push(' ');
            self.out.push_str(tag.trim_end());
        }
        match &node.kind {
            Kind::Scalar { text, .. } => self.scalar(node, text, indent),
            Kind::Mapping(entries) if entries.is_empty() => self.out.push_str(" {}\n"),
            Kind::Sequence(items) if items.is_empty() => self.out.push_str(" []\n"),
            Kind::Sequence(items) if is_item && self.flow(items) => {}
            Kind::Mapping(entries) => {
                self.open(indent + 2, is_item && tag.is_empty());
                self.mapping(entries, indent + 2);
            }
            Kind::Sequence(items) => {
                self.open(indent + 2, is_item && tag.is_empty());
                self.sequence(items, indent + 2);
            }
        }
    }

    /// To where the first entry of a collection stands: behind the dash, or in a line of its own.
    fn open(&mut self, indent: usize, behind: bool) {
        if behind {
            self.out.push(' ');
        } else {
            self.out.push('\n');
            self.indent(indent);
        }
    }

    /// A short list of scalars in one line; `false` when it is none, and nothing was written.
    fn flow(&mut self, items: &[Node]) -> bool {
        let (start, places) = (self.out.len(), self.places.len());
        self.out.push_str(" [");
        for (at, item) in items.iter().enumerate() {
            let Kind::Scalar { text, .. } = &item.kind else { return self.undo(start, places) };
            // PyYAML ends a plain text at `?` here, and go-yaml's version 1 refuses one with `:`.
            let open = is_plain(item) && !text.contains([',', '[', ']', '{', '}', '?', ':']);
            let nothing = matches!(text.as_str(), "" | "~") && open;
            if item.tag.is_some() || nothing || self.out.len() - start > FLOW_MOST {
                return self.undo(start, places);
            }
            if at > 0 {
                self.out.push_str(", ");
            }
            let written = if open { text.clone() } else { quoted(text) };
            self.place(&written, item.span);
        }
        if self.out.len() - start > FLOW_MOST {
            return self.undo(start, places);
        }
        self.out.push_str("]\n");
        true
    }

    fn undo(&mut self, start: usize, places: usize) -> bool {
        self.out.truncate(start);
        self.places.truncate(places);
        false
    }

    fn scalar(&mut self, node: &Node, text: &str, indent: usize) {
        if is_plain(node) {
            // The parser gives `~` where nothing is.
            if !matches!(text, "" | "~") {
                self.out.push(' ');
                self.place(text, node.span);
            }
        } else if is_block(text) {
            self.block(text, node.span, indent + 2);
            return;
        } else {
            self.out.push(' ');
            self.place(&quoted(text), node.span);
        }
        self.out.push('\n');
    }

    /// A text of several lines as it is, below `|`.
    fn block(&mut self, text: &str, source: Span, indent: usize) {
        // Where the first line begins with a blank, how far the text is indented can't be seen;
        // and libyaml takes no tab there.
        let given = text.starts_with([' ', '\t', '\n']);
        let end = match (text.ends_with('\n'), text.ends_with("\n\n")) {
            (false, _) => "-",
            (true, false) => "",
            (true, true) => "+",
        };
        let _ = writeln!(self.out, " |{}{end}", if given { "2" } else { "" });
        let start = self.out.len();
        for line in text.split_inclusive('\n') {
            if line != "\n" {
                self.indent(indent);
            }
            self.out.push_str(line);
        }
        if !text.ends_with('\n') {
            self.out.push('\n');
        }
        self.places.push((Span::new(start, self.out.len()), source));
    }
}

/// The tag with the blank that follows it.
fn tag(node: &Node) -> String {
    node.tag.as_ref().map(|tag| format!("{tag} ")).unwrap_or_default()
}

/// Whether a scalar is written without quotes: what is no text as it was, a text when nobody could
/// take it for something else.
fn is_plain(node: &Node) -> bool {
    let Kind::Scalar { text, plain } = &node.kind else { return false };
    match resolve(text) {
        Scalar::Text(text) => is_plain_text(text),
        _ => *plain,
    }
}

fn is_plain_text(text: &str) -> bool {
    let begins = |c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '$');
    let harmless = |c: char| c.is_ascii_graphic() || c == ' ' || c.is_alphanumeric();
    // To go-yaml these are booleans, and YAML 1.1 has them in its list.
    let boolean = matches!(text, "y" | "Y" | "n" | "N");
    // An option of a command, `-c`; a dash alone, or three, would be something else.
    text.trim_start_matches('-').starts_with(begins)
        && !boolean
        && text.chars().all(harmless)
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
}

/// Whether a text is best written as it is, in lines.
fn is_block(text: &str) -> bool {
    let clean = |c: char| c == '\n' || c == '\t' || is_printable(c);
    text.trim_end_matches('\n').contains('\n') | text.ends_with('\n')
        && !text.trim_matches('\n').is_empty()
        && text.chars().all(clean)
}

/// Whether readers take `c` as it is. PyYAML refuses a document with any other, and some of these
/// end a line in YAML 1.1.
fn is_printable(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => false,
        _ => c >= '\u{a0}',
    }
}

/// A text in quotes, in one line.
fn quoted(text: &str) -> String {
    if text.contains(['"', '\\']) && !text.contains('\'') && text.chars().all(is_printable) {
        return format!("'{text}'");
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => write!(out, "\\n"),
            '\t' => write!(out, "\\t"),
            '\r' => write!(out, "\\r"),
            _ if is_printable(c) => write!(out, "{c}"),
            _ if u32::from(c) < 0x100 => write!(out, "\\x{:02x}", u32::from(c)),
            _ if u32::from(c) < 0x1_0000 => write!(out, "\\u{:04x}", u32::from(c)),
            _ => write!(out, "\\U{:08x}", u32::from(c)),
        };
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cloud_config::scalar::scalar;
    use crate::source::SourceFile;
    use crate::yaml;

    fn read(text: &str) -> Node {
        let mut problems = Vec::new();
        let node = yaml::parse(&SourceFile::new("a.yaml", text), &mut problems);
        assert!(problems.is_empty(), "{text}\n{problems:?}");
        node.expect("a tree")
    }

    /// Whether both say the same to a reader of YAML 1.1.
    fn same(a: &Node, b: &Node) -> bool {
        let scalars = || match (scalar(a), scalar(b)) {
            // A text that nothing was made of is the same text however it is quoted.
            (Some(Scalar::Text(a)), Some(Scalar::Text(b))) => a == b,
            (Some(Scalar::Null), Some(Scalar::Null)) => true,
            (Some(x), Some(y)) => x == y && a.text() == b.text(),
            _ => false,
        };
        a.tag == b.tag
            && match (&a.kind, &b.kind) {
                (Kind::Scalar { .. }, Kind::Scalar { .. }) => scalars(),
                (Kind::Sequence(a), Kind::Sequence(b)) => {
                    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
                }
                (Kind::Mapping(a), Kind::Mapping(b)) => {
                    a.len() == b.len()
                        && a.iter().zip(b).all(|((ka, va), (kb, vb))| same(ka, kb) && same(va, vb))
                }
                _ => false,
            }
    }

    #[test]
    fn what_could_be_something_else_is_quoted_and_what_is_something_else_is_not() {
        let text = "a: 'off'\nb: off\nc: \"0644\"\nd: 0644\ne: '1.2'\nf: y\ng: ''\nh:\ni: 10.0.0.1\n";
        insta::assert_snapshot!(super::yaml(&read(text)).text, @r#"
        a: "off"
        b: off
        c: "0644"
        d: 0644
        e: "1.2"
        f: "y"
        g: ""
        h:
        i: "10.0.0.1"
        "#);
    }

    #[test]
    fn texts_of_several_lines_stay_readable() {
        let text = "a: \"#!/bin/sh\\necho 1\\n\"\nb: \"one\\n\\ntwo\"\nc: \"  x\\ny\\n\\n\"\nd: \"\\n\"\n\
                    e:\n- \"\\tx\\ny\\n\"\n- [sh, -c, \"echo 'a, b' \\\"c\\\"\"]\n- {k: [], l: {}}\n- !!str 12\n";
        insta::assert_snapshot!(super::yaml(&read(text)).text, @r#"
        a: |
          #!/bin/sh
          echo 1
        b: |-
          one

          two
        c: |2+
            x
          y

        d: "\n"
        e:
          - |2
            	x
            y
          - [sh, -c, "echo 'a, b' \"c\""]
          - k: []
            l: {}
          - !!str 12
        "#);
    }

    #[test]
    fn places_lead_back() {
        let text = "a: {b: 'x'}\nc: [|\n";
        let text = &text[..text.len() - 7];
        let emitted = super::yaml(&read(text));
        let pairs: Vec<(&str, &str)> = emitted
            .places
            .iter()
            .map(|(new, old)| (&emitted.text[new.start..new.end], &text[old.start..old.end]))
            .collect();
        assert_eq!(pairs, [("a", "a"), ("b", "b"), ("x", "'x'")]);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,12}",
            "[a-c \n\t:#'\"\\\\|>,\\[\\]{}&*!%@`?-]{0,16}",
            "[a-b \n]{0,8}\n{0,3}",
            proptest::sample::select(vec![
                "off",
                "0644",
                "1e3",
                "~",
                "null",
                "2026-01-01",
                "1:30",
                "=",
                "<<"
            ])
            .prop_map(str::to_owned),
            any::<String>(),
        ]
    }

    fn tree() -> impl Strategy<Value = Node> {
        let node = |kind| Node { span: Span::new(0, 0), tag: None, kind };
        let plain = proptest::sample::select(vec!["", "off", "12", "0644", "1.5", "~", "true"]);
        let leaf = prop_oneof![
            4 => text().prop_map(|text| Kind::Scalar { text, plain: false }),
            1 => plain.prop_map(|text| Kind::Scalar { text: text.to_owned(), plain: true }),
        ]
        .prop_map(node);
        leaf.prop_recursive(4, 24, 5, move |inner| {
            let key = text().prop_map(move |text| node(Kind::Scalar { text, plain: false }));
            let entries = proptest::collection::vec((key, inner.clone()), 0..5).prop_map(|mut entries| {
                let mut seen = std::collections::HashSet::new();
                entries.retain(|(key, _): &(Node, Node)| seen.insert(key.text().map(str::to_owned)));
                entries
            });
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(move |items| node(Kind::Sequence(items))),
                entries.prop_map(move |entries| node(Kind::Mapping(entries))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(256)))]

        #[test]
        fn what_is_written_is_read_back_the_same(tree in tree()) {
            let text = super::yaml(&tree).text;
            prop_assert!(same(&read(&text), &tree), "{text}");
            // Once written, writing changes nothing more.
            prop_assert_eq!(super::yaml(&read(&text)).text, text);
        }
    }
}
