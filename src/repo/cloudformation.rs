//! Light checks of rendered CloudFormation templates: what of them references need.
//!
//! Deeper checks (resource types and their properties) are another matter; here a
//! template only has to be YAML, to have resources, and to refer to what it has.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::decode::list;
use super::yaml::{self, Kind, Node, first_line};
use crate::source::{Diagnostic, SourceFile, Span, suggest};

/// The most bytes of user data that EC2 takes, before base64.
pub const USER_DATA_MOST: usize = 16_384;

/// The sections a template may have.
const SECTIONS: [&str; 10] = [
    "AWSTemplateFormatVersion",
    "Description",
    "Metadata",
    "Parameters",
    "Rules",
    "Mappings",
    "Conditions",
    "Transform",
    "Resources",
    "Outputs",
];

/// A rendered template, read.
#[derive(Debug)]
pub struct Body {
    /// The rendered text.
    pub file: Arc<SourceFile>,
    /// The template it was rendered from.
    pub source: Arc<SourceFile>,
    /// Its parameters, and whether each must be given.
    pub parameters: Vec<Declared>,
    /// Its outputs.
    pub outputs: Vec<Declared>,
    /// Decoded user data by resource.
    pub user_data: Vec<(String, String)>,
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
}

impl Body {
    /// `file:line` of something declared, in the template's source if it can be told.
    pub fn line(&self, declared: &Declared) -> String {
        let (file, span) = origin(&self.file, &self.source, declared.span);
        format!("{}:{}", file.name(), file.position(span.start).line)
    }
}

/// Reads the rendered `text` of `source`. Problems go to `problems`, pointing into the
/// source where the line stands there exactly once, else into the rendered text.
pub fn read(
    source: &Arc<SourceFile>,
    stack: &str,
    text: &str,
    problems: &mut Vec<Diagnostic>,
) -> Option<Body> {
    let file = SourceFile::new(format!("{} (rendered for {stack})", source.name()), text);
    let mut found = Vec::new();
    let body = read_body(&file, source, &mut found);
    for mut problem in found {
        // Text that is no YAML is shown as rendered: a value put in is the likely cause.
        if let Some(label) =
            problem.label.as_mut().filter(|_| problem.code != "yaml-syntax" || text == source.text())
        {
            (label.file, label.span) = origin(&file, source, label.span);
        }
        problems.push(problem);
    }
    body
}

/// The place in the template's source that a place in its rendered text came from.
fn origin(rendered: &Arc<SourceFile>, source: &Arc<SourceFile>, span: Span) -> (Arc<SourceFile>, Span) {
    let text = rendered.text();
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let unchanged = rendered.text() == source.text();
    let mut at = source.text().match_indices(line).map(|(at, _)| at).filter(|at| {
        let before = source.text()[..*at].ends_with('\n') || *at == 0;
        let rest = &source.text()[at + line.len()..];
        before && (rest.is_empty() || rest.starts_with('\n') || rest.starts_with("\r\n"))
    });
    match (unchanged, at.next(), at.next()) {
        (true, ..) => (Arc::clone(source), span),
        (false, Some(at), None) if !line.trim().is_empty() && span.end <= start + line.len() => {
            (Arc::clone(source), Span::new(at + span.start - start, at + span.end - start))
        }
        _ => (Arc::clone(rendered), span),
    }
}

