//! What kind of user data a text is, and the tree of a cloud-config.

use std::sync::Arc;

use super::check::tokens;
use super::target::Dialect;
use super::{cloud_init, coreos};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{self, Kind as Value, Node};

/// The kinds of user data, told apart by how they begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `#cloud-config`, or what was meant to be.
    CloudConfig,
    /// `#!`: run as it is.
    Script,
    /// MIME, several parts.
    Multipart,
    /// A JSON document of Ignition.
    Ignition,
    /// One of the kinds that only cloud-init has: `#include`, `#cloud-boothook`, a Jinja template,
    /// an archive, a part handler.
    CloudInitOnly,
    /// Nothing that any engine knows.
    Unknown,
}

/// A text of user data that was read.
#[derive(Debug)]
pub struct Document {
    /// The text.
    pub file: Arc<SourceFile>,
    /// The text that was read: place for place the same, but for what an engine puts into it.
    pub read: Arc<SourceFile>,
    /// Bytes of the text, or of what it was unpacked from.
    pub bytes: usize,
    /// What it is.
    pub kind: Kind,
    /// The tree of a cloud-config, merge keys resolved; `None` when it has none.
    pub root: Option<Node>,
    /// What is wrong with its YAML.
    pub problems: Vec<Diagnostic>,
    /// Where a second YAML document starts.
    pub second: Option<Span>,
}

impl Document {
    /// Reads `file` as coreos-cloudinit would on a machine: with addresses in it, if it is of that
    /// dialect.
    pub fn sampled(file: &Arc<SourceFile>) -> Self {
        let document = Self::read(file);
        if document.dialect() != Dialect::CoreOs {
            return document;
        }
        match tokens::sampled(file.text()) {
            None => document,
            Some(text) => {
                let read = Self::read(&SourceFile::new(file.name(), text));
                Self { file: Arc::clone(file), ..read }
            }
        }
    }

    /// Reads `file`.
    pub fn read(file: &Arc<SourceFile>) -> Self {
        let mut document = Self {
            file: Arc::clone(file),
            read: Arc::clone(file),
            bytes: file.text().len(),
            kind: kind(file.text()),
            root: None,
            problems: Vec::new(),
            second: None,
        };
        if !matches!(document.kind, Kind::CloudConfig | Kind::Unknown) {
            return document;
        }
        document.second = second_document(file.text());
        let mut problems = Vec::new();
        let mut root = match document.second {
            // The first is checked by itself; its places are the same in both.
            Some(second) => {
                yaml::parse(&SourceFile::new(file.name(), &file.text()[..second.start]), &mut problems)
            }
            None => yaml::parse(file, &mut problems),
        };
        if document.kind == Kind::Unknown {
            // A cloud-config whose first line is missing is told by its keys.
            let known = root.as_ref().and_then(Node::entries).is_some_and(|entries| {
                entries
                    .iter()
                    .filter_map(|(key, _)| key.text())
                    .any(|key| coreos::ROOT.iter().any(|field| field.name == key) || cloud_init::is_key(key))
            });
            if !known {
                return document;
            }
            document.kind = Kind::CloudConfig;
        }
        if let Some(root) = &mut root {
            merge(root);
        }
        document.root = root;
        document.problems = problems;
        document
    }

    /// The dialect by the look of it: a key `coreos`, or what only one of the two has.
    pub fn dialect(&self) -> Dialect {
        let entries = self.root.as_ref().and_then(Node::entries).unwrap_or_default();
        if entries.iter().any(|(key, _)| key.text() == Some("coreos")) {
            Dialect::CoreOs
        } else {
            Dialect::CloudInit
        }
    }
}

pub(super) fn kind(text: &str) -> Kind {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let line = start.lines().next().unwrap_or("").trim_end().to_lowercase();
    if text.starts_with("#!") {
        return Kind::Script;
    }
    if line.starts_with("content-type:") || line.starts_with("mime-version:") {
        return Kind::Multipart;
    }
    let only = ["#include", "#cloud-config-archive", "#cloud-config-jsonp", "#cloud-boothook"];
    let template = ["#part-handler", "## template: jinja"];
    if only.iter().chain(&template).any(|begin| line.starts_with(begin)) {
        return Kind::CloudInitOnly;
    }
    let squeezed: String = line.chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    if line.starts_with('#') && squeezed.starts_with("cloudconfig") {
        return Kind::CloudConfig;
    }
    // A comment stands first, and the line that matters below it.
    let mut comments = start.lines().take_while(|line| line.is_empty() || line.starts_with('#'));
    if comments.any(|line| line.trim_end() == "#cloud-config") {
        return Kind::CloudConfig;
    }
    if start.starts_with('{') && start.contains("\"ignition\"") {
        return Kind::Ignition;
    }
    Kind::Unknown
}

