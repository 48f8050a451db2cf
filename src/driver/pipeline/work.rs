//! The actions of a run, performed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::source;
use crate::driver::deploy::running;
use crate::driver::release;
use crate::event::rollout::RolloutEvent;
use crate::model::feature::{Feature, all_have};
use crate::model::image::{ContextFile, EntryKind, at_docker_hub, has_host};
use crate::model::name::{CommitId, Digest, ImageKey, RepositoryName, ServiceName};
use crate::model::run::{BuildSpec, CacheSpec, RunId};
use crate::model::service::{
    Deployment, FailedInstance, InstanceState, PreDeployState, RevisionState, ServiceStatus,
};
use crate::model::step_container::CacheMount;
use crate::model::step_files::{StepFile, TestReport};
use crate::plan::changed_paths::{fit_one, roots};
use crate::plan::dockerfile::{Dockerfile, DockerfileError};
use crate::plan::image_key::{self, Inputs};
use crate::plan::junit::junit;
use crate::plan::release::Member;
use crate::plan::retention::STRANGERS;
use crate::plan::run::{Outcome, Patience, Problem, RolloutEnd};
use crate::port::artifacts::{ArtifactError, Artifacts};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::git::{GitError, GitRemote, Located};
use crate::port::images::{BuildRequest, ImageError, ImageStore, Open};
use crate::port::journal::{Journal, JournalError};
use crate::port::step_containers::{Attempt, StepContainers, Wanted, WorkspaceFiles};

/// A rollout in which nothing changes for this long is given up; the engine continues.
const STANDSTILL: Duration = Duration::from_secs(30 * 60);
/// The longest time that nothing changes while a `pre_deploy` command runs.
const PRE_DEPLOY: Duration = Duration::from_secs(24 * 3600);
/// How long a service that runs may take to reach another number of instances.
const GROWTH: Duration = Duration::from_secs(5 * 60);
/// How often a rollout's run looks whether a newer one waits.
const NEWER: Duration = Duration::from_millis(500);
/// The largest report of tests, in bytes.
const REPORT_MOST: u64 = 64 << 20;
/// How far the clocks of the cluster's machines may be behind ours.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(60);

impl From<GitError> for Problem {
    fn from(error: GitError) -> Self {
        let patience = match &error {
            // Whoever watches the repository fetches it.
            GitError::NoMirror { .. } => Patience::Long,
            error if error.is_transient() => Patience::Short,
            _ => Patience::None,
        };
        Self { reason: error.to_string(), patience, progressed: false }
    }
}

impl From<ImageError> for Problem {
    fn from(error: ImageError) -> Self {
        let patience = if error.is_transient() { Patience::Short } else { Patience::None };
        Self { reason: error.to_string(), patience, progressed: false }
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        let patience = match &error {
            ClusterError::Unreachable { .. } => Patience::Long,
            ClusterError::Engine { .. } => Patience::Short,
            ClusterError::NotFound { .. } | ClusterError::Refused { .. } | ClusterError::Denied { .. } => {
                Patience::None
            }
        };
        Self { reason: error.to_string(), patience, progressed: false }
    }
}

impl From<JournalError> for Problem {
    fn from(error: JournalError) -> Self {
        Self::lasting(error.to_string())
    }
}

/// What was found out about a build, kept from its inspection until it is built.
pub(super) struct Prepared {
    key: ImageKey,
    dockerfile: Dockerfile,
    /// The Dockerfile with its bases pinned.
    text: String,
    /// Its bases as they are pinned.
    bases: Vec<String>,
    /// The files of the context; none when the image is there already.
    context: Vec<ContextFile>,
    time: DateTime<Utc>,
    of_strangers: bool,
}

/// Where the source of a build is.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The repository.
    pub repository: &'a RepositoryName,
    /// The commit.
    pub commit: &'a CommitId,
}

