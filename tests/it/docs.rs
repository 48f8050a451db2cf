//! What the documents tell people to type is what the program takes.

use std::collections::BTreeSet;

use clap::Parser as _;
use fleetwright::cli::Cli;

use crate::support::fleetwright;
use crate::support::lab::root;

/// The `fleetwright ...` commands in a document: whole lines of indented or fenced blocks, and
/// inline code of more than one word.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut fenced = false;
    let blocks = text.lines().filter(move |line| {
        fenced ^= line.starts_with("```");
        fenced || line.starts_with("    ")
    });
    let inline = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    blocks
        .chain(inline)
        .filter_map(|line| line.trim().trim_start_matches("$ ").strip_prefix("fleetwright "))
        // A comment, or what a table says beside the command.
        .map(|line| line.split(" #").next().unwrap_or(line).split("  ").next().unwrap_or(line))
        .map(|line| line.split(" && ").next().unwrap_or(line).split(" | ").next().unwrap_or(line))
        // `[-w]` and `...` are how usage is written, not what is typed.
        .filter(|line| !line.contains(['[', '<', '…', '|', '(']) && !line.contains("..."))
        .map(|line| {
            let words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned());
            std::iter::once("fleetwright".to_owned()).chain(words).collect()
        })
        .collect()
}

#[test]
fn every_command_in_the_documents_is_taken() {
    let mut files = vec![root().join("README.md")];
    files.extend(std::fs::read_dir(root().join("docs")).expect("docs").flatten().map(|entry| entry.path()));
    let mut seen = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        for command in commands(&std::fs::read_to_string(file).expect("readable")) {
            seen += 1;
            // Names in capitals stand for the reader's own.
            let typed: Vec<_> = command.iter().map(|word| word.to_lowercase()).collect();
            if let Err(error) = Cli::try_parse_from(&typed) {
                let asks_for_more = matches!(
                    error.kind(),
                    clap::error::ErrorKind::MissingRequiredArgument
                        | clap::error::ErrorKind::MissingSubcommand
                        | clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
                        | clap::error::ErrorKind::DisplayHelp
                        | clap::error::ErrorKind::DisplayVersion
                );
                assert!(asks_for_more, "{}: `{}`\n{error}", file.display(), command.join(" "));
            }
        }
    }
    assert!(seen >= 10, "only {seen} commands were found");
}

/// The indented blocks of a document.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(code) => blocks.last_mut().expect("there is one").push_str(&format!("{code}\n")),
            None if line.is_empty() => {}
            None => blocks.push(String::new()),
        }
    }
    blocks.retain(|block| !block.is_empty());
    blocks
}

#[test]
fn the_services_in_the_documents_are_right() {
    let text = std::fs::read_to_string(root().join("docs/services.md")).expect("readable");
    let services: Vec<String> =
        blocks(&text).into_iter().filter(|block| block.contains("\n  image: ")).collect();
    assert!(services.len() > 3, "{services:?}");
    for block in services {
        let folder = crate::validate::repository("base");
        let files = folder.path().join("templates/files");
        std::fs::create_dir_all(&files).expect("created");
        for name in ["app.conf", "tls.conf"] {
            std::fs::write(files.join(name), "level <{ env.LOG_LEVEL | default(value='info') }>\n")
                .expect("written");
        }
        let project = folder.path().join("fleetwright.yaml");
        let allowed =
            format!("{}host_paths: [/var/log/app]\n", std::fs::read_to_string(&project).expect("readable"));
        std::fs::write(&project, allowed).expect("written");
        std::fs::write(folder.path().join("services/more.yaml"), block.replacen("web:", "shop:", 1))
            .expect("written");
        let run = fleetwright(folder.path(), &["validate"]);
        assert!(run.status == Some(0) && !run.to_string().contains("[bad-"), "{block}\n{run}");
    }
}

/// The keys that a message lists.
fn known(stderr: &str, message: &str) -> BTreeSet<String> {
    let line = stderr.lines().find(|line| line.contains(message)).expect("the keys");
    line.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The keys in the table of a document's section `Keys`.
fn described(document: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(document)).expect("readable");
    let keys = text.split_once("## Keys").map_or("", |(_, rest)| rest);
    let keys = keys.split("\n## ").next().unwrap_or_default();
    let rows = keys.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    rows.flat_map(|(first, _)| first.split('`').step_by(2))
        .map(|key| key.split('.').next().unwrap_or(key).to_owned())
        .filter(|key| !key.is_empty())
        .collect()
}

#[test]
fn every_key_of_a_service_is_described() {
    let folder = crate::validate::repository("base");
    let file = folder.path().join("services/web.yaml");
    std::fs::write(&file, "web: {image: team/web, zzzzzzzzzzzz: 1}\n").expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(described("docs/services.md"), known(&run.stderr, "the keys of a service are"));
}

#[test]
fn the_job_in_the_documents_is_right() {
    let text = std::fs::read_to_string(root().join("docs/jobs.md")).expect("readable");
    let folder = crate::validate::repository("base");
    std::fs::create_dir(folder.path().join("jobs")).expect("a folder");
    std::fs::write(folder.path().join("jobs/report.yaml"), &blocks(&text)[0]).expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert!(run.status == Some(0) && !run.to_string().contains("[bad-"), "{run}");
}

#[test]
fn every_key_of_a_job_is_described() {
    let folder = crate::validate::repository("base");
    std::fs::create_dir(folder.path().join("jobs")).expect("a folder");
    std::fs::write(folder.path().join("jobs/report.yaml"), "report: {image: a, zzzzzzzzzzzz: 1}\n")
        .expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(described("docs/jobs.md"), known(&run.stderr, "the keys of a job are"));
}

/// The comparison names the test behind each claim about us.
#[test]
fn the_tests_that_the_comparison_names_exist() {
    let text = std::fs::read_to_string(root().join("docs/compared.md")).expect("readable");
    let own = text.lines().filter(|line| line.starts_with("| ")).filter_map(|line| line.split(" | ").nth(1));
    let named: Vec<&str> = own
        .filter_map(|cell| {
            Some(cell.rsplit_once('(')?.1.trim_end_matches([')', ' ']).trim_start_matches("test "))
        })
        .flat_map(|names| names.split(", "))
        .filter_map(|name| name.strip_prefix('`')?.strip_suffix('`'))
        .collect();
    assert!(named.len() >= 12, "{named:?}");
    for name in named {
        let is_there = |path: String| root().join(path).exists();
        assert!(is_there(format!("tests/it/{name}.rs")) || is_there(format!("src/{name}.rs")), "`{name}`");
    }
}
