//! Times as people say them.

use std::time::Duration;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_and_its_unit() {
        let said = [0.23, 41.0, 119.0, 240.0, 7_300.0, 200_000.0].map(|s| human(Duration::from_secs_f64(s)));
        assert_eq!(said, ["0.2 s", "41 s", "119 s", "4 min", "2 h", "2 d"]);
    }
}
