//! `cloud-config check` on documents that are each wrong in one way, and some that are right.

use std::path::{Path, PathBuf};

use fleetwright::cloud_config::{self, Target};
use fleetwright::source::SourceFile;

use crate::support::fleetwright;
use crate::support::oracles::Oracles;

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
    jinja CLOUD_INIT => "jinja",
    jinja_not_rendered CLOUD_INIT => "jinja-not-rendered",
    merge_keys CLOUD_INIT => "merge-keys",
    modes ALL => "modes",
    mounts CLOUD_INIT => "mounts",
    mounts_coreos COREOS => "mounts-coreos",
    multipart ALL => "multipart",
    multipart_broken CLOUD_INIT => "multipart-broken",
    multipart_parts CLOUD_INIT => "multipart-parts",
    owners CLOUD_INIT => "owners",
    parts CLOUD_INIT => "parts",
    paths ALL => "paths",
    sampled COREOS => "sampled",
    schema_edges CLOUD_INIT => "schema-edges",
    script ALL => "script",
    second_document ALL => "second-document",
    secrets CLOUD_INIT => "secrets",
    size CLOUD_INIT => "size",
    sudo CLOUD_INIT => "sudo",
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

#[test]
fn findings_and_verdicts_are_in_json() {
    let run =
        check(&["-o", "json", "--target", "flatcar", "--target", "coreos-legacy", "hyphenated-keys.yaml"]);
    insta::assert_snapshot!(run);
}

#[test]
fn strict_takes_warnings_for_errors() {
    let run = |arguments: &[&str]| {
        fleetwright(&folder(), &[&["cloud-config", "check", "deprecated.yaml"], arguments].concat()).status
    };
    assert_eq!((run(&[]), run(&["--strict"])), (Some(0), Some(2)));
}

#[test]
fn targets_follow_the_look_of_a_document() {
    let run = |file: &str| -> Vec<String> {
        let run = fleetwright(&folder(), &["cloud-config", "check", "-o", "json", file]);
        let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        let verdicts = json["documents"][0]["verdicts"].as_object().expect("an object");
        verdicts.keys().cloned().collect()
    };
    assert_eq!(run("good-coreos.yaml"), ["coreos-legacy", "flatcar"]);
    assert_eq!(run("good-cloud-init.yaml"), ["cloud-init-22.4", "cloud-init-23.4"]);
}

#[test]
fn an_unknown_target_is_refused_with_a_suggestion() {
    insta::assert_snapshot!(check(&["--target", "flatca", "good-coreos.yaml"]));
}

