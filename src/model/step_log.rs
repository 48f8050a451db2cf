//! What steps print, as it is kept: numbered lines with their times.

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use chrono::{DateTime, Utc};

use super::line::{CONTINUES, plain, remains};
use super::run::RunId;

/// Whose lines they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepLog {
    /// The run.
    pub run: RunId,
    /// The step's position, from 0.
    pub step: usize,
}

/// What a line is of the output that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A line.
    Whole,
    /// A piece of a very long line, which the next one continues.
    Continues,
    /// Words of ours: nothing after it is kept.
    Last,
}

/// A line to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLine {
    /// When it came.
    pub at: DateTime<Utc>,
    /// What it is.
    pub kind: LineKind,
    /// Its text, masked. Of control sequences it has colours only; carriage returns are as they were printed.
    pub text: String,
}

/// A line that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its number in the log of its step, from 1, without gaps.
    pub number: u64,
    /// When it came.
    pub at: DateTime<Utc>,
    /// What it is.
    pub kind: LineKind,
    /// Its text, as of [`NewLine`].
    pub text: String,
}

impl LogLine {
    /// What a terminal without colours would show of it. A piece of a longer line says so.
    pub fn words(&self) -> String {
        let mut words = plain(remains(&self.text));
        if self.kind == LineKind::Continues {
            words.push_str(CONTINUES);
        }
        words
    }

    /// What stands where a line should be and is not.
    pub fn missing(number: u64, at: DateTime<Utc>) -> Self {
        Self {
            number,
            at,
            kind: LineKind::Whole,
            text: "(this line is missing in the log's files)".to_owned(),
        }
    }
}

/// A text that lines are searched for.
#[derive(Debug)]
pub struct Needle {
    text: String,
    /// Finds an ASCII text in any case.
    any_case: Option<AhoCorasick>,
    folds: bool,
}

impl Needle {
    /// Searches for `text` as it is, or for it in any case.
    pub fn new(text: &str, any_case: bool) -> Self {
        let finder = (any_case && text.is_ascii()).then(|| {
            let mut builder = AhoCorasick::builder();
            builder.ascii_case_insensitive(true).kind(Some(AhoCorasickKind::DFA)).build([text]).ok()
        });
        let finder = finder.flatten();
        let folds = any_case && finder.is_none();
        Self { text: if folds { text.to_lowercase() } else { text.to_owned() }, any_case: finder, folds }
    }

    /// Whether a line shows it.
    pub fn is_in(&self, line: &str) -> bool {
        if line.bytes().any(|byte| byte == 0x1b || byte == b'\r') {
            return self.is_in_plain(&plain(remains(line)));
        }
        self.is_in_plain(line)
    }

    fn is_in_plain(&self, line: &str) -> bool {
        match &self.any_case {
            Some(finder) => finder.is_match(line),
            None if self.folds => line.to_lowercase().contains(&self.text),
            None => line.contains(&self.text),
        }
    }
}

/// What is searched for in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// The text, as it is.
    pub text: String,
    /// Whether in any case.
    pub any_case: bool,
    /// The first line that is searched.
    pub from: u64,
    /// The most lines that are wanted.
    pub limit: usize,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The lines, in order.
    pub lines: Vec<LogLine>,
    /// Where to search further, when not all of the log was searched.
    pub next: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_shows_is_searched() {
        let shows = |text: &str, any_case: bool, line: &str| Needle::new(text, any_case).is_in(line);
        assert!(shows("error: x", false, "\u{1b}[31merror\u{1b}[0m: x"));
        assert!(!shows("Error", false, "error") && shows("Error", true, "an ERROR"));
        assert!(shows("ÄPFEL", true, "fünf äpfel") && !shows("ÄPFEL", false, "fünf äpfel"));
        assert!(shows("100%", false, "10%\r100%\r") && !shows("10%", false, "10%\r99%"));
    }

    #[test]
    fn a_piece_says_that_it_continues() {
        let at = DateTime::default();
        let line = |kind, text: &str| LogLine { number: 1, at, kind, text: text.to_owned() };
        assert_eq!(line(LineKind::Whole, "\u{1b}[1m1%\r\u{1b}[0m2%\r").words(), "2%");
        assert_eq!(line(LineKind::Continues, "x").words(), format!("x{CONTINUES}"));
    }
}
