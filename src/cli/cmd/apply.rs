//! `fleetwright apply`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;

use crate::adapter::plan_file;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::protect::{Consent, may_destroy};
use crate::cli::secrets;
use crate::cli::stacks::{Session, ask, cloud_failure, plan_failure};
use crate::driver::apply::{Report, apply, settle};
use crate::driver::follow::Pace;
use crate::driver::plan::{Found, plan};
use crate::driver::prune::prune;
use crate::event::stack::Outcome;
use crate::model::stack::Stack;
use crate::plan::access::{AccessChange, moved as access_moved};
use crate::plan::notify::NotifyChange;
use crate::plan::saved::{SAVED_VERSION, SavedPlan};
use crate::plan::stack::{Consequence, PLAN_VERSION, Plan};
use crate::view;
use crate::view::paint::Paint;

/// Creates and updates the stacks, in dependency order
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Makes the plan, shows it, asks, and carries it out: a stack begins as soon as those it depends on
are done, independent ones at the same time. A change that would go beyond the plan is refused.
A blocked stack keeps back itself and what depends on it; the others are applied, and the status is 1.
Stopped by Ctrl-C or killed, it can be run again and goes on.

Examples:
  fleetwright apply
  fleetwright apply workers              this stack, and what it depends on
  fleetwright apply plan.json            what `plan --out plan.json` has shown, or nothing
  fleetwright apply --prune              also delete stacks that the repository no longer has
  fleetwright apply --set-secret db.Password      asks for the value of a NoEcho parameter, and sets it
  fleetwright apply --set-secret db.Password=file:secret.txt
  fleetwright apply -y                   without asking, for scripts
  fleetwright apply -y -o json           one event a line")]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// PROJECT-ENVIRONMENT, in place of typing it: where something is deleted or replaced in a protected
    /// environment, `-y` alone is not enough
    #[arg(long, value_name = "NAME")]
    confirm: Option<String>,

    /// Only these stacks, and those they depend on; or a plan that `fleetwright plan --out FILE` wrote:
    /// exactly that is applied, and nothing if anything it rests on has moved since
    #[arg(value_name = "STACK|FILE")]
    targets: Vec<String>,

    /// Also delete stacks that the repository no longer has, after everything else
    #[arg(long, conflicts_with = "targets")]
    prune: bool,

    /// Do not take the environment's lock, which lies in the project's bucket
    #[arg(long)]
    no_lock: bool,

    #[command(flatten)]
    secrets: secrets::SecretArgs,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let saved = saved_plan(context, &args.targets)?.map(|path| self::saved(&path)).transpose()?;
    let (context, stacks) = &match &saved {
        Some(saved) => {
            (of_environment(context, saved)?, saved.plan.selected.iter().map(ToString::to_string).collect())
        }
        None => (context.clone(), args.targets.clone()),
    };
    let command =
        format!("fleetwright apply{}", args.targets.iter().map(|t| format!(" {t}")).collect::<String>());
    let session = Session::applying(context, stacks, &command, &args.secrets.read()?).await?;
    let settled = settle(&session.shell(), &session.wanted).await.map_err(cloud_failure)?;
    if settled.was_stopped() {
        drop(session.flush(context).await);
        return Err(interrupted(&settled));
    }
    let (found, access) = (session.look().await?, access(&session).await?);
    let notify = notify(&session).await?;
    secrets::complete(&session.wanted, &found)?;
    let promise = match saved {
        Some(saved) => {
            fits(&saved, &session)?;
            secrets::same(&saved.plan.stacks, &session.wanted)?;
            holds(&saved, &session, &found, access.as_ref(), notify.as_ref())?;
            saved
        }
        None => {
            let (cloud, pace) = (session.cloud.as_ref(), Pace::adaptive());
            let plan =
                plan(cloud, &session.wanted, &found, &session.events, pace, args.prune, &session.stop).await;
            let plan = Plan { access, notify, ..plan.map_err(plan_failure)? };
            SavedPlan::new(plan, Utc::now(), session.wanted.beside(&found))
        }
    };
    let plan = Arc::new(promise.plan.clone());
    let session = session.flush(context).await;
    if !context.json() {
        let (mut shown, mask) = (Plan::clone(&plan), context.mask());
        shown.map_values(|value| mask.mask(value));
        eprint!("{}", view::plan::human(&shown, Paint(context.colour_err)));
    }
    if let Some((stack, blocked)) = plan.blocked().next().filter(|_| !plan.has_work()) {
        let what = format!("stack `{}` is {}: {}", stack.stack, blocked.status, blocked.why);
        return Err(Failure::failed(what, blocked.next.clone()));
    }
    if let Some(left) = plan.deleted().find(|left| left.protected) {
        return Err(Failure::failed(
            format!("stack `{}` is protected from deletion; nothing was changed", left.cloud_name),
            "take the protection off in CloudFormation, or leave `--prune` out",
        ));
    }
    confirm(context, &args, &session, &plan).await?;
    if !context.json() {
        eprintln!();
    }
    let since = Instant::now();
    // Where nothing changes, nobody needs to be kept out.
    let lock = if plan.has_changes() && !args.no_lock { Some(session.lock("apply").await?) } else { None };
    let applied = under_lock(&session, &promise, &plan, found, lock.is_some()).await;
    session.unlock(lock).await;
    drop(session.flush(context).await);
    let (report, pruned) = applied?;
    if !context.json() {
        let outcomes: Vec<Outcome> =
            report.stacks.iter().map(|(_, outcome)| *outcome).chain(pruned.iter().copied()).collect();
        eprintln!("\n{}", view::stacks::summary(&outcomes, since.elapsed()));
        if !plan.not_selected.is_empty() {
            eprintln!("{}", view::plan::not_selected(&plan.not_selected));
        }
    }
    if report.was_stopped() {
        return Err(interrupted(&report));
    }
    if !report.is_complete() || pruned.contains(&Outcome::Failed) {
        return Err(Failure::Reported);
    }
    if pruned.iter().any(|outcome| *outcome != Outcome::Deleted) {
        let left = "`fleetwright apply --prune` goes on from here; a deletion under way goes on by itself";
        return Err(Failure::Interrupted { left: left.to_owned() });
    }
    if !context.json() {
        to_roll(&plan);
    }
    Ok(Done::Ok)
}

