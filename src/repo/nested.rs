//! Nested stacks whose template is a file of the repository: `TemplateURL: child.yaml`.

use super::check::function::{self, Form, Function};
use crate::source::Span;
use crate::yaml::{Kind, Node, Scalar};

/// The type of a nested stack.
const STACK: &str = "AWS::CloudFormation::Stack";

/// A nested stack in a rendered template.
#[derive(Debug)]
pub struct Use {
    /// Its logical id.
    pub resource: String,
    /// Where that stands.
    pub place: Span,
    /// The file, as it is written.
    pub file: String,
    /// Where it is written, quotes included.
    pub span: Span,
    /// The parameters that it is given, and where; with the values that are written out.
    pub parameters: Vec<(String, Span, Option<Given>)>,
    /// Its outputs that the template uses, and where.
    pub outputs: Vec<(String, Span)>,
}

/// A value that is written out.
#[derive(Debug)]
pub struct Given {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// The nested stacks that name a file; addresses and expressions are left to CloudFormation.
pub fn uses(root: &Node) -> Vec<Use> {
    let resources = root.get("Resources").and_then(Node::entries).unwrap_or_default();
    let mut uses: Vec<Use> = resources.iter().filter_map(|(key, value)| one(key, value)).collect();
    if !uses.is_empty() {
        outputs(root, &mut uses);
    }
    uses
}

/// Finds `Child.Outputs.Name` in `Fn::GetAtt` and `Fn::Sub`, anywhere in the template.
fn outputs(node: &Node, uses: &mut [Use]) {
    let mut found = |resource: &str, attribute: &str, span: Span| {
        let used = uses.iter_mut().find(|used| used.resource == resource);
        if let (Some(used), Some(name)) = (used, attribute.strip_prefix("Outputs.")) {
            used.outputs.push((name.to_owned(), span));
        }
    };
    if let Some(call) = function::call(node) {
        match call.function {
            Function::GetAtt => {
                if let Some((at, resource, Some(attribute))) = function::get_att(&call) {
                    let place = call.items().and_then(|items| items.get(1)).unwrap_or(at);
                    found(resource, attribute, place.span);
                }
            }
            Function::Sub => {
                let (text, given) = match call.items() {
                    Some([text, given, ..]) => (text, given.entries().unwrap_or_default()),
                    Some(_) => return,
                    None => (call.argument, &[][..]),
                };
                for variable in text.text().into_iter().flat_map(function::variables) {
                    let is_given = given.iter().any(|(key, _)| key.text() == Some(variable.name));
                    if let Some((resource, attribute)) = variable.name.split_once('.').filter(|_| !is_given) {
                        found(resource, attribute, text.span);
                    }
                }
            }
            _ => {}
        }
    }
    match &node.kind {
        Kind::Scalar { .. } => {}
        Kind::Sequence(items) => items.iter().for_each(|item| outputs(item, uses)),
        Kind::Mapping(entries) => entries.iter().for_each(|(_, value)| outputs(value, uses)),
    }
}

/// The value, where it is written out and not called for.
fn given(node: &Node) -> Option<Given> {
    let plain = matches!(function::form(node), Form::Data) && node.scalar() != Some(Scalar::Null);
    Some(Given { text: node.text().filter(|_| plain)?.to_owned(), span: node.span })
}

fn one(key: &Node, value: &Node) -> Option<Use> {
    if value.get("Type").and_then(Node::text) != Some(STACK) {
        return None;
    }
    let properties = value.get("Properties")?;
    let url = properties.get("TemplateURL")?;
    let file = url.text().filter(|_| url.tag.is_none() && matches!(url.kind, Kind::Scalar { .. }))?;
    if file.contains("://") {
        return None;
    }
    let parameters = properties.get("Parameters").and_then(Node::entries).unwrap_or_default();
    Some(Use {
        resource: key.text()?.to_owned(),
        place: key.span,
        file: file.trim_start_matches("./").to_owned(),
        span: url.span,
        parameters: parameters
            .iter()
            .filter_map(|(key, value)| Some((key.text()?.to_owned(), key.span, given(value))))
            .collect(),
        outputs: Vec::new(),
    })
}
