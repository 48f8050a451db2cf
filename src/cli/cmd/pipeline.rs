//! `fleetwright pipeline`: everything through the API of the pipeline server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::adapter::pipeline_api::{ApiError, Message, PipelineApi};
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipeline_server::{Finder, failure};
use crate::cli::stacks::signals;
use crate::event::pipeline::PipelineEvent;
use crate::event::{EVENT_VERSION, Event, EventKind};
use crate::model::percent::encoded;
use crate::model::run::{Run, RunId, RunState};
use crate::port::pipeline_wire::{CancelRequest, CancelledAnswer, QueuedAnswer, RetryRequest, RunRequest};
use crate::view;
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;

mod import;
mod lint;
mod local;
mod shell;
mod steps;

/// Runs a pipeline by hand, lists and cancels runs, shows what they print, or tries one again
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
These commands ask the pipeline server: the one at `server` of the environment in fleetwright.yaml,
or else the `fleetwright serve` that runs on this machine for the environment. The token is
FLEETWRIGHT_SERVE_TOKEN; on the server's machine, its owner needs none.

Runs of one pipeline go one after the other. `run` and `retry` follow their run until it has ended,
also when the server stops and is started again meanwhile. Ctrl-C cancels the run.

A run whose process ended twice without finishing a step is quarantined: others go on, and it waits
for `pipeline retry`.

