//! `fleetwright pipeline run --local`: the work tree of the current folder on this computer's engine, without a server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::Utc;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

use crate::adapter::artifacts::ArtifactFolder;
use crate::adapter::commit_statuses::ForgeComments;
use crate::adapter::disk_space::DiskSpace;
use crate::adapter::docker_build::{CredentialSource, DockerImages};
use crate::adapter::git::Mirrors;
use crate::adapter::journal::{SqliteJournal, journal_path};
use crate::adapter::local_run::{GivenSecrets, LocalImages, LocalSteps};
use crate::adapter::locks::FileLocks;
use crate::adapter::step_containers::EngineSteps;
use crate::adapter::step_logs::StepLogFolder;
use crate::adapter::work_tree::{Snapshot, snapshot};
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::infra_steps::OwnCommands;
use crate::cli::pipelines::{journal_failure, registry_images};
use crate::cli::stacks::signals;
use crate::driver::pipeline::config::{freeze_locally, with_own_steps};
use crate::driver::pipeline::masked::{MaskedJournal, MaskedLogs};
use crate::driver::pipeline::queue::cancel;
use crate::driver::pipeline::request::is_called;
use crate::driver::pipeline::run::{Connect, Parts, Wish, drive};
use crate::event::pipeline::PipelineEvent;
use crate::event::{Event, EventKind, Events};
use crate::model::name::PipelineName;
use crate::model::pipeline::Pipeline;
use crate::model::project::{Environment, Repository};
use crate::model::run::{Run, RunConfig, RunId, RunState, StepAction, Trigger};
use crate::model::secret::Secret;
use crate::plan::local_run::{NeededSecret, does_anything, leave_out, needed_secrets};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::images::ImageStore as _;
use crate::port::jobs::JobCluster;
use crate::port::journal::{JournalError, NewRun};
use crate::source::read::text;
use crate::source::suggest;
use crate::view;
use crate::view::paint::Paint;
use crate::view::pipeline::Lines;

/// The registry that images are named for where the environment has none.
const NO_REGISTRY: &str = "local.invalid";
/// The longest value of a secret, in bytes.
const SECRET_MOST: u64 = 8 << 10;

/// How a run happens here.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run the work tree of the current folder on this computer's Docker, without a server: uncommitted changes are
    /// included, images are not pushed, and nothing is rolled out
    #[arg(long, conflicts_with = "commit")]
    local: bool,
    /// Run only this step and what it needs; may be given several times
    #[arg(long = "step", value_name = "STEP", requires = "local")]
    steps: Vec<String>,
    /// The file that holds a secret of a step; without it, the environment variable NAME does
    #[arg(long = "secret", value_name = "NAME=FILE", requires = "local")]
    secrets: Vec<String>,
}

impl Args {
    /// Whether the run happens here.
    pub fn is_wanted(&self) -> bool {
        self.local
    }
}

