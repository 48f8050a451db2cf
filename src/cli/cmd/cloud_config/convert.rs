//! `fleetwright cloud-config convert`.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::adapter::private_file;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cloud_config::{self, Part, Target, USER_DATA_MOST, Verdict};
use crate::source::Diagnostic;
use crate::view;
use crate::view::diagnostics;

/// Writes a document anew for an engine: normalised, or translated
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A document of the engine's own dialect is normalised: aliases resolved, modes and words in quotes,
keys with underscores, deprecated names replaced. One of the other dialect is translated, and
ignition-3.3 gives the JSON of Ignition. What has no counterpart is an error, and nothing is written.

Exit status: 0 written, 2 refused.

Examples:
  fleetwright cloud-config convert --target ignition-3.3 worker.yaml
  fleetwright cloud-config convert --target cloud-init-22.4 --out worker.yaml old-worker.yaml
  fleetwright cloud-config convert --target flatcar --gzip --out worker.gz worker.yaml
  fleetwright cloud-config convert --target cloud-init-22.4 --multipart --part setup.sh worker.yaml")]
pub struct Args {
    /// The document; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// The engine: coreos-legacy, flatcar, cloud-init-22.4, cloud-init-23.4 or ignition-3.3
    #[arg(long, value_name = "TARGET", value_parser = super::target)]
    target: Target,

    /// Write it there, readable by you alone, instead of to standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Pack it, as both coreos-cloudinit and cloud-init take it
    #[arg(long)]
    gzip: bool,

    /// Make it the first part of a MIME message; not for coreos-legacy and ignition-3.3
    #[arg(long)]
    multipart: bool,

    /// Another part of the message: a script, or a cloud-config that is left as it is
    #[arg(long, value_name = "FILE", requires = "multipart")]
    part: Vec<PathBuf>,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<Done, Failure> {
    let target = args.target;
    if args.gzip && target == Target::Ignition3_3 {
        return Err(Failure::usage("Ignition takes no packed user data", "leave out `--gzip`"));
    }
    if args.multipart && matches!(target, Target::Ignition3_3 | Target::CoreosLegacy) {
        let message = format!("{target} takes no MIME message");
        return Err(Failure::usage(message, "leave out `--multipart`"));
    }
    let file = super::read_or_fail(&args.file)?;
    let mut text = match cloud_config::convert(&file, target) {
        Ok(text) => text,
        Err(verdict) => return Err(refused(context, &verdict)),
    };
    if args.multipart {
        text = message(args, text)?;
    }
    let bytes = if args.gzip { cloud_config::gzip(text.as_bytes()) } else { text.clone().into_bytes() };
    let size = bytes.len();
    if size > USER_DATA_MOST {
        let message = format!(
            "{} has {size} bytes for {target}, {} more than the {USER_DATA_MOST} that EC2 takes",
            args.file.display(),
            size - USER_DATA_MOST
        );
        let packed = cloud_config::gzip(text.as_bytes()).len();
        let next = if !args.gzip && target != Target::Ignition3_3 && packed <= USER_DATA_MOST {
            format!("add `--gzip`: packed it has {packed} bytes")
        } else {
            "move long files into the image, or fetch them at boot".to_owned()
        };
        return Err(Failure::usage(message, next));
    }
    if let Some(path) = &args.out {
        private_file::write(path, &bytes)
            .map_err(|error| Failure::failed(error.to_string(), "give a file that you may write"))?;
    }
    if context.json() {
        let mut json = json!({
            "version": 1,
            "file": file.name(),
            "target": target.name(),
            "bytes": size,
            "gzip": args.gzip,
            "multipart": args.multipart,
        });
        match &args.out {
            Some(path) => json["out"] = path.to_string_lossy().into(),
            None if args.gzip => json["document"] = STANDARD.encode(&bytes).into(),
            None => json["document"] = text.into(),
        }
        view::json::document(&json);
    } else if args.out.is_none() {
        view::out::stdout_bytes(&bytes);
    }
    Ok(Done::Ok)
}

fn message(args: &Args, text: String) -> Result<String, Failure> {
    let name = |path: &Path| {
        path.file_name().map_or_else(|| "user-data".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let first = if args.file == Path::new("-") { "user-data".to_owned() } else { name(&args.file) };
    let mut parts = vec![Part { name: first, text }];
    for path in &args.part {
        let file = super::read_or_fail(path)?;
        parts.push(Part { name: name(path), text: file.text().to_owned() });
    }
    cloud_config::multipart(&parts, args.target).map_err(|(name, why)| {
        Failure::usage(format!("{name} can't be a part: {why}"), "give scripts and cloud-configs")
    })
}

/// Prints what was found, as `check` does.
fn refused(context: &Context, verdict: &Verdict) -> Failure {
    let problems: Vec<Diagnostic> =
        verdict.findings.iter().map(|finding| finding.diagnostic(&verdict.shown)).collect();
    if context.json() {
        let mut json = diagnostics::json(&problems, 1);
        let found = verdict.findings.iter();
        for (finding, found) in json["findings"].as_array_mut().into_iter().flatten().zip(found) {
            finding["target"] = found.targets.iter().map(|target| target.name()).collect();
        }
        view::json::document(&json);
        Failure::Refused
    } else {
        Failure::Invalid { diagnostics: problems, files: 1 }
    }
}
