//! What systemd, from version 252 on, knows: sections, keys and what their values look like.
//!
//! Facts only. The tables are strings of names, so that they can be read and compared with a
//! manual page; `systemd --dump-configuration-items` is held against them in a test.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::name::Kind;

mod deprecated;
mod sections;
mod shared;

pub use deprecated::replacement;

/// What a value looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Anything, with specifiers.
    Text,
    /// Anything, without specifiers.
    Raw,
    /// `yes` or `no`.
    Bool,
    /// `5min 20s`.
    Time,
    /// As `Time`, each assignment one more.
    Times,
    /// `512M`, without percentages.
    Size,
    /// `512M`, `50%` or `infinity`.
    Memory,
    /// `100`, `10%` or `infinity`.
    Tasks,
    /// `20%`.
    Percent,
    /// A limit of sizes, `1G` or `1G:2G`.
    LimitSize,
    /// A limit of a number, `1024` or `1024:4096`.
    LimitNumber,
    /// A limit of time.
    LimitTime,
    /// A whole number between both.
    Number(i64, i64),
    /// A weight between 1 and 10000.
    Weight,
    /// As a weight, or `idle`.
    WeightOrIdle,
    /// An octal mode.
    Mode,
    /// One of these.
    Enum(&'static [&'static str]),
    /// `yes`, `no`, or one of these.
    BoolOr(&'static [&'static str]),
    /// As `Enum`, or a number of at most that.
    EnumOr(&'static [&'static str], i64),
    /// A signal.
    Signal,
    /// Exit codes, their names, and signals.
    ExitStatus,
    /// An absolute path.
    Path,
    /// An absolute path, or one behind `-`.
    PathOrDash,
    /// A directory to work in: absolute, `~`, behind `-`.
    WorkingDirectory,
    /// Several absolute paths, behind `-`, `+`.
    Paths,
    /// Absolute paths between colons.
    SearchPath,
    /// `SOURCE:DESTINATION:OPTIONS`, several, behind `-`.
    Binds,
    /// Several relative paths, as below /var/lib.
    Directories,
    /// A command line.
    Command,
    /// A unit.
    Unit,
    /// A unit of that kind.
    UnitOf(Kind),
    /// Several units.
    Units,
    /// A condition of a path.
    ConditionPath,
    /// A condition that is `yes` or `no`.
    ConditionBool,
    /// `NAME=value`, several.
    Environment,
    /// Addresses of documentation.
    Urls,
    /// Names of environment variables.
    Names,
    /// When a timer elapses.
    Calendar,
    /// A path, a port, an address, or `@abstract`.
    Listen,
    /// Where output goes.
    Output,
    /// Where input comes from.
    Input,
    /// Capabilities, behind `~` all others.
    Capabilities,
    /// Address families, behind `~` all others.
    Families,
}

impl Value {
    /// Whether a later assignment replaces an earlier one.
    pub fn is_single(self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Time
                | Self::Size
                | Self::Memory
                | Self::Tasks
                | Self::Percent
                | Self::Number(..)
                | Self::Weight
                | Self::WeightOrIdle
                | Self::Mode
                | Self::Enum(_)
                | Self::EnumOr(..)
                | Self::Signal
                | Self::WorkingDirectory
                | Self::Output
                | Self::Input
        )
    }
}

/// Keys that take one kind of value: names with spaces between.
type Group = (Value, &'static str);

/// The sections of units, each with the tables of its keys: its own before those it shares.
const SECTIONS: &[(&str, &[&[Group]])] = &[
    ("Unit", &[sections::UNIT]),
    ("Install", &[sections::INSTALL]),
    ("Service", &[sections::SERVICE, shared::EXEC, shared::KILL, shared::RESOURCES]),
    ("Socket", &[sections::SOCKET, shared::EXEC, shared::KILL, shared::RESOURCES]),
    ("Mount", &[sections::MOUNT, shared::EXEC, shared::KILL, shared::RESOURCES]),
    ("Swap", &[sections::SWAP, shared::EXEC, shared::KILL, shared::RESOURCES]),
    ("Automount", &[sections::AUTOMOUNT]),
    ("Timer", &[sections::TIMER]),
    ("Path", &[sections::PATH]),
    ("Slice", &[sections::SLICE, shared::RESOURCES]),
    ("Scope", &[sections::SCOPE, shared::KILL, shared::RESOURCES]),
];

/// For each key, the sections that know it.
static KEYS: LazyLock<HashMap<&'static str, Vec<(&'static str, Value)>>> = LazyLock::new(|| {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for (section, groups) in SECTIONS {
        for (value, names) in groups.iter().flat_map(|group| group.iter()) {
            for name in names.split_whitespace() {
                keys.entry(name).or_default().push((*section, *value));
            }
        }
    }
    keys
});

