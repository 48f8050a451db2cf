//! What the stacks of an environment export to each other, and exports that two of them have.

use std::collections::{BTreeMap, HashMap};

use super::Renderer;
use crate::model::project::Environment;
use crate::model::stack::Stack;
use crate::repo::cloudformation::Body;
use crate::repo::exports::{Export, Names, Trade};
use crate::repo::names;
use crate::repo::templates::MadeUserData;
use crate::source::Diagnostic;

type Bodies = HashMap<usize, (Body, Vec<MadeUserData>)>;

impl Renderer<'_> {
    /// What the stacks export to each other; empty when none does.
    pub(super) fn trades(&self, environment: &Environment, stacks: &[Stack], bodies: &Bodies) -> Vec<Trade> {
        let trades = |body: &Body| body.terms.is_some() || !body.children.is_empty();
        if !bodies.values().any(|(body, _)| trades(body)) {
            return Vec::new();
        }
        let region = environment.region.shown();
        let trade = |(index, stack): (usize, &Stack)| {
            let Some((body, _)) = bodies.get(&index) else { return Trade::default() };
            let names = Names::of(stack, &names::cloud_name(self.repository, environment, stack), region);
            let given: Vec<&str> = stack.parameters.iter().map(|p| p.name.as_str()).collect();
            of(body, names, &given, region)
        };
        stacks.iter().enumerate().map(trade).collect()
    }

    /// CloudFormation refuses an export whose name another stack of the account and region has.
    pub(super) fn check_exports(&self, bodies: &Bodies, trades: &[Trade], problems: &mut Vec<Diagnostic>) {
        let mut seen: BTreeMap<&str, (usize, &Export)> = BTreeMap::new();
        for (index, trade) in trades.iter().enumerate() {
            for export in trade.exports.iter().filter(|export| export.sure) {
                let Some((first, other)) = seen.insert(&export.name, (index, export)) else { continue };
                let Some((body, _)) = bodies.get(&index) else { continue };
                let told = |index: usize, export: &Export| match &export.nested {
                    Some(nested) => {
                        let (output, stack) = (&export.output, &self.repository.stacks[index].name);
                        format!("output `{output}` of `{nested}`, nested in stack `{stack}`")
                    }
                    None => format!(
                        "output `{}` of stack `{}`",
                        export.output, self.repository.stacks[index].name
                    ),
                };
                let message = format!(
                    "the name `{}` is exported twice: by {} and by {}",
                    export.name,
                    told(first, other),
                    told(index, export)
                );
                let span = match &export.nested {
                    Some(nested) => body.children.iter().find(|c| c.resource == *nested).map(|c| c.place),
                    None => body.outputs.iter().find(|o| o.name == export.output).map(|o| o.span),
                };
                let problem = Diagnostic::error("duplicate-export", message)
                    .help("names of exports are unique in an account and region; `!Sub \"${AWS::StackName}-...\"` makes them so");
                let label = "CloudFormation refuses the second";
                problems.push(match span {
                    Some(span) => body.at(problem, span, label),
                    None => body.at(problem, crate::source::Span::new(0, 0), label),
                });
            }
        }
    }
}

/// What a stack trades, with all that is nested in it.
fn of(body: &Body, names: Names, given: &[&str], region: &str) -> Trade {
    let mut trade = match &body.terms {
        Some(terms) => terms.trade(names, given),
        None => Trade::default(),
    };
    for child in &body.children {
        let known = child.given.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)));
        let names = Names::nested(known, region);
        let given: Vec<&str> = child.given.iter().map(|(name, _)| name.as_str()).collect();
        trade.include(&child.resource, of(&child.body, names, &given, region));
    }
    trade
}
