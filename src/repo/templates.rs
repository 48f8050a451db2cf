//! Tera over everything in `templates/`: rendering, and its errors as diagnostics.
//!
//! The delimiters are `<{ }>`, `<% %>` and `<# #>`: Tera's own would eat
//! CloudFormation's `{{resolve:...}}`, Docker's format strings and `{#` in shell scripts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tera::{Context, Delimiters, Error, ErrorKind, Kwargs, ReportError, State, Tera};

use crate::source::{Diagnostic, SourceFile, Span, suggest};

/// The folder that template names are relative to.
pub const FOLDER: &str = "templates/";

/// The folder of cloud-config files, which `user_data(file=...)` names.
const CLOUD_CONFIG: &str = "cloud-config/";

/// What `user_data` made in one rendering.
#[derive(Debug, Clone)]
pub struct MadeUserData {
    /// As it stands in the template, base64.
    pub encoded: String,
    /// The template it was rendered from, relative to the root.
    pub file: String,
}

/// The templates, parsed once.
pub struct Templates {
    files: BTreeMap<String, Arc<SourceFile>>,
    outer: Tera,
    shared: Arc<Shared>,
}

/// What `user_data` needs: the templates, the context of the rendering that calls it, and
/// a place for what it made and for its error, which has more to tell than Tera passes on.
#[derive(Default)]
struct Shared {
    inner: Mutex<Option<Arc<Tera>>>,
    context: Mutex<Context>,
    made: Mutex<Vec<MadeUserData>>,
    /// Names of templates that could not be parsed; they were reported for themselves.
    broken: Mutex<Vec<String>>,
    /// Whether the present rendering failed for one of them only.
    hidden: Mutex<bool>,
    error: Mutex<Option<Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Templates {
    /// Parses `sources` (named relative to the root). Those that can't be parsed, or
    /// that name what is not there, go to `problems` and are left out.
    pub fn parse(sources: &[Arc<SourceFile>], problems: &mut Vec<Diagnostic>) -> Self {
        let files: BTreeMap<String, Arc<SourceFile>> = sources
            .iter()
            .filter_map(|file| Some((file.name().strip_prefix(FOLDER)?.to_owned(), Arc::clone(file))))
            .collect();
        let shared = Arc::new(Shared::default());
        let mut templates = Self { files, outer: Tera::new(), shared };
        templates.outer = templates.build(problems);
        *lock(&templates.shared.broken) =
            templates.files.keys().filter(|name| !templates.outer.contains_template(name)).cloned().collect();
        *lock(&templates.shared.inner) = Some(Arc::new(templates.outer.clone()));
        templates
    }

    /// Whether there is a template of that name (relative to `templates/`).
    pub fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether it could be parsed.
    pub fn is_parsed(&self, name: &str) -> bool {
        self.outer.contains_template(name)
    }

    /// The names of all files that start with `prefix`, without it.
    pub fn names<'t>(&'t self, prefix: &'t str) -> impl Iterator<Item = &'t str> {
        self.files.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&Arc<SourceFile>> {
        self.files.get(name)
    }

    /// Renders the template `name` (relative to `templates/`).
    ///
    /// # Errors
    /// One diagnostic a problem, pointing into the template at fault.
    pub fn render(
        &self,
        name: &str,
        context: Context,
    ) -> Result<(String, Vec<MadeUserData>), Vec<Diagnostic>> {
        *lock(&self.shared.context) = context.clone();
        lock(&self.shared.made).clear();
        lock(&self.shared.error).take();
        *lock(&self.shared.hidden) = false;
        match self.outer.render(name, &context) {
            Ok(text) => Ok((text, std::mem::take(&mut *lock(&self.shared.made)))),
            Err(_) if *lock(&self.shared.hidden) => Err(Vec::new()),
            Err(outer) => {
                let inner = lock(&self.shared.error).take();
                let mut diagnostics = self.diagnostics(inner.as_ref().unwrap_or(&outer), name);
                if inner.is_some()
                    && let Some(caller) = self.diagnostics(&outer, name).first().and_then(|d| d.label.clone())
                {
                    let line = caller.file.position(caller.span.start).line;
                    for diagnostic in &mut diagnostics {
                        diagnostic
                            .help
                            .push(format!("rendered as user data for {}:{line}", caller.file.name()));
                    }
                }
                Err(diagnostics)
            }
        }
    }

    fn empty(&self) -> Tera {
        let mut tera = Tera::new();
        let delimiters = Delimiters {
            block_start: "<%".into(),
            block_end: "%>".into(),
            variable_start: "<{".into(),
            variable_end: "}>".into(),
            comment_start: "<#".into(),
            comment_end: "#>".into(),
        };
        tera.set_delimiters(delimiters).expect("the delimiters differ and no template is there yet");
        tera.autoescape_on(Vec::<&str>::new());
        let shared = Arc::clone(&self.shared);
        tera.register_function("user_data", move |kwargs: Kwargs, _: &State<'_>| user_data(&shared, &kwargs));
        tera
    }

    /// All templates in one Tera; the slow way, one by one, only when something is wrong.
    fn build(&self, problems: &mut Vec<Diagnostic>) -> Tera {
        let mut tera = self.empty();
        let all = self.files.iter().map(|(name, file)| (name.as_str(), file.text()));
        if tera.add_raw_templates(all).is_ok() {
            return tera;
        }
        let mut good: Vec<&str> = Vec::new();
        for (name, file) in &self.files {
            match self.empty().add_raw_template(name, file.text()) {
                Err(error) if matches!(error.kind(), ErrorKind::SyntaxError(_)) => {
                    problems.extend(self.diagnostics(&error, name));
                }
                // What it includes may be in another file: the whole set decides below.
                Ok(()) | Err(_) => good.push(name),
            }
        }
        loop {
            let mut tera = self.empty();
            let set = good.iter().map(|name| (*name, self.files[*name].text()));
            let Err(error) = tera.add_raw_templates(set) else { return tera };
            let found = self.diagnostics(&error, "");
            let before = good.len();
            good.retain(|name| {
                !found.iter().any(|problem| {
                    problem
                        .label
                        .as_ref()
                        .is_some_and(|label| label.file.name().strip_prefix(FOLDER) == Some(name))
                })
            });
            // A template that could not be parsed was reported for itself.
            let reported = |problem: &Diagnostic| {
                problem.code == "missing-template"
                    && self.files.keys().any(|name| problem.message.contains(&format!("`{name}`")))
            };
            problems.extend(found.into_iter().filter(|problem| !reported(problem)));
            if good.len() == before {
                return self.empty();
            }
        }
    }

    /// Tera's error in our words; `name` is the template to blame when the error has no place.
    fn diagnostics(&self, error: &Error, name: &str) -> Vec<Diagnostic> {
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
                    let help = format!("defined are {}", super::decode::list(&known));
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
            ("Unknown function `", "function", &["user_data", "range", "throw"][..]),
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

/// The function `user_data(file="worker.yaml")`: the cloud-config file, rendered with the
/// same variables, encoded as CloudFormation wants it.
fn user_data(shared: &Shared, kwargs: &Kwargs) -> Result<String, Error> {
    let file: String = kwargs.must_get("file")?;
    let name = format!("{CLOUD_CONFIG}{file}");
    let Some(inner) = lock(&shared.inner).clone() else {
        return Err(Error::message("`user_data` can't be used while templates are read"));
    };
    if lock(&shared.broken).contains(&name) {
        *lock(&shared.hidden) = true;
        return Err(Error::message(format!("`{FOLDER}{name}` can't be read")));
    }
    if !inner.contains_template(&name) {
        let known: Vec<&str> =
            inner.get_template_names().filter_map(|name| name.strip_prefix(CLOUD_CONFIG)).collect();
        let help = suggest(&file, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Error::message(format!("There is no `{FOLDER}{name}`{help}")));
    }
    let context = lock(&shared.context).clone();
    match inner.render(&name, &context) {
        Ok(text) => {
            let encoded = STANDARD.encode(text);
            lock(&shared.made)
                .push(MadeUserData { encoded: encoded.clone(), file: format!("{FOLDER}{name}") });
            Ok(encoded)
        }
        Err(error) => {
            let message = Error::message(format!("`{FOLDER}{name}` can't be rendered"));
            // The innermost error is the cause.
            lock(&shared.error).get_or_insert(error);
            Err(message)
        }
    }
}

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
