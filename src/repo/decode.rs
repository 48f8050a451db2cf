//! From YAML trees to values, collecting every problem instead of stopping at the first.
//!
//! A decoding function returns `None` only when there is nothing to go on with; the
//! problem has been written down then. Callers go on with the next field.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::model::duration::parse as duration;
use crate::model::name::BadName;
use crate::model::setting::Place;
use crate::source::{Diagnostic, SourceFile, Span, suggest};
use crate::yaml::{Node, Scalar, first_line};

/// Reads values of one file.
pub struct Reader<'r> {
    /// The file.
    pub file: &'r Arc<SourceFile>,
    /// Where problems go.
    pub problems: &'r mut Vec<Diagnostic>,
}

/// A mapping whose keys were checked.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'n> {
    node: &'n Node,
    /// What it describes, such as "a service".
    what: &'static str,
    /// Where to point when something is missing.
    place: Span,
}

impl<'n> Fields<'n> {
    /// The value of `key`; a key without a value counts as absent.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.node.get(key).filter(|value| value.scalar() != Some(Scalar::Null))
    }
}

impl Reader<'_> {
    /// Writes down a problem at `span`.
    pub fn problem(&mut self, diagnostic: Diagnostic, span: Span, text: impl Into<String>) {
        let span = first_line(self.file, span);
        self.problems.push(diagnostic.at(self.file, span, text));
    }

    /// The place of `node`.
    pub fn place(&self, node: &Node) -> Place {
        Place::new(self.file, first_line(self.file, node.span))
    }

    /// `node` as a mapping with no keys but `keys`. `what` it describes has its article;
    /// `place` is where to point when keys are missing.
    pub fn fields<'n>(
        &mut self,
        node: &'n Node,
        place: Span,
        what: &'static str,
        keys: &[&'static str],
    ) -> Option<Fields<'n>> {
        let Some(entries) = node.entries() else {
            self.wrong_type(
                node,
                &format!("{what} must be a mapping"),
                &format!("its keys are {}", list(keys)),
            );
            return None;
        };
        for (key, _) in entries {
            let name = key.text().unwrap_or_default();
            if keys.contains(&name) {
                continue;
            }
            let diagnostic = Diagnostic::error("unknown-key", format!("`{name}` is not a key of {what}"));
            match suggest(name, keys.iter().copied()) {
                Some(near) => self.problem(diagnostic, key.span, format!("did you mean `{near}`?")),
                None => {
                    let diagnostic = diagnostic.help(format!("the keys of {what} are {}", list(keys)));
                    self.problem(diagnostic, key.span, "unknown key");
                }
            }
        }
        Some(Fields { node, what, place })
    }

    /// The value of a key that must be there.
    pub fn required<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<&'n Node> {
        let found = fields.get(key);
        if found.is_none() {
            let place = fields.node.entry(key).map_or(fields.place, |(key, _)| key.span);
            let diagnostic =
                Diagnostic::error("missing-key", format!("{} needs the key `{key}`", fields.what));
            self.problem(diagnostic, place, format!("`{key}` is missing"));
        }
        found
    }

    /// The entries of a mapping from names that people choose.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> &'n [(Node, Node)] {
        match node.entries() {
            Some(entries) => entries,
            None => {
                self.wrong_type(node, &format!("{what} must be a mapping"), "");
                &[]
            }
        }
    }

    /// The items of a list.
    pub fn items<'n>(&mut self, node: &'n Node, what: &str) -> &'n [Node] {
        match node.items() {
            Some(items) => items,
            None => {
                self.wrong_type(node, &format!("{what} must be a list"), "");
                &[]
            }
        }
    }

    /// A name of some kind.
    pub fn name<T: FromStr<Err = BadName>>(&mut self, node: &Node) -> Option<T> {
        let Some(text) = node.text() else {
            self.wrong_type(node, "a name must be a text", "");
            return None;
        };
        match text.parse() {
            Ok(name) => Some(name),
            Err(bad) => {
                let diagnostic = Diagnostic::error("bad-name", format!("`{}` is not {}", bad.text, bad.what));
                self.problem(diagnostic.help(bad.rule), node.span, "");
                None
            }
        }
    }

    /// A text; numbers and booleans count as the text they are written as.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match node.scalar() {
            Some(Scalar::Null) | None => {
                let brace = self.file.slice(node.span).starts_with(['{', '[']);
                let help = if brace { "a text that starts with a bracket needs quotes" } else { "" };
                self.wrong_type(node, &format!("{what} must be a text"), help);
                None
            }
            Some(_) => node.text(),
        }
    }

    /// A boolean.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        match node.scalar() {
            Some(Scalar::Bool(value)) => Some(value),
            Some(Scalar::Text(text)) => {
                let help = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "y" | "true" => "write `true`, without quotes",
                    "no" | "off" | "n" | "false" => "write `false`, without quotes",
                    _ => "write `true` or `false`",
                };
                self.wrong_type(node, &format!("{what} must be `true` or `false`"), help);
                None
            }
            _ => {
                self.wrong_type(node, &format!("{what} must be `true` or `false`"), "");
                None
            }
        }
    }

    /// A whole number from `least` to `most`.
    pub fn integer<T: TryFrom<i64>>(&mut self, node: &Node, what: &str, least: i64, most: i64) -> Option<T> {
        match node.scalar() {
            Some(Scalar::Integer(number)) if (least..=most).contains(&number) => T::try_from(number).ok(),
            Some(Scalar::Integer(number)) => {
                let diagnostic = Diagnostic::error(
                    "out-of-range",
                    format!("{what} must be from {least} to {most}, but is {number}"),
                );
                self.problem(diagnostic, node.span, "");
                None
            }
            _ => {
                self.wrong_type(node, &format!("{what} must be a whole number"), "");
                None
            }
        }
    }

    /// A time such as `500ms`, `5s` or `2m`.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let text = self.text(node, what)?;
        let duration = duration(text);
        if duration.is_none() {
            let diagnostic = Diagnostic::error("bad-duration", format!("`{text}` is not a duration"));
            let text = if node.scalar().is_some_and(|scalar| matches!(scalar, Scalar::Integer(_))) {
                format!("`{text}s`, `{text}ms` or `{text}m`?")
            } else {
                "for example `500ms`, `5s`, `2m`, `1h`".to_owned()
            };
            self.problem(diagnostic, node.span, text);
        }
        duration
    }

    /// A size such as `64MiB`, in bytes.
    pub fn size(&mut self, node: &Node, what: &str) -> Option<u64> {
        let text = self.text(node, what)?;
        let size = size(text);
        if size.is_none() {
            let diagnostic = Diagnostic::error("bad-size", format!("`{text}` is not a size"));
            let near = ["KiB", "MiB", "GiB"].into_iter().find(|unit| {
                let end = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim_start();
                end.eq_ignore_ascii_case(unit)
                    || end.eq_ignore_ascii_case(&unit[..1])
                    || end.eq_ignore_ascii_case(&format!("{}B", &unit[..1]))
            });
            let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
            let text = match near {
                Some(unit) if size_number(digits) => format!("did you mean `{digits}{unit}`?"),
                _ => "for example `512KiB`, `64MiB`, `1GiB`".to_owned(),
            };
            self.problem(diagnostic, node.span, text);
        }
        size
    }

    /// A mapping from names to texts.
    pub fn texts(&mut self, node: &Node, what: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, value) in self.entries(node, what) {
            let Some(name) = key.text() else { continue };
            if let Some(text) = self.text(value, &format!("`{name}`")) {
                texts.insert(name.to_owned(), text.to_owned());
            }
        }
        texts
    }

    /// Says that `node` is of the wrong type; `rule` says what it must be.
    pub fn wrong_type(&mut self, node: &Node, rule: &str, help: &str) {
        let mut diagnostic = Diagnostic::error("wrong-type", format!("{rule}, but this is {}", node.what()));
        if !help.is_empty() {
            diagnostic = diagnostic.help(help);
        }
        self.problem(diagnostic, node.span, format!("this is {}", node.what()));
    }
}

/// `a`, `b` and `c` in backticks.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| format!("`{}`", item.as_ref())).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn size_number(text: &str) -> bool {
    text.parse::<u64>().is_ok()
}

fn size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Some(Duration::from_secs(120)));
        assert_eq!(size("64MiB"), Some(64 << 20));
        for bad in ["", "5", "s", "5 s", "5sec", "-5s", "99999999999999999999s", "18446744073709551615h", "ä"]
        {
            assert_eq!(duration(bad), None, "{bad}");
            assert_eq!(size(bad), None, "{bad}");
        }
    }
}
