//! Masks secrets in everything that leaves the process: the values themselves and the forms
//! in which programs tend to repeat them (base64 at any alignment, hex, URL and JSON escapes).
//!
//! This module owns masking. Lines of terminals and logs go through [`Mask::mask`], output
//! that arrives in pieces through [`Mask::stream`], structured values through [`Mask::json`] and
//! [`Mask::masked`]. Each of them either masks a value or withholds it; none shows it as it was.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::line::{Part, parts, plain};
use super::secret::Secret;

/// What stands where a secret stood.
pub const MASK: &str = "[redacted]";
/// What stands in place of something that cannot be shown without a secret.
pub const WITHHELD: &str = "withheld: it cannot be shown without a secret";
/// Shorter values would mask ordinary words.
const SHORTEST: usize = 4;

/// The secrets that a process knows, shared by everything that prints, sends or writes.
/// Cloning gives another handle to the same secrets.
#[derive(Debug, Clone, Default)]
pub struct Mask(Arc<RwLock<Arc<Redactor>>>);

impl Mask {
    /// The mask of this process's own output.
    pub fn process() -> Self {
        static PROCESS: LazyLock<Mask> = LazyLock::new(Mask::default);
        PROCESS.clone()
    }

    /// Masks `secret` from now on.
    pub fn learn(&self, secret: &str) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut current).learn(secret);
    }

    /// Masks all of these from now on.
    pub fn learn_all(&self, secrets: &[Secret<String>]) {
        secrets.iter().for_each(|secret| self.learn(secret.expose()));
    }

    /// Masks the password in `url` from now on, and the pair of user and password.
    pub fn learn_url(&self, url: &str) {
        if let Some(pair) = user_info(url) {
            self.learn(pair);
            let password = pair.split_once(':').map_or(pair, |(_, password)| password);
            self.learn(password);
            self.learn(&percent_decoded(password));
        }
    }

    /// What is masked by now.
    fn current(&self) -> Arc<Redactor> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// `text` without what must not be shown.
    pub fn mask(&self, text: &str) -> String {
        self.current().mask(text)
    }

    /// `text` without what must not be shown, with its colours. Other control sequences are removed, and control
    /// characters outside of them become `\xNN`. `text` may be cut out of a longer one: `before` and `after` are what
    /// stands beside it there, and a secret that begins in `before` has been masked with it.
    pub fn coloured(&self, before: &str, text: &str, after: &str) -> String {
        self.current().coloured(before, text, after)
    }

    /// `value` with every string and key masked; a number, `true` or `false` that reads the
    /// same as a secret becomes a masked string.
    pub fn json(&self, value: Value) -> Value {
        let current = self.current();
        if current.is_empty() { value } else { current.json(value) }
    }

    /// `value` with all of its strings masked. `None` when it is no longer a `T` without its
    /// secrets, as when a number in it is one: then nothing of it may be shown.
    pub fn masked<T: Serialize + DeserializeOwned + Clone>(&self, value: &T) -> Option<T> {
        let current = self.current();
        if current.is_empty() {
            return Some(value.clone());
        }
        let json = serde_json::to_value(value).ok()?;
        serde_json::from_value(current.json(json)).ok()
    }

    /// Masks text that arrives in pieces.
    pub fn stream(&self) -> MaskStream {
        MaskStream { mask: self.clone(), pending: String::new(), covered: None }
    }
}

/// The user and password in `url`, if it has any.
pub fn user_info(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit_once('@').map(|(pair, _)| pair).filter(|pair| !pair.is_empty())
}

/// Masks text that arrives in pieces, wherever it is cut: a suffix that may be the beginning
/// of a secret is held back until the next piece, or the end.
#[derive(Debug)]
pub struct MaskStream {
    mask: Mask,
    /// What has not been returned yet; never longer than the longest secret, between calls.
    pending: String,
    /// How much of the start of `pending` belongs to the secret whose mask was returned
    /// last; `None` when the last thing returned was no mask.
    covered: Option<usize>,
}

