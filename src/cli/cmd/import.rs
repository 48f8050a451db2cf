//! `fleetwright import`.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, ask, cloud_failure};
use crate::driver::import::Importing;
use crate::driver::plan::{Found, WantedStack};
use crate::event::stack::Outcome;
use crate::model::deployed::{Import, Phase};
use crate::model::name::StackName;
use crate::plan::import::{Given, imports, template};
use crate::plan::owner::{self, Purpose};
use crate::plan::stack::{ParameterValue, resolve};
use crate::view;

mod compose;

/// Takes resources that exist into a stack, without touching them
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Write the resource into the stack's template as it is now, with a DeletionPolicy, then name it here
with the id it has. CloudFormation takes it over as it is; nothing else of the stack is changed. A
stack that does not exist yet is made of what is imported.

`fleetwright drift` then tells where the template and the resource differ, and `fleetwright plan`
what else the repository wants.

To take over a whole stack that another tool made, use `fleetwright adopt`.

Examples:
  fleetwright import data Bucket=shop-uploads
  fleetwright import data Bucket=shop-uploads Table=orders
  fleetwright import api Route.RestApiId=a1b2 Route.ResourceId=c3d4
  fleetwright import compose docker-compose.yml       services from a Compose file")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    from: Option<From>,

    /// The stack, as the repository names it
    #[arg(required = true)]
    stack: Option<String>,

    /// A resource of its template and the id it has; where several properties make up the id,
    /// RESOURCE.PROPERTY=VALUE for each
    #[arg(value_name = "RESOURCE=ID", required = true)]
    resources: Vec<String>,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Do not take the environment's lock, which lies in the project's bucket
    #[arg(long)]
    no_lock: bool,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    Compose(compose::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    if let Some(From::Compose(args)) = args.from {
        return compose::run(context, args).await;
    }
    let stack = args.stack.unwrap_or_default();
    let given = args.resources.iter().map(|text| {
        Given::read(text).ok_or_else(|| {
            Failure::usage(
                format!("`{text}` names no resource and its id"),
                "write RESOURCE=ID, as in Bucket=logs",
            )
        })
    });
    let given = given.collect::<Result<Vec<_>, _>>()?;
    let command = format!("fleetwright import {stack} {}", args.resources.join(" "));
    let session = Session::applying(context, &[], &command, &[]).await?;
    let (name, cloud_name) = session.find(&stack)?;
    let found = session.look().await?;
    let Some(wanted) = session.wanted.stack(&name) else {
        return Err(Failure::usage(format!("there is no stack `{name}`"), "name one of the repository"));
    };
    let prepared = prepare(wanted, &found, &given)?;
    if !context.json() {
        eprintln!(
            "{}",
            view::import::sentence(&name, &cloud_name, found.stacks.contains_key(&name), &prepared.imports)
        );
    }
    if !args.yes {
        match ask("Import this? [y/N]", "fleetwright import", &session.stop).await? {
            Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => {}
            Some(_) | None => return Err(Failure::Interrupted { left: "nothing was changed".to_owned() }),
        }
    }
    let since = Instant::now();
    let lock = if args.no_lock { None } else { Some(session.lock("import").await?) };
    let imported = under_lock(&session, wanted, &given, &prepared).await;
    session.unlock(lock).await;
    drop(session.flush(context).await);
    match imported? {
        Outcome::Imported => {
            if !context.json() {
                eprintln!(
                    "\n{} in {}.\n next: `fleetwright drift {name}` compares with the template, `fleetwright plan` \
                     shows what else the repository wants",
                    view::import::done(prepared.imports.len()),
                    view::time::human(since.elapsed())
                );
            }
            Ok(Done::Ok)
        }
        Outcome::NotBegun => Err(Failure::Interrupted { left: "nothing was changed".to_owned() }),
        Outcome::LeftRunning => Err(Failure::Interrupted {
            left: "CloudFormation goes on with it; `fleetwright recover` waits for it".to_owned(),
        }),
        _ => Err(Failure::Reported),
    }
}

