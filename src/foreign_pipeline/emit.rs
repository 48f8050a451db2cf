//! Values as YAML that reads as if a person had written it.

use std::fmt::Write as _;

/// A value of a pipeline's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, written so that it is read as a text.
    Text(String),
    /// A number, a boolean or a duration, as it stands.
    Plain(String),
    /// A list, written in one line.
    List(Vec<Value>),
    /// A mapping, in the order written.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// What needs no quotes.
    pub fn plain(text: impl ToString) -> Self {
        Self::Plain(text.to_string())
    }

    /// A list of texts.
    pub fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::List(texts.into_iter().map(Self::text).collect())
    }

    /// A mapping to texts. Of two values of one key, the last counts.
    pub fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut entries: Vec<(String, Self)> = Vec::new();
        for (key, value) in pairs {
            match entries.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = Self::Text(value),
                None => entries.push((key, Self::Text(value))),
            }
        }
        Self::Map(entries)
    }
}

/// The entry of a mapping at `depth` steps of indentation, with its line end.
pub fn entry(text: &mut String, depth: usize, key: &str, value: &Value) {
    // YAML 1.2 reads `on` as a text, and pipelines have it as a key.
    let key = if key == "on" { key.to_owned() } else { scalar(key) };
    let _ = write!(text, "{}{key}:", "  ".repeat(depth));
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            text.push('\n');
            entries.iter().for_each(|(key, value)| entry(text, depth + 1, key, value));
        }
        Value::Text(lines) if lines.contains('\n') && is_block(lines) => {
            text.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
            for line in lines.strip_suffix('\n').unwrap_or(lines).split('\n') {
                match line {
                    "" => text.push('\n'),
                    line => {
                        let _ = writeln!(text, "{}{line}", "  ".repeat(depth + 1));
                    }
                }
            }
        }
        _ => {
            let _ = writeln!(text, " {}", flow(value));
        }
    }
}

/// Whether a text of several lines survives as a block with one line end, or none, at its end.
fn is_block(text: &str) -> bool {
    let control = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{feff}')
    };
    !text.starts_with([' ', '\t', '\n']) && !text.ends_with("\n\n") && !text.contains(control)
}

/// A value in one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Plain(text) => text.clone(),
        Value::Text(text) => scalar(text),
        Value::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Map(entries) => {
            let inner: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{{}}}", inner.join(", "))
        }
    }
}

/// A text as a scalar: plain where that can mean nothing else, in single quotes where it has others, or else as a JSON
/// string, which YAML reads.
fn scalar(text: &str) -> String {
    let colon =
        |(at, _): (usize, &str)| text[at + 1..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./@+=: ".contains(c))
        && !text.ends_with(' ')
        && text.match_indices(':').all(colon)
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    let odd = |c: char| c == '\'' || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    match text.contains(['"', '\\']) && !text.contains(odd) {
        _ if plain => text.to_owned(),
        true => format!("'{text}'"),
        false => serde_json::Value::from(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::SourceFile;
    use crate::yaml::{self, Kind, Node};

    fn read(node: &Node) -> Value {
        match &node.kind {
            Kind::Scalar { text, .. } => Value::Text(text.clone()),
            Kind::Sequence(items) => Value::List(items.iter().map(read).collect()),
            Kind::Mapping(entries) => Value::Map(
                entries
                    .iter()
                    .map(|(key, value)| (key.text().unwrap_or_default().to_owned(), read(value)))
                    .collect(),
            ),
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof!["[ -~äß\\n\\t]{0,20}", "([a-z #:'-]{0,9}\\n){1,4}"].prop_map(Value::Text);
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                proptest::collection::btree_map("[ -~]{1,8}", inner, 0..4)
                    .prop_map(|map| Value::Map(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in value()) {
            let mut text = String::new();
            entry(&mut text, 0, "web", &value);
            let mut problems = Vec::new();
            let root = yaml::parse(&SourceFile::new("a.yaml", text.clone()), &mut problems);
            prop_assert!(problems.is_empty(), "{text}");
            let root = root.expect("YAML");
            prop_assert_eq!(read(root.get("web").expect("the key")), value, "{}", text);
        }
    }
}
