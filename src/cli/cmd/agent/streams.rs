//! The agent's own listener, through which control machines reach the containers of this machine.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum_server::Handle;
use tokio::time::sleep;

use super::{Background, RETRY};
use crate::adapter::cluster_api::{ClusterApi, MachineIdentity};
use crate::adapter::issuer::ControlMachines;
use crate::adapter::permits::Waiting;
use crate::adapter::swarm::Swarm;
use crate::driver::timeline::Events;
use crate::port::streams::AGENT_PORT;
use crate::server::agent_api::{self, AgentApi};
use crate::server::cluster_api::TlsIdentity;

/// Time between two checks whether this machine has another certificate.
const CHECK: Duration = Duration::from_secs(60);

/// Listens with this machine's certificate, until this is dropped.
pub(super) fn listen(
    control: Arc<ClusterApi>,
    swarm: Swarm,
    events: Option<Events>,
    waiting: Waiting,
) -> Background {
    Background::spawn(async move {
        let mut reported = String::new();
        loop {
            match control.machine_identity().await {
                Ok(identity) => {
                    reported.clear();
                    serve(&control, &swarm, events.as_ref(), &waiting, &identity).await;
                }
                Err(error) if error.to_string() == reported => {}
                Err(error) => {
                    reported = error.to_string();
                    tracing::warn!(%error, "getting a certificate to listen with");
                }
            }
            sleep(RETRY).await;
        }
    })
}

/// Listens with `identity` until the machine has another one. Open streams continue.
async fn serve(
    control: &ClusterApi,
    swarm: &Swarm,
    events: Option<&Events>,
    waiting: &Waiting,
    identity: &MachineIdentity,
) {
    let known = match ControlMachines::of(&identity.authority) {
        Ok(known) => known,
        Err(error) => {
            tracing::warn!(%error, "reading the cluster's authority");
            return;
        }
    };
    let api = AgentApi {
        containers: Arc::new(swarm.clone()),
        attended: Arc::new(waiting.clone()),
        control: Arc::new(known),
        events: events.cloned(),
    };
    let tls = TlsIdentity {
        certificate: identity.certificate.clone(),
        key: identity.key.clone(),
        authority: identity.authority.clone(),
    };
    let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, AGENT_PORT));
    tokio::select! {
        served = agent_api::serve(api, address, &tls, Handle::new()) => {
            if let Err(error) = served {
                tracing::warn!(%error, "listening for control machines");
            }
        }
        () = changed(control, identity) => {}
    }
}

async fn changed(control: &ClusterApi, identity: &MachineIdentity) {
    loop {
        sleep(CHECK).await;
        match control.machine_identity().await {
            Ok(now) if now.certificate != identity.certificate => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "asking for this machine's certificate"),
        }
    }
}
