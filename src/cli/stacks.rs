//! What `plan`, `apply`, `destroy` and `roll` have in common: what is wanted, the cloud,
//! the event stream and signals.

use std::io::{BufRead as _, IsTerminal as _};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use chrono::Utc;

use super::context::Context;
use super::context::cluster::prefix;
use super::failure::Failure;
use super::protect::may_change;
use super::published::Published;
use crate::adapter::aws::Aws;
use crate::adapter::hooks::ChildProcesses;
use crate::adapter::this_process::{ThisProcess, boot_clock, lives};
use crate::driver::apply::Shell;
use crate::driver::follow::Pace;
use crate::driver::lock::{self, Lock, LockError, Machine, TERM};
use crate::driver::plan::{Found, PlanError, Wanted, WantedStack, look};
use crate::driver::public::{self, PublicError};
use crate::event::Events;
use crate::local::home::Home;
use crate::model::access::Policy;
use crate::model::lock::{LOCK_VERSION, LockRecord};
use crate::model::name::StackName;
use crate::model::notify::Receivers;
use crate::model::project::{Environment, Repository};
use crate::model::stack::RenderedStack;
use crate::plan::secret::{self, GivenSecret};
use crate::port::cloud::{Cloud, CloudError};
use crate::port::drift::Drift;
use crate::port::groups::Groups;
use crate::port::hooks::Hooks;
use crate::port::repair::Repair;
use crate::port::store::Store;
use crate::source::{Diagnostic, suggest};
use crate::view;
use crate::view::live::Live;
use crate::view::paint::Paint;

