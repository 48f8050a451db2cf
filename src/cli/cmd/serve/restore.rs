//! `fleetwright serve restore`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use nix::sys::stat::{Mode, umask};
use serde_json::json;

use super::backup::{cloud, here, hex, list_of, prefix};
use crate::adapter::backup_files;
use crate::adapter::journal::{copy, journal_path};
use crate::adapter::private_file;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipelines::{journal_failure, journal_folder, state_folder};
use crate::model::backup::{BACKUP_VERSION, Backup, Part};
use crate::port::backups::Backups;
use crate::view;
use crate::view::words::count;

/// Restores the journal, the logs and the kept files from a backup
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Run it before `fleetwright serve`, as the user that will run it. A journal that is there is never
overwritten. What was pushed after the backup is found by the next look at each repository; runs that
began after it are begun again. New runs get numbers that no lost run had.

Examples:
  fleetwright serve restore
  fleetwright serve restore --at 2026-11-30T03:00:00Z
  fleetwright serve restore --from s3://shop-123456789012-eu-west-1/backups/serve/production --journal /srv/journal.sqlite")]
pub struct Args {
    /// Where the backups are; by default in the project's bucket
    #[arg(long, value_name = "s3://BUCKET/PREFIX")]
    from: Option<String>,

    /// The journal to write; by default the one that `serve` uses
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,

    /// The time of the backup; by default the newest
    #[arg(long, value_name = "TIME")]
    at: Option<DateTime<Utc>>,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let repository = context.project()?;
    let environment = context.environment(&repository)?;
    context.may_change("fleetwright serve restore")?;
    let folder = journal_folder(&state_folder(repository.project.as_str())?, &repository, environment);
    let journal = args.journal.unwrap_or_else(|| journal_path(&folder));
    if journal.exists() {
        return Err(Failure::usage(
            format!("there is a journal at {}, and nothing was changed", journal.display()),
            "move it away if it is not needed, or give another path with `--journal`",
        ));
    }
    let aws = context.aws(environment).await?;
    let (store, prefix) = match &args.from {
        None => (aws.backups(&repository.project), prefix(environment.name.as_str())),
        Some(from) => {
            let (bucket, prefix) = place(from)?;
            (aws.backups_in(&repository.project, bucket), prefix.to_owned())
        }
    };
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let restoring = Restoring { store, prefix, journal };
    let backup = restoring.restore(args.at).await?;
    let shown = restoring.journal.display();
    if context.json() {
        view::json::document(&json!({
            "version": BACKUP_VERSION,
            "at": backup.at,
            "journal": shown.to_string(),
            "runs_with_files": backup.files.len(),
        }));
    } else {
        eprintln!(
            "restored {shown} and the files of {} as they were at {}; next: `fleetwright serve`",
            count(backup.files.len(), "run"),
            backup.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        );
    }
    Ok(Done::Ok)
}

/// The bucket and the prefix of an address.
fn place(from: &str) -> Result<(&str, &str), Failure> {
    let found = from.strip_prefix("s3://").and_then(|rest| rest.trim_end_matches('/').split_once('/'));
    found.filter(|(bucket, prefix)| !bucket.is_empty() && !prefix.is_empty()).ok_or_else(|| {
        Failure::usage(
            format!("`{from}` is not the address of backups"),
            "write it as `serve backup` prints it, such as `s3://BUCKET/backups/serve/production`",
        )
    })
}

struct Restoring {
    store: Arc<dyn Backups>,
    prefix: String,
    journal: PathBuf,
}

impl Restoring {
    async fn restore(&self, at: Option<DateTime<Utc>>) -> Result<Backup, Failure> {
        let key = format!("{}/list.json", self.prefix);
        let Some(list) = self.store.read(&key).await.map_err(cloud)? else {
            let place = self.store.place(&self.prefix).await.map_err(cloud)?;
            return Err(Failure::usage(
                format!("there are no backups at {place}"),
                "`fleetwright serve backup` makes one; `--from` names another place",
            ));
        };
        let list = list_of(&key, &list.bytes)?;
        let seconds = |time: DateTime<Utc>| time.timestamp();
        let found = match at {
            None => list.backups.last(),
            Some(at) => list.backups.iter().find(|one| seconds(one.at) == seconds(at)),
        };
        let Some(backup) = found else {
            let times: Vec<String> = list
                .backups
                .iter()
                .map(|one| one.at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
                .collect();
            return Err(Failure::usage(
                format!("there is no backup of that time; there are those of {}", times.join(", ")),
                "give one of them with `--at`",
            ));
        };
        let folder = self.journal.parent().unwrap_or(Path::new("."));
        let work = folder.join("restore.new");
        let failed = |error: std::io::Error| here(&work, &error);
        if work.exists() {
            std::fs::remove_dir_all(&work).map_err(failed)?;
        }
        private_file::make_folder(&work).map_err(failed)?;
        for (kind, parts) in [("artifacts", &backup.files), ("logs", &backup.logs)] {
            for (run, part) in parts {
                let packed = work.join("files.tar.zst");
                self.fetch(part, &packed).await?;
                let unpacked = work.join(kind).join(run.to_string());
                backup_files::unpack(&packed, &unpacked).map_err(failed)?;
            }
        }
        let packed = work.join("journal.zst");
        self.fetch(&backup.journal, &packed).await?;
        let fresh = work.join("journal.sqlite");
        backup_files::decompress(&packed, &fresh).map_err(failed)?;
        copy::restored(&fresh).map_err(|error| journal_failure(&error))?;

        for (kind, parts) in [("artifacts", &backup.files), ("logs", &backup.logs)] {
            if parts.is_empty() {
                continue;
            }
            private_file::make_folder(&folder.join(kind)).map_err(failed)?;
            for run in parts.keys().map(ToString::to_string) {
                let to = folder.join(kind).join(&run);
                if !to.exists() {
                    std::fs::rename(work.join(kind).join(run), to).map_err(failed)?;
                }
            }
        }
        // Last, and never onto one that has appeared meanwhile.
        std::fs::hard_link(&fresh, &self.journal).map_err(|error| here(&self.journal, &error))?;
        std::fs::remove_dir_all(&work).map_err(failed)?;
        Ok(backup.clone())
    }

    async fn fetch(&self, part: &Part, file: &Path) -> Result<(), Failure> {
        let key = format!("{}/{}", self.prefix, part.key);
        let there = self.store.download(&key, file).await.map_err(cloud)?;
        let (sum, _) =
            if there { backup_files::sum(file).map_err(|error| here(file, &error))? } else { ([0; 32], 0) };
        if !there || hex(&sum) != part.sha256 {
            let what = if there { "is not what was backed up" } else { "is gone" };
            return Err(Failure::failed(
                format!("{key} {what}"),
                "restore another backup with `--at`; nothing was changed",
            ));
        }
        Ok(())
    }
}
