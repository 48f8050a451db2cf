//! Apply and destroy as they go: one line a stack when it is done, and on a terminal a
//! live line for each that is at work.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use super::paint::{BAD, BOLD, DIM, GOOD, Paint};
use super::time;
use super::words::{count, list};
use crate::event::stack::{Outcome, StackEvent, Work};

/// What the lines are made from: it takes events and gives lines, and prints nothing itself.
#[derive(Debug)]
pub struct Board {
    paint: Paint,
    width: usize,
    streaming: bool,
    at_work: BTreeMap<String, AtWork>,
}

#[derive(Debug)]
struct AtWork {
    work: Work,
    resources: Option<u32>,
    done: BTreeSet<String>,
    busy: Vec<String>,
    last: Option<String>,
}

impl Board {
    /// For stacks of these names. With `streaming`, every resource that is done gets a line
    /// of its own, for readers that have no live line.
    pub fn new<'n>(names: impl IntoIterator<Item = &'n str>, paint: Paint, streaming: bool) -> Self {
        let width = names.into_iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Self { paint, width, streaming, at_work: BTreeMap::new() }
    }

    /// Takes an event; returns the lines that are to stay.
    pub fn take(&mut self, event: &StackEvent) -> Vec<String> {
        match event {
            StackEvent::Started { stack, work, resources } => {
                let at_work = AtWork {
                    work: *work,
                    resources: *resources,
                    done: BTreeSet::new(),
                    busy: Vec::new(),
                    last: None,
                };
                self.at_work.insert(stack.clone(), at_work);
                if self.streaming && *work == Work::Wait {
                    return vec![format!("{:w$}  … being changed already; waiting", stack, w = self.width)];
                }
                Vec::new()
            }
            StackEvent::Resource { stack, resource, resource_type, status, reason } => {
                self.resource(stack, resource, resource_type, status, reason)
            }
            StackEvent::Said { stack, text } => {
                vec![format!("{:w$}  {} {text}", stack, self.paint.paint(DIM, "|"), w = self.width)]
            }
            StackEvent::Finished { stack, outcome, seconds, failure } => {
                self.at_work.remove(stack);
                let mut lines = vec![self.finished(stack, *outcome, *seconds)];
                if let Some(failure) = failure {
                    let indent = " ".repeat(self.width);
                    lines.push(format!("{indent}  cause: {}", failure.cause));
                    lines.extend(failure.at.as_ref().map(|at| format!("{indent}     at: {at}")));
                    lines.push(format!("{indent}   next: {}", failure.next));
                }
                lines
            }
        }
    }

    /// The stacks at work.
    pub fn at_work(&self) -> impl Iterator<Item = &str> {
        self.at_work.keys().map(String::as_str)
    }

    /// The live line of a stack, without spinner and time.
    pub fn live(&self, stack: &str) -> String {
        let Some(at_work) = self.at_work.get(stack) else { return String::new() };
        let verb = match at_work.work {
            Work::Create => "creating",
            Work::Update => "updating",
            Work::Delete => "deleting",
            Work::Import => "importing",
            Work::Wait => "waiting",
        };
        let mut line = format!("{verb:9}");
        if let Some(last) = &at_work.last {
            let _ = write!(line, "  {last} ✓");
        }
        match at_work.busy.as_slice() {
            [] => {}
            [one] => {
                let _ = write!(line, "  {one} …");
            }
            [first, rest @ ..] => {
                let _ = write!(line, "  {first} … and {} more", rest.len());
            }
        }
        if let Some(all) = at_work.resources {
            let _ = write!(line, "  {}/{all}", at_work.done.len().min(all as usize));
        }
        line
    }

    fn resource(
        &mut self,
        stack: &str,
        resource: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Vec<String> {
        // The stack's own status is told by its own line.
        if kind == "AWS::CloudFormation::Stack"
            && !self.at_work.contains_key(resource)
            && resource.ends_with(stack)
        {
            return Vec::new();
        }
        if let Some(at_work) = self.at_work.get_mut(stack) {
            at_work.busy.retain(|busy| busy != resource);
            if status.ends_with("_IN_PROGRESS") {
                at_work.busy.push(resource.to_owned());
            } else if status.ends_with("_COMPLETE") {
                at_work.done.insert(resource.to_owned());
                at_work.last = Some(resource.to_owned());
            }
        }
        if !self.streaming || status.ends_with("_IN_PROGRESS") {
            return Vec::new();
        }
        let word = status.to_lowercase().replace('_', " ");
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        let line = format!("{:w$}    {resource} {word}{reason}", stack, w = self.width);
        vec![self.paint.paint(DIM, &line)]
    }

    fn finished(&self, stack: &str, outcome: Outcome, seconds: f64) -> String {
        let (style, sign, words) = match outcome {
            Outcome::Created => (GOOD, "✓", "created"),
            Outcome::Updated => (GOOD, "✓", "updated"),
            Outcome::Deleted => (GOOD, "✓", "deleted"),
            Outcome::Unchanged => (GOOD, "✓", "unchanged"),
            Outcome::Imported => (GOOD, "✓", "imported"),
            Outcome::Settled => (GOOD, "✓", "at rest"),
            Outcome::Failed => (BAD, "✗", "failed"),
            Outcome::Blocked => (BAD, "✗", "blocked"),
            Outcome::Skipped => (DIM, "-", "skipped: what it depends on failed"),
            Outcome::NotBegun => (DIM, "-", "not begun"),
            Outcome::LeftRunning => (DIM, "…", "left to CloudFormation, which goes on with it"),
        };
        let name = self.paint.paint(BOLD, &format!("{stack:w$}", w = self.width));
        let sign = self.paint.paint(style, sign);
        let line = match outcome {
            Outcome::Blocked | Outcome::Skipped | Outcome::NotBegun | Outcome::LeftRunning => {
                format!("{name}  {sign} {words}")
            }
            Outcome::Created
            | Outcome::Updated
            | Outcome::Deleted
            | Outcome::Unchanged
            | Outcome::Imported
            | Outcome::Settled
            | Outcome::Failed => {
                let took = time::human(Duration::try_from_secs_f64(seconds).unwrap_or_default());
                format!("{name}  {sign} {words:40} {took:>8}")
            }
        };
        line.trim_end().to_owned()
    }
}

