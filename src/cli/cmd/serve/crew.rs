//! The tasks that work for the server. Those that watch are replaced when the infra repository has changed; those that work
//! on runs are not, since a run that is under way keeps its own instructions.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::setup::Setup;
use crate::cli::pipelines::FromRepository;
use crate::driver::pipeline::request::Offered;
use crate::driver::pipeline::run::{Parts, Wish};
use crate::driver::pipeline::{causes, notices, poll, queue, statuses};
use crate::model::keep::Keep;
use crate::model::name::PipelineName;
use crate::port::journal::JournalError;
use crate::server::hooks::Hooks;

/// The tasks.
pub struct Crew {
    parts: Parts,
    configure: Arc<FromRepository>,
    hooks: Arc<Hooks>,
    offered: watch::Sender<Arc<[Offered]>>,
    keep: watch::Sender<Keep>,
    /// What those that work on runs are to do.
    wish: watch::Sender<Wish>,
    /// What those that watch are to do.
    watching: watch::Sender<Wish>,
    workers: JoinSet<Result<(), JournalError>>,
    reporters: JoinSet<()>,
    known: BTreeSet<PipelineName>,
}

impl Crew {
    /// Nobody works yet.
    pub fn new(parts: Parts, configure: Arc<FromRepository>, hooks: Arc<Hooks>) -> Self {
        Self {
            parts,
            configure,
            hooks,
            offered: watch::Sender::new(Arc::default()),
            keep: watch::Sender::new(Keep::default()),
            wish: watch::Sender::new(Wish::GoOn),
            watching: watch::Sender::new(Wish::GoOn),
            workers: JoinSet::new(),
            reporters: JoinSet::new(),
            known: BTreeSet::new(),
        }
    }

    /// The pipelines that runs can be asked of.
    pub fn offered(&self) -> watch::Receiver<Arc<[Offered]>> {
        self.offered.subscribe()
    }

    /// What is kept.
    pub fn keep(&self) -> watch::Receiver<Keep> {
        self.keep.subscribe()
    }

    /// Works for `setup` from now on, and no longer for the one before.
    pub fn work(&mut self, setup: Setup, keep: Keep) {
        let Setup { watched, caused, offered, hooks, statuses, notices: receivers, pipelines } = setup;
        let before = std::mem::replace(&mut self.watching, watch::Sender::new(Wish::GoOn));
        before.send_replace(Wish::Stop);
        self.keep.send_replace(keep);
        self.offered.send_replace(offered.into());
        self.hooks.replace(hooks);
        for name in pipelines {
            // One that is gone from the repository still finishes what it has begun.
            if self.known.insert(name.clone()) {
                let (parts, configure) = (self.parts.clone(), Arc::clone(&self.configure));
                let wished = self.wish.subscribe();
                self.workers.spawn(async move { queue::work(&parts, &*configure, &name, wished).await });
            }
        }
        for repository in watched {
            let (parts, wished) = (self.parts.clone(), self.watching.subscribe());
            self.workers.spawn(async move { poll::watch(&parts, &repository, wished).await });
        }
        for caused in caused {
            let (parts, wished) = (self.parts.clone(), self.watching.subscribe());
            self.workers.spawn(async move { causes::watch(&parts, &caused, wished).await });
        }
        if let Some(receivers) = receivers {
            let (parts, mut wished) = (self.parts.clone(), self.watching.subscribe());
            self.workers.spawn(async move {
                tokio::select! {
                    result = notices::watch(&parts, &receivers) => result,
                    _ = wished.changed() => Ok(()),
                }
            });
        }
        // What is reported follows from the journal, so nothing is lost between the two.
        self.reporters.abort_all();
        if let Some((targets, forges)) = statuses {
            let parts = self.parts.clone();
            self.reporters.spawn(async move { statuses::watch(&parts, &targets, &forges).await });
        }
    }

    /// Has all of them leave their work where it is.
    pub fn stop(&self) {
        self.wish.send_replace(Wish::Stop);
        self.watching.send_replace(Wish::Stop);
    }

    /// Waits until one of them has ended; `None` when nobody works.
    pub async fn ended(&mut self) -> Option<Result<Result<(), JournalError>, JoinError>> {
        self.workers.join_next().await
    }

    /// Whether nobody works.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }
}
