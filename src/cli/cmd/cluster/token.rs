//! `fleetwright cluster token`.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::span::span;
use crate::model::access::Level;
use crate::model::name::TokenName;
use crate::port::tokens::{LONGEST, NewToken, TOKENS_VERSION, Tokens};
use crate::view;

/// Creates, lists and revokes tokens for callers without an AWS identity
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Creates a token and prints it, once
    #[command(after_long_help = "\
For callers that have no AWS identity, such as CI outside AWS. The cluster stores a hash of the
token only: what is printed now can't be shown again. Needs the level admin.

The bearer sets FLEETWRIGHT_CLUSTER_TOKEN to the token. Where the parameter store is out of reach,
FLEETWRIGHT_CLUSTER_ENDPOINT and FLEETWRIGHT_CLUSTER_CA are needed as well.

Examples:
  fleetwright cluster token create --name ci --level deployer --expires 30d
  fleetwright cluster token create --name dashboard --level viewer --expires 12h -o json")]
    Create {
        /// Its name, which `audit` shows
        #[arg(long, value_name = "NAME")]
        name: TokenName,

        /// What its bearer may do: viewer, deployer or admin
        #[arg(long, visible_alias = "role", value_name = "LEVEL")]
        level: Level,

        /// How long it is valid, such as `12h` or `30d`; a year at most
        #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = span)]
        expires: Duration,
    },
    /// Lists the tokens: names, levels and expiry, never the tokens themselves
    #[command(after_long_help = "\
Needs the level admin.

Examples:
  fleetwright cluster token list
  fleetwright cluster token list -o json")]
    List,
    /// Revokes a token
    #[command(after_long_help = "\
Every control machine rejects the token within 5 seconds. Needs the level admin.

Examples:
  fleetwright cluster token revoke ci")]
    Revoke {
        /// Its name
        #[arg(value_name = "NAME")]
        name: TokenName,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Create { name, level, expires } => create(context, name, level, expires).await,
        Action::List => list(context).await,
        Action::Revoke { name } => revoke(context, &name).await,
    }
}

async fn create(
    context: &Context,
    name: TokenName,
    level: Level,
    expires: Duration,
) -> Result<Done, Failure> {
    if expires.is_zero() || expires > LONGEST {
        return Err(Failure::usage(
            "a token can be valid for at most 366 days, and for at least a second",
            "give another `--expires`, such as `--expires 30d`",
        ));
    }
    let command = format!("fleetwright cluster token create --name {name} --level {}", level.word());
    let cluster = context.cluster_api_to_change(&command).await?;
    let new = NewToken { name, level, valid_s: expires.as_secs() };
    let created = cluster.create(&new).await.map_err(|error| failure(&error))?;
    let info = &created.info;
    if context.json() {
        view::json::document(&json!({
            "version": TOKENS_VERSION,
            "name": info.name,
            "level": info.level,
            "expires": info.expires,
            "token": created.text.expose(),
        }));
    } else {
        eprintln!(
            "token `{}`: level {}, valid until {}; it is not shown again:",
            info.name,
            info.level,
            info.expires.format("%Y-%m-%d %H:%M UTC")
        );
        println!("{}", created.text.expose());
    }
    Ok(Done::Ok)
}

async fn list(context: &Context) -> Result<Done, Failure> {
    let tokens = context.cluster_api().await?.list().await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": TOKENS_VERSION, "tokens": tokens }));
    } else {
        let rows: Vec<view::tokens::Row<'_>> = tokens
            .iter()
            .map(|token| view::tokens::Row {
                name: token.name.as_str(),
                level: token.level,
                created: token.created,
                created_by: &token.created_by,
                expires: token.expires,
            })
            .collect();
        print!("{}", view::tokens::table(&rows, Utc::now()));
    }
    Ok(Done::Ok)
}

async fn revoke(context: &Context, name: &TokenName) -> Result<Done, Failure> {
    let command = format!("fleetwright cluster token revoke {name}");
    context.cluster_api_to_change(&command).await?.revoke(name).await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": TOKENS_VERSION, "revoked": name }));
    } else {
        eprintln!("token `{name}` is revoked; every control machine rejects it within 5 seconds");
    }
    Ok(Done::Ok)
}
