//! Services of ours as YAML.

use std::fmt::Write as _;

/// A value of a service's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, written so that it is read as a text.
    Text(String),
    /// A number, boolean, size or duration, as it stands.
    Plain(String),
    /// A list.
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
    pub fn texts(texts: impl IntoIterator<Item = String>) -> Self {
        Self::List(texts.into_iter().map(Self::Text).collect())
    }
}

/// A document with one key.
pub fn document(key: &str, value: &Value) -> String {
    let mut text = format!("{key}:");
    write(&mut text, value, 1);
    text
}

fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Map(entries) if entries.is_empty() => text.push_str(" {}\n"),
        Value::List(items) if items.is_empty() => text.push_str(" []\n"),
        Value::Map(entries) => {
            text.push('\n');
            for (key, value) in entries {
                let _ = write!(text, "{}{}:", "  ".repeat(depth), scalar(key));
                write(text, value, depth + 1);
            }
        }
        Value::List(items) => {
            text.push('\n');
            for item in items {
                let _ = write!(text, "{}-", "  ".repeat(depth));
                match item {
                    Value::Map(entries) => {
                        let inline: Vec<String> = entries
                            .iter()
                            .map(|(key, value)| format!("{}: {}", scalar(key), flow(value)))
                            .collect();
                        let _ = writeln!(text, " {{{}}}", inline.join(", "));
                    }
                    other => {
                        let _ = writeln!(text, " {}", flow(other));
                    }
                }
            }
        }
        Value::Text(_) | Value::Plain(_) => {
            let _ = writeln!(text, " {}", flow(value));
        }
    }
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

/// A text as a scalar: plain where that can mean nothing else, or else as a JSON string, which YAML reads.
fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./@+".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
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
        let leaf = "[ -~äß\\n\\t]{0,12}".prop_map(Value::Text);
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
            let text = document("web", &value);
            let mut problems = Vec::new();
            let root = yaml::parse(&SourceFile::new("a.yaml", text.clone()), &mut problems);
            prop_assert!(problems.is_empty(), "{text}");
            let root = root.expect("YAML");
            prop_assert_eq!(read(root.get("web").expect("the key")), value, "{}", text);
        }
    }
}
