//! User data of rendered stacks, held against the engines that will read it.

use std::sync::Arc;

use super::Renderer;
use crate::cloud_config::{self, Merged};
use crate::model::stack::{Stack, UserData};
use crate::repo::cloudformation::USER_DATA_MOST;
use crate::repo::origin::Origins;
use crate::source::{Diagnostic, SourceFile, Span};

impl Renderer<'_> {
    /// Holds what machines get against the engines that will read it, with places in the templates.
    pub(super) fn check_user_data(
        &self,
        stack: &Stack,
        data: &UserData,
        merged: Option<&Merged>,
        problems: &mut Vec<Diagnostic>,
    ) {
        let source = data.file.as_deref().and_then(|file| self.templates.source(file));
        let from = data.file.clone().unwrap_or_else(|| stack.template.clone());
        let size = data.text.len();
        if size > USER_DATA_MOST {
            let message = format!(
                "the user data of `{}` in stack `{}` has {size} bytes, EC2 takes at most {USER_DATA_MOST}",
                data.resource, stack.name
            );
            problems.push(
                Diagnostic::error("user-data-too-large", message)
                    .at(&stack.place.file, stack.place.span, format!("rendered from {from}"))
                    .help("move long files into the machine image, or fetch them at boot"),
            );
        }
        let file = SourceFile::new(format!("{from} (rendered for {})", stack.name), data.text.as_str());
        let verdict = cloud_config::check(&file, &[]);
        let origins = match merged {
            Some(_) => None,
            None => source.map(|source| Origins::new(source, &verdict.shown)),
        };
        // What Fn::Sub puts in is not known yet: where it does, nothing is judged.
        let is_open = |from: usize, to: usize| {
            let text = data.text.as_str();
            let start = text[..from].rfind('\n').map_or(0, |at| at + 1);
            let end = text[to..].find('\n').map_or(text.len(), |at| to + at);
            source.is_none() && text[start..end].contains("${")
        };
        let judged = verdict.findings.iter().filter(|finding| match finding.code {
            // Its size was judged above, where the stack stands.
            "user-data-too-large" => false,
            "yaml-syntax" => !is_open(0, data.text.len()),
            // A finding within a file's text stands at its first line.
            _ if finding.path.ends_with("content") => !is_open(0, data.text.len()),
            _ => !is_open(finding.span.start, finding.span.end),
        });
        for finding in judged {
            let mut problem = finding.diagnostic(&verdict.shown);
            if let Some(merged) = merged {
                self.trace_part(merged, finding.span, &mut problem);
            }
            // Text that is no YAML is shown as rendered: a value put in is the likely cause.
            if let Some(origins) = origins.as_ref().filter(|_| problem.code != "yaml-syntax") {
                origins.trace(&mut problem);
            }
            problems.push(problem);
        }
    }

    /// Moves a problem of a document into the template of the part that has what it is about. Where
    /// that can't be told, the whole is shown, in which secrets are masked.
    fn trace_part(&self, merged: &Merged, span: Span, problem: &mut Diagnostic) {
        let Some((number, place)) = merged.origin(span) else { return };
        let part = &merged.parts[number];
        let Some(source) = self.templates.source(part.name()) else { return };
        let mut traced = problem.clone();
        if let Some(label) = &mut traced.label {
            (label.file, label.span) = (Arc::clone(part), place);
        }
        Origins::new(source, part).trace(&mut traced);
        if traced.label.as_ref().is_some_and(|label| Arc::ptr_eq(&label.file, source)) {
            *problem = traced;
        }
    }
}
