//! Jobs on a real swarm of three managers. Each of them believes that it leads, all the time, and their
//! engines are killed: what must run once runs once.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use fleetwright::adapter::permits;
use fleetwright::adapter::swarm::{JobHolder, SOCKET, Swarm};
use fleetwright::driver::jobs::{Permits, advance};
use fleetwright::driver::rollout::Outcome as Rollout;
use fleetwright::model::container::ContainerSettings;
use fleetwright::model::desired::Bucket;
use fleetwright::model::job::{
    JobDeployment, JobImage, JobSpec, Kind, Occurrence, OccurrenceId, Outcome, Overlap, Progress, Runs,
};
use fleetwright::model::name::{Digest, ServiceName};
use fleetwright::model::schedule::Schedule;
use fleetwright::model::service::{Limits, Origin, PreDeploy, PreDeployState, RevisionState};
use fleetwright::plan::desired::keep;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::cluster_wire::CommandRequest;
use fleetwright::port::desired::Holder;
use fleetwright::port::jobs::{AskPermit, JobCluster, Output};
use fleetwright::port::membership::Membership;
use futures_util::StreamExt as _;

use crate::cluster_contract::{deployment, ended};
use crate::support::registry::free_port;
use crate::support::swarm::{IMAGE, Lab};

/// How long one thing may take.
const LIMIT: Duration = Duration::from_secs(180);

/// Asks any manager that answers, as an agent does.
struct Any(Vec<Swarm>);

#[async_trait]
impl AskPermit for Any {
    async fn permit(&self, task: &str, nonce: &str) -> Result<(), ClusterError> {
        let mut last = ClusterError::Refused { reason: "there is no manager".to_owned() };
        for swarm in &self.0 {
            match Permits::new(Arc::new(swarm.clone())).permit(task, nonce).await {
                Err(error @ (ClusterError::Unreachable { .. } | ClusterError::Engine { .. })) => last = error,
                answer => return answer,
            }
        }
        Err(last)
    }
}

/// What containers asked for, by path: every run of a command asks for its own.
#[derive(Clone, Default)]
struct Hits(Arc<Mutex<BTreeMap<String, u32>>>);

impl Hits {
    fn serve(&self, port: u16) {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a port");
        let hits = self.0.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let line = String::from_utf8_lossy(&request[..length]).into_owned();
                if let Some(path) = line.split_whitespace().nth(1) {
                    *hits
                        .lock()
                        .expect("hits")
                        .entry(path.trim_start_matches('/').to_owned())
                        .or_default() += 1;
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
            }
        });
    }

    fn of(&self, path: &str) -> u32 {
        self.0.lock().expect("hits").get(path).copied().unwrap_or(0)
    }
}

/// Three managers with what their agents would do, all of it at once.
struct Fleet {
    lab: Lab,
    swarms: Vec<Swarm>,
    hits: Hits,
    port: u16,
    digest: Digest,
    work: tokio::task::JoinSet<()>,
}

