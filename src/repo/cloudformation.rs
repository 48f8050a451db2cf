//! Rendered CloudFormation templates: checked, and what the rest of the repository needs of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::check;
use super::edit::{Edit, edited};
use super::exports::Terms;
use super::nested::{self, Use};
use super::origin::Origins;
use super::{group_sizes, merge_keys, parameters};
use crate::model::nested::NestedTemplate;
use crate::model::parameter::Rules;
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{self, Node};

pub mod ranges;

use ranges::Range;

/// The most bytes of user data that EC2 takes, before base64.
pub const USER_DATA_MOST: usize = 16_384;

/// A rendered template, read.
#[derive(Debug)]
pub struct Body {
    /// The rendered text.
    pub file: Arc<SourceFile>,
    /// The template it was rendered from.
    pub source: Arc<SourceFile>,
    /// Its parameters, and whether each must be given.
    pub parameters: Vec<Declared>,
    /// Its resources' logical ids.
    pub resources: Vec<String>,
    /// Its outputs.
    pub outputs: Vec<Declared>,
    /// Whether a macro or a loop may add to what is declared.
    pub grows: bool,
    /// What decides its exports and imports, where it has any.
    pub terms: Option<Terms>,
    /// Decoded user data by resource.
    pub user_data: Vec<(String, String)>,
    /// Stacks nested in it whose templates are files.
    pub uses: Vec<Use>,
    /// The ranges of addresses that it takes, with those of nested templates.
    pub ranges: Vec<Range>,
    /// How the text that CloudFormation gets differs from the rendered one.
    pub edits: Vec<Edit>,
    /// The nested templates.
    pub nested: Vec<NestedTemplate>,
    /// The nested stacks that export or import anything.
    pub children: Vec<Child>,
}

/// A nested stack.
#[derive(Debug)]
pub struct Child {
    /// Its logical id.
    pub resource: String,
    /// Where that stands in the template around it.
    pub place: Span,
    /// Its template.
    pub body: Body,
    /// The parameters that it is given, with the values that are known.
    pub given: Vec<(String, Option<String>)>,
}

/// A parameter or output of a template.
#[derive(Debug)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Where, in the rendered text.
    pub span: Span,
    /// Whether it must be given: a parameter without default.
    pub required: bool,
    /// Its default and where that stands.
    pub default: Option<(String, Span)>,
    /// What a parameter accepts.
    pub rules: Rules,
}

impl Body {
    /// The text that CloudFormation gets.
    pub fn text(&self) -> String {
        edited(self.file.text(), &self.edits)
    }

    /// A problem at a place of the rendered text, pointing into the source if it can be told.
    pub fn at(&self, problem: Diagnostic, span: Span, label: impl Into<String>) -> Diagnostic {
        let mut problem = problem.at(&self.file, span, label);
        Origins::new(&self.source, &self.file).trace(&mut problem);
        problem
    }

    /// `file:line` of something declared, in the template's source if it can be told.
    pub fn line(&self, declared: &Declared) -> String {
        let here = self.at(Diagnostic::error("", ""), declared.span, "");
        here.label.map_or_else(String::new, |label| {
            format!("{}:{}", label.file.name(), label.file.position(label.span.start).line)
        })
    }
}

/// Reads and checks the rendered `text` of `source`, for use in `region` if that is known.
/// Problems go to `problems`, pointing into the source where the line can be found there, else
/// into the rendered text.
pub fn read(
    source: &Arc<SourceFile>,
    stack: &str,
    text: &str,
    region: Option<&str>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Body> {
    let file = SourceFile::new(format!("{} (rendered for {stack})", source.name()), text);
    let mut found = Vec::new();
    let body = read_body(&file, source, region, &mut found);
    // Text that is no YAML is shown as rendered: a value put in is the likely cause.
    let traceable = |problem: &Diagnostic| problem.code != "yaml-syntax" || text == source.text();
    if !found.is_empty() {
        let origins = Origins::new(source, &file);
        found.iter_mut().filter(|problem| traceable(problem)).for_each(|problem| origins.trace(problem));
    }
    problems.append(&mut found);
    body
}

fn read_body(
    file: &Arc<SourceFile>,
    source: &Arc<SourceFile>,
    region: Option<&str>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Body> {
    let mut root = yaml::parse(file, problems)?;
    let edits = if problems.is_empty() { group_sizes::kept(file.text(), &root) } else { Vec::new() };
    merge_keys::merge(file, &mut root, true, problems);
    problems.extend(check::tree(file, &root, region));
    root.entries()?;
    let resources = root.get("Resources").and_then(Node::entries).unwrap_or_default();
    let user_data = resources
        .iter()
        .filter_map(|(key, value)| Some((key.text()?.to_owned(), user_data(value.get("Properties")?)?)))
        .collect();
    Some(Body {
        file: Arc::clone(file),
        source: Arc::clone(source),
        parameters: declared(&root, "Parameters"),
        resources: resources.iter().filter_map(|(key, _)| Some(key.text()?.to_owned())).collect(),
        outputs: declared(&root, "Outputs"),
        grows: check::grows(&root),
        terms: Terms::read(file.text(), &root),
        user_data,
        uses: nested::uses(&root),
        ranges: ranges::read(&root),
        edits,
        nested: Vec::new(),
        children: Vec::new(),
    })
}

fn declared(root: &Node, section: &str) -> Vec<Declared> {
    let entries = root.get(section).and_then(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, value)| {
            let name = key.text()?.to_owned();
            let default = value.get("Default");
            let text = default.and_then(|node| Some((node.text()?.to_owned(), node.span)));
            let rules = parameters::rules(value);
            Some(Declared { name, span: key.span, required: default.is_none(), default: text, rules })
        })
        .collect()
}

/// The user data of a launch template, launch configuration or instance.
fn user_data(properties: &Node) -> Option<String> {
    let node = properties.get("LaunchTemplateData").unwrap_or(properties).get("UserData")?;
    let plain = |node: &Node| node.text().map(str::to_owned);
    if node.tag.as_deref() == Some("!Base64") {
        return plain(node);
    }
    if let Some(inner) = node.get("Fn::Base64") {
        return plain(inner).or_else(|| inner.get("Fn::Sub").and_then(plain));
    }
    let bytes = STANDARD.decode(node.text()?.trim()).ok()?;
    String::from_utf8(bytes).ok()
}
