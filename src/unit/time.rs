//! Spans of time, and calendar events: systemd.time(7).

use std::time::Duration;

use crate::source::suggest;

/// The units of spans.
const UNITS: &[&str] = &[
    "seconds", "second", "sec", "s", "minutes", "minute", "min", "months", "month", "M", "msec", "ms", "m",
    "hours", "hour", "hr", "h", "days", "day", "d", "weeks", "week", "w", "years", "year", "y", "usec", "us",
    "µs", "μs",
];

/// Reads `5min 20s`, `1.5h`, `infinity`; a number alone counts seconds, mostly.
///
/// # Errors
/// What is wrong with it.
pub fn span(text: &str) -> Result<(), String> {
    if text.trim() == "infinity" {
        return Ok(());
    }
    parts(text).map(drop)
}

/// How long a span is, where a number alone counts seconds; `None` for `infinity`, and for what is none.
pub fn duration(text: &str) -> Option<Duration> {
    let seconds = |unit: &str| {
        Some(match unit {
            "" | "seconds" | "second" | "sec" | "s" => 1.0,
            "minutes" | "minute" | "min" | "m" => 60.0,
            "hours" | "hour" | "hr" | "h" => 3_600.0,
            "days" | "day" | "d" => 86_400.0,
            "weeks" | "week" | "w" => 604_800.0,
            "msec" | "ms" => 1e-3,
            "usec" | "us" | "µs" | "μs" => 1e-6,
            // systemd's own averages.
            "months" | "month" | "M" => 2_629_800.0,
            "years" | "year" | "y" => 31_557_600.0,
            _ => return None,
        })
    };
    let mut sum = 0.0;
    for (number, unit) in parts(text).ok()? {
        sum += number * seconds(unit)?;
    }
    Duration::try_from_secs_f64(sum).ok()
}

/// The numbers of a span with their units.
fn parts(text: &str) -> Result<Vec<(f64, &str)>, String> {
    let text = text.trim();
    let mut found = Vec::new();
    if text.is_empty() {
        return Err("nothing is given".into());
    }
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let whole = rest.len() - digits.len();
        let mut after = digits;
        let mut fraction = 0;
        if let Some(dotted) = digits.strip_prefix('.') {
            after = dotted.trim_start_matches(|c: char| c.is_ascii_digit());
            fraction = dotted.len() - after.len();
            if fraction == 0 {
                return Err("a digit must follow the dot".into());
            }
        }
        if whole == 0 && fraction == 0 {
            return Err(format!("a number was expected where `{rest}` stands"));
        }
        if whole > 19 {
            return Err("the number is too large".into());
        }
        let after = after.trim_start();
        let letters = after.trim_start_matches(|c: char| c.is_alphabetic() || c == 'µ' || c == 'μ');
        let unit = &after[..after.len() - letters.len()];
        if !unit.is_empty() && !UNITS.contains(&unit) {
            let lower = unit.to_lowercase();
            let near =
                UNITS.iter().copied().find(|known| *known == lower || *known == lower.trim_end_matches('s'));
            return Err(match near.or_else(|| suggest(unit, UNITS.iter().copied())) {
                Some(near) => format!("`{unit}` is no unit of time; did you mean `{near}`?"),
                None => {
                    format!("`{unit}` is no unit of time; there are us, ms, s, min, h, d, w, month and y")
                }
            });
        }
        let number = &rest[..rest.len() - digits.len() + if fraction > 0 { fraction + 1 } else { 0 }];
        found.push((number.parse().unwrap_or(f64::MAX), unit));
        rest = letters.trim_start();
    }
    Ok(found)
}

