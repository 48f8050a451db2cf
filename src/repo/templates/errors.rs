//! Tera's errors as diagnostics.

use tera::{Error, ErrorKind, ReportError};

use super::Templates;
use crate::repo::decode::list;
use crate::source::{Diagnostic, Span, suggest};

impl Templates {
    /// Tera's error in our words; `name` is the template to blame when the error has no place.
    pub(super) fn diagnostics(&self, error: &Error, name: &str) -> Vec<Diagnostic> {
        match error.kind() {
            ErrorKind::SyntaxError(report) => {
                vec![self.syntax(report)]
            }
            ErrorKind::RenderingError(report) => vec![self.rendering(report)],
            ErrorKind::CircularInclude { tpl, include_chain } => {
                let chain = include_chain.join("` -> `");
                let diagnostic =
                    Diagnostic::error("include-cycle", format!("templates include each other: `{chain}`"));
                vec![self.at_include(diagnostic, tpl, include_chain.get(1))]
            }
            ErrorKind::Msg(text) if text.starts_with("error: ") => self.reports(text),
            _ => {
                let text = lower_first(&error.to_string());
                vec![self.whole(Diagnostic::error("template-error", text), name)]
            }
        }
    }

    fn syntax(&self, report: &ReportError) -> Diagnostic {
        let diagnostic = Diagnostic::error("template-syntax", "this template can't be read");
        let text = our_delimiters(&lower_first(report.message()));
        match self.files.get(report.filename()) {
            Some(file) if text == "unexpected end of input" => {
                let end = file.text().trim_end().len();
                let start = file.text()[..end].rfind('\n').map_or(0, |at| at + 1);
                diagnostic
                    .at(file, Span::new(start, end), "the file ends here, but something is still open")
                    .help("every `<% if %>`, `<% for %>` and `<% block %>` needs its end, such as `<% endif %>`")
            }
            _ => self.place(diagnostic, report, text),
        }
    }

    fn rendering(&self, report: &ReportError) -> Diagnostic {
        let message = report.message();
        for (start, code, what, all) in [
            ("Variable `", "unknown-variable", "a variable of this template", " Available variables: "),
            ("Field `", "unknown-field", "a field of this value", " Available fields: "),
        ] {
            let Some((name, rest)) = message.strip_prefix(start).and_then(|rest| rest.split_once('`')) else {
                continue;
            };
            if !rest.starts_with(" is not defined") {
                continue;
            }
            let mut known: Vec<&str> =
                rest.split_once(all).map(|(_, names)| names.split(", ").collect()).unwrap_or_default();
            known.sort_unstable();
            let diagnostic = Diagnostic::error(code, format!("`{name}` is not {what}"));
            return match suggest(name, known.iter().copied()) {
                Some(near) => self.place(diagnostic, report, format!("did you mean `{near}`?")),
                None if known.is_empty() => self.place(diagnostic, report, "not defined"),
                None => {
                    let help = format!("defined are {}", list(&known));
                    self.place(diagnostic, report, "not defined").help(help)
                }
            };
        }
        self.place(
            Diagnostic::error("template-error", "this template can't be rendered"),
            report,
            lower_first(message),
        )
    }

    fn place(&self, diagnostic: Diagnostic, report: &ReportError, text: impl Into<String>) -> Diagnostic {
        let Some(file) = self.files.get(report.filename()) else { return diagnostic.help(text) };
        let range = &report.span().range;
        diagnostic.at(file, boundaries(file.text(), range.start, range.end), text)
    }

    fn whole(&self, diagnostic: Diagnostic, name: &str) -> Diagnostic {
        match self.files.get(name) {
            Some(file) => {
                let first = file.text().lines().next().map_or(0, str::len);
                diagnostic.at(file, Span::new(0, first), "")
            }
            None => diagnostic,
        }
    }

    fn at_include(&self, diagnostic: Diagnostic, name: &str, included: Option<&String>) -> Diagnostic {
        let found = self.files.get(name).and_then(|file| {
            let included = included?;
            let at = file.text().find(&format!("\"{included}\""))?;
            Some((file, Span::new(at, at + included.len() + 2)))
        });
        match found {
            Some((file, span)) => diagnostic.at(file, span, "this include"),
            None => self.whole(diagnostic, name),
        }
    }

    /// What Tera finds when it links templates comes as one text of drawn reports:
    /// `error: MESSAGE`, ` --> FILE:LINE:COLUMN`, then the line with `^^^` under it.
    fn reports(&self, text: &str) -> Vec<Diagnostic> {
        let mut diagnostics = Vec::new();
        for report in text.split("\n\nerror: ") {
            let mut lines = report.trim_start_matches("error: ").lines();
            let message = lines.next().unwrap_or_default();
            let place = lines.next().and_then(|line| line.trim().strip_prefix("--> "));
            let width = lines.last().map_or(1, |line| line.matches('^').count().max(1));
            let (diagnostic, label) = self.linking(message);
            let found = place.and_then(|place| {
                let mut parts = place.rsplitn(3, ':');
                let column: usize = parts.next()?.parse().ok()?;
                let line: usize = parts.next()?.parse().ok()?;
                Some((self.files.get(parts.next()?)?, line, column))
            });
            diagnostics.push(match found {
                Some((file, line, column)) => {
                    let span = Span::new(file.offset(line, column), file.offset(line, column + width));
                    diagnostic.at(file, span, label)
                }
                None => diagnostic.help(label),
            });
        }
        diagnostics
    }

    fn linking(&self, message: &str) -> (Diagnostic, String) {
        let named = |start: &str| message.strip_prefix(start).and_then(|rest| rest.strip_suffix('`'));
        if let Some(name) = named("Unknown template `") {
            let diagnostic = Diagnostic::error("missing-template", format!("there is no template `{name}`"));
            let label = match suggest(name, self.files.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "names are relative to templates/".to_owned(),
            };
            return (diagnostic, label);
        }
        for (start, what, known) in [
            ("Unknown function `", "function", self.functions),
            ("Unknown filter `", "filter", FILTERS),
            ("Unknown test `", "test", &[]),
        ] {
            if let Some(name) = named(start) {
                let diagnostic = Diagnostic::error("template-error", format!("there is no {what} `{name}`"));
                let label = suggest(name, known.iter().copied())
                    .map_or_else(|| format!("unknown {what}"), |near| format!("did you mean `{near}`?"));
                return (diagnostic, label);
            }
        }
        (Diagnostic::error("template-error", "this template can't be used"), lower_first(message))
    }
}

/// Tera's built-in filters, for suggestions.
const FILTERS: &[&str] = &[
    "default",
    "upper",
    "lower",
    "trim",
    "replace",
    "capitalize",
    "title",
    "truncate",
    "indent",
    "str",
    "int",
    "float",
    "length",
    "reverse",
    "split",
    "abs",
    "round",
    "first",
    "last",
    "nth",
    "join",
    "sort",
    "unique",
    "get",
    "values",
    "keys",
    "pairs",
    "group_by",
];

/// Tera's messages name its own delimiters.
fn our_delimiters(text: &str) -> String {
    let mut text = text.trim_end_matches('.').to_owned();
    for (theirs, ours) in [("{{", "<{"), ("}}", "}>"), ("{%", "<%"), ("%}", "%>"), ("{#", "<#"), ("#}", "#>")]
    {
        text = text.replace(theirs, ours);
    }
    text
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text.starts_with('`') => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}

fn boundaries(text: &str, start: usize, end: usize) -> Span {
    let floor = |at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    Span::new(floor(start), floor(end))
}