impl MaskStream {
    /// Takes the next piece and returns what can be shown by now.
    pub fn push(&mut self, piece: &str) -> String {
        let redactor = self.mask.current();
        self.pending.push_str(piece);
        let hold = redactor.unfinished(&self.pending);
        let cut = self.pending.len() - hold;
        self.emit(&redactor, cut)
    }

    /// Returns what was held back.
    pub fn end(&mut self) -> String {
        let redactor = self.mask.current();
        let shown = self.emit(&redactor, self.pending.len());
        self.covered = None;
        shown
    }

    /// Removes what lies before `cut` from `pending` and returns it masked.
    fn emit(&mut self, redactor: &Redactor, cut: usize) -> String {
        let mut out = String::new();
        // Everything before `at` has been returned, or belongs to the mask that was.
        let (mut at, mut after_mask) = match self.covered {
            Some(covered) => (covered, true),
            None => (0, false),
        };
        for (start, end) in redactor.found(&self.pending) {
            if after_mask && start <= at {
                at = at.max(end);
            } else if start < cut {
                out.push_str(self.pending.get(at..start).unwrap_or(MASK));
                out.push_str(MASK);
                (at, after_mask) = (end, true);
            }
        }
        if at < cut {
            out.push_str(self.pending.get(at..cut).unwrap_or(MASK));
            (at, after_mask) = (cut, false);
        }
        self.pending.drain(..cut);
        self.covered = after_mask.then(|| at - cut);
        out
    }
}

/// Masks what it has learnt.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    needles: Vec<Needle>,
    /// Finds all of `needles`; `None` when there are none.
    finder: Option<AhoCorasick>,
    /// The first bytes of `needles`.
    firsts: Vec<u8>,
    longest: usize,
}

/// A text to mask; it never prints itself.
#[derive(Clone, PartialEq, Eq)]
struct Needle(String);

impl AsRef<[u8]> for Needle {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Needle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

impl Redactor {
    /// Masks `secret` from now on; each line of one with several lines is masked on its own, too.
    pub fn learn(&mut self, secret: &str) {
        let before = self.needles.len();
        let lines = secret.lines().map(str::trim).filter(|line| line.len() >= 8);
        for value in std::iter::once(secret.trim()).chain(lines) {
            if value.len() < SHORTEST {
                continue;
            }
            let mut forms = vec![value.to_owned(), percent(value)];
            // Output is shown without control sequences.
            forms.extend(Some(plain(value)).filter(|form| form.len() >= SHORTEST));
            if let Ok(json) = serde_json::to_string(value) {
                forms.push(json[1..json.len() - 1].to_owned());
            }
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            forms.extend([hex.to_uppercase(), hex]);
            for before in 0..3 {
                let form = inside_base64(value.as_bytes(), before);
                // What is left of a short value is too little to be told from other text.
                if form.len() >= 6 {
                    forms.push(form.replace('+', "-").replace('/', "_"));
                    forms.push(form);
                }
            }
            for form in forms.into_iter().map(Needle) {
                if !self.needles.contains(&form) {
                    self.needles.push(form);
                }
            }
        }
        if self.needles.len() == before {
            return;
        }
        self.longest = self.needles.iter().map(|needle| needle.0.len()).max().unwrap_or(0);
        self.firsts = self.needles.iter().filter_map(|needle| needle.0.bytes().next()).collect();
        self.firsts.sort_unstable();
        self.firsts.dedup();
        // Overlapping matches, which only this kind can report: two secrets may share text.
        self.finder = AhoCorasick::builder().match_kind(MatchKind::Standard).build(&self.needles).ok();
    }

