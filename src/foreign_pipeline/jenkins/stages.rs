//! Stages, in order or in parallel, and what is done after all of them.

use super::groovy::{Expression, Statement};
use super::steps::Work;
use super::{Image, Reader, Scope};
use crate::foreign_pipeline::draft::Step;
use crate::foreign_pipeline::emit::Value;

/// What `post` may do, in the order in which Jenkins does it, with the outcome after which it does.
const POST: [(&str, Option<&str>); 4] = [
    ("always", Some("always")),
    ("failure", Some("failure")),
    ("success", None),
    ("cleanup", Some("always")),
];

impl Reader<'_, '_> {
    pub(super) fn stages(&mut self, stages: &[Statement], scope: &Scope) {
        for stage in stages {
            if stage.name != "stage" {
                self.notes.add(stage.span, "this is not a stage", "write what it does as a step");
                self.missing("?", stage.span, "it is not a stage");
                continue;
            }
            let name = stage.first().and_then(Expression::literal).unwrap_or_else(|| "stage".to_owned());
            self.stage(stage, &name, scope);
        }
    }

    fn stage(&mut self, stage: &Statement, name: &str, around: &Scope) {
        let mut scope = around.clone();
        if let Some(environment) = stage.get("environment") {
            self.environment(environment, &mut scope);
        }
        let mut asks = None;
        for one in stage.inside() {
            match one.name.as_str() {
                "agent" => scope.image = self.agent(one, &scope),
                "when" => match self.when(one, &scope.when) {
                    Ok(when) => scope.when = when,
                    Err(what) => {
                        scope.off.get_or_insert_with(|| format!("its condition {what}"));
                    }
                },
                "options" => self.stage_options(one, &mut scope),
                "tools" => self.tools(one),
                "input" => asks = Some(one),
                "failFast" => self.notes.add(
                    one.span,
                    "`failFast` has no equivalent",
                    "remove it: after a failure no other step begins, but those under way end",
                ),
                "environment" | "steps" | "stages" | "parallel" | "post" => {}
                "matrix" => {
                    self.notes.add(
                        one.span,
                        "`matrix` of stages is not converted",
                        "write each stage as a step with `matrix: {NAME: [VALUE]}` and `${matrix.NAME}`",
                    );
                    self.missing(name, one.span, "its matrix");
                }
                other => {
                    let shown = if other.is_empty() { "code".to_owned() } else { format!("`{other}`") };
                    self.notes.add(
                        one.span,
                        format!("{shown} in a stage has no equivalent"),
                        "write what it does into commands",
                    );
                    scope.off.get_or_insert_with(|| format!("{shown} in its stage"));
                }
            }
        }
        if let Some(input) = asks {
            // Jenkins asks before it checks the condition, unless `beforeInput` is set.
            let first = stage.get("when").and_then(|when| when.get("beforeInput"));
            let first = first.and_then(|first| first.first()).and_then(Expression::word) == Some("true");
            let asked =
                Scope { when: if first { scope.when.clone() } else { around.when.clone() }, ..scope.clone() };
            self.ask(input, name, &asked);
        }
        if let Some(nested) = stage.get("stages") {
            self.stages(nested.inside(), &scope);
        }
        if let Some(parallel) = stage.get("parallel") {
            let before = self.tails.clone();
            let mut after: Vec<String> = Vec::new();
            for branch in parallel.inside() {
                self.tails.clone_from(&before);
                self.stages(std::slice::from_ref(branch), &scope);
                for tail in &self.tails {
                    if !after.contains(tail) {
                        after.push(tail.clone());
                    }
                }
            }
            // What was there before counts only where a branch has added nothing.
            if after.iter().any(|tail| !before.contains(tail)) {
                after.retain(|tail| !before.contains(tail));
            }
            self.tails = if after.is_empty() { before } else { after };
        }
        let post = stage.get("post");
        match stage.get("steps") {
            Some(steps) => {
                let mut works = self.works(steps, name, &scope);
                if let Some(post) = post {
                    self.stage_post(post, &mut works, &scope);
                }
                self.finish(works, name, &scope, None);
            }
            None => {
                if let Some(post) = post {
                    self.notes.add(
                        post.span,
                        "`post` of a stage with other stages has no equivalent",
                        "write it as a step after them",
                    );
                }
            }
        }
    }

