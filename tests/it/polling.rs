//! Branches that are watched.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::DateTime;
use fleetwright::adapter::artifacts::ArtifactFolder;
use fleetwright::adapter::commit_statuses::ForgeComments;
use fleetwright::adapter::disk_space::DiskSpace;
use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::adapter::locks::FileLocks;
use fleetwright::adapter::step_containers::EngineSteps;
use fleetwright::adapter::step_logs::StepLogFolder;
use fleetwright::cli::infra_steps::OwnCommands;
use fleetwright::driver::pipeline::causes::{self, Caused};
use fleetwright::driver::pipeline::poll::{Watched, WatchedPipeline, look};
use fleetwright::driver::pipeline::run::{Connect, Parts, SHOWN_MOST};
use fleetwright::event::Events;
use fleetwright::model::git_ref::GitRef;
use fleetwright::model::pipeline::Triggers;
use fleetwright::model::redact::Mask;
use fleetwright::model::run::{RunId, RunState, Trigger};
use fleetwright::model::schedule::Schedule;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::jobs::JobCluster;
use fleetwright::port::journal::{Record, Which};

use crate::support::cluster::{FakeCluster, Mood};
use crate::support::git::Origin;

struct Connected;

#[async_trait]
impl Connect for Connected {
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError> {
        Ok(Arc::new(FakeCluster::new(Mood::Healthy)))
    }

    async fn jobs(&self) -> Result<Arc<dyn JobCluster>, ClusterError> {
        Err(ClusterError::Denied { reason: "this cluster has no jobs".to_owned() })
    }
}

fn parts(home: &Path) -> Parts {
    // The frame's `main` does this in the real process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let images = Arc::new(
        DockerImages::new("polling.invalid", CredentialSource::None, Mask::default()).expect("Docker"),
    );
    Parts {
        git: Arc::new(Mirrors::new(home.join("repos"))),
        steps: Arc::new(EngineSteps::new(images.clone(), "polling")),
        storage: Arc::new(EngineSteps::new(images.clone(), "polling")),
        images,
        infra: Arc::new(OwnCommands::new(home.join("plans"), Mask::default())),
        comments: Arc::new(ForgeComments::new(None, BTreeMap::new())),
        space: Arc::new(DiskSpace::new(Vec::new())),
        artifacts: Arc::new(ArtifactFolder::new(home.join("artifacts"))),
        connect: Arc::new(Connected),
        journal: Arc::new(SqliteJournal::open(&journal_path(home)).expect("a journal")),
        logs: Arc::new(StepLogFolder::new(home.join("logs"))),
        locks: Arc::new(FileLocks::new(home.join("locks"))),
        events: Events::masked(Mask::default()).0,
        mask: Mask::default(),
        changed: Arc::new(tokio::sync::watch::Sender::new(0)),
        shown_most: SHOWN_MOST,
        troubles: Arc::default(),
        removed: Arc::default(),
    }
}

fn pipeline(name: &str, triggers: Triggers, paths: &[&str]) -> WatchedPipeline {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    WatchedPipeline { name: name.parse().expect("a name"), triggers, paths }
}

