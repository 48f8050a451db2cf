//! `fleetwright apply`.

use std::sync::Arc;
use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, ask, cloud_failure, plan_failure};
use crate::driver::apply::{Report, apply, settle};
use crate::driver::follow::Pace;
use crate::driver::plan::{look, plan};
use crate::event::stack::Outcome;
use crate::plan::stack::{Consequence, Plan};
use crate::view;
use crate::view::paint::Paint;

/// Creates and updates the stacks, in dependency order
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Makes the plan, shows it, asks, and carries it out: a stack begins as soon as those it depends on
are done, independent ones at the same time. A change that would go beyond the plan is refused.
Stopped by Ctrl-C or killed, it can be run again and goes on.

Examples:
  fleetwright apply
  fleetwright apply -y                   without asking, for scripts
  fleetwright apply -y -o json           one event a line")]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let session = Session::begin(context).await?;
    let settled = settle(&session.shell(), &session.wanted).await.map_err(cloud_failure)?;
    if settled.was_stopped() {
        drop(session.flush(context).await);
        return Err(interrupted(&settled));
    }
    let found = look(session.cloud.as_ref(), session.groups.as_ref(), &session.wanted).await;
    let found = Arc::new(found.map_err(cloud_failure)?);
    let plan = {
        let (cloud, pace) = (session.cloud.as_ref(), Pace::adaptive());
        plan(cloud, &session.wanted, &found, &session.events, pace, &session.stop).await
    };
    let plan = Arc::new(plan.map_err(plan_failure)?);
    let session = session.flush(context).await;
    if !context.json() {
        eprint!("{}", view::plan::human(&plan, Paint(context.colour_err)));
    }
    if let Some((stack, blocked)) = plan.blocked().next() {
        let what = format!("stack `{}` is {}: {}", stack.stack, blocked.status, blocked.why);
        return Err(Failure::failed(what, blocked.next.clone()));
    }
    if plan.has_changes() && !args.yes {
        match ask("Apply this? [y/N]", "fleetwright apply", &session.stop).await? {
            Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => {}
            Some(_) | None => {
                let left = "nothing was changed".to_owned();
                return Err(Failure::Interrupted { left });
            }
        }
    }
    if !context.json() {
        eprintln!();
    }
    let since = Instant::now();
    let report = apply(&session.shell(), Arc::clone(&session.wanted), Arc::clone(&plan), found).await;
    drop(session.flush(context).await);
    if !context.json() {
        let outcomes: Vec<Outcome> = report.stacks.iter().map(|(_, outcome)| *outcome).collect();
        eprintln!("\n{}", view::stacks::summary(&outcomes, since.elapsed()));
    }
    if report.was_stopped() {
        return Err(interrupted(&report));
    }
    if !report.is_complete() {
        return Err(Failure::Reported);
    }
    if !context.json() {
        to_roll(&plan);
    }
    Ok(Done::Ok)
}

fn interrupted(report: &Report) -> Failure {
    let names = |outcome| {
        let names = report.ended(&[outcome]);
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>()
    };
    let (running, left) = (names(Outcome::LeftRunning), names(Outcome::NotBegun));
    let mut parts = Vec::new();
    if !running.is_empty() {
        parts.push(format!("CloudFormation goes on with {}", view::words::list(&running)));
    }
    if !left.is_empty() {
        parts.push(format!("{} not begun", view::words::list(&left)));
    }
    parts.push("`fleetwright apply` goes on from here".to_owned());
    Failure::Interrupted { left: parts.join("; ") }
}

/// What apply itself does not do to machines that run.
fn to_roll(plan: &Plan) {
    for stack in &plan.stacks {
        for consequence in &stack.consequences {
            let Consequence::MachinesToRoll { machines, .. } = consequence;
            let number = view::words::count(machines.len(), "machine");
            let runs = if machines.len() == 1 { "runs" } else { "run" };
            eprintln!(
                "{number} of {} {runs} an older launch template version: `fleetwright roll {}` replaces them.",
                stack.stack, stack.stack
            );
        }
    }
}