/// The line that starts a second document. `---` and `...` in the first column end whatever stands
/// before them, quoted texts and block texts included, so that lines are all that must be read.
fn second_document(text: &str) -> Option<Span> {
    let mut at = 0;
    let mut content = false;
    let mut ended = false;
    for line in text.split_inclusive('\n') {
        let span = Span::new(at, at + line.trim_end().len());
        at += line.len();
        let rest = line.strip_prefix("---").or_else(|| line.strip_prefix("..."));
        let marker = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let blank = line.trim().is_empty() || line.starts_with(['#', '%']);
        if marker && line.starts_with("---") {
            if content || ended {
                return Some(span);
            }
            // What follows is content, even if it is nothing.
            content = true;
        } else if marker {
            ended = true;
        } else if !blank {
            if ended {
                return Some(span);
            }
            content = true;
        }
    }
    None
}

/// Puts the keys of `<<` into the mappings that have it; a mapping's own keys win.
fn merge(node: &mut Node) {
    match &mut node.kind {
        Value::Scalar { .. } => {}
        Value::Sequence(items) => items.iter_mut().for_each(merge),
        Value::Mapping(entries) => {
            entries.iter_mut().for_each(|(_, value)| merge(value));
            let is_merge =
                |key: &Node| matches!(&key.kind, Value::Scalar { text, plain: true } if text == "<<");
            let Some(at) = entries.iter().position(|(key, _)| is_merge(key)) else { return };
            let (_, source) = entries.remove(at);
            let sources = match source.kind {
                Value::Sequence(items) => items,
                Value::Scalar { .. } | Value::Mapping(_) => vec![source],
            };
            let mut place = at;
            for source in sources {
                let span = source.span;
                let Value::Mapping(inner) = source.kind else { continue };
                for (mut key, mut value) in inner {
                    if !entries.iter().any(|(own, _)| own.text() == key.text()) {
                        // They stand where the alias stands, as far as places go.
                        (key.span, value.span) = (span, span);
                        entries.insert(place, (key, value));
                        place += 1;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Document {
        Document::read(&SourceFile::new("a.yaml", text))
    }

    #[test]
    fn kinds_are_told_by_how_they_begin() {
        let cases = [
            ("#cloud-config\n", Kind::CloudConfig),
            ("\u{feff}#cloud-config\n", Kind::CloudConfig),
            ("\n# Cloud-Config\n", Kind::CloudConfig),
            ("# (c) us\n#cloud-config\n", Kind::CloudConfig),
            ("write_files: []\n", Kind::CloudConfig),
            ("#!/bin/sh\n", Kind::Script),
            ("MIME-Version: 1.0\n", Kind::Multipart),
            ("#include\nhttp://x\n", Kind::CloudInitOnly),
            ("{\"ignition\": {\"version\": \"3.3.0\"}}", Kind::Ignition),
            ("hello\n", Kind::Unknown),
            ("", Kind::Unknown),
        ];
        for (text, kind) in cases {
            assert_eq!(read(text).kind, kind, "{text:?}");
        }
    }

    #[test]
    fn a_second_document_is_found_and_the_first_is_read() {
        let document = read("#cloud-config\n---\na: |\n  ---\nb: 1\n--- # more\nc: 2\n");
        assert_eq!(document.file.slice(document.second.expect("there is one")), "--- # more");
        assert_eq!(document.root.and_then(|root| root.entries().map(<[_]>::len)), Some(2));
        assert_eq!(read("#cloud-config\na: 1\n...\n").second, None);
        assert!(read("#cloud-config\na: 1\n...\nb: 1\n").second.is_some());
    }

    #[test]
    fn merge_keys_are_resolved() {
        let document = read("#cloud-config\nx: &x {a: 1, b: 2}\nusers:\n  - <<: *x\n    b: 3\n");
        let root = document.root.expect("a tree");
        let user = &root.get("users").and_then(Node::items).expect("a list")[0];
        assert_eq!(user.get("a").and_then(Node::text), Some("1"));
        assert_eq!(user.get("b").and_then(Node::text), Some("3"));
    }
}
