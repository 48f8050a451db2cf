//! The programs whose verdicts ours are held against: Debian's cloud-init 22.4 and
//! ignition-validate 2.14, unpacked by `scripts/setup test`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where they were unpacked.
#[derive(Debug)]
pub struct Oracles(PathBuf);

/// What cloud-init says of a document.
#[derive(Debug)]
pub struct Said {
    /// The document.
    pub file: String,
    /// Why it is refused; otherwise what of it is deprecated.
    pub refused: bool,
    /// In cloud-init's words.
    pub message: String,
}

impl Oracles {
    /// Finds them. `None` where nothing was set up, which the test says then.
    ///
    /// # Panics
    /// When they are missing where they must be there: in CI, and wherever FLEETWRIGHT_HOME says that
    /// the tests were set up.
    pub fn find() -> Option<Self> {
        let given = std::env::var_os("FLEETWRIGHT_HOME").map(PathBuf::from);
        let data = std::env::var_os("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
        let home = given.clone().or_else(|| data.map(|data| data.join("fleetwright")))?;
        let oracles = home.join("oracles");
        if oracles.join("complete").exists() {
            return Some(Self(oracles));
        }
        let missing = format!("cloud-init and ignition-validate are not in {}", oracles.display());
        let in_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(
            !in_ci && given.is_none(),
            "{missing}\n next: run `scripts/setup test`, which unpacks them there"
        );
        println!("skipped: {missing}; `scripts/setup test` unpacks them there");
        None
    }

    /// `cloud-init schema --config-file FILE`, as people call it.
    pub fn cloud_init_schema(&self, file: &Path) -> Output {
        let mut command = Command::new(self.0.join("bin/cloud-init"));
        command.args(["schema", "--config-file"]).arg(file).output().expect("cloud-init can be run")
    }

    /// cloud-init's verdicts on all `files` with something to say about, in one process.
    pub fn cloud_init_schemas(&self, files: &[PathBuf]) -> Vec<Said> {
        use std::io::Write as _;
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/schema.py");
        let mut list = tempfile::tempfile().expect("a temporary file");
        for file in files {
            writeln!(list, "{}", file.display()).expect("written");
        }
        std::io::Seek::rewind(&mut list).expect("rewound");
        let output = Command::new(self.0.join("bin/python"))
            .arg(driver)
            .arg("-")
            .stdin(list)
            .output()
            .expect("Python can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        let mut said = Vec::new();
        let mut ended = false;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            if let Some(count) = line["documents"].as_u64() {
                assert_eq!(count, files.len() as u64);
                println!("cloud-init: {count} documents in {} s of CPU", line["cpu_seconds"]);
                ended = true;
                continue;
            }
            let message =
                line["refused"].as_str().or_else(|| line["deprecated"].as_str()).unwrap_or_default();
            said.push(Said {
                file: line["file"].as_str().unwrap_or_default().to_owned(),
                refused: line["refused"].is_string(),
                message: message.to_owned(),
            });
        }
        assert!(ended, "the driver ended early: {errors}");
        said
    }

    /// What `ignition-validate` says of a document; empty when it takes it without a warning.
    pub fn ignition_validate(&self, file: &Path) -> Result<String, String> {
        let output = Command::new(self.0.join("bin/ignition-validate"))
            .arg(file)
            .output()
            .expect("ignition-validate can be run");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }
}
