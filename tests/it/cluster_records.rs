//! What a cluster keeps, of real swarms: records of other versions, what is restored elsewhere,
//! and a majority that is lost for good.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetwright::adapter::raft_log::LogFiles;
use fleetwright::adapter::swarm::Swarm;
use fleetwright::driver::cluster::Own;
use fleetwright::driver::rollout::{Outcome, follow};
use fleetwright::model::cluster::{Answer, Asked, EngineState};
use fleetwright::model::desired::{Held, HeldState};
use fleetwright::model::name::ServiceName;
use fleetwright::model::service::RevisionState;
use fleetwright::plan::cluster as plan;
use fleetwright::plan::desired;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::desired::Holder;
use fleetwright::port::membership::Membership;
use fleetwright::port::recovery::{ControlMachine, Generations};

use crate::cluster_contract::deployment;
use crate::support::swarm::Lab;

const LIMIT: Duration = Duration::from_secs(120);

/// What is published, without a parameter store.
#[derive(Default)]
pub struct Published(Mutex<u64>);

#[async_trait]
impl Generations for Published {
    async fn current(&self) -> Result<Option<(u64, bool)>, ClusterError> {
        Ok(Some((*self.0.lock().expect("a lock"), true)))
    }

    async fn begin_another(&self) -> Result<(), ClusterError> {
        *self.0.lock().expect("a lock") += 1;
        Ok(())
    }
}

/// A machine of the lab, as its agent serves it.
fn own(lab: &Lab, swarm: &Swarm, number: usize, published: &Arc<Published>) -> Own {
    Own {
        machine: format!("i-{number}").parse().expect("an id"),
        address: lab.address(number),
        engine: Arc::new(swarm.clone()),
        logs: Arc::new(LogFiles { engine: lab.log(number), etcd: "/nowhere".into() }),
        generations: published.clone(),
        etcd: None,
        desired: None,
        desired_jobs: None,
        jobs: Arc::new(tokio::sync::Mutex::new(Arc::new(swarm.clone()))),
    }
}

async fn ask(machines: &[(usize, Own)]) -> Vec<Asked> {
    let mut asked = Vec::new();
    for (number, own) in machines {
        let answer = Answer::View(Box::new(own.view().await));
        asked.push(Asked { machine: format!("i-{number}"), answer });
    }
    asked
}

async fn rolled_out(swarm: &Swarm, service: &ServiceName, revision: u64) {
    let outcome = tokio::time::timeout(LIMIT, follow(swarm, service, revision, &|_| {})).await;
    assert_eq!(outcome.expect("in time").expect("followed"), Outcome::Running);
}

async fn held(swarm: &Swarm, service: &str) -> Option<Held> {
    swarm.held().await.expect("it is read").into_iter().find(|one| one.service.as_str() == service)
}

/// Everything about records, on one manager, and what another swarm restores of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_versions_block_nothing_and_services_are_restored_elsewhere() {
    let (lab, engines) = Lab::apart(2).await;
    let pool = fleetwright::model::address::AddressPool::default();
    engines[0].init(lab.address(0), &pool).await.expect("a swarm");
    register(&engines[0], "i-0").await;
    let swarm = &engines[0];
    let (first, second) = (lab.push("one", true), lab.push("two", true));
    let name = |text: &str| -> ServiceName { text.parse().expect("a name") };
    let (web, shop) = (name("web"), name("shop"));
    let deploy = async |service: &ServiceName, digest| {
        let revision = swarm.deploy(&deployment(service, &lab.registry(), digest)).await.expect("deployed");
        rolled_out(swarm, service, revision).await;
        revision
    };
    assert_eq!(deploy(&web, &first).await, 1);
    swarm.settle().await.expect("settled");

    // A control machine of a later version recorded revision 2, with a field that is not known here.
    let data = "docker config inspect fleetwright.web.1 -f '{{json .Spec.Data}}' | tr -d '\"' | base64 -d \
                | sed 's/\"image\":/\"secrets\":[\"password\"],\"image\":/'";
    let labels = "-l fleetwright.service=web -l fleetwright.revision=2 -l fleetwright.ran=yes -l fleetwright.later=kept";
    lab.client(0, &format!("{data} | docker config create {labels} fleetwright.web.2 -"));
    lab.client(0, "echo nonsense | docker config create -l fleetwright.service=web -l fleetwright.revision=3 fleetwright.web.3 -");
    let before = lab.client(0, "docker config inspect fleetwright.web.2 -f '{{json .Spec.Data}}'");
    assert_eq!(deploy(&shop, &first).await, 1, "another service is not blocked");
    assert_eq!(deploy(&web, &second).await, 4, "nor is this one, and no number is used twice");
    swarm.settle().await.expect("what can't be read keeps nobody from settling");
    let after =
        lab.client(0, "docker config inspect fleetwright.web.2 -f '{{json .Spec.Data}} {{.Spec.Labels}}'");
    assert!(after.starts_with(before.trim()), "{after} and not {before}");
    assert!(
        after.contains("fleetwright.outcome:replaced") && after.contains("fleetwright.later:kept"),
        "{after}"
    );
    let snapshot = swarm.snapshot().await.expect("a snapshot");
    let shown = &snapshot.services.iter().find(|one| one.name == web).expect("web").history;
    let numbers: Vec<u64> = shown.iter().map(|one| one.number).collect();
    assert_eq!(numbers, [4, 3, 2, 1], "all of them are shown");
    assert_eq!(shown[2].state, RevisionState::Replaced);
    let refused = swarm.rollback(&web, None).await.expect_err("a field would be dropped").to_string();
    assert!(refused.contains("secrets") && refused.contains("revision 2"), "{refused}");

    // A removal has a number, and what comes after it a higher one.
    swarm.remove(&shop).await.expect("removed");
    assert_eq!(held(swarm, "shop").await.map(|one| (one.number, one.state)), Some((2, HeldState::Removed)));
    assert!(matches!(swarm.remove(&shop).await, Err(ClusterError::NotFound { .. })));

    // Another swarm gets all of it.
    let kept = swarm.held().await.expect("it is read");
    let documents = desired::keep(1, &kept, &std::collections::BTreeMap::new()).writes;
    assert_eq!(documents.len(), 2);
    let other = &engines[1];
    other.init(lab.address(1), &pool).await.expect("a swarm");
    register(other, "i-1").await;
    for _ in 0..2 {
        for write in &documents {
            other.restore(&write.document).await.expect("restored, and again without effect");
        }
    }
    rolled_out(other, &web, 4).await;
    let snapshot = other.snapshot().await.expect("a snapshot");
    let restored = &snapshot.services.iter().find(|one| one.name == web).expect("web").history;
    assert_eq!(restored.iter().map(|one| one.number).collect::<Vec<_>>(), [4, 2, 1], "what is JSON is kept");
    assert_eq!((restored[0].digest.as_ref(), restored[0].state), (Some(&second), RevisionState::Running));
    assert_eq!(restored[0].since, shown[0].since);
    assert_eq!(held(other, "shop").await.map(|one| one.state), Some(HeldState::Removed));
    let again = other.deploy(&deployment(&shop, &lab.registry(), &first)).await.expect("deployed");
    assert_eq!(again, 3, "the numbers go on");
    rolled_out(other, &shop, again).await;
}

