//! The command line: arguments in, exit status out. One file per command in [`cmd`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};

pub mod cmd;
mod compare;
pub mod context;
#[allow(
    clippy::disallowed_methods,
    reason = "the demo reads what it wrote; it copies the repository with source::read"
)]
pub mod demo;
pub mod explain;
pub mod failure;
mod host_files;
pub mod infra_steps;
mod later;
mod occurrences;
mod page_token;
mod pipeline_server;
pub mod pipelines;
pub mod protect;
pub mod published;
pub mod read;
mod registries;
mod release;
mod rollouts;
pub mod secrets;
mod served_stacks;
mod session;
pub mod span;
pub mod stacks;
mod target;
mod terminal;

use crate::source;
use context::Context;
use failure::Failure;

/// Takes a git repository to a running fleet, without Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "fleetwright", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_long_help = "Exit status: 0 done, 1 failed, 2 usage or invalid input; `plan` has 0 no change, 3 changes;\n`drift` has 0 none, 3 drift; `exec` that of the program."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// The infra repository's root; by default the nearest folder upwards that holds a fleetwright.yaml
    #[arg(short = 'C', long, global = true, value_name = "DIR")]
    pub repo: Option<PathBuf>,

    /// The environment; by default FLEETWRIGHT_ENVIRONMENT, or else the first in fleetwright.yaml
    #[arg(short, long, global = true, value_name = "NAME")]
    pub environment: Option<String>,

    /// How to print: for people, or JSON (one document for a query, one event a line for an action)
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "human")]
    pub output: Output,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Human,
    /// JSON.
    Json,
}

/// The commands. The first word of each help text is what it does.
#[derive(Debug, Subcommand)]
enum Command {
    Init(cmd::init::Args),
    Validate(cmd::validate::Args),
    Render(cmd::render::Args),
    Template(cmd::template::Args),
    Unit(cmd::unit::Args),
    CloudConfig(cmd::cloud_config::Args),
    Plan(cmd::plan::Args),
    Apply(cmd::apply::Args),
    Drift(cmd::drift::Args),
    Recover(cmd::recover::Args),
    Import(cmd::import::Args),
    Adopt(cmd::adopt::Args),
    Destroy(cmd::destroy::Args),
    Serve(cmd::serve::Args),
    Pipeline(cmd::pipeline::Args),
    Deploy(cmd::deploy::Args),
    Status(cmd::status::Args),
    Rollback(cmd::rollback::Args),
    Restart(cmd::restart::Args),
    Scale(cmd::scale::Args),
    Stop(cmd::stop::Args),
    Start(cmd::start::Args),
    Promote(cmd::promote::Args),
    #[command(visible_alias = "rm")]
    Remove(cmd::remove::Args),
    Secret(cmd::secret::Args),
    Logs(cmd::logs::Args),
    Job(cmd::job::Args),
    HostFile(cmd::host_file::Args),
    Run(cmd::run::Args),
    Exec(cmd::exec::Args),
    Events(cmd::events::Args),
    Why(cmd::why::Args),
    Machines(cmd::machines::Args),
    Cluster(cmd::cluster::Args),
    Audit(cmd::audit::Args),
    Drain(cmd::drain::Args),
    Roll(cmd::roll::Args),
    Local(cmd::local::Args),
    Demo(cmd::demo::Args),
    Agent(cmd::agent::Args),
    Completions(cmd::completions::Args),
}

/// How a command ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// Status 0.
    Ok,
    /// Status 3: `plan` found changes, or `drift` drift.
    Changes,
    /// The status of a program that was executed elsewhere.
    Status(u8),
}

/// Parses the arguments, runs the command and turns its result into the exit status.
pub fn run() -> ExitCode {
    // aws-lc-rs is the one TLS provider in the tree; a second call only says it is installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    crate::view::out::mask_panics();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(mut error) => {
            let advice = advice(&mut error);
            let _ = error.print();
            if let Some(advice) = advice {
                eprintln!("{advice}");
            }
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let context = Context::new(cli.global);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::failed(
                format!("starting the runtime: {error}"),
                "check the limit on threads (`ulimit -u`)",
            )
            .report(&context);
        }
    };
    let result = runtime.block_on(dispatch(&context, cli.command));
    runtime.shutdown_background();
    match result {
        Ok(Done::Ok) => ExitCode::SUCCESS,
        Ok(Done::Changes) => ExitCode::from(3),
        Ok(Done::Status(status)) => ExitCode::from(status),
        Err(failure) => failure.report(&context),
    }
}

