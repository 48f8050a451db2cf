//! Taking a whole stack that another tool made into the repository: the files that say what is deployed.

use std::fmt::Write as _;

use serde_json::Value;

use super::document;
use crate::model::deployed::DeployedStack;
use crate::model::name::{EnvironmentName, StackName};

/// The longest name that a stack of the repository may have.
const NAME_MOST: usize = 40;

/// The files that make a deployed stack one of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The template's file, below the repository's templates.
    pub template_name: String,
    /// Its text.
    pub template: String,
    /// The stack's file.
    pub stack: String,
    /// Environment variables for the values of `NoEcho` parameters, which nobody tells; unset ones keep what is deployed.
    pub variables: Vec<String>,
}

/// Why a stack can't be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// Its template ends a raw block of the repository's templates.
    #[error(
        "its template has `<% endraw %>` in it, which can't be written down in a template of the repository"
    )]
    EndRaw,
}

/// The name for a deployed stack: what is its own in its CloudFormation name, in the repository's letters.
pub fn name(cloud_name: &str, prefix: &str) -> String {
    let own = cloud_name.strip_prefix(prefix).filter(|own| !own.is_empty()).unwrap_or(cloud_name);
    let plain: String = own.chars().take(NAME_MOST).map(|c| c.to_ascii_lowercase()).collect();
    plain.trim_matches('-').to_owned()
}

/// The files for a deployed stack with this template, which the repository will call `name` and which is
/// deployed for `environment`.
///
/// # Errors
/// When it can't be written down.
pub fn files(
    name: &StackName,
    environment: &EnvironmentName,
    stack: &DeployedStack,
    template: &str,
    tree: &Value,
) -> Result<Adopted, AdoptError> {
    let is_json = template.trim_start().starts_with('{');
    let template_name = format!("{name}.{}", if is_json { "json" } else { "yaml" });
    let mut variables = Vec::new();
    let mut text =
        format!("# Adopted from the stack {}.\n{name}:\n  template: {template_name}\n", stack.name);
    // Also where it is the usual one: a stack without fleetwright's tags is taken over only when it is named.
    let _ = write!(text, "  cloud_name:\n    {environment}: {}\n", stack.name);
    let parameters = parameters(name, stack, tree, &mut variables);
    if !parameters.is_empty() {
        text.push_str("  parameters:\n");
        parameters.iter().for_each(|line| {
            let _ = writeln!(text, "    {line}");
        });
    }
    let own = |key: &str| !key.starts_with("aws:") && !key.starts_with("fleetwright:");
    let tags: Vec<_> = stack.tags.iter().filter(|(key, _)| own(key)).collect();
    if !tags.is_empty() {
        text.push_str("  tags:\n");
        for (key, value) in tags {
            let _ = writeln!(text, "    {}: {}", scalar(key), scalar(&escaped(value)));
        }
    }
    if stack.protected {
        text.push_str("  protect: true\n");
    }
    let policy = stack.policy.as_deref().and_then(|policy| serde_json::from_str::<Value>(policy).ok());
    if let Some(policy) = policy {
        // JSON is YAML.
        let _ = writeln!(text, "  policy: {policy}");
    }
    Ok(Adopted { template_name, template: raw(template)?, stack: text, variables })
}

fn parameters(
    name: &StackName,
    stack: &DeployedStack,
    tree: &Value,
    variables: &mut Vec<String>,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, value) in &stack.parameters {
        if document::is_hidden(tree, key) {
            let mut variable = format!("{name}_{key}").replace('-', "_").to_ascii_uppercase();
            // Parameters that differ in case alone come to the same name.
            while variables.contains(&variable) {
                variable.push('_');
            }
            lines.push(format!("{}: ${{env.{variable}}}", scalar(key)));
            variables.push(variable);
        } else if document::parameter_default(tree, key).as_ref() != Some(value) {
            lines.push(format!("{}: {}", scalar(key), scalar(&escaped(value))));
        }
    }
    lines
}

