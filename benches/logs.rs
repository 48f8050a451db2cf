//! What reading and searching the log of a step costs that has a million lines, beside `grep` over the same text.
//!
//!     cargo bench --bench logs                  # LINES=1000000 by default
//!
//! Each is done turn by turn, 9 times; the medians are printed. Exits with 1 when a page or a search takes a second.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chrono::Utc;
use fleetwright::adapter::step_logs::StepLogFolder;
use fleetwright::model::run::RunId;
use fleetwright::model::step_log::{LineKind, NewLine, Search, StepLog};
use fleetwright::port::step_logs::StepLogs as _;

const TURNS: usize = 9;
/// How many lines are appended at a time: what comes in a tenth of a second.
const BATCH: u64 = 5000;

fn main() {
    let count: u64 = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text");
    let logs = StepLogFolder::new(folder.path().join("logs"));
    let log = StepLog { run: RunId(1), step: 0 };
    let line = |number: u64| {
        let crate_name = number % 977;
        format!(
            "\u{1b}[32m   Compiling\u{1b}[0m crate-{crate_name} v0.{}.{number} (/workspace/crates/{crate_name})",
            number % 50
        )
    };
    let mut raw = String::new();
    let mut known = 0;
    let mut appending = Duration::ZERO;
    while known < count {
        let batch: Vec<NewLine> = (known + 1..=(known + BATCH).min(count))
            .map(|number| NewLine { at: Utc::now(), kind: LineKind::Whole, text: line(number) })
            .collect();
        batch.iter().for_each(|line| raw = std::mem::take(&mut raw) + &line.text + "\n");
        let begun = Instant::now();
        known = logs.append(log, known, &batch).expect("appended");
        appending += begun.elapsed();
    }
    std::fs::write(&text, &raw).expect("written");
    let on_disk = size(&folder.path().join("logs"));
    println!("{count} lines, {} MB of text, {} MB in the log", raw.len() / 1_000_000, on_disk / 1_000_000);
    println!("append                          {:8.1} ms, in batches of {BATCH}", ms(appending));

    let middle = known / 2;
    let page = || drop(std::hint::black_box(logs.page(log, known, middle, 1000).expect("read")));
    let last = || drop(std::hint::black_box(logs.page(log, known, known - 999, 1000).expect("read")));
    let search = |text: &str, any_case: bool| {
        let search = Search { text: text.to_owned(), any_case, from: 1, limit: 100 };
        let found = logs.search(log, known, &search).expect("searched");
        assert_eq!((found.lines.len(), found.next), (1, None));
    };
    // In the last lines, so that all of it is gone through.
    let needle = format!(".{} (/workspace", known - 1);
    let grep = |options: &[&str]| {
        let status = Command::new("grep")
            .env("LC_ALL", "C")
            .args(options)
            .args(["-F", "--", &needle])
            .arg(&text)
            .stdout(Stdio::piped())
            .output()
            .expect("grep can be run");
        assert!(status.status.success() && !status.stdout.is_empty());
    };
    let mut times: Vec<(&str, Vec<Duration>)> = Vec::new();
    let upper = needle.to_uppercase();
    let mut measure = |name: &'static str, what: &dyn Fn()| {
        let begun = Instant::now();
        what();
        let took = begun.elapsed();
        match times.iter_mut().find(|(of, _)| *of == name) {
            Some((_, all)) => all.push(took),
            None => times.push((name, vec![took])),
        }
    };
    for _ in 0..TURNS {
        measure("page of 1000 in the middle", &page);
        measure("page of 1000 at the end", &last);
        measure("search", &|| search(&needle, false));
        measure("grep -F", &|| grep(&[]));
        measure("search in any case", &|| search(&upper, true));
        measure("grep -F -i", &|| grep(&["-i"]));
    }
    let medians: Vec<(&str, Duration)> = times.into_iter().map(|(name, all)| (name, median(all))).collect();
    let of = |name: &str| medians.iter().find(|(of, _)| *of == name).map_or(Duration::MAX, |(_, time)| *time);
    for (name, time) in &medians {
        println!("{name:<31} {:8.1} ms", ms(*time));
    }
    for (ours, theirs) in [("search", "grep -F"), ("search in any case", "grep -F -i")] {
        println!("{ours} beside {theirs}: {:.1} times", of(ours).as_secs_f64() / of(theirs).as_secs_f64());
    }
    if medians.iter().any(|(_, time)| *time >= Duration::from_secs(1)) {
        println!("something takes a second");
        std::process::exit(1);
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn size(path: &std::path::Path) -> u64 {
    let metadata = std::fs::metadata(path).expect("it is there");
    if metadata.is_file() {
        return metadata.len();
    }
    std::fs::read_dir(path).expect("a folder").map(|entry| size(&entry.expect("an entry").path())).sum()
}
