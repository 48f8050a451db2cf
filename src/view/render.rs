//! Rendered stacks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::model::project::{Wanted, WantedJob};
use crate::model::stack::{ENVIRONMENT_TAG, RenderedStack};
use crate::plan::deploy::{job_fields, spec_fields};
use crate::view::deploy::one_line;

/// Version of the JSON document, raised when a field changes its meaning.
const VERSION: u32 = 1;

/// The templates of `stacks`, as one stream of YAML documents when there are several.
pub fn templates(stacks: &[&RenderedStack]) -> String {
    if let [only] = stacks {
        return ended(&only.template);
    }
    let mut text = String::new();
    for stack in stacks {
        let _ = write!(text, "---\n# {}, from {}\n", stack.cloud_name, stack.template_file);
        for (name, value) in parameters(stack) {
            let _ = writeln!(text, "# {name}: {value}");
        }
        for line in overridden(stack) {
            let _ = writeln!(text, "# {line}");
        }
        text.push_str(&ended(&stack.template));
    }
    text
}

/// Services, one field a line.
pub fn services<'s>(services: impl Iterator<Item = &'s Wanted>) -> String {
    let mut text = String::new();
    for wanted in services {
        text.push_str(&named(wanted.spec.name.as_str(), &service_fields(wanted)));
    }
    text
}

/// Jobs, one field a line.
pub fn jobs<'j>(jobs: impl Iterator<Item = &'j WantedJob>) -> String {
    jobs.map(|wanted| named(wanted.spec.name.as_str(), &wanted_job(wanted))).collect()
}

/// Jobs as JSON.
pub fn jobs_json<'j>(environment: &str, jobs: impl Iterator<Item = &'j WantedJob>) -> Value {
    let all: Vec<_> =
        jobs.map(|wanted| json!({ "job": wanted.spec.name, "fields": wanted_job(wanted) })).collect();
    json!({ "version": VERSION, "environment": environment, "jobs": all })
}

/// The fields of a job, with its image as its file has it.
fn wanted_job(wanted: &WantedJob) -> BTreeMap<String, String> {
    let mut fields = job_fields(&wanted.spec);
    if let Some(elsewhere) = &wanted.elsewhere {
        fields.insert("image".to_owned(), elsewhere.shown.clone());
    }
    fields
}

/// A name, and its fields below it.
fn named(name: &str, fields: &BTreeMap<String, String>) -> String {
    let width = fields.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{name}\n");
    for (name, value) in fields {
        let _ = writeln!(text, "  {name:width$}   {}", one_line(value));
    }
    text
}

/// Services as JSON.
pub fn services_json<'s>(environment: &str, services: impl Iterator<Item = &'s Wanted>) -> Value {
    let all: Vec<_> = services
        .map(|wanted| json!({ "service": wanted.spec.name, "fields": service_fields(wanted) }))
        .collect();
    json!({ "version": VERSION, "environment": environment, "services": all })
}

/// The fields of a service, with its image as its file has it.
fn service_fields(wanted: &Wanted) -> BTreeMap<String, String> {
    let mut fields = spec_fields(&wanted.spec);
    if let Some(elsewhere) = &wanted.elsewhere {
        fields.insert("image".to_owned(), elsewhere.shown.clone());
    }
    if !wanted.depends_on.is_empty() {
        let names: Vec<&str> = wanted.depends_on.iter().map(|(name, _)| name.as_str()).collect();
        fields.insert("depends_on".to_owned(), names.join(", "));
    }
    fields
}

/// The user data of the machines of `stacks`, decoded.
pub fn user_data(stacks: &[&RenderedStack]) -> String {
    let all: Vec<_> =
        stacks.iter().flat_map(|stack| stack.user_data.iter().map(move |data| (stack, data))).collect();
    if let [(_, only)] = all.as_slice() {
        return ended(&only.text);
    }
    let mut text = String::new();
    for (stack, data) in all {
        let from = data.file.as_deref().unwrap_or(&stack.template_file);
        let _ = write!(
            text,
            "--- {} {}, from {from}, {} bytes\n{}",
            stack.cloud_name,
            data.resource,
            data.text.len(),
            ended(&data.text)
        );
    }
    text
}

/// What a stack's file says of this environment alone, a line each: the key, and the value that comes of it.
pub fn overridden(stack: &RenderedStack) -> impl Iterator<Item = String> {
    let environment = stack.tags.get(ENVIRONMENT_TAG).map_or("this environment", String::as_str);
    stack.overridden.iter().map(move |key| {
        let name = key.split_once('.').map_or(key.as_str(), |(_, name)| name);
        let value = match key.strip_prefix("values.") {
            Some(name) => stack.values.iter().find(|(known, _)| known == name).map(|(_, v)| v.to_string()),
            None => parameters(stack).find(|(known, _)| *known == name).map(|(_, value)| value),
        };
        format!("{key} of {environment}: {}", value.unwrap_or_default())
    })
}

/// The parameters with their values, `NoEcho` ones hidden.
fn parameters(stack: &RenderedStack) -> impl Iterator<Item = (&str, String)> {
    stack.parameters.iter().map(|(name, value)| {
        let shown = if stack.hidden.contains(name) { "(hidden)".to_owned() } else { value.to_string() };
        (name.as_str(), shown)
    })
}

fn ended(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// The JSON document of `render`.
pub fn json(environment: &str, stacks: &[&RenderedStack]) -> serde_json::Value {
    json!({
        "version": VERSION,
        "environment": environment,
        "stacks": stacks.iter().map(|stack| stack_json(stack)).collect::<Vec<_>>(),
    })
}

fn stack_json(stack: &RenderedStack) -> serde_json::Value {
    let parameters: serde_json::Map<String, serde_json::Value> =
        parameters(stack).map(|(name, value)| (name.to_owned(), value.into())).collect();
    let unset: Vec<&str> = stack.unset.iter().map(|unset| unset.variable.as_str()).collect();
    let user_data: Vec<_> = stack
        .user_data
        .iter()
        .map(|data| json!({ "resource": data.resource, "file": data.file, "text": data.text }))
        .collect();
    let mut document = json!({
        "name": stack.name,
        "cloud_name": stack.cloud_name,
        "template_file": stack.template_file,
        "template": stack.template,
        "parameters": parameters,
        "tags": stack.tags,
        "depends_on": stack.depends_on,
        "outputs": stack.outputs,
        "user_data": user_data,
        "unset": unset,
    });
    if let (false, Some(map)) = (stack.overridden.is_empty(), document.as_object_mut()) {
        let values: serde_json::Map<_, _> = stack.values.iter().cloned().collect();
        map.insert("values".to_owned(), values.into());
        map.insert("overridden".to_owned(), stack.overridden.clone().into());
    }
    document
}