/// Removes suggestions of commands that are only remotely alike: who types `restart` must not be offered `destroy`.
/// Returns what to do instead, for words that other tools have.
fn advice(error: &mut clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return None;
    }
    let given = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(given)) => given.clone(),
        _ => return None,
    };
    let near = match error.get(ContextKind::SuggestedSubcommand) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(several)) => several.clone(),
        _ => Vec::new(),
    };
    let near: Vec<String> =
        near.into_iter().filter(|name| source::suggest(&given, [name.as_str()]).is_some()).collect();
    if near.is_empty() {
        error.remove(ContextKind::SuggestedSubcommand);
    } else {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(near));
    }
    match given.as_str() {
        "release" | "rollout" | "push" => Some(
            " next: `fleetwright deploy` deploys services as services/*.yaml describes them; a push to a watched repository runs its pipelines (`fleetwright pipeline` lists them); `fleetwright apply` changes stacks",
        ),
        "redeploy" | "reload" => Some(
            " next: `fleetwright restart SERVICE` replaces its instances, `fleetwright roll GROUP` its machines",
        ),
        "up" | "create" | "update" => Some(" next: `fleetwright apply` creates and updates stacks"),
        "ps" | "list" | "ls" => {
            Some(" next: `fleetwright status` shows services, `fleetwright machines` machines")
        }
        _ => None,
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<Done, Failure> {
    match command {
        Command::Init(args) => cmd::init::run(context, args).await,
        Command::Validate(args) => cmd::validate::run(context, args).await,
        Command::Render(args) => cmd::render::run(context, args).await,
        Command::Template(args) => cmd::template::run(context, args).await,
        Command::Unit(args) => cmd::unit::run(context, args).await,
        Command::CloudConfig(args) => cmd::cloud_config::run(context, args).await,
        Command::Plan(args) => cmd::plan::run(context, args).await,
        Command::Apply(args) => cmd::apply::run(context, args).await,
        Command::Drift(args) => cmd::drift::run(context, args).await,
        Command::Recover(args) => cmd::recover::run(context, args).await,
        Command::Import(args) => cmd::import::run(context, args).await,
        Command::Adopt(args) => cmd::adopt::run(context, args).await,
        Command::Destroy(args) => cmd::destroy::run(context, args).await,
        Command::Serve(args) => cmd::serve::run(context, args).await,
        Command::Pipeline(args) => cmd::pipeline::run(context, args).await,
        Command::Status(args) => cmd::status::run(context, args).await,
        Command::Deploy(args) => cmd::deploy::run(context, args).await,
        Command::Restart(args) => cmd::restart::run(context, args).await,
        Command::Scale(args) => cmd::scale::run(context, args).await,
        Command::Stop(args) => cmd::stop::run(context, args).await,
        Command::Start(args) => cmd::start::run(context, args).await,
        Command::Promote(args) => cmd::promote::run(context, args).await,
        Command::Remove(args) => cmd::remove::run(context, args).await,
        Command::Rollback(args) => cmd::rollback::run(context, args).await,
        Command::Secret(args) => cmd::secret::run(context, args).await,
        Command::Logs(args) => cmd::logs::run(context, args).await,
        Command::Job(args) => cmd::job::run(context, args).await,
        Command::HostFile(args) => cmd::host_file::run(context, args).await,
        Command::Run(args) => cmd::run::run(context, args).await,
        Command::Exec(args) => cmd::exec::run(context, args).await,
        Command::Events(args) => cmd::events::run(context, args).await,
        Command::Why(args) => cmd::why::run(context, args).await,
        Command::Machines(args) => cmd::machines::run(context, args).await,
        Command::Cluster(args) => cmd::cluster::run(context, args).await,
        Command::Audit(args) => cmd::audit::run(context, args).await,
        Command::Drain(args) => cmd::drain::run(context, args).await,
        Command::Roll(args) => cmd::roll::run(context, args).await,
        Command::Local(args) => cmd::local::run(context, args).await,
        Command::Demo(args) => cmd::demo::run(context, args).await,
        Command::Agent(args) => cmd::agent::run(context, args).await,
        Command::Completions(args) => cmd::completions::run(context, args).await,
    }
}
