//! The sections of a template, and what each part in them may hold.

use std::collections::HashMap;

use super::function::{self, Form};
use super::template::Part;
use super::walk::{Place, Scope};
use super::{Check, limits};
use crate::model::parameter::Given;
use crate::repo::parameters;
use crate::source::{Diagnostic, Span};
use crate::yaml::{Node, Scalar};

/// The sections a template may have.
const SECTIONS: &[&str] = &[
    "AWSTemplateFormatVersion",
    "Conditions",
    "Description",
    "Hooks",
    "Mappings",
    "Metadata",
    "Outputs",
    "Parameters",
    "Resources",
    "Rules",
    "Transform",
];
/// What a resource may hold besides its properties.
const RESOURCE_KEYS: &[&str] = &[
    "Condition",
    "CreationPolicy",
    "DeletionPolicy",
    "DependsOn",
    "Metadata",
    "Properties",
    "Type",
    "UpdatePolicy",
    "UpdateReplacePolicy",
    "Version",
];
/// What the serverless transform takes besides.
const SERVERLESS_KEYS: &[&str] = &["Connectors", "IgnoreGlobals"];
const PARAMETER_KEYS: &[&str] = &[
    "AllowedPattern",
    "AllowedValues",
    "ConstraintDescription",
    "Default",
    "Description",
    "MaxLength",
    "MaxValue",
    "MinLength",
    "MinValue",
    "NoEcho",
    "Type",
];
const OUTPUT_KEYS: &[&str] = &["Condition", "Description", "Export", "Value"];
const DELETION_POLICIES: &[&str] = &["Delete", "Retain", "RetainExceptOnCreate", "Snapshot"];
const REPLACE_POLICIES: &[&str] = &["Delete", "Retain", "Snapshot"];

/// Types of parameters that are no list of another and no value of a Systems Manager parameter.
const PLAIN_TYPES: &[&str] = &["CommaDelimitedList", "List<Number>", "List<String>", "Number", "String"];
/// Types whose values CloudFormation looks up in the account, alone or as `List<...>`.
const LOOKED_UP_TYPES: &[&str] = &[
    "AWS::EC2::AvailabilityZone::Name",
    "AWS::EC2::Image::Id",
    "AWS::EC2::Instance::Id",
    "AWS::EC2::KeyPair::KeyName",
    "AWS::EC2::SecurityGroup::GroupName",
    "AWS::EC2::SecurityGroup::Id",
    "AWS::EC2::Subnet::Id",
    "AWS::EC2::VPC::Id",
    "AWS::EC2::Volume::Id",
    "AWS::Route53::HostedZone::Id",
];

impl<'n> Check<'n> {
    /// Checks everything but the properties of resources.
    pub fn sections(&mut self) {
        let root = self.template.root;
        let entries = root.entries().unwrap_or_default();
        for (key, value) in entries {
            let name = key.text().unwrap_or_default();
            let extra = self.template.serverless && name == "Globals";
            if !SECTIONS.contains(&name) && !extra {
                let message = format!("`{name}` is not a section of a CloudFormation template");
                let mut diagnostic = Diagnostic::error("unknown-key", message);
                if value.get("Type").is_some() {
                    diagnostic = diagnostic.help("a resource stands in `Resources`: indent it below");
                }
                self.suggest(diagnostic, key.span, name, SECTIONS, "a template");
            }
            if value.scalar() == Some(Scalar::Null) {
                self.error("null-value", "a template may hold no empty value", key.span, "this has no value");
            }
        }
        self.version(root);
        self.description(root);
        for section in ["Parameters", "Mappings", "Conditions", "Resources", "Outputs", "Rules", "Metadata"] {
            let Some((key, value)) = root.entry(section) else { continue };
            if value.entries().is_none() && value.scalar() != Some(Scalar::Null) {
                let message = format!("`{section}` must be a mapping, but this is {}", value.what());
                self.error("wrong-type", message, key.span, "");
            }
        }
        if root.get("Resources").and_then(Node::entries).is_none_or(<[_]>::is_empty) && !self.template.open {
            let message = "a CloudFormation template needs `Resources`";
            self.error("missing-key", message, root.span, "there are none");
        }
        self.names();
        self.limits();
        for part in self.template.parameters.clone() {
            self.parameter(part);
        }
        for part in self.template.mappings.clone() {
            self.mapping(part);
        }
        for part in self.template.conditions.clone() {
            self.condition(part.value);
            self.walk(part.value, Place { scope: Scope::Parameters, resource: None });
        }
        if let Some(globals) = root.get("Globals").filter(|_| self.template.serverless) {
            self.walk(globals, Place { scope: Scope::All, resource: None });
        }
        if let Some(rules) = root.get("Rules") {
            self.walk(rules, Place { scope: Scope::Parameters, resource: None });
        }
        for index in 0..self.template.resources.len() {
            self.resource_attributes(index);
        }
        for part in self.template.outputs.clone() {
            self.output(part);
        }
    }

