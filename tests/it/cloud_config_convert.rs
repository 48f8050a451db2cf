//! `cloud-config convert`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{Run, fleetwright};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cloud-config")
}

fn convert(folder: &Path, target: &str, arguments: &[&str]) -> Run {
    fleetwright(folder, &[&["cloud-config", "convert", "--target", target], arguments].concat())
}

#[test]
fn a_document_is_printed_for_each_target() {
    let run = |target: &str, file: &str| convert(&folder(), target, &[file]).to_string();
    insta::assert_snapshot!("convert_coreos_for_flatcar", run("flatcar", "good-coreos.yaml"));
    insta::assert_snapshot!("convert_cloud_init_for_itself", run("cloud-init-22.4", "good-cloud-init.yaml"));
    insta::assert_snapshot!("convert_merge_keys", run("cloud-init-23.4", "merge-keys.yaml"));
    insta::assert_snapshot!("convert_deprecated", run("cloud-init-22.4", "deprecated.yaml"));
    insta::assert_snapshot!("convert_hyphenated", run("flatcar", "hyphenated-keys.yaml"));
    insta::assert_snapshot!("convert_users_for_ignition", run("ignition-3.3", "deprecated-coreos.yaml"));
}

#[test]
fn what_can_t_be_converted_is_told_and_nothing_is_written() {
    let made = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(folder().join("good-cloud-init.yaml"), made.path().join("a.yaml")).expect("copied");
    let run = convert(made.path(), "ignition-3.3", &["--out", "out", "a.yaml"]);
    insta::assert_snapshot!(run);
    assert!(!made.path().join("out").exists());
    insta::assert_snapshot!("convert_refused_for_flatcar", convert(made.path(), "flatcar", &["a.yaml"]));
    let json = convert(&folder(), "flatcar", &["-o", "json", "mounts.yaml"]);
    insta::assert_snapshot!("convert_refused_json", json);
}

#[test]
fn packed_and_in_parts() {
    let made = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| std::fs::write(made.path().join(name), text).expect("written");
    write("a.yaml", "#cloud-config\nhostname: a\n");
    write("setup.sh", "#!/bin/sh\necho größe\n");
    write("notes.txt", "hello\n");
    let run =
        |target: &str, arguments: &[&str]| convert(made.path(), target, &[arguments, &["a.yaml"]].concat());
    insta::assert_snapshot!("convert_multipart", run("flatcar", &["--multipart", "--part", "setup.sh"]));
    insta::assert_snapshot!("convert_gzip_json", run("cloud-init-22.4", &["--gzip", "-o", "json"]));
    let run = |target: &str, arguments: &[&str]| run(target, arguments).to_string();
    let refusals = [
        run("ignition-3.3", &["--gzip"]),
        run("coreos-legacy", &["--multipart"]),
        run("flatcar", &["--multipart", "--part", "notes.txt"]),
        run("flatcar", &["--multipart", "--part", "nowhere.sh"]),
    ];
    insta::assert_snapshot!("convert_refused_forms", refusals.join("\n"));
}

#[test]
fn a_file_is_its_owner_s_alone_and_what_is_too_large_is_none() {
    let made = tempfile::tempdir().expect("a temporary folder");
    let line = "the same line again and again\n".repeat(700);
    let text = format!(
        "#cloud-config\nwrite_files:\n- path: /etc/a\n  content: |\n    {}",
        line.replace('\n', "\n    ")
    );
    std::fs::write(made.path().join("a.yaml"), text.trim_end()).expect("written");
    let run =
        |arguments: &[&str]| convert(made.path(), "cloud-init-22.4", &[arguments, &["a.yaml"]].concat());
    insta::assert_snapshot!("convert_too_large", run(&["--out", "out"]));
    let done = run(&["--gzip", "--out", "out"]);
    assert_eq!((done.to_string().as_str(), done.status), ("status 0\n", Some(0)));
    let written = made.path().join("out");
    let mode = std::fs::metadata(&written).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read(written).expect("read").starts_with(&[0x1f, 0x8b]));
}
