//! When jobs are due, compared with croniter on generated schedules, zones and moments.
//!
//! FLEETWRIGHT_MODELS says how many (`make test-models`: 10,000).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};
use fleetwright::model::schedule::Schedule;

/// Few enough for some seconds.
const FEW: usize = 300;
/// How many times each schedule is asked for.
const COUNT: usize = 3;
/// Zones without daylight saving, and with it on both halves of the earth, by an hour and by half an hour.
const ZONES: [&str; 7] = [
    "UTC",
    "Asia/Tokyo",
    "America/Bogota",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Sydney",
    "Australia/Lord_Howe",
];

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }

    fn of(&mut self, words: &[&str]) -> String {
        words[self.below(words.len() as u64) as usize].to_owned()
    }

    /// A field with values from `least` to `most`.
    fn field(&mut self, least: u64, most: u64) -> String {
        let one = |dice: &mut Self| least + dice.below(most - least + 1);
        match self.below(6) {
            0 | 1 => "*".to_owned(),
            2 => format!("*/{}", 1 + self.below(most / 2)),
            // croniter reads a range of one value, such as `8-8`, as `*`.
            3 => {
                let from = least + self.below(most - least);
                format!("{from}-{}", from + 1 + self.below(most - from))
            }
            4 => format!("{},{}", one(self), one(self)),
            _ => one(self).to_string(),
        }
    }

    fn schedule(&mut self) -> String {
        let (minute, hour) = (self.field(0, 59), self.field(0, 23));
        let day = if self.below(3) == 0 { self.field(1, 28) } else { "*".to_owned() };
        let month = if self.below(4) == 0 { self.field(1, 12) } else { "*".to_owned() };
        // With both kinds of days, either counts: that rule is compared as well.
        let weekday =
            if self.below(3) == 0 { self.of(&["MON-FRI", "0", "SUN", "6", "1,3"]) } else { "*".to_owned() };
        format!("{minute} {hour} {day} {month} {weekday}")
    }
}

/// The Python that croniter is installed for.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("FLEETWRIGHT_HOME").map(PathBuf::from);
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let home = given.or_else(|| data.map(|data| data.join("fleetwright")))?;
    let python = home.join("croniter/bin/python");
    if python.exists() {
        return Some(python);
    }
    assert!(
        !std::env::var("CI").is_ok_and(|ci| ci == "true"),
        "run `scripts/setup test`, which installs croniter"
    );
    println!("skipped: croniter is not in {}; `scripts/setup test` installs it there", home.display());
    None
}

/// Whether the clocks of a zone are changed within three hours of one of these moments.
fn at_a_change(zone: &str, moments: &[i64]) -> bool {
    let zone: chrono_tz::Tz = zone.parse().expect("a zone");
    let offset = |at: DateTime<Utc>| at.with_timezone(&zone).naive_local() - at.naive_utc();
    moments.iter().any(|moment| {
        let at = DateTime::from_timestamp(*moment, 0).expect("a time");
        offset(at - TimeDelta::hours(3)) != offset(at + TimeDelta::hours(3))
    })
}

#[test]
fn jobs_are_due_when_croniter_says() {
    let Some(python) = python() else { return };
    let count = std::env::var("FLEETWRIGHT_MODELS").ok();
    let count = count.map_or(FEW, |count| count.parse().expect("FLEETWRIGHT_MODELS is a number"));
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    // Changes of 2026, and any moment of four years.
    let changes = [
        "2026-03-29T00:30:00Z",
        "2026-10-25T00:10:00Z",
        "2026-03-08T06:30:00Z",
        "2026-11-01T05:30:00Z",
        "2026-04-04T14:30:00Z",
    ];
    let asked: Vec<(String, &str, i64)> = (0..count)
        .map(|_| {
            let zone = ZONES[dice.below(ZONES.len() as u64) as usize];
            let at = if dice.below(3) == 0 {
                let change: DateTime<Utc> = dice.of(&changes).parse().expect("a time");
                change.timestamp() + dice.below(7200) as i64 - 3600
            } else {
                1_735_689_600 + dice.below(4 * 365 * 86_400) as i64
            };
            (dice.schedule(), zone, at)
        })
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/croniter/times.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python can be run");
    let mut input = child.stdin.take().expect("a pipe");
    let lines: String = asked.iter().map(|(cron, zone, at)| format!("{cron}|{zone}|{at}\n")).collect();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("a thread").expect("written");
    let answers = String::from_utf8(output.stdout).expect("UTF-8");
    let mut tolerated = 0;
    let mut differences = Vec::new();
    for ((cron, zone, at), answer) in asked.iter().zip(answers.lines()) {
        let theirs: serde_json::Value = serde_json::from_str(answer).expect("JSON");
        let schedule = Schedule { cron: cron.clone(), timezone: (*zone).to_owned() };
        let from = DateTime::from_timestamp(*at, 0).expect("a time");
        let ours = match schedule.times() {
            Ok(times) => times.between(from, from + TimeDelta::days(40 * 366), COUNT),
            Err(_) => Vec::new(),
        };
        let ours: Vec<i64> = ours.iter().map(DateTime::timestamp).collect();
        let Ok(theirs) = serde_json::from_value::<Vec<i64>>(theirs.clone()) else {
            // What croniter finds no time for, nobody does.
            assert!(ours.is_empty(), "{cron} {zone} {from}: {ours:?} and {theirs}");
            continue;
        };
        if ours == theirs {
            continue;
        }
        let all: Vec<i64> = ours.iter().chain(&theirs).copied().chain([*at]).collect();
        if at_a_change(zone, &all) {
            tolerated += 1;
        } else {
            differences.push(format!("{cron} {zone} {from}: {ours:?} and {theirs:?}"));
        }
    }
    assert_eq!(answers.lines().count(), asked.len());
    println!("{tolerated} of {count} differ where clocks change: a fixed time that comes twice is due once");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(tolerated * 6 < count, "{tolerated} of {count}");
}
