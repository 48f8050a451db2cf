//! What the API of a control machine needs to know who may do what, and to record what was done.

use std::path::Path;
use std::sync::Arc;

use tokio::time::sleep;

use super::{Background, Config, RETRY};
use crate::adapter::audit_log::{ON_MACHINE, SqliteAuditLog};
use crate::adapter::authority;
use crate::adapter::aws::Aws;
use crate::driver::access::Keeper;
use crate::driver::audit::{Auditor, ship};
use crate::model::access::Home;
use crate::model::audit::folder;
use crate::model::name::MachineId;
use crate::port::audit::AuditLog;

/// Who may do what, and the record of it. Kept up to date until this is dropped.
pub(super) struct Rights {
    /// The access policy and the tokens.
    pub(super) access: Arc<Keeper>,
    /// The audit log.
    pub(super) audit: Arc<Auditor>,
    _kept: [Background; 2],
}

impl Rights {
    /// Opens the audit log and begins to read the policy.
    pub(super) async fn open(aws: &Aws, config: &Config, prefix: &str, machine: &MachineId) -> Self {
        let home = home(aws).await;
        let random = Box::new(|| authority::random().map_err(|error| error.to_string()));
        let access = Arc::new(Keeper::new(aws.parameters(), prefix.to_owned(), home, random));
        let log: Arc<dyn AuditLog> = log(machine).await;
        let folder = folder(config.project.as_str(), config.environment.as_str(), config.cluster.as_str());
        let keep = Background::spawn({
            let access = Arc::clone(&access);
            async move { access.keep().await }
        });
        let copy = Background::spawn(ship(Arc::clone(&log), aws.archive(&config.project), folder));
        Self { access, audit: Arc::new(Auditor::new(log)), _kept: [keep, copy] }
    }
}

/// The account of this machine, which is the cluster's.
async fn home(aws: &Aws) -> Home {
    loop {
        match aws.caller().await.map(|arn| Home::of(&arn).ok_or(arn)) {
            Ok(Ok(home)) => return home,
            Ok(Err(arn)) => tracing::warn!(arn, "this machine's own identity is not understood"),
            Err(error) => tracing::warn!(%error, "asking which account this machine belongs to"),
        }
        sleep(RETRY).await;
    }
}

async fn log(machine: &MachineId) -> Arc<SqliteAuditLog> {
    loop {
        match SqliteAuditLog::open(Path::new(ON_MACHINE), machine) {
            Ok(log) => return Arc::new(log),
            Err(error) => tracing::warn!(%error, "opening the audit log"),
        }
        sleep(RETRY).await;
    }
}
