//! Reporting how full this machine is.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Agent;
use crate::model::pressure::Pressure;

/// Time between two times at which the figures are read.
const READ: Duration = Duration::from_secs(10);
/// After how long the same is reported again: the node may have been registered again.
const AGAIN: Duration = Duration::from_secs(600);

impl Agent {
    /// Reports the figures of this machine whenever they have changed enough.
    pub(super) async fn watch_pressure(&self) {
        let mut reported: Option<(Pressure, Instant)> = None;
        loop {
            match self.host.pressure() {
                Ok(now) => {
                    let due = reported.is_none_or(|(known, at)| now.differs(known) || at.elapsed() > AGAIN);
                    if due {
                        match self.control.pressure(&self.me.instance, now).await {
                            Ok(()) => reported = Some((now, Instant::now())),
                            // A control machine of the version before does not know the figures.
                            Err(error) => tracing::debug!(%error, "reporting how full this machine is"),
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "reading how full this machine is"),
            }
            sleep(READ).await;
        }
    }
}
