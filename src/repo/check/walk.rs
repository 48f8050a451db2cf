//! Every value of a template: its functions are called rightly, and what they name is there.

use super::function::{self, Arity, Call, Form, Function};
use super::{Check, pseudo};
use crate::source::{Diagnostic, Span};
use crate::yaml::{Kind, Node, Scalar};

/// What values in a section may refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Parameters and resources.
    All,
    /// Parameters: conditions and rules are decided before there are resources.
    Parameters,
    /// Nothing: no function is called in mappings and parameters.
    None,
}

/// Where a value stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// What it may refer to.
    pub scope: Scope,
    /// The resource that it belongs to, by position.
    pub resource: Option<usize>,
}

impl<'n> Check<'n> {
    /// Checks the functions in `node` and everything below it.
    pub fn walk(&mut self, node: &'n Node, place: Place) {
        match function::form(node) {
            Form::Call(call) => self.call(&call, place),
            Form::Unknown(name, span) => {
                // The serverless transform has one of its own.
                let of_serverless = self.template.serverless && name == "Fn::Include";
                if !self.template.open && !of_serverless {
                    let known: Vec<&str> = function::names_like(name).collect();
                    let message = format!("CloudFormation has no function `{name}`");
                    self.suggest(
                        Diagnostic::error("unknown-function", message),
                        span,
                        name,
                        &known,
                        "the list of functions",
                    );
                }
                self.below(node, place);
            }
            Form::Data => self.below(node, place),
        }
    }

