//! The registry's password changes while services run: they can be moved, and come up
//! elsewhere when their machine is lost. Registry, engines and swarm are real.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetwright::adapter::swarm::{Credentials, RegistryCredentials, Swarm};
use fleetwright::model::name::{Digest, MachineId, ServiceName};
use fleetwright::model::secret::Secret;
use fleetwright::model::service::{Deployment, InstanceState, Scale};
use fleetwright::port::cluster::{Cluster, ClusterError};

use crate::cluster_contract::deployment;
use crate::support::swarm::Lab;

/// How long any one thing may take on two busy cores.
const LIMIT: Duration = Duration::from_secs(120);

/// The password that the parameter store holds at the moment.
#[derive(Clone)]
struct Parameter(Arc<Mutex<String>>);

#[async_trait]
impl Credentials for Parameter {
    async fn of(&self, _registry: &str) -> Result<Option<RegistryCredentials>, ClusterError> {
        let password = self.0.lock().expect("the password").clone();
        Ok(Some(RegistryCredentials {
            username: "puller".to_owned(),
            password: Secret::new(password),
            until: None,
        }))
    }
}

/// Changes the password, at the registry and in the parameter.
fn rotate(lab: &Lab, parameter: &Parameter, password: &str) {
    lab.protect("puller", password);
    password.clone_into(&mut parameter.0.lock().expect("the password"));
}

/// Waits until the only instance of `service` is healthy on `machine`, and gives its id.
async fn healthy_on(swarm: &Swarm, service: &str, machine: &str) -> String {
    let limit = Instant::now() + LIMIT;
    loop {
        let snapshot = swarm.snapshot().await.expect("a snapshot");
        let status = snapshot.services.iter().find(|status| status.name.as_str() == service);
        let there = status.into_iter().flat_map(|status| &status.instances).find(|instance| {
            instance.state == InstanceState::Healthy
                && instance.machine.as_ref().is_some_and(|found| found.as_str() == machine)
        });
        if let Some(instance) = there {
            return instance.id.clone();
        }
        assert!(Instant::now() < limit, "`{service}` is not on {machine}: {status:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn one(service: &str, registry: &str, digest: &Digest) -> Deployment {
    let name: ServiceName = service.parse().expect("a name");
    let mut deployment = deployment(&name, registry, digest);
    deployment.spec.scale = Scale::Replicas(1);
    deployment
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_move_and_come_back_after_the_registrys_password_changed() {
    let (lab, [open, _worker]) = Lab::up().await;
    let (web, late) = (lab.push("one", true), lab.push("two", true));
    let parameter = Parameter(Arc::default());
    rotate(&lab, &parameter, "first");
    let registry = lab.guarded();
    // `another` stands for a machine that leads later and knows nothing of the work of the first. Each
    // refreshes only after it has led for 20 s, which it counts from here.
    let swarm = lab.swarm(0, Arc::new(parameter.clone())).await;
    let another = lab.swarm(0, Arc::new(parameter.clone())).await;
    for leader in [&swarm, &another] {
        assert!(
            !leader.refresh_credentials().await.expect("the engine answers"),
            "it has only begun to lead"
        );
    }
    let (control, worker): (MachineId, MachineId) =
        ("i-control".parse().expect("an id"), "i-worker".parse().expect("an id"));

    lab.pause(&control, true);
    swarm.deploy(&one("web", &registry, &web)).await.expect("deployed");
    let instance = healthy_on(&swarm, "web", "i-worker").await;
    swarm.settle().await.expect("settled");

    // The engine gets the new password, and replaces nothing for it.
    rotate(&lab, &parameter, "second");
    refresh(&swarm).await;
    swarm.deploy(&one("web", &registry, &web)).await.expect("the same again");
    assert_eq!(healthy_on(&swarm, "web", "i-worker").await, instance, "its instance was replaced");
    // The next leader finds nothing to do: an update could move instances.
    let version = || {
        lab.client(
            0,
            "docker service inspect web --format '{{.UpdatedAt}} {{json .UpdateStatus}} {{json .Spec}}'",
        )
    };
    assert!(version().contains("Healthcheck"), "{}", version());
    let before = version();
    refresh(&another).await;
    assert_eq!(version(), before, "the service was changed");

    // A drain brings the password of its moment: the control machine has never pulled this image.
    rotate(&lab, &parameter, "third");
    lab.pause(&control, false);
    swarm.drain(std::slice::from_ref(&worker), &[]).await.expect("drained");
    healthy_on(&swarm, "web", "i-control").await;
    let check = lab.client(
        0,
        "docker service inspect web --format '{{json .Spec.TaskTemplate.ContainerSpec.Healthcheck}}'",
    );
    assert!(check.contains("/health"), "a drain keeps the health check: {check}");

    // A machine is lost after the password was changed and refreshed, and before anything moved.
    lab.undrain(&worker).await;
    lab.pause(&control, true);
    swarm.deploy(&one("late", &registry, &late)).await.expect("deployed");
    healthy_on(&swarm, "late", "i-worker").await;
    swarm.settle().await.expect("settled");
    rotate(&lab, &parameter, "fourth");
    refresh(&swarm).await;
    lab.pause(&control, false);
    lab.lose(1);
    healthy_on(&swarm, "late", "i-control").await;
    drop(open);
}

/// Refreshes the credentials as the agent does, which takes a leader that has led for a while.
async fn refresh(swarm: &Swarm) {
    let work = async {
        while !swarm.refresh_credentials().await.expect("refreshed") {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), work).await.expect("in time");
}
