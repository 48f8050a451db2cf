//! Segments: the files of a log. An open one is `FIRST.log`, to which records are appended; a closed one is
//! `FIRST.zst`, in frames that are read one by one. FIRST is the number of its first line.
//!
//! Both begin with the same head: eight bytes of their kind, the format's version, a checksum of the rest of the head, the
//! number of the first line, and how many bytes of text the log has before it. Beside an open segment, `FIRST.idx` has the
//! place of every 256th record; it is only a hint, and checked against the record. A closed segment has its index
//! at its end: for each frame its first line, its place, and its lengths.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::record::{self, HEAD, Record, u32_at, u64_at};
use crate::model::step_log::LineKind;

/// The version of both kinds of files.
pub const VERSION: u32 = 1;
const OPEN: &[u8; 8] = b"fwsteplg";
const CLOSED: &[u8; 8] = b"fwstepzs";
/// What a closed segment ends with.
const END: &[u8; 8] = b"fwstepix";
/// The bytes of a head.
pub const FILE_HEAD: usize = 32;
/// How often an open segment's index has a line.
pub const EVERY: u64 = 256;
/// How many bytes of records a frame has, about.
const FRAME: usize = 256 << 10;
/// The bytes of an entry of a closed segment's index.
const ENTRY: usize = 24;
/// The bytes after it.
const TAIL: usize = 16;
/// How much of an open segment is read at a time.
const PIECE: usize = 256 << 10;
/// The compression level, a fast one: segments are closed while their step prints.
const LEVEL: i32 = 1;

/// What a file's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub first: u64,
    /// How many bytes of text the log has before it.
    pub before: u64,
}

impl Head {
    fn bytes(self, kind: &[u8; 8]) -> Vec<u8> {
        let mut bytes = kind.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.before.to_le_bytes());
        let sum = record::sum(&bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8], kind: &[u8; 8]) -> io::Result<Self> {
        let bad = |words: String| io::Error::new(io::ErrorKind::InvalidData, words);
        if bytes.len() < FILE_HEAD || bytes[..8] != *kind {
            return Err(bad("it does not begin as a log does".to_owned()));
        }
        let version = u32_at(bytes, 8).unwrap_or_default();
        if version != VERSION {
            return Err(bad(format!(
                "it has version {version}, this version of fleetwright knows {VERSION}"
            )));
        }
        match (u64_at(bytes, 16), u64_at(bytes, 24)) {
            (Some(first), Some(before)) if u32_at(bytes, 12) == Some(record::sum(&bytes[16..FILE_HEAD])) => {
                Ok(Self { first, before })
            }
            _ => Err(bad("its head is damaged".to_owned())),
        }
    }
}

/// A segment that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub first: u64,
    pub path: PathBuf,
    pub closed: bool,
}

/// The segments of the log in `folder`, in order. Of one that is there twice, the closed one counts: it was complete
/// before it got its name.
pub fn list(folder: &Path) -> io::Result<Vec<Segment>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let closed = match path.extension().and_then(|extension| extension.to_str()) {
            Some("log") => false,
            Some("zst") => true,
            _ => continue,
        };
        found.extend(stem.map(|first| Segment { first, path, closed }));
    }
    found.sort_by_key(|segment| (segment.first, !segment.closed));
    found.dedup_by_key(|segment| segment.first);
    Ok(found)
}

/// The path of a segment.
pub fn path(folder: &Path, first: u64, extension: &str) -> PathBuf {
    folder.join(format!("{first:020}.{extension}"))
}

/// Makes what was created, renamed or removed in `folder` last.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).open(folder)?.sync_all()
}

/// Creates an open segment that has no record.
pub fn create(folder: &Path, head: Head) -> io::Result<(File, File)> {
    let options = || {
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        options
    };
    let index = options().open(path(folder, head.first, "idx"))?;
    let mut file = options().open(path(folder, head.first, "log"))?;
    file.write_all(&head.bytes(OPEN))?;
    file.sync_data()?;
    sync_folder(folder)?;
    Ok((file, index))
}

