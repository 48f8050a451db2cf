//! `policy` of a stack: CloudFormation's own document, checked down to the logical ids.

use super::decode::{Reader, list};
use crate::model::stack_policy::{ACTIONS, Chosen, StackPolicy, Statement, Types};
use crate::source::{Diagnostic, suggest};
use crate::yaml::Node;

/// What stands before a logical id.
const PREFIX: &str = "LogicalResourceId/";

/// Decodes a policy.
pub fn decode(reader: &mut Reader<'_>, node: &Node) -> Option<StackPolicy> {
    let fields = reader.fields(node, node.span, "a stack policy", &["Statement"])?;
    let statements = reader.required(&fields, "Statement")?;
    // As everywhere in policies, a list of one need not be a list.
    let items = match statements.items() {
        Some(items) => items,
        None => std::slice::from_ref(statements),
    };
    if items.is_empty() {
        let diagnostic = Diagnostic::error("missing-key", "a stack policy needs at least one statement");
        reader.problem(diagnostic, statements.span, "this is empty");
    }
    Some(StackPolicy { statements: items.iter().filter_map(|item| statement(reader, item)).collect() })
}

fn statement(reader: &mut Reader<'_>, node: &Node) -> Option<Statement> {
    let keys = ["Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"];
    let fields = reader.fields(node, node.span, "a statement of a stack policy", &keys)?;
    let allow = reader.required(&fields, "Effect").and_then(|node| match reader.text(node, "`Effect`")? {
        "Allow" => Some(true),
        "Deny" => Some(false),
        other => {
            bad_value(reader, node, other, &["Allow", "Deny"]);
            None
        }
    });
    if let Some(node) = fields.get("Principal").filter(|node| node.text() != Some("*")) {
        let diagnostic = Diagnostic::error("bad-value", "the principal of a stack policy is always `*`");
        reader.problem(diagnostic, node.span, "write \"*\"");
    }
    let actions = chosen(reader, &fields, "Action", "NotAction", |reader, node, text| {
        if !ACTIONS.contains(&text) {
            bad_value(reader, node, text, &ACTIONS);
        }
        Some(text.to_owned())
    });
    let resources = chosen(reader, &fields, "Resource", "NotResource", |reader, node, text| {
        let id = if text == "*" { Some(text) } else { text.strip_prefix(PREFIX) };
        if id.is_none() {
            let diagnostic =
                Diagnostic::error("bad-value", format!("`{text}` is no resource of a stack policy"));
            reader.problem(diagnostic, node.span, format!("`{PREFIX}{text}`, or `*` for all"));
        }
        id.map(str::to_owned)
    });
    let types = fields.get("Condition").and_then(|node| condition(reader, node));
    Some(Statement {
        allow: allow?,
        actions: actions?,
        resources: resources?,
        types,
        place: reader.place(node),
    })
}

fn chosen(
    reader: &mut Reader<'_>,
    fields: &super::decode::Fields<'_>,
    key: &'static str,
    not: &'static str,
    mut one: impl FnMut(&mut Reader<'_>, &Node, &str) -> Option<String>,
) -> Option<Chosen> {
    if let (Some(_), Some(both)) = (fields.get(key), fields.get(not)) {
        let diagnostic =
            Diagnostic::error("conflicting-keys", format!("`{key}` and `{not}` exclude each other"));
        reader.problem(diagnostic, both.span, "");
    }
    let (node, others) = match fields.get(not) {
        Some(node) => (node, true),
        None => (reader.required(fields, key)?, false),
    };
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    let mut patterns = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, &format!("`{key}`")) else { continue };
        patterns.extend(one(reader, item, text));
    }
    Some(Chosen { others, patterns })
}

fn condition(reader: &mut Reader<'_>, node: &Node) -> Option<Types> {
    let fields =
        reader.fields(node, node.span, "a stack policy's condition", &["StringEquals", "StringLike"])?;
    let (tests, like) = match fields.get("StringLike") {
        Some(tests) => (tests, true),
        None => (reader.required(&fields, "StringEquals")?, false),
    };
    let fields = reader.fields(tests, tests.span, "a stack policy's condition", &["ResourceType"])?;
    let node = reader.required(&fields, "ResourceType")?;
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    let names = items.iter().filter_map(|item| Some(reader.text(item, "`ResourceType`")?.to_owned()));
    Some(Types { like, names: names.collect() })
}

fn bad_value(reader: &mut Reader<'_>, node: &Node, text: &str, known: &[&str]) {
    let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is none of {}", list(known)));
    let label = suggest(text, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    reader.problem(diagnostic, node.span, label.unwrap_or_default());
}
