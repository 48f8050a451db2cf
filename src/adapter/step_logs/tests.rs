//! Logs in files: whatever is torn off, closed or cut, the lines that the journal has are there once.

#![expect(clippy::disallowed_methods, reason = "these are the files's own files")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;

use super::*;
use crate::model::step_log::LineKind;

const LOG: StepLog = StepLog { run: RunId(7), step: 2 };

fn line(text: &str) -> NewLine {
    NewLine {
        at: DateTime::from_timestamp(1_700_000_000, 5_000_000).expect("a time"),
        kind: LineKind::Whole,
        text: text.to_owned(),
    }
}

fn lines(texts: &[&str]) -> Vec<NewLine> {
    texts.iter().map(|text| line(text)).collect()
}

/// Logs in `root` with small segments.
fn logs(root: &Path, segment: u64) -> StepLogFolder {
    let bounds = Bounds { segment, ..BOUNDS };
    StepLogFolder { bounds, least: 0, ..StepLogFolder::new(root.join("logs")) }
}

fn texts(logs: &StepLogFolder, known: u64) -> Vec<String> {
    let mut all: Vec<LogLine> = Vec::new();
    loop {
        let page = logs.page(LOG, known, all.len() as u64 + 1, 3).expect("read");
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    for (index, line) in all.iter().enumerate() {
        assert_eq!(line.number, index as u64 + 1);
    }
    all.into_iter().map(|line| line.text).collect()
}

#[test]
fn lines_are_kept_in_segments_for_their_owner_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 100);
    assert_eq!((files.runs().expect("none"), texts(&files, 0)), (Vec::new(), Vec::new()));
    let mut known = 0;
    let mut expected = Vec::new();
    for batch in 0..40 {
        let text: Vec<String> = (0..3).map(|one| format!("line {batch}.{one} é")).collect();
        let batch: Vec<NewLine> = text.iter().map(|text| line(text)).collect();
        known = files.append(LOG, known, &batch).expect("appended");
        expected.extend(text);
    }
    assert_eq!((known, texts(&files, known)), (120, expected.clone()));
    assert_eq!(texts(&files, 50), expected[..50], "what the journal does not have is not read");
    assert_eq!(texts(&logs(folder.path(), 100), known), expected, "as another process reads it");
    let page = files.page(LOG, known, 118, 100).expect("read");
    assert_eq!(page.iter().map(|line| line.number).collect::<Vec<_>>(), [118, 119, 120]);
    assert_eq!(page[0].at, line("").at);
    files.close(LOG.run);
    assert_eq!(texts(&files, known), expected);
    assert_eq!(files.runs().expect("listed"), [RunId(7)]);

    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    let of = files.folder(LOG);
    assert_eq!((mode(&of), mode(of.parent().expect("a folder"))), (0o700, 0o700));
    let mut kinds = Vec::new();
    for entry in fs::read_dir(&of).expect("listed") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        kinds.extend(path.extension().map(|kind| kind.to_string_lossy().into_owned()));
    }
    assert!(kinds.iter().filter(|kind| *kind == "zst").count() > 10, "{kinds:?}");
    files.remove(LOG.run).expect("removed");
    files.remove(LOG.run).expect("removed again");
    assert_eq!(files.runs().expect("listed"), []);
}

#[test]
fn a_log_is_searched_from_anywhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 200);
    let mut known = 0;
    for number in 1..=100 {
        let text = if number % 10 == 0 {
            format!("an \u{1b}[31mERROR\u{1b}[0m: {number}")
        } else {
            number.to_string()
        };
        known = files.append(LOG, known, &[line(&text)]).expect("appended");
    }
    let search = |text: &str, any_case, from, limit| {
        let search = Search { text: text.to_owned(), any_case, from, limit };
        let found = files.search(LOG, known, &search).expect("searched");
        (found.lines.iter().map(|line| line.number).collect::<Vec<_>>(), found.next)
    };
    assert_eq!(search("ERROR: ", false, 1, 3), (vec![10, 20, 30], Some(31)));
    assert_eq!(search("ERROR: ", false, 31, 10), (vec![40, 50, 60, 70, 80, 90, 100], None));
    assert_eq!(search("error", false, 1, 10), (vec![], None));
    assert_eq!(search("error", true, 95, 10), (vec![100], None));
}

