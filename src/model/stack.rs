//! Stacks: as the repository describes them, and rendered for one environment.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{EnvironmentName, StackName};
use super::nested::NestedTemplate;
use super::parameter::Rules;
use super::published::UNPUBLISHED;
use super::setting::{Place, Setting, Unset};
use super::stack_policy::StackPolicy;

/// The tag that says which project a stack or group belongs to.
pub const PROJECT_TAG: &str = "fleetwright:project";
/// The tag that says which environment a stack or group belongs to.
pub const ENVIRONMENT_TAG: &str = "fleetwright:environment";
/// The tag that says which stack of the repository a stack is.
pub const STACK_TAG: &str = "fleetwright:stack";

/// A stack as its file describes it.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its name.
    pub name: StackName,
    /// The template, relative to the repository's root.
    pub template: String,
    /// Where the template is named.
    pub template_place: Place,
    /// Variables for the template, in the file's order.
    pub values: Vec<(String, Value)>,
    /// CloudFormation parameters, in the file's order.
    pub parameters: Vec<Parameter>,
    /// Tags of the stack.
    pub tags: Vec<(String, Setting)>,
    /// Whether CloudFormation refuses to delete it; left as it is where nothing is said.
    pub protect: Option<bool>,
    /// What updates may change of it; left as it is where nothing is said.
    pub policy: Option<StackPolicy>,
    /// What is run before and after it is changed.
    pub hooks: Vec<Hook>,
    /// What is different in single environments, in the file's order.
    pub overrides: Vec<Override>,
    /// Its names in CloudFormation where they are others than [`RenderedStack::cloud_name`] says, by environment.
    pub cloud_names: Vec<CloudName>,
    /// Where it stands.
    pub place: Place,
}

/// What is different of a stack in one environment.
#[derive(Debug, Clone)]
pub struct Override {
    /// The environment.
    pub environment: EnvironmentName,
    /// Variables for the template, each with the place of its name; they go over the stack's own by their keys.
    pub values: Vec<(String, Value, Place)>,
    /// CloudFormation parameters, which go over the stack's own by their names.
    pub parameters: Vec<Parameter>,
    /// Where the environment is named.
    pub place: Place,
}

impl Stack {
    /// What its file says of `environment` alone, such as `values.machines` and `parameters.ImageId`.
    pub fn overridden(&self, environment: &EnvironmentName) -> Vec<String> {
        let own = self.overrides.iter().filter(|own| own.environment == *environment);
        own.flat_map(|own| {
            let values = own.values.iter().map(|(name, ..)| format!("values.{name}"));
            values.chain(own.parameters.iter().map(|parameter| format!("parameters.{}", parameter.name)))
        })
        .collect()
    }

    /// The stack as it is in `environment`: with what its file says of that one, and of no other.
    #[must_use]
    pub fn in_environment(&self, environment: &EnvironmentName) -> Self {
        let mut stack = self.clone();
        for own in std::mem::take(&mut stack.overrides).into_iter().filter(|o| o.environment == *environment)
        {
            for (name, value, _) in own.values {
                put(&mut stack.values, name, value);
            }
            for parameter in own.parameters {
                match stack.parameters.iter_mut().find(|known| known.name == parameter.name) {
                    Some(known) => *known = parameter,
                    None => stack.parameters.push(parameter),
                }
            }
        }
        stack
    }
}

/// Puts `value` over what is there: a mapping over a mapping by its keys, anything else in its place.
fn put(values: &mut Vec<(String, Value)>, name: String, value: Value) {
    match (values.iter_mut().find(|(known, _)| *known == name), value) {
        (Some((_, Value::Map(known))), Value::Map(more)) => {
            more.into_iter().for_each(|(name, value)| put(known, name, value));
        }
        (Some((_, known)), value) => *known = value,
        (None, value) => values.push((name, value)),
    }
}

