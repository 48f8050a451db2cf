//! What the programs of any machine of the cluster find etcd with, kept up to date.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::driver::agent::AgentError;
use crate::model::name::MachineId;
use crate::port::cluster::ClusterError;
use crate::port::etcd::{EtcdAccess, EtcdClientFiles};

/// Time between two looks where members are, for this machine's own programs.
const CLIENT: Duration = Duration::from_secs(30);
/// The same after a failure, and in the beginning, when much changes.
const CLIENT_SOON: Duration = Duration::from_secs(5);
/// How long the beginning is.
const BEGINNING: Duration = Duration::from_secs(180);

/// Keeps what this machine's own programs find etcd with, once the cluster has one. The
/// certificate is renewed long before it ends.
pub async fn keep_client(access: Arc<dyn EtcdAccess>, machine: MachineId, files: Arc<dyn EtcdClientFiles>) {
    let (start, mut renew_at) = (Instant::now(), None);
    loop {
        let pause = if start.elapsed() < BEGINNING { CLIENT_SOON } else { CLIENT };
        let pause = match refresh(access.as_ref(), &machine, files.as_ref(), &mut renew_at).await {
            Ok(()) | Err(AgentError::Cluster(ClusterError::NotFound { what: "etcd", .. })) => pause,
            Err(error) => {
                tracing::debug!(%error, "asking for access to etcd");
                CLIENT_SOON
            }
        };
        sleep(pause).await;
    }
}

async fn refresh(
    access: &dyn EtcdAccess,
    machine: &MachineId,
    files: &dyn EtcdClientFiles,
    renew_at: &mut Option<Instant>,
) -> Result<(), AgentError> {
    let client = access.client(machine, &files.public_key()?).await?;
    let due = renew_at.is_none_or(|at| at <= Instant::now());
    if files.install(&client, due)? {
        tracing::info!(endpoints = client.endpoints.join(" "), "access to etcd");
        *renew_at = Some(Instant::now() + Duration::from_secs(client.valid_s / 4));
    }
    Ok(())
}
