//! Workflows of Woodpecker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::draft::{Draft, Step};
use super::emit::Value;
use super::{Names, Notes, name_like};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{self, Node, Scalar};

mod conditions;
mod plugin;
mod steps;
mod text;

use conditions::{Condition, On};

/// Converts a workflow.
///
/// # Errors
/// When it is no YAML, has no `steps`, or its steps depend on each other in a circle.
pub fn convert(
    file: &Arc<SourceFile>,
    names: &Names,
    notes: &mut Notes<'_>,
) -> Result<Draft, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let Some(root) = yaml::parse(file, &mut problems) else { return Err(problems) };
    if problems.iter().any(Diagnostic::is_error) {
        return Err(problems);
    }
    let Some(steps) = root.get("steps").filter(|steps| !listed(steps).is_empty()) else {
        return Err(vec![no_workflow(file, &root)]);
    };
    let mut reader = Reader {
        names,
        notes,
        matrix: Vec::new(),
        is_product: true,
        secrets: BTreeSet::new(),
        rewritten: BTreeSet::new(),
        why: None,
        services_at: root.entry("services").map(|(key, _)| key.span),
    };
    let mut draft = Draft::default();
    reader.top(&root);
    reader.matrix(&root);
    let mut parsed = Vec::new();
    for (name, node) in listed(steps) {
        parsed.push(reader.parsed(name, node));
    }
    let on = reader.on(&root, &parsed);
    draft.paths = on.paths.clone();
    draft.on = Some(on.entries());
    let services = reader.services(&root);
    draft.steps = reader.steps(file, parsed, &on, services)?;
    Ok(draft)
}

fn no_workflow(file: &Arc<SourceFile>, root: &Node) -> Diagnostic {
    let (span, help) = match root.entries() {
        Some(entries) => {
            let span = entries.first().map_or(Span::new(0, 0), |(key, _)| key.span);
            let help = match () {
                () if root.get("jobs").is_some() => {
                    "this looks like a workflow of GitHub or Forgejo Actions, which is not read"
                }
                () if root.get("pipeline").is_some() => {
                    "Woodpecker 3 has `steps` in place of `pipeline`: rename it first"
                }
                () => "it needs `steps`, a list or a mapping of steps with `image`",
            };
            (span, help)
        }
        None => (Span::new(0, 0), "it needs `steps`, a list or a mapping of steps with `image`"),
    };
    Diagnostic::error("not-a-pipeline", format!("{} is not a Woodpecker workflow", file.name()))
        .at(file, span, "")
        .help(help)
}

/// The steps or services of a list or a mapping: their names with the places of these, and what they say.
fn listed(node: &Node) -> Vec<((String, Span), &Node)> {
    if let Some(entries) = node.entries() {
        let named =
            entries.iter().map(|(key, value)| ((key.text().unwrap_or_default().to_owned(), key.span), value));
        return named.collect();
    }
    let items = node.items().unwrap_or_default().iter();
    items
        .map(|item| {
            let name = item.get("name");
            let text = name.and_then(Node::text).unwrap_or_default().to_owned();
            ((text, name.map_or(item.span, |name| name.span)), item)
        })
        .collect()
}

/// The entries of a mapping, with those of its merge keys.
fn merged(node: &Node) -> Vec<(Node, Node)> {
    let mut all: Vec<(Node, Node)> = Vec::new();
    let entries = node.entries().unwrap_or_default();
    let (merges, own): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| key.text() == Some("<<"));
    all.extend(own.into_iter().cloned());
    for (_, value) in merges {
        let sources = value.items().map_or_else(|| vec![value], |items| items.iter().collect());
        for (key, value) in sources.into_iter().flat_map(merged) {
            if !all.iter().any(|(known, _)| known.text() == key.text()) {
                all.push((key, value));
            }
        }
    }
    all
}

/// The texts of a list, or the one text in its place; items that are lists count as their own items.
fn texts(node: &Node) -> Vec<&Node> {
    match node.items() {
        Some(items) => items.iter().flat_map(texts).collect(),
        None => node.text().is_some().then_some(node).into_iter().collect(),
    }
}

fn is_true(node: &Node) -> bool {
    matches!(node.scalar(), Some(Scalar::Bool(true)))
}

/// A step as far as its file says it.
struct Parsed {
    name: String,
    /// Where its name stands.
    span: Span,
    entries: Vec<(Node, Node)>,
    /// `None` without `when`.
    when: Option<Vec<Condition>>,
    /// `None` without `depends_on`.
    needs: Option<Vec<(String, Span)>>,
}

