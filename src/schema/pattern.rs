//! Patterns of schemas, compiled when they are first needed, and once.
//!
//! By regex-lite: patterns are many, and each is used a few times, so what counts is how fast they
//! compile. It has no classes of Unicode, which 63 of the 2,819 patterns use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;

use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;
use serde::de::Deserializer;

use super::types::Schema;

/// The most memory that a compiled pattern may take; one that would take more is not checked.
const MOST: usize = 1 << 20;

/// A pattern that is found in a text, or not.
#[derive(Debug)]
pub struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: String) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// Whether it is found in `text`; `None` when it can't be told.
    pub fn found(&self, text: &str) -> Option<bool> {
        // An empty one is in every text.
        if self.text.is_empty() {
            return Some(true);
        }
        let compile = || RegexBuilder::new(&self.text).size_limit(MOST).build().ok();
        Some(self.compiled.get_or_init(compile).as_ref()?.is_match(text))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Reads a mapping from patterns to schemas, sorted by pattern.
pub fn by_pattern<'de: 'static, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Pattern, Schema)>, D::Error> {
    let map = BTreeMap::<String, Schema>::deserialize(deserializer)?;
    Ok(map.into_iter().map(|(text, schema)| (Pattern::new(text), schema)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_where_they_can_be_told() {
        let found = |pattern: &str, text: &str| Pattern::new(pattern.to_owned()).found(text);
        assert_eq!(found("^a{1,2048}$", "aaa"), Some(true));
        assert_eq!(found("", "aaa"), Some(true));
        assert_eq!(found(r"^\p{L}+$", "größe"), None, "nor can classes of Unicode");
        assert_eq!(found("(?!a)", "b"), None, "looking around can't be done");
    }
}
