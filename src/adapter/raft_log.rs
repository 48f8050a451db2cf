//! Where the log of a manager ends, from its files.
//!
//! Without a majority the engine answers nothing about its state, and asks nobody. Its log is
//! etcd's write-ahead log: frames of records, of which Swarm encrypts the entries' data and leaves
//! their terms and indexes in the clear. Swarm's own rule for which of two logs is newer is the
//! same as Raft's: the higher term, then the higher index.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::model::cluster::LogEnd;
use crate::port::recovery::Logs;

/// Where the engine of a machine keeps its log.
pub const SWARM: &str = "/var/lib/docker/swarm/raft/wal-v3-encrypted";

/// The logs of this machine.
#[derive(Debug, Clone)]
pub struct LogFiles {
    /// Where the engine keeps its log.
    pub engine: PathBuf,
    /// Where etcd keeps its log.
    pub etcd: PathBuf,
}

impl Default for LogFiles {
    fn default() -> Self {
        Self { engine: PathBuf::from(SWARM), etcd: Path::new(super::etcd_machine::DATA).join("member/wal") }
    }
}

async fn read(folder: PathBuf) -> io::Result<Option<LogEnd>> {
    tokio::task::spawn_blocking(move || end(&folder)).await.map_err(io::Error::other)?
}

#[async_trait]
impl Logs for LogFiles {
    async fn etcd(&self) -> io::Result<Option<LogEnd>> {
        read(self.etcd.clone()).await
    }

    async fn engine(&self) -> io::Result<Option<LogEnd>> {
        read(self.engine.clone()).await
    }
}

/// The most of one file that is read; Swarm and etcd begin a new one at 64 MB.
const LONGEST: u64 = 256 << 20;

/// The kinds of records.
const ENTRY: u64 = 2;
const SNAPSHOT: u64 = 5;

/// Where the log in `folder` ends; `None` when there is no log.
///
/// # Errors
/// When the folder or a file can't be read.
pub fn end(folder: &Path) -> io::Result<Option<LogEnd>> {
    let mut files = Vec::new();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        // `SEQUENCE-INDEX.wal`; those still in preparation end otherwise.
        if path.extension().is_some_and(|extension| extension == "wal") {
            files.push(path);
        }
    }
    files.sort();
    let mut found = None;
    // The newest file may not have an entry yet.
    for file in files.iter().rev() {
        let file = fs::File::open(file)?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, LONGEST), &mut bytes)?;
        found = found.max(last(&bytes));
        if found.is_some() {
            break;
        }
    }
    Ok(found)
}

/// The last entry or snapshot that the frames of a file name. Entries that a new leader replaced
/// are still there, before those that replaced them.
fn last(bytes: &[u8]) -> Option<LogEnd> {
    let mut found: Option<LogEnd> = None;
    let mut rest = bytes;
    while let Some((record, after)) = frame(rest) {
        rest = after;
        let Some(fields) = fields(record) else { break };
        let kind = fields.number(1).unwrap_or(0);
        let Some(data) = fields.bytes(3) else { continue };
        let end = match kind {
            // An entry: type, term, index, data.
            ENTRY => self::fields(data).and_then(|entry| end_of(&entry, 2, 3)),
            // A snapshot: index, term.
            SNAPSHOT => self::fields(data).and_then(|snapshot| end_of(&snapshot, 2, 1)),
            _ => None,
        };
        if let Some(end) = end {
            // The first snapshot of a log that was never compacted stands for nothing.
            found = if kind == ENTRY { Some(end) } else { found.max((end.index > 0).then_some(end)) };
        }
    }
    found
}

fn end_of(fields: &Fields<'_>, term: u64, index: u64) -> Option<LogEnd> {
    Some(LogEnd { term: fields.number(term).unwrap_or(0), index: fields.number(index)? })
}

/// The first record of `bytes`, and what is behind it. The length is in the lower 56 bits of the
/// frame's head; the upper byte says how much padding follows. A file is made in full length:
/// zeros are its end, and so is a record that is cut short.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let length = usize::try_from(head & 0x00ff_ffff_ffff_ffff).ok()?;
    let padding = if head >> 63 == 1 { usize::try_from(head >> 56 & 7).ok()? } else { 0 };
    if length == 0 {
        return None;
    }
    let record = bytes.get(8..8_usize.checked_add(length)?)?;
    Some((record, bytes.get(8 + length + padding..).unwrap_or_default()))
}