/// What stands for a whole calendar event.
const SHORTHANDS: &[&str] = &[
    "minutely",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "quarterly",
    "semiannually",
    "semi-annually",
    "biannually",
    "bi-annually",
    "yearly",
    "annually",
    "anually",
];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Reads a calendar event: `daily`, `Mon..Fri 10:00`, `*-*-01 04:00:00 UTC`.
///
/// # Errors
/// What is wrong with it.
pub fn calendar(text: &str) -> Result<(), String> {
    let mut words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    if words.len() > 1 && words.last().is_some_and(|word| is_timezone(word)) {
        words.pop();
    }
    let Some(first) = words.first() else { return Err("nothing is given".into()) };
    let lower = first.to_ascii_lowercase();
    if words.len() == 1 && SHORTHANDS.contains(&&*lower) {
        return Ok(());
    }
    if let Some(stamp) = first.strip_prefix('@') {
        let fine = !stamp.is_empty() && stamp.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        return if fine && words.len() == 1 { Ok(()) } else { Err("`@` begins a number of seconds".into()) };
    }
    let mut rest = &words[..];
    if first.starts_with(|c: char| c.is_ascii_alphabetic()) {
        weekdays(first)?;
        rest = &rest[1..];
    }
    if let Some(word) = rest.first()
        && !word.contains(':')
    {
        date(word)?;
        rest = &rest[1..];
    }
    if let Some(word) = rest.first() {
        time(word)?;
        rest = &rest[1..];
    }
    match rest.first() {
        None => Ok(()),
        Some(word) => {
            Err(format!("`{word}` is too much: days of the week, date and time come in this order"))
        }
    }
}