async fn register(swarm: &Swarm, instance: &str) {
    let node = swarm.nodes().await.expect("nodes").remove(0);
    let labels = [("instance", instance), ("role", "control"), ("group", "test")];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    swarm.register(&node.id, &labels).await.expect("registered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_goes_on_alone_when_the_others_are_lost() {
    let (lab, engines) = Lab::managers(3).await;
    let digest = lab.push("one", true);
    let web: ServiceName = "web".parse().expect("a name");
    let revision = engines[0].deploy(&deployment(&web, &lab.registry(), &digest)).await.expect("deployed");
    rolled_out(&engines[0], &web, revision).await;
    let published = Arc::new(Published(Mutex::new(1)));
    let all: Vec<(usize, Own)> = engines
        .iter()
        .enumerate()
        .map(|(number, one)| (number, own(&lab, one, number, &published)))
        .collect();
    let asked = ask(&all).await;
    assert_eq!(plan::health(&asked), plan::Health::Whole, "{asked:?}");
    assert!(matches!(plan::recover(&asked), Err(plan::Refusal::Majority(_))));
    let ends: Vec<_> = asked.iter().filter_map(|one| one.view()?.log).collect();
    assert_eq!(ends.len(), 3, "every log is read");
    let refused = all[1].1.recover(ends[1]).await.expect_err("there is a majority");
    assert!(matches!(refused, ClusterError::Refused { .. }), "{refused}");

    let containers = lab.containers(2);
    lab.destroy(0);
    lab.destroy(1);
    let survivors = &all[2..];
    let limit = Instant::now() + LIMIT;
    let recovery = loop {
        let asked = ask(survivors).await;
        match plan::recover(&asked) {
            Ok(recovery) => break recovery,
            Err(refusal) => assert!(Instant::now() < limit, "{refusal:?}: {asked:?}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert_eq!(recovery.machine.as_str(), "i-2");
    let mut too_new = recovery.log;
    too_new.index += 1;
    let refused = survivors[0].1.recover(too_new).await.expect_err("its log is older than that");
    assert!(refused.to_string().contains("log"), "{refused}");

    let begun = Instant::now();
    survivors[0].1.recover(recovery.log).await.expect("it goes on");
    println!("alone after {:.1} s", begun.elapsed().as_secs_f64());
    survivors[0].1.recover(recovery.log).await.expect("once more, after a lost answer");
    let view = survivors[0].1.view().await;
    assert_eq!((view.engine, view.managers.len(), view.leads()), (EngineState::Manager, 1, true), "{view:?}");
    assert!(view.generation > 1, "what it writes replaces what was there");
    let snapshot = engines[2].snapshot().await.expect("a snapshot");
    let history = &snapshot.services[0].history;
    assert_eq!((history[0].number, history[0].digest.as_ref()), (1, Some(&digest)));
    let still = lab.containers(2);
    assert!(containers.split_whitespace().all(|id| still.contains(id)), "{containers} and now {still}");
    let second = lab.push("two", true);
    let revision =
        engines[2].deploy(&deployment(&web, &lab.registry(), &second)).await.expect("it can be changed");
    rolled_out(&engines[2], &web, revision).await;
}
