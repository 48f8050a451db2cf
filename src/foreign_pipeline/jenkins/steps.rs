//! The steps of a stage, which become one step of ours, and one more after each question.

use super::groovy::{Expression, Kind, Statement};
use super::stages::{duration, times};
use super::{Reader, Scope, texts};
use crate::foreign_pipeline::emit::Value;
use crate::foreign_pipeline::shell;
use crate::source::Span;

/// What becomes one step.
#[derive(Debug, Default)]
pub struct Work {
    /// Where it begins.
    pub span: Span,
    /// The commands, each of which Jenkins gives a shell of its own.
    pub scripts: Vec<(String, Span)>,
    pub secrets: Vec<(String, String)>,
    pub artifacts: Vec<String>,
    pub reports: Vec<String>,
    pub timeout: Option<String>,
    pub retries: Option<u32>,
    /// Why it becomes a comment, if it does.
    pub off: Option<String>,
    /// A question, which is all of it.
    pub question: Option<Statement>,
}

impl Work {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.scripts.is_empty() && self.artifacts.is_empty() && self.reports.is_empty()
    }

    /// The value of `command`, with commands before those of the work.
    ///
    /// # Errors
    /// The place of a command with an interpreter of its own that is one of several, or whose interpreter is no shell.
    pub fn command(&self, before: &[&str]) -> Result<Value, Span> {
        if let [(script, span)] = self.scripts.as_slice()
            && let Some((first, _)) = script.split_once('\n')
            && let Some(program) = first.strip_prefix("#!")
        {
            let mut words: Vec<String> = program.split_whitespace().map(str::to_owned).collect();
            if words.first().is_some_and(|word| word.ends_with("/env")) {
                words.remove(0);
            }
            let is_shell = words.first().is_some_and(|word| {
                ["sh", "bash", "dash", "ash"].contains(&word.rsplit('/').next().unwrap_or_default())
            });
            if !is_shell {
                return Err(*span);
            }
            words.extend([
                "-c".to_owned(),
                format!("{}{script}\n", before.iter().map(|line| format!("{line}\n")).collect::<String>()),
            ]);
            return Ok(Value::texts(words));
        }
        if let Some((_, span)) = self.scripts.iter().find(|(script, _)| script.starts_with("#!")) {
            return Err(*span);
        }
        let last = self.scripts.len().saturating_sub(1);
        let lines: Vec<String> = self
            .scripts
            .iter()
            .enumerate()
            .map(|(number, (script, _))| {
                match number < last && shell::changes_shell(script) && !is_subshell(script) {
                    true => format!("(\n{script}\n)"),
                    false => script.clone(),
                }
            })
            .collect();
        let lines = before.iter().map(|line| (*line).to_owned()).chain(lines).collect::<Vec<_>>();
        let mut command = if lines.is_empty() { ":".to_owned() } else { lines.join("\n") };
        if command.contains('\n') {
            command.push('\n');
        }
        Ok(Value::Text(command))
    }
}

/// Whether commands run in a shell of their own already.
fn is_subshell(script: &str) -> bool {
    script.starts_with("(\n") && script.ends_with("\n)")
}

impl Reader<'_, '_> {
    /// The work of a block of steps, cut where it asks.
    pub(super) fn works(&mut self, block: &Statement, stage: &str, scope: &Scope) -> Vec<Work> {
        let mut works = vec![Work { span: block.span, ..Work::default() }];
        self.why = None;
        let is_only = block.inside().len() == 1;
        for one in block.inside() {
            if one.name == "input" {
                let off = self.why.take();
                if let Some(last) = works.last_mut() {
                    last.off = off;
                }
                works.push(Work { span: one.span, question: Some(one.clone()), ..Work::default() });
                works.push(Work { span: block.span, ..Work::default() });
                continue;
            }
            if let Some(last) = works.last_mut() {
                self.work(one, stage, scope, last, is_only);
            }
        }
        if let Some(last) = works.last_mut() {
            last.off = self.why.take();
        }
        works
    }

