//! LocalStack's Python environment: made once from the embedded lock, our plugin in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::event::local::LocalEvent;
use crate::event::{EventKind, Events};

use super::error::LocalError;
use super::home::{Home, last_words, make_dir, open_log, remove_dir, write_file};
use super::plugin;

/// LocalStack and all it needs, with hashes; names no server.
const LOCK: &str = include_str!("localstack/requirements.lock");

const STEP: &str = "emulator";

/// Makes the environment if it is missing or of another lock, and brings the plugin up to
/// date. Takes milliseconds when nothing is to do. Returns its Python.
///
/// # Errors
/// When there is no Python 3.11 with venv, or the installation fails.
pub async fn ensure(home: &Home, events: &Events) -> Result<PathBuf, LocalError> {
    let venv = home.venv();
    let python = venv.join("bin/python");
    make_dir(home.root())?;
    let _lock = exclusive(&home.root().join("venv.lock")).await?;
    let marker = venv.join("fleetwright.lock-hash");
    let wanted = hash(&[("lock", LOCK)]);
    if fs::read_to_string(&marker).is_ok_and(|have| have == wanted) && python.exists() {
        plugin::install(&venv)?;
        return Ok(python);
    }
    let begun = Instant::now();
    events.emit(EventKind::Local(LocalEvent::Started {
        step: STEP.into(),
        detail: "LocalStack 4.12 into a Python environment, about 40 s".into(),
    }));
    let base = find_python().await?;
    remove_dir(&venv)?;
    let log = home.log("venv");
    let _ = fs::remove_file(&log);
    run(Command::new(&base).args(["-m", "venv"]).arg(&venv), &log, |_| {}).await?;
    let lock = home.scratch("requirements.lock");
    if let Some(parent) = lock.parent() {
        make_dir(parent)?;
    }
    write_file(&lock, LOCK)?;
    let mut bytes = 0;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--require-hashes", "--no-input", "--progress-bar=off"])
        .args(["--disable-pip-version-check", "-r"])
        .arg(&lock);
    run(&mut pip, &log, |line| {
        if let Some(size) = downloaded(line) {
            bytes += size;
            events.emit(EventKind::Local(LocalEvent::Progress {
                step: STEP.into(),
                detail: "packages".into(),
                bytes: Some(bytes),
            }));
        }
    })
    .await?;
    plugin::install(&venv)?;
    write_file(&marker, &wanted)?;
    let _ = fs::remove_file(&lock);
    events.emit(EventKind::Local(LocalEvent::Finished {
        step: STEP.into(),
        outcome: format!("LocalStack installed in {}", venv.display()),
        seconds: begun.elapsed().as_secs_f64(),
        bytes: Some(bytes),
    }));
    Ok(python)
}

/// Waits for a lock file that only this function's callers use; it is freed when dropped.
pub(super) async fn exclusive(path: &Path) -> Result<fs::File, LocalError> {
    let path = path.to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let file = open_log(&path)?;
        file.lock().map_err(LocalError::file("locking", &path))?;
        Ok(file)
    });
    locked.await.unwrap_or_else(|error| {
        Err(LocalError::Emulator { doing: "waiting for a lock", reason: error.to_string() })
    })
}

/// A short name for the content of some files.
pub(super) fn hash(files: &[(&str, &str)]) -> String {
    let mut hasher = Sha256::new();
    for (path, text) in files {
        for part in [path, text] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
    }
    hex(&hasher.finalize())
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A Python that LocalStack 4.12 and its lock run on, able to make environments.
async fn find_python() -> Result<PathBuf, LocalError> {
    const CHECK: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info[:2] != (3, 11))";
    for candidate in ["python3.11", "/usr/bin/python3.11", "python3", "/usr/bin/python3"] {
        let mut command = Command::new(candidate);
        command.args(["-c", CHECK]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if command.status().await.is_ok_and(|status| status.success()) {
            return Ok(candidate.into());
        }
    }
    Err(LocalError::Missing {
        program: "python3.11",
        why: "with its venv module, for LocalStack,",
        get: "on Debian 12: `apt-get install python3 python3-venv` (`scripts/setup run` does)",
    })
}

/// Runs a program to its end, everything it prints into `log` and its stdout also, line by
/// line, to `on_line`.
pub(super) async fn run(
    command: &mut Command,
    log: &Path,
    mut on_line: impl FnMut(&str),
) -> Result<(), LocalError> {
    use std::io::Write;
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let mut out = open_log(log)?;
    let err = out.try_clone().map_err(LocalError::file("opening", log))?;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(err).kill_on_drop(true);
    let failed = |reason: String| LocalError::Program {
        doing: "preparing the local cloud",
        program: program.clone(),
        reason,
        log: log.to_owned(),
    };
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(stdout) = child.stdout.take() {
        let mut lines = BufReader::new(stdout).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let line = String::from_utf8_lossy(&line);
            let _ = writeln!(out, "{line}");
            on_line(&line);
        }
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed(format!("{status}: {}", last_words(log, 5)))) }
}

/// The size in pip's `Downloading NAME (1.2 MB)`; sizes of cached packages are not downloads.
fn downloaded(line: &str) -> Option<u64> {
    let rest = line.trim().strip_prefix("Downloading ")?;
    let (_, size) = rest.rsplit_once('(')?;
    let (number, unit) = size.trim_end_matches(')').split_once(' ')?;
    let number: f64 = number.parse().ok()?;
    let factor = match unit {
        "bytes" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        _ => return None,
    };
    Some((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_names_no_server() {
        assert!(!LOCK.contains("://") && !LOCK.contains("--index") && !LOCK.contains("--find"));
        assert!(LOCK.contains("localstack-core==4.12.0"));
    }

    #[test]
    fn pip_says_how_much_it_downloads() {
        assert_eq!(downloaded("  Downloading boto3-1.42-py3-none-any.whl (140 kB)"), Some(140_000));
        assert_eq!(downloaded("Downloading x.whl (1.5 MB)"), Some(1_500_000));
        assert_eq!(downloaded("  Using cached x.whl (1.5 MB)"), None);
    }
}
