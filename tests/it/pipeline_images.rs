//! Pipelines against real parts: git, the Docker daemon, a docker-registry with TLS and
//! a password. Only the cluster is played.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fleetwright::adapter::artifacts::ArtifactFolder;
use fleetwright::adapter::commit_statuses::ForgeComments;
use fleetwright::adapter::disk_space::DiskSpace;
use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::adapter::locks::FileLocks;
use fleetwright::adapter::step_containers::EngineSteps;
use fleetwright::adapter::step_logs::StepLogFolder;
use fleetwright::cli::infra_steps::OwnCommands;
use fleetwright::driver::pipeline::logs::{Selected, entries};
use fleetwright::driver::pipeline::masked::MaskedJournal;
use fleetwright::driver::pipeline::poll::{Watched, WatchedPipeline, look};
use fleetwright::driver::pipeline::queue::{Cancelled, Configure, cancel, work};
use fleetwright::driver::pipeline::run::{Connect, Parts, SHOWN_MOST, Wish};
use fleetwright::event::Events;
use fleetwright::model::redact::Mask;
use fleetwright::model::run::{
    BuildSpec, Run, RunConfig, RunId, RunState, StepAction, StepResult, StepState,
};
use fleetwright::model::service::{Limits, Scale, ServiceSpec, UpdatePolicy};
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::jobs::JobCluster;
use tokio::sync::watch;

use crate::support::cluster::{FakeCluster, Mood};
use crate::support::git::Origin;
use crate::support::parameters::OneParameter;
use crate::support::registry::{PASSWORD, Registry};

struct Connected(FakeCluster);

#[async_trait]
impl Connect for Connected {
    async fn cluster(&self) -> Result<Arc<dyn Cluster>, ClusterError> {
        Ok(Arc::new(self.0.clone()))
    }

    async fn jobs(&self) -> Result<Arc<dyn JobCluster>, ClusterError> {
        Err(ClusterError::Denied { reason: "this cluster has no jobs".to_owned() })
    }
}

struct Fixed(RunConfig);

#[async_trait]
impl Configure for Fixed {
    async fn config(&self, _run: &Run) -> Result<RunConfig, String> {
        Ok(self.0.clone())
    }
}

/// A pipeline with everything around it.
pub struct Bench {
    pub home: tempfile::TempDir,
    pub registry: Registry,
    pub origin: Origin,
    pub cluster: FakeCluster,
    pub config: RunConfig,
}

impl Bench {
    pub fn new(dockerfile_args: &[(&str, &str)]) -> Self {
        let registry = Registry::start();
        let args = dockerfile_args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = config(&registry.host(), args.collect());
        Self {
            home: tempfile::tempdir().expect("a folder"),
            registry,
            origin: Origin::new(),
            cluster: FakeCluster::new(Mood::Healthy),
            config,
        }
    }

    /// What a fresh process would have.
    pub fn parts(&self) -> Parts {
        parts(self.home.path(), &self.registry, &self.cluster)
    }

    fn watched(&self) -> Watched {
        Watched {
            source: self.origin.source(),
            every: Duration::from_secs(1),
            pipelines: vec![usual("web")],
            hint: Arc::default(),
        }
    }

    /// Sees what was committed, and runs it to its end.
    pub async fn run(&self, parts: &Parts) -> Run {
        let seen = look(parts, &self.watched()).await.expect("the journal works").expect("git works");
        let [id] = seen[..] else { panic!("one run is queued, not {seen:?}") };
        self.finish(parts, id).await
    }

    async fn finish(&self, parts: &Parts, id: RunId) -> Run {
        finish(parts, Fixed(self.config.clone()), "web", id).await
    }

    /// Everything that was shown of a run.
    fn log(&self, parts: &Parts, id: RunId) -> String {
        let selected = Selected { after: 0, limit: 100_000, step: None };
        let (entries, _) = entries(parts, id, selected).expect("read");
        let lines: Vec<_> = entries.into_iter().map(|entry| entry.event).collect();
        lines.join("\n")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        crate::support::registry::forget_images(&self.registry.host());
    }
}

