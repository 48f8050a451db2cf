//! What this machine reports of its tasks: how they fail, and how they end.
//!
//! What no control machine accepts is kept and sent later, with its age. Memory is enough for that: the engine's
//! own events, which reports are made from, are lost with a reboot, too, and an agent that is restarted in the
//! middle of an outage loses only how tasks ended before that. That they ended, and with which status, the
//! managers learn from the engine.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::{Agent, RETRY};
use crate::model::service::Symptoms;
use crate::port::cluster::ClusterError;

/// How many reports wait at most. While control machines don't answer, hardly any task is started.
const MOST: usize = 256;

/// A report that waits.
#[derive(Debug, Clone)]
struct Report {
    number: u64,
    task: String,
    seen: Symptoms,
    at: Instant,
}

/// The reports that wait, oldest first.
#[derive(Debug, Default)]
struct Spool {
    waiting: VecDeque<Report>,
    next: u64,
}

impl Spool {
    /// Keeps a report. If there are too many, the oldest about a task that has not ended is dropped, or else the
    /// oldest.
    fn put(&mut self, task: String, seen: Symptoms, at: Instant) {
        if self.waiting.len() >= MOST {
            let least = self.waiting.iter().position(|report| report.seen.ended.is_none()).unwrap_or(0);
            if let Some(dropped) = self.waiting.remove(least) {
                tracing::warn!(task = dropped.task, "a report on a task is dropped: too many wait");
            }
        }
        self.waiting.push_back(Report { number: self.next, task, seen, at });
        self.next += 1;
    }

    /// Removes a report that was sent or rejected.
    fn done(&mut self, number: u64) {
        self.waiting.retain(|report| report.number != number);
    }
}

/// The spool, and the signal that it has something to send.
#[derive(Default)]
struct Reports {
    spool: Mutex<Spool>,
    more: Notify,
}

impl Reports {
    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, task: String, seen: Symptoms) {
        self.spool().put(task, seen, Instant::now());
        self.more.notify_one();
    }

    /// Sends what waits, in order, for as long as it runs. What was not accepted is sent again after `pause`.
    async fn send(
        &self,
        pause: Duration,
        send: impl AsyncFn(&str, &Symptoms, Duration) -> Result<(), ClusterError>,
    ) {
        loop {
            let first = self.spool().waiting.front().cloned();
            let Some(Report { number, task, seen, at }) = first else {
                self.more.notified().await;
                continue;
            };
            match send(&task, &seen, at.elapsed()).await {
                Ok(()) => self.spool().done(number),
                Err(error @ (ClusterError::Unreachable { .. } | ClusterError::Engine { .. })) => {
                    tracing::warn!(%error, task, "reporting a task; it is reported later");
                    sleep(pause).await;
                }
                // The task is not known any more, or does not belong to this machine.
                Err(error) => {
                    tracing::warn!(%error, task, "reporting a task");
                    self.spool().done(number);
                }
            }
        }
    }
}

impl Agent {
    /// Reports how tasks on this machine fail, for their revision's history.
    pub(super) async fn report(&self) {
        let reports = Reports::default();
        let collecting = async {
            loop {
                let mut failures = self.engine.unhealthy();
                while let Some((task, seen)) = failures.next().await {
                    let exit = seen.ended.as_ref().map(|ended| ended.exit);
                    tracing::info!(task, probe = seen.probe, exit, "a task is unhealthy, or has ended");
                    reports.put(task, seen);
                }
                sleep(RETRY).await;
            }
        };
        tokio::select! {
            () = collecting => {}
            () = reports.send(RETRY, async |task, seen, age| {
                self.control.report_unhealthy(task, seen, age).await
            }) => {}
        }
        pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::service::Ended;

    fn ended(exit: i64) -> Symptoms {
        let ended = Ended { exit, ..Ended::default() };
        Symptoms { probe: None, ended: Some(ended) }
    }

    fn tasks(spool: &Spool) -> Vec<&str> {
        spool.waiting.iter().map(|report| report.task.as_str()).collect()
    }

    #[test]
    fn there_is_room_for_how_tasks_ended() {
        let mut spool = Spool::default();
        let now = Instant::now();
        spool.put("ended".to_owned(), ended(1), now);
        spool.put("unhealthy".to_owned(), Symptoms { probe: Some("500".into()), ended: None }, now);
        for number in 2..MOST {
            spool.put(number.to_string(), ended(1), now);
        }
        spool.put("one more".to_owned(), ended(1), now);
        assert_eq!((spool.waiting.len(), &tasks(&spool)[..2]), (MOST, &["ended", "2"][..]));
        spool.put("another".to_owned(), ended(1), now);
        assert_eq!(tasks(&spool)[..2], ["2", "3"]);
        let number = spool.waiting[0].number;
        spool.done(number);
        assert_eq!(tasks(&spool)[0], "3");
    }

    #[tokio::test]
    async fn what_was_not_accepted_is_sent_later_in_its_order() {
        let reports = Reports::default();
        for task in ["a", "b", "unknown", "c"] {
            reports.put(task.to_owned(), ended(3));
        }
        let (calls, sent) = (Mutex::new(0), Mutex::new(Vec::new()));
        let sending = reports.send(Duration::from_millis(5), async |task, seen, _| {
            assert_eq!(seen.ended.as_ref().map(|ended| ended.exit), Some(3));
            let call = {
                let mut calls = calls.lock().expect("a lock");
                *calls += 1;
                *calls
            };
            match (task, call) {
                (_, 1) => Err(ClusterError::Unreachable { endpoint: "all".into(), reason: "down".into() }),
                ("b", 3) => Err(ClusterError::Engine { doing: "asking".into(), reason: "no leader".into() }),
                ("unknown", _) => Err(ClusterError::NotFound { what: "task", name: task.to_owned() }),
                _ => {
                    sent.lock().expect("a lock").push(task.to_owned());
                    Ok(())
                }
            }
        });
        let _ = tokio::time::timeout(Duration::from_millis(500), sending).await;
        assert_eq!(*sent.lock().expect("a lock"), ["a", "b", "c"]);
        assert!(reports.spool().waiting.is_empty());
    }
}
