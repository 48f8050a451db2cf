//! `validate` on broken repositories: each gives exactly its diagnostic.
//!
//! `broken/base` is a repository without errors; every other folder there holds the files
//! that differ, and is tested by the one test that is named for it.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Run, fleetwright};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/broken")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("the fixture is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

/// The base repository with the files of `name` over it; `REMOVE` lists files to leave out.
pub fn repository(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&fixtures().join("base"), folder.path());
    copy(&fixtures().join(name), folder.path());
    if let Ok(list) = std::fs::read_to_string(folder.path().join("REMOVE")) {
        for path in list.lines() {
            std::fs::remove_file(folder.path().join(path)).expect("the file to leave out is there");
        }
    }
    folder
}

fn check(name: &str) -> String {
    let folder = repository(name);
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(run.stdout, "", "people get nothing on stdout");
    run.to_string()
}

macro_rules! broken {
    ($($test:ident => $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                insta::assert_snapshot!($name, check($name));
            }
        )*

        const BROKEN: &[&str] = &[$($name),*];
    };
}

broken! {
    access_warnings => "access-warnings",
    alias_bomb => "alias-bomb",
    bad_access => "bad-access",
    bad_account => "bad-account",
    bad_cloud_name => "bad-cloud-name",
    bad_container => "bad-container",
    bad_depends_on => "bad-depends-on",
    bad_duration => "bad-duration",
    bad_duration_number => "bad-duration-number",
    bad_engine => "bad-engine",
    bad_hook => "bad-hook",
    bad_host_files => "bad-host-files",
    bad_image => "bad-image",
    bad_infra_steps => "bad-infra-steps",
    bad_job => "bad-job",
    bad_mounts => "bad-mounts",
    bad_name => "bad-name",
    bad_own_steps => "bad-own-steps",
    bad_parameter_value => "bad-parameter-value",
    bad_part => "bad-part",
    bad_pipeline => "bad-pipeline",
    bad_pre_deploy => "bad-pre-deploy",
    bad_reference => "bad-reference",
    bad_run => "bad-run",
    bad_server => "bad-server",
    bad_service => "bad-service",
    bad_size => "bad-size",
    bad_stack_policy => "bad-stack-policy",
    bad_units => "bad-units",
    bad_values => "bad-values",
    build_path_outside => "build-path-outside",
    conflicting_keys => "conflicting-keys",
    duplicate_export => "duplicate-export",
    duplicate_key => "duplicate-key",
    duplicate_stack => "duplicate-stack",
    empty_file => "empty-file",
    empty_project_file => "empty-project-file",
    former_keys => "former-keys",
    image_not_built => "image-not-built",
    include_cycle => "include-cycle",
    merge_key => "merge-key",
    misplaced_reference => "misplaced-reference",
    missing_include => "missing-include",
    missing_key => "missing-key",
    missing_key_in_project => "missing-key-in-project",
    missing_parameter => "missing-parameter",
    missing_project_file => "missing-project-file",
    missing_template => "missing-template",
    missing_user_data_file => "missing-user-data-file",
    no_registry => "no-registry",
    non_ascii_columns => "non-ascii-columns",
    non_ascii_template => "non-ascii-template",
    not_utf_8 => "not-utf-8",
    part_cycle => "part-cycle",
    part_findings => "part-findings",
    part_missing => "part-missing",
    part_not_yaml => "part-not-yaml",
    part_undefined => "part-undefined",
    parts => "parts",
    port_conflict => "port-conflict",
    reference_cycle => "reference-cycle",
    rendered_not_yaml => "rendered-not-yaml",
    reserved_value => "reserved-value",
    second_document => "second-document",
    secret_in_registry => "secret-in-registry",
    several_at_once => "several-at-once",
    strict_boolean => "strict-boolean",
    tab_indent => "tab-indent",
    template_without_resources => "template-without-resources",
    tera_syntax => "tera-syntax",
    tera_unclosed_block => "tera-unclosed-block",
    tera_undefined_in_user_data => "tera-undefined-in-user-data",
    tera_undefined_variable => "tera-undefined-variable",
    tera_unknown_filter => "tera-unknown-filter",
    tera_unknown_function => "tera-unknown-function",
    unknown_cluster => "unknown-cluster",
    unknown_key_in_pipeline => "unknown-key-in-pipeline",
    unknown_key_in_project => "unknown-key-in-project",
    unknown_key_in_service => "unknown-key-in-service",
    unknown_key_in_stack => "unknown-key-in-stack",
    unknown_nested_output => "unknown-nested-output",
    unknown_output => "unknown-output",
    unknown_parameter => "unknown-parameter",
    unknown_region => "unknown-region",
    unknown_repository => "unknown-repository",
    unknown_service => "unknown-service",
    unknown_stack => "unknown-stack",
    unresolved_ref => "unresolved-ref",
    unresolved_sub => "unresolved-sub",
    user_data_not_yaml => "user-data-not-yaml",
    user_data_too_large => "user-data-too-large",
    wrong_type => "wrong-type",
    wrong_type_list => "wrong-type-list",
    yaml_braces => "yaml-braces",
    yaml_syntax => "yaml-syntax",
}