    /// Checks what stands in `node`, whatever that is itself.
    fn below(&mut self, node: &'n Node, place: Place) {
        match &node.kind {
            Kind::Scalar { .. } => {}
            Kind::Sequence(items) => {
                for item in items {
                    self.null(item, item.span);
                    self.walk(item, place);
                }
            }
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    self.null(value, key.span);
                    self.walk(value, place);
                }
            }
        }
    }

    /// CloudFormation refuses a template that holds nothing anywhere.
    pub fn null(&mut self, node: &Node, span: Span) {
        if node.scalar() == Some(Scalar::Null) {
            self.error("null-value", "a template may hold no empty value", span, "this has no value");
        }
    }

    fn call(&mut self, call: &Call<'n>, place: Place) {
        let name = call.function.name();
        if place.scope == Scope::None {
            let message = format!("`{name}` can't be called here: only plain values may stand here");
            self.error("misplaced-function", message, call.span, "");
            return;
        }
        if !self.arity(call) {
            self.argument(call, place);
            return;
        }
        match call.function {
            Function::Ref => {
                if let Some(name) = call.text() {
                    self.reference(call.argument.span, name, place);
                }
            }
            Function::GetAtt => self.get_att(call, place),
            Function::Sub => self.sub(call, place),
            Function::If => {
                if let Some([condition, ..]) = call.items() {
                    self.condition_name(condition);
                }
            }
            Function::Condition => self.condition_name(call.argument),
            Function::And | Function::Or | Function::Not => {
                for item in call.items().unwrap_or_default() {
                    self.condition(item);
                }
            }
            Function::FindInMap => self.find_in_map(call),
            Function::Select => self.select(call),
            Function::Join => self.texts(call.items().and_then(|items| items.get(1)?.items())),
            Function::Base64 | Function::ImportValue if !call.tagged => {
                self.texts(Some(std::slice::from_ref(call.argument)));
            }
            Function::Length | Function::ToJsonString if !self.template.extensions && !self.template.open => {
                let message = format!("`{name}` needs the transform `AWS::LanguageExtensions`");
                self.error("missing-transform", message, call.span, "add it to `Transform`");
            }
            Function::Split
            | Function::Equals
            | Function::Base64
            | Function::Cidr
            | Function::GetAzs
            | Function::ImportValue
            | Function::GetStackOutput
            | Function::Transform
            | Function::Length
            | Function::ToJsonString
            | Function::Rule => {}
        }
        self.argument(call, place);
    }

    /// Texts stand here, or functions that give some.
    fn texts(&mut self, nodes: Option<&'n [Node]>) {
        for node in nodes.unwrap_or_default() {
            if matches!(function::form(node), Form::Data) && node.text().is_none() && !self.template.open {
                let message = format!("a text must stand here, but this is {}", node.what());
                self.error("function-arguments", message, node.span, "");
            }
        }
    }

    fn argument(&mut self, call: &Call<'n>, place: Place) {
        if call.tagged { self.below(call.argument, place) } else { self.walk(call.argument, place) }
    }

    /// Whether a call has as many arguments as it takes, of the right kinds.
    fn arity(&mut self, call: &Call<'n>) -> bool {
        let name = call.function.name();
        let argument = call.argument;
        let is_call = call.inner().is_some();
        let items = call.items().map(<[Node]>::len);
        let is_text = call.text().is_some() && !is_null(argument);
        let number = |least: usize, most: usize| match (least, most) {
            (1, 1) => "a list of one value".to_owned(),
            (least, most) if least == most => format!("a list of {least} values"),
            (least, most) => format!("a list of {least} to {most} values"),
        };
        let arity = match call.function {
            // The fourth is a default.
            Function::FindInMap if !self.template.extensions && !self.template.open => {
                Some(Arity::List(3, 3))
            }
            function => function.arity(),
        };
        let (fits, wanted) = match arity {
            None => (true, String::new()),
            Some(Arity::Any) => match items {
                // `Fn::GetAZs: [x]` and the like are taken for the one value in them.
                Some(_) if call.function == Function::Base64 => (false, "one value".to_owned()),
                _ => (true, String::new()),
            },
            Some(Arity::Text) => (is_text || (is_call && self.template.extensions), "a name".to_owned()),
            Some(Arity::List(least, most)) => {
                (items.is_some_and(|n| (least..=most).contains(&n)), number(least, most))
            }
            Some(Arity::TextOrList(least, most)) => (
                is_text || items.is_some_and(|n| (least..=most).contains(&n)),
                format!("a text, or {}", number(least, most)),
            ),
            Some(Arity::Map) => (argument.entries().is_some(), "a mapping".to_owned()),
        };
        if !fits {
            let found = match items {
                Some(n) => format!("this has {n}"),
                None if is_call => "this calls a function".to_owned(),
                None => format!("this is {}", argument.what()),
            };
            self.error("function-arguments", format!("`{name}` takes {wanted}"), argument_span(call), found);
        }
        fits
    }

    /// Something is named by `Ref`, `Fn::GetAtt` or `Fn::Sub`.
    fn reference(&mut self, span: Span, name: &str, place: Place) {
        if let Some(part) = self.template.parameter(name).map(|part| part.name) {
            self.used.insert(part);
            return;
        }
        if name.starts_with("AWS::") && pseudo(name) {
            return;
        }
        match self.template.resource(name) {
            Some(index) if place.scope == Scope::All => self.depend(place, index, span),
            Some(_) => {
                let message = format!("only parameters can be referred to here, and `{name}` is a resource");
                self.error("misplaced-reference", message, span, "");
            }
            None => self.missing(span, name, place),
        }
    }

    fn depend(&mut self, place: Place, index: usize, span: Span) {
        if let Some(from) = place.resource {
            self.edges[from].push((index, span));
        }
    }

    fn missing(&mut self, span: Span, name: &str, place: Place) {
        if self.template.makes(name) {
            return;
        }
        let mut known: Vec<&str> = self.template.parameters.iter().map(|part| part.name).collect();
        let what = match place.scope {
            Scope::All => {
                known.extend(self.template.resources.iter().map(|resource| resource.part.name));
                "resource or parameter"
            }
            Scope::Parameters | Scope::None => "parameter",
        };
        if name.starts_with("AWS::") {
            known.extend(super::PSEUDO);
        }
        let message = format!("the template has no {what} `{name}`");
        let label = crate::source::suggest(name, known)
            .map_or(String::new(), |near| format!("did you mean `{near}`?"));
        self.error("unresolved-reference", message, span, label);
    }

    fn get_att(&mut self, call: &Call<'n>, place: Place) {
        let Some((node, resource, attribute)) = function::get_att(call) else {
            if call.items().is_none() {
                let message = "`Fn::GetAtt` takes a resource and an attribute, `Resource.Attribute`";
                self.error("function-arguments", message, argument_span(call), "there is no `.` in it");
            }
            return;
        };
        let span = self.part_of(node, resource);
        match self.template.resource(resource) {
            Some(index) => {
                if place.scope == Scope::All {
                    self.depend(place, index, span);
                    if let Some(attribute) = attribute {
                        let at = call.items().and_then(|items| items.get(1)).unwrap_or(node);
                        self.attribute(index, attribute, self.part_of(at, attribute));
                    }
                } else {
                    let message = "a resource's attribute can't be referred to here";
                    self.error("misplaced-reference", message, span, "only parameters can");
                }
            }
            None if self.template.parameter(resource).is_some() => {
                let message = format!("`{resource}` is a parameter, which has no attributes");
                self.error("unresolved-reference", message, span, "use `Ref`");
            }
            None => self.missing(span, resource, place),
        }
    }

    fn sub(&mut self, call: &Call<'n>, place: Place) {
        let (node, given) = match call.items() {
            Some([text, given, ..]) => (text, given.entries()),
            Some(_) => return,
            None => (call.argument, None),
        };
        let Some(text) = node.text() else {
            let message = "the first value of `Fn::Sub` is a text, written out";
            self.error("function-arguments", message, node.span, format!("this is {}", node.what()));
            return;
        };
        for (_, value) in given.unwrap_or_default() {
            self.texts(Some(std::slice::from_ref(value)));
        }
        let given: Vec<&str> = given.unwrap_or_default().iter().filter_map(|(key, _)| key.text()).collect();
        for variable in function::variables(text) {
            let name = variable.name;
            let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '_');
            if name.is_empty() || !name.chars().all(legal) {
                let message = format!("`${{{name}}}` is not a variable of `Fn::Sub`");
                let span = self.part_of(node, if name.is_empty() { "${}" } else { name });
                let mut diagnostic = Diagnostic::error("bad-sub-variable", message).at(
                    self.file,
                    span,
                    "letters, digits, `_`, `.` and `::` only",
                );
                if !name.is_empty() {
                    let escaped =
                        format!("to get the text itself, such as a shell's variable, write `${{!{name}}}`");
                    diagnostic = diagnostic.help(escaped);
                }
                self.push(diagnostic);
                continue;
            }
            if given.contains(&name) {
                continue;
            }
            let span = self.part_of(node, name);
            if name.starts_with("AWS::") {
                self.reference(span, name, place);
                continue;
            }
            match name.split_once('.') {
                None => self.reference(span, name, place),
                Some((resource, attribute)) => match self.template.resource(resource) {
                    Some(index) if place.scope == Scope::All => {
                        self.depend(place, index, span);
                        self.attribute(index, attribute, span);
                    }
                    Some(_) => self.reference(span, resource, place),
                    None => self.missing(span, resource, place),
                },
            }
        }
    }

    fn find_in_map(&mut self, call: &Call<'n>) {
        let Some([map, keys @ ..]) = call.items() else { return };
        let plain =
            |node: &'n Node| matches!(function::form(node), Form::Data).then(|| node.text()).flatten();
        let Some(name) = plain(map) else {
            // Which one is decided later: any may be.
            self.all_mappings_used = true;
            return;
        };
        let Some(found) = self.template.mappings.iter().find(|part| part.name == name).copied() else {
            if !self.template.open {
                let known: Vec<&str> = self.template.mappings.iter().map(|part| part.name).collect();
                let message = format!("the template has no mapping `{name}`");
                self.suggest(
                    Diagnostic::error("unresolved-reference", message),
                    map.span,
                    name,
                    &known,
                    "`Mappings`",
                );
            }
            return;
        };
        self.used_mappings.insert(found.name);
        let has_default = keys.len() > 2;
        if has_default || self.template.open {
            return;
        }
        let tables = found.value.entries().unwrap_or_default();
        let [first, second, ..] = keys else { return };
        let named = |name: &str, entries: &'n [(Node, Node)]| {
            entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
        };
        let names = |entries: &'n [(Node, Node)]| entries.iter().filter_map(|(key, _)| key.text());
        let mut missing = |key: &'n Node, name: &str, known: Vec<&str>| {
            let message = format!("mapping `{}` has no key `{name}`", found.name);
            let diagnostic = Diagnostic::error("unresolved-reference", message);
            self.suggest(diagnostic, key.span, name, &known, "it");
        };
        // Where the first key is decided later, the second must be in one table at least.
        let possible: Vec<&'n Node> = match plain(first) {
            Some(name) => match named(name, tables) {
                Some(table) => vec![table],
                None => return missing(first, name, names(tables).collect()),
            },
            None => tables.iter().map(|(_, table)| table).collect(),
        };
        let entries = |table: &&'n Node| table.entries().unwrap_or_default();
        if let Some(name) = plain(second)
            && !possible.iter().any(|table| named(name, entries(table)).is_some())
        {
            let mut known: Vec<&str> = possible.iter().flat_map(|table| names(entries(table))).collect();
            known.sort_unstable();
            known.dedup();
            missing(second, name, known);
        }
    }

    fn select(&mut self, call: &Call<'n>) {
        let Some([index, list]) = call.items() else { return };
        if !matches!(function::form(index), Form::Data) {
            return;
        }
        let Some(number) = index.text().and_then(|text| text.trim().parse::<usize>().ok()) else {
            let message = "`Fn::Select` takes the position of an item, from 0";
            self.error("function-arguments", message, index.span, format!("this is {}", index.what()));
            return;
        };
        if matches!(function::form(list), Form::Data) && list.items().is_none() && !self.template.open {
            let message = format!("`Fn::Select` takes an item of a list, but this is {}", list.what());
            self.error("function-arguments", message, list.span, "");
        }
        if let (Form::Data, Some(items)) = (function::form(list), list.items())
            && number >= items.len()
            // A call among them may give a list that is taken for several.
            && items.iter().all(|item| matches!(function::form(item), Form::Data))
        {
            let message = format!("`Fn::Select` takes item {number} of a list of {}", items.len());
            self.error("function-arguments", message, index.span, "the first is 0");
        }
    }

    /// A condition is named.
    pub fn condition_name(&mut self, node: &'n Node) {
        let Some(name) = node.text() else {
            if matches!(function::form(node), Form::Data) {
                let message = "a condition is named here";
                self.error("function-arguments", message, node.span, format!("this is {}", node.what()));
            }
            return;
        };
        if let Some(part) = self.template.conditions.iter().find(|part| part.name == name) {
            self.used_conditions.insert(part.name);
            return;
        }
        if self.template.open {
            return;
        }
        let known: Vec<&str> = self.template.conditions.iter().map(|part| part.name).collect();
        let message = format!("the template has no condition `{name}`");
        self.suggest(
            Diagnostic::error("unresolved-reference", message),
            node.span,
            name,
            &known,
            "`Conditions`",
        );
    }

    /// What stands in `Conditions`, or within a condition: something that says yes or no.
    pub fn condition(&mut self, node: &'n Node) {
        if let Some([(key, value)]) = node.entries()
            && key.text() == Some("Condition")
        {
            self.condition_name(value);
            return;
        }
        match function::form(node) {
            Form::Call(call) if call.function.is_condition() => {}
            Form::Call(call) if matches!(call.function, Function::Transform | Function::FindInMap) => {}
            Form::Unknown(..) => {}
            Form::Call(call) => {
                let message = format!("`{}` does not say yes or no", call.function.name());
                self.error(
                    "bad-condition",
                    message,
                    call.span,
                    "a condition is one of Fn::And, Fn::Or, Fn::Not, Fn::Equals and Condition",
                );
            }
            Form::Data => {
                let message = format!("a condition is a function, but this is {}", node.what());
                self.error(
                    "bad-condition",
                    message,
                    node.span,
                    "one of Fn::And, Fn::Or, Fn::Not, Fn::Equals and Condition",
                );
            }
        }
    }

    /// The part of `node` that `text` stands in, where that can be told.
    pub fn part_of(&self, node: &Node, text: &str) -> Span {
        let slice = self.file.slice(node.span);
        let braced =
            slice.match_indices("${").map(|(at, _)| at + 2).find(|at| slice[*at..].starts_with(text));
        match braced.or_else(|| slice.find(text)) {
            Some(at) => Span::new(node.span.start + at, node.span.start + at + text.len()),
            None => node.span,
        }
    }
}

fn is_null(node: &Node) -> bool {
    matches!(&node.kind, Kind::Scalar { text, plain: true } if matches!(text.as_str(), "" | "~" | "null"))
}

/// Where to point for a call's argument: at the call where the argument has no text of its own.
fn argument_span(call: &Call<'_>) -> Span {
    if call.argument.span.end > call.argument.span.start { call.argument.span } else { call.span }
}