/// A stack that will be lost, with its machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The stack.
    pub stack: String,
    /// The ids of its machines.
    pub machines: Vec<String>,
}

/// What a destroy takes away, before it is asked for.
pub fn losses(name: &str, region: &str, losses: &[Loss]) -> String {
    let machines: usize = losses.iter().map(|loss| loss.machines.len()).sum();
    let mut text = format!("{name} in {region}: {}", count(losses.len(), "stack"));
    if machines > 0 {
        let _ = write!(text, " and {}, with everything that runs on them,", count(machines, "machine"));
    }
    text.push_str(" will be deleted.\n\n");
    let width = losses.iter().map(|loss| loss.stack.len()).max().unwrap_or(0);
    for loss in losses {
        let line = format!("  - {:width$}   {}", loss.stack, loss.machines.join(", "));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push('\n');
    text
}

/// The last line: how many stacks ended how.
pub fn summary(outcomes: &[Outcome], took: Duration) -> String {
    let words = |outcome: Outcome| match outcome {
        Outcome::Created => "created",
        Outcome::Updated => "updated",
        Outcome::Deleted => "deleted",
        Outcome::Unchanged => "unchanged",
        Outcome::Imported => "imported",
        Outcome::Settled => "at rest",
        Outcome::Failed => "failed",
        Outcome::Blocked => "blocked",
        Outcome::Skipped => "skipped",
        Outcome::NotBegun => "not begun",
        Outcome::LeftRunning => "left running",
    };
    let mut parts: Vec<(&str, usize)> = Vec::new();
    for outcome in outcomes {
        match parts.iter_mut().find(|(known, _)| *known == words(*outcome)) {
            Some((_, number)) => *number += 1,
            None => parts.push((words(*outcome), 1)),
        }
    }
    let parts: Vec<String> = parts
        .into_iter()
        .enumerate()
        .map(|(at, (words, number))| match at {
            0 => format!("{} {words}", count(number, "stack")),
            _ => format!("{number} {words}"),
        })
        .collect();
    format!("{} in {}.", list(&parts), time::human(took))
}

#[cfg(test)]
#[path = "stacks_tests.rs"]
mod tests;