impl Parsed {
    fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|(known, _)| known.text() == Some(key)).map(|(_, value)| value)
    }

    fn is_detached(&self) -> bool {
        self.get("detach").is_some_and(is_true)
    }
}

/// Names with values.
type Pairs = Vec<(String, String)>;

/// The state of a conversion.
struct Reader<'a, 'f> {
    names: &'a Names,
    notes: &'a mut Notes<'f>,
    /// The names of the matrix with their values.
    matrix: Vec<(String, Vec<String>)>,
    /// Whether the matrix is all combinations of its values.
    is_product: bool,
    /// The secrets that are noted.
    secrets: BTreeSet<String>,
    /// The variables that are noted.
    rewritten: BTreeSet<String>,
    /// Why the step that is read becomes a comment.
    why: Option<String>,
    /// Where the services of the steps stand.
    services_at: Option<Span>,
}

impl Reader<'_, '_> {
    /// The keys of the workflow that have no equivalent.
    fn top(&mut self, root: &Node) {
        for (key, value) in root.entries().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            let next = match name {
                "steps" | "when" | "services" | "matrix" | "variables" | "version" | "$schema" => continue,
                "clone" => {
                    "remove it: the workspace has the files of the commit, without `.git` and submodules"
                }
                "skip_clone" => "remove it: the workspace always has the files of the commit",
                "labels" | "platform" => "steps run on the machine of `fleetwright serve`, and nowhere else",
                "workspace" => "the workspace is `/workspace`; change commands that name another folder",
                "depends_on" => {
                    "convert the other workflow, then write its pipeline into `on: {after: [NAME]}` in place of the other triggers"
                }
                "runs_on" => "write a step with `when: failure` or `when: always` into the other pipeline",
                _ => "remove it, or say it in another way",
            };
            let message = match name {
                "clone" if value.entries().is_none() && value.items().is_none() => continue,
                _ => format!("`{name}` has no equivalent"),
            };
            self.notes.add(key.span, message, next);
        }
    }

    fn matrix(&mut self, root: &Node) {
        let Some((key, matrix)) = root.entry("matrix") else { return };
        let strings =
            |node: &Node| texts(node).iter().filter_map(|one| one.text()).map(str::to_owned).collect();
        if let Some(include) = matrix.get("include") {
            let mut rows: Vec<BTreeMap<String, String>> = Vec::new();
            for row in include.items().unwrap_or_default() {
                let pairs =
                    row.entries().unwrap_or_default().iter().filter_map(|(name, value)| {
                        Some((name.text()?.to_owned(), value.text()?.to_owned()))
                    });
                let row: BTreeMap<String, String> = pairs.collect();
                if !rows.contains(&row) {
                    rows.push(row);
                }
            }
            for (name, value) in rows.iter().flatten() {
                match self.matrix.iter_mut().find(|(known, _)| known == name) {
                    Some((_, values)) if values.contains(value) => {}
                    Some((_, values)) => values.push(value.clone()),
                    None => self.matrix.push((name.clone(), vec![value.clone()])),
                }
            }
            let all: usize = self.matrix.iter().map(|(_, values)| values.len()).product();
            self.is_product = all == rows.len() && rows.iter().all(|row| row.len() == self.matrix.len());
            if !self.is_product {
                self.notes.add(
                    key.span,
                    "a matrix of ours has all combinations of its values, and `include` names only some",
                    "write one step for each combination",
                );
            }
        } else {
            for (name, values) in matrix.entries().unwrap_or_default() {
                self.matrix.push((name.text().unwrap_or_default().to_owned(), strings(values)));
            }
        }
        let all: usize = self.matrix.iter().map(|(_, values)| values.len()).product();
        if all > 64 {
            self.is_product = false;
            self.notes.add(
                key.span,
                format!("the matrix has {all} combinations, and 64 are possible"),
                "name fewer values",
            );
        }
        self.notes.add(
            key.span,
            "the combinations of a matrix share one workspace here, and each step waits for all those of the step before",
            "let them write to different files, or give each combination a pipeline of its own",
        );
    }

    /// What sets the pipeline off: what the workflow says, or else all that its steps say together.
    fn on(&mut self, root: &Node, steps: &[Parsed]) -> On {
        let conditions = match root.entry("when") {
            Some((_, when)) => self.conditions(when),
            None => {
                let own = steps.iter().filter(|step| !step.is_detached());
                let all: Option<Vec<_>> = own.map(|step| step.when.clone()).collect();
                all.map_or_else(|| vec![Condition::default()], |all| all.concat())
            }
        };
        self.triggers(&conditions, root.get("when").is_some())
    }

    /// The containers that run beside steps.
    fn services(&mut self, root: &Node) -> Vec<(String, Value)> {
        let Some(services) = root.get("services") else { return Vec::new() };
        let found: Vec<_> = listed(services).into_iter().map(|(name, node)| (name, merged(node))).collect();
        let mut all: Vec<(String, Value)> = Vec::new();
        for ((name, span), entries) in found {
            let service = self.service(&name, span, &entries);
            all.extend(service.filter(|(name, _)| !all.iter().any(|(known, _)| known == name)));
        }
        all
    }

    /// A container that runs beside steps; `None` where it can't be one.
    fn service(&mut self, name: &str, span: Span, entries: &[(Node, Node)]) -> Option<(String, Value)> {
        let ours = name_like(name);
        if ours != name {
            self.notes.add(
                span,
                format!("the service is called `{ours}`: host names have a-z, 0-9 and `-`"),
                format!("write `{ours}` wherever commands reach `{name}`"),
            );
        }
        let mut fields = Vec::new();
        for (key, value) in entries {
            match key.text().unwrap_or_default() {
                "name" | "ports" | "detach" | "depends_on" => {}
                "image" => match self.image(value) {
                    Ok(image) => fields.insert(0, ("image".to_owned(), Value::Text(image))),
                    Err(why) => {
                        self.notes.add(
                            value.span,
                            format!("service `{name}` is not converted: {why}"),
                            "write it into the steps that need it",
                        );
                        return None;
                    }
                },
                "environment" => {
                    let (env, secrets) = self.environment(value);
                    if !env.is_empty() {
                        fields.push(("env".to_owned(), Value::pairs(env)));
                    }
                    for (variable, _) in secrets {
                        self.notes.add(
                            self.notes.place(value.span, &variable),
                            format!("`{variable}` is a secret of a service, and services of steps have none"),
                            "use a value that is no secret, since the service ends with its step",
                        );
                    }
                }
                other @ ("commands" | "entrypoint" | "settings" | "when") => {
                    self.notes.add(
                        key.span,
                        format!("service `{name}` is not converted: `{other}` has no equivalent"),
                        "write it into the steps that need it, with `command` for arguments of its image",
                    );
                    return None;
                }
                other => {
                    self.notes.add(
                        key.span,
                        format!("`{other}` of a service has no equivalent"),
                        "remove it",
                    );
                }
            }
        }
        let has_image = fields.first().is_some_and(|(key, _)| key == "image");
        has_image.then_some((ours, Value::Map(fields)))
    }

    /// Variables and secrets, the latter with their parameters.
    fn environment(&mut self, node: &Node) -> (Pairs, Pairs) {
        let (mut env, mut secrets) = (Vec::new(), Vec::new());
        for (key, value) in merged(node) {
            let name = key.text().unwrap_or_default().to_owned();
            if let Some(secret) = value.get("from_secret") {
                secrets.push((name, self.secret(secret)));
            } else if value.text().is_some() {
                env.extend(self.value(&name, &value).map(|value| (name, value)));
            } else {
                self.notes.add(
                    value.span,
                    format!("the value of `{name}` is not a text"),
                    "write it as a text, such as JSON in quotes",
                );
            }
        }
        for item in node.items().unwrap_or_default() {
            match item.text().and_then(|text| text.split_once('=')) {
                Some((name, _)) => {
                    let value = self.value(name, item);
                    let value =
                        value.and_then(|text| text.split_once('=').map(|(_, value)| value.to_owned()));
                    env.extend(value.map(|value| (name.to_owned(), value)));
                }
                None => self.notes.add(
                    item.span,
                    "this is neither a variable nor its value",
                    "write `NAME: value` below `env`",
                ),
            }
        }
        (env, secrets)
    }

    /// The parameter that holds a secret.
    fn secret(&mut self, node: &Node) -> String {
        let name = node.text().unwrap_or_default().to_owned();
        let parameter = self.names.parameter(&name);
        if self.secrets.insert(name.clone()) {
            self.notes.add(
                node.span,
                format!("the value of secret `{name}` is not in this file"),
                format!("aws ssm put-parameter --type SecureString --name {parameter} --value \"$VALUE\""),
            );
        }
        parameter
    }
}

/// A step that is not written, with a line that says so.
fn missing(name: &str, line: usize, why: &str) -> Step {
    let mut step = Step::new("run");
    step.off(format!("step `{name}`, line {line}: {why}"));
    step
}
