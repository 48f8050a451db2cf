//! Documents that commands are given: files, and standard input.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::cloud_config::gunzip;
use crate::source::SourceFile;

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

/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

fn text(name: String, bytes: Vec<u8>) -> Result<Arc<SourceFile>, String> {
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(SourceFile::new(name, text))
}

/// The name and the bytes of a file, or of standard input for `-`.
fn bytes(path: &Path) -> Result<(String, Vec<u8>), String> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        ("standard input".to_owned(), std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.to_string_lossy().into_owned(), std::fs::read(path))
    };
    Ok((name, bytes.map_err(|error| error.to_string())?))
}
