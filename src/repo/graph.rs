//! The order of stacks that their references make, and the circles in it.

use crate::model::name::StackName;
use crate::model::stack::Stack;
use crate::source::Diagnostic;

/// The stacks' indexes, each after those it refers to, otherwise as they stand. Stacks
/// in circles, and what depends on them, are left out.
pub fn order(stacks: &[Stack]) -> Vec<usize> {
    order_with(stacks, &|_| Vec::new())
}

/// Like [`order`], where a stack also comes after those that `more` names for it.
pub fn order_with(stacks: &[Stack], more: &dyn Fn(usize) -> Vec<usize>) -> Vec<usize> {
    let mut placed = vec![false; stacks.len()];
    let mut order = Vec::with_capacity(stacks.len());
    let before: Vec<Vec<usize>> = (0..stacks.len())
        .map(|index| {
            dependencies(stacks, index).into_iter().map(|(other, _)| other).chain(more(index)).collect()
        })
        .collect();
    while let Some(next) =
        (0..stacks.len()).find(|&index| !placed[index] && before[index].iter().all(|&other| placed[other]))
    {
        placed[next] = true;
        order.push(next);
    }
    order
}

/// The stacks that `index` refers to, with the number of the reference.
fn dependencies(stacks: &[Stack], index: usize) -> Vec<(usize, usize)> {
    references(&stacks[index])
        .enumerate()
        .filter_map(|(number, name)| Some((stacks.iter().position(|stack| stack.name == *name)?, number)))
        .collect()
}

fn references(stack: &Stack) -> impl Iterator<Item = &StackName> {
    stack.parameters.iter().flat_map(|parameter| &parameter.references).map(|(reference, _)| &reference.stack)
}

/// Reports each circle once, with all of its stacks.
pub fn check_cycles(stacks: &[Stack], problems: &mut Vec<Diagnostic>) {
    let placed = order(stacks);
    let mut reported = vec![false; stacks.len()];
    for &index in &placed {
        reported[index] = true;
    }
    for start in 0..stacks.len() {
        if reported[start] {
            continue;
        }
        // Every stack left refers to another one left: following them must come round.
        let mut path = vec![start];
        let circle = loop {
            let last = path[path.len() - 1];
            let next = dependencies(stacks, last)
                .into_iter()
                .map(|(other, _)| other)
                .find(|other| !reported[*other]);
            let Some(next) = next else { break &[][..] };
            if let Some(at) = path.iter().position(|&index| index == next) {
                break &path[at..];
            }
            path.push(next);
        };
        for &index in &path {
            reported[index] = true;
        }
        report(stacks, circle, problems);
    }
}

fn report(stacks: &[Stack], circle: &[usize], problems: &mut Vec<Diagnostic>) {
    let Some(&first) = circle.first() else { return };
    let next = circle.get(1).copied().unwrap_or(first);
    let names: Vec<String> =
        circle.iter().chain([&first]).map(|&index| format!("`{}`", stacks[index].name)).collect();
    let mut diagnostic = Diagnostic::error(
        "reference-cycle",
        format!("stacks refer to each other in a circle: {}", names.join(" -> ")),
    );
    let step = |from: usize, to: usize| {
        let references = stacks[from].parameters.iter().flat_map(|parameter| &parameter.references);
        references.into_iter().find(|(reference, _)| reference.stack == stacks[to].name)
    };
    if let Some((_, place)) = step(first, next) {
        diagnostic = diagnostic.at(
            &place.file,
            place.span,
            format!("`{}` needs `{}`", stacks[first].name, stacks[next].name),
        );
    }
    for (position, &from) in circle.iter().enumerate().skip(1) {
        let to = circle.get(position + 1).copied().unwrap_or(first);
        if let Some((reference, place)) = step(from, to) {
            diagnostic = diagnostic.help(format!("`{}` needs `{reference}` at {place}", stacks[from].name));
        }
    }
    problems.push(diagnostic.help("break the circle: one of these values must come from somewhere else"));
}
