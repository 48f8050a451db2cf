//! What the agent keeps etcd with, put together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Background, RETRY};
use crate::adapter::authority::{self, Authority};
use crate::adapter::etcd::Gateway;
use crate::adapter::etcd_files::{ClientFiles, RUN, Signer};
use crate::adapter::etcd_keys::EtcdKeys;
use crate::adapter::etcd_machine::{DATA, EtcdOnMachine, UNIT};
use crate::adapter::systemd::Unit;
use crate::driver::agent::Agent;
use crate::driver::etcd::{Etcd, keep_client};
use crate::port::etcd::{EtcdAccess, EtcdError};
use crate::port::host_files::Keys;

/// etcd on a control machine.
pub(super) struct Kept {
    /// Keeps it.
    pub(super) keeper: Arc<Etcd>,
    /// Lets the programs of all machines speak to it.
    pub(super) access: Arc<dyn EtcdAccess>,
    /// What it holds.
    pub(super) keys: Arc<dyn Keys>,
}

/// What keeps etcd on this control machine.
pub(super) async fn keeper(agent: &Agent, authority: &Authority) -> Kept {
    let gateway = loop {
        match gateway(agent, authority) {
            Ok(gateway) => break gateway,
            Err(error) => tracing::warn!(%error, "preparing for etcd"),
        }
        sleep(RETRY).await;
    };
    let (endpoints, told) = watch::channel(Vec::new());
    let gateway = Arc::new(gateway);
    let keys = Arc::new(EtcdKeys::new(Arc::clone(&gateway), told.clone()));
    let machine = EtcdOnMachine {
        run: PathBuf::from(RUN),
        data: PathBuf::from(DATA),
        authority: authority.clone(),
        unit: Arc::new(Unit::new(UNIT)),
        loopback: true,
    };
    let keeper = Etcd {
        me: agent.me.clone(),
        tags: agent.tags.clone(),
        prefix: agent.prefix.clone(),
        engine: agent.engine.clone(),
        groups: agent.groups.clone(),
        parameters: agent.parameters.clone(),
        members: gateway,
        machine: Arc::new(machine),
        endpoints,
        seen_log: std::sync::Mutex::default(),
    };
    let keeper = Arc::new(keeper);
    Kept { keeper, keys, access: Arc::new(Signer { authority: authority.clone(), endpoints: told }) }
}

/// The agent itself calls with a member's certificate, which it keeps to itself.
fn gateway(agent: &Agent, authority: &Authority) -> Result<Gateway, EtcdError> {
    let failed = |error: authority::AuthorityError| EtcdError::Certificate(error.to_string());
    let key = authority::new_key().map_err(failed)?;
    let certificate = authority.sign_etcd_member(agent.me.address, &key).map_err(failed)?;
    Gateway::new(&authority.certificate, &certificate, &key)
}

/// Keeps etcd, where there is any to keep.
pub(super) async fn keep(keeper: Option<&Etcd>) {
    match keeper {
        Some(keeper) => keeper.keep().await,
        None => std::future::pending().await,
    }
}

/// Keeps what this machine's programs find etcd with.
pub(super) fn client(agent: &Agent, access: Arc<dyn EtcdAccess>) -> Background {
    let files = Arc::new(ClientFiles::new(Path::new(RUN)));
    Background::spawn(keep_client(access, agent.me.instance.clone(), files))
}
