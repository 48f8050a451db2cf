//! `fleetwright agent publish`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::stacks::cloud_failure;
use crate::local::executable;
use crate::local::home::Home;
use crate::model::identity::hash;
use crate::model::name::{AgentSum, AgentVersion};
use crate::model::published::PublishedAgent;
use crate::port::store::{Condition, Store};
use crate::repo::{PROJECT_FILE, agent};
use crate::source::{SourceFile, read as source};
use crate::view;

/// What every executable of Linux begins with.
const ELF: &[u8] = b"\x7fELF";
/// The most bytes that an executable may have.
const MOST: u64 = 1 << 30;

/// Puts the agent into the project's bucket and names it in fleetwright.yaml
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Publishes this program, or another build of it, in the bucket of the environment's account and region,
where machines fetch it as their role. Its version and its checksum are written to `agent` in
fleetwright.yaml: to the environment's own section where it has one, to the project's otherwise. The
change is reviewed like any other, and `fleetwright plan` shows which machines a roll replaces.

The same build can be published again, and for several environments.

Examples:
  fleetwright agent publish
  fleetwright agent publish -e production
  fleetwright agent publish --file target/release/fleetwright --release 1.4.0")]
pub struct Args {
    /// Another build of the agent, for Linux on the architecture of the machines; by default this program
    #[arg(long, value_name = "FILE", requires = "release")]
    file: Option<PathBuf>,

    /// The version of that build
    #[arg(long, value_name = "VERSION", requires = "file")]
    release: Option<AgentVersion>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.project()?;
    let environment = context.environment(&repository)?;
    may_change(context, environment, "fleetwright agent publish")?;
    let (bytes, agent) = build(args).await?;
    let file = &environment.place.file;
    let text =
        agent::written(file, environment.name.as_str(), &agent).ok_or_else(|| by_hand(file, &agent))?;
    let aws = context.aws(environment).await?;
    context.check_account(&aws, environment).await?;
    let is_new = put(aws.store(&repository.project), &agent, &bytes).await?;
    let changed = text != file.text();
    if changed {
        let path = repository.root.join(PROJECT_FILE);
        std::fs::write(&path, &text).map_err(|error| {
            Failure::failed(
                format!("writing {}: {error}", path.display()),
                "make it writable, then try again",
            )
        })?;
    }
    if context.json() {
        view::json::document(&json!({
            "version": 1,
            "environment": environment.name,
            "agent": {"version": agent.version, "sha256": agent.sha256, "key": agent.key(), "bytes": bytes.len()},
            "uploaded": is_new,
            "changed": changed,
        }));
    } else {
        eprint!("{}", view::published::human(&agent, environment.name.as_str(), changed));
    }
    Ok(Done::Ok)
}

/// The executable, and what the repository calls it.
async fn build(args: Args) -> Result<(Vec<u8>, PublishedAgent), Failure> {
    let (path, version) = match (args.file, args.release) {
        (Some(file), Some(version)) => (file, version),
        _ => {
            let home = Home::from_env().map_err(|error| Failure::failed(error.to_string(), error.next()))?;
            let copy = executable::prepared(&home).await;
            let copy = copy.map_err(|error| Failure::failed(error.to_string(), error.next()))?;
            let version = env!("CARGO_PKG_VERSION").parse();
            (
                copy,
                version
                    .map_err(|error| Failure::failed(format!("{error}"), "give `--file` and `--release`"))?,
            )
        }
    };
    let bytes = read(&path)?;
    let sha256 = hash(&bytes).parse::<AgentSum>();
    let sha256 = sha256.map_err(|error| Failure::failed(format!("{error}"), "report this"))?;
    Ok((bytes, PublishedAgent { version, sha256 }))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = source::named(path, MOST).map_err(|error| {
        Failure::usage(format!("reading {}: {error}", path.display()), "name the executable with `--file`")
    })?;
    if !bytes.starts_with(ELF) {
        return Err(Failure::usage(
            format!("{} is not an executable for Linux", path.display()),
            "name the executable with `--file`",
        ));
    }
    Ok(bytes)
}

/// Uploads the agent; `false` when it is there already.
async fn put(store: Arc<dyn Store>, agent: &PublishedAgent, bytes: &[u8]) -> Result<bool, Failure> {
    let key = agent.key();
    if store.put(&key, bytes, Condition::Absent).await.map_err(cloud_failure)?.is_some() {
        return Ok(true);
    }
    let found = store.get(&key).await.map_err(cloud_failure)?;
    if found.is_some_and(|object| object.bytes == bytes) {
        return Ok(false);
    }
    Err(Failure::failed(
        format!("`{key}` of the project's bucket is something else than agent {}", agent.version),
        "find out who wrote it; delete it, then try again",
    ))
}

/// The file is written in a way that only people can change.
fn by_hand(file: &SourceFile, agent: &PublishedAgent) -> Failure {
    Failure::failed(
        format!(
            "`{}` of {} can't be changed by a program as it is written; nothing was published",
            agent::KEY,
            file.name()
        ),
        format!(
            "write `{}: {{version: \"{}\", sha256: \"{}\"}}` there, then try again",
            agent::KEY,
            agent.version,
            agent.sha256
        ),
    )
}