/// What the value of `key` in `section` looks like, if there is such a key.
pub fn value(section: &str, key: &str) -> Option<Value> {
    KEYS.get(key)?.iter().find(|(name, _)| *name == section).map(|(_, value)| *value)
}

/// Keys of one value that nothing sets back to their default.
const TAKE_NOTHING: &[&str] = &[
    "BlockIOWeight",
    "CPUQuotaPeriodSec",
    "CPUSchedulingPolicy",
    "IOSchedulingClass",
    "IOSchedulingPriority",
    "IPTOS",
    "IgnoreOnSnapshot",
    "KillMode",
    "ManagedOOMMemoryPressure",
    "ManagedOOMSwap",
    "MountAPIVFS",
    "Nice",
    "OOMScoreAdjust",
    "StartupBlockIOWeight",
    "TimeoutAbortSec",
];

/// Whether systemd ignores an assignment of nothing to `key`, as it does for most keys of one
/// value. Where it does not, that takes back what was assigned before.
pub fn ignores_nothing(section: &str, key: &str) -> bool {
    let Some(value) = value(section, key) else { return false };
    let one = match value {
        Value::Memory | Value::Tasks | Value::Percent | Value::Weight | Value::WeightOrIdle => false,
        Value::LimitSize | Value::LimitNumber | Value::LimitTime => true,
        Value::BoolOr(_) | Value::Unit | Value::UnitOf(_) => true,
        Value::WorkingDirectory => false,
        value => value.is_single(),
    };
    one && !TAKE_NOTHING.contains(&key)
}

/// The sections that know `key`.
pub fn sections_of(key: &str) -> impl Iterator<Item = &'static str> {
    KEYS.get(key).into_iter().flatten().map(|(section, _)| *section)
}

/// The keys of `section`, in no order.
pub fn keys(section: &str) -> impl Iterator<Item = &'static str> {
    let groups = SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[][..], |(_, groups)| groups);
    groups.iter().flat_map(|group| group.iter()).flat_map(|(_, names)| names.split_whitespace())
}

/// The sections of systemd's own units.
pub fn all_sections() -> impl Iterator<Item = &'static str> {
    SECTIONS.iter().map(|(name, _)| *name)
}

/// The section that only this kind of unit has.
pub fn own_section(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Service => Some("Service"),
        Kind::Socket => Some("Socket"),
        Kind::Timer => Some("Timer"),
        Kind::Path => Some("Path"),
        Kind::Mount => Some("Mount"),
        Kind::Automount => Some("Automount"),
        Kind::Swap => Some("Swap"),
        Kind::Slice => Some("Slice"),
        Kind::Scope => Some("Scope"),
        Kind::Target | Kind::Device | Kind::Network | Kind::Netdev | Kind::Link => None,
    }
}

/// The sections of a kind of unit.
pub fn sections(kind: Kind) -> Vec<&'static str> {
    let mut sections: Vec<&'static str> = match kind {
        Kind::Network => sections::NETWORK.split_whitespace().collect(),
        Kind::Netdev => sections::NETDEV.split_whitespace().collect(),
        Kind::Link => sections::LINK.split_whitespace().collect(),
        _ => vec!["Unit", "Install"],
    };
    sections.extend(own_section(kind));
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice_in_a_section() {
        for (section, _) in SECTIONS {
            let mut names: Vec<_> = keys(section).collect();
            names.sort_unstable();
            let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
            assert!(twice.is_empty(), "{section}: {twice:?}");
        }
    }

    /// systemd's own list of its keys, where it is installed.
    #[test]
    fn every_key_of_the_systemd_here_is_known() {
        let program = "/usr/lib/systemd/systemd";
        let Ok(output) = std::process::Command::new(program).arg("--dump-configuration-items").output()
        else {
            eprintln!("skipped: {program} can't be run");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let (mut section, mut seen, mut missing) = (String::new(), 0, Vec::new());
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.to_owned();
            } else if let Some((key, _)) = line.split_once('=') {
                seen += 1;
                if value(&section, key).is_none() {
                    missing.push(format!("{section}/{key}"));
                }
            }
        }
        println!("{seen} keys compared");
        assert!(missing.is_empty(), "{missing:?}");
    }
}
