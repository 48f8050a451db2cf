//! Templates of nested stacks, which CloudFormation reads from a bucket.
//!
//! Which bucket is known only with credentials, so a rendered template names a nested one by an address that
//! stands for it; the address holds the hash of its text, so that a template changes when one nested in it does.

use sha2::{Digest as _, Sha256};

/// Stands for the project's bucket. The name can't exist (RFC 2606).
const PREFIX: &str = "https://fleetwright.invalid/";
/// Where templates lie in the bucket.
const FOLDER: &str = "templates/";
/// Characters of a hash.
const HASH: usize = 64;

/// A nested stack's template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NestedTemplate {
    /// The file it was rendered from, relative to the repository's root.
    pub file: String,
    /// Its text.
    pub text: String,
}

impl NestedTemplate {
    /// Its key in the bucket.
    pub fn key(&self) -> String {
        key(&self.text)
    }

    /// The address that stands for it.
    pub fn address(&self) -> String {
        format!("{PREFIX}{}", self.key())
    }
}

/// A template's key in the project's bucket.
pub fn key(template: &str) -> String {
    let hash: String = Sha256::digest(template).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{FOLDER}{hash}")
}

/// `template` with the addresses in the project's bucket in the places of those that stand for them.
pub fn resolved(template: &str, address: &str, key: &str) -> String {
    template.replace(&format!("{PREFIX}{key}"), address)
}

/// An address as it is shown: what stands for one, without what is the same in all.
pub fn shown(value: &str) -> &str {
    match value.strip_prefix(PREFIX) {
        Some(key) => key.get(..FOLDER.len() + 12).unwrap_or(key),
        None => value,
    }
}

/// A deployed template with the addresses that stand for those in the project's bucket: the other way round.
pub fn abstracted(template: &str) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find(FOLDER) {
        let hash = rest.get(at + FOLDER.len()..at + FOLDER.len() + HASH);
        let is_hash = hash.is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()));
        // An address has no quote and no space in it.
        let start = rest[..at].rfind(['"', '\'', ' ', '\n', '\t']).map_or(0, |found| found + 1);
        let host = &rest[start..at];
        if is_hash && host.starts_with("http") && host.contains("fleetwright-") {
            out.push_str(&rest[..start]);
            out.push_str(PREFIX);
        } else {
            out.push_str(&rest[..at]);
        }
        out.push_str(FOLDER);
        rest = &rest[at + FOLDER.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_in_and_taken_out_again() {
        let nested = NestedTemplate { file: "a.yaml".to_owned(), text: "Resources: {}\n".to_owned() };
        let text = format!("A:\n  TemplateURL: \"{}\"\n  B: templates/x\n", nested.address());
        let real = format!("http://127.0.0.1:4566/fleetwright-shop-1-eu-west-1/{}", nested.key());
        let deployed = resolved(&text, &real, &nested.key());
        assert!(deployed.contains(&format!("\"{real}\"")), "{deployed}");
        assert_eq!(abstracted(&deployed), text);
        assert_eq!(shown(&nested.address()).len(), "templates/".len() + 12);
        assert_eq!(shown("https://elsewhere.example/"), "https://elsewhere.example/");
        let foreign = format!("A: https://elsewhere.example/{}", nested.key());
        assert_eq!(abstracted(&foreign), foreign);
        assert_eq!(abstracted("A: \"templates/\u{e4}"), "A: \"templates/\u{e4}");
    }
}
