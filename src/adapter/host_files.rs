//! Watched files on the disk of this machine, and its programs.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, fchown};
use tokio::process::Command;

use super::child::{self, ChildError};
use super::private_file;
use crate::model::host_file::{HOST_FILE_VERSION, HostFileSpec, Owner, RENDERED_MOST, Reload};
use crate::model::name::HostFileName;
use crate::port::host_files::{HostDisk, HostFileRecord, OnDisk, Programs};

/// Where it is remembered what was done.
pub const REMEMBERED: &str = "/var/lib/fleetwright/host-files";
/// What is there once every file was dealt with since the machine started. Memory: gone after a reboot.
pub const SETTLED: &str = "/run/fleetwright/host-files-settled";
/// How long a check or a reload may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Where programs are looked for that are named without a folder.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The disk of this machine.
#[derive(Debug, Clone)]
pub struct MachineDisk {
    /// The root of everything; a folder in tests.
    pub root: PathBuf,
}

impl Default for MachineDisk {
    fn default() -> Self {
        Self { root: PathBuf::from("/") }
    }
}

impl MachineDisk {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn remembered(&self, name: &HostFileName) -> PathBuf {
        self.at(REMEMBERED).join(format!("{name}.json"))
    }
}

/// The numbers of an owner.
fn ids(owner: Option<&Owner>) -> io::Result<(Uid, Gid)> {
    let Some(owner) = owner else { return Ok((Uid::from_raw(0), Gid::from_raw(0))) };
    let unknown = |what: &str, name: &str| {
        io::Error::new(io::ErrorKind::NotFound, format!("this machine has no {what} `{name}`"))
    };
    let (uid, own) = match owner.user.parse::<u32>() {
        Ok(number) => (Uid::from_raw(number), User::from_uid(Uid::from_raw(number))?.map(|user| user.gid)),
        Err(_) => {
            let user = User::from_name(&owner.user)?.ok_or_else(|| unknown("user", &owner.user))?;
            (user.uid, Some(user.gid))
        }
    };
    let gid = match &owner.group {
        None => own.unwrap_or_else(|| Gid::from_raw(uid.as_raw())),
        Some(group) => match group.parse::<u32>() {
            Ok(number) => Gid::from_raw(number),
            Err(_) => Group::from_name(group)?.ok_or_else(|| unknown("group", group))?.gid,
        },
    };
    Ok((uid, gid))
}

/// Makes what was renamed in a folder outlive the machine's power.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