/// `${` begins a reference in the repository's files.
fn escaped(text: &str) -> String {
    text.replace("${", "$${")
}

/// A text in YAML: plain where that can't be taken for anything else.
fn scalar(text: &str) -> String {
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:".contains(c))
        && !text.ends_with(':')
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { Value::from(text).to_string() }
}

/// The template as one of the repository's, in which `<{`, `<%` and `<#` have a meaning.
fn raw(template: &str) -> Result<String, AdoptError> {
    if ["<{", "<%", "<#"].iter().all(|mark| !template.contains(mark)) {
        return Ok(template.to_owned());
    }
    let ends = template
        .split("<%")
        .skip(1)
        .any(|rest| rest.trim_start_matches('-').trim_start().starts_with("endraw"));
    if ends {
        return Err(AdoptError::EndRaw);
    }
    Ok(format!("<% raw -%>\n{template}<% endraw %>"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn adopted(stack: &DeployedStack, template: &str, tree: &Value) -> Result<Adopted, AdoptError> {
        let environment = "production".parse().expect("a name");
        files(&"legacy-data".parse().expect("a name"), &environment, stack, template, tree)
    }

    #[test]
    fn a_stack_is_written_down_as_it_is() {
        let own =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let stack = DeployedStack {
            name: "LegacyData".to_owned(),
            parameters: own(&[
                ("Size", "10"),
                ("Stage", "live"),
                ("Text", "a ${b}: \"c\""),
                ("Password", "****"),
                ("Same", "default"),
            ]),
            tags: own(&[("team", "data"), ("aws:cloudformation:x", "y"), ("cost:center", "007")]),
            protected: true,
            policy: Some(r#"{"Statement": [{"Effect": "Allow", "Action": "Update:*", "Principal": "*", "Resource": "*"}]}"#.to_owned()),
            ..DeployedStack::default()
        };
        let tree = json!({"Parameters": {
            "Size": {"Type": "Number"}, "Stage": {"Type": "String"}, "Text": {"Type": "String"},
            "Password": {"Type": "String", "NoEcho": true}, "Same": {"Type": "String", "Default": "default"},
        }});
        let adopted = adopted(&stack, "Resources: {}\n", &tree).expect("it can be written down");
        assert_eq!(adopted.template, "Resources: {}\n");
        insta::assert_snapshot!(adopted.stack);
        assert_eq!(adopted.variables, ["LEGACY_DATA_PASSWORD"]);
    }

    #[test]
    fn marks_of_the_repository_s_templates_stay_what_they_are() {
        let stack = DeployedStack::default();
        let marked = adopted(&stack, "A: <{ x }>\n", &json!({})).expect("it can be written down");
        assert_eq!(marked.template, "<% raw -%>\nA: <{ x }>\n<% endraw %>");
        assert_eq!(adopted(&stack, "A: <%- endraw -%>", &json!({})), Err(AdoptError::EndRaw));
        let json = adopted(&stack, " {\"Resources\": {}}", &json!({})).expect("it can be written down");
        assert_eq!(json.template_name, "legacy-data.json");
    }

    #[test]
    fn names_are_made_of_what_is_the_stack_s_own() {
        assert_eq!(name("shop-production-Data", "shop-production-"), "data");
        assert_eq!(name("LegacyData", "shop-production-"), "legacydata");
        assert_eq!(name("shop-production-", "shop-production-"), "shop-production");
    }

    proptest! {
        #[test]
        fn a_text_is_read_back_as_it_was(text in "\\PC{0,20}") {
            let line = format!("Key: {}", scalar(&text));
            let read = serde_yaml::from_str::<std::collections::BTreeMap<String, String>>(&line);
            prop_assert_eq!(read.ok().and_then(|map| map.get("Key").cloned()), Some(text));
        }
    }
}
