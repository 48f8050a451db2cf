//! Pipelines of Woodpecker and Jenkins become pipelines of a repository that is right.

use fleetwright::foreign_pipeline::{Converted, Names, convert};
use fleetwright::source::{Diagnostic, SourceFile};
use fleetwright::{repo, view};
use proptest::prelude::*;

use crate::support::fleetwright;

const WOODPECKER: &str = include_str!("foreign_pipeline/woodpecker.yml");
const GRAPH: &str = include_str!("foreign_pipeline/woodpecker-graph.yml");
const SHOP: &str = include_str!("foreign_pipeline/shop.woodpecker.yml");
const JENKINS: &str = include_str!("foreign_pipeline/Jenkinsfile");
const FULL: &str = include_str!("foreign_pipeline/Jenkinsfile.full");
const SCRIPTED: &str = include_str!("foreign_pipeline/Jenkinsfile.scripted");

fn names(image: Option<&str>) -> Names {
    Names { pipeline: "shop".to_owned(), repository: "shop".to_owned(), image: image.map(str::to_owned) }
}

fn converted(name: &str, text: &str, image: Option<&str>) -> Converted {
    convert(&SourceFile::new(name, text), &names(image)).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// What `validate` finds in a repository with this pipeline.
fn errors(converted: &Converted) -> Vec<Diagnostic> {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let at = folder.path().join(path);
        std::fs::create_dir_all(at.parent().expect("a folder")).expect("created");
        std::fs::write(at, text).expect("written");
    };
    put(
        "fleetwright.yaml",
        "project: shop\nclusters: {main: {engine: swarm}}\nenvironments: {local: {region: eu-west-1, cluster: main, registry: {push: \"localhost:5000\"}}}\nrepositories: {shop: {url: \"https://git.example/shop.git\"}}\n",
    );
    put("pipelines/shop.yaml", &converted.text);
    repo::check(folder.path()).0.into_iter().filter(Diagnostic::is_error).collect()
}

/// What is printed, which is a pipeline without an error.
fn shown(name: &str, text: &str, image: Option<&str>) -> String {
    let converted = converted(name, text, image);
    let errors = errors(&converted);
    assert!(errors.is_empty(), "{}\n{errors:#?}", converted.text);
    format!("{}\n{}", converted.text, view::foreign_pipeline::notes(&converted.notes, name))
}

#[test]
fn a_workflow_of_woodpecker_becomes_a_pipeline() {
    insta::assert_snapshot!(shown(".woodpecker.yml", WOODPECKER, None));
}

#[test]
fn a_graph_with_a_matrix_becomes_a_pipeline() {
    insta::assert_snapshot!(shown(".woodpecker/graph.yaml", GRAPH, None));
}

#[test]
fn a_jenkinsfile_becomes_a_pipeline() {
    insta::assert_snapshot!(shown("Jenkinsfile", FULL, None));
}

#[test]
fn steps_without_an_image_get_the_one_that_is_named() {
    let text = "pipeline {\n  agent any\n  stages { stage('a') { steps { sh 'make' } } }\n}\n";
    let without = converted("Jenkinsfile", text, None);
    assert!(without.text.lines().all(|line| line.starts_with('#')), "{}", without.text);
    assert!(errors(&without).is_empty());
    insta::assert_snapshot!(shown("Jenkinsfile", text, Some("gcc:15")));
}

#[test]
fn what_is_done_after_all_stages_waits_for_all_of_them() {
    let text = "\
pipeline {
  agent { docker 'gcc:15' }
  stages {
    stage('all') { parallel {
      stage('a') { steps { sh 'a' } }
      stage('b') { steps { sh 'b' } }
    } }
  }
  post { failure { sh 'f' }; success { sh 's' }; cleanup { sh 'c' } }
}
";
    let converted = converted("Jenkinsfile", text, None);
    assert!(errors(&converted).is_empty(), "{}", converted.text);
    let steps = converted.text.split_once("  steps:\n").expect("steps").1;
    let steps =
        steps.replace("        image: gcc:15\n", "").replace("    - run:\n", "").replace("        ", "");
    let expected = "\
name: a
command: a
name: b
command: b
needs: []
name: post failure
command: f
needs: [a, b]
when: failure
name: post success
command: s
needs: [a, b]
name: post cleanup
command: c
needs: [post success, post failure]
when: always
";
    assert_eq!(steps, expected);
}

/// What the documents show is what the command prints.
#[test]
fn the_examples_of_the_documents_are_what_is_printed() {
    for (document, name, text) in [
        (include_str!("../../docs/from-woodpecker.md"), ".woodpecker.yml", SHOP),
        (include_str!("../../docs/from-jenkins.md"), "Jenkinsfile", JENKINS),
    ] {
        let converted = converted(name, text, None);
        assert!(errors(&converted).is_empty());
        let notes = view::foreign_pipeline::notes(&converted.notes, name);
        for part in [text, &converted.text, &notes] {
            let indent = |line: &str| match line {
                "" => "\n".to_owned(),
                line => format!("    {line}\n"),
            };
            let indented: String = part.lines().map(indent).collect();
            assert!(document.contains(&indented), "{indented}is not in\n{document}");
        }
    }
}

