//! `fleetwright secret`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::prefix;
use crate::cli::failure::Failure;
use crate::cli::protect::may_change;
use crate::cli::rollouts::confirm;
use crate::cli::secrets::{Source, value};
use crate::cli::stacks::cloud_failure;
use crate::model::mount::SecretRef;
use crate::model::name::SecretName;
use crate::model::project::{Environment, Repository};
use crate::model::redact::Mask;
use crate::model::secret::Secret;
use crate::port::secrets::{KeptSecret, SecretKeeper};
use crate::view;
use crate::view::secrets::Row;

/// The most bytes of a parameter of the advanced tier, by the quotas of Systems Manager.
const VALUE_MOST: usize = 8192;

/// The version of the JSON documents.
const VERSION: u32 = 1;

/// Sets, lists and removes the secrets that services get
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Secrets are SecureString parameters of the environment, below
/fleetwright/PROJECT/ENVIRONMENT/CLUSTER/secrets/. Setting one needs the right to write them; services
get them from the control machines (`secrets` in services/*.yaml, see docs/services.md).

Examples:
  fleetwright secret set db-password               prompts for the value without echo
  openssl rand -hex 32 | fleetwright secret set session-key
  fleetwright secret set tls-key --file key.pem -e production
  fleetwright secret ls
  fleetwright secret rm old-key")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Sets a value: from a prompt, from stdin, or from a file
    #[command(after_long_help = "\
The value is never an argument, since other users of this machine can read those. A trailing newline is
removed. Services that use the secret get the new value with their next deployment; `fleetwright deploy`
shows which.

Examples:
  fleetwright secret set db-password
  pass show shop/db | fleetwright secret set db-password -e production
  fleetwright secret set tls-key --file key.pem")]
    Set {
        /// Its name
        #[arg(value_name = "NAME")]
        name: String,

        /// Read the value from this file
        #[arg(long, value_name = "PATH")]
        file: Option<PathBuf>,

        /// A value that somebody wrote here: refused, and never shown.
        #[arg(hide = true)]
        extra: Vec<OsString>,
    },
    /// Lists secrets with the services that use them; values are never read
    #[command(
        visible_alias = "list",
        after_long_help = "\
Examples:
  fleetwright secret ls
  fleetwright secret ls -e production -o json"
    )]
    Ls,
    /// Removes a secret with all of its versions
    #[command(
        visible_alias = "remove",
        after_long_help = "\
A secret that services/*.yaml still names is not removed.

Examples:
  fleetwright secret rm old-key
  fleetwright secret rm old-key -y"
    )]
    Rm {
        /// Its name
        #[arg(value_name = "NAME")]
        name: SecretName,

        /// Do not ask for confirmation
        #[arg(short, long)]
        yes: bool,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?;
    match args.action {
        Action::Set { name, file, extra } => {
            let name = named(&name, &extra)?;
            may_change(context, environment, &format!("fleetwright secret set {name}"))?;
            set(context, &repository, environment, &name, file).await
        }
        Action::Ls => list(context, &repository, environment).await,
        Action::Rm { name, yes } => {
            may_change(context, environment, &format!("fleetwright secret rm {name}"))?;
            remove(context, &repository, environment, &name, yes).await
        }
    }
}

/// The name of a secret. What may be a value beside it is not repeated.
fn named(text: &str, extra: &[OsString]) -> Result<SecretName, Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, _)) => (name, true),
        None => (text, !extra.is_empty()),
    };
    let name = name
        .parse::<SecretName>()
        .map_err(|error| Failure::usage(error.to_string(), "choose another name"))?;
    if value {
        return Err(Failure::usage(
            "the value of a secret can't be an argument; it is not repeated here",
            format!(
                "`fleetwright secret set {name}` prompts for it, or reads stdin or `--file PATH`. Other users of this \
                 machine can read arguments, and your shell records them: if that was the secret, change it"
            ),
        ));
    }
    Ok(name)
}

async fn keeper(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
) -> Result<Arc<dyn SecretKeeper>, Failure> {
    let aws = context.aws(environment).await?;
    context.check_account(&aws, environment).await?;
    let (project, name) = (repository.project.as_str(), environment.name.as_str());
    Ok(aws.secret_keeper(&prefix(project, name, environment.cluster.as_str())))
}

async fn set(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    name: &SecretName,
    file: Option<PathBuf>,
) -> Result<Done, Failure> {
    let source = match file {
        Some(path) => Source::File(path),
        None if std::io::stdin().is_terminal() => Source::Terminal,
        None => Source::Stdin,
    };
    let sources = "pipe the value to stdin, or give `--file PATH`";
    let text = value(&format!("secret {name}"), &source, VALUE_MOST as u64 + 2, sources)?;
    if text.len() > VALUE_MOST {
        return Err(Failure::usage(
            format!(
                "the value of secret `{name}` is longer than {VALUE_MOST} bytes, the most that a parameter holds"
            ),
            format!(
                "keep it in Secrets Manager, which holds 64 KiB, and write `from: secretsmanager:NAME` to `{name}` \
                 in services/"
            ),
        ));
    }
    Mask::process().learn(&text);
    let keeper = keeper(context, repository, environment).await?;
    let version = keeper.set(name, &Secret::new(text)).await.map_err(cloud_failure)?;
    let users = users(repository, environment, name);
    if context.json() {
        view::json::document(&json!({
            "version": VERSION,
            "environment": environment.name,
            "secret": name,
            "secret_version": version.number(),
            "services": users,
        }));
        return Ok(Done::Ok);
    }
    eprintln!("{name}   {version}");
    match users.as_slice() {
        [] => eprintln!("no service names it; add it to `secrets` of one in services/"),
        [..] => {
            let default = repository.environments.first().is_some_and(|first| first.name == environment.name);
            let option = if default { String::new() } else { format!(" -e {}", environment.name) };
            eprintln!("`fleetwright deploy {}{option}` gives it to them", users.join(" "));
        }
    }
    Ok(Done::Ok)
}

async fn list(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
) -> Result<Done, Failure> {
    let kept = keeper(context, repository, environment).await?.list().await;
    let kept = kept.map_err(cloud_failure)?;
    let rows = rows(repository, environment, kept);
    if context.json() {
        let secrets: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "name": row.name,
                    "secret_version": row.kept.and_then(|(number, _)| number),
                    "set": row.kept.map(|(_, set)| set),
                    "services": row.services,
                })
            })
            .collect();
        let document = json!({ "version": VERSION, "environment": environment.name, "secrets": secrets });
        view::json::document(&document);
    } else {
        view::out::stdout(&view::secrets::table(&rows, environment.name.as_str(), Utc::now()));
    }
    Ok(Done::Ok)
}

/// Secrets that are kept, and those that services name without being kept.
fn rows(repository: &Repository, environment: &Environment, kept: Vec<KeptSecret>) -> Vec<Row> {
    let mut names: BTreeSet<SecretName> = kept.iter().map(|kept| kept.name.clone()).collect();
    for service in &repository.services {
        for secret in &service.in_environment(&environment.name).spec.container.secrets {
            if let SecretRef::Parameter(name) = &secret.from {
                names.insert(name.clone());
            }
        }
    }
    names
        .into_iter()
        .map(|name| Row {
            kept: kept.iter().find(|kept| kept.name == name).map(|kept| (kept.version.number(), kept.set)),
            services: users(repository, environment, &name),
            name,
        })
        .collect()
}

/// The services and jobs that use a secret, sorted.
fn users(repository: &Repository, environment: &Environment, name: &SecretName) -> Vec<String> {
    let uses = |service: &&crate::model::project::Service| {
        let secrets = &service.in_environment(&environment.name).spec.container.secrets;
        secrets.iter().any(|secret| secret.from == SecretRef::Parameter(name.clone()))
    };
    let of_jobs = |job: &&crate::model::project::Job| {
        let secrets = &job.in_environment(&environment.name).spec.container.secrets;
        secrets.iter().any(|secret| secret.from == SecretRef::Parameter(name.clone()))
    };
    let services = repository.services.iter().filter(uses).map(|service| service.name().to_string());
    let jobs = repository.jobs.iter().filter(of_jobs).map(|job| job.name().to_string());
    let mut found: Vec<String> = services.chain(jobs).collect();
    found.sort();
    found
}

async fn remove(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
    name: &SecretName,
    yes: bool,
) -> Result<Done, Failure> {
    let users = users(repository, environment, name);
    if !users.is_empty() {
        let names: Vec<String> = users.iter().map(|name| format!("`{name}`")).collect();
        return Err(Failure::usage(
            format!("secret `{name}` is used by {}; nothing was removed", names.join(", ")),
            "take it out of `secrets` in services/ first, and deploy that",
        ));
    }
    let command = format!("fleetwright secret rm {name}");
    let keeper = keeper(context, repository, environment).await?;
    let question = format!("Remove secret `{name}` of `{}` with all of its versions?", environment.name);
    confirm(&question, yes, &command).await?;
    if !keeper.remove(name).await.map_err(cloud_failure)? {
        return Err(Failure::usage(
            format!("there is no secret `{name}` in environment `{}`", environment.name),
            "`fleetwright secret ls` lists them",
        ));
    }
    if context.json() {
        view::json::document(
            &json!({ "version": VERSION, "environment": environment.name, "removed": name }),
        );
    } else {
        eprintln!("{name}   removed");
    }
    Ok(Done::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_in_an_argument_is_refused_and_not_repeated() {
        let extra = ["hunter2".into()];
        for failure in [named("db=hunter2", &[]), named("db", &extra), named("9=hunter2", &[])] {
            let failure = failure.expect_err("it has a value");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
        assert_eq!(named("db", &[]).expect("a name").as_str(), "db");
    }
}
