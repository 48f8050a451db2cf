//! CloudFormation templates checked offline, against the schemas of all resource types.
//!
//! What CloudFormation itself would refuse is an error; what it would take, but was hardly
//! meant, is a warning. The template is plain CloudFormation here, from any tool: Tera has run
//! before, or was never in it. Nothing is known here of stacks, environments or AWS.

use std::collections::HashSet;
use std::sync::Arc;

use self::function::Form;
use self::template::Template;
use crate::schema::{self, Schemas};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{self, Node, first_line};

pub mod accept;
pub mod codes;
mod combined;
mod cycles;
pub mod function;
mod hold;
mod policy;
mod properties;
mod scalars;
mod sections;
mod template;
mod walk;

#[cfg(test)]
mod tests;

/// CloudFormation's quotas, from its user guide.
pub mod limits {
    /// Bytes of a template that comes from S3.
    pub const BODY: usize = 1_000_000;
    /// Resources in a template.
    pub const RESOURCES: usize = 500;
    /// Outputs in a template.
    pub const OUTPUTS: usize = 200;
    /// Parameters in a template.
    pub const PARAMETERS: usize = 200;
    /// Mappings in a template.
    pub const MAPPINGS: usize = 200;
    /// Characters of a logical name.
    pub const NAME: usize = 255;
    /// Bytes of a template's description.
    pub const DESCRIPTION: usize = 1024;
}

/// What CloudFormation defines in every template.
const PSEUDO: [&str; 8] = [
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
];

fn pseudo(name: &str) -> bool {
    PSEUDO.contains(&name)
}

/// Checks a template that was read as `root` from `file`; problems point into `file`, and have
/// the path of what they are about. `region` is where it will be used, if that is known.
pub fn tree(file: &Arc<SourceFile>, root: &Node, region: Option<&str>) -> Vec<Diagnostic> {
    if root.entries().is_none() {
        let message = format!("a CloudFormation template must be a mapping, but this is {}", root.what());
        return vec![Diagnostic::error("bad-template", message).at(file, first_line(file, root.span), "")];
    }
    let template = Template::read(root);
    let mut check = Check {
        file,
        region,
        schemas: schema::all(),
        edges: vec![Vec::new(); template.resources.len()],
        template,
        used: HashSet::new(),
        used_conditions: HashSet::new(),
        used_mappings: HashSet::new(),
        all_mappings_used: false,
        trying: false,
        problems: Vec::new(),
    };
    check.sections();
    check.properties();
    check.cycles();
    check.unused();
    let mut problems = check.problems;
    accept::apply(file, &mut problems);
    for problem in &mut problems {
        if let Some(label) = &problem.label {
            problem.path = Some(path(root, label.span));
        }
    }
    problems
}

/// Whether a macro or a loop may add to what the template in `root` declares.
pub fn grows(root: &Node) -> bool {
    Template::read(root).open
}

/// Checks the template in `file`, from its text on.
pub fn file(file: &Arc<SourceFile>, region: Option<&str>) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let Some(mut root) = yaml::parse(file, &mut problems) else {
        if file.text().contains("<{ ") || file.text().contains("<% ") {
            problems.iter_mut().for_each(|problem| {
                problem.help.push(
                    "this is a template of fleetwright's own; `fleetwright validate` renders it first".into(),
                );
            });
        }
        return problems;
    };
    super::merge_keys::merge(file, &mut root, true, &mut problems);
    problems.extend(tree(file, &root, region));
    super::sorted(problems)
}

/// A check that is going on.
struct Check<'n> {
    file: &'n Arc<SourceFile>,
    template: Template<'n>,
    region: Option<&'n str>,
    schemas: &'static Schemas,
    /// For each resource, those that it needs, and where it says so.
    edges: Vec<Vec<(usize, Span)>>,
    used: HashSet<&'n str>,
    used_conditions: HashSet<&'n str>,
    used_mappings: HashSet<&'n str>,
    all_mappings_used: bool,
    /// Whether all that counts is that there are problems, not what they are.
    trying: bool,
    problems: Vec<Diagnostic>,
}

