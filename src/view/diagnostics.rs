//! Diagnostics, as a compiler would draw them.

use crate::source::Diagnostic;

/// Prints `diagnostics`, found in `files` files, on stderr with a closing line that counts them.
pub fn print(diagnostics: &[Diagnostic], files: usize, _colour: bool) {
    for diagnostic in diagnostics {
        eprintln!("{}[{}]: {}", diagnostic.severity.word(), diagnostic.code, diagnostic.message);
    }
    eprintln!("{} errors in {files} files. Nothing was changed.", diagnostics.len());
}
