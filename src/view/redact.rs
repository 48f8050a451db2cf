//! Masks secrets in what is shown: the values themselves and the forms in which programs
//! tend to repeat them (base64 at any alignment, URL and JSON escapes).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// What stands where a secret stood.
const MASK: &str = "[redacted]";
/// Shorter values would mask ordinary words.
const SHORTEST: usize = 4;

/// Masks what it has learnt.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Longest first, so that no part of a longer form remains.
    needles: Vec<Needle>,
}

/// A text to mask; it never prints itself.
#[derive(Clone, PartialEq, Eq)]
struct Needle(String);

impl std::fmt::Debug for Needle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

impl Redactor {
    /// Masks `secret` from now on; of several lines also each by itself.
    pub fn learn(&mut self, secret: &str) {
        let lines = secret.lines().map(str::trim).filter(|line| line.len() >= 8);
        for value in std::iter::once(secret.trim()).chain(lines) {
            if value.len() < SHORTEST {
                continue;
            }
            let mut forms = vec![value.to_owned(), percent(value)];
            if let Ok(json) = serde_json::to_string(value) {
                forms.push(json[1..json.len() - 1].to_owned());
            }
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
        self.needles.sort_by_key(|needle| std::cmp::Reverse(needle.0.len()));
    }

    /// Whether it has learnt nothing.
    pub fn is_empty(&self) -> bool {
        self.needles.is_empty()
    }

    /// `text` without what must not be shown.
    pub fn mask(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for Needle(needle) in &self.needles {
            if masked.contains(needle.as_str()) {
                masked = masked.replace(needle.as_str(), MASK);
            }
        }
        masked
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

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    fn knowing(secret: &str) -> Redactor {
        let mut redactor = Redactor::default();
        redactor.learn(secret);
        redactor
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
        assert_eq!(redactor.mask("nothing here"), "nothing here");
        assert_eq!(format!("{:?}", knowing("hunter2").needles[0]), "[redacted]");
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

    proptest! {
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