    fn version(&mut self, root: &'n Node) {
        let Some(version) = root.get("AWSTemplateFormatVersion") else { return };
        if version.text() != Some("2010-09-09") && version.scalar() != Some(Scalar::Null) {
            let message = "`AWSTemplateFormatVersion` is `2010-09-09`, the only one there is";
            self.error("bad-value", message, version.span, "another version");
        }
    }

    fn description(&mut self, root: &'n Node) {
        let Some(node) = root.get("Description") else { return };
        match node.text() {
            Some(text) if text.len() > limits::DESCRIPTION => {
                let message =
                    format!("the description has {} bytes, of {} at most", text.len(), limits::DESCRIPTION);
                self.error("limit-exceeded", message, node.span, "");
            }
            Some(_) => {}
            None => {
                let message = format!("`Description` is a text, but this is {}", node.what());
                self.error("wrong-type", message, node.span, "");
            }
        }
    }

    /// One name is one thing: parameters and resources share their names.
    fn names(&mut self) {
        let mut seen: HashMap<&str, &'static str> = HashMap::new();
        let parameters = self.template.parameters.iter().map(|part| (part.name, part.key.span, "parameter"));
        let resources = self.template.resources.iter().map(|it| (it.part.name, it.part.key.span, "resource"));
        let all: Vec<_> = parameters.chain(resources).collect();
        for (name, span, what) in all {
            if let Some(first) = seen.insert(name, what).filter(|first| *first != what) {
                let message = format!("`{name}` is the name of a {first} and of a {what}");
                self.error("duplicate-name", message, span, "one of them needs another name");
            }
        }
    }

    fn limits(&mut self) {
        let counts = [
            ("Resources", self.template.resources.len(), limits::RESOURCES),
            ("Outputs", self.template.outputs.len(), limits::OUTPUTS),
            ("Parameters", self.template.parameters.len(), limits::PARAMETERS),
            ("Mappings", self.template.mappings.len(), limits::MAPPINGS),
        ];
        for (section, count, most) in counts {
            let Some((key, _)) = self.template.root.entry(section).filter(|_| count > most) else { continue };
            let message = format!("`{section}` has {count} entries, of {most} at most");
            let diagnostic = Diagnostic::error("limit-exceeded", message);
            self.push(diagnostic.at(self.file, key.span, "").help("split the template into several stacks"));
        }
        let bytes = self.file.text().len();
        if bytes > limits::BODY {
            let message = format!("the template has {bytes} bytes, of {} at most", limits::BODY);
            let diagnostic = Diagnostic::error("limit-exceeded", message);
            self.push(
                diagnostic.at(self.file, Span::new(0, 0), "").help("split the template into several stacks"),
            );
        }
    }

    /// Names are letters and digits.
    fn name(&mut self, part: &Part<'n>, what: &str) {
        let legal = !part.name.is_empty() && part.name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !legal {
            let message = format!("`{}` is not a name for a {what}: letters and digits only", part.name);
            self.error("bad-name", message, part.key.span, "");
        } else if part.name.len() > limits::NAME {
            let message = format!("the name has {} characters, of {} at most", part.name.len(), limits::NAME);
            self.error("limit-exceeded", message, part.key.span, "");
        }
    }

    /// Keys of a part, all known.
    fn keys(&mut self, node: &'n Node, known: &[&str], more: &[&str], what: &str) {
        for (key, _) in node.entries().unwrap_or_default() {
            let name = key.text().unwrap_or_default();
            if known.contains(&name) || more.contains(&name) || name.starts_with("Fn::") {
                continue;
            }
            let message = format!("`{name}` is not a key of {what}");
            self.suggest(Diagnostic::error("unknown-key", message), key.span, name, known, what);
        }
    }

    /// A mapping with something in it; says so where it is none.
    fn mapping_of(&mut self, part: &Part<'n>, what: &str) -> bool {
        if part.value.entries().is_some() {
            return true;
        }
        if part.value.scalar() == Some(Scalar::Null) {
            self.error(
                "null-value",
                "a template may hold no empty value",
                part.key.span,
                "this has no value",
            );
        } else {
            let message = format!("{what} is a mapping, but `{}` is {}", part.name, part.value.what());
            self.error("wrong-type", message, part.key.span, "");
        }
        false
    }

