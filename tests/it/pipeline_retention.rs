//! What runs leave behind, removed when it is old: with the engine, the registry and a journal that are real.

use std::collections::BTreeSet;
use std::process::Command;

use chrono::{DateTime, TimeDelta, Utc};
use fleetwright::driver::pipeline::retention::sweep;
use fleetwright::driver::pipeline::run::Parts;
use fleetwright::event::{EventKind, Events};
use fleetwright::model::keep::{Bounds, Keep, Kind};
use fleetwright::model::run::RunId;
use sha2::{Digest as _, Sha256};

use crate::pipeline_images::Bench;

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker can be run");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// The tags of all images whose names begin so.
fn tags(of: &str) -> BTreeSet<String> {
    let all = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    all.lines().filter(|line| line.starts_with(of)).map(str::to_owned).collect()
}

/// Volumes and a container of this test, removed with it.
struct Left {
    volumes: Vec<String>,
    container: Option<String>,
    image: Option<String>,
}

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(container) = &self.container {
            let _ = Command::new("docker").args(["rm", "-f", container]).output();
        }
        for volume in &self.volumes {
            let _ = Command::new("docker").args(["volume", "rm", volume]).output();
        }
        if let Some(image) = &self.image {
            let _ = Command::new("docker").args(["rmi", image]).output();
        }
    }
}

fn keep_a_file(parts: &Parts, run: RunId) {
    let folder = parts.artifacts.stage(run, 0).expect("staged");
    std::fs::write(folder.join("report.txt"), "ten bytes.").expect("written");
    parts.artifacts.keep(run, 0).expect("kept");
}