/// Reads the tree, pins the bases, computes the key and looks whether the image is there. `of_strangers`: anybody may have
/// written the commit.
pub(super) async fn inspect(
    git: &dyn GitRemote,
    images: &dyn ImageStore,
    journal: &dyn Journal,
    at: At<'_>,
    build: &BuildSpec,
    of_strangers: bool,
) -> Result<(Outcome, Prepared), Problem> {
    let source = source::read(git, at, build).await?;
    let wanted = source.dockerfile.as_str();
    let platform = images.platform().await?;
    let in_file = |error: DockerfileError| Problem::lasting(format!("`{wanted}`: {error}"));
    let dockerfile = Dockerfile::parse(&source.text, &build.args, &platform).map_err(in_file)?;
    dockerfile.check_engine(&images.engine().await?).map_err(in_file)?;

    let mut digests = BTreeMap::new();
    let mut pins = BTreeMap::new();
    for base in dockerfile.bases(build.target.as_deref()).map_err(in_file)? {
        if digests.contains_key(&base.image) {
            continue;
        }
        let (digest, name) = match base.image.split_once('@') {
            Some((_, digest)) => {
                let digest = digest.parse().map_err(|error| {
                    Problem::lasting(format!("`{wanted}` line {}: `{}`: {error}", base.line, base.image))
                })?;
                (digest, base.image.clone())
            }
            None => look_up(images, &base.image).await.map_err(|problem| Problem {
                reason: format!("`{wanted}` line {}: {}", base.line, problem.reason),
                ..problem
            })?,
        };
        pins.insert(base.image.clone(), pinned(&name, &digest, images.host()));
        digests.insert(base.image.clone(), digest);
    }

    let key = image_key::image_key(&Inputs {
        platform: &platform,
        dockerfile_path: wanted,
        dockerfile: source.text.as_bytes(),
        dockerignore: &source.ignore,
        target: build.target.as_deref(),
        secrets: &build.secrets,
        entries: &source.entries,
        args: &build.args,
        bases: &digests,
        of_strangers,
    });
    // The registry may have lost or changed what the journal remembers, and the other way round.
    let mut known = journal.image(&key, &format!("{}/{}", images.host(), build.image))?;
    if let Some(image) = &known {
        let held = images.digest(&format!("{}:{key}", build.image)).await?;
        if held.as_ref() != Some(&image.digest) {
            known = None;
        }
    }
    let files = source.entries.len();
    let text = dockerfile.pinned(&pins);
    let context = match known {
        Some(_) => Vec::new(),
        None => git.measure(at.repository, source.entries).await?,
    };
    let bases = pins.into_values().collect();
    let time = source.time;
    let prepared = Prepared { key: key.clone(), dockerfile, text, bases, context, time, of_strangers };
    Ok((Outcome::Inspected { key, files, known }, prepared))
}

/// Has the engine pull the image of a command; its name with host and digest.
pub(super) async fn pull(
    images: &dyn ImageStore,
    steps: &dyn StepContainers,
    image: &str,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<String, Problem> {
    let reference = match image.split_once('@') {
        Some(_) if has_host(image) => image.to_owned(),
        Some(_) => format!("{}/{image}", images.host()),
        None => {
            let (digest, name) = look_up(images, image).await?;
            pinned(&name, &digest, images.host())
        }
    };
    steps.pull(&reference, lines).await?;
    Ok(reference)
}

/// Which files of a workspace are kept.
pub(super) struct Kept<'a> {
    /// Patterns of files.
    pub artifacts: &'a [String],
    /// Patterns of reports.
    pub reports: &'a [String],
}