fn parts(home: &Path, registry: &Registry, cluster: &FakeCluster) -> Parts {
    let parameters = Arc::new(OneParameter::new("/fleetwright/registry", &registry.credentials()));
    let source = CredentialSource::Parameter { parameters, name: "/fleetwright/registry".into() };
    // The frame's `main` does this in the real process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mask = Mask::default();
    let images = Arc::new(DockerImages::new(registry.host(), source, mask.clone()).expect("Docker"));
    Parts {
        git: Arc::new(Mirrors::new(home.join("repos"))),
        steps: Arc::new(EngineSteps::new(Arc::clone(&images), &home.display().to_string())),
        storage: Arc::new(EngineSteps::new(Arc::clone(&images), &home.display().to_string())),
        images,
        infra: Arc::new(OwnCommands::new(home.join("plans"), mask.clone())),
        comments: Arc::new(ForgeComments::new(None, BTreeMap::new())),
        space: Arc::new(DiskSpace::new(Vec::new())),
        artifacts: Arc::new(ArtifactFolder::new(home.join("artifacts"))),
        connect: Arc::new(Connected(cluster.clone())),
        journal: Arc::new(MaskedJournal::new(
            SqliteJournal::open(&journal_path(home)).expect("a journal"),
            mask.clone(),
        )),
        logs: Arc::new(StepLogFolder::new(home.join("logs"))),
        locks: Arc::new(FileLocks::new(home.join("locks"))),
        events: Events::masked(mask.clone()).0,
        mask,
        changed: Arc::new(watch::Sender::new(0)),
        shown_most: SHOWN_MOST,
        troubles: Arc::default(),
        removed: Arc::default(),
    }
}

/// Works on the runs of a pipeline until one of them has ended.
async fn finish(parts: &Parts, configure: Fixed, pipeline: &str, id: RunId) -> Run {
    let (stop, wish) = watch::channel(Wish::GoOn);
    let pipeline = pipeline.parse().expect("a name");
    let mut changed = parts.changed.subscribe();
    let ended = async {
        loop {
            let run = parts.journal.run(id).expect("read").expect("a run");
            if run.state.is_ended() {
                stop.send(Wish::Stop).expect("it works");
                return run;
            }
            // Another process that cancels the run rings no bell here.
            let _ = tokio::time::timeout(Duration::from_millis(200), changed.changed()).await;
        }
    };
    let both = async { tokio::join!(work(parts, &configure, &pipeline, wish), ended) };
    let (worked, run) = tokio::time::timeout(Duration::from_secs(120), both).await.expect("in time");
    worked.expect("the journal works");
    run
}

/// A pipeline that the watched branch sets off.
fn usual(name: &str) -> WatchedPipeline {
    let (name, triggers) = (name.parse().expect("a name"), Default::default());
    WatchedPipeline { name, triggers, paths: Vec::new() }
}

fn config(host: &str, args: BTreeMap<String, String>) -> RunConfig {
    let build = BuildSpec {
        image: "demo/web".into(),
        context: ".".into(),
        dockerfile: "Dockerfile".into(),
        args,
        target: None,
        secrets: BTreeMap::new(),
    };
    let spec = ServiceSpec {
        name: "web".parse().expect("a name"),
        image: "demo/web".into(),
        command: Vec::new(),
        scale: Scale::Replicas(2),
        environment: BTreeMap::new(),
        ports: Vec::new(),
        health: None,
        limits: Limits::default(),
        placement: BTreeMap::new(),
        update: UpdatePolicy { parallel: 1, monitor: Duration::from_secs(1), deadline: None },
        drain: Duration::from_secs(1),
        container: fleetwright::model::container::ContainerSettings::default(),
        pre_deploy: None,
        units: None,
    };
    RunConfig {
        environment: "local".into(),
        push: host.into(),
        pull: "registry.internal:5000".into(),
        steps: vec![StepAction::Build(build), StepAction::Rollout(Box::new(spec))],
        needs: Vec::new(),
        timeouts: Vec::new(),
        after: Vec::new(),
        left_out: BTreeMap::new(),
        supersede: false,
        taken: None,
    }
}

fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox (package busybox-static) is installed")
}

/// The image that the first step of `run` ended with.
fn image(run: &Run) -> &fleetwright::model::run::BuiltImage {
    match &run.steps[0].state {
        StepState::Succeeded { result: StepResult::Image(image) } => image,
        state => panic!("the build ended as {state:?}: {:?}", run.reason),
    }
}

