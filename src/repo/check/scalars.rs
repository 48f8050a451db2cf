//! Texts, numbers and booleans held against a schema.

use super::{Check, is_plain};
use crate::schema::{Kinds, Schema};
use crate::source::{Diagnostic, suggest};
use crate::yaml::{Node, Scalar};

impl Check<'_> {
    pub fn scalar(&mut self, node: &Node, text: &str, schema: &Schema, name: &str) {
        if !is_plain(node) || node.scalar() == Some(Scalar::Null) {
            return;
        }
        let values = &schema.one_of_values;
        let insensitive = &schema.enum_case_insensitive;
        if !values.is_empty() && !values.iter().any(|value| same(&value.0, text)) {
            self.not_among(
                node,
                text,
                name,
                &values.iter().map(|value| value.0.as_str()).collect::<Vec<_>>(),
            );
        } else if !insensitive.is_empty()
            && !insensitive.iter().any(|value| value.0.eq_ignore_ascii_case(text))
        {
            self.not_among(
                node,
                text,
                name,
                &insensitive.iter().map(|value| value.0.as_str()).collect::<Vec<_>>(),
            );
        }
        if let Some(constant) = &schema.constant
            && !same(&constant.0, text)
        {
            self.not_among(node, text, name, &[&constant.0]);
        }
        let wanted = schema.pattern.iter().chain(&schema.patterns).map(|pattern| (pattern, true));
        let unwanted = schema.not_patterns.iter().map(|pattern| (pattern, false));
        for (pattern, wanted) in wanted.chain(unwanted) {
            if pattern.found(text) == Some(!wanted) {
                let must = if wanted { "must" } else { "must not" };
                let label = format!("it {must} match `{pattern}`");
                self.error(
                    "invalid-value",
                    format!("{} does not look as `{name}` must", quoted(text)),
                    node.span,
                    label,
                );
                return;
            }
        }
        self.bounds(node, text, schema, name);
    }

    pub fn format(&mut self, node: &Node, schema: &Schema, name: &str) {
        let Some(format) = schema.format.as_deref() else { return };
        let Some(text) = node.text().filter(|text| is_plain(node) && !text.is_empty()) else { return };
        let (fits, wanted) = match format {
            // Host bits are taken, and dropped.
            "ipv4-network" => (text.parse::<ipnet::Ipv4Net>().is_ok(), "10.0.0.0/16"),
            "ipv6-network" => (text.parse::<ipnet::Ipv6Net>().is_ok(), "2001:db8::/32"),
            _ => return,
        };
        if !fits {
            let label = format!("it must be like `{wanted}`");
            self.error(
                "invalid-value",
                format!("`{text}` is not a range of addresses, as `{name}` must be"),
                node.span,
                label,
            );
        }
    }

    fn bounds(&mut self, node: &Node, text: &str, schema: &Schema, name: &str) {
        if schema.kinds.has(Kinds::INTEGER) || schema.kinds.has(Kinds::NUMBER) || schema.kinds.is_any() {
            let bounds = [schema.minimum, schema.maximum, schema.exclusive_maximum, schema.multiple_of];
            if bounds.iter().all(Option::is_none) {
                return;
            }
            let Ok(number) = text.trim().parse::<f64>() else { return };
            let why = match (schema.minimum, schema.maximum, schema.exclusive_maximum) {
                (Some(least), _, _) if number < least => format!("the least is {least}"),
                (_, Some(most), _) if number > most => format!("the most is {most}"),
                (_, _, Some(most)) if number >= most => format!("it must be below {most}"),
                _ => match schema.multiple_of.filter(|unit| number % unit != 0.0) {
                    Some(unit) => format!("it must be a multiple of {unit}"),
                    None => return,
                },
            };
            self.error("invalid-value", format!("`{text}` is out of bounds for `{name}`"), node.span, why);
        } else if schema.kinds.has(Kinds::STRING)
            && (schema.min_length.is_some() || schema.max_length.is_some())
        {
            let length = text.chars().count() as u64;
            let why = match (schema.min_length, schema.max_length) {
                (Some(least), _) if length < least => format!("the least is {least}"),
                (_, Some(most)) if length > most => format!("the most is {most}"),
                _ => return,
            };
            let unit = if length == 1 { "character" } else { "characters" };
            self.error("invalid-value", format!("`{name}` has {length} {unit}"), node.span, why);
        }
    }

    fn not_among(&mut self, node: &Node, text: &str, name: &str, values: &[&str]) {
        if self.trying {
            return self.push(Diagnostic::error("invalid-value", "not among the values"));
        }
        let mut values = values.to_vec();
        values.dedup();
        let message = format!("{} is not a value of `{name}`", quoted(text));
        let diagnostic = Diagnostic::error("invalid-value", message);
        let near = suggest(text, values.iter().copied()).filter(|_| text.parse::<f64>().is_err());
        let span = self.line(node.span);
        let list = |values: &[&str]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
        let diagnostic = match near {
            Some(near) => diagnostic.at(self.file, span, format!("did you mean `{near}`?")),
            None if values.len() > 24 => {
                let help = format!("there are {} values, such as {}", values.len(), list(&values[..3]));
                diagnostic.at(self.file, span, "").help(help)
            }
            None => diagnostic.at(self.file, span, "").help(format!("the values are {}", list(&values))),
        };
        self.push(diagnostic);
    }
}

/// A value in a sentence; an empty one by name.
fn quoted(text: &str) -> String {
    if text.is_empty() { "an empty text".to_owned() } else { format!("`{text}`") }
}

/// What YAML 1.1, CloudFormation's, and CloudFormation itself take for yes or no.
pub fn is_boolean(text: &str) -> bool {
    ["true", "false", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Whether a scalar is a value of a schema: the same text, or the same number.
fn same(value: &str, text: &str) -> bool {
    value == text
        || text.parse::<f64>().is_ok_and(|number| value.parse::<f64>().is_ok_and(|other| other == number))
        || (matches!(value, "true" | "false") && value.eq_ignore_ascii_case(text))
}