impl<'n> Check<'n> {
    fn push(&mut self, diagnostic: Diagnostic) {
        self.problems.push(diagnostic);
    }

    fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) {
        let span = self.line(span);
        self.problems.push(Diagnostic::error(code, message).at(self.file, span, label));
    }

    fn warn(&mut self, code: &'static str, message: impl Into<String>, span: Span, label: impl Into<String>) {
        let span = self.line(span);
        self.problems.push(Diagnostic::warning(code, message).at(self.file, span, label));
    }

    /// Something has a name that is not among `known`: the nearest is suggested, or all are listed.
    fn suggest(&mut self, diagnostic: Diagnostic, span: Span, name: &str, known: &[&str], place: &str) {
        if self.trying {
            return self.push(diagnostic);
        }
        let span = self.line(span);
        // A long list helps nobody.
        let near = crate::source::suggest(name, known.iter().copied());
        self.problems.push(match near {
            None if known.len() > 24 => diagnostic.at(self.file, span, ""),
            _ => super::with_suggestion(diagnostic, self.file, span, name, known, place),
        });
    }

    /// The first line of a span: what spreads over many is not underlined.
    fn line(&self, span: Span) -> Span {
        first_line(self.file, span)
    }

    /// What is declared and not used: hardly meant, and harmless.
    fn unused(&mut self) {
        if self.template.open {
            return;
        }
        let mut unused = Vec::new();
        let parameters = self.template.parameters.iter().filter(|part| !self.used.contains(part.name));
        unused.extend(parameters.map(|part| ("unused-parameter", "parameter", part.name, part.key.span)));
        let conditions = self.template.conditions.iter();
        let conditions = conditions.filter(|part| !self.used_conditions.contains(part.name));
        unused.extend(conditions.map(|part| ("unused-condition", "condition", part.name, part.key.span)));
        let mappings = self.template.mappings.iter();
        let mappings =
            mappings.filter(|part| !self.all_mappings_used && !self.used_mappings.contains(part.name));
        unused.extend(mappings.map(|part| ("unused-mapping", "mapping", part.name, part.key.span)));
        for (code, what, name, span) in unused {
            self.warn(code, format!("{what} `{name}` is not used"), span, "remove it, or use it");
        }
    }
}

/// Where in the document `span` is, `Resources/Vpc/Properties/CidrBlock`.
fn path(root: &Node, span: Span) -> String {
    let mut path = Vec::new();
    let mut node = root;
    let within = |outer: Span| outer.start <= span.start && span.end <= outer.end;
    loop {
        if let Some(entries) = node.entries() {
            let Some((key, value)) =
                entries.iter().find(|(key, value)| within(key.span) || within(value.span))
            else {
                break;
            };
            path.push(key.text().unwrap_or_default().to_owned());
            if within(key.span) {
                break;
            }
            node = value;
        } else if let Some(items) = node.items() {
            let Some(index) = items.iter().position(|item| within(item.span)) else { break };
            path.push(index.to_string());
            node = &items[index];
        } else {
            break;
        }
    }
    path.join("/")
}

/// What in a text says that it is not the value yet: CloudFormation's own references, references
/// that were not resolved (which is reported for itself), and variables that are not set.
const STANDS_FOR: [&str; 3] = ["{{resolve:", "${", "<unset "];

/// Whether a value is written out.
fn is_plain(node: &Node) -> bool {
    // Most texts have neither of these.
    let may_stand = |text: &str| text.contains(['{', '<']);
    let stands = |text: &str| may_stand(text) && STANDS_FOR.iter().any(|mark| text.contains(mark));
    matches!(function::form(node), Form::Data) && !node.text().is_some_and(stands)
}
