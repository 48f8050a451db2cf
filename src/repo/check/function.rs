//! CloudFormation's intrinsic functions, in both forms they are written in.
//!
//! `!Sub x` and `{"Fn::Sub": "x"}` are the same call. A tagged node is its own argument: its
//! kind is looked at, its tag is not looked at again.

use crate::source::Span;
use crate::yaml::{Kind, Node};

/// An intrinsic function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// The value of a parameter, or the name of a resource.
    Ref,
    /// An attribute of a resource.
    GetAtt,
    /// Text with variables in it.
    Sub,
    /// A list made a text.
    Join,
    /// An item of a list.
    Select,
    /// A text made a list.
    Split,
    /// One of two values.
    If,
    /// All of some conditions.
    And,
    /// Any of some conditions.
    Or,
    /// The contrary of a condition.
    Not,
    /// Whether two values are the same.
    Equals,
    /// Another condition.
    Condition,
    /// A value of a mapping.
    FindInMap,
    /// Base64.
    Base64,
    /// Address ranges.
    Cidr,
    /// Zones of a region.
    GetAzs,
    /// What another stack exports.
    ImportValue,
    /// What another stack puts out.
    GetStackOutput,
    /// A macro's result.
    Transform,
    /// The length of a list (needs the transform AWS::LanguageExtensions).
    Length,
    /// JSON as a text (needs the transform AWS::LanguageExtensions).
    ToJsonString,
    /// One of those that only `Rules` may use.
    Rule,
}

/// How many arguments a function takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// One value that is a text (or a function that gives one).
    Text,
    /// One value of any kind.
    Any,
    /// A list of this many, at least and at most.
    List(usize, usize),
    /// A text, or a list of this many.
    TextOrList(usize, usize),
    /// A mapping.
    Map,
}

/// Every function with its name in long and short form, by name.
const TABLE: &[(Function, &str, &str)] = &[
    (Function::Ref, "Ref", "!Ref"),
    (Function::GetAtt, "Fn::GetAtt", "!GetAtt"),
    (Function::Sub, "Fn::Sub", "!Sub"),
    (Function::Join, "Fn::Join", "!Join"),
    (Function::Select, "Fn::Select", "!Select"),
    (Function::Split, "Fn::Split", "!Split"),
    (Function::If, "Fn::If", "!If"),
    (Function::And, "Fn::And", "!And"),
    (Function::Or, "Fn::Or", "!Or"),
    (Function::Not, "Fn::Not", "!Not"),
    (Function::Equals, "Fn::Equals", "!Equals"),
    (Function::FindInMap, "Fn::FindInMap", "!FindInMap"),
    (Function::Base64, "Fn::Base64", "!Base64"),
    (Function::Cidr, "Fn::Cidr", "!Cidr"),
    (Function::GetAzs, "Fn::GetAZs", "!GetAZs"),
    (Function::ImportValue, "Fn::ImportValue", "!ImportValue"),
    (Function::GetStackOutput, "Fn::GetStackOutput", "!GetStackOutput"),
    (Function::Transform, "Fn::Transform", "!Transform"),
    (Function::Length, "Fn::Length", "!Length"),
    (Function::ToJsonString, "Fn::ToJsonString", "!ToJsonString"),
    (Function::Rule, "Fn::Contains", "!Contains"),
    (Function::Rule, "Fn::EachMemberEquals", "!EachMemberEquals"),
    (Function::Rule, "Fn::EachMemberIn", "!EachMemberIn"),
    (Function::Rule, "Fn::RefAll", "!RefAll"),
    (Function::Rule, "Fn::ValueOf", "!ValueOf"),
    (Function::Rule, "Fn::ValueOfAll", "!ValueOfAll"),
    (Function::Condition, "Condition", "!Condition"),
];

impl Function {
    /// The name in its long form.
    pub fn name(self) -> &'static str {
        TABLE.iter().find(|(function, ..)| *function == self).map_or("", |(_, long, _)| long)
    }

    /// What it takes; `None` where anything goes.
    pub fn arity(self) -> Option<Arity> {
        Some(match self {
            Self::Ref | Self::Condition => Arity::Text,
            Self::Base64 | Self::GetAzs | Self::ImportValue | Self::Length | Self::ToJsonString => Arity::Any,
            Self::GetAtt => Arity::TextOrList(2, 2),
            Self::Sub => Arity::TextOrList(2, 2),
            Self::Join | Self::Select | Self::Split | Self::Equals => Arity::List(2, 2),
            Self::If => Arity::List(3, 3),
            Self::And | Self::Or => Arity::List(2, 10),
            Self::Not => Arity::List(1, 1),
            // The fourth is a default value, with the transform AWS::LanguageExtensions.
            Self::FindInMap => Arity::List(3, 4),
            Self::Cidr => Arity::List(2, 3),
            Self::GetStackOutput => Arity::Map,
            // Several transforms may stand in a list.
            Self::Transform | Self::Rule => return None,
        })
    }

    /// Whether it says yes or no.
    pub fn is_condition(self) -> bool {
        matches!(self, Self::And | Self::Or | Self::Not | Self::Equals | Self::Condition | Self::Rule)
    }

    /// Whether what it gives is surely a list.
    pub fn gives_list(self) -> bool {
        matches!(self, Self::Split | Self::GetAzs | Self::Cidr)
    }

    /// Whether what it gives is surely a text.
    pub fn gives_text(self) -> bool {
        matches!(self, Self::Sub | Self::Join | Self::Base64 | Self::ImportValue | Self::ToJsonString)
    }
}

