//! Repository text to model: every problem at once, each with its place.
//!
//! [`load`] reads and checks the files, [`render`] makes what CloudFormation gets of
//! them, [`check()`] does both for every environment. Nothing here reaches further than
//! the repository's folder and the environment variables that its files name.

use std::path::Path;
use std::sync::Arc;

use crate::model::pipeline::Pipeline;
use crate::model::project::{Environment, Repository};
use crate::model::stack::RenderedStack;
use crate::source::{Diagnostic, SourceFile, Span, suggest};

mod access;
pub mod agent;
pub mod check;
mod cloudformation;
mod decode;
pub mod document;
mod edit;
mod exports;
mod files;
mod graph;
mod group_sizes;
mod host_files;
mod interpolate;
mod jobs;
mod keep;
mod merge_keys;
mod names;
mod nested;
mod notify;
mod origin;
mod parameters;
mod pipelines;
mod project;
mod references;
mod rendering;
mod secret_scopes;
mod service_mounts;
mod service_order;
mod service_ports;
mod service_units;
mod services;
mod stack_policy;
mod stacks;
pub mod starters;
mod templates;
mod unfilled;

pub use interpolate::Variables;
pub use names::cloud_name;
pub use pipelines::{OwnProblems, own_steps};

/// The file that makes a folder an infra repository.
pub const PROJECT_FILE: &str = "fleetwright.yaml";

/// A repository as far as it could be read.
#[derive(Debug)]
pub struct Loaded {
    repository: Repository,
    problems: Vec<Diagnostic>,
}

impl Loaded {
    /// How many files were read.
    pub fn files(&self) -> usize {
        self.repository.files
    }

    /// The repository and its warnings.
    ///
    /// # Errors
    /// All diagnostics, when one of them is an error.
    pub fn finish(self) -> Result<(Repository, Vec<Diagnostic>), Vec<Diagnostic>> {
        if self.problems.iter().any(Diagnostic::is_error) {
            return Err(sorted(self.problems));
        }
        Ok((self.repository, sorted(self.problems)))
    }
}

/// Reads the repository at `root`, with the process's environment variables.
pub fn load(root: &Path) -> Loaded {
    load_with(root, &|name| std::env::var(name).ok())
}

/// Reads the repository at `root`, with `variables`.
pub fn load_with(root: &Path, variables: Variables<'_>) -> Loaded {
    let mut problems = Vec::new();
    let files = files::read(root, &mut problems);
    let repository = references::assemble(root, &files, variables, &mut problems);
    Loaded { repository, problems }
}

/// Reads nothing of the repository at `root` but [`PROJECT_FILE`]: it has no stacks, services, jobs and pipelines
/// then, and what is wrong with them is not reported.
pub fn load_project(root: &Path) -> Loaded {
    let mut problems = Vec::new();
    let files = files::read_project(root, &mut problems);
    let repository = references::assemble(root, &files, &|name| std::env::var(name).ok(), &mut problems);
    Loaded { repository, problems }
}

/// Renders the stacks of `environment`, in the order of their dependency.
///
/// # Errors
/// Every problem found.
pub fn render(
    repository: &Repository,
    environment: &Environment,
) -> Result<Vec<RenderedStack>, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let stacks = rendering::Renderer::new(repository, &mut problems).render(environment, &mut problems);
    if problems.iter().any(Diagnostic::is_error) { Err(sorted(problems)) } else { Ok(stacks) }
}

/// Reads the repository at `root` and renders it for every environment: all problems
/// there are, sorted by file and place, and the number of files read.
pub fn check(root: &Path) -> (Vec<Diagnostic>, usize) {
    check_with(root, &|name| std::env::var(name).ok())
}

/// Like [`check()`], with `variables`.
pub fn check_with(root: &Path, variables: Variables<'_>) -> (Vec<Diagnostic>, usize) {
    let Loaded { repository, mut problems } = load_with(root, variables);
    let renderer = rendering::Renderer::new(&repository, &mut problems);
    let rendered: Vec<_> = repository
        .environments
        .iter()
        .map(|environment| (environment, renderer.render(environment, &mut problems)))
        .collect();
    names::check_rendered(&repository, &rendered, &mut problems);
    (sorted(problems), repository.files)
}

/// What [`lint`] has found.
#[derive(Debug)]
pub struct Linted {
    /// The pipelines of the files that were asked for, as far as they could be read.
    pub pipelines: Vec<Pipeline>,
    /// The problems of those files, and of [`PROJECT_FILE`], sorted by file and place.
    pub problems: Vec<Diagnostic>,
    /// How many errors other files of the repository have.
    pub elsewhere: usize,
    /// How many files were checked.
    pub files: usize,
}