    fn stage_options(&mut self, options: &Statement, scope: &mut Scope) {
        for one in options.inside() {
            match one.name.as_str() {
                "timeout" => match duration(one) {
                    Some(time) => scope.timeout = Some(time),
                    None => self.notes.add(
                        one.span,
                        "the time is not a number of units",
                        "write `timeout: 10m` of the step",
                    ),
                },
                "retry" => match times(one) {
                    Some(times) => scope.retries = Some(times),
                    None => self.notes.add(
                        one.span,
                        "the count is not 1 to 11",
                        "write `retries` of the step, at most 10",
                    ),
                },
                "skipDefaultCheckout" | "timestamps" => {}
                name => self.notes.add(one.span, format!("option `{name}` has no equivalent"), "remove it"),
            }
        }
    }

    /// A question, which becomes a step.
    pub(super) fn ask(&mut self, input: &Statement, stage: &str, scope: &Scope) {
        let message = input.first().or_else(|| input.named("message"));
        let message = message.or_else(|| input.get("message").and_then(|message| message.first()));
        let text = message.and_then(|message| self.plain(message, scope));
        let mut step = Step::new("approve");
        let mut why = scope.off.clone();
        match text.filter(|text| !text.trim().is_empty() && text.chars().count() <= 500) {
            Some(text) => step.set("message", Value::Text(text.trim().to_owned())),
            None => {
                self.notes.add(
                    input.span,
                    "the question is not a text of 1 to 500 characters",
                    "write `message`",
                );
                why.get_or_insert_with(|| "its question".to_owned());
            }
        }
        let inside = input.inside().iter().map(|one| (one.name.clone(), one.span));
        let given = input.arguments.iter().filter_map(|one| Some((one.name.clone()?, one.value.span)));
        for (name, span) in inside.chain(given).collect::<Vec<_>>() {
            let next = match name.as_str() {
                "message" | "ok" | "id" => continue,
                "submitter" => "write `role: admin` if not every deployer may approve",
                "parameters" => "make them parameters of the pipeline, which are given when it is started",
                _ => "remove it",
            };
            self.notes.add(span, format!("`{name}` of a question has no equivalent"), next);
        }
        if let Some(when) = scope.when.value(None) {
            step.set("when", when);
        }
        if let Some(why) = why {
            step.off(why);
        }
        self.push(&format!("approve {stage}"), step, input.span);
    }

    /// What is done after a stage: files are kept with its step, commands after success follow its own.
    fn stage_post(&mut self, post: &Statement, works: &mut [Work], scope: &Scope) {
        for one in post.inside() {
            let mut found = self.works(one, "post", scope);
            let Some(done) = found.pop() else { continue };
            let Some(last) = works.last_mut() else { continue };
            if !done.scripts.is_empty() && one.name == "success" {
                last.scripts.extend(done.scripts);
            } else if !done.scripts.is_empty() {
                self.notes.add(
                    one.span,
                    format!("commands in `post {{ {} }}` of a stage have no equivalent", one.name),
                    "write them into the command, after `trap '...' EXIT` or `||`",
                );
            }
            if !done.artifacts.is_empty() || !done.reports.is_empty() {
                if one.name != "always" {
                    self.notes.add(
                        one.span,
                        format!("files are kept whatever the outcome is, not only after `{}`", one.name),
                        "remove `artifacts` or `reports` if that is too much",
                    );
                }
                last.artifacts.extend(done.artifacts);
                last.reports.extend(done.reports);
            }
        }
    }

    /// What is done after all stages.
    pub(super) fn post(&mut self, post: &Statement, scope: &Scope) {
        for one in post.inside() {
            if !POST.iter().any(|(name, _)| *name == one.name) {
                let next = match one.name.as_str() {
                    "unsuccessful" | "unstable" | "aborted" => {
                        "write a step with `when: failure`; nothing runs after a run was cancelled"
                    }
                    _ => "write a step with `when: always` that compares with the run before",
                };
                self.notes.add(one.span, format!("`post {{ {} }}` has no equivalent", one.name), next);
            }
        }
        // What is done after a failure, and after success: neither waits for the other, and the end waits for both.
        let mut ends: Vec<String> = Vec::new();
        for (name, result) in POST {
            if name == "cleanup" {
                let before = std::mem::take(&mut self.tails);
                self.tails = before.into_iter().chain(std::mem::take(&mut ends)).collect();
            }
            let before = self.tails.clone();
            for one in post.inside().iter().filter(|one| one.name == name) {
                let works = self.works(one, &format!("post {name}"), scope);
                self.finish(works, &format!("post {name}"), scope, result);
            }
            if name == "failure" && self.tails != before {
                ends = std::mem::replace(&mut self.tails, before);
            }
        }
    }

