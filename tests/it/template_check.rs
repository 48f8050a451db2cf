//! `template check` on templates that are each wrong in one way, and one that is right in all.

use std::path::Path;

use crate::support::fleetwright;

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/templates")
}

fn check(arguments: &[&str]) -> String {
    fleetwright(&folder(), &[&["template", "check"], arguments].concat()).to_string()
}

macro_rules! templates {
    ($($test:ident => $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!(concat!("template-", $file), check(&[$file]));
            }
        )*

        const TEMPLATES: &[&str] = &[$($file),*];
    };
}

templates! {
    accepted => "accepted.yaml",
    bad_condition => "bad-condition.yaml",
    bad_default => "bad-default.yaml",
    bad_sub_variable => "bad-sub-variable.yaml",
    conflicting_keys => "conflicting-keys.yaml",
    duplicate_key => "duplicate-key.yaml",
    fleetwright_template => "fleetwright-template.yaml",
    function_arguments => "function-arguments.yaml",
    good => "good.yaml",
    invalid_value => "invalid-value.yaml",
    json_with_tabs => "json.json",
    misplaced_reference => "misplaced-reference.yaml",
    missing_property => "missing-property.yaml",
    null_value => "null-value.yaml",
    policy_document => "policy-document.yaml",
    read_only_property => "read-only-property.yaml",
    resource_cycle => "resource-cycle.yaml",
    sections => "sections.yaml",
    unknown_attribute => "unknown-attribute.yaml",
    unknown_function => "unknown-function.yaml",
    unknown_property => "unknown-property.yaml",
    unknown_type => "unknown-type.yaml",
    unresolved_reference => "unresolved-reference.yaml",
    unused => "unused.yaml",
    wrong_type => "wrong-type.yaml",
}

#[test]
fn every_template_is_tested() {
    let files = std::fs::read_dir(folder()).expect("the folder").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    // Tested with arguments of their own below.
    let rest: Vec<_> = names.filter(|name| !TEMPLATES.contains(&name.as_str())).collect();
    assert_eq!(rest, ["region-lacks-type.yaml"]);
}

#[test]
fn a_region_may_lack_a_type() {
    insta::assert_snapshot!(check(&["--region", "eu-west-1", "region-lacks-type.yaml"]));
    let silent = fleetwright(&folder(), &["template", "check", "region-lacks-type.yaml"]);
    assert!(silent.to_string().contains("0 errors in 1 file"), "{silent}");
}

#[test]
fn findings_have_their_path_in_json() {
    let run =
        fleetwright(&folder(), &["template", "check", "-o", "json", "unknown-property.yaml", "json.json"]);
    insta::assert_snapshot!(run);
}

#[test]
fn a_file_that_is_not_there_is_a_finding() {
    insta::assert_snapshot!(check(&["nowhere.yaml", "good.yaml"]));
}

#[test]
fn codes_are_explained() {
    insta::assert_snapshot!(check(&["--explain", "unknown-property"]));
    insta::assert_snapshot!("a_code_that_is_not_there", check(&["--explain", "unknown-propertie"]));
}
