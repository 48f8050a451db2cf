//! `cloud-config check` on documents that are each wrong in one way, and some that are right.

use std::path::{Path, PathBuf};

use crate::support::fleetwright;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cloud-config")
}

fn check(arguments: &[&str]) -> String {
    fleetwright(&folder(), &[&["cloud-config", "check"], arguments].concat()).to_string()
}

const CLOUD_INIT: &[&str] = &[];
const COREOS: &[&str] = &["--target", "coreos-legacy", "--target", "flatcar"];
const IGNITION: &[&str] = &["--target", "ignition-3.3"];
const ALL: &[&str] = &[
    "--target",
    "coreos-legacy",
    "--target",
    "flatcar",
    "--target",
    "cloud-init-22.4",
    "--target",
    "cloud-init-23.4",
    "--target",
    "ignition-3.3",
];

macro_rules! documents {
    ($($test:ident $targets:ident => $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                let file = concat!($file, ".yaml");
                insta::assert_snapshot!(concat!("cloud-config-", $file), check(&[$targets, &[file]].concat()));
            }
        )*

        const DOCUMENTS: &[&str] = &[$(concat!($file, ".yaml")),*];
    };
}

documents! {
    bad_values_coreos COREOS => "bad-values-coreos",
    commands CLOUD_INIT => "commands",
    deprecated CLOUD_INIT => "deprecated",
    deprecated_coreos COREOS => "deprecated-coreos",
    dialect_coreos_on_cloud_init ALL => "dialect-coreos-on-cloud-init",
    duplicate_key ALL => "duplicate-key",
    empty ALL => "empty",
    encodings ALL => "encodings",
    good_cloud_init CLOUD_INIT => "good-cloud-init",
    good_coreos COREOS => "good-coreos",
    header_below_comment ALL => "header-below-comment",
    header_blank_line ALL => "header-blank-line",
    header_byte_order_mark ALL => "header-byte-order-mark",
    header_capitals ALL => "header-capitals",
    header_missing ALL => "header-missing",
    header_near_miss ALL => "header-near-miss",
    header_trailing_blanks ALL => "header-trailing-blanks",
    header_trailing_words ALL => "header-trailing-words",
    header_unknown ALL => "header-unknown",
    hostname_coreos COREOS => "hostname-coreos",
    hyphenated_keys COREOS => "hyphenated-keys",
    ignition ALL => "ignition",
    ignition_target IGNITION => "ignition-target",
    ignition_target_coreos IGNITION => "ignition-target-coreos",
    include ALL => "include",
    list ALL => "list",
    merge_keys CLOUD_INIT => "merge-keys",
    modes ALL => "modes",
    mounts CLOUD_INIT => "mounts",
    mounts_coreos COREOS => "mounts-coreos",
    multipart ALL => "multipart",
    owners CLOUD_INIT => "owners",
    paths ALL => "paths",
    script ALL => "script",
    second_document ALL => "second-document",
    secrets CLOUD_INIT => "secrets",
    size CLOUD_INIT => "size",
    tokens ALL => "tokens",
    units COREOS => "units",
    unknown_keys CLOUD_INIT => "unknown-keys",
    unknown_keys_coreos COREOS => "unknown-keys-coreos",
    users ALL => "users",
    wrong_type CLOUD_INIT => "wrong-type",
    wrong_type_coreos COREOS => "wrong-type-coreos",
    yaml_syntax ALL => "yaml-syntax",
}

#[test]
fn every_document_is_tested() {
    let files = std::fs::read_dir(folder()).expect("the folder").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let rest: Vec<_> = names.filter(|name| !DOCUMENTS.contains(&name.as_str())).collect();
    assert_eq!(rest, [""; 0]);
}
