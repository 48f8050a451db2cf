//! Stacks rendered for an environment: what CloudFormation gets, checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tera::Context;

use super::cloudformation::{Body, Child, read};
use super::edit::Edit;
use super::exports::{self, Trade};
use super::templates::{FOLDER, MadeUserData, Templates};
use super::{graph, names, parameters, with_suggestion};
use crate::model::bucket;
use crate::model::later::LaterVariable;
use crate::model::mount::SecretRef;
use crate::model::nested::NestedTemplate;
use crate::model::project::{Environment, Repository};
use crate::model::published::UNPUBLISHED;
use crate::model::setting::{Place, Unset};
use crate::model::stack::{
    ENVIRONMENT_TAG, PROJECT_TAG, Parameter, Reference, RenderedStack, STACK_TAG, Stack, UserData, Value,
};
use crate::source::Diagnostic;

mod addresses;
mod exported;
mod user_data;

/// Renders stacks; templates are parsed once for all environments.
pub struct Renderer<'r> {
    repository: &'r Repository,
    templates: Templates,
}

impl<'r> Renderer<'r> {
    /// Parses the repository's templates.
    pub fn new(repository: &'r Repository, problems: &mut Vec<Diagnostic>) -> Self {
        let templates = Templates::parse(&repository.templates, problems);
        let renderer = Self { repository, templates };
        renderer.check_names(problems);
        names::check(repository, problems);
        renderer
    }

    /// Renders the stacks of `environment`, in the order of their dependency; those with
    /// problems are left out.
    pub fn render(&self, environment: &Environment, problems: &mut Vec<Diagnostic>) -> Vec<RenderedStack> {
        let stacks: Vec<Stack> =
            self.repository.stacks.iter().map(|stack| stack.in_environment(&environment.name)).collect();
        let stacks = stacks.as_slice();
        let mut bodies: HashMap<usize, (Body, Vec<MadeUserData>)> = HashMap::new();
        for (index, stack) in stacks.iter().enumerate() {
            if let Some(body) = self.body(environment, stack, problems) {
                bodies.insert(index, body);
            }
        }
        let by_name: HashMap<&str, &Body> =
            bodies.iter().map(|(index, (body, _))| (stacks[*index].name.as_str(), body)).collect();
        let trades = self.trades(environment, stacks, &bodies);
        self.check_exports(&bodies, &trades, problems);
        let order = graph::order_with(stacks, &|index| exports::needed(&trades, index));
        if order.len() < graph::order(stacks).len() {
            Self::circle(stacks, &order, &trades, problems);
        }
        let mut rendered = Vec::new();
        for &index in &order {
            let (stack, original) = (&stacks[index], &self.repository.stacks[index]);
            let Some((body, made)) = bodies.get(&index) else { continue };
            parameters::check(stack, body, environment.region.get().ok(), problems);
            let references = stack.parameters.iter().flat_map(|parameter| &parameter.references);
            let references = references.map(|(reference, place)| (reference, place));
            check_outputs(&format!("stack `{}`", stack.name), references, &by_name, problems);
            check_policy(stack, body, problems);
            let imported = exports::needed(&trades, index);
            let needed = |other: &&usize| {
                let name = &stacks[**other].name;
                let mut references = stack.parameters.iter().flat_map(|p| p.value.references());
                references.any(|reference| reference.stack == *name) || imported.contains(other)
            };
            let depends_on = order.iter().filter(needed).map(|&other| stacks[other].name.clone()).collect();
            let mut finished = self.finish(environment, stack, body, made, depends_on, problems);
            finished.overridden = original.overridden(&environment.name);
            rendered.push((finished, body));
        }
        self.check_addresses(environment, &rendered, problems);
        self.check_variables(environment, &by_name, problems);
        rendered.into_iter().map(|(stack, _)| stack).collect()
    }

    /// Outputs that variables of services and jobs refer to, and that no stack has.
    fn check_variables(
        &self,
        environment: &Environment,
        bodies: &HashMap<&str, &Body>,
        problems: &mut Vec<Diagnostic>,
    ) {
        let Repository { services, jobs, .. } = self.repository;
        let services = services.iter().map(|service| service.in_environment(&environment.name));
        for wanted in services {
            check_outputs(
                &format!("service `{}`", wanted.spec.name),
                outputs(&wanted.later),
                bodies,
                problems,
            );
        }
        for wanted in jobs.iter().map(|job| job.in_environment(&environment.name)) {
            check_outputs(&format!("job `{}`", wanted.spec.name), outputs(&wanted.later), bodies, problems);
        }
    }

