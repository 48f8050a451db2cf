//! How full a machine is: its disk, its inodes and its memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// From which share on a disk, or its inodes, are nearly full, in percent.
pub const FULL: u8 = 85;
/// Below which share of available memory a machine is short of it, in percent.
pub const SCARCE: u8 = 10;
/// By how many percent a figure must differ to be reported again: each report is a change of the swarm.
const STEP: u8 = 5;

/// Figures of a machine, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// How much of the disk is used, of the file system that is fullest: the root's, or the engine's.
    pub disk: u8,
    /// How many of the inodes are used, of the file system that has the fewest left.
    pub inodes: u8,
    /// How much of the memory is available, as Linux estimates it.
    pub memory_available: u8,
}

/// What a machine is short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Short {
    /// Space on its disk.
    Disk(u8),
    /// Inodes.
    Inodes(u8),
    /// Memory.
    Memory(u8),
}

impl Short {
    /// The word in ids of events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk(_) => "disk",
            Self::Inodes(_) => "inodes",
            Self::Memory(_) => "memory",
        }
    }
}

impl Short {
    /// What it is short of, after `enough`.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Disk(_) => "space on its disk",
            Self::Inodes(_) => "inodes",
            Self::Memory(_) => "memory",
        }
    }
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(used) => write!(f, "disk {used} % full"),
            Self::Inodes(used) => write!(f, "inodes {used} % used"),
            Self::Memory(available) => write!(f, "memory {available} % available"),
        }
    }
}

impl Pressure {
    /// What the machine is short of.
    pub fn short_of(self) -> Vec<Short> {
        let mut short = Vec::new();
        if self.disk > FULL {
            short.push(Short::Disk(self.disk));
        }
        if self.inodes > FULL {
            short.push(Short::Inodes(self.inodes));
        }
        if self.memory_available < SCARCE {
            short.push(Short::Memory(self.memory_available));
        }
        short
    }

    /// Whether it differs so much from what was reported that it is worth a report.
    pub fn differs(self, reported: Self) -> bool {
        let far = |a: u8, b: u8| a.abs_diff(b) >= STEP;
        let words = |one: Self| one.short_of().into_iter().map(Short::word).collect::<Vec<_>>();
        far(self.disk, reported.disk)
            || far(self.inodes, reported.inodes)
            || far(self.memory_available, reported.memory_available)
            || words(self) != words(reported)
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk={},inodes={},memory-available={}", self.disk, self.inodes, self.memory_available)
    }
}

/// Why a text holds no figures.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` holds no figures of a machine")]
pub struct BadPressure(String);

impl FromStr for Pressure {
    type Err = BadPressure;

    fn from_str(text: &str) -> Result<Self, BadPressure> {
        let value = |key: &str| {
            let found = text.split(',').find_map(|part| part.strip_prefix(key)?.strip_prefix('='));
            found.and_then(|value| value.parse::<u8>().ok()).filter(|value| *value <= 100)
        };
        match (value("disk"), value("inodes"), value("memory-available")) {
            (Some(disk), Some(inodes), Some(memory_available)) => Ok(Self { disk, inodes, memory_available }),
            _ => Err(BadPressure(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(disk: u8, inodes: u8, memory_available: u8) -> Pressure {
        Pressure { disk, inodes, memory_available }
    }

    #[test]
    fn what_is_high_is_said_with_its_figure() {
        assert_eq!(of(85, 85, 10).short_of(), []);
        let words: Vec<String> = of(86, 99, 9).short_of().iter().map(ToString::to_string).collect();
        assert_eq!(words, ["disk 86 % full", "inodes 99 % used", "memory 9 % available"]);
    }

    #[test]
    fn small_changes_are_reported_only_where_they_cross_a_threshold() {
        assert!(!of(40, 10, 50).differs(of(44, 6, 46)));
        assert!(of(40, 10, 50).differs(of(45, 10, 50)));
        assert!(of(86, 10, 50).differs(of(85, 10, 50)));
        assert!(!of(90, 10, 50).differs(of(87, 10, 50)));
        assert!(of(40, 10, 9).differs(of(40, 10, 10)));
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let pressure = of(87, 12, 40);
        assert_eq!(pressure.to_string().parse(), Ok(pressure));
        assert_eq!("later=1,disk=87,inodes=12,memory-available=40".parse(), Ok(pressure));
        for bad in
            ["", "disk=1", "disk=101,inodes=1,memory-available=1", "disk=x,inodes=1,memory-available=1"]
        {
            assert!(bad.parse::<Pressure>().is_err(), "{bad}");
        }
    }
}