Examples:
  fleetwright pipeline run web                     the head of its branch
  fleetwright pipeline run web --commit v1.2       a tag, a branch or a commit
  fleetwright pipeline run web --set VERSION=2     with a parameter
  fleetwright pipeline run web --local             the work tree here, on this computer's Docker, without a server
  fleetwright pipeline show 7                      its steps, the tests that failed, what it asks
  fleetwright pipeline approve 7                   shows what would be done, asks, and lets it go on
  fleetwright pipeline files 7 --into out          what its steps have kept
  fleetwright pipeline retry 7                     a run that was quarantined, or one that failed, as a new run
  fleetwright pipeline retry 7 --from test         as a new run that takes over what `test` does not touch
  fleetwright pipeline shell 7 test                a shell in the step `test`, which has failed
  fleetwright pipeline logs 7                      what its steps have printed
  fleetwright pipeline logs 7 test --follow        of the step `test` alone, as it comes
  fleetwright pipeline logs 7 test --search error  its lines that have this text
  fleetwright pipeline cancel 7                    a run that waits, or that is under way
  fleetwright pipeline list --state failed
  fleetwright pipeline list -o json
  fleetwright pipeline lint                        checks pipelines/ and shows the steps in their order
  fleetwright pipeline import .woodpecker.yml      a pipeline for pipelines/ from one of Woodpecker or Jenkins")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Runs a pipeline and shows what happens, until it has ended
    Run {
        /// The pipeline
        name: String,
        /// The commit, branch or tag; by default the head of the watched branch
        #[arg(long, value_name = "REF")]
        commit: Option<String>,
        /// A parameter of the pipeline; may be given several times
        #[arg(long = "set", visible_alias = "param", value_name = "NAME=VALUE")]
        parameters: Vec<String>,
        #[command(flatten)]
        local: local::Args,
    },
    /// Shows a run: its steps, what its tests have shown, what it asks
    Show {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
    },
    /// Approves what a run asks, once it has been shown
    Approve {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// The step, where several ask
        #[arg(value_name = "STEP")]
        step: Option<String>,
        /// Don't ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Rejects what a run asks: the step fails
    Reject {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// The step, where several ask
        #[arg(value_name = "STEP")]
        step: Option<String>,
    },
    /// Lists the files that a run has kept, or fetches them
    Files {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// The step; all by default
        #[arg(value_name = "STEP")]
        step: Option<String>,
        /// Fetch them into this folder, each step's into its own
        #[arg(long, value_name = "FOLDER")]
        into: Option<PathBuf>,
    },
    /// Tries a run again, and shows what happens, until it has ended: a quarantined one where it stopped, any other as a
    /// new run of its commit
    Retry {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// Begin at this step: a new run takes over the results of the steps that it does not touch, and the workspace,
        /// which is kept for an hour after a failure
        #[arg(long, value_name = "STEP")]
        from: Option<String>,
    },
    Shell(shell::Args),
    /// Ends a run; a rollout that has begun continues in the cluster
    Cancel {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// Why, in one line; shown with the run
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Shows what the steps of a run have printed
    Logs {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
        /// The step, as `pipeline logs` names it; all by default
        #[arg(value_name = "STEP")]
        step: Option<String>,
        /// Go on until the run has ended
        #[arg(short, long)]
        follow: bool,
        /// Only lines that have this text, with their numbers
        #[arg(long, value_name = "TEXT", requires = "step", conflicts_with = "follow")]
        search: Option<String>,
        /// Upper and lower case are the same for `--search`
        #[arg(short, long, requires = "search")]
        ignore_case: bool,
    },
    /// Prints a pipeline for pipelines/ from a workflow of Woodpecker or a Jenkinsfile
    Import(import::Args),
    Lint(lint::Args),
    /// Lists the last runs, newest first
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Only runs of this pipeline
        #[arg(long, value_name = "NAME")]
        pipeline: Option<String>,
        /// Only runs in this state, such as `failed`
        #[arg(long, value_name = "STATE")]
        state: Option<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Run { name, commit, parameters, local } => match local.is_wanted() {
            true => local::run(context, &name, given(parameters)?, local).await,
            false => run_by_hand(context, &name, commit, given(parameters)?).await,
        },
        Action::Show { run } => steps::show(context, RunId(run)).await,
        Action::Approve { run, step, yes } => steps::approve(context, RunId(run), step, yes).await,
        Action::Reject { run, step } => steps::reject(context, RunId(run), step).await,
        Action::Files { run, step, into } => steps::files(context, RunId(run), step.as_deref(), into).await,
        Action::Retry { run, from } => retry(context, RunId(run), from).await,
        Action::Shell(args) => shell::run(context, args).await,
        Action::Cancel { run, reason } => cancel(context, RunId(run), reason).await,
        Action::Logs { run, step: Some(step), search: Some(text), ignore_case, .. } => {
            steps::search(context, RunId(run), &step, &text, ignore_case).await
        }
        Action::Logs { run, step, follow, .. } => logs(context, RunId(run), step.as_deref(), follow).await,
        Action::Import(args) => import::run(context, args),
        Action::Lint(args) => lint::run(context, &args),
        Action::List { limit, pipeline, state } => list(context, limit, pipeline, state).await,
    }
}

async fn list(
    context: &Context,
    limit: u32,
    pipeline: Option<String>,
    state: Option<String>,
) -> Result<Done, Failure> {
    let api = Finder::new(context)?.find(context)?;
    let mut query = vec![("limit", limit.to_string())];
    query.extend(pipeline.map(|name| ("pipeline", name)));
    query.extend(state.map(|state| ("state", state)));
    let answer = api.get("runs", &query).await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "runs": answer["runs"] }));
    } else {
        let runs: Vec<Run> = understood(&api, answer["runs"].clone())?;
        print!("{}", view::pipeline::list(&runs, Utc::now()));
    }
    Ok(Done::Ok)
}

fn understood<T: serde::de::DeserializeOwned>(api: &PipelineApi, answer: Value) -> Result<T, Failure> {
    serde_json::from_value(answer).map_err(|error| failure(&api.unreadable(error.to_string())))
}

/// The parameters that were given.
fn given(all: Vec<String>) -> Result<BTreeMap<String, String>, Failure> {
    let mut parameters = BTreeMap::new();
    for text in all {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::usage(
                format!("`--set {text}` has no `=`"),
                format!("write `--set {text}=VALUE`"),
            ));
        };
        parameters.insert(name.to_owned(), value.to_owned());
    }
    Ok(parameters)
}

