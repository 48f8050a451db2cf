//! `fleetwright serve backup`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::Utc;
use nix::sys::stat::{Mode, umask};
use serde_json::json;

use crate::adapter::artifacts::ArtifactFolder;
use crate::adapter::backup_files;
use crate::adapter::journal::{SqliteJournal, copy, journal_path};
use crate::adapter::locks::FileLocks;
use crate::adapter::step_logs::StepLogFolder;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipelines::{journal_failure, journal_folder, state_folder};
use crate::model::backup::{BACKUP_VERSION, Backup, BackupList, Part};
use crate::model::keep::human_size;
use crate::plan::backups::kept;
use crate::port::artifacts::Artifacts as _;
use crate::port::backups::Backups;
use crate::port::cloud::CloudError;
use crate::port::journal::Journal as _;
use crate::port::locks::Locks as _;
use crate::port::step_logs::StepLogs as _;
use crate::port::store::Condition;
use crate::view;
use crate::view::words::count;

/// Backs the journal, the logs and the kept files up to the project's bucket
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Run it on the machine of `fleetwright serve`, as the user that runs it; the server may be running, and
runs under way. The journal is copied as it is at one moment. Files that an earlier backup has are not
sent again. All backups of the last 24 hours are kept, then the last one of each day for 30 days.

`fleetwright serve restore` restores one.

Examples:
  fleetwright serve backup
  fleetwright -e production serve backup")]
pub struct Args {}

/// What is in the key of the logs of a run that had not ended: the next backup has more of them.
const OPEN: &str = "-open";

/// The key below which the backups of an environment are.
pub fn prefix(environment: &str) -> String {
    format!("backups/serve/{environment}")
}

/// Runs the command.
pub async fn run(context: &Context, _args: Args) -> Result<Done, Failure> {
    let repository = context.project()?;
    let environment = context.environment(&repository)?;
    context.may_change("fleetwright serve backup")?;
    let state = state_folder(repository.project.as_str())?;
    let folder = journal_folder(&state, &repository, environment);
    let journal = journal_path(&folder);
    if !journal.exists() {
        return Err(Failure::usage(
            format!("there is no journal at {}", journal.display()),
            "run it where `fleetwright serve` runs, as its user",
        ));
    }
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    let locks = FileLocks::new(state.join("locks"));
    let lock =
        locks.try_lock(&format!("backup-{}", environment.name)).map_err(|error| here(&folder, &error))?;
    let Some(_lock) = lock else {
        return Err(Failure::failed("another backup is being made", "wait until it is done"));
    };
    let store = context.aws(environment).await?.backups(&repository.project);
    let made = Making {
        store,
        prefix: prefix(environment.name.as_str()),
        work: folder.join("backup.new"),
        journal,
        artifacts: ArtifactFolder::new(folder.join("artifacts")),
        logs: folder.join("logs"),
    };
    let made = made.make().await?;
    if context.json() {
        view::json::document(&json!({
            "version": BACKUP_VERSION,
            "at": made.backup.at,
            "place": made.place,
            "journal_bytes": made.backup.journal.bytes,
            "runs_with_files": made.backup.files.len(),
            "sent_bytes": made.sent,
            "kept": made.kept,
        }));
    } else {
        eprintln!(
            "backed up the journal and the files of {} to {}: {} sent, {} kept",
            count(made.backup.files.len(), "run"),
            made.place,
            human_size(made.sent),
            count(made.kept, "backup"),
        );
    }
    Ok(Done::Ok)
}

/// What a backup is made of.
struct Making {
    store: Arc<dyn Backups>,
    prefix: String,
    /// Where files are prepared before they are sent.
    work: PathBuf,
    journal: PathBuf,
    artifacts: ArtifactFolder,
    /// The folder with what steps have printed, by their runs.
    logs: PathBuf,
}

/// A backup that was made.
struct Made {
    backup: Backup,
    place: String,
    sent: u64,
    kept: usize,
}

