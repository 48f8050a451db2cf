//! Rendered stacks.

use std::fmt::Write as _;

use serde_json::json;

use crate::model::stack::RenderedStack;

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
        text.push_str(&ended(&stack.template));
    }
    text
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
    json!({
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
    })
}
