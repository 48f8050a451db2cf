//! `fleetwright import compose`.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::read::plain;
use crate::compose::{Converted, convert};
use crate::source::SourceFile;
use crate::view;

/// Writes services/*.yaml from a Compose file, or a fig.yml
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Converts the services of a Compose file to files in services/, and lists, with its line, whatever has no
counterpart or needs a decision. The values of secrets are not copied. Nothing is deployed.
docs/from-compose.md lists all keys.

Examples:
  fleetwright import compose docker-compose.yml
  fleetwright import compose ../app/compose.yaml --stdout    print, and write nothing
  fleetwright import compose fig.yml -o json")]
pub struct Args {
    /// The Compose file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Print the files, and write nothing
    #[arg(long)]
    stdout: bool,

    /// Overwrite files that exist
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.repository()?;
    let shown = args.file.display().to_string();
    let text = plain(&args.file).map_err(|error| {
        Failure::usage(format!("reading {shown}: {error}"), "name the Compose file that should be read")
    })?;
    let folder = args.file.parent().unwrap_or_else(|| Path::new("."));
    let beside = |name: &str| plain(&folder.join(name)).ok();
    let converted = convert(&SourceFile::new(shown.clone(), text), repository.project.as_str(), &beside)
        .map_err(|diagnostics| Failure::Invalid { diagnostics, files: 1 })?;
    if !args.stdout {
        write(&repository.root, &converted, args.force)?;
    }
    if context.json() {
        view::json::document(&json!({
            "version": 1,
            "files": converted.files,
            "written": !args.stdout,
            "notes": converted.notes.iter().map(|note| json!({
                "file": shown, "line": note.line, "key": note.key, "text": note.text,
            })).collect::<Vec<_>>(),
            "secrets": converted.secrets,
            "host_paths": converted.host_paths,
        }));
        return Ok(Done::Ok);
    }
    if args.stdout {
        view::out::stdout(&view::compose::files(&converted));
    } else {
        converted.files.keys().for_each(|path| eprintln!("  + {path}"));
    }
    eprint!("{}", view::compose::notes(&converted, &shown));
    if !args.stdout {
        eprintln!(" next: `fleetwright validate`, then `fleetwright deploy --plan`");
    }
    Ok(Done::Ok)
}

/// Writes the files, all or none where one exists.
fn write(root: &Path, converted: &Converted, force: bool) -> Result<(), Failure> {
    let there: Vec<&str> = converted
        .files
        .keys()
        .filter(|path| !force && root.join(path).exists())
        .map(String::as_str)
        .collect();
    if !there.is_empty() {
        return Err(Failure::usage(
            format!("{} exists; nothing was written", there.join(", ")),
            "move it away, or pass `--force` to overwrite it; `--stdout` prints what would be written",
        ));
    }
    for (path, text) in &converted.files {
        let at = root.join(path);
        let written =
            at.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&at, text));
        written.map_err(|error| {
            Failure::failed(
                format!("writing {}: {error}", at.display()),
                "see the folder's permissions and space",
            )
        })?;
    }
    Ok(())
}
