//! What checking templates costs beside only parsing them.
//!
//!     cargo bench --bench check -- FILE...      # by default 50 times the tests' good template
//!
//! Both are done turn by turn in one thread, 20 times; the medians and their ratio are printed.

#![allow(clippy::disallowed_methods, reason = "this reads the project's own files")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fleetwright::repo::check;
use fleetwright::source::SourceFile;
use fleetwright::yaml;

const TURNS: usize = 20;

fn main() {
    let given: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let files: Vec<Arc<SourceFile>> = if given.is_empty() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/templates/good.yaml");
        let text = std::fs::read_to_string(path).expect("the tests' template");
        (0..50).map(|number| SourceFile::new(format!("{number}.yaml"), text.as_str())).collect()
    } else {
        let read = |path: &String| std::fs::read_to_string(path).expect("a file");
        given.iter().map(|path| SourceFile::new(path.as_str(), read(path))).collect()
    };
    let (mut parsing, mut checking) = (Vec::new(), Vec::new());
    let mut findings = 0;
    for _ in 0..TURNS {
        let begun = Instant::now();
        let trees: Vec<_> = files.iter().map(|file| yaml::parse(file, &mut Vec::new())).collect();
        parsing.push(begun.elapsed());
        std::hint::black_box(&trees);
        let begun = Instant::now();
        findings = files.iter().map(|file| check::file(file, None).len()).sum();
        checking.push(begun.elapsed());
    }
    let (parsing, checking) = (median(parsing), median(checking));
    let bytes: usize = files.iter().map(|file| file.text().len()).sum();
    println!("{} files, {bytes} bytes, {findings} findings", files.len());
    println!("parse            {:8.2} ms", parsing.as_secs_f64() * 1000.0);
    println!("parse and check  {:8.2} ms", checking.as_secs_f64() * 1000.0);
    println!("ratio            {:8.2}", checking.as_secs_f64() / parsing.as_secs_f64());
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