impl Fleet {
    async fn up() -> Self {
        let (lab, swarms) = Lab::managers(3).await;
        let digest = lab.push("one", true);
        let nodes = swarms[0].nodes().await.expect("nodes");
        for node in &nodes {
            let mut labels: BTreeMap<String, String> = BTreeMap::new();
            for (key, value) in &node.labels {
                let key = key.strip_prefix("fleetwright.").unwrap_or(key);
                labels.insert(key.to_owned(), value.clone());
            }
            labels.insert("feature.jobs".to_owned(), "yes".to_owned());
            swarms[0].register(&node.id, &labels).await.expect("registered");
        }
        let mut work = tokio::task::JoinSet::new();
        for (number, swarm) in swarms.iter().enumerate() {
            let docker =
                bollard::Docker::connect_with_http(&lab.endpoint(number), 30, bollard::API_DEFAULT_VERSION)
                    .expect("a client");
            let folder = lab.permits(number);
            let mut all = swarms.clone();
            all.rotate_left(number);
            let any = Arc::new(Any(all.clone()));
            work.spawn(async move {
                let _ = permits::serve(&folder, SOCKET, docker, any, &permits::Waiting::default()).await;
            });
            let leader = swarm.clone();
            work.spawn(async move {
                loop {
                    let _ = advance(&leader, chrono::Utc::now()).await;
                    tokio::time::sleep(Duration::from_millis(700)).await;
                }
            });
            let machine = swarm.clone();
            work.spawn(async move {
                loop {
                    let mut ended = machine.unhealthy();
                    while let Some((task, seen)) = ended.next().await {
                        println!("{task}: {seen:?}");
                        for swarm in &all {
                            if Membership::report_unhealthy(swarm, &task, &seen).await.is_ok() {
                                break;
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            });
        }
        let (hits, port) = (Hits::default(), free_port());
        hits.serve(port);
        Self { lab, swarms, hits, port, digest, work }
    }

    /// A job that counts its run under `path`, and then does `more`.
    fn job(&self, name: &str, path: &str, more: &str) -> JobDeployment {
        let line = format!(
            "echo begun; /bin/busybox wget -q -O- http://{}:{}/{path}; {more}",
            self.lab.gateway(),
            self.port
        );
        JobDeployment {
            spec: JobSpec {
                name: name.parse().expect("a name"),
                runs: Runs::Image(IMAGE.to_owned()),
                command: ["/bin/busybox", "sh", "-c", &line].map(str::to_owned).to_vec(),
                environment: BTreeMap::new(),
                limits: Limits::default(),
                placement: BTreeMap::new(),
                stop_grace_period: Some(Duration::from_secs(1)),
                container: ContainerSettings::default(),
                schedule: None,
                overlap: Overlap::Skip,
                catch_up: None,
                timeout: None,
                retries: 0,
            },
            image: Some(JobImage { registry: self.lab.registry(), digest: self.digest.clone() }),
            origin: Origin::by_hand(),
        }
    }

    /// Any manager's answer.
    async fn any<T, F: Future<Output = Result<T, ClusterError>>>(&self, ask: impl Fn(Swarm) -> F) -> T {
        let limit = Instant::now() + LIMIT;
        loop {
            for swarm in &self.swarms {
                match ask(swarm.clone()).await {
                    Ok(answer) => return answer,
                    Err(error) => assert!(Instant::now() < limit, "{error}"),
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn run(&self, job: &JobDeployment, key: &str) -> OccurrenceId {
        self.any(|swarm| async move { swarm.deploy_job(job).await }).await;
        let id = OccurrenceId::asked(Kind::Job, job.spec.name.as_str(), key).expect("an id");
        self.any(|swarm| {
            let id = id.clone();
            async move { swarm.run_job(&id, Some("the test")).await }
        })
        .await;
        id
    }

    async fn look(&self, id: &OccurrenceId) -> Option<Occurrence> {
        self.any(|swarm| async move { swarm.jobs().await }).await.occurrence(id).cloned()
    }

    /// Waits for its end.
    async fn end(&self, id: &OccurrenceId) -> (Outcome, Occurrence) {
        let limit = Instant::now() + LIMIT;
        loop {
            let one = self.look(id).await;
            if let Some(Occurrence { progress: Progress::Ended(outcome), .. }) = one {
                let one = one.expect("it is there");
                println!("{id}: {one:?}");
                return (outcome, one);
            }
            assert!(Instant::now() < limit, "{id} does not end: {one:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_occurrence_runs_once_and_its_end_is_recorded() {
    let mut fleet = Fleet::up().await;

    let id = fleet.run(&fleet.job("good", "good", "exit 0"), "x1").await;
    let (outcome, one) = fleet.end(&id).await;
    assert_eq!((outcome, one.exit, one.attempts), (Outcome::Succeeded, Some(0), 1), "{one:?}");
    assert_eq!((one.by.as_deref(), one.lines.first().map(String::as_str)), (Some("the test"), Some("begun")));
    assert!(one.machine.is_some() && one.started <= one.ended, "{one:?}");
    // Asked for again by the same request, it is the same.
    assert_eq!(fleet.run(&fleet.job("good", "good", "exit 0"), "x1").await, id);
    let lines: Vec<Output> = fleet.swarms[1]
        .occurrence_logs(&id, 10, false)
        .await
        .expect("its container is there")
        .filter_map(|line| async { line.ok() })
        .collect()
        .await;
    assert!(lines.contains(&Output::Out("begun".to_owned())), "{lines:?}");
    // It is not a service, and not part of their records.
    let snapshot = fleet.swarms[0].snapshot().await.expect("a snapshot");
    assert!(snapshot.services.is_empty(), "{snapshot:#?}");

    // A failure is tried again, each time with a permit of its own.
    let mut job = fleet.job("bad", "bad", "echo broken >&2; exit 3");
    job.spec.retries = 1;
    let id = fleet.run(&job, "x1").await;
    let (outcome, one) = fleet.end(&id).await;
    assert_eq!((outcome, one.exit, one.attempts), (Outcome::Failed, Some(3), 2), "{one:?}");
    assert!(one.lines.contains(&"broken".to_owned()), "{one:?}");
    assert_eq!(fleet.hits.of("bad"), 2);

    // What takes too long is stopped.
    let mut job = fleet.job("long", "long", "exec /bin/busybox sleep 600");
    job.spec.timeout = Some(Duration::from_secs(4));
    let id = fleet.run(&job, "x1").await;
    let (outcome, one) = fleet.end(&id).await;
    assert_eq!((outcome, fleet.hits.of("long")), (Outcome::TimedOut, 1), "{one:?}");
    assert!(one.lines.contains(&"begun".to_owned()), "{one:?}");

    // A command with a service's image and variables.
    let service = "web".parse().expect("a name");
    let mut wanted = deployment(&service, &fleet.lab.registry(), &fleet.digest);
    wanted.spec.environment.insert("GREETING".to_owned(), "hello".to_owned());
    let revision = fleet.swarms[0].deploy(&wanted).await.expect("deployed");
    assert_eq!(ended(&fleet.swarms[0], &service, revision).await, Rollout::Running);
    let id = OccurrenceId::asked(Kind::Command, "web", "x1").expect("an id");
    let command = ["/bin/busybox", "sh", "-c", "echo $GREETING; exit 7"].map(str::to_owned);
    let request = CommandRequest { command: command.to_vec(), attended: false };
    fleet.swarms[1].run_command(&id, &request, None).await.expect("accepted");
    let (outcome, one) = fleet.end(&id).await;
    assert_eq!((outcome, one.exit), (Outcome::Failed, Some(7)), "{one:?}");
    assert_eq!(one.lines, ["hello"]);

    // What is kept of definitions outside of the swarm is enough to deploy them again.
    let holder = JobHolder(fleet.swarms[0].clone());
    let held = holder.held().await.expect("what is held");
    let mut kept = keep(1, &held, &Bucket::new()).writes;
    let mut document = kept
        .remove(kept.iter().position(|one| one.document.service.as_str() == "bad").expect("it is kept"))
        .document;
    document.service = "again".parse().expect("a name");
    document.revisions[0].deployment["spec"]["name"] = "again".into();
    holder.restore(&document).await.expect("restored");
    holder.restore(&document).await.expect("restored already");
    let again = fleet.swarms[1].deployed_job(&"again".parse().expect("a name")).await.expect("deployed");
    assert_eq!((again.spec.retries, &again.image), (1, &fleet.job("bad", "bad", "").image));
    let name = "again".parse().expect("a name");
    fleet.swarms[1].remove_job(&name).await.expect("removed");
    let missing = fleet.swarms[2].deployed_job(&name).await.expect_err("it was removed");
    assert!(matches!(missing, ClusterError::NotFound { what: "job", .. }), "{missing}");

    // A machine that is lost while it runs: nobody knows, and nothing repeats it.
    let mut job = fleet.job("lost", "lost", "exec /bin/busybox sleep 600");
    job.spec.placement.insert("instance".to_owned(), "i-2".to_owned());
    job.spec.retries = 3;
    let id = fleet.run(&job, "x1").await;
    let limit = Instant::now() + LIMIT;
    while fleet.hits.of("lost") == 0 {
        assert!(Instant::now() < limit, "it does not start: {:?}", fleet.look(&id).await);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    fleet.lab.lose(2);
    let (outcome, one) = fleet.end(&id).await;
    assert_eq!((outcome, fleet.hits.of("lost")), (Outcome::Unknown, 1), "{one:?}");
    assert_eq!(fleet.hits.of("good"), 1);
    fleet.work.shutdown().await;
}

/// A number below `limit`, another one each time.
fn rand_below(limit: u32) -> u32 {
    chrono::Utc::now().timestamp_subsec_nanos() / 1_000 % limit
}

/// Each revision ran its command at most once, and none was rolled out before that had succeeded.
async fn commands_before(fleet: &Fleet, service: &ServiceName, revisions: &[(u64, String)]) {
    let newest = revisions.iter().map(|(revision, _)| *revision).max().expect("a revision");
    let limit = Instant::now() + LIMIT;
    let history = loop {
        let snapshot = fleet.any(|swarm| async move { swarm.snapshot().await }).await;
        let found = snapshot.services.into_iter().find(|status| status.name == *service);
        let history = found.map(|status| status.history).unwrap_or_default();
        if history.first().is_some_and(|one| one.number == newest && one.state != RevisionState::RollingOut) {
            break history;
        }
        assert!(Instant::now() < limit, "revision {newest} is not settled: {history:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    for (revision, path) in revisions {
        let hits = fleet.hits.of(path);
        let one = history.iter().find(|one| one.number == *revision);
        println!("revision {revision}: {hits} {:?}", one.map(|one| (one.state, one.pre_deploy)));
        assert!(hits <= 1, "{revision}: {history:#?}");
        if one.is_some_and(|one| one.pre_deploy == Some(PreDeployState::Succeeded)) {
            assert_eq!(hits, 1, "{revision}: {history:#?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_twice_whoever_is_killed() {
    let mut fleet = Fleet::up().await;
    // One of the schedule beside those that are asked for.
    let mut tick = fleet.job("tick", "tick", "exit 0");
    tick.spec.schedule = Some(Schedule { cron: "* * * * *".to_owned(), timezone: "UTC".to_owned() });
    tick.spec.catch_up = Some(Duration::from_secs(600));
    let began = chrono::Utc::now();
    fleet
        .any(|swarm| {
            let tick = tick.clone();
            async move { swarm.deploy_job(&tick).await }
        })
        .await;
    let mut ids = Vec::new();
    let kills: usize = std::env::var("FLEETWRIGHT_KILLS")
        .map_or(1, |text| text.parse().expect("FLEETWRIGHT_KILLS is a number"));
    let service = "web".parse().expect("a name");
    let mut revisions = Vec::new();
    for number in 0..3 * kills {
        if number % 3 != 1 {
            // The leader is killed while the first one's command runs, and the second one is deployed then.
            let mut wanted = deployment(&service, &fleet.lab.registry(), &fleet.digest);
            wanted.spec.environment.insert("NUMBER".to_owned(), number.to_string());
            let path = format!("before-{number}");
            let command = fleet.job("none", &path, "/bin/busybox sleep 2; exit 0").spec.command;
            wanted.spec.pre_deploy = Some(PreDeploy { command, timeout: Duration::from_secs(60) });
            let revision = fleet
                .any(|swarm| {
                    let wanted = wanted.clone();
                    async move { swarm.deploy(&wanted).await }
                })
                .await;
            revisions.push((revision, path));
        }
        let name = format!("job-{number}");
        ids.push(fleet.run(&fleet.job(&name, &name, "/bin/busybox sleep 2; exit 0"), "x1").await);
        if number % 3 == 1 {
            // The engine of whoever leads now; systemd starts it again.
            let nodes = fleet.any(|swarm| async move { swarm.nodes().await }).await;
            let leader = nodes.iter().find(|node| node.manager.is_some_and(|manager| manager.leader));
            let leader = leader.and_then(|node| node.instance.clone()).map(|id| id.to_string());
            let number: usize =
                leader.and_then(|id| id.strip_prefix("i-").and_then(|n| n.parse().ok())).unwrap_or(0);
            let command = revisions.last().map_or("", |(_, path)| path.as_str());
            let limit = Instant::now() + Duration::from_secs(15);
            while fleet.hits.of(command) == 0 && Instant::now() < limit {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // At another moment each time.
            let moment = Duration::from_millis(u64::from(rand_below(2_000)));
            println!("killing the engine of i-{number} after {moment:?}");
            tokio::time::sleep(moment).await;
            fleet.lab.client(number, "systemctl kill -s KILL docker.service");
        }
    }
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for (number, id) in ids.iter().enumerate() {
        let (outcome, one) = fleet.end(id).await;
        *outcomes.entry(outcome.label()).or_default() += 1;
        let hits = fleet.hits.of(&format!("job-{number}"));
        match outcome {
            Outcome::Succeeded => assert_eq!(hits, 1, "{one:?}"),
            // An engine that is killed stops what it runs.
            Outcome::Failed | Outcome::Unknown => assert!(hits <= 1, "{hits} {one:?}"),
            other => panic!("{other:?} {one:?}"),
        }
    }
    println!("{outcomes:?}");
    commands_before(&fleet, &service, &revisions).await;
    assert!(outcomes.get("succeeded").is_some_and(|count| *count >= 3), "{outcomes:?}");
    // Every minute was recorded, and ran at most once. At least one must have passed, and its record needs
    // some seconds.
    let times = tick.spec.schedule.as_ref().expect("a schedule").times().expect("times");
    let due = loop {
        let until = chrono::Utc::now() - chrono::TimeDelta::seconds(20);
        let due = times.between(began, until, 60);
        if !due.is_empty() {
            break due;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let jobs = fleet.any(|swarm| async move { swarm.jobs().await }).await;
    let mut ran = 0;
    for at in &due {
        let id = OccurrenceId::due(&tick.spec.name, *at);
        let one = jobs.occurrence(&id).unwrap_or_else(|| panic!("{id} was not recorded: {jobs:#?}"));
        ran += u32::from(one.attempts > 0);
    }
    assert!(fleet.hits.of("tick") <= ran + 1, "{} {due:?} {jobs:#?}", fleet.hits.of("tick"));
    fleet.work.shutdown().await;
}
