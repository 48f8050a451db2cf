//! `pipelines/*.yaml`: a mapping from pipeline names to their steps.

use std::time::Duration;

use super::decode::{Fields, Reader};
use crate::model::pipeline::{Action, Pipeline, Step};
use crate::model::run::After;
use crate::model::setting::Place;
use crate::source::{Diagnostic, Span};
use crate::yaml::Node;

mod infra;
mod matrix;
mod notices;
mod own;
mod steps;
mod triggers;

pub use own::{OwnProblems, own_steps};
pub(super) use steps::not_a_value;
pub(super) use triggers::patterns;

/// A pipeline as far as it could be read.
#[derive(Debug)]
pub struct Decoded {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// Where its repository is named.
    pub repository: Span,
    /// Whether all of its steps could be read.
    pub complete: bool,
}

/// Decodes one file.
pub fn decode(reader: &mut Reader<'_>, root: &Node) -> Vec<Decoded> {
    let entries = reader.entries(root, "a file of pipelines");
    entries.iter().filter_map(|(key, value)| pipeline(reader, key, value)).collect()
}

fn pipeline(reader: &mut Reader<'_>, key: &Node, value: &Node) -> Option<Decoded> {
    let name = reader.name(key);
    let keys =
        ["repository", "on", "paths", "parameters", "supersede", "notify", "timeout", "steps", "allow"];
    let fields = reader.fields(value, key.span, "a pipeline", &keys)?;
    let node = reader.required(&fields, "repository");
    let repository_span = node.map_or(key.span, |node| node.span);
    let repository = node.and_then(|node| reader.name(node));
    let paths = fields.get("paths").map(|node| paths(reader, node)).unwrap_or_default();
    let triggers = triggers::triggers(reader, &fields);
    let parameters = triggers::parameters(reader, &fields, &triggers);
    let supersede = triggers::supersede(reader, &fields);
    let notices = fields.get("notify").map(|node| notices::notices(reader, node)).unwrap_or_default();
    let all = timeout(reader, &fields);
    let node = reader.required(&fields, "steps");
    let is_own = node.is_some_and(|node| node.entries().is_some());
    let allow = own::allow(reader, &fields, is_own);
    let own = node.filter(|_| is_own).and_then(|node| own::own(reader, node, node.span, allow));
    let (steps, complete) = match node {
        Some(node) if !is_own => read_steps(reader, node, all),
        _ => (Vec::new(), true),
    };
    let place = Place::new(reader.file, key.span);
    let (name, repository) = (name?, repository?);
    let pipeline =
        Pipeline { name, repository, triggers, paths, parameters, supersede, notices, steps, own, place };
    Some(Decoded { pipeline, repository: repository_span, complete })
}

/// The most steps of a pipeline, those of matrices included: each may be a container, and all may be under way at once.
const STEPS_MOST: usize = 256;

/// The steps of a list, and whether all of them could be read. `all` is the timeout of those without one.
fn read_steps(reader: &mut Reader<'_>, node: &Node, all: Option<Duration>) -> (Vec<Step>, bool) {
    let items = reader.items(node, "`steps`");
    if items.is_empty() && node.items().is_some() {
        let diagnostic = Diagnostic::error("missing-key", "a pipeline needs at least one step");
        reader.problem(diagnostic, node.span, "this is empty");
    }
    let mut parsed = Vec::new();
    let mut read = 0;
    for item in items {
        let steps = steps::step(reader, item);
        read += usize::from(!steps.is_empty());
        parsed.extend(steps);
    }
    let complete = read == items.len();
    if parsed.len() > STEPS_MOST {
        let message = format!("these are {} steps, and a pipeline has at most {STEPS_MOST}", parsed.len());
        let help = "let another pipeline run after this one, or a step do more";
        reader.problem(Diagnostic::error("bad-value", message).help(help), node.span, "");
        parsed.truncate(STEPS_MOST);
    }
    let mut steps = connected(reader, parsed, complete);
    infra::planned(reader, &mut steps, complete);
    // People take longer.
    let machines = steps.iter_mut().filter(|step| !matches!(step.action, Action::Approve(_)));
    machines.for_each(|step| step.timeout = step.timeout.or(all));
    (steps, complete)
}

/// Patterns of files that set a pipeline off.
fn paths(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let items = reader.items(node, "`paths`");
    if items.is_empty() && node.items().is_some() {
        let diagnostic =
            Diagnostic::error("bad-value", "`paths` is empty, so that nothing sets the pipeline off");
        reader.problem(diagnostic, node.span, "name files, such as `web/**`, or remove it");
    }
    let mut patterns = Vec::new();
    for item in items {
        let Some(text) = reader.text(item, "a pattern of `paths`") else { continue };
        let bare = text.strip_prefix('!').unwrap_or(text);
        let part = |part: &str| matches!(part, "" | "." | "..");
        let label = if bare.trim_end_matches('/').split('/').any(part) {
            Some("write a path inside the repository, such as `web/**`")
        } else {
            unlike_pattern(bare)
        };
        match label {
            Some(label) => {
                let message = format!("`{text}` is no pattern of files");
                reader.problem(Diagnostic::error("bad-value", message), item.span, label);
            }
            None => patterns.push(text.to_owned()),
        }
    }
    if !patterns.is_empty() && patterns.iter().all(|pattern| pattern.starts_with('!')) {
        let diagnostic =
            Diagnostic::error("bad-value", "`paths` only says what does not set the pipeline off");
        reader.problem(diagnostic, node.span, "begin with a pattern without `!`, such as `**`");
    }
    patterns
}

