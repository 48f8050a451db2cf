//! Taking resources that exist into a stack: which they are, and the template that does just that.
//!
//! CloudFormation imports with a change set of its own kind, which may hold nothing else. So what it gets is
//! the deployed template with the resources put in, not the repository's; what else the repository wants
//! comes with the next apply.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::document;
use crate::model::deployed::Import;
use crate::schema;
use crate::source::suggest;

/// What a person named: a resource of the template, and what it is in its service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The logical id.
    pub resource: String,
    /// The property that the value is of, where several make up the identity.
    pub property: Option<String>,
    /// The value.
    pub value: String,
}

impl Given {
    /// Reads `RESOURCE=ID` or `RESOURCE.PROPERTY=VALUE`; `None` when it is neither.
    pub fn read(text: &str) -> Option<Self> {
        let (name, value) = text.split_once('=')?;
        let (resource, property) = match name.split_once('.') {
            Some((resource, property)) => (resource, Some(property.to_owned())),
            None => (name, None),
        };
        let given = Self { resource: resource.to_owned(), property, value: value.to_owned() };
        let is_empty = given.resource.is_empty() || value.is_empty() || given.property.as_deref() == Some("");
        (!is_empty).then_some(given)
    }
}

/// Why a resource can't be imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The resource.
    pub resource: String,
    /// What is in the way.
    pub why: String,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.why)
    }
}

/// The resources to be imported, each with its whole identity.
///
/// # Errors
/// Every reason why some can't be.
pub fn imports(
    given: &[Given],
    wanted: &Value,
    deployed: Option<&Value>,
) -> Result<Vec<Import>, Vec<Refused>> {
    let mut imports: Vec<Import> = Vec::new();
    let mut refused = Vec::new();
    let names: BTreeSet<&str> = given.iter().map(|given| given.resource.as_str()).collect();
    for name in names {
        let own: Vec<&Given> = given.iter().filter(|given| given.resource == name).collect();
        match import(name, &own, wanted, deployed) {
            Ok(import) => imports.push(import),
            Err((why, next)) => refused.push(Refused { resource: name.to_owned(), why, next }),
        }
    }
    for import in &imports {
        refused.extend(out_of_reach(import, &imports, wanted, deployed));
    }
    if refused.is_empty() { Ok(imports) } else { Err(refused) }
}

fn import(
    name: &str,
    given: &[&Given],
    wanted: &Value,
    deployed: Option<&Value>,
) -> Result<Import, (String, String)> {
    let resources = document::resources(wanted);
    let Some(resource) = resources.get(name) else {
        let next = match suggest(name, resources.keys().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write it into the template, as it is; then import it".to_owned(),
        };
        return Err(("the template has no such resource".to_owned(), next));
    };
    if deployed.is_some_and(|deployed| document::resources(deployed).contains_key(name)) {
        return Err((
            "the stack has it already".to_owned(),
            "leave it out; `fleetwright drift` compares it with the template".to_owned(),
        ));
    }
    let resource_type = document::resource_type(resource).to_owned();
    if resource.get("DeletionPolicy").is_none() {
        return Err((
            "CloudFormation imports only what says what becomes of it when the stack goes".to_owned(),
            "give it `DeletionPolicy: Retain` (or `Delete`) in the template".to_owned(),
        ));
    }
    let identity: Vec<String> = match schema::all().find(&resource_type) {
        Some(schema) => schema.primary_identifier.iter().map(|path| path.replace('/', ".")).collect(),
        // A type of somebody's own is known to CloudFormation alone.
        None => given.iter().filter_map(|given| given.property.clone()).collect(),
    };
    let form = |identity: &[String]| {
        let parts: Vec<String> = match identity {
            [_] => vec![format!("{name}=ID")],
            many => many.iter().map(|property| format!("{name}.{property}=VALUE")).collect(),
        };
        parts.join(" ")
    };
    let mut identifier = std::collections::BTreeMap::new();
    for given in given {
        let property = match (&given.property, identity.as_slice()) {
            (Some(property), _) if identity.contains(property) => property.clone(),
            (None, [only]) => only.clone(),
            (Some(property), _) => {
                let why = format!("`{property}` is no part of what identifies {resource_type}");
                return Err((why, format!("give {}", form(&identity))));
            }
            (None, _) => {
                let why = format!("{resource_type} is identified by {}", identity.join(" and "));
                return Err((why, format!("give {}", form(&identity))));
            }
        };
        if identifier.insert(property.clone(), given.value.clone()).is_some() {
            return Err((format!("`{property}` is given twice"), "give it once".to_owned()));
        }
    }
    if let Some(missing) = identity.iter().find(|property| !identifier.contains_key(*property)) {
        return Err((format!("`{missing}` is missing"), format!("give {}", form(&identity))));
    }
    Ok(Import { resource: name.to_owned(), resource_type, identifier })
}

