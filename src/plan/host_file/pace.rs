//! When what failed on a machine is tried again, and how often a program is reloaded.

use std::time::Duration;

/// Time between two reloads of one program: HAProxy's old workers pile up when it is asked more often.
pub const BETWEEN_RELOADS: Duration = Duration::from_secs(2);
/// Time after the first failure, which doubles with each, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How long to wait after so many failures in a row.
pub fn retry_after(failures: u32) -> Duration {
    (RETRY.0 * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(RETRY.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_slow_down_and_never_end() {
        let seconds: Vec<u64> = (1..9).map(|failures| retry_after(failures).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(retry_after(u32::MAX), RETRY.1);
        assert_eq!(retry_after(0), RETRY.0);
    }
}
