//! Nested stacks whose template is a file of the repository: `TemplateURL: child.yaml`.

use crate::source::Span;
use crate::yaml::{Kind, Node};

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
    /// The parameters that it is given, and where.
    pub parameters: Vec<(String, Span)>,
}

/// The nested stacks that name a file; addresses and expressions are left to CloudFormation.
pub fn uses(root: &Node) -> Vec<Use> {
    let resources = root.get("Resources").and_then(Node::entries).unwrap_or_default();
    resources.iter().filter_map(|(key, value)| one(key, value)).collect()
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
        parameters: parameters.iter().filter_map(|(k, _)| Some((k.text()?.to_owned(), k.span))).collect(),
    })
}
