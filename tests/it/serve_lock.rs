//! The lock of `serve` in the project's bucket: lost, taken by another server, and taken over from one that is gone. The
//! servers are processes, S3 is within the test's. None of the runs needs Docker.

use std::process::Command;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::model::run::RunState;
use fleetwright::port::journal::{Journal as _, Which};
use serde_json::{Value, json};

use crate::pipeline_serve::{Serve, Site};
use crate::support::fake_aws::{Dialect, FakeAws};

const BUCKET: &str = "fleetwright-shop-123456789012-eu-west-1";
const KEY: &str = "locks/serve/test.json";
/// A server that takes a lock over watches it for 70 s before.
const WATCH: Duration = Duration::from_secs(70);
/// The most that a start takes which watches a lock, on a busy machine.
const START: Duration = Duration::from_secs(180);

/// A site with an AWS, whose pipeline only asks.
struct World {
    site: Site,
    aws: FakeAws,
    runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let inside = runtime.enter();
        let mut site = Site::new();
        let aws = FakeAws::start(Dialect::Details);
        let credentials = site.registry.credentials();
        aws.world().parameters.0.insert("/fleetwright/registry".to_owned(), credentials);
        for (name, value) in aws.environment() {
            site.set(name, value);
        }
        let pipeline = "web:\n  repository: web\n  steps:\n    - approve: Ready?\n";
        std::fs::write(site.folder.path().join("pipelines/web.yaml"), pipeline).expect("written");
        drop(inside);
        Self { site, aws, runtime }
    }

    /// A server with a journal of its own, as on another machine.
    fn elsewhere(&self) -> Command {
        let mut command = self.site.command(&["serve", "--listen", "127.0.0.1:0"]);
        command.env("FLEETWRIGHT_HOME", self.site.folder.path().join("elsewhere"));
        command
    }

    /// The lock as it stands in the bucket.
    fn lock(&self) -> Option<Value> {
        let bytes = self.aws.world().object(BUCKET, KEY)?;
        Some(serde_json::from_slice(&bytes).expect("JSON"))
    }

    /// Changes fields of the lock.
    fn change_lock(&self, fields: &[(&str, Value)]) {
        let mut lock = self.lock().expect("a lock");
        for (name, value) in fields {
            lock[name] = value.clone();
        }
        self.aws.world().set_object(BUCKET, KEY, lock.to_string().into_bytes());
    }

    /// Whether the server's metrics and its first page report the trouble.
    fn shows_trouble(&self, serve: &Serve) -> bool {
        let get = |path: &str| {
            let asked = self.site.client().get(format!("{}{path}", serve.page)).send();
            self.runtime.block_on(async { asked.await.expect("an answer").text().await.expect("text") })
        };
        let metric = get("v1/metrics").contains("fleetwright_pipeline_trouble{concern=\"lock\"} 1");
        assert_eq!(metric, get("").contains("the lock in the bucket could not be renewed"));
        metric
    }
}

fn push(site: &Site, subject: &str) {
    site.origin.commit(subject, &[("subject", subject.as_bytes())]);
}

fn asks(site: &Site, subject: &str) {
    site.wait_for(subject, |run| run["subject"] == subject && run["steps"][0]["state"]["is"] == "asking");
}

/// When it was written that it ends, some time ago.
fn past() -> Value {
    json!(Utc::now() - TimeDelta::seconds(15))
}

#[test]
fn a_lock_that_is_deleted_is_taken_again() {
    let world = World::new();
    push(&world.site, "first");
    let serve = world.site.serve();
    asks(&world.site, "first");
    let before = world.lock().expect("a lock");
    world.aws.world().remove_object(BUCKET, KEY);
    serve.says("the lock in the bucket could not be renewed");
    serve.says("the lock in the bucket is held again");
    let after = world.lock().expect("a lock");
    assert_eq!((&after["process"], &after["released"]), (&json!(serve.id()), &json!(false)));
    assert_ne!(after["id"], before["id"], "it is another holding");
    assert!(!world.shows_trouble(&serve));
    push(&world.site, "second");
    asks(&world.site, "second");
    let refused = world.elsewhere().output().expect("it can be run");
    assert!(!refused.status.success());
    let (good, said) = serve.interrupt();
    assert!(good, "{said:?}");
    assert_eq!(world.lock().expect("a lock")["released"], true);
}

#[test]
fn a_server_whose_lock_another_one_has_taken_ends_and_names_it() {
    let world = World::new();
    push(&world.site, "first");
    let serve = world.site.serve();
    asks(&world.site, "first");
    let expires = json!(Utc::now() + TimeDelta::seconds(60));
    let other = [
        ("id", json!("another")),
        ("holder", json!("ann@elsewhere")),
        ("host", json!("another machine")),
        ("process", json!(4711)),
        ("expires", expires),
    ];
    world.change_lock(&other);
    let taken = world.lock();
    let (good, said) = serve.ended();
    let said = said.join("\n");
    assert!(!good && said.contains("ann@elsewhere (process 4711) has served `test` for"), "{said}");
    assert!(said.contains("stop that server first"), "{said}");
    assert_eq!(world.lock(), taken, "the other server's lock is left alone");
    // What it has begun is there for the next server.
    let folder = world.site.folder.path().join("home/serve/shop/environments/test");
    let journal = SqliteJournal::open(&journal_path(&folder)).expect("the journal");
    let runs = journal.runs(&Which::Newest(9)).expect("the runs");
    assert_eq!(runs.iter().map(|run| run.state).collect::<Vec<_>>(), [RunState::Running]);
}

