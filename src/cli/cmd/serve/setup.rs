//! What the server does for an infra repository, and when that changes.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::adapter::commit_statuses::ForgeStatuses;
use crate::adapter::webhook::Webhooks;
use crate::cli::pipelines::{Workshop, read};
use crate::driver::pipeline::causes::Caused;
use crate::driver::pipeline::config::source;
use crate::driver::pipeline::notices::Notices;
use crate::driver::pipeline::poll::{Watched, WatchedPipeline};
use crate::driver::pipeline::request::{Offered, step_names};
use crate::driver::pipeline::statuses::Targets;
use crate::model::name::{PipelineName, RepositoryName};
use crate::model::pipeline::Triggers;
use crate::model::project::{Environment, Repository};
use crate::repo::PROJECT_FILE;
use crate::server::hooks::Hook;

/// The time between two looks at the files of the infra repository.
const LOOK: Duration = Duration::from_secs(2);
/// The time between two looks at a git repository that has none of its own.
const POLL: Duration = Duration::from_secs(30);
/// The folders that the infra repository is read from.
const FOLDERS: [&str; 5] = ["stacks", "services", "jobs", "pipelines", "templates"];

/// What follows from the infra repository.
pub struct Setup {
    /// The git repositories that are watched.
    pub watched: Vec<Watched>,
    /// The pipelines that schedules or other pipelines start.
    pub caused: Vec<Caused>,
    /// The pipelines that runs can be asked of.
    pub offered: Vec<Offered>,
    /// The repositories that webhooks are taken for.
    pub hooks: BTreeMap<String, Hook>,
    /// Where the state of runs is reported; `None` where it is nowhere.
    pub statuses: Option<(Targets, ForgeStatuses)>,
    /// Whom pipelines notify; `None` where nobody is.
    pub notices: Option<Notices>,
    /// All pipelines.
    pub pipelines: Vec<PipelineName>,
}

impl Setup {
    /// What `shop` has to do for `repository`.
    ///
    /// # Errors
    /// When something is missing, such as an environment variable.
    pub fn new(shop: &Workshop, repository: &Repository, environment: &Environment) -> Result<Self, String> {
        let watched = watched(repository)?;
        Ok(Self {
            caused: caused(repository)?,
            offered: offered(repository)?,
            hooks: hooks(repository, &watched),
            statuses: statuses(shop, repository, environment)?,
            notices: notices(shop, repository, environment)?,
            pipelines: repository.pipelines.iter().map(|pipeline| pipeline.name.clone()).collect(),
            watched,
        })
    }
}