/// Whether a word may be a timezone; the machine's list of them isn't known here.
fn is_timezone(word: &str) -> bool {
    word.eq_ignore_ascii_case("utc")
        || (word.starts_with(|c: char| c.is_ascii_uppercase())
            && weekdays(word).is_err()
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+-".contains(&byte)))
}

fn weekdays(word: &str) -> Result<(), String> {
    // A comma at the end is taken.
    for part in word.strip_suffix(',').unwrap_or(word).split(',') {
        let ends = part.split_once("..").or_else(|| part.split_once('-'));
        let (from, to) = ends.map_or((part, None), |(from, to)| (from, Some(to)));
        for day in std::iter::once(from).chain(to) {
            let lower = day.to_ascii_lowercase();
            if !DAYS.iter().any(|known| *known == lower || known[..3] == *lower) {
                let all = SHORTHANDS.iter().chain(&DAYS).copied();
                return Err(match suggest(day, all) {
                    Some(near) => format!("`{day}` is no day of the week; did you mean `{near}`?"),
                    None => format!("`{day}` is no day of the week"),
                });
            }
        }
    }
    Ok(())
}

fn date(word: &str) -> Result<(), String> {
    let (start, last) = match word.rsplit_once('~') {
        // `*-02~03` counts from the end of the month.
        Some((start, day)) => (start, Some(day)),
        None => (word, None),
    };
    let mut parts: Vec<&str> = start.split('-').collect();
    parts.extend(last);
    let (year, month, day) = match parts[..] {
        [year, month, day] => (Some(year), month, day),
        [month, day] => (None, month, day),
        _ => {
            return Err(format!(
                "`{word}` is no date: it looks like `*-*-01` or `12-24`, a time like `10:00`"
            ));
        }
    };
    if let Some(year) = year {
        chain("year", year, 0, 2199, false)?;
        let old = year.bytes().all(|byte| byte.is_ascii_digit())
            && year.parse::<u32>().is_ok_and(|y| (100..1970).contains(&y));
        if old {
            return Err(format!("the year {year} is not between 1970 and 2199"));
        }
    }
    chain("month", month, 1, 12, false)?;
    chain("day", day, 1, 31, false)
}

fn time(word: &str) -> Result<(), String> {
    let parts: Vec<&str> = word.split(':').collect();
    let (hour, minute, second) = match parts[..] {
        [hour, minute] => (hour, minute, None),
        [hour, minute, second] => (hour, minute, Some(second)),
        _ => return Err(format!("`{word}` is no time: it looks like `10:00` or `*:0/15`")),
    };
    chain("hour", hour, 0, 23, false)?;
    chain("minute", minute, 0, 59, false)?;
    second.map_or(Ok(()), |second| chain("second", second, 0, 59, true))
}

/// One place of a date or time: `*`, or numbers, ranges and repetitions with commas between.
fn chain(what: &str, text: &str, low: u32, high: u32, fraction: bool) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let number = |text: &str| -> Result<f64, String> {
        let plain = text.bytes().all(|byte| byte.is_ascii_digit() || (fraction && byte == b'.'));
        let value = text.parse::<f64>().ok().filter(|_| plain && text.len() <= 16);
        value.ok_or_else(|| {
            if text.starts_with('*') {
                format!("the {what} `{text}`: nothing may follow `*`; every fifteenth is `0/15`")
            } else {
                format!("the {what} `{text}` is no number")
            }
        })
    };
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (from, to) = range.split_once("..").map_or((range, None), |(from, to)| (from, Some(to)));
        if from == "*" {
            return Err(format!("the {what} `{part}`: nothing may follow `*`; every fifteenth is `0/15`"));
        }
        let from = number(from)?;
        let to = to.map(number).transpose()?;
        for value in std::iter::once(from).chain(to) {
            if value < f64::from(low) || value >= f64::from(high) + 1.0 {
                return Err(format!("the {what} {value} is not between {low} and {high}"));
            }
        }
        if to.is_some_and(|to| to < from) {
            return Err(format!("the {what} `{part}` ends before it begins"));
        }
        if let Some(step) = step
            && number(step)? == 0.0
        {
            return Err(format!("the {what} `{part}` repeats every 0"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPANS: &[&str] = &[
        "5",
        "5min 20s",
        "1.5h",
        "infinity",
        "2h30min",
        "1y 12month",
        "100ms",
        "0",
        "5 min",
        ".5s",
        "3M",
        "5 mins",
        "1hour",
        "5x",
        "",
        "-1",
        "min",
        "5min,3s",
        "1.",
        "Infinity",
        "5MIN",
        "10sec 5",
        "unlimited",
    ];

    const EVENTS: &[&str] = &[
        "daily",
        "Daily",
        "*:*/15",
        "*/5",
        "Mon..Fri *-*-* 10:00",
        "Mon-Fri 10:00",
        "daily UTC",
        "daily Europe/Berlin",
        "*-*~1",
        "*-02~03",
        "24:00",
        "*:60",
        "*-13-1",
        "Mon,",
        "Mon, Tue",
        "2021-1-1",
        "21-1-1",
        "*-*-1..7 18:00:00",
        "hourly x",
        "@1395716396",
        "*:0/15:*",
        "05:30:1.5",
        "12,14,13:20,10,30",
        "8..18:00",
        "8-18:00",
        "Sun *-*-* 4:00:00",
        "weekdays",
        "0/2:00",
        "2..1:00",
        "mon 10:00:00 utc",
        "10",
        "10:",
        "*-*-*",
        "*-*",
        "00:00:00/5",
        "*:*:*.1",
        "",
        "1-1",
        "Mon..",
        "2300-1-1",
        "*-*-32",
        "10:00:00:00",
        "10:00 Mon",
        "dayly",
        "Sat,Thu,Mon..Wed",
        "*-*-01 00:00:00 UTC",
        "monthly 10:00",
        "*:0/0",
        "10:5x",
    ];

    /// What systemd itself says of each, where it is installed.
    fn compare(verb: &str, texts: &[&str], ours: fn(&str) -> Result<(), String>) {
        for text in texts {
            let Ok(output) = std::process::Command::new("systemd-analyze").args([verb, "--", text]).output()
            else {
                eprintln!("skipped: there is no systemd-analyze");
                return;
            };
            assert_eq!(ours(text).is_ok(), output.status.success(), "{verb} {text:?}: {:?}", ours(text));
        }
    }

    #[test]
    fn spans_have_a_length() {
        let millis = |text: &str| duration(text).map(|time| time.as_millis());
        assert_eq!(millis("90"), Some(90_000));
        assert_eq!(millis("1min 30s"), Some(90_000));
        assert_eq!(millis("1.5h"), Some(5_400_000));
        assert_eq!(millis("20 ms"), Some(20));
        assert_eq!((millis("infinity"), millis("soon"), millis("")), (None, None, None));
    }

    #[test]
    fn spans_are_judged_as_systemd_does() {
        compare("timespan", SPANS, span);
    }

    #[test]
    fn calendar_events_are_judged_as_systemd_does() {
        compare("calendar", EVENTS, calendar);
    }

    #[test]
    fn spans_have_units() {
        assert_eq!(span("5min 20s"), Ok(()));
        assert_eq!(span("5 mins"), Err("`mins` is no unit of time; did you mean `min`?".into()));
        assert_eq!(span("5 Sec"), Err("`Sec` is no unit of time; did you mean `sec`?".into()));
        assert!(span("soon").is_err());
    }

    #[test]
    fn calendar_events_are_read() {
        assert_eq!(calendar("Mon..Fri *-*-* 10:00:00 Europe/Berlin"), Ok(()));
        let error = calendar("dayly").expect_err("no event");
        assert_eq!(error, "`dayly` is no day of the week; did you mean `daily`?");
        assert!(calendar("*:*/15").expect_err("no event").contains("`0/15`"));
    }
}
