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

/// The first indented block of a document.
fn first_block(text: &str) -> String {
    let block = text.lines().skip_while(|line| !line.starts_with("    "));
    let block = block.take_while(|line| line.starts_with("    ") || line.is_empty());
    block.map(|line| format!("{}\n", line.strip_prefix("    ").unwrap_or(line))).collect()
}

#[test]
fn the_service_in_the_documents_is_right() {
    let text = std::fs::read_to_string(root().join("docs/services.md")).expect("readable");
    let folder = crate::validate::repository("base");
    std::fs::write(folder.path().join("services/web.yaml"), first_block(&text)).expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert!(run.status == Some(0) && !run.to_string().contains("[bad-"), "{run}");
}

#[test]
fn every_key_of_a_service_is_described() {
    let folder = crate::validate::repository("base");
    let file = folder.path().join("services/web.yaml");
    std::fs::write(&file, "web: {image: team/web, zzzzzzzzzzzz: 1}\n").expect("written");
    let run = fleetwright(folder.path(), &["validate"]);
    let line = run.stderr.lines().find(|line| line.contains("the keys of a service are")).expect("the keys");
    let known: BTreeSet<&str> = line.split('`').skip(1).step_by(2).collect();
    let text = std::fs::read_to_string(root().join("docs/services.md")).expect("readable");
    let keys = text.split_once("## Keys").map_or("", |(_, rest)| rest);
    let rows = keys.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let described: BTreeSet<&str> = rows
        .flat_map(|(first, _)| first.split('`').step_by(2))
        .map(|key| key.split('.').next().unwrap_or(key))
        .filter(|key| !key.is_empty())
        .collect();
    assert_eq!(described, known);
}
