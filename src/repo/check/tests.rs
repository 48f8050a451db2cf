//! Templates as text: what must hold for any, and for the one in the repository.

use proptest::prelude::*;

use super::*;

fn check(text: &str) -> Vec<Diagnostic> {
    file(&SourceFile::new("a.yaml", text), Some("eu-west-1"))
}

fn codes(text: &str) -> Vec<&'static str> {
    check(text).iter().map(|problem| problem.code).collect()
}

#[test]
fn both_forms_of_functions_are_walked_through() {
    let long =
        "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: {Fn::Join: ['', [Ref: Gone]]}}}}";
    let tagged = "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Join ['', [!Ref Gone]]}}}";
    let mixed = "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: {Fn::Join: ['', [!Sub '${Gone}']]}}}}";
    let nested = "Resources: {A: {Type: AWS::S3::Bucket, Metadata: {Fn::Base64: !Sub '${Gone}'}}}";
    for text in [long, tagged, mixed, nested] {
        assert_eq!(codes(text), ["unresolved-reference"], "{text}");
    }
}

#[test]
fn what_a_condition_may_take_away_excludes_nothing() {
    let text = |cidr: &str| {
        format!(
            "Conditions: {{C: !Equals [a, b]}}\nResources:\n  A:\n    Type: AWS::EC2::VPC\n    Properties:\n      CidrBlock: {cidr}\n      Ipv4IpamPoolId: !If [C, a, !Ref AWS::NoValue]\n"
        )
    };
    assert_eq!(codes(&text("!If [C, !Ref AWS::NoValue, 10.0.0.0/8]")), Vec::<&str>::new());
}

#[test]
fn macros_may_add_what_is_missing() {
    let text =
        "Transform: [Ours]\nResources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref Gone}}}";
    assert_eq!(codes(text), Vec::<&str>::new());
}

#[test]
fn numbers_and_booleans_may_be_texts() {
    let text = "Resources:\n  A:\n    Type: AWS::AutoScaling::AutoScalingGroup\n    Properties:\n      MinSize: 1\n      MaxSize: \"2\"\n      CapacityRebalance: \"true\"\n      HealthCheckGracePeriod: \"30\"\n      InstanceId: i-1\n";
    assert_eq!(codes(text), Vec::<&str>::new());
}

#[test]
fn paths_lead_to_what_is_meant() {
    let problems = check(
        "Resources:\n  A:\n    Type: AWS::S3::Bucket\n    Properties:\n      Tags: [{Key: a, Valu: b}]\n",
    );
    let paths: Vec<_> = problems.iter().map(|problem| (problem.code, problem.path.as_deref())).collect();
    assert!(paths.contains(&("unknown-property", Some("Resources/A/Properties/Tags/0/Valu"))), "{paths:?}");
}

#[test]
fn every_code_that_is_used_is_explained() {
    let mut seen = 0;
    let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            if entry.path().ends_with("check/tests.rs") {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(entry.path()) else { continue };
            let starts = [
                "Diagnostic::error(",
                "Diagnostic::warning(",
                "Finding::error(",
                "Finding::warning(",
                "self.error(",
                "self.warn(",
            ];
            for start in starts {
                for (at, _) in text.match_indices(start) {
                    let rest = text[at + start.len()..].trim_start();
                    let Some((code, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else {
                        continue;
                    };
                    if !code.is_empty() && !code.contains(' ') && !["a", "code"].contains(&code) {
                        seen += 1;
                        assert!(codes::find(code).is_ok(), "{}: `{code}`", entry.path().display());
                    }
                }
            }
        }
    }
    assert!(seen > 80, "{seen}");
    assert!(codes::ALL.is_sorted_by_key(|explanation| explanation.code));
}

/// Texts that look enough like templates to get far into the checks.
fn fragment() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[ -~]{0,3}",
        "[äß€𝄞\u{0}\u{85}\u{feff}\r]{1,2}",
        proptest::sample::select(vec![
            "\n",
            "\n  ",
            "\n    ",
            "\n      ",
            ": ",
            "- ",
            "Resources:",
            "Parameters:",
            "Conditions:",
            "Outputs:",
            "Mappings:",
            "A:",
            "Type: ",
            "Properties:",
            "AWS::EC2::VPC",
            "AWS::S3::Bucket",
            "!Ref ",
            "!Sub ",
            "!If ",
            "!GetAtt ",
            "!FindInMap ",
            "!Select ",
            "Ref: ",
            "Fn::If: ",
            "Fn::Sub: ",
            "Fn::GetAtt: ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "${A}",
            "${",
            "A.B",
            "Value: ",
            "Default: ",
            "CidrBlock: ",
            "Tags: ",
            "DependsOn: ",
            "A",
            "~",
            "1",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

/// The template that the golden tests hold right in all.
const GOOD: &str = include_str!("../../../tests/it/templates/good.yaml");

fn whole(problems: &[Diagnostic]) {
    for problem in problems {
        let label = problem.label.as_ref().expect("every problem has a place");
        assert!(label.file.text().get(label.span.start..label.span.end).is_some(), "{problem:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(256)))]

    #[test]
    fn any_text_is_checked_without_panic(text in fragment()) {
        whole(&check(&text));
    }

    #[test]
    fn a_template_with_something_spliced_in_is_checked_without_panic(
        at in 0.0..1.0f64,
        cut in 0..30usize,
        text in fragment(),
    ) {
        let chars: Vec<char> = GOOD.chars().collect();
        let at = (chars.len() as f64 * at) as usize;
        let end = (at + cut).min(chars.len());
        let changed: String =
            chars[..at].iter().copied().chain(text.chars()).chain(chars[end..].iter().copied()).collect();
        whole(&check(&changed));
    }
}