    fn work(&mut self, one: &Statement, stage: &str, scope: &Scope, work: &mut Work, is_only: bool) {
        let first = one.first().or(match one.arguments.as_slice() {
            [only] => Some(&only.value),
            _ => None,
        });
        match one.name.as_str() {
            "sh" => self.shell(one, scope, work),
            "echo" => match first {
                Some(first) => {
                    let text = self.printed(first, scope);
                    work.scripts.push((text, one.span));
                }
                None => self.unknown(one, stage),
            },
            "junit" | "archiveArtifacts" => self.files(one, work),
            "checkout" if first.and_then(Expression::word) == Some("scm") => {}
            // The workspace is common to all steps, and removed with the run.
            "stash" | "unstash" | "deleteDir" | "cleanWs" => {}
            "timestamps" | "ansiColor" | "node" if one.block.is_some() => {
                self.inner(one, stage, scope, work, is_only)
            }
            "timeout" if is_only && one.block.is_some() => {
                match duration(one) {
                    Some(time) => work.timeout = Some(time),
                    None => self.notes.add(
                        one.span,
                        "the time is not a number of units",
                        "write `timeout: 10m` of the step",
                    ),
                }
                self.inner(one, stage, scope, work, true);
            }
            "retry" if is_only && one.block.is_some() => {
                match times(one) {
                    Some(times) => work.retries = Some(times),
                    None => self.notes.add(
                        one.span,
                        "the count is not 1 to 11",
                        "write `retries` of the step, at most 10",
                    ),
                }
                self.inner(one, stage, scope, work, true);
            }
            "dir" if one.block.is_some() => match first.and_then(|first| self.plain(first, scope)) {
                Some(folder) => {
                    self.around(one, stage, scope, work, &format!("cd {}", shell::quoted(&folder)))
                }
                None => self.unknown(one, stage),
            },
            "withEnv" if one.block.is_some() => {
                let pairs = match first.map(|first| &first.kind) {
                    Some(Kind::List(items)) => {
                        items.iter().map(|item| self.plain(item, scope)).collect::<Option<Vec<_>>>()
                    }
                    _ => None,
                };
                let pairs: Option<Vec<String>> = pairs.and_then(|pairs| {
                    let export = |pair: &String| {
                        let (name, value) = pair.split_once('=')?;
                        Some(format!("export {name}={}", shell::quoted(value)))
                    };
                    pairs.iter().map(export).collect()
                });
                match pairs {
                    Some(pairs) => {
                        let mut inner = scope.clone();
                        inner.env.extend(pairs.iter().filter_map(|pair| {
                            let (name, value) = pair.strip_prefix("export ")?.split_once('=')?;
                            Some((name.to_owned(), value.to_owned()))
                        }));
                        self.around(one, stage, &inner, work, &pairs.join("\n"));
                    }
                    None => self.unknown(one, stage),
                }
            }
            "withCredentials" if one.block.is_some() => self.with_credentials(one, stage, scope, work),
            _ => self.unknown(one, stage),
        }
    }

    fn inner(&mut self, one: &Statement, stage: &str, scope: &Scope, work: &mut Work, is_only: bool) {
        let is_only = is_only && one.inside().len() == 1;
        for inner in one.inside() {
            self.work(inner, stage, scope, work, is_only);
        }
    }

    /// Commands that run in a shell of their own after `first`.
    fn around(&mut self, one: &Statement, stage: &str, scope: &Scope, work: &mut Work, first: &str) {
        let before = work.scripts.len();
        self.inner(one, stage, scope, work, false);
        let scripts: Vec<(String, Span)> = work.scripts.drain(before..).collect();
        if scripts.is_empty() {
            return;
        }
        let inner = Work { scripts: scripts.clone(), ..Work::default() };
        match inner.command(&[]) {
            Ok(Value::Text(text)) => {
                let text = format!("(\n{first}\n{}\n)", text.trim_end());
                work.scripts.push((text, one.span));
            }
            _ => {
                self.notes.add(
                    one.span,
                    format!("a command that begins with `#!` within `{}` is not converted", one.name),
                    "write the command for `/bin/sh`",
                );
                self.off("a command that begins with `#!`");
            }
        }
    }

    fn shell(&mut self, one: &Statement, scope: &Scope, work: &mut Work) {
        for name in ["returnStdout", "returnStatus"] {
            if one.named(name).and_then(Expression::word).is_some_and(|word| word == "true") {
                self.notes.add(
                    one.span,
                    format!("`{name}` has no equivalent"),
                    "use the result in the same command",
                );
                self.off(format!("`{name}`"));
            }
        }
        match one.first().or_else(|| one.named("script")) {
            Some(script) => {
                let text = self.command(script, scope);
                if !text.trim().is_empty() {
                    work.scripts.push((text, one.span));
                }
            }
            None => {
                self.notes.add(one.span, "`sh` has no command", "write one");
                self.off("`sh` without a command");
            }
        }
    }

