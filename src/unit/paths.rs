//! Values that name a path or a unit.

use std::ops::Range;

use super::check::Check;
use super::name::{Kind, UnitName};
use super::parse::Text;
use super::table::Value;
use crate::source::suggest;

impl Check<'_> {
    /// The path in `text` from byte `start` on must be absolute.
    pub fn path(&mut self, text: &Text, start: usize) {
        if self.specifiers(text) {
            let all = text.as_str();
            self.absolute(text, start..all.len(), &all[start..]);
        }
    }

    fn absolute(&mut self, text: &Text, range: Range<usize>, path: &str) {
        // A specifier such as `%t` is a path itself.
        if path.starts_with(['/', '%']) {
            return;
        }
        let quoted = path.len() > 1 && path.starts_with(['"', '\'']);
        let label = if quoted {
            "`Key=` takes quotes as a part of the path; remove them".replace("Key", self.key)
        } else {
            "it must begin with `/`".into()
        };
        let span = text.mark(range);
        self.error("relative-path", format!("`{path}` is no absolute path"), span, label);
    }

    pub fn paths(&mut self, value: Value, text: &Text) {
        if !self.specifiers(text) {
            return;
        }
        if value == Value::SearchPath {
            let mut start = 0;
            for path in text.as_str().split(':') {
                if !path.is_empty() {
                    self.absolute(text, start..start + path.len(), path);
                }
                start += path.len() + 1;
            }
            return;
        }
        for word in self.words(text) {
            let path = word.text.strip_prefix('-').unwrap_or(&word.text);
            let path = path.strip_prefix('+').unwrap_or(path);
            if value == Value::Paths {
                self.absolute(text, word.range, path);
                continue;
            }
            for path in path.split(':').take(2).filter(|path| !path.is_empty()) {
                self.absolute(text, word.range.clone(), path);
            }
        }
    }

    pub fn directories(&mut self, text: &Text) {
        if !self.specifiers(text) {
            return;
        }
        for word in self.words(text) {
            let path = word.text.split(':').next().unwrap_or_default();
            if path.starts_with('/') {
                let span = text.mark(word.range);
                self.error(
                    "bad-value",
                    format!("`{path}` is absolute"),
                    span,
                    format!("`{}=` names a folder below its own place", self.key),
                );
            } else if path.split('/').any(|part| part == "..") {
                self.bad(
                    text,
                    word.range,
                    format!("`{path}` leads out of its place"),
                    "`..` can't stand in it",
                );
            }
        }
    }

    /// A unit's name, which may hold specifiers.
    pub fn unit_name(&mut self, text: &Text, range: Range<usize>, kind: Option<Kind>) {
        if !self.specifiers(text) {
            return;
        }
        let name = &text.as_str()[range.clone()];
        if name.starts_with('%') {
            return;
        }
        let span = text.mark(range);
        match UnitName::parse(&without_specifiers(name)) {
            Ok(parsed) => {
                let is = parsed.kind();
                if is.is_network() {
                    self.error(
                        "bad-unit-name",
                        format!("`{name}` is no unit of systemd's own"),
                        span,
                        "networkd or udev reads it",
                    );
                } else if let Some(kind) = kind.filter(|kind| *kind != is) {
                    let label = format!("`{}=` takes a {} unit", self.key, kind.suffix());
                    self.error("bad-unit-name", format!("`{name}` is a {} unit", is.suffix()), span, label);
                }
            }
            Err(why) => {
                let label = match name.rsplit_once('.') {
                    None => format!("did you mean `{name}.{}`?", kind.map_or("service", Kind::suffix)),
                    Some((stem, suffix)) => suggest(suffix, Kind::suffixes())
                        .filter(|near| *near != suffix)
                        .map(|near| format!("did you mean `{stem}.{near}`?"))
                        .unwrap_or_default(),
                };
                let label = if name.ends_with(',') {
                    "names have spaces between them, no commas".into()
                } else {
                    label
                };
                self.error("bad-unit-name", format!("`{name}` is no name of a unit: {why}"), span, label);
            }
        }
    }
}

/// A name with a letter for each specifier.
fn without_specifiers(name: &str) -> String {
    let mut plain = String::new();
    let mut chars = name.chars();
    while let Some(c) = chars.next() {
        if c == '%' {
            chars.next();
            plain.push('x');
        } else {
            plain.push(c);
        }
    }
    plain
}
