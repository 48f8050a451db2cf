//! Lines of what other programs say: without what a terminal would obey, and of bounded length.

/// The longest line that is passed on whole, in bytes.
pub const LINE_MAX: usize = 16 * 1024;
/// What ends a piece of a longer line.
pub const CONTINUES: &str = " … (continues on the next line)";

/// Removes control sequences from text that arrives in pieces, wherever it is cut. Tabs and the
/// ends of lines stay; an end of a line ends a sequence, too, so that one that was never finished
/// hides no more than its line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain(State);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Text,
    /// After an escape character.
    Escape,
    /// `ESC (` and the like, which one more character ends.
    Intermediate,
    /// `ESC [`: colours and the cursor.
    Control,
    /// `ESC ]` and the like: titles and links, up to a bell or `ESC \`.
    String,
    /// An escape character in one of those.
    StringEscape,
}

impl Plain {
    /// Takes the next piece and returns what remains of it.
    pub fn push(&mut self, piece: &str) -> String {
        piece.chars().filter(|&c| self.keeps(c)).collect()
    }

    fn keeps(&mut self, c: char) -> bool {
        let (next, keep) = match (self.0, c) {
            (_, '\n' | '\r') => (State::Text, true),
            (State::String | State::StringEscape, '\u{7}' | '\u{9c}') => (State::Text, false),
            (State::String | State::StringEscape, '\u{1b}') => (State::StringEscape, false),
            (State::StringEscape, '\\') => (State::Text, false),
            (State::String | State::StringEscape, _) => (State::String, false),
            (_, '\u{1b}') => (State::Escape, false),
            (State::Escape, '[') | (_, '\u{9b}') => (State::Control, false),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_')
            | (_, '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}') => (State::String, false),
            (State::Escape | State::Intermediate, ' '..='/') => (State::Intermediate, false),
            (State::Escape | State::Intermediate, '0'..='~') => (State::Text, false),
            (State::Control, ' '..='?') => (State::Control, false),
            (State::Control, '@'..='~') => (State::Text, false),
            // What can't go on a sequence is text, and so is the rest of the line.
            (_, c) => (State::Text, c == '\t' || !c.is_control()),
        };
        self.0 = next;
        keep
    }
}

/// `text` without control sequences.
pub fn plain(text: &str) -> String {
    Plain::default().push(text)
}

/// What a terminal would still show of a line: progress bars write over themselves with carriage returns.
pub fn remains(line: &str) -> &str {
    let line = line.trim_end_matches('\r');
    line.rsplit('\r').next().unwrap_or_default()
}

/// A part of a text, as [`parts`] takes it apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A character that a terminal shows, a tab, or the end of a line.
    Shown(char),
    /// A control sequence that sets colours, whole.
    Colour(&'a str),
    /// A control character outside of any sequence.
    Control(char),
    /// A character of another sequence.
    Hidden,
}

/// Takes text apart: each part with the place that it begins at. What [`plain`] keeps is [`Part::Shown`].
pub fn parts(text: &str) -> impl Iterator<Item = (usize, Part<'_>)> {
    let mut plain = Plain::default();
    let mut rest = text.char_indices();
    std::iter::from_fn(move || {
        let left = rest.as_str();
        let (at, c) = rest.next()?;
        if plain.0 == State::Text
            && let Some(length) = colour(left)
        {
            while text.len() - rest.as_str().len() < at + length {
                rest.next();
            }
            return Some((at, Part::Colour(&left[..length])));
        }
        let outside = plain.0 == State::Text;
        let part = match plain.keeps(c) {
            true => Part::Shown(c),
            false if outside && plain.0 == State::Text => Part::Control(c),
            false => Part::Hidden,
        };
        Some((at, part))
    })
}

/// How long the sequence is that `text` begins with, if it sets colours.
fn colour(text: &str) -> Option<usize> {
    let numbers = text.strip_prefix("\u{1b}[")?;
    let end = numbers.find(|c: char| !matches!(c, '0'..='9' | ';' | ':'))?;
    // No colour needs as much; what is longer hides something.
    (numbers[end..].starts_with('m') && end <= 40).then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_cursors_titles_and_links_are_removed() {
        for (raw, expected) in [
            ("\u{1b}[1;31merror\u{1b}[0m: x\ty\n", "error: x\ty\n"),
            ("\u{1b}[2K\u{1b}[1A\u{1b}[?25l10%\r20%\n", "10%\r20%\n"),
            ("\u{1b}]0;title\u{7}a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("\u{1b}(Ba\u{1b}7b\u{1b}=c\u{9b}32md\u{8}\u{7}\0", "abcd"),
            ("\u{1b}[31é\u{1b}é\u{1b}\n\u{1b}]never closed\nnext", "éé\n\nnext"),
            ("[31m stays", "[31m stays"),
        ] {
            assert_eq!(plain(raw), expected, "{raw:?}");
        }
    }

    #[test]
    fn progress_leaves_its_last_state() {
        for (line, expected) in
            [("10%\r50%\r100%", "100%"), ("one\r", "one"), ("a\r\r", "a"), ("", ""), ("\r", "")]
        {
            assert_eq!(remains(line), expected, "{line:?}");
        }
    }

    #[test]
    fn colours_are_told_from_other_sequences() {
        let text = "\u{1b}[1;31mé\u{1b}[2K\0x\u{1b}[0m\u{1b}[m\t";
        let found: Vec<Part<'_>> =
            parts(text).map(|(_, part)| part).filter(|part| *part != Part::Hidden).collect();
        let expected = [
            Part::Colour("\u{1b}[1;31m"),
            Part::Shown('é'),
            Part::Control('\0'),
            Part::Shown('x'),
            Part::Colour("\u{1b}[0m"),
            Part::Colour("\u{1b}[m"),
            Part::Shown('\t'),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn parts_show_what_plain_text_has(text in "[\u{1b}\u{9b}\u{9d}\u{7}\\\\\\[\\](P0;1ma\té\r\n]{0,40}") {
            let shown: String =
                parts(&text).filter_map(|(_, part)| if let Part::Shown(c) = part { Some(c) } else { None }).collect();
            prop_assert_eq!(shown, plain(&text));
        }

        #[test]
        fn the_same_remains_wherever_it_is_cut(
            text in "[\u{1b}\u{9b}\u{9d}\u{7}\\\\\\[\\](P0;ma\té\r\n]{0,30}", at in 0_usize..30
        ) {
            let at = text.floor_char_boundary(at.min(text.len()));
            let mut stream = Plain::default();
            let pieces = [stream.push(&text[..at]), stream.push(&text[at..])].concat();
            prop_assert_eq!(&pieces, &plain(&text));
            let bare = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
            prop_assert!(!pieces.contains(bare));
            prop_assert_eq!(pieces.matches('\n').count(), text.matches('\n').count());
        }
    }
}
