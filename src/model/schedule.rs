//! When a job is due: a cron expression in a time zone.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use serde::{Deserialize, Serialize};

/// A schedule as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Five fields: minute, hour, day of the month, month, day of the week.
    pub cron: String,
    /// The IANA name of the time zone, such as `Europe/Berlin`.
    pub timezone: String,
}

/// Why a schedule can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSchedule {
    /// It is not a cron expression.
    #[error("{0}")]
    Cron(String),
    /// It is one, and no moment ever fits it.
    #[error("it never fires")]
    Never,
    /// There is no such time zone.
    #[error("there is no time zone `{0}`")]
    Zone(String),
}

impl Schedule {
    /// The moments at which it is due.
    ///
    /// # Errors
    /// Why there are none.
    pub fn times(&self) -> Result<Times, BadSchedule> {
        let zone: Tz = self.timezone.parse().map_err(|_| BadSchedule::Zone(self.timezone.clone()))?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(&self.cron).map_err(|error| BadSchedule::Cron(words(&error)))?;
        let times = Times { cron, zone };
        // Five fields fit again within 40 years at most, wherever the search begins.
        match times.after(DateTime::UNIX_EPOCH) {
            Some(_) => Ok(times),
            None => Err(BadSchedule::Never),
        }
    }
}

/// The parser's message without its terms.
fn words(error: &CronError) -> String {
    match error {
        CronError::EmptyPattern => "it is empty".to_owned(),
        CronError::InvalidPattern(text)
        | CronError::IllegalCharacters(text)
        | CronError::ComponentError(text) => {
            if text.contains("fields") {
                return "it must have 5 fields".to_owned();
            }
            let text = text.trim_end_matches('.').to_owned();
            let mut letters = text.chars();
            letters.next().map_or(text.clone(), |first| first.to_lowercase().chain(letters).collect())
        }
        CronError::InvalidDate | CronError::InvalidTime | CronError::TimeSearchLimitExceeded => {
            "it names no date or time".to_owned()
        }
    }
}

/// The moments of a schedule.
///
/// A time that a change to daylight saving skips is due at the first moment after it. Of a time that
/// comes twice, when the clocks go back, a fixed hour is due once, at its first coming.
#[derive(Debug, Clone)]
pub struct Times {
    cron: Cron,
    zone: Tz,
}

impl Times {
    /// The first moment after `at`.
    pub fn after(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let found = self.cron.find_next_occurrence(&at.with_timezone(&self.zone), false).ok()?;
        let found = found.with_timezone(&Utc);
        // A search that does not advance would never end.
        (found > at).then_some(found)
    }

    /// The moments after `from` and up to `to`, at most `most`, oldest first.
    pub fn between(&self, from: DateTime<Utc>, to: DateTime<Utc>, most: usize) -> Vec<DateTime<Utc>> {
        let next = |at: &DateTime<Utc>| self.after(*at);
        std::iter::successors(self.after(from), next).take_while(|at| *at <= to).take(most).collect()
    }
}

/// The time zone whose name is nearest to `text`.
pub fn near_zone(text: &str) -> Option<&'static str> {
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    // People know cities better than the regions they are filed under.
    let wanted = text.rsplit('/').next().unwrap_or(text).replace(' ', "_");
    names()
        .find(|name| name.eq_ignore_ascii_case(text))
        .or_else(|| {
            names()
                .find(|name| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted)))
        })
        .or_else(|| crate::source::suggest(text, names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(cron: &str, zone: &str) -> Schedule {
        Schedule { cron: cron.to_owned(), timezone: zone.to_owned() }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    fn list(cron: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let times = schedule(cron, zone).times().expect("a schedule");
        times.between(at(from), at(to), 100).iter().map(|at| at.format("%dT%H:%M").to_string()).collect()
    }

    #[test]
    fn daylight_saving_neither_loses_nor_doubles_a_night_job() {
        let spring = list("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring, ["28T01:30", "29T01:00", "30T00:30"], "02:30 did not exist on the 29th");
        let autumn = list("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, ["24T00:30", "25T00:30", "26T01:30"], "02:30 came twice on the 25th");
        let hourly = list("0 * * * *", "Europe/Berlin", "2026-10-24T22:30:00Z", "2026-10-25T03:30:00Z");
        assert_eq!(hourly, ["24T23:00", "25T00:00", "25T01:00", "25T02:00", "25T03:00"]);
    }

    #[test]
    fn a_schedule_that_can_t_be_used_says_why() {
        let error = |cron, zone| schedule(cron, zone).times().expect_err(cron);
        assert_eq!(error("0 0 30 2 *", "UTC"), BadSchedule::Never);
        assert_eq!(error("0 0 * * *", "Europe/Berln"), BadSchedule::Zone("Europe/Berln".to_owned()));
        for cron in ["", "* * * *", "* * * * * *", "61 * * * *", "a * * * *", "@reboot", "0 0 * * MON-FOO"] {
            assert!(matches!(error(cron, "UTC"), BadSchedule::Cron(_)), "{cron}");
        }
        assert_eq!(near_zone("Berlin"), Some("Europe/Berlin"));
        assert_eq!(near_zone("Europe/Berln"), Some("Europe/Berlin"));
        assert!(schedule("0 0 29 2 *", "UTC").times().is_ok());
    }
}