fn volume(left: &mut Left, name: &str, scope: &str) -> String {
    let name = format!("fleetwright-cache-{name}-{}", crate::support::git::unique());
    let labels = [format!("fleetwright.pipelines={scope}"), "fleetwright.cache=web /cache".to_owned()];
    docker(&["volume", "create", "--label", &labels[0], "--label", &labels[1], &name]);
    left.volumes.push(name.clone());
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_is_removed_and_nothing_that_is_needed_or_not_ours() {
    let mut bench = Bench::new(&[]);
    let (events, mut said) = Events::channel();
    let parts = Parts { events, ..bench.parts() };
    let dockerfile: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");
    // The first image is built only, the second one is what a service runs.
    let rollout = bench.config.steps.split_off(1);
    bench.origin.commit("first", &[dockerfile, ("a", crate::support::git::unique().as_bytes())]);
    let first = bench.run(&parts).await;
    bench.config.steps.extend(rollout);
    bench.origin.commit("second", &[dockerfile, ("a", crate::support::git::unique().as_bytes())]);
    let second = bench.run(&parts).await;
    assert_eq!((first.reason.as_deref(), second.reason.as_deref()), (None, None));
    let host = format!("{}/", bench.registry.host());
    let built = tags(&host);
    assert_eq!(built.len(), 2, "{built:?}");
    let of_first = first.steps[0].state.clone();
    let fleetwright::model::run::StepState::Succeeded {
        result: fleetwright::model::run::StepResult::Image(image),
    } = of_first
    else {
        panic!("{of_first:?}")
    };
    let of_first = format!("{host}{}:{}", image.image, image.key);
    let by_hand = format!("{host}{}:by-hand", image.image);
    let elsewhere = format!("retention.invalid/{}:{}", image.image, image.key);
    let of_second = built.iter().find(|tag| **tag != of_first).expect("the second image").clone();
    docker(&["tag", &of_first, &by_hand]);
    docker(&["tag", &of_first, &elsewhere]);

    let scope = Sha256::digest(bench.home.path().display().to_string().as_bytes());
    let scope: String = scope.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    let mut left = Left { volumes: Vec::new(), container: None, image: Some(elsewhere.clone()) };
    let ours = volume(&mut left, "ours", &scope);
    let used = volume(&mut left, "used", &scope);
    let foreign = volume(&mut left, "foreign", "another");
    left.container = Some(docker(&["create", "-v", &format!("{used}:/cache"), &of_second, "/none"]));
    keep_a_file(&parts, first.id);
    keep_a_file(&parts, second.id);
    keep_a_file(&parts, RunId(99));

    let volumes =
        || -> BTreeSet<String> { docker(&["volume", "ls", "-q"]).lines().map(str::to_owned).collect() };
    let mut lines = || -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(event) = said.try_recv() {
            if let EventKind::Note { text } = event.kind {
                lines.push(text);
            }
        }
        lines
    };
    lines();
    // Nothing is old yet, except what no run explains. The build cache is the whole engine's: it is left to the others.
    let keep = Keep {
        build_cache: Bounds { size: u64::MAX >> 1, ..Keep::default().build_cache },
        ..Keep::default()
    };
    let now: DateTime<Utc> = Utc::now();
    let after = |days: i64| now + TimeDelta::days(days);
    sweep(&parts, &keep, after(13), None).await;
    assert_eq!(lines(), ["removed the files of run 99 (10 B): the journal has no such run"]);

    // Images go after 14 days, unless a revision of a service has them.
    sweep(&parts, &keep, after(29), None).await;
    let said_now = lines();
    assert_eq!(said_now.len(), 1, "{said_now:?}");
    assert!(
        said_now[0].starts_with(&format!("removed the image `{of_first}` from the engine")),
        "{said_now:?}"
    );
    assert!(said_now[0].ends_with(": older than 14 d"), "{said_now:?}");
    let mut expected = built;
    expected.remove(&of_first);
    expected.insert(by_hand);
    assert_eq!(tags(&host), expected);
    assert_eq!(tags("retention.invalid/").len(), 1, "another registry's image is not ours");
    assert_eq!(parts.artifacts.runs().expect("listed"), [first.id, second.id]);

    // Files and caches go after 30 days; those of the last run that has succeeded stay.
    sweep(&parts, &keep, after(31), None).await;
    let said_now = lines();
    assert!(
        said_now.contains(&format!("removed the files of run {} (10 B): older than 30 d", first.id)),
        "{said_now:?}"
    );
    assert!(
        said_now.iter().any(|line| line.starts_with(&format!("removed the cache `{ours}`"))),
        "{said_now:?}"
    );
    assert_eq!(said_now.len(), 2, "{said_now:?}");
    let there = volumes();
    assert!(!there.contains(&ours) && there.contains(&used) && there.contains(&foreign));
    assert_eq!(parts.artifacts.runs().expect("listed"), [second.id]);

    // Runs go after 90 days.
    sweep(&parts, &keep, after(91), None).await;
    let said_now = lines();
    assert_eq!(said_now.len(), 1, "{said_now:?}");
    assert!(said_now[0].starts_with(&format!("removed run {} and its log", first.id)), "{said_now:?}");
    assert!(parts.journal.run(first.id).expect("read").is_none());
    assert!(parts.journal.run(second.id).expect("read").is_some());
    sweep(&parts, &keep, after(92), None).await;
    assert_eq!(lines(), Vec::<String>::new());
    let counted = Kind::ALL.map(|kind| parts.removed.of(kind).0);
    assert_eq!(counted, [1, 2, 1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_build_cache_is_pruned_to_a_size_and_never_without_one() {
    let bench = Bench::new(&[]);
    let parts = bench.parts();
    let text = "x".repeat(1 << 20) + &crate::support::git::unique();
    let dockerfile: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");
    bench.origin.commit("first", &[dockerfile, ("a", text.as_bytes())]);
    bench.run(&parts).await;
    let held = parts.storage.held().await.expect("measured").build_cache.expect("the engine has one");
    assert!(held.bytes >= 1 << 20, "{held:?}");
    let years = std::time::Duration::from_secs(10 * 365 * 86_400);
    let freed = parts.storage.prune_build_cache(years, 1 << 50).await.expect("pruned");
    assert_eq!(freed, 0, "all of it is young, and fits");
    let now = parts.storage.held().await.expect("measured").build_cache.expect("the engine has one");
    assert!(now.bytes >= held.bytes, "{now:?}");
}
