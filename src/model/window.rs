//! Maintenance windows: the time of day in which something may happen by itself.
//!
//! All of it is UTC, where every day has 24 hours and no hour comes twice.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveTime, TimeDelta, Utc, Weekday};
use serde::Deserialize;

/// The minutes of a day.
const DAY: u32 = 24 * 60;

/// Why a text is not what a window is made of.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadWindow {
    /// It is not two times of day.
    #[error("`{0}` is not a window: write it as \"02:00-05:00\" (UTC; it may cross midnight)")]
    Hours(String),
    /// It opens when it closes.
    #[error("the window `{0}` opens and closes at the same time: write \"00:00-24:00\" for the whole day")]
    Empty(String),
    /// It is no day.
    #[error("`{0}` is not a day: write Mon, Tue, Wed, Thu, Fri, Sat or Sun")]
    Day(String),
    /// There is no day in it.
    #[error("`days` is empty, so the window never opens: name days, or leave `days` out for every day")]
    NoDays,
}

/// From when until when, in minutes since midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hours {
    opens: u32,
    closes: u32,
}

impl Hours {
    /// How long it stays open, in minutes.
    fn length(self) -> u32 {
        if self.closes > self.opens { self.closes - self.opens } else { DAY - self.opens + self.closes }
    }
}

impl FromStr for Hours {
    type Err = BadWindow;

    fn from_str(text: &str) -> Result<Self, BadWindow> {
        let bad = || BadWindow::Hours(text.to_owned());
        let (opens, closes) = text.split_once('-').ok_or_else(bad)?;
        let (opens, closes) = (minutes(opens).ok_or_else(bad)?, minutes(closes).ok_or_else(bad)?);
        if opens == closes {
            return Err(BadWindow::Empty(text.to_owned()));
        }
        // The day ends at 24:00; nothing begins then.
        if opens == DAY { Err(bad()) } else { Ok(Self { opens, closes }) }
    }
}

impl TryFrom<String> for Hours {
    type Error = BadWindow;

    fn try_from(text: String) -> Result<Self, BadWindow> {
        text.parse()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [opens, closes] =
            [self.opens, self.closes].map(|time| format!("{:02}:{:02}", time / 60, time % 60));
        write!(f, "{opens}-{closes}")
    }
}

/// `02:00` as minutes since midnight, at most `24:00`.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Day(Weekday);

impl TryFrom<String> for Day {
    type Error = BadWindow;

    fn try_from(text: String) -> Result<Self, BadWindow> {
        text.parse().map(Self).map_err(|_| BadWindow::Day(text))
    }
}

/// When something may happen by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    hours: Hours,
    /// Days on which it opens, counted from Monday; `None` is every day.
    days: Option<BTreeSet<u32>>,
}

impl Window {
    /// A window that opens on `days`, or on every day. One that crosses midnight closes on the
    /// day after.
    ///
    /// # Errors
    /// [`BadWindow::NoDays`] for a list without any.
    pub fn new(hours: Hours, days: Option<&[Day]>) -> Result<Self, BadWindow> {
        if days.is_some_and(<[Day]>::is_empty) {
            return Err(BadWindow::NoDays);
        }
        let days = days.map(|days| days.iter().map(|day| day.0.num_days_from_monday()).collect());
        Ok(Self { hours, days })
    }

