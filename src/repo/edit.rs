//! Changes of a text, each with its place in the text as it was, so that none moves the place of another.

use crate::source::Span;

/// Other words for a place of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The place; empty where words are only added.
    pub span: Span,
    /// What stands there instead.
    pub words: String,
}

/// `text` with `edits`. Two edits of one place are the same: an alias repeats what stands at its anchor.
pub fn edited(text: &str, edits: &[Edit]) -> String {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| edit.span);
    edits.dedup_by_key(|edit| edit.span);
    let mut out =
        String::with_capacity(text.len() + edits.iter().map(|edit| edit.words.len()).sum::<usize>());
    let mut from = 0;
    for edit in edits {
        out.push_str(&text[from..edit.span.start]);
        out.push_str(&edit.words);
        from = edit.span.end;
    }
    out.push_str(&text[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_made_at_their_places_in_the_text_before() {
        let edit = |start, end, words: &str| Edit { span: Span::new(start, end), words: words.to_owned() };
        let edits = [edit(4, 5, "five"), edit(0, 0, ">"), edit(4, 5, "five"), edit(2, 3, "")];
        assert_eq!(edited("1 3 5 7", &edits), ">1  five 7");
        assert_eq!(edited("", &[]), "");
    }
}
