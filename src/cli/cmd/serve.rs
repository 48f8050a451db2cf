//! `fleetwright serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use self::alone::Alone;
use self::crew::Crew;
use self::setup::Setup;
use crate::adapter::serve_file::ServeFile;
use crate::adapter::serve_tokens::ServeTokens;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::page_token::{VARIABLE, page_token};
use crate::cli::pipelines::{Workshop, journal_failure, state_folder};
use crate::cli::served_stacks::ServedStacks;
use crate::cli::stacks::signals;
use crate::driver::pipeline::retention;
use crate::driver::pipeline::troubles::Concern;
use crate::driver::stack_board::StackBoard;
use crate::event::{Event, EventKind};
use crate::model::project::Repository;
use crate::model::run::RunState;
use crate::port::cluster::Cluster;
use crate::port::journal::Which;
use crate::server::callers::Callers;
use crate::server::hooks::Hooks;
use crate::server::limits::{self, Caps};
use crate::server::pipeline::{Pipelines, Seen, router};
use crate::server::service_pages::Reach;
use crate::view;
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;
use crate::view::words::count;

mod alone;
mod backup;
mod crew;
mod restore;
mod setup;
mod token;

/// The time between two tries to reach the cluster.
const AGAIN: Duration = Duration::from_secs(2);

/// Watches git repositories and runs their pipelines; serves the page
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "\
Looks at each repository of fleetwright.yaml as often as its `poll` says. A new commit runs the
pipelines of that repository. Every step is journaled before it begins: after a crash or a stop,
the next `serve` goes on with what was left.

The page and the API are never open: callers give a token, in the form of the page, as a bearer
token or as the password of any user. One that may do everything is FLEETWRIGHT_SERVE_TOKEN, or else
created at the first start, in a file that only you can read. `serve token create` makes others. They
are for this machine only, unless --listen names another address: then FLEETWRIGHT_SERVE_TOKEN must
be set. It is plain HTTP; put TLS before it.

Changes of the infra repository count as soon as its files are written, and after SIGHUP. One that
is not valid changes nothing: the page, the log and the metrics show what is wrong with it. Old runs,
files, caches and images are removed as `pipelines.keep` of fleetwright.yaml says. An environment has
one server: a second one is refused, on any machine.

Ctrl-C takes no more runs and leaves the step at work for the next `serve`; once more stops at once."
)]
pub struct Args {
    /// Where to listen; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Token(token::Args),
    Backup(backup::Args),
    Restore(restore::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        None => {}
        Some(Action::Token(args)) => return token::run(context, args),
        Some(Action::Backup(args)) => return backup::run(context, args).await,
        Some(Action::Restore(args)) => return restore::run(context, args).await,
    }
    if !args.listen.ip().is_loopback() && std::env::var_os(VARIABLE).is_none_or(|token| token.is_empty()) {
        return Err(Failure::usage(
            format!("{} can be reached from other machines, and {VARIABLE} is not set", args.listen),
            format!("set {VARIABLE} to a long random text, or listen on 127.0.0.1"),
        ));
    }
    let mut shop = Workshop::open(context, "fleetwright serve").await?;
    let opens = page_token(&state_folder(shop.repository.project.as_str())?)?;
    context.hide(opens.token.expose());
    let lock = shop.parts.locks.try_lock("serve");
    let lock = lock.map_err(|error| {
        Failure::failed(format!("locking the data folder: {error}"), "see that it can be written")
    })?;
    let Some(_lock) = lock else {
        return Err(Failure::failed(
            format!("another `fleetwright serve` works for project `{}`", shop.repository.project),
            "stop it first, or set FLEETWRIGHT_HOME to another folder",
        ));
    };
    let setup = Setup::new(&shop, &shop.repository, &shop.environment)
        .map_err(|error| Failure::usage(error, "set what is missing, and start again"))?;
    let (alone, unsure) = Alone::begin(&shop).await?;
    let listener = TcpListener::bind(args.listen).await.map_err(|error| {
        Failure::failed(
            format!("listening on {}: {error}", args.listen),
            "choose another port with `--listen 127.0.0.1:PORT`; port 0 picks a free one",
        )
    })?;
    let address = listener.local_addr().unwrap_or(args.listen);
    shop.parts.events.note(format!(
        "serving http://{address}/ for project `{}`, environment `{}`: watching {}",
        shop.repository.project,
        shop.environment.name,
        count(setup.watched.len(), "git repository").replace("repositorys", "repositories"),
    ));