impl Making {
    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    async fn make(&self) -> Result<Made, Failure> {
        let list_key = self.key("list.json");
        let (mut list, condition) = match self.store.read(&list_key).await.map_err(cloud)? {
            None => (BackupList::default(), Condition::Absent),
            Some(object) => (list_of(&list_key, &object.bytes)?, Condition::Is(object.tag)),
        };
        let failed = |error: std::io::Error| here(&self.work, &error);
        // A killed process has left it.
        if self.work.exists() {
            std::fs::remove_dir_all(&self.work).map_err(failed)?;
        }
        crate::adapter::private_file::make_folder(&self.work).map_err(failed)?;
        let now = Utc::now();
        let mut sent = 0;
        let copied = self.work.join("journal.sqlite");
        copy::copy(&self.journal, &copied).map_err(|error| journal_failure(&error))?;
        let packed = self.work.join("journal.zst");
        backup_files::compress(&copied, &packed).map_err(failed)?;
        let name = format!("journal/{}.zst", now.format("%Y%m%dT%H%M%S%3fZ"));
        let journal = self.send(name, &packed, &mut sent).await?;

        let known: BTreeMap<i64, Part> = list.backups.iter().flat_map(|one| one.files.clone()).collect();
        let mut files = BTreeMap::new();
        // Read from the copy: what it calls ended was ended when its files are packed.
        let runs = SqliteJournal::open(&copied).map_err(|error| journal_failure(&error))?;
        let with_files = self.artifacts.runs();
        for id in with_files.map_err(|error| Failure::failed(error.to_string(), "see that it can be read"))? {
            let run = runs.run(id).map_err(|error| journal_failure(&error))?;
            // A run that is under way may keep more; the next backup has them.
            if !run.is_some_and(|run| run.state.is_ended()) {
                continue;
            }
            let part = match known.get(&id.0) {
                Some(part) => part.clone(),
                None => {
                    let packed = self.work.join("files.tar.zst");
                    backup_files::pack(&self.artifacts.folder(id), &packed).map_err(failed)?;
                    self.send(format!("files/{id}-{}.tar.zst", now.timestamp_millis()), &packed, &mut sent)
                        .await?
                }
            };
            files.insert(id.0, part);
        }
        let logs = self.pack_logs(&list, &runs, &mut sent).await?;
        drop(runs);
        let _ = std::fs::remove_dir_all(&self.work);

        let before: Vec<String> = list.keys().into_iter().map(str::to_owned).collect();
        let backup = Backup { at: now, journal, files, logs };
        list.backups.push(backup.clone());
        let times: Vec<_> = list.backups.iter().map(|one| one.at).collect();
        let stay = kept(&times, now);
        list.backups.retain(|one| stay.contains(&one.at));
        list.backups.sort_by_key(|one| one.at);
        let bytes = serde_json::to_vec_pretty(&list).map_err(|error| {
            Failure::failed(format!("writing the list of backups: {error}"), "report this")
        })?;
        if !self.store.write(&list_key, &bytes, condition).await.map_err(cloud)? {
            return Err(Failure::failed(
                "another backup was made at the same time, and this one is not in the list",
                "see that only one server makes backups, and try again",
            ));
        }
        // Only now: until then the old list may be what is read.
        let named = list.keys();
        for key in before.iter().filter(|key| !named.contains(key.as_str())) {
            self.store.remove(&self.key(key)).await.map_err(cloud)?;
        }
        let place = self.store.place(&self.prefix).await.map_err(cloud)?;
        Ok(Made { backup, place, sent, kept: list.backups.len() })
    }

    /// Packs what steps have printed. It is read after the journal was copied, so it has all the lines that the copy knows of.
    async fn pack_logs(
        &self,
        list: &BackupList,
        runs: &SqliteJournal,
        sent: &mut u64,
    ) -> Result<BTreeMap<i64, Part>, Failure> {
        let failed = |error: std::io::Error| here(&self.work, &error);
        let found = StepLogFolder::new(self.logs.clone()).runs();
        let found = found.map_err(|error| Failure::failed(error.to_string(), "see that it can be read"))?;
        let known: BTreeMap<i64, Part> = list.backups.iter().flat_map(|one| one.logs.clone()).collect();
        let mut logs = BTreeMap::new();
        for id in found {
            let Some(run) = runs.run(id).map_err(|error| journal_failure(&error))? else { continue };
            let ended = run.state.is_ended();
            let part = match known.get(&id.0).filter(|part| ended && !part.key.contains(OPEN)) {
                Some(part) => part.clone(),
                None => {
                    let (copy, packed) = (self.work.join("logs"), self.work.join("logs.tar.zst"));
                    backup_files::copy_folder(&self.logs.join(id.to_string()), &copy).map_err(failed)?;
                    backup_files::pack(&copy, &packed).map_err(failed)?;
                    std::fs::remove_dir_all(&copy).map_err(failed)?;
                    let open = if ended { "" } else { OPEN };
                    let key = format!("logs/{id}{open}-{}.tar.zst", Utc::now().timestamp_millis());
                    self.send(key, &packed, sent).await?
                }
            };
            logs.insert(id.0, part);
        }
        Ok(logs)
    }

    async fn send(&self, key: String, file: &Path, sent: &mut u64) -> Result<Part, Failure> {
        let (sum, bytes) = backup_files::sum(file).map_err(|error| here(file, &error))?;
        self.store.upload(&self.key(&key), file, &sum).await.map_err(cloud)?;
        *sent += bytes;
        Ok(Part { key, sha256: hex(&sum), bytes })
    }
}

/// The list in a document.
pub fn list_of(key: &str, bytes: &[u8]) -> Result<BackupList, Failure> {
    let list = serde_json::from_slice::<BackupList>(bytes).ok();
    list.filter(|list| list.version == BACKUP_VERSION).ok_or_else(|| {
        Failure::failed(
            format!("{key} is not a list of backups that this version of fleetwright knows"),
            "use the version that wrote it, or a later one",
        )
    })
}

/// A hash in hexadecimal.
pub fn hex(sum: &[u8; 32]) -> String {
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a command says when AWS does not do what it should.
pub fn cloud(error: CloudError) -> Failure {
    let next = error.next();
    Failure::failed(error.to_string(), next)
}

/// What a command says when a file can't be used.
pub fn here(path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()), "see that it can be written and has space")
}
