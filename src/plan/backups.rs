//! Which backups of the pipeline server are kept: all of the last day, and then the last one of each day.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

/// For how long all of them are kept.
const ALL: TimeDelta = TimeDelta::hours(24);
/// For how long one of each day is.
const DAILY: TimeDelta = TimeDelta::days(30);

/// The times of those that are kept, of `times` in any order. The newest always is.
pub fn kept(times: &[DateTime<Utc>], now: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let mut days: BTreeSet<NaiveDate> = BTreeSet::new();
    let mut kept: BTreeSet<DateTime<Utc>> = sorted.last().copied().into_iter().collect();
    for at in sorted.into_iter().rev() {
        let last_of_day = days.insert(at.date_naive());
        if now - at <= ALL || (last_of_day && now - at <= DAILY) {
            kept.insert(at);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_225_600 + hour * 3600, 0).expect("a time")
    }

    #[test]
    fn a_day_is_kept_whole_and_a_month_by_its_days() {
        let now = at(40 * 24);
        let all: Vec<DateTime<Utc>> = (0..=40 * 24).map(at).collect();
        let kept = kept(&all, now);
        let young = kept.iter().filter(|at| now - **at <= TimeDelta::hours(24)).count();
        assert_eq!(young, 25);
        assert_eq!(kept.len(), 25 + 29);
        assert!(kept.iter().all(|at| now - *at <= TimeDelta::days(30)));
        assert_eq!(super::kept(&[at(0)], now).len(), 1, "the newest stays, however old it is");
        assert!(super::kept(&[], now).is_empty());
    }

    proptest! {
        /// However often it is decided, at whatever times: the newest stays, and no day of the month is without one that
        /// had one.
        #[test]
        fn no_day_of_the_month_is_lost(hours in prop::collection::btree_set(0_i64..1000, 1..60), steps in 1_usize..8) {
            let all: Vec<DateTime<Utc>> = hours.iter().map(|hour| at(*hour)).collect();
            let last = *all.last().expect("one");
            let mut left = Vec::new();
            for chunk in all.chunks(all.len().div_ceil(steps)) {
                left.extend_from_slice(chunk);
                left = kept(&left, *chunk.last().expect("one")).into_iter().collect();
            }
            prop_assert!(left.contains(&last));
            for day in all.iter().filter(|at| last - **at <= DAILY - TimeDelta::days(1)) {
                prop_assert!(left.iter().any(|at| at.date_naive() == day.date_naive()), "{day}");
            }
        }
    }
}
