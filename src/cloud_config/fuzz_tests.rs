//! Documents and unit files, changed at random: whatever comes of them, no check may panic, point
//! outside of the text, or say something else when it is asked again.
//!
//! The corpus is what the other tests check: `tests/it/cloud-config` and `tests/it/units`, and the
//! smallest texts that ever failed here, in `tests/corpus`.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use proptest::prelude::*;

use crate::cloud_config::{self, Document, Target};
use crate::source::{Diagnostic, SourceFile, fuzz_cases};
use crate::unit;

/// What one change does.
#[derive(Debug, Clone)]
enum Change {
    /// Takes out bytes from one place to another.
    Remove(usize, usize),
    /// Writes bytes from one place to another once more behind themselves.
    Repeat(usize, usize),
    /// Puts a word in.
    Insert(usize, &'static str),
    /// Puts in what stands in another text of the corpus.
    Splice(usize, usize, usize, usize),
    /// Writes any character over another.
    Write(usize, char),
    /// Exchanges two lines.
    Exchange(usize, usize),
}

/// Words that mean something to the readers.
const WORDS: &[&str] = &[
    "\n",
    "\t",
    "  ",
    "- ",
    ": ",
    "|",
    "|2-",
    ">",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "---\n",
    "...\n",
    "#",
    "\"",
    "'",
    "\\",
    "\u{feff}",
    "\u{e4}",
    "0644",
    "off",
    "$private_ipv4",
    "{{",
    "}}",
    "{%",
    "%}",
    "--x\n",
    "Content-Type: ",
    "base64",
    "\r\n",
    "[Service]\n",
    "[Unit]\n",
    "ExecStart=",
    "%i",
    "\\x2d",
    "-",
    "=",
    ";",
    "$(",
    "infinity",
    "5min",
    "@",
    ".service",
    "write_files:\n",
    "coreos:\n",
    "content: |\n",
    "runcmd:\n",
    "users:\n",
    "# fleetwright: include a.yaml\n",
];

fn change() -> impl Strategy<Value = Change> {
    let at = || any::<usize>();
    prop_oneof![
        (at(), 0..40usize).prop_map(|(from, length)| Change::Remove(from, length)),
        (at(), 0..80usize).prop_map(|(from, length)| Change::Repeat(from, length)),
        (at(), proptest::sample::select(WORDS)).prop_map(|(at, word)| Change::Insert(at, word)),
        (at(), at(), at(), 0..200usize)
            .prop_map(|(at, file, from, length)| Change::Splice(at, file, from, length)),
        (at(), any::<char>()).prop_map(|(at, c)| Change::Write(at, c)),
        (at(), at()).prop_map(|(a, b)| Change::Exchange(a, b)),
    ]
}

/// The texts of a folder, by name.
fn texts(folders: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                found.push((entry.file_name().to_string_lossy().into_owned(), text));
            }
        }
    }
    let mut found = Vec::new();
    for folder in folders {
        walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder), &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "the corpus is there");
    found
}

fn documents() -> &'static [(String, String)] {
    static TEXTS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    TEXTS.get_or_init(|| texts(&["it/cloud-config", "corpus/cloud-config"]))
}

fn units() -> &'static [(String, String)] {
    static TEXTS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    TEXTS.get_or_init(|| texts(&["it/units", "corpus/units"]))
}

/// The nearest boundary of a character at or before `at`, counted round.
fn place(text: &str, at: usize) -> usize {
    let mut at = at % (text.len() + 1);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn range(text: &str, from: usize, length: usize) -> std::ops::Range<usize> {
    let from = place(text, from);
    let mut to = (from + length).min(text.len());
    while !text.is_char_boundary(to) {
        to -= 1;
    }
    from..to.max(from)
}

fn changed(corpus: &[(String, String)], at: usize, changes: &[Change]) -> (String, String) {
    let (name, mut text) = corpus[at % corpus.len()].clone();
    for change in changes {
        match change {
            Change::Remove(from, length) => drop(text.drain(range(&text, *from, *length))),
            Change::Repeat(from, length) => {
                let range = range(&text, *from, *length);
                let again = text[range.clone()].to_owned();
                text.insert_str(range.end, &again);
            }
            Change::Insert(at, word) => text.insert_str(place(&text, *at), word),
            Change::Splice(at, file, from, length) => {
                let other = &corpus[file % corpus.len()].1;
                text.insert_str(place(&text, *at), &other[range(other, *from, *length)]);
            }
            Change::Write(at, c) => {
                let at = place(&text, *at);
                if at < text.len() {
                    text.remove(at);
                }
                text.insert(at, *c);
            }
            Change::Exchange(a, b) => {
                let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
                if !lines.is_empty() {
                    let (a, b) = (a % lines.len(), b % lines.len());
                    lines.swap(a, b);
                    text = lines.concat();
                }
            }
        }
    }
    (name, text)
}

fn points_into(diagnostic: &Diagnostic) -> Result<(), TestCaseError> {
    if let Some(label) = &diagnostic.label {
        prop_assert!(label.file.text().get(label.span.start..label.span.end).is_some(), "{diagnostic:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: fuzz_cases(192),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changed_documents_are_checked_without_panic(
        at in any::<usize>(),
        changes in proptest::collection::vec(change(), 0..8),
    ) {
        let (name, text) = changed(documents(), at, &changes);
        let file = SourceFile::new(name, text.as_str());
        let verdict = cloud_config::check(&file, &Target::ALL);
        prop_assert_eq!(verdict.shown.text().len(), text.len());
        for finding in &verdict.findings {
            prop_assert!(text.get(finding.span.start..finding.span.end).is_some(), "{:?}", finding);
            points_into(&finding.diagnostic(&verdict.shown))?;
        }
        prop_assert_eq!(&cloud_config::check(&file, &Target::ALL).findings, &verdict.findings);

        let effects = cloud_config::effects(&text);
        prop_assert!(cloud_config::difference(&effects, &effects).is_empty());
        let before = cloud_config::effects(&documents()[at % documents().len()].1);
        let _ = cloud_config::difference(&before, &effects);

        // Written anew, a document does the same.
        let document = Document::read(&file);
        if let Some(root) = document.root.as_ref().filter(|_| document.problems.is_empty() && document.second.is_none()) {
            let anew = format!("#cloud-config\n{}", cloud_config::yaml(root).text);
            let same = cloud_config::effects(&anew);
            prop_assert_eq!(&cloud_config::Effects { kind: effects.kind, ..same }, &effects, "{}", anew);
        }
        if let Ok(merged) = cloud_config::merge(vec![Arc::clone(&file), file]) {
            let _ = cloud_config::check(&SourceFile::new("merged", merged.text), &Target::ALL);
        }
    }

    #[test]
    fn changed_units_are_checked_without_panic(
        at in any::<usize>(),
        changes in proptest::collection::vec(change(), 0..8),
    ) {
        let (name, text) = changed(units(), at, &changes);
        let problems = unit::check_text(&name, &text, &unit::Options::default());
        for problem in &problems {
            points_into(problem)?;
        }
        prop_assert_eq!(&unit::check_text(&name, &text, &unit::Options::default()), &problems);
        let file = SourceFile::new(name, text.as_str());
        prop_assert_eq!(unit::UnitFile::parse(&file).emit(), text);
    }
}
