//! A process of this machine with its descendants, as the kernel lists them. Containers share the
//! machine's kernel, so their processes are found here, too.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

/// How long processes may take to end on their own.
const GRACE: Duration = Duration::from_secs(2);
/// Time between two checks whether they have.
const CHECK: Duration = Duration::from_millis(50);

/// A process. A number is given to another process some time after its owner has ended, so the
/// time of the start is part of the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pid: i32,
    parent: i32,
    session: i32,
    /// In the kernel's ticks since the boot.
    start: u64,
}

/// The process `root` and all that descend from it. Those whose parents have ended are still found
/// by their session.
pub fn of(root: i32) -> Vec<Entry> {
    family(root, &all())
}

/// Sends a signal to all of them that still run.
pub fn signal(processes: &[Entry], signal: Signal) {
    let now = all();
    for one in processes.iter().filter(|one| runs(one, &now)) {
        // One that has ended in between needs no signal.
        let _ = kill(Pid::from_raw(one.pid), signal);
    }
}

/// Ends `root` and all that descend from it: they get `first`, and what still runs after a moment
/// is killed.
pub async fn end(root: i32, first: Signal) {
    let mut processes = of(root);
    signal(&processes, first);
    let begun = Instant::now();
    while begun.elapsed() < GRACE {
        let now = all();
        if !processes.iter().any(|one| runs(one, &now)) {
            return;
        }
        sleep(CHECK).await;
    }
    for one in of(root) {
        if !processes.contains(&one) {
            processes.push(one);
        }
    }
    signal(&processes, Signal::SIGKILL);
}

fn runs(process: &Entry, now: &[Entry]) -> bool {
    now.iter().any(|one| one.pid == process.pid && one.start == process.start)
}

fn family(root: i32, all: &[Entry]) -> Vec<Entry> {
    let mut found: BTreeSet<i32> = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for one in all {
            // The executed process leads a session of its own.
            if found.contains(&one.parent) || one.session == root {
                found.insert(one.pid);
            }
        }
        if found.len() == before {
            return all.iter().filter(|one| found.contains(&one.pid)).copied().collect();
        }
    }
}

/// All processes that run. One that has ended and was not reaped does not.
fn all() -> Vec<Entry> {
    let Ok(folders) = std::fs::read_dir("/proc") else { return Vec::new() };
    folders
        .flatten()
        .filter(|folder| folder.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|folder| parse(&std::fs::read_to_string(folder.path().join("stat")).ok()?))
        .collect()
}

/// Reads a line of `/proc/PID/stat`. A program's name may have blanks and brackets in it.
fn parse(line: &str) -> Option<Entry> {
    let pid = line.split(' ').next()?.parse().ok()?;
    let rest: Vec<&str> = line.rsplit_once(") ")?.1.split(' ').collect();
    if matches!(rest.first(), Some(&"Z" | &"X")) {
        return None;
    }
    Some(Entry {
        pid,
        parent: rest.get(1)?.parse().ok()?,
        session: rest.get(3)?.parse().ok()?,
        start: rest.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read() {
        let line = "4711 (a) b (c)) S 12 4711 4700 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 998877 2478080 0";
        assert_eq!(parse(line), Some(Entry { pid: 4711, parent: 12, session: 4700, start: 998_877 }));
        assert_eq!(parse(&line.replace(" S ", " Z ")), None, "it has ended");
        assert_eq!(parse("4711 (sh"), None);
    }

    #[test]
    fn descendants_are_found_and_others_are_not() {
        let entry = |pid, parent, session| Entry { pid, parent, session, start: 1 };
        let all = [
            entry(1, 0, 1),
            entry(10, 1, 10),
            entry(11, 10, 10),
            // Its parent has ended.
            entry(13, 1, 10),
            // It has a session of its own, and its parent is one of them.
            entry(14, 11, 14),
            entry(20, 1, 20),
        ];
        let pids: Vec<i32> = family(10, &all).iter().map(|one| one.pid).collect();
        assert_eq!(pids, [10, 11, 13, 14]);
        assert_eq!(family(99, &all), []);
    }

    #[tokio::test]
    async fn what_ignores_the_first_signal_is_killed_with_its_children() {
        let script = "trap '' TERM; sleep 1000 & sleep 1000 & wait; wait";
        let mut child =
            Command::new("setsid").args(["sh", "-c", script]).stdin(Stdio::null()).spawn().expect("a shell");
        let root = i32::try_from(child.id()).expect("a number");
        while of(root).len() < 3 {
            sleep(CHECK).await;
        }
        let before = of(root);
        end(root, Signal::SIGTERM).await;
        child.wait().expect("it has ended");
        let limit = Instant::now() + Duration::from_secs(10);
        while before.iter().any(|one| runs(one, &all())) {
            assert!(Instant::now() < limit, "{before:?} still run");
            sleep(CHECK).await;
        }
    }
}