    /// Files that are kept.
    fn files(&mut self, one: &Statement, work: &mut Work) {
        let (argument, into) = match one.name.as_str() {
            "junit" => (one.first().or_else(|| one.named("testResults")), &mut work.reports),
            _ => (one.first().or_else(|| one.named("artifacts")), &mut work.artifacts),
        };
        let legal = |pattern: &String| {
            !pattern.contains(['[', ']', '{', '}', '\\', '!', '$'])
                && !pattern.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        match argument.and_then(texts).filter(|patterns| !patterns.is_empty() && patterns.iter().all(legal)) {
            Some(patterns) => into.extend(patterns),
            None => self.notes.add(
                one.span,
                format!("the files of `{}` are not patterns that can be used", one.name),
                "name files of the workspace with `*`, `**` and `?`",
            ),
        }
        for (name, span) in one
            .arguments
            .iter()
            .filter_map(|one| Some((one.name.clone()?, one.value.span)))
            .collect::<Vec<_>>()
        {
            let next = match name.as_str() {
                "testResults" | "artifacts" | "allowEmptyArchive" | "allowEmptyResults" | "fingerprint" => {
                    continue;
                }
                "excludes" => "name only the files that are kept",
                _ => "remove it",
            };
            self.notes.add(span, format!("`{name}` of `{}` has no equivalent", one.name), next);
        }
    }

    fn with_credentials(&mut self, one: &Statement, stage: &str, scope: &Scope, work: &mut Work) {
        let mut secrets: Vec<(String, String)> = Vec::new();
        let mut is_known = true;
        if let Some(Kind::List(items)) = one.first().map(|first| &first.kind) {
            for item in items {
                let Kind::Call(call) = &item.kind else {
                    is_known = false;
                    continue;
                };
                let text = |name: &str| call.named(name).and_then(Expression::literal);
                let id = text("credentialsId");
                let found = match (call.name.as_str(), id) {
                    ("string", Some(id)) => text("variable").map(|variable| vec![(variable, id)]),
                    ("usernamePassword", Some(id)) => {
                        let both = text("usernameVariable").zip(text("passwordVariable"));
                        both.map(|(user, password)| {
                            vec![(user, format!("{id}-user")), (password, format!("{id}-password"))]
                        })
                    }
                    _ => None,
                };
                match found {
                    Some(found) => {
                        for (variable, id) in found {
                            let parameter = self.secret(&id, call.span);
                            secrets.push((variable, parameter));
                        }
                    }
                    None => is_known = false,
                }
            }
        } else {
            is_known = false;
        }
        if !is_known {
            return self.unknown(one, stage);
        }
        let mut inner = scope.clone();
        inner.secrets.extend(secrets.clone());
        work.secrets.extend(secrets);
        self.inner(one, stage, &inner, work, false);
    }

    /// A step without an equivalent. Code, and whatever holds other steps, makes all of it a comment.
    fn unknown(&mut self, one: &Statement, stage: &str) {
        let is_code = one.name.is_empty()
            || one.block.is_some()
            || ["error", "build", "load"].contains(&one.name.as_str());
        let (message, next) = match one.name.as_str() {
            "" => ("code is not run".to_owned(), "write it for the shell"),
            "script" => ("`script` holds code, which is not run".to_owned(), "write it for the shell"),
            name => {
                let next = match name {
                    "error" => "write `echo ... >&2; exit 1`",
                    "build" => "write a pipeline with `on: {after: [NAME]}`",
                    "mail" | "emailext" | "slackSend" => {
                        "write `notify` in fleetwright.yaml, or a step with `curl`"
                    }
                    "sleep" => "write `sleep` in a command",
                    "git" | "checkout" => "clone it in a command; the workspace has the files of the commit",
                    _ => "write what it does as a command",
                };
                (format!("`{name}` has no equivalent"), next)
            }
        };
        self.notes.add(one.span, message, next);
        if is_code {
            let what = if one.name.is_empty() { "code".to_owned() } else { format!("`{}`", one.name) };
            let line = self.notes.line(one.span);
            self.off(format!("{what} in stage `{stage}`, line {line}"));
        }
    }
}
