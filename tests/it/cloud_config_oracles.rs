//! What is emitted, held against the programs themselves: cloud-init's schema and ignition-validate.
//!
//! FLEETWRIGHT_MODELS says how many models are made at random (`make test-models`: 10,000).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleetwright::cloud_config::{self, Target, convert};
use fleetwright::source::SourceFile;
use proptest::strategy::{BoxedStrategy, Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::oracles::Oracles;

#[path = "../models/user_data.rs"]
mod user_data;

use user_data::{Breadth, cloud_init, coreos};

/// Few enough for some seconds.
const FEW: usize = 150;

fn models() -> usize {
    let count = std::env::var("FLEETWRIGHT_MODELS").ok();
    count.map_or(FEW, |count| count.parse().expect("FLEETWRIGHT_MODELS is a number"))
}

/// The first `count` documents of each strategy; the same ones every time.
fn documents(strategies: &[BoxedStrategy<String>], count: usize) -> Vec<Arc<SourceFile>> {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count)
        .map(|at| {
            let strategy = &strategies[at % strategies.len()];
            let text = strategy.new_tree(&mut runner).expect("a document").current();
            SourceFile::new(format!("{at}.yaml"), text)
        })
        .collect()
}

/// Writes what each document becomes for `target` into `folder`.
fn emitted(documents: &[Arc<SourceFile>], target: Target, folder: &Path) -> Vec<PathBuf> {
    let write = |document: &Arc<SourceFile>| {
        let text = convert(document, target).unwrap_or_else(|verdict| {
            panic!("{}\n{}\n{:#?}", document.name(), document.text(), verdict.findings)
        });
        let path = folder.join(document.name());
        std::fs::write(&path, text).expect("written");
        path
    };
    documents.iter().map(write).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a document")
}

#[test]
fn cloud_init_takes_what_is_emitted_for_it() {
    let Some(oracles) = Oracles::find() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let strategies = [
        cloud_init(Breadth::Engine).boxed(),
        coreos(Breadth::Other).boxed(),
        cloud_init(Breadth::Other).boxed(),
    ];
    let files = emitted(&documents(&strategies, models()), Target::CloudInit22_4, folder.path());
    let said = oracles.cloud_init_schemas(&files);
    let said: Vec<String> =
        said.iter().map(|said| format!("{}\n{}", said.message, read(Path::new(&said.file)))).collect();
    assert!(
        said.is_empty(),
        "{} of {} documents:\n{}",
        said.len(),
        files.len(),
        said[..said.len().min(5)].join("\n")
    );
    // The driver calls what the command calls; that it does is seen here.
    for file in &files[..5] {
        let output = oracles.cloud_init_schema(file);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), read(file));
    }
}

#[test]
fn ignition_takes_what_is_emitted_for_it() {
    let Some(oracles) = Oracles::find() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let strategies = [coreos(Breadth::Ignition).boxed(), cloud_init(Breadth::Ignition).boxed()];
    let files = emitted(&documents(&strategies, models()), Target::Ignition3_3, folder.path());
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut bad = Vec::new();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            match oracles.ignition_validate(file) {
                Ok(said) if said.is_empty() => {}
                Ok(said) | Err(said) => bad.push(format!("{said}\n{}", read(file))),
            }
        }
        bad
    };
    let bad: Vec<String> = std::thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().flat_map(|worker| worker.join().expect("it ends")).collect()
    });
    assert!(
        bad.is_empty(),
        "{} of {} documents:\n{}",
        bad.len(),
        files.len(),
        bad[..bad.len().min(5)].join("\n")
    );
}

/// Each document of `tests/it/cloud-config` that is right for Ignition, and that its own engine
/// reads as it was meant.
#[test]
fn ignition_takes_the_tests_own_documents() {
    let Some(oracles) = Oracles::find() else { return };
    let made = tempfile::tempdir().expect("a temporary folder");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cloud-config");
    let mut converted = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the folder").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
        let file = SourceFile::new(name.as_str(), text);
        if cloud_config::check(&file, &[Target::Ignition3_3]).refused_by(Target::Ignition3_3) {
            assert!(convert(&file, Target::Ignition3_3).is_err(), "{name} has errors, and is converted");
            continue;
        }
        match convert(&file, Target::Ignition3_3) {
            Ok(text) => {
                let path = made.path().join(&name);
                std::fs::write(&path, text).expect("written");
                let said = oracles.ignition_validate(&path);
                assert!(said.is_ok(), "{name}: {said:?}\n{}", read(&path));
                converted.push(name);
            }
            Err(verdict) => {
                println!("{name}: {:?}", verdict.findings.iter().map(|f| &f.message).collect::<Vec<_>>())
            }
        }
    }
    converted.sort();
    insta::assert_snapshot!(converted.join("\n"));
}
