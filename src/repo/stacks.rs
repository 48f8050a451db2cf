//! `stacks/*.yaml`: a mapping from stack names to what they are made of.

use super::decode::Reader;
use super::interpolate::{Filled, Variables, fill, setting};
use super::stack_policy;
use crate::model::setting::{Place, Setting};
use crate::model::stack::{
    CloudName, Hook, Moment, Override, Parameter, ParameterValue, Stack, Value, Written,
};
use crate::source::Diagnostic;
use crate::yaml::{Kind, Node, Scalar};

/// Variables that every template has; `values` can't redefine them.
pub const GIVEN: [&str; 7] =
    ["project", "environment", "region", "cluster", "stack", "addresses", "project_bucket"];

/// Where CloudFormation templates are, relative to the root.
pub const TEMPLATES: &str = "templates/cloudformation/";

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node, variables: Variables<'_>) -> Vec<Stack> {
    let entries = reader.entries(root, "a file of stacks");
    entries.iter().filter_map(|(key, value)| stack(reader, key, value, variables)).collect()
}

fn stack(reader: &mut Reader<'_>, key: &Node, value: &Node, variables: Variables<'_>) -> Option<Stack> {
    let name = reader.name(key);
    let keys = [
        "template",
        "values",
        "parameters",
        "tags",
        "protect",
        "policy",
        "hooks",
        "cloud_name",
        "environments",
    ];
    let fields = reader.fields(value, key.span, "a stack", &keys)?;
    let template = reader.required(&fields, "template").and_then(|node| {
        let text = reader.text(node, "`template`")?;
        Some((format!("{TEMPLATES}{text}"), reader.place(node)))
    });
    let values = values(reader, fields.get("values"), variables);
    let values = values.into_iter().map(|(name, value, _)| (name, value)).collect();
    let parameters = parameters(reader, fields.get("parameters"), variables);
    let overrides =
        fields.get("environments").map(|node| overrides(reader, node, variables)).unwrap_or_default();
    let mut tags = Vec::new();
    if let Some(node) = fields.get("tags") {
        for (key, value) in reader.entries(node, "`tags`") {
            let Some(name) = key.text() else { continue };
            let text: Option<Setting> = setting(reader, value, &format!("`{name}`"), variables);
            tags.extend(text.map(|text| (name.to_owned(), text)));
        }
    }
    let protect = fields.get("protect").and_then(|node| reader.boolean(node, "`protect`"));
    let policy = fields.get("policy").and_then(|node| stack_policy::decode(reader, node));
    let hooks = fields.get("hooks").map(|node| hooks(reader, node)).unwrap_or_default();
    let cloud_names = fields.get("cloud_name").map(|node| cloud_names(reader, node)).unwrap_or_default();
    let (template, template_place) = template?;
    let place = Place::new(reader.file, key.span);
    Some(Stack {
        name: name?,
        template,
        template_place,
        values,
        parameters,
        tags,
        protect,
        policy,
        hooks,
        overrides,
        cloud_names,
        place,
    })
}

/// `values`: variables of the template, each with the place of its name.
fn values(
    reader: &mut Reader<'_>,
    node: Option<&Node>,
    variables: Variables<'_>,
) -> Vec<(String, Value, Place)> {
    let Some(node) = node else { return Vec::new() };
    let mut values = Vec::new();
    for (key, value) in reader.entries(node, "`values`") {
        let Some(name) = key.text() else { continue };
        if GIVEN.contains(&name) {
            let diagnostic =
                Diagnostic::error("reserved-name", format!("`{name}` is given to every template"));
            reader.problem(diagnostic, key.span, "choose another name");
        } else {
            // What can't be used is nothing, so that templates don't miss it as well.
            let value = convert(reader, value, variables).unwrap_or(Value::Null);
            values.push((name.to_owned(), value, reader.place(key)));
        }
    }
    values
}

fn parameters(reader: &mut Reader<'_>, node: Option<&Node>, variables: Variables<'_>) -> Vec<Parameter> {
    let Some(node) = node else { return Vec::new() };
    let entries = reader.entries(node, "`parameters`");
    entries.iter().filter_map(|(key, value)| parameter(reader, key, value, variables)).collect()
}

/// `environments`: what is different in single environments.
fn overrides(reader: &mut Reader<'_>, node: &Node, variables: Variables<'_>) -> Vec<Override> {
    let mut overrides = Vec::new();
    for (key, value) in reader.entries(node, "`environments`") {
        let (environment, place) = (reader.name(key), reader.place(key));
        if value.scalar() == Some(Scalar::Null) {
            continue;
        }
        let what = "an environment of a stack";
        let Some(fields) = reader.fields(value, key.span, what, &["values", "parameters"]) else { continue };
        let values = values(reader, fields.get("values"), variables);
        let parameters = parameters(reader, fields.get("parameters"), variables);
        overrides.extend(environment.map(|environment| Override { environment, values, parameters, place }));
    }
    overrides
}