/// Checks pipelines alone, against the rest of the repository at `root`: nothing is rendered. `drafts` are checked as if
/// they were in `pipelines/`, in place of a file of the same name there. `only` names the files that are reported, all of
/// `pipelines/` where it names none.
pub fn lint(root: &Path, drafts: Vec<Arc<SourceFile>>, only: &[String]) -> Linted {
    let mut problems = Vec::new();
    let mut files = files::read(root, &mut problems);
    let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let mut wanted = only.to_vec();
    for draft in drafts {
        files.pipelines.retain(|file| base(file.name()) != base(draft.name()));
        wanted.push(draft.name().to_owned());
        files.pipelines.push(draft);
    }
    if wanted.is_empty() {
        wanted = files.pipelines.iter().map(|file| file.name().to_owned()).collect();
    }
    let repository = references::assemble(root, &files, &|name| std::env::var(name).ok(), &mut problems);
    let is_wanted = |name: &str| wanted.iter().any(|wanted| wanted == name);
    let (here, other): (Vec<_>, Vec<_>) = problems.into_iter().partition(|problem| match &problem.label {
        Some(label) => label.file.name() == PROJECT_FILE || is_wanted(label.file.name()),
        // A file that can't be read has no place.
        None => wanted.iter().any(|wanted| problem.message.contains(wanted.as_str())),
    });
    let pipelines = repository.pipelines.into_iter().filter(|one| is_wanted(one.place.file.name())).collect();
    let elsewhere = other.iter().filter(|problem| problem.is_error()).count();
    Linted { pipelines, problems: sorted(here), elsewhere, files: wanted.len() }
}

/// By file and place; what several environments or stacks have in common is said once.
fn sorted(mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let key = |problem: &Diagnostic| {
        let place = problem.label.as_ref().map(|label| (label.file.name().to_owned(), label.span));
        (place, problem.message.clone())
    };
    problems.sort_by_cached_key(key);
    problems.dedup_by(|a, b| a.code == b.code && key(a) == key(b));
    problems
}

/// Writes down a problem with a name, suggesting the nearest of `known`, or listing them.
fn did_you_mean(
    reader: &mut decode::Reader<'_>,
    diagnostic: Diagnostic,
    span: Span,
    name: &str,
    known: &[&str],
    place: &str,
) {
    let file = Arc::clone(reader.file);
    reader.problems.push(with_suggestion(diagnostic, &file, span, name, known, place));
}

