//! Which work may begin: everything whose predecessors are done, and nothing behind a failure.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::name::StackName;

/// Work on stacks that depend on each other.
#[derive(Debug)]
pub struct Graph {
    waiting: BTreeMap<StackName, BTreeSet<StackName>>,
    order: Vec<StackName>,
    running: BTreeSet<StackName>,
    failed: BTreeSet<StackName>,
}

impl Graph {
    /// Stacks, each with those that have to be done before it. Predecessors that are not
    /// themselves in `stacks` do not count.
    pub fn new(stacks: Vec<(StackName, Vec<StackName>)>) -> Self {
        let order: Vec<StackName> = stacks.iter().map(|(name, _)| name.clone()).collect();
        let waiting = stacks
            .into_iter()
            .map(|(name, before)| (name, before.into_iter().filter(|b| order.contains(b)).collect()))
            .collect();
        Self { waiting, order, running: BTreeSet::new(), failed: BTreeSet::new() }
    }

    /// The same with every edge turned round: what uses something goes before it.
    pub fn reversed(stacks: Vec<(StackName, Vec<StackName>)>) -> Self {
        let users = |name: &StackName| {
            stacks.iter().filter(|(_, before)| before.contains(name)).map(|(user, _)| user.clone()).collect()
        };
        let turned = stacks.iter().rev().map(|(name, _)| (name.clone(), users(name))).collect();
        Self::new(turned)
    }

    /// The stacks whose turn it is now; each is given once.
    pub fn ready(&mut self) -> Vec<StackName> {
        let ready: Vec<StackName> = self
            .order
            .iter()
            .filter(|name| self.waiting.get(*name).is_some_and(BTreeSet::is_empty))
            .cloned()
            .collect();
        for name in &ready {
            self.waiting.remove(name);
            self.running.insert(name.clone());
        }
        ready
    }

    /// Takes note of the end of a stack's work; returns what is never to begin because of it.
    pub fn finished(&mut self, name: &StackName, well: bool) -> Vec<StackName> {
        self.running.remove(name);
        if well {
            for before in self.waiting.values_mut() {
                before.remove(name);
            }
            return Vec::new();
        }
        self.failed.insert(name.clone());
        let mut skipped = Vec::new();
        // The order is one of dependency, so one pass reaches everything behind it.
        for candidate in &self.order {
            let Some(before) = self.waiting.get(candidate) else { continue };
            if before.iter().any(|b| self.failed.contains(b)) {
                self.failed.insert(candidate.clone());
                self.waiting.remove(candidate);
                skipped.push(candidate.clone());
            }
        }
        skipped
    }

    /// Gives up what has not begun, and returns it.
    pub fn abandon(&mut self) -> Vec<StackName> {
        let left = self.order.iter().filter(|name| self.waiting.contains_key(*name)).cloned().collect();
        self.waiting.clear();
        left
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_done(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> StackName {
        text.parse().expect("a name")
    }

    fn stacks(edges: &[(&str, &[&str])]) -> Vec<(StackName, Vec<StackName>)> {
        edges.iter().map(|(to, from)| (name(to), from.iter().map(|f| name(f)).collect())).collect()
    }

    fn texts(names: Vec<StackName>) -> Vec<String> {
        names.into_iter().map(String::from).collect()
    }

    #[test]
    fn independent_stacks_go_together() {
        let mut graph =
            Graph::new(stacks(&[("network", &[]), ("control", &["network"]), ("workers", &["network"])]));
        assert_eq!(texts(graph.ready()), ["network"]);
        assert!(graph.ready().is_empty());
        graph.finished(&name("network"), true);
        assert_eq!(texts(graph.ready()), ["control", "workers"]);
        graph.finished(&name("control"), true);
        assert!(!graph.is_done());
        graph.finished(&name("workers"), true);
        assert!(graph.is_done());
    }

    #[test]
    fn everything_behind_a_failure_is_skipped_and_nothing_else() {
        let edges: &[(&str, &[&str])] = &[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])];
        let mut graph = Graph::new(stacks(edges));
        assert_eq!(texts(graph.ready()), ["a", "d"]);
        assert_eq!(texts(graph.finished(&name("a"), false)), ["b", "c"]);
        graph.finished(&name("d"), true);
        assert!(graph.is_done());
    }

    #[test]
    fn deletion_goes_the_other_way_round() {
        let edges: &[(&str, &[&str])] =
            &[("network", &[]), ("control", &["network"]), ("workers", &["network"])];
        let mut graph = Graph::reversed(stacks(edges));
        assert_eq!(texts(graph.ready()), ["workers", "control"]);
        graph.finished(&name("workers"), true);
        assert!(graph.ready().is_empty());
        graph.finished(&name("control"), true);
        assert_eq!(texts(graph.ready()), ["network"]);
    }
}
