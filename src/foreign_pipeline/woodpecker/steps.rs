//! The steps of a workflow.

use std::sync::Arc;

use super::{Parsed, Reader, is_true, merged, missing, texts};
use crate::foreign_pipeline::draft::Step;
use crate::foreign_pipeline::emit::Value;
use crate::foreign_pipeline::shell;
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::Node;

use super::conditions::On;

impl Reader<'_, '_> {
    pub(super) fn parsed(&mut self, (name, span): (String, Span), node: &Node) -> Parsed {
        let entries = merged(node);
        let get =
            |key: &str| entries.iter().find(|(known, _)| known.text() == Some(key)).map(|(_, value)| value);
        let when = get("when").map(|when| self.conditions(when));
        let needs = get("depends_on").map(|needs| {
            texts(needs).into_iter().filter_map(|need| Some((need.text()?.to_owned(), need.span))).collect()
        });
        Parsed { name, span, entries, when, needs }
    }

    /// The steps in an order in which each stands after those that it needs.
    pub(super) fn steps(
        &mut self,
        file: &Arc<SourceFile>,
        parsed: Vec<Parsed>,
        on: &On,
        mut services: Vec<(String, Value)>,
    ) -> Result<Vec<Step>, Vec<Diagnostic>> {
        let is_graph = parsed.iter().any(|step| step.needs.is_some());
        let order = if is_graph { ordered(file, &parsed)? } else { (0..parsed.len()).collect() };
        let mut steps: Vec<(String, Step, Vec<String>)> = Vec::new();
        if is_graph {
            for step in parsed.iter().filter(|step| step.is_detached()) {
                services.extend(self.detached(step));
            }
        }
        for index in order {
            let one = &parsed[index];
            if one.is_detached() {
                if !is_graph {
                    services.extend(self.detached(one));
                }
                continue;
            }
            self.why = None;
            let mut step = self.step(one, on, &services);
            let mut needs = Vec::new();
            if is_graph {
                for (need, _) in one.needs.iter().flatten() {
                    match steps.iter().find(|(known, _, _)| known == need) {
                        // A step that is a comment can't be named; what it needs can.
                        Some((_, needed, theirs)) if needed.off.is_some() => needs.extend(theirs.clone()),
                        Some(_) => needs.push(need.clone()),
                        None => {}
                    }
                }
                needs.dedup();
                let failure = needs.iter().find(|need| {
                    steps.iter().any(|(known, step, _)| known == *need && step.is_for_failure())
                });
                if let Some(need) = failure.filter(|_| step.off.is_none() && step.is_for_success()) {
                    let message =
                        format!("`{need}` runs only after a failure, and this step only without one");
                    self.notes.add(one.span, message, "remove the step, or what it depends on");
                    step.off(format!("it would never run, since `{need}` runs only after a failure"));
                }
                let ours = needs.iter().map(|need| step_name(need));
                if !step.fields.is_empty() {
                    let at =
                        step.fields.iter().position(|(key, _)| key == "when").unwrap_or(step.fields.len());
                    step.fields.insert(at, ("needs".to_owned(), Value::texts(ours)));
                }
            }
            steps.push((one.name.clone(), step, needs));
        }
        let steps: Vec<Step> = steps.into_iter().map(|(_, step, _)| step).collect();
        let runs = steps.iter().filter(|step| step.kind == "run" && !step.fields.is_empty()).count();
        if runs > 1
            && !services.is_empty()
            && let Some(span) = self.services_at
        {
            self.notes.add(
                span,
                "each step has its own services, so that one step does not find what another has stored in them",
                "remove `services` from the steps that need none, and make those that share data one step",
            );
        }
        Ok(steps)
    }

    /// A step that runs beside those after it.
    fn detached(&mut self, step: &Parsed) -> Option<(String, Value)> {
        self.services_at.get_or_insert(step.span);
        let entries: Vec<_> = step.entries.clone();
        self.service(&step.name, step.span, &entries)
    }