impl HostDisk for MachineDisk {
    fn read(&self, spec: &HostFileSpec) -> io::Result<Option<OnDisk>> {
        let path = self.at(&spec.path);
        let metadata = match std::fs::symlink_metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if metadata.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "there is a folder"));
        }
        // A link is replaced by the file, and so is what is too large to be it.
        if !metadata.is_file() || metadata.len() > RENDERED_MOST as u64 {
            return Ok(Some(OnDisk { bytes: Vec::new(), is_owned: false }));
        }
        let (uid, gid) = ids(spec.owner.as_ref())?;
        let is_owned = metadata.permissions().mode() & 0o7777 == spec.mode
            && metadata.uid() == uid.as_raw()
            && metadata.gid() == gid.as_raw();
        Ok(Some(OnDisk { bytes: std::fs::read(&path)?, is_owned }))
    }

    fn prepare(&self, spec: &HostFileSpec, text: &str) -> io::Result<String> {
        let path = self.at(&spec.path);
        let folder = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder)?;
        // One of an agent that was killed: nobody else writes by this name.
        let candidate = folder.join(format!(".{}.fleetwright-new", spec.name));
        match std::fs::remove_file(&candidate) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (uid, gid) = ids(spec.owner.as_ref())?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&candidate)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| {
            fchown(file.as_fd(), Some(uid), Some(gid))?;
            // After the owner: changing that clears the bits that give rights.
            file.set_permissions(std::fs::Permissions::from_mode(spec.mode))?;
            file.sync_all()
        });
        if let Err(error) = written {
            let _ = std::fs::remove_file(&candidate);
            return Err(error);
        }
        Ok(candidate.display().to_string())
    }

    fn replace(&self, candidate: &str, spec: &HostFileSpec) -> io::Result<()> {
        let path = self.at(&spec.path);
        match std::fs::rename(candidate, &path) {
            Ok(()) => sync_folder(&path),
            // Something is mounted at that very path: only its content can change.
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                let text = std::fs::read(candidate)?;
                let mut file = OpenOptions::new().write(true).truncate(true).open(&path)?;
                file.write_all(&text)?;
                file.sync_all()?;
                std::fs::remove_file(candidate)
            }
            Err(error) => Err(error),
        }
    }

    fn discard(&self, candidate: &str) {
        let _ = std::fs::remove_file(candidate);
    }

    fn records(&self) -> io::Result<BTreeMap<HostFileName, HostFileRecord>> {
        let mut found = BTreeMap::new();
        let entries = match std::fs::read_dir(self.at(REMEMBERED)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            let Some(name) = name.and_then(|name| name.parse::<HostFileName>().ok()) else { continue };
            // What can't be read is as if nothing had been done: the file is compared again.
            let record = serde_json::from_slice::<HostFileRecord>(&std::fs::read(&path)?).ok();
            if let Some(record) = record.filter(|record| record.version == HOST_FILE_VERSION) {
                found.insert(name, record);
            }
        }
        Ok(found)
    }

    fn record(&self, name: &HostFileName, record: &HostFileRecord) -> io::Result<()> {
        private_file::make_folder(&self.at(REMEMBERED))?;
        let path = self.remembered(name);
        let bytes = serde_json::to_vec(record)?;
        private_file::write(&path, &bytes).map_err(|error| error.source)?;
        sync_folder(&path)
    }

    fn forget(&self, name: &HostFileName) -> io::Result<()> {
        match std::fs::remove_file(self.remembered(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn settled(&self) -> io::Result<()> {
        let path = self.at(SETTLED);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        File::create(path).map(drop)
    }
}

/// The programs of this machine.
#[derive(Debug, Clone, Copy)]
pub struct MachinePrograms;

impl MachinePrograms {
    async fn run(words: &[String]) -> Result<(), String> {
        let Some((program, arguments)) = words.split_first() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null()).current_dir("/");
        let ended = child::run(command, LIMIT).await.map_err(|error| match error {
            ChildError::Io(error) => format!("`{program}` can't be executed: {error}"),
            slow @ ChildError::Slow(_) => slow.to_string(),
        })?;
        if ended.status.success() {
            return Ok(());
        }
        let said = last_words(&Output { status: ended.status, stdout: ended.stdout, stderr: ended.stderr });
        Err(match ended.status.code() {
            Some(code) => format!("exit status {code}{said}"),
            None => format!("ended by a signal{said}"),
        })
    }
}

/// The last line that a program has written, of its errors if there are any.
fn last_words(output: &Output) -> String {
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    };
    last(&output.stderr).or_else(|| last(&output.stdout)).map(|line| format!(": {line}")).unwrap_or_default()
}

#[async_trait]
impl Programs for MachinePrograms {
    async fn check(&self, command: &[String]) -> Result<(), String> {
        Self::run(command).await
    }

