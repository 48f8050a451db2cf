//! `init`, and the scripts and help texts that come with the program.

use crate::support::fleetwright;

#[test]
fn a_new_repository_is_valid_and_in_git() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = fleetwright(folder.path(), &["init", "book-shop"]);
    insta::assert_snapshot!(made);
    let root = folder.path().join("book-shop");
    let checked = fleetwright(&root, &["validate"]);
    assert_eq!((checked.status, checked.stderr.starts_with("0 errors in ")), (Some(0), true), "{checked}");
    let rendered = fleetwright(&root, &["render", "-o", "json"]);
    assert!(rendered.stdout.contains("book-shop-local-workers"), "{rendered}");
    assert!(!rendered.stdout.contains("demo"), "nothing is left of the starters' own name: {rendered}");
    let git = git2::Repository::open(&root).expect("it is a git repository");
    assert_eq!(
        git.find_reference("HEAD").expect("HEAD").symbolic_target().ok().flatten(),
        Some("refs/heads/main")
    );
}

#[test]
fn a_machine_for_the_pipeline_server_can_be_added() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let made = fleetwright(folder.path(), &["init", "book-shop", "--with", "ci"]);
    assert_eq!(made.status, Some(0), "{made}");
    let root = folder.path().join("book-shop");
    let checked = fleetwright(&root, &["validate"]);
    assert_eq!((checked.status, checked.stderr.starts_with("0 errors in ")), (Some(0), true), "{checked}");
    assert!(!checked.stderr.contains("warning"), "{checked}");
    let rendered = fleetwright(&root, &["render", "ci"]);
    assert_eq!(rendered.status, Some(0), "{rendered}");
    for wanted in ["book-shop-local-ci", "ec2:AttachVolume", "backups/serve/local/*"] {
        assert!(rendered.stdout.contains(wanted), "{wanted}: {rendered}");
    }
    let stack = std::fs::read_to_string(root.join("stacks/ci.yaml")).expect("it was written");
    assert!(stack.contains("git@git.example:book-shop/infra.git"), "{stack}");
    let other = fleetwright(folder.path(), &["init", "other", "--with", "cd"]);
    assert_eq!(other.status, Some(2), "{other}");
    assert!(!folder.path().join("other").exists());
}

#[test]
fn the_name_is_given_or_the_folder_s() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    insta::assert_snapshot!(fleetwright(folder.path(), &["init", "Book_Shop"]), @r"
    error: `Book_Shop` is not a project name: use 1 to 40 of a-z, 0-9 and `-`, starting with a letter
     next: give the project's name with `--name NAME`
    status 2
    ");
    assert_eq!(fleetwright(folder.path(), &["init", "Book_Shop", "--name", "books"]).status, Some(0));
    let project =
        std::fs::read_to_string(folder.path().join("Book_Shop/fleetwright.yaml")).expect("it was written");
    assert!(project.contains("\nproject: books\n"), "{project}");
}

#[test]
fn a_folder_that_is_not_empty_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("notes.txt"), "mine").expect("it can be written");
    insta::assert_snapshot!(fleetwright(folder.path(), &["init", ".", "--name", "shop"]), @r"
    error: . is not empty, nothing was written
     next: name a new folder, or an empty one
    status 2
    ");
    assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 1);
}

#[test]
fn every_shell_gets_a_script() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for shell in ["bash", "zsh", "fish"] {
        let run = fleetwright(folder.path(), &["completions", shell]);
        assert!(run.status == Some(0) && run.stdout.contains("fleetwright"), "{shell}");
    }
}

#[test]
fn repository_commands_have_examples_in_their_help() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for command in ["init", "validate", "render", "completions"] {
        let run = fleetwright(folder.path(), &[command, "--help"]);
        assert!(run.stdout.contains("Examples:\n"), "{command}");
    }
}

#[test]
fn an_unknown_command_is_not_answered_with_one_that_destroys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (word, next) in [
        ("release", Some("fleetwright apply")),
        ("redeploy", Some("fleetwright roll GROUP")),
        ("delete", None),
        ("reload", None),
    ] {
        let run = fleetwright(folder.path(), &[word]);
        assert_eq!(run.status, Some(2), "{run}");
        for destructive in ["destroy", "remove", "drain"] {
            assert!(!run.stderr.contains(destructive), "`{word}` is answered with `{destructive}`:\n{run}");
        }
        assert!(next.is_none_or(|next| run.stderr.contains(next)), "{run}");
    }
    // What is surely meant is still suggested.
    let near = fleetwright(folder.path(), &["destory"]);
    assert!(near.stderr.contains("'destroy'"), "{near}");
}