/// Runs the command.
pub async fn run(
    context: &Context,
    name: &str,
    parameters: BTreeMap<String, String>,
    args: Args,
) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let environment = context.environment(&repository)?.clone();
    let pipeline = named(&repository, name)?;
    let folder = tempfile::Builder::new().prefix("fleetwright-run-").tempdir();
    let folder = folder.map_err(|error| {
        Failure::failed(format!("making a folder for the run: {error}"), "set TMPDIR to a folder with space")
    })?;
    let here = std::env::current_dir().map_err(|error| {
        Failure::usage(format!("reading the current folder: {error}"), "change to a work tree")
    })?;
    let mirror = folder.path().join("repos").join(format!("{}.git", pipeline.repository));
    let tree = snapshot(&here, &mirror).await.map_err(|error| {
        let next = format!(
            "change to a work tree of repository `{}`, and name the infra repository with `-C`",
            pipeline.repository
        );
        Failure::usage(error.to_string(), next)
    })?;
    let wanted = new_run(pipeline, &tree, parameters);
    let images = images(context, &repository, &environment).await?;
    let draft = drafted(&wanted);
    let git = Mirrors::new(folder.path().join("repos"));
    let pipeline = with_own_steps(&git, &repository, pipeline, &tree.commit).await.map_err(|error| {
        let file = pipeline.own.as_ref().map_or("its file", |own| own.file.as_str());
        Failure::usage(error.to_string(), format!("correct {file} of the work tree"))
    })?;
    let config = freeze_locally(&repository, &environment, (&pipeline, &draft), images.host());
    let mut config = config.map_err(|error| {
        Failure::usage(error.to_string(), "`fleetwright pipeline lint` shows the pipeline")
    })?;
    let steps = args.steps.iter().map(|step| position(&config, step)).collect::<Result<Vec<_>, _>>()?;
    leave_out(&mut config, &steps);
    if !does_anything(&config) {
        return Err(Failure::usage(
            format!("pipeline `{name}` has no step that would run on this computer"),
            "`build` and `run` steps do; `fleetwright pipeline lint` shows the steps",
        ));
    }
    let secrets = secrets(context, &needed_secrets(&config), &args.secrets)?;
    let images = images.with_secrets(Arc::new(GivenSecrets(secrets)));
    perform(context, &folder, images, &wanted, config).await
}

fn named<'r>(repository: &'r Repository, name: &str) -> Result<&'r Pipeline, Failure> {
    let found = name.parse::<PipelineName>().ok().and_then(|name| repository.pipeline(&name));
    found.ok_or_else(|| {
        let names: Vec<&str> = repository.pipelines.iter().map(|known| known.name.as_str()).collect();
        let next = match suggest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "add a file to pipelines/".to_owned(),
            None => format!("pipelines/ has `{}`", names.join("`, `")),
        };
        Failure::usage(format!("there is no pipeline `{name}`"), next)
    })
}

/// The builder, with the registry's credentials where they can be read.
async fn images(
    context: &Context,
    repository: &Repository,
    environment: &Environment,
) -> Result<DockerImages, Failure> {
    let host = match &environment.registry {
        None => NO_REGISTRY.to_owned(),
        Some(registry) => {
            let images = registry_images(context, repository, environment, registry).await;
            let reason = match images {
                Ok(images) => match images.secrets().await {
                    Ok(secrets) => {
                        context.mask().learn_all(&secrets);
                        return Ok(images);
                    }
                    Err(error) => error.to_string(),
                },
                Err(Failure::Failed { message, .. } | Failure::Usage { message, .. }) => message,
                Err(other) => return Err(other),
            };
            eprintln!("images of the registry are pulled without credentials: {reason}");
            registry.push.get()?.to_owned()
        }
    };
    crate::cli::pipelines::images(context, &host, CredentialSource::None)
}

fn new_run(pipeline: &Pipeline, tree: &Snapshot, parameters: BTreeMap<String, String>) -> NewRun {
    NewRun {
        pipeline: pipeline.name.clone(),
        repository: pipeline.repository.clone(),
        commit: tree.commit.clone(),
        subject: tree.subject.clone(),
        trigger: Trigger::Hand,
        reference: tree.branch.clone(),
        parameters,
        asked_by: None,
    }
}

/// The run before it has a number.
fn drafted(new: &NewRun) -> Run {
    Run {
        id: RunId(0),
        pipeline: new.pipeline.clone(),
        repository: new.repository.clone(),
        commit: new.commit.clone(),
        subject: new.subject.clone(),
        trigger: new.trigger,
        reference: new.reference.clone(),
        parameters: new.parameters.clone(),
        asked_by: None,
        state: RunState::Queued,
        reason: None,
        queued: Utc::now(),
        started: None,
        ended: None,
        config: None,
        steps: Vec::new(),
    }
}

