//! `fleetwright init`.

use std::path::{Path, PathBuf};

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::model::name::ProjectName;
use crate::repo::starters;

/// Makes a new infra repository from the starters
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Writes a small, working repository: a network, three control machines, two workers, a service,
and the pipeline that builds it and rolls it out. It is a git repository and passes
`fleetwright validate`.

Examples:
  fleetwright init shop                  makes the folder shop
  fleetwright init . --name shop         in the current folder, which must be empty
  fleetwright init shop --with ci        with a machine that runs `fleetwright serve`")]
pub struct Args {
    /// The new folder, or an empty one
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    /// The project's name; by default the folder's
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// What is added: `ci` is a machine for the pipeline server, with a volume and backups of its journal
    #[arg(long, value_name = "PART")]
    with: Option<Part>,
}

/// What can be added to a new repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// A machine for the pipeline server.
    Ci,
}

/// Runs the command.
pub async fn run(_context: &Context, args: Args) -> Result<Done, Failure> {
    let project = name(&args)?;
    let shown = args.dir.display();
    if !is_free(&args.dir)? {
        return Err(Failure::usage(
            format!("{shown} is not empty, nothing was written"),
            "name a new folder, or an empty one",
        ));
    }
    let mut files = starters::files(&project);
    match args.with {
        Some(Part::Ci) => files.extend(starters::pipeline_server(&project)),
        None => {}
    }
    for (path, text) in &files {
        write(&args.dir.join(path), text)?;
    }
    if !args.dir.join(".git").exists() {
        let mut options = git2::RepositoryInitOptions::new();
        options.initial_head("main");
        git2::Repository::init_opts(&args.dir, &options).map_err(|error| {
            Failure::failed(
                format!("making {shown} a git repository: {}", error.message()),
                format!("the files are written; run `git init {shown}`"),
            )
        })?;
    }
    eprint!("{}", next_steps(&project, &args.dir));
    Ok(Done::Ok)
}

fn name(args: &Args) -> Result<ProjectName, Failure> {
    if let Some(name) = &args.name {
        return name.parse().map_err(|bad| Failure::usage(format!("{bad}"), "give another `--name`"));
    }
    let absolute = std::path::absolute(&args.dir).unwrap_or_else(|_| args.dir.clone());
    let folder = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    folder
        .parse()
        .map_err(|bad| Failure::usage(format!("{bad}"), "give the project's name with `--name NAME`"))
}

/// Whether `dir` is not there yet, or holds nothing but an empty git repository.
fn is_free(dir: &Path) -> Result<bool, Failure> {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == ".git"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(cant(dir, &error)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| cant(folder, &error))?;
    }
    std::fs::write(path, text).map_err(|error| cant(path, &error))
}

fn cant(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("writing {}: {error}", path.display()), "choose a folder that you may write to")
}

fn next_steps(project: &ProjectName, dir: &Path) -> String {
    let variable = project.as_str().to_ascii_uppercase().replace('-', "_");
    let change = match dir.to_str() {
        Some(".") => String::new(),
        _ => format!("  cd {}\n", dir.display()),
    };
    format!(
        "\
Made the infra repository `{project}` in {dir}, under git.

Next:
{change}  fleetwright validate                 # every file, offline, each error with its line
  fleetwright local up                 # an AWS on this machine; or use your own credentials
  eval \"$(fleetwright local env)\"
  fleetwright agent publish            # what machines run; its version and checksum go into fleetwright.yaml
  fleetwright plan                     # what changes
  fleetwright apply                    # stacks in dependency order
  export {export:<30}# the git repository of your service
  fleetwright serve                    # builds, pushes and rolls out what you `git push`
",
        dir = dir.display(),
        export = format!("{variable}_WEB_REPOSITORY=URL"),
    )
}
