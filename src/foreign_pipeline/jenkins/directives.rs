//! What a pipeline says besides its stages.

use super::groovy::{Expression, Kind, Statement};
use super::{Reader, Scope};
use crate::foreign_pipeline::draft::Draft;
use crate::foreign_pipeline::emit::Value;
use crate::model::schedule::Schedule;

impl Reader<'_, '_> {
    pub(super) fn directives(&mut self, pipeline: &Statement, draft: &mut Draft, scope: &mut Scope) {
        if let Some(environment) = pipeline.get("environment") {
            self.environment(environment, scope);
        }
        for one in pipeline.inside() {
            match one.name.as_str() {
                "stages" | "post" | "environment" => {}
                "agent" => {
                    scope.image = self.agent(one, scope);
                    if matches!(scope.image, super::Image::Named(_)) {
                        self.notes.add(
                            one.span,
                            "each step has a container of its own, and only `/workspace` is common to all",
                            "install what steps need in the step that needs it, or in the image",
                        );
                    }
                }
                "options" => self.options(one),
                "parameters" => draft.parameters = self.parameters(one),
                "triggers" => self.triggers(one, draft),
                "tools" => self.tools(one),
                "libraries" => {
                    self.notes.add(
                        one.span,
                        "shared libraries are not read",
                        "write what they do into commands",
                    );
                }
                name => {
                    let shown = if name.is_empty() { "code".to_owned() } else { format!("`{name}`") };
                    self.notes.add(
                        one.span,
                        format!("{shown} has no equivalent"),
                        "write what it does into commands",
                    );
                }
            }
        }
        self.references(pipeline, draft);
    }

    pub(super) fn tools(&mut self, tools: &Statement) {
        self.notes.add(tools.span, "`tools` has no equivalent", "use an image that has them");
    }

    /// What the job builds is in Jenkins, not in the file.
    fn references(&mut self, pipeline: &Statement, draft: &mut Draft) {
        let schedule = draft.on.take();
        let is_any = self.kinds.branches;
        let mut on: Vec<(String, Value)> = Vec::new();
        if is_any {
            on.push(("branches".to_owned(), Value::texts(["**"])));
        }
        if self.kinds.tags {
            on.push(("tags".to_owned(), Value::texts(["**"])));
        }
        if self.kinds.pull_requests {
            on.push(("pull_requests".to_owned(), Value::plain(true)));
        }
        let has_schedule = schedule.is_some();
        on.extend(schedule.into_iter().flatten());
        let (what, next) = match (is_any, has_schedule) {
            (true, _) => ("every branch that is pushed", "remove what is too much from `on`"),
            (false, true) => ("its schedule alone", "add `branches: [main]` to `on` if pushes did so, too"),
            (false, false) => (
                "a push to the branch that its repository has in fleetwright.yaml",
                "write `on: {branches: [...], tags: [...], pull_requests: true}` if more did so",
            ),
        };
        let span = crate::source::Span::new(pipeline.span.start, pipeline.span.start + "pipeline".len());
        self.notes.add(
            span,
            format!("what sets it off is in the settings of the job; here it is {what}"),
            next,
        );
        draft.on = (!on.is_empty()).then_some(on);
    }

    /// Variables and credentials.
    pub(super) fn environment(&mut self, environment: &Statement, scope: &mut Scope) {
        for one in environment.inside() {
            let Some(value) = one.assigned.as_ref().filter(|_| !one.name.is_empty()) else {
                self.notes.add(
                    one.span,
                    "this is not a variable with its value",
                    "write `NAME: value` below `env`",
                );
                continue;
            };
            scope.env.retain(|(known, _)| *known != one.name);
            scope.secrets.retain(|(known, _)| *known != one.name);
            scope.exports.retain(|(known, _)| *known != one.name);
            scope.broken.retain(|(known, _)| *known != one.name);
            if let Kind::Call(call) = &value.kind
                && call.name == "credentials"
                && let Some(id) = call.first().and_then(Expression::literal)
            {
                self.credentials(&one.name, &id, call, scope);
                continue;
            }
            match (self.plain(value, scope), value.word()) {
                (Some(text), _) => scope.env.push((one.name.clone(), text)),
                (None, Some(word)) if word == "true" || word == "false" || word.parse::<f64>().is_ok() => {
                    scope.env.push((one.name.clone(), word.to_owned()));
                }
                (None, _) => match self.export(&one.name, value, scope) {
                    Some(command) => scope.exports.push((one.name.clone(), command)),
                    None => {
                        self.notes.add(
                            value.span,
                            format!("the value of `{}` is code, which is not run", one.name),
                            format!("set it in the commands that use it, as in `export {}=...`", one.name),
                        );
                        scope.broken.push((one.name.clone(), self.notes.line(value.span)));
                    }
                },
            }
        }
    }

