//! The founding log: who may found a cluster, and which one was founded, as the control machines
//! agree on it in the rendezvous.
//!
//! Each record is a parameter of its own, numbered from 1, that is created only if it is absent and
//! is never changed or deleted. Taking over from a machine and publishing what that machine founded
//! are both the creation of the next record, so at most one of them succeeds, however late a
//! request arrives.

use serde::{Deserialize, Serialize};

use super::name::{MachineId, SwarmId};

/// The version of records that is written.
const VERSION: u32 = 1;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// The machine may found, until the next record.
    Claim {
        /// The machine.
        machine: MachineId,
    },
    /// The cluster exists. Machines join this one and no other.
    Published {
        /// The machine that founded it, or that found it when there was no log yet.
        machine: MachineId,
        /// The swarm's id.
        cluster: SwarmId,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    entry: Entry,
}

/// Why the log or a record beside it cannot be used. Nothing may be founded then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLog {
    /// A record cannot be read.
    #[error(
        "parameter `{name}`: {reason}. If a later version of fleetwright wrote it, upgrade this machine's agent"
    )]
    Record {
        /// The parameter's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record is missing that was there when a later one was created.
    #[error(
        "the founding log has no record {missing}, but a later one. Restore parameter `founding/{missing}` \
         from the parameter store's history, or delete the later records if no cluster exists"
    )]
    Gap {
        /// The number of the first missing record.
        missing: u64,
    },
}

impl Entry {
    /// The text that is stored.
    pub fn text(&self) -> String {
        let stored = Stored { version: VERSION, entry: self.clone() };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads what was stored as parameter `name`.
    ///
    /// # Errors
    /// [`BadLog::Record`] when it is not a record of a known version.
    pub fn read(name: &str, text: &str) -> Result<Self, BadLog> {
        let bad = |reason: String| BadLog::Record { name: name.to_owned(), reason };
        let stored: Stored = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        match stored.version {
            VERSION => Ok(stored.entry),
            other => Err(bad(format!("its version is {other}, and this program knows {VERSION}"))),
        }
    }
}

/// The records in their order, without a gap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log(Vec<Entry>);

/// A cluster that was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published<'a> {
    /// The number of its record; a cluster that is founded later has a higher one.
    pub generation: u64,
    /// The swarm's id.
    pub cluster: &'a SwarmId,
    /// The machine that published it.
    pub machine: &'a MachineId,
}

impl Log {
    /// A log without a record.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads parameters: each one's full name, of which the last part is the record's number, and
    /// its value. Their order does not matter.
    ///
    /// # Errors
    /// When a record is unreadable or missing.
    pub fn read<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, BadLog> {
        let mut found = Vec::new();
        for (name, text) in parameters {
            let number: u64 =
                name.rsplit('/').next().and_then(|last| last.parse().ok()).ok_or_else(|| BadLog::Record {
                    name: name.to_owned(),
                    reason: "its name does not end in a number".to_owned(),
                })?;
            found.push((number, Entry::read(name, text)?));
        }
        found.sort_by_key(|(number, _)| *number);
        for (expected, (number, _)) in (1..).zip(&found) {
            if *number != expected {
                return Err(BadLog::Gap { missing: expected });
            }
        }
        Ok(Self(found.into_iter().map(|(_, entry)| entry).collect()))
    }

    /// A log of these records.
    pub fn of(entries: Vec<Entry>) -> Self {
        Self(entries)
    }

    /// The last record.
    pub fn last(&self) -> Option<&Entry> {
        self.0.last()
    }

    /// The number that the next record gets.
    pub fn next_number(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX - 1) + 1
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cluster that was published last: the one that exists, unless it was lost.
    pub fn published(&self) -> Option<Published<'_>> {
        self.all_published().last()
    }

    /// Whether that swarm was ever published: other machines may have joined it.
    pub fn ever_published(&self, cluster: &SwarmId) -> bool {
        self.all_published().any(|one| one.cluster == cluster)
    }

    /// Whether that machine ever claimed: a swarm of its own that was never published is then one that
    /// it founded in vain.
    pub fn ever_claimed(&self, machine: &MachineId) -> bool {
        self.0.iter().any(|entry| matches!(entry, Entry::Claim { machine: other } if other == machine))
    }

    /// All clusters that were published, the oldest first.
    pub fn all_published(&self) -> impl Iterator<Item = Published<'_>> {
        (1..).zip(&self.0).filter_map(|(generation, entry)| match entry {
            Entry::Published { machine, cluster } => Some(Published { generation, cluster, machine }),
            Entry::Claim { .. } => None,
        })
    }
}

/// That a control machine may hold state of a cluster. It is recorded before the machine joins or
/// publishes, under a name that is used once, so that a deletion that arrives late can only remove
/// the record that it was meant for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The machine.
    pub machine: MachineId,
    /// The last part of the parameter's name.
    pub key: String,
    /// The swarm; `None` when its id was not published yet.
    pub cluster: Option<SwarmId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredHolder {
    version: u32,
    cluster: Option<SwarmId>,
}

