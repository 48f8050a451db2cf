//! Leave to reboot, asked of a real swarm: of the engine itself, and through the API of a
//! control machine.

use std::time::{Duration, Instant};

use chrono::Utc;
use fleetwright::adapter::cluster_api::ClusterApi;
use fleetwright::adapter::swarm::Swarm;
use fleetwright::model::machine::MachineState;
use fleetwright::model::name::{BootId, MachineId};
use fleetwright::model::reboot::{Answer, Leave, Mark, Returned};
use fleetwright::port::cluster::Cluster;
use fleetwright::port::membership::{Control, Membership};
use fleetwright::port::reboot::{AskLeave, Leaves};

use crate::cluster_contract::serve;
use crate::support::swarm::Lab;

/// How long any one thing may take on two busy cores.
const LIMIT: Duration = Duration::from_secs(90);

const CONTROL: &str = "i-control";
const WORKER: &str = "i-worker";

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

fn boot(text: &str) -> BootId {
    text.parse().expect("a boot")
}

fn leave_of(machine: &str, since: i64) -> Leave {
    Leave { machine: id(machine), mark: Mark { since, boot: boot("b1") } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_gives_leave_to_one_machine_at_a_time() {
    let (lab, [swarm, _]) = Lab::up().await;
    one_leave(&swarm).await;

    let served = serve(&swarm).await;
    let apis = Apis { control: served.machine(CONTROL), worker: served.machine(WORKER) };
    turns(&lab, &swarm, &apis).await;
    takes_over(&swarm, &apis).await;

    let worker = apis.worker;
    let refused = worker.ask(&id(CONTROL), &boot("b1")).await.expect_err("another's machine");
    assert!(refused.to_string().contains("its own machine"), "{refused}");
    let refused = worker.give_back(&id(CONTROL)).await.expect_err("another's machine");
    assert!(refused.to_string().contains("its own machine"), "{refused}");
    served.task.abort();
}

/// The API, as each machine's own agent asks it.
struct Apis {
    control: ClusterApi,
    worker: ClusterApi,
}

impl Apis {
    fn of(&self, machine: &MachineId) -> &ClusterApi {
        if machine.as_str() == CONTROL { &self.control } else { &self.worker }
    }
}

/// Whoever asks at the same time: the engine keeps one, and ends only what was meant.
async fn one_leave(swarm: &Swarm) {
    let now = Utc::now().timestamp();
    let mut ended = None;
    for _ in 0..5 {
        let (control, worker) = (leave_of(CONTROL, now), leave_of(WORKER, now));
        let (first, second, third) =
            tokio::join!(swarm.take(&control), swarm.take(&worker), swarm.take(&control));
        let taken = [first, second, third].map(|taken| taken.expect("the engine answers"));
        assert_eq!(taken.iter().filter(|taken| **taken).count(), 1, "{taken:?}");
        let held = swarm.held().await.expect("readable").expect("there is one");
        assert_eq!(held.leave, if taken[1] { worker } else { control });
        if let Some(old) = ended.replace(held.clone()) {
            swarm.end(&old).await.expect("it is gone already");
            assert_eq!(swarm.held().await.expect("readable"), Some(held.clone()), "a later leave stays");
        }
        swarm.end(&held).await.expect("ended");
        assert_eq!(swarm.held().await.expect("readable"), None);
    }
}

/// One machine's turn with a reboot in it, and then the other's.
async fn turns(lab: &Lab, swarm: &Swarm, api: &Apis) {
    let (control, worker) = (id(CONTROL), id(WORKER));
    assert_eq!(AskLeave::mark(api.of(&worker), &worker).await.expect("an answer"), None);
    let since = match api.of(&worker).ask(&worker, &boot("b1")).await.expect("an answer") {
        Answer::Granted { since, alone: false } => since,
        other => panic!("{other:?}"),
    };
    assert!((Utc::now().timestamp() - since).abs() < 60);
    match api.of(&control).ask(&control, &boot("c1")).await.expect("an answer") {
        Answer::Wait { reason } => assert!(reason.contains("the turn of i-worker"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let again = api.of(&worker).ask(&worker, &boot("b1")).await.expect("an answer");
    assert_eq!(again, Answer::Granted { since, alone: false }, "asking twice changes nothing");
    let mark = AskLeave::mark(api.of(&worker), &worker).await.expect("an answer").expect("it has leave");
    assert_eq!(mark, Mark { since, boot: boot("b1") });
    assert_eq!(state(swarm, WORKER).await, MachineState::Rebooting);

    api.worker.empty(std::slice::from_ref(&worker), false).await.expect("emptied");
    lab.shut_down(1);
    until(swarm, "the worker is down", |up| !up).await;
    assert_eq!(state(swarm, WORKER).await, MachineState::Rebooting, "it is away, and not lost");
    let early = api.of(&worker).give_back(&worker).await.expect("an answer");
    assert_eq!(early, Returned::Wait { reason: "it is down".into() });
    lab.start_again(1);
    until(swarm, "the worker is up", |up| up).await;
    assert_eq!(api.of(&worker).give_back(&worker).await.expect("an answer"), Returned::Done);
    assert_eq!(
        api.of(&worker).give_back(&worker).await.expect("an answer"),
        Returned::Done,
        "twice changes nothing"
    );
    assert_eq!(state(swarm, WORKER).await, MachineState::Ready);
    assert_eq!(AskLeave::mark(api.of(&worker), &worker).await.expect("an answer"), None);

    let granted = api.of(&control).ask(&control, &boot("c1")).await.expect("an answer");
    assert!(matches!(granted, Answer::Granted { alone: false, .. }), "{granted:?}");
    assert_eq!(api.of(&control).give_back(&control).await.expect("an answer"), Returned::Done);
    assert_eq!(swarm.held().await.expect("readable"), None);
}

/// Leave that is too old goes to the next that asks, and its machine still comes back.
async fn takes_over(swarm: &Swarm, api: &Apis) {
    let (control, worker) = (id(CONTROL), id(WORKER));
    let old = leave_of(WORKER, Utc::now().timestamp() - 31 * 60);
    assert!(swarm.take(&old).await.expect("the engine answers"));
    swarm.set_mark(&worker, &old.mark).await.expect("marked");
    let granted = api.of(&control).ask(&control, &boot("c1")).await.expect("an answer");
    assert!(matches!(granted, Answer::Granted { .. }), "{granted:?}");
    assert_eq!(api.of(&worker).ask(&worker, &boot("b1")).await.expect("an answer"), Answer::Lapsed);
    assert_eq!(AskLeave::mark(api.of(&worker), &worker).await.expect("an answer"), Some(old.mark));
    assert_eq!(api.of(&worker).give_back(&worker).await.expect("an answer"), Returned::Done);
    assert_eq!(state(swarm, WORKER).await, MachineState::Ready);
    let held = swarm.held().await.expect("readable").expect("there is one");
    assert_eq!(held.leave.machine, control, "another's leave is not the worker's to end");
    assert_eq!(api.of(&control).give_back(&control).await.expect("an answer"), Returned::Done);
    // A machine that is gone keeps nobody waiting.
    assert!(swarm.take(&leave_of("i-gone", Utc::now().timestamp())).await.expect("the engine answers"));
    let granted = api.of(&worker).ask(&worker, &boot("b1")).await.expect("an answer");
    assert!(matches!(granted, Answer::Granted { .. }), "{granted:?}");
    assert_eq!(api.of(&worker).give_back(&worker).await.expect("an answer"), Returned::Done);
}

async fn state(swarm: &Swarm, machine: &str) -> MachineState {
    let snapshot = swarm.snapshot().await.expect("a snapshot");
    snapshot.machines.iter().find(|one| one.id.as_str() == machine).expect("it is listed").state
}

async fn until(swarm: &Swarm, what: &str, condition: impl Fn(bool) -> bool) {
    let limit = Instant::now() + LIMIT;
    loop {
        let nodes = swarm.nodes().await.expect("nodes");
        let worker = nodes.iter().find(|node| node.manager.is_none()).expect("the worker");
        if condition(worker.up) {
            return;
        }
        assert!(Instant::now() < limit, "waited in vain until {what}: {nodes:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
