//! The values that parameters are given, compared with what their templates declare.

use std::sync::Arc;

use super::cloudformation::{Body, Declared};
use super::nested::{Given as NestedGiven, Use};
use super::with_suggestion;
use crate::model::parameter::{Allowed, Given, Rules};
use crate::model::setting::Unset;
use crate::model::stack::{Parameter, ParameterValue, Stack, Written};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{Kind, Node, Scalar, first_line};

/// The code of a value that its parameter refuses.
const CODE: &str = "bad-parameter-value";

/// What the declaration of a parameter says about its values.
pub fn rules(node: &Node) -> Rules {
    let text = |key: &str| {
        let value = node.get(key).filter(|value| value.scalar() != Some(Scalar::Null))?;
        value.text().map(str::to_owned)
    };
    let allowed = node.get("AllowedValues").and_then(Node::items).map(|items| {
        let plain = |item: &Node| {
            let number =
                matches!(item.scalar(), Some(Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_)));
            let word =
                |text: &str| ["yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
            number || matches!(&item.kind, Kind::Scalar { text, plain: true } if word(text))
        };
        let items = items.iter();
        items.filter_map(|item| Some(Allowed { text: item.text()?.to_owned(), plain: plain(item) })).collect()
    });
    Rules {
        kind: text("Type").unwrap_or_default(),
        allowed,
        pattern: text("AllowedPattern"),
        min_length: text("MinLength"),
        max_length: text("MaxLength"),
        min_value: text("MinValue"),
        max_value: text("MaxValue"),
        description: text("ConstraintDescription"),
        hidden: text("NoEcho").is_some_and(|text| text.eq_ignore_ascii_case("true")),
    }
}

/// Compares what `stack` gives with what its template declares, for use in `region` where that is known.
pub fn check(stack: &Stack, body: &Body, region: Option<&str>, problems: &mut Vec<Diagnostic>) {
    let known: Vec<&str> = body.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    for parameter in &stack.parameters {
        match body.parameters.iter().find(|declared| declared.name == parameter.name) {
            Some(declared) => values(parameter, declared, body, region, problems),
            None => {
                let message = format!("{} declares no parameter `{}`", stack.template, parameter.name);
                let diagnostic = Diagnostic::error("unknown-parameter", message);
                let place = &parameter.place;
                problems.push(with_suggestion(
                    diagnostic,
                    &place.file,
                    place.span,
                    &parameter.name,
                    &known,
                    "`Parameters` of the template",
                ));
            }
        }
    }
    for declared in &body.parameters {
        if stack.parameters.iter().any(|parameter| parameter.name == declared.name) {
            continue;
        }
        if declared.required {
            let message =
                format!("stack `{}` gives no value for the parameter `{}`", stack.name, declared.name);
            problems.push(
                Diagnostic::error("missing-parameter", message)
                    .at(
                        &stack.place.file,
                        stack.place.span,
                        format!("add it to `parameters` of `{}`", stack.name),
                    )
                    .help(format!("it is declared at {} and has no default", body.line(declared))),
            );
        } else {
            default(stack, declared, body, region, problems);
        }
    }
}

/// A default that is used. Apart from what `template check` says of it, it must look like what CloudFormation
/// looks up: a placeholder such as `vpc-xxxx` is an error only where nothing takes its place.
fn default(
    stack: &Stack,
    declared: &Declared,
    body: &Body,
    region: Option<&str>,
    problems: &mut Vec<Diagnostic>,
) {
    let Some((text, span)) = &declared.default else { return };
    let Some(shape) = declared.rules.shape_only() else { return };
    for refusal in shape.refusals(&Given::Text(text.clone()), region) {
        let message = format!(
            "stack `{}` gives no value for the parameter `{}`, and CloudFormation refuses its default",
            stack.name, declared.name
        );
        let problem = body.at(Diagnostic::error(CODE, message), *span, refusal.why);
        problems.push(problem.help(format!("add it to `parameters` of `{}`, {}", stack.name, stack.place)));
    }
}

