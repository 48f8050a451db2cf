//! The tokens of a cluster.

use chrono::{DateTime, Utc};

use super::table;
use super::time::human;
use crate::model::access::Level;

/// One token.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its bearer may do.
    pub level: Level,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Who created it.
    pub created_by: &'a str,
    /// When it stops being accepted.
    pub expires: DateTime<Utc>,
}

/// A table of tokens.
pub fn table(tokens: &[Row<'_>], now: DateTime<Utc>) -> String {
    if tokens.is_empty() {
        return "The cluster has no tokens.\n".to_owned();
    }
    let rows: Vec<_> = tokens
        .iter()
        .map(|token| {
            let expires = match (token.expires - now).to_std() {
                Ok(left) if !left.is_zero() => format!("in {}", human(left)),
                _ => "expired".to_owned(),
            };
            vec![
                token.name.to_owned(),
                token.level.to_string(),
                expires,
                token.created.format("%Y-%m-%d").to_string(),
                token.created_by.to_owned(),
            ]
        })
        .collect();
    table::table(&["NAME", "LEVEL", "EXPIRES", "CREATED", "BY"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_token_says_so() {
        let now: DateTime<Utc> = "2026-11-28T12:00:00Z".parse().expect("a time");
        let row = |name, level, days| Row {
            name,
            level,
            created: now - chrono::TimeDelta::days(3),
            created_by: "arn:aws:iam::123456789012:user/ada",
            expires: now + chrono::TimeDelta::days(days),
        };
        insta::assert_snapshot!(table(&[row("ci", Level::Deployer, 30), row("old", Level::Viewer, 0)], now), @r"
        NAME  LEVEL     EXPIRES  CREATED     BY
        ci    deployer  in 30 d  2026-11-25  arn:aws:iam::123456789012:user/ada
        old   viewer    expired  2026-11-25  arn:aws:iam::123456789012:user/ada
        ");
        assert_eq!(table(&[], now), "The cluster has no tokens.\n");
    }
}
