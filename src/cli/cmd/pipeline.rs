//! `fleetwright pipeline`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio::sync::watch;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipelines::{self, Workshop, journal_failure};
use crate::cli::stacks::signals;
use crate::driver::pipeline::config::source;
use crate::driver::pipeline::queue::{self, Cancelled, enqueue, work_until};
use crate::driver::pipeline::run::{Wish, clear};
use crate::event::pipeline::PipelineEvent;
use crate::event::{EVENT_VERSION, Event, EventKind};
use crate::model::git_ref::GitRef;
use crate::model::name::PipelineName;
use crate::model::run::{RunId, RunState, Trigger};
use crate::plan::run::Ending;
use crate::port::journal::{Journal, JournalError, NewRun, Which};
use crate::source::suggest;
use crate::view;
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;

/// Runs a pipeline by hand, lists and cancels runs, shows what they print, or tries one again
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Runs share one journal with `fleetwright serve`. Runs of one pipeline go one after the other,
whichever command started them; a run that a killed process left is gone on with.

A run whose process ended twice without finishing a step is quarantined: others go on, and it waits
for `pipeline retry`.

Examples:
  fleetwright pipeline run web                     the head of its branch
  fleetwright pipeline run web --commit v1.2       a tag, a branch or a commit
  fleetwright pipeline retry 7                     a run that was quarantined, or one that failed, as a new run
  fleetwright pipeline logs 7                      what its steps have printed
  fleetwright pipeline logs 7 test --follow        of the step `test` alone, as it comes
  fleetwright pipeline cancel 7                    a run that waits, or that another process works on
  fleetwright pipeline list
  fleetwright pipeline list -o json")]
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
    },
    /// Tries a run again, and shows what happens, until it has ended: a quarantined one where it stopped, any other as a
    /// new run of its commit
    Retry {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
    },
    /// Ends a run; a rollout that has begun continues in the cluster
    Cancel {
        /// The run's number
        #[arg(value_name = "RUN")]
        run: i64,
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
    },
    /// Lists the last runs, newest first
    List {
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Run { name, commit } => run_by_hand(context, &name, commit.as_deref()).await,
        Action::Retry { run } => retry(context, RunId(run)).await,
        Action::Cancel { run } => cancel(context, RunId(run)).await,
        Action::Logs { run, step, follow } => logs(context, RunId(run), step.as_deref(), follow).await,
        Action::List { limit } => list(context, limit),
    }
}

fn list(context: &Context, limit: u32) -> Result<Done, Failure> {
    let journal = pipelines::journal(context)?;
    let runs = journal.runs(&Which::Newest(limit)).map_err(|error| journal_failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "runs": runs }));
    } else {
        print!("{}", view::pipeline::list(&runs, Utc::now()));
    }
    Ok(Done::Ok)
}

/// How often the journal is read again for new lines.
const LOOK: Duration = Duration::from_millis(300);

