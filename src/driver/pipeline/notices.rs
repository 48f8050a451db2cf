//! Notifications of runs: what [`crate::plan::pipeline_notices`] says is due is sent, and noted when it has arrived.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::Instant;

use super::run::Parts;
use crate::model::name::PipelineName;
use crate::model::pipeline::Notice;
use crate::plan::pipeline_notices::{Delivered, Place, body, next};
use crate::port::journal::{Cause, JournalError, Which};
use crate::port::notify::SendMessage;
use crate::port::parameters::Parameters;

/// How often the journal is checked for what other processes have written.
const LOOK: Duration = Duration::from_secs(2);
/// How long a message may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long after a failure a receiver is tried again, at first; twice as long after each further one.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest of these pauses.
const PAUSE_MOST: Duration = Duration::from_secs(600);
/// How many of a pipeline's newest runs are read.
const RUNS: u32 = 100;

/// Whom pipelines notify, and what the messages say about where they come from.
pub struct Notices {
    /// The receivers of each pipeline.
    pub pipelines: BTreeMap<PipelineName, Vec<Notice>>,
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// The address of the page, where others can reach it.
    pub server: Option<String>,
    /// Where the receivers' URLs are.
    pub parameters: Arc<dyn Parameters>,
    /// Sends messages.
    pub sender: Arc<dyn SendMessage>,
}

/// Sends notifications for as long as it is polled. One that does not arrive is sent again.
///
/// # Errors
/// When the journal can't be used.
pub async fn watch(parts: &Parts, notices: &Notices) -> Result<(), JournalError> {
    let mut pauses: BTreeMap<(PipelineName, usize), (Instant, Duration)> = BTreeMap::new();
    let mut changed = parts.changed.subscribe();
    loop {
        for (pipeline, receivers) in &notices.pipelines {
            for (index, notice) in receivers.iter().enumerate() {
                let key = (pipeline.clone(), index);
                if pauses.get(&key).is_some_and(|(until, _)| *until > Instant::now()) {
                    continue;
                }
                match once(parts, notices, pipeline, notice).await? {
                    Ok(()) => drop(pauses.remove(&key)),
                    Err(reason) => {
                        let before = pauses.get(&key).map(|(_, pause)| *pause);
                        if before.is_none() {
                            parts.events.note(format!(
                                "the receiver in `{}` is not notified of `{pipeline}`: {reason}; trying again",
                                notice.parameter
                            ));
                        }
                        let pause = before.map_or(PAUSE, |pause| (pause * 2).min(PAUSE_MOST));
                        pauses.insert(key, (Instant::now() + pause, pause));
                    }
                }
            }
        }
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Sends a receiver all that is due; the inner error says why one did not arrive.
async fn once(
    parts: &Parts,
    notices: &Notices,
    pipeline: &PipelineName,
    notice: &Notice,
) -> Result<Result<(), String>, JournalError> {
    let words = format!("notice {}", notice.parameter);
    let cause = Cause { pipeline, words: &words };
    let of = Some(pipeline.clone());
    let which = Which::Fitting { pipeline: of, state: None, commit: None, before: None, limit: RUNS };
    let runs = parts.journal.runs(&which)?;
    let kept = parts.journal.mark(cause)?;
    let Some(mut delivered) = kept.as_deref().and_then(Delivered::read) else {
        parts.journal.start(Utc::now(), cause, kept.as_deref(), &Delivered::begin(&runs).text(), None)?;
        return Ok(Ok(()));
    };
    while let Some((news, then)) = next(notice, &runs, delivered) {
        if let Some(news) = news
            && let Some(run) = runs.iter().find(|run| run.id == news.run)
        {
            let place = Place {
                project: &notices.project,
                environment: &notices.environment,
                server: notices.server.as_deref(),
            };
            let message = parts.mask.mask(&body(notice.form, place, run, &news));
            if let Err(reason) = send(notices, notice, &message).await {
                return Ok(Err(reason));
            }
        }
        parts.journal.start(Utc::now(), cause, Some(&delivered.text()), &then.text(), None)?;
        delivered = then;
    }
    Ok(Ok(()))
}

async fn send(notices: &Notices, notice: &Notice, message: &str) -> Result<(), String> {
    let found = notices.parameters.get(&notice.parameter).await.map_err(|error| error.to_string())?;
    let url = found.ok_or_else(|| "there is no such parameter".to_owned())?;
    notices.sender.send(&url, message, LIMIT).await.map_err(|error| error.to_string())
}
