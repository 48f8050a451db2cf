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

    proptest! {
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
