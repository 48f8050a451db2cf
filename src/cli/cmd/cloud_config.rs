//! `fleetwright cloud-config`.

mod boot;
mod convert;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::explain::explain;
use crate::cli::failure::Failure;
use crate::cli::read::user_data;
use crate::cloud_config::{self, Target, Verdict};
use crate::source::{Diagnostic, Severity, SourceFile};
use crate::view;
use crate::view::diagnostics;

/// Checks, shows and compares machines' user data, offline
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Checks documents for the engines that will read them
    #[command(after_long_help = "\
The files are cloud-config as a machine gets it: nothing is rendered. What an engine refuses, or
loses without a word, is an error; what it takes, but was hardly meant, is a warning. Without
--target a document with a key `coreos` is checked for coreos-legacy and flatcar, any other for
cloud-init-22.4 and cloud-init-23.4.

Examples:
  fleetwright cloud-config check worker.yaml
  fleetwright cloud-config check --target flatcar --target ignition-3.3 worker.yaml
  fleetwright render workers --user-data | fleetwright cloud-config check -
  fleetwright cloud-config check --explain hyphenated-key

Exit status: 0 no errors, 2 errors.")]
    Check {
        /// The documents; `-` is standard input
        #[arg(value_name = "FILE", required_unless_present = "explain")]
        files: Vec<PathBuf>,
        /// The engine: coreos-legacy, flatcar, cloud-init-22.4, cloud-init-23.4 or ignition-3.3
        #[arg(long, value_name = "TARGET", value_parser = target)]
        target: Vec<Target>,
        /// Take warnings for errors
        #[arg(long)]
        strict: bool,
        /// Say what the code of a finding means, and check nothing
        #[arg(long, value_name = "CODE", conflicts_with = "files")]
        explain: Option<String>,
    },
    /// Shows what a machine would have: files, units, users, packages, commands
    Show {
        /// The document; `-` is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Compares two documents by what they do, and says what reaches machines that run
    #[command(after_long_help = "\
Comments, the order of keys, quotes and encodings are no difference. Exit status: 0 the same,
3 different.")]
    Diff {
        /// The document that machines have
        #[arg(value_name = "OLD")]
        old: PathBuf,
        /// The document that they would get; `-` is standard input
        #[arg(value_name = "NEW")]
        new: PathBuf,
    },
    Convert(convert::Args),
    Boot(boot::Args),
}

fn target(name: &str) -> Result<Target, String> {
    Target::parse(name).map_err(|near| match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {}", Target::ALL.map(Target::name).join(", ")),
    })
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Convert(args) => convert::run(context, &args),
        Action::Boot(args) => boot::run(context, &args).await,
        Action::Check { explain: Some(code), .. } => explain(context, &code),
        Action::Check { files, target, strict, explain: None } => check(context, &files, &target, strict),
        Action::Show { file } => {
            let effects = cloud_config::effects(read_or_fail(&file)?.text());
            if context.json() {
                view::json::document(&view::cloud_config::effects_json(&effects));
            } else {
                print!("{}", view::cloud_config::effects(&effects));
            }
            Ok(Done::Ok)
        }
        Action::Diff { old, new } => {
            let old = cloud_config::effects(read_or_fail(&old)?.text());
            let new = cloud_config::effects(read_or_fail(&new)?.text());
            let changes = cloud_config::difference(&old, &new);
            if context.json() {
                view::json::document(&view::cloud_config::changes_json(&changes));
            } else {
                print!("{}", view::cloud_config::changes(&changes));
            }
            Ok(if changes.is_empty() { Done::Ok } else { Done::Changes })
        }
    }
}

fn check(context: &Context, files: &[PathBuf], targets: &[Target], strict: bool) -> Result<Done, Failure> {
    let start = Instant::now();
    let mut problems = Vec::new();
    let mut found = Vec::new();
    let mut documents = Vec::new();
    for path in files {
        let name = path.to_string_lossy();
        let (file, bytes) = match user_data(path) {
            Ok(read) => read,
            Err(why) => {
                let diagnostic = Diagnostic::error("unreadable-file", format!("{name} can't be read: {why}"));
                problems.push(diagnostic);
                found.push(json!([]));
                continue;
            }
        };
        let mut verdict = cloud_config::check_packed(&file, bytes, targets);
        if strict {
            verdict.findings.iter_mut().for_each(|finding| finding.severity = Severity::Error);
        }
        documents.push(document(&file, bytes, &verdict));
        for finding in &verdict.findings {
            problems.push(finding.diagnostic(&verdict.shown));
            found.push(finding.targets.iter().map(|target| target.name()).collect());
        }
    }
    if context.json() {
        let mut json = diagnostics::json(&problems, files.len());
        for (finding, targets) in json["findings"].as_array_mut().into_iter().flatten().zip(found) {
            finding["target"] = targets;
        }
        json["documents"] = documents.into();
        view::json::document(&json);
    } else {
        diagnostics::print_check(&problems, files.len(), start.elapsed(), context.colour_err);
    }
    if problems.iter().any(Diagnostic::is_error) { Err(Failure::Refused) } else { Ok(Done::Ok) }
}

/// The verdict of each target on a document.
fn document(file: &SourceFile, bytes: usize, verdict: &Verdict) -> Value {
    let verdicts = verdict.targets.iter().map(|target| {
        let word = if verdict.refused_by(*target) { "error" } else { "ok" };
        (target.name().to_owned(), Value::from(word))
    });
    json!({
        "file": file.name(),
        "bytes": bytes,
        "verdicts": verdicts.collect::<serde_json::Map<_, _>>(),
    })
}

fn read_or_fail(path: &Path) -> Result<Arc<SourceFile>, Failure> {
    user_data(path).map(|(file, _)| file).map_err(|why| {
        Failure::usage(format!("{} can't be read: {why}", path.display()), "give a file of user data")
    })
}