/// What a command asks of the cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks<'c> {
    /// Nothing.
    Nothing,
    /// How things are.
    Reads,
    /// How things are, to compare them with all that is wanted.
    Plans,
    /// To change something; with the command, as a person calls it.
    Changes(&'c str),
    /// To bring about what is wanted; with the command.
    Applies(&'c str),
}

/// One run of a command on stacks.
pub struct Session {
    /// The repository.
    pub repository: Repository,
    /// What it wants.
    pub wanted: Arc<Wanted>,
    /// CloudFormation.
    pub cloud: Arc<dyn Cloud>,
    /// The project's bucket.
    pub store: Arc<dyn Store>,
    /// CloudFormation's means of repair.
    pub repair: Arc<dyn Repair>,
    /// What tells how things are, apart from how CloudFormation left them.
    pub drift: Arc<dyn Drift>,
    /// Runs what the repository wants run before and after.
    pub hooks: Arc<dyn Hooks>,
    /// Autoscaling groups.
    pub groups: Arc<dyn Groups>,
    /// Who has access to the environment's cluster.
    pub access: Published<Policy>,
    /// Whom the environment's cluster notifies.
    pub notify: Published<Receivers>,
    /// Where events go.
    pub events: Events,
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
    /// Cancelled by the first signal, and when the lock is lost.
    lost: CancellationToken,
    printer: JoinHandle<()>,
    aws: Aws,
    attending: Attending,
}

/// What says that a call takes long; it ends with this value.
struct Attending(JoinHandle<()>);

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    /// Reads and renders the repository, and gets the cloud's clients ready.
    pub async fn begin(context: &Context) -> Result<Self, Failure> {
        Self::over(context, &[], Asks::Reads, &[]).await
    }

    /// Like [`Session::begin`], to look at the stacks that are named and at those that they depend on; at all
    /// where none is named. With values that a person gave for `NoEcho` parameters.
    pub async fn reading(
        context: &Context,
        names: &[String],
        secrets: &[GivenSecret],
    ) -> Result<Self, Failure> {
        Self::over(context, names, Asks::Plans, secrets).await
    }

    /// Like [`Session::reading`], for `command`, which changes the environment: a protected one must be named.
    pub async fn changing(context: &Context, names: &[String], command: &str) -> Result<Self, Failure> {
        Self::over(context, names, Asks::Changes(command), &[]).await
    }

    /// Like [`Session::changing`], to bring about what is wanted, with values that a person gave for `NoEcho`
    /// parameters.
    pub async fn applying(
        context: &Context,
        names: &[String],
        command: &str,
        secrets: &[GivenSecret],
    ) -> Result<Self, Failure> {
        Self::over(context, names, Asks::Applies(command), secrets).await
    }

    /// Like [`Session::reading`], for what never asks the cloud: variables may be unset.
    pub async fn offline(context: &Context, names: &[String]) -> Result<Self, Failure> {
        Self::over(context, names, Asks::Nothing, &[]).await
    }

    async fn over(
        context: &Context,
        names: &[String],
        asks: Asks<'_>,
        secrets: &[GivenSecret],
    ) -> Result<Self, Failure> {
        secrets.iter().for_each(|given| context.hide(given.value.expose()));
        let repository = context.repository()?;
        let environment = context.environment(&repository)?;
        if let Asks::Changes(command) | Asks::Applies(command) = asks {
            may_change(context, environment, command)?;
        }
        let mut rendered = context.rendered(&repository, environment)?;
        secret::set(&mut rendered, environment.region.shown(), secrets)
            .map_err(|error| Failure::usage(error.to_string(), error.next()))?;
        let mut wanted = wanted(&repository, environment, rendered, names)?;
        all_chosen(&wanted, secrets)?;
        if asks != Asks::Nothing {
            all_set(&repository, &wanted)?;
        }
        if matches!(asks, Asks::Plans | Asks::Applies(_)) {
            has_agent(&repository, environment, &wanted)?;
        }
        let aws = context.aws(environment).await?;
        let (events, printer) = printer(context, &wanted);
        let attending = attend(context, &aws, &events);
        if asks != Asks::Nothing {
            context.check_account(&aws, environment).await?;
        }
        if matches!(asks, Asks::Plans | Asks::Applies(_)) {
            let filled = public::fill(&mut wanted, aws.parameters().as_ref()).await;
            filled.map_err(|error| public_failure(error, &repository))?;
        }
        let store = aws.store(&repository.project);
        let known = Home::from_env().ok().map(|home| home.root().join("templates"));
        let (cloud, repair, groups) =
            (aws.cloud(Arc::clone(&store), known.clone()), aws.repair(), aws.groups());
        let (drift, stop) = (aws.drift(known), signals());
        let prefix =
            prefix(repository.project.as_str(), environment.name.as_str(), environment.cluster.as_str());
        let access = Published::new(aws.parameters(), &prefix, environment.access.clone());
        let notify = Published::new(aws.parameters(), &prefix, environment.notify.clone());
        let hooks: Arc<dyn Hooks> = Arc::new(ChildProcesses::new(repository.root.clone(), context.mask()));
        Ok(Self {
            repository,
            wanted: Arc::new(wanted),
            cloud,
            store,
            repair,
            drift,
            hooks,
            groups,
            access,
            notify,
            events,
            lost: stop.child_token(),
            stop,
            printer,
            aws,
            attending,
        })
    }

    /// The environment that the command works on.
    pub fn environment(&self) -> Result<&Environment, Failure> {
        let name = &self.wanted.environment;
        self.repository
            .environment(name.as_str())
            .ok_or_else(|| Failure::usage(format!("there is no environment `{name}`"), "give another one"))
    }

    /// The stack that a person named, by either of its names, and both of them.
    ///
    /// # Errors
    /// When there is none; with what may have been meant.
    pub fn find(&self, given: &str) -> Result<(StackName, String), Failure> {
        named(&self.wanted.stacks, given)
    }

    /// Takes the environment's lock for `command`; the session stops when it is lost.
    ///
    /// # Errors
    /// When somebody holds it, or the bucket can't be used.
    pub async fn lock(&self, command: &str) -> Result<Lock, Failure> {
        let this = ThisProcess::read();
        let now = Utc::now();
        let record = LockRecord {
            version: LOCK_VERSION,
            id: format!("{}-{}-{}", this.process, this.started, now.timestamp_micros()),
            holder: this.holder,
            host: this.host,
            process: this.process,
            started: this.started,
            command: command.to_owned(),
            since: now,
            expires: now,
            released: false,
            write: 0,
        };
        let key = lock::key(self.wanted.environment.as_str());
        let watching = |held: &LockRecord, time: Duration| {
            self.events.note(format!(
                "{} seems to be gone, and its lock is watched for {} before it is taken over",
                held.holder,
                view::time::human(time)
            ));
        };
        let machine = Machine { lives, boot: boot_clock };
        let taken =
            Lock::take(Arc::clone(&self.store), key, record, TERM, machine, &watching, self.lost.clone())
                .await;
        taken.map_err(|error| match error {
            LockError::Held(held) => {
                let since = view::time::human((Utc::now() - held.since).to_std().unwrap_or_default());
                Failure::failed(
                    format!(
                        "{} (process {}) {HAS_CHANGED} `{}` for {since} with `fleetwright {}`",
                        held.holder, held.process, self.wanted.environment, held.command
                    ),
                    "wait until it is done; if it is gone, try again after a minute: the lock is then watched, and taken over",
                )
            }
            LockError::Unknown { .. } => Failure::failed(
                error.to_string(),
                "use the version of fleetwright that wrote it, or delete it if nothing is under way",
            ),
            LockError::Cloud(error) => Failure::failed(
                format!("taking the lock: {error}"),
                format!("{}; `--no-lock` goes without, if you are sure to be alone", error.next()),
            ),
        })
    }

    /// Gives a lock back. One that can't be is free when its term is over.
    pub async fn unlock(&self, lock: Option<Lock>) {
        let Some(lock) = lock else { return };
        match lock.release().await {
            Ok(true) => {}
            Ok(false) => self.events.note(
                "the lock was lost: it could not be renewed for a minute, so what was not begun was left",
            ),
            Err(error) => {
                self.events.note(format!("the lock was not released and expires in about a minute: {error}"))
            }
        }
    }

    /// Looks at what is deployed.
    ///
    /// # Errors
    /// When the cloud can't be asked.
    pub async fn look(&self) -> Result<Found, Failure> {
        look(self.cloud.as_ref(), self.groups.as_ref(), &self.wanted).await.map_err(cloud_failure)
    }

    /// What the drivers need of it.
    pub fn shell(&self) -> Shell {
        Shell {
            cloud: Arc::clone(&self.cloud),
            events: self.events.clone(),
            pace: Pace::adaptive(),
            stop: self.lost.clone(),
            watch: self.stop.clone(),
            hooks: Arc::clone(&self.hooks),
            slots: Arc::new(Semaphore::new(Shell::STACKS_AT_ONCE)),
        }
    }

    /// Waits until every event is shown, and begins a new stream: so that what is printed
    /// next stands below.
    pub async fn flush(self, context: &Context) -> Self {
        let Self { events, printer: old, attending, .. } = self;
        drop((events, attending));
        let _ = old.await;
        let (events, printer) = printer(context, &self.wanted);
        let attending = attend(context, &self.aws, &events);
        Self { events, printer, attending, ..self }
    }
}

