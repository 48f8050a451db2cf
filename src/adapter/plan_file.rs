//! Plans in files.

use std::path::Path;

use crate::source::read;
use crate::source::{Diagnostic, SourceFile, Span};

/// The most that a plan's file may hold, in bytes; one of thousands of resources stays far below.
const MOST: u64 = 64 << 20;

/// Reads a JSON document of type `T` from `path`.
///
/// # Errors
/// When it can't be read, or is no such document, with its place.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Box<Diagnostic>> {
    let name = path.display();
    let text = read::named(path, MOST).and_then(read::text).map_err(|error| {
        let message = format!("{name} can't be read: {error}");
        let help = "`fleetwright plan --out FILE` writes one";
        Box::new(Diagnostic::error("unreadable-file", message).help(help))
    })?;
    let file = SourceFile::new(name.to_string(), text);
    serde_json::from_str(file.text()).map_err(|error| {
        let at = file.offset(error.line(), error.column());
        let words = error.to_string();
        let words = words.rsplit_once(" at line ").map_or(words.as_str(), |(words, _)| words);
        Box::new(
            Diagnostic::error("bad-plan-file", format!("{name} is not a plan that was saved"))
                .at(&file, Span::new(at, at), words.to_owned())
                .help("`fleetwright plan --out FILE` writes one"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::private_file::write;

    #[test]
    fn a_plan_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plan.json");
        write(&path, b"[1]").expect("written");
        assert_eq!(read::<Vec<u8>>(&path).expect("read"), [1]);
    }

    #[test]
    fn what_is_no_plan_is_told_with_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plan.json");
        write(&path, b"{\n  \"a\": x\n}").expect("written");
        let problem = read::<Vec<u8>>(&path).expect_err("it is none");
        let label = problem.label.expect("a place");
        assert_eq!(label.file.position(label.span.start).line, 1, "{}", label.text);
    }
}
