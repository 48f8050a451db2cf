//! The end of a log, where lines are appended.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use chrono::Utc;

use super::record;
use super::segment::{self, EVERY, EndOf, FILE_HEAD, Head};
use crate::adapter::private_file;
use crate::model::step_log::{LineKind, NewLine};

/// What has fewer bytes stays as it is when its run ends.
const SMALL: u64 = 64 << 10;

/// How long a log may become, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of the text of a segment.
    pub segment: u64,
    /// Of the text of a log.
    pub log: u64,
}

/// The end of a log.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    bounds: Bounds,
    /// The segment that is appended to; none before the first line, and after a loss.
    open: Option<Open>,
    /// The number of the next line.
    next: u64,
    /// The bytes of text of the whole log.
    text: u64,
    /// Whether nothing further is kept.
    ended: bool,
}

#[derive(Debug)]
struct Open {
    first: u64,
    file: File,
    index: File,
    /// Its bytes.
    bytes: u64,
}

impl Writer {
    /// Opens the log in `folder` that has `known` lines; what is there beyond is cut off.
    pub fn open(folder: &Path, bounds: Bounds, known: u64) -> io::Result<Self> {
        private_file::make_folder(folder)?;
        // The folders of the step, the run and all logs may be new.
        for above in folder.ancestors().skip(1).take(3) {
            segment::sync_folder(above)?;
        }
        let mut writer =
            Self { folder: folder.to_owned(), bounds, open: None, next: known + 1, text: 0, ended: false };
        writer.cut(known)?;
        Ok(writer)
    }

    /// How many lines the log has.
    pub fn lines(&self) -> u64 {
        self.next - 1
    }

    fn cut(&mut self, known: u64) -> io::Result<()> {
        let mut segments = segment::list(&self.folder)?;
        // What a process left that was killed while it closed a segment.
        for closed in segments.iter().filter(|segment| segment.closed) {
            for left in ["log", "idx"] {
                gone(fs::remove_file(segment::path(&self.folder, closed.first, left)))?;
            }
        }
        while let Some(segment) = segments.pop_if(|segment| segment.first > known) {
            gone(fs::remove_file(segment.path.with_extension("idx")))?;
            gone(fs::remove_file(&segment.path))?;
        }
        let Some(newest) = segments.pop() else { return segment::sync_folder(&self.folder) };
        if newest.closed {
            segment::reopen(&self.folder, newest.first)?;
        }
        let EndOf { next, bytes, text, last } = segment::end_of(&self.folder, newest.first, known)?;
        (self.text, self.ended) = (text, last);
        let file = OpenOptions::new().write(true).open(segment::path(&self.folder, newest.first, "log"))?;
        file.set_len(bytes)?;
        file.sync_all()?;
        segment::sync_folder(&self.folder)?;
        if next <= known {
            // Lines are missing that the journal has: what comes keeps its number, in a segment of its own.
            return Ok(());
        }
        let file = OpenOptions::new().append(true).open(segment::path(&self.folder, newest.first, "log"))?;
        let mut options = OpenOptions::new();
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let path = segment::path(&self.folder, newest.first, "idx");
        let index = options.create(true).write(true).truncate(true).open(path)?;
        self.open = Some(Open { first: newest.first, file, index, bytes });
        Ok(())
    }

    /// Closes the segment that is open, unless it is too small to be worth it.
    pub fn close(&mut self) -> io::Result<()> {
        match self.open.take_if(|open| open.bytes >= SMALL) {
            Some(open) => segment::close(&self.folder, open.first),
            None => Ok(()),
        }
    }

    /// Keeps nothing further.
    pub fn give_up(&mut self) {
        self.ended = true;
    }

    /// Appends lines, and has them on the disk when it returns. All lines before have to be in the journal. `full` says
    /// why nothing more can be kept, where that is so. After an error it has to be opened again.
    pub fn append(&mut self, lines: &[NewLine], full: Option<&str>) -> io::Result<()> {
        if self.ended || lines.is_empty() {
            return Ok(());
        }
        if let Some(open) = self.open.take_if(|open| open.bytes >= self.bounds.segment) {
            segment::close(&self.folder, open.first)?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let head = Head { first: self.next, before: self.text };
                let (file, index) = segment::create(&self.folder, head)?;
                Open { first: self.next, file, index, bytes: FILE_HEAD as u64 }
            }
        };
        let (mut bytes, mut index) = (Vec::new(), Vec::new());
        let (mut next, mut text) = (self.next, self.text);
        let mut ended = false;
        for line in lines {
            let longer = text + line.text.len() as u64;
            let full = full.map(str::to_owned).or_else(|| {
                let most = self.bounds.log;
                (longer > most).then(|| format!("the log of a step has at most {}", size(most)))
            });
            let last = full.map(|full| NewLine {
                at: Utc::now(),
                kind: LineKind::Last,
                text: format!("(further output of this step is not kept: {full})"),
            });
            ended = last.is_some();
            let line = last.as_ref().unwrap_or(line);
            if (next - open.first) % EVERY == 0 {
                index.extend_from_slice(&next.to_le_bytes());
                index.extend_from_slice(&(open.bytes + bytes.len() as u64).to_le_bytes());
            }
            text += line.text.len() as u64;
            record::write(&mut bytes, next, line);
            next += 1;
            if ended {
                break;
            }
        }
        let written = open.file.write_all(&bytes).and_then(|()| open.file.sync_data());
        if let Err(error) = written {
            // What was written of it is cut off, now or by the next process.
            drop(open.file.set_len(open.bytes));
            return Err(error);
        }
        // Without its index it is read from its beginning.
        drop(open.index.write_all(&index));
        open.bytes += bytes.len() as u64;
        (self.next, self.text, self.ended) = (next, text, ended);
        self.open = Some(open);
        Ok(())
    }
}

fn size(bytes: u64) -> String {
    match bytes >> 30 {
        0 => format!("{bytes} bytes"),
        gib => format!("{gib} GiB"),
    }
}

/// What is not there was to be removed.
pub fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