const SCRATCH: &[u8] = b"FROM scratch\nCOPY . /srv\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_built_pushed_and_rolled_out_by_the_registrys_digest() {
    let bench = Bench::new(&[]);
    let parts = bench.parts();
    bench.origin.commit("first", &[("Dockerfile", SCRATCH), ("index.html", b"v1\n")]);
    let run = bench.run(&parts).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.reason);
    let built = image(&run).clone();
    assert_eq!(built.same_as, None);
    let held = parts.images.digest(&format!("demo/web:{}", built.key)).await.expect("the registry answers");
    assert_eq!(held.as_ref(), Some(&built.digest));
    let deployed = bench.cluster.deployments();
    assert_eq!(deployed.len(), 1);
    assert_eq!(
        (&deployed[0].digest, deployed[0].registry.as_str()),
        (&built.digest, "registry.internal:5000")
    );
    assert_eq!(deployed[0].origin.commit, run.commit.to_string());
    assert_eq!(deployed[0].origin.subject, "first");

    // The same tree with another message: nothing is built, nothing is rolled out anew.
    bench.origin.commit("only words", &[("Dockerfile", SCRATCH), ("index.html", b"v1\n")]);
    let again = bench.run(&parts).await;
    assert_eq!(again.state, RunState::Succeeded);
    assert_eq!(image(&again).digest, built.digest);
    assert_eq!(image(&again).same_as.as_ref().map(|same| same.run), Some(run.id));
    assert_eq!(bench.cluster.deployments().len(), 1);
    let log = bench.log(&parts, again.id);
    assert!(log.contains("nothing-to-build") && !log.contains("\"log\""), "{log}");
    let build = &again.steps[0];
    let took = build.ended.expect("ended") - build.started.expect("started");
    assert!(took.num_milliseconds() < 1000, "skipping took {took}");

    // Another tree is another image.
    bench.origin.commit("second", &[("Dockerfile", SCRATCH), ("index.html", b"v2\n")]);
    let second = bench.run(&parts).await;
    assert_ne!(image(&second).digest, built.digest);
    assert_eq!(bench.cluster.deployments().len(), 2);
    // Nothing was seen twice.
    assert_eq!(look(&parts, &bench.watched()).await.expect("works").expect("works"), []);
    let log = bench.log(&parts, run.id) + &bench.log(&parts, second.id);
    assert!(log.contains("[1/1] COPY . /srv"), "{log}");
    assert!(!log.contains(PASSWORD), "the password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn bases_come_from_the_environments_registry_by_digest_and_ignored_files_stay_out() {
    let bench = Bench::new(&[("GREETING", "hello")]);
    let base = Origin::new();
    base.commit(
        "base",
        &[("Dockerfile", b"FROM scratch\nCOPY busybox /bin/busybox\n"), ("busybox*", &busybox())],
    );
    let parts = bench.parts();
    let source = fleetwright::port::git::GitSource { name: "base".parse().expect("a name"), ..base.source() };
    let watched = Watched {
        source,
        every: Duration::from_secs(1),
        pipelines: vec![usual("base")],
        hint: Arc::default(),
    };
    let seen = look(&parts, &watched).await.expect("works").expect("works");
    let mut config = bench.config.clone();
    if let StepAction::Build(build) = &mut config.steps[0] {
        build.image = "demo/base".into();
        build.args.clear();
    }
    config.steps.truncate(1);
    let base_run = finish(&parts, Fixed(config), "base", seen[0]).await;
    let base_image = image(&base_run).clone();

    // The Dockerfile names the base by its key's tag: without a host it is the environment's.
    let dockerfile = format!(
        "FROM demo/base:{}\nARG GREETING\nCOPY . /srv\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"cd /srv && /bin/busybox ls -a . sub > /list; echo $GREETING >> /list\"]\n\
         ENV UNIQUE={}\n\
         RUN [\"/bin/busybox\", \"cat\", \"/list\"]\n",
        base_image.key,
        crate::support::git::unique()
    );
    let files: [(&str, &[u8]); 7] = [
        ("Dockerfile", dockerfile.as_bytes()),
        (".dockerignore", b"**/*.log\nsecret\n!sub/keep.log\n.dockerignore\n"),
        ("a.txt", b"a"),
        ("a.log", b"a"),
        ("secret/key", b"k"),
        ("sub/keep.log", b"k"),
        ("sub/drop.log", b"d"),
    ];
    bench.origin.commit("app", &files);
    let run = bench.run(&parts).await;
    let log = bench.log(&parts, run.id);
    assert_eq!(run.state, RunState::Succeeded, "{log}");
    assert!(log.contains(&format!("@{}", base_image.digest)), "the base is pinned: {log}");
    let words: Vec<String> = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["what"] == "log")
        .filter_map(|event| event["text"].as_str().map(str::to_owned))
        .collect();
    let from = words.iter().position(|line| line == ".:").expect("the list");
    let list: Vec<_> =
        words[from..].iter().take_while(|line| !line.starts_with("Removing")).take(12).collect();
    let list: Vec<&str> = list.iter().map(|line| line.trim()).filter(|line| !line.is_empty()).collect();
    assert_eq!(list[..8], [".:", ".", "..", "Dockerfile", "a.txt", "sub", "sub:", "."], "{list:?}");
    assert!(list.contains(&"keep.log") && !words.iter().any(|line| line == "drop.log"), "{list:?}");
    assert!(words.iter().any(|line| line == "hello"), "{words:?}");

    // A failing instruction is named with its line.
    let broken = b"FROM scratch\n\n# why\nCOPY a.txt /a\nRUN [\"/nothing\"]\n";
    bench.origin.commit("broken", &[("Dockerfile", broken), ("a.txt", b"a")]);
    let run = bench.run(&parts).await;
    assert_eq!(run.state, RunState::Failed);
    let reason = run.reason.expect("a reason");
    assert!(reason.starts_with("build demo/web: Dockerfile:5: `RUN [\"/nothing\"]`: "), "{reason}");

    bench.origin.commit("not one", &[("Dockerfile", b"FROM scratch\nFORM x\n")]);
    let reason = bench.run(&parts).await.reason.expect("a reason");
    assert_eq!(reason.to_lowercase(), "build demo/web: dockerfile:2: unknown instruction: form");

    bench.origin.commit("no base", &[("Dockerfile", b"# x\nFROM demo/nowhere\n")]);
    let reason = bench.run(&parts).await.reason.expect("a reason");
    assert!(
        reason.contains("line 2: there is no image `demo/nowhere` in the registry at 127.0.0.1:"),
        "{reason}"
    );

    // The registry goes away for a moment: it is tried again. With the wrong password it says so.
    bench.origin.commit("away", &[("Dockerfile", SCRATCH), ("new", b"1")]);
    let id = look(&parts, &bench.watched()).await.expect("works").expect("works")[0];
    bench.registry.pause();
    let finish = bench.finish(&parts, id);
    tokio::pin!(finish);
    let waited = tokio::time::timeout(Duration::from_millis(1500), &mut finish).await;
    assert!(waited.is_err(), "the run waits for the registry");
    bench.registry.resume();
    let run = finish.await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.reason);
    assert!(bench.log(&parts, id).contains("\"retrying\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_commit_takes_over_from_a_rollout_that_is_not_healthy() {
    let bench = Bench::new(&[]);
    bench.cluster.set_mood(Mood::Slow);
    bench.origin.commit("broken", &[("Dockerfile", SCRATCH), ("index.html", b"v1\n")]);
    let parts = bench.parts();
    let broken = look(&parts, &bench.watched()).await.expect("works").expect("works")[0];
    let (_wish, wish) = watch::channel(Wish::GoOn);
    let (pipeline, configure) = ("web".parse().expect("a name"), Fixed(bench.config.clone()));
    let worker = work(&parts, &configure, &pipeline, wish);
    let fix = async {
        let state = |id| parts.journal.run(id).expect("read").expect("a run").state;
        let follows = |id| {
            let run = parts.journal.run(id).expect("read").expect("a run");
            matches!(run.steps.get(1).map(|step| &step.state), Some(StepState::Following { .. }))
        };
        until(|| follows(broken)).await;
        bench.origin.commit("fixed", &[("Dockerfile", SCRATCH), ("index.html", b"v2\n")]);
        let fixed = look(&parts, &bench.watched()).await.expect("works").expect("works")[0];
        until(|| follows(fixed)).await;
        assert_eq!(state(broken), RunState::Superseded);
        // A rollout that nothing replaces is followed to its end.
        bench.cluster.settle(true);
        until(|| state(fixed).is_ended()).await;
        assert_eq!(state(fixed), RunState::Succeeded);
        let reason = parts.journal.run(broken).expect("read").expect("a run").reason.expect("a reason");
        assert!(reason.contains(&format!("run {fixed}")), "{reason}");
    };
    tokio::select! {
        ended = worker => panic!("the worker ended: {ended:?}"),
        () = fix => {}
    }
    let deployed = bench.cluster.deployments();
    let subjects: Vec<_> = deployed.iter().map(|one| one.origin.subject.as_str()).collect();
    assert_eq!(subjects, ["broken", "fixed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_while_another_process_works_on_it() {
    let bench = Bench::new(&[]);
    let slow = b"FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sleep\", \"60\"]\n";
    bench.origin.commit("slow", &[("Dockerfile", slow), ("busybox*", &busybox())]);
    let (server, hand) = (bench.parts(), bench.parts());
    let id = look(&server, &bench.watched()).await.expect("works").expect("works")[0];
    let builds = || {
        let run = hand.journal.run(id).expect("read").expect("a run");
        matches!(run.steps.first().map(|step| &step.state), Some(StepState::Building { .. }))
    };
    let cancelled = async {
        until(builds).await;
        cancel(&hand, id, "cancelled by hand").expect("the journal works")
    };
    let (run, cancelled) = tokio::join!(bench.finish(&server, id), cancelled);
    assert_eq!(cancelled, Cancelled::Done { rolls_out: false });
    assert_eq!((run.state, run.reason.as_deref()), (RunState::Cancelled, Some("cancelled by hand")));
    assert!(run.steps.iter().all(|step| step.state == StepState::Skipped), "{:?}", run.steps);
    assert!(bench.cluster.deployments().is_empty());
    let again = cancel(&hand, id, "again").expect("the journal works");
    assert_eq!(again, Cancelled::Ended(RunState::Cancelled));
}

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_dies_is_followed_by_another_at_any_step() {
    let bench = Bench::new(&[]);
    let slow = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nENV UNIQUE={}\nRUN [\"/bin/busybox\", \"sleep\", \"2\"]\n",
        crate::support::git::unique()
    );
    bench.origin.commit("slow", &[("Dockerfile", slow.as_bytes()), ("busybox*", &busybox())]);
    let id;
    {
        let parts = bench.parts();
        id = look(&parts, &bench.watched()).await.expect("works").expect("works")[0];
        let finish = bench.finish(&parts, id);
        tokio::pin!(finish);
        // Dropped in the middle of the build, as a killed process would.
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(50), &mut finish).await;
            let run = parts.journal.run(id).expect("read").expect("a run");
            if matches!(run.steps.first().map(|step| &step.state), Some(StepState::Building { .. })) {
                break;
            }
        }
    }
    bench.cluster.set_mood(Mood::Slow);
    {
        let parts = bench.parts();
        let finish = bench.finish(&parts, id);
        tokio::pin!(finish);
        loop {
            let _ = tokio::time::timeout(Duration::from_millis(50), &mut finish).await;
            let run = parts.journal.run(id).expect("read").expect("a run");
            if matches!(run.steps[1].state, StepState::Following { .. }) {
                break;
            }
        }
    }
    // While nobody watches, the rollout fails and is rolled back.
    bench.cluster.settle(false);
    let parts = bench.parts();
    let run = bench.finish(&parts, id).await;
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(
        run.reason.as_deref(),
        Some(
            "rollout web: revision 1 of `web` was rolled back: web@1 never became healthy: 500 from /health"
        )
    );
    assert_eq!(bench.cluster.deployments().len(), 1, "the rollout was followed, not repeated");
    let log = bench.log(&parts, id);
    assert_eq!(log.matches("\"what\":\"resumed\"").count(), 2);
    assert_eq!(log.matches("\"what\":\"pushed\"").count(), 1);
    assert_eq!(log.matches("\"what\":\"finished\"").count(), 1);
}
