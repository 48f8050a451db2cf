//! A template's parts by name, without judging them.

use crate::yaml::{Kind, Node, Scalar};

/// The transform of AWS's serverless application model.
pub const SERVERLESS: &str = "AWS::Serverless-2016-10-31";

/// A named part of a section.
#[derive(Debug, Clone, Copy)]
pub struct Part<'n> {
    /// Its logical name.
    pub name: &'n str,
    /// The key that gives it.
    pub key: &'n Node,
    /// What it is.
    pub value: &'n Node,
}

/// A resource.
#[derive(Debug, Clone, Copy)]
pub struct Resource<'n> {
    /// Its logical id and what it holds.
    pub part: Part<'n>,
    /// Its type, where that is written out.
    pub kind: Option<&'n str>,
}

/// A template, read but not checked.
#[derive(Debug)]
pub struct Template<'n> {
    /// The whole document.
    pub root: &'n Node,
    /// Parameters, in the file's order, as everything that follows.
    pub parameters: Vec<Part<'n>>,
    /// Mappings.
    pub mappings: Vec<Part<'n>>,
    /// Conditions.
    pub conditions: Vec<Part<'n>>,
    /// Resources.
    pub resources: Vec<Resource<'n>>,
    /// Outputs.
    pub outputs: Vec<Part<'n>>,
    /// Whether a macro may add to any section, so that what is missing here may be there later.
    pub open: bool,
    /// Whether the serverless transform runs, which has types and sections of its own.
    pub serverless: bool,
    /// Whether the transform AWS::LanguageExtensions runs.
    pub extensions: bool,
}

impl<'n> Template<'n> {
    /// Reads the parts of `root`, which must be a mapping to have any.
    pub fn read(root: &'n Node) -> Self {
        let transforms = transforms(root);
        let has = |name: &str| transforms.contains(&Some(name));
        let serverless = has(SERVERLESS);
        let extensions = has("AWS::LanguageExtensions");
        // These two add nothing that anything could refer to by name.
        // and what the serverless transform makes has names that tell of it.
        let harmless = ["AWS::LanguageExtensions", "AWS::CodeDeployBlueGreen", SERVERLESS];
        let macros = transforms.iter().any(|name| !name.is_some_and(|name| harmless.contains(&name)));
        let grows = ["Parameters", "Mappings", "Conditions", "Resources", "Outputs"]
            .iter()
            .filter_map(|section| root.get(section))
            .any(grows);
        Self {
            root,
            parameters: parts(root, "Parameters"),
            mappings: parts(root, "Mappings"),
            conditions: parts(root, "Conditions"),
            resources: parts(root, "Resources")
                .into_iter()
                .map(|part| {
                    let kind = part.value.get("Type").filter(|kind| kind.scalar() != Some(Scalar::Null));
                    Resource { part, kind: kind.and_then(Node::text) }
                })
                .collect(),
            outputs: parts(root, "Outputs"),
            open: macros || grows,
            serverless,
            extensions,
        }
    }

    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Part<'n>> {
        self.parameters.iter().find(|part| part.name == name)
    }

    /// Whether a transform or a module may make something of that name: what they make is named
    /// for what they make it of.
    pub fn makes(&self, name: &str) -> bool {
        let of = |resource: &Resource<'_>| {
            let maker = resource.kind.is_some_and(|kind| {
                kind.ends_with("::MODULE") || self.serverless && kind.starts_with("AWS::Serverless::")
            });
            maker && name.starts_with(resource.part.name)
        };
        self.open || self.resources.iter().any(of) || self.serverless && name.starts_with("Serverless")
    }

    /// The position of the resource of that name.
    pub fn resource(&self, name: &str) -> Option<usize> {
        self.resources.iter().position(|resource| resource.part.name == name)
    }
}

/// The transforms that are named; `None` for one that can't be told.
fn transforms(root: &Node) -> Vec<Option<&str>> {
    let Some(node) = root.get("Transform") else { return Vec::new() };
    match &node.kind {
        Kind::Scalar { .. } if node.scalar() == Some(Scalar::Null) => Vec::new(),
        Kind::Scalar { .. } => vec![node.text()],
        Kind::Sequence(items) => items.iter().map(Node::text).collect(),
        Kind::Mapping(_) => vec![node.get("Name").and_then(Node::text)],
    }
}

/// Whether a loop or an inline macro makes entries of this section.
fn grows(section: &Node) -> bool {
    let entries = section.entries().unwrap_or_default();
    let makes = |name: &str| name == "Fn::Transform" || name.starts_with("Fn::ForEach::");
    entries.iter().any(|(key, _)| key.text().is_some_and(makes))
}

fn parts<'n>(root: &'n Node, section: &str) -> Vec<Part<'n>> {
    let entries = root.get(section).and_then(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, value)| {
            let name = key.text().filter(|name| !name.starts_with("Fn::"))?;
            Some(Part { name, key, value })
        })
        .collect()
}