/// What is to be sent.
#[derive(PartialEq)]
struct Prepared {
    imports: Vec<Import>,
    template: String,
    parameters: BTreeMap<String, String>,
}

fn prepare(wanted: &WantedStack, found: &Found, given: &[Given]) -> Result<Prepared, Failure> {
    let name = &wanted.stack.name;
    let existing = found.stacks.get(name).filter(|stack| stack.phase() != Phase::InReview);
    if let Some(blocked) = existing.and_then(|stack| owner::refusal(&wanted.stack, stack, Purpose::Change)) {
        return Err(Failure::failed(format!("stack `{name}`: {}", blocked.why), blocked.next));
    }
    if let Some(existing) = existing.filter(|stack| stack.phase() != Phase::Settled) {
        return Err(Failure::failed(
            format!("stack `{name}` is {}, and nothing can be imported into it", existing.status),
            format!("`fleetwright recover {name}` brings it to rest"),
        ));
    }
    let deployed = match existing {
        None => None,
        Some(_) => Some(found.document(name).ok_or_else(|| {
            Failure::failed(
                format!("the deployed template of stack `{name}` can't be read"),
                "`fleetwright apply` deploys the repository's, then import",
            )
        })?),
    };
    let imports = imports(given, &wanted.document, deployed).map_err(|refused| match refused.as_slice() {
        [one] => Failure::usage(one.to_string(), one.next.clone()),
        many => {
            let lines: Vec<String> =
                many.iter().map(|refused| format!("\n  - {refused}: {}", refused.next)).collect();
            Failure::usage(
                format!(
                    "{} can't be imported:{}",
                    view::words::count(many.len(), "resource"),
                    lines.concat()
                ),
                "nothing was changed; import them once all of it is mended",
            )
        }
    })?;
    let template = template(&imports, &wanted.document, deployed);
    let parameters = parameters(wanted, found, &template)?;
    Ok(Prepared { imports, template: format!("{template:#}"), parameters })
}

/// The values of the parameters that the stack does not have yet.
fn parameters(
    wanted: &WantedStack,
    found: &Found,
    template: &serde_json::Value,
) -> Result<BTreeMap<String, String>, Failure> {
    let declared = crate::plan::document::parameters(template);
    let has = found.stacks.get(&wanted.stack.name).map(|stack| &stack.parameters);
    let outputs: BTreeMap<StackName, BTreeMap<String, String>> =
        found.stacks.iter().map(|(name, stack)| (name.clone(), stack.outputs.clone())).collect();
    let mut values = BTreeMap::new();
    for (name, value) in resolve(&wanted.stack, &outputs) {
        if !declared.contains(name.as_str()) || has.is_some_and(|has| has.contains_key(&name)) {
            continue;
        }
        match value {
            ParameterValue::Known(text) => {
                values.insert(name, text);
            }
            ParameterValue::AfterApply(references) => {
                return Err(Failure::failed(
                    format!("parameter `{name}` needs {references}, which does not exist yet"),
                    "apply the stack that it comes from first",
                ));
            }
            ParameterValue::Hidden => {}
        }
    }
    Ok(values)
}

/// Imports what was confirmed, if it is still the same.
async fn under_lock(
    session: &Session,
    wanted: &WantedStack,
    given: &[Given],
    confirmed: &Prepared,
) -> Result<Outcome, Failure> {
    let found = session.look().await?;
    let prepared = prepare(wanted, &found, given)?;
    if prepared != *confirmed {
        return Err(Failure::failed(
            format!("stack `{}` was changed meanwhile; nothing was done", wanted.stack.name),
            "`fleetwright import` again: it looks anew",
        ));
    }
    let shell = session.shell();
    let importing = Importing {
        shell: &shell,
        wanted,
        existing: found.stacks.get(&wanted.stack.name).filter(|stack| stack.phase() != Phase::InReview),
        template: prepared.template,
        parameters: prepared.parameters,
        imports: prepared.imports,
    };
    importing.run().await.map_err(cloud_failure)
}
