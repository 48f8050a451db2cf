//! What of a run happens on somebody's own computer. Pure.

use std::collections::BTreeSet;

use crate::model::run::{RunConfig, StepAction};

/// A secret that a step needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededSecret {
    /// The variable, or the id in a build.
    pub name: String,
    /// The parameter that holds it where the server runs the pipeline.
    pub parameter: String,
    /// The step.
    pub step: String,
}

/// Leaves out what only a server does, and what is not `wanted` where any step is: of those, what they need stays.
pub fn leave_out(config: &mut RunConfig, wanted: &[usize]) {
    for (index, step) in config.steps.iter().enumerate() {
        let reason = match step {
            StepAction::Source | StepAction::Build(_) | StepAction::Run(_) => continue,
            StepAction::Approve(_) => "a local run asks nobody",
            _ => "a local run changes nothing outside of this computer",
        };
        config.left_out.entry(index).or_insert_with(|| reason.to_owned());
    }
    if wanted.is_empty() {
        return;
    }
    let mut kept = BTreeSet::new();
    let mut open = wanted.to_vec();
    while let Some(index) = open.pop() {
        if kept.insert(index) {
            open.extend(config.needs(index));
            open.extend(builders(config, index));
        }
    }
    for index in (0..config.steps.len()).filter(|index| !kept.contains(index)) {
        config
            .left_out
            .entry(index)
            .or_insert_with(|| "it is not among the steps that were asked for".to_owned());
    }
}

/// The steps before that build the images that a command uses.
fn builders(config: &RunConfig, index: usize) -> Vec<usize> {
    let StepAction::Run(script) = &config.steps[index] else { return Vec::new() };
    let builds = config.steps[..index].iter().enumerate().filter(|(_, step)| match step {
        StepAction::Build(build) => {
            build.image == script.image
                || script.companions.iter().any(|companion| companion.image == build.image)
        }
        _ => false,
    });
    builds.map(|(index, _)| index).collect()
}

/// Whether any step is run.
pub fn does_anything(config: &RunConfig) -> bool {
    let steps = config.steps.iter().enumerate();
    steps
        .filter(|(index, _)| !config.left_out.contains_key(index))
        .any(|(_, step)| matches!(step, StepAction::Build(_) | StepAction::Run(_)))
}

/// The secrets of the steps that are run, sorted.
pub fn needed_secrets(config: &RunConfig) -> Vec<NeededSecret> {
    let mut needed: Vec<NeededSecret> = config
        .secrets()
        .map(|(step, name, parameter)| NeededSecret {
            name: name.to_owned(),
            parameter: parameter.to_owned(),
            step: step.name(),
        })
        .collect();
    needed.sort();
    needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::After;
    use crate::plan::run::tests::{commands, config};

    #[test]
    fn what_changes_something_elsewhere_is_left_out_and_what_a_wanted_step_needs_is_not() {
        let mut all = config();
        leave_out(&mut all, &[]);
        assert_eq!(all.left_out.keys().copied().collect::<Vec<_>>(), [1]);
        assert!(does_anything(&all));
        // s3 needs s1; s2 and s4 are not asked for.
        let mut some = commands(&[vec![], vec![0], vec![0], vec![2]], &[After::Success; 4]);
        if let StepAction::Run(script) = &mut some.steps[3] {
            script.secrets.insert("LOGIN".to_owned(), "/team/login".to_owned());
        }
        if let StepAction::Run(script) = &mut some.steps[2] {
            script.secrets.insert("OTHER".to_owned(), "/team/other".to_owned());
        }
        assert_eq!(needed_secrets(&some).len(), 2);
        leave_out(&mut some, &[3]);
        assert_eq!(some.left_out.keys().copied().collect::<Vec<_>>(), [2, 4]);
        let needed = needed_secrets(&some);
        assert_eq!(needed.len(), 1, "{needed:?}");
        assert_eq!((needed[0].name.as_str(), needed[0].step.as_str()), ("LOGIN", "run s3"));
        // An image that a step before builds is built, though the command does not name that step.
        let mut built = config();
        let mut test = commands(&[vec![]], &[After::Success]).steps.remove(1);
        if let StepAction::Run(script) = &mut test {
            script.image = "demo/web".to_owned();
        }
        built.steps.push(test);
        built.needs = vec![vec![], vec![0], vec![]];
        leave_out(&mut built, &[2]);
        assert_eq!(built.left_out.keys().copied().collect::<Vec<_>>(), [1]);
    }
}
