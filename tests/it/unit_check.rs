//! `unit check` on units that are each wrong in one way, and on a set that is right in all.

use std::path::{Path, PathBuf};
use std::process::Command;

use fleetwright::repo::check::codes;
use fleetwright::unit::{Options, Unit, check};

use crate::support::fleetwright;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/units")
}

fn unit_check(arguments: &[&str]) -> String {
    fleetwright(&folder(), &[&["unit", "check"], arguments].concat()).to_string()
}

macro_rules! units {
    ($($test:ident => $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!(concat!("unit-", $file), unit_check(&[$file]));
            }
        )*

        const UNITS: &[&str] = &[$($file),*];
    };
}

units! {
    bad_escape => "bad-escape.service",
    bad_exec => "bad-exec.service",
    bad_specifier => "bad-specifier.service",
    bad_values => "bad-values.service",
    calendar => "calendar.timer",
    dbus => "dbus.service",
    deprecated => "deprecated.service",
    duplicate_key => "duplicate-key.service",
    empty_path => "empty.path",
    empty_socket => "empty.socket",
    empty_timer => "empty.timer",
    fleet => "fleet.service",
    fleet_pairs => "fleet-pairs.service",
    listen => "listen.socket",
    lonely_drop_in => "lonely.conf",
    misplaced_key => "misplaced-key.service",
    misspelt_suffix => "web.serivce",
    mount_without_device => "mnt.mount",
    network => "10-eth0.network",
    no_command => "no-command.service",
    oneshot => "oneshot.service",
    other_path => "srv-data.mount",
    pam => "pam.service",
    references => "references.timer",
    relative_path => "relative-path.service",
    sections => "sections.service",
    shell_syntax => "shell-syntax.service",
    swallowed_line => "swallowed-line.service",
    syntax => "syntax.service",
    two_commands => "two-commands.service",
    unbalanced_quotes => "unbalanced-quotes.service",
    unit_names => "unit-names.service",
    unknown_key => "unknown-key.service",
}

/// The files below `folder`, relative to it, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let path = path.strip_prefix(folder).expect("it is below");
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn every_unit_is_tested() {
    let mut rest = files(&folder());
    rest.retain(|name| !UNITS.contains(&name.as_str()) && !name.starts_with("good/"));
    // Tested together, or with arguments, below.
    assert_eq!(
        rest,
        [
            "cycle-a.service",
            "cycle-b.service",
            "proxy.service.d/10-command.conf",
            "proxy.service.d/20-environment",
        ]
    );
}

#[test]
fn good_units_have_no_finding() {
    let good = files(&folder().join("good"));
    let arguments: Vec<_> = good.iter().map(String::as_str).collect();
    let run = fleetwright(&folder().join("good"), &[&["unit", "check", "--strict"][..], &arguments].concat());
    assert_eq!(run.to_string(), format!("0 errors in {} files (N ms).\nstatus 0\n", good.len()));
}

#[test]
fn a_set_is_checked_for_circles_of_order() {
    insta::assert_snapshot!(unit_check(&["cycle-a.service", "cycle-b.service"]));
}

#[test]
fn the_same_unit_twice_is_a_finding() {
    insta::assert_snapshot!(unit_check(&["cycle-b.service", "./cycle-b.service", "cycle-a.service"]));
}

#[test]
fn drop_ins_are_checked() {
    insta::assert_snapshot!(unit_check(&[
        "proxy.service.d/10-command.conf",
        "proxy.service.d/20-environment"
    ]));
}

#[test]
fn warnings_are_errors_when_strict() {
    let calm = fleetwright(&folder(), &["unit", "check", "deprecated.service"]);
    let strict = fleetwright(&folder(), &["unit", "check", "--strict", "deprecated.service"]);
    assert_eq!((calm.status, strict.status), (Some(0), Some(2)));
}

#[test]
fn findings_have_their_path_in_json() {
    insta::assert_snapshot!(unit_check(&["-o", "json", "two-commands.service", "misplaced-key.service"]));
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    insta::assert_snapshot!(unit_check(&["nowhere.service", "."]));
}

#[test]
fn codes_of_units_are_explained() {
    insta::assert_snapshot!(unit_check(&["--explain", "second-command"]));
}

