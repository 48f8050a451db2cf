//! What docs/security.md says about levels is what the code does.

use std::collections::BTreeMap;

use fleetwright::model::principal::{Level, Operation};
use fleetwright::plan::authorise::right;

use crate::support::lab::root;

/// The rows of the table whose first column is a level.
fn documented() -> BTreeMap<Level, Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs/security.md")).expect("the document");
    let mut rows = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", level, what, ""] = cells[..] else { continue };
        if let Ok(level) = level.trim_matches('`').parse() {
            let mut what: Vec<String> = what.split(", ").map(str::to_owned).collect();
            what.sort();
            assert!(rows.insert(level, what).is_none(), "{level} is there twice");
        }
    }
    rows
}

#[test]
fn the_table_of_levels_is_what_the_code_does() {
    let mut wanted: BTreeMap<Level, Vec<String>> = BTreeMap::new();
    for operation in Operation::ALL {
        if let Some(level) = right(*operation).and_then(|right| right.people) {
            wanted.entry(level).or_default().push(operation.words().to_owned());
        }
    }
    wanted.values_mut().for_each(|words| words.sort());
    assert_eq!(documented(), wanted);
    assert_eq!(wanted.len(), Level::ALL.len());
}
