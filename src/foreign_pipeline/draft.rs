//! A pipeline of ours before it is written.

use super::Names;
use super::emit::{Value, entry};
use crate::model::image::is_repository;

/// A pipeline of ours.
#[derive(Debug, Default)]
pub struct Draft {
    /// `on`; `None` where it is left out.
    pub on: Option<Vec<(String, Value)>>,
    /// `paths`.
    pub paths: Vec<String>,
    /// `parameters`.
    pub parameters: Vec<(String, Value)>,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// `run`, `build` or `approve`.
    pub kind: &'static str,
    /// Its keys.
    pub fields: Vec<(String, Value)>,
    /// Why it is written as a comment, if it is.
    pub off: Option<String>,
}

impl Step {
    /// A step that is written.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, fields: Vec::new(), off: None }
    }

    /// Sets a key.
    pub fn set(&mut self, key: &str, value: Value) {
        self.fields.push((key.to_owned(), value));
    }

    /// Whether it runs after a failure alone.
    pub fn is_for_failure(&self) -> bool {
        let result = |value: &Value| *value == Value::text("failure");
        self.fields.iter().filter(|(key, _)| key == "when").any(|(_, when)| match when {
            Value::Map(entries) => entries.iter().any(|(key, value)| key == "result" && result(value)),
            when => result(when),
        })
    }

    /// Whether it runs after success alone.
    pub fn is_for_success(&self) -> bool {
        let result = |value: &Value| [Value::text("failure"), Value::text("always")].contains(value);
        !self.fields.iter().filter(|(key, _)| key == "when").any(|(_, when)| match when {
            Value::Map(entries) => entries.iter().any(|(key, value)| key == "result" && result(value)),
            when => result(when),
        })
    }

    /// What of it no pipeline of ours may have, if anything: a name, a path or a reference.
    pub fn flaw(&self) -> Option<String> {
        self.fields.iter().find_map(|(key, value)| flaw(self.kind, key, value)).or_else(|| {
            let names = |key: &str| {
                let value = self.fields.iter().find(|(known, _)| known == key).map(|(_, value)| value);
                let entries = match value {
                    Some(Value::Map(entries)) => entries.as_slice(),
                    _ => &[],
                };
                entries.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
            };
            let (env, secrets) = (names("env"), names("secrets"));
            let both = env.iter().find(|name| secrets.contains(name));
            both.map(|name| format!("`{name}` is a variable and a secret"))
        })
    }

    /// Makes it a comment. The first reason stays.
    pub fn off(&mut self, why: impl Into<String>) {
        self.off.get_or_insert_with(|| why.into());
    }
}

fn flaw(kind: &str, key: &str, value: &Value) -> Option<String> {
    let word = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let inside = |path: &str| !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    let stage =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let matrix =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    let own = match (key, value) {
        ("env" | "args" | "secrets", Value::Map(entries)) => {
            let bad = entries.iter().find(|(name, _)| !word(name));
            bad.map(|(name, _)| format!("`{name}` is not the name of a variable"))
        }
        ("matrix", Value::Map(entries)) => entries.iter().find_map(|(name, values)| match values {
            Value::List(values) if matrix(name) && !values.is_empty() => None,
            _ => Some(format!("`{name}` of its matrix")),
        }),
        ("services", Value::Map(services)) => services.iter().find_map(|(_, service)| match service {
            Value::Map(fields) => fields.iter().find_map(|(key, value)| flaw("service", key, value)),
            _ => None,
        }),
        ("context" | "dockerfile", Value::Text(path)) if !inside(path) || path.is_empty() => {
            Some(format!("`{path}` is not a path in the repository"))
        }
        ("target", Value::Text(name)) if !stage(name) => Some(format!("`{name}` is not the name of a stage")),
        ("image", Value::Text(image)) if kind == "build" && !is_repository(image) => {
            Some(format!("`{image}` is not the name of an image"))
        }
        ("name", Value::Text(name)) if name.is_empty() => Some("its name is empty".to_owned()),
        ("command", Value::Text(text)) if text.trim().is_empty() => Some("it has no command".to_owned()),
        ("command", Value::List(words)) if matches!(words.first(), None | Some(Value::Text(_))) => {
            let empty = match words.first() {
                Some(Value::Text(first)) => first.is_empty(),
                _ => true,
            };
            empty.then(|| "its command is empty".to_owned())
        }
        _ => None,
    };
    own.or_else(|| reference(value))
}

/// A text that is a reference here: a name, a dot and a name in `${}`.
fn reference(value: &Value) -> Option<String> {
    match value {
        Value::Plain(_) => None,
        Value::List(values) => values.iter().find_map(reference),
        Value::Map(entries) => entries.iter().find_map(|(_, value)| reference(value)),
        Value::Text(text) => text.match_indices("${").find_map(|(at, _)| {
            let inner = text[at + 2..].split('}').next().unwrap_or_default();
            let is_reference = inner.contains(['.', ':'])
                && !inner.starts_with("matrix.")
                && (inner.starts_with("ssm:")
                    || inner.split_once('.').is_some_and(|(name, _)| {
                        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                    }));
            is_reference.then(|| format!("`${{{inner}}}` is a reference here"))
        }),
    }
}

impl Draft {
    /// The file. Where no step can be used as it is, all of it is a comment.
    pub fn text(&self, names: &Names) -> String {
        let mut text = format!("{}:\n", names.pipeline);
        entry(&mut text, 1, "repository", &Value::text(&names.repository));
        if let Some(on) = &self.on {
            entry(&mut text, 1, "on", &Value::Map(on.clone()));
        }
        if !self.paths.is_empty() {
            entry(&mut text, 1, "paths", &Value::texts(self.paths.iter().cloned()));
        }
        if !self.parameters.is_empty() {
            entry(&mut text, 1, "parameters", &Value::Map(self.parameters.clone()));
        }
        text.push_str("  steps:\n");
        let none = self.steps.iter().all(|step| step.off.is_some());
        for step in &self.steps {
            let mut body = String::new();
            entry(&mut body, 3, step.kind, &Value::Map(step.fields.clone()));
            let body = body.replacen("      ", "    - ", 1);
            match &step.off {
                None => text.push_str(&body),
                Some(why) => {
                    text.push_str(&format!("    # not converted: {why}\n"));
                    match () {
                        () if step.fields.is_empty() => {}
                        () if none => text.push_str(&body),
                        () => text.push_str(&commented(&body, "    ")),
                    }
                }
            }
        }
        if none { commented(&text, "") } else { text }
    }
}

/// Every line as a comment after `indent`, which it begins with.
fn commented(text: &str, indent: &str) -> String {
    let comment = |line: &str| {
        let line = format!("{indent}# {}", line.strip_prefix(indent).unwrap_or(line));
        format!("{}\n", line.trim_end())
    };
    text.lines().map(comment).collect()
}
