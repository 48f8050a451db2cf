//! What sets pipelines off, what they can be given, and when steps are part of a run.

use super::unlike_pattern;
use crate::model::name::PipelineName;
use crate::model::pipeline::{Parameter, ParameterKind, Supersede, Triggers, When};
use crate::model::run::{After, Trigger};
use crate::model::setting::Place;
use crate::repo::decode::{Fields, Reader, list};
use crate::repo::jobs::schedule;
use crate::source::{Diagnostic, suggest};
use crate::yaml::Node;

/// The words for what starts a run.
const TRIGGERS: [(&str, Trigger); 6] = [
    ("push", Trigger::Poll),
    ("tag", Trigger::Tag),
    ("pull-request", Trigger::PullRequest),
    ("schedule", Trigger::Schedule),
    ("hand", Trigger::Hand),
    ("pipeline", Trigger::Pipeline),
];
/// The words for the outcome after which a step is begun.
const RESULTS: [(&str, After); 3] =
    [("success", After::Success), ("failure", After::Failure), ("always", After::Always)];
/// The words for the runs that a newer commit takes the place of.
const SUPERSEDED: [(&str, Supersede); 2] = [("queued", Supersede::Queued), ("running", Supersede::Running)];
/// What a step finds in its environment already.
const OURS: &str = "FLEETWRIGHT_";

