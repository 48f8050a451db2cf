//! Policy documents of IAM, which schemas only call mappings: their own grammar, as the guide to
//! IAM gives it. Names of keys are taken in any case, as IAM takes them.

use super::function::{self, Form};
use super::{Check, is_plain};
use crate::source::Diagnostic;
use crate::yaml::Node;

/// Properties that hold a policy document.
const PROPERTIES: &[&str] =
    &["AssumeRolePolicyDocument", "FileSystemPolicy", "KeyPolicy", "PolicyDocument", "RepositoryPolicyText"];
const DOCUMENT_KEYS: &[&str] = &["Id", "Statement", "Version"];
const STATEMENT_KEYS: &[&str] = &[
    "Action",
    "Condition",
    "Effect",
    "NotAction",
    "NotPrincipal",
    "NotResource",
    "Principal",
    "Resource",
    "Sid",
];
const PRINCIPALS: &[&str] = &["AWS", "CanonicalUser", "Federated", "Service"];
const VERSIONS: &[&str] = &["2008-10-17", "2012-10-17"];
/// Operators of conditions, without `ForAllValues:` and `ForAnyValue:` before them and `IfExists` behind.
const OPERATORS: &[&str] = &[
    "ArnEquals",
    "ArnLike",
    "ArnNotEquals",
    "ArnNotLike",
    "BinaryEquals",
    "Bool",
    "DateEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateNotEquals",
    "IpAddress",
    "NotIpAddress",
    "Null",
    "NumericEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericNotEquals",
    "StringEquals",
    "StringEqualsIgnoreCase",
    "StringLike",
    "StringNotEquals",
    "StringNotEqualsIgnoreCase",
    "StringNotLike",
];

/// Whether a property of that name holds a policy document.
pub fn is_policy(property: &str) -> bool {
    PROPERTIES.contains(&property)
}

impl Check<'_> {
    /// Checks a policy document.
    pub fn policy_document(&mut self, document: &Node) {
        let Some(entries) = document.entries().filter(|_| data(document)) else { return };
        self.only(entries, DOCUMENT_KEYS, "a policy document");
        if let Some(version) = get(document, "Version") {
            self.value(version, VERSIONS, "the `Version` of a policy document");
        }
        let Some(statement) = get(document, "Statement") else {
            let span = document.span;
            if !grows(entries) {
                self.error("missing-key", "a policy document needs a `Statement`", span, "");
            }
            return;
        };
        let one = std::slice::from_ref(statement);
        for statement in statement.items().filter(|_| data(statement)).unwrap_or(one) {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &Node) {
        if !data(statement) {
            return;
        }
        let Some(entries) = statement.entries() else {
            let message = format!("a statement is a mapping, but this is {}", statement.what());
            self.error("wrong-type", message, statement.span, "");
            return;
        };
        self.only(entries, STATEMENT_KEYS, "a statement");
        match get(statement, "Effect") {
            Some(effect) => self.value(effect, &["Allow", "Deny"], "an `Effect`"),
            None if grows(entries) => {}
            None => self.error("missing-key", "a statement needs an `Effect`", statement.span, ""),
        }
        for name in ["Action", "NotAction", "Resource", "NotResource", "Sid"] {
            let Some(value) = get(statement, name).filter(|value| data(value)) else { continue };
            let one = std::slice::from_ref(value);
            for item in value.items().filter(|_| name != "Sid").unwrap_or(one) {
                if data(item) && item.text().is_none() {
                    let message =
                        format!("`{name}` is a text or a list of texts, but this is {}", item.what());
                    self.error("wrong-type", message, item.span, "");
                }
            }
        }
        for name in ["Principal", "NotPrincipal"] {
            if let Some(principal) = get(statement, name) {
                self.principal(principal, name);
            }
        }
        if let Some(condition) = get(statement, "Condition").filter(|condition| data(condition)) {
            self.operators(condition);
        }
    }

    fn principal(&mut self, principal: &Node, name: &str) {
        if !data(principal) || !is_plain(principal) || principal.text() == Some("*") {
            return;
        }
        let Some(entries) = principal.entries() else {
            let message = format!("`{name}` is `*` or a mapping, but this is {}", principal.what());
            self.error("wrong-type", message, principal.span, "");
            return;
        };
        self.only(entries, PRINCIPALS, "a principal");
    }

    fn operators(&mut self, condition: &Node) {
        for (key, value) in condition.entries().unwrap_or_default() {
            let Some(name) = key.text().filter(|name| !name.starts_with("Fn::")) else { continue };
            if data(value) && value.entries().is_none() {
                let message = format!("`{name}` compares keys with values, but this is {}", value.what());
                self.error("wrong-type", message, value.span, "");
            }
            let bare = ["ForAllValues:", "ForAnyValue:"]
                .iter()
                .find_map(|quantifier| strip_prefix(name, quantifier))
                .unwrap_or(name);
            let known = |name: &str| OPERATORS.iter().any(|known| known.eq_ignore_ascii_case(name));
            let optional = bare.len().checked_sub("IfExists".len()).and_then(|at| bare.split_at_checked(at));
            let optional = optional.filter(|(_, end)| end.eq_ignore_ascii_case("IfExists"));
            if !known(bare) && !optional.is_some_and(|(bare, _)| known(bare)) {
                let message = format!("IAM has no condition operator `{name}`");
                self.suggest(Diagnostic::error("invalid-value", message), key.span, bare, OPERATORS, "IAM");
            }
        }
    }

    fn only(&mut self, entries: &[(Node, Node)], known: &[&str], what: &str) {
        for (key, _) in entries {
            let Some(name) = key.text().filter(|name| !name.starts_with("Fn::")) else { continue };
            if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                let message = format!("`{name}` is not a key of {what}");
                self.suggest(Diagnostic::error("unknown-key", message), key.span, name, known, what);
            }
        }
    }

    fn value(&mut self, node: &Node, known: &[&str], what: &str) {
        if !data(node) {
            return;
        }
        match node.text() {
            Some(text) if known.contains(&text) || !is_plain(node) => {}
            Some(text) => {
                let message = format!("`{text}` is not {what}");
                self.suggest(Diagnostic::error("invalid-value", message), node.span, text, known, "the list");
            }
            None => {
                let message = format!("{what} is a text, but this is {}", node.what());
                self.error("wrong-type", message, node.span, "");
            }
        }
    }
}

fn data(node: &Node) -> bool {
    matches!(function::form(node), Form::Data)
}

fn grows(entries: &[(Node, Node)]) -> bool {
    entries.iter().any(|(key, _)| key.text().is_some_and(|name| name.starts_with("Fn::")))
}

fn get<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    let entries = node.entries()?;
    entries
        .iter()
        .find(|(key, _)| key.text().is_some_and(|key| key.eq_ignore_ascii_case(name)))
        .map(|(_, value)| value)
}

fn strip_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}