    /// Says which stacks wait for each other's exports; references alone were judged before.
    fn circle(stacks: &[Stack], order: &[usize], trades: &[Trade], problems: &mut Vec<Diagnostic>) {
        let whole = graph::order(stacks);
        let left: Vec<usize> = whole.into_iter().filter(|index| !order.contains(index)).collect();
        let importer = left.iter().find(|index| !exports::needed(trades, **index).is_empty());
        let Some(stack) = importer.map(|index| &stacks[*index]) else { return };
        let names: Vec<String> = left.iter().map(|index| format!("`{}`", stacks[*index].name)).collect();
        let message =
            format!("stacks need each other's exports and outputs in a circle: {}", names.join(", "));
        problems.push(
            Diagnostic::error("reference-cycle", message)
                .at(&stack.place.file, stack.place.span, "imports what one of the others exports")
                .help("break the circle: one of these values must come from somewhere else"),
        );
    }

    /// Stacks naming templates that are not there.
    fn check_names(&self, problems: &mut Vec<Diagnostic>) {
        for stack in &self.repository.stacks {
            let name = stack.template.strip_prefix(FOLDER).unwrap_or(&stack.template);
            if !self.templates.has_file(name) {
                let folder = super::stacks::TEMPLATES;
                let short = stack.template.strip_prefix(folder).unwrap_or(name);
                let known: Vec<&str> =
                    self.templates.names(folder.strip_prefix(FOLDER).unwrap_or_default()).collect();
                let diagnostic =
                    Diagnostic::error("missing-template", format!("there is no template {}", stack.template));
                let place = &stack.template_place;
                problems.push(with_suggestion(diagnostic, &place.file, place.span, short, &known, folder));
            }
        }
    }

