//! Branches that are watched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::adapter::locks::FileLocks;
use fleetwright::driver::pipeline::poll::{Watched, watch};
use fleetwright::driver::pipeline::run::{Connect, Parts, Wish};
use fleetwright::event::Events;
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

#[tokio::test]
async fn the_first_push_to_an_empty_repository_is_seen_like_any_other() {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    // The frame's `main` does this in the real process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let parts = Parts {
        git: Arc::new(Mirrors::new(home.path().join("repos"))),
        images: Arc::new(
            DockerImages::new("polling.invalid", CredentialSource::None, Mask::default()).expect("Docker"),
        ),
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
        pipelines: vec!["web".parse().expect("a name")],
    };
    let (_go_on, wish) = tokio::sync::watch::channel(Wish::GoOn);
    let mut changed = parts.changed.subscribe();
    let pushed = async {
        // Looks that were spaced as for a repository that is away would be seconds apart by now.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let id = origin.commit("first", &[("file", b"x")]);
        let at = Instant::now();
        loop {
            let runs = parts.journal.runs(&Which::Newest(1)).expect("read");
            if let [run] = &runs[..] {
                assert_eq!(run.commit.as_str(), id);
                return at.elapsed();
            }
            changed.changed().await.expect("it is watched");
        }
    };
    let took = tokio::select! {
        took = pushed => took,
        ended = watch(&parts, &watched, wish) => panic!("it goes on: {ended:?}"),
    };
    assert!(took < Duration::from_secs(2), "{took:?}");
}