/// Passes the records of a segment from line `from` on to `take` until that ends it. Ends where the records do that
/// are whole and follow each other.
pub fn read(segment: &Segment, from: u64, take: &mut dyn FnMut(Record<'_>) -> bool) -> io::Result<bool> {
    let mut file = OpenOptions::new().read(true).open(&segment.path)?;
    match segment.closed {
        true => read_closed(&mut file, from, take),
        false => read_open(&file, from, &segment.path.with_extension("idx"), &mut |record, _| take(record)),
    }
}

/// As [`read`], of an open segment; `take` also gets the place after each record.
pub fn read_open(
    file: &File,
    from: u64,
    index: &Path,
    take: &mut dyn FnMut(Record<'_>, u64) -> bool,
) -> io::Result<bool> {
    let mut head = [0; FILE_HEAD];
    let there = fill(file, &mut head, 0)?;
    let head = Head::of(&head[..there], OPEN)?;
    let mut number = head.first;
    let mut at = FILE_HEAD as u64;
    if let Some((line, place)) = hint(index, from) {
        // The index is not synced, and what it was made for may have been cut off.
        let mut start = [0; HEAD];
        if fill(file, &mut start, place)? == HEAD && u64_at(&start, 8) == Some(line) && line >= number {
            (number, at) = (line, place);
        }
    }
    let mut buffer = Vec::new();
    let mut read_to = at;
    loop {
        let begin = buffer.len();
        buffer.resize(begin + PIECE, 0);
        let got = fill(file, &mut buffer[begin..], read_to)?;
        buffer.truncate(begin + got);
        read_to += got as u64;
        let mut used = 0;
        while let Some((record, length)) = record::read(&buffer[used..], true) {
            if record.number != number {
                return Ok(true);
            }
            at += length as u64;
            used += length;
            number += 1;
            if record.number >= from && !take(record, at) {
                return Ok(false);
            }
        }
        let left = buffer.len() - used;
        let damaged = left >= HEAD && record::length(&buffer[used..]).is_none_or(|length| left >= length);
        if got == 0 || damaged {
            return Ok(true);
        }
        buffer.drain(..used);
    }
}

/// Fills `buffer` from the file's bytes at `at` on, as far as there are any.
fn fill(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The last line of an open segment's index that is not after `from`, and its place.
fn hint(index: &Path, from: u64) -> Option<(u64, u64)> {
    let mut bytes = Vec::new();
    OpenOptions::new().read(true).open(index).ok()?.read_to_end(&mut bytes).ok()?;
    let entries = bytes.chunks_exact(16).filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?)));
    entries.take_while(|(line, _)| *line <= from).last()
}

/// A frame of a closed segment.
struct Frame {
    first: u64,
    at: u64,
    packed: usize,
    unpacked: usize,
}

