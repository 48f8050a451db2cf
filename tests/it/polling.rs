//! Branches that are watched.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetwright::adapter::artifacts::ArtifactFolder;
use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::adapter::locks::FileLocks;
use fleetwright::adapter::step_containers::EngineSteps;
use fleetwright::driver::pipeline::poll::{Watched, WatchedPipeline, look};
use fleetwright::driver::pipeline::run::{Connect, Parts};
use fleetwright::event::Events;
use fleetwright::model::git_ref::GitRef;
use fleetwright::model::pipeline::Triggers;
use fleetwright::model::redact::Mask;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::journal::Which;

use crate::support::cluster::{FakeCluster, Mood};
use crate::support::git::Origin;

struct Connected;

#[async_trait]
impl Connect for Connected {
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError> {
        Ok(Arc::new(FakeCluster::new(Mood::Healthy)))
    }
}

fn pipeline(name: &str, triggers: Triggers, paths: &[&str]) -> WatchedPipeline {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    WatchedPipeline { name: name.parse().expect("a name"), triggers, paths }
}

#[tokio::test]
async fn the_first_push_to_an_empty_repository_is_seen_like_any_other() {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    // The frame's `main` does this in the real process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let images = Arc::new(
        DockerImages::new("polling.invalid", CredentialSource::None, Mask::default()).expect("Docker"),
    );
    let parts = Parts {
        git: Arc::new(Mirrors::new(home.path().join("repos"))),
        steps: Arc::new(EngineSteps::new(images.clone(), "polling")),
        images,
        artifacts: Arc::new(ArtifactFolder::new(home.path().join("artifacts"))),
        connect: Arc::new(Connected),
        journal: Arc::new(SqliteJournal::open(&journal_path(home.path())).expect("a journal")),
        locks: Arc::new(FileLocks::new(home.path().join("locks"))),
        events: Events::masked(Mask::default()).0,
        mask: Mask::default(),
        changed: Arc::new(tokio::sync::watch::Sender::new(0)),
    };
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