/// The fields of a message in protobuf's encoding.
struct Fields<'a>(Vec<(u64, Value<'a>)>);

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    fn number(&self, wanted: u64) -> Option<u64> {
        self.0.iter().find_map(|(field, value)| match value {
            Value::Number(number) if *field == wanted => Some(*number),
            Value::Number(_) | Value::Bytes(_) => None,
        })
    }

    fn bytes(&self, wanted: u64) -> Option<&'a [u8]> {
        self.0.iter().find_map(|(field, value)| match value {
            Value::Bytes(bytes) if *field == wanted => Some(*bytes),
            Value::Number(_) | Value::Bytes(_) => None,
        })
    }
}

fn fields(mut bytes: &[u8]) -> Option<Fields<'_>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes)?;
        let (field, wire) = (key >> 3, key & 7);
        bytes = match wire {
            0 => {
                let (number, rest) = varint(rest)?;
                found.push((field, Value::Number(number)));
                rest
            }
            2 => {
                let (length, rest) = varint(rest)?;
                let length = usize::try_from(length).ok()?;
                found.push((field, Value::Bytes(rest.get(..length)?)));
                rest.get(length..)?
            }
            1 => rest.get(8..)?,
            5 => rest.get(4..)?,
            _ => return None,
        };
    }
    Some(Fields(found))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(u32::try_from(7 * at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn put(out: &mut Vec<u8>, mut number: u64) {
        while number > 0x7f {
            out.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        out.push(number as u8);
    }

    fn message(numbers: &[(u64, u64)], data: Option<(u64, &[u8])>) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, number) in numbers {
            put(&mut out, field << 3);
            put(&mut out, *number);
        }
        if let Some((field, bytes)) = data {
            put(&mut out, field << 3 | 2);
            put(&mut out, bytes.len() as u64);
            out.extend(bytes);
        }
        out
    }

    fn framed(kind: u64, data: &[u8]) -> Vec<u8> {
        let record = message(&[(1, kind), (2, 7)], Some((3, data)));
        let padding = (8 - record.len() % 8) % 8;
        let head = record.len() as u64 | if padding > 0 { (0x80 | padding as u64) << 56 } else { 0 };
        let mut out = head.to_le_bytes().to_vec();
        out.extend(record);
        out.extend(vec![0; padding]);
        out
    }

    fn entry(term: u64, index: u64) -> Vec<u8> {
        framed(ENTRY, &message(&[(1, 0), (2, term), (3, index)], Some((4, b"encrypted"))))
    }

    #[test]
    fn the_last_entry_is_the_end() {
        let mut bytes = framed(4, b"");
        bytes.extend(framed(1, b"metadata"));
        bytes.extend(framed(SNAPSHOT, &message(&[(1, 0), (2, 0)], None)));
        assert_eq!(last(&bytes), None);
        bytes.extend(entry(2, 10));
        bytes.extend(framed(3, &message(&[(1, 9), (2, 1), (3, 10)], None)));
        bytes.extend(entry(2, 300));
        bytes.extend(vec![0; 4096]);
        assert_eq!(last(&bytes), Some(LogEnd { term: 2, index: 300 }));
    }

    #[test]
    fn what_a_new_leader_replaced_does_not_count() {
        let mut bytes = entry(2, 10);
        bytes.extend(entry(2, 11));
        bytes.extend(entry(3, 11));
        assert_eq!(last(&bytes), Some(LogEnd { term: 3, index: 11 }));
    }

    #[test]
    fn the_newest_file_counts_and_one_without_entries_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("written");
        assert_eq!(end(&folder.path().join("none")).expect("read"), None);
        write("0000000000000000-0000000000000000.wal", &entry(2, 10));
        write("0000000000000001-000000000000000b.wal", &entry(2, 12));
        write("0000000000000002-000000000000000d.wal", &framed(4, b""));
        write("0.tmp", &entry(9, 99));
        assert_eq!(end(folder.path()).expect("read"), Some(LogEnd { term: 2, index: 12 }));
    }

    /// The log of a manager of Docker 20.10.24: an init and one config object.
    #[test]
    fn a_log_of_docker_s_own_is_read() {
        let bytes = include_bytes!("samples/swarm-20.10.wal");
        assert_eq!(last(bytes), Some(LogEnd { term: 2, index: 12 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0_usize..200) {
            let _ = last(&bytes);
            let mut log = entry(2, 10);
            log.extend(entry(2, 11));
            log.truncate(log.len().saturating_sub(cut));
            let _ = last(&log);
        }
    }
}
