//! Declarative Jenkinsfiles.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::draft::{Draft, Step};
use super::emit::Value;
use super::{Names, Notes, tagged};
use crate::source::{Diagnostic, SourceFile, Span};

mod directives;
mod groovy;
mod stages;
mod steps;
mod text;
mod when;

use groovy::{Kind, Statement};
use when::When;

/// Converts a Jenkinsfile.
///
/// # Errors
/// When it can't be parsed, or is not a declarative pipeline.
pub fn convert(
    file: &Arc<SourceFile>,
    names: &Names,
    notes: &mut Notes<'_>,
) -> Result<Draft, Vec<Diagnostic>> {
    let statements = groovy::parse(file).map_err(|problem| vec![*problem])?;
    let pipeline = statements.iter().find(|one| one.name == "pipeline" && one.block.is_some());
    let Some((pipeline, stages)) = pipeline.and_then(|one| Some((one, one.get("stages")?))) else {
        return Err(vec![refusal(file, &statements)]);
    };
    for statement in statements.iter().filter(|one| one.name != "pipeline") {
        notes.add(
            statement.span,
            "code outside of `pipeline` is not read",
            "write what it does into the commands of the steps that need it",
        );
    }
    let mut reader = Reader {
        names,
        notes,
        parameters: Vec::new(),
        secrets: BTreeSet::new(),
        rewritten: BTreeSet::new(),
        kinds: References::of(file, &statements),
        why: None,
        items: Vec::new(),
        tails: Vec::new(),
    };
    let mut draft = Draft::default();
    let mut scope = Scope::default();
    reader.directives(pipeline, &mut draft, &mut scope);
    reader.stages(stages.inside(), &scope);
    if let Some(post) = pipeline.get("post") {
        reader.post(post, &scope);
    }
    draft.steps = reader.connected();
    Ok(draft)
}

fn refusal(file: &Arc<SourceFile>, statements: &[Statement]) -> Diagnostic {
    let name = file.name();
    let (span, message, help) = match statements
        .iter()
        .find(|one| ["node", "pipeline", "stage"].contains(&one.name.as_str()))
    {
        Some(found) if found.name == "pipeline" => (
            found.span,
            format!("the pipeline of {name} has no `stages`"),
            "write `stages { stage('test') { steps { ... } } }`",
        ),
        Some(found) => (
            found.span,
            format!("{name} is a scripted pipeline, and only declarative ones can be converted"),
            "write its stages as steps of `pipelines/` by hand: docs/infra-repository.md lists their keys",
        ),
        None => (
            statements.first().map_or(Span::new(0, 0), |first| first.span),
            format!("{name} is not a Jenkinsfile with a declarative pipeline"),
            "it needs `pipeline { agent ... stages { ... } }`; files of Woodpecker end with .yml or .yaml",
        ),
    };
    let first = Span::new(
        span.start,
        file.text()[span.start..].find('\n').map_or(file.text().len(), |end| span.start + end),
    );
    Diagnostic::error("not-a-pipeline", message).at(file, first, "").help(help)
}

/// What the job builds, as far as conditions and variables show it.
#[derive(Debug, Clone, Copy, Default)]
struct References {
    branches: bool,
    tags: bool,
    pull_requests: bool,
}

impl References {
    fn of(file: &SourceFile, statements: &[Statement]) -> Self {
        let text = file.text();
        let pull_requests = named(statements, &["changeRequest"]) || text.contains("CHANGE_");
        let tags = named(statements, &["tag", "buildingTag"]) || text.contains("TAG_NAME");
        let branches = named(statements, &["branch"]) || text.contains("BRANCH_NAME");
        Self { branches: branches || tags || pull_requests, tags, pull_requests }
    }
}

/// Whether a statement of one of these names is among them, at any depth.
fn named(statements: &[Statement], names: &[&str]) -> bool {
    statements.iter().any(|one| names.contains(&one.name.as_str()) || named(one.inside(), names))
}

/// The image of steps.
#[derive(Debug, Clone, Default)]
enum Image {
    /// None is named.
    #[default]
    Missing,
    /// This one.
    Named(String),
    /// One that can't be used, and why.
    Unusable(String),
}

/// What holds for the steps of a stage.
#[derive(Debug, Clone, Default)]
struct Scope {
    image: Image,
    env: Vec<(String, String)>,
    secrets: Vec<(String, String)>,
    /// Variables that commands set first, with the command.
    exports: Vec<(String, String)>,
    /// Variables whose values are code, with their lines.
    broken: Vec<(String, usize)>,
    when: When,
    timeout: Option<String>,
    retries: Option<u32>,
    /// Why its steps become comments, if they do.
    off: Option<String>,
}

impl Scope {
    fn knows(&self, name: &str) -> bool {
        self.env.iter().chain(&self.secrets).chain(&self.exports).any(|(known, _)| known == name)
    }
}

/// A step with the names of those that it needs.
struct Item {
    name: String,
    step: Step,
    needs: Vec<String>,
}

/// The state of a conversion.
struct Reader<'a, 'f> {
    names: &'a Names,
    notes: &'a mut Notes<'f>,
    /// The names of the parameters.
    parameters: Vec<String>,
    /// The credentials that are noted.
    secrets: BTreeSet<String>,
    /// The variables that are noted.
    rewritten: BTreeSet<String>,
    kinds: References,
    /// Why the step that is read becomes a comment.
    why: Option<String>,
    items: Vec<Item>,
    /// The names of the steps that the next one needs.
    tails: Vec<String>,
}

