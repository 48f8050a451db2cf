//! Resources that need each other in a circle.

use super::Check;
use crate::source::{Diagnostic, Span};

impl Check<'_> {
    /// Tells each circle once, at the reference that closes it.
    pub fn cycles(&mut self) {
        if self.template.open {
            return;
        }
        if self.template.serverless {
            // What refers to a serverless resource may mean what is made of it.
            for (index, edges) in self.edges.iter_mut().enumerate() {
                edges.retain(|(target, _)| *target == index);
            }
        }
        let mut told = vec![false; self.edges.len()];
        for start in 0..self.edges.len() {
            if told[start] {
                continue;
            }
            let Some(circle) = self.circle(start) else { continue };
            if circle.iter().any(|(index, _)| told[*index]) {
                continue;
            }
            circle.iter().for_each(|(index, _)| told[*index] = true);
            if let [(index, span)] = circle[..] {
                let message =
                    format!("resource `{}` depends on itself", self.template.resources[index].part.name);
                self.error("resource-cycle", message, span, "");
                continue;
            }
            let name = |index: usize| self.template.resources[index].part.name;
            let mut names: Vec<String> =
                circle.iter().map(|(index, _)| format!("`{}`", name(*index))).collect();
            names.push(names[0].clone());
            let message = format!("resources need each other in a circle: {}", names.join(" -> "));
            let Some(&(_, span)) = circle.last() else { continue };
            let diagnostic = Diagnostic::error("resource-cycle", message)
                .at(self.file, self.line(span), format!("this leads back to {}", names[0]))
                .help("break it with a resource of its own for the link, such as a rule of a security group");
            self.push(diagnostic);
        }
    }

    /// The shortest way from `start` back to itself: each resource with its reference to the next.
    fn circle(&self, start: usize) -> Option<Vec<(usize, Span)>> {
        let mut from: Vec<Option<(usize, Span)>> = vec![None; self.edges.len()];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(at) = queue.pop_front() {
            for &(next, span) in &self.edges[at] {
                if next == start {
                    let mut way = vec![(at, span)];
                    let mut at = at;
                    while at != start {
                        let (before, span) = from[at]?;
                        way.push((before, span));
                        at = before;
                    }
                    way.reverse();
                    return Some(way);
                }
                if from[next].is_none() {
                    from[next] = Some((at, span));
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