    fn parameter(&mut self, part: Part<'n>) {
        self.name(&part, "parameter");
        if !self.mapping_of(&part, "a parameter") {
            return;
        }
        let node = part.value;
        self.keys(node, PARAMETER_KEYS, &[], "a parameter");
        self.walk(node, Place { scope: Scope::None, resource: None });
        let Some(kind) = node.get("Type") else {
            let message = format!("parameter `{}` needs a `Type`", part.name);
            self.error("missing-key", message, part.key.span, "`Type` is missing");
            return;
        };
        let name = kind.text().unwrap_or_default();
        if !is_parameter_type(name) {
            let message = format!("`{name}` is not a type of a parameter");
            let lists = LOOKED_UP_TYPES.iter().map(|name| format!("List<{name}>"));
            let direct: Vec<String> = PLAIN_TYPES
                .iter()
                .chain(LOOKED_UP_TYPES)
                .map(|name| (*name).to_owned())
                .chain(lists)
                .collect();
            let looked_up = direct.iter().map(|name| format!("AWS::SSM::Parameter::Value<{name}>"));
            let known: Vec<String> = direct.iter().cloned().chain(looked_up).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let diagnostic = Diagnostic::error("bad-parameter-type", message);
            self.suggest(diagnostic, kind.span, name, &known, "the list");
            return;
        }
        self.default(node);
    }

    /// A default that the parameter's own rules refuse.
    fn default(&mut self, node: &'n Node) {
        let Some(default) = node.get("Default") else { return };
        let Some(text) = default.text() else {
            let message = format!("a default is a text, but this is {}", default.what());
            let diagnostic = Diagnostic::error("bad-default", message);
            let diagnostic = diagnostic.at(self.file, self.line(default.span), "");
            self.push(diagnostic.help("the default of a list is one text with commas in it: `a,b`"));
            return;
        };
        // A placeholder for what CloudFormation looks up is no error as long as it is not used.
        let Some(rules) = parameters::rules(node).without_shape() else { return };
        let refusals = rules.refusals(&Given::Text(text.to_owned()), None);
        if let Some(refusal) = refusals.into_iter().next() {
            let message = "the default is not a value that the parameter accepts";
            self.error("bad-default", message, default.span, refusal.why);
        }
    }

    fn mapping(&mut self, part: Part<'n>) {
        self.name(&part, "mapping");
        if !self.mapping_of(&part, "a mapping's table") {
            return;
        }
        self.walk(part.value, Place { scope: Scope::None, resource: None });
        for (key, value) in part.value.entries().unwrap_or_default() {
            let Some(entries) = value.entries() else {
                let message = format!("a mapping has two levels of keys, but this is {}", value.what());
                self.error("wrong-type", message, key.span, "");
                continue;
            };
            for (key, value) in entries {
                if value.entries().is_some() && matches!(function::form(value), Form::Data) {
                    let message = "a mapping has two levels of keys, and this is a third";
                    self.error("wrong-type", message, key.span, "");
                }
            }
        }
    }

    fn output(&mut self, part: Part<'n>) {
        self.name(&part, "output");
        if !self.mapping_of(&part, "an output") {
            return;
        }
        let node = part.value;
        self.keys(node, OUTPUT_KEYS, &[], "an output");
        self.nulls(node);
        if let Some((_, condition)) = entry(node, "Condition") {
            self.condition_name(condition);
        }
        let place = Place { scope: Scope::All, resource: None };
        match node.entry("Value") {
            None => {
                let message = format!("output `{}` needs a `Value`", part.name);
                self.error("missing-key", message, part.key.span, "`Value` is missing");
            }
            Some((_, value)) => {
                let data = matches!(function::form(value), Form::Data);
                if data && value.text().is_none() && value.scalar() != Some(Scalar::Null) {
                    let message = format!("the value of an output is a text, but this is {}", value.what());
                    self.error("wrong-type", message, value.span, "");
                }
                if let Some(call) = function::call(value)
                    && call.function.gives_list()
                {
                    let message = format!(
                        "the value of an output is a text, and `{}` gives a list",
                        call.function.name()
                    );
                    self.error("wrong-type", message, call.span, "put `Fn::Join` around it");
                }
                self.walk(value, place);
            }
        }
        if let Some((key, export)) = entry(node, "Export") {
            match export.get("Name") {
                Some(name) => self.walk(name, place),
                None => self.error("missing-key", "an export needs a `Name`", key.span, ""),
            }
        }
    }

