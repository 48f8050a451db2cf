//! `when`: of a workflow it becomes `on`, of a step `when`.

use super::{Parsed, Reader, texts};
use crate::foreign_pipeline::emit::Value;
use crate::source::Span;
use crate::yaml::Node;

/// All names of branches or tags.
const ALL: &str = "**";
/// Events of Woodpecker, and what starts a run of ours.
const EVENTS: [(&str, &str); 5] = [
    ("push", "push"),
    ("tag", "tag"),
    ("pull_request", "pull-request"),
    ("cron", "schedule"),
    ("manual", "hand"),
];

/// One of the conditions of a `when`, all of which must hold; what is missing always holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Condition {
    /// Where it stands.
    span: Span,
    /// Names of ours for what starts a run.
    triggers: Option<Vec<&'static str>>,
    branches: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    paths: Option<Vec<String>>,
    /// `success`, `failure`.
    status: Option<Vec<String>>,
    /// What of it has no equivalent, in backticks.
    unknown: Option<String>,
}

impl Condition {
    fn has(&self, trigger: &str) -> bool {
        self.triggers.as_ref().is_none_or(|triggers| triggers.contains(&trigger))
    }
}

/// The patterns of the conditions so far, once there was one; `None` within for one without patterns.
type Seen = Option<Option<Vec<String>>>;

/// What sets a pipeline off.
#[derive(Debug, Default)]
pub struct On {
    branches: Vec<String>,
    tags: Vec<String>,
    pull_requests: bool,
    /// `paths` of the pipeline.
    pub paths: Vec<String>,
}

impl On {
    /// The keys of `on`.
    pub fn entries(&self) -> Vec<(String, Value)> {
        let mut entries = Vec::new();
        for (key, names) in [("branches", &self.branches), ("tags", &self.tags)] {
            if !names.is_empty() {
                entries.push((key.to_owned(), Value::texts(names.clone())));
            }
        }
        if self.pull_requests {
            entries.push(("pull_requests".to_owned(), Value::plain(true)));
        }
        entries
    }
}

impl Reader<'_, '_> {
    /// The conditions of a `when`, one of which must hold.
    pub(super) fn conditions(&mut self, when: &Node) -> Vec<Condition> {
        match when.items() {
            Some(items) => items.iter().map(|item| self.condition(item)).collect(),
            None => vec![self.condition(when)],
        }
    }

    fn condition(&mut self, node: &Node) -> Condition {
        let mut condition = Condition { span: node.span, ..Condition::default() };
        for (key, value) in super::merged(node) {
            let name = key.text().unwrap_or_default();
            match name {
                "event" => self.events(&mut condition, &value),
                "branch" => match self.patterns(&value) {
                    Ok(patterns) => condition.branches = Some(patterns),
                    Err(written) => {
                        self.unknown(&mut condition, &value, &written, "name branches with `*`, `**` and `?`")
                    }
                },
                "ref" => self.references(&mut condition, &value),
                "status" => {
                    condition.status =
                        Some(texts(&value).iter().filter_map(|one| one.text()).map(str::to_owned).collect());
                }
                "path" => self.paths(&mut condition, &value),
                "evaluate" => self.unknown(
                    &mut condition,
                    &key,
                    "`evaluate`",
                    "write it as a test in the command: `[ ... ] || exit 0`",
                ),
                "repo" => self.unknown(
                    &mut condition,
                    &key,
                    "`repo`",
                    "remove it: a pipeline belongs to one repository",
                ),
                "platform" | "instance" => {
                    let written = format!("`{name}`");
                    self.unknown(
                        &mut condition,
                        &key,
                        &written,
                        "remove it: steps run on the machine of `fleetwright serve`",
                    );
                }
                "cron" => self.unknown(
                    &mut condition,
                    &key,
                    "`cron`",
                    "make it a pipeline of its own, with `on: {schedule: \"...\"}`",
                ),
                "matrix" => self.unknown(
                    &mut condition,
                    &key,
                    "`matrix`",
                    "give the step a `matrix` of its own, with the values that it is for",
                ),
                other => {
                    let written = format!("`{other}`");
                    self.unknown(&mut condition, &key, &written, "say it in another way");
                }
            }
        }
        condition
    }

    fn unknown(&mut self, condition: &mut Condition, at: &Node, written: &str, next: &str) {
        self.notes.add(at.span, format!("the condition {written} has no equivalent"), next);
        condition.unknown.get_or_insert_with(|| written.to_owned());
    }

    fn events(&mut self, condition: &mut Condition, value: &Node) {
        let mut triggers = Vec::new();
        for event in texts(value) {
            let text = event.text().unwrap_or_default();
            match EVENTS.iter().find(|(theirs, _)| *theirs == text) {
                Some((_, ours)) => triggers.push(*ours),
                None => self.notes.add(
                    event.span,
                    format!("event `{text}` has no equivalent"),
                    "start the pipeline by hand, or by a tag",
                ),
            }
            if text == "cron" && self.rewritten.insert("cron".to_owned()) {
                self.notes.add(
                    event.span,
                    "when a cron job is due is in Woodpecker's settings, not in this file",
                    "write it into `on`, such as `schedule: \"30 2 * * *\"` with `timezone: Europe/Berlin`",
                );
            }
        }
        if triggers.is_empty() {
            condition.unknown = Some("`event`".to_owned());
        }
        condition.triggers = Some(triggers);
    }

