//! Durations as people write them: `500ms`, `10s`, `2m`, `1h`.

use std::time::Duration;

/// The duration that `text` gives: a whole number and a unit, one of `ms`, `s`, `m` and `h`.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(millis).map(Duration::from_millis)
}
