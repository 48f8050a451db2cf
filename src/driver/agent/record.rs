//! What the agent of a leading manager changes by itself is in the audit log, too.

use std::collections::BTreeMap;

use chrono::Utc;

use super::{Agent, AgentError};
use crate::model::audit::{Class, Draft, Outcome};
use crate::plan::audit::End;

impl Agent {
    /// Does `work` with a record of it. A record that can't be written keeps nothing from being done.
    pub(super) async fn recorded<T>(
        &self,
        operation: &str,
        target: String,
        work: impl Future<Output = Result<T, AgentError>>,
    ) -> Result<T, AgentError> {
        let Some(audit) = self.audit.get() else { return work.await };
        let draft = Draft {
            at: Utc::now(),
            by: format!("machine/{}", self.me.instance),
            level: None,
            from: None,
            operation: operation.to_owned(),
            target,
            details: BTreeMap::new(),
            class: Class::Machine,
        };
        let id = audit.begin(&draft).inspect_err(|error| tracing::error!(%error, "a change goes unrecorded"));
        let result = work.await;
        if let Ok(id) = id {
            let end = match &result {
                Ok(_) => End { outcome: Outcome::Done, reason: None, details: BTreeMap::new() },
                Err(_) => End {
                    outcome: Outcome::Failed,
                    reason: Some("see the agent's journal".to_owned()),
                    details: BTreeMap::new(),
                },
            };
            if let Err(error) = audit.end(&draft, &id, end, Utc::now()) {
                tracing::error!(%error, "the outcome of a change goes unrecorded");
            }
        }
        result
    }
}