/// What is wrong with a pattern, if anything.
fn unlike_pattern(text: &str) -> Option<&'static str> {
    text.contains(['[', ']', '\\', '{', '}'])
        .then_some("`*`, `**` and `?` are what stands for something else")
}

/// A step before the names that it needs are looked up.
#[derive(Clone)]
struct Parsed {
    step: Step,
    /// What other steps call it.
    name: String,
    /// What it needs.
    needs: Needs,
    /// Which of the steps of its matrix it is, from 0, and of how many.
    twin: (usize, usize),
}

/// The names of steps with their places; `None` for the step before.
type Needs = Option<Vec<(String, Span)>>;

/// The steps with the positions of those that each of them needs. Where some could not be read, a name that is missing may
/// be theirs.
fn connected(reader: &mut Reader<'_>, parsed: Vec<Parsed>, complete: bool) -> Vec<Step> {
    let names: Vec<(String, usize)> = parsed.iter().map(|one| (one.name.clone(), one.twin.0)).collect();
    let mut steps: Vec<Step> = Vec::new();
    // The step before, or those of its matrix; and the last of which it is sure that it runs.
    let (mut before, mut sure): (Vec<usize>, Vec<usize>) = Default::default();
    let mut last: Vec<usize> = Vec::new();
    for (index, Parsed { mut step, needs, twin, .. }) in parsed.into_iter().enumerate() {
        if twin.0 == 0 && !last.is_empty() {
            before = std::mem::take(&mut last);
            if before.iter().all(|before| steps[*before].when.after != After::Failure) {
                sure.clone_from(&before);
            }
        }
        last.push(index);
        // The steps of one matrix do not need each other.
        let names = &names[..];
        let first = index - twin.0;
        let span = needs.iter().flatten().map(|(_, span)| *span).next();
        step.needs = match &needs {
            None if step.when.after == After::Success => sure.clone(),
            None => before.clone(),
            Some(needs) => {
                let found = needs
                    .iter()
                    .map(|need| needed(reader, names, first, (&need.0, need.1), (complete, twin.0 == 0)));
                found.flatten().collect()
            }
        };
        if let Some(need) = step.needs.iter().find(|need| steps[**need].when.after == After::Failure)
            && step.when.after == After::Success
            && let Some(span) = span
        {
            let message =
                format!("`{}` runs only after a failure, and this step only without one", names[*need].0);
            let diagnostic = Diagnostic::error("conflicting-keys", message);
            reader.problem(diagnostic, span, "such a step would never run");
        }
        steps.push(step);
    }
    steps
}

/// The positions of the steps of that name before the one at `index`: those of one matrix. Steps stand after those that they
/// need, so there are no circles.
fn needed(
    reader: &mut Reader<'_>,
    names: &[(String, usize)],
    index: usize,
    (name, span): (&str, Span),
    (complete, says): (bool, bool),
) -> Vec<usize> {
    let positions = |names: &[(String, usize)]| -> Vec<usize> {
        let found = names.iter().enumerate().filter(|(_, (known, _))| known == name);
        found.map(|(position, _)| position).collect()
    };
    let found = positions(&names[..index]);
    let several = found.iter().filter(|position| names[**position].1 == 0).count() > 1;
    if !found.is_empty() && !several {
        return found;
    }
    // The steps of a matrix stand in the file once.
    if !says {
        return Vec::new();
    }
    if several {
        let message = format!("several steps before this one are called `{name}`");
        let diagnostic = Diagnostic::error("ambiguous-step", message);
        reader.problem(diagnostic, span, "give each of them a `name`");
    } else if !positions(names).is_empty() {
        let message = format!("`{name}` does not stand before the step that needs it");
        reader.problem(Diagnostic::error("unknown-step", message), span, "move it up");
    } else if complete {
        let mut known: Vec<&str> = names[..index].iter().map(|(name, _)| name.as_str()).collect();
        known.dedup();
        let diagnostic =
            Diagnostic::error("unknown-step", format!("there is no step `{name}` before this one"));
        super::did_you_mean(reader, diagnostic, span, name, &known, "the pipeline so far");
    }
    Vec::new()
}

/// The steps that a step needs.
fn needs(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Needs {
    let items = reader.items(fields.get("needs")?, "`needs`");
    let name = |item: &Node| Some((reader.text(item, "the name of a step")?.to_owned(), item.span));
    Some(items.iter().filter_map(name).collect())
}

/// How long a step may take: whole seconds, up to a day.
fn timeout(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Duration> {
    let node = fields.get("timeout")?;
    let timeout = reader.duration(node, "`timeout`")?;
    if timeout < Duration::from_secs(1) || timeout > Duration::from_secs(24 * 3600) {
        let diagnostic = Diagnostic::error("bad-value", "a `timeout` is from `1s` to `24h`");
        reader.problem(diagnostic, node.span, "this is not");
        return None;
    }
    Some(timeout)
}