/// After how long a call that has not ended is reported, and how often after that.
const SILENT_MOST: Duration = Duration::from_secs(5);
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Says what is waited for where a call takes long, so that nobody looks at an empty screen.
fn attend(context: &Context, aws: &Aws, events: &Events) -> Attending {
    let (aws, events, json) = (aws.clone(), events.clone(), context.json());
    Attending(tokio::spawn(async move {
        let mut next = SILENT_MOST;
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let Some(call) = aws.under_way().filter(|call| call.time >= SILENT_MOST) else {
                next = SILENT_MOST;
                continue;
            };
            if call.time < next {
                continue;
            }
            next = call.time + TOLD_EVERY;
            let text = view::words::waiting(
                &call.address,
                &call.operation,
                call.time,
                call.attempts,
                call.last.as_deref(),
            );
            // A query in JSON gives one document and nothing else on stdout.
            if json { eprintln!("{text}") } else { events.note(text) }
        }
    }))
}

/// A stream of events and what shows them; it ends by itself when the last sender is gone.
fn printer(context: &Context, wanted: &Wanted) -> (Events, JoinHandle<()>) {
    let (events, mut receiver) = Events::channel();
    let names = wanted.chosen().map(|stack| stack.stack.name.as_str());
    let mut live = Live::new(names, Paint(context.colour_err), context.live, context.json());
    let printer = tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            live.take(&event);
        }
        live.finish();
    });
    (events, printer)
}

