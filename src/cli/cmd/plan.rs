//! `fleetwright plan`.

use std::io::Write as _;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, cloud_failure, plan_failure};
use crate::driver::follow::Pace;
use crate::driver::plan::{Found, look, plan};
use crate::event::Events;
use crate::view;
use crate::view::paint::Paint;

/// Shows what apply would change, down to the machines
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Compares the rendered stacks with what is deployed. For stacks that differ CloudFormation is asked
for a change set, which is deleted again: nothing is changed and nothing is left behind.

  + create   ~ update in place   ± replace   - delete   ! what follows for what runs

A claim is `confirmed` by CloudFormation, `predicted` from the templates, or `unknown` until apply.

Exit status: 0 no change, 3 changes, 1 failed or blocked, 2 invalid input.

Examples:
  fleetwright plan
  fleetwright plan -e production
  fleetwright plan --offline         predicted from the templates alone
  fleetwright plan -o json               one document, described in docs/json.md")]
pub struct Args {
    /// Predict from the templates alone, as if nothing were deployed; asks nobody anything
    #[arg(long)]
    offline: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let (session, found) = if args.offline {
        (Session::offline(context).await?, Found::default())
    } else {
        let session = Session::begin(context).await?;
        let found = look(session.cloud.as_ref(), session.groups.as_ref(), &session.wanted).await;
        (session, found.map_err(cloud_failure)?)
    };
    let cloud = session.cloud.as_ref();
    // A query gives one document and nothing else, so its progress is for people only.
    let (unheard, _) = Events::channel();
    let events = if context.json() { &unheard } else { &session.events };
    let pace = Pace::adaptive();
    let plan =
        plan(cloud, &session.wanted, &found, events, pace, &session.stop).await.map_err(plan_failure)?;
    drop(session.flush(context).await);
    if context.json() {
        let document = view::plan::json(&plan);
        let document = document
            .map_err(|error| Failure::failed(format!("writing the plan: {error}"), "report this as a bug"))?;
        view::json::document(&document);
    } else {
        let mut text = view::plan::human(&plan, Paint(context.colour_out));
        if plan.has_changes() && plan.blocked().next().is_none() {
            text.push_str(if args.offline {
                "Predicted as if nothing were deployed. Nothing was changed.\n"
            } else {
                "Apply it with `fleetwright apply`. Nothing was changed.\n"
            });
        }
        // A reader that has gone away is no reason to fail.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
    match (plan.blocked().next(), plan.has_changes()) {
        (Some((stack, blocked)), _) => Err(Failure::failed(
            format!("stack `{}` is {}: {}", stack.stack, blocked.status, blocked.why),
            blocked.next.clone(),
        )),
        (None, true) => Ok(Done::Changes),
        (None, false) => Ok(Done::Ok),
    }
}
