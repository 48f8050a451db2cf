//! `fleetwright adopt`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, cloud_failure, plan_failure};
use crate::driver::follow::Pace;
use crate::driver::plan::one;
use crate::event::Events;
use crate::model::deployed::{DeployedStack, Phase};
use crate::model::name::StackName;
use crate::plan::adopt::{self, Adopted};
use crate::plan::owner::{self, Purpose};
use crate::plan::stack::{PLAN_VERSION, Plan};
use crate::repo::document;
use crate::view;
use crate::view::paint::Paint;

/// Takes a stack that another tool made into the repository
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Writes the stack's template, parameters, tags, policy and protection, as they are deployed, into
templates/cloudformation/ and stacks/, then shows what `fleetwright apply` would change: the tags by
which fleetwright knows its stacks, and nothing else. Nothing is changed in the cloud.

The stack keeps its name (`cloud_name` in its file). Files that exist are not written over.

Examples:
  fleetwright adopt LegacyVpc
  fleetwright adopt LegacyVpc --as network -e production
  fleetwright adopt LegacyVpc --dry-run      prints the files and writes nothing")]
pub struct Args {
    /// The stack's name in CloudFormation
    #[arg(value_name = "CLOUD_NAME")]
    stack: String,

    /// What the repository shall call it; by default its own name in small letters
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,

    /// Print the files and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let session = Session::begin(context).await?;
    let root = session.repository.root.clone();
    let (name, adopted) = adopted(&session, &args).await?;
    let template = Path::new("templates/cloudformation").join(&adopted.template_name);
    let stack = Path::new("stacks").join(format!("{name}.yaml"));
    let files = [(template, adopted.template.as_str()), (stack, adopted.stack.as_str())];
    if args.dry_run {
        drop(session.flush(context).await);
        show(context, &files);
        return Ok(Done::Ok);
    }
    if let Some((path, _)) = files.iter().find(|(path, _)| root.join(path).exists()) {
        return Err(Failure::usage(
            format!("{} exists; nothing was written", path.display()),
            "give the stack another name with `--as NAME`",
        ));
    }
    for (path, text) in &files {
        write(&root, path, text)?;
    }
    drop(session.flush(context).await);
    if context.json() {
        let paths: Vec<String> = files.iter().map(|(path, _)| path.display().to_string()).collect();
        view::json::document(&json!({
            "version": 1, "stack": name, "cloud_name": args.stack, "files": paths, "variables": adopted.variables,
        }));
    } else {
        for (path, _) in &files {
            eprintln!("wrote {}", path.display());
        }
    }
    if !adopted.variables.is_empty() && !context.json() {
        eprintln!(
            "CloudFormation does not tell the values of `NoEcho` parameters: the stack keeps those it has, as long as {} {} not set",
            view::words::list(&adopted.variables),
            if adopted.variables.len() == 1 { "is" } else { "are" }
        );
    }
    preview(context, &name).await?;
    Ok(Done::Ok)
}

/// Reads what is deployed.
async fn adopted(session: &Session, args: &Args) -> Result<(StackName, Adopted), Failure> {
    let cloud = session.cloud.as_ref();
    let Some(mut stack) = cloud.stack(&args.stack).await.map_err(cloud_failure)? else {
        return Err(Failure::usage(
            format!("CloudFormation has no stack `{}` in {}", args.stack, session.wanted.region),
            "check its name, and the environment (`-e`) for its account and region",
        ));
    };
    can_be(session, &stack)?;
    stack.policy = session.drift.policy(&stack).await.map_err(cloud_failure)?;
    let text = cloud.template(&stack).await.map_err(cloud_failure)?;
    let Some(tree) = document::read(&text) else {
        return Err(Failure::failed(
            format!("the template of `{}` is neither YAML nor JSON that can be read", stack.name),
            "write its template by hand, with `cloud_name` in its file under stacks/",
        ));
    };
    let environment = &session.wanted.environment;
    let prefix = format!("{}-{environment}-", session.wanted.project);
    let name = args.name.clone().unwrap_or_else(|| adopt::name(&stack.name, &prefix));
    let name: StackName = name.parse().map_err(|_| {
        Failure::usage(
            format!(
                "`{name}` is not a name for a stack: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter"
            ),
            "give one with `--as NAME`",
        )
    })?;
    if session.wanted.stack(&name).is_some() {
        return Err(Failure::usage(
            format!("the repository has a stack `{name}` already"),
            "give this one another name with `--as NAME`",
        ));
    }
    let adopted = adopt::files(&name, environment, &stack, &text, &tree).map_err(|error| {
        Failure::failed(
            error.to_string(),
            "write its template by hand, with `cloud_name` in its file under stacks/",
        )
    })?;
    Ok((name, adopted))
}

