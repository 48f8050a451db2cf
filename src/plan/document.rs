//! CloudFormation templates as trees: what they hold, and what refers to what.
//!
//! A document is a template with its short tags written out (`!Ref x` is `{"Ref": "x"}`).
//! Functions here look at its shape only; nothing is evaluated.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// What an expression refers to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reference {
    /// A parameter or a resource, by its logical id (`Ref`, `${Name}`).
    Name(String),
    /// An attribute of a resource (`Fn::GetAtt`, `${Name.Attribute}`).
    Attribute(String, String),
}

impl Reference {
    /// The logical id.
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) | Self::Attribute(name, _) => name,
        }
    }
}

/// The resources, by logical id.
pub fn resources(document: &Value) -> BTreeMap<&str, &Value> {
    section(document, "Resources")
}

/// The type of a resource.
pub fn resource_type(resource: &Value) -> &str {
    resource.get("Type").and_then(Value::as_str).unwrap_or_default()
}

/// The value of an output; `None` when the template does not declare it.
pub fn output<'d>(document: &'d Value, name: &str) -> Option<&'d Value> {
    document.get("Outputs")?.get(name)
}

/// A parameter's default, if the template declares the parameter and gives it one.
pub fn parameter_default(document: &Value, name: &str) -> Option<String> {
    let default = document.get("Parameters")?.get(name)?.get("Default")?;
    Some(crate::model::changes::text(default))
}

/// The parameters that the template declares.
pub fn parameters(document: &Value) -> BTreeSet<&str> {
    section(document, "Parameters").into_keys().collect()
}

/// Whether CloudFormation hides a parameter's value (`NoEcho`), so that it can't be compared.
pub fn is_hidden(document: &Value, parameter: &str) -> bool {
    let declared = document.get("Parameters").and_then(|all| all.get(parameter));
    declared.and_then(|p| p.get("NoEcho")).is_some_and(|value| match value {
        Value::Bool(hidden) => *hidden,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    })
}

fn section<'d>(document: &'d Value, name: &str) -> BTreeMap<&'d str, &'d Value> {
    let entries = document.get(name).and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| (key.as_str(), value)).collect()
}

/// Everything that `value` refers to, at any depth.
pub fn references(value: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    collect(value, &mut found);
    found
}

fn collect(value: &Value, found: &mut BTreeSet<Reference>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(map) => {
            for (key, inner) in map {
                match (key.as_str(), inner) {
                    ("Ref", Value::String(name)) => {
                        found.insert(Reference::Name(name.clone()));
                    }
                    ("Fn::GetAtt", Value::String(dotted)) => {
                        if let Some((name, attribute)) = dotted.split_once('.') {
                            found.insert(Reference::Attribute(name.to_owned(), attribute.to_owned()));
                        }
                    }
                    ("Fn::GetAtt", Value::Array(parts)) => {
                        if let [Value::String(name), attribute] = parts.as_slice() {
                            let attribute = attribute.as_str().unwrap_or_default();
                            found.insert(Reference::Attribute(name.clone(), attribute.to_owned()));
                        }
                    }
                    ("Fn::Sub", Value::String(text)) => substitutions(text, None, found),
                    ("Fn::Sub", Value::Array(parts)) => {
                        if let [Value::String(text), own @ ..] = parts.as_slice() {
                            substitutions(text, own.first(), found);
                            own.iter().for_each(|value| collect(value, found));
                        }
                    }
                    ("DependsOn", Value::String(_) | Value::Array(_)) => {}
                    _ => collect(inner, found),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The `${Name}` and `${Name.Attribute}` of a `Fn::Sub`, without those that its own map defines.
fn substitutions(text: &str, own: Option<&Value>, found: &mut BTreeSet<Reference>) {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("${") {
        let Some((inner, after)) = after.split_once('}') else { return };
        rest = after;
        let inner = inner.trim();
        if inner.starts_with('!') || own.is_some_and(|own| own.get(inner).is_some()) {
            continue;
        }
        found.insert(match inner.split_once('.') {
            Some((name, attribute)) => Reference::Attribute(name.to_owned(), attribute.to_owned()),
            None => Reference::Name(inner.to_owned()),
        });
    }
}

/// Whether `path` (below a resource's properties) is a machine's user data.
pub fn is_user_data(path: &str) -> bool {
    path == "UserData" || path.ends_with(".UserData") || path.ends_with("UserData.Fn::Base64")
}

/// The user data of a resource, decoded; `None` where it has none, or none that is text.
pub fn user_data(resource: &Value) -> Option<String> {
    let properties = resource.get("Properties")?;
    let value =
        properties.get("UserData").or_else(|| properties.get("LaunchTemplateData")?.get("UserData"))?;
    match value {
        Value::String(encoded) => decode_user_data(encoded),
        Value::Object(_) => value.get("Fn::Base64")?.as_str().map(str::to_owned),
        _ => None,
    }
}

/// Base64 to text, where it is both.
pub fn decode_user_data(encoded: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_in_every_form() {
        let value = json!({
            "A": {"Ref": "Vpc"},
            "B": {"Fn::GetAtt": ["Group", "GroupId"]},
            "C": {"Fn::GetAtt": "Template.LatestVersionNumber"},
            "D": {"Fn::Sub": "x ${Name} ${!Not} ${Role.Arn}"},
            "E": {"Fn::Sub": ["${Mine}-${Other}", {"Mine": {"Ref": "Deep"}}]},
        });
        let found: Vec<String> = references(&value)
            .into_iter()
            .map(|r| match r {
                Reference::Name(name) => name,
                Reference::Attribute(name, attribute) => format!("{name}.{attribute}"),
            })
            .collect();
        assert_eq!(
            found,
            ["Deep", "Name", "Other", "Vpc", "Group.GroupId", "Role.Arn", "Template.LatestVersionNumber"]
        );
    }

    #[test]
    fn user_data_is_decoded_in_both_forms() {
        let encoded = STANDARD.encode("#cloud-config\n");
        let template = json!({"Properties": {"LaunchTemplateData": {"UserData": encoded}}});
        assert_eq!(user_data(&template).as_deref(), Some("#cloud-config\n"));
        let plain = json!({"Properties": {"UserData": {"Fn::Base64": "#!/bin/sh\n"}}});
        assert_eq!(user_data(&plain).as_deref(), Some("#!/bin/sh\n"));
        assert_eq!(user_data(&json!({"Properties": {"UserData": {"Fn::Sub": "x"}}})), None);
    }
}
