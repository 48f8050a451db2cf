//! `fleetwright cloud-config boot`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::read::plain;
use crate::cli::stacks::signals;
use crate::cloud_config::{self, Target};
use crate::event::Events;
use crate::local::boot::expect::{Expect, judge};
use crate::local::boot::{Boot, Brought, boot};
use crate::local::home::Home;
use crate::local::image::Release;
use crate::local::{image, machines};
use crate::view;
use crate::view::boot::Line;
use crate::view::live::Live;
use crate::view::paint::Paint;

/// Boots a machine with a document in a container, and reports what it came to
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
A Debian machine with systemd, cloud-init and Docker, as those of the local cloud, boots with the
document as its user data; it is removed again. Its files and units are held against the document,
and against a file of expectations, so that a boot can be a test in a repository:

  files:
    /etc/docker/daemon.json: {mode: \"0644\", owner: \"root:root\", contains: max-size}
    /etc/motd: {absent: true}
  units: {docker.service: active}
  enabled: {docker.service: true}
  may_fail: [chrony.service]
  commands:
    - {run: [docker, info], status: 0, contains: \"Swarm: inactive\"}
  seconds: 30

What the document would fetch can be brought instead: `--file ./agent:/usr/local/bin/agent` shows a
file or folder of this computer to the machine, read-only, from its first moment.

`--release trixie` boots Debian 13, which has cloud-init 25.1 and systemd 257, instead of Debian 12
with cloud-init 22.4 and systemd 252.

Needs Docker; the machine image is made the first time (some minutes).

Exit status: 0 all holds, 1 not, 2 invalid input.

Examples:
  fleetwright cloud-config boot worker.yaml
  fleetwright cloud-config boot worker.yaml --expect worker.boot.yaml
  fleetwright cloud-config boot worker.yaml --release trixie
  fleetwright cloud-config boot worker.yaml --file ./agent:/usr/local/bin/agent
  fleetwright render workers --user-data | fleetwright cloud-config boot -")]
pub struct Args {
    /// The document; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// What is expected of the machine
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// A file or folder of this computer, and where the machine has it, read-only; may be repeated
    #[arg(long = "file", value_name = "HOST:MACHINE", value_parser = brought)]
    brought: Vec<Brought>,

    /// The release of Debian that is booted: bookworm (12) or trixie (13) [default: that of --target, or bookworm]
    #[arg(long, value_name = "RELEASE")]
    release: Option<Release>,

    /// The engine that is booted: cloud-init-22.4 (bookworm) or cloud-init-23.4 (trixie) [default: that of --release]
    #[arg(long, value_name = "TARGET", value_parser = super::target)]
    target: Option<Target>,

    /// The most seconds that cloud-init may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    limit: u64,
}

/// Reads `HOST:MACHINE`; nothing but `HOST` may have a colon in it.
fn brought(text: &str) -> Result<Brought, String> {
    let (here, there) =
        text.rsplit_once(':').ok_or("write `HOST:MACHINE`, two paths with a colon between them")?;
    if !there.starts_with('/') || there.len() == 1 {
        return Err(format!("the machine's path is absolute, `{there}` is not"));
    }
    let here = std::fs::canonicalize(here).map_err(|error| format!("`{here}`: {error}"))?;
    Ok(Brought { here, there: there.to_owned() })
}

/// The release that has the engine, unless no machine can boot it or another release was asked for.
fn bootable(target: Option<Target>, release: Option<Release>) -> Result<Release, Failure> {
    let Some(target) = target else { return Ok(release.unwrap_or_default()) };
    let why = match target {
        Target::CloudInit22_4 | Target::CloudInit23_4 => {
            let has = if target == Target::CloudInit22_4 { Release::Bookworm } else { Release::Trixie };
            let Some(release) = release.filter(|release| *release != has) else { return Ok(has) };
            return Err(Failure::usage(
                format!(
                    "`{}` can't be booted on {}, which has cloud-init {}",
                    target.name(),
                    release.name(),
                    release.cloud_init()
                ),
                format!("leave --target out, or use `--release {}`", has.name()),
            ));
        }
        Target::CoreosLegacy | Target::Flatcar => "no image with coreos-cloudinit can be made from packages",
        Target::Ignition3_3 => "Ignition runs from an initial RAM disk, which no container has",
    };
    let tried = format!("`{}` can't be booted: {why}", target.name());
    Err(Failure::usage(
        tried,
        format!("check it against the model: `fleetwright cloud-config check --target {}`", target.name()),
    ))
}

/// Runs the command.
pub async fn run(context: &Context, args: &Args) -> Result<Done, Failure> {
    let release = bootable(args.target, args.release)?;
    let text = super::read_or_fail(&args.file)?.text().to_owned();
    let expect = args.expect.as_deref().map_or_else(|| Ok(Expect::default()), expectations)?;
    let effects = cloud_config::effects(&text);
    let mut files: Vec<String> = effects.files.iter().map(|file| file.path.clone()).collect();
    files.extend(expect.files.keys().cloned());
    files.sort();
    files.dedup();
    let mut units: Vec<String> = effects.units.iter().map(|unit| unit.name.clone()).collect();
    units.extend(expect.units.keys().chain(expect.enabled.keys()).cloned());
    units.sort();
    units.dedup();
    let boot_of = Boot {
        user_data: text,
        files,
        units,
        commands: expect.commands.iter().map(|command| command.run.clone()).collect(),
        brought: args.brought.clone(),
        limit: Duration::from_secs(args.limit),
    };
    let failed = |error: crate::local::error::LocalError| Failure::failed(error.to_string(), error.next());
    let home = Home::from_env().map_err(failed)?;
    let docker = machines::connect().await.map_err(failed)?;
    let stop = signals();
    let (events, mut receiver) = Events::channel();
    let (paint, live, json) = (Paint(context.colour_err), context.live, context.json());
    let printer = tokio::spawn(async move {
        let mut live = Live::new([], paint, live && !json, false);
        while let Some(event) = receiver.recv().await {
            if !json {
                live.take(&event);
            }
        }
        live.finish();
    });
    let image = image::ensure(&docker, &home, release, &events).await.map_err(failed);
    let booted = match image {
        Ok(image) => {
            events.note("booting");
            boot(&docker, &home, &image, &boot_of, &stop).await.map_err(failed)
        }
        Err(failure) => Err(failure),
    };
    drop(events);
    let _ = printer.await;
    let Some(booted) = booted? else {
        return Err(Failure::Interrupted { left: "the machine was removed".to_owned() });
    };
    let mut verdicts = judge(&expect, &booted);
    // What the document itself promises, where no expectation says otherwise.
    for file in effects.files.iter().filter(|file| !expect.files.contains_key(&file.path)) {
        let own = crate::local::boot::expect::File {
            mode: (file.mode != 0).then(|| format!("{:04o}", file.mode)),
            ..Default::default()
        };
        verdicts.extend(crate::local::boot::expect::file(&file.path, &own, &booted));
    }
    let passed = verdicts.iter().all(|verdict| verdict.holds);
    if context.json() {
        let value = |value: Result<serde_json::Value, serde_json::Error>| {
            value.map_err(|error| {
                Failure::failed(format!("writing the report: {error}"), "report this as a bug")
            })
        };
        let (booted, verdicts) =
            (value(serde_json::to_value(&booted))?, value(serde_json::to_value(&verdicts))?);
        view::json::document(&view::boot::json(booted, verdicts, passed));
    } else {
        let lines: Vec<Line<'_>> = verdicts
            .iter()
            .map(|verdict| Line { what: &verdict.what, holds: verdict.holds, found: &verdict.found })
            .collect();
        let units: Vec<(String, String)> = booted
            .units
            .iter()
            .map(|(name, unit)| (name.clone(), format!("{}, {}", unit.active, none_if_empty(&unit.enabled))))
            .collect();
        let paint = Paint(context.colour_out);
        let text = view::boot::human(&lines, &units, &booted.warnings, booted.seconds, paint);
        // A reader that has gone away is no reason to fail.
        view::out::stdout(&text);
    }
    if passed { Ok(Done::Ok) } else { Err(Failure::Reported) }
}

fn none_if_empty(text: &str) -> &str {
    if text.is_empty() { "no unit file" } else { text }
}

fn expectations(path: &Path) -> Result<Expect, Failure> {
    let shown = path.display();
    let text = plain(path).map_err(|error| {
        Failure::usage(format!("{shown} can't be read: {error}"), "give a file of expectations")
    })?;
    serde_yaml::from_str(&text).map_err(|error| {
        Failure::usage(
            format!("{shown} holds no expectations: {error}"),
            "`fleetwright cloud-config boot --help` shows what they look like",
        )
    })
}
