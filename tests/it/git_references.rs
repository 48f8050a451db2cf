//! What a repository over HTTP is asked without git's program is what git's program says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use fleetwright::adapter::git::Mirrors;
use fleetwright::model::git_ref::GitRef;
use fleetwright::port::git::{GitRemote as _, GitSource};

use crate::support::git_http::GitHttp;

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command
        .args(["-c", "user.name=test", "-c", "user.email=test@localhost"])
        .args(arguments)
        .current_dir(folder);
    let output = command.output().expect("git runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn references_over_http_are_those_that_git_lists() {
    let folder = tempfile::tempdir().expect("a folder");
    let work = folder.path().join("app");
    std::fs::create_dir(&work).expect("a folder");
    git(&work, &["init", "--quiet", "--initial-branch=main"]);
    for number in 0..3 {
        git(&work, &["commit", "--quiet", "--allow-empty", "-m", &format!("commit {number}")]);
        git(&work, &["branch", &format!("feature/{number}")]);
        git(&work, &["update-ref", &format!("refs/pull/{number}/head"), "HEAD"]);
        git(&work, &["update-ref", &format!("refs/pull/{number}/merge"), "HEAD"]);
        git(&work, &["tag", &format!("light-{number}")]);
        git(&work, &["tag", "-a", &format!("v{number}"), "-m", "a tag of its own"]);
    }
    git(&work, &["checkout", "--quiet", "--detach"]);
    let server = GitHttp::serve(folder.path());
    let url = server.url("127.0.0.1", "app/.git");
    let home = tempfile::tempdir().expect("a folder");
    let mirrors = Mirrors::new(home.path());
    let source =
        GitSource { name: "app".parse().expect("a name"), url: url.clone(), branch: "main".to_owned() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let ask =
        |requests: bool| runtime.block_on(mirrors.references(&source, requests)).expect("its references");

    let listed = git(folder.path(), &["ls-remote", "--", &url]);
    let mut wanted: BTreeMap<GitRef, String> = BTreeMap::new();
    for (id, name) in listed.lines().filter_map(|line| line.split_once('\t')) {
        if let Ok(name) = GitRef::try_from(name.trim_end_matches("^{}").to_owned()) {
            wanted.insert(name, id.to_owned());
        }
    }
    let by_git = server.advertisements();
    let found: BTreeMap<GitRef, String> =
        ask(true).into_iter().map(|(name, id)| (name, id.to_string())).collect();
    assert_eq!(found, wanted);
    assert_eq!(found.len(), 1 + 3 + 3 + 6, "main, branches, pull requests without merges, tags");
    assert!(ask(false).len() == 10 && ask(true) == ask(true));
    assert_eq!(server.advertisements() - by_git, 1, "git's program begins with one each time");
    let head = runtime.block_on(mirrors.head(&source)).expect("its head");
    assert_eq!(head.to_string(), git(&work, &["rev-parse", "main"]).trim());
    let gone = GitSource { branch: "gone".to_owned(), ..source.clone() };
    let error = runtime.block_on(mirrors.head(&gone)).expect_err("there is no such branch").to_string();
    assert!(error.contains("no branch `gone`"), "{error}");

    // What is not there is what git says of it.
    let missing = GitSource { url: server.url("127.0.0.1", "missing/.git"), ..source };
    let error = runtime.block_on(mirrors.references(&missing, false)).expect_err("there is none").to_string();
    assert!(error.contains("asking http://127.0.0.1") && error.contains("not found"), "{error}");
}