    /// A credential; one with a user and a password makes two more variables, where they are used.
    fn credentials(&mut self, name: &str, id: &str, call: &Statement, scope: &mut Scope) {
        let text = self.notes.file.text();
        let parts: Vec<(String, String)> = [("_USR", "user"), ("_PSW", "password")]
            .into_iter()
            .map(|(end, part)| (format!("{name}{end}"), format!("{id}-{part}")))
            .filter(|(variable, _)| text.contains(variable.as_str()))
            .collect();
        if parts.is_empty() {
            let parameter = self.secret(id, call.span);
            scope.secrets.push((name.to_owned(), parameter));
        }
        for (variable, id) in parts {
            let parameter = self.secret(&id, call.span);
            scope.secrets.push((variable, parameter));
        }
    }

    fn options(&mut self, options: &Statement) {
        for one in options.inside() {
            let next = match one.name.as_str() {
                "disableConcurrentBuilds" if one.arguments.is_empty() => continue,
                "timeout" => "write `timeout` of the pipeline, which is how long each of its steps may take",
                "retry" => "write `retries` of the steps that may be tried again",
                "buildDiscarder" => "remove it: `fleetwright serve` decides how long runs are kept",
                "timestamps" | "ansiColor" => {
                    "remove it: each line of a log has its time, and colours are removed"
                }
                "skipDefaultCheckout" => "remove it: the workspace always has the files of the commit",
                "parallelsAlwaysFailFast" => {
                    "remove it: after a failure no other step begins, but those under way end"
                }
                _ => "remove it",
            };
            let shown =
                if one.name.is_empty() { "this option".to_owned() } else { format!("option `{}`", one.name) };
            self.notes.add(one.span, format!("{shown} has no equivalent"), next);
        }
    }

    fn parameters(&mut self, parameters: &Statement) -> Vec<(String, Value)> {
        let mut all = Vec::new();
        for one in parameters.inside() {
            let text = |name: &str| one.named(name).and_then(Expression::literal);
            let name = text("name").unwrap_or_default();
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let ours = ["CI", "PATH", "HOME"].contains(&name.as_str())
                || name.to_ascii_uppercase().starts_with("FLEETWRIGHT_");
            if name.is_empty()
                || name.starts_with(|c: char| c.is_ascii_digit())
                || !name.chars().all(word)
                || ours
            {
                let next = "choose a name of letters, digits and `_`, and rename it where it is used";
                self.notes.add(one.span, format!("`{name}` can't be the name of a parameter"), next);
                continue;
            }
            let mut fields: Vec<(String, Value)> = Vec::new();
            match one.name.as_str() {
                "string" => {
                    let default = text("defaultValue").unwrap_or_default();
                    if default.len() > 1024 || default.contains(char::is_control) {
                        let next = "choose one of at most 1024 bytes on one line, without control characters";
                        self.notes.add(one.span, format!("the default of `{name}` can't be one here"), next);
                        continue;
                    }
                    fields.push(("default".to_owned(), Value::Text(default)));
                }
                "booleanParam" => {
                    let default = one.named("defaultValue").and_then(Expression::word).unwrap_or("false");
                    fields.push(("type".to_owned(), Value::text("boolean")));
                    fields.push(("default".to_owned(), Value::plain(default == "true")));
                }
                "choice" => {
                    let choices = match one.named("choices") {
                        Some(Expression { kind: Kind::List(items), .. }) => {
                            items.iter().map(Expression::literal).collect::<Option<Vec<_>>>()
                        }
                        Some(one) => one.literal().map(|text| text.lines().map(str::to_owned).collect()),
                        None => None,
                    };
                    let Some(choices) = choices.filter(|choices| !choices.is_empty()) else {
                        self.notes.add(
                            one.span,
                            format!("the choices of `{name}` are not texts"),
                            "write them below `choices`",
                        );
                        continue;
                    };
                    let first = choices[0].clone();
                    fields.push(("choices".to_owned(), Value::texts(choices)));
                    fields.push(("default".to_owned(), Value::Text(first)));
                }
                other => {
                    let next = match other {
                        "password" => "store it as a secret: `secrets: {NAME: /team/name}` of the step",
                        _ => "make it a parameter of type `text`, which has one line",
                    };
                    self.notes.add(
                        one.span,
                        format!("parameter `{name}` of kind `{other}` has no equivalent"),
                        next,
                    );
                    continue;
                }
            }
            if let Some(description) = text("description").filter(|text| !text.is_empty()) {
                fields.push(("description".to_owned(), Value::Text(description)));
            }
            self.parameters.push(name.clone());
            all.push((name, Value::Map(fields)));
        }
        all
    }