/// The stack that a person named, by either of its names, and both of them.
fn named(stacks: &[WantedStack], given: &str) -> Result<(StackName, String), Failure> {
    let stacks = stacks.iter().map(|wanted| &wanted.stack);
    if let Some(stack) =
        stacks.clone().find(|stack| stack.name.as_str() == given || stack.cloud_name == given)
    {
        return Ok((stack.name.clone(), stack.cloud_name.clone()));
    }
    let names: Vec<&str> = stacks.map(|stack| stack.name.as_str()).collect();
    let next = match suggest(given, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the repository has `{}`", names.join("`, `")),
    };
    Err(Failure::usage(format!("there is no stack `{given}`"), next))
}

/// Every variable that the stacks to be worked on need must be set; others may do without.
pub(super) fn all_set(repository: &Repository, wanted: &Wanted) -> Result<(), Failure> {
    let unset = wanted.chosen().flat_map(|wanted| &wanted.stack.unset);
    let mut diagnostics: Vec<_> = unset.map(|unset| unset.diagnostic()).collect();
    if diagnostics.is_empty() {
        return Ok(());
    }
    diagnostics.dedup();
    Err(Failure::Invalid { diagnostics, files: repository.files })
}

/// Machines without an agent would never be members of their cluster.
fn has_agent(repository: &Repository, environment: &Environment, wanted: &Wanted) -> Result<(), Failure> {
    if !wanted.chosen().any(|wanted| wanted.stack.lacks_agent()) {
        return Ok(());
    }
    let message = format!("no agent is published for environment `{}`", environment.name);
    let (place, help) =
        (&environment.place, "run `fleetwright agent publish`: it writes `agent` into fleetwright.yaml");
    let diagnostic = Diagnostic::error("unpublished-agent", message).help(help);
    let diagnostic = diagnostic.at(&place.file, place.span, "its machines would have none");
    Err(Failure::Invalid { diagnostics: vec![diagnostic], files: repository.files })
}

/// A public parameter that has no value, with its place.
fn public_failure(error: PublicError, repository: &Repository) -> Failure {
    let message = error.to_string();
    match error {
        PublicError::Cloud(error) => cloud_failure(error),
        PublicError::Missing { place, .. } => {
            let help = "`aws ssm get-parameters-by-path --path /aws/service/debian/release --recursive` lists those of Debian";
            let diagnostic = Diagnostic::error("unknown-public-parameter", message).help(help);
            let diagnostic = match &place {
                Some(place) => diagnostic.at(&place.file, place.span, "its value is needed here"),
                None => diagnostic,
            };
            Failure::Invalid { diagnostics: vec![diagnostic], files: repository.files }
        }
    }
}

/// A secret for a stack that is not worked on would be set by nobody.
fn all_chosen(wanted: &Wanted, secrets: &[GivenSecret]) -> Result<(), Failure> {
    let is_chosen = |given: &GivenSecret| {
        wanted.chosen().any(|chosen| {
            let stack = &chosen.stack;
            stack.name.as_str() == given.stack || stack.cloud_name == given.stack
        })
    };
    match secrets.iter().find(|given| !is_chosen(given)) {
        None => Ok(()),
        Some(given) => Err(Failure::usage(
            format!(
                "`--set-secret {}.{}` is for a stack that was not asked for",
                given.stack, given.parameter
            ),
            format!("name `{}` as well, or leave the secret out", given.stack),
        )),
    }
}

