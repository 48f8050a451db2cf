//! Secrets. Whatever reaches the metadata service can read user data: every process and every
//! container of the machine, and whoever may describe the launch template.

use std::borrow::Cow;
use std::sync::Arc;

use super::accounts::is_hash;
use crate::cloud_config::content::Encoding;
use crate::cloud_config::document::Document;
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{Config, entry};
use crate::cloud_config::target::Target;
use crate::source::{SourceFile, Span};
use crate::yaml::Node;

/// Tokens by how they begin: what they are, and how long they are at least.
const SHAPES: &[(&str, &str, usize)] = &[
    ("AKIA", "an access key id of AWS", 20),
    ("ASIA", "an access key id of AWS", 20),
    ("ghp_", "a token of GitHub", 40),
    ("gho_", "a token of GitHub", 40),
    ("ghs_", "a token of GitHub", 40),
    ("ghu_", "a token of GitHub", 40),
    ("github_pat_", "a token of GitHub", 60),
    ("glpat-", "a token of GitLab", 26),
    ("xoxb-", "a token of Slack", 30),
    ("xoxp-", "a token of Slack", 30),
    ("sk_live_", "a key of Stripe", 30),
    ("AIza", "a key of Google", 39),
    ("npm_", "a token of npm", 40),
];

/// Characters of the longest private key that anybody has.
const KEY_MOST: usize = 16_384;

fn found(span: Span, what: &str, report: &mut Report<'_>) {
    let message = format!("{what} can be read by anything that reaches the machine's metadata");
    let finding = Finding::warning("secret-in-user-data", span, message);
    report.add(
        &Target::ALL,
        finding.help("keep it in SSM or a secrets manager, and let the machine's role fetch it"),
    );
}

/// Finds what looks like a secret anywhere in the text, and gives the bytes to mask.
pub fn text(document: &Document, report: &mut Report<'_>) -> Vec<Span> {
    let mut spans = Vec::new();
    for (what, span) in scan(document.file.text()) {
        found(span, what, report);
        spans.push(span);
    }
    spans
}

/// Finds secrets by the keys that hold them, and in packed contents.
pub fn values(config: &Config<'_>, report: &mut Report<'_>) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut clear = |span: Span, what: &str, report: &mut Report<'_>| {
        found(span, what, report);
        spans.push(span);
    };
    for user in &config.users {
        if let Some(plain) = &user.plain {
            clear(plain.span, "a password in clear", report);
        }
        // It is reported for what it is not already.
        if let Some(hash) = user.hash.as_ref().filter(|hash| !is_hash(&hash.value)) {
            clear(hash.span, "a password in clear", report);
        }
    }
    for (name, node) in &config.rest {
        match name.value.as_str() {
            "password" => clear(node.span, "a password in clear", report),
            "chpasswd" => {
                passwords(node).into_iter().for_each(|span| clear(span, "a password in clear", report));
            }
            "ubuntu_advantage" | "ubuntu_pro" => {
                if let Some(token) = node.get("token") {
                    clear(token.span, "a token of Ubuntu Pro", report);
                }
            }
            _ => {}
        }
    }
    for file in config.files.iter().filter(|file| file.encoding != Encoding::Plain) {
        let (Ok(data), Some(content)) = (&file.data, file.content) else { continue };
        if let Some((what, _)) = scan(&String::from_utf8_lossy(data)).first() {
            clear(content.span, &format!("{what} in a packed content"), report);
        }
    }
    for section in &config.sections {
        if section.options.iter().any(|(key, value)| key == "etcd_password" && !value.is_empty()) {
            found(section.name.span, "the password of etcd", report);
        }
    }
    spans
}

/// The passwords in clear of `chpasswd`, in its old form and its new one.
fn passwords(node: &Node) -> Vec<Span> {
    let mut spans = Vec::new();
    let generated = |password: &str| matches!(password, "R" | "RANDOM");
    let list = entry(node, "list");
    let items = list.map(|list| list.items().unwrap_or(std::slice::from_ref(list))).unwrap_or_default();
    for item in items {
        let clear = |line: &str| {
            line.split_once(':').is_some_and(|(_, password)| {
                let password = password.trim();
                !password.starts_with('$') && !generated(password) && !password.is_empty()
            })
        };
        if item.text().unwrap_or_default().lines().any(clear) {
            spans.push(item.span);
        }
    }
    for user in entry(node, "users").and_then(Node::items).unwrap_or_default() {
        if let (Some("text"), Some(password)) = (user.get("type").and_then(Node::text), user.get("password"))
        {
            spans.push(password.span);
        }
    }
    spans
}

