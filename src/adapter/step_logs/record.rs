//! The records of a segment: one for each line.
//!
//! A record is the length of its text, a checksum, the line's number, its time in milliseconds, its kind, and the text;
//! numbers are little-endian. The checksum covers everything after itself, so a record that was not written whole, or
//! that is another line's, is none.

use chrono::DateTime;
use flate2::Crc;

use crate::model::step_log::{LineKind, LogLine, NewLine};

/// The bytes of a record before its text.
pub const HEAD: usize = 25;
/// The longest text of a record, in bytes. Callers keep lines far shorter.
pub const TEXT_MOST: usize = 1 << 20;

/// A record, its text where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    pub number: u64,
    at: i64,
    pub kind: LineKind,
    pub text: &'a str,
    /// All of it, as it is written.
    pub raw: &'a [u8],
}

impl Record<'_> {
    /// The line of its own.
    pub fn line(&self) -> LogLine {
        LogLine {
            number: self.number,
            at: DateTime::from_timestamp_millis(self.at).unwrap_or_default(),
            kind: self.kind,
            text: self.text.to_owned(),
        }
    }
}

/// Appends the record of `line` to `bytes`.
pub fn write(bytes: &mut Vec<u8>, number: u64, line: &NewLine) {
    let text = &line.text[..line.text.floor_char_boundary(TEXT_MOST)];
    let begin = bytes.len();
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or_default().to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&line.at.timestamp_millis().to_le_bytes());
    bytes.push(match line.kind {
        LineKind::Whole => 0,
        LineKind::Continues => 1,
        LineKind::Last => 2,
    });
    bytes.extend_from_slice(text.as_bytes());
    let sum = sum(&bytes[begin + 8..]);
    bytes[begin + 4..begin + 8].copy_from_slice(&sum.to_le_bytes());
}

/// The checksum of `bytes`.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// The number of eight bytes at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// The number of four bytes at `at`.
pub fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// How long the record is that `bytes` begin with, as far as it says so.
pub fn length(bytes: &[u8]) -> Option<usize> {
    let text = usize::try_from(u32_at(bytes, 0)?).ok()?;
    (text <= TEXT_MOST).then_some(HEAD + text)
}

/// The record that `bytes` begin with, and its length; `None` where none is whole. What has a checksum of its own
/// besides needs no `checked`.
pub fn read(bytes: &[u8], checked: bool) -> Option<(Record<'_>, usize)> {
    let length = length(bytes)?;
    let record = bytes.get(..length)?;
    if checked && u32_at(record, 4)? != sum(&record[8..]) {
        return None;
    }
    let kind = match record[24] {
        0 => LineKind::Whole,
        1 => LineKind::Continues,
        2 => LineKind::Last,
        _ => return None,
    };
    let text = std::str::from_utf8(&record[HEAD..]).ok()?;
    let at = u64_at(record, 16)?.cast_signed();
    Some((Record { number: u64_at(record, 8)?, at, kind, text, raw: record }, length))
}