    /// When it opened, if it is open at `now`.
    pub fn opened(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = now.date_naive();
        let yesterday = today.checked_sub_days(Days::new(1));
        [Some(today), yesterday].into_iter().flatten().find_map(|date| {
            let opens_at = TimeDelta::minutes(self.hours.opens.into());
            let start = date.and_time(NaiveTime::MIN).and_utc() + opens_at;
            let end = start + TimeDelta::minutes(self.hours.length().into());
            let on_this_day =
                self.days.as_ref().is_none_or(|days| days.contains(&date.weekday().num_days_from_monday()));
            (on_this_day && start <= now && now < end).then_some(start)
        })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} UTC", self.hours)?;
        for (number, day) in self.days.iter().flatten().enumerate() {
            let name = u8::try_from(*day).ok().and_then(|day| Weekday::try_from(day).ok());
            let name = name.map_or_else(String::new, |name| name.to_string());
            write!(f, "{}{name}", if number == 0 { " on " } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(hours: &str, days: &[&str]) -> Window {
        let days: Vec<Day> =
            days.iter().map(|day| Day::try_from((*day).to_owned()).expect("a day")).collect();
        let days = (!days.is_empty()).then_some(days);
        Window::new(hours.parse().expect("hours"), days.as_deref()).expect("a window")
    }

    fn at(text: &str) -> DateTime<Utc> {
        format!("{text}:00Z").parse().expect("a time")
    }

    // 2026-11-23 is a Monday.
    #[test]
    fn a_window_opens_at_its_first_minute_and_is_closed_at_its_last() {
        let night = window("02:00-05:00", &[]);
        assert_eq!(night.opened(at("2026-11-24T01:59")), None);
        assert_eq!(night.opened(at("2026-11-24T02:00")), Some(at("2026-11-24T02:00")));
        assert_eq!(night.opened(at("2026-11-24T04:59")), Some(at("2026-11-24T02:00")));
        assert_eq!(night.opened(at("2026-11-24T05:00")), None);
    }

    #[test]
    fn a_window_may_cross_midnight_and_belongs_to_the_day_it_opens_on() {
        let late = window("23:30-01:00", &["Mon", "Sun"]);
        assert_eq!(late.opened(at("2026-11-23T23:45")), Some(at("2026-11-23T23:30")));
        assert_eq!(late.opened(at("2026-11-24T00:59")), Some(at("2026-11-23T23:30")), "Monday's goes on");
        assert_eq!(late.opened(at("2026-11-24T01:00")), None);
        assert_eq!(late.opened(at("2026-11-24T23:45")), None, "Tuesday has none");
        assert_eq!(late.opened(at("2026-11-23T00:10")), Some(at("2026-11-22T23:30")), "Sunday's goes on");
        assert_eq!(late.opened(at("2026-12-01T00:10")), Some(at("2026-11-30T23:30")), "into another month");
    }

    #[test]
    fn a_whole_day_is_open_all_day_and_opens_anew_each_day() {
        let always = window("00:00-24:00", &[]);
        assert_eq!(always.opened(at("2026-11-24T00:00")), Some(at("2026-11-24T00:00")));
        assert_eq!(always.opened(at("2026-11-24T23:59")), Some(at("2026-11-24T00:00")));
        let until_midnight = window("22:00-00:00", &[]);
        assert_eq!(until_midnight.opened(at("2026-11-24T23:59")), Some(at("2026-11-24T22:00")));
        assert_eq!(until_midnight.opened(at("2026-11-25T00:00")), None);
    }

    #[test]
    fn what_is_no_window_is_refused_with_what_would_be_right() {
        for bad in
            ["", "2-5", "02:00", "2:00-5:00", "02:00-25:00", "02:60-05:00", "24:00-02:00", "-1:00-02:00"]
        {
            assert_eq!(bad.parse::<Hours>(), Err(BadWindow::Hours(bad.to_owned())), "{bad}");
        }
        assert_eq!("02:00-02:00".parse::<Hours>(), Err(BadWindow::Empty("02:00-02:00".into())));
        assert_eq!(Day::try_from("Mondag".to_owned()), Err(BadWindow::Day("Mondag".into())));
        let hours = "02:00-05:00".parse().expect("hours");
        assert_eq!(Window::new(hours, Some(&[])), Err(BadWindow::NoDays));
    }

    #[test]
    fn a_window_is_written_as_people_write_it() {
        assert_eq!(window("02:00-05:00", &[]).to_string(), "02:00-05:00 UTC");
        assert_eq!(window("22:00-24:00", &["Tue", "Mon"]).to_string(), "22:00-24:00 UTC on Mon, Tue");
    }

    proptest::proptest! {
        #[test]
        fn a_window_is_open_for_as_long_as_it_says(opens in 0_u32..DAY, closes in 0_u32..=DAY) {
            proptest::prop_assume!(opens != closes);
            let text = format!("{:02}:{:02}-{:02}:{:02}", opens / 60, opens % 60, closes / 60, closes % 60);
            let window = window(&text, &[]);
            let first = at("2026-11-23T00:00");
            let open = (0..DAY).filter(|minute| window.opened(first + TimeDelta::minutes((*minute).into())).is_some());
            let expected = if closes > opens { closes - opens } else { DAY - opens + closes };
            proptest::prop_assert_eq!(open.count(), expected as usize);
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,12}") {
            let _ = text.parse::<Hours>();
        }
    }
}
