//! `fleetwright drift`.

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, cloud_failure};
use crate::driver::drift::Looker;
use crate::driver::follow::Pace;
use crate::event::Events;
use crate::model::name::StackName;
use crate::view;
use crate::view::paint::Paint;

/// Shows what was changed behind CloudFormation's back
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Asks CloudFormation to detect drift, and looks by itself at what CloudFormation can't see: the data
of launch templates, the sizes of groups, and the versions their machines run. What nobody looked at
is listed. Nothing is changed.

Exit status: 0 no drift, 3 drift, 1 failed, 2 invalid input.

Examples:
  fleetwright drift
  fleetwright drift workers -e production
  fleetwright drift -o json              one document, described in docs/json.md")]
pub struct Args {
    /// Only these stacks
    #[arg(value_name = "STACK")]
    stacks: Vec<String>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let session = Session::begin(context).await?;
    let names = args.stacks.iter().map(|given| session.find(given).map(|(name, _)| name));
    let names = names.collect::<Result<Vec<StackName>, Failure>>()?;
    let found = session.look().await?;
    // A query gives one document and nothing else, so its progress is for people only.
    let (unheard, _) = Events::channel();
    let looker = Looker {
        drift: session.drift.clone(),
        repair: session.repair.clone(),
        groups: session.groups.clone(),
        events: if context.json() { unheard } else { session.events.clone() },
        pace: Pace::adaptive(),
        stop: session.stop.clone(),
    };
    let report = looker.look(&session.wanted, &found, &names).await.map_err(cloud_failure)?;
    drop(looker);
    drop(session.flush(context).await);
    let Some(mut report) = report else {
        return Err(Failure::Interrupted { left: "nothing was changed".to_owned() });
    };
    let mask = context.mask();
    report.map_values(|value| mask.mask(value));
    if context.json() {
        let document = view::drift::json(&report);
        let document = document.map_err(|error| {
            Failure::failed(format!("writing the report: {error}"), "report this as a bug")
        })?;
        view::json::document(&document);
    } else {
        let text = view::drift::human(&report, Paint(context.colour_out));
        // A reader that has gone away is no reason to fail.
        view::out::stdout(&text);
    }
    if !report.not_ours.is_empty() {
        // They are said above, and nobody may take the rest for all there is.
        return Err(Failure::Reported);
    }
    Ok(if report.has_drift() { Done::Changes } else { Done::Ok })
}
