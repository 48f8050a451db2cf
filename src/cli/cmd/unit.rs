//! `fleetwright unit`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::adapter::systemd;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::explain::explain;
use crate::cli::failure::Failure;
use crate::cli::read::plain;
use crate::source::{Diagnostic, Severity, SourceFile, Span};
use crate::unit::{self, Unit};
use crate::view;
use crate::view::diagnostics;

/// Checks systemd's unit files, offline
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Checks unit files and drop-ins against what systemd 252 and later know
    #[command(after_long_help = "\
The files are units as they are installed, named as they will be: `web.service`, and drop-ins in
their folder, `web.service.d/proxy.conf`. Those of one call are a set: each is checked with its
drop-ins, and what one names should be among the others or on most machines. No systemd is needed,
and no repository. What systemd would ignore, refuse or misread is an error; what it takes, but
was hardly meant, is a warning.

Examples:
  fleetwright unit check web.service
  fleetwright unit check units/*.service units/*.timer units/*.service.d/*.conf
  fleetwright unit check --strict web.service      warnings count as errors
  fleetwright unit check --verify web.service      asks this machine's systemd-analyze as well
  fleetwright unit check -o json web.service
  fleetwright unit check --explain misplaced-key

Exit status: 0 no errors, 2 errors.")]
    Check {
        /// Unit files and drop-ins
        #[arg(value_name = "FILE", required_unless_present = "explain")]
        files: Vec<PathBuf>,
        /// Count warnings as errors
        #[arg(long)]
        strict: bool,
        /// Run `systemd-analyze verify` of this machine on the units as well
        #[arg(long)]
        verify: bool,
        /// Say what the code of a finding means, and check nothing
        #[arg(long, value_name = "CODE", conflicts_with = "files")]
        explain: Option<String>,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let Action::Check { files, strict, verify, explain: code } = args.action;
    if let Some(code) = code {
        return explain(context, &code);
    }
    let start = Instant::now();
    let mut problems = Vec::new();
    let mut units = Vec::new();
    for path in &files {
        match read(path) {
            Ok(unit) => units.push((path, unit)),
            Err(problem) => problems.push(*problem),
        }
    }
    let paths: Vec<_> = units.iter().map(|(path, _)| (*path).clone()).collect();
    let units: Vec<Unit> = units.into_iter().map(|(_, unit)| unit).collect();
    problems.extend(unit::check_all(&units, &|_| false));
    if verify {
        problems.extend(verified(&paths, &units).await?);
    }
    if context.json() {
        view::json::document(&diagnostics::json(&problems, files.len()));
    } else {
        diagnostics::print_check(&problems, files.len(), start.elapsed(), context.colour_err);
    }
    let refused = problems.iter().any(|problem| strict || problem.is_error());
    if refused { Err(Failure::Refused) } else { Ok(Done::Ok) }
}

fn read(path: &Path) -> Result<Unit, Box<Diagnostic>> {
    let problem = |why: String| {
        let message = format!("{} can't be read: {why}", path.display());
        Diagnostic::error("unreadable-file", message)
    };
    let text = plain(path).map_err(|error| {
        let problem = problem(error.to_string());
        let is_folder = path.is_dir();
        let help = is_folder.then(|| format!("give its files, such as `{}/*.service`", path.display()));
        Box::new(Diagnostic { help: help.into_iter().collect(), ..problem })
    })?;
    Ok(Unit::read(&SourceFile::new(path.to_string_lossy(), text)))
}

/// What this machine's systemd says. `paths` and `units` go together.
async fn verified(paths: &[PathBuf], units: &[Unit]) -> Result<Vec<Diagnostic>, Failure> {
    let mut asked = Vec::new();
    for (path, unit) in paths.iter().zip(units) {
        let ours =
            unit.name().is_some() && !unit.is_drop_in() && unit.kind().is_some_and(|kind| !kind.is_network());
        if ours && let Ok(path) = path.canonicalize() {
            asked.push((path, unit));
        }
    }
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<_> = asked.iter().map(|(path, _)| path.clone()).collect();
    let messages = systemd::verify(&files).await.map_err(|error| {
        Failure::failed(error.to_string(), "run it where systemd is installed, or leave out `--verify`")
    })?;
    let mut problems = Vec::new();
    for message in messages {
        let of = asked.iter().find(|(path, unit)| match (&message.file, &message.unit) {
            (Some(file), _) => file == path,
            (None, Some(name)) => unit.name().is_some_and(|own| own.as_str() == name),
            (None, None) => false,
        });
        // What it says of the machine's own units is not about these files.
        if let Some((_, unit)) = of {
            problems.push(finding(unit.file().source(), &message));
        }
    }
    Ok(problems)
}

fn finding(file: &Arc<SourceFile>, message: &systemd::Message) -> Diagnostic {
    // Anything else may be true of this machine only: a program that is not installed, say.
    let sure = message.text.to_lowercase();
    let sure = sure.contains("ignoring") || sure.contains("refusing");
    let mut problem = Diagnostic::error("systemd-verify", format!("systemd-analyze: {}", message.text));
    problem.severity = if sure { Severity::Error } else { Severity::Warning };
    let span = message
        .line
        .map_or_else(Span::default, |line| Span::new(file.offset(line, 1), file.offset(line, usize::MAX)));
    problem.at(file, span, "")
}
