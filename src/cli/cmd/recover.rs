//! `fleetwright recover`.

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, ask, cloud_failure};
use crate::driver::recover::{Look, Recover, Stepped};
use crate::plan::recover::{Allowed, Recovery};
use crate::view;

/// More steps than any stack needs: what has not come to rest by then goes in circles.
const STEPS_MOST: usize = 6;

/// Brings a stack back to rest that an apply, or somebody else, left stuck
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Looks at the stack's status, says what it would do, asks, does it, and looks again until the stack
is at rest or gone: waits for work under way, undoes a failed update, goes on with a rollback that
failed, deletes what is left of a creation that failed.

Nothing that holds resources is deleted before they were named and the stack's name was typed
(or given with --confirm): `-y` alone does not do it.

Examples:
  fleetwright recover workers
  fleetwright recover workers --dry-run
  fleetwright recover workers --skip Queue           a rollback passes over what can't be undone
  fleetwright recover workers --retain Bucket        a deletion leaves behind what can't be deleted
  fleetwright recover workers -y --confirm shop-production-workers")]
pub struct Args {
    /// The stack
    stack: String,

    /// Do not ask where nothing is lost
    #[arg(short, long)]
    yes: bool,

    /// The stack's name in CloudFormation, in place of typing it where something would be lost
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// A resource that failed to be rolled back, and that the rollback may pass over
    #[arg(long, value_name = "RESOURCE")]
    skip: Vec<String>,

    /// A resource that failed to be deleted, and that the deletion may leave behind
    #[arg(long, value_name = "RESOURCE")]
    retain: Vec<String>,

    /// Say what would be done first, and do nothing
    #[arg(long)]
    dry_run: bool,

    /// Do not take the environment's lock, which lies in the project's bucket
    #[arg(long)]
    no_lock: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let mut session = if args.dry_run {
        Session::begin(context).await?
    } else {
        Session::changing(context, &[], &format!("fleetwright recover {}", args.stack)).await?
    };
    let (name, cloud_name) = session.find(&args.stack)?;
    let Some(wanted) = session.wanted.stack(&name).map(|wanted| wanted.stack.clone()) else {
        return Err(Failure::usage(format!("there is no stack `{name}`"), "name one of the repository"));
    };
    let allowed = Allowed { skip: args.skip.clone(), retain: args.retain.clone() };
    for _ in 0..STEPS_MOST {
        let recover =
            Recover { shell: session.shell(), repair: session.repair.clone(), wanted: wanted.clone() };
        let look = recover.look(&allowed).await.map_err(cloud_failure)?;
        if args.dry_run {
            say(context, &cloud_name, &look);
            return Ok(Done::Ok);
        }
        if let Recovery::Person { why, next } = &look.recovery {
            return Err(Failure::failed(format!("stack `{name}`: {why}"), next.clone()));
        }
        if !context.json() {
            eprintln!("{}", view::recover::sentence(&name, look.stack.as_ref(), &look.recovery));
        }
        if look.recovery == Recovery::Nothing {
            return Ok(Done::Ok);
        }
        confirm(&args, &session, &cloud_name, &look.recovery).await?;
        // Waiting changes nothing, and what is waited for may be somebody's who holds the lock.
        let locks = !args.no_lock && look.recovery != Recovery::Wait;
        let lock = if locks { Some(session.lock("recover").await?) } else { None };
        let stepped = under_lock(&recover, &look, &allowed).await;
        drop(recover);
        session.unlock(lock).await;
        session = session.flush(context).await;
        match stepped? {
            Stepped::Moved => {}
            Stepped::Failed => return Err(Failure::Reported),
            Stepped::Stopped => {
                let left = "CloudFormation goes on by itself; `fleetwright recover` looks again";
                return Err(Failure::Interrupted { left: left.to_owned() });
            }
        }
    }
    Err(Failure::failed(
        format!("stack `{name}` did not come to rest in {STEPS_MOST} steps"),
        "see what happened to it above, and in CloudFormation's events",
    ))
}

/// Takes the step that was confirmed, if it still is the one: the stack may have been mended, or
/// filled, while the question stood there.
async fn under_lock(recover: &Recover, confirmed: &Look, allowed: &Allowed) -> Result<Stepped, Failure> {
    let now = recover.look(allowed).await.map_err(cloud_failure)?;
    if !now.is_like(confirmed) {
        return Err(Failure::failed(
            format!("stack `{}` was changed meanwhile; nothing was done", recover.name()),
            "`fleetwright recover` again: it looks anew",
        ));
    }
    recover.step(confirmed).await.map_err(cloud_failure)
}

/// What would be done, for `--dry-run`.
fn say(context: &Context, cloud_name: &str, look: &Look) {
    if context.json() {
        view::json::document(&json!({
            "version": 1,
            "cloud_name": cloud_name,
            "status": look.stack.as_ref().map(|stack| &stack.status),
            "recovery": look.recovery,
            "needs_name": look.recovery.needs_name(),
        }));
    } else {
        let status = look.stack.as_ref();
        println!("{}", view::recover::sentence(&cloud_name, status, &look.recovery));
    }
}

/// Asks: for the stack's name where something would be lost, else for a yes.
async fn confirm(
    args: &Args,
    session: &Session,
    cloud_name: &str,
    recovery: &Recovery,
) -> Result<(), Failure> {
    let interrupted = || Failure::Interrupted { left: "nothing was changed".to_owned() };
    if matches!(recovery, Recovery::Wait) {
        return Ok(());
    }
    if recovery.needs_name() {
        let given = match &args.confirm {
            Some(given) => Some(given.clone()),
            None if args.yes => {
                return Err(Failure::usage(
                    "what is named above would be lost, which `-y` alone does not allow",
                    format!("give the stack's name too: `--confirm {cloud_name}`"),
                ));
            }
            None => {
                let question = format!("Type `{cloud_name}` to do this:");
                ask(&question, "fleetwright recover", &session.stop).await?
            }
        };
        return if given.as_deref() == Some(cloud_name) { Ok(()) } else { Err(interrupted()) };
    }
    if args.yes {
        return Ok(());
    }
    match ask("Do this? [y/N]", "fleetwright recover", &session.stop).await? {
        Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => Ok(()),
        Some(_) | None => Err(interrupted()),
    }
}
