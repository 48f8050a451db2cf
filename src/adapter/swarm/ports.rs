//! The published ports of tasks, as the machines that run them report them.
//!
//! A task's own status says them as well, until a change of leader: Docker 20.10 empties the port status of
//! tasks on an overlay network then, for good, while the containers keep their ports. So agents report what
//! their engine says, and it is kept in the labels of their node, where every manager finds it.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::{ContainerSummary, Node, PortSummaryTypeEnum};
use bollard::query_parameters::ListContainersOptions;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

use super::Swarm;
use super::spec::{SERVICE, TASK};
use crate::adapter::container_events::of_containers;
use crate::model::service::{Protocol, PublishedPort, PublishedPorts};
use crate::port::cluster::ClusterError;

/// What the labels of nodes begin with that hold the ports of a task.
const PORTS: &str = "fleetwright-ports.";

/// The ports of a task that its machine reported.
pub fn reported(node: &Node, task: &str) -> Vec<PublishedPort> {
    let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
    let text = labels.and_then(|labels| labels.get(&format!("{PORTS}{task}")));
    text.map(|text| text.split(',').filter_map(read).collect()).unwrap_or_default()
}

/// Writes the ports of a node's tasks into its labels; whether that changed anything.
pub fn write(labels: &mut HashMap<String, String>, ports: &PublishedPorts) -> bool {
    let wanted: HashMap<String, String> = ports
        .iter()
        .map(|(task, ports)| {
            let words: Vec<String> = ports.iter().map(word).collect();
            (format!("{PORTS}{task}"), words.join(","))
        })
        .collect();
    let before = labels.clone();
    labels.retain(|key, _| !key.starts_with(PORTS));
    labels.extend(wanted);
    *labels != before
}

fn word(port: &PublishedPort) -> String {
    format!("{}/{}={}", port.container, port.protocol.word(), port.host)
}

fn read(word: &str) -> Option<PublishedPort> {
    let (inside, host) = word.split_once('=')?;
    let (container, protocol) = inside.split_once('/')?;
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.word() == protocol)?;
    Some(PublishedPort { container: container.parse().ok()?, protocol, host: host.parse().ok()? })
}

/// The ports of this machine's running tasks.
fn of(containers: &[ContainerSummary]) -> PublishedPorts {
    let mut found = PublishedPorts::new();
    for container in containers {
        let Some(task) = container.labels.as_ref().and_then(|labels| labels.get(TASK)) else { continue };
        let ports = container.ports.iter().flatten().filter_map(|port| {
            let protocol = match port.typ {
                Some(PortSummaryTypeEnum::UDP) => Protocol::Udp,
                _ => Protocol::Tcp,
            };
            Some(PublishedPort { container: port.private_port, protocol, host: port.public_port? })
        });
        let mut ports: Vec<PublishedPort> = ports.collect();
        // Once for each family of addresses.
        ports.sort_unstable();
        ports.dedup();
        if !ports.is_empty() {
            found.insert(task.clone(), ports);
        }
    }
    found
}

/// Something that may change the ports of this machine's tasks. It ends when the engine does.
pub fn changes(docker: &Docker) -> BoxStream<'static, ()> {
    of_containers(docker, &["start", "die"], Some(SERVICE)).map(drop).boxed()
}

impl Swarm {
    /// The ports of this machine's running tasks of services of ours.
    ///
    /// # Errors
    /// When the engine can't be asked.
    pub(super) async fn own_ports(&self) -> Result<PublishedPorts, ClusterError> {
        let filters = HashMap::from([("label".to_owned(), vec![SERVICE.to_owned()])]);
        let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
        let listed = self.engine.docker().list_containers(Some(options)).await;
        Ok(of(&listed.map_err(|error| self.engine.error("listing containers", error))?))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ports() -> impl Strategy<Value = PublishedPorts> {
        let protocol = proptest::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
        let port = (1..u16::MAX, protocol, 1..u16::MAX)
            .prop_map(|(container, protocol, host)| PublishedPort { container, protocol, host });
        proptest::collection::btree_map("[a-z0-9]{25}", proptest::collection::vec(port, 1..4), 0..4)
    }

    proptest! {
        #[test]
        fn what_is_reported_is_read_back_and_replaces_what_was_reported_before(before in ports(), now in ports()) {
            let mut labels = HashMap::from([("fleetwright.zone".to_owned(), "a".to_owned())]);
            write(&mut labels, &before);
            write(&mut labels, &now);
            prop_assert!(!write(&mut labels, &now));
            prop_assert_eq!(labels.len(), now.len() + 1);
            let node = Node {
                spec: Some(bollard::models::NodeSpec { labels: Some(labels), ..Default::default() }),
                ..Default::default()
            };
            for (task, ports) in &now {
                prop_assert_eq!(&reported(&node, task), ports);
            }
            for task in before.keys().filter(|task| !now.contains_key(*task)) {
                prop_assert!(reported(&node, task).is_empty());
            }
        }
    }

    #[test]
    fn a_port_is_reported_once_for_both_families_of_addresses() {
        let container: ContainerSummary = serde_json::from_value(serde_json::json!({
            "Labels": { "com.docker.swarm.task.id": "t1" },
            "Ports": [
                { "IP": "0.0.0.0", "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp" },
                { "IP": "::", "PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp" },
                { "PrivatePort": 9000, "Type": "tcp" },
            ],
        }))
        .expect("a container");
        let port = PublishedPort { container: 8080, protocol: Protocol::Tcp, host: 32768 };
        assert_eq!(of(&[container]), PublishedPorts::from([("t1".to_owned(), vec![port])]));
    }
}
