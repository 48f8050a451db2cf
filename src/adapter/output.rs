//! The output of programs, engines and servers, as lines: masked, without control sequences, of
//! bounded length, in linear time. Whoever reads what another process writes reads it through here.

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::model::line::{CONTINUES, LINE_MAX, Plain};
use crate::model::redact::{Mask, MaskStream};

/// How much is read at a time.
const PIECE: usize = 8 * 1024;

/// Takes one line, without its end.
pub type Take<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Turns pieces of output into lines. Control sequences are removed first, since one could stand
/// inside a secret. Secrets are masked before lines are made, so that none shows where a line was
/// split. Of a line that redraws itself, the last form counts.
#[derive(Debug)]
pub struct Lines {
    plain: Plain,
    mask: MaskStream,
    /// The bytes of a character that is not complete.
    half: Vec<u8>,
    line: String,
    /// A carriage return came: what follows replaces the line, unless it is the line's end.
    returned: bool,
}

impl Lines {
    /// The lines of one stream.
    pub fn new(mask: &Mask) -> Self {
        Self {
            plain: Plain::default(),
            mask: mask.stream(),
            half: Vec::new(),
            line: String::new(),
            returned: false,
        }
    }

    /// Takes the next piece, which may end anywhere, inside a character even.
    pub fn push(&mut self, bytes: &[u8], take: Take<'_>) {
        let mut rest: &[u8] = bytes;
        let joined;
        if !self.half.is_empty() {
            self.half.extend_from_slice(bytes);
            joined = std::mem::take(&mut self.half);
            rest = &joined;
        }
        let mut text = String::with_capacity(rest.len());
        for chunk in rest.utf8_chunks() {
            text.push_str(chunk.valid());
            let unfinished = chunk.invalid();
            if unfinished.is_empty() {
                continue;
            }
            // Only the last chunk can be the beginning of a character.
            let at_end = std::ptr::eq(unfinished.as_ptr_range().end, rest.as_ptr_range().end);
            if at_end && std::str::from_utf8(unfinished).is_err_and(|error| error.error_len().is_none()) {
                self.half = unfinished.to_vec();
            } else {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        let shown = self.mask.push(&self.plain.push(&text));
        self.split(&shown, take);
    }

    /// Passes on what has no line end.
    pub fn end(&mut self, take: Take<'_>) {
        if !std::mem::take(&mut self.half).is_empty() {
            let shown = self.mask.push("\u{fffd}");
            self.split(&shown, take);
        }
        let shown = self.mask.end();
        self.split(&shown, take);
        if !self.line.is_empty() {
            self.line_ends(take);
        }
    }

    fn split(&mut self, text: &str, take: Take<'_>) {
        for part in text.split_inclusive(['\n', '\r']) {
            let (words, end) = match part.as_bytes().last() {
                Some(end @ (b'\n' | b'\r')) => (&part[..part.len() - 1], Some(*end)),
                _ => (part, None),
            };
            if !words.is_empty() {
                if std::mem::take(&mut self.returned) {
                    self.line.clear();
                }
                self.add(words, take);
            }
            match end {
                Some(b'\n') => self.line_ends(take),
                Some(_) => self.returned = true,
                None => {}
            }
        }
    }

    fn add(&mut self, words: &str, take: Take<'_>) {
        self.line.push_str(words);
        if self.line.len() <= LINE_MAX {
            return;
        }
        let line = std::mem::take(&mut self.line);
        let mut rest = line.as_str();
        while rest.len() > LINE_MAX {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(LINE_MAX - CONTINUES.len()));
            take(&format!("{piece}{CONTINUES}"));
            rest = after;
        }
        self.line = rest.to_owned();
    }

    fn line_ends(&mut self, take: Take<'_>) {
        take(self.line.trim_end());
        self.line.clear();
        self.returned = false;
    }
}

/// Reads `from` to its end and passes on its lines. A reader that fails has ended.
pub async fn read(from: Option<impl AsyncRead + Unpin>, mask: &Mask, take: Take<'_>) {
    let Some(mut from) = from else { return };
    let mut lines = Lines::new(mask);
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        lines.push(&piece[..read], take);
    }
    lines.end(take);
}

