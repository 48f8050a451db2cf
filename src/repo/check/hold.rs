//! A value held against a schema: its kind, its items and entries, and what functions give.

use std::collections::HashSet;

use super::Check;
use super::combined::Verdict;
use super::function::{self, Form, Function};
use super::is_plain;
use super::policy;
use super::scalars::is_boolean;
use super::sections::is_list_type;
use crate::schema::{Kinds, Named, Schema};
use crate::source::{Diagnostic, Span};
use crate::yaml::{Kind, Node, Scalar};

/// How deep definitions may refer to each other.
const DEEPEST: usize = 40;

/// What a value is held against, and where it stands.
#[derive(Clone, Copy)]
pub struct At<'s> {
    /// Definitions that schemas refer to.
    pub definitions: &'s Named,
    /// Paths that only the service sets.
    pub read_only: &'s [String],
    /// The path so far, innermost first.
    pub path: Path<'s>,
    /// Where to point when something is missing.
    pub span: Span,
    /// What it is called in messages.
    pub name: &'s str,
}

/// A path of properties, `*` for items.
#[derive(Clone, Copy)]
pub enum Path<'s> {
    Root,
    Step(&'s str, &'s Path<'s>),
}

impl Path<'_> {
    fn is(&self, path: &str) -> bool {
        match self {
            Path::Root => path.is_empty(),
            Path::Step(name, outer) => {
                path.strip_suffix(name).is_some_and(|rest| match rest.strip_suffix('/') {
                    Some(rest) => outer.is(rest),
                    None => rest.is_empty() && matches!(outer, Path::Root),
                })
            }
        }
    }
}

