//! `fleetwright plan`.

use std::path::PathBuf;

use chrono::Utc;

use crate::adapter::private_file;
use crate::cli::Done;
use crate::cli::compare::compare;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::secrets;
use crate::cli::stacks::{Session, plan_failure};
use crate::driver::follow::Pace;
use crate::driver::plan::{Found, plan};
use crate::event::Events;
use crate::plan::saved::SavedPlan;
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
  fleetwright plan workers               this stack, and what it depends on
  fleetwright plan --out plan.json       and `fleetwright apply plan.json` applies exactly this
  fleetwright plan --services            also services and jobs that differ from what is running
  fleetwright plan --markdown            for a comment in a pull request
  fleetwright plan --set-secret db.Password=env:DB_PASSWORD    a NoEcho value, which can't be compared
  fleetwright plan --offline             predicted from the templates alone
  fleetwright plan -o json               one document, described in docs/json.md")]
pub struct Args {
    /// Only these stacks, and those they depend on
    #[arg(value_name = "STACK", conflicts_with = "prune")]
    stacks: Vec<String>,

    /// Predict from the templates alone, as if nothing were deployed; asks nobody anything
    #[arg(long)]
    offline: bool,

    /// Write the plan to a file that `fleetwright apply FILE` takes, and only as long as nothing
    /// that it rests on has moved
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    out: Option<PathBuf>,

    /// Also delete stacks that the repository no longer has
    #[arg(long, conflicts_with = "offline")]
    prune: bool,

    /// Print Markdown
    #[arg(long)]
    markdown: bool,

    /// Also compare services and jobs with what is running, as `deploy --plan` does
    #[arg(long, conflicts_with_all = ["offline", "markdown", "out", "stacks"])]
    services: bool,

    #[command(flatten)]
    secrets: secrets::SecretArgs,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let (session, found) = if args.offline {
        (Session::offline(context, &args.stacks).await?, Found::default())
    } else {
        let session = Session::reading(context, &args.stacks, &args.secrets.read()?).await?;
        let found = session.look().await?;
        secrets::complete(&session.wanted, &found)?;
        (session, found)
    };
    let cloud = session.cloud.as_ref();
    // A query gives one document and nothing else, so its progress is for people only.
    let (unheard, _) = Events::channel();
    let events = if context.json() { &unheard } else { &session.events };
    let pace = Pace::adaptive();
    let mut plan = plan(cloud, &session.wanted, &found, events, pace, args.prune, &session.stop)
        .await
        .map_err(plan_failure)?;
    // Access is the environment's, and no part of any stack.
    plan.access = match args.stacks.as_slice() {
        [] if args.offline => session.access.offline(),
        [] => session.access.look().await?,
        _ => None,
    };
    plan.notify = match args.stacks.as_slice() {
        [] if args.offline => session.notify.offline(),
        [] => session.notify.look().await?,
        _ => None,
    };
    let compared = match args.services {
        true => Some(compare(context, &session.repository, session.environment()?, &plan).await?),
        false => None,
    };
    let named = session.environment()?;
    // A protected one is changed only where it is named.
    let named = if named.protect { format!(" -e {}", named.name) } else { String::new() };
    let mask = context.mask();
    plan.map_values(|value| mask.mask(value));
    if let Some(path) = args.out.as_ref().filter(|_| plan.blocked().next().is_none()) {
        let saved = SavedPlan::new(plan.clone(), Utc::now(), session.wanted.beside(&found));
        let text = serde_json::to_string_pretty(&saved)
            .map_err(|error| Failure::failed(format!("writing the plan: {error}"), "report this as a bug"))?;
        private_file::write(path, text.as_bytes())
            .map_err(|error| Failure::failed(error.to_string(), "give a file that can be written"))?;
    }
    drop(session.flush(context).await);
    if args.markdown {
        view::out::stdout(&view::plan_markdown::markdown(&plan));
    } else if context.json() {
        let document = view::plan::json(&plan);
        let mut document = document
            .map_err(|error| Failure::failed(format!("writing the plan: {error}"), "report this as a bug"))?;
        if let Some(compared) = &compared {
            view::deploy::beside(&mut document, compared);
        }
        view::json::document(&document);
    } else {
        let mut text = view::plan::human(&plan, Paint(context.colour_out));
        if plan.has_changes() && plan.blocked().next().is_none() {
            text.push_str(&match &args.out {
                _ if args.offline => {
                    "Predicted as if nothing were deployed. Nothing was changed.\n".to_owned()
                }
                None if args.prune => {
                    format!("Apply it with `fleetwright apply{named} --prune`. Nothing was changed.\n")
                }
                None => format!(
                    "Apply it with `fleetwright apply{named}{}`. Nothing was changed.\n",
                    args.stacks.iter().map(|stack| format!(" {stack}")).collect::<String>()
                ),
                Some(path) => format!(
                    "Apply exactly this with `fleetwright apply{named} {}` (valid until something it rests on changes).\n",
                    path.display()
                ),
            });
        }
        if let Some(compared) = &compared {
            text.push_str(&view::deploy::section(compared, &named, Paint(context.colour_out)));
        }
        // A reader that has gone away is no reason to fail.
        view::out::stdout(&text);
    }
    match (plan.blocked().next(), plan.has_changes()) {
        (Some((stack, blocked)), _) => {
            let mut next = blocked.next.clone();
            if plan.has_work() {
                next.push_str("; `fleetwright apply` brings the other stacks up to date meanwhile");
            }
            if args.out.is_some() {
                next.push_str("; no plan was written, since it could not be carried out whole");
            }
            let what = format!("stack `{}` is {}: {}", stack.stack, blocked.status, blocked.why);
            Err(Failure::failed(what, next))
        }
        (None, true) => Ok(Done::Changes),
        (None, false) if compared.is_some_and(|compared| compared.has_changes()) => Ok(Done::Changes),
        (None, false) => Ok(Done::Ok),
    }
}