/// Reads `from` to its end and returns at most `limit` bytes of it; the rest is read and dropped,
/// so that its writer never waits.
pub async fn bounded(from: Option<impl AsyncRead + Unpin>, limit: usize) -> Vec<u8> {
    let Some(mut from) = from else { return Vec::new() };
    let mut kept = Vec::new();
    let mut piece = vec![0; PIECE];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        let room = limit.saturating_sub(kept.len()).min(read);
        kept.extend_from_slice(&piece[..room]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(mask: &Mask, pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut lines = Lines::new(mask);
        let mut take = |line: &str| seen.push(line.to_owned());
        pieces.iter().for_each(|piece| lines.push(piece, &mut take));
        lines.end(&mut take);
        seen
    }

    #[test]
    fn pieces_become_lines() {
        let pieces: [&[u8]; 4] =
            [b"Step 1/2 : FR", b"OM a\n\n10%\r20%\r\nd\xc3", b"\xa9j\xc3\xa0", b"!\xff \xc3"];
        let expected = ["Step 1/2 : FROM a", "", "20%", "d\u{e9}j\u{e0}!\u{fffd} \u{fffd}"];
        assert_eq!(lines(&Mask::default(), &pieces), expected);
    }

    #[test]
    fn a_secret_shows_neither_between_pieces_nor_where_a_line_is_split() {
        let mask = Mask::default();
        mask.learn("hunter22");
        let long = format!("{}hunter22 end", "x".repeat(LINE_MAX - 4));
        let seen = lines(&mask, &[b"hun", b"ter22\n", long.as_bytes()]);
        assert_eq!(seen[0], "[redacted]");
        assert_eq!(seen.len(), 3);
        let first = seen[1].strip_suffix(CONTINUES).expect("a split line says so");
        assert_eq!(format!("{first}{}", seen[2]), format!("{}[redacted] end", "x".repeat(LINE_MAX - 4)));
        assert!(seen.iter().all(|line| line.len() <= LINE_MAX));
    }

    #[test]
    fn control_sequences_are_removed_even_from_within_secrets() {
        let mask = Mask::default();
        mask.learn("hunter22");
        let pieces: [&[u8]; 4] = [b"\x1b[3", b"2mok\x1b[0m\n\x1b]0;t\x07", b"hun\x1b[1mter", b"22\x1b[m!"];
        assert_eq!(lines(&mask, &pieces), ["ok", "[redacted]!"]);
        // A secret may hold some itself.
        mask.learn("a\u{1b}[1msecret\u{7}b");
        assert_eq!(lines(&mask, &[b"a\x1b[1msecret\x07b"]), ["[redacted]"]);
    }

    /// 64 MiB without a newline: at e1e3c77 each piece was searched from the line's start, which
    /// would take hours, and all of it was kept.
    #[test]
    fn output_without_a_newline_takes_linear_time_and_bounded_memory() {
        let mask = Mask::default();
        mask.learn("a-secret-that-never-comes");
        let mut lines = Lines::new(&mask);
        let (mut bytes, mut longest) = (0, 0);
        let mut take = |line: &str| {
            bytes += line.trim_end_matches(CONTINUES).len();
            longest = longest.max(line.len());
        };
        for _ in 0..16 * 1024 {
            lines.push(&[b'a'; 4096], &mut take);
            assert!(lines.line.capacity() <= 4 * LINE_MAX);
        }
        lines.end(&mut take);
        assert_eq!((bytes, longest), (64 << 20, LINE_MAX));
    }

    proptest! {
        #[test]
        fn bytes_become_the_same_lines_wherever_they_are_cut(
            bytes in prop::collection::vec(prop_oneof![
                Just(b'a'), Just(b'\n'), Just(b'\r'), Just(0xc3), Just(0xa9), Just(0xf0), Just(0x9f)
            ], 0..40),
            at in 0_usize..40,
        ) {
            let (first, second) = bytes.split_at(at.min(bytes.len()));
            let mask = Mask::default();
            prop_assert_eq!(lines(&mask, &[first, second]), lines(&mask, &[&bytes]));
        }
    }
}
