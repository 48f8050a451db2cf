//! What a build reports, as lines while it happens.

use std::collections::HashMap;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

use crate::adapter::output;
use crate::model::redact::Mask;
use crate::port::images::Lines;

/// The steps of one build.
pub(super) struct Progress<'a> {
    mask: &'a Mask,
    lines: Lines<'a>,
    steps: HashMap<String, Step>,
    /// The step whose output was shown last: steps run side by side, and output of another
    /// begins with its name again.
    shown: Option<String>,
    failed: Option<String>,
}

struct Step {
    name: String,
    begun: bool,
    ended: bool,
    output: output::Lines,
}

impl<'a> Progress<'a> {
    pub(super) fn new(mask: &'a Mask, lines: Lines<'a>) -> Self {
        Self { mask, lines, steps: HashMap::new(), shown: None, failed: None }
    }

    pub(super) fn take(&mut self, status: &StatusResponse) {
        for vertex in &status.vertexes {
            let step = self.steps.entry(vertex.digest.clone()).or_insert_with(|| Step {
                name: vertex.name.clone(),
                begun: false,
                ended: false,
                output: output::Lines::new(self.mask),
            });
            // What the builder does for itself is shown only when it fails.
            let internal = vertex.name.starts_with("[internal]");
            if vertex.started.is_some() && !step.begun {
                step.begun = true;
                if !internal && !vertex.cached {
                    (self.lines)(&vertex.name);
                    self.shown = Some(vertex.digest.clone());
                }
            }
            if vertex.completed.is_some() && !step.ended {
                step.ended = true;
                if vertex.cached && !internal {
                    (self.lines)(&format!("CACHED {}", vertex.name));
                }
            }
            // Steps that are cancelled because another failed come later.
            if !vertex.error.is_empty() && self.failed.is_none() && !vertex.error.contains("context canceled")
            {
                self.failed = Some(vertex.name.clone());
            }
        }
        for log in &status.logs {
            let Some(step) = self.steps.get_mut(&log.vertex) else { continue };
            let (lines, shown) = (self.lines, &mut self.shown);
            let (name, vertex) = (&step.name, &log.vertex);
            let mut take = |line: &str| {
                if shown.as_ref() != Some(vertex) {
                    lines(name);
                    *shown = Some(vertex.clone());
                }
                lines(line);
            };
            step.output.push(&log.msg, &mut take);
        }
    }

    /// Passes on what has no line end.
    pub(super) fn end(&mut self) {
        let lines = self.lines;
        for step in self.steps.values_mut() {
            step.output.end(&mut |line: &str| lines(line));
        }
    }

    /// The step that failed, by the builder's name for it.
    pub(super) fn failed(&self) -> Option<String> {
        self.failed.clone()
    }
}