#[tokio::test]
async fn the_first_push_to_an_empty_repository_is_seen_like_any_other() {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    let parts = parts(home.path());
    let watched = Watched {
        source: origin.source(),
        every: Duration::from_millis(50),
        pipelines: vec![pipeline("web", Triggers::default(), &[])],
        hint: Arc::default(),
    };
    let unseen = look(&parts, &watched).await.expect("the journal").expect_err("there is no commit");
    assert!(unseen.answered, "{unseen:?}");
    let commit = origin.commit("first", &[("file", b"x")]);
    let queued = look(&parts, &watched).await.expect("the journal").expect("a commit");
    let runs = parts.journal.runs(&Which::Newest(2)).expect("read");
    assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), queued);
    assert_eq!(runs[0].commit.as_str(), commit);

    // Of two pipelines, one is for a folder.
    let web = pipeline("web", Triggers::default(), &[]);
    let docs = pipeline("docs", Triggers::default(), &["docs", "!**/*.txt"]);
    let watched = Watched { pipelines: vec![web, docs], ..watched };
    let queued_for = async |files: &[(&str, &[u8])]| -> Vec<String> {
        origin.commit("more", files);
        look(&parts, &watched).await.expect("the journal").expect("a commit");
        let main = GitRef::branch("main");
        let head = parts.journal.seen(&watched.source.name, &main).expect("read")[&main].clone();
        let runs = parts.journal.runs(&Which::Newest(9)).expect("read");
        let mut names: Vec<String> =
            runs.iter().filter(|run| run.commit == head).map(|run| run.pipeline.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(queued_for(&[("file", b"y")]).await, ["web"]);
    assert_eq!(queued_for(&[("file", b"y"), ("docs/a.md", b"1")]).await, ["docs", "web"]);
    assert_eq!(queued_for(&[("file", b"y"), ("docs/a.md", b"1"), ("docs/b.txt", b"1")]).await, ["web"]);
    // What is removed has changed as well.
    assert_eq!(queued_for(&[("file", b"y")]).await, ["docs", "web"]);
}

#[tokio::test]
async fn branches_tags_and_pull_requests_start_runs_and_what_was_there_before_does_not() {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    let parts = parts(home.path());
    let first = origin.commit("first", &[("file", b"x")]);
    let point = |name: &str, commit: &str| origin.point(name, commit);
    point("refs/tags/v0", &first);
    let all = Triggers {
        branches: Some(vec!["main".to_owned(), "release/*".to_owned()]),
        tags: vec!["v*".to_owned()],
        pull_requests: true,
        ..Triggers::default()
    };
    let watched = Watched {
        source: origin.source(),
        every: Duration::from_millis(50),
        pipelines: vec![pipeline("web", all, &[]), pipeline("docs", Triggers::default(), &["docs"])],
        hint: Arc::default(),
    };
    let started = async || -> Vec<String> {
        let queued = look(&parts, &watched).await.expect("the journal").expect("it answers");
        let runs = queued.into_iter().map(|id| parts.journal.run(id).expect("read").expect("a run"));
        let words = runs.map(|run| {
            let reference = run.reference.expect("a reference");
            format!("{} {} {}", run.pipeline, run.trigger.word(), reference.as_str())
        });
        let mut words: Vec<String> = words.collect();
        words.sort();
        words
    };
    assert_eq!(started().await, ["docs poll refs/heads/main", "web poll refs/heads/main"]);
    assert_eq!(started().await, [""; 0]);
    point("refs/heads/release/1", &first);
    point("refs/heads/other", &first);
    point("refs/tags/v1", &first);
    point("refs/tags/nightly", &first);
    assert_eq!(started().await, ["web poll refs/heads/release/1", "web tag refs/tags/v1"]);
    let second = origin.commit("second", &[("file", b"y")]);
    point("refs/pull/7/head", &second);
    let found = started().await;
    // It is the head of `main`, too: who pushed that may push.
    assert_eq!(found, ["web own-pull-request refs/pull/7/head", "web poll refs/heads/main"]);
    let strange = origin.commit("of a stranger", &[("file", b"z")]);
    point("refs/heads/main", &second);
    point("refs/pull/8/head", &strange);
    assert_eq!(started().await, ["web pull-request refs/pull/8/head"]);
    // A branch that is removed starts nothing; made again elsewhere, or set back, it does.
    origin.remove("refs/heads/release/1");
    assert_eq!(started().await, [""; 0]);
    point("refs/heads/release/1", &second);
    point("refs/heads/main", &first);
    assert_eq!(started().await, ["web poll refs/heads/main", "web poll refs/heads/release/1"]);
}

#[tokio::test]
async fn schedules_and_other_pipelines_start_one_run_each_time() {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    let parts = parts(home.path());
    origin.commit("first", &[("file", b"x")]);
    let schedule = Schedule { cron: "*/5 * * * *".into(), timezone: "UTC".into() };
    let nightly = Caused {
        name: "nightly".parse().expect("a name"),
        source: origin.source(),
        times: Some((schedule.times().expect("a schedule"), "schedule".to_owned())),
        after: Vec::new(),
    };
    let at = |minute: i64| DateTime::from_timestamp(1_700_000_100 + 60 * minute, 0).expect("a time");
    let started = async |caused: &Caused, minute| {
        causes::look(&parts, caused, at(minute)).await.expect("the journal").expect("git").len()
    };
    assert_eq!(started(&nightly, 0).await, 0, "nothing is due when it is seen first");
    let mut counts = Vec::new();
    for minute in 1..=11 {
        counts.push(started(&nightly, minute).await);
    }
    assert_eq!(counts.iter().sum::<usize>(), 2, "{counts:?}");
    assert_eq!(started(&nightly, 60).await, 1, "of what was missed, one");
    let run = parts.journal.run(RunId(3)).expect("read").expect("a run");
    assert_eq!((run.trigger, run.subject.as_str()), (Trigger::Schedule, "first"));

    let deploy = Caused {
        name: "deploy".parse().expect("a name"),
        source: origin.source(),
        times: None,
        after: vec!["nightly".parse().expect("a name")],
    };
    let succeed = |id| {
        let ended = Record::Run { state: RunState::Succeeded, reason: None };
        parts.journal.record(at(61), RunId(id), &[ended]).expect("written");
    };
    succeed(1);
    assert_eq!(started(&deploy, 62).await, 0, "it was there before");
    succeed(2);
    assert_eq!(started(&deploy, 63).await, 1);
    assert_eq!(started(&deploy, 64).await, 0);
    let run = parts.journal.run(RunId(4)).expect("read").expect("a run");
    assert_eq!((run.trigger, run.asked_by.as_deref()), (Trigger::Pipeline, Some("run 2 of nightly")));
}