    fn step(&mut self, parsed: &Parsed, on: &On, services: &[(String, Value)]) -> Step {
        let when = match &parsed.when {
            None => None,
            Some(conditions) => self.when(conditions, on, parsed),
        };
        let mut step = if parsed.get("commands").is_none() && parsed.get("entrypoint").is_none() {
            self.plugin(parsed)
        } else {
            self.script(parsed, services)
        };
        if !step.fields.is_empty() {
            if let Some(when) = when {
                step.set("when", when);
            }
            if !self.is_product {
                step.off("its matrix");
            }
        }
        if let Some(why) = self.why.take() {
            step.off(why);
        }
        self.notes.check(&mut step, parsed.span);
        step
    }

    pub(super) fn named(&mut self, step: &mut Step, parsed: &Parsed) {
        if parsed.name.is_empty() {
            return;
        }
        let ours = step_name(&parsed.name);
        if ours != parsed.name {
            self.notes.add(
                parsed.span,
                format!("the step is called `{ours}`: names have letters, digits, blanks, `-`, `_`, `.` and `/`, 60 at most"),
                "choose another name if it is not clear",
            );
        }
        step.set("name", Value::Text(ours));
    }

    fn script(&mut self, parsed: &Parsed, services: &[(String, Value)]) -> Step {
        let mut step = Step::new("run");
        let line = self.notes.line(parsed.span);
        let Some(image) = parsed.get("image") else {
            self.notes.add(parsed.span, "the step has no image", "name one");
            return missing(&parsed.name, line, "it has no image");
        };
        self.named(&mut step, parsed);
        match self.image(image) {
            Ok(image) => step.set("image", Value::Text(image)),
            Err(why) => {
                step.set("image", Value::text(image.text().unwrap_or_default()));
                self.off(why);
            }
        }
        let (mut env, secrets) =
            parsed.get("environment").map(|node| self.environment(node)).unwrap_or_default();
        if self.is_product && !self.matrix.is_empty() {
            let values =
                self.matrix.iter().map(|(name, values)| (name.clone(), Value::texts(values.clone())));
            step.set("matrix", Value::Map(values.collect()));
            // Commands find the values in variables, too.
            for (name, _) in &self.matrix {
                if !env.iter().any(|(known, _)| known == name) {
                    env.push((name.clone(), format!("${{matrix.{name}}}")));
                }
            }
        }
        if !env.is_empty() {
            step.set("env", Value::pairs(env));
        }
        if !secrets.is_empty() {
            step.set("secrets", Value::pairs(secrets));
        }
        if !services.is_empty() {
            step.set("services", Value::Map(services.to_vec()));
        }
        let mut command = String::new();
        if let Some(folder) = parsed.get("directory") {
            match self.plain(folder) {
                Ok(folder) => command.push_str(&format!("cd {}\n", shell::quoted(&folder))),
                Err(written) => {
                    self.notes.add(folder.span, format!("`{written}` in `directory`"), "write its value");
                    self.off(format!("`{written}` in `directory`"));
                }
            }
        }
        match (parsed.get("commands"), parsed.get("entrypoint")) {
            (Some(commands), None) => {
                let lines: Vec<String> = texts(commands)
                    .into_iter()
                    .map(|one| self.command(one).trim_end_matches('\n').to_owned())
                    .collect();
                command.push_str(&lines.join("\n"));
                if command.contains('\n') {
                    command.push('\n');
                }
                if command.trim().is_empty() {
                    self.off("it has no commands".to_owned());
                }
                step.set("command", Value::Text(command));
            }
            (None, Some(entry)) if entry.items().is_some() && command.is_empty() => {
                let words: Result<Vec<String>, String> =
                    texts(entry).into_iter().map(|word| self.plain(word)).collect();
                match words {
                    Ok(words) => step.set("command", Value::texts(words)),
                    Err(written) => {
                        self.notes.add(entry.span, format!("`{written}` in `entrypoint`"), "write its value");
                        self.off(format!("`{written}` in `entrypoint`"));
                    }
                }
            }
            (_, entry) => {
                let span = entry.map_or(parsed.span, |entry| entry.span);
                self.notes.add(
                    span,
                    "`entrypoint` together with commands has no equivalent",
                    "write `command` as a list of words, such as `[/bin/bash, -ec, ...]`",
                );
                self.off("its entry point".to_owned());
            }
        }
        self.rest(parsed);
        step
    }