/// What the resource refers to, that the stack has neither yet nor gets with it.
fn out_of_reach(
    import: &Import,
    imports: &[Import],
    wanted: &Value,
    deployed: Option<&Value>,
) -> Option<Refused> {
    let resources = document::resources(wanted);
    let resource = resources.get(import.resource.as_str())?;
    let there = deployed.map(document::resources).unwrap_or_default();
    let missing = needed(resource, &resources)
        .into_iter()
        .find(|name| !there.contains_key(name.as_str()) && imports.iter().all(|i| i.resource != *name))?;
    Some(Refused {
        resource: import.resource.clone(),
        why: format!("it refers to `{missing}`, which the stack does not have yet"),
        next: format!(
            "import `{missing}` with it if it exists, or take the reference out until the next apply"
        ),
    })
}

/// The resources that one needs.
fn needed(resource: &Value, all: &std::collections::BTreeMap<&str, &Value>) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        document::references(resource).iter().map(|reference| reference.name().to_owned()).collect();
    match resource.get("DependsOn") {
        Some(Value::String(name)) => names.extend([name.clone()]),
        Some(Value::Array(items)) => names.extend(items.iter().filter_map(|i| Some(i.as_str()?.to_owned()))),
        _ => {}
    }
    names.retain(|name| all.contains_key(name.as_str()));
    names
}

/// The template that imports them and changes nothing else.
pub fn template(imports: &[Import], wanted: &Value, deployed: Option<&Value>) -> Value {
    let mut template = match deployed {
        Some(deployed) => deployed.as_object().cloned().unwrap_or_default(),
        None => {
            let kept = ["AWSTemplateFormatVersion", "Transform", "Description"];
            let kept = kept.iter().filter_map(|key| Some(((*key).to_owned(), wanted.get(key)?.clone())));
            kept.collect()
        }
    };
    let all = document::resources(wanted);
    let resources: Vec<&Value> =
        imports.iter().filter_map(|import| all.get(import.resource.as_str()).copied()).collect();
    let mut words = BTreeSet::new();
    resources.iter().for_each(|resource| mentioned(resource, &mut words));
    // What a condition mentions may be another condition.
    for section in ["Conditions", "Conditions", "Mappings", "Parameters"] {
        let entries = wanted.get(section).and_then(Value::as_object).into_iter().flatten();
        let needed: Vec<_> = entries.filter(|(name, _)| words.contains(*name)).collect();
        for (name, value) in needed {
            mentioned(value, &mut words);
            let mut own = taken(&mut template, section);
            own.entry(name.clone()).or_insert_with(|| value.clone());
            template.insert(section.to_owned(), Value::Object(own));
        }
    }
    let mut own = taken(&mut template, "Resources");
    for import in imports {
        own.extend(all.get(import.resource.as_str()).map(|r| (import.resource.clone(), (*r).clone())));
    }
    template.insert("Resources".to_owned(), Value::Object(own));
    Value::Object(template)
}