    /// Patterns of names or files: what is included, then, with `!`, what is not.
    fn patterns(&mut self, value: &Node) -> Result<Vec<String>, String> {
        let (include, exclude) = match value.entries() {
            Some(_) => {
                let list = |key: &str| value.get(key).map(texts).unwrap_or_default();
                (list("include"), list("exclude"))
            }
            None => (texts(value), Vec::new()),
        };
        let mut patterns = Vec::new();
        if include.is_empty() {
            patterns.push(ALL.to_owned());
        }
        for (nodes, mark) in [(include, ""), (exclude, "!")] {
            for node in nodes {
                let text = node.text().unwrap_or_default();
                if text.is_empty()
                    || text.contains(['[', ']', '{', '}', '\\', '!', '$'])
                    || text.starts_with('/')
                {
                    return Err(format!("`{text}`"));
                }
                patterns.push(format!("{mark}{text}"));
            }
        }
        Ok(patterns)
    }

    fn references(&mut self, condition: &mut Condition, value: &Node) {
        let Ok(patterns) = self.patterns(value) else {
            return self.unknown(condition, value, "`ref`", "name branches and tags");
        };
        for pattern in patterns {
            if let Some(tag) = pattern.strip_prefix("refs/tags/") {
                condition.tags.get_or_insert_default().push(tag.to_owned());
            } else if let Some(branch) = pattern.strip_prefix("refs/heads/") {
                condition.branches.get_or_insert_default().push(branch.to_owned());
            } else {
                return self.unknown(
                    condition,
                    value,
                    "`ref`",
                    "name branches as `refs/heads/...`, tags as `refs/tags/...`",
                );
            }
        }
        // A reference is a branch or a tag, so the other kind does not fit.
        let fits: Vec<&'static str> = match (&condition.branches, &condition.tags) {
            (None, Some(_)) => vec!["tag"],
            (Some(_), None) => vec!["push", "schedule", "hand"],
            _ => vec!["push", "tag", "schedule", "hand"],
        };
        let triggers = condition.triggers.get_or_insert_with(|| fits.clone());
        triggers.retain(|trigger| fits.contains(trigger));
    }

    fn paths(&mut self, condition: &mut Condition, value: &Node) {
        if let Some((key, _)) = value.entry("ignore_message") {
            self.notes.add(
                key.span,
                "`ignore_message` has no equivalent",
                "start the pipeline by hand instead",
            );
        }
        if value.get("on_empty").is_some_and(|node| node.text() == Some("false")) {
            self.notes.add(value.span, "`on_empty: false` has no equivalent", "remove `tags` from `on`");
        }
        let both = value.get("include").is_some() && value.get("exclude").is_some();
        match self.patterns(value) {
            // Woodpecker compares all files with each of the lists, and here each file with both.
            Ok(_) if both => self.unknown(
                condition,
                value,
                "`path` with `include` and `exclude`",
                "write `paths: [INCLUDED, \"!EXCLUDED\"]`: the last pattern that fits a file decides",
            ),
            Ok(patterns) => condition.paths = Some(patterns),
            Err(written) => self.unknown(
                condition,
                value,
                &format!("{written} in `path`"),
                "name files with `*`, `**` and `?`",
            ),
        }
    }

    /// What sets a pipeline off for which one of these holds.
    pub(super) fn triggers(&mut self, conditions: &[Condition], is_workflow: bool) -> On {
        let mut on = On::default();
        let mut paths: Vec<Option<Vec<String>>> = Vec::new();
        for condition in conditions.iter().filter(|condition| condition.unknown.is_none()) {
            if is_workflow {
                paths.push(condition.paths.clone());
            }
            let all = || vec![ALL.to_owned()];
            let only_tags = condition.tags.is_some() && condition.branches.is_none();
            if condition.has("push") && !only_tags {
                add(&mut on.branches, condition.branches.clone().unwrap_or_else(all));
            }
            if condition.has("tag") {
                add(&mut on.tags, condition.tags.clone().unwrap_or_else(all));
            }
            if condition.has("pull-request") && !only_tags {
                on.pull_requests = true;
                if is_workflow && condition.branches.is_some() {
                    self.notes.add(
                        condition.span,
                        "pull requests set the pipeline off whatever branch they are for",
                        "remove `pull_requests` if that is too much; a pull request gets no secrets and rolls nothing out",
                    );
                }
            }
        }
        match paths.as_slice() {
            [] => {}
            [first, rest @ ..] if rest.iter().all(|other| other == first) => {
                on.paths = first.clone().unwrap_or_default();
            }
            _ => {
                let span = conditions.first().map_or(Span::new(0, 0), |condition| condition.span);
                self.notes.add(
                    span,
                    "the conditions have different `path`, and a pipeline of ours has `paths` for all of its triggers",
                    "write `paths`, or make two pipelines of it",
                );
            }
        }
        on
    }

    /// The `when` of a step; `None` where it is part of every run. Without an equivalent the step is a comment.
    pub(super) fn when(&mut self, conditions: &[Condition], on: &On, step: &Parsed) -> Option<Value> {
        match when(conditions, on) {
            Ok(when) => when,
            Err(why) => {
                if conditions.iter().all(|condition| condition.unknown.is_none()) {
                    let span = step.get("when").map_or(step.span, |when| when.span);
                    let next = match why.as_str() {
                        "`path`" => "make a pipeline of its own of it, with `paths`",
                        _ => "write a step for each of them, or a pipeline of its own",
                    };
                    self.notes.add(span, format!("the condition of the step has no equivalent: {why}"), next);
                }
                self.off(format!("its condition: {why}"));
                None
            }
        }
    }
}