/// Applies the plan if it still holds: somebody may have been at it before the lock was ours.
async fn under_lock(
    session: &Session,
    promise: &SavedPlan,
    plan: &Arc<Plan>,
    found: Found,
    locked: bool,
) -> Result<(Report, Vec<Outcome>), Failure> {
    let found = if locked { session.look().await? } else { found };
    let access = access(session).await?;
    let notify = notify(session).await?;
    holds(promise, session, &found, access.as_ref(), notify.as_ref())?;
    // Before the stacks, so that control machines that are new find it.
    if let Some(change) = &access {
        session.access.publish(change).await?;
        session.events.note(format!("access: {} is up to date", change.parameter));
    }
    if let Some(change) = &notify {
        session.notify.publish(change).await?;
        session.events.note(format!("notify: {} is up to date", change.parameter));
    }
    let shell = session.shell();
    let report = apply(&shell, Arc::clone(&session.wanted), Arc::clone(plan), Arc::new(found)).await;
    // What is left may still be used by what was not brought up to date.
    let pruned = if report.is_complete() { prune(&shell, plan.deleted()).await } else { Vec::new() };
    Ok((report, pruned))
}

/// How access to the cluster is to change. It is the environment's, and no part of any stack.
async fn access(session: &Session) -> Result<Option<AccessChange>, Failure> {
    if session.wanted.selected.is_empty() { session.access.look().await } else { Ok(None) }
}

/// How it is to change whom the cluster notifies; the environment's as well.
async fn notify(session: &Session) -> Result<Option<NotifyChange>, Failure> {
    if session.wanted.selected.is_empty() { session.notify.look().await } else { Ok(None) }
}

/// The file of a saved plan, where that is what was given. What the repository has a stack of that name for is
/// the stack; `./NAME` is always a file.
fn saved_plan(context: &Context, targets: &[String]) -> Result<Option<PathBuf>, Failure> {
    // No name of a stack has these in it, here or in CloudFormation.
    let names_file = |target: &&String| target.contains(['/', '.']);
    match targets {
        [only] if names_file(&only) => Ok(Some(PathBuf::from(only))),
        // A folder, a pipe or a device included: the reader refuses those by name.
        [only] if Path::new(only).exists() => {
            let repository = context.repository()?;
            let named = |stack: &Stack| {
                stack.name.as_str() == only || stack.cloud_names.iter().any(|chosen| chosen.name == *only)
            };
            let is_stack = repository.stacks.iter().any(named);
            Ok((!is_stack).then(|| PathBuf::from(only)))
        }
        several => match several.iter().find(names_file) {
            None => Ok(None),
            Some(file) => Err(Failure::usage(
                format!("`{file}` is a file, and a saved plan is applied as a whole"),
                format!(
                    "`fleetwright apply {file}` alone; which stacks are in it was chosen when it was made"
                ),
            )),
        },
    }
}

