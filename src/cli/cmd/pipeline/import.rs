//! `fleetwright pipeline import`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::read::plain;
use crate::foreign_pipeline::{Names, Note, convert, name_like};
use crate::model::name::{PipelineName, RepositoryName};
use crate::source::SourceFile;
use crate::view;

/// Prints a pipeline for pipelines/ from a workflow of Woodpecker or a Jenkinsfile
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A file that ends with .yml or .yaml is a workflow of Woodpecker 3, any other a declarative Jenkinsfile.
Whatever has no exact equivalent is listed with its place and what to do. A step that would not do the
same is printed as a comment. Nothing is written, and no server is asked.
docs/from-woodpecker.md and docs/from-jenkins.md each carry a pipeline over.

Examples:
  fleetwright pipeline import .woodpecker.yml > pipelines/shop.yaml
  fleetwright pipeline import Jenkinsfile --image maven:3.9 --repository shop
  fleetwright pipeline import Jenkinsfile -o json")]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The repository, as `repositories` of fleetwright.yaml names it; by default the name of its folder
    #[arg(long, value_name = "NAME")]
    repository: Option<String>,

    /// The pipeline's name; by default the repository's, followed by that of a file in .woodpecker/
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// The image of steps that name none, such as those of Jenkins that run on a machine
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let shown = args.file.display().to_string();
    let text = plain(&args.file).map_err(|error| {
        Failure::usage(format!("reading {shown}: {error}"), "name the workflow or the Jenkinsfile")
    })?;
    let (repository, part) = names(&args.file);
    let given = args.repository.is_some();
    let repository = args.repository.unwrap_or(repository);
    let pipeline = args.name.unwrap_or_else(|| match &part {
        Some(part) => name_like(&format!("{repository}-{part}")),
        None => repository.clone(),
    });
    repository
        .parse::<RepositoryName>()
        .map_err(|error| Failure::usage(error.to_string(), "pass `--repository NAME` with another name"))?;
    pipeline
        .parse::<PipelineName>()
        .map_err(|error| Failure::usage(error.to_string(), "pass `--name NAME` with another name"))?;
    let names = Names { pipeline, repository, image: args.image };
    let converted = convert(&SourceFile::new(shown.clone(), text), &names)
        .map_err(|diagnostics| Failure::Invalid { diagnostics, files: 1 })?;
    let mut notes = converted.notes;
    if !given {
        let message = format!("the repository is called `{}` after its folder", names.repository);
        let next = "pass `--repository NAME` if fleetwright.yaml names it otherwise".to_owned();
        notes.insert(0, Note { line: 1, column: 1, message, next });
    }
    if context.json() {
        view::json::document(&json!({
            "version": 1,
            "pipelines": converted.text,
            "notes": notes.iter().map(|note| json!({
                "line": note.line, "column": note.column, "message": note.message, "next": note.next,
            })).collect::<Vec<_>>(),
        }));
        return Ok(Done::Ok);
    }
    view::out::stdout(&converted.text);
    eprint!("{}", view::foreign_pipeline::notes(&notes, &shown));
    eprintln!("{}", view::foreign_pipeline::summary(&notes, &names.pipeline));
    Ok(Done::Ok)
}

/// The name of the repository's folder, and that of a file in `.woodpecker/`.
fn names(file: &Path) -> (String, Option<String>) {
    let whole = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name);
        name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let folder = whole.parent();
    match name(folder).as_str() {
        ".woodpecker" => {
            let stem = whole.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            (name_like(&name(folder.and_then(Path::parent))), stem)
        }
        folder => (name_like(folder), None),
    }
}