impl Check<'_> {
    /// Holds a value against a schema.
    pub fn hold(&mut self, node: &Node, schema: &Schema, at: At<'_>, depth: usize) {
        if depth > DEEPEST || self.trying && !self.problems.is_empty() {
            return;
        }
        match function::form(node) {
            Form::Call(call) => return self.hold_call(&call, schema, at, depth),
            Form::Unknown(..) => return,
            Form::Data => {}
        }
        if schema.never {
            let message = format!("`{}` can't be given here", at.name);
            self.error("conflicting-keys", message, at.span, "something beside it excludes it");
            return;
        }
        if let Some(definition) = schema.reference.as_ref().and_then(|name| at.definitions.get(name)) {
            self.hold(node, definition, at, depth + 1);
        }
        // `aws cloudformation package` makes a bucket and a key of a local path.
        let packaged =
            ["Code", "Content", "BodyS3Location", "DefinitionS3Location", "ScriptLocation", "SourceBundle"];
        if schema.kinds == Kinds::OBJECT && node.text().is_some() && packaged.contains(&at.name) {
            return;
        }
        if !self.kind(node, schema.kinds, at) {
            return;
        }
        self.format(node, schema, at.name);
        match &node.kind {
            Kind::Scalar { text, .. } => self.scalar(node, text, schema, at.name),
            Kind::Sequence(items) => self.items(node, items, schema, at, depth),
            Kind::Mapping(entries) => self.entries(entries, schema, at, depth),
        }
        self.combined(node, schema, at, depth);
    }

    /// A function stands where a value of some kind must be.
    fn hold_call(&mut self, call: &function::Call<'_>, schema: &Schema, at: At<'_>, depth: usize) {
        if call.function == Function::If {
            for branch in call.items().unwrap_or_default().iter().skip(1) {
                self.hold(branch, schema, at, depth + 1);
            }
            return;
        }
        let kinds = kinds(schema, at.definitions);
        let gives = match call.function {
            Function::Ref => match call.text() {
                Some(name) if name.starts_with("AWS::") => None,
                Some(name) => match self.template.parameter(name) {
                    Some(part) => {
                        part.value.get("Type").and_then(Node::text).map(is_list_type).map(|list| match list {
                            true => Kinds::ARRAY,
                            false => Kinds::STRING,
                        })
                    }
                    // The name of a resource is a text.
                    None => self.template.resource(name).map(|_| Kinds::STRING),
                },
                None => None,
            },
            function if function.gives_list() => Some(Kinds::ARRAY),
            function if function.gives_text() => Some(Kinds::STRING),
            _ => None,
        };
        let Some(gives) = gives.filter(|_| !kinds.is_any()) else { return };
        let fits = match gives {
            Kinds::ARRAY => kinds.has(Kinds::ARRAY),
            _ => kinds.has_scalar(),
        };
        if !fits {
            let message = format!(
                "`{}` must be {}, but `{}` gives {}",
                at.name,
                kinds.words(),
                call.function.name(),
                gives.words()
            );
            let span = if call.argument.span.end > call.argument.span.start {
                call.argument.span
            } else {
                call.span
            };
            self.error("wrong-type", message, span, "");
        }
    }

    /// Whether a value is of a kind that it may be.
    fn kind(&mut self, node: &Node, kinds: Kinds, at: At<'_>) -> bool {
        // Nothing is told elsewhere.
        if kinds.is_any() || node.scalar() == Some(Scalar::Null) {
            return true;
        }
        let fits = match &node.kind {
            Kind::Mapping(_) => kinds.has(Kinds::OBJECT),
            Kind::Sequence(_) => kinds.has(Kinds::ARRAY),
            Kind::Scalar { text, .. } => {
                kinds.has(Kinds::STRING)
                    || !is_plain(node)
                    || kinds.has(Kinds::BOOLEAN) && is_boolean(text)
                    || kinds.has(Kinds::INTEGER) && text.trim().parse::<f64>().is_ok_and(|n| n.fract() == 0.0)
                    || kinds.has(Kinds::NUMBER) && text.trim().parse::<f64>().is_ok()
            }
        };
        if !fits {
            let message = match node.text() {
                Some(text) if kinds.has_scalar() => {
                    format!("`{}` must be {}, but it is `{text}`", at.name, kinds.words())
                }
                _ => format!("`{}` must be {}, but it is {}", at.name, kinds.words(), node.what()),
            };
            self.error("wrong-type", message, node.span, "");
        }
        fits
    }

    fn items(&mut self, node: &Node, items: &[Node], schema: &Schema, at: At<'_>, depth: usize) {
        let path = at.path;
        if let Some(inner) = &schema.items {
            for item in items {
                self.hold(item, inner, At { path: Path::Step("*", &path), span: item.span, ..at }, depth + 1);
            }
        }
        // A function among the items may be none of them, or none at all.
        if !items.iter().all(|item| matches!(function::form(item), Form::Data)) {
            return;
        }
        let count = items.len() as u64;
        let why = match (schema.min_items, schema.max_items) {
            (Some(least), _) if count < least => Some(format!("the least is {least}")),
            (_, Some(most)) if count > most => Some(format!("the most is {most}")),
            _ => None,
        };
        if let Some(why) = why {
            let unit = if count == 1 { "item" } else { "items" };
            let span = if node.span.end > node.span.start { node.span } else { at.span };
            self.error("invalid-value", format!("`{}` has {count} {unit}", at.name), span, why);
        }
        if let Some(wanted) = &schema.contains
            && !items.iter().any(|item| self.verdict(item, wanted, at, depth) != Verdict::Breaks)
        {
            self.error("invalid-value", format!("`{}` lacks an item that it needs", at.name), at.span, "");
        }
        if schema.unique_items {
            let mut seen = HashSet::new();
            for item in items {
                if let Some(text) = item.text().filter(|_| is_plain(item))
                    && !seen.insert(text)
                {
                    let message = format!("`{text}` stands in `{}` twice", at.name);
                    self.error("invalid-value", message, item.span, "each may stand in it once");
                }
            }
        }
    }

    fn entries(&mut self, entries: &[(Node, Node)], schema: &Schema, at: At<'_>, depth: usize) {
        let mut names = Vec::with_capacity(entries.len());
        // Those that a condition may take away again.
        let mut perhaps = Vec::new();
        let mut grows = false;
        for (key, value) in entries {
            let Some(name) = key.text() else { continue };
            if name.starts_with("Fn::") {
                grows = true;
                continue;
            }
            match presence(value) {
                Presence::Sure => names.push(name),
                Presence::Perhaps => perhaps.push(name),
                Presence::Absent => {}
            }
            if let Some(rule) = &schema.property_names {
                self.scalar(key, name, rule, at.name);
            }
            self.entry(key, name, value, schema, at, depth);
        }
        if grows {
            return;
        }
        let sure = |name: &String| names.contains(&name.as_str());
        let possible = |name: &String| sure(name) || perhaps.contains(&name.as_str());
        let quoted =
            |list: &[&String]| list.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        for name in schema.required.iter().filter(|name| !possible(name)) {
            self.missing_property(name, at);
        }
        for (list, only_one) in [(&schema.required_xor, true), (&schema.required_or, false)] {
            let all: Vec<&String> = list.iter().collect();
            let there: Vec<&String> = list.iter().filter(|name| sure(name)).collect();
            if !list.is_empty() && !list.iter().any(possible) {
                let message = format!("`{}` needs one of {}", at.name, quoted(&all));
                self.error("missing-property", message, at.span, "none of them is there");
            } else if only_one && there.len() > 1 {
                let message = format!("{} exclude each other", quoted(&there));
                self.error("conflicting-keys", message, at.span, "keep one of them");
            }
        }
        for (name, needs) in schema.dependent_required.iter().filter(|(name, _)| sure(name)) {
            for missing in needs.iter().filter(|need| !possible(need)) {
                let message = format!("`{name}` needs `{missing}` beside it");
                self.error("missing-property", message, at.span, format!("`{missing}` is missing"));
            }
        }
        for (name, others) in schema.dependent_excluded.iter().filter(|(name, _)| sure(name)) {
            // Each pair is told once.
            let told = |other: &String| {
                other < name && schema.dependent_excluded.get(other).is_some_and(|back| back.contains(name))
            };
            if let Some(other) = others.iter().find(|other| sure(other) && !told(other)) {
                let message = format!("`{name}` and `{other}` exclude each other");
                self.error("conflicting-keys", message, at.span, "keep one of them");
            }
        }
        if !perhaps.is_empty() {
            return;
        }
        let count = names.len() as u64;
        if schema.min_properties.is_some_and(|least| count < least)
            || schema.max_properties.is_some_and(|most| count > most)
        {
            let unit = if count == 1 { "entry" } else { "entries" };
            let bound = match (schema.min_properties, schema.max_properties) {
                (Some(least), Some(most)) if least == most => format!("it must have {least}"),
                (Some(least), _) if count < least => format!("the least is {least}"),
                (_, Some(most)) => format!("the most is {most}"),
                _ => String::new(),
            };
            self.error("invalid-value", format!("`{}` has {count} {unit}", at.name), at.span, bound);
        }
    }

    fn missing_property(&mut self, name: &str, at: At<'_>) {
        let message = format!("`{}` needs `{name}`", at.name);
        self.error("missing-property", message, at.span, format!("`{name}` is missing"));
    }

    fn entry(&mut self, key: &Node, name: &str, value: &Node, schema: &Schema, at: At<'_>, depth: usize) {
        if policy::is_policy(name) {
            self.policy_document(value);
        }
        let outer = at.path;
        let path = Path::Step(name, &outer);
        let inner = At { path, span: key.span, name, ..at };
        match schema.properties.get(name) {
            Some(schema) if schema.never => {
                if presence(value) == Presence::Sure {
                    let message = format!("`{name}` can't be given here");
                    self.error("conflicting-keys", message, key.span, "something beside it excludes it");
                }
                return;
            }
            Some(schema) => {
                if at.read_only.iter().any(|known| path.is(known)) && presence(value) != Presence::Absent {
                    let message = format!("`{name}` is set by the service and can't be given");
                    self.error("read-only-property", message, key.span, "remove it");
                    return;
                }
                return self.hold(value, schema, inner, depth + 1);
            }
            None => {}
        }
        let mut matched = false;
        for (pattern, schema) in &schema.pattern_properties {
            // What can't be told is taken for a match.
            if pattern.found(name) != Some(false) {
                matched = true;
                self.hold(value, schema, inner, depth + 1);
            }
        }
        if matched {
            return;
        }
        match &schema.additional_properties {
            None => {}
            Some(schema) if !schema.never => self.hold(value, schema, inner, depth + 1),
            Some(_) => {
                let mut known: Vec<&str> = schema.properties.names().collect();
                if matches!(at.path, Path::Root) {
                    known.retain(|name| !at.read_only.iter().any(|path| path == name));
                }
                let message = match schema.pattern_properties.is_empty() {
                    true => format!("`{}` has no property `{name}`", at.name),
                    false => format!("`{name}` is not a name that `{}` takes", at.name),
                };
                let place = format!("`{}`", at.name);
                self.suggest(Diagnostic::error("unknown-property", message), key.span, name, &known, &place);
            }
        }
    }
}