/// The same diagnostic with a label and, when no name is near, a list of those there are in `place`.
fn with_suggestion(
    diagnostic: Diagnostic,
    file: &Arc<SourceFile>,
    span: Span,
    name: &str,
    known: &[&str],
    place: &str,
) -> Diagnostic {
    let mut known = known.to_vec();
    known.sort_unstable();
    match suggest(name, known.iter().copied()) {
        Some(near) => diagnostic.at(file, span, format!("did you mean `{near}`?")),
        None if known.is_empty() => diagnostic.at(file, span, "").help(format!("{place} is empty")),
        None => diagnostic.at(file, span, "").help(format!("{place} has {}", decode::list(&known))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::name::ProjectName;

    /// The starters, in memory, with one of them changed.
    fn files(changed: &str, text: &str) -> files::Files {
        let project: ProjectName = "demo".parse().expect("it is a name");
        let mut files = files::Files::default();
        for (path, original) in starters::files(&project) {
            let file = SourceFile::new(path, if path == changed { text.to_owned() } else { original });
            match path.split('/').next() {
                Some("stacks") => files.stacks.push(file),
                Some("services") => files.services.push(file),
                Some("jobs") => files.jobs.push(file),
                Some("pipelines") => files.pipelines.push(file),
                Some("templates") => files.templates.push(file),
                _ => files.project = Some(file),
            }
        }
        files
    }

    /// Everything that `check` does, without a disk.
    fn problems(files: &files::Files) -> Vec<Diagnostic> {
        let mut problems = Vec::new();
        let repository = references::assemble(Path::new("."), files, &|_| None, &mut problems);
        let renderer = rendering::Renderer::new(&repository, &mut problems);
        for environment in &repository.environments {
            renderer.render(environment, &mut problems);
        }
        sorted(problems)
    }

    fn every_span_is_a_slice(problems: &[Diagnostic]) {
        for label in problems.iter().filter_map(|problem| problem.label.as_ref()) {
            let (text, span) = (label.file.text(), label.span);
            assert!(text.get(span.start..span.end).is_some(), "{span:?} in {:?}", label.file.name());
        }
    }

    /// Texts that look enough like YAML and Tera to get far into the parsers.
    fn fragment() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            "[ -~]{0,4}",
            "[äß€𝄞\u{0}\u{85}\u{2028}\u{feff}\r]{1,2}",
            proptest::sample::select(vec![
                "\n",
                "  ",
                "\t",
                ": ",
                "- ",
                "&a ",
                "*a",
                "!Ref ",
                "!Sub ",
                "{",
                "}",
                "[",
                "]",
                "\"",
                "'",
                "|\n",
                ">-\n",
                "---\n",
                "# ",
                "<{ ",
                " }>",
                "<% if ",
                "<% endif %>",
                "<% include \"",
                "${env.",
                "${a.B}",
                "? ",
                "%YAML",
                "web",
                "image",
                "network:",
                "project",
                "user_data(file=",
            ])
            .prop_map(str::to_owned),
        ];
        proptest::collection::vec(token, 0..30).prop_map(|tokens| tokens.concat())
    }

    const PATHS: [&str; 6] = [
        "fleetwright.yaml",
        "stacks/cluster.yaml",
        "services/web.yaml",
        "pipelines/web.yaml",
        "templates/cloudformation/network.yaml",
        "templates/cloud-config/worker.yaml",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_text_is_read_without_panic_and_spans_are_slices(text in fragment()) {
            let file = SourceFile::new("any.yaml", text);
            let mut found = Vec::new();
            crate::yaml::parse(&file, &mut found);
            every_span_is_a_slice(&found);
        }

        #[test]
        fn any_file_of_a_repository_is_checked_without_panic(
            path in proptest::sample::select(PATHS.to_vec()),
            text in fragment(),
        ) {
            every_span_is_a_slice(&problems(&files(path, &text)));
        }

        #[test]
        fn a_repository_with_something_spliced_in_is_checked_without_panic(
            path in proptest::sample::select(PATHS.to_vec()),
            at in 0.0..1.0f64,
            cut in 0..20usize,
            text in fragment(),
        ) {
            let original = files("", "");
            let all = [&original.stacks, &original.services, &original.pipelines, &original.templates];
            let file = all.into_iter().flatten().chain(&original.project).find(|file| file.name() == path);
            let chars: Vec<char> = file.expect("it is a starter").text().chars().collect();
            let at = (chars.len() as f64 * at) as usize;
            let end = (at + cut).min(chars.len());
            let changed: String = chars[..at].iter().copied().chain(text.chars()).chain(chars[end..].iter().copied()).collect();
            every_span_is_a_slice(&problems(&files(path, &changed)));
        }
    }

    fn order(stacks: &str) -> (Vec<String>, Vec<Diagnostic>) {
        let mut files = files("stacks/cluster.yaml", stacks);
        files.templates.push(SourceFile::new(
            "templates/cloudformation/any.yaml",
            "Parameters: {P: {Type: String, Default: a}}\nResources: {R: {Type: A::B::C}}\nOutputs: {O: {Value: !Ref P}}\n",
        ));
        let mut problems = Vec::new();
        let repository = references::assemble(Path::new("."), &files, &|_| None, &mut problems);
        let renderer = rendering::Renderer::new(&repository, &mut problems);
        let stacks = renderer.render(&repository.environments[0], &mut problems);
        (stacks.iter().map(|stack| stack.name.to_string()).collect(), sorted(problems))
    }

    fn stack(name: &str, needs: &str) -> String {
        let parameter = if needs.is_empty() { String::new() } else { format!("${{{needs}.O}}") };
        format!("{name}:\n  template: any.yaml\n  parameters: {{P: \"{parameter}\"}}\n")
    }

    #[test]
    fn stacks_come_after_what_they_refer_to_and_else_as_they_stand() {
        let text =
            [stack("d", "b"), stack("c", ""), stack("b", "a"), stack("a", ""), stack("e", "c")].concat();
        let (order, problems) = order(&text);
        assert_eq!(order, ["c", "a", "b", "d", "e"]);
        assert_eq!(problems, vec![]);
    }

    #[test]
    fn each_circle_is_told_once_and_the_rest_is_rendered() {
        let text = [
            stack("a", "b"),
            stack("b", "a"),
            stack("c", "c"),
            stack("d", "a"),
            stack("e", ""),
            stack("f", "e"),
        ]
        .concat();
        let (order, problems) = order(&text);
        assert_eq!(order, ["e", "f"]);
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            messages,
            [
                "stacks refer to each other in a circle: `a` -> `b` -> `a`",
                "stacks refer to each other in a circle: `c` -> `c`",
            ]
        );
    }

    #[test]
    fn line_ends_of_windows_and_byte_order_marks_change_nothing() {
        let project: ProjectName = "demo".parse().expect("it is a name");
        for (path, text) in starters::files(&project) {
            let changed = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            // In a template a byte order mark is text like any other, and stays first.
            let changed = if path.starts_with("templates/cloud-config") { continue } else { changed };
            assert_eq!(problems(&files(path, &changed)), vec![], "{path}");
        }
    }

    #[test]
    fn the_starters_have_no_problem() {
        assert_eq!(problems(&files("", "")), vec![]);
    }
}
