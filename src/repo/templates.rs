//! Tera over everything in `templates/`: rendering, and its errors as diagnostics.
//!
//! The delimiters are `<{ }>`, `<% %>` and `<# #>`: Tera's own would eat
//! CloudFormation's `{{resolve:...}}`, Docker's format strings and `{#` in shell scripts.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tera::{Context, Error, ErrorKind, Kwargs, State, Tera};

use super::host_files::TEMPLATES as HOST_FILES;
use super::origin::Origins;
use crate::cloud_config::{self, Merged};
use crate::host_file::delimiters;
use crate::source::{Diagnostic, SourceFile, suggest};

mod errors;

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
    /// What it was put together from, where it includes others; the parts have the names of
    /// their templates.
    pub merged: Option<Arc<Merged>>,
}

/// The functions of templates in a repository, for suggestions.
const FUNCTIONS: [&str; 3] = ["user_data", "range", "throw"];

/// What instructions name other templates with.
const LINKS: [&str; 2] = ["include", "extends"];

/// The templates, parsed once.
pub struct Templates {
    files: BTreeMap<String, Arc<SourceFile>>,
    /// Those without instructions, which are rendered as they are.
    plain: HashSet<String>,
    /// The others, and those of `plain` that they may name.
    tera: Arc<Tera>,
    shared: Arc<Shared>,
    /// The functions that they have, for suggestions.
    functions: &'static [&'static str],
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
    /// What was found when documents were put together.
    problems: Mutex<Vec<Diagnostic>>,
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
            // Machines render those, from what the cluster knows.
            .filter(|(name, _)| !name.starts_with(HOST_FILES))
            .collect();
        let shared = Arc::new(Shared::default());
        let plain =
            files.iter().filter(|(_, file)| is_plain(file.text())).map(|(name, _)| name.clone()).collect();
        let mut templates = Self { files, plain, tera: Arc::default(), shared, functions: &FUNCTIONS };
        templates.tera = Arc::new(templates.build(problems));
        *lock(&templates.shared.broken) =
            templates.files.keys().filter(|name| !templates.is_parsed(name)).cloned().collect();
        *lock(&templates.shared.inner) = Some(Arc::clone(&templates.tera));
        templates
    }

    /// One template of a watched file, which has those functions, to report its errors.
    pub fn of_host_file(file: &Arc<SourceFile>, functions: &'static [&'static str]) -> Self {
        Self {
            files: BTreeMap::from([(file.name().to_owned(), Arc::clone(file))]),
            plain: HashSet::new(),
            tera: Arc::default(),
            shared: Arc::default(),
            functions,
        }
    }

    /// Tera's error in our words; `name` is the template to blame when the error has no place.
    pub fn errors(&self, error: &Error, name: &str) -> Vec<Diagnostic> {
        self.diagnostics(error, name)
    }

    /// Whether there is a template of that name (relative to `templates/`).
    pub fn has_file(&self, name: &str) -> bool {
        self.files.contains_key(name)
    }

    /// Whether it could be parsed.
    pub fn is_parsed(&self, name: &str) -> bool {
        self.plain.contains(name) || self.tera.contains_template(name)
    }

    /// The names of all files that start with `prefix`, without it.
    pub fn names<'t>(&'t self, prefix: &'t str) -> impl Iterator<Item = &'t str> {
        self.files.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// The file of that name.
    pub fn file(&self, name: &str) -> Option<&Arc<SourceFile>> {
        self.files.get(name)
    }

    /// The template that a rendered text was named after, relative to the root.
    pub fn source(&self, file: &str) -> Option<&Arc<SourceFile>> {
        self.files.get(file.strip_prefix(FOLDER)?)
    }

    /// Renders the template `name` (relative to `templates/`), with a context that is made if it is needed.
    ///
    /// # Errors
    /// One diagnostic a problem, pointing into the template at fault.
    pub fn render(
        &self,
        name: &str,
        context: impl FnOnce() -> Context,
    ) -> Result<(String, Vec<MadeUserData>), Vec<Diagnostic>> {
        if let Some(file) = self.files.get(name).filter(|_| self.plain.contains(name)) {
            return Ok((file.text().to_owned(), Vec::new()));
        }
        let context = context();
        *lock(&self.shared.context) = context.clone();
        lock(&self.shared.made).clear();
        lock(&self.shared.error).take();
        lock(&self.shared.problems).clear();
        *lock(&self.shared.hidden) = false;
        match self.tera.render(name, &context) {
            Ok(text) => Ok((text, std::mem::take(&mut *lock(&self.shared.made)))),
            Err(_) if *lock(&self.shared.hidden) => Err(Vec::new()),
            Err(_) if !lock(&self.shared.problems).is_empty() => {
                let mut problems = std::mem::take(&mut *lock(&self.shared.problems));
                problems.iter_mut().for_each(|problem| self.trace(problem));
                Err(problems)
            }
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

    /// Moves a problem in a rendered document into its template.
    fn trace(&self, problem: &mut Diagnostic) {
        let Some(rendered) = problem.label.as_ref().map(|label| Arc::clone(&label.file)) else { return };
        if let Some(source) = self.source(rendered.name()) {
            Origins::new(source, &rendered).trace(problem);
        }
    }

    fn empty(&self) -> Tera {
        let mut tera = Tera::new();
        tera.set_delimiters(delimiters()).expect("the delimiters differ and no template is there yet");
        tera.autoescape_on(Vec::<&str>::new());
        let shared = Arc::clone(&self.shared);
        tera.register_function("user_data", move |kwargs: Kwargs, _: &State<'_>| user_data(&shared, &kwargs));
        tera
    }

    /// The files that Tera gets: `user_data` names those in its folder, and instructions any.
    fn engine_files(&self) -> BTreeMap<&str, &Arc<SourceFile>> {
        let files = || self.files.iter().map(|(name, file)| (name.as_str(), file));
        let has_instructions = |name: &str| !self.plain.contains(name);
        let is_linked = files().any(|(name, file)| {
            has_instructions(name) && LINKS.iter().any(|word| file.text().contains(word))
        });
        files()
            .filter(|(name, _)| is_linked || name.starts_with(CLOUD_CONFIG) || has_instructions(name))
            .collect()
    }

    /// All templates in one Tera; the slow way, one by one, only when something is wrong.
    fn build(&self, problems: &mut Vec<Diagnostic>) -> Tera {
        let files = self.engine_files();
        let mut tera = self.empty();
        if files.is_empty() {
            return tera;
        }
        let all = files.iter().map(|(name, file)| (*name, file.text()));
        if tera.add_raw_templates(all).is_ok() {
            return tera;
        }
        let mut good: Vec<&str> = Vec::new();
        for (name, file) in files {
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
}

/// Whether a text holds no instruction, so that it is rendered as it is.
fn is_plain(text: &str) -> bool {
    text.split('<').skip(1).all(|rest| !rest.starts_with(['%', '{', '#']))
}

/// The function `user_data(file="worker.yaml")`: the cloud-config file, rendered with the
/// same variables and put together with what it includes, encoded as CloudFormation wants it.
fn user_data(shared: &Shared, kwargs: &Kwargs) -> Result<String, Error> {
    let file: String = kwargs.must_get("file")?;
    let text = document(shared, &file)?;
    let (text, merged) = if cloud_config::includes(&text).is_empty() {
        (text, None)
    } else {
        let mut parts = Parts { shared, done: Vec::new(), open: Vec::new() };
        parts.add(&file, text)?;
        match cloud_config::merge(parts.done) {
            Ok(merged) => (merged.text.clone(), Some(Arc::new(merged))),
            Err(problems) => return Err(refused(shared, problems)),
        }
    };
    let encoded = STANDARD.encode(text);
    let file = format!("{FOLDER}{CLOUD_CONFIG}{file}");
    lock(&shared.made).push(MadeUserData { encoded: encoded.clone(), file, merged });
    Ok(encoded)
}

/// The document `file`, rendered.
fn document(shared: &Shared, file: &str) -> Result<String, Error> {
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
        let help = suggest(file, known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(Error::message(format!("There is no `{FOLDER}{name}`{help}")));
    }
    let context = lock(&shared.context).clone();
    inner.render(&name, &context).map_err(|error| {
        let message = Error::message(format!("`{FOLDER}{name}` can't be rendered"));
        // The innermost error is the cause.
        lock(&shared.error).get_or_insert(error);
        message
    })
}

/// Leaves `problems` to be told instead of Tera's error.
fn refused(shared: &Shared, problems: Vec<Diagnostic>) -> Error {
    lock(&shared.problems).extend(problems);
    Error::message("the document can't be put together")
}

/// The documents that one is put together from.
struct Parts<'s> {
    shared: &'s Shared,
    /// Rendered, in the order in which they win.
    done: Vec<Arc<SourceFile>>,
    /// Those whose includes are being followed.
    open: Vec<String>,
}

impl Parts<'_> {
    /// Adds what `text`, the document `file`, includes, each document once, and then itself.
    fn add(&mut self, file: &str, text: String) -> Result<(), Error> {
        let rendered = SourceFile::new(format!("{FOLDER}{CLOUD_CONFIG}{file}"), text);
        self.open.push(file.to_owned());
        for (name, span) in cloud_config::includes(rendered.text()) {
            let refuse = |code, message: String, label: String| {
                let problem = Diagnostic::error(code, message).at(&rendered, span, label);
                Err(refused(self.shared, vec![problem]))
            };
            if let Some(at) = self.open.iter().position(|open| open == name) {
                let circle = [&self.open[at..], &[name.to_owned()]].concat().join(" -> ");
                return refuse(
                    "include-cycle",
                    format!("documents include each other: {circle}"),
                    String::new(),
                );
            }
            let path = format!("{CLOUD_CONFIG}{name}");
            if self.done.iter().any(|done| done.name().strip_prefix(FOLDER) == Some(&path)) {
                continue;
            }
            let inner = lock(&self.shared.inner).clone();
            let known: Vec<&str> = inner.iter().flat_map(|tera| tera.get_template_names()).collect();
            let broken = lock(&self.shared.broken).contains(&path);
            if !broken && !known.contains(&path.as_str()) {
                let near = suggest(name, known.iter().filter_map(|name| name.strip_prefix(CLOUD_CONFIG)));
                let label = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
                return refuse("missing-template", format!("there is no `{FOLDER}{path}`"), label);
            }
            let text = document(self.shared, name)?;
            self.add(name, text)?;
        }
        self.open.pop();
        self.done.push(rendered);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(text: &str) -> Option<String> {
        let file = SourceFile::new("templates/cloudformation/t.yaml", text);
        let mut problems = Vec::new();
        let templates = Templates::parse(&[file], &mut problems);
        let mut context = Context::new();
        context.insert("name", "a: {b} 'c'");
        context.insert("yes", &true);
        context.insert("items", &[1, 2, 3]);
        templates.render("cloudformation/t.yaml", || context).ok().map(|(text, _)| text)
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(vec![
            "Resources:\n",
            "  A: ${B} {{resolve:ssm:/x}}\n",
            "  C: <{ name }>\n",
            "<% if yes %>D: 1\n<% endif %>",
            "<%- for item in items %>\n  - <{ item }>\n<%- endfor %>\n",
            "<# gone #>",
            "<% raw %>kept<% endraw %>\n",
            "{# shell #} {% x %}\n",
            "\t\u{e4}\u{2028}\n",
        ]);
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(64)))]

        /// What was rendered once has nothing left to be rendered.
        #[test]
        fn rendering_is_stable(text in pieces()) {
            let once = rendered(&text).expect("all pieces can be rendered");
            prop_assert_eq!(rendered(&once), Some(once));
        }

        #[test]
        fn what_holds_no_instruction_is_what_the_engine_renders(text in "[<>{}%#a-c \\n\\r\\t\u{e4}\u{feff}\"(|).-]{0,40}") {
            if is_plain(&text) {
                let mut tera = Templates::parse(&[], &mut Vec::new()).empty();
                tera.add_raw_template("t", &text).expect("there is nothing to parse");
                prop_assert_eq!(tera.render("t", &Context::new()).expect("nor to evaluate"), text.as_str());
                prop_assert_eq!(rendered(&text), Some(text));
            }
        }

        #[test]
        fn any_template_is_rendered_or_refused_without_panic(text in "[<>{}%#a-c \\n\"(|).-]{0,40}") {
            let _ = rendered(&text);
        }
    }
}