async fn run_by_hand(
    context: &Context,
    name: &str,
    commit: Option<String>,
    parameters: BTreeMap<String, String>,
) -> Result<Done, Failure> {
    context.may_change(&format!("fleetwright pipeline run {name}"))?;
    let finder = Finder::new(context)?;
    let api = finder.find(context)?;
    let request = RunRequest { commit, parameters };
    let path = format!("pipelines/{}/runs", encoded(name));
    let answer = api.post(&path, &request).await.map_err(|error| failure(&error))?;
    let queued: QueuedAnswer = understood(&api, answer)?;
    follow(context, &finder, queued.run).await
}

/// Releases a run from quarantine, or makes a new run of the same commit.
async fn retry(context: &Context, id: RunId, from: Option<String>) -> Result<Done, Failure> {
    context.may_change(&format!("fleetwright pipeline retry {id}"))?;
    let finder = Finder::new(context)?;
    let api = finder.find(context)?;
    let answer = api
        .post(&format!("runs/{id}/retry"), &RetryRequest { from })
        .await
        .map_err(|error| failure(&error))?;
    let queued: QueuedAnswer = understood(&api, answer)?;
    follow(context, &finder, queued.run).await
}

/// Ends a run, whether it waits or is under way.
async fn cancel(context: &Context, id: RunId, reason: Option<String>) -> Result<Done, Failure> {
    context.may_change(&format!("fleetwright pipeline cancel {id}"))?;
    let api = Finder::new(context)?.find(context)?;
    let cancelled = ask_to_cancel(&api, id, reason).await.map_err(|error| failure(&error))?;
    let rolls_out = cancelled.rollout_continues;
    if context.json() {
        view::json::document(
            &json!({ "version": 1, "run": id, "state": "cancelled", "rollout_continues": rolls_out }),
        );
    } else if rolls_out {
        println!(
            "Run {id} is cancelled. Its rollout continues in the cluster; `fleetwright status` shows it."
        );
    } else {
        println!("Run {id} is cancelled.");
    }
    Ok(Done::Ok)
}

async fn ask_to_cancel(
    api: &PipelineApi,
    id: RunId,
    reason: Option<String>,
) -> Result<CancelledAnswer, ApiError> {
    let answer = api.post(&format!("runs/{id}/cancel"), &CancelRequest { reason }).await?;
    serde_json::from_value(answer).map_err(|error| api.unreadable(error.to_string()))
}

/// How a stream ended.
enum StreamEnd {
    /// The run has ended.
    Run,
    /// A signal came.
    Stopped,
    /// The reader has closed its end.
    Closed,
}

