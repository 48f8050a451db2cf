//! Lines of several sources, in the order of time.
//!
//! What was written before the question is merged exactly: each source gives it in its order. Lines
//! that come later are held for a moment, since those of another source may be older.

use std::collections::{BTreeMap, VecDeque};
use std::task::Poll;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, StreamExt};
use tokio::time::{Instant, sleep_until};

use crate::model::logs::{LogEntry, LogItem};
use crate::port::cluster::ClusterError;
use crate::port::streams::LogItems;

/// How long a new line waits for older ones of other sources.
const HOLD: Duration = Duration::from_millis(300);

/// Merges sources. `more` brings further ones while lines are followed; all that they give is new.
pub fn merged(sources: Vec<LogItems>, more: Option<BoxStream<'static, LogItems>>) -> LogItems {
    let sources = sources.into_iter().map(|items| Source { items, head: None, state: State::Past }).collect();
    let merge =
        Merge { sources, more, held: BTreeMap::new(), count: 0, out: VecDeque::new(), reported: false };
    stream::unfold(merge, |mut merge| async move { merge.next().await.map(|item| (item, merge)) }).boxed()
}

/// Of the past the newest `count` lines of each instance, in the order of time; all that is new.
///
/// An instance may have had several containers, also on several machines.
pub fn last_of_each(items: LogItems, count: u32) -> LogItems {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    stream::once(async move {
        // It may have ended before what comes after the past is read.
        let mut items = items.fuse();
        let mut last: BTreeMap<String, VecDeque<LogEntry>> = BTreeMap::new();
        let mut others = Vec::new();
        while let Some(item) = items.next().await {
            match item {
                Ok(LogItem::Entry(entry)) => {
                    let of_instance = last.entry(entry.instance.clone()).or_default();
                    of_instance.push_back(entry);
                    if of_instance.len() > count {
                        of_instance.pop_front();
                    }
                }
                Ok(LogItem::Live) => {
                    others.push(Ok(LogItem::Live));
                    break;
                }
                other => others.insert(0, other),
            }
        }
        let mut past: Vec<LogEntry> = last.into_values().flatten().collect();
        past.sort_by_key(|entry| entry.at);
        let begun = others.iter().position(|item| matches!(item, Ok(LogItem::Live)));
        let live = others.split_off(begun.unwrap_or(others.len()));
        let past = past.into_iter().map(|entry| Ok(LogItem::Entry(entry)));
        stream::iter(others.into_iter().chain(past).chain(live)).chain(items)
    })
    .flatten()
    .boxed()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Past,
    Live,
    Ended,
}

struct Source {
    items: LogItems,
    /// Its next line of the past.
    head: Option<LogEntry>,
    state: State,
}

impl Source {
    /// Reads until the next line of the past, or its end. Gives what else came.
    async fn fill(&mut self) -> Vec<Result<LogItem, ClusterError>> {
        let mut others = Vec::new();
        loop {
            match self.items.next().await {
                Some(Ok(LogItem::Entry(entry))) => self.head = Some(entry),
                Some(Ok(LogItem::Live)) => self.state = State::Live,
                Some(Ok(missing @ LogItem::Missing { .. })) => {
                    others.push(Ok(missing));
                    continue;
                }
                Some(Err(error)) => {
                    others.push(Err(error));
                    self.state = State::Ended;
                }
                None => self.state = State::Ended,
            }
            return others;
        }
    }
}

struct Merge {
    sources: Vec<Source>,
    more: Option<BoxStream<'static, LogItems>>,
    /// New lines by their time and a number, and until when each is held.
    held: BTreeMap<(DateTime<Utc>, u64), (Instant, LogEntry)>,
    count: u64,
    out: VecDeque<Result<LogItem, ClusterError>>,
    /// Whether the end of the past was reported.
    reported: bool,
}

impl Merge {
    async fn next(&mut self) -> Option<Result<LogItem, ClusterError>> {
        loop {
            if let Some(item) = self.out.pop_front() {
                return Some(item);
            }
            if self.sources.iter().any(|source| source.state == State::Past) {
                self.past().await;
            } else if !self.reported {
                self.reported = true;
                if self.more.is_some() || self.sources.iter().any(|source| source.state == State::Live) {
                    return Some(Ok(LogItem::Live));
                }
            } else if !self.live().await {
                return None;
            }
        }
    }

    /// Takes the oldest line of the past, if every source has given its next one.
    async fn past(&mut self) {
        let waiting = self.sources.iter_mut().filter(|one| one.state == State::Past && one.head.is_none());
        let others = join_all(waiting.map(Source::fill)).await;
        self.out.extend(others.into_iter().flatten());
        let oldest = self.sources.iter_mut().filter(|source| source.head.is_some());
        let oldest = oldest.min_by_key(|source| source.head.as_ref().map(|entry| entry.at));
        if let Some(entry) = oldest.and_then(|source| source.head.take()) {
            self.out.push_back(Ok(LogItem::Entry(entry)));
        }
    }