    /// The keys of a step that have no equivalent.
    pub(super) fn rest(&mut self, parsed: &Parsed) {
        for (key, value) in &parsed.entries {
            let name = key.text().unwrap_or_default();
            let next = match name {
                "name" | "image" | "commands" | "environment" | "when" | "depends_on" | "entrypoint"
                | "directory" | "settings" => continue,
                "detach" | "privileged" | "pull" if !is_true(value) => continue,
                "failure" if value.text() == Some("fail") => continue,
                "failure" => "end the command with `|| true` where it may fail: the run fails otherwise",
                "privileged" => "build images with a `build` step; nothing else gets more rights",
                "volumes" => {
                    "write `caches: [FOLDER]` for what takes long to download; folders of the machine are not mounted"
                }
                "backend_options" => "write `resources: {limits: {memory: 1GiB, cpu: 2}}` for limits",
                "pull" => "name a version of the image",
                "secrets" => {
                    "Woodpecker 3 does not read it: write `environment` with `from_secret`, then convert again"
                }
                "group" => "Woodpecker 3 does not read it: write `depends_on`, then convert again",
                _ => "remove it, or say it in another way",
            };
            let message = match name {
                "failure" => "`failure: ignore` has no equivalent".to_owned(),
                "secrets" | "group" => {
                    self.off(format!("its `{name}`"));
                    format!("`{name}` has no equivalent")
                }
                _ => format!("`{name}` has no equivalent"),
            };
            self.notes.add(key.span, message, next);
        }
    }
}

/// A name that a step may have.
pub(super) fn step_name(name: &str) -> String {
    let legal =
        |c: char| if c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ' | '/') { c } else { '-' };
    let mut ours: String = name.trim().chars().map(legal).collect();
    while ours.len() > 60 {
        ours.pop();
    }
    ours.trim().to_owned()
}

/// The positions of steps, each after those that it needs, otherwise as they stand.
fn ordered(file: &Arc<SourceFile>, parsed: &[Parsed]) -> Result<Vec<usize>, Vec<Diagnostic>> {
    let find = |name: &str| parsed.iter().position(|step| step.name == name);
    let mut problems = Vec::new();
    for (need, span) in parsed.iter().flat_map(|step| step.needs.iter().flatten()) {
        if find(need).is_none() {
            let diagnostic = Diagnostic::error("unknown-step", format!("there is no step `{need}`"));
            problems.push(diagnostic.at(file, *span, "").help("name a step of this file"));
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut order: Vec<usize> = Vec::new();
    while order.len() < parsed.len() {
        let ready = (0..parsed.len()).find(|index| {
            let needs = parsed[*index].needs.iter().flatten();
            !order.contains(index)
                && needs.filter_map(|(need, _)| find(need)).all(|need| order.contains(&need))
        });
        match ready {
            Some(index) => order.push(index),
            None => {
                let left = (0..parsed.len()).find(|index| !order.contains(index)).unwrap_or_default();
                let message =
                    format!("step `{}` needs itself, directly or through others", parsed[left].name);
                let diagnostic = Diagnostic::error("step-cycle", message).at(file, parsed[left].span, "");
                return Err(vec![diagnostic.help("remove one of the `depends_on`")]);
            }
        }
    }
    Ok(order)
}
