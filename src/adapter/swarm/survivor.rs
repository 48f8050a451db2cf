//! A manager without the others.

use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{LocalNodeState, Node, NodeSpecRoleEnum, Reachability, SwarmInitRequest, SwarmSpec};
use bollard::query_parameters::{DeleteNodeOptions, ListNodesOptions};
use chrono::{DateTime, Utc};
use tokio::time::{Instant, sleep, timeout};

use super::Swarm;
use super::member::PORT;
use super::observe::{self, INSTANCE};
use crate::model::cluster::{EngineState, Manager};
use crate::port::cluster::ClusterError;
use crate::port::recovery::{EngineView, Survivor};

/// How long the engine may take to answer. Without a majority it takes 20 s to say that there is no leader.
const ANSWER: Duration = Duration::from_secs(4);
/// How long it may take to lead alone.
const LEAD: Duration = Duration::from_secs(60);
/// Time between two looks meanwhile.
const LOOK: Duration = Duration::from_millis(300);

#[async_trait]
impl Survivor for Swarm {
    async fn view(&self) -> EngineView {
        let none = |message: String| EngineView {
            state: EngineState::Broken,
            message: Some(message),
            id: None,
            node: None,
            managers: Vec::new(),
        };
        let info = match timeout(ANSWER, self.engine.docker().info()).await {
            Ok(Ok(info)) => info.swarm.unwrap_or_default(),
            Ok(Err(error)) => return none(self.engine.error("asking the engine", error).to_string()),
            Err(_) => return none(format!("the engine does not answer within {} s", ANSWER.as_secs())),
        };
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut view = EngineView {
            state: EngineState::Out,
            message: text(info.error),
            id: text(info.cluster.and_then(|cluster| cluster.id)),
            node: text(info.node_id),
            managers: Vec::new(),
        };
        view.state = match info.local_node_state {
            Some(LocalNodeState::ACTIVE) if info.control_available == Some(true) => {
                match self.managers().await {
                    Ok(managers) => {
                        view.managers = managers;
                        EngineState::Manager
                    }
                    Err(error) => {
                        view.message.get_or_insert(error);
                        EngineState::Alone
                    }
                }
            }
            Some(LocalNodeState::ACTIVE) => EngineState::Worker,
            Some(LocalNodeState::PENDING) => EngineState::Waiting,
            Some(LocalNodeState::ERROR | LocalNodeState::LOCKED) => EngineState::Broken,
            Some(LocalNodeState::INACTIVE | LocalNodeState::EMPTY) | None => EngineState::Out,
        };
        view
    }

    async fn go_on_alone(&self, address: IpAddr) -> Result<(), ClusterError> {
        let begun = Utc::now();
        let before = Survivor::view(self).await;
        if before.state != EngineState::Manager {
            // An empty specification leaves the cluster's own as it is.
            let request = SwarmInitRequest {
                listen_addr: Some(format!("{address}:{PORT}")),
                advertise_addr: Some(address.to_string()),
                data_path_addr: Some(address.to_string()),
                force_new_cluster: Some(true),
                spec: Some(SwarmSpec::default()),
                ..Default::default()
            };
            match self.engine.docker().init_swarm(request).await {
                Ok(_) => {}
                // A busy engine needs longer than a call may take, and continues: what it reports decides.
                Err(bollard::errors::Error::RequestTimeoutError) => {
                    tracing::warn!("the engine has not yet answered whether it leads");
                }
                Err(error) => return Err(self.engine.error("going on as the only manager", error)),
            }
        }
        let start = Instant::now();
        loop {
            let view = Survivor::view(self).await;
            if view.state == EngineState::Manager && view.managers.iter().any(|one| one.leader) {
                return self.remove_others(view.node.as_deref().unwrap_or_default(), begun).await;
            }
            if start.elapsed() > LEAD {
                return Err(ClusterError::Unreachable {
                    endpoint: "this machine's engine".to_owned(),
                    reason: format!(
                        "it does not lead {} s after it was started alone: {}",
                        LEAD.as_secs(),
                        view.message.unwrap_or_else(|| "it gives no reason".to_owned())
                    ),
                });
            }
            sleep(LOOK).await;
        }
    }
}

