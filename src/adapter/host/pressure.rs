//! How full this machine is.

use std::io;
use std::path::Path;

use crate::model::pressure::Pressure;

/// File systems that matter: the root's, and those of what the engine and the agent keep.
const PLACES: [&str; 3] = ["/", "/var/lib/docker", "/var/lib/fleetwright"];
/// Where Linux reports its memory (`proc_meminfo(5)`).
const MEMORY: &str = "/proc/meminfo";

/// The figures of this machine now.
///
/// # Errors
/// When Linux does not report them.
pub fn pressure() -> io::Result<Pressure> {
    let (mut disk, mut inodes) = (0, 0);
    for place in PLACES {
        let Ok(found) = nix::sys::statvfs::statvfs(Path::new(place)) else { continue };
        // What is reserved for root counts as used, as `df` counts it.
        let used = found.blocks() - found.blocks_free();
        disk = disk.max(share(used, used + found.blocks_available()));
        inodes = inodes.max(share(found.files() - found.files_free(), found.files()));
    }
    let text = std::fs::read_to_string(MEMORY)?;
    Ok(Pressure {
        disk,
        inodes,
        memory_available: memory_available(&text).ok_or(io::ErrorKind::InvalidData)?,
    })
}

/// How much of the memory is available, in percent.
fn memory_available(text: &str) -> Option<u8> {
    let value = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(share(value("MemAvailable")?, value("MemTotal")?))
}

/// A part of a whole in percent, rounded down; 0 of nothing.
fn share(part: u64, whole: u64) -> u8 {
    let percent = u128::from(part) * 100 / u128::from(whole.max(1));
    u8::try_from(percent.min(100)).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_computer_has_figures() {
        let found = pressure().expect("Linux reports them");
        assert!(found.disk <= 100 && found.inodes <= 100 && found.memory_available <= 100, "{found}");
    }

    #[test]
    fn memory_is_what_programs_could_get() {
        let text = "MemTotal:       16000000 kB\nMemFree:          100000 kB\nMemAvailable:    4000000 kB\n";
        assert_eq!(memory_available(text), Some(25));
        assert_eq!(memory_available("MemTotal: 1 kB\n"), None);
        assert_eq!((share(0, 0), share(7, 3), share(1, 3)), (0, 100, 33));
    }
}