    /// Everything of a resource but its properties, which are only walked through.
    fn resource_attributes(&mut self, index: usize) {
        let resource = self.template.resources[index];
        let part = resource.part;
        self.name(&part, "resource");
        if !self.mapping_of(&part, "a resource") {
            return;
        }
        let node = part.value;
        let more = if self.template.serverless { SERVERLESS_KEYS } else { &[] };
        self.keys(node, RESOURCE_KEYS, more, "a resource");
        self.nulls(node);
        match node.entry("Type") {
            None => {
                let message = format!("resource `{}` needs a `Type`", part.name);
                let mut diagnostic = Diagnostic::error("missing-key", message);
                diagnostic = diagnostic.at(self.file, self.line(part.key.span), "`Type` is missing");
                if RESOURCE_KEYS.contains(&part.name) {
                    let help = format!("`{}` belongs into the resource above: indent it", part.name);
                    diagnostic = diagnostic.help(help);
                }
                self.push(diagnostic);
            }
            Some((key, value)) if value.text().is_none() => {
                let message = format!("a type is a text, but this is {}", value.what());
                self.error("wrong-type", message, key.span, "");
            }
            Some(_) => {}
        }
        if let Some((_, condition)) = entry(node, "Condition") {
            self.condition_name(condition);
        }
        if let Some((_, needs)) = entry(node, "DependsOn") {
            self.depends_on(index, needs);
        }
        for (name, known) in
            [("DeletionPolicy", DELETION_POLICIES), ("UpdateReplacePolicy", REPLACE_POLICIES)]
        {
            self.policy(node, name, known);
        }
        let place = Place { scope: Scope::All, resource: Some(index) };
        for name in ["Properties", "Metadata", "CreationPolicy", "UpdatePolicy"] {
            if let Some((_, value)) = entry(node, name) {
                self.walk(value, place);
            }
        }
    }

    /// Entries with nothing behind their key.
    fn nulls(&mut self, node: &'n Node) {
        for (key, value) in node.entries().unwrap_or_default() {
            self.null(value, key.span);
        }
    }

    fn depends_on(&mut self, index: usize, needs: &'n Node) {
        let one = std::slice::from_ref(needs);
        for node in needs.items().unwrap_or(one) {
            let Some(name) = node.text() else {
                let message = format!("`DependsOn` names resources, but this is {}", node.what());
                self.error("wrong-type", message, node.span, "");
                continue;
            };
            match self.template.resource(name) {
                Some(found) => self.edges[index].push((found, node.span)),
                None if self.template.makes(name) => {}
                None => {
                    let known: Vec<&str> =
                        self.template.resources.iter().map(|resource| resource.part.name).collect();
                    let message = format!("the template has no resource `{name}`");
                    let diagnostic = Diagnostic::error("unresolved-reference", message);
                    self.suggest(diagnostic, node.span, name, &known, "`Resources`");
                }
            }
        }
    }

    fn policy(&mut self, node: &'n Node, name: &str, known: &[&str]) {
        let Some((_, value)) = entry(node, name) else { return };
        match function::form(value) {
            Form::Call(call) => {
                if !self.template.extensions && !self.template.open {
                    let message = format!(
                        "`{name}` can be a function only with the transform `AWS::LanguageExtensions`"
                    );
                    self.warn("missing-transform", message, call.span, "");
                }
                self.walk(value, Place { scope: Scope::All, resource: None });
            }
            Form::Unknown(..) => self.walk(value, Place { scope: Scope::All, resource: None }),
            Form::Data => match value.text() {
                Some(text) if known.contains(&text) => {}
                Some(text) => {
                    let message = format!("`{text}` is not a value of `{name}`");
                    self.suggest(
                        Diagnostic::error("bad-value", message),
                        value.span,
                        text,
                        known,
                        "the list",
                    );
                }
                None => {
                    let message = format!("`{name}` is a text, but this is {}", value.what());
                    self.error("wrong-type", message, value.span, "");
                }
            },
        }
    }
}

/// The entry of that name, if there is something in it.
fn entry<'n>(node: &'n Node, name: &str) -> Option<&'n (Node, Node)> {
    node.entry(name).filter(|(_, value)| value.scalar() != Some(Scalar::Null))
}

/// Whether a parameter may have that type.
pub fn is_parameter_type(name: &str) -> bool {
    let plain = |name: &str| PLAIN_TYPES.contains(&name);
    let looked_up = |name: &str| LOOKED_UP_TYPES.contains(&name);
    let within = |outer: &str| name.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    if plain(name) || looked_up(name) || name == "AWS::SSM::Parameter::Name" {
        return true;
    }
    if within("List<").is_some_and(looked_up) {
        return true;
    }
    within("AWS::SSM::Parameter::Value<").is_some_and(|inner| {
        let list = inner.strip_prefix("List<").and_then(|rest| rest.strip_suffix('>'));
        matches!(inner, "String" | "CommaDelimitedList" | "List<String>")
            || looked_up(inner)
            || list.is_some_and(looked_up)
    })
}

/// Whether a parameter of that type holds a list.
pub fn is_list_type(name: &str) -> bool {
    name == "CommaDelimitedList"
        || name.starts_with("List<")
        || name.contains("Value<List<")
        || name.contains("Value<CommaDelimitedList")
}