/// A log that another process has written, as a `kill -9` at any byte of its last write leaves it.
#[test]
fn whatever_is_torn_off_the_lines_of_the_journal_are_there_and_no_line_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let written = logs(folder.path(), 1 << 20);
    let known = written.append(LOG, 0, &lines(&["one", "two"])).expect("appended");
    let file = segment::path(&written.folder(LOG), 1, "log");
    let whole = fs::metadata(&file).expect("it is there").len();
    written.append(LOG, known, &lines(&["three", "four"])).expect("appended");
    let bytes = fs::read(&file).expect("read");
    for end in usize::try_from(whole).expect("small")..=bytes.len() {
        for garbage in [&b""[..], &[0; 40], &[0xff; 40]] {
            fs::write(&file, [&bytes[..end], garbage].concat()).expect("torn");
            assert_eq!(texts(&logs(folder.path(), 1 << 20), known), ["one", "two"]);
            let files = logs(folder.path(), 1 << 20);
            let known = files.append(LOG, known, &lines(&["three", "four"])).expect("appended");
            assert_eq!(texts(&files, known), ["one", "two", "three", "four"]);
            assert_eq!(fs::read(&file).expect("read"), bytes, "cut, and written again");
        }
    }
}

#[test]
fn lines_that_are_lost_leave_a_gap_and_the_others_keep_their_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 1 << 20);
    files.append(LOG, 0, &lines(&["one", "two", "three"])).expect("appended");
    let file = segment::path(&files.folder(LOG), 1, "log");
    let bytes = fs::read(&file).expect("read");
    fs::write(&file, &bytes[..bytes.len() - 1]).expect("torn");
    let files = logs(folder.path(), 1 << 20);
    let known = files.append(LOG, 3, &lines(&["four"])).expect("appended");
    let page = files.page(LOG, known, 1, 10).expect("read");
    let found: Vec<_> = page.iter().map(|line| (line.number, line.text.as_str())).collect();
    assert_eq!(found, [(1, "one"), (2, "two"), (4, "four")]);
    assert_eq!(files.page(LOG, known, 3, 1).expect("read"), []);
}

#[test]
fn a_log_has_an_end_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let bounded = || {
        let bounds = Bounds { segment: 30, log: 50 };
        StepLogFolder { bounds, least: 0, ..StepLogFolder::new(folder.path().join("logs")) }
    };
    let files = bounded();
    let mut known = 0;
    for _ in 0..10 {
        known = files.append(LOG, known, &lines(&["0123456789", "0123456789"])).expect("appended");
    }
    assert_eq!(known, 6);
    let end = "(further output of this step is not kept: the log of a step has at most 50 bytes)";
    assert_eq!(texts(&files, known).last().map(String::as_str), Some(end));
    // Another process keeps to it.
    assert_eq!(bounded().append(LOG, known, &lines(&["more"])).expect("appended"), known);

    let full = StepLogFolder { least: u64::MAX, ..StepLogFolder::new(folder.path().join("full")) };
    fs::create_dir(folder.path().join("full")).expect("a folder");
    let known = full.append(LOG, 0, &lines(&["a", "b"])).expect("appended");
    assert_eq!((known, full.append(LOG, known, &lines(&["c"])).expect("appended")), (1, 1));
    assert!(texts(&full, known)[0].contains("the server's disk has"), "{:?}", texts(&full, known));
}

#[test]
fn a_closed_segment_that_is_cut_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 1);
    let mut known = 0;
    for text in ["one", "two", "three"] {
        known = files.append(LOG, known, &lines(&[text, "x"])).expect("appended");
    }
    files.close(LOG.run);
    let known = files.append(LOG, 3, &lines(&["new"])).expect("appended");
    assert_eq!(
        (known, texts(&files, known)),
        (4, vec!["one".into(), "x".into(), "two".into(), "new".into()])
    );
}

/// Files of every version of the format stay readable. A sample has an open segment and a closed one, in base64.
#[test]
fn every_recorded_segment_is_read() {
    if std::env::var_os("FLEETWRIGHT_SHAPES").is_some_and(|value| value == "write") {
        record_sample();
    }
    for (name, text) in crate::source::samples::of("step-logs") {
        let sample: BTreeMap<String, String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(sample.len(), 2, "{name}");
        for (kind, bytes) in sample {
            let folder = tempfile::tempdir().expect("a folder");
            let files = logs(folder.path(), 1 << 20);
            let of = files.folder(LOG);
            fs::create_dir_all(&of).expect("a folder");
            fs::write(segment::path(&of, 1, &kind), STANDARD.decode(bytes).expect("base64"))
                .expect("written");
            let known = files.append(LOG, 3, &lines(&["more"])).expect("appended");
            let page = files.page(LOG, known, 1, 10).expect("read");
            let texts: Vec<_> = page.iter().map(|line| (line.kind, line.text.as_str())).collect();
            let expected = [
                (LineKind::Whole, "\u{1b}[32mok\u{1b}[0m é"),
                (LineKind::Continues, "a piece of a long line, "),
                (LineKind::Whole, "and its end\r"),
                (LineKind::Whole, "more"),
            ];
            assert_eq!(texts, expected, "{name} {kind}");
        }
    }
}