fn values(
    parameter: &Parameter,
    declared: &Declared,
    body: &Body,
    region: Option<&str>,
    problems: &mut Vec<Diagnostic>,
) {
    let known = |value: &ParameterValue| value.literal().filter(|text| !is_open(text, &parameter.unset));
    let (given, places) = match &parameter.written {
        Written::Text(place) => match known(&parameter.value) {
            Some(text) => (Given::Text(text), vec![place]),
            None => return,
        },
        Written::List(items) => {
            let given = items.iter().map(|(value, _)| known(value)).collect();
            (Given::List(given), items.iter().map(|(_, place)| place).collect())
        }
    };
    for refusal in declared.rules.refusals(&given, region) {
        // What is wrong with a list as a whole is shown at the parameter's name.
        let place = match (refusal.item, &parameter.written) {
            (Some(item), _) => places.get(item).copied().unwrap_or(&parameter.place),
            (None, Written::Text(place)) => place,
            (None, Written::List(_)) => &parameter.place,
        };
        let problem = if declared.rules.hidden {
            // The line of the value would show it.
            let message = format!("the parameter `{}` does not accept the value at {place}", declared.name);
            body.at(Diagnostic::error(CODE, message), declared.span, refusal.why)
        } else {
            refused(&declared.name, &declared.rules, refusal.why, &place.file, place.span)
        };
        let item = refusal.item.and_then(|item| match &given {
            Given::List(items) => items.get(item)?.as_deref(),
            Given::Text(_) => None,
        });
        let problem = match item.is_some_and(|text| text.contains(',')) {
            true => {
                problem.help("write one item for each value, or one text with commas instead of the list")
            }
            false => problem,
        };
        problems.push(problem.help(format!("it is declared at {}", body.line(declared))));
    }
}

fn refused(name: &str, rules: &Rules, why: String, file: &Arc<SourceFile>, span: Span) -> Diagnostic {
    let message = format!("the parameter `{name}` does not accept this value");
    let problem = Diagnostic::error(CODE, message).at(file, span, why);
    match &rules.description {
        Some(description) => problem.help(format!("its template says: {description}")),
        None => problem,
    }
}

/// Whether a variable that is not set stands in the text.
fn is_open(text: &str, unset: &[Unset]) -> bool {
    unset.iter().any(|unset| text.contains(&format!("<unset {}>", unset.variable)))
}

/// Compares what a nested stack is given with what its template declares.
pub fn check_nested(
    body: &Body,
    used: &Use,
    child: &Body,
    region: Option<&str>,
    problems: &mut Vec<Diagnostic>,
) {
    let known: Vec<&str> = child.parameters.iter().map(|declared| declared.name.as_str()).collect();
    for (name, span, given) in &used.parameters {
        let Some(declared) = child.parameters.iter().find(|declared| declared.name == *name) else {
            let message = format!("{} declares no parameter `{name}`", child.source.name());
            let near = crate::source::suggest(name, known.iter().copied());
            let label = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
            problems.push(body.at(Diagnostic::error("unknown-parameter", message), *span, label));
            continue;
        };
        let Some(NestedGiven { text, span }) = given else { continue };
        for refusal in declared.rules.refusals(&Given::Text(text.clone()), region) {
            let problem = refused(name, &declared.rules, refusal.why.clone(), &body.file, *span);
            let problem = Diagnostic { label: None, ..problem };
            // The line of a value that is never shown would show it.
            let problem = match declared.rules.hidden {
                true => child.at(problem, declared.span, refusal.why),
                false => body.at(problem, *span, refusal.why),
            };
            problems.push(problem.help(format!("it is declared at {}", child.line(declared))));
        }
    }
    for declared in child.parameters.iter().filter(|declared| declared.required) {
        if used.parameters.iter().all(|(name, ..)| *name != declared.name) {
            let message = format!("`{}` gives no value for the parameter `{}`", used.resource, declared.name);
            let help = format!("it is declared at {} and has no default", child.line(declared));
            let problem = Diagnostic::error("missing-parameter", message);
            problems.push(body.at(problem, used.place, "").help(help));
        }
    }
}

/// Outputs of a nested stack that its template does not have.
pub fn check_nested_outputs(body: &Body, used: &Use, child: &Body, problems: &mut Vec<Diagnostic>) {
    if child.grows {
        return;
    }
    let known: Vec<&str> = child.outputs.iter().map(|output| output.name.as_str()).collect();
    for (name, span) in used.outputs.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let message = format!("{} has no output `{name}`", child.source.name());
        let label = match crate::source::suggest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "it has no outputs".to_owned(),
            None => format!("it has: {}", known.join(", ")),
        };
        let path = format!("Outputs.{name}");
        let within = body.file.slice(*span).find(&path).map(|at| span.start + at);
        let span = within.map_or(first_line(&body.file, *span), |at| Span::new(at, at + path.len()));
        problems.push(body.at(Diagnostic::error("unresolved-reference", message), span, label));
    }
}
