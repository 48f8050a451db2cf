//! The secrets of an environment. Their values are never here.

use chrono::{DateTime, Utc};

use super::table;
use super::time::human;
use crate::model::name::SecretName;

/// A secret that is kept, or that a service names.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub name: SecretName,
    /// The number of its version, and when that was set; `None` when it is not set.
    pub kept: Option<(Option<i64>, DateTime<Utc>)>,
    /// The services and jobs that use it.
    pub services: Vec<String>,
}

/// A table of secrets.
pub fn table(rows: &[Row], environment: &str, now: DateTime<Utc>) -> String {
    if rows.is_empty() {
        return format!(
            "Environment `{environment}` has no secrets. `fleetwright secret set NAME` sets one.\n"
        );
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let number = row.kept.and_then(|(number, _)| number);
            let set = match row.kept {
                Some((_, set)) => format!("{} ago", human((now - set).to_std().unwrap_or_default())),
                None => "not set".to_owned(),
            };
            vec![
                row.name.to_string(),
                number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                set,
                if row.services.is_empty() { "-".to_owned() } else { row.services.join(", ") },
            ]
        })
        .collect();
    table::table(&["NAME", "VERSION", "SET", "USED BY"], &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_a_service_lacks_stands_out() {
        let now: DateTime<Utc> = "2026-11-28T12:00:00Z".parse().expect("a time");
        let row = |name: &str, set: Option<i64>, services: &[&str]| Row {
            name: name.parse().expect("a name"),
            kept: set.map(|minutes| (Some(3), now - chrono::TimeDelta::minutes(minutes))),
            services: services.iter().map(|name| (*name).to_owned()).collect(),
        };
        let rows = [
            row("db-password", Some(90), &["api", "web"]),
            row("old", Some(1), &[]),
            row("token", None, &["web"]),
        ];
        insta::assert_snapshot!(table(&rows, "local", now), @r"
        NAME         VERSION  SET         USED BY
        db-password  3        90 min ago  api, web
        old          3        60 s ago    -
        token        -        not set     web
        ");
        assert!(table(&[], "local", now).contains("no secrets"));
    }
}