    if let Some(unsure) = unsure {
        shop.parts.events.note(unsure);
    }
    if let Some(file) = &opens.file {
        let file = file.display();
        shop.parts.events.note(format!("the page asks for a token: it is in {file}"));
    }

    let place = format!("{}-{}", shop.repository.project, shop.environment.name);
    let tokens = Arc::new(ServeTokens::beside(&shop.journal_folder));
    let callers = Callers::new(&opens.token, tokens, &place, !args.listen.ip().is_loopback());
    let stop = signals();
    let hooks = Arc::new(Hooks::new(BTreeMap::new(), shop.parameters.clone()));
    let mut crew = Crew::new(shop.parts.clone(), Arc::clone(&shop.configure), Arc::clone(&hooks));
    let (seen, seen_now) = watch::channel(Seen::default());
    let reader = ServedStacks::new(context, context.root()?, shop.environment.name.clone());
    let stacks = Arc::new(StackBoard::new(Arc::new(reader)));
    let app = router(Pipelines {
        project: shop.repository.project.to_string(),
        environment: shop.environment.name.to_string(),
        parts: shop.parts.clone(),
        offered: crew.offered(),
        configure: Arc::clone(&shop.configure) as _,
        seen: seen_now,
        reach: Arc::new(Reach::new(&shop.cluster)),
        stacks: Arc::clone(&stacks),
        callers: Arc::new(callers),
        hooks,
        loopback: args.listen.ip().is_loopback(),
    });
    // What only reads ends with the process; what works on runs is waited for.
    let mut readers = JoinSet::new();
    let server = listener
        .into_std()
        .and_then(axum_server::from_tcp)
        .map_err(|error| Failure::failed(format!("serving on {address}: {error}"), "start it again"))?;
    let server = limits::limited(server, Caps::PIPELINES, limits::HEADER);
    readers.spawn(server.serve(
        limits::answered_within(app, limits::ANSWER).into_make_service_with_connect_info::<SocketAddr>(),
    ));
    // Commands on this machine find the server through it, until it stops.
    let _found = ServeFile::write(&shop.journal_folder, address).map_err(|error| {
        Failure::failed(
            format!("writing where the server listens to {}: {error}", shop.journal_folder.display()),
            "check that the folder can be written and has space",
        )
    })?;
    let mut watchers = JoinSet::new();
    watchers.spawn(look_at_cluster(Arc::clone(&shop.cluster) as Arc<dyn Cluster>, seen));
    crew.work(setup, shop.repository.keep);
    {
        let (parts, kept) = (shop.parts.clone(), crew.keep());
        watchers.spawn(async move { retention::watch(&parts, kept).await });
    }
    let (changed, mut changes) = mpsc::channel(1);
    let hangup = setup::hangup().map_err(|error| {
        Failure::failed(format!("waiting for the signal SIGHUP: {error}"), "start it again")
    })?;
    watchers.spawn(setup::watch(shop.repository.root.clone(), hangup, changed));
    let done = CancellationToken::new();
    let mut alone: JoinSet<Result<(), Failure>> = match alone {
        Some(alone) => {
            let mut kept = JoinSet::new();
            kept.spawn(alone.keep(done.clone()));
            kept
        }
        None => JoinSet::new(),
    };

    let mut printer = Printer { lines: Lines::new(Paint(context.colour_err)), json: context.json() };
    let mut reading_stacks = std::pin::pin!(stacks.work());
    let mut stopping = false;
    let mut result = Ok(());
    loop {
        tokio::select! {
            biased;
            Some(event) = shop.events.recv() => printer.print(event),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                crew.stop();
            }
            Some(change) = changes.recv(), if !stopping => reload(&mut shop, &mut crew, change),
            // Without pipelines, the page is served all the same.
            joined = crew.ended(), if stopping || !crew.is_empty() => match joined {
                None => break,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    result = Err(journal_failure(&error));
                    crew.stop();
                    stopping = true;
                }
                Some(Err(error)) => {
                    result = Err(Failure::failed(
                        format!("a part of the server failed: {error}"),
                        "start `fleetwright serve` again; it goes on where this one stopped",
                    ));
                    crew.stop();
                    stopping = true;
                }
            },
            Some(ended) = readers.join_next() => {
                let why = ended.map_or_else(|error| error.to_string(), |served| format!("{served:?}"));
                result = Err(Failure::failed(format!("the page's server ended: {why}"), "start it again"));
                crew.stop();
                stopping = true;
            }
            Some(ended) = alone.join_next() => {
                let failed = |error: JoinError| Failure::failed(format!("keeping the lock: {error}"), "start it again");
                if let Err(failure) = ended.unwrap_or_else(|error| Err(failed(error))) {
                    result = Err(failure);
                    crew.stop();
                    stopping = true;
                }
            }
            never = &mut reading_stacks => match never {},
        }
    }
    done.cancel();
    while alone.join_next().await.is_some() {}
    while let Ok(event) = shop.events.try_recv() {
        printer.print(event);
    }
    result?;
    for line in left(&shop)? {
        eprintln!("{line}");
    }
    Ok(Done::Ok)
}

