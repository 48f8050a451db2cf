//! Reporting the ports that lead to this machine's containers.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use super::{Agent, RETRY};
use crate::model::service::PublishedPorts;

/// How often they are read, even if the engine reports no change.
const LOOK: Duration = Duration::from_secs(10);
/// After how long the same is reported again: the node may have been registered again.
const AGAIN: Duration = Duration::from_secs(60);

impl Agent {
    /// Reports the ports of this machine's tasks whenever they change.
    pub(super) async fn watch_ports(&self) {
        let mut told: Option<(PublishedPorts, Instant)> = None;
        loop {
            // Subscribed before they are read, so that no change is missed in between.
            let mut changes = self.engine.port_changes();
            loop {
                if !self.report_ports(&mut told).await {
                    sleep(RETRY).await;
                    continue;
                }
                match timeout(LOOK, changes.next()).await {
                    Ok(Some(())) | Err(_) => {}
                    Ok(None) => break,
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Reports the ports unless that is done; whether what is reported is what there is.
    async fn report_ports(&self, told: &mut Option<(PublishedPorts, Instant)>) -> bool {
        // An engine that does not answer keeps what was reported: its tasks may still run.
        let Ok(ports) = self.engine.own_ports().await else { return true };
        if told.as_ref().is_some_and(|(known, at)| *known == ports && at.elapsed() < AGAIN) {
            return true;
        }
        match self.control.ports(&self.me.instance, &ports).await {
            Ok(()) => {
                *told = Some((ports, Instant::now()));
                true
            }
            Err(error) => {
                tracing::debug!(%error, "reporting the ports of this machine's tasks");
                false
            }
        }
    }
}
