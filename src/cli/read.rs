//! Documents that commands are given: files, and standard input.

use std::path::Path;
use std::sync::Arc;

use crate::cloud_config::gunzip;
use crate::source::SourceFile;
use crate::source::read::{self as source, ReadError};

/// The most bytes that a document may have, packed or not; templates and user data stay far below.
const MOST: u64 = 4 << 20;

/// Reads a text.
///
/// # Errors
/// Why it can't be read, in words.
pub fn read(path: &Path) -> Result<Arc<SourceFile>, String> {
    let (name, bytes) = bytes(path)?;
    text(name, bytes)
}

/// Reads user data, unpacked if it is packed with gzip, and gives the bytes that it has as it is.
///
/// # Errors
/// Why it can't be read, in words.
pub fn user_data(path: &Path) -> Result<(Arc<SourceFile>, usize), String> {
    let (name, bytes) = bytes(path)?;
    let size = bytes.len();
    let bytes = match bytes.starts_with(&GZIP) {
        true => gunzip(&bytes).map_err(str::to_owned)?,
        false => bytes,
    };
    Ok((text(name, bytes)?, size))
}

/// Reads the text of a file that is not a document of its own, such as a configuration.
///
/// # Errors
/// When it can't be read.
pub fn plain(path: &Path) -> Result<String, ReadError> {
    source::named(path, MOST).and_then(source::text)
}

/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn text(name: String, bytes: Vec<u8>) -> Result<Arc<SourceFile>, String> {
    let text = source::text(bytes).map_err(|error| error.to_string())?;
    Ok(SourceFile::new(name, text))
}

/// The name and the bytes of a file, or of standard input for `-`.
fn bytes(path: &Path) -> Result<(String, Vec<u8>), String> {
    let (name, bytes) = if path == Path::new("-") {
        ("standard input".to_owned(), source::stdin(MOST))
    } else {
        (path.to_string_lossy().into_owned(), source::named(path, MOST))
    };
    Ok((name, bytes.map_err(|error| error.to_string())?))
}
