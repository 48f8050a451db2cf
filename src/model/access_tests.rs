use proptest::prelude::*;

use super::*;

const ACCOUNT: &str = "123456789012";

fn home() -> Home {
    Home { partition: "aws".into(), account: ACCOUNT.into() }
}

fn policy(level: Level, patterns: &[&str]) -> Policy {
    let mut policy = Policy::default();
    for pattern in patterns {
        policy.add(level, pattern.parse().unwrap_or_else(|error| panic!("{pattern}: {error}")));
    }
    policy
}

fn level(patterns: &[&str], arn: &str) -> Option<Level> {
    level_of(&policy(Level::Deployer, patterns), &home(), arn)
}

#[test]
fn a_session_matches_its_role_and_nothing_else() {
    let session = "arn:aws:sts::123456789012:assumed-role/deploy/ada@example.com";
    for pattern in [
        "role/deploy",
        "role/de*",
        "role/*",
        "role/team/deploy",
        "arn:aws:iam::123456789012:role/deploy",
        "arn:aws:iam::123456789012:role/team/deploy",
        "*",
    ] {
        assert_eq!(level(&[pattern], session), Some(Level::Deployer), "{pattern}");
    }
    for pattern in [
        "role/deployer",
        "role/eploy",
        "role/Deploy",
        "user/deploy",
        "user/*",
        "root",
        "role/ada@example.com",
    ] {
        assert_eq!(level(&[pattern], session), None, "{pattern}");
    }
}

#[test]
fn other_accounts_and_partitions_must_be_named() {
    let foreign = "arn:aws:sts::999999999999:assumed-role/deploy/x";
    let china = "arn:aws-cn:sts::123456789012:assumed-role/deploy/x";
    for pattern in ["role/deploy", "role/*", "*", "arn:aws:iam::123456789012:role/deploy"] {
        assert_eq!(level(&[pattern], foreign), None, "{pattern}");
        assert_eq!(level(&[pattern], china), None, "{pattern}");
    }
    assert_eq!(level(&["arn:aws:iam::999999999999:role/deploy"], foreign), Some(Level::Deployer));
    assert_eq!(level(&["arn:aws-cn:iam::123456789012:role/deploy"], china), Some(Level::Deployer));
    assert_eq!(level(&["arn:aws-cn:iam::999999999999:role/deploy"], foreign), None);
}

#[test]
fn a_star_stays_within_one_part_of_a_path() {
    let ada = |path: &str| format!("arn:aws:iam::123456789012:user/{path}ada");
    assert_eq!(level(&["user/*"], &ada("")), Some(Level::Deployer));
    assert_eq!(level(&["user/*"], &ada("team/")), None);
    assert_eq!(level(&["user/team/*"], &ada("team/")), Some(Level::Deployer));
    assert_eq!(level(&["user/*/ada"], &ada("team/")), Some(Level::Deployer));
    assert_eq!(level(&["user/team/*"], &ada("team/web/")), None);
    assert_eq!(level(&["user/ada"], &ada("team/")), None);
    assert_eq!(level(&["*"], &ada("team/web/")), Some(Level::Deployer), "it says everybody of the account");
    // IAM's own spelling of a role keeps its path.
    assert_eq!(level(&["role/deploy"], "arn:aws:iam::123456789012:role/team/deploy"), None);
}

#[test]
fn instances_and_the_root_user_are_never_everybody() {
    let instance = "arn:aws:sts::123456789012:assumed-role/worker/i-0d3c1f2a9b8e7d6c5";
    assert_eq!(level(&["*"], instance), None);
    assert_eq!(level(&["role/*"], instance), None);
    assert_eq!(level(&["role/worker"], instance), Some(Level::Deployer), "serve may run on one");
    let root = "arn:aws:iam::123456789012:root";
    assert_eq!(level(&["*", "user/*", "role/*"], root), None);
    assert_eq!(level(&["root"], root), Some(Level::Deployer));
    assert_eq!(level(&["*"], "arn:aws:sts::123456789012:federated-user/bob"), None);
}

