//! Resources held against their types: that there is such a type, its attributes, its policies,
//! and the rules that hold at one place only.

use super::function::{self, Form};
use super::hold::{At, Path};
use super::{Check, is_plain};
use crate::schema::{Policy, TypeSchema};
use crate::source::{Diagnostic, Span, suggest};
use crate::yaml::{Kind, Node, Scalar};

impl<'n> Check<'n> {
    /// Checks type and properties of every resource.
    pub fn properties(&mut self) {
        for index in 0..self.template.resources.len() {
            let resource = self.template.resources[index];
            let Some(kind) = resource.kind else { continue };
            let node = resource.part.value;
            let span = node.get("Type").map_or(resource.part.key.span, |node| node.span);
            let known = self.schema(kind).filter(|_| self.may_stand(kind));
            let Some(schema) = known else {
                self.unknown_type(kind, span);
                continue;
            };
            self.region(kind, span);
            let empty = Node { span: resource.part.key.span, tag: None, kind: Kind::Mapping(Vec::new()) };
            let at = At {
                definitions: &schema.properties.definitions,
                // The transform does as it likes with properties of its own types.
                read_only: if is_serverless(kind) { &[] } else { &schema.read_only_properties },
                path: Path::Root,
                span: resource.part.key.span,
                name: kind,
            };
            match node.entry("Properties") {
                Some((_, properties)) if properties.scalar() == Some(Scalar::Null) => {}
                Some((key, properties)) => {
                    self.hold(properties, &schema.properties, At { span: key.span, ..at }, 0);
                    self.rules(properties, schema, At { span: key.span, ..at });
                }
                None => self.hold(&empty, &schema.properties, at, 0),
            }
            self.policies(kind, node);
        }
    }