/// How long a server that went away is left alone before it is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// Reads a run's log after `seen` until the run ends, whatever happens to the server meanwhile.
async fn read(
    context: &Context,
    finder: &Finder,
    (id, step): (RunId, Option<&str>),
    seen: &mut i64,
    stop: &CancellationToken,
    show: &mut dyn FnMut(&Message) -> bool,
) -> Result<StreamEnd, Failure> {
    let mut away = false;
    loop {
        let connected = async {
            let api = finder.find(context)?;
            api.log(id, step, *seen)
                .await
                .map_err(|error| match error {
                    ApiError::Unreachable { .. } => None,
                    error => Some(failure(&error)),
                })
                .map_or_else(|failed| failed.map_or(Ok(None), Err), |stream| Ok(Some(stream)))
        };
        let stream = tokio::select! {
            stream = connected => stream,
            () = stop.cancelled() => return Ok(StreamEnd::Stopped),
        };
        let stream = match stream {
            Ok(stream) => stream,
            // Between two servers there may be no file that says where it is.
            Err(Failure::Failed { .. }) if away => None,
            Err(failed) => return Err(failed),
        };
        if let Some(mut stream) = stream {
            if away {
                eprintln!("the pipeline server answers again");
                away = false;
            }
            loop {
                let message = tokio::select! {
                    message = stream.next() => message,
                    () = stop.cancelled() => return Ok(StreamEnd::Stopped),
                };
                match message {
                    Some(Ok(message)) if message.end => return Ok(StreamEnd::Run),
                    Some(Ok(message)) => {
                        *seen = message.id.unwrap_or(*seen);
                        if !show(&message) {
                            return Ok(StreamEnd::Closed);
                        }
                    }
                    Some(Err(ApiError::Unreachable { .. })) | None => break,
                    Some(Err(error)) => return Err(failure(&error)),
                }
            }
        }
        if !away {
            eprintln!("the pipeline server went away; waiting for it (run {id} is not lost)");
            away = true;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(StreamEnd::Stopped),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// An entry of a run's log.
#[derive(Deserialize)]
struct Logged {
    at: DateTime<Utc>,
    event: PipelineEvent,
}

/// Shows what happens to a run until it has ended. The first signal cancels it.
async fn follow(context: &Context, finder: &Finder, id: RunId) -> Result<Done, Failure> {
    let mut lines = Lines::new(Paint(context.colour_err));
    let is_json = context.json();
    let mut state = None;
    let mut show = |message: &Message| {
        let Ok(Logged { at, event }) = serde_json::from_str(&message.data) else { return true };
        if let PipelineEvent::Finished { state: ended, .. } = &event {
            state = Some(*ended);
        }
        if is_json {
            let event = Event { version: EVENT_VERSION, at, kind: EventKind::Pipeline(event) };
            view::json::line(&serde_json::to_value(event).unwrap_or_default());
        } else if let Some(line) = lines.line(&event) {
            eprintln!("{line}");
        }
        true
    };
    let mut seen = 0;
    let stop = signals();
    if let StreamEnd::Stopped = read(context, finder, (id, None), &mut seen, &stop, &mut show).await? {
        let left = || Failure::Interrupted {
            left: format!("run {id} continues on the server; `fleetwright pipeline cancel {id}` ends it"),
        };
        let api = finder.find(context).map_err(|_| left())?;
        match ask_to_cancel(&api, id, Some("stopped at the terminal".to_owned())).await {
            // It ended on its own just before.
            Ok(_) | Err(ApiError::Refused { status: 409, .. }) => {}
            Err(ApiError::Unreachable { .. }) => return Err(left()),
            Err(error) => return Err(failure(&error)),
        }
        read(context, finder, (id, None), &mut seen, &CancellationToken::new(), &mut show).await?;
    }
    match state {
        Some(RunState::Succeeded) => Ok(Done::Ok),
        _ => Err(Failure::Reported),
    }
}

/// Prints the lines of a run's steps.
async fn logs(context: &Context, id: RunId, step: Option<&str>, follow: bool) -> Result<Done, Failure> {
    let finder = Finder::new(context)?;
    let is_json = context.json();
    let mut show = |message: &Message| {
        let Ok(Logged { at, event: PipelineEvent::Log { step: of, text, .. } }) =
            serde_json::from_str(&message.data)
        else {
            return true;
        };
        let line = if is_json {
            json!({ "version": 1, "at": at, "step": of, "line": text }).to_string()
        } else if step.is_some() {
            text
        } else {
            format!("{of} | {text}")
        };
        view::out::try_stdout(&format!("{line}\n")).is_ok()
    };
    let mut seen = 0;
    if follow {
        read(context, &finder, (id, step), &mut seen, &signals(), &mut show).await?;
        return Ok(Done::Ok);
    }
    let api = finder.find(context)?;
    let mut stream = api.log_so_far(id, step).await.map_err(|error| failure(&error))?;
    while let Some(message) = stream.next().await {
        let message = message.map_err(|error| failure(&error))?;
        if message.end || !show(&message) {
            break;
        }
    }
    Ok(Done::Ok)
}
