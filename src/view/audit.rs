//! The record of changes.

use chrono::{DateTime, Utc};

use super::table::table;
use super::time::human;
use crate::model::audit::Change;

/// The longest reason that stands in the table; `-o json` has all of it.
const LONGEST_REASON: usize = 80;

/// A table of changes, oldest first.
pub fn human_table(changes: &[Change], now: DateTime<Utc>) -> String {
    if changes.is_empty() {
        return "No change is recorded that fits.\n".to_owned();
    }
    let rows: Vec<_> = changes
        .iter()
        .map(|change| {
            let begun = &change.begun;
            vec![
                begun.at.format("%Y-%m-%d %H:%M:%S").to_string(),
                ago(begun.at, now),
                short(&begun.by).to_owned(),
                begun.operation.clone(),
                begun.target.clone(),
                outcome(change),
                begun.from.map_or_else(|| "-".to_owned(), |from| from.to_string()),
                more(change),
            ]
        })
        .collect();
    table(&["WHEN (UTC)", "AGO", "WHO", "WHAT", "ON", "OUTCOME", "FROM", "DETAILS"], &rows)
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    (now - at).to_std().map_or_else(|_| "now".to_owned(), human)
}

/// `role/deploy/ada` of `arn:aws:iam::123456789012:role/deploy/ada`; the account stays in JSON.
fn short(by: &str) -> &str {
    if by.starts_with("arn:") { by.splitn(6, ':').nth(5).unwrap_or(by) } else { by }
}

fn outcome(change: &Change) -> String {
    let revision = change.ended.as_ref().and_then(|ended| ended.details.get("revision"));
    match revision {
        Some(revision) => format!("{}, revision {revision}", change.outcome()),
        None => change.outcome().to_owned(),
    }
}

fn more(change: &Change) -> String {
    if let Some(reason) = change.ended.as_ref().and_then(|ended| ended.reason.as_deref()) {
        return match reason.char_indices().nth(LONGEST_REASON) {
            Some((at, _)) => format!("{}…", &reason[..at]),
            None => reason.to_owned(),
        };
    }
    let details = &change.begun.details;
    let shown = details.iter().filter(|(name, _)| *name != "repository").map(|(name, value)| {
        let value = value.strip_prefix("sha256:").unwrap_or(value);
        // Digests and commits are told apart by their first digits.
        let long = value.len() > 12 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        format!("{name} {}", if long { &value[..12] } else { value })
    });
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::access::Level;
    use crate::model::audit::{AUDIT_VERSION, Begun, Ended, Outcome};

    fn change(minutes: i64, by: &str, operation: &str, ended: Option<(Outcome, Option<&str>)>) -> Change {
        let now: DateTime<Utc> = "2026-11-28T12:00:00Z".parse().expect("a time");
        let at = now - chrono::TimeDelta::minutes(minutes);
        let deploys = operation == "deploy";
        let details = BTreeMap::from([
            ("commit".to_owned(), "0123456789abcdef0123456789abcdef01234567".to_owned()),
            ("image".to_owned(), "team/web".to_owned()),
            ("repository".to_owned(), "web".to_owned()),
        ]);
        Change {
            begun: Begun {
                version: AUDIT_VERSION,
                id: minutes.to_string(),
                at,
                by: by.to_owned(),
                level: Some(Level::Deployer),
                from: (operation != "remove-node").then(|| "10.0.0.9".parse().expect("an address")),
                operation: operation.to_owned(),
                target: if deploys { "service/web" } else { "machine/i-9" }.to_owned(),
                details: if deploys { details } else { BTreeMap::new() },
                recorded_by: "i-1".to_owned(),
            },
            ended: ended.map(|(outcome, reason)| Ended {
                version: AUDIT_VERSION,
                id: minutes.to_string(),
                at,
                outcome,
                reason: reason.map(str::to_owned),
                details: if deploys {
                    BTreeMap::from([("revision".to_owned(), "3".to_owned())])
                } else {
                    BTreeMap::new()
                },
            }),
        }
    }

    #[test]
    fn columns_line_up_and_an_unknown_outcome_shows() {
        let changes = [
            change(4000, "arn:aws:iam::123456789012:role/deploy/ada", "deploy", Some((Outcome::Done, None))),
            change(90, "machine/i-9", "drain", None),
            change(3, "token/ci", "drain", Some((Outcome::Refused, Some("there is nowhere else to go")))),
            change(1, "machine/i-1", "remove-node", Some((Outcome::Done, None))),
        ];
        let now = "2026-11-28T12:00:00Z".parse().expect("a time");
        insta::assert_snapshot!(human_table(&changes, now), @r"
        WHEN (UTC)           AGO     WHO              WHAT         ON           OUTCOME           FROM      DETAILS
        2026-11-25 17:20:00  2 d     role/deploy/ada  deploy       service/web  done, revision 3  10.0.0.9  commit 0123456789ab, image team/web
        2026-11-28 10:30:00  90 min  machine/i-9      drain        machine/i-9  unknown           10.0.0.9
        2026-11-28 11:57:00  3 min   token/ci         drain        machine/i-9  refused           10.0.0.9  there is nowhere else to go
        2026-11-28 11:59:00  60 s    machine/i-1      remove-node  machine/i-9  done              -
        ");
        assert_eq!(human_table(&[], now), "No change is recorded that fits.\n");
    }
}
