//! `fleetwright destroy`.

use std::sync::Arc;
use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::protect::{Consent, may_destroy};
use crate::cli::stacks::{Session, ask, cloud_failure};
use crate::driver::apply::{Report, settle};
use crate::driver::destroy::destroy;
use crate::driver::plan::Found;
use crate::event::stack::Outcome;
use crate::model::deployed::DeployedStack;
use crate::plan::owner::{self, Purpose};
use crate::view;
use crate::view::stacks::Loss;

/// Deletes the stacks, in reverse order
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Names what will be lost, wants the project's and the environment's name typed, and deletes the
stacks: what uses something goes before it, independent ones at the same time.

Examples:
  fleetwright destroy
  fleetwright destroy -y                 without asking, for scripts
  fleetwright destroy -e production -y --confirm shop-production
                                         where the environment is protected")]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// PROJECT-ENVIRONMENT, in place of typing it: in a protected environment `-y` alone is not enough
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Do not take the environment's lock, which lies in the project's bucket
    #[arg(long)]
    no_lock: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let session = Session::changing(context, &[], "fleetwright destroy").await?;
    let settled = settle(&session.shell(), &session.wanted).await.map_err(cloud_failure)?;
    let session = session.flush(context).await;
    if settled.was_stopped() {
        return Err(Failure::Interrupted { left: "nothing was deleted".to_owned() });
    }
    let found = session.look().await?;
    let name = format!("{}-{}", session.wanted.project, session.wanted.environment);
    if found.stacks.is_empty() {
        if !context.json() {
            eprintln!("{name} has no stacks in {}: nothing to delete.", session.wanted.region);
        }
        return Ok(Done::Ok);
    }
    not_ours(&session, &found)?;
    let protected: Vec<String> = found
        .stacks
        .iter()
        .filter(|(_, stack)| stack.protected)
        .map(|(name, _)| format!("`{name}`"))
        .collect();
    if !protected.is_empty() {
        let are = if protected.len() == 1 { "is" } else { "are" };
        return Err(Failure::failed(
            format!("{} {are} protected from deletion; nothing was deleted", view::words::list(&protected)),
            "set `protect: false` in stacks/, `fleetwright apply`, then destroy",
        ));
    }
    let losses: Vec<Loss> = session
        .wanted
        .stacks
        .iter()
        .rev()
        .filter(|wanted| found.stacks.contains_key(&wanted.stack.name))
        .map(|wanted| Loss {
            stack: wanted.stack.name.to_string(),
            machines: found
                .groups
                .get(&wanted.stack.name)
                .map(|group| group.instances.iter().map(|i| i.id.to_string()).collect())
                .unwrap_or_default(),
        })
        .collect();
    if !context.json() {
        eprint!("{}", view::stacks::losses(&name, &session.wanted.region, &losses));
    }
    let of = (&session.wanted.project, session.environment()?);
    if may_destroy(of, args.yes, args.confirm.as_deref(), "fleetwright destroy")? == Consent::Ask {
        let question = format!("Type `{name}` to delete all of it:");
        match ask(&question, "fleetwright destroy", &session.stop).await? {
            Some(answer) if answer == name => {}
            Some(_) | None => {
                let left = "the name was not typed; nothing was deleted".to_owned();
                return Err(Failure::Interrupted { left });
            }
        }
    }
    let since = Instant::now();
    let lock = if args.no_lock { None } else { Some(session.lock("destroy").await?) };
    let destroyed = under_lock(&session, &found).await;
    session.unlock(lock).await;
    drop(session.flush(context).await);
    let report = destroyed?;
    if !context.json() {
        let outcomes: Vec<Outcome> = report.stacks.iter().map(|(_, outcome)| *outcome).collect();
        eprintln!("\n{}", view::stacks::summary(&outcomes, since.elapsed()));
    }
    if report.was_stopped() {
        let left = "`fleetwright destroy` goes on from here; deletions under way go on by themselves";
        return Err(Failure::Interrupted { left: left.to_owned() });
    }
    if report.is_complete() { Ok(Done::Ok) } else { Err(Failure::Reported) }
}

/// Refuses when a stack that has one of the repository's names is not the repository's: it may be what somebody
/// else lives on.
fn not_ours(session: &Session, found: &Found) -> Result<(), Failure> {
    let refused = session.wanted.stacks.iter().find_map(|wanted| {
        let stack = found.stacks.get(&wanted.stack.name)?;
        Some((&wanted.stack.name, owner::refusal(&wanted.stack, stack, Purpose::Delete)?))
    });
    match refused {
        None => Ok(()),
        Some((name, blocked)) => Err(Failure::failed(
            format!("stack `{name}`: {}; nothing was deleted", blocked.why),
            blocked.next,
        )),
    }
}

/// Deletes what was named, if that is what is there: stacks may have come or been protected while
/// the question stood there.
async fn under_lock(session: &Session, named: &Found) -> Result<Report, Failure> {
    let now = session.look().await?;
    not_ours(session, &now)?;
    // What has gone meanwhile needs no deleting.
    let was_named = |stack: &DeployedStack| named.stacks.values().any(|known| known.id == stack.id);
    if now.stacks.values().any(|stack| stack.protected || !was_named(stack)) {
        return Err(Failure::failed(
            "the stacks are not those that were named any more; nothing was deleted",
            "`fleetwright destroy` again: it names what is there now",
        ));
    }
    Ok(destroy(&session.shell(), Arc::clone(&session.wanted), &now).await)
}