fn read_body(
    file: &Arc<SourceFile>,
    source: &Arc<SourceFile>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Body> {
    let root = yaml::parse(file, problems)?;
    let at =
        |diagnostic: Diagnostic, span: Span, text: &str| diagnostic.at(file, first_line(file, span), text);
    let Some(entries) = root.entries() else {
        let diagnostic = Diagnostic::error(
            "bad-template",
            format!("a CloudFormation template must be a mapping, but this is {}", root.what()),
        );
        problems.push(at(diagnostic, root.span, ""));
        return None;
    };
    for (key, _) in entries {
        let name = key.text().unwrap_or_default();
        if !SECTIONS.contains(&name) {
            let diagnostic = Diagnostic::error(
                "unknown-key",
                format!("`{name}` is not a section of a CloudFormation template"),
            );
            problems.push(match suggest(name, SECTIONS) {
                Some(near) => at(diagnostic, key.span, &format!("did you mean `{near}`?")),
                None => at(diagnostic, key.span, "unknown section")
                    .help(format!("the sections are {}", list(&SECTIONS))),
            });
        }
    }
    let resources = root.get("Resources").and_then(Node::entries).unwrap_or_default();
    if resources.is_empty() {
        let diagnostic = Diagnostic::error("missing-key", "a CloudFormation template needs `Resources`");
        problems.push(at(diagnostic, root.span, "there are none"));
    }
    for (key, value) in resources {
        if value.get("Type").and_then(Node::text).is_none()
            && key.text().is_some_and(|key| !key.starts_with("Fn::"))
        {
            let message = format!("resource `{}` needs a `Type`", key.text().unwrap_or_default());
            problems.push(at(Diagnostic::error("missing-key", message), key.span, "`Type` is missing"));
        }
    }
    let parameters = declared(&root, "Parameters");
    if root.get("Transform").is_none() && !resources.is_empty() {
        // Macros may add resources; without one, what is referred to must be there.
        let known: Vec<&str> = resources.iter().filter_map(|(key, _)| key.text()).collect();
        let names = Names { resources: &known, parameters: &parameters, file };
        names.check(root.get("Resources"), problems);
        names.check(root.get("Outputs"), problems);
    }
    let outputs = declared(&root, "Outputs");
    let user_data = resources
        .iter()
        .filter_map(|(key, value)| Some((key.text()?.to_owned(), user_data(value.get("Properties")?)?)))
        .collect();
    Some(Body { file: Arc::clone(file), source: Arc::clone(source), parameters, outputs, user_data })
}

fn declared(root: &Node, section: &str) -> Vec<Declared> {
    let entries = root.get(section).and_then(Node::entries).unwrap_or_default();
    entries
        .iter()
        .filter_map(|(key, value)| {
            let name = key.text()?.to_owned();
            Some(Declared { name, span: key.span, required: value.get("Default").is_none() })
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

/// What a template's references may name.
struct Names<'n> {
    resources: &'n [&'n str],
    parameters: &'n [Declared],
    file: &'n Arc<SourceFile>,
}

impl Names<'_> {
    fn check(&self, node: Option<&Node>, problems: &mut Vec<Diagnostic>) {
        let Some(node) = node else { return };
        match node.tag.as_deref() {
            Some("!Ref") => self.named(node, node.text(), problems),
            Some("!GetAtt") => self.get_att(node, problems),
            Some("!Sub") => self.sub(node, problems),
            _ => {}
        }
        match &node.kind {
            Kind::Scalar { .. } => {}
            Kind::Sequence(items) => items.iter().for_each(|item| self.check(Some(item), problems)),
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    match (key.text(), entries.len()) {
                        (Some("Ref"), 1) => self.named(value, value.text(), problems),
                        (Some("Fn::GetAtt"), 1) => self.get_att(value, problems),
                        (Some("Fn::Sub"), 1) => self.sub(value, problems),
                        _ => {}
                    }
                    self.check(Some(value), problems);
                }
            }
        }
    }

    fn get_att(&self, node: &Node, problems: &mut Vec<Diagnostic>) {
        let first = node.items().and_then(<[Node]>::first);
        match first {
            Some(item) => self.named(item, item.text(), problems),
            None => self.named(node, node.text().and_then(|text| text.split('.').next()), problems),
        }
    }

    fn sub(&self, node: &Node, problems: &mut Vec<Diagnostic>) {
        let (text, extra) = match node.items() {
            Some([text, extra, ..]) => (text, Some(extra)),
            Some([text]) => (text, None),
            _ => (node, None),
        };
        let mut rest = text.text().unwrap_or_default();
        while let Some((_, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else { break };
            rest = after;
            let root = name.split('.').next().unwrap_or_default().trim();
            let given = extra.is_some_and(|extra| extra.get(name).is_some() || extra.get(root).is_some());
            if !name.starts_with('!') && !given {
                self.named(text, Some(root), problems);
            }
        }
    }

    fn named(&self, node: &Node, name: Option<&str>, problems: &mut Vec<Diagnostic>) {
        let Some(name) = name else { return };
        let known = self.resources.iter().copied().chain(self.parameters.iter().map(|p| p.name.as_str()));
        if name.starts_with("AWS::") || known.clone().any(|known| known == name) {
            return;
        }
        // A reference inside a longer text is shown where it stands, if that can be told.
        let span = match self.file.slice(node.span).find(name) {
            Some(at) => Span::new(node.span.start + at, node.span.start + at + name.len()),
            None => first_line(self.file, node.span),
        };
        let message = format!("the template has no resource or parameter `{name}`");
        let label = suggest(name, known).map_or(String::new(), |near| format!("did you mean `{near}`?"));
        problems.push(Diagnostic::error("unresolved-reference", message).at(self.file, span, label));
    }
}