/// Prints the lines of a run's steps.
async fn logs(context: &Context, id: RunId, step: Option<&str>, follow: bool) -> Result<Done, Failure> {
    let journal = pipelines::journal(context)?;
    let failed = |error| journal_failure(&error);
    let Some(run) = journal.run(id).map_err(failed)? else { return Err(no_run(id)) };
    let names: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
    // `test` is `run test`, where nothing else is called so.
    let is_meant = |name: &str| {
        step.is_none_or(|step| name == step || name.split_once(' ').is_some_and(|(_, short)| short == step))
    };
    if let Some(step) = step.filter(|_| !names.iter().any(|name| is_meant(name))) {
        let short = names.iter().filter_map(|name| Some(name.split_once(' ')?.1));
        let next = match suggest(step, short.chain(names.iter().copied())) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "it has not begun; `fleetwright pipeline list` shows it".to_owned(),
            None => format!("it has `{}`", names.join("`, `")),
        };
        return Err(Failure::usage(format!("run {id} has no step `{step}`"), next));
    }
    let stop = signals();
    let mut seen = 0;
    loop {
        // Asked before the entries are read: an ended run gets no more of them.
        let ended = journal.run(id).map_err(failed)?.is_none_or(|run| run.state.is_ended());
        loop {
            let entries = journal.entries(id, seen, 500).map_err(failed)?;
            let Some(last) = entries.last() else { break };
            seen = last.seq;
            for entry in entries {
                let Ok(PipelineEvent::Log { step: of, text, .. }) = serde_json::from_str(&entry.event) else {
                    continue;
                };
                if !is_meant(&of) {
                    continue;
                }
                let line = if context.json() {
                    json!({ "version": 1, "at": entry.at, "step": of, "line": text }).to_string()
                } else if step.is_some() {
                    text
                } else {
                    format!("{of} | {text}")
                };
                if view::out::try_stdout(&format!("{line}\n")).is_err() {
                    return Ok(Done::Ok);
                }
            }
        }
        if ended || !follow {
            return Ok(Done::Ok);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(Done::Ok),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn no_run(id: RunId) -> Failure {
    Failure::usage(format!("there is no run {id}"), "`fleetwright pipeline list` shows what there is")
}

async fn run_by_hand(context: &Context, name: &str, commit: Option<&str>) -> Result<Done, Failure> {
    let shop = Workshop::open(context, &format!("fleetwright pipeline run {name}")).await?;
    let names: Vec<&str> = shop.repository.pipelines.iter().map(|known| known.name.as_str()).collect();
    let found = shop.repository.pipelines.iter().find(|known| known.name.as_str() == name);
    let Some(pipeline) = found else {
        let next = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "add a file to pipelines/".to_owned(),
            None => format!("pipelines/ has `{}`", names.join("`, `")),
        };
        return Err(Failure::usage(format!("there is no pipeline `{name}`"), next));
    };
    let source = source(&shop.repository, &pipeline.name, &pipeline.repository)
        .map_err(|error| Failure::usage(error.to_string(), "set what is missing, and try again"))?;
    let git_failure = |error: crate::port::git::GitError| {
        Failure::failed(error.to_string(), "see that `git` itself can reach the repository, and what it has")
    };
    shop.parts.git.fetch(&source, &[]).await.map_err(git_failure)?;
    let branch = format!("refs/heads/{}", source.branch);
    let is_head = commit.is_none();
    let commit = shop.parts.git.commit(&source.name, commit.unwrap_or(&branch)).await.map_err(git_failure)?;
    let new = NewRun {
        pipeline: pipeline.name.clone(),
        repository: source.name.clone(),
        commit: commit.id,
        subject: commit.subject,
        trigger: Trigger::Hand,
        reference: is_head.then(|| GitRef::branch(&source.branch)),
        parameters: BTreeMap::new(),
        asked_by: None,
    };
    let learnt = shop.parts.learn().await;
    learnt.map_err(|problem| {
        Failure::failed(problem.reason, "see that the registry's credentials can be read")
    })?;
    let id = enqueue(&shop.parts, &new).map_err(|error| journal_failure(&error))?;
    ended(work_and_show(context, &shop, &pipeline.name, id).await?, id)
}

/// Releases a run from quarantine and works on it, or makes a new run of the same commit.
async fn retry(context: &Context, id: RunId) -> Result<Done, Failure> {
    let shop = Workshop::open(context, &format!("fleetwright pipeline retry {id}")).await?;
    let failure = |error| journal_failure(&error);
    let Some(run) = shop.parts.journal.run(id).map_err(failure)? else { return Err(no_run(id)) };
    if queue::retry(&shop.parts, id).map_err(failure)? {
        return ended(work_and_show(context, &shop, &run.pipeline, id).await?, id);
    }
    if !run.state.is_ended() {
        return Err(Failure::usage(
            format!("run {id} is {}, and only one that has ended is tried again", run.state.word()),
            format!("`fleetwright pipeline cancel {id}` ends it"),
        ));
    }
    let learnt = shop.parts.learn().await;
    learnt.map_err(|problem| {
        Failure::failed(problem.reason, "see that the registry's credentials can be read")
    })?;
    let again = NewRun {
        pipeline: run.pipeline.clone(),
        repository: run.repository,
        commit: run.commit,
        subject: run.subject,
        trigger: Trigger::Hand,
        reference: run.reference,
        parameters: run.parameters,
        asked_by: None,
    };
    let id = enqueue(&shop.parts, &again).map_err(failure)?;
    ended(work_and_show(context, &shop, &run.pipeline, id).await?, id)
}

/// Ends a run, whoever works on it.
async fn cancel(context: &Context, id: RunId) -> Result<Done, Failure> {
    let shop = Workshop::open(context, &format!("fleetwright pipeline cancel {id}")).await?;
    match queue::cancel(&shop.parts, id, "cancelled by hand").map_err(|error| journal_failure(&error))? {
        Cancelled::Unknown => Err(no_run(id)),
        Cancelled::Ended(state) => Err(Failure::failed(
            format!("run {id} had ended before: it is {}", state.word()),
            "`fleetwright pipeline list` shows the others",
        )),
        Cancelled::Done { rolls_out } => {
            // Where no server works on it, nobody else stops its commands.
            if let Some(run) = shop.parts.journal.run(id).map_err(|error| journal_failure(&error))? {
                clear(&shop.parts, &run).await;
            }
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
    }
}

fn ended(ending: Ending, id: RunId) -> Result<Done, Failure> {
    match ending {
        Ending::Ended(RunState::Succeeded) => Ok(Done::Ok),
        Ending::Ended(_) => Err(Failure::Reported),
        Ending::Left => Err(Failure::Interrupted {
            left: format!(
                "run {id} goes on where another process works on it; see `fleetwright pipeline list`"
            ),
        }),
    }
}

/// Works on the run, or waits for who does, and prints what the journal gets.
async fn work_and_show(
    context: &Context,
    shop: &Workshop,
    pipeline: &PipelineName,
    id: RunId,
) -> Result<Ending, Failure> {
    let stop = signals();
    let (wish, wished) = watch::channel(Wish::GoOn);
    let parts = &shop.parts;
    let configure = Arc::clone(&shop.configure);
    let work = work_until(parts, &*configure, pipeline, id, wished);
    tokio::pin!(work);
    let mut show = Show { lines: Lines::new(Paint(context.colour_err)), json: context.json(), seen: 0 };
    let mut asked = false;
    let mut changed = parts.changed.subscribe();
    let ending = loop {
        tokio::select! {
            ending = &mut work => break ending,
            () = stop.cancelled(), if !asked => {
                asked = true;
                let _ = wish.send(Wish::Cancel { run: id, reason: "stopped by hand".into() });
            }
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
        show.catch_up(&*parts.journal, id).map_err(|error| journal_failure(&error))?;
    };
    show.catch_up(&*parts.journal, id).map_err(|error| journal_failure(&error))?;
    ending.map_err(|error| journal_failure(&error))
}

/// Prints a run's entries as they come.
struct Show {
    lines: Lines,
    json: bool,
    seen: i64,
}

impl Show {
    fn catch_up(&mut self, journal: &dyn Journal, run: RunId) -> Result<(), JournalError> {
        loop {
            let entries = journal.entries(run, self.seen, 500)?;
            let Some(last) = entries.last() else { return Ok(()) };
            self.seen = last.seq;
            for entry in entries {
                let Ok(event) = serde_json::from_str::<PipelineEvent>(&entry.event) else { continue };
                if self.json {
                    let kind = EventKind::Pipeline(event);
                    let event = Event { version: EVENT_VERSION, at: entry.at, kind };
                    view::json::line(&serde_json::to_value(event).unwrap_or_default());
                } else if let Some(line) = self.lines.line(&event) {
                    eprintln!("{line}");
                }
            }
        }
    }
}
