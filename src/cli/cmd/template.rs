//! `fleetwright template`.

use std::path::PathBuf;
use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::explain::explain;
use crate::cli::failure::Failure;
use crate::cli::read::read;
use crate::repo::check;
use crate::source::Diagnostic;
use crate::view;
use crate::view::diagnostics;

/// Checks CloudFormation templates of any tool, offline
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Checks templates against the schemas of all resource types
    #[command(after_long_help = "\
The files are CloudFormation as it is, in YAML or JSON, from any tool: nothing is rendered, no
repository is needed, and no network. What CloudFormation would refuse is an error; what it would
take, but was hardly meant, is a warning. The templates of a repository are rendered and checked
by `fleetwright validate`.

Examples:
  fleetwright template check template.yaml
  fleetwright template check --region eu-west-1 *.json
  cdk synth | fleetwright template check -
  fleetwright template check -o json template.yaml
  fleetwright template check --explain unknown-property

Exit status: 0 no errors, 2 errors.")]
    Check {
        /// The templates; `-` is standard input
        #[arg(value_name = "FILE", required_unless_present = "explain")]
        files: Vec<PathBuf>,
        /// Where they will be used: warns of resource types that the region is not known to have
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Say what the code of a finding means, and check nothing
        #[arg(long, value_name = "CODE", conflicts_with = "files")]
        explain: Option<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let Action::Check { files, region, explain: code } = args.action;
    if let Some(code) = code {
        return explain(context, &code);
    }
    let start = Instant::now();
    let mut problems = Vec::new();
    for path in &files {
        match read(path) {
            Ok(file) => problems.extend(check::file(&file, region.as_deref())),
            Err(why) => {
                let message = format!("{} can't be read: {why}", path.display());
                let mut diagnostic = Diagnostic::error("unreadable-file", message);
                if path.is_dir() {
                    diagnostic =
                        diagnostic.help(format!("give its files, such as `{}/*.yaml`", path.display()));
                }
                problems.push(diagnostic);
            }
        }
    }
    if context.json() {
        view::json::document(&diagnostics::json(&problems, files.len()));
    } else {
        diagnostics::print_check(&problems, files.len(), start.elapsed(), context.colour_err);
    }
    if problems.iter().any(Diagnostic::is_error) { Err(Failure::Refused) } else { Ok(Done::Ok) }
}