    fn body(
        &self,
        environment: &Environment,
        stack: &Stack,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<(Body, Vec<MadeUserData>)> {
        let name = stack.template.strip_prefix(FOLDER)?;
        self.template(environment, stack, name, &mut Vec::new(), problems)
    }

    /// Renders the template `name` for a stack, and those nested in it. `within` are those that it is nested in.
    fn template(
        &self,
        environment: &Environment,
        stack: &Stack,
        name: &str,
        within: &mut Vec<String>,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<(Body, Vec<MadeUserData>)> {
        let source = self.templates.file(name)?;
        if !self.templates.is_parsed(name) {
            return None;
        }
        let (text, made) = match self.templates.render(name, || self.context(environment, stack)) {
            Ok(rendered) => rendered,
            Err(found) => {
                let help = format!("rendered for stack `{}` at {}", stack.name, stack.place);
                problems.extend(found.into_iter().map(|problem| problem.help(help.clone())));
                return None;
            }
        };
        let region = environment.region.get().ok();
        let mut body = read(source, stack.name.as_str(), &text, region, problems)?;
        within.push(name.to_owned());
        self.nest(environment, stack, &mut body, within, problems);
        within.pop();
        Some((body, made))
    }

    /// Renders the templates nested in `body`, and puts addresses for them in the places of their names.
    fn nest(
        &self,
        environment: &Environment,
        stack: &Stack,
        body: &mut Body,
        within: &mut Vec<String>,
        problems: &mut Vec<Diagnostic>,
    ) {
        let mut uses = std::mem::take(&mut body.uses);
        // `nested` lists them from the last to the first.
        uses.sort_by_key(|used| std::cmp::Reverse(used.span.start));
        for used in &uses {
            let folder = super::stacks::TEMPLATES;
            let short = folder.strip_prefix(FOLDER).unwrap_or_default();
            let name = format!("{short}{}", used.file);
            if !self.templates.has_file(&name) {
                let known: Vec<&str> = self.templates.names(short).collect();
                let message = format!("there is no template {folder}{}", used.file);
                let near = crate::source::suggest(&used.file, known.iter().copied());
                let label = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
                problems.push(body.at(Diagnostic::error("missing-template", message), used.span, label));
                continue;
            }
            if within.contains(&name) {
                let message = format!("{folder}{} is nested in itself", used.file);
                problems.push(body.at(Diagnostic::error("include-cycle", message), used.span, ""));
                continue;
            }
            let Some((mut child, _)) = self.template(environment, stack, &name, within, problems) else {
                continue;
            };
            parameters::check_nested(body, used, &child, environment.region.get().ok(), problems);
            parameters::check_nested_outputs(body, used, &child, problems);
            let nested = NestedTemplate { file: format!("{FOLDER}{name}"), text: child.text() };
            body.edits.push(Edit { span: used.span, words: format!("\"{}\"", nested.address()) });
            body.ranges.append(&mut child.ranges);
            for template in std::mem::take(&mut child.nested).into_iter().chain([nested]) {
                if !body.nested.contains(&template) {
                    body.nested.push(template);
                }
            }
            if child.terms.is_some() || !child.children.is_empty() {
                let given = used.parameters.iter();
                let given =
                    given.map(|(name, _, given)| (name.clone(), given.as_ref().map(|g| g.text.clone())));
                let (resource, place) = (used.resource.clone(), used.place);
                body.children.push(Child { resource, place, body: child, given: given.collect() });
            }
        }
    }

    fn context(&self, environment: &Environment, stack: &Stack) -> Context {
        let mut context = Context::new();
        context.insert("project", self.repository.project.as_str());
        context.insert("environment", environment.name.as_str());
        context.insert("region", environment.region.shown());
        context.insert("cluster", environment.cluster.as_str());
        context.insert("stack", stack.name.as_str());
        let bucket = bucket::substitution(self.repository.project.as_str(), environment.region.shown());
        context.insert("project_bucket", &bucket);
        let agent = environment.agent.as_ref();
        context.insert("agent_version", agent.map_or(UNPUBLISHED, |agent| agent.version.as_str()));
        context.insert("agent_sha256", agent.map_or(UNPUBLISHED, |agent| agent.sha256.as_str()));
        let cluster = self.repository.cluster(&environment.cluster);
        context.insert("addresses", &cluster.map(|cluster| cluster.addresses.pool).unwrap_or_default());
        context.insert("secrets_manager", &self.secrets_manager(environment));
        for (name, value) in &stack.values {
            context.insert(name.clone(), &json(value));
        }
        context
    }

    /// The names in Secrets Manager of the secrets that services use, sorted: what the role of control machines
    /// may read.
    fn secrets_manager(&self, environment: &Environment) -> BTreeSet<&str> {
        let services = self.repository.services.iter().map(|one| one.in_environment(&environment.name));
        let secrets = services.flat_map(|wanted| &wanted.spec.container.secrets);
        secrets
            .filter_map(|secret| match &secret.from {
                SecretRef::Manager(name) => Some(name.as_str()),
                SecretRef::Parameter(_) => None,
            })
            .collect()
    }

    /// The stack's own tags, and those that say whose it is, so that it is found again when the
    /// repository no longer has it.
    fn tags(&self, environment: &Environment, stack: &Stack) -> BTreeMap<String, String> {
        let mut tags: BTreeMap<_, _> =
            stack.tags.iter().map(|(name, tag)| (name.clone(), tag.shown().to_owned())).collect();
        tags.insert(PROJECT_TAG.to_owned(), self.repository.project.to_string());
        tags.insert(ENVIRONMENT_TAG.to_owned(), environment.name.to_string());
        tags.insert(STACK_TAG.to_owned(), stack.name.to_string());
        tags
    }

    fn finish(
        &self,
        environment: &Environment,
        stack: &Stack,
        body: &Body,
        made: &[MadeUserData],
        depends_on: Vec<crate::model::name::StackName>,
        problems: &mut Vec<Diagnostic>,
    ) -> RenderedStack {
        let user_data: Vec<UserData> = body
            .user_data
            .iter()
            .map(|(resource, text)| {
                let file = made.iter().find(|made| decoded(&made.encoded).as_deref() == Some(text));
                UserData {
                    resource: resource.clone(),
                    text: text.clone(),
                    file: file.map(|made| made.file.clone()),
                }
            })
            .collect();
        for data in &user_data {
            let merged = made.iter().find(|made| decoded(&made.encoded).as_deref() == Some(&data.text));
            let merged = merged.and_then(|made| made.merged.as_deref());
            self.check_user_data(stack, data, merged, problems);
        }
        let mut unset: Vec<Unset> = environment.region.unset().to_vec();
        stack
            .values
            .iter()
            .for_each(|(_, value)| value.each_unset(&mut |variable| unset.push(variable.clone())));
        let hidden: Vec<String> =
            body.parameters.iter().filter(|p| p.rules.hidden).map(|p| p.name.clone()).collect();
        let (kept, needed): (Vec<_>, Vec<_>) = stack
            .parameters
            .iter()
            .filter(|parameter| !parameter.unset.is_empty())
            .partition(|parameter| hidden.contains(&parameter.name));
        unset.extend(needed.into_iter().flat_map(|parameter| parameter.unset.clone()));
        // A value that is known when the stacks it comes from are there points at the reference.
        let place = |parameter: &Parameter| match parameter.references.first() {
            Some((_, place)) => place.clone(),
            None => parameter.place.clone(),
        };
        unset.extend(stack.tags.iter().flat_map(|(_, tag)| tag.unset().to_vec()));
        RenderedStack {
            name: stack.name.clone(),
            cloud_name: names::cloud_name(self.repository, environment, stack),
            is_named: stack.cloud_names.iter().any(|chosen| chosen.environment == environment.name),
            overridden: Vec::new(),
            values: stack.values.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
            template: body.text(),
            template_file: stack.template.clone(),
            parameters: stack.parameters.iter().map(|p| (p.name.clone(), p.value.clone())).collect(),
            hidden,
            kept: kept.into_iter().map(|p| (p.name.clone(), p.unset.clone())).collect(),
            forced: Vec::new(),
            rules: body.parameters.iter().map(|p| (p.name.clone(), p.rules.clone())).collect(),
            places: stack.parameters.iter().map(|p| (p.name.clone(), place(p))).collect(),
            tags: self.tags(environment, stack),
            protect: stack.protect,
            policy: stack.policy.clone(),
            hooks: stack.hooks.clone(),
            nested: body.nested.clone(),
            depends_on,
            outputs: body.outputs.iter().map(|output| output.name.clone()).collect(),
            user_data,
            unset,
            place: stack.place.clone(),
        }
    }
}

fn decoded(encoded: &str) -> Option<String> {
    use base64::Engine as _;
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded).ok()?).ok()
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Integer(value) => (*value).into(),
        Value::Float(value) => (*value).into(),
        Value::Text(text) => text.shown().into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Map(entries) => serde_json::Value::Object(
            entries.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
        ),
    }
}

