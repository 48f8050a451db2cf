//! `serve` killed at random moments of runs: every push has one run, which ends well, and nothing happens twice.
//!
//! FLEETWRIGHT_KILLS says how often (1,000 is the full form, about an hour). The moments come from a fixed seed.

use std::collections::BTreeMap;
use std::time::Duration;

use fleetwright::adapter::journal::{SqliteJournal, journal_path};
use fleetwright::model::run::{Run, RunState};
use fleetwright::port::journal::{Journal as _, Which};

use crate::pipeline_serve::{Serve, Site, busybox};
use crate::pipeline_steps::{DOCKERFILE, lines, nothing_left, site};
use crate::stacks_killed::Moments;

/// Few enough for every run of the tests.
const KILLS: u64 = 12;
/// A run takes about as long; a kill while nothing runs is one of the moments too.
const LONGEST: u64 = 4_000;
/// How many lines the command prints.
const LINES: usize = 60;

/// Two commands at the same time. Each notes in the workspace that it began, and says at its end how often that was.
const STEPS: &str = "
    - run:
        name: slow
        image: demo/web
        command: |
          echo started >> slow-starts
          i=0
          while [ $i -lt 60 ]; do i=$((i+1)); echo \"line $i\"; [ $((i % 6)) != 0 ] || sleep 0.1; done
          printf 'starts: '; wc -l < slow-starts
    - run:
        name: beside
        image: demo/web
        needs: [demo/web]
        command: echo started >> beside-starts; sleep 0.5; test $(wc -l < beside-starts) = 1
";

/// A commit whose image is another one than that of every commit before.
fn push(site: &Site, number: usize) -> String {
    let text = format!("push {number}\n");
    let dockerfile = format!("{DOCKERFILE}COPY number /number\n");
    let files =
        [("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox()), ("number", text.as_bytes())];
    site.origin.commit(text.trim(), &files)
}

fn runs(site: &Site) -> Vec<Run> {
    let folder = site.folder.path().join("home/serve/shop/environments/test");
    let journal = SqliteJournal::open(&journal_path(&folder)).expect("the journal");
    let mut runs = journal.runs(&Which::Newest(10_000)).expect("the runs");
    runs.reverse();
    runs
}

/// Has runs in quarantine resumed, as whoever finds them does; how many.
async fn resume(site: &Site, serve: &Serve) -> usize {
    let known = runs(site);
    let waiting: Vec<&Run> = known.iter().filter(|run| run.state == RunState::Quarantined).collect();
    for run in &waiting {
        let url = format!("{}v1/runs/{}/retry", serve.page, run.id);
        let answer = site.client().post(&url).json(&serde_json::json!({})).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{:?}", answer.text().await);
    }
    waiting.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_push_has_one_run_and_nothing_happens_twice() {
    let kills = std::env::var("FLEETWRIGHT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let site = site(STEPS);
    let mut moments = Moments(20_261_201);
    let mut pushed = vec![push(&site, 1)];
    let mut resumed = 0;
    for kill in 0..kills {
        let serve = site.serve();
        resumed += resume(&site, &serve).await;
        let after = Duration::from_millis(moments.next(LONGEST));
        // The moment is the point, so no condition is awaited.
        tokio::time::sleep(after).await;
        serve.kill();
        let known = runs(&site);
        if known.len() == pushed.len() && known.iter().all(|run| run.state == RunState::Succeeded) {
            pushed.push(push(&site, pushed.len() + 1));
        }
        let last = known.last().map(|run| (run.id, run.state));
        println!("kill {kill} after {after:?}: {} pushed, {last:?}", pushed.len());
    }
    let serve = site.serve();
    resumed += resume(&site, &serve).await;
    site.wait_for("the last push has run", |run| {
        run["state"] == "succeeded" && run["commit"].as_str() == pushed.last().map(String::as_str)
    });

    let known = runs(&site);
    let commits: Vec<String> = known.iter().map(|run| run.commit.to_string()).collect();
    assert_eq!(commits, pushed, "each push has one run");
    let mut expected: Vec<String> = (1..=LINES).map(|number| format!("line {number}")).collect();
    expected.push("starts: 1".to_owned());
    for run in &known {
        assert_eq!(run.state, RunState::Succeeded, "{run:#?}");
        assert_eq!(lines(&site, &serve.page, run.id.0).await, expected, "run {}", run.id);
    }
    let mut deployed = BTreeMap::new();
    for deployment in site.cluster.deployments() {
        *deployed.entry(deployment.origin.commit).or_insert(0) += 1;
    }
    assert_eq!(deployed, pushed.iter().map(|commit| (commit.clone(), 1)).collect());
    nothing_left(&site).await;
    println!("{kills} kills, {} pushes, {resumed} runs resumed from quarantine", pushed.len());
}
