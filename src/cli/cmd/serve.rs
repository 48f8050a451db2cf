//! `fleetwright serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::adapter::commit_statuses::ForgeStatuses;
use crate::adapter::serve_file::ServeFile;
use crate::adapter::serve_tokens::ServeTokens;
use crate::adapter::webhook::Webhooks;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::page_token::{VARIABLE, page_token};
use crate::cli::pipelines::{Workshop, journal_failure, state_folder};
use crate::cli::served_stacks::ServedStacks;
use crate::cli::stacks::signals;
use crate::driver::pipeline::causes::{self, Caused};
use crate::driver::pipeline::config::source;
use crate::driver::pipeline::notices::{self, Notices};
use crate::driver::pipeline::poll::{self, Watched, WatchedPipeline};
use crate::driver::pipeline::queue;
use crate::driver::pipeline::request::{Offered, step_names};
use crate::driver::pipeline::run::{Parts, Wish, sweep};
use crate::driver::pipeline::statuses::{self, Targets};
use crate::driver::stack_board::StackBoard;
use crate::event::{Event, EventKind};
use crate::model::name::RepositoryName;
use crate::model::pipeline::Triggers;
use crate::model::run::RunState;
use crate::port::cluster::Cluster;
use crate::port::journal::{JournalError, Which};
use crate::server::callers::Callers;
use crate::server::hooks::{Hook, Hooks};
use crate::server::limits::{self, Caps};
use crate::server::pipeline::{Pipelines, Seen, router};
use crate::server::service_pages::Reach;
use crate::view;
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;
use crate::view::words::count;

mod token;

/// The time between two tries to reach the cluster.
const AGAIN: Duration = Duration::from_secs(2);
/// Time between two looks for what killed processes have left on the engine.
const SWEEP: Duration = Duration::from_secs(3600);

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
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    if let Some(Action::Token(args)) = args.action {
        return token::run(context, args);
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
    let (watched, caused) = (watched(&shop)?, caused(&shop)?);
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
        count(watched.len(), "git repository").replace("repositorys", "repositories"),
    ));

    if let Some(file) = &opens.file {
        let file = file.display();
        shop.parts.events.note(format!("the page asks for a token: it is in {file}"));
    }

    let place = format!("{}-{}", shop.repository.project, shop.environment.name);
    let tokens = Arc::new(ServeTokens::beside(&shop.journal_folder));
    let callers = Callers::new(&opens.token, tokens, &place, !args.listen.ip().is_loopback());
    let stop = signals();
    let (wish, wished) = watch::channel(Wish::GoOn);
    let (seen, seen_now) = watch::channel(Seen::default());
    let reader = ServedStacks::new(context, context.root()?, shop.environment.name.clone());
    let stacks = Arc::new(StackBoard::new(Arc::new(reader)));
    let app = router(Pipelines {
        project: shop.repository.project.to_string(),
        environment: shop.environment.name.to_string(),
        parts: shop.parts.clone(),
        offered: offered(&shop)?.into(),
        seen: seen_now,
        reach: Arc::new(Reach::new(&shop.cluster)),
        stacks: Arc::clone(&stacks),
        callers: Arc::new(callers),
        hooks: Arc::new(Hooks::new(hooks(&shop, &watched), shop.parameters.clone())),
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
    watchers.spawn(sweep_again(shop.parts.clone()));
    if let Some((targets, forges)) = statuses(&shop)? {
        let parts = shop.parts.clone();
        watchers.spawn(async move { statuses::watch(&parts, &targets, &forges).await });
    }
    let mut workers: JoinSet<Result<(), JournalError>> = JoinSet::new();
    if let Some(notices) = notices(&shop)? {
        let (parts, mut wished) = (shop.parts.clone(), wished.clone());
        workers.spawn(async move {
            tokio::select! {
                result = notices::watch(&parts, &notices) => result,
                _ = wished.changed() => Ok(()),
            }
        });
    }
    for pipeline in &shop.repository.pipelines {
        let (parts, name, wished) = (shop.parts.clone(), pipeline.name.clone(), wished.clone());
        let configure = Arc::clone(&shop.configure);
        workers.spawn(async move { queue::work(&parts, &*configure, &name, wished).await });
    }
    for repository in watched {
        let (parts, wished) = (shop.parts.clone(), wished.clone());
        workers.spawn(async move { poll::watch(&parts, &repository, wished).await });
    }
    for caused in caused {
        let (parts, wished) = (shop.parts.clone(), wished.clone());
        workers.spawn(async move { causes::watch(&parts, &caused, wished).await });
    }

    let mut printer = Printer { lines: Lines::new(Paint(context.colour_err)), json: context.json() };
    let mut reading_stacks = std::pin::pin!(stacks.work());
    let (mut stopping, mut idle) = (false, false);
    let mut result = Ok(());
    loop {
        tokio::select! {
            biased;
            Some(event) = shop.events.recv() => printer.print(event),
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                let _ = wish.send(Wish::Stop);
            }
            joined = workers.join_next(), if !idle => match joined {
                None if stopping => break,
                // Nothing to watch: the page is served all the same.
                None => idle = true,
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => {
                    result = Err(journal_failure(&error));
                    let _ = wish.send(Wish::Stop);
                    stopping = true;
                }
                Some(Err(error)) => {
                    result = Err(Failure::failed(
                        format!("a part of the server failed: {error}"),
                        "start `fleetwright serve` again; it goes on where this one stopped",
                    ));
                    let _ = wish.send(Wish::Stop);
                    stopping = true;
                }
            },
            Some(ended) = readers.join_next() => {
                let why = ended.map_or_else(|error| error.to_string(), |served| format!("{served:?}"));
                result = Err(Failure::failed(format!("the page's server ended: {why}"), "start it again"));
                let _ = wish.send(Wish::Stop);
                stopping = true;
            }
            never = &mut reading_stacks => match never {},
        }
        if stopping && idle {
            break;
        }
    }
    while let Ok(event) = shop.events.try_recv() {
        printer.print(event);
    }
    result?;
    for line in left(&shop)? {
        eprintln!("{line}");
    }
    Ok(Done::Ok)
}