/// Works with the infra repository as it is now. One that is not valid changes nothing but what is shown.
fn reload(shop: &mut Workshop, crew: &mut Crew, change: Result<Repository, String>) {
    let read = change.and_then(|repository| {
        let environment = repository.environment(shop.environment.name.as_str()).cloned();
        let environment = environment.ok_or_else(|| {
            format!("fleetwright.yaml has no environment `{}` any more", shop.environment.name)
        })?;
        let setup = Setup::new(shop, &repository, &environment)?;
        Ok((repository, environment, setup))
    });
    let (troubles, events) = (Arc::clone(&shop.parts.troubles), shop.parts.events.clone());
    let problem = match read {
        Ok((repository, environment, setup)) => {
            for known in &repository.repositories {
                known.url.get().into_iter().for_each(|url| shop.parts.mask.learn_url(url));
            }
            events.note(format!(
                "read the infra repository again: {}",
                count(setup.pipelines.len(), "pipeline")
            ));
            crew.work(setup, repository.keep);
            shop.repository = repository;
            setup::needs_restart(&shop.environment, &environment).map(|what| {
                format!("`{what}` of the environment has changed, which needs a restart of the server")
            })
        }
        Err(reason) => Some(format!("{reason}; the server works with what was valid before")),
    };
    if troubles.set(Concern::Configuration, problem.clone())
        && let Some(problem) = problem
    {
        events.note(problem);
    }
    shop.parts.ring();
}

/// Keeps the last snapshot for the page.
async fn look_at_cluster(cluster: Arc<dyn Cluster>, seen: watch::Sender<Seen>) {
    loop {
        let lost = match cluster.watch().await {
            Err(error) => error.to_string(),
            Ok(mut snapshots) => loop {
                match snapshots.next().await {
                    Some(Ok(snapshot)) => {
                        let snapshot = Some((Arc::new(snapshot), Utc::now()));
                        seen.send_replace(Seen { snapshot, lost: None });
                    }
                    Some(Err(error)) => break error.to_string(),
                    None => break "the cluster stopped answering".to_owned(),
                }
            },
        };
        seen.send_modify(|seen| seen.lost = Some(lost));
        tokio::time::sleep(AGAIN).await;
    }
}

/// What was left for the next `serve`, in words.
fn left(shop: &Workshop) -> Result<Vec<String>, Failure> {
    let mut lines = Vec::new();
    for pipeline in &shop.repository.pipelines {
        let open = shop.parts.journal.runs(&Which::Open(pipeline.name.clone()));
        for run in open.map_err(|error| journal_failure(&error))? {
            let at = run.steps.iter().find(|step| !step.state.is_ended());
            lines.push(match (run.state, at) {
                (RunState::Running, Some(step)) => {
                    format!("run {} of `{}` is left at {}", run.id, run.pipeline, step.name)
                }
                _ => format!("run {} of `{}` waits", run.id, run.pipeline),
            });
        }
    }
    if !lines.is_empty() {
        lines.push("`fleetwright serve` goes on with it".to_owned());
    }
    Ok(lines)
}

struct Printer {
    lines: Lines,
    json: bool,
}

impl Printer {
    fn print(&mut self, event: Event) {
        if self.json {
            view::json::line(&serde_json::to_value(event).unwrap_or_default());
            return;
        }
        match &event.kind {
            EventKind::Pipeline(pipeline) => {
                if let Some(line) = self.lines.line(pipeline) {
                    eprintln!("{line}");
                }
            }
            EventKind::Note { text } => eprintln!("{text}"),
            _ => {}
        }
    }
}
