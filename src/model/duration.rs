//! Durations as people write them, `500ms`, `10s`, `2m`, `1h`, and as messages show them.

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

/// `0.2 s`, `41 s`, `4 min`, `2 h`, `3 d`: one number and its unit.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A duration as it is written in files, in the largest unit that holds it exactly: `5m`, `90s`, `250ms`.
pub fn written(time: Duration) -> String {
    let millis = time.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    match units.into_iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((word, unit)) => format!("{}{word}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_its_unit() {
        let said = [0.23, 41.0, 119.0, 240.0, 7_300.0, 200_000.0].map(|s| human(Duration::from_secs_f64(s)));
        assert_eq!(said, ["0.2 s", "41 s", "119 s", "4 min", "2 h", "2 d"]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0s", "250ms", "1s", "90s", "5m", "2h"] {
            assert_eq!(written(parse(text).expect(text)), text);
        }
    }
}