/// What sets a pipeline off.
pub(super) fn triggers(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Triggers {
    let Some(node) = fields.get("on") else { return Triggers::default() };
    let keys = ["branches", "tags", "pull_requests", "schedule", "timezone", "after"];
    let nothing = Triggers { branches: Some(Vec::new()), ..Triggers::default() };
    let Some(on) = reader.fields(node, node.span, "`on`", &keys) else { return nothing };
    let branches = on.get("branches").map(|node| patterns(reader, node, "`branches`")).unwrap_or_default();
    let tags = on.get("tags").map(|node| patterns(reader, node, "`tags`")).unwrap_or_default();
    let pull_requests = on.get("pull_requests").and_then(|node| reader.boolean(node, "`pull_requests`"));
    let schedule = schedule(reader, node, &on).flatten();
    let mut after: Vec<(PipelineName, Place)> = Vec::new();
    if let Some(node) = on.get("after") {
        for item in reader.items(node, "`after`") {
            let Some(name) = reader.name::<PipelineName>(item) else { continue };
            let place = reader.place(item);
            after.push((name, place));
        }
    }
    let pull_requests = pull_requests.unwrap_or_default();
    Triggers { branches: Some(branches), tags, pull_requests, schedule, after }
}

/// Which runs a newer commit takes the place of.
pub(super) fn supersede(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Supersede {
    let word = |node| word(reader, node, "`supersede`", &SUPERSEDED);
    fields.get("supersede").and_then(word).unwrap_or_default()
}

/// Patterns of branches or tags.
pub(in crate::repo) fn patterns(reader: &mut Reader<'_>, node: &Node, what: &str) -> Vec<String> {
    let mut patterns = Vec::new();
    for item in reader.items(node, what) {
        let Some(text) = reader.text(item, "a pattern of names") else { continue };
        let bare = text.strip_prefix('!').unwrap_or(text);
        let label = if bare.is_empty() || bare.starts_with("refs/") || bare.starts_with('/') {
            Some("write the name of a branch or tag, such as `release/*`")
        } else {
            unlike_pattern(bare)
        };
        match label {
            Some(label) => {
                let diagnostic = Diagnostic::error("bad-value", format!("`{text}` is no pattern of names"));
                reader.problem(diagnostic, item.span, label);
            }
            None => patterns.push(text.to_owned()),
        }
    }
    if !patterns.is_empty() && patterns.iter().all(|pattern| pattern.starts_with('!')) {
        let diagnostic = Diagnostic::error("bad-value", format!("{what} only says what is left out"));
        reader.problem(diagnostic, node.span, "begin with a pattern without `!`, such as `**`");
    }
    patterns
}

/// When a step is part of a run: a word for the outcome before it, or a mapping.
pub(super) fn when(reader: &mut Reader<'_>, fields: &Fields<'_>) -> When {
    let Some(node) = fields.get("when") else { return When::default() };
    if node.entries().is_none() {
        return When { after: word(reader, node, "`when`", &RESULTS).unwrap_or_default(), ..When::default() };
    }
    let Some(when) = reader.fields(node, node.span, "`when`", &["result", "branches", "tags", "triggers"])
    else {
        return When::default();
    };
    let after =
        when.get("result").and_then(|node| word(reader, node, "`result`", &RESULTS)).unwrap_or_default();
    let branches = when.get("branches").map(|node| patterns(reader, node, "`branches`")).unwrap_or_default();
    let tags = when.get("tags").map(|node| patterns(reader, node, "`tags`")).unwrap_or_default();
    let triggers = when.get("triggers").map(|node| {
        let items = reader.items(node, "`triggers`");
        items.iter().filter_map(|item| word(reader, item, "a trigger", &TRIGGERS)).collect()
    });
    When { after, branches, tags, triggers: triggers.unwrap_or_default() }
}

/// What one of a few words stands for.
fn word<T: Copy>(reader: &mut Reader<'_>, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
    let text = reader.text(node, what)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant);
    if found.is_none() {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let diagnostic = Diagnostic::error("bad-value", format!("`{text}` can't be {what}"));
        let label = suggest(text, words.iter().copied())
            .map_or_else(|| format!("one of {}", list(&words)), |near| format!("did you mean `{near}`?"));
        reader.problem(diagnostic, node.span, label);
    }
    found
}

/// What a pipeline can be given.
pub(super) fn parameters(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    triggers: &Triggers,
) -> Vec<Parameter> {
    let Some(node) = fields.get("parameters") else { return Vec::new() };
    let mut parameters = Vec::new();
    for (key, value) in reader.entries(node, "`parameters`") {
        let Some(parameter) = parameter(reader, key, value) else { continue };
        if parameter.default.is_none() && !triggers.is_by_hand() {
            let message = format!(
                "parameter `{}` has no default, and the pipeline is started by more than people",
                parameter.name
            );
            let diagnostic = Diagnostic::error("missing-key", message);
            reader.problem(diagnostic, key.span, "give it a `default`, or the pipeline `on: {}`");
        }
        parameters.push(parameter);
    }
    parameters
}

fn parameter(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Parameter> {
    let name = key.text().unwrap_or_default();
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(word) {
        let diagnostic = Diagnostic::error("bad-name", format!("`{name}` can't be the name of a parameter"));
        reader.problem(
            diagnostic,
            key.span,
            "letters, digits and `_`; commands find it in a variable of this name",
        );
        return None;
    }
    if name.to_ascii_uppercase().starts_with(OURS) || matches!(name, "CI" | "PATH" | "HOME") {
        let diagnostic =
            Diagnostic::error("bad-name", format!("`{name}` is a variable with another meaning"));
        reader.problem(diagnostic, key.span, "choose another name");
        return None;
    }
    let fields =
        reader.fields(value, key.span, "a parameter", &["type", "choices", "default", "description"])?;
    let kinds = [
        ("text", ParameterWord::Text),
        ("number", ParameterWord::Number),
        ("boolean", ParameterWord::Boolean),
    ];
    let kind = match (fields.get("type"), fields.get("choices")) {
        (Some(_), Some(node)) => {
            let diagnostic =
                Diagnostic::error("conflicting-keys", "a parameter has `type` or `choices`, not both");
            reader.problem(diagnostic, node.span, "remove one of them");
            return None;
        }
        (None, Some(node)) => {
            let items = reader.items(node, "`choices`");
            let choices: Vec<String> =
                items.iter().filter_map(|item| reader.text(item, "a choice").map(str::to_owned)).collect();
            if choices.is_empty() {
                let diagnostic = Diagnostic::error("bad-value", "`choices` is empty");
                reader.problem(diagnostic, key.span, "name at least one");
                return None;
            }
            ParameterKind::Choice(choices)
        }
        (Some(node), None) => match self::word(reader, node, "a `type`", &kinds)? {
            ParameterWord::Text => ParameterKind::Text,
            ParameterWord::Number => ParameterKind::Number,
            ParameterWord::Boolean => ParameterKind::Boolean,
        },
        (None, None) => ParameterKind::Text,
    };
    let description = fields.get("description").and_then(|node| reader.text(node, "`description`"));
    let default = match fields.get("default") {
        None => None,
        Some(node) => {
            let text = reader.text(node, "`default`")?.to_owned();
            if let Err(reason) = kind.check(&text) {
                reader.problem(Diagnostic::error("bad-value", format!("`{text}` {reason}")), node.span, "");
                return None;
            }
            Some(text)
        }
    };
    Some(Parameter {
        name: name.to_owned(),
        kind,
        default,
        description: description.unwrap_or_default().to_owned(),
    })
}

#[derive(Clone, Copy)]
enum ParameterWord {
    Text,
    Number,
    Boolean,
}