/// Writes a sample of this version, where there is none.
fn record_sample() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 1 << 20);
    let piece = NewLine { kind: LineKind::Continues, ..line("a piece of a long line, ") };
    let all = [line("\u{1b}[32mok\u{1b}[0m é"), piece, line("and its end\r")];
    files.append(LOG, 0, &all).expect("appended");
    let mut sample = BTreeMap::new();
    let mut keep = |kind: &str| {
        let bytes = fs::read(segment::path(&files.folder(LOG), 1, kind)).expect("read");
        sample.insert(kind.to_owned(), STANDARD.encode(bytes));
    };
    keep("log");
    segment::close(&files.folder(LOG), 1).expect("closed");
    keep("zst");
    let to = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/formats/step-logs/{}.json", segment::VERSION));
    if to.exists() {
        return;
    }
    fs::write(to, serde_json::to_string_pretty(&sample).expect("JSON") + "\n").expect("written");
}

#[test]
fn a_segment_of_a_later_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = logs(folder.path(), 1 << 20);
    files.append(LOG, 0, &lines(&["one"])).expect("appended");
    let file = segment::path(&files.folder(LOG), 1, "log");
    let mut bytes = fs::read(&file).expect("read");
    bytes[8] = 2;
    fs::write(&file, bytes).expect("written");
    let error = files.page(LOG, 1, 1, 1).expect_err("refused").to_string();
    assert!(error.contains("it has version 2, this version of fleetwright knows 1"), "{error}");
}

/// What happens to a log.
#[derive(Debug, Clone)]
enum Step {
    /// Lines are appended, and the journal gets their number.
    Append(Vec<String>),
    /// Lines are appended, and the process is killed before the journal has their number: so many bytes are left of them.
    Torn(Vec<String>, usize),
    /// The process ends, and another one begins.
    Restart,
    /// The run ends for now.
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let batch = || prop::collection::vec("[a-zé\u{1b}\r]{0,12}", 1..6);
    let step = prop_oneof![
        4 => batch().prop_map(Step::Append),
        2 => (batch(), 0_usize..200).prop_map(|(lines, bytes)| Step::Torn(lines, bytes)),
        1 => Just(Step::Restart),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_log_is_what_the_journal_has_of_it(steps in steps(), segment in 1_u64..400) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut files = logs(folder.path(), segment);
        let mut expected: Vec<String> = Vec::new();
        for step in steps {
            let known = expected.len() as u64;
            match step {
                Step::Append(batch) => {
                    let new: Vec<NewLine> = batch.iter().map(|text| line(text)).collect();
                    expected.extend(batch);
                    prop_assert_eq!(files.append(LOG, known, &new).expect("appended"), expected.len() as u64);
                }
                Step::Torn(batch, bytes) => {
                    let new: Vec<NewLine> = batch.iter().map(|text| line(text)).collect();
                    files.append(LOG, known, &new).expect("appended");
                    if let Some(last) = segment::list(&files.folder(LOG)).expect("listed").pop() {
                        let file = fs::OpenOptions::new().write(true).open(&last.path).expect("opened");
                        let length = file.metadata().expect("its length").len();
                        let kept = segment::end_of(&files.folder(LOG), last.first, known).expect("read").bytes;
                        file.set_len((kept + bytes as u64).min(length)).expect("torn");
                    }
                    files = logs(folder.path(), segment);
                }
                Step::Restart => files = logs(folder.path(), segment),
                Step::Close => files.close(LOG.run),
            }
            let known = expected.len() as u64;
            prop_assert_eq!(&texts(&files, known), &expected);
            for from in [1, known / 2 + 1, known] {
                let page = files.page(LOG, known, from, 2).expect("read");
                let seen: Vec<&str> = page.iter().map(|line| line.text.as_str()).collect();
                let begin = usize::try_from(from.max(1) - 1).expect("small");
                let all: Vec<&str> = expected.iter().map(String::as_str).skip(begin).take(2).collect();
                prop_assert_eq!(seen, all);
            }
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_part_of_it_is(text in ".{0,40}", number in any::<u64>(), flip in 4_usize..60) {
        let mut bytes = Vec::new();
        record::write(&mut bytes, number, &line(&text));
        let (read, length) = record::read(&bytes, true).expect("a record");
        prop_assert_eq!((read.number, read.text, length), (number, text.as_str(), bytes.len()));
        prop_assert_eq!(read.line().at, line("").at + TimeDelta::zero());
        for end in 0..bytes.len() {
            prop_assert!(record::read(&bytes[..end], true).is_none());
        }
        let flip = flip % bytes.len();
        bytes[flip.max(4)] ^= 1;
        prop_assert!(record::read(&bytes, true).is_none());
    }
}