/// The branches that pipelines run for.
fn watched(shop: &Workshop) -> Result<Vec<Watched>, Failure> {
    let mut by_repository: BTreeMap<RepositoryName, Watched> = BTreeMap::new();
    for pipeline in &shop.repository.pipelines {
        let source = source(&shop.repository, &pipeline.name, &pipeline.repository)
            .map_err(|error| Failure::usage(error.to_string(), "set what is missing, and start again"))?;
        let every = shop.repository.repository(&source.name).map_or(AGAIN, |found| found.poll);
        let watched = by_repository.entry(source.name.clone()).or_insert_with(|| Watched {
            source,
            every,
            pipelines: Vec::new(),
            hint: Arc::default(),
        });
        watched.pipelines.push(WatchedPipeline {
            name: pipeline.name.clone(),
            triggers: pipeline.triggers.clone(),
            paths: pipeline.paths.clone(),
        });
    }
    Ok(by_repository.into_values().collect())
}

/// The pipelines that schedules or other pipelines start.
fn caused(shop: &Workshop) -> Result<Vec<Caused>, Failure> {
    let mut all = Vec::new();
    for pipeline in &shop.repository.pipelines {
        let Triggers { schedule, after, .. } = &pipeline.triggers;
        if schedule.is_none() && after.is_empty() {
            continue;
        }
        let source = source(&shop.repository, &pipeline.name, &pipeline.repository)
            .map_err(|error| Failure::usage(error.to_string(), "set what is missing, and start again"))?;
        let times = match schedule {
            None => None,
            Some(schedule) => {
                let times = schedule.times().map_err(|error| {
                    Failure::usage(format!("the schedule of `{}`: {error}", pipeline.name), "correct it")
                })?;
                Some((times, format!("schedule {} {}", schedule.cron, schedule.timezone)))
            }
        };
        let after = after.iter().map(|(name, _)| name.clone()).collect();
        all.push(Caused { name: pipeline.name.clone(), source, times, after });
    }
    Ok(all)
}

/// What callers of the API may ask for a run of.
fn offered(shop: &Workshop) -> Result<Vec<Offered>, Failure> {
    let mut found = Vec::new();
    for pipeline in &shop.repository.pipelines {
        let source = source(&shop.repository, &pipeline.name, &pipeline.repository)
            .map_err(|error| Failure::usage(error.to_string(), "set what is missing, and start again"))?;
        found.push(Offered {
            name: pipeline.name.clone(),
            source,
            steps: step_names(pipeline),
            parameters: pipeline.parameters.clone(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Where the state of runs is reported; `None` where it is nowhere.
fn statuses(shop: &Workshop) -> Result<Option<(Targets, ForgeStatuses)>, Failure> {
    let repositories = shop.repository.repositories.iter();
    let repositories: BTreeMap<RepositoryName, _> =
        repositories.filter_map(|found| Some((found.name.clone(), found.status.clone()?))).collect();
    let Some(parameters) = shop.parameters.clone().filter(|_| !repositories.is_empty()) else {
        return Ok(None);
    };
    let server = shop.environment.server.as_ref().and_then(|server| server.get().ok());
    let targets = Targets { repositories, server: server.map(str::to_owned) };
    let forges = ForgeStatuses::new(parameters, shop.parts.mask.clone());
    let forges = forges.map_err(|error| Failure::failed(error.to_string(), "start it again"))?;
    Ok(Some((targets, forges)))
}

/// Whom pipelines notify; `None` where nobody is.
fn notices(shop: &Workshop) -> Result<Option<Notices>, Failure> {
    let pipelines = shop.repository.pipelines.iter().filter(|pipeline| !pipeline.notices.is_empty());
    let pipelines: BTreeMap<_, _> =
        pipelines.map(|pipeline| (pipeline.name.clone(), pipeline.notices.clone())).collect();
    let Some(parameters) = shop.parameters.clone().filter(|_| !pipelines.is_empty()) else {
        return Ok(None);
    };
    let sender = Webhooks::new().map_err(|error| Failure::failed(error, "start it again"))?;
    let server = shop.environment.server.as_ref().and_then(|server| server.get().ok());
    Ok(Some(Notices {
        pipelines,
        project: shop.repository.project.to_string(),
        environment: shop.environment.name.to_string(),
        server: server.map(str::to_owned),
        parameters,
        sender: Arc::new(sender),
    }))
}

/// The repositories that webhooks are taken for.
fn hooks(shop: &Workshop, watched: &[Watched]) -> BTreeMap<String, Hook> {
    let hook = |watched: &Watched| {
        let secrets = shop.repository.repository(&watched.source.name)?.webhook.clone();
        let hint = Arc::clone(&watched.hint);
        (!secrets.is_empty()).then(|| (watched.source.name.to_string(), Hook { secrets, hint }))
    };
    watched.iter().filter_map(hook).collect()
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

/// Removes what killed processes have left on the engine.
async fn sweep_again(parts: Parts) {
    loop {
        sweep(&parts).await;
        tokio::time::sleep(SWEEP).await;
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
