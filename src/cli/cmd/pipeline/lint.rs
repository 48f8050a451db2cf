//! `fleetwright pipeline lint`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::read::read;
use crate::driver::pipeline::config::named;
use crate::driver::pipeline::request::step_names;
use crate::model::name::PipelineName;
use crate::repo::{OwnProblems, own_steps};
use crate::source::Diagnostic;
use crate::view::lint::Shown;
use crate::view::{self, diagnostics};
use crate::{repo, view::words::count};

/// Checks pipelines alone, and shows what starts them and in which order their steps run
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Checks the files of pipelines/ as `validate` does, with the repositories and services that they name, but
renders no stack. Needs no network, no server and no Docker, and changes nothing.

A FILE in pipelines/ limits what is reported. Any other FILE, or `-` for standard input, is checked as if it
were in pipelines/, in place of the file of the same name there.

With --steps-of, FILE holds the steps of a pipeline whose git repository has them itself.

Examples:
  fleetwright pipeline lint
  fleetwright pipeline lint pipelines/web.yaml
  fleetwright pipeline import Jenkinsfile --repository web | fleetwright pipeline lint -
  fleetwright pipeline lint --steps-of web ../web/.fleetwright.yaml
  fleetwright pipeline lint -o json

Exit status: 0 no errors, 2 errors.")]
pub struct Args {
    /// The files; all of pipelines/ by default
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// The pipeline whose steps the file holds
    #[arg(long, value_name = "PIPELINE", requires = "files")]
    steps_of: Option<PipelineName>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<Done, Failure> {
    let start = Instant::now();
    if let Some(name) = &args.steps_of {
        return own(context, name, &args.files, start);
    }
    let root = context.root()?;
    let (mut only, mut drafts) = (Vec::new(), Vec::new());
    for file in &args.files {
        match inside(&root, file) {
            Some(name) => only.push(name),
            None => drafts.push(read(file).map_err(|error| {
                let message = format!("reading {}: {error}", file.display());
                Failure::usage(message, "name a file of pipelines, or `-` for standard input")
            })?),
        }
    }
    let linted = repo::lint(&root, drafts, &only);
    let names: Vec<Vec<String>> = linted.pipelines.iter().map(step_names).collect();
    let shown: Vec<Shown<'_>> =
        linted.pipelines.iter().zip(&names).map(|(pipeline, names)| Shown { pipeline, names }).collect();
    let failed = linted.problems.iter().any(Diagnostic::is_error);
    if context.json() {
        let mut document = diagnostics::json(&linted.problems, linted.files);
        document["errors_elsewhere"] = linted.elsewhere.into();
        document["pipelines"] = shown.iter().map(view::lint::json).collect();
        view::json::document(&document);
    } else {
        diagnostics::draw(&linted.problems, context.colour_err);
        if !failed {
            view::out::stdout(&view::lint::graphs(&shown));
        }
        eprintln!("{}", diagnostics::closing(&linted.problems, linted.files, start.elapsed()));
        if linted.elsewhere > 0 {
            let errors = count(linted.elsewhere, "error");
            eprintln!("Other files of the repository have {errors}; `fleetwright validate` shows them.");
        }
    }
    if failed { Err(Failure::Refused) } else { Ok(Done::Ok) }
}

/// Checks the steps that a git repository has itself.
fn own(context: &Context, name: &PipelineName, files: &[PathBuf], start: Instant) -> Result<Done, Failure> {
    let [file] = files else {
        return Err(Failure::usage("`--steps-of` is about one file", "name one file"));
    };
    let repository = context.repository()?;
    let pipeline = named(&repository, name).map_err(|error| {
        Failure::usage(error.to_string(), "`fleetwright pipeline lint` lists the pipelines")
    })?;
    let Some(own) = &pipeline.own else {
        return Err(Failure::usage(
            format!("pipeline `{name}` has its steps in pipelines/"),
            "write `steps: {file: FILE}` there if the git repository is to have them",
        ));
    };
    let read = read(file).map_err(|error| {
        let message = format!("reading {}: {error}", file.display());
        Failure::usage(message, "name the file with the steps, or `-` for standard input")
    })?;
    let (pipeline, problems) = match own_steps(&repository, pipeline, own, read.text().as_bytes()) {
        Ok((pipeline, problems)) => (Some(pipeline), problems),
        Err(OwnProblems(problems)) => (None, problems),
    };
    let names: Vec<Vec<String>> = pipeline.iter().map(step_names).collect();
    let shown: Vec<Shown<'_>> =
        pipeline.iter().zip(&names).map(|(pipeline, names)| Shown { pipeline, names }).collect();
    if context.json() {
        let mut document = diagnostics::json(&problems, 1);
        document["errors_elsewhere"] = 0.into();
        document["pipelines"] = shown.iter().map(view::lint::json).collect();
        view::json::document(&document);
    } else {
        diagnostics::draw(&problems, context.colour_err);
        view::out::stdout(&view::lint::graphs(&shown));
        eprintln!("{}", diagnostics::closing(&problems, 1, start.elapsed()));
    }
    if pipeline.is_some() { Ok(Done::Ok) } else { Err(Failure::Refused) }
}

/// The name of a file that lies in pipelines/ of the repository, relative to `root`.
fn inside(root: &Path, file: &Path) -> Option<String> {
    let (whole, folder) = (file.canonicalize().ok()?, root.join("pipelines").canonicalize().ok()?);
    let name = whole.strip_prefix(folder).ok()?.to_str()?;
    let is_read = !name.contains('/') && (name.ends_with(".yaml") || name.ends_with(".yml"));
    is_read.then(|| format!("pipelines/{name}"))
}
