//! `$private_ipv4` and its like, which coreos-cloudinit replaces in the text before it is read.
//!
//! `initialize/env.go`: one pass for each name, over the whole text, comments and scripts too. The
//! character before a token is part of the match, so of two that touch only the first is replaced;
//! `\$name` gives `$name`; nothing is looked at behind a name. EC2's metadata has no IPv6 addresses
//! for it, and an address that is not there is an empty text.

use crate::cloud_config::content::Encoding;
use crate::cloud_config::document::Document;
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::Config;
use crate::cloud_config::target::Target;
use crate::source::Span;

const TOKENS: [&str; 4] = ["$public_ipv4", "$private_ipv4", "$public_ipv6", "$private_ipv6"];

/// Addresses as long as the tokens, so that every place stays what it is; from the ranges that are
/// kept for documentation and for private networks.
const SAMPLES: [&str; 4] = ["203.0.113.25", "172.31.200.10", "            ", "             "];

/// The text as coreos-cloudinit reads it on a machine of EC2; `None` where nothing is put in. An
/// address that is not there leaves blanks here, where the engine leaves nothing.
pub fn sampled(text: &str) -> Option<String> {
    let mut out = String::new();
    for (token, sample) in TOKENS.into_iter().zip(SAMPLES) {
        let read = if out.is_empty() { text } else { out.as_str() };
        let mut written = String::with_capacity(read.len());
        let mut seen = 0;
        for (at, _) in read.match_indices(token) {
            let before = &read[..at];
            // The character before it is part of the match, so of two that touch one stays.
            let is_escaped = before.ends_with('\\');
            written.push_str(&read[seen..at]);
            if is_escaped && at > seen {
                // The engine takes the backslash away; the length must stay.
                written.pop();
                written.push(' ');
            }
            let stays = is_escaped || at == seen && seen > 0;
            written.push_str(if stays { token } else { sample });
            seen = at + token.len();
        }
        if seen > 0 {
            written.push_str(&read[seen..]);
            out = written;
        }
    }
    (!out.is_empty()).then_some(out)
}

/// Looks at every token in the text.
pub fn check(document: &Document, report: &mut Report<'_>) {
    let text = document.file.text();
    let mut line = 0;
    let mut seen = 0;
    for (at, _) in text.match_indices('$') {
        // Each byte is looked at once, however long a line is.
        line = text[seen..at].rfind('\n').map_or(line, |end| seen + end + 1);
        seen = at;
        // What becomes of a comment is nobody's concern.
        if text[..at].ends_with('\\') || text[line..].trim_start().starts_with('#') {
            continue;
        }
        let rest = &text[at..];
        let name =
            1 + rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len() - 1);
        let word = &rest[..name];
        let span = Span::new(at, at + name);
        let Some(token) = TOKENS.into_iter().find(|token| word.starts_with(token)) else {
            misspelt(word, span, report);
            continue;
        };
        let own = Span::new(at, at + token.len());
        if token.ends_with("ipv6") {
            let message = format!("`{token}` is replaced by nothing: EC2's metadata has no such address");
            report.add(&Target::COREOS, Finding::error("empty-token", own, message));
        }
        if text[..at].ends_with(token) {
            let message = format!("the second of two `{token}` that touch is not replaced");
            let finding = Finding::error("adjacent-tokens", own, message);
            report.add(&Target::COREOS, finding.help("put something between them"));
        }
        if word.len() > token.len() {
            let message = format!("`{word}` is replaced as far as `{token}` goes");
            report.add(&Target::COREOS, Finding::warning("misspelt-token", span, message));
        }
        let message = format!("`{token}` is not replaced");
        let help = "cloud-init has `{{ ds.meta_data.local_ipv4 }}` below a first line `## template: jinja`";
        let finding = Finding::warning("token-not-replaced", own, message.clone());
        report.add(&Target::CLOUD_INIT, finding.help(help));
        let finding = Finding::error("token-not-replaced", own, message);
        let help = "have a unit read the file in /run/metadata that coreos-metadata.service or afterburn.service writes";
        report.add(&[Target::Ignition3_3], finding.help(help));
    }
}

fn misspelt(word: &str, span: Span, report: &mut Report<'_>) {
    if !word.contains("ip") {
        return;
    }
    if let Some(near) = report.suggest(word, TOKENS) {
        let message = format!("`{word}` is none of what is replaced");
        let finding = Finding::warning("misspelt-token", span, message);
        report.add(&Target::COREOS, finding.label(format!("did you mean `{near}`?")));
    }
}

/// Looks at the files whose content is packed, where nothing is ever replaced.
pub fn encoded(config: &Config<'_>, report: &mut Report<'_>) {
    for file in config.files.iter().filter(|file| file.encoding != Encoding::Plain) {
        let (Ok(data), Some(content)) = (&file.data, file.content) else { continue };
        let data = String::from_utf8_lossy(data);
        for token in TOKENS.into_iter().filter(|token| data.contains(token)) {
            let message = format!("`{token}` is not replaced in a content that is packed");
            let finding = Finding::error("token-not-replaced", content.span, message);
            report.add(&Target::COREOS, finding.help("write the content as it is"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_put_in_and_nothing_moves() {
        let text =
            "a $private_ipv4 \\$private_ipv4 $public_ipv4$public_ipv4 ${private_ipv4} $private_ipv6.\n";
        let sampled = sampled(text).expect("there are tokens");
        assert_eq!(
            sampled,
            "a 172.31.200.10  $private_ipv4 203.0.113.25$public_ipv4 ${private_ipv4}              .\n"
        );
        assert_eq!(sampled.len(), text.len());
        assert_eq!(super::sampled("a"), None);
    }
}
