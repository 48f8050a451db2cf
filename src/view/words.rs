//! Numbers and lists in sentences.

use std::time::Duration;

/// `1 machine`, `2 machines`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// `a`, `a and b`, `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A call that takes long: what was sent to whom, how long ago, how often, and how the last attempt ended.
pub fn waiting(address: &str, operation: &str, time: Duration, attempts: u32, last: Option<&str>) -> String {
    let again = match (attempts, last) {
        (0 | 1, None) => String::new(),
        (attempts, None) => format!(", attempt {attempts}"),
        (attempts, Some(last)) => format!(", attempt {attempts} ended with {last}"),
    };
    format!("waiting for {address}: {operation}, {} s so far{again}", time.as_secs())
}
