//! Patterns of schemas, compiled when they are first needed.
//!
//! By regex-lite: patterns are many, and each is used once or twice, so what counts is how fast
//! they compile. It has no classes of Unicode, which 63 of the 2,819 patterns use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use regex_lite::{Regex, RegexBuilder};

/// The most memory that a compiled pattern may take; one that would take more is not checked.
const MOST: usize = 1 << 20;

/// Compiled patterns.
#[derive(Debug, Default)]
pub struct Patterns(RefCell<HashMap<String, Option<Rc<Regex>>>>);

impl Patterns {
    /// Whether `pattern` is found in `text`; `None` when it can't be told.
    pub fn found(&self, pattern: &str, text: &str) -> Option<bool> {
        Some(self.compiled(pattern)?.is_match(text))
    }

    fn compiled(&self, pattern: &str) -> Option<Rc<Regex>> {
        if let Some(known) = self.0.borrow().get(pattern) {
            return known.clone();
        }
        let compiled = RegexBuilder::new(pattern).size_limit(MOST).build().ok().map(Rc::new);
        self.0.borrow_mut().insert(pattern.to_owned(), compiled.clone());
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_where_they_can_be_told() {
        let patterns = Patterns::default();
        assert_eq!(patterns.found("^a{1,2048}$", "aaa"), Some(true));
        assert_eq!(patterns.found(r"^\p{L}+$", "größe"), None, "nor can classes of Unicode");
        assert_eq!(patterns.found("(?!a)", "b"), None, "looking around can't be done");
    }
}
