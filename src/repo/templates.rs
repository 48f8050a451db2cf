//! Tera over everything in `templates/`: rendering, and its errors as diagnostics.
//!
//! The delimiters are `<{ }>`, `<% %>` and `<# #>`: Tera's own would eat
//! CloudFormation's `{{resolve:...}}`, Docker's format strings and `{#` in shell scripts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tera::{Context, Delimiters, Error, ErrorKind, Kwargs, State, Tera};

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
}

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
        templates.render("cloudformation/t.yaml", context).ok().map(|(text, _)| text)
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
        fn any_template_is_rendered_or_refused_without_panic(text in "[<>{}%#a-c \\n\"(|).-]{0,40}") {
            let _ = rendered(&text);
        }
    }
}
