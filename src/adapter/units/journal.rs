//! What units log: the journal of this machine, from where it was left.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::model::unit::SLICE;

/// Time between two attempts to read it.
const RETRY: Duration = Duration::from_secs(1);
/// How often the position is written down.
const SAVE: Duration = Duration::from_secs(1);

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The unit that it is about.
    pub unit: String,
    /// The text, which may have several lines.
    pub text: Vec<u8>,
    /// Its position.
    cursor: String,
}

/// Passes on what units of services log, until dropped. `position` is a file with how far it came.
pub async fn follow(position: &Path, pass_on: impl Fn(&Entry) + Send + Sync) -> Infallible {
    let mut cursor = tokio::fs::read_to_string(position).await.ok().map(|text| text.trim().to_owned());
    loop {
        if let Err(error) = read(position, &mut cursor, &pass_on).await {
            tracing::warn!(%error, "reading the journal of units");
        }
        sleep(RETRY).await;
    }
}

async fn read(
    position: &Path,
    cursor: &mut Option<String>,
    pass_on: &(impl Fn(&Entry) + Send + Sync),
) -> std::io::Result<()> {
    let mut command = Command::new("journalctl");
    command.args(["--follow", "--output=json", "--all", "--quiet"]);
    match cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        Some(cursor) => command.args(["--lines=all", "--after-cursor", cursor]),
        None => command.arg("--lines=0"),
    };
    // What they write, and what systemd says of them.
    command.args([&format!("_SYSTEMD_SLICE={SLICE}"), "+", "_PID=1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let Some(out) = child.stdout.take() else { return Ok(()) };
    let mut lines = BufReader::new(out).lines();
    let mut saved = Instant::now();
    while let Some(line) = lines.next_line().await? {
        let Some(entry) = entry(&line) else { continue };
        pass_on(&entry);
        *cursor = Some(entry.cursor);
        if saved.elapsed() > SAVE {
            saved = Instant::now();
            save(position, cursor.as_deref().unwrap_or_default()).await?;
        }
    }
    // A position that the journal does not know any more would be refused again and again.
    if !child.wait().await?.success() {
        *cursor = None;
    }
    Ok(())
}

async fn save(position: &Path, cursor: &str) -> std::io::Result<()> {
    if let Some(folder) = position.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(position, cursor).await
}

/// Reads an entry in the journal's JSON format, from journalctl(1).
fn entry(line: &str) -> Option<Entry> {
    let fields: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| fields[key].as_str().map(str::to_owned);
    // What systemd says is about `UNIT`, and comes from its own scope.
    let unit = text("UNIT").or_else(|| text("_SYSTEMD_UNIT"))?;
    let message = match &fields["MESSAGE"] {
        Value::String(text) => text.clone().into_bytes(),
        // What is not UTF-8 is a list of its bytes.
        Value::Array(bytes) => bytes.iter().filter_map(|byte| u8::try_from(byte.as_u64()?).ok()).collect(),
        _ => return None,
    };
    Some(Entry { unit, text: message, cursor: text("__CURSOR")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_their_unit_and_keep_their_bytes() {
        let own =
            entry(r#"{"__CURSOR":"s=1","_SYSTEMD_UNIT":"web-a.service","MESSAGE":"hello"}"#).expect("one");
        assert_eq!((own.unit.as_str(), own.text.as_slice()), ("web-a.service", b"hello".as_slice()));
        let about =
            r#"{"__CURSOR":"s=2","_SYSTEMD_UNIT":"init.scope","UNIT":"web-a.service","MESSAGE":[104,255]}"#;
        let about = entry(about).expect("one");
        assert_eq!((about.unit.as_str(), about.text.as_slice()), ("web-a.service", [104, 255].as_slice()));
        for nothing in ["", "{}", r#"{"__CURSOR":"s=3","UNIT":"a.service"}"#] {
            assert_eq!(entry(nothing), None, "{nothing}");
        }
    }
}
