//! Reboots that a machine wants for itself, and the leave that its cluster gives for them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::{BadName, BootId, MachineId};

/// How long a leave counts. One that is older is another machine's for the asking.
pub const LEAVE: Duration = Duration::from_secs(30 * 60);

/// What a machine's node says while the machine has leave: that what stopped there is to
/// come back, and whether the reboot has happened yet. As text, `SECONDS BOOT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When leave was given, in seconds since 1970.
    pub since: i64,
    /// The boot that is to end. A machine that has another one has rebooted.
    pub boot: BootId,
}

impl Mark {
    /// Whether leave of that age counts no more at `now`, in seconds since 1970.
    pub fn has_lapsed(&self, now: i64) -> bool {
        now - self.since > i64::try_from(LEAVE.as_secs()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.since, self.boot)
    }
}

impl FromStr for Mark {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            text: text.to_owned(),
            what: "the mark of a reboot",
            rule: "it is a time in seconds since 1970 and the id of a boot",
        };
        let (since, boot) = text.split_once(' ').ok_or_else(bad)?;
        Ok(Self { since: since.parse().map_err(|_| bad())?, boot: boot.parse()? })
    }
}

/// The leave to reboot, of which a cluster has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The machine that has it.
    pub machine: MachineId,
    /// Since when, and for which boot.
    pub mark: Mark,
}

/// What a machine hears that asks for leave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It has leave.
    Granted {
        /// Since when, in seconds since 1970.
        since: i64,
        /// Whether there is no other machine that could take over what it runs.
        alone: bool,
    },
    /// Not now.
    Wait {
        /// Why, for its log.
        reason: String,
    },
    /// It had leave, which counts no more: that must be given back before it gets another.
    Lapsed,
}

/// What a machine hears that gives its leave back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Returned {
    /// It takes work, and another machine may have its turn.
    Done,
    /// Not yet: ask again.
    Wait {
        /// Why, for its log.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_as_it_was_written() {
        let text = "1795514400 40dd558d-8af6-4c23-815e-4a21958fe862";
        let mark: Mark = text.parse().expect("a mark");
        assert_eq!((mark.since, mark.to_string().as_str()), (1_795_514_400, text));
        for bad in ["", "1795514400", "soon 40dd558d", "1795514400 ", "1795514400 a b"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }
}