/// The position of a step.
fn position(config: &RunConfig, step: &str) -> Result<usize, Failure> {
    let names: Vec<String> = config.steps.iter().map(StepAction::name).collect();
    let whole = names.iter().position(|known| known == step);
    whole.or_else(|| names.iter().position(|known| is_called(known, step))).ok_or_else(|| {
        let short = names.iter().filter_map(|name| name.split_once(' ').map(|(_, short)| short));
        let next = match suggest(step, names.iter().map(String::as_str).chain(short)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it has `{}`", names.join("`, `")),
        };
        Failure::usage(format!("the pipeline has no step `{step}`"), next)
    })
}

/// The values of secrets by their parameters: from files, or else from variables.
fn secrets(
    context: &Context,
    needed: &[NeededSecret],
    given: &[String],
) -> Result<BTreeMap<String, Secret<String>>, Failure> {
    let mut files = BTreeMap::new();
    for one in given {
        let Some((name, file)) = one.split_once('=') else {
            return Err(Failure::usage(
                format!("`--secret {one}` has no `=`"),
                format!("write `--secret {one}=FILE`"),
            ));
        };
        if !needed.iter().any(|secret| secret.name == name || secret.parameter == name) {
            return Err(Failure::usage(
                format!("no step that is run has a secret `{name}`"),
                "leave it out, or see the `secrets` of the steps",
            ));
        }
        files.insert(name.to_owned(), PathBuf::from(file));
    }
    let (mut values, mut missing) = (BTreeMap::new(), Vec::new());
    for secret in needed {
        let file = files.get(&secret.parameter).or_else(|| files.get(&secret.name));
        let value = match file {
            Some(file) => Some(secret_of(file)?),
            None => std::env::var(&secret.name).ok(),
        };
        match value {
            Some(value) => {
                context.hide(&value);
                values.insert(secret.parameter.clone(), Secret::new(value));
            }
            None => missing.push(secret),
        }
    }
    let Some(first) = missing.first() else { return Ok(values) };
    let list: Vec<String> =
        missing.iter().map(|secret| format!("`{}` of `{}`", secret.name, secret.step)).collect();
    Err(Failure::usage(
        format!("secrets are missing: {}", list.join(", ")),
        format!("pass `--secret {0}=FILE`, or set the variable {0}", first.name),
    ))
}

/// The value of a secret in a file, without the line end that editors put there.
fn secret_of(file: &Path) -> Result<String, Failure> {
    let value = crate::source::read::named(file, SECRET_MOST).and_then(text).map_err(|error| {
        Failure::usage(format!("reading {}: {error}", file.display()), "name a file with the secret's value")
    })?;
    Ok(value.strip_suffix('\n').unwrap_or(&value).to_owned())
}

/// Nothing is rolled out from here.
struct NoCluster;

#[async_trait]
impl Connect for NoCluster {
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError> {
        Err(ClusterError::Refused { reason: "a local run has no cluster".to_owned() })
    }

    async fn jobs(&self) -> Result<Arc<dyn JobCluster>, ClusterError> {
        Err(ClusterError::Refused { reason: "a local run has no cluster".to_owned() })
    }
}

