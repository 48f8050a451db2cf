//! The actions of a run, performed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::{Outcome, Patience, Problem};
use crate::event::rollout::RolloutEvent;
use crate::model::image::EntryKind;
use crate::model::name::{CommitId, Digest, ImageKey, RepositoryName, ServiceName};
use crate::model::run::{BuildSpec, RunId};
use crate::model::service::{Deployment, FailedInstance, InstanceState, RevisionState, ServiceStatus};
use crate::plan::dockerfile::Dockerfile;
use crate::plan::dockerignore::Dockerignore;
use crate::plan::image_key::{self, Inputs};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::git::{ArchiveEntry, Content, GitError, GitRemote};
use crate::port::images::{BuildRequest, ImageError, ImageStore};
use crate::port::journal::{Journal, JournalError};

/// A rollout in which nothing changes for this long is given up; the engine goes on with it.
const STANDSTILL: Duration = Duration::from_secs(30 * 60);
/// How long a service that runs may take to reach another number of instances.
const GROWTH: Duration = Duration::from_secs(5 * 60);
/// How often a rollout's run looks whether a newer one waits.
const NEWER: Duration = Duration::from_millis(500);
/// How far the clocks of the cluster's machines may be behind ours.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(60);

impl From<GitError> for Problem {
    fn from(error: GitError) -> Self {
        let patience = if error.is_transient() { Patience::Short } else { Patience::None };
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
    entries: Vec<ArchiveEntry>,
}

/// Where the source of a build is.
pub(super) struct At<'a> {
    pub(super) repository: &'a RepositoryName,
    pub(super) commit: &'a CommitId,
}

/// Reads the tree, pins the bases, computes the key and looks whether the image is there.
pub(super) async fn inspect(
    git: &dyn GitRemote,
    images: &dyn ImageStore,
    journal: &dyn Journal,
    at: At<'_>,
    build: &BuildSpec,
) -> Result<(Outcome, Prepared), Problem> {
    let place = || format!("in `{}` of `{}` at {}", build.context, at.repository, at.commit.short());
    let tree = git.tree(at.repository, at.commit, &build.context).await?;
    let wanted = build.dockerfile.trim_start_matches("./");
    let blob = |path: &str| tree.iter().find(|entry| entry.path == path).map(|entry| entry.blob.clone());
    let dockerfile_id =
        blob(wanted).ok_or_else(|| Problem::lasting(format!("there is no `{wanted}` {}", place())))?;
    let text = git.blob(at.repository, &dockerfile_id).await?;
    let text = std::str::from_utf8(&text)
        .map_err(|_| Problem::lasting(format!("`{wanted}` {} is not UTF-8", place())))?;
    let ignore_text = match blob(".dockerignore") {
        Some(id) => git.blob(at.repository, &id).await?,
        None => bytes::Bytes::new(),
    };
    let dockerfile = Dockerfile::parse(text, &build.args)
        .map_err(|error| Problem::lasting(format!("`{wanted}`: {error}")))?;
    let ignore = Dockerignore::parse(&String::from_utf8_lossy(&ignore_text));
    let entries =
        image_key::context(&tree, &ignore, wanted).map_err(|error| Problem::lasting(error.to_string()))?;
    for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Link) {
        let target = git.blob(at.repository, &entry.blob).await?;
        image_key::check_link(&entry.path, &String::from_utf8_lossy(&target))
            .map_err(|error| Problem::lasting(error.to_string()))?;
    }

    let mut digests = BTreeMap::new();
    let mut pins = BTreeMap::new();
    for base in dockerfile.bases() {
        if digests.contains_key(&base.image) {
            continue;
        }
        let digest = match base.image.split_once('@') {
            Some((_, digest)) => digest.parse().map_err(|error| {
                Problem::lasting(format!("`{wanted}` line {}: `{}`: {error}", base.line, base.image))
            })?,
            None => images.digest(&base.image).await?.ok_or_else(|| {
                Problem::lasting(format!(
                    "`{wanted}` line {}: there is no image `{}` in the registry at {}; one from elsewhere is written with its registry's host",
                    base.line, base.image, images.host()
                ))
            })?,
        };
        pins.insert(base.image.clone(), pinned(&base.image, &digest, images.host()));
        digests.insert(base.image.clone(), digest);
    }

    let platform = images.platform().await?;
    let key = image_key::image_key(&Inputs {
        platform: &platform,
        dockerfile_path: wanted,
        dockerfile: text.as_bytes(),
        dockerignore: &ignore_text,
        entries: &entries,
        args: &build.args,
        bases: &digests,
    });
    // The registry may have lost or changed what the journal remembers, and the other way round.
    let mut known = journal.image(&key, &format!("{}/{}", images.host(), build.image))?;
    if let Some(image) = &known {
        let held = images.digest(&format!("{}:{key}", build.image)).await?;
        if held.as_ref() != Some(&image.digest) {
            known = None;
        }
    }
    let files = entries.len();
    let pinned_text = dockerfile.pinned(&pins);
    let entries: Vec<ArchiveEntry> = entries
        .into_iter()
        .map(|entry| {
            let content = if entry.path == wanted {
                Content::Bytes(pinned_text.clone().into())
            } else {
                Content::Blob(entry.blob)
            };
            ArchiveEntry { path: entry.path, kind: entry.kind, content }
        })
        .collect();
    if known.is_none() {
        git.weigh(at.repository, &entries).await?;
    }
    Ok((Outcome::Inspected { key: key.clone(), files, known }, Prepared { key, dockerfile, entries }))
}