#[test]
fn user_data_packed_with_gzip_is_unpacked_and_counted_as_it_is() {
    let made = tempfile::tempdir().expect("a temporary folder");
    let plain = "#cloud-config\nwrite_files:\n  - path: /etc/a\n    content: |\n";
    let lines = "      the same again and again\n".repeat(1000);
    let packed = cloud_config::gzip(format!("{plain}{lines}").as_bytes());
    std::fs::write(made.path().join("user-data"), &packed).expect("written");
    let run = fleetwright(made.path(), &["cloud-config", "check", "-o", "json", "user-data"]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((run.status, &json["documents"][0]["bytes"]), (Some(0), &packed.len().into()));
    std::fs::write(made.path().join("user-data"), &packed[..packed.len() - 9]).expect("written");
    let run = fleetwright(made.path(), &["cloud-config", "check", "user-data"]);
    insta::assert_snapshot!(run, @r"
    error[unreadable-file]: user-data can't be read: it is cut off or damaged

    1 error in 1 file (N ms). Nothing was changed.
    status 2
    ");
}

#[test]
fn cloud_config_codes_are_explained() {
    insta::assert_snapshot!(check(&["--explain", "hyphenated-key"]));
}

#[test]
fn what_a_machine_would_have_is_shown() {
    let show = |arguments: &[&str]| fleetwright(&folder(), &[&["cloud-config", "show"], arguments].concat());
    insta::assert_snapshot!("cloud_config_show_cloud_init", show(&["good-cloud-init.yaml"]));
    insta::assert_snapshot!("cloud_config_show_coreos", show(&["good-coreos.yaml"]));
    insta::assert_snapshot!("cloud_config_show_json", show(&["-o", "json", "good-coreos.yaml"]));
    insta::assert_snapshot!("cloud_config_show_script", show(&["script.yaml"]));
    insta::assert_snapshot!("cloud_config_show_multipart", show(&["multipart.yaml"]));
    insta::assert_snapshot!("cloud_config_show_missing", show(&["nowhere.yaml"]));
}

#[test]
fn documents_are_compared_by_what_they_do() {
    let made = tempfile::tempdir().expect("a temporary folder");
    let edited = |name: &str, edits: &[(&str, &str)]| {
        let mut text = std::fs::read_to_string(folder().join(name)).expect("a document");
        for (old, new) in edits {
            assert!(text.contains(old), "{name} has no `{old}`");
            text = text.replace(old, new);
        }
        std::fs::write(made.path().join(format!("new-{name}")), text).expect("written");
        std::fs::copy(folder().join(name), made.path().join(name)).expect("copied");
    };
    let diff =
        |arguments: &[&str]| fleetwright(made.path(), &[&["cloud-config", "diff"], arguments].concat());
    edited(
        "good-coreos.yaml",
        &[
            ("address=$private_ipv4", "address=$public_ipv4"),
            ("\"0640\"", "\"0600\""),
            ("    - name: 10-static.network\n      content: |\n        [Match]\n        Name=eth1\n", ""),
            ("LimitNOFILE=65536", "LimitNOFILE=1048576"),
            ("      enable: true\n", ""),
            ("\"off\"", "etcd-lock"),
            ("[sudo, docker]", "[docker]"),
            ("hostname: core-1", "# The first.\nhostname: \"core-1\""),
        ],
    );
    insta::assert_snapshot!("cloud_config_diff_coreos", diff(&["good-coreos.yaml", "new-good-coreos.yaml"]));
    edited(
        "good-cloud-init.yaml",
        &[
            ("  - docker.io\n", "  - docker.io\n  - jq\n"),
            ("  - systemctl enable --now app\n", ""),
            ("vm.swappiness=10", "vm.swappiness=5"),
            ("    content: hello\n  - path: /data/app", "    content: bye\n  - path: /data/app"),
        ],
    );
    let files = ["good-cloud-init.yaml", "new-good-cloud-init.yaml"];
    insta::assert_snapshot!("cloud_config_diff_cloud_init", diff(&files));
    insta::assert_snapshot!("cloud_config_diff_json", diff(&["-o", "json", files[0], files[1]]));
    insta::assert_snapshot!("cloud_config_diff_same", diff(&[files[0], files[0]]));
}

#[test]
fn the_shipped_templates_have_no_finding() {
    let made = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(fleetwright(made.path(), &["init", "shop"]).status, Some(0));
    let root = made.path().join("shop");
    for stack in ["control", "workers"] {
        let rendered = fleetwright(&root, &["render", "--user-data", stack]);
        assert!(rendered.stdout.starts_with("#cloud-config\n"), "{rendered}");
        std::fs::write(made.path().join("user-data"), rendered.stdout).expect("written");
        let run = fleetwright(made.path(), &["cloud-config", "check", "user-data"]);
        assert_eq!(run.to_string(), "0 errors in 1 file (N ms).\nstatus 0\n", "{stack}");
    }
}

const COREOS_KEY: &str = "`coreos` is passed over without a word";
const START: &str = "at boot blanks are skipped and letters lowered";
const KIND: &str = "at boot other kinds of user data are taken, too";

/// For each document: whether `cloud-init schema` of 22.4.2 takes it, as it was run, and why our
/// verdict for that version is the other one, where it is.
const SCHEMA: &[(&str, bool, &str)] = &[
    ("bad-values-coreos", true, COREOS_KEY),
    ("commands", false, ""),
    ("deprecated-coreos", false, ""),
    ("deprecated", true, ""),
    ("dialect-coreos-on-cloud-init", true, COREOS_KEY),
    ("duplicate-key", true, "the first of two keys is lost without a word"),
    ("empty", false, ""),
    ("encodings", false, ""),
    ("good-cloud-init", true, ""),
    ("good-coreos", true, COREOS_KEY),
    ("header-below-comment", false, ""),
    ("header-blank-line", false, START),
    ("header-byte-order-mark", false, ""),
    ("header-capitals", false, START),
    ("header-missing", false, ""),
    ("header-near-miss", false, ""),
    ("header-trailing-blanks", true, ""),
    ("header-trailing-words", true, ""),
    ("header-unknown", false, ""),
    ("hostname-coreos", true, COREOS_KEY),
    ("hyphenated-keys", true, COREOS_KEY),
    ("ignition-target-coreos", true, COREOS_KEY),
    ("ignition-target", true, ""),
    ("ignition", false, ""),
    ("include", false, KIND),
    ("jinja-not-rendered", true, ""),
    ("jinja", false, ""),
    ("list", false, ""),
    ("merge-keys", false, ""),
    ("modes", false, ""),
    ("mounts-coreos", true, COREOS_KEY),
    ("mounts", true, "the file is hidden"),
    ("multipart", false, KIND),
    ("multipart-broken", false, ""),
    ("multipart-parts", false, ""),
    ("owners", true, "writing files stops at an owner that does not exist"),
    ("parts", true, ""),
    ("paths", false, ""),
    ("sampled", true, COREOS_KEY),
    ("schema-edges", false, ""),
    ("script", false, KIND),
    ("second-document", false, ""),
    ("secrets", true, ""),
    ("size", true, "EC2 refuses it"),
    ("sudo", false, ""),
    ("tokens", true, COREOS_KEY),
    ("units", true, COREOS_KEY),
    ("unknown-keys-coreos", true, COREOS_KEY),
    ("unknown-keys", false, ""),
    ("users", false, ""),
    ("wrong-type-coreos", false, ""),
    ("wrong-type", false, ""),
    ("yaml-syntax", false, ""),
];

/// Our verdict for a version of cloud-init.
fn ours(file: &str, target: Target) -> bool {
    let path = folder().join(format!("{file}.yaml"));
    let text = std::fs::read_to_string(path).expect("a document");
    !cloud_config::check(&SourceFile::new(file, text), &[target]).refused_by(target)
}

#[test]
fn verdicts_are_those_of_cloud_init_or_better() {
    assert_eq!(SCHEMA.len(), DOCUMENTS.len());
    for (file, taken, why) in SCHEMA {
        let same = ours(file, Target::CloudInit22_4) == *taken;
        assert_eq!(same, why.is_empty(), "{file}: cloud-init's verdict is {taken}");
    }
}

/// `cloud-init schema` of 22.4 itself.
#[test]
fn cloud_init_says_what_it_said() {
    let Some(oracles) = Oracles::find() else { return };
    let paths: Vec<PathBuf> = SCHEMA.iter().map(|(file, ..)| folder().join(format!("{file}.yaml"))).collect();
    let said = oracles.cloud_init_schemas(&paths);
    for (path, (file, taken, _)) in paths.iter().zip(SCHEMA) {
        let refused = said.iter().find(|said| said.refused && Path::new(&said.file) == path);
        assert_eq!(refused.is_none(), *taken, "{file}: {refused:?}");
    }
    // As people call it.
    for (file, taken, _) in SCHEMA.iter().step_by(8) {
        let output = oracles.cloud_init_schema(&folder().join(format!("{file}.yaml")));
        assert_eq!(output.status.success(), *taken, "{file}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
