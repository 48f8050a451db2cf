//! Another number of instances, on a real swarm: nothing that runs is touched for it.

use std::collections::BTreeSet;

use fleetwright::adapter::swarm::Swarm;
use fleetwright::driver::rollout::Outcome;
use fleetwright::model::desired::HeldState;
use fleetwright::model::name::ServiceName;
use fleetwright::model::service::{Deployment, InstanceState, Scale};
use fleetwright::port::cluster::Cluster;
use fleetwright::port::desired::Holder;

use crate::cluster_contract::{deployment, ended, settle, status};
use crate::support::swarm::Lab;

/// Deploys, waits until all instances are healthy, and gives the revision and the instances.
async fn deployed(swarm: &Swarm, deployment: &Deployment) -> (u64, BTreeSet<String>) {
    let name = &deployment.spec.name;
    let revision = swarm.deploy(deployment).await.expect("deployed");
    assert_eq!(ended(swarm, name, revision).await, Outcome::Running);
    (revision, healthy(swarm, name).await)
}

async fn healthy(swarm: &Swarm, service: &ServiceName) -> BTreeSet<String> {
    let seen = status(swarm, service).await;
    let healthy = seen.instances.into_iter().filter(|one| one.state == InstanceState::Healthy);
    healthy.map(|one| one.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_instances_replaces_none() {
    let (lab, [swarm, _worker]) = Lab::up().await;
    let (first, second) = (lab.push("one", true), lab.push("two", true));
    let settling = tokio::spawn(settle(swarm.clone()));
    let service: ServiceName = "web".parse().expect("a name");
    let of = |digest, replicas| {
        let mut wanted = deployment(&service, &lab.registry(), digest);
        wanted.spec.scale = Scale::Replicas(replicas);
        wanted
    };

    let (revision, two) = deployed(&swarm, &of(&first, 2)).await;
    assert_eq!((revision, two.len()), (1, 2));
    let template = || lab.client(0, "docker service inspect web --format '{{json .Spec.TaskTemplate}}'");
    let before = template();
    let (revision, four) = deployed(&swarm, &of(&first, 4)).await;
    assert_eq!(revision, 1, "it is no revision");
    assert!(four.is_superset(&two) && four.len() == 4, "{two:?} {four:?}");
    assert_eq!(deployed(&swarm, &of(&first, 4)).await, (1, four.clone()), "the same again");
    let (revision, fewer) = deployed(&swarm, &of(&first, 3)).await;
    assert!(revision == 1 && fewer.is_subset(&four), "{four:?} {fewer:?}");

    assert_eq!(template(), before);

    // What is kept outside of the cluster has the number that it would have to come back with.
    let held = swarm.held().await.expect("what is held");
    let HeldState::Settled(kept) = &held[0].state else { panic!("{held:#?}") };
    assert_eq!(kept[0].deployment["spec"]["scale"]["replicas"], 3, "{kept:#?}");

    // A revision that changes nothing about instances is one, and replaces none either.
    let mut watched = of(&first, 3);
    watched.spec.update.parallel = 3;
    assert_eq!(deployed(&swarm, &watched).await, (2, fewer.clone()));

    // Whoever goes back gets what ran before, in today's number.
    let (revision, _) = deployed(&swarm, &of(&second, 3)).await;
    assert_eq!(revision, 3);
    deployed(&swarm, &of(&second, 1)).await;
    let back = swarm.rollback(&service, None).await.expect("a way back");
    assert_eq!((back, ended(&swarm, &service, back).await), (4, Outcome::Running));
    let seen = status(&swarm, &service).await;
    assert_eq!((seen.desired, seen.history[0].digest.as_ref()), (1, Some(&first)), "{seen:#?}");
    settling.abort();
}
