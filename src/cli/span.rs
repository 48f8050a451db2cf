//! Times that flags take: spans such as `30d`, and moments.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};

/// A span such as `90s`, `15m`, `12h` or `30d`.
///
/// # Errors
/// What would be right.
pub fn span(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and `s`, `m`, `h` or `d`, such as `12h` or `30d`".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..at].parse().map_err(|_| wrong())?;
    let seconds = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

/// A moment: a span ago, a day (UTC), or a time as RFC 3339 writes it.
///
/// # Errors
/// What would be right.
pub fn since(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    if let Ok(day) = text.parse::<NaiveDate>() {
        return Ok(day.and_time(chrono::NaiveTime::MIN).and_utc());
    }
    let ago = span(text).ok().and_then(|ago| chrono::TimeDelta::from_std(ago).ok());
    ago.and_then(|ago| now.checked_sub_signed(ago)).ok_or_else(|| {
        "write how long ago (`90m`, `2d`), a day (`2026-11-28`) or a time (`2026-11-28T17:00:00Z`)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_need_a_unit() {
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "30", "d", "-3d", "3 d", "3w", "99999999999999999999d", "999999999999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_written_in_three_ways() {
        let now: DateTime<Utc> = "2026-11-28T17:00:00Z".parse().expect("a time");
        for (text, time) in [
            ("2h", "2026-11-28T15:00:00Z"),
            ("2026-11-27", "2026-11-27T00:00:00Z"),
            ("2026-11-27T10:00:00+01:00", "2026-11-27T09:00:00Z"),
        ] {
            assert_eq!(since(text, now), Ok(time.parse().expect("a time")), "{text}");
        }
        for bad in ["yesterday", "2026-13-01", "", "999999999999d"] {
            assert!(since(bad, now).is_err(), "{bad}");
        }
    }
}