/// Adds patterns. One that leaves names out counts for itself alone, so it stays with what it follows.
fn add(all: &mut Vec<String>, patterns: Vec<String>) {
    if all.iter().any(|known| known == ALL) && patterns.iter().all(|pattern| !pattern.starts_with('!')) {
        return;
    }
    if patterns == [ALL] {
        all.clear();
    }
    for pattern in patterns {
        if !all.contains(&pattern) {
            all.push(pattern);
        }
    }
}

/// # Errors
/// What has no equivalent.
fn when(conditions: &[Condition], on: &On) -> Result<Option<Value>, String> {
    let Some(first) = conditions.first() else { return Ok(None) };
    if let Some(unknown) = conditions.iter().find_map(|condition| condition.unknown.clone()) {
        return Err(unknown);
    }
    if conditions.iter().any(|condition| condition.paths.is_some()) {
        return Err("`path`".to_owned());
    }
    if conditions.iter().any(|condition| condition.status != first.status) {
        return Err("different `status`".to_owned());
    }
    let result = first.status.as_ref().map(|status| {
        let has = |word: &str| status.iter().any(|known| known == word);
        match (has("success"), has("failure")) {
            (true, true) => "always",
            (false, true) => "failure",
            _ => "success",
        }
    });
    let result = result.filter(|result| *result != "success");
    // The branches of what the pipeline is set off by need not be said again.
    let narrow = |condition: &Condition| {
        condition.branches.clone().filter(|branches| *branches != [ALL] && *branches != on.branches)
    };
    let on_branch = |trigger: &&str| ["push", "schedule", "hand"].contains(trigger);
    let every = || EVENTS.iter().map(|(_, ours)| *ours).collect::<Vec<_>>();
    let all = conditions.iter().any(|condition| condition.triggers.is_none());
    let mut triggers: Vec<&str> = Vec::new();
    let (mut branches, mut tags): (Seen, Seen) = (None, None);
    let mut pulls: Seen = None;
    for condition in conditions {
        let own = condition.triggers.clone().unwrap_or_else(every);
        for trigger in &own {
            if !triggers.contains(trigger) {
                triggers.push(trigger);
            }
        }
        let same = |known: &mut Seen, value: Option<Vec<String>>| match known {
            Some(known) => *known == value,
            None => {
                *known = Some(value);
                true
            }
        };
        let mut fits = true;
        if own.iter().any(on_branch) {
            fits &= same(&mut branches, narrow(condition));
        }
        if own.contains(&"tag") {
            fits &= same(&mut tags, condition.tags.clone().filter(|tags| *tags != on.tags));
        }
        if own.contains(&"pull-request") && on.pull_requests {
            fits &= same(&mut pulls, narrow(condition));
        }
        if !fits {
            return Err("different branches or tags for different events".to_owned());
        }
    }
    let (mut branches, mut tags) = (branches.flatten(), tags.flatten());
    if pulls.flatten().is_some() {
        return Err("the branch that a pull request is for".to_owned());
    }
    if branches.is_some() || tags.is_some() {
        // Patterns of either kind leave out every other reference.
        if triggers.contains(&"pull-request") && on.pull_requests {
            return Err("branches or tags together with pull requests".to_owned());
        }
        if branches.is_none() && triggers.iter().any(on_branch) {
            branches = Some(vec![ALL.to_owned()]);
        }
        if tags.is_none() && triggers.contains(&"tag") && !on.tags.is_empty() {
            tags = Some(vec![ALL.to_owned()]);
        }
    }
    let mut entries: Vec<(String, Value)> = Vec::new();
    if let Some(result) = result {
        entries.push(("result".to_owned(), Value::text(result)));
    }
    for (key, names) in [("branches", branches), ("tags", tags)] {
        if let Some(names) = names {
            entries.push((key.to_owned(), Value::texts(names)));
        }
    }
    if !all {
        entries.push(("triggers".to_owned(), Value::texts(triggers)));
    }
    Ok(match (entries.len(), result) {
        (0, _) => None,
        (1, Some(result)) => Some(Value::text(result)),
        _ => Some(Value::Map(entries)),
    })
}