    /// Takes what is new; `false` at the end.
    async fn live(&mut self) -> bool {
        let due = self.held.values().map(|(until, _)| *until).min();
        if due.is_none() && self.more.is_none() && self.sources.iter().all(|one| one.state == State::Ended) {
            return false;
        }
        let release = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let (sources, more) = (&mut self.sources, &mut self.more);
        let arrival = std::future::poll_fn(|context| {
            let mut ended = false;
            if let Some(others) = more {
                match others.poll_next_unpin(context) {
                    Poll::Ready(Some(items)) => {
                        sources.push(Source { items, head: None, state: State::Live });
                    }
                    Poll::Ready(None) => {
                        *more = None;
                        ended = true;
                    }
                    Poll::Pending => {}
                }
            }
            for source in sources.iter_mut().filter(|source| source.state == State::Live) {
                match source.items.poll_next_unpin(context) {
                    Poll::Ready(Some(item)) => return Poll::Ready(Some(item)),
                    Poll::Ready(None) => {
                        source.state = State::Ended;
                        ended = true;
                    }
                    Poll::Pending => {}
                }
            }
            if ended { Poll::Ready(None) } else { Poll::Pending }
        });
        tokio::select! {
            arrived = arrival.fuse() => match arrived {
                Some(Ok(LogItem::Entry(entry))) => {
                    self.count += 1;
                    self.held.insert((entry.at, self.count), (Instant::now() + HOLD, entry));
                }
                Some(Ok(LogItem::Live)) | None => {}
                Some(other) => self.out.push_back(other),
            },
            () = release => {
                // The oldest ones first, up to the one whose time has come.
                while let Some((_, (until, entry))) = self.held.pop_first() {
                    self.out.push_back(Ok(LogItem::Entry(entry)));
                    if due.is_some_and(|due| until <= due) {
                        break;
                    }
                }
            }
        }
        self.sources.retain(|source| source.state != State::Ended);
        true
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    fn entry(at_ms: i64, text: &str) -> LogItem {
        LogItem::Entry(LogEntry {
            at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds(at_ms),
            instance: "web@1".to_owned(),
            machine: "i-1".to_owned(),
            text: text.to_owned(),
        })
    }

    fn source(items: Vec<LogItem>) -> LogItems {
        stream::iter(items.into_iter().map(Ok)).boxed()
    }

    async fn texts(mut items: LogItems) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(item) = items.next().await {
            all.push(match item {
                Ok(LogItem::Entry(entry)) => entry.text,
                Ok(LogItem::Live) => "LIVE".to_owned(),
                Ok(LogItem::Missing { machine, .. }) => format!("no {machine}"),
                Err(error) => error.to_string(),
            });
        }
        all
    }

    #[tokio::test]
    async fn the_past_is_merged_exactly_whoever_is_slow() {
        let slow = stream::iter([entry(2, "b"), entry(5, "e")]).then(|item| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(item)
        });
        let missing = LogItem::Missing { machine: "i-9".to_owned(), reason: "down".to_owned() };
        let sources = vec![
            source(vec![entry(1, "a"), entry(3, "c"), entry(4, "d")]),
            slow.boxed(),
            source(vec![missing]),
        ];
        assert_eq!(texts(merged(sources, None)).await, ["no i-9", "a", "b", "c", "d", "e"]);
        assert_eq!(texts(merged(vec![], None)).await, [""; 0]);
    }

    #[tokio::test]
    async fn the_newest_lines_of_each_instance_are_left() {
        let of = |instance: &str, at_ms: i64| match entry(at_ms, &format!("{instance} {at_ms}")) {
            LogItem::Entry(entry) => LogItem::Entry(LogEntry { instance: instance.to_owned(), ..entry }),
            other => other,
        };
        let missing = LogItem::Missing { machine: "i-9".to_owned(), reason: "down".to_owned() };
        let all = [
            of("web@1", 1),
            of("web@2", 2),
            missing,
            of("web@1", 3),
            of("web@1", 4),
            LogItem::Live,
            of("web@1", 5),
        ];
        let two = texts(last_of_each(source(all.to_vec()), 2)).await;
        assert_eq!(two, ["no i-9", "web@2 2", "web@1 3", "web@1 4", "LIVE", "web@1 5"]);
        let none = texts(last_of_each(source(all[..5].to_vec()), 0)).await;
        assert_eq!(none, ["no i-9"]);
    }

    #[tokio::test]
    async fn new_lines_wait_for_older_ones_of_others() {
        let (one, first) = mpsc::unbounded_channel();
        let (two, second) = mpsc::unbounded_channel();
        let live = |receiver| UnboundedReceiverStream::new(receiver).map(Ok).boxed();
        let more = source(vec![entry(25, "of a new machine")]);
        let more = stream::iter([more]).boxed();
        let reading = tokio::spawn(texts(merged(vec![live(first), live(second)], Some(more))));
        one.send(entry(10, "old")).expect("sent");
        one.send(LogItem::Live).expect("sent");
        two.send(entry(5, "older")).expect("sent");
        two.send(LogItem::Live).expect("sent");
        one.send(entry(30, "new")).expect("sent");
        tokio::time::sleep(HOLD / 4).await;
        two.send(entry(20, "newer, and earlier")).expect("sent");
        drop((one, two));
        assert_eq!(
            reading.await.expect("read"),
            ["older", "old", "LIVE", "newer, and earlier", "of a new machine", "new"]
        );
    }
}
