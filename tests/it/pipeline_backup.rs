//! `serve backup` while runs are under way, and a server that starts from what was restored.

use std::os::unix::fs::PermissionsExt as _;

use fleetwright::adapter::journal::SqliteJournal;
use fleetwright::model::run::RunId;
use fleetwright::port::journal::{Journal as _, Which};

use crate::pipeline_serve::{Serve, Site, busybox};
use crate::support::fake_aws::{Dialect, FakeAws};

const BUCKET: &str = "fleetwright-shop-123456789012-eu-west-1";

fn with_aws(site: &mut Site) -> FakeAws {
    let aws = FakeAws::start(Dialect::Details);
    let credentials = site.registry.credentials();
    aws.world().parameters.0.insert("/fleetwright/registry".to_owned(), credentials);
    for (name, value) in aws.environment() {
        site.set(name, value);
    }
    aws
}

fn slow(seconds: u32) -> String {
    let unique = crate::support::git::unique();
    format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nENV UNIQUE={unique}\nRUN [\"/bin/busybox\", \"sleep\", \"{seconds}\"]\n"
    )
}

#[test]
fn a_server_starts_from_a_backup_that_was_made_while_a_run_was_under_way() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut site = Site::new();
    let _aws = with_aws(&mut site);
    let fast: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");
    let serve = site.serve();
    site.origin.commit("first", &[fast, ("a", b"1")]);
    site.wait_for("the first commit", |run| run["id"] == 1 && run["state"] == "succeeded");
    // Files of a run that has ended.
    let home = site.folder.path().join("home/serve/shop/environments/test");
    std::fs::create_dir_all(home.join("artifacts/1/0")).expect("a folder");
    std::fs::write(home.join("artifacts/1/0/report.txt"), "kept").expect("written");

    let dockerfile = slow(4);
    site.origin.commit("slow", &[("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox())]);
    site.wait_for("building", |run| run["id"] == 2 && run["steps"][0]["state"]["is"] == "building");
    let (good, stdout, stderr) = site.run(&["serve", "backup", "-o", "json"]);
    assert!(good, "{stderr}");
    let made: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&made["runs_with_files"], &made["kept"]), (&1.into(), &1.into()), "{made}");
    assert_eq!(made["place"], format!("s3://{BUCKET}/backups/serve/test"));
    let at = made["at"].as_str().expect("a time").to_owned();
    // The second one sends the files not again.
    let (good, stdout, stderr) = site.run(&["serve", "backup", "-o", "json"]);
    assert!(good, "{stderr}");
    let again: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert!(again["sent_bytes"].as_u64() < made["sent_bytes"].as_u64(), "{again} {made}");

    // What happens after the backup is lost with the machine.
    site.wait_for("the slow commit", |run| run["id"] == 2 && run["state"] == "succeeded");
    site.origin.commit("after the backup", &[fast, ("a", b"3")]);
    site.wait_for("the commit after it", |run| run["id"] == 3 && run["state"] == "succeeded");
    let (good, _, stderr) = site.run(&["serve", "restore"]);
    assert!(
        !good && stderr.contains("there is a journal at") && stderr.contains("nothing was changed"),
        "{stderr}"
    );
    serve.kill();
    std::fs::rename(site.folder.path().join("home"), site.folder.path().join("lost")).expect("moved");

    let (good, _, stderr) = site.run(&["serve", "restore", "--at", "2020-01-01T00:00:00Z"]);
    assert!(!good && stderr.contains("there is no backup of that time; there are those of 20"), "{stderr}");
    let from = format!("s3://{BUCKET}/backups/serve/test");
    let (good, _, stderr) = site.run(&["serve", "restore", "--from", &from, "--at", &at]);
    assert!(good, "{stderr}");
    assert!(stderr.contains("and the files of 1 run as they were at"), "{stderr}");
    let journal = home.join("journal.sqlite");
    assert_eq!(std::fs::metadata(&journal).expect("a journal").permissions().mode() & 0o077, 0);
    assert_eq!(std::fs::read_to_string(home.join("artifacts/1/0/report.txt")).expect("read"), "kept");
    {
        let journal = SqliteJournal::open(&journal).expect("a journal");
        let runs = journal.runs(&Which::Newest(9)).expect("read");
        assert_eq!(runs.iter().map(|run| run.id).collect::<Vec<_>>(), [RunId(2), RunId(1)]);
        assert_eq!(runs[0].state.word(), "running");
    }

    // The run that was under way is continued, the lost one is found again, and no commit is run twice.
    let serve: Serve = site.serve();
    site.wait_for("the commit after the backup", |run| {
        run["id"].as_i64().is_some_and(|id| id > 1000) && run["state"] == "succeeded"
    });
    // Whatever the checks before it would start again stands before this one in the queue.
    site.origin.commit("last", &[fast, ("a", b"4")]);
    site.wait_for("the last commit", |run| run["subject"] == "last" && run["state"] == "succeeded");
    let runs = site.runs();
    assert_eq!(runs.len(), 4, "{runs:#?}");
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    let commits: std::collections::BTreeSet<&str> =
        runs.iter().map(|run| run["commit"].as_str().expect("a commit")).collect();
    assert_eq!(commits.len(), 4);
    drop(serve);
}

#[test]
fn a_backup_that_is_not_there_or_not_whole_restores_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let mut site = Site::new();
    let aws = with_aws(&mut site);
    let (good, _, stderr) = site.run(&["serve", "backup"]);
    assert!(!good && stderr.contains("there is no journal at"), "{stderr}");
    let (good, _, stderr) = site.run(&["serve", "restore"]);
    assert!(
        !good && stderr.contains(&format!("there are no backups at s3://{BUCKET}/backups/serve/test")),
        "{stderr}"
    );
    let (good, _, stderr) = site.run(&["serve", "restore", "--from", "/tmp/backups"]);
    assert!(!good && stderr.contains("is not the address of backups"), "{stderr}");
    let home = site.folder.path().join("home/serve/shop/environments/test");
    std::fs::create_dir_all(&home).expect("a folder");
    drop(SqliteJournal::open(&home.join("journal.sqlite")).expect("a journal"));
    let (good, _, stderr) = site.run(&["serve", "backup"]);
    assert!(good, "{stderr}");
    std::fs::remove_file(home.join("journal.sqlite")).expect("removed");
    // Somebody has exchanged what is there: the checksum in the list is another one.
    let key = "backups/serve/test/list.json";
    let list = aws.world().object(BUCKET, key).expect("the list");
    let list = String::from_utf8(list).expect("text");
    let at = list.find("sha256").expect("a checksum") + 10;
    let mut spoilt = list.clone();
    spoilt.replace_range(at..at + 1, if &list[at..=at] == "0" { "1" } else { "0" });
    aws.world().set_object(BUCKET, key, spoilt.into_bytes());
    let (good, _, stderr) = site.run(&["serve", "restore"]);
    assert!(!good && stderr.contains("is not what was backed up"), "{stderr}");
    assert!(!home.join("journal.sqlite").exists());
}