impl Reader<'_, '_> {
    fn off(&mut self, why: impl Into<String>) {
        let why = why.into();
        self.why.get_or_insert(why);
    }

    /// Adds a step after those before it. One that is a comment is needed by none.
    fn push(&mut self, name: &str, mut step: Step, span: Span) {
        self.notes.check(&mut step, span);
        let legal =
            |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '/') { c } else { '-' };
        let mut name: String = name.trim().chars().map(legal).collect();
        while name.len() > 50 {
            name.pop();
        }
        let name = if name.trim().is_empty() { step.kind.to_owned() } else { name.trim().to_owned() };
        let taken = |name: &String| self.items.iter().any(|item| item.name == *name);
        let mut unique = name.clone();
        for number in 2.. {
            if !taken(&unique) {
                break;
            }
            unique = format!("{name} {number}");
        }
        step.fields.insert(0, ("name".to_owned(), Value::text(&unique)));
        let is_off = step.off.is_some();
        let needs = self.tails.clone();
        self.items.push(Item { name: unique.clone(), step, needs });
        if !is_off {
            self.tails = vec![unique];
        }
    }

    /// A stage that is not written, with a line that says so.
    fn missing(&mut self, name: &str, span: Span, why: &str) {
        let mut step = Step::new("run");
        step.off(format!("stage `{name}`, line {}: {why}", self.notes.line(span)));
        let needs = self.tails.clone();
        self.items.push(Item { name: String::new(), step, needs });
    }

    /// The steps, with `needs` where it is not the step before.
    fn connected(&mut self) -> Vec<Step> {
        let mut before: Vec<String> = Vec::new();
        let mut steps = Vec::new();
        for Item { name, mut step, needs } in std::mem::take(&mut self.items) {
            if needs != before && !step.fields.is_empty() {
                let keys = ["when", "timeout"];
                let at = step.fields.iter().position(|(key, _)| keys.contains(&key.as_str()));
                let at = at.unwrap_or(step.fields.len());
                step.fields.insert(at, ("needs".to_owned(), Value::texts(needs)));
            }
            if step.off.is_none() {
                before = vec![name];
            }
            steps.push(step);
        }
        steps
    }

    /// The image that `agent` names.
    fn agent(&mut self, agent: &Statement, scope: &Scope) -> Image {
        if let Some(word) = agent.first().and_then(|first| first.word()) {
            return match word {
                "none" => Image::Missing,
                _ => self.machine(agent.span, &format!("agent {word}")),
            };
        }
        let Some(kind) = agent.inside().first() else { return self.machine(agent.span, "agent") };
        if kind.name != "docker" {
            return self.machine(kind.span, &format!("agent {{ {} }}", kind.name));
        }
        let (image, span) = match (kind.first(), kind.get("image")) {
            (Some(first), _) => (Some(first), first.span),
            (None, Some(image)) => (image.first(), image.span),
            (None, None) => (None, kind.span),
        };
        for option in kind.inside() {
            let next = match option.name.as_str() {
                "image" | "reuseNode" => continue,
                "args" => {
                    "write `caches: [FOLDER]` for a folder that is kept, `env` for a variable, `resources` for limits"
                }
                "alwaysPull" => "name a version of the image",
                "registryUrl" | "registryCredentialsId" => {
                    "name the image with its registry's host; only the environment's registry has a login"
                }
                _ => "remove it: steps run on the machine of `fleetwright serve`",
            };
            self.notes.add(
                option.span,
                format!("`{}` of a docker agent has no equivalent", option.name),
                next,
            );
        }
        let text = image.and_then(|image| self.plain(image, scope));
        match text.as_deref().and_then(tagged) {
            Some(image) => Image::Named(image),
            None => {
                let next = "name one, such as `golang:1.24`";
                self.notes.add(span, "the image is not a text that can be used", next);
                Image::Unusable(format!("its image, line {}", self.notes.line(span)))
            }
        }
    }

    /// An agent that is no container of a known image.
    fn machine(&mut self, span: Span, what: &str) -> Image {
        match &self.names.image {
            Some(image) => {
                self.notes.add(
                    span,
                    format!("`{what}` names no image"),
                    format!("see that `{image}` has the tools that its steps need"),
                );
                Image::Named(image.clone())
            }
            None => {
                self.notes.add(
                    span,
                    format!("`{what}` names no image, and every step runs in a container"),
                    "convert again with `--image IMAGE`, which its steps then use",
                );
                Image::Unusable(format!("`{what}` names no image"))
            }
        }
    }

    /// The parameter that holds a credential.
    fn secret(&mut self, id: &str, span: Span) -> String {
        let parameter = self.names.parameter(id);
        if self.secrets.insert(id.to_owned()) {
            self.notes.add(
                span,
                format!("the value of credential `{id}` is not in this file"),
                format!("aws ssm put-parameter --type SecureString --name {parameter} --value \"$VALUE\""),
            );
        }
        parameter
    }
}

/// The texts of a list, of one text, or of a text with commas.
fn texts(expression: &groovy::Expression) -> Option<Vec<String>> {
    match &expression.kind {
        Kind::List(items) => items.iter().map(groovy::Expression::literal).collect(),
        _ => {
            let text = expression.literal()?;
            Some(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
        }
    }
}
