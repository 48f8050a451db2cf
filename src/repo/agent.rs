//! `agent:` of `fleetwright.yaml` and of its environments: the agent that machines run. A program writes it, so
//! it can also be written here, into a text that stays as it is otherwise.

use std::sync::Arc;

use super::decode::Reader;
use crate::model::published::PublishedAgent;
use crate::source::{SourceFile, Span};
use crate::yaml::{self, Node, Scalar};

/// The section's key.
pub const KEY: &str = "agent";

/// Decodes an `agent` section; `place` is its key.
pub fn decode(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<PublishedAgent> {
    let fields = reader.fields(node, place, "`agent`", &["version", "sha256"])?;
    let version = reader.required(&fields, "version").and_then(|node| reader.name(node));
    let sha256 = reader.required(&fields, "sha256").and_then(|node| reader.name(node));
    Some(PublishedAgent { version: version?, sha256: sha256? })
}

/// The project's file with `agent` in the section that counts for `environment`: its own where it has one, the
/// project's otherwise. `None` where the file is written in a way that this can't change.
pub fn written(file: &SourceFile, environment: &str, agent: &PublishedAgent) -> Option<String> {
    let root = parse(file.name(), file.text())?;
    let mut text = file.text().to_owned();
    match section(&root, environment) {
        None => text.push_str(&format!("\n{KEY}:{}\n", lines(0, agent))),
        Some((key, value)) if value.scalar() == Some(Scalar::Null) => {
            let before = text.get(..key.span.start)?.rsplit('\n').next()?;
            let indent = before.len();
            if !before.bytes().all(|byte| byte == b' ') {
                return None;
            }
            let rest = text.get(key.span.end..)?;
            let line = rest.split('\n').next()?;
            let behind = line.strip_prefix(':')?.trim_start();
            if !behind.is_empty() && !behind.starts_with('#') {
                return None;
            }
            text.insert_str(key.span.end + line.len(), &lines(indent, agent));
        }
        Some((_, value)) => {
            let (version, sha256) = (value.get("version")?.span, value.get("sha256")?.span);
            let mut edits =
                [(version, quoted(agent.version.as_str())), (sha256, quoted(agent.sha256.as_str()))];
            // From the last to the first, so that places before stay where they are.
            edits.sort_by_key(|(span, _)| std::cmp::Reverse(span.start));
            for (span, new) in edits {
                text.get(span.start..span.end)?;
                text.replace_range(span.start..span.end, &new);
            }
        }
    }
    // What was written is read back, as the next command reads it.
    (read(file.name(), &text, environment).as_ref() == Some(agent)).then_some(text)
}

/// The agent that counts for `environment`, by the project's file.
fn read(name: &str, text: &str, environment: &str) -> Option<PublishedAgent> {
    let root = parse(name, text)?;
    let (key, value) = section(&root, environment)?;
    let (file, mut problems) = (SourceFile::new(name, text), Vec::new());
    let agent = decode(&mut Reader { file: &file, problems: &mut problems }, value, key.span);
    agent.filter(|_| problems.is_empty())
}

fn parse(name: &str, text: &str) -> Option<Node> {
    let (file, mut problems): (Arc<SourceFile>, _) = (SourceFile::new(name, text), Vec::new());
    yaml::parse(&file, &mut problems).filter(|_| problems.is_empty())
}

/// The section that counts for `environment`.
fn section<'n>(root: &'n Node, environment: &str) -> Option<&'n (Node, Node)> {
    let own = root.get("environments").and_then(|all| all.get(environment)).and_then(|one| one.entry(KEY));
    own.or_else(|| root.entry(KEY))
}

fn lines(indent: usize, agent: &PublishedAgent) -> String {
    let indent = " ".repeat(indent + 2);
    let (version, sha256) = (quoted(agent.version.as_str()), quoted(agent.sha256.as_str()));
    format!("\n{indent}version: {version}\n{indent}sha256: {sha256}")
}

/// Some versions and checksums would be numbers without quotes.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(version: &str, digit: &str) -> PublishedAgent {
        PublishedAgent {
            version: version.parse().expect("a version"),
            sha256: digit.repeat(64).parse().expect("a checksum"),
        }
    }

    fn wrote(text: &str, environment: &str) -> Option<String> {
        let file = SourceFile::new("fleetwright.yaml", text);
        written(&file, environment, &agent("1.2.0", "b")).map(|text| text.replace(&"b".repeat(64), "SUM"))
    }

    #[test]
    fn only_the_section_that_counts_is_changed() {
        let new = "  version: \"1.2.0\"\n  sha256: \"SUM\"";
        assert_eq!(
            wrote("project: a\n", "local").as_deref(),
            Some(&*format!("project: a\n\nagent:\n{new}\n"))
        );
        for comment in ["", "  # by `agent publish`"] {
            assert_eq!(
                wrote(&format!("project: a\nagent:{comment}\nenvironments: {{}}\n"), "local").as_deref(),
                Some(&*format!("project: a\nagent:{comment}\n{new}\nenvironments: {{}}\n"))
            );
        }
        let old = "a".repeat(64);
        let text = format!(
            "# ä\nagent: {{sha256: {old}, version: 1.0}} # ours\nenvironments:\n  live:\n    agent:\n      version: '0.9' # old\n      sha256: \"{old}\"\n"
        );
        assert_eq!(
            wrote(&text, "local").as_deref(),
            Some(&*text.replacen(&old, "\"SUM\"", 1).replace("1.0", "\"1.2.0\""))
        );
        let live = text.replace(&format!("\"{old}\""), "\"SUM\"").replace("'0.9'", "\"1.2.0\"");
        assert_eq!(wrote(&text, "live").as_deref(), Some(&*live));
    }

    #[test]
    fn what_can_t_be_changed_is_left_to_people() {
        let old = "a".repeat(64);
        for text in [
            "project: [\n",
            "agent: ~\n",
            "agent: 1.2.0\n",
            "agent: {version: 1.0}\n",
            &format!("agent: {{version: 1.0, sha256: {old}, size: 1}}\n"),
        ] {
            let wrote = wrote(text, "local");
            assert!(wrote.is_none(), "{text}: {wrote:?}");
        }
    }
}