/// Asks; for the project's and environment's name where stacks are deleted, after naming what they hold.
async fn confirm(context: &Context, args: &Args, session: &Session, plan: &Plan) -> Result<(), Failure> {
    let interrupted = || Failure::Interrupted { left: "nothing was changed".to_owned() };
    for left in plan.deleted() {
        let held = session.repair.resources(&left.id).await.map_err(cloud_failure)?;
        if !context.json() {
            eprintln!("{}", view::recover::deleted(&left.cloud_name, &held));
        }
    }
    if !plan.has_changes() {
        return Ok(());
    }
    let environment = session.environment()?;
    let destroys = plan.deleted().next().is_some() || (environment.protect && plan.destroys());
    if !destroys && args.yes {
        return Ok(());
    }
    if destroys {
        let of = (&session.wanted.project, environment);
        let command = if args.prune { "fleetwright apply --prune" } else { "fleetwright apply" };
        if may_destroy(of, args.yes, args.confirm.as_deref(), command)? == Consent::Given {
            return Ok(());
        }
        let name = format!("{}-{}", session.wanted.project, session.wanted.environment);
        let question = format!("Type `{name}` to apply this, and to delete what stands above:");
        let answer = ask(&question, "fleetwright apply", &session.stop).await?;
        return if answer.as_deref() == Some(name.as_str()) { Ok(()) } else { Err(interrupted()) };
    }
    match ask("Apply this? [y/N]", "fleetwright apply", &session.stop).await? {
        Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => Ok(()),
        Some(_) | None => Err(interrupted()),
    }
}

/// Whether a saved plan is for this project and region.
fn fits(saved: &SavedPlan, session: &Session) -> Result<(), Failure> {
    let (project, region) = (&session.wanted.project, &session.wanted.region);
    if saved.plan.project == *project && saved.plan.region == *region {
        return Ok(());
    }
    let (for_project, for_region) = (&saved.plan.project, &saved.plan.region);
    Err(Failure::usage(
        format!("the plan is for project `{for_project}` in {for_region}, not `{project}` in {region}"),
        "change to the repository and the region that it was made for",
    ))
}

/// Whether nothing has moved since a plan was made.
fn holds(
    saved: &SavedPlan,
    session: &Session,
    found: &Found,
    access: Option<&AccessChange>,
    notify: Option<&NotifyChange>,
) -> Result<(), Failure> {
    let moved = saved.moved(session.wanted.beside(found), &found.left);
    let mut moved: Vec<String> = moved.iter().map(ToString::to_string).collect();
    moved.extend(access_moved(saved.plan.access.as_ref(), access));
    if saved.plan.notify.as_ref() != notify {
        moved.push("whom the cluster notifies has to change in another way".to_owned());
    }
    if moved.is_empty() { Ok(()) } else { Err(stale(saved, &moved)) }
}

/// Reads a saved plan.
fn saved(path: &Path) -> Result<SavedPlan, Failure> {
    let saved: SavedPlan = plan_file::read(path)
        .map_err(|diagnostic| Failure::Invalid { diagnostics: vec![*diagnostic], files: 1 })?;
    if !saved.is_one() || saved.version != SAVED_VERSION || saved.plan.version != PLAN_VERSION {
        let what = format!("{} was written by another version of fleetwright", path.display());
        return Err(Failure::usage(what, "make the plan again with `fleetwright plan --out FILE`"));
    }
    Ok(saved)
}

/// A saved plan is for one environment, which need not be named again.
fn of_environment(context: &Context, saved: &SavedPlan) -> Result<Context, Failure> {
    let environment = saved.plan.environment.to_string();
    match &context.global.environment {
        Some(given) if *given != environment => Err(Failure::usage(
            format!("the plan is for environment `{environment}`, not `{given}`"),
            "leave `-e` out, or make a plan for that environment",
        )),
        _ => {
            let mut context = context.clone();
            context.global.environment = Some(environment);
            Ok(context)
        }
    }
}

fn stale(saved: &SavedPlan, moved: &[String]) -> Failure {
    let made = view::time::human((Utc::now() - saved.made).to_std().unwrap_or_default());
    let lines: Vec<String> = moved.iter().map(|moved| format!("\n  - {moved}")).collect();
    Failure::failed(
        format!("the plan, made {made} ago, does not hold any more; nothing was changed:{}", lines.concat()),
        "`fleetwright plan` shows what apply would do now",
    )
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
            let (runs, them) = if machines.len() == 1 { ("runs", "it") } else { ("run", "them") };
            eprintln!(
                "{number} of {} {runs} an older launch template version: `fleetwright roll {}` replaces {them}.",
                stack.stack, stack.stack
            );
        }
    }
}