/// A call of a function.
#[derive(Debug, Clone, Copy)]
pub struct Call<'n> {
    /// The function.
    pub function: Function,
    /// Its argument. The tag of this node is not to be looked at.
    pub argument: &'n Node,
    /// Where it is called.
    pub span: Span,
    /// Whether a tag calls it, so that the argument is the node that has the tag.
    pub tagged: bool,
}

/// What a node is, apart from plain data.
#[derive(Debug, Clone, Copy)]
pub enum Form<'n> {
    /// Text, list or mapping.
    Data,
    /// A call.
    Call(Call<'n>),
    /// What looks like a call of something that is not there, with its name as written.
    Unknown(&'n str, Span),
}

/// What `node` is.
pub fn form(node: &Node) -> Form<'_> {
    if let Some(tag) = node.tag.as_deref().filter(|tag| !tag.starts_with("!!") && !tag.starts_with("!<")) {
        return match TABLE.iter().find(|(_, _, short)| *short == tag) {
            Some((function, ..)) => {
                Form::Call(Call { function: *function, argument: node, span: node.span, tagged: true })
            }
            None => Form::Unknown(tag, node.span),
        };
    }
    let Some([(key, value)]) = node.entries() else { return Form::Data };
    let Some(name) = key.text() else { return Form::Data };
    if name != "Ref" && !name.starts_with("Fn::") {
        return Form::Data;
    }
    // A loop is a key with a name in it, and makes entries of the mapping it stands in.
    if name.starts_with("Fn::ForEach::") {
        return Form::Data;
    }
    match TABLE.iter().find(|(_, long, _)| *long == name) {
        Some((function, ..)) => {
            Form::Call(Call { function: *function, argument: value, span: key.span, tagged: false })
        }
        None => Form::Unknown(name, key.span),
    }
}

/// The call that `node` is, if it is one.
pub fn call(node: &Node) -> Option<Call<'_>> {
    match form(node) {
        Form::Call(call) => Some(call),
        Form::Data | Form::Unknown(..) => None,
    }
}

/// All names in the form that `written` has, for suggestions.
pub fn names_like(written: &str) -> impl Iterator<Item = &'static str> {
    let short = written.starts_with('!');
    TABLE.iter().map(move |(_, long, tag)| if short { *tag } else { *long })
}

impl<'n> Call<'n> {
    /// The argument as a list.
    pub fn items(&self) -> Option<&'n [Node]> {
        match &self.argument.kind {
            Kind::Sequence(items) => Some(items),
            Kind::Scalar { .. } | Kind::Mapping(_) => None,
        }
    }

    /// The call that the argument is in turn.
    pub fn inner(&self) -> Option<Call<'n>> {
        if self.tagged { None } else { call(self.argument) }
    }

    /// The argument as a text; `None` where that is a call in turn.
    pub fn text(&self) -> Option<&'n str> {
        self.argument.text()
    }
}

/// The resource and the attribute of a `Fn::GetAtt`, where they are written out.
pub fn get_att<'n>(call: &Call<'n>) -> Option<(&'n Node, &'n str, Option<&'n str>)> {
    match call.items() {
        Some([resource, attribute]) => {
            let plain = call_free(attribute).then(|| attribute.text()).flatten();
            Some((resource, resource.text()?, plain))
        }
        Some(_) => None,
        None => {
            let (resource, attribute) = call.text()?.split_once('.')?;
            Some((call.argument, resource, Some(attribute)))
        }
    }
}

fn call_free(node: &Node) -> bool {
    matches!(form(node), Form::Data)
}

/// A `${name}` in the text of a `Fn::Sub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable<'t> {
    /// What stands between the braces, without blanks around it.
    pub name: &'t str,
    /// Where that begins in the text, in bytes.
    pub at: usize,
}

/// The variables in the text of a `Fn::Sub`; `${!literal}` is none.
pub fn variables(text: &str) -> impl Iterator<Item = Variable<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let open = from + text[from..].find("${")? + 2;
            let close = open + text[open..].find('}')?;
            from = close + 1;
            let inner = &text[open..close];
            if inner.starts_with('!') {
                continue;
            }
            let name = inner.trim();
            return Some(Variable { name, at: open + (inner.len() - inner.trim_start().len()) });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;
    use crate::yaml;

    fn node(text: &str) -> Node {
        let mut problems = Vec::new();
        yaml::parse(&SourceFile::new("a.yaml", text), &mut problems).expect("it is YAML")
    }

    #[test]
    fn both_forms_are_the_same_call() {
        for text in ["!Join [a, [b]]", "Fn::Join: [a, [b]]", "{\"Fn::Join\": [\"a\", [\"b\"]]}"] {
            let node = node(text);
            let call = call(&node).expect("a call");
            assert_eq!(call.function, Function::Join);
            assert_eq!(call.items().map(<[Node]>::len), Some(2), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_a_call_is_told() {
        assert!(matches!(form(&node("!Reff a")), Form::Unknown("!Reff", _)));
        assert!(matches!(form(&node("Fn::Subb: a")), Form::Unknown("Fn::Subb", _)));
        assert!(matches!(form(&node("{Ref: a, b: c}")), Form::Data));
        assert!(matches!(form(&node("!!str a")), Form::Data));
    }

    #[test]
    fn variables_are_found_and_literals_are_not() {
        let found: Vec<_> = variables("${A}-${!B}-${ C.D }-${").map(|v| (v.name, v.at)).collect();
        assert_eq!(found, [("A", 2), ("C.D", 14)]);
    }
}