/// What kinds a value may be of, definitions followed.
fn kinds(schema: &Schema, definitions: &Named) -> Kinds {
    let mut schema = schema;
    for _ in 0..DEEPEST {
        if !schema.kinds.is_any() {
            break;
        }
        match schema.reference.as_ref().and_then(|name| definitions.get(name)) {
            Some(definition) => schema = definition,
            None => break,
        }
    }
    schema.kinds
}

/// Whether an entry is there when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Sure,
    /// A condition decides, or it says nothing.
    Perhaps,
    /// Its value is `AWS::NoValue`.
    Absent,
}

fn presence(node: &Node) -> Presence {
    let Some(call) = function::call(node) else {
        // What is empty says nothing: it is taken beside what would exclude it.
        let empty = node.items().is_some_and(<[_]>::is_empty) || node.entries().is_some_and(<[_]>::is_empty);
        return if empty { Presence::Perhaps } else { Presence::Sure };
    };
    match call.function {
        Function::Ref if call.text() == Some("AWS::NoValue") => Presence::Absent,
        Function::If => {
            let branches = call.items().unwrap_or_default();
            match branches.iter().skip(1).all(|branch| presence(branch) == Presence::Sure) {
                true => Presence::Sure,
                false => Presence::Perhaps,
            }
        }
        _ => Presence::Sure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_step_by_step() {
        let a = Path::Root;
        let b = Path::Step("A", &a);
        let c = Path::Step("*", &b);
        let d = Path::Step("Name", &c);
        assert!(d.is("A/*/Name") && b.is("A"));
        assert!(!d.is("AA/*/Name") && !d.is("*/Name") && !b.is("BA") && !b.is("B/A"));
    }
}