/// The branches that pipelines run for.
fn watched(repository: &Repository) -> Result<Vec<Watched>, String> {
    let mut by_repository: BTreeMap<RepositoryName, Watched> = BTreeMap::new();
    for pipeline in &repository.pipelines {
        let source =
            source(repository, &pipeline.name, &pipeline.repository).map_err(|error| error.to_string())?;
        let every = repository.repository(&source.name).map_or(POLL, |found| found.poll);
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
fn caused(repository: &Repository) -> Result<Vec<Caused>, String> {
    let mut all = Vec::new();
    for pipeline in &repository.pipelines {
        let Triggers { schedule, after, .. } = &pipeline.triggers;
        if schedule.is_none() && after.is_empty() {
            continue;
        }
        let source =
            source(repository, &pipeline.name, &pipeline.repository).map_err(|error| error.to_string())?;
        let times = match schedule {
            None => None,
            Some(schedule) => {
                let times = schedule.times();
                let times = times.map_err(|error| format!("the schedule of `{}`: {error}", pipeline.name))?;
                Some((times, format!("schedule {} {}", schedule.cron, schedule.timezone)))
            }
        };
        let after = after.iter().map(|(name, _)| name.clone()).collect();
        all.push(Caused { name: pipeline.name.clone(), source, times, after });
    }
    Ok(all)
}

/// What callers of the API may ask for a run of.
fn offered(repository: &Repository) -> Result<Vec<Offered>, String> {
    let mut found = Vec::new();
    for pipeline in &repository.pipelines {
        found.push(Offered {
            name: pipeline.name.clone(),
            source: source(repository, &pipeline.name, &pipeline.repository)
                .map_err(|error| error.to_string())?,
            steps: step_names(pipeline),
            parameters: pipeline.parameters.clone(),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Where the state of runs is reported; `None` where it is nowhere.
fn statuses(
    shop: &Workshop,
    repository: &Repository,
    environment: &Environment,
) -> Result<Option<(Targets, ForgeStatuses)>, String> {
    let repositories = repository.repositories.iter();
    let repositories: BTreeMap<RepositoryName, _> =
        repositories.filter_map(|found| Some((found.name.clone(), found.status.clone()?))).collect();
    let Some(parameters) = shop.parameters.clone().filter(|_| !repositories.is_empty()) else {
        return Ok(None);
    };
    let server = environment.server.as_ref().and_then(|server| server.get().ok());
    let targets = Targets { repositories, server: server.map(str::to_owned) };
    let forges = ForgeStatuses::new(parameters, shop.parts.mask.clone());
    Ok(Some((targets, forges.map_err(|error| error.to_string())?)))
}

/// Whom pipelines notify; `None` where nobody is.
fn notices(
    shop: &Workshop,
    repository: &Repository,
    environment: &Environment,
) -> Result<Option<Notices>, String> {
    let pipelines = repository.pipelines.iter().filter(|pipeline| !pipeline.notices.is_empty());
    let pipelines: BTreeMap<_, _> =
        pipelines.map(|pipeline| (pipeline.name.clone(), pipeline.notices.clone())).collect();
    let Some(parameters) = shop.parameters.clone().filter(|_| !pipelines.is_empty()) else {
        return Ok(None);
    };
    let server = environment.server.as_ref().and_then(|server| server.get().ok());
    Ok(Some(Notices {
        pipelines,
        project: repository.project.to_string(),
        environment: environment.name.to_string(),
        server: server.map(str::to_owned),
        parameters,
        sender: Arc::new(Webhooks::new()?),
    }))
}

/// The repositories that webhooks are taken for.
fn hooks(repository: &Repository, watched: &[Watched]) -> BTreeMap<String, Hook> {
    let hook = |watched: &Watched| {
        let secrets = repository.repository(&watched.source.name)?.webhook.clone();
        let hint = Arc::clone(&watched.hint);
        (!secrets.is_empty()).then(|| (watched.source.name.to_string(), Hook { secrets, hint }))
    };
    watched.iter().filter_map(hook).collect()
}

/// What of the environment is read when the server starts, and differs now.
pub fn needs_restart(before: &Environment, now: &Environment) -> Option<&'static str> {
    let hosts = |environment: &Environment| {
        environment.registry.as_ref().map(|registry| {
            let text = |setting: &crate::model::setting::Setting| setting.get().ok().map(str::to_owned);
            (text(&registry.push), text(&registry.pull))
        })
    };
    if hosts(before) != hosts(now) {
        Some("registry")
    } else if before.cluster != now.cluster {
        Some("cluster")
    } else {
        None
    }
}

/// Reads the infra repository again whenever its files have changed, and on SIGHUP, and sends it; the first problem, where
/// it is not valid. Ends when nobody listens.
pub async fn watch(
    root: PathBuf,
    mut hangup: Option<Signal>,
    send: mpsc::Sender<Result<Repository, String>>,
) {
    let mut loaded = fingerprint(&root);
    let mut changing = None;
    loop {
        let asked = tokio::select! {
            () = asked(&mut hangup) => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        let now = fingerprint(&root);
        if !asked {
            if now == loaded {
                changing = None;
                continue;
            }
            // Whoever writes the files may not be done.
            if changing != Some(now) {
                changing = Some(now);
                continue;
            }
        }
        (loaded, changing) = (now, None);
        let folder = root.clone();
        let read = tokio::task::spawn_blocking(move || read(&folder)).await;
        let read = read.unwrap_or_else(|error| Err(format!("reading the infra repository: {error}")));
        if send.send(read).await.is_err() {
            return;
        }
    }
}

/// The signal that asks for the infra repository to be read again; `None` for a server with a terminal, which ends with it.
///
/// # Errors
/// When the operating system refuses.
pub fn hangup() -> std::io::Result<Option<Signal>> {
    if std::io::stderr().is_terminal() { Ok(None) } else { signal(SignalKind::hangup()).map(Some) }
}

async fn asked(hangup: &mut Option<Signal>) {
    let asked = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if asked.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Changes whenever a file of the infra repository does.
fn fingerprint(root: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    note(&root.join(PROJECT_FILE), &mut hasher);
    for folder in FOLDERS {
        walk(&root.join(folder), 0, &mut hasher);
    }
    hasher.finish()
}

fn walk(folder: &Path, depth: u32, hasher: &mut DefaultHasher) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        // Deeper folders are not read either.
        if path.is_dir() && depth < 32 {
            walk(&path, depth + 1, hasher);
        } else {
            note(&path, hasher);
        }
    }
}

fn note(path: &Path, hasher: &mut DefaultHasher) {
    path.hash(hasher);
    let about = std::fs::metadata(path).ok();
    let about = about.map(|about| (about.len(), about.mtime(), about.mtime_nsec(), about.ino()));
    about.hash(hasher);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_file_is_noticed_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("written");
        };
        let mut known = vec![fingerprint(folder.path())];
        write("fleetwright.yaml", "project: a\n");
        known.push(fingerprint(folder.path()));
        write("pipelines/web.yaml", "web: {}\n");
        known.push(fingerprint(folder.path()));
        write("templates/deep/er/file", "1");
        known.push(fingerprint(folder.path()));
        write("pipelines/web.yaml", "api: { }\n");
        known.push(fingerprint(folder.path()));
        std::fs::rename(folder.path().join("pipelines/web.yaml"), folder.path().join("pipelines/api.yaml"))
            .expect("renamed");
        known.push(fingerprint(folder.path()));
        let all: std::collections::BTreeSet<u64> = known.iter().copied().collect();
        assert_eq!(all.len(), known.len());
        write("README.md", "nothing");
        assert_eq!(fingerprint(folder.path()), known[5]);
    }
}
