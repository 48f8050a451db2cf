//! Colours of terminals, as classes.

use serde::Serialize;

use crate::model::line::{Part, parts};

/// A part of a line that looks the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Its classes: `b` for bold, `c0` to `c7` for colours; empty for plain text.
    pub class: String,
    /// Its text.
    pub text: String,
}

/// What is set by the sequences so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Look {
    bold: bool,
    colour: Option<u16>,
}

impl Look {
    fn set(&mut self, sequence: &str) {
        let numbers = sequence.trim_start_matches("\u{1b}[").trim_end_matches('m');
        let mut codes = numbers.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Self::default(),
                1 => self.bold = true,
                22 => self.bold = false,
                30..=37 => self.colour = Some(code - 30),
                90..=97 => self.colour = Some(code - 90),
                39 => self.colour = None,
                38 | 48 => {
                    let found = match codes.next() {
                        Some(5) => codes.next(),
                        Some(2) => {
                            codes.by_ref().take(3).for_each(drop);
                            None
                        }
                        _ => None,
                    };
                    // Of the large palette, the first 16 are the usual ones.
                    if code == 38 {
                        self.colour = found.filter(|found| *found < 16).map(|found| found % 8);
                    }
                }
                _ => {}
            }
        }
    }

    fn class(self) -> String {
        let colour = self.colour.map(|colour| format!("c{colour}"));
        let bold = self.bold.then(|| "b".to_owned());
        bold.into_iter().chain(colour).collect::<Vec<_>>().join(" ")
    }
}

/// Takes a line apart by how its parts look. Sequences that set no colours are left out.
pub fn spans(line: &str) -> Vec<Span> {
    let mut look = Look::default();
    let mut spans: Vec<Span> = Vec::new();
    let mut text = String::new();
    let mut end = |text: &mut String, look: Look| {
        if !text.is_empty() {
            spans.push(Span { class: look.class(), text: std::mem::take(text) });
        }
    };
    for (_, part) in parts(line) {
        match part {
            Part::Shown(c) => text.push(c),
            Part::Colour(sequence) => {
                let mut next = look;
                next.set(sequence);
                if next != look {
                    end(&mut text, look);
                    look = next;
                }
            }
            Part::Control(_) | Part::Hidden => {}
        }
    }
    end(&mut text, look);
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes(line: &str) -> Vec<(String, String)> {
        spans(line).into_iter().map(|span| (span.class, span.text)).collect()
    }

    #[test]
    fn colours_become_classes_and_other_sequences_nothing() {
        let pair = |class: &str, text: &str| (class.to_owned(), text.to_owned());
        assert_eq!(classes("plain"), [pair("", "plain")]);
        let line = "\u{1b}[1;31mred\u{1b}[22m thin\u{1b}[0m \u{1b}[2K<b>\u{1b}[92mok\u{1b}[39m.";
        let expected =
            [pair("b c1", "red"), pair("c1", " thin"), pair("", " <b>"), pair("c2", "ok"), pair("", ".")];
        assert_eq!(classes(line), expected);
        assert_eq!(
            classes("\u{1b}[38;5;9ma\u{1b}[38;2;1;2;31mb\u{1b}[48;5;31mc"),
            [pair("c1", "a"), pair("", "bc")]
        );
        assert_eq!(classes("\u{1b}[m\u{1b}[0m"), []);
    }
}
