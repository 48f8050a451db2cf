//! What a machine came to after its first boot, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::paint::{BAD, DIM, GOOD, NOTE, Paint};
use super::words::count;

/// Version of the JSON document, raised when a field changes its meaning.
const VERSION: u32 = 1;

/// Whether one expectation holds.
pub struct Line<'a> {
    /// What was expected.
    pub what: &'a str,
    /// Whether it is so.
    pub holds: bool,
    /// What is there instead.
    pub found: &'a str,
}

/// The JSON document: what was found, and whether each expectation holds.
pub fn json(booted: Value, verdicts: Value, passed: bool) -> Value {
    json!({"version": VERSION, "passed": passed, "machine": booted, "expectations": verdicts})
}

/// The report for people.
pub fn human(
    verdicts: &[Line<'_>],
    units: &[(String, String)],
    warnings: &[String],
    seconds: f64,
    paint: Paint,
) -> String {
    let mut out = String::new();
    for line in verdicts {
        let sign = if line.holds { paint.paint(GOOD, "✓") } else { paint.paint(BAD, "✗") };
        let _ = write!(out, "{sign} {}", line.what);
        if !line.found.is_empty() {
            let _ = write!(out, "\n    {}", line.found.trim_end().replace('\n', "\n    "));
        }
        out.push('\n');
    }
    let width = units.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, state) in units {
        let _ = writeln!(out, "  {name:width$}   {}", paint.paint(DIM, state));
    }
    for warning in warnings {
        let _ = writeln!(out, "{} {warning}", paint.paint(NOTE, "!"));
    }
    let failed = verdicts.iter().filter(|line| !line.holds).count();
    let _ = match failed {
        0 => writeln!(out, "\nBooted in {seconds:.1} s; all {} hold.", count(verdicts.len(), "expectation")),
        failed => writeln!(
            out,
            "\nBooted in {seconds:.1} s; {failed} of {} do not hold.",
            count(verdicts.len(), "expectation")
        ),
    };
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_and_what_does_not_stands_above_the_sum() {
        let verdicts = [
            Line { what: "cloud-init is done without errors", holds: true, found: "" },
            Line { what: "/etc/a has mode 0644", holds: false, found: "it has 600" },
        ];
        let units = [("docker.service".to_owned(), "active, enabled".to_owned())];
        let warnings = ["Unhandled unknown content-type".to_owned()];
        insta::assert_snapshot!(human(&verdicts, &units, &warnings, 7.04, Paint(false)));
    }
}