    async fn reload(&self, reload: &Reload) -> Result<(), String> {
        match reload {
            Reload::Command(words) => Self::run(words).await,
            Reload::Signal { signal, unit } => {
                // systemd 252 calls it `--kill-whom`, and takes this one too.
                let words = ["systemctl", "kill", "--kill-who=main", "--signal", signal, "--", unit];
                Self::run(&words.map(str::to_owned)).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(path: &str) -> HostFileSpec {
        serde_json::from_value(serde_json::json!({
            "name": "app", "path": path, "source": "templates/host_files/app", "template": "", "mode": 0o640,
        }))
        .expect("a definition")
    }

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_its_owner() {
        let root = tempfile::tempdir().expect("a folder");
        let disk = MachineDisk { root: root.path().to_owned() };
        let own = Owner { user: Uid::current().to_string(), group: Some(Gid::current().to_string()) };
        let spec = HostFileSpec { owner: Some(own), ..spec("/etc/app/app.conf") };
        assert_eq!(disk.read(&spec).expect("read"), None);
        let candidate = disk.prepare(&spec, "one").expect("prepared");
        assert_eq!(disk.read(&spec).expect("read"), None, "it is not in place before it is judged");
        disk.replace(&candidate, &spec).expect("replaced");
        assert_eq!(disk.read(&spec).expect("read"), Some(OnDisk { bytes: b"one".to_vec(), is_owned: true }));
        assert!(!Path::new(&candidate).exists());
        // Somebody has opened it to everybody.
        let path = root.path().join("etc/app/app.conf");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("changed");
        assert!(!disk.read(&spec).expect("read").expect("it is there").is_owned);
        // A link is replaced, not followed.
        let other = root.path().join("other");
        std::fs::write(&other, "other").expect("written");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        let candidate = disk.prepare(&spec, "two").expect("prepared");
        disk.replace(&candidate, &spec).expect("replaced");
        assert_eq!(std::fs::read_to_string(&other).expect("read"), "other");
        assert_eq!(std::fs::read_to_string(&path).expect("read"), "two");
        // What was prepared by an agent that was killed is in nobody's way.
        disk.prepare(&spec, "three").expect("prepared");
        let candidate = disk.prepare(&spec, "four").expect("prepared again");
        disk.discard(&candidate);
        assert_eq!(std::fs::read_dir(path.parent().expect("a folder")).expect("listed").count(), 1);
        let nobody =
            HostFileSpec { owner: Some(Owner { user: "no-such-user".to_owned(), group: None }), ..spec };
        let error = disk.prepare(&nobody, "x").expect_err("nobody").to_string();
        assert!(error.contains("no user `no-such-user`"), "{error}");
    }

    #[test]
    fn what_is_remembered_is_read_again() {
        let root = tempfile::tempdir().expect("a folder");
        let disk = MachineDisk { root: root.path().to_owned() };
        assert!(disk.records().expect("none").is_empty());
        let name: HostFileName = "app".parse().expect("a name");
        let due = Some(Reload::Signal { signal: "HUP".to_owned(), unit: "app.service".to_owned() });
        let record = HostFileRecord { version: HOST_FILE_VERSION, number: 3, due };
        disk.record(&name, &record).expect("remembered");
        assert_eq!(disk.records().expect("read"), BTreeMap::from([(name.clone(), record)]));
        let path = root.path().join("var/lib/fleetwright/host-files/app.json");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "{").expect("broken");
        assert!(disk.records().expect("read").is_empty());
        disk.forget(&name).expect("forgotten");
        disk.forget(&name).expect("nothing to forget");
        disk.settled().expect("said");
        assert!(root.path().join("run/fleetwright/host-files-settled").exists());
    }

    #[tokio::test]
    async fn what_a_program_says_is_the_reason() {
        let run = async |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            MachinePrograms.check(&words).await
        };
        assert_eq!(run(&["true"]).await, Ok(()));
        assert_eq!(
            run(&["sh", "-c", "echo no; echo bad line 3 >&2; exit 4"]).await,
            Err("exit status 4: bad line 3".to_owned())
        );
        assert_eq!(run(&["sh", "-c", "echo ALERT; exit 1"]).await, Err("exit status 1: ALERT".to_owned()));
        let missing = run(&["no-such-program"]).await.expect_err("it is not there");
        assert!(missing.contains("`no-such-program` can't be executed"), "{missing}");
        // Nothing of the agent's own environment reaches it.
        assert_eq!(run(&["sh", "-c", "test -z \"$HOME\""]).await, Ok(()));
    }
}