/// `image` by `digest`, its tag left out and its registry's host put in.
fn pinned(image: &str, digest: &Digest, host: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    let name = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => name,
    };
    let has_host =
        name.split_once('/').is_some_and(|(first, _)| first.contains(['.', ':']) || first == "localhost");
    if has_host { format!("{name}@{digest}") } else { format!("{host}/{name}@{digest}") }
}

/// Builds what was inspected.
pub(super) async fn build(
    git: &dyn GitRemote,
    images: &dyn ImageStore,
    at: At<'_>,
    build: &BuildSpec,
    prepared: &Prepared,
    lines: &(dyn Fn(&str) + Send + Sync),
) -> Result<Outcome, Problem> {
    let step = AtomicUsize::new(0);
    let watch = |line: &str| {
        if let Some(number) = step_number(line) {
            step.store(number, Ordering::Relaxed);
        }
        lines(line);
    };
    let request = BuildRequest {
        image: build.image.clone(),
        tag: prepared.key.to_string(),
        dockerfile: build.dockerfile.trim_start_matches("./").to_owned(),
        args: build.args.clone(),
        context: git.archive(at.repository, prepared.entries.clone()),
    };
    match images.build(request, &watch).await {
        Ok(()) => Ok(Outcome::Built),
        Err(ImageError::Build { reason }) => {
            let instruction = prepared.dockerfile.step(step.load(Ordering::Relaxed));
            Err(Problem::lasting(match (parse_error(&reason), instruction) {
                (Some((line, cause)), _) => format!("{}:{line}: {cause}", build.dockerfile),
                (None, Some(at)) => format!("{}:{}: `{}`: {reason}", build.dockerfile, at.line, at.text),
                (None, None) => reason,
            }))
        }
        Err(error) => Err(error.into()),
    }
}

/// The number in the builder's `Step 3/5 : RUN x`.
fn step_number(line: &str) -> Option<usize> {
    line.strip_prefix("Step ")?.split_once('/')?.0.parse().ok()
}

/// The line and cause in the builder's `dockerfile parse error line 3: unknown instruction: FORM`.
fn parse_error(reason: &str) -> Option<(usize, &str)> {
    let lower = reason.to_ascii_lowercase();
    let at = lower.find("parse error line ")? + "parse error line ".len();
    let (line, cause) = reason[at..].split_once(':')?;
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
    let revision = cluster.deploy(deployment).await?;
    Ok(Outcome::Deployed { revision })
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
                        return Ok(Outcome::Followed { state: RevisionState::Replaced, reason: Some(reason) });
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
                        "nothing has changed for {minutes} min; the cluster goes on with revision \
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
                return Ok(Outcome::Followed { state: RevisionState::Replaced, reason: None });
            }
            continue;
        };
        let healthy = healthy(status, digest);
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
        match found.state {
            RevisionState::RollingOut => {}
            // More instances were asked for, and the engine has no verdict on those.
            RevisionState::Running if !status.is_whole() => short = Some(too_few(status, healthy)),
            state => {
                for line in found.failed.iter().flat_map(FailedInstance::report) {
                    say(&line);
                }
                return Ok(Outcome::Followed { state, reason: found.reason.clone() });
            }
        }
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
        assert_eq!(step_number("Step 12/20 : RUN x"), Some(12));
        assert_eq!(step_number("Stepping 1/2"), None);
        let parsed = parse_error("dockerfile parse error line 3: unknown instruction: FORM");
        assert_eq!(parsed, Some((3, "unknown instruction: FORM")));
        assert_eq!(parse_error("The command '/bin/x' returned a non-zero code: 1"), None);
    }
}
