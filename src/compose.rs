//! Compose files and fig.yml of 2014, converted to services of ours.
//!
//! Keys are those of the Compose Specification (compose-spec, `spec.md`), and of Fig 1.0 and Compose's file
//! format 1 where a file has no `services`. Pure: files that a Compose file names are given by the caller.
//! Whatever has no counterpart is listed with its place, so that nothing is lost silently.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{self, Node, Scalar};

mod emit;
mod service;
mod words;

use emit::Value;

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Converted {
    /// Files of the repository, by path.
    pub files: BTreeMap<String, String>,
    /// Whatever has no counterpart or needs a decision, in the order of the file.
    pub notes: Vec<Note>,
    /// The secrets to set, and the file that holds each value, where the Compose file names one.
    pub secrets: BTreeMap<String, Option<String>>,
    /// Folders of machines that are mounted.
    pub host_paths: BTreeSet<String>,
}

/// Something that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The line it is about, from 1.
    pub line: usize,
    /// What it is about, such as `services.web.privileged`.
    pub key: String,
    /// What to know or to do.
    pub text: String,
}

/// Reads files beside the Compose file: the text of a file, or `None` where it is no text file.
pub type Beside<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Converts a Compose file to files of a repository of `project`.
///
/// # Errors
/// When it is no YAML, or no Compose file.
pub fn convert(
    file: &Arc<SourceFile>,
    project: &str,
    beside: Beside<'_>,
) -> Result<Converted, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let Some(root) = yaml::parse(file, &mut problems) else { return Err(problems) };
    if problems.iter().any(Diagnostic::is_error) {
        return Err(problems);
    }
    // Before there was `services`, every key was a service.
    let (services, extra) = match root.get("services") {
        Some(services) => (services.clone(), Some(&root)),
        None => (root.clone(), None),
    };
    let is_service = |node: &Node| node.get("image").is_some() || node.get("build").is_some();
    let entries = services.entries().unwrap_or_default();
    if entries.is_empty() || !entries.iter().any(|(_, value)| is_service(value) || extra.is_some()) {
        let diagnostic = Diagnostic::error("not-compose", format!("{} is not a Compose file", file.name()));
        let diagnostic = diagnostic.at(file, Span::new(0, 0), "");
        return Err(vec![
            diagnostic.help("it needs `services`, or, as a fig.yml, services with `image` or `build`"),
        ]);
    }
    let mut converter =
        Converter { file, project, beside, root: extra, done: Converted::default(), names: BTreeMap::new() };
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        let taken = |ours: &String| converter.names.values().any(|known| known == ours);
        // Two names may be alike once they are written with the characters that names have here.
        let candidates =
            std::iter::once(words::name(name)).chain((2..).map(|n| words::name(&format!("{name}-{n}"))));
        let ours = candidates.into_iter().find(|ours| !taken(ours)).unwrap_or_default();
        if ours != name {
            let note = format!("named `{ours}`: names have a-z, 0-9 and `-`");
            converter.note(key, &format!("services.{name}"), note);
        }
        converter.names.insert(name.to_owned(), ours);
    }
    for (key, value) in entries {
        converter.service(key, value);
    }
    if let Some(root) = extra {
        converter.top(root);
    }
    converter.done.notes.sort();
    converter.done.notes.dedup();
    Ok(converter.done)
}

/// The state of a conversion.
struct Converter<'a> {
    file: &'a Arc<SourceFile>,
    project: &'a str,
    beside: Beside<'a>,
    /// The document, unless its keys are services.
    root: Option<&'a Node>,
    done: Converted,
    /// The names of services, and what they are called here.
    names: BTreeMap<String, String>,
}

impl Converter<'_> {
    fn note(&mut self, node: &Node, key: &str, text: impl Into<String>) {
        let line = self.file.position(node.span.start).line;
        self.done.notes.push(Note { line, key: key.to_owned(), text: text.into() });
    }

    /// A text with the variables of Compose filled in as far as they have a default.
    fn text(&mut self, node: &Node, key: &str) -> String {
        let raw = node.text().unwrap_or_default();
        let (text, open) = words::interpolated(raw);
        for name in open {
            self.note(
                node,
                key,
                format!("Compose would fill in `${{{name}}}` from the shell's environment; write the value"),
            );
        }
        text
    }

    /// The keys of the document beside its services.
    fn top(&mut self, root: &Node) {
        for (key, value) in root.entries().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            match name {
                "services" | "version" | "volumes" | "secrets" | "configs" => {}
                "name" => {}
                "networks" => {
                    let count = value.entries().unwrap_or_default().len();
                    if count > 1 {
                        self.note(
                            key,
                            "networks",
                            "all services of an environment share one network and reach each other by name; \
                             separate networks have no counterpart",
                        );
                    }
                }
                "include" => self.note(key, "include", "included files are not read: import each of them"),
                _ if name.starts_with("x-") => {}
                _ => self.note(key, name, "has no counterpart"),
            }
        }
    }

    /// An entry of one of the document's sections.
    fn section(&self, section: &str, name: &str) -> Option<Node> {
        self.root?.get(section)?.get(name).cloned()
    }

    fn service(&mut self, key: &Node, node: &Node) {
        let name = key.text().unwrap_or_default().to_owned();
        let ours = self.names.get(&name).cloned().unwrap_or_else(|| words::name(&name));
        let fields = service::convert(self, key, node, &name, &ours);
        let text = emit::document(&ours, &Value::Map(fields));
        self.done.files.insert(format!("services/{ours}.yaml"), text);
    }
}

/// Whether a scalar is one of Compose's ways to say yes.
fn is_true(node: &Node) -> bool {
    matches!(node.scalar(), Some(Scalar::Bool(true))) || node.text() == Some("true")
}

#[cfg(test)]
mod tests;