    /// Whether it has learnt nothing.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// `text` without what must not be shown.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end) in self.found(text) {
            masked.push_str(text.get(at..start).unwrap_or(MASK));
            masked.push_str(MASK);
            at = end;
        }
        masked.push_str(text.get(at..).unwrap_or(MASK));
        masked
    }

    fn coloured(&self, before: &str, text: &str, after: &str) -> String {
        let is_plain = |text: &str| {
            text.bytes().all(|byte| (b' '..0x7f).contains(&byte) || matches!(byte, b'\t' | b'\r'))
        };
        if is_plain(text) && before.is_empty() && after.is_empty() {
            return self.mask(text);
        }
        // A sequence may stand inside a secret, so secrets are looked for where there are none.
        let whole = [before, text, after].concat();
        let inside = before.len()..before.len() + text.len();
        let found = self.found(&plain(&whole));
        let mut found = found.iter().peekable();
        let mut at = 0;
        let (mut coloured, mut bare) = (String::with_capacity(text.len()), String::with_capacity(text.len()));
        for (place, part) in parts(&whole) {
            while found.next_if(|(_, end)| *end <= at).is_some() {}
            let secret = found.peek().filter(|(start, _)| *start <= at);
            let within = secret.is_some_and(|(start, _)| *start < at);
            let is_wanted = inside.contains(&place);
            match part {
                Part::Shown(c) => {
                    if is_wanted {
                        match secret {
                            Some((start, _)) if *start == at => {
                                coloured.push_str(MASK);
                                bare.push_str(MASK);
                            }
                            Some(_) => {}
                            None => {
                                coloured.push(c);
                                bare.push(c);
                            }
                        }
                    }
                    at += c.len_utf8();
                }
                Part::Colour(sequence) if is_wanted => coloured.push_str(sequence),
                Part::Control(c) if is_wanted && !within => {
                    coloured.push_str(&format!("\\x{:02x}", u32::from(c)))
                }
                Part::Colour(_) | Part::Control(_) | Part::Hidden => {}
            }
        }
        // The numbers of colours might spell a secret, too.
        if self.found(&coloured).is_empty() { coloured } else { bare }
    }

    /// Where secrets are in `text`: in order, and apart from each other.
    fn found(&self, text: &str) -> Vec<(usize, usize)> {
        let Some(finder) = &self.finder else {
            // A set of secrets that no automaton can be built for hides everything.
            return if self.needles.is_empty() { Vec::new() } else { vec![(0, text.len())] };
        };
        let mut found: Vec<(usize, usize)> =
            finder.find_overlapping_iter(text).map(|found| (found.start(), found.end())).collect();
        found.sort_unstable();
        let mut merged: Vec<(usize, usize)> = Vec::with_capacity(found.len());
        for (start, end) in found {
            match merged.last_mut() {
                Some((_, last)) if start <= *last => *last = end.max(*last),
                _ => merged.push((start, end)),
            }
        }
        merged
    }

    /// How long a suffix of `text` is the beginning of a secret that is not complete.
    fn unfinished(&self, text: &str) -> usize {
        let bytes = text.as_bytes();
        let from = bytes.len().saturating_sub(self.longest.saturating_sub(1));
        (from..bytes.len())
            .filter(|&at| self.firsts.binary_search(&bytes[at]).is_ok())
            .find(|&at| {
                let tail = &bytes[at..];
                self.needles
                    .iter()
                    .any(|needle| needle.0.len() > tail.len() && needle.0.as_bytes().starts_with(tail))
            })
            .map_or(0, |at| bytes.len() - at)
    }

    /// Whether `text` is a secret, and nothing else.
    fn is_secret(&self, text: &str) -> bool {
        self.needles.iter().any(|needle| needle.0 == text)
    }

    /// Whether a number reads as a secret, with or without the fraction that JSON gives it.
    fn is_number(&self, text: &str) -> bool {
        self.is_secret(text) || text.strip_suffix(".0").is_some_and(|whole| self.is_secret(whole))
    }

    fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.mask(&text)),
            Value::Array(values) => values.into_iter().map(|value| self.json(value)).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (self.mask(&key), self.json(value))).collect()
            }
            Value::Number(number) if self.is_number(&number.to_string()) => Value::String(MASK.to_owned()),
            Value::Bool(value) if self.is_secret(if value { "true" } else { "false" }) => {
                Value::String(MASK.to_owned())
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => value,
        }
    }
}