/// A section, to be put back with more in it.
fn taken(template: &mut Map<String, Value>, section: &str) -> Map<String, Value> {
    match template.remove(section) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// Every text in it that may be a name: whole, or a variable of `Fn::Sub`.
fn mentioned(value: &Value, words: &mut BTreeSet<String>) {
    words.extend(document::references(value).iter().map(|reference| reference.name().to_owned()));
    match value {
        Value::String(text) => {
            words.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| mentioned(item, words)),
        Value::Object(map) => map.values().for_each(|item| mentioned(item, words)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wanted() -> Value {
        json!({
            "Parameters": {"Name": {"Type": "String"}, "Other": {"Type": "String"}},
            "Conditions": {"Live": {"Fn::Equals": [{"Ref": "Name"}, "x"]}, "Unused": {"Fn::Not": []}},
            "Resources": {
                "Bucket": {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain", "Condition": "Live",
                           "Properties": {"BucketName": {"Ref": "Name"}}},
                "Rule": {"Type": "AWS::SNS::TopicPolicy", "DeletionPolicy": "Retain"},
                "Topic": {"Type": "AWS::SNS::Topic"},
                "Subscription": {"Type": "AWS::SNS::Subscription", "DeletionPolicy": "Delete",
                                 "Properties": {"TopicArn": {"Ref": "Topic"}}},
                "Route": {"Type": "AWS::ApiGateway::Resource", "DeletionPolicy": "Retain"},
            },
            "Outputs": {"Name": {"Value": {"Ref": "Bucket"}}},
        })
    }

    fn tried(given: &[&str], deployed: Option<&Value>) -> Result<Vec<Import>, Vec<String>> {
        let given: Vec<Given> = given.iter().map(|text| Given::read(text).expect("well formed")).collect();
        imports(&given, &wanted(), deployed).map_err(|refused| {
            refused.into_iter().map(|refused| format!("{refused}\n  {}", refused.next)).collect()
        })
    }

    #[test]
    fn what_is_in_the_way_is_said_for_each() {
        let deployed = json!({"Resources": {"Rule": {"Type": "AWS::SNS::TopicPolicy"}}});
        let refused = [
            tried(&["Buckt=a"], None),
            tried(&["Rule=1"], Some(&deployed)),
            tried(&["Topic=arn"], None),
            tried(&["Bucket.Arn=a"], None),
            tried(&["Bucket=a", "Bucket=b"], None),
            tried(&["Route=1"], None),
            tried(&["Route.RestApiId=1"], None),
            tried(&["Subscription=arn"], None),
        ];
        let text: Vec<String> =
            refused.into_iter().flat_map(|refused| refused.expect_err("it is refused")).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn a_new_stack_gets_what_the_resource_needs_and_nothing_else() {
        let imports = tried(&["Bucket=logs"], None).expect("it can be imported");
        assert_eq!(imports[0].identifier, [("BucketName".to_owned(), "logs".to_owned())].into());
        assert_eq!(
            template(&imports, &wanted(), None),
            json!({
                "Parameters": {"Name": {"Type": "String"}},
                "Conditions": {"Live": {"Fn::Equals": [{"Ref": "Name"}, "x"]}},
                "Resources": {"Bucket": wanted()["Resources"]["Bucket"]},
            })
        );
    }

    #[test]
    fn a_stack_keeps_what_it_has() {
        let deployed = json!({
            "Description": "old",
            "Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "t"}}},
            "Outputs": {"T": {"Value": 1}},
        });
        let imports = tried(&["Subscription=arn"], Some(&deployed)).expect("its topic is there");
        let mut expected = deployed.clone();
        expected["Resources"]["Subscription"] = wanted()["Resources"]["Subscription"].clone();
        assert_eq!(template(&imports, &wanted(), Some(&deployed)), expected);
    }

    #[test]
    fn arguments_are_read() {
        assert_eq!(Given::read("Bucket"), None);
        assert_eq!(Given::read("=a"), None);
        assert_eq!(Given::read("A.=a"), None);
        let given = Given::read("A.B=c=d").expect("well formed");
        assert_eq!((given.property.as_deref(), given.value.as_str()), (Some("B"), "c=d"));
    }
}
