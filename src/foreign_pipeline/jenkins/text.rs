//! Texts of a Jenkinsfile, and the variables in them.

use super::groovy::{Expression, Kind, Part};
use super::{Reader, Scope};
use crate::foreign_pipeline::shell::{self, Known};
use crate::source::Span;

fn known(name: &str) -> Option<Known> {
    Some(match name {
        "GIT_COMMIT" => Known::Same("FLEETWRIGHT_COMMIT"),
        "BRANCH_NAME" => Known::Same("FLEETWRIGHT_BRANCH"),
        "TAG_NAME" => Known::Same("FLEETWRIGHT_TAG"),
        "CHANGE_ID" => Known::Same("FLEETWRIGHT_PULL_REQUEST"),
        "BUILD_NUMBER" | "BUILD_ID" => Known::Same("FLEETWRIGHT_RUN"),
        "WORKSPACE" => Known::Fixed("/workspace"),
        "JOB_NAME" | "JOB_BASE_NAME" => {
            Known::Nothing("use `$FLEETWRIGHT_PIPELINE`, the name of the pipeline")
        }
        "GIT_BRANCH" | "GIT_LOCAL_BRANCH" => Known::Nothing("use `$FLEETWRIGHT_BRANCH`, without `origin/`"),
        "BUILD_TAG" | "BUILD_DISPLAY_NAME" => Known::Nothing("use `$FLEETWRIGHT_PIPELINE-$FLEETWRIGHT_RUN`"),
        "BUILD_URL"
        | "RUN_DISPLAY_URL"
        | "JOB_URL"
        | "JENKINS_URL"
        | "JENKINS_HOME"
        | "NODE_NAME"
        | "NODE_LABELS"
        | "EXECUTOR_NUMBER"
        | "GIT_URL"
        | "GIT_PREVIOUS_COMMIT"
        | "GIT_PREVIOUS_SUCCESSFUL_COMMIT"
        | "CHANGE_TARGET"
        | "CHANGE_BRANCH"
        | "CHANGE_URL"
        | "CHANGE_TITLE"
        | "CHANGE_AUTHOR"
        | "WORKSPACE_TMP" => Known::Nothing("write its value, or remove it"),
        _ => return None,
    })
}