    /// The schema of a type; custom resources have that of their general type.
    fn schema(&self, kind: &str) -> Option<&'static TypeSchema> {
        let name = if kind.starts_with("Custom::") { "AWS::CloudFormation::CustomResource" } else { kind };
        self.schemas.find(name)
    }

    /// Whether the transform is there that a type needs.
    fn may_stand(&self, kind: &str) -> bool {
        !is_serverless(kind) || self.template.serverless || self.template.open
    }

    fn unknown_type(&mut self, kind: &str, span: Span) {
        let parts = kind.split("::").count();
        let of_others = !["AWS", "Alexa", "AMZN"].contains(&kind.split("::").next().unwrap_or_default());
        if !self.may_stand(kind) {
            let message = format!("`{kind}` needs the transform `AWS::Serverless-2016-10-31`");
            self.error("missing-transform", message, span, "add it to `Transform`");
            return;
        }
        // One that AWS has, but for the first word.
        let misspelt = kind.split_once("::").and_then(|(first, rest)| {
            let meant = format!("AWS::{rest}");
            (first != "AWS" && self.schemas.find(&meant).is_some()).then_some(meant)
        });
        if let Some(meant) = misspelt {
            let message = format!("there is no resource type `{kind}`");
            self.error("unknown-type", message, span, format!("did you mean `{meant}`?"));
            return;
        }
        // Modules, and types that others have registered, are not in the schemas.
        if kind.ends_with("::MODULE") || (of_others && parts >= 3) || self.template.open {
            return;
        }
        let message = format!("there is no resource type `{kind}`");
        let service = kind.rsplit_once("::").map_or("", |(service, _)| service);
        // Types of the same service are nearer than any other of like spelling.
        let siblings = self.schemas.names().filter(|name| {
            name.rsplit_once("::").is_some_and(|(other, _)| other.eq_ignore_ascii_case(service))
        });
        let near = suggest(kind, siblings).or_else(|| suggest(kind, self.schemas.names()));
        let label = near.map_or_else(
            || "types are like `AWS::EC2::Instance`, or `Custom::Anything`".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        self.error("unknown-type", message, span, label);
    }

    fn region(&mut self, kind: &str, span: Span) {
        if let Some(region) = self.region
            && self.schemas.in_region(kind, region) == Some(false)
        {
            let message = format!("region {region} may not have the resource type `{kind}`");
            self.warn("region-lacks-type", message, span, "not among its types that are known");
        }
    }

    /// Whether a resource has that attribute.
    pub fn attribute(&mut self, index: usize, attribute: &str, span: Span) {
        let Some(kind) = self.template.resources[index].kind else { return };
        if is_serverless(kind)
            || kind.starts_with("Custom::")
            || kind == "AWS::CloudFormation::CustomResource"
        {
            return;
        }
        let Some(schema) = self.schema(kind) else { return };
        if schema.attributes.iter().any(|known| matches(known, attribute)) {
            return;
        }
        let known: Vec<&str> = schema.attributes.iter().map(String::as_str).collect();
        let message = format!("`{kind}` has no attribute `{attribute}`");
        let diagnostic = Diagnostic::error("unknown-attribute", message);
        if known.is_empty() {
            self.push(
                diagnostic.at(self.file, self.line(span), "").help("it has none; `Ref` gives its name"),
            );
        } else {
            self.suggest(diagnostic, span, attribute, &known, kind);
        }
    }

    /// The update and creation policy.
    fn policies(&mut self, kind: &'n str, node: &'n Node) {
        for (policy, name) in [(Policy::Update, "UpdatePolicy"), (Policy::Creation, "CreationPolicy")] {
            let Some((key, value)) = node.entry(name) else { continue };
            match self.schemas.policy(policy, kind) {
                Some((schema, all)) => {
                    let at = At {
                        definitions: &all.definitions,
                        read_only: &[],
                        path: Path::Root,
                        span: key.span,
                        name,
                    };
                    self.hold(value, schema, at, 0);
                }
                None => {
                    let message = format!("`{kind}` has no `{name}`");
                    self.warn("useless-policy", message, key.span, "this has no effect");
                }
            }
        }
    }

    /// Rules that hold at one path only.
    fn rules(&mut self, properties: &'n Node, schema: &'static TypeSchema, at: At<'_>) {
        for rule in &schema.rules {
            self.each(properties, &rule.at, at.span, &mut |check, node, span| {
                let schema = rule.schema.get();
                let definitions = &schema.definitions;
                check.hold(node, schema, At { definitions, read_only: &[], span, ..at }, 0);
            });
        }
        for values in &schema.regional_enums {
            self.each(properties, &values.at, at.span, &mut |check, node, _| {
                check.listed(node, &values.list);
            });
        }
    }

    /// Calls `visit` with everything at a path, `A/*/B`.
    fn each(
        &mut self,
        node: &'n Node,
        path: &str,
        span: Span,
        visit: &mut dyn FnMut(&mut Self, &'n Node, Span),
    ) {
        if !matches!(function::form(node), Form::Data) {
            return;
        }
        let path = path.trim_start_matches('/');
        if path.is_empty() {
            return visit(self, node, span);
        }
        let (step, rest) = path.split_once('/').unwrap_or((path, ""));
        if step == "*" {
            node.items().unwrap_or_default().iter().for_each(|item| self.each(item, rest, item.span, visit));
        } else if let Some((key, value)) = node.entry(step) {
            self.each(value, rest, key.span, visit);
        }
    }

    /// Whether a list of the service's has a value. Such lists grow every few weeks, so a value
    /// that is not there yet is no error.
    fn listed(&mut self, node: &'n Node, list: &str) {
        let Some(text) = node.text().filter(|_| is_plain(node)) else { return };
        let Some(values) = self.schemas.values(list) else { return };
        if values.iter().any(|value| value == text) {
            return;
        }
        let label = suggest(text, values.iter().map(String::as_str))
            .map_or("not among those that are known".to_owned(), |near| format!("did you mean `{near}`?"));
        self.warn("unlisted-value", format!("no region is known to have `{text}`"), node.span, label);
    }
}

fn is_serverless(kind: &str) -> bool {
    kind.starts_with("AWS::Serverless::")
}

/// Whether an attribute is the known one, in which `*` stands for any text.
fn matches(known: &str, attribute: &str) -> bool {
    match known.split_once('*') {
        None => known == attribute,
        Some((before, after)) => attribute.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]).any(|rest| matches(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_may_have_any_text_in_them() {
        assert!(
            matches("Outputs.*", "Outputs.A.B") && matches("L.*.Name", "L.0.Name") && matches("Arn", "Arn")
        );
        assert!(!matches("Outputs.*", "Output.A") && !matches("L.*.Name", "L.0.Arn"));
    }
}