fn can_be(session: &Session, stack: &DeployedStack) -> Result<(), Failure> {
    let name = &stack.name;
    if let Some(known) = session.wanted.stacks.iter().find(|wanted| wanted.stack.cloud_name == *name) {
        if let Some(blocked) = owner::refusal(&known.stack, stack, Purpose::Change) {
            return Err(Failure::usage(
                format!(
                    "{}, and the repository's stack `{}` would have the same name",
                    blocked.why, known.stack.name
                ),
                blocked.next,
            ));
        }
        return Err(Failure::usage(
            format!("`{name}` is the repository's stack `{}` already", known.stack.name),
            "there is nothing to adopt",
        ));
    }
    if stack.nested {
        return Err(Failure::usage(
            format!("`{name}` is nested in another stack"),
            "adopt the stack that it is nested in",
        ));
    }
    if stack.phase() != Phase::Settled {
        return Err(Failure::failed(
            format!("`{name}` is {}", stack.status),
            "bring it to rest with the tool that made it, then adopt it",
        ));
    }
    Ok(())
}

fn show(context: &Context, files: &[(PathBuf, &str)]) {
    if context.json() {
        let files: serde_json::Map<_, _> =
            files.iter().map(|(path, text)| (path.display().to_string(), (*text).into())).collect();
        view::json::document(&json!({"version": 1, "files": files}));
        return;
    }
    for (path, text) in files {
        print!("--- {}\n{text}{}", path.display(), if text.ends_with('\n') { "" } else { "\n" });
    }
}

fn write(root: &Path, path: &Path, text: &str) -> Result<(), Failure> {
    let full = root.join(path);
    let written = full.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
        std::fs::OpenOptions::new().write(true).create_new(true).open(&full)?.write_all(text.as_bytes())
    });
    written.map_err(|error| {
        Failure::failed(
            format!("writing {}: {error}", path.display()),
            "correct it, remove what was written, then adopt again",
        )
    })
}

/// What apply would change of it now: the repository is read anew.
async fn preview(context: &Context, name: &StackName) -> Result<(), Failure> {
    let session = Session::begin(context).await?;
    let (false, Some(wanted)) = (context.json(), session.wanted.stack(name)) else { return Ok(()) };
    let found = session.look().await?;
    let (unheard, _) = Events::channel();
    let (cloud, pace) = (session.cloud.as_ref(), Pace::adaptive());
    let stack = one(cloud, wanted, &found, &BTreeMap::new(), &unheard, pace, &session.stop).await;
    let mut plan = Plan {
        access: None,
        notify: None,
        version: PLAN_VERSION,
        project: session.wanted.project.clone(),
        environment: session.wanted.environment.clone(),
        region: session.wanted.region.clone(),
        selected: Vec::new(),
        not_selected: Vec::new(),
        stacks: vec![stack.map_err(plan_failure)?],
        left: Vec::new(),
    };
    drop(session.flush(context).await);
    let mask = context.mask();
    plan.map_values(|value| mask.mask(value));
    eprint!("\n{}", view::plan::human(&plan, Paint(context.colour_err)));
    eprintln!(" next: commit the files, then `fleetwright apply`");
    Ok(())
}
