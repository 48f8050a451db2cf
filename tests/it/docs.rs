//! What the documents tell people to type is what the program takes.

use clap::Parser as _;
use fleetwright::cli::Cli;

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