/// `hooks`: for each moment a list of commands, each a list itself, so that no shell is needed to tell
/// arguments apart.
fn hooks(reader: &mut Reader<'_>, node: &Node) -> Vec<Hook> {
    let keys = Moment::ALL.map(Moment::name);
    let Some(fields) = reader.fields(node, node.span, "`hooks`", &keys) else { return Vec::new() };
    let mut hooks = Vec::new();
    for when in Moment::ALL {
        let Some(node) = fields.get(when.name()) else { continue };
        for item in reader.items(node, &format!("`{}`", when.name())) {
            let Some(words) = item.items() else {
                let help = "write it as a list: [scripts/check, --strict]";
                reader.wrong_type(item, "a command must be a list of texts", help);
                continue;
            };
            let command: Vec<String> = words
                .iter()
                .filter_map(|word| Some(reader.text(word, "a word of a command")?.to_owned()))
                .collect();
            if command.first().is_none_or(String::is_empty) {
                let diagnostic = Diagnostic::error("missing-key", "a command needs a program to run");
                reader.problem(diagnostic, item.span, "this is empty");
                continue;
            }
            hooks.push(Hook { when, command, place: reader.place(item) });
        }
    }
    hooks
}

/// `cloud_name`: the stack's name in CloudFormation, for each environment where somebody else chose it.
fn cloud_names(reader: &mut Reader<'_>, node: &Node) -> Vec<CloudName> {
    let mut names = Vec::new();
    for (key, value) in reader.entries(node, "`cloud_name`") {
        let Some(environment) = reader.name(key) else { continue };
        let Some(name) = reader.text(value, "a stack's name") else { continue };
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if name.len() > 128
            || !name.starts_with(|c: char| c.is_ascii_alphabetic())
            || !name.chars().all(letters)
        {
            let diagnostic = Diagnostic::error("bad-name", format!("`{name}` is not a stack's name"));
            let help = "use 1 to 128 letters, digits and `-`, starting with a letter";
            reader.problem(diagnostic.help(help), value.span, "");
            continue;
        }
        names.push(CloudName { environment, name: name.to_owned(), place: reader.place(key) });
    }
    names
}

fn parameter(
    reader: &mut Reader<'_>,
    key: &Node,
    value: &Node,
    variables: Variables<'_>,
) -> Option<Parameter> {
    let name = key.text()?.to_owned();
    // CloudFormation takes lists as one text with commas.
    let mut filled = Filled::default();
    let written = if let Some(items) = value.items() {
        let mut written = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let text = reader.text(item, "an item of a list parameter")?;
            let next = fill(reader, item, text, variables);
            written.push((ParameterValue { pieces: next.pieces.clone() }, reader.place(item)));
            if index > 0 {
                filled.push(",");
            }
            filled.append(next);
        }
        Written::List(written)
    } else {
        let text = reader.text(value, &format!("`{name}`"))?;
        filled = fill(reader, value, text, variables);
        Written::Text(reader.place(value))
    };
    let place = Place::new(reader.file, key.span);
    let Filled { pieces, references, unset, .. } = filled;
    Some(Parameter { name, value: ParameterValue { pieces }, references, unset, written, place })
}

fn convert(reader: &mut Reader<'_>, node: &Node, variables: Variables<'_>) -> Option<Value> {
    if let Some(tag) = &node.tag {
        let diagnostic = Diagnostic::error("wrong-type", format!("`values` can't use the tag `{tag}`"));
        let help = "CloudFormation's short tags belong into the template";
        reader.problem(diagnostic.help(help), node.span, format!("tagged `{tag}`"));
        return None;
    }
    Some(match &node.kind {
        Kind::Sequence(items) => {
            Value::List(items.iter().filter_map(|item| convert(reader, item, variables)).collect())
        }
        Kind::Mapping(entries) => {
            let entry = |(key, value): &(Node, Node)| {
                Some((key.text()?.to_owned(), convert(reader, value, variables)?))
            };
            Value::Map(entries.iter().filter_map(entry).collect())
        }
        Kind::Scalar { .. } => match node.scalar()? {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => Value::Bool(value),
            Scalar::Integer(value) => Value::Integer(value),
            Scalar::Float(value) => Value::Float(value),
            Scalar::Text(_) => Value::Text(setting(reader, node, "a value", variables)?),
        },
    })
}
