//! Another number of instances, on a real swarm: nothing that runs is touched for it.

use std::collections::{BTreeMap, BTreeSet};

use fleetwright::adapter::swarm::Swarm;
use fleetwright::driver::rollout::{Outcome, follow_number};
use fleetwright::model::container::{ContainerSettings, LogLimits, Tmpfs, Ulimit};
use fleetwright::model::desired::HeldState;
use fleetwright::model::name::ServiceName;
use fleetwright::model::service::{Deployment, InstanceState, Scale, ScaleTo};
use fleetwright::port::cluster::{Cluster, ClusterError};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_set_by_hand_stays() {
    let (lab, [swarm, _worker]) = Lab::up().await;
    let (first, second) = (lab.push("one", true), lab.push("two", true));
    let settling = tokio::spawn(settle(swarm.clone()));
    let service: ServiceName = "web".parse().expect("a name");
    let of = |digest, replicas| {
        let mut wanted = deployment(&service, &lab.registry(), digest);
        wanted.spec.scale = Scale::Replicas(replicas);
        wanted.spec.container = ContainerSettings {
            hostname: Some("shop".to_owned()),
            labels: BTreeMap::from([("team".to_owned(), "shop".to_owned())]),
            cap_drop: vec!["ALL".to_owned()],
            read_only: true,
            tmpfs: BTreeMap::from([("/scratch".to_owned(), Tmpfs { size_bytes: Some(1 << 20), mode: None })]),
            ulimits: BTreeMap::from([("nofile".to_owned(), Ulimit { soft: 512, hard: 512 })]),
            logging: Some(LogLimits { max_size_bytes: 1 << 20, max_files: 2 }),
            max_per_machine: Some(3),
            ..ContainerSettings::default()
        };
        wanted
    };
    let (_, two) = deployed(&swarm, &of(&first, 2)).await;

    // What the file says of containers, as the engine has it.
    let container = "docker inspect $(docker ps -q --filter label=fleetwright.service=web | head -1)";
    let seen: serde_json::Value = serde_json::from_str(&lab.client(0, container)).expect("JSON");
    let (config, host) = (&seen[0]["Config"], &seen[0]["HostConfig"]);
    assert_eq!((&config["Hostname"], &config["Labels"]["team"]), (&"shop".into(), &"shop".into()));
    assert_eq!(host["CapDrop"], serde_json::json!(["ALL"]), "{host:#}");
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Ulimits"][0]["Soft"], 512, "{host:#}");
    assert_eq!(host["LogConfig"]["Config"]["max-file"], "2", "{host:#}");
    assert!(seen[0]["Mounts"].to_string().contains("/scratch"), "{:#}", seen[0]["Mounts"]);

    // A number that was set by hand outlives deployments and rollbacks, and yields to the file's.
    let scaled = async |to| {
        swarm.scale(&service, to).await.expect("scaled");
        assert_eq!(follow_number(&swarm, &service).await.expect("followed"), Outcome::Running);
        (healthy(&swarm, &service).await, status(&swarm, &service).await)
    };
    let (three, seen) = scaled(ScaleTo::Replicas(3)).await;
    assert!(three.is_superset(&two) && three.len() == 3, "{two:?} {three:?}");
    assert_eq!((seen.scaled_from, seen.history.len()), (Some(2), 1), "{seen:#?}");
    assert_eq!(deployed(&swarm, &of(&first, 2)).await, (1, three.clone()), "the same file");
    let (revision, other) = deployed(&swarm, &of(&second, 2)).await;
    assert!(revision == 2 && other.len() == 3 && other.is_disjoint(&three), "{other:?}");
    let now = swarm.deployed(&service, None).await.expect("what runs");
    assert_eq!((now.deployment.spec.scale, now.live), (Scale::Replicas(2), Scale::Replicas(3)));

    // Stopped, it stays so, and comes back with what it had.
    let (none, seen) = scaled(ScaleTo::Stop).await;
    assert!(none.is_empty() && seen.stopped && seen.desired == 0, "{seen:#?}");
    assert_eq!(swarm.deploy(&of(&first, 2)).await.expect("deployed"), 3);
    assert!(status(&swarm, &service).await.stopped);
    let (again, seen) = scaled(ScaleTo::Start).await;
    assert_eq!((again.len(), seen.stopped, seen.scaled_from), (3, false, Some(2)), "{seen:#?}");
    assert_eq!(ended(&swarm, &service, 3).await, Outcome::Running);
    let (_, four) = deployed(&swarm, &of(&first, 4)).await;
    let seen = status(&swarm, &service).await;
    assert!(four.is_superset(&again) && seen.scaled_from.is_none(), "{seen:#?}");

    // A restart replaces all of them by the same; going back names a revision.
    let mut restarted = of(&first, 4);
    restarted.restarted = Some(chrono::Utc::now());
    let (revision, new) = deployed(&swarm, &restarted).await;
    assert!(revision == 4 && new.len() == 4 && new.is_disjoint(&four), "{new:?}");
    let back = swarm.rollback(&service, Some(2)).await.expect("a way back");
    assert_eq!((back, ended(&swarm, &service, back).await), (5, Outcome::Running));
    let seen = status(&swarm, &service).await;
    assert_eq!((seen.desired, seen.history[0].digest.as_ref()), (4, Some(&second)), "{seen:#?}");
    let missing = swarm.rollback(&service, Some(9)).await.expect_err("there is none");
    assert!(matches!(missing, ClusterError::NotFound { what: "revision", .. }), "{missing}");

    // One on every machine is stopped by having no machine.
    let everywhere: ServiceName = "everywhere".parse().expect("a name");
    let mut wanted = deployment(&everywhere, &lab.registry(), &first);
    wanted.spec.scale = Scale::EveryMachine;
    assert_eq!(deployed(&swarm, &wanted).await.1.len(), 2);
    for (to, number) in [(ScaleTo::Stop, 0), (ScaleTo::Start, 2)] {
        swarm.scale(&everywhere, to).await.expect("scaled");
        assert_eq!(follow_number(&swarm, &everywhere).await.expect("followed"), Outcome::Running);
        assert_eq!(healthy(&swarm, &everywhere).await.len(), number, "{to:?}");
    }
    settling.abort();
}
