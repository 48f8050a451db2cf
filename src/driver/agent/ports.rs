//! Reporting the ports that lead to this machine's containers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Agent, RETRY};
use crate::model::service::PublishedPorts;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// After how long the same is reported again: the node may have been registered again.
const AGAIN: Duration = Duration::from_secs(60);

impl Agent {
    /// Reports the ports of this machine's tasks whenever they change.
    pub(super) async fn watch_ports(&self) {
        let mut told: Option<(PublishedPorts, Instant)> = None;
        loop {
            sleep(LOOK).await;
            // An engine that does not answer keeps what was said of it: its tasks may go on.
            let Ok(ports) = self.engine.own_ports().await else { continue };
            if told.as_ref().is_some_and(|(known, at)| *known == ports && at.elapsed() < AGAIN) {
                continue;
            }
            match self.control.ports(&self.me.instance, &ports).await {
                Ok(()) => told = Some((ports, Instant::now())),
                Err(error) => {
                    tracing::debug!(%error, "reporting the ports of this machine's tasks");
                    sleep(RETRY).await;
                }
            }
        }
    }
}