/// The characters that `value` surely leaves in a base64 text in which `before` bytes,
/// modulo 3, precede it.
fn inside_base64(value: &[u8], before: usize) -> String {
    let mut bytes = vec![0; before];
    bytes.extend_from_slice(value);
    let text = STANDARD_NO_PAD.encode(&bytes);
    let first = (before * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    text.get(first..last).unwrap_or_default().to_owned()
}

fn percent(value: &str) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `value` with its `%XX` decoded.
pub fn percent_decoded(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    let bytes = value.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let code = value.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (byte, code) {
            (b'%', Some(code)) => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn knowing(secret: &str) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.learn(secret);
        redactor
    }

    fn mask_of(secrets: &[&str]) -> Mask {
        let mask = Mask::default();
        secrets.iter().for_each(|secret| mask.learn(secret));
        mask
    }

    #[test]
    fn a_secret_is_masked_in_its_usual_forms() {
        let redactor = knowing("p\"ss/w+rd & more");
        for text in [
            "login p\"ss/w+rd & more".to_owned(),
            "https://u:p%22ss%2Fw%2Brd%20%26%20more@host/".to_owned(),
            r#"{"password":"p\"ss/w+rd & more"}"#.to_owned(),
        ] {
            let masked = redactor.mask(&text);
            assert!(
                masked.contains(MASK) && !masked.contains("w+rd") && !masked.contains("w%2Brd"),
                "{masked}"
            );
        }
        assert_eq!(knowing("hunter2").mask("68756e74657232 68756E74657232"), "[redacted] [redacted]");
        assert_eq!(redactor.mask("nothing here"), "nothing here");
        assert_eq!(format!("{:?}", knowing("hunter2").needles[0]), "[redacted]");
    }

    #[test]
    fn colours_stay_and_secrets_between_them_do_not() {
        let mask = mask_of(&["hunter22"]);
        let shown = |text: &str| mask.coloured("", text, "");
        assert_eq!(shown("\u{1b}[31mred\u{1b}[0m\u{1b}[2K\u{1b}]0;title\u{7}!"), "\u{1b}[31mred\u{1b}[0m!");
        assert_eq!(shown("a hun\u{1b}[1mter\u{1b}[m22 b"), "a [redacted]\u{1b}[1m\u{1b}[m b");
        assert_eq!(shown("\0hun\0ter22\u{8}\u{7f}"), "\\x00[redacted]\\x08\\x7f");
        assert_eq!(shown("1%\r\thunter22\r"), "1%\r\t[redacted]\r");
        // Cut anywhere, it is masked once.
        let text = "say hunter22, hunter22";
        for (at, _) in text.char_indices() {
            let (first, second) = text.split_at(at);
            let both = mask.coloured("", first, second) + &mask.coloured(first, second, "");
            assert_eq!(both, "say [redacted], [redacted]", "{at}");
        }
        assert_eq!(mask_of(&["1;31"]).coloured("", "\u{1b}[1;31mé", ""), "é");
    }

    #[test]
    fn the_lines_of_a_secret_are_masked_one_by_one() {
        let redactor = knowing("-----BEGIN KEY-----\nabcdefghijk\n-----END KEY-----\n");
        assert_eq!(redactor.mask("> abcdefghijk <"), "> [redacted] <");
    }

    #[test]
    fn trivial_values_are_not_masked() {
        assert_eq!(knowing("a").mask("a banana"), "a banana");
    }

    #[test]
    fn secrets_that_share_text_leave_nothing_of_each_other() {
        let mut redactor = knowing("abcdef");
        redactor.learn("defghi");
        assert_eq!(redactor.mask("<abcdefghi>"), "<[redacted]>");
    }

    #[test]
    fn a_number_or_a_boolean_that_reads_as_a_secret_is_masked() {
        let mask = mask_of(&["1234", "true"]);
        assert_eq!(
            mask.json(json!({ "a1234": 1234, "b": 12345, "c": true, "d": false, "e": ["x1234"] })),
            json!({ "a[redacted]": MASK, "b": 12345, "c": MASK, "d": false, "e": ["x[redacted]"] })
        );
        assert_eq!(mask.masked(&(1_u32, "a".to_owned())), Some((1, "a".to_owned())));
        assert_eq!(mask.masked(&(1234_u32, "a".to_owned())), None, "nothing of it is shown");
    }

    #[test]
    fn the_password_of_a_url_is_learnt() {
        let mask = Mask::default();
        mask.learn_url("https://me:to%2Fken99@host.example/x@y.git");
        assert_eq!(mask.mask("to/ken99, to%2Fken99 and me"), "[redacted], [redacted] and me");
        for url in ["https://host.example/a@b", "git@host.example:x.git", "file:///a@b/c"] {
            assert_eq!(user_info(url), None, "{url}");
        }
    }

    #[test]
    fn a_secret_in_pieces_is_held_back_until_it_is_known() {
        let mut stream = mask_of(&["hunter22", "a\nb\nc-d"]).stream();
        assert_eq!(stream.push("say hunt"), "say ");
        assert_eq!(stream.push("er22 or hunt"), "[redacted] or ");
        assert_eq!(stream.push("ing, a\nb"), "hunting, ");
        assert_eq!(stream.push("\nc-d."), "[redacted].");
        assert_eq!(stream.push("hunter2") + &stream.end(), "hunter2");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn pieces_are_masked_as_the_whole(
            secrets in prop::collection::vec("[abc\n]{4,7}", 1..5),
            text in "[abcé\n]{0,60}",
            cuts in prop::collection::vec(0_usize..60, 0..12),
        ) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let mask = mask_of(&secrets);
            let mut cuts: Vec<usize> =
                cuts.into_iter().filter(|&cut| cut < text.len() && text.is_char_boundary(cut)).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut stream = mask.stream();
            let mut out = String::new();
            for pair in cuts.windows(2) {
                out += &stream.push(&text[pair[0]..pair[1]]);
                prop_assert!(stream.pending.len() < mask.current().longest.max(1));
            }
            out += &stream.end();
            prop_assert_eq!(out, mask.mask(&text));
        }
    }

    proptest! {
        #[test]
        fn what_is_coloured_shows_what_plain_text_shows(
            secrets in prop::collection::vec("[ab1;]{4,6}", 1..4),
            text in "[ab1;é\u{1b}\\[m\0\r]{0,40}",
        ) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let mask = mask_of(&secrets);
            let coloured = mask.coloured("", &text, "");
            prop_assert!(mask.current().found(&coloured.replace(MASK, "\n")).is_empty(), "{:?}", coloured);
            let shown = plain(&coloured).replace("\\x00", "").replace("\\x1b", "");
            prop_assert_eq!(shown, mask.mask(&plain(&text)));
        }

        #[test]
        fn base64_of_anything_around_a_secret_does_not_show_it(
            before in prop::collection::vec(any::<u8>(), 0..9),
            secret in "[ -~]{8,30}",
            after in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            prop_assume!(secret.trim() == secret);
            let whole = [before.as_slice(), secret.as_bytes(), after.as_slice()].concat();
            let redactor = knowing(&secret);
            for text in [STANDARD.encode(&whole), URL_SAFE.encode(&whole)] {
                prop_assert!(redactor.mask(&text).contains(MASK), "{}", text);
            }
        }

        #[test]
        fn masked_text_holds_no_secret(secret in "[a-z]{5,12}", text in "[a-z]{0,40}") {
            let masked = knowing(&secret).mask(&format!("{text}{secret}{text}"));
            prop_assert!(!masked.replace(MASK, "").contains(&secret) || MASK.contains(&secret));
        }
    }
}
