//! Pipelines of other systems, converted to a file for `pipelines/`: Woodpecker's workflows and declarative
//! Jenkinsfiles.
//!
//! Pure. A step that would not do the same is written as a comment, and whatever has no exact equivalent is a
//! [`Note`] with its place. Formats are those of Woodpecker 3 ("Workflow syntax") and of Jenkins ("Pipeline
//! Syntax"). This module does not know our model: what it writes is checked as any other file.

use std::sync::Arc;

use crate::model;
use crate::source::{Diagnostic, SourceFile, Span};

mod draft;
mod emit;
mod jenkins;
mod shell;
mod woodpecker;

/// The result of a conversion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The file for `pipelines/`.
    pub text: String,
    /// Whatever has no exact equivalent or needs a decision, in the order of the file.
    pub notes: Vec<Note>,
}

/// Something that a person has to know or to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Note {
    /// The line it is about, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// What it is.
    pub message: String,
    /// What to do.
    pub next: String,
}

/// What the file does not say itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// The pipeline's name.
    pub pipeline: String,
    /// The repository's name, as in `fleetwright.yaml`.
    pub repository: String,
    /// The image of steps that name none; `None` where they become comments.
    pub image: Option<String>,
}

impl Names {
    /// The parameter that holds a secret of the foreign system.
    fn parameter(&self, secret: &str) -> String {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '-' };
        format!("/{}/{}", self.repository, secret.chars().map(legal).collect::<String>())
    }
}

/// A name of ours that is like `text`: `a-z`, `0-9` and `-`, at most 40, beginning with a letter.
pub fn name_like(text: &str) -> String {
    let lower = text.to_lowercase();
    let legal = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let clean: String = lower.chars().map(legal).collect();
    let clean = clean.trim_matches('-');
    let clean = match clean.chars().next() {
        None => "pipeline".to_owned(),
        Some(first) if first.is_ascii_lowercase() => clean.to_owned(),
        Some(_) => format!("p-{clean}"),
    };
    clean.chars().take(40).collect::<String>().trim_end_matches('-').to_owned()
}

/// An image with a tag: without one and without a registry's host it would be one of the environment's own, so it gets
/// the tag that every engine pulls. `None` when it is not the name of an image; what `${matrix.NAME}` stands for counts
/// as if it were.
fn tagged(image: &str) -> Option<String> {
    let (name, version) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let colon = name.rfind(':').filter(|at| !name[*at..].contains('/'));
    let bare = colon.map_or(name, |at| &name[..at]);
    let host =
        bare.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    let checked = if host { bare.split_once('/').map_or("", |(_, rest)| rest) } else { bare };
    let mut rest = checked.to_owned();
    while let Some((before, after)) = rest.split_once("${matrix.") {
        rest = format!("{before}x{}", after.split_once('}').map_or("", |(_, after)| after));
    }
    let tag = colon.map(|at| &name[at + 1..]);
    let is_tag = |tag: &str| tag.contains("${matrix.") || model::image::is_tag(tag);
    if !model::image::is_repository(&rest) || !tag.is_none_or(is_tag) {
        return None;
    }
    Some(if version || colon.is_some() || host { image.to_owned() } else { format!("{image}:latest") })
}

/// Converts a file: one that ends with `.yml` or `.yaml` is Woodpecker's, any other is a Jenkinsfile.
///
/// # Errors
/// When it can't be parsed, or is no such pipeline.
pub fn convert(file: &Arc<SourceFile>, names: &Names) -> Result<Converted, Vec<Diagnostic>> {
    let is_yaml = file.name().ends_with(".yml") || file.name().ends_with(".yaml");
    let mut notes = Notes { file, all: Vec::new() };
    let draft = match is_yaml {
        true => woodpecker::convert(file, names, &mut notes)?,
        false => jenkins::convert(file, names, &mut notes)?,
    };
    let text = draft.text(names);
    let mut notes = notes.all;
    notes.sort();
    notes.dedup();
    Ok(Converted { text, notes })
}

/// The notes of a conversion.
struct Notes<'a> {
    file: &'a Arc<SourceFile>,
    all: Vec<Note>,
}

impl Notes<'_> {
    fn add(&mut self, span: Span, message: impl Into<String>, next: impl Into<String>) {
        let at = self.file.position(span.start);
        self.all.push(Note { line: at.line, column: at.column, message: message.into(), next: next.into() });
    }

    /// Makes a step that may not be as it is a comment.
    fn check(&mut self, step: &mut draft::Step, span: Span) {
        if let Some(flaw) = step.flaw().filter(|_| step.off.is_none()) {
            self.add(
                span,
                format!("the step can't be written as it is: {flaw}"),
                "change it, then remove the comment",
            );
            step.off(flaw);
        }
    }

    /// The place of `text` within `span`, or else `span`.
    fn place(&self, span: Span, text: &str) -> Span {
        match self.file.slice(span).find(text) {
            Some(at) => Span::new(span.start + at, span.start + at + text.len()),
            None => span,
        }
    }

    fn line(&self, span: Span) -> usize {
        self.file.position(span.start).line
    }
}

#[cfg(test)]
mod tests;