impl Holder {
    /// The text that is stored.
    pub fn text(cluster: Option<&SwarmId>) -> String {
        let stored = StoredHolder { version: VERSION, cluster: cluster.cloned() };
        serde_json::to_string(&stored).unwrap_or_default()
    }

    /// Reads parameter `.../MACHINE/KEY`.
    ///
    /// # Errors
    /// [`BadLog::Record`] when it is not a record of a known version.
    pub fn read(name: &str, text: &str) -> Result<Self, BadLog> {
        let bad = |reason: String| BadLog::Record { name: name.to_owned(), reason };
        let mut parts = name.rsplit('/');
        let (key, machine) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let machine: MachineId = machine.parse().map_err(|error| bad(format!("its name: {error}")))?;
        let stored: StoredHolder = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
        match stored.version {
            VERSION => Ok(Self { machine, key: key.to_owned(), cluster: stored.cluster }),
            other => Err(bad(format!("its version is {other}, and this program knows {VERSION}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> MachineId {
        format!("i-{number}").parse().expect("an id")
    }

    fn swarm(text: &str) -> SwarmId {
        text.parse().expect("an id")
    }

    /// What version 1 wrote; later versions must read it.
    #[test]
    fn the_first_format_loads() {
        let log = Log::read([
            ("/f/founding/2", r#"{"version":1,"entry":{"published":{"machine":"i-1","cluster":"abc"}}}"#),
            ("/f/founding/1", r#"{"version":1,"entry":{"claim":{"machine":"i-1"}}}"#),
        ])
        .expect("a log");
        assert_eq!(
            log.published(),
            Some(Published { generation: 2, cluster: &swarm("abc"), machine: &id(1) })
        );
        assert_eq!(log.next_number(), 3);
        let holder =
            Holder::read("/f/members/i-7/abc", r#"{"version":1,"cluster":"abc"}"#).expect("a record");
        assert_eq!(holder, Holder { machine: id(7), key: "abc".into(), cluster: Some(swarm("abc")) });
        let holder = Holder::read("/f/members/i-7/abc", r#"{"version":1,"cluster":null}"#).expect("a record");
        assert_eq!(holder.cluster, None);
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        for entry in
            [Entry::Claim { machine: id(3) }, Entry::Published { machine: id(3), cluster: swarm("x1") }]
        {
            assert_eq!(Entry::read("/f/founding/1", &entry.text()), Ok(entry));
        }
        let text = Holder::text(Some(&swarm("x1")));
        assert_eq!(Holder::read("/m/i-3/k", &text).expect("a record").cluster, Some(swarm("x1")));
    }

    #[test]
    fn a_later_format_is_not_taken_for_an_empty_log() {
        for text in ["", "{}", r#"{"version":2,"entry":{"claim":{"machine":"i-1"}}}"#] {
            assert!(Log::read([("/f/founding/1", text)]).is_err(), "{text}");
            assert!(Holder::read("/f/members/i-1/a", text).is_err(), "{text}");
        }
        let claim = Entry::Claim { machine: id(1) }.text();
        assert!(Log::read([("/f/founding/first", claim.as_str())]).is_err());
    }

    #[test]
    fn a_gap_is_an_error() {
        let claim = Entry::Claim { machine: id(1) }.text();
        let log = Log::read([("/f/founding/1", claim.as_str()), ("/f/founding/3", claim.as_str())]);
        assert_eq!(log, Err(BadLog::Gap { missing: 2 }));
        assert_eq!(Log::read([("/f/founding/10", claim.as_str())]), Err(BadLog::Gap { missing: 1 }));
    }

    #[test]
    fn the_tenth_record_follows_the_ninth() {
        let texts: Vec<(String, String)> =
            (1..=11).map(|n| (format!("/f/founding/{n}"), Entry::Claim { machine: id(n) }.text())).collect();
        let mut sorted = texts.clone();
        sorted.sort();
        let log = Log::read(sorted.iter().map(|(name, text)| (name.as_str(), text.as_str()))).expect("a log");
        assert_eq!(log.last(), Some(&Entry::Claim { machine: id(11) }));
    }

    #[test]
    fn every_recorded_founding_loads() {
        for (name, text) in crate::source::samples::of("founding") {
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let text = |key: &str| sample[key].to_string();
            let log = Log::read([("/f/1", text("claim").as_str()), ("/f/2", text("published").as_str())]);
            let log = log.unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(log.published().map(|published| published.generation), Some(2), "{name}");
            let holder = Holder::read("/f/members/i-1/a", &text("holder")).expect(&name);
            assert!(holder.cluster.is_some(), "{name}");
        }
    }
}
