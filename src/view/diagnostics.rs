//! Diagnostics, as a compiler would draw them.

use std::fmt::Write as _;
use std::time::Duration;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::json;

use crate::source::{Diagnostic, Severity};

/// Version of the JSON document, raised when a field changes its meaning.
const VERSION: u32 = 1;

/// Prints `diagnostics`, found in `files` files, on stderr with a closing line that counts them.
pub fn print(diagnostics: &[Diagnostic], files: usize, colour: bool) {
    draw(diagnostics, colour);
    write(&format!("{}. Nothing was changed.\n", counts(diagnostics, files)));
}

/// Draws `diagnostics` on stderr.
pub fn draw(diagnostics: &[Diagnostic], colour: bool) {
    let mut text = String::new();
    for diagnostic in diagnostics {
        text.push_str(&drawing(diagnostic, colour));
        text.push_str("\n\n");
    }
    write(&text);
}

/// The closing line of a check that took `took`.
pub fn closing(diagnostics: &[Diagnostic], files: usize, took: Duration) -> String {
    let end = if diagnostics.iter().any(Diagnostic::is_error) { " Nothing was changed." } else { "" };
    format!("{} ({} ms).{end}", counts(diagnostics, files), took.as_millis())
}

/// Prints all that `validate` has to say on stderr.
pub fn print_check(diagnostics: &[Diagnostic], files: usize, took: Duration, colour: bool) {
    draw(diagnostics, colour);
    write(&format!("{}\n", closing(diagnostics, files, took)));
}

fn write(text: &str) {
    super::out::stderr(text);
}

/// `2 errors and 1 warning in 14 files`.
fn counts(diagnostics: &[Diagnostic], files: usize) -> String {
    let number = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let unit = |number: usize, unit: &str| format!("{number} {unit}{}", if number == 1 { "" } else { "s" });
    let mut text = unit(number(Severity::Error), "error");
    let warnings = number(Severity::Warning);
    if warnings > 0 {
        let _ = write!(text, " and {}", unit(warnings, "warning"));
    }
    format!("{text} in {}", unit(files, "file"))
}

/// One diagnostic, without a line end.
pub fn drawing(diagnostic: &Diagnostic, colour: bool) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = annotate_snippets::Group::with_title(
        level.primary_title(diagnostic.message.as_str()).id(diagnostic.code),
    );
    if let Some(label) = &diagnostic.label {
        // The renderer looks at all that it is given, and a long file may have many findings.
        let text = label.file.text();
        let from = text[..label.span.start].rfind('\n').map_or(0, |end| end + 1);
        let to = text[label.span.end..].find('\n').map_or(text.len(), |end| label.span.end + end + 1);
        let line = label.file.position(label.span.start).line;
        let mut annotation = AnnotationKind::Primary.span(label.span.start - from..label.span.end - from);
        if !label.text.is_empty() {
            annotation = annotation.label(label.text.as_str());
        }
        group = group.element(
            Snippet::source(&text[from..to]).path(label.file.name()).line_start(line).annotation(annotation),
        );
    }
    for help in &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    renderer.term_width(140).render(&[group])
}

/// What a code means, as `--explain` prints it.
pub fn explanation(code: &str, text: &str, example: &str) -> String {
    let mut out = format!("{code}\n\n");
    let mut width = 0;
    for word in text.split_whitespace() {
        if width > 0 && width + 1 + word.chars().count() > 90 {
            out.push('\n');
            width = 0;
        }
        if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.chars().count();
    }
    out.push('\n');
    if !example.is_empty() {
        out.push('\n');
        example.lines().for_each(|line| {
            let _ = writeln!(out, "    {line}");
        });
    }
    out
}

/// The JSON document of a check.
pub fn json(diagnostics: &[Diagnostic], files: usize) -> serde_json::Value {
    let number = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    json!({
        "version": VERSION,
        "files": files,
        "errors": number(Severity::Error),
        "warnings": number(Severity::Warning),
        "findings": diagnostics.iter().map(finding).collect::<Vec<_>>(),
    })
}

fn finding(diagnostic: &Diagnostic) -> serde_json::Value {
    let mut finding = json!({ "severity": diagnostic.severity.word(), "code": diagnostic.code });
    if let Some(label) = &diagnostic.label {
        let position = label.file.position(label.span.start);
        finding["file"] = label.file.name().into();
        finding["line"] = position.line.into();
        finding["column"] = position.column.into();
        finding["length"] = label.file.slice(label.span).chars().count().into();
    }
    if let Some(path) = &diagnostic.path {
        finding["path"] = path.as_str().into();
    }
    finding["message"] = diagnostic.message.as_str().into();
    if let Some(label) = diagnostic.label.as_ref().filter(|label| !label.text.is_empty()) {
        finding["label"] = label.text.as_str().into();
    }
    finding["help"] = diagnostic.help.clone().into();
    finding
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::source::{SourceFile, Span};

    #[test]
    fn counts_have_their_units() {
        let error = Diagnostic::error("a", "b");
        let warning = Diagnostic::warning("a", "b");
        assert_eq!(counts(&[], 14), "0 errors in 14 files");
        assert_eq!(counts(std::slice::from_ref(&error), 1), "1 error in 1 file");
        assert_eq!(counts(&[error.clone(), error, warning], 2), "2 errors and 1 warning in 2 files");
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let file = SourceFile::new("a.yaml", "name: \u{1b}[2Jx\n");
        let drawn = drawing(&Diagnostic::error("a", "b \u{1b}[2J").at(&file, Span::new(6, 12), "c"), false);
        assert!(!drawn.contains('\u{1b}'), "{drawn:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_place_of_any_text_can_be_drawn(
            text in "([ -~]|[äß€𝄞\u{0}\u{200b}\r\t\n]){0,80}",
            (from, to) in (0.0..=1.0f64, 0.0..=1.0f64),
            colour: bool,
        ) {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let place = |at: f64| places[((places.len() - 1) as f64 * at) as usize];
            let span = Span::new(place(from.min(to)), place(from.max(to)));
            let file = SourceFile::new("a.yaml", text);
            drawing(&Diagnostic::error("code", "message").at(&file, span, "label").help("help"), colour);
        }
    }
}
