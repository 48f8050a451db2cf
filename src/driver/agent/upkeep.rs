//! What keeps the rendezvous true: each control machine for itself, and the leader for the cluster.

use tokio::time::{Instant, sleep};

use super::{Agent, AgentError, RETRY};
use crate::driver::rendezvous::Which;
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::member::Membership as State;
use crate::model::name::SwarmId;
use crate::model::secret::Secret;
use crate::plan::agent as plan;
use crate::plan::agent::claim::is_listed;
use crate::port::cluster_wire::Endpoint;
use crate::port::parameters::Protection;

/// How long the engine of a manager that was demoted may take to delete what it kept.
const DEMOTED: std::time::Duration = std::time::Duration::from_secs(20);

impl Agent {
    /// Records this control machine for others to find, and that it holds state of its swarm.
    pub(super) async fn write_down(&self, own: Option<&SwarmId>) -> Result<(), AgentError> {
        let rendezvous = self.rendezvous();
        let holders = rendezvous.holders().await?;
        let recorded = |cluster: &SwarmId| {
            holders.iter().any(|one| one.machine == self.me.instance && one.cluster.as_ref() == Some(cluster))
        };
        if own.is_some_and(|own| !recorded(own)) {
            rendezvous.hold(&self.me.instance, own).await?;
        }
        let text = serde_json::to_string(&Endpoint::new(self.me.address)).unwrap_or_default();
        let name = self.name(&format!("control/{}", self.me.instance));
        let present = self.parameters.get(&name).await?;
        if present.is_none_or(|present| *present.expose() != text) {
            self.parameters.put(&name, &Secret::new(text), Protection::Plain).await?;
        }
        Ok(())
    }

    /// What the agent of the leading manager keeps true of the rendezvous.
    pub(super) async fn upkeep(&self, groups: &[Group]) -> Result<(), AgentError> {
        let Some(own) = self.engine.report().await?.cluster else { return Ok(()) };
        let rendezvous = self.rendezvous();
        let log = rendezvous.log(Which::Swarm).await?;
        let Some(published) = log.published().filter(|published| *published.cluster == own) else {
            return Ok(());
        };
        // A token that another swarm left there, or that was changed, would let nobody in.
        let tokens = self.engine.join_tokens().await?;
        rendezvous.set_token("worker", &tokens.worker).await?;
        rendezvous.set_token("manager", &tokens.manager).await?;
        // A list without this machine is not the whole list.
        if is_listed(groups, &self.me.instance) {
            for holder in rendezvous.holders().await? {
                if !is_listed(groups, &holder.machine) {
                    rendezvous.withdraw(&holder.machine, &holder.key).await?;
                }
            }
        }
        if !rendezvous.is_restored(published.generation).await? {
            let done = match &self.restore {
                Some(restore) => restore.restore().await?,
                None => true,
            };
            if done {
                rendezvous.mark_restored(published.generation, published.cluster).await?;
                tracing::info!(generation = published.generation, "the cluster has its deployments");
            }
        }
        Ok(())
    }

    /// Leaves the swarm at the end of this machine's life, unless it still holds a manager's state: then
    /// the others remove its node when its instance is gone.
    pub(super) async fn leave_swarm(&self) {
        let start = Instant::now();
        loop {
            let state = self.engine.state().await;
            let stored = self.host.stored().await.ok();
            match state {
                Ok(state) if plan::may_leave(&state, stored.as_ref()) => break,
                Ok(State::In { manager: false, .. }) if start.elapsed() < DEMOTED => {}
                state => {
                    tracing::info!(?state, ?stored, "this machine does not leave its swarm");
                    return;
                }
            }
            sleep(RETRY).await;
        }
        if let Err(error) = self.engine.leave(false).await {
            tracing::warn!(%error, "leaving the cluster");
            return;
        }
        if self.me.role == Role::Control
            && let Err(error) = self.withdraw_all().await
        {
            tracing::warn!(%error, "removing this machine from the rendezvous");
        }
    }

    async fn withdraw_all(&self) -> Result<(), AgentError> {
        let rendezvous = self.rendezvous();
        for holder in rendezvous.holders().await? {
            if holder.machine == self.me.instance {
                rendezvous.withdraw(&holder.machine, &holder.key).await?;
            }
        }
        Ok(())
    }
}