    fn triggers(&mut self, triggers: &Statement, draft: &mut Draft) {
        for one in triggers.inside() {
            match one.name.as_str() {
                // Pushes are noticed without it.
                "pollSCM" => {}
                "cron" => {
                    let text = one.first().and_then(Expression::literal).unwrap_or_default();
                    match schedule(&text) {
                        Ok(entries) if draft.on.is_none() => {
                            if !entries.iter().any(|(key, _)| key == "timezone") {
                                self.notes.add(
                                    one.span,
                                    "the schedule has no `TZ=`: it is in the time zone of Jenkins, and here in UTC",
                                    "write `timezone`, such as `Europe/Berlin`",
                                );
                            }
                            draft.on = Some(entries);
                        }
                        Ok(_) => self.notes.add(
                            one.span,
                            "a pipeline has one schedule",
                            "make one expression of both",
                        ),
                        Err(why) => self.notes.add(
                            one.span,
                            format!("the schedule `{}` has no equivalent: {why}", text.trim()),
                            "write `schedule: \"MINUTE HOUR DAY MONTH WEEKDAY\"` into `on`, with `timezone`",
                        ),
                    }
                }
                "upstream" => self.notes.add(
                    one.span,
                    "the other jobs are not pipelines of this file",
                    "convert them, then write `after: [NAME]` into `on`",
                ),
                name => {
                    let shown = if name.is_empty() { "code".to_owned() } else { format!("`{name}`") };
                    self.notes.add(
                        one.span,
                        format!("trigger {shown} has no equivalent"),
                        "use `schedule`, `after` or the API",
                    );
                }
            }
        }
    }
}

/// The keys of a schedule.
///
/// # Errors
/// Why it has no equivalent.
fn schedule(text: &str) -> Result<Vec<(String, Value)>, &'static str> {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let (zone, lines) = match lines.as_slice() {
        [first, rest @ ..] if first.starts_with("TZ=") => (first.strip_prefix("TZ="), rest),
        all => (None, all),
    };
    let [line] = lines else { return Err("it is not one line") };
    if line.contains('H') {
        return Err("`H` is a time that Jenkins chooses");
    }
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, day, _, weekday] = fields.as_slice() else { return Err("it has not 5 fields") };
    let legal = |c: char| c.is_ascii_digit() || "*/,-".contains(c);
    if !fields.iter().all(|field| field.chars().all(legal)) {
        return Err("its fields are not numbers");
    }
    if *day != "*" && *weekday != "*" {
        return Err("it has a day of the month and of the week, which both must fit in Jenkins");
    }
    let timezone = zone.map_or("UTC", str::trim).to_owned();
    if (Schedule { cron: fields.join(" "), timezone }).times().is_err() {
        return Err("it is no cron expression, or its time zone is unknown");
    }
    let mut entries = vec![("schedule".to_owned(), Value::text(fields.join(" ")))];
    entries.extend(zone.map(|zone| ("timezone".to_owned(), Value::text(zone.trim()))));
    Ok(entries)
}
