//! Pipelines as `pipeline lint` shows them: what starts each, and its steps with what each of them needs.

use serde_json::{Value, json};

use super::table::table;
use super::words::list;
use crate::model::duration::{human, written};
use crate::model::pipeline::{Pipeline, Step, Triggers};
use crate::model::run::{After, Trigger};

/// A pipeline with the names that its steps have in runs.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The names of its steps, in order.
    pub names: &'a [String],
}

/// The pipelines for people, a blank line between two of them.
pub fn graphs(all: &[Shown<'_>]) -> String {
    all.iter().map(graph).collect::<Vec<_>>().join("\n")
}

fn graph(shown: &Shown<'_>) -> String {
    let Shown { pipeline, names } = shown;
    let mut text =
        format!("{}   {}, for repository {}\n", pipeline.name, pipeline.place, pipeline.repository);
    text.push_str(&format!("  starts: {}\n", starts(pipeline)));
    if !pipeline.parameters.is_empty() {
        let given = pipeline.parameters.iter().map(|parameter| match &parameter.default {
            Some(default) => format!("{}={default}", parameter.name),
            None => format!("{} (must be given)", parameter.name),
        });
        text.push_str(&format!("  parameters: {}\n", given.collect::<Vec<_>>().join(", ")));
    }
    if let Some(own) = pipeline.own.as_ref().filter(|_| pipeline.steps.is_empty()) {
        text.push_str(&format!("  steps: in {} of each commit\n", own.file));
        return text;
    }
    let rows: Vec<Vec<String>> = pipeline
        .steps
        .iter()
        .zip(*names)
        .map(|(step, name)| {
            vec![name.clone(), or_dash(needs(step, names).join(", ")), or_dash(when(step).join("; "))]
        })
        .collect();
    let lines = table(&["STEP", "NEEDS", "WHEN"], &rows);
    text.extend(lines.lines().map(|line| format!("  {line}\n")));
    text
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn needs<'n>(step: &Step, names: &'n [String]) -> Vec<&'n str> {
    step.needs.iter().filter_map(|need| names.get(*need)).map(String::as_str).collect()
}

fn starts(pipeline: &Pipeline) -> String {
    let Triggers { branches, tags, pull_requests, schedule, after } = &pipeline.triggers;
    let mut all = Vec::new();
    match branches {
        None => all.push("a change of the watched branch".to_owned()),
        Some(branches) if branches.is_empty() => {}
        Some(branches) => all.push(format!("a change of branch {}", branches.join(", "))),
    }
    if !tags.is_empty() {
        all.push(format!("a tag {}", tags.join(", ")));
    }
    if *pull_requests {
        all.push("a pull request".to_owned());
    }
    if !all.is_empty() && !pipeline.paths.is_empty() {
        let last = all.len() - 1;
        all[last].push_str(&format!(" that changes {}", pipeline.paths.join(", ")));
    }
    if let Some(schedule) = schedule {
        all.push(format!("schedule {} ({})", schedule.cron, schedule.timezone));
    }
    if !after.is_empty() {
        let names: Vec<String> = after.iter().map(|(name, _)| name.to_string()).collect();
        all.push(format!("success of {}", list(&names)));
    }
    if all.is_empty() {
        return "by hand only".to_owned();
    }
    all.join("; ")
}

fn when(step: &Step) -> Vec<String> {
    let mut all = Vec::new();
    match step.when.after {
        After::Success => {}
        After::Failure => all.push("after a failure".to_owned()),
        After::Always => all.push("always".to_owned()),
    }
    if !step.when.branches.is_empty() {
        all.push(format!("branch {}", step.when.branches.join(", ")));
    }
    if !step.when.tags.is_empty() {
        all.push(format!("tag {}", step.when.tags.join(", ")));
    }
    if !step.when.triggers.is_empty() {
        let words: Vec<&str> = step.when.triggers.iter().map(|trigger| trigger.words()).collect();
        all.push(format!("started {}", words.join(", ")));
    }
    if let Some(timeout) = step.timeout {
        all.push(format!("at most {}", human(timeout)));
    }
    all
}

/// A pipeline as JSON.
pub fn json(shown: &Shown<'_>) -> Value {
    let Shown { pipeline, names } = shown;
    let Triggers { branches, tags, pull_requests, schedule, after } = &pipeline.triggers;
    let steps = pipeline.steps.iter().zip(*names).map(|(step, name)| {
        json!({
            "name": name,
            "needs": needs(step, names),
            "after": match step.when.after {
                After::Success => "success",
                After::Failure => "failure",
                After::Always => "always",
            },
            "branches": step.when.branches,
            "tags": step.when.tags,
            "triggers": step.when.triggers.iter().copied().map(Trigger::word).collect::<Vec<_>>(),
            "timeout": step.timeout.map(written),
        })
    });
    let place = &pipeline.place;
    json!({
        "name": pipeline.name,
        "file": place.file.name(),
        "line": place.file.position(place.span.start).line,
        "repository": pipeline.repository,
        "on": {
            // Of the repository's watched branch where it is null.
            "branches": branches,
            "tags": tags,
            "pull_requests": pull_requests,
            "schedule": schedule,
            "after": after.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
            "paths": pipeline.paths,
        },
        "parameters": pipeline.parameters.iter().map(|one| json!({
            "name": one.name, "default": one.default, "description": one.description,
        })).collect::<Vec<_>>(),
        // Where the git repository has the steps itself.
        "steps_file": pipeline.own.as_ref().map(|own| &own.file),
        "steps": steps.collect::<Vec<_>>(),
    })
}