impl Swarm {
    /// The managers, if a majority answers.
    async fn managers(&self) -> Result<Vec<Manager>, String> {
        let asked = self.engine.docker().list_nodes(None::<ListNodesOptions>);
        let nodes = match timeout(ANSWER, asked).await {
            Ok(Ok(nodes)) => nodes,
            Ok(Err(error)) => return Err(self.engine.error("asking for the nodes", error).to_string()),
            Err(_) => return Err(format!("the managers have not agreed within {} s", ANSWER.as_secs())),
        };
        Ok(nodes
            .iter()
            .filter_map(|node| {
                let status = node.manager_status.as_ref()?;
                Some(Manager {
                    node: node.id.clone()?,
                    machine: observe::label(node, INSTANCE).and_then(|id| id.parse().ok()),
                    leader: status.leader.unwrap_or(false),
                    reachable: status.reachability == Some(Reachability::REACHABLE),
                })
            })
            .collect())
    }

    /// Removes the managers that were given up. Their agents notice, and join again.
    async fn remove_others(&self, own: &str, begun: DateTime<Utc>) -> Result<(), ClusterError> {
        let nodes = self
            .engine
            .docker()
            .list_nodes(None::<ListNodesOptions>)
            .await
            .map_err(|error| self.engine.error("reading the nodes", error))?;
        for id in
            nodes.iter().filter(|node| is_given_up(node, own, begun)).filter_map(|node| node.id.as_deref())
        {
            let options = Some(DeleteNodeOptions { force: true });
            match self.engine.docker().delete_node(id, options).await {
                Ok(()) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(self.engine.error(format!("removing node {id}"), error)),
            }
        }
        Ok(())
    }
}

/// Whether a node is a manager that the new cluster started without.
///
/// A replacement may join as soon as this machine leads, before the nodes are listed. Such a node
/// is a member of the new cluster, or was created after `begun`; the engine that leads, which is
/// this machine's, stamps that time. The engine refuses to remove a member.
fn is_given_up(node: &Node, own: &str, begun: DateTime<Utc>) -> bool {
    node.spec.as_ref().and_then(|spec| spec.role) == Some(NodeSpecRoleEnum::MANAGER)
        && node.id.as_deref() != Some(own)
        && node.manager_status.is_none()
        && node.created_at.is_some_and(|created| created < begun)
}

#[cfg(test)]
mod tests {
    use bollard::models::{ManagerStatus, NodeSpec};
    use chrono::TimeDelta;

    use super::*;

    fn node(id: &str, role: NodeSpecRoleEnum, created: DateTime<Utc>, status: Option<Reachability>) -> Node {
        Node {
            id: Some(id.to_owned()),
            created_at: Some(created),
            spec: Some(NodeSpec { role: Some(role), ..Default::default() }),
            manager_status: status
                .map(|reachability| ManagerStatus { reachability: Some(reachability), ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn only_managers_that_the_new_cluster_started_without_are_removed() {
        use NodeSpecRoleEnum::{MANAGER, WORKER};
        let begun = DateTime::from_timestamp(1_700_000_000, 0).expect("a moment");
        let (before, since) = (begun - TimeDelta::days(3), begun + TimeDelta::seconds(1));
        let nodes = [
            node("own", MANAGER, before, Some(Reachability::REACHABLE)),
            node("lost", MANAGER, before, None),
            node("lost-too", MANAGER, before, None),
            node("worker", WORKER, before, None),
            node("replacement", MANAGER, since, Some(Reachability::REACHABLE)),
            node("joining", MANAGER, since, None),
            node("member", MANAGER, before, Some(Reachability::UNREACHABLE)),
            Node { created_at: None, ..node("undated", MANAGER, before, None) },
        ];
        let removed: Vec<_> = nodes
            .iter()
            .filter(|node| is_given_up(node, "own", begun))
            .filter_map(|node| node.id.as_deref())
            .collect();
        assert_eq!(removed, ["lost", "lost-too"]);
    }
}
