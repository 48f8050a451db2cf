//! The ranges of addresses that the resources of a template take.

use crate::repo::check::function::{self, Form, Function};
use crate::yaml::{Node, Scalar};

/// Types that take addresses of a VPC.
const TAKERS: [&str; 3] = ["AWS::EC2::VPC", "AWS::EC2::VPCCidrBlock", "AWS::EC2::Subnet"];

/// A range that a resource takes.
#[derive(Debug)]
pub struct Range {
    /// The logical id and type of the resource.
    pub resource: String,
    /// The range.
    pub block: Block,
}

/// A range as its template gives it.
#[derive(Debug)]
pub enum Block {
    /// It is written out.
    Written(String),
    /// It is the value of a parameter.
    Parameter {
        /// The parameter.
        name: String,
        /// Its default.
        default: Option<String>,
    },
}

/// The ranges in the template that was read as `root`. Those that only applying it shows are left out.
pub fn read(root: &Node) -> Vec<Range> {
    let resources = root.get("Resources").and_then(Node::entries).unwrap_or_default();
    let ranges = resources.iter().filter_map(|(key, resource)| {
        let kind = resource.get("Type").and_then(Node::text).filter(|kind| TAKERS.contains(kind))?;
        let block = block(root, resource.get("Properties")?.get("CidrBlock")?)?;
        Some(Range { resource: format!("`{}`, an {kind}", key.text().unwrap_or_default()), block })
    });
    ranges.collect()
}

fn block(root: &Node, node: &Node) -> Option<Block> {
    match function::form(node) {
        Form::Data => text(node).map(Block::Written),
        Form::Call(call) if call.function == Function::Ref => {
            let name = call.text()?;
            let declared = root.get("Parameters").and_then(|parameters| parameters.get(name));
            let default = declared.and_then(|declared| declared.get("Default")).and_then(text);
            Some(Block::Parameter { name: name.to_owned(), default })
        }
        Form::Call(_) | Form::Unknown(..) => None,
    }
}

fn text(node: &Node) -> Option<String> {
    match node.scalar() {
        Some(Scalar::Text(text)) => Some(text.to_owned()),
        Some(Scalar::Null | Scalar::Bool(_) | Scalar::Integer(_) | Scalar::Float(_)) | None => None,
    }
}