#[test]
fn what_fn_sub_puts_into_user_data_is_not_judged() {
    let folder = repository("base");
    let write = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).expect("written");
    write("stacks/more.yaml", "open:\n  template: open.yaml\n");
    let template = "\
Parameters:
  Mode: {Type: String, Default: \"0644\"}
Resources:
  Template:
    Type: AWS::EC2::LaunchTemplate
    Properties:
      LaunchTemplateData:
        UserData:
          Fn::Base64:
            Fn::Sub: |
              #cloud-config
              hostname: ${AWS::StackName}
              swap: {size: ${Mode}}
              write_files:
                - path: /etc/systemd/system/a.service
                  permissions: ${Mode}
                  owner: ${Mode}:root
                  content: |
                    [Service]
                    ExecStart=/usr/bin/x
                    TimeoutStopSec=${Mode}
";
    write("templates/cloudformation/open.yaml", template);
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(run.status, Some(0), "{run}");
    let wrong = template
        .replace("hostname:", "hostnam: x\n              hostname:")
        .replace("swap: {size: ${Mode}}", "");
    write("templates/cloudformation/open.yaml", &wrong);
    let run = fleetwright(folder.path(), &["validate"]);
    assert!(run.stderr.contains("unknown key `hostnam`") && run.stderr.contains("1 error"), "{run}");
}

#[test]
fn every_fixture_has_its_test() {
    let entries = std::fs::read_dir(fixtures()).expect("the fixtures are there").flatten();
    let mut found: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    found.retain(|name| name != "base");
    found.sort();
    assert_eq!(found, BROKEN);
}

#[test]
fn the_base_has_no_error() {
    insta::assert_snapshot!(check("base"), @r"
    0 errors in 8 files (N ms).
    status 0
    ");
}

#[test]
fn the_project_root_has_no_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = fleetwright(root, &["validate"]);
    assert_eq!((run.status, run.stderr.starts_with("0 errors in ")), (Some(0), true), "{run}");
}

#[test]
fn it_works_from_a_folder_inside_and_from_elsewhere() {
    let folder = repository("bad-duration");
    let here = fleetwright(folder.path(), &["validate"]).to_string();
    assert_eq!(fleetwright(&folder.path().join("templates/cloud-config"), &["validate"]).to_string(), here);
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_string_lossy();
    assert_eq!(fleetwright(elsewhere.path(), &["-C", &path, "validate"]).to_string(), here);
    let none = fleetwright(elsewhere.path(), &["validate"]);
    assert_eq!(none.status, Some(2));
    assert!(none.stderr.contains("there is no fleetwright.yaml"), "{none}");
}

#[test]
fn json_is_one_document_sorted_by_place() {
    let folder = repository("several-at-once");
    let run: Run = fleetwright(folder.path(), &["validate", "-o", "json"]);
    assert_eq!((run.status, run.stderr.as_str()), (Some(2), ""));
    insta::assert_snapshot!(run.stdout);
}

#[test]
fn unset_variables_are_no_problem() {
    let folder = repository("base");
    let project = folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&project).expect("it is there");
    std::fs::write(&project, text.replace("eu-west-1", "${env.SHOP_REGION}")).expect("it can be written");
    let run = fleetwright(folder.path(), &["validate"]);
    assert_eq!(run.status, Some(0), "{run}");
}