impl Reader<'_, '_> {
    /// A command for a shell. What can't be written makes the step a comment.
    pub(super) fn command(&mut self, expression: &Expression, scope: &Scope) -> String {
        let Kind::Text(parts) = &expression.kind else {
            self.notes.add(
                expression.span,
                "the command is not a text but code",
                "write the command as a text",
            );
            self.off("a command that is code");
            return String::new();
        };
        // Where Groovy fills variables in: at these bytes of the text.
        let mut text = String::new();
        let mut filled: Vec<usize> = Vec::new();
        for part in parts {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Variable(path) => match self.variable(path, scope) {
                    Some(name) => {
                        filled.push(text.len());
                        text.push_str(&format!("${{{name}}}"));
                    }
                    None => {
                        self.code(expression.span, path);
                        text.push_str(&format!("<{path}>"));
                    }
                },
                Part::Code(code) => {
                    self.code(expression.span, code);
                    text.push_str(&format!("<{}>", code.replace('\n', " ")));
                }
            }
        }
        let text = dedented(&text, &mut filled);
        let mut done = String::new();
        let mut from = 0;
        for variable in shell::variables(&text) {
            done.push_str(&text[from..variable.start]);
            from = variable.end;
            let written = &text[variable.start..variable.end];
            let is_filled = filled.contains(&variable.start);
            let ours = match is_filled || !variable.quoted {
                true => self.ours(expression.span, variable.name, written, scope),
                // What a shell leaves as it is.
                false => written.to_owned(),
            };
            match is_filled && variable.quoted && ours.starts_with('$') {
                true => from += shell::unquote(&mut done, &ours, &text[from..]),
                false => done.push_str(&ours),
            }
        }
        done.push_str(&text[from..]);
        if shell::runs_git(&done) && self.rewritten.insert("git".to_owned()) {
            self.notes.add(
                self.notes.place(expression.span, "git"),
                "the workspace has no `.git`, so that git finds no repository",
                "use `$FLEETWRIGHT_COMMIT`, `$FLEETWRIGHT_BRANCH` or `$FLEETWRIGHT_TAG`, or clone it",
            );
        }
        done
    }

    /// A command that prints a text.
    pub(super) fn printed(&mut self, expression: &Expression, scope: &Scope) -> String {
        if let Some(text) = expression.literal().filter(|text| !text.contains('\\') && !text.starts_with('-'))
        {
            return format!("echo {}", shell::quoted(&text));
        }
        let Kind::Text(parts) = &expression.kind else {
            self.code(expression.span, self.notes.file.clone().slice(expression.span));
            return String::new();
        };
        let text = self.expanded(expression.span, parts, scope);
        format!("printf '%s\\n' {}", doubly(&text))
    }

    /// Parts of a text between double quotes of a shell.
    fn expanded(&mut self, span: Span, parts: &[Part], scope: &Scope) -> String {
        let mut text = String::new();
        for part in parts {
            match part {
                Part::Literal(literal) => {
                    for c in literal.chars() {
                        if "\\\"`$".contains(c) {
                            text.push('\\');
                        }
                        text.push(c);
                    }
                }
                Part::Variable(path) => match self.variable(path, scope) {
                    Some(name) => {
                        let written = format!("${{{name}}}");
                        text.push_str(&self.ours(span, &name, &written, scope));
                    }
                    None => self.code(span, path),
                },
                Part::Code(code) => self.code(span, code),
            }
        }
        text
    }

    /// A command that sets a variable to a text into which Groovy fills variables; `None` where it fills code in.
    pub(super) fn export(&mut self, name: &str, expression: &Expression, scope: &Scope) -> Option<String> {
        let Kind::Text(parts) = &expression.kind else { return None };
        let is_variable = |path: &String| self.variable(path, scope).is_some();
        let all = parts.iter().all(|part| match part {
            Part::Literal(_) => true,
            Part::Variable(path) => is_variable(path),
            Part::Code(_) => false,
        });
        let text = all.then(|| self.expanded(expression.span, parts, scope))?;
        Some(format!("export {name}={}", doubly(&text)))
    }

    /// A variable as it is written here.
    fn ours(&mut self, span: Span, name: &str, written: &str, scope: &Scope) -> String {
        let is_own = scope.knows(name) || self.parameters.iter().any(|known| known == name);
        match known(name).filter(|_| !is_own) {
            Some(Known::Same(ours)) => {
                self.same(span, name, ours);
                written.replacen(name, ours, 1)
            }
            Some(Known::Nothing(next)) => {
                self.notes.add(self.notes.place(span, name), format!("`{name}` has no equivalent"), next);
                self.off(format!("`{name}` in a command"));
                written.to_owned()
            }
            Some(Known::Fixed(value)) if written.trim_matches(['$', '{', '}']) == name => value.to_owned(),
            Some(Known::Fixed(_)) | None => written.to_owned(),
        }
    }

    fn same(&mut self, span: Span, name: &str, ours: &str) {
        if self.rewritten.insert(name.to_owned()) {
            self.notes.add(
                self.notes.place(span, name),
                format!("`{name}` is `{ours}` here; commands are rewritten"),
                format!("change scripts of the repository that read `{name}`"),
            );
        }
    }

    fn code(&mut self, span: Span, code: &str) {
        let shown: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
        self.notes.add(
            self.notes.place(span, code),
            format!("`{shown}` is Groovy, which is not run"),
            "write it for the shell, or as a variable in `env`",
        );
        self.off(format!("`{shown}` in a text"));
    }

    /// The variable of the environment that Groovy's `path` stands for.
    fn variable(&self, path: &str, scope: &Scope) -> Option<String> {
        let is_parameter = |name: &str| self.parameters.iter().any(|known| known == name);
        if let Some(name) = path.strip_prefix("params.") {
            return is_parameter(name).then(|| name.to_owned());
        }
        let name = path.strip_prefix("env.").unwrap_or(path);
        let is_known = scope.knows(name) || is_parameter(name) || known(name).is_some();
        (is_known && !name.contains('.')).then(|| name.to_owned())
    }

    /// A text that no shell sees: of variables, only those of `environment` are filled in.
    pub(super) fn plain(&mut self, expression: &Expression, scope: &Scope) -> Option<String> {
        let Kind::Text(parts) = &expression.kind else { return None };
        let value = |path: &String| {
            let name = path.strip_prefix("env.").unwrap_or(path);
            scope.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        let text: Option<String> = parts
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => Some(literal.clone()),
                Part::Variable(path) => value(path),
                Part::Code(_) => None,
            })
            .collect();
        text
    }
}

/// A text between double quotes.
fn doubly(text: &str) -> String {
    format!("\"{text}\"")
}

/// A text without the indentation that all of its lines have, and without a blank line at its begin. A text with a
/// document for a command (`<<`) stays as it is. Positions in `filled` move with their characters.
fn dedented(text: &str, filled: &mut Vec<usize>) -> String {
    if !text.contains('\n') {
        let start = text.len() - text.trim_start().len();
        filled.iter_mut().for_each(|at| *at = at.saturating_sub(start));
        return text.trim().to_owned();
    }
    let blank = |line: &&str| line.trim().is_empty();
    let lines: Vec<&str> = text.split('\n').collect();
    let skipped = lines.iter().take_while(|line| blank(line)).count();
    let indent = |line: &&str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let common = lines.iter().filter(|line| !blank(line)).map(indent).min().unwrap_or_default();
    let common = if text.contains("<<") { 0 } else { common };
    let (mut done, mut start, mut moved) = (String::new(), 0, Vec::new());
    for (number, line) in lines.iter().enumerate() {
        let end = start + line.len();
        if number >= skipped {
            let cut = common.min(indent(line));
            let ours = filled.iter().filter(|at| **at >= start + cut && **at < end);
            moved.extend(ours.map(|at| at - start - cut + done.len()));
            done.push_str(line[cut..].trim_end_matches('\r'));
            done.push('\n');
        }
        start = end + 1;
    }
    *filled = moved;
    let end = done.trim_end().len();
    done.truncate(end);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indentation_is_removed_and_positions_follow() {
        let text = "\n      make ${A}\n        ${B}\n    ";
        let mut filled = vec![text.find("${A}").expect("A"), text.find("${B}").expect("B")];
        let done = dedented(text, &mut filled);
        assert_eq!(done, "make ${A}\n  ${B}");
        assert!(done[filled[0]..].starts_with("${A}") && done[filled[1]..].starts_with("${B}"));
    }
}