/// The name of a stack in CloudFormation that was chosen by somebody else.
#[derive(Debug, Clone)]
pub struct CloudName {
    /// The environment.
    pub environment: EnvironmentName,
    /// The name.
    pub name: String,
    /// Where the environment is named.
    pub place: Place,
}

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before the stack is created or updated.
    BeforeApply,
    /// After that went well.
    AfterApply,
    /// Before the stack is deleted by `destroy`.
    BeforeDestroy,
    /// After that went well.
    AfterDestroy,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BeforeApply, Self::AfterApply, Self::BeforeDestroy, Self::AfterDestroy];

    /// Its name in the stack's file.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeApply => "before_apply",
            Self::AfterApply => "after_apply",
            Self::BeforeDestroy => "before_destroy",
            Self::AfterDestroy => "after_destroy",
        }
    }
}

/// A program that is run before or after a stack is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When.
    pub when: Moment,
    /// The program, relative to the repository's root or found by the search path, and its arguments. No
    /// shell reads them.
    pub command: Vec<String>,
    /// Where it stands.
    pub place: Place,
}

/// A value that a template can use.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another number.
    Float(f64),
    /// A text.
    Text(Setting),
    /// A list.
    List(Vec<Value>),
    /// A mapping.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// Calls `visit` with every variable in it that is not set.
    pub fn each_unset(&self, visit: &mut impl FnMut(&Unset)) {
        match self {
            Self::Null | Self::Bool(_) | Self::Integer(_) | Self::Float(_) => {}
            Self::Text(text) => text.unset().iter().for_each(visit),
            Self::List(items) => items.iter().for_each(|item| item.each_unset(visit)),
            Self::Map(entries) => entries.iter().for_each(|(_, value)| value.each_unset(visit)),
        }
    }
}

/// A parameter of a stack.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name in the template.
    pub name: String,
    /// Its value.
    pub value: ParameterValue,
    /// Where each of the references in the value stands, in their order.
    pub references: Vec<(Reference, Place)>,
    /// Variables in the value that are not set.
    pub unset: Vec<Unset>,
    /// How its value is written, and where.
    pub written: Written,
    /// Where its name stands.
    pub place: Place,
}

/// How the value of a parameter is written.
#[derive(Debug, Clone)]
pub enum Written {
    /// As one text.
    Text(Place),
    /// As a list, whose items CloudFormation gets with commas between them.
    List(Vec<(ParameterValue, Place)>),
}

/// An output of another stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The stack that has the output.
    pub stack: StackName,
    /// The output's name.
    pub output: String,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}.{}}}", self.stack, self.output)
    }
}

/// A parameter's value: text and other stacks' outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValue {
    /// The pieces, to be put together without anything between them.
    pub pieces: Vec<Piece>,
}

/// A piece of a parameter's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A text.
    Text(String),
    /// An output of another stack.
    Output(Reference),
    /// The value of a parameter of Systems Manager, by its name: a public one in a stack, which plan and apply look
    /// up, and any that is not encrypted in a service or job.
    Public(String),
}

impl ParameterValue {
    /// The public parameters it is made of.
    pub fn public(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Public(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Output(_) => None,
        })
    }

    /// Puts in the values of public parameters, as far as `values` has them.
    pub fn fill(&mut self, values: &BTreeMap<String, String>) {
        for piece in &mut self.pieces {
            if let Piece::Public(name) = piece
                && let Some(value) = values.get(name)
            {
                *piece = Piece::Text(value.clone());
            }
        }
    }

    /// The text, where nothing else has a part in it.
    pub fn literal(&self) -> Option<String> {
        self.resolve(|_| None).ok()
    }

    /// The outputs it is made of.
    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Output(reference) => Some(reference),
            Piece::Text(_) | Piece::Public(_) => None,
        })
    }

    /// The text, with outputs given by `output`.
    ///
    /// # Errors
    /// The first piece that nothing is known of.
    pub fn resolve(&self, output: impl Fn(&Reference) -> Option<String>) -> Result<String, &Piece> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(known) => text.push_str(known),
                Piece::Output(reference) => text.push_str(&output(reference).ok_or(piece)?),
                Piece::Public(_) => return Err(piece),
            }
        }
        Ok(text)
    }
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces.iter().try_for_each(|piece| write!(f, "{piece}"))
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Output(reference) => write!(f, "{reference}"),
            Self::Public(name) => write!(f, "${{ssm:{name}}}"),
        }
    }
}

