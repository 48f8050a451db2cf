//! Rollouts that can't succeed, on a real swarm: each ends, says why, and can be mended.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fleetwright::driver::rollout::Outcome;
use fleetwright::model::name::{Digest, ServiceName};
use fleetwright::model::service::{Deployment, RevisionState, Scale, ServiceStatus};
use fleetwright::port::cluster::Cluster;

use crate::cluster_contract::{deployment, ended, report, settle, status};
use crate::support::swarm::Lab;

/// A deployment of one instance.
fn one(service: &ServiceName, registry: &str, digest: &Digest) -> Deployment {
    let mut one = deployment(service, registry, digest);
    one.spec.scale = Scale::Replicas(1);
    one
}

/// The status of a service once it is whole. Where an old instance fails while it is replaced, the engine may start a
/// new one twice, and stop the one that was healthy first.
async fn whole(cluster: &dyn Cluster, service: &ServiceName) -> ServiceStatus {
    let begun = Instant::now();
    loop {
        let seen = status(cluster, service).await;
        if seen.is_whole() {
            return seen;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{seen:#?}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Deploys, waits for the end, and returns why that was no success.
async fn undone(cluster: &dyn Cluster, deployment: &Deployment) -> (String, ServiceStatus) {
    let begun = Instant::now();
    let revision = cluster.deploy(deployment).await.expect("deployed");
    let outcome = ended(cluster, &deployment.spec.name, revision).await;
    println!("{}: {:.1} s", deployment.spec.name, begun.elapsed().as_secs_f64());
    match outcome {
        Outcome::Undone { reason, .. } => (reason, status(cluster, &deployment.spec.name).await),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_cannot_succeed_ends_with_its_cause() {
    let (lab, [swarm, worker]) = Lab::up().await;
    let (works, broken) = (lab.push("one", true), lab.push("three", false));
    let registry = lab.registry();
    let settling = tokio::spawn(settle(swarm.clone()));
    let reporting = [swarm.clone(), worker].map(|machine| tokio::spawn(report(machine, swarm.clone())));
    let name = |text: &str| -> ServiceName { text.parse().expect("a name") };

    // It exits at once, and no health check watches it.
    let service = name("exits");
    let mut exits = one(&service, &registry, &works);
    exits.spec.health = None;
    exits.spec.ports.clear();
    exits.spec.command = ["/bin/busybox", "sh", "-c", "echo no database; exit 3"].map(str::to_owned).to_vec();
    let (reason, seen) = undone(&swarm, &exits).await;
    assert!(reason.contains("exits@1 exited with status 3 (3 times)"), "{reason}");
    let newest = &seen.history[0];
    assert_eq!((newest.number, newest.state), (1, RevisionState::Failed));
    let failed = newest.failed.as_ref().expect("what its machine saw");
    assert_eq!((failed.exit, failed.lines.as_slice()), (3, ["no database".to_owned()].as_slice()));
    assert!(failed.machine.is_some() && !seen.is_whole(), "{seen:#?}");
    assert!(seen.instances.iter().any(|instance| instance.restarts >= 3), "{seen:#?}");
    // A fix is a rollout like any other.
    let fixed = swarm.deploy(&one(&service, &registry, &works)).await.expect("deployed");
    assert_eq!(ended(&swarm, &service, fixed).await, Outcome::Running);
    let seen = whole(&swarm, &service).await;
    assert!(seen.history[0].failed.is_none(), "{seen:#?}");

    // A command that the image does not have.
    let mut missing = one(&name("missing"), &registry, &works);
    missing.spec.command = vec!["/nowhere/server".to_owned()];
    let (reason, _) = undone(&swarm, &missing).await;
    assert!(reason.contains("/nowhere/server"), "{reason}");

    // It runs, and its health check never succeeds.
    let (reason, seen) = undone(&swarm, &one(&name("sick"), &registry, &broken)).await;
    assert!(reason.contains("never became healthy: 404 from /health"), "{reason}");
    let failed = seen.history[0].failed.as_ref().expect("what its machine saw");
    assert_eq!(failed.probe.as_deref(), Some("404 from /health"));

    // There is no machine for it; an update that waits for one is taken back.
    let elsewhere = BTreeMap::from([("disk".to_owned(), "none-has-this".to_owned())]);
    let mut nowhere = one(&name("nowhere"), &registry, &works);
    nowhere.spec.placement = elsewhere.clone();
    nowhere.spec.update.deadline = Some(Duration::from_secs(4));
    let (reason, _) = undone(&swarm, &nowhere).await;
    assert!(reason.starts_with("it was not healthy within 4.0 s: nowhere@1 has no machine"), "{reason}");
    let mut update = one(&service, &registry, &works);
    update.spec.placement = elsewhere;
    update.spec.update.deadline = Some(Duration::from_secs(4));
    let (reason, seen) = undone(&swarm, &update).await;
    assert!(reason.starts_with("it was not healthy within 4.0 s"), "{reason}");
    assert_eq!(seen.history[0].state, RevisionState::RolledBack);
    whole(&swarm, &service).await;

    settling.abort();
    reporting.iter().for_each(tokio::task::JoinHandle::abort);
}
