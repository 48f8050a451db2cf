//! Source files, positions in them, and diagnostics that point at them.
//!
//! Everything a person writes is read into a [`SourceFile`]; every problem found in it
//! is a [`Diagnostic`] whose labels are byte spans of that file. This module knows
//! nothing of what the files mean, and nothing of how a diagnostic is drawn.

pub mod read;

use std::fmt;
use std::sync::{Arc, OnceLock};

/// A text file that was read, or rendered, with an index of its lines.
#[derive(Debug)]
pub struct SourceFile {
    name: String,
    text: String,
    /// Indexed when the first position is asked for: most files have no problem.
    line_starts: OnceLock<Vec<usize>>,
}

impl PartialEq for SourceFile {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for SourceFile {}

impl SourceFile {
    /// Holds `text` under `name`, the path as the user would type it (relative to the
    /// repository's root, with forward slashes).
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into(), line_starts: OnceLock::new() })
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            std::iter::once(0).chain(self.text.match_indices('\n').map(|(at, _)| at + 1)).collect()
        })
    }

    /// The path as the user would type it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position of byte `offset`; offsets past the end, or inside a character, are
    /// moved back to the nearest character boundary.
    pub fn position(&self, offset: usize) -> Position {
        let offset = floor_boundary(&self.text, offset);
        let starts = self.line_starts();
        let line = starts.partition_point(|&start| start <= offset) - 1;
        let column = self.text[starts[line]..offset].chars().count();
        Position { line: line + 1, column: column + 1 }
    }

    /// The byte offset of 1-based `line` and 1-based `column` (in characters), clamped
    /// to the text.
    pub fn offset(&self, line: usize, column: usize) -> usize {
        let Some(&start) = self.line_starts().get(line.saturating_sub(1)) else {
            return self.text.len();
        };
        let rest = &self.text[start..];
        let line_text = rest.split('\n').next().unwrap_or(rest);
        start + line_text.char_indices().nth(column.saturating_sub(1)).map_or(line_text.len(), |(at, _)| at)
    }

    /// The text under `span`, empty where the span lies outside.
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// A place in a file as people count: both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A half-open range of bytes in a [`SourceFile`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The range from `start` to before `end`.
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }
}

/// How bad a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The input is refused.
    Error,
    /// The input is taken, but probably does not do what its author meant.
    Warning,
}

impl Severity {
    /// The word that is printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A span of a file with what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The bytes meant.
    pub span: Span,
    /// What stands under them, such as ``did you mean `replicas`?``; may be empty.
    pub text: String,
}

/// One problem in something a person wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// A stable name in kebab case, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, one sentence without a full stop, literals in backticks.
    pub message: String,
    /// Where; `None` only when the problem has no place (a missing file).
    pub label: Option<Label>,
    /// Where in the document, `Resources/Vpc/Properties/CidrBlock`, if that was told.
    pub path: Option<String>,
    /// What else to look at or do.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error with no place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message: message.into(),
            label: None,
            path: None,
            help: Vec::new(),
        }
    }

    /// A warning with no place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Points at `span` of `file`, saying `text` under it.
    #[must_use]
    pub fn at(mut self, file: &Arc<SourceFile>, span: Span, text: impl Into<String>) -> Self {
        self.label = Some(Label { file: Arc::clone(file), span, text: text.into() });
        self
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// Its place and what is wrong there, without the text of the file: `stacks/a.yaml:3:5: ...`.
    pub fn in_one_line(&self) -> String {
        let Some(label) = &self.label else { return self.message.clone() };
        format!("{}:{}: {}", label.file.name(), label.file.position(label.span.start), self.message)
    }

    /// Whether the input must be refused for it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // One letter is not near any other.
        .filter(|(distance, candidate)| {
            *distance <= candidate.chars().count().max(3) / 3 && *distance < length
        })
        .min_by_key(|(distance, candidate)| (*distance, *candidate))
        .map(|(_, candidate)| candidate)
}

/// How many cases a test of a parser with any text tries: `few`, or as many as FLEETWRIGHT_FUZZ_CASES says
/// (`make fuzz`).
/// Samples of the formats that this program stores or sends. Those of old versions stay.
#[cfg(test)]
pub mod samples {
    /// The samples of a format in `tests/formats`, with their file names.
    pub fn of(format: &str) -> Vec<(String, String)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(format);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut found: Vec<(String, String)> = entries
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension != "shape"))
            .map(|path| {
                let text = std::fs::read_to_string(&path).expect("a sample can be read");
                (path.display().to_string(), text)
            })
            .collect();
        found.sort();
        assert!(!found.is_empty(), "{} holds no sample", folder.display());
        found
    }
}

#[cfg(test)]
pub(crate) fn fuzz_cases(few: u32) -> u32 {
    std::env::var("FLEETWRIGHT_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_not_bytes() {
        let file = SourceFile::new("a.yaml", "ä: ö\nkey: välue\n");
        let at = file.text().find('v').expect("the text holds a v");
        assert_eq!(file.position(at), Position { line: 2, column: 6 });
        assert_eq!(file.offset(2, 6), at);
        assert_eq!(file.position(1), Position { line: 1, column: 1 });
        assert_eq!(file.position(999), Position { line: 3, column: 1 });
    }

    #[test]
    fn suggestions_are_near_or_absent() {
        let keys = ["replicas", "image", "environment"];
        assert_eq!(suggest("replica", keys), Some("replicas"));
        assert_eq!(suggest("Image", keys), Some("image"));
        assert_eq!(suggest("qwertz", keys), None);
        assert_eq!(suggest("a", ["b"]), None);
    }
}