/// A stack, rendered for one environment: all there is to know of it offline.
#[derive(Debug, Clone)]
pub struct RenderedStack {
    /// Its name.
    pub name: StackName,
    /// The name by which CloudFormation knows it: PROJECT-ENVIRONMENT-STACK, unless its file says another.
    pub cloud_name: String,
    /// Whether its file gives that name for this environment (`cloud_name`): then the repository means this very
    /// stack, whoever made it.
    pub is_named: bool,
    /// The template's text as CloudFormation gets it.
    pub template: String,
    /// The file it was rendered from, relative to the repository's root.
    pub template_file: String,
    /// The template's variables, as they are in this environment.
    pub values: Vec<(String, serde_json::Value)>,
    /// What its file says of this environment alone, such as `values.machines` and `parameters.ImageId`.
    pub overridden: Vec<String>,
    /// The parameters, in the file's order.
    pub parameters: Vec<(String, ParameterValue)>,
    /// The parameters whose values are never shown (`NoEcho`).
    pub hidden: Vec<String>,
    /// Hidden parameters that have no value here, with the variables that are not set: a stack that exists
    /// keeps the values it has.
    pub kept: BTreeMap<String, Vec<Unset>>,
    /// Hidden parameters whose values are to be set, though they can't be compared.
    pub forced: Vec<String>,
    /// What the template declares of its parameters.
    pub rules: BTreeMap<String, Rules>,
    /// Where the parameters that are given stand.
    pub places: BTreeMap<String, Place>,
    /// The stack's tags.
    pub tags: BTreeMap<String, String>,
    /// Whether CloudFormation refuses to delete it; left as it is where nothing is said.
    pub protect: Option<bool>,
    /// What updates may change of it; left as it is where nothing is said.
    pub policy: Option<StackPolicy>,
    /// What is run before and after it is changed, in the file's order.
    pub hooks: Vec<Hook>,
    /// Templates of the stacks nested in it, at any depth, each before those it is nested in.
    pub nested: Vec<NestedTemplate>,
    /// The stacks whose outputs it uses, in the order of their own dependency.
    pub depends_on: Vec<StackName>,
    /// The outputs that the template declares.
    pub outputs: Vec<String>,
    /// The user data of its machines, decoded.
    pub user_data: Vec<UserData>,
    /// Variables it needs that are not set; `<unset NAME>` stands in their places.
    pub unset: Vec<Unset>,
    /// Where it stands in `stacks/`.
    pub place: Place,
}

impl RenderedStack {
    /// What is run at `moment`.
    pub fn hooks(&self, moment: Moment) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(move |hook| hook.when == moment)
    }

    /// Whether its machines would fetch an agent, and none is published.
    pub fn lacks_agent(&self) -> bool {
        let texts = self.user_data.iter().map(|data| &data.text).chain([&self.template]);
        texts.chain(self.nested.iter().map(|nested| &nested.text)).any(|text| text.contains(UNPUBLISHED))
    }

    /// The values that are never shown, as far as they are known.
    pub fn hidden_values(&self) -> impl Iterator<Item = String> {
        let known = |name: &String| self.hidden.contains(name) && !self.kept.contains_key(name);
        let hidden = self.parameters.iter().filter(move |(name, _)| known(name));
        hidden.filter_map(|(_, value)| value.literal())
    }

    /// Where a parameter stands, or else the stack.
    pub fn place_of(&self, parameter: &str) -> &Place {
        self.places.get(parameter).unwrap_or(&self.place)
    }
}

/// The user data of one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserData {
    /// The resource's logical id.
    pub resource: String,
    /// The text that the machine gets.
    pub text: String,
    /// The template it was rendered from, relative to the repository's root, if
    /// `user_data(file=...)` made it.
    pub file: Option<String>,
}