#[test]
fn the_highest_level_counts() {
    let mut policy = policy(Level::Viewer, &["*"]);
    policy.add(Level::Admin, "role/boss".parse().expect("a pattern"));
    let arn = |role: &str| format!("arn:aws:sts::123456789012:assumed-role/{role}/s");
    assert_eq!(level_of(&policy, &home(), &arn("boss")), Some(Level::Admin));
    assert_eq!(level_of(&policy, &home(), &arn("other")), Some(Level::Viewer));
    assert_eq!(level_of(&Policy::default(), &home(), &arn("boss")), None);
    assert!(Level::Viewer < Level::Deployer && Level::Deployer < Level::Admin);
}

#[test]
fn what_names_no_principal_is_rejected_with_what_would() {
    for (text, error, help) in [
        ("deploy", BadPattern::NoKind, "`role/deploy`"),
        ("", BadPattern::NoKind, "role/NAME"),
        ("group/devs", BadPattern::NotAPrincipal("group".into()), "role/NAME"),
        ("assumed-role/deploy/ada", BadPattern::Session, "`role/deploy`"),
        ("arn:aws:sts::123456789012:assumed-role/deploy/ada", BadPattern::Session, "`role/deploy`"),
        ("role/", BadPattern::Name(String::new()), "letters"),
        ("role/a b", BadPattern::Name("a b".into()), "letters"),
        ("user/team//ada", BadPattern::Name(String::new()), "letters"),
        ("role/team/*", BadPattern::RolePath, "leave the path out"),
        ("role/*/deploy", BadPattern::RolePath, "leave the path out"),
        ("arn:aws:iam::*:role/deploy", BadPattern::Account, "123456789012"),
        ("arn:aws:iam::123:role/deploy", BadPattern::Account, "123456789012"),
        ("arn:aws:iam::999999999999:*", BadPattern::Arn, "in full"),
        ("arn:aws:s3:::bucket", BadPattern::Arn, "in full"),
        ("arn:*:iam::999999999999:role/x", BadPattern::Arn, "in full"),
        ("${env.ADMIN}", BadPattern::NoKind, "role/NAME"),
    ] {
        let found = text.parse::<Pattern>().expect_err(text);
        assert_eq!(found, error, "{text}");
        assert!(found.help(text).contains(help), "{text}: {}", found.help(text));
    }
}

/// What version 1 published; it must be readable for ever.
const SAMPLE_1: &str =
    r#"{"version":1,"admin":["role/Administrators"],"deployer":["role/deploy-*","user/ada"],"viewer":["*"]}"#;

#[test]
fn a_policy_is_published_sorted_and_read_again() {
    let policy = Policy::read(SAMPLE_1).expect("version 1");
    assert_eq!(policy.publish(), SAMPLE_1);
    let mut shuffled = policy.clone();
    shuffled.deployer.reverse();
    shuffled.deployer.push("user/ada".parse().expect("a pattern"));
    assert_eq!(shuffled.publish(), SAMPLE_1);
}