/// What looks like a secret, in the order of the text.
fn scan(text: &str) -> Vec<(&'static str, Span)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("-----BEGIN ") {
        let line = text[at..].lines().next().unwrap_or("");
        if line.contains("PRIVATE KEY-----") {
            // One that does not end goes on for no more than a key is long.
            let rest =
                text[at..].char_indices().nth(KEY_MOST).map_or(&text[at..], |(end, _)| &text[at..at + end]);
            let end = at + rest.find("-----END ").unwrap_or(rest.len());
            found.push(("a private key", Span::new(at, end)));
        }
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    for (start, what, least) in SHAPES {
        for (at, _) in text.match_indices(start) {
            // The middle of a longer word is something else.
            if text[..at].ends_with(word) {
                continue;
            }
            let end = text[at..].find(|c| !word(c)).map_or(text.len(), |end| at + end);
            let exact = !start.ends_with("IA") || end - at == *least;
            if exact && end - at >= *least {
                found.push((what, Span::new(at, end)));
            }
        }
    }
    let lower = text.to_ascii_lowercase();
    for (at, name) in lower.match_indices("secret_access_key") {
        let rest = &text[at + name.len()..];
        let value = rest.trim_start_matches(['"', '\'', ' ', '=', ':']);
        let start = text.len() - value.len();
        let key = |c: char| c.is_ascii_alphanumeric() || "/+".contains(c);
        let length = value.chars().take(41).take_while(|c| key(*c)).count();
        if start > at + name.len() && length == 40 {
            found.push(("a secret key of AWS", Span::new(start, start + length)));
        }
    }
    for (at, mark) in text.match_indices("://") {
        let start = at + mark.len();
        let end = text[start..].find(|c: char| c.is_whitespace() || "/\"'`<>".contains(c));
        let authority = &text[start..end.map_or(text.len(), |end| start + end)];
        if let Some((user, password)) =
            authority.rsplit_once('@').and_then(|(login, _)| login.split_once(':'))
            && !password.is_empty()
            && !password.starts_with(['$', '{', '*'])
        {
            let begin = start + user.len() + 1;
            found.push(("a password in a URL", Span::new(begin, begin + password.len())));
        }
    }
    found.sort_by_key(|(_, span)| *span);
    found
}

/// `text` with what looks like a secret masked.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let found = scan(text);
    if found.is_empty() {
        return Cow::Borrowed(text);
    }
    let spans: Vec<Span> = found.into_iter().map(|(_, span)| span).collect();
    Cow::Owned(mask(text, &spans))
}

/// The value of a setting, on one line, and nothing of it where it is a secret by its name.
pub fn shown_setting(name: &str, value: &str) -> String {
    let last = name.rsplit('.').next().unwrap_or_default();
    let holder = name.starts_with("ssh_keys") || matches!(name, "chpasswd.list" | "chpasswd.users");
    if holder || ["passw", "secret", "token"].iter().any(|word| last.contains(word)) {
        return "a secret".to_owned();
    }
    redacted(value).trim_end().replace('\n', "\\n")
}

/// `file` with every letter of `secrets` replaced, so that findings can be shown in it. Places stay
/// as they are: only characters of one byte are replaced.
pub fn masked(file: &Arc<SourceFile>, secrets: &[Span]) -> Arc<SourceFile> {
    if secrets.is_empty() {
        return Arc::clone(file);
    }
    SourceFile::new(file.name(), mask(file.text(), secrets))
}

fn mask(whole: &str, secrets: &[Span]) -> String {
    let mut text = String::with_capacity(whole.len());
    let mut sorted = secrets.to_vec();
    sorted.sort_unstable();
    let mut at = 0;
    for span in sorted {
        let (start, end) = (span.start.max(at), span.end.min(whole.len()));
        let (Some(before), Some(secret)) = (whole.get(at..start), whole.get(start..end)) else {
            continue;
        };
        text.push_str(before);
        text.extend(secret.chars().map(|c| if c.is_ascii_graphic() { '*' } else { c }));
        at = end;
    }
    text.push_str(&whole[at..]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_by_their_shape() {
        let text = format!(
            "a AKIA{} b ghp_{}\nx: https://me:hunter2@host/\nkey: AKIAKIA\naws_secret_access_key = {}\n",
            "A".repeat(16),
            "b".repeat(36),
            "c".repeat(40)
        );
        let what: Vec<&str> = scan(&text).into_iter().map(|(what, _)| what).collect();
        let expected =
            ["an access key id of AWS", "a token of GitHub", "a password in a URL", "a secret key of AWS"];
        assert_eq!(what, expected);
        assert!(scan("https://host:80/a@b https://$USER:$PASS@host").is_empty());
    }

    #[test]
    fn what_is_masked_keeps_its_place() {
        let file = SourceFile::new("a.yaml", "ä: geheim ö\n");
        let at = file.text().find("geheim").expect("it is there");
        let masked = masked(&file, &[Span::new(at, at + 6), Span::new(at + 2, at + 4)]);
        assert_eq!(masked.text(), "ä: ****** ö\n");
    }
}