/// All findings of the units that are wrong, each by itself.
fn findings() -> Vec<(String, fleetwright::source::Diagnostic)> {
    let names = files(&folder()).into_iter().filter(|name| !name.starts_with("good/"));
    names
        .flat_map(|name| {
            let text = std::fs::read_to_string(folder().join(&name)).expect("readable");
            let problems = check(&Unit::parse(&name, text), &Options::default());
            problems.into_iter().map(|problem| (name.clone(), problem)).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_finding_has_a_code_that_is_explained_and_a_place() {
    for (name, problem) in findings() {
        assert!(codes::find(problem.code).is_ok(), "{name}: {}", problem.code);
        assert!(problem.label.is_some(), "{name}: {}", problem.message);
    }
}

/// What `systemd-analyze verify` says of a file, lines without a place of their own included.
fn verify(path: &Path) -> Option<String> {
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(path)
        .envs([("SYSTEMD_LOG_TARGET", "console"), ("SYSTEMD_LOG_LEVEL", "warning"), ("SYSTEMD_COLORS", "0")])
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn systemd_says_the_same() {
    let mut compared = 0;
    for name in files(&folder()) {
        let path = folder().join(&name);
        let unit = Unit::parse(&name, std::fs::read_to_string(&path).expect("readable"));
        let kind = unit.kind().filter(|kind| !kind.is_network());
        if unit.is_drop_in() || unit.name().is_none() || kind.is_none() {
            continue;
        }
        let Some(said) = verify(&path) else {
            eprintln!("skipped: there is no systemd-analyze");
            return;
        };
        compared += 1;
        let file = path.to_string_lossy();
        // Programs and units that this machine lacks are no fault of the text.
        let in_file = |line: &&str| line.strip_prefix(&*file).is_some_and(|rest| rest.starts_with(':'));
        let refusal = format!("{}: ", path.file_name().unwrap_or_default().to_string_lossy());
        let refused = |line: &&str| line.starts_with(&refusal) && line.contains("efusing");
        let said: Vec<_> = said.lines().filter(|line| in_file(line) || refused(line)).collect();
        let problems = check(&unit, &Options::default());
        let ours = problems
            .iter()
            .filter(|problem| !problem.path.as_deref().unwrap_or_default().starts_with("X-Fleet"));
        let mut ours = ours.filter(|problem| problem.is_error());
        if said.is_empty() {
            let first = ours.next().map(|problem| &problem.message);
            assert_eq!(first, None, "{name}: systemd takes it");
        }
        // Each line that systemd complains of has a finding of ours.
        for line in said {
            let number = line
                .strip_prefix(&*file)
                .and_then(|rest| rest.strip_prefix(':'))
                .and_then(|rest| rest.split(':').next());
            let Some(number) = number.and_then(|number| number.parse::<usize>().ok()) else {
                assert!(!problems.is_empty(), "{name}: {line}");
                continue;
            };
            let found = problems.iter().any(|problem| {
                problem
                    .label
                    .as_ref()
                    .is_some_and(|label| label.file.position(label.span.start).line == number)
            });
            assert!(found, "{name}: {line}");
        }
    }
    println!("{compared} units compared");
}

#[test]
fn what_this_systemd_says_can_be_asked_for() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let run = crate::support::fleetwright_with(
        &folder(),
        &["unit", "check", "-o", "json", "--verify", "bad-values.service", "good/docker.service"],
        &[("PATH", &path)],
    );
    assert_eq!(run.status, Some(2), "{run}");
    let document: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let findings = document["findings"].as_array().expect("findings");
    let theirs: Vec<_> = findings.iter().filter(|finding| finding["code"] == "systemd-verify").collect();
    // Each version words it in its own way; the place stays.
    assert!(theirs.iter().any(|finding| finding["line"] == 7 && finding["severity"] == "error"), "{run}");
}

#[test]
fn verification_without_systemd_says_what_to_do() {
    let arguments = ["unit", "check", "--verify", "dbus.service"];
    let run = crate::support::fleetwright_with(&folder(), &arguments, &[("PATH", "/nowhere")]);
    assert_eq!(run.status, Some(1), "{run}");
    assert!(run.stderr.contains("leave out `--verify`"), "{run}");
}
