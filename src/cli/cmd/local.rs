//! `fleetwright local`.

mod power_cycle;
mod push;

use clap::Subcommand;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::event::Events;
use crate::local::error::LocalError;
use crate::local::home::Home;
use crate::local::image::Release;
use crate::local::state::State;
use crate::local::up::Up;
use crate::local::{environment, keys, status, supervisor, up};
use crate::model::name::LocalName;
use crate::view;

/// The local cloud: an emulated AWS, a registry and real systemd machines
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  fleetwright local up\n  eval \"$(fleetwright local env)\" && fleetwright apply\n  fleetwright local status\n  fleetwright local push debian:12\n  fleetwright local power-cycle --all --delay 5s..60s\n  fleetwright local down"
)]
pub struct Args {
    /// Which local cloud; several can be up side by side
    #[arg(long, global = true, value_name = "NAME", env = "FLEETWRIGHT_LOCAL_NAME", default_value = "local")]
    name: LocalName,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Starts it, and prepares what it needs the first time (some minutes)
    ///
    /// Every release has an image of its own, whose id is in FLEETWRIGHT_MACHINE_IMAGE_BOOKWORM and
    /// FLEETWRIGHT_MACHINE_IMAGE_TRIXIE (`local env`). A stack that uses FLEETWRIGHT_MACHINE_IMAGE
    /// gets the first release that `up` was given when it started the cloud.
    Up {
        /// A release of Debian whose image is prepared: bookworm or trixie; may be repeated [default: bookworm]
        #[arg(long = "release", value_name = "RELEASE")]
        releases: Vec<Release>,
    },
    /// Shows its parts and machines
    Status,
    /// Stops it and removes all it started; stacks and images in it are lost
    Down {
        /// Also remove the emulator's environment and the machine image, which `up` makes again
        #[arg(long)]
        purge: bool,
    },
    PowerCycle(power_cycle::Args),
    Push(push::Args),
    /// Prints the variables with which every other command uses it, for a shell's `eval`
    Env {
        /// The user of the emulated account that commands are run as [default: local]
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// The background process
    #[command(hide = true)]
    Supervise {
        /// What machines run by default
        #[arg(long, default_value = "bookworm")]
        release: Release,
    },
    /// Stops or starts the registry, to see what happens without it
    #[command(hide = true)]
    Registry {
        #[command(subcommand)]
        verb: RegistryVerb,
    },
}

#[derive(Debug, Subcommand)]
enum RegistryVerb {
    /// Stops it until `start`
    Stop,
    /// Starts it again
    Start,
}

impl From<LocalError> for Failure {
    fn from(error: LocalError) -> Self {
        let next = error.next();
        match error {
            LocalError::Setting { .. } | LocalError::NoMachine { .. } | LocalError::NoMachines { .. } => {
                Self::usage(error.to_string(), next)
            }
            error => Self::failed(error.to_string(), next),
        }
    }
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let home = Home::from_env()?;
    let name = args.name;
    match args.verb {
        Verb::Up { releases } => bring_up(context, &home, &name, &releases).await?,
        Verb::Status => {
            let status = status::status(&home, &name).await;
            if context.json() {
                print(&format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default()));
            } else {
                print(&view::local::status(&status, chrono::Utc::now()));
            }
        }
        Verb::Down { purge } => {
            let removed = up::down(&home, &name, purge).await?;
            let machines = match removed.machines {
                0 => String::new(),
                1 => ", 1 machine".into(),
                n => format!(", {n} machines"),
            };
            let purged = if removed.purged { ", the environment and the machine image" } else { "" };
            if removed.supervisor || removed.machines > 0 || removed.purged {
                eprintln!("local cloud `{name}` removed{machines}{purged}");
            } else {
                eprintln!("no local cloud `{name}` is up");
            }
        }
        Verb::PowerCycle(args) => power_cycle::run(context, &home, &name, args).await?,
        Verb::Push(args) => push::run(context, &home, &name, args).await?,
        Verb::Env { user } => {
            if let Some(user) = user.as_deref().filter(|user| !keys::is_user(user)) {
                return Err(Failure::usage(
                    format!("`{user}` is not a name that IAM takes for a user"),
                    "use 1 to 60 of A-Z, a-z, 0-9 and +=,.@_-",
                ));
            }
            let state = state_of(&home, &name)?;
            let variables = environment::variables(&home.cloud(&name), &state, user.as_deref())?;
            print(&environment::exports(&variables));
        }
        Verb::Supervise { release } => {
            let filter = tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| "warn,fleetwright=info".into());
            let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
            let _ = log.with_writer(|| crate::view::out::Log).try_init();
            supervisor::run(&home, &name, release).await?;
        }
        Verb::Registry { verb } => registry(&home, &name, &verb).await?,
    }
    Ok(Done::Ok)
}

/// Brings a local cloud up, showing what is prepared.
pub(super) async fn bring_up(
    context: &Context,
    home: &Home,
    name: &LocalName,
    releases: &[Release],
) -> Result<(), Failure> {
    let (events, mut receiver) = Events::channel();
    let mut progress = view::local::Progress::new(context.live);
    let work = up::up(home, name, releases, &events);
    tokio::pin!(work);
    let result = loop {
        tokio::select! {
            Some(event) = receiver.recv() => progress.handle(&event),
            result = &mut work => break result,
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::Interrupted {
                    left: "what was prepared is kept; `fleetwright local up` goes on from there".into(),
                });
            }
        }
    };
    while let Ok(event) = receiver.try_recv() {
        progress.handle(&event);
    }
    let (up, state) = result?;
    if up == Up::Already {
        eprintln!("local cloud `{name}` is up");
        if releases.first().is_some_and(|first| *first != state.release) {
            eprintln!("FLEETWRIGHT_MACHINE_IMAGE stays that of {}", state.release.title());
        }
    }
    eprintln!("next: eval \"$(fleetwright local env)\"");
    Ok(())
}

fn state_of(home: &Home, name: &LocalName) -> Result<State, LocalError> {
    let files = home.cloud(name);
    let state = State::read(&files).filter(|state| state.ready && State::is_supervised(&files));
    let state = state.ok_or(LocalError::NotUp { name: name.to_string() })?;
    match state.broken {
        Some(reason) => Err(LocalError::Broken { name: name.to_string(), reason }),
        None => Ok(state),
    }
}

async fn registry(home: &Home, name: &LocalName, verb: &RegistryVerb) -> Result<(), LocalError> {
    let hold = supervisor::registry_hold(&home.cloud(name));
    let state = state_of(home, name)?;
    match verb {
        RegistryVerb::Stop => {
            std::fs::write(&hold, "").map_err(LocalError::file("writing", &hold))?;
            if let Some(process) = state.registry.process {
                process.stop(std::time::Duration::from_secs(2)).await;
            }
        }
        RegistryVerb::Start => {
            let _ = std::fs::remove_file(&hold);
            while !state_of(home, name)?.registry.answers {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
    Ok(())
}

fn print(text: &str) {
    crate::view::out::stdout(text);
}
