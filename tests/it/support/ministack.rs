//! A server of ministack, a second emulator of AWS, for one test: it knows what LocalStack does
//! not (rollbacks, protection, exports in use), and forgets everything when it ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::lab::home;
use super::registry::free_port;

/// A server that ends with this value.
pub struct Ministack {
    process: Child,
    port: u16,
    /// What it writes; nothing of it is kept.
    _folder: tempfile::TempDir,
}

impl Ministack {
    /// Starts one on a free port and waits until it answers.
    pub fn start() -> Self {
        let python = home().join("ministack/bin/python");
        assert!(
            python.exists(),
            "ministack is not installed in {}: run `scripts/setup test`",
            home().join("ministack").display()
        );
        let folder = tempfile::tempdir().expect("a folder");
        let mut last = String::new();
        // Somebody else may be faster to take a port that was free.
        for _ in 0..5 {
            let port = free_port();
            let log = folder.path().join(format!("{port}.log"));
            let mut process = spawn(&python, folder.path(), port, &log);
            if listens(&mut process, &log) {
                return Self { process, port, _folder: folder };
            }
            let _ = process.kill();
            let _ = process.wait();
            last = std::fs::read_to_string(log).unwrap_or_default();
        }
        panic!("ministack does not start:\n{last}");
    }

    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(python: &Path, folder: &Path, port: u16, log: &Path) -> Child {
    let log = std::fs::File::create(log).expect("a log");
    Command::new(python)
        .args(["-m", "ministack"])
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("TMPDIR", folder)
        .env("GATEWAY_PORT", port.to_string())
        .env("BIND_HOST", "127.0.0.1")
        // The addresses that it hands out, such as those of wait handles.
        .env("MINISTACK_HOST", "127.0.0.1")
        // It would look for containers of its own.
        .env("DOCKER_HOST", "unix:///nowhere")
        // At less it does not say that it listens.
        .env("LOG_LEVEL", "INFO")
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("Python runs")
}

/// Waits until the server says that it listens; false when it ended first. Its own word is
/// wanted, because on a port that somebody else took it is not the one that answers.
fn listens(process: &mut Child, log: &Path) -> bool {
    let limit = Instant::now() + Duration::from_secs(15);
    while Instant::now() < limit {
        if std::fs::read_to_string(log).is_ok_and(|text| text.contains("Running on http://127.0.0.1:")) {
            return true;
        }
        if process.try_wait().expect("a child").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