fn read_closed(file: &mut File, from: u64, take: &mut dyn FnMut(Record<'_>) -> bool) -> io::Result<bool> {
    let frames = frames(file)?;
    let begin = frames.partition_point(|frame| frame.first <= from).saturating_sub(1);
    let mut packed = Vec::new();
    for frame in &frames[begin.min(frames.len())..] {
        packed.resize(frame.packed, 0);
        file.read_exact_at(&mut packed, frame.at)?;
        // Frames have checksums of their own.
        let bytes = zstd::bulk::decompress(&packed, frame.unpacked)?;
        let mut rest = &bytes[..];
        while let Some((record, length)) = record::read(rest, false) {
            rest = &rest[length..];
            if record.number >= from && !take(record) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The frames of a closed segment.
fn frames(file: &mut File) -> io::Result<Vec<Frame>> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "its index is damaged");
    let mut head = [0; FILE_HEAD];
    let there = fill(file, &mut head, 0)?;
    Head::of(&head[..there], CLOSED)?;
    let length = file.seek(SeekFrom::End(0))?;
    let mut tail = [0; TAIL];
    file.read_exact_at(&mut tail, length.checked_sub(TAIL as u64).ok_or_else(bad)?)?;
    let count = u32_at(&tail, 0).ok_or_else(bad)? as usize;
    let start = length.checked_sub((TAIL + count * ENTRY) as u64).ok_or_else(bad)?;
    let mut bytes = vec![0; count * ENTRY];
    file.read_exact_at(&mut bytes, start)?;
    if tail[8..] != *END || u32_at(&tail, 4) != Some(record::sum(&bytes)) {
        return Err(bad());
    }
    let frame = |entry: &[u8]| {
        let (packed, unpacked) = (u32_at(entry, 16)? as usize, u32_at(entry, 20)? as usize);
        Some(Frame { first: u64_at(entry, 0)?, at: u64_at(entry, 8)?, packed, unpacked })
    };
    bytes.chunks_exact(ENTRY).map(|entry| frame(entry).ok_or_else(bad)).collect()
}

/// Closes an open segment, whose records are all counted in the journal: the closed one replaces it.
pub fn close(folder: &Path, first: u64) -> io::Result<()> {
    let open = path(folder, first, "log");
    let file = OpenOptions::new().read(true).open(&open)?;
    let mut head = [0; FILE_HEAD];
    let there = fill(&file, &mut head, 0)?;
    let head = Head::of(&head[..there], OPEN)?;
    // Made with mode 0600.
    let mut into = tempfile::Builder::new().prefix(".closing").tempfile_in(folder)?;
    into.write_all(&head.bytes(CLOSED))?;
    let mut packer = zstd::bulk::Compressor::new(LEVEL)?;
    packer.include_checksum(true)?;
    let mut at = FILE_HEAD as u64;
    let mut index = Vec::new();
    let mut frame = Vec::new();
    let mut begins = first;
    let mut result = Ok(());
    let mut put = |frame: &mut Vec<u8>, begins: u64| -> io::Result<()> {
        let packed = packer.compress(frame)?;
        into.write_all(&packed)?;
        index.extend_from_slice(&begins.to_le_bytes());
        index.extend_from_slice(&at.to_le_bytes());
        for length in [packed.len(), frame.len()] {
            index.extend_from_slice(&u32::try_from(length).map_err(io::Error::other)?.to_le_bytes());
        }
        at += packed.len() as u64;
        frame.clear();
        Ok(())
    };
    read_open(&file, first, Path::new(""), &mut |record, _| {
        if frame.is_empty() {
            begins = record.number;
        }
        frame.extend_from_slice(record.raw);
        if frame.len() >= FRAME {
            result = put(&mut frame, begins);
        }
        result.is_ok()
    })?;
    result?;
    if !frame.is_empty() {
        put(&mut frame, begins)?;
    }
    let count = u32::try_from(index.len() / ENTRY).map_err(io::Error::other)?;
    into.write_all(&index)?;
    into.write_all(&count.to_le_bytes())?;
    into.write_all(&record::sum(&index).to_le_bytes())?;
    into.write_all(END)?;
    into.as_file().sync_all()?;
    into.persist(path(folder, first, "zst"))?;
    sync_folder(folder)?;
    drop(fs::remove_file(path(folder, first, "idx")));
    fs::remove_file(open)
}

/// Opens a closed segment again, so that lines can be cut off it.
pub fn reopen(folder: &Path, first: u64) -> io::Result<()> {
    let closed = path(folder, first, "zst");
    let mut file = OpenOptions::new().read(true).open(&closed)?;
    let mut head = [0; FILE_HEAD];
    let there = fill(&file, &mut head, 0)?;
    let head = Head::of(&head[..there], CLOSED)?;
    let mut into = tempfile::Builder::new().prefix(".opening").tempfile_in(folder)?;
    into.write_all(&head.bytes(OPEN))?;
    let mut result = Ok(());
    read_closed(&mut file, first, &mut |record| {
        result = into.write_all(record.raw);
        result.is_ok()
    })?;
    result?;
    into.as_file().sync_all()?;
    into.persist(path(folder, first, "log"))?;
    fs::remove_file(closed)?;
    sync_folder(folder)
}

/// The end of an open segment whose lines up to `known` count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOf {
    /// The number of its next line.
    pub next: u64,
    /// The bytes up to there.
    pub bytes: u64,
    /// The bytes of text up to there, of the whole log.
    pub text: u64,
    /// Whether its last line is the last of the log.
    pub last: bool,
}

/// Looks where the open segment ends that begins with line `first`.
pub fn end_of(folder: &Path, first: u64, known: u64) -> io::Result<EndOf> {
    let file = OpenOptions::new().read(true).open(path(folder, first, "log"))?;
    let mut head = [0; FILE_HEAD];
    let there = fill(&file, &mut head, 0)?;
    let head = Head::of(&head[..there], OPEN)?;
    let mut end = EndOf { next: first, bytes: FILE_HEAD as u64, text: head.before, last: false };
    read_open(&file, first, Path::new(""), &mut |record, at| {
        if record.number > known {
            return false;
        }
        end = EndOf {
            next: record.number + 1,
            bytes: at,
            text: end.text + record.text.len() as u64,
            last: record.kind == LineKind::Last,
        };
        true
    })?;
    Ok(end)
}