#[test]
fn what_is_no_such_pipeline_is_refused_with_its_place() {
    let circle =
        "steps:\n  a: {image: x, commands: a, depends_on: b}\n  b: {image: x, commands: b, depends_on: a}\n";
    for (name, text, code, line, column) in [
        ("Jenkinsfile", SCRIPTED, "not-a-pipeline", 1, 1),
        ("Jenkinsfile", "", "not-a-pipeline", 1, 1),
        ("Jenkinsfile", "// x\npipeline {\n}\n", "not-a-pipeline", 2, 1),
        ("Jenkinsfile", "pipeline {\n  stages {\n    sh 'a\n  }\n}\n", "groovy-syntax", 3, 8),
        ("Jenkinsfile", "pipeline {\n  stages {\n", "groovy-syntax", 2, 10),
        ("a.yml", "", "not-a-pipeline", 1, 1),
        ("a.yml", "# x\njobs:\n  a: {}\n", "not-a-pipeline", 2, 1),
        ("a.yml", "steps: []\n", "not-a-pipeline", 1, 1),
        ("a.yml", "steps: [\n", "yaml-syntax", 1, 8),
        ("a.yml", "steps:\n  - {name: a, image: x, commands: a, depends_on: [b]}\n", "unknown-step", 2, 51),
        ("a.yml", circle, "step-cycle", 2, 3),
    ] {
        let file = SourceFile::new(name, text);
        let problems = convert(&file, &names(None)).expect_err(text);
        let label = problems[0].label.as_ref().expect("a place");
        let at = file.position(label.span.start);
        assert_eq!((problems[0].code, at.line, at.column), (code, line, column), "{text}");
        assert!(problems.iter().all(|problem| !problem.help.is_empty() || problem.code == "yaml-syntax"));
    }
}

#[test]
fn the_command_prints_the_pipeline_and_lists_what_is_left_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let put = |path: &str, text: &str| {
        let at = folder.path().join(path);
        std::fs::create_dir_all(at.parent().expect("a folder")).expect("created");
        std::fs::write(at, text).expect("written");
    };
    put("shop/Jenkinsfile", JENKINS);
    put("shop/.woodpecker/test.yml", SHOP);
    put("shop/Scripted", SCRIPTED);
    let shop = folder.path().join("shop");
    let run = |arguments: &[&str]| fleetwright(&shop, &[&["pipeline", "import"], arguments].concat());

    let plain = run(&["Jenkinsfile"]);
    assert_eq!((plain.status, plain.stdout), (Some(0), converted("Jenkinsfile", JENKINS, None).text));
    for part in [
        "warning: Jenkinsfile:1:1: the repository is called `shop` after its folder\n next: ",
        "warning: Jenkinsfile:6:17: the value of credential `nexus-token` is not in this file\n next: aws ssm",
        "5 warnings\n next: save it as pipelines/shop.yaml, then `fleetwright validate`\n",
    ] {
        assert!(plain.stderr.contains(part), "{part} is not in {}", plain.stderr);
    }

    let json = run(&[".woodpecker/test.yml", "--repository", "web", "-o", "json"]);
    let document: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!((json.status, json.stderr.as_str(), &document["version"]), (Some(0), "", &1.into()));
    let text = document["pipelines"].as_str().expect("a text");
    assert!(text.starts_with("web-test:\n  repository: web\n"), "{text}");
    let note = document["notes"][0].as_object().expect("a note");
    assert_eq!(note.keys().collect::<Vec<_>>(), ["line", "column", "message", "next"]);
    assert_eq!((&note["line"], &note["column"]), (&2.into(), &5.into()));

    for (arguments, part) in [
        (&["Scripted"][..], "Scripted is a scripted pipeline, and only declarative ones can be converted"),
        (&["Nothing"], "reading Nothing: "),
        (&["Jenkinsfile", "--name", "Shop"], "pass `--name NAME` with another name"),
    ] {
        let refused = run(arguments);
        assert_eq!((refused.status, refused.stdout.as_str()), (Some(2), ""), "{}", refused.stderr);
        assert!(refused.stderr.contains(part), "{part} is not in {}", refused.stderr);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// A file with a hole, and with something in it.
    #[test]
    fn any_file_is_converted_to_a_valid_one_or_refused_with_a_place(
        which in 0..5usize,
        at in 0.0..1.0f64,
        cut in 0..40usize,
        put in "[ -~\\n]{0,3}|'''|\"|\\$\\{|\\}|\\{|when:|- |ä|\\\\",
    ) {
        let (name, text) = [
            ("a.yml", WOODPECKER),
            ("a.yaml", GRAPH),
            ("a.yml", SHOP),
            ("Jenkinsfile", JENKINS),
            ("Jenkinsfile", FULL),
        ][which];
        let at = (text.len() as f64 * at) as usize;
        let end = (at + cut).min(text.len());
        let text = format!("{}{put}{}", &text[..at], &text[end..]);
        let file = SourceFile::new(name, text.clone());
        match convert(&file, &names(Some("alpine:3.22"))) {
            Ok(converted) => {
                let errors = errors(&converted);
                prop_assert!(errors.is_empty(), "{text}\n-----\n{}\n{errors:#?}", converted.text);
                for note in &converted.notes {
                    let place = file.position(file.offset(note.line, note.column));
                    prop_assert_eq!((place.line, place.column), (note.line, note.column));
                    prop_assert!(!note.next.is_empty());
                }
            }
            Err(problems) => {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    let label = problem.label.expect("a place");
                    prop_assert!(file.text().is_char_boundary(label.span.start) && label.span.end <= text.len());
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_jenkinsfile_parser_panic(text in "(pipeline|stages|sh|when|\\$|[{}()\\[\\]'\"/\\\\,:;= \\n.aä]|'''|\"\"\"|/\\*|\\$\\{){0,40}") {
        let file = SourceFile::new("Jenkinsfile", text.clone());
        for problem in convert(&file, &names(None)).err().into_iter().flatten() {
            let label = problem.label.expect("a place");
            let at = file.position(label.span.start);
            prop_assert!(at.line >= 1 && label.span.end <= text.len(), "{text}");
            prop_assert!(!problem.help.is_empty(), "{}", problem.message);
        }
    }
}
