//! Compose files become services of a repository that is right.

use std::path::Path;

use fleetwright::compose::{Converted, convert};
use fleetwright::source::{Diagnostic, SourceFile};
use fleetwright::{repo, view};

const COMPOSE: &str = include_str!("compose/compose.yaml");
const FIG: &str = include_str!("compose/fig.yml");

fn converted(text: &str) -> Converted {
    let beside = |name: &str| (name == "./nginx.conf").then(|| "listen 80;\n".to_owned());
    convert(&SourceFile::new("compose.yaml", text), "shop", &beside)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn shown(converted: &Converted) -> String {
    let files = view::compose::files(converted);
    format!("{files}\n{}", view::compose::notes(converted, "compose.yaml"))
}

/// What was written is a repository without an error.
fn is_valid(converted: &Converted) {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let at = folder.path().join(path);
        std::fs::create_dir_all(at.parent().unwrap_or(Path::new("."))).expect("created");
        std::fs::write(at, text).expect("written");
    };
    let allowed: Vec<&str> = converted.host_paths.iter().map(String::as_str).collect();
    put(
        "fleetwright.yaml",
        &format!(
            "project: shop\nclusters: {{main: {{engine: swarm}}}}\nenvironments: {{local: {{region: eu-west-1, cluster: main}}}}\nhost_paths: [{}]\n",
            allowed.join(", ")
        ),
    );
    converted.files.iter().for_each(|(path, text)| put(path, text));
    let (problems, _) = repo::check(folder.path());
    let errors: Vec<_> = problems.into_iter().filter(Diagnostic::is_error).collect();
    assert!(errors.is_empty(), "{}\n{errors:#?}", shown(converted));
}

#[test]
fn a_compose_file_becomes_services() {
    let converted = converted(COMPOSE);
    is_valid(&converted);
    assert!(!shown(&converted).contains("hunter2"), "values of secrets are not copied");
    insta::assert_snapshot!(shown(&converted));
}

#[test]
fn a_fig_yml_of_2014_becomes_services() {
    let converted = converted(FIG);
    is_valid(&converted);
    insta::assert_snapshot!(shown(&converted));
}

#[test]
fn what_is_no_compose_file_is_refused() {
    for text in ["", "a: 1\n", "[1, 2]\n", "services: {}\n", "services:\n  - web\n", "a: [\n"] {
        let file = SourceFile::new("x.yaml", text);
        assert!(convert(&file, "shop", &|_| None).is_err(), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn any_file_is_read_or_refused_without_panic(
        key in "[a-z_]{1,12}",
        value in "[ -~]{0,20}",
        at in 0..COMPOSE.len(),
        cut in 0..40usize,
    ) {
        let file = |text: String| SourceFile::new("x.yaml", text);
        let _ = convert(&file(format!("services:\n  web:\n    image: a\n    {key}: {value}\n")), "shop", &|_| None);
        let mut bytes = COMPOSE.as_bytes().to_vec();
        bytes.drain(at..(at + cut).min(COMPOSE.len()));
        let _ = convert(&file(String::from_utf8_lossy(&bytes).into_owned()), "shop", &|_| None);
    }
}
