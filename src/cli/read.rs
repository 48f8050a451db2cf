//! Documents that commands are given: files, and standard input.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::source::SourceFile;

/// Reads a file, or standard input for `-`.
///
/// # Errors
/// Why it can't be read, in words.
pub fn read(path: &Path) -> Result<Arc<SourceFile>, String> {
    let (name, bytes) = if path == Path::new("-") {
        let mut bytes = Vec::new();
        ("standard input".into(), std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes))
    } else {
        (path.to_string_lossy(), std::fs::read(path))
    };
    let bytes = bytes.map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(SourceFile::new(name, text))
}