/// The rendered stacks with what is known of them; `names` are those that were asked for.
pub(super) fn wanted(
    repository: &Repository,
    environment: &Environment,
    rendered: Vec<RenderedStack>,
    names: &[String],
) -> Result<Wanted, Failure> {
    let region = environment.region.get().map_err(|unset| Failure::Invalid {
        diagnostics: vec![unset.diagnostic()],
        files: repository.files,
    })?;
    let stacks = rendered.into_iter().map(|stack| {
        let source = repository.templates.iter().find(|file| file.name() == stack.template_file).cloned();
        WantedStack::new(stack, source).map_err(plan_failure)
    });
    let stacks: Vec<WantedStack> = stacks.collect::<Result<_, _>>()?;
    let mut selected = Vec::new();
    for given in names {
        let (name, _) = named(&stacks, given)?;
        if !selected.contains(&name) {
            selected.push(name);
        }
    }
    Ok(Wanted {
        project: repository.project.clone(),
        environment: environment.name.clone(),
        region: region.to_owned(),
        stacks,
        selected,
    })
}

/// A token that the first SIGINT or SIGTERM cancels. A second one ends the process at once.
pub fn signals() -> CancellationToken {
    let token = CancellationToken::new();
    if std::env::var_os(ENDS_WITH_INPUT).is_some() {
        let cancel = token.clone();
        // What has started it is gone when its end of the input is. Nothing else is read from there.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            cancel.cancel();
        });
    }
    let cancel = token.clone();
    tokio::spawn(async move {
        for second in [false, true] {
            if interrupted().await.is_err() {
                return;
            }
            if second {
                std::process::exit(130);
            }
            eprintln!("stopping; once more stops at once");
            cancel.cancel();
        }
    });
    token
}

/// The variable that makes a command stop when its standard input ends, as Ctrl-C does.
pub const ENDS_WITH_INPUT: &str = "FLEETWRIGHT_ENDS_WITH_INPUT";
/// What a refusal says where somebody holds the lock of an environment.
pub const HAS_CHANGED: &str = "has changed";

async fn interrupted() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

/// Asks on the terminal and returns the answer without its line end; `None` when a signal
/// came first. Where nobody can be asked, it refuses and names `-y`.
pub async fn ask(question: &str, command: &str, stop: &CancellationToken) -> Result<Option<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            format!("`{command}` asks before it changes anything, and there is no terminal to ask on"),
            format!("read what is said above, then `{command} -y`"),
        ));
    }
    eprint!("{question} ");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line.trim().to_owned())
    });
    tokio::select! {
        answer = answer => Ok(answer.ok().and_then(Result::ok)),
        () = stop.cancelled() => Ok(None),
    }
}

/// A failed call, with its next step.
pub fn cloud_failure(error: CloudError) -> Failure {
    Failure::failed(error.to_string(), error.next())
}

/// A plan that could not be made, with its next step.
pub fn plan_failure(error: PlanError) -> Failure {
    match error {
        PlanError::Cloud(error) => cloud_failure(error),
        PlanError::Rejected { .. } => Failure::failed(
            error.to_string(),
            "correct the template or the stack's parameters, then plan again",
        ),
        PlanError::Refused { .. } => Failure::failed(
            error.to_string(),
            "correct the output that it comes from, or the parameter's declaration, then plan again",
        ),
        PlanError::NoTemplate { stack } => Failure::failed(
            format!("the rendered template of stack `{stack}` is not a CloudFormation template"),
            format!("`fleetwright render {stack}` shows it"),
        ),
        PlanError::Stopped => Failure::Interrupted { left: error.to_string() },
    }
}
