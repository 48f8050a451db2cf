//! Values of a document, and the many ways of writing them.

use std::fmt::Write as _;

use proptest::prelude::*;

/// A value of a document.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text.
    Text(String),
    /// A boolean.
    Flag(bool),
    /// A whole number.
    Number(u32),
    /// A list.
    List(Vec<Value>),
    /// A mapping.
    Map(Vec<(&'static str, Value)>),
}

/// How a document is written: a stream of choices.
#[derive(Debug, Clone)]
pub struct Style {
    choices: Vec<u8>,
    at: std::cell::Cell<usize>,
}

/// Any style.
pub fn style() -> impl Strategy<Value = Style> {
    proptest::collection::vec(any::<u8>(), 8..64)
        .prop_map(|choices| Style { choices, at: std::cell::Cell::new(0) })
}

impl Style {
    fn choose(&self, among: usize) -> usize {
        let at = self.at.get();
        self.at.set(at + 1);
        usize::from(self.choices[at % self.choices.len()]) % among
    }

    /// Writes the document, the keys of its root in an order of the style's own.
    pub fn document(&self, mut root: Vec<(&'static str, Value)>) -> String {
        let turn = self.choose(root.len());
        root.rotate_left(turn);
        let mut out = String::from("#cloud-config\n");
        if self.choose(4) == 0 {
            out.push_str("# A comment.\n\n");
        }
        for (key, value) in &root {
            out.push_str(key);
            out.push(':');
            self.value(value, 0, &mut out);
        }
        out
    }

    /// What stands behind a key or a dash, with the end of the line.
    fn value(&self, value: &Value, indent: usize, out: &mut String) {
        let flow = self.choose(5) == 0;
        let step = 2 + self.choose(2);
        match value {
            Value::List(items) if items.is_empty() || flow => self.flow_line(value, out),
            Value::Map(entries) if entries.is_empty() || flow => self.flow_line(value, out),
            Value::List(items) => {
                out.push('\n');
                for item in items {
                    let _ = write!(out, "{:indent$}-", "", indent = indent + step);
                    self.value(item, indent + step, out);
                }
            }
            Value::Map(entries) => {
                out.push('\n');
                for (key, value) in entries {
                    let _ = write!(out, "{:indent$}{key}:", "", indent = indent + step);
                    self.value(value, indent + step, out);
                }
            }
            Value::Text(text) if text.contains('\n') && self.choose(2) == 0 && is_block(text) => {
                let end = if text.ends_with("\n\n") {
                    "+"
                } else if text.ends_with('\n') {
                    ""
                } else {
                    "-"
                };
                let _ = writeln!(out, " |2{end}");
                for line in text.split_inclusive('\n') {
                    let line = line.strip_suffix('\n').unwrap_or(line);
                    let _ = writeln!(
                        out,
                        "{:indent$}{line}",
                        "",
                        indent = if line.is_empty() { 0 } else { indent + 2 }
                    );
                }
            }
            Value::Text(_) | Value::Flag(_) | Value::Number(_) => self.flow_line(value, out),
        }
    }

    fn flow_line(&self, value: &Value, out: &mut String) {
        out.push(' ');
        self.flow(value, out);
        if self.choose(8) == 0 {
            out.push_str(" # why");
        }
        out.push('\n');
    }

    fn flow(&self, value: &Value, out: &mut String) {
        match value {
            Value::Text(text) => self.text(text, out),
            Value::Flag(flag) => {
                let words =
                    if *flag { ["true", "True", "yes", "on"] } else { ["false", "False", "no", "off"] };
                // yaml.v3 takes the first two only.
                out.push_str(words[self.choose(2)]);
            }
            Value::Number(number) => {
                let _ = write!(out, "{number}");
            }
            Value::List(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    self.flow(item, out);
                }
                out.push(']');
            }
            Value::Map(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(key);
                    out.push_str(": ");
                    self.flow(value, out);
                }
                out.push('}');
            }
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        let plain = !text.is_empty()
            && text.chars().all(|c| c.is_ascii_lowercase() || "/.".contains(c))
            && text.starts_with(|c: char| c.is_ascii_lowercase() || c == '/')
            && !["on", "off", "yes", "no", "y", "n", "true", "false", "null"].contains(&text);
        match self.choose(3) {
            0 if plain => out.push_str(text),
            1 if !text.contains(['\n', '\t']) => {
                let _ = write!(out, "'{}'", text.replace('\'', "''"));
            }
            _ => {
                out.push('"');
                for c in text.chars() {
                    match c {
                        '"' | '\\' => {
                            out.push('\\');
                            out.push(c);
                        }
                        '\n' => out.push_str("\\n"),
                        '\t' => out.push_str("\\t"),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
        }
    }
}

/// Whether a text can stand below `|` as it is, for every reader.
fn is_block(text: &str) -> bool {
    !text.trim_matches('\n').is_empty() && !text.lines().any(|line| line.starts_with('\t'))
}