#[test]
fn a_policy_that_is_not_understood_completely_is_none() {
    let newer = SAMPLE_1.replace("\"version\":1", "\"version\":2");
    assert_eq!(Policy::read(&newer), Err(UnreadablePolicy::Newer { found: 2 }));
    for bad in [
        "",
        "{}",
        r#"{"version":1}"#,
        &SAMPLE_1.replace("role/deploy-*", "role"),
        &SAMPLE_1.replace("\"admin\"", "\"owner\""),
        &SAMPLE_1.replace("\"version\":1", "\"version\":1,\"deny\":[\"user/ada\"]"),
    ] {
        assert!(matches!(Policy::read(bad), Err(UnreadablePolicy::Malformed(_))), "{bad}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-cA-C0-1+=,.@_-]{1,6}"
}

fn path() -> impl Strategy<Value = String> {
    let parts = proptest::collection::vec(name(), 0..3);
    parts.prop_map(|parts| parts.iter().map(|part| format!("{part}/")).collect())
}

fn arn() -> impl Strategy<Value = String> {
    let partition = prop_oneof![Just("aws"), Just("aws-cn"), Just("aws-us-gov")];
    let account = prop_oneof![Just(ACCOUNT), Just("999999999999"), Just("000000000000")];
    let who = prop_oneof![
        (path(), name()).prop_map(|(path, name)| ("iam", format!("user/{path}{name}"))),
        (path(), name()).prop_map(|(path, name)| ("iam", format!("role/{path}{name}"))),
        (name(), name()).prop_map(|(role, session)| ("sts", format!("assumed-role/{role}/{session}"))),
        name().prop_map(|name| ("sts", format!("federated-user/{name}"))),
        Just(("iam", "root".to_owned())),
    ];
    (partition, account, who).prop_map(|(p, a, (service, who))| format!("arn:{p}:{service}::{a}:{who}"))
}

fn pattern() -> impl Strategy<Value = String> {
    let part = "[a-cA-C0-1*_-]{1,4}";
    let resource = prop_oneof![
        part.prop_map(|name| format!("role/{name}")),
        (name(), name()).prop_map(|(path, name)| format!("role/{path}/{name}")),
        part.prop_map(|name| format!("user/{name}")),
        (part, part).prop_map(|(path, name)| format!("user/{path}/{name}")),
        Just("root".to_owned()),
    ];
    let scope = prop_oneof![
        Just(String::new()),
        Just(format!("arn:aws:iam::{ACCOUNT}:")),
        Just("arn:aws:iam::999999999999:".to_owned()),
        Just("arn:aws-cn:iam::123456789012:".to_owned()),
    ];
    prop_oneof![
        (scope, resource).prop_map(|(scope, resource)| format!("{scope}{resource}")),
        Just("*".to_owned())
    ]
}

/// `*` as a regular expression: an oracle that shares nothing with `glob`.
fn regex(pattern: &str) -> regex_lite::Regex {
    let parts: Vec<String> = pattern.split('*').map(regex_lite::escape).collect();
    regex_lite::Regex::new(&format!("^{}$", parts.join("[^/]*"))).expect("a regular expression")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_pattern_never_reaches_an_account_that_it_does_not_name(pattern in pattern(), arn in arn()) {
        let parsed: Pattern = pattern.parse().expect("a generated pattern is one");
        let named = pattern.strip_prefix("arn:").map_or_else(
            || ("aws".to_owned(), ACCOUNT.to_owned()),
            |rest| {
                let parts: Vec<&str> = rest.split(':').collect();
                (parts[0].to_owned(), parts[3].to_owned())
            },
        );
        let parts: Vec<&str> = arn.split(':').collect();
        if parsed.matches(&home(), &arn) {
            prop_assert_eq!(named, (parts[1].to_owned(), parts[4].to_owned()));
        }
    }

    #[test]
    fn a_star_never_stands_for_a_slash(pattern in pattern(), arn in arn()) {
        let parsed: Pattern = pattern.parse().expect("a generated pattern is one");
        let wanted = pattern.rsplit(':').next().unwrap_or_default();
        let found = arn.rsplit(':').next().unwrap_or_default();
        if pattern != "*" && found.starts_with("user/") && parsed.matches(&home(), &arn) {
            prop_assert_eq!(wanted.matches('/').count(), found.matches('/').count());
            prop_assert!(regex(wanted).is_match(found));
        }
    }

    #[test]
    fn globs_are_what_the_regular_expression_says(pattern in "[ab*/]{0,8}", text in "[ab/]{0,10}") {
        prop_assert_eq!(glob(&pattern, &text), regex(&pattern).is_match(&text), "{} {}", pattern, text);
    }

    #[test]
    fn more_patterns_never_lower_a_level(a in pattern(), b in pattern(), arn in arn()) {
        let one = policy(Level::Viewer, &[&a]);
        let mut two = one.clone();
        two.add(Level::Admin, b.parse().expect("a pattern"));
        prop_assert!(level_of(&one, &home(), &arn) <= level_of(&two, &home(), &arn));
    }

    #[test]
    fn any_text_is_answered(pattern in "\\PC{0,40}", arn in "\\PC{0,60}") {
        if let Ok(pattern) = pattern.parse::<Pattern>() {
            prop_assert_eq!(pattern.to_string().parse::<Pattern>(), Ok(pattern.clone()));
            pattern.matches(&home(), &arn);
        }
    }
}