    /// Pieces of work as steps.
    fn finish(&mut self, works: Vec<Work>, name: &str, scope: &Scope, result: Option<&str>) {
        for work in works {
            match work.question {
                Some(question) => self.ask(&question, name, scope),
                None if work.is_empty() && work.off.is_none() => {}
                None => self.run(work, name, scope, result),
            }
        }
    }

    fn run(&mut self, work: Work, name: &str, scope: &Scope, result: Option<&str>) {
        let mut step = Step::new("run");
        let broken = scope.broken.first().map(|(name, line)| format!("the value of `{name}`, line {line}"));
        let mut why = work.off.clone().or_else(|| scope.off.clone()).or(broken);
        match &scope.image {
            Image::Named(image) => step.set("image", Value::text(image)),
            Image::Unusable(reason) => {
                why.get_or_insert_with(|| reason.clone());
            }
            Image::Missing => match &self.names.image {
                Some(image) => step.set("image", Value::text(image)),
                None => {
                    why.get_or_insert_with(|| "its agent names no image".to_owned());
                }
            },
        }
        if !scope.env.is_empty() {
            step.set("env", Value::pairs(scope.env.clone()));
        }
        let mut secrets = scope.secrets.clone();
        secrets.extend(work.secrets.clone());
        if !secrets.is_empty() {
            step.set("secrets", Value::pairs(secrets));
        }
        let exports: Vec<&str> = scope.exports.iter().map(|(_, command)| command.as_str()).collect();
        match work.command(&exports) {
            Ok(command) => step.set("command", command),
            Err(span) => {
                self.notes.add(
                    span,
                    "a command that begins with `#!` can't be one of several",
                    "write a step of its own with `command` as a list of words, such as `[/bin/bash, -ec, ...]`",
                );
                why.get_or_insert_with(|| "a command that begins with `#!`".to_owned());
            }
        }
        if let Some(retries) = work.retries.or(scope.retries).filter(|retries| *retries > 0) {
            step.set("retries", Value::plain(retries));
        }
        for (key, patterns) in [("artifacts", &work.artifacts), ("reports", &work.reports)] {
            if !patterns.is_empty() {
                step.set(key, Value::texts(patterns.clone()));
            }
        }
        if let Some(when) = scope.when.value(result) {
            step.set("when", when);
        }
        if let Some(timeout) = work.timeout.clone().or_else(|| scope.timeout.clone()) {
            step.set("timeout", Value::Plain(timeout));
        }
        if let Some(why) = why {
            step.off(why);
        }
        self.push(name, step, work.span);
    }
}

/// The time of `timeout(time: 10, unit: 'MINUTES')`; minutes unless it says something else.
pub(super) fn duration(timeout: &Statement) -> Option<String> {
    let time = timeout.named("time").or_else(|| timeout.first()).and_then(Expression::word)?;
    let time: u64 = time.parse().ok().filter(|time| *time > 0)?;
    let unit = timeout.named("unit").map_or(Some("MINUTES".to_owned()), Expression::literal)?;
    let (unit, most) = match unit.as_str() {
        "SECONDS" => ("s", 86_400),
        "MINUTES" => ("m", 1_440),
        "HOURS" => ("h", 24),
        _ => return None,
    };
    (time <= most).then(|| format!("{time}{unit}"))
}

/// How often `retry(N)` tries again: Jenkins counts the first try.
pub(super) fn times(retry: &Statement) -> Option<u32> {
    let count = retry.first().or_else(|| retry.named("count")).and_then(Expression::word)?;
    count.parse::<u32>().ok().filter(|count| (1..=11).contains(count)).map(|count| count - 1)
}
