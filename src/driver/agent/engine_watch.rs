//! Reporting at once that the engine of this machine has stopped.
//!
//! The managers miss a machine after three signs of life, which takes 9 s. Until then they give its
//! addresses out, and whoever asks there gets no answer.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Agent, RETRY};
use crate::port::engine_host::EngineUnit;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// After how long the engine's unit is asked why it does not answer: it may only be busy.
const PROMPT: Duration = Duration::from_secs(1);
/// How long a machine that shuts down tries to report it.
const FAREWELL: Duration = Duration::from_secs(2);

impl Agent {
    /// Reports to the control machines when the engine stops and when it is back.
    pub(super) async fn watch_engine(&self) {
        let mut told = false;
        loop {
            sleep(LOOK).await;
            let gone = self.engine_is_gone().await;
            if gone == told {
                continue;
            }
            match self.control.engine_gone(&self.me.instance, gone).await {
                Ok(()) => {
                    tracing::info!(gone, "reported the engine");
                    told = gone;
                }
                Err(error) => {
                    tracing::debug!(%error, gone, "reporting the engine");
                    sleep(RETRY).await;
                }
            }
        }
    }

    async fn engine_is_gone(&self) -> bool {
        if timeout(PROMPT, self.engine.answers()).await == Ok(true) {
            return false;
        }
        // Where the init does not say, the managers' own judgement has to do.
        !matches!(self.host.unit().await, Ok(EngineUnit::Running) | Err(_))
    }

    /// Reports that the engine is about to stop if this machine shuts down: systemd ends the agent
    /// before the engine. An agent that is only restarted reports nothing.
    pub async fn farewell(&self) {
        match self.host.is_shutting_down().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, "asking whether this machine shuts down");
                return;
            }
        }
        match timeout(FAREWELL, self.control.engine_gone(&self.me.instance, true)).await {
            Ok(Ok(())) => tracing::info!("reported that this machine shuts down"),
            Ok(Err(error)) => tracing::warn!(%error, "reporting that this machine shuts down"),
            Err(_) => tracing::warn!("this machine shuts down and could not report it in time"),
        }
    }
}
