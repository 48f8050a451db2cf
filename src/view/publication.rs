//! Changes of what is published for a cluster, in plans: what they have in common.

use super::paint::{BOLD, Paint};

/// What was published before, and what is afterwards.
type Texts<'t> = (&'t Option<String>, &'t Option<String>);

/// The first line for people.
pub fn head(what: &str, parameter: &str, texts: Texts<'_>, paint: Paint) -> String {
    format!("{}   {parameter}   {}\n", paint.paint(BOLD, what), word(texts))
}

/// The heading in Markdown.
pub fn heading(what: &str, texts: Texts<'_>) -> String {
    format!("\n#### {what}: {}\n\n", word(texts))
}

fn word(texts: Texts<'_>) -> &'static str {
    match texts {
        (None, _) => "publish",
        (Some(_), Some(_)) => "update",
        (Some(_), None) => "withdraw",
    }
}