/// A server whose writes failed for a while once took its own record for that of another server, and ended.
#[test]
fn while_the_lock_can_not_be_renewed_runs_wait_and_then_begin() {
    let world = World::new();
    push(&world.site, "first");
    let serve = world.site.serve();
    asks(&world.site, "first");
    let (good, _, stderr) = world.site.run(&["pipeline", "approve", "1", "--yes"]);
    assert!(good, "{stderr}");
    world.aws.world().take_down(&["PutObject"]);
    serve.says("the lock in the bucket could not be renewed");
    assert!(world.shows_trouble(&serve));
    push(&world.site, "second");
    serve.says("runs of `web` wait: the lock in the bucket could not be renewed");
    assert_eq!(world.site.runs()[0]["state"], "queued");
    world.aws.world().take_down(&[]);
    serve.says("the lock in the bucket is held again");
    asks(&world.site, "second");
    assert!(!world.shows_trouble(&serve));
    assert_eq!(world.lock().expect("a lock")["process"], serve.id());
}

#[test]
fn a_server_that_starts_while_the_bucket_is_away_takes_the_lock_later() {
    let world = World::new();
    push(&world.site, "first");
    // The bucket is there, as it is after every first start.
    drop(world.site.serve());
    world.aws.world().remove_object(BUCKET, KEY);
    world.aws.world().take_down(&["GetObject", "PutObject", "GetBucketPolicy"]);
    // Each call is tried several times before S3 counts as away.
    let serve = Serve::start_within(world.site.command(&["serve", "--listen", "127.0.0.1:0"]), START);
    serve.says("whether another machine serves `test` is unknown");
    asks(&world.site, "first");
    world.aws.world().take_down(&[]);
    serve.says("the lock in the bucket is held");
    assert_eq!(world.lock().expect("a lock")["process"], serve.id());
}

#[test]
fn the_lock_of_a_killed_server_is_taken_over_after_its_time() {
    let world = World::new();
    push(&world.site, "first");
    let serve = world.site.serve();
    asks(&world.site, "first");
    serve.kill();
    // It ran on another machine, for all that the record says: whether it lives can't be seen.
    world.change_lock(&[("host", json!("another machine"))]);
    let (good, _, stderr) = world.site.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!good && stderr.contains("has served `test` for"), "{stderr}");
    assert!(stderr.contains("try again after a minute: the lock is then taken over"), "{stderr}");

    world.change_lock(&[("expires", past())]);
    let began = Instant::now();
    let serve = Serve::start_within(world.site.command(&["serve", "--listen", "127.0.0.1:0"]), START);
    assert!(began.elapsed() >= WATCH, "its date alone was believed");
    assert_eq!(world.lock().expect("a lock")["process"], serve.id());
    // What the killed one had begun continues.
    let (good, _, stderr) = world.site.run(&["pipeline", "approve", "1", "--yes"]);
    assert!(good, "{stderr}");
    world.site.wait_for("succeeded", |run| run["id"] == 1 && run["state"] == "succeeded");
}

#[test]
fn a_server_that_was_suspended_begins_nothing_after_another_one_has_taken_over() {
    let world = World::new();
    push(&world.site, "first");
    let suspended = world.site.serve();
    asks(&world.site, "first");
    let (good, _, stderr) = world.site.run(&["pipeline", "approve", "1", "--yes"]);
    assert!(good, "{stderr}");
    suspended.signal("STOP");
    world.change_lock(&[("host", json!("another machine")), ("expires", past())]);
    let other = Serve::start_within(world.elsewhere(), START);
    let taken = world.lock().expect("a lock");
    assert_eq!(taken["process"], other.id());
    push(&world.site, "second");
    suspended.signal("CONT");
    let (good, said) = suspended.ended();
    let said = said.join("\n");
    assert!(!good && said.contains(&format!("(process {}) has served `test` for", other.id())), "{said}");
    let runs = |home: &str| {
        let folder = world.site.folder.path().join(home).join("serve/shop/environments/test");
        let journal = SqliteJournal::open(&journal_path(&folder)).expect("the journal");
        journal.runs(&Which::Newest(9)).expect("the runs")
    };
    let begun = runs("home").into_iter().filter(|run| run.state != RunState::Queued);
    assert_eq!(begun.map(|run| run.subject).collect::<Vec<_>>(), ["first"], "{said}");
    let limit = Instant::now() + Duration::from_secs(60);
    while !runs("elsewhere").iter().any(|run| run.subject == "second" && run.state == RunState::Running) {
        assert!(Instant::now() < limit, "{:#?}", runs("elsewhere"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(world.lock().expect("a lock")["id"], taken["id"]);
}