/// Keeps files of the workspace, and reads the reports among them.
pub(super) async fn collect(
    steps: &dyn StepContainers,
    artifacts: &dyn Artifacts,
    attempt: Attempt,
    kept: Kept<'_>,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let lasting = |error: ArtifactError| Problem::lasting(error.to_string());
    let folder = artifacts.stage(attempt.run, attempt.step).map_err(lasting)?;
    let all: Vec<String> = kept.artifacts.iter().chain(kept.reports).cloned().collect();
    let folders = roots(&all);
    let fits = |path: &str| all.iter().any(|pattern| fit_one(pattern, path));
    let wanted = Wanted { folders: &folders, fits: &fits };
    let files = steps.collect(attempt, wanted, &folder).await?;
    artifacts.keep(attempt.run, attempt.step).map_err(lasting)?;
    for pattern in &all {
        if !files.iter().any(|file| fit_one(pattern, &file.path)) {
            lines(&format!("no file of the workspace fits `{pattern}`"));
        }
    }
    let mut tests: Option<TestReport> = None;
    let is_report = |file: &&StepFile| kept.reports.iter().any(|pattern| fit_one(pattern, &file.path));
    for file in files.iter().filter(is_report) {
        let open = || artifacts.open(attempt.run, attempt.step, &file.path);
        let read =
            if file.size > REPORT_MOST { Err("it is larger than 64 MiB".to_owned()) } else { read(open) };
        match read.and_then(|text| junit(&text)) {
            Ok(report) => tests.get_or_insert_default().add(report),
            Err(reason) => lines(&format!("`{}` is no JUnit report: {reason}", file.path)),
        }
    }
    Ok(Outcome::Collected { files, tests })
}

