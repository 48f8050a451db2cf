//! Values cut into words, by systemd's rules of quotes and escapes.

use std::ops::Range;

use super::parse::WHITESPACE;

/// A word of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The word without its quotes, escapes resolved as far as they change what it is.
    pub text: String,
    /// Where it stands in the value, with its quotes.
    pub range: Range<usize>,
    /// Whether no quote and no escape was used.
    pub plain: bool,
    /// Escapes that systemd doesn't know: it keeps both characters.
    pub unknown_escapes: Vec<Range<usize>>,
}

/// Cuts `text` into words.
///
/// # Errors
/// Where a quote is opened and not closed.
pub fn words(text: &str) -> Result<Vec<Word>, Range<usize>> {
    let mut words = Vec::new();
    let mut chars = text.char_indices().peekable();
    loop {
        while chars.next_if(|(_, c)| WHITESPACE.contains(c)).is_some() {}
        let Some(&(start, _)) = chars.peek() else { return Ok(words) };
        let mut word =
            Word { text: String::new(), range: start..start, plain: true, unknown_escapes: Vec::new() };
        let mut quote: Option<(usize, char)> = None;
        while let Some((at, c)) = chars.next_if(|(_, c)| quote.is_some() || !WHITESPACE.contains(c)) {
            word.range.end = at + c.len_utf8();
            match (quote, c) {
                (_, '\\') => {
                    word.plain = false;
                    let Some((next, escaped)) = chars.next() else { break };
                    word.range.end = next + escaped.len_utf8();
                    match escaped {
                        'a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | 's' => word.text.push(' '),
                        '\\' | '"' | '\'' | ';' => word.text.push(escaped),
                        // `\x2d`: the digits follow, and what they say is not needed.
                        'x' | 'u' | 'U' | '0'..='7' => word.text.push('?'),
                        _ => {
                            word.text.push(c);
                            word.text.push(escaped);
                            word.unknown_escapes.push(at..word.range.end);
                        }
                    }
                }
                (Some((_, open)), _) if c == open => quote = None,
                (None, '"' | '\'') => {
                    word.plain = false;
                    quote = Some((at, c));
                }
                _ => word.text.push(c),
            }
        }
        if let Some((open, _)) = quote {
            return Err(open..text.len());
        }
        words.push(word);
    }
}

/// Specifiers of systemd 252 and later.
const SPECIFIERS: &str = "aAbBCdDEfgGhHiIjJlLmMnNopPqsStTuUvVwWyY%";

/// The first unknown specifier in `text`. A `%` before what is no letter or digit stands for
/// itself, as systemd has it.
pub fn unknown_specifier(text: &str) -> Option<Range<usize>> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c != '%' {
            continue;
        }
        // `%%`, `%n` and `% ` are over with the next character.
        if let Some((_, letter)) = chars.next()
            && letter.is_ascii_alphanumeric()
            && !SPECIFIERS.contains(letter)
        {
            return Some(at..at + 2);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        words(text).expect("balanced").into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn quotes_hold_words_together() {
        assert_eq!(texts("a \"b c\" 'd  e'f"), ["a", "b c", "d  ef"]);
        assert_eq!(texts("A=\"b c\" '' \\\"x"), ["A=b c", "", "\"x"]);
        assert_eq!(texts("  "), Vec::<String>::new());
        assert_eq!(words("a 'b c"), Err(2..6));
        let escapes = words("grep \\. \\d").expect("balanced");
        assert_eq!(escapes[1].unknown_escapes.first(), Some(&(5..7)));
        assert_eq!(escapes[2].text, "\\d");
    }

    #[test]
    fn unknown_specifiers_are_found() {
        assert_eq!(unknown_specifier("%n %i 100%% 5% %"), None);
        assert_eq!(unknown_specifier("date +%F"), Some(6..8));
        assert_eq!(unknown_specifier("%%F"), None);
    }
}
