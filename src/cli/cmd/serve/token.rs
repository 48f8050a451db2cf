//! `fleetwright serve token`.

use std::path::Path;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;

use crate::adapter::authority;
use crate::adapter::serve_tokens::ServeTokens;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipelines::{journal_folder, state_folder};
use crate::cli::span::span;
use crate::model::access::Level;
use crate::model::name::TokenName;
use crate::model::token::{StoredToken, TOKEN_VERSION, TokenText};
use crate::port::tokens::{KnownTokens as _, LONGEST, TOKENS_VERSION};
use crate::source::suggest;
use crate::view;

/// Creates, lists and revokes tokens for the page and the API of `serve`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Creates a token and prints it, once
    #[command(after_long_help = "\
Run it on the machine of `fleetwright serve`, as the user that runs it; the server may be running or not.
Only a hash of the token is stored: what is printed now can't be shown again.

A viewer reads. A deployer also runs, cancels, retries and approves. An admin does everything. The name is
recorded with what its bearer does.

The bearer logs in with the token on the page, or sets FLEETWRIGHT_SERVE_TOKEN to it.

Examples:
  fleetwright serve token create anna --role deployer
  fleetwright serve token create dashboard --role viewer --expires 90d")]
    Create {
        /// Its name
        #[arg(value_name = "NAME")]
        name: TokenName,

        /// What its bearer may do: viewer, deployer or admin
        #[arg(long, visible_alias = "level", value_name = "ROLE")]
        role: Level,

        /// How long it is valid, such as `12h` or `30d`; a year at most
        #[arg(long, value_name = "DURATION", default_value = "365d", value_parser = span)]
        expires: Duration,
    },
    /// Lists the tokens: names, roles and expiry, never the tokens themselves
    List,
    /// Revokes a token; sessions that it opened end, too
    Revoke {
        /// Its name
        #[arg(value_name = "NAME")]
        name: TokenName,
    },
}

/// Runs the command.
pub fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.project()?;
    let folder = state_folder(repository.project.as_str())?;
    let folder = journal_folder(&folder, &repository, context.environment(&repository)?);
    let tokens = ServeTokens::beside(&folder);
    match args.action {
        Action::Create { name, role, expires } => {
            context.may_change(&format!("fleetwright serve token create {name} --role {}", role.word()))?;
            create(context, &tokens, name, role, expires)
        }
        Action::List => list(context, &tokens),
        Action::Revoke { name } => {
            context.may_change(&format!("fleetwright serve token revoke {name}"))?;
            revoke(context, &tokens, &name)
        }
    }
}

fn unusable(doing: &str, folder: &Path, error: &std::io::Error) -> Failure {
    let next = "run it as the user that runs `fleetwright serve`, or set FLEETWRIGHT_HOME to that user's";
    Failure::failed(format!("{doing} {}: {error}", folder.display()), next)
}

fn create(
    context: &Context,
    tokens: &ServeTokens,
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
    let random = authority::random()
        .map_err(|error| Failure::failed(error.to_string(), "check the operating system's random numbers"))?;
    let text = TokenText::new(name.clone(), random);
    let now = Utc::now();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let stored = StoredToken {
        version: TOKEN_VERSION,
        name,
        level,
        sha256: text.hash(),
        created: now,
        created_by: user.map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name),
        expires: now + expires,
    };
    let added = tokens.add(&stored).map_err(|error| unusable("writing", tokens.folder(), &error))?;
    if !added {
        return Err(Failure::usage(
            format!("there is a token `{}` already", stored.name),
            format!("give it another name, or `fleetwright serve token revoke {}` first", stored.name),
        ));
    }
    let StoredToken { name, level, expires, .. } = stored;
    if context.json() {
        view::json::document(&json!({
            "version": TOKENS_VERSION,
            "name": name,
            "level": level,
            "expires": expires,
            "token": text.text().expose(),
        }));
    } else {
        eprintln!(
            "token `{name}`: {level}, valid until {}; it is not shown again:",
            expires.format("%Y-%m-%d %H:%M UTC")
        );
        println!("{}", text.text().expose());
    }
    Ok(Done::Ok)
}

fn list(context: &Context, tokens: &ServeTokens) -> Result<Done, Failure> {
    let all = tokens.all().map_err(|error| unusable("reading", tokens.folder(), &error))?;
    if context.json() {
        let shown = all.iter().map(|token| {
            json!({
                "name": token.name,
                "level": token.level,
                "created": token.created,
                "created_by": token.created_by,
                "expires": token.expires,
            })
        });
        view::json::document(&json!({ "version": TOKENS_VERSION, "tokens": shown.collect::<Vec<_>>() }));
    } else {
        let rows: Vec<view::tokens::Row<'_>> = all
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

fn revoke(context: &Context, tokens: &ServeTokens, name: &TokenName) -> Result<Done, Failure> {
    let known = tokens.token(name).is_some();
    let removed =
        tokens.remove(name).map_err(|error| unusable("removing a token in", tokens.folder(), &error))?;
    if !removed && !known {
        let all = tokens.all().unwrap_or_default();
        let next = match suggest(name.as_str(), all.iter().map(|token| token.name.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`fleetwright serve token list` shows what there is".to_owned(),
        };
        return Err(Failure::usage(format!("there is no token `{name}`"), next));
    }
    if context.json() {
        view::json::document(&json!({ "version": TOKENS_VERSION, "revoked": name }));
    } else {
        eprintln!("token `{name}` is revoked; the server rejects it from now on");
    }
    Ok(Done::Ok)
}