/// The logical ids that the stack's policy names must be there, or it protects nothing.
fn check_policy(stack: &Stack, body: &Body, problems: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = body.resources.iter().map(String::as_str).collect();
    for statement in stack.policy.iter().flat_map(|policy| &policy.statements) {
        for id in statement.resources.patterns.iter().filter(|id| !id.contains(['*', '?'])) {
            if !known.contains(&id.as_str()) {
                let message = format!("{} has no resource `{id}`", stack.template);
                let diagnostic = Diagnostic::error("unresolved-reference", message);
                let place = &statement.place;
                let what = "`Resources` of the template";
                problems.push(with_suggestion(diagnostic, &place.file, place.span, id, &known, what));
            }
        }
    }
}

/// The outputs that variables refer to.
fn outputs(later: &[LaterVariable]) -> impl Iterator<Item = (&Reference, &Place)> {
    later.iter().flat_map(|one| one.value.references().map(move |reference| (reference, &one.place)))
}

/// Reports outputs that `what` refers to and that their stacks do not have.
fn check_outputs<'p>(
    what: &str,
    references: impl Iterator<Item = (&'p Reference, &'p Place)>,
    bodies: &HashMap<&str, &Body>,
    problems: &mut Vec<Diagnostic>,
) {
    for (reference, place) in references {
        // A stack that is not there, or could not be rendered, was reported for itself.
        let Some(body) = bodies.get(reference.stack.as_str()) else { continue };
        if body.outputs.iter().any(|output| output.name == reference.output) {
            continue;
        }
        let message = format!(
            "{what} refers to output `{}` of stack `{}`, which has no such output",
            reference.output, reference.stack
        );
        let mut known: Vec<&str> = body.outputs.iter().map(|output| output.name.as_str()).collect();
        known.sort_unstable();
        let label = match known.is_empty() {
            true => format!("`{}` has no outputs", reference.stack),
            false => format!("`{}` has: {}", reference.stack, known.join(", ")),
        };
        let mut diagnostic =
            Diagnostic::error("unresolved-reference", message).at(&place.file, place.span, label);
        let near = crate::source::suggest(&reference.output, known);
        if let Some(output) = near.and_then(|near| body.outputs.iter().find(|output| output.name == near)) {
            let case = output.name.eq_ignore_ascii_case(&reference.output);
            let rule = if case { "output names are case-sensitive; " } else { "did you mean " };
            let end = if case { "is" } else { "which is" };
            let comma = if case { "" } else { "," };
            diagnostic = diagnostic.help(format!(
                "{rule}`{}`{comma} {end} defined at {}",
                output.name,
                body.line(output)
            ));
        }
        problems.push(diagnostic);
    }
}