async fn perform(
    context: &Context,
    folder: &TempDir,
    images: DockerImages,
    new: &NewRun,
    config: RunConfig,
) -> Result<Done, Failure> {
    let place = journal_path(folder.path());
    let journal = SqliteJournal::open(&place).map_err(|error| journal_failure(&error))?;
    let images = Arc::new(images);
    let built = Arc::new(LocalImages::new(Arc::clone(&images)));
    // The folder's name is random, and with it those of everything on the engine.
    let name = place.display().to_string();
    let storage = EngineSteps::new(Arc::clone(&images), &name);
    let steps = Arc::new(LocalSteps::new(EngineSteps::new(images, &name), Arc::clone(&built)));
    let (events, mut happened) = Events::channel();
    let mask = context.mask();
    let parts = Parts {
        git: Arc::new(Mirrors::new(folder.path().join("repos"))),
        images: Arc::clone(&built) as Arc<dyn crate::port::images::ImageStore>,
        steps: Arc::clone(&steps) as Arc<dyn crate::port::step_containers::StepContainers>,
        space: Arc::new(DiskSpace::new(vec![folder.path().to_owned(), PathBuf::from("/var/lib/docker")])),
        artifacts: Arc::new(ArtifactFolder::new(folder.path().join("artifacts"))),
        connect: Arc::new(NoCluster),
        storage: Arc::new(storage),
        infra: Arc::new(OwnCommands::new(folder.path().join("plans"), mask.clone())),
        comments: Arc::new(ForgeComments::new(None, BTreeMap::new())),
        journal: Arc::new(MaskedJournal::new(journal, mask.clone())),
        logs: Arc::new(MaskedLogs::new(StepLogFolder::new(folder.path().join("logs")), mask.clone())),
        locks: Arc::new(FileLocks::new(folder.path().join("locks"))),
        mask,
        events,
        changed: Arc::new(watch::Sender::new(0)),
        shown_most: usize::MAX,
        troubles: Arc::default(),
        removed: Arc::default(),
    };
    if let Some(lack) = parts.space.lack() {
        return Err(Failure::failed(format!("no run is begun: {lack}"), "free space on the disk"));
    }
    let id = parts.journal.enqueue_as(Utc::now(), new, &config).map_err(|error| journal_failure(&error))?;
    let run = parts.journal.run(id).map_err(|error| journal_failure(&error))?;
    let Some(run) = run else { return Err(Failure::failed("the run was not recorded", "try it again")) };
    let stop = signals();
    // Nobody leaves this run to another process.
    let (_wish, wished) = watch::channel(Wish::GoOn);
    let mut printer = Printer { lines: Lines::new(Paint(context.colour_err)), json: context.json() };
    let mut driving = std::pin::pin!(drive(&parts, &run, config, wished));
    let mut cancelled = false;
    let driven = loop {
        tokio::select! {
            biased;
            Some(event) = happened.recv() => printer.print(event),
            () = stop.cancelled(), if !cancelled => {
                cancelled = true;
                cancel(&parts, id, "stopped at the terminal").map_err(|error| journal_failure(&error))?;
            }
            driven = &mut driving => break driven,
        }
    };
    printer.rest(&mut happened);
    // Whatever has happened, nothing stays on the engine.
    let removed = async {
        steps.remove(id).await?;
        built.remove().await
    };
    if let Err(error) = removed.await {
        eprintln!("something of the run is left on the engine: {error}");
    }
    match driven {
        // It was cancelled before it began.
        Ok(_) | Err(JournalError::Ended { .. }) => {}
        Err(error) => return Err(journal_failure(&error)),
    }
    let ended = parts.journal.run(id).map_err(|error| journal_failure(&error))?;
    match ended.map(|run| run.state) {
        Some(RunState::Succeeded) => Ok(Done::Ok),
        _ => Err(Failure::Reported),
    }
}

struct Printer {
    lines: Lines,
    json: bool,
}

impl Printer {
    fn print(&mut self, event: Event) {
        let event = match event.kind {
            // Nothing is pushed from here.
            EventKind::Pipeline(PipelineEvent::Pushing { .. }) => return,
            EventKind::Pipeline(PipelineEvent::Pushed { run, step, digest }) => {
                let text = format!("built {}; it is not pushed", digest.short());
                Event { kind: EventKind::Pipeline(PipelineEvent::Log { run, step, text }), ..event }
            }
            kind => Event { kind, ..event },
        };
        if self.json {
            view::json::line(&serde_json::to_value(event).unwrap_or_default());
        } else if let EventKind::Pipeline(event) = &event.kind
            && let Some(line) = self.lines.line(event)
        {
            eprintln!("{line}");
        }
    }

    fn rest(&mut self, events: &mut mpsc::UnboundedReceiver<Event>) {
        while let Ok(event) = events.try_recv() {
            self.print(event);
        }
    }
}