fn read(open: impl FnOnce() -> Result<Option<File>, ArtifactError>) -> Result<String, String> {
    let file = open().map_err(|error| error.to_string())?.ok_or("it is gone")?;
    let mut text = String::new();
    file.take(REPORT_MOST).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The caches of a command, which are `of` something: which they are follows from the content of files of the commit.
pub(super) async fn caches(
    git: &dyn GitRemote,
    at: At<'_>,
    of: &str,
    caches: &[CacheSpec],
) -> Result<Vec<CacheMount>, Problem> {
    let mut mounts = Vec::with_capacity(caches.len());
    for cache in caches {
        let mut key = String::new();
        for path in &cache.key {
            let blob = match git.locate(at.repository, at.commit, path).await? {
                Located::File { blob, .. } => blob,
                // One that is removed is another cache as well.
                Located::Nothing => "none".to_owned(),
                Located::Folder { .. } | Located::Submodule { .. } | Located::Broken { .. } => {
                    return Err(Problem::lasting(format!("`{path}`, the key of a cache, is no file")));
                }
            };
            key.push_str(&format!("{path}={blob}\n"));
        }
        let group = format!("{of} {}", cache.path);
        mounts.push(CacheMount { group, key, path: cache.path.clone() });
    }
    Ok(mounts)
}

/// Puts the files of the commit into the workspace of a run.
pub(super) async fn check_out(
    git: &Arc<dyn GitRemote>,
    steps: &dyn StepContainers,
    run: RunId,
    at: At<'_>,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let files = files_of(git, at, lines).await?;
    let count = files.files.len();
    steps.prepare(run, files).await?;
    Ok(Outcome::CheckedOut { files: count })
}

/// The files of the commit; what can't be put into a folder is left out.
pub(super) async fn files_of(
    git: &Arc<dyn GitRemote>,
    at: At<'_>,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<WorkspaceFiles, Problem> {
    let time = git.commit(at.repository, at.commit.as_str()).await?.time;
    let mut entries = git.tree(at.repository, at.commit, ".").await?;
    entries.retain(|entry| match (&entry.kind, &entry.raw) {
        (EntryKind::Submodule, _) => {
            lines(&format!("`{}` is a git submodule and is left out", entry.path));
            false
        }
        (_, Some(raw)) => {
            lines(&format!("`{}` is left out: its name is not UTF-8", raw.escape_ascii()));
            false
        }
        (_, None) => true,
    });
    let files = git.measure(at.repository, entries).await?;
    Ok(WorkspaceFiles { files, time, open: opener(git, at.repository) })
}

/// The digest of an image and its name with a host: without one it is the environment's, or else
/// Docker Hub's, as `docker build` has it.
async fn look_up(images: &dyn ImageStore, image: &str) -> Result<(Digest, String), Problem> {
    if let Some(digest) = images.digest(image).await? {
        return Ok((digest, image.to_owned()));
    }
    if has_host(image) {
        return Err(Problem::lasting(format!("there is no image `{image}`")));
    }
    let there = at_docker_hub(image);
    let first = format!("there is no image `{image}` in the registry at {}", images.host());
    match images.digest(&there).await {
        Ok(Some(digest)) => Ok((digest, there)),
        Ok(None) => Err(Problem::lasting(format!(
            "{first}, and none at Docker Hub (`{there}`); one from elsewhere is written with its registry's host"
        ))),
        Err(error) => {
            let problem = Problem::from(error);
            let reason = format!(
                "{first}, and Docker Hub can't be asked for `{there}`: {}; one from elsewhere is written with \
                 its registry's host",
                problem.reason
            );
            Err(Problem { reason, ..problem })
        }
    }
}

/// What the builder gets for `source` when its Dockerfile needs no base pinned.
///
/// # Errors
/// When a file of the context can't be sent.
pub async fn request(
    git: &Arc<dyn GitRemote>,
    at: At<'_>,
    build: &BuildSpec,
    source: source::Source,
    tag: &str,
) -> Result<BuildRequest, Problem> {
    Ok(BuildRequest {
        image: build.image.clone(),
        tag: tag.to_owned(),
        context: git.measure(at.repository, source.entries).await?,
        dockerfile: source.text,
        bases: Vec::new(),
        args: build.args.clone(),
        target: build.target.clone(),
        cache_namespace: String::new(),
        secrets: build.secrets.clone(),
        time: source.time,
        open: opener(git, at.repository),
    })
}

/// Opens files of `repository`'s mirror.
fn opener(git: &Arc<dyn GitRemote>, repository: &RepositoryName) -> Open {
    let (git, repository) = (Arc::clone(git), repository.clone());
    Arc::new(move |blob| git.content(&repository, blob))
}

/// `image` by `digest`, its tag left out and its registry's host put in.
fn pinned(image: &str, digest: &Digest, host: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    if has_host(name) { format!("{name}@{digest}") } else { format!("{host}/{name}@{digest}") }
}

/// Builds what was inspected.
pub(super) async fn build(
    git: &Arc<dyn GitRemote>,
    images: &dyn ImageStore,
    at: At<'_>,
    build: &BuildSpec,
    prepared: &Prepared,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let request = BuildRequest {
        image: build.image.clone(),
        tag: prepared.key.to_string(),
        dockerfile: prepared.text.clone(),
        bases: prepared.bases.clone(),
        args: build.args.clone(),
        target: build.target.clone(),
        cache_namespace: if prepared.of_strangers { STRANGERS.to_owned() } else { String::new() },
        secrets: build.secrets.clone(),
        context: prepared.context.clone(),
        time: prepared.time,
        open: opener(git, at.repository),
    };
    match images.build(request, lines).await {
        Ok(()) => Ok(Outcome::Built),
        Err(ImageError::Build { reason, step }) => {
            let instruction = step.as_deref().and_then(|step| prepared.dockerfile.step(step));
            Err(Problem::lasting(match (parse_error(&reason), instruction) {
                (Some((line, cause)), _) => format!("{}:{line}: {cause}", build.dockerfile),
                (None, Some(at)) => format!("{}:{}: `{}`: {reason}", build.dockerfile, at.line, at.text),
                (None, None) => reason,
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The line and cause in the builder's `dockerfile parse error line 3: unknown instruction: FORM`;
/// newer ones say `on line`.
fn parse_error(reason: &str) -> Option<(usize, &str)> {
    let lower = reason.to_ascii_lowercase();
    let at = lower.find("parse error")? + "parse error".len();
    let rest = reason[at..].trim_start().trim_start_matches("on ").strip_prefix("line ")?;
    let (line, cause) = rest.split_once(':')?;
    Some((line.trim().parse().ok()?, cause.trim()))
}

/// Pushes what was built.
pub(super) async fn push(
    images: &dyn ImageStore,
    build: &BuildSpec,
    key: &ImageKey,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let digest = images.push(&build.image, key.as_str(), lines).await?;
    Ok(Outcome::Pushed { digest })
}

/// Tells the cluster, unless it has heard already. An image that the registry no longer holds
/// is not rolled out: no machine could pull it.
pub(super) async fn deploy(
    cluster: Arc<dyn Cluster>,
    images: &dyn ImageStore,
    deployment: &Deployment,
    told_since: Option<DateTime<Utc>>,
) -> Result<Outcome, Problem> {
    if let Some(since) = told_since {
        // What it made of it may be over by now, rolled back even: telling it again would begin anew.
        let snapshot = cluster.snapshot().await?;
        let service = snapshot.services.iter().find(|service| service.name == deployment.spec.name);
        let heard = service.into_iter().flat_map(|service| &service.history).find(|revision| {
            revision.digest.as_ref() == Some(&deployment.digest)
                && revision.origin == deployment.origin
                && revision.since >= since - CLOCK_SKEW
        });
        if let Some(revision) = heard {
            return Ok(Outcome::Deployed { revision: revision.number });
        }
    }
    let reference = format!("{}@{}", deployment.spec.image, deployment.digest);
    if images.digest(&reference).await?.is_none() {
        return Err(Problem::lasting(format!(
            "the registry at {} no longer holds `{reference}`; `fleetwright pipeline run` builds it again",
            images.host()
        )));
    }
    let network = all_have(&cluster.snapshot().await?.machines, Feature::Names);
    let revision = cluster.deploy(&Deployment { network, ..deployment.clone() }).await?;
    Ok(Outcome::Deployed { revision })
}

/// Finds out which revisions services are at.
pub(super) async fn look(cluster: Arc<dyn Cluster>, services: &[ServiceName]) -> Result<Outcome, Problem> {
    let mut before = Vec::with_capacity(services.len());
    for service in services {
        before.push(running(cluster.as_ref(), service).await?.map(|running| running.revision));
    }
    Ok(Outcome::Looked { before })
}

/// Takes back what was rolled out of a release.
pub(super) async fn take_back(
    cluster: Arc<dyn Cluster>,
    members: &[Member],
    tell: &(dyn Fn(RolloutEvent) + Send + Sync),
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let returned = release::take_back(cluster.as_ref(), members, tell).await?;
    let words: Vec<String> =
        returned.iter().zip(members).map(|(returned, member)| returned.words(member)).collect();
    words.iter().for_each(|line| say(line));
    Ok(Outcome::TakenBack { words: words.join("; ") })
}

/// A rollout to follow.
pub(super) struct Following<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) revision: u64,
    pub(super) digest: &'a Digest,
    /// The run of a newer commit that waits for this one to end, if there is one.
    pub(super) newer: &'a (dyn Fn() -> Option<RunId> + Send + Sync),
}

/// Waits until the cluster is done with a revision, or until a newer commit waits to replace it
/// before all instances are healthy.
pub(super) async fn follow(
    cluster: Arc<dyn Cluster>,
    rollout: Following<'_>,
    tell: &(dyn Fn(RolloutEvent) + Send + Sync),
    say: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let Following { service, revision, digest, newer } = rollout;
    let mut watch = cluster.watch().await?;
    let mut progressed = false;
    let mut last = None;
    let mut command = None;
    let mut short = None;
    let mut limit = Instant::now() + STANDSTILL;
    let lost = |reason: String, progressed| Problem { reason, patience: Patience::Long, progressed };
    let mut look = tokio::time::interval(NEWER);
    loop {
        let next = tokio::select! {
            next = timeout_at(limit, watch.next()) => next,
            _ = look.tick() => {
                // Before the first answer it is not known whether the rollout has ended already.
                match newer().filter(|_| last.is_some()) {
                    Some(run) => {
                        let reason = format!("run {run} of a newer commit takes over");
                        return Ok(Outcome::Followed { end: RolloutEnd::Replaced, reason: Some(reason) });
                    }
                    None => continue,
                }
            }
        };
        let snapshot = match next {
            Err(_) => {
                let minutes = STANDSTILL.as_secs() / 60;
                return Err(Problem::lasting(short.unwrap_or_else(|| {
                    format!(
                        "nothing has changed for {minutes} min; the cluster continues with revision \
                         {revision} of `{service}`"
                    )
                })));
            }
            Ok(None) => return Err(lost("the cluster stopped answering".into(), progressed)),
            Ok(Some(Err(error))) => return Err(lost(error.to_string(), progressed)),
            Ok(Some(Ok(snapshot))) => snapshot,
        };
        progressed = true;
        let Some(status) = snapshot.services.iter().find(|status| status.name == *service) else {
            return Err(Problem::lasting(format!("service `{service}` was removed")));
        };
        let Some(found) = status.history.iter().find(|found| found.number == revision) else {
            if status.history.first().is_some_and(|newest| newest.number > revision) {
                return Ok(Outcome::Followed { end: RolloutEnd::Replaced, reason: None });
            }
            continue;
        };
        let healthy = healthy(status, digest);
        if let Some(state) = found.pre_deploy.filter(|_| found.pre_deploy != command) {
            tell(RolloutEvent::PreDeploy { service: service.clone(), revision, state });
            command = found.pre_deploy;
        }
        if let Some(PreDeployState::Waiting | PreDeployState::Running) = found.pre_deploy {
            // It has a timeout of its own.
            last = Some((found.state, healthy));
            limit = Instant::now() + PRE_DEPLOY;
            continue;
        }
        if last != Some((found.state, healthy)) {
            last = Some((found.state, healthy));
            let grows = found.state == RevisionState::Running;
            limit = Instant::now() + if grows { GROWTH } else { STANDSTILL };
            if found.state == RevisionState::RollingOut || found.state == RevisionState::Running {
                tell(RolloutEvent::Progress {
                    service: service.clone(),
                    revision,
                    healthy,
                    desired: status.desired,
                });
            }
        }
        short = None;
        let end = match found.state {
            RevisionState::RollingOut => continue,
            // More instances were asked for, and the engine has no verdict on those.
            RevisionState::Running if !status.is_whole() => {
                short = Some(too_few(status, healthy));
                continue;
            }
            RevisionState::Running => RolloutEnd::Running,
            RevisionState::Replaced => RolloutEnd::Replaced,
            RevisionState::RolledBack => RolloutEnd::RolledBack,
            RevisionState::Failed => RolloutEnd::Failed,
        };
        for line in found.failed.iter().flat_map(FailedInstance::report) {
            say(&line);
        }
        return Ok(Outcome::Followed { end, reason: found.reason.clone() });
    }
}

/// That a service which runs has fewer instances than it should, and why.
fn too_few(status: &ServiceStatus, healthy: u32) -> String {
    let waiting = status.instances.iter().find(|one| one.state != InstanceState::Healthy);
    let why = waiting.and_then(|one| Some(format!(": {}: {}", one.name, one.message.as_deref()?)));
    format!(
        "{healthy} of {} instances of `{}` are healthy after {} min{}",
        status.desired,
        status.name,
        GROWTH.as_secs() / 60,
        why.unwrap_or_default()
    )
}

/// How many healthy instances run that image.
fn healthy(status: &ServiceStatus, digest: &Digest) -> u32 {
    let healthy = status
        .instances
        .iter()
        .filter(|instance| instance.state == InstanceState::Healthy)
        .filter(|instance| instance.digest.as_ref().is_none_or(|image| image == digest));
    u32::try_from(healthy.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_pinned_at_their_registry() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().expect("a digest");
        assert_eq!(pinned("demo/base", &digest, "r:1"), format!("r:1/demo/base@{digest}"));
        assert_eq!(pinned("demo/base:2", &digest, "r:1"), format!("r:1/demo/base@{digest}"));
        assert_eq!(pinned("h:5/base:2", &digest, "r:1"), format!("h:5/base@{digest}"));
        assert_eq!(pinned("h:5/base", &digest, "r:1"), format!("h:5/base@{digest}"));
    }

    #[test]
    fn the_builders_words_tell_the_line() {
        let parsed = parse_error("dockerfile parse error line 3: unknown instruction: FORM");
        assert_eq!(parsed, Some((3, "unknown instruction: FORM")));
        let newer = parse_error("dockerfile parse error on line 3: unknown instruction: FORM");
        assert_eq!(newer, parsed);
        assert_eq!(parse_error("The command '/bin/x' returned a non-zero code: 1"), None);
    }
}
