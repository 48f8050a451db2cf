//! Templates, as far as stacks of the tests need them: references, a few functions, conditions of outputs.

use std::collections::{BTreeMap, BTreeSet};

use fleetwright::plan::document as tree;
use fleetwright::repo::document;
use serde_json::{Map, Value};

use super::wire::Refusal;
use super::{ACCOUNT, REGION};

/// What a stack is asked to be.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The template, byte for byte.
    pub text: String,
    /// The same as a tree.
    pub document: Value,
    /// Every parameter, defaults included.
    pub parameters: BTreeMap<String, String>,
    /// The stack's tags.
    pub tags: BTreeMap<String, String>,
}

/// What an expression asks for.
#[derive(Debug, Clone, Copy)]
pub enum Asked<'a> {
    /// `Ref`, of a resource.
    Id(&'a str),
    /// `Fn::GetAtt`.
    Attribute(&'a str, &'a str),
}

/// What a resource's id, or attribute, is.
pub type Known<'k> = dyn Fn(Asked<'_>) -> Option<String> + 'k;

impl Wanted {
    /// Reads a template and takes in its parameters' defaults.
    pub fn read(
        text: String,
        mut parameters: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<Self, Refusal> {
        let document = document::read(&text)
            .ok_or_else(|| Refusal::validation("Template format error: unsupported structure."))?;
        let mut missing = Vec::new();
        for name in tree::parameters(&document) {
            if parameters.contains_key(name) {
                continue;
            }
            match tree::parameter_default(&document, name) {
                Some(default) => drop(parameters.insert(name.to_owned(), default)),
                None => missing.push(name),
            }
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            return Err(Refusal::validation(format!("Parameters: [{missing}] must have values")));
        }
        Ok(Self { text, document, parameters, tags })
    }

    /// The type of a resource.
    pub fn kind(&self, resource: &str) -> &str {
        tree::resources(&self.document).get(resource).map_or("", |resource| tree::resource_type(resource))
    }

    /// Whether a resource is left behind when it is taken out of its stack.
    pub fn retains(&self, resource: &str) -> bool {
        self.document["Resources"][resource]["DeletionPolicy"] == "Retain"
    }

    /// The resources by how many others must be there before them.
    pub fn levels(&self) -> Vec<Vec<String>> {
        let resources = tree::resources(&self.document);
        let mut left: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for (name, resource) in &resources {
            let mut before: BTreeSet<String> =
                tree::references(resource).iter().map(|reference| reference.name().to_owned()).collect();
            match resource.get("DependsOn") {
                Some(Value::String(one)) => drop(before.insert(one.clone())),
                Some(Value::Array(more)) => {
                    before.extend(more.iter().filter_map(Value::as_str).map(str::to_owned))
                }
                _ => {}
            }
            before.retain(|before| resources.contains_key(before.as_str()));
            left.insert(name, before);
        }
        let mut levels = Vec::new();
        while !left.is_empty() {
            let ready: Vec<String> = left
                .iter()
                .filter(|(_, before)| before.is_empty())
                .map(|(name, _)| (*name).to_owned())
                .collect();
            assert!(!ready.is_empty(), "the resources of the template go in a circle");
            left.retain(|name, _| !ready.iter().any(|ready| ready == name));
            for before in left.values_mut() {
                before.retain(|name| !ready.contains(name));
            }
            levels.push(ready);
        }
        levels
    }

    /// The properties of a resource with every expression worked out; scalars are texts.
    pub fn properties(&self, resource: &str, known: &Known<'_>) -> Result<Value, Refusal> {
        let properties = &self.document["Resources"][resource]["Properties"];
        match properties {
            Value::Null => Ok(Value::Object(Map::new())),
            properties => self.value(properties, known),
        }
    }

    /// The outputs with every expression worked out.
    pub fn outputs(&self, known: &Known<'_>) -> Result<BTreeMap<String, String>, Refusal> {
        let outputs = self.document["Outputs"].as_object().into_iter().flatten();
        let outputs = outputs.filter(|(_, output)| self.holds(&output["Condition"]));
        outputs.map(|(name, output)| Ok((name.clone(), self.text(&output["Value"], known)?))).collect()
    }

    /// Whether a named condition holds that compares a parameter with a text; one that is not there does.
    fn holds(&self, name: &Value) -> bool {
        let Some(name) = name.as_str() else { return true };
        let sides = &self.document["Conditions"][name]["Fn::Equals"];
        let side = |at: usize| match &sides[at] {
            Value::Object(map) => {
                map["Ref"].as_str().and_then(|name| self.parameters.get(name).cloned()).unwrap_or_default()
            }
            text => text.as_str().unwrap_or_default().to_owned(),
        };
        side(0) == side(1)
    }

    fn value(&self, value: &Value, known: &Known<'_>) -> Result<Value, Refusal> {
        Ok(match value {
            Value::Object(map) => match (map.len(), map.iter().next()) {
                (1, Some((name, argument))) if name == "Ref" || name.starts_with("Fn::") => {
                    Value::String(self.function(name, argument, known)?)
                }
                _ => {
                    let entries = map.iter().map(|(key, inner)| Ok((key.clone(), self.value(inner, known)?)));
                    Value::Object(entries.collect::<Result<_, Refusal>>()?)
                }
            },
            Value::Array(items) => {
                Value::Array(items.iter().map(|item| self.value(item, known)).collect::<Result<_, _>>()?)
            }
            Value::String(text) => Value::String(text.clone()),
            scalar => Value::String(scalar.to_string()),
        })
    }

    fn text(&self, value: &Value, known: &Known<'_>) -> Result<String, Refusal> {
        Ok(match self.value(value, known)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    }

    fn function(&self, name: &str, argument: &Value, known: &Known<'_>) -> Result<String, Refusal> {
        let words = |at: usize| argument.get(at).and_then(Value::as_str).unwrap_or_default();
        match (name, argument) {
            ("Ref", Value::String(target)) => self.reference(target, known),
            ("Fn::GetAtt", Value::Array(_)) => self.attribute(words(0), words(1), known),
            ("Fn::Sub", Value::String(text)) => self.substitute(text, known),
            ("Fn::Join", Value::Array(_)) => {
                let items = argument.get(1).and_then(Value::as_array).into_iter().flatten();
                let items: Vec<String> =
                    items.map(|item| self.text(item, known)).collect::<Result<_, _>>()?;
                Ok(items.join(words(0)))
            }
            _ => Err(Refusal::validation(format!("the fake CloudFormation does not know `{name}` as used"))),
        }
    }

    fn reference(&self, target: &str, known: &Known<'_>) -> Result<String, Refusal> {
        match target {
            "AWS::Region" => return Ok(REGION.to_owned()),
            "AWS::AccountId" => return Ok(ACCOUNT.to_owned()),
            "AWS::Partition" => return Ok("aws".to_owned()),
            _ => {}
        }
        let value = self.parameters.get(target).cloned().or_else(|| known(Asked::Id(target)));
        value.ok_or_else(|| unresolved(target))
    }

    fn attribute(&self, target: &str, attribute: &str, known: &Known<'_>) -> Result<String, Refusal> {
        known(Asked::Attribute(target, attribute)).ok_or_else(|| unresolved(target))
    }

    fn substitute(&self, text: &str, known: &Known<'_>) -> Result<String, Refusal> {
        let (mut done, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            let Some((inner, after)) = after.split_once('}') else { break };
            done.push_str(before);
            match (inner.strip_prefix('!'), inner.split_once('.')) {
                (Some(literal), _) => done.push_str(&format!("${{{literal}}}")),
                (None, Some((target, attribute))) => {
                    done.push_str(&self.attribute(target, attribute, known)?);
                }
                (None, None) => done.push_str(&self.reference(inner, known)?),
            }
            rest = after;
        }
        done.push_str(rest);
        Ok(done)
    }
}

fn unresolved(target: &str) -> Refusal {
    Refusal::validation(format!(
        "Template format error: Unresolved resource dependencies [{target}] in the Resources block of the template"
    ))
}
