//! Names that are made of other names: no two are the same, and none fits another's IAM pattern.

use std::collections::BTreeMap;

use fleetwright::adapter::aws::records;
use fleetwright::cli::context::cluster::prefix;
use fleetwright::driver::lock;
use fleetwright::model::name::ProjectName;
use fleetwright::model::stack::RenderedStack;
use fleetwright::model::{audit, bucket};
use fleetwright::repo::{self, starters};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::fleetwright;

const ACCOUNT: &str = "123456789012";

/// A repository of these environments (name, region, account) and stacks, all of them of the starters' group.
fn repository(
    project: &str,
    environments: &[(String, String, Option<String>)],
    clusters: &[String],
    stacks: &[(String, Option<(usize, String)>)],
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let name: ProjectName = project.parse().expect("a name");
    for (path, text) in starters::files(&name) {
        if path.starts_with("templates/") {
            write(path, &text);
        }
    }
    let mut text = format!("project: {project}\nclusters:\n");
    for cluster in clusters {
        text += &format!("  {cluster}:\n    engine: swarm\n");
    }
    text += "environments:\n";
    for (number, (name, region, account)) in environments.iter().enumerate() {
        let cluster = &clusters[number % clusters.len()];
        text += &format!("  {name}:\n    region: {region}\n    cluster: {cluster}\n");
        if let Some(account) = account {
            text += &format!("    account: \"{account}\"\n");
        }
    }
    write("fleetwright.yaml", &text);
    let mut text = String::new();
    for (number, (name, chosen)) in stacks.iter().enumerate() {
        let role = if number % 2 == 0 { "control" } else { "worker" };
        text += &format!(
            "{name}:\n  template: group.yaml\n  values: {{role: {role}, cloud_config: {role}.yaml, etcd: false, reboots: never, \
             machines: 1, machines_most: 2, instance_type: t3.small, registry_credentials: /fleetwright/registry, \
             log_max_size: 10m}}\n  parameters: {{Subnets: subnet-0123456789abcdef0, SecurityGroupId: sg-0123456789abcdef0, \
             ImageId: ami-0123456789abcdef0}}\n"
        );
        if let Some((environment, name)) = chosen {
            let environment = &environments[environment % environments.len()].0;
            text += &format!("  cloud_name: {{{environment}: {name}}}\n");
        }
    }
    write("stacks/all.yaml", &text);
    folder
}

fn validate(folder: &tempfile::TempDir) -> String {
    fleetwright(folder.path(), &["validate"]).to_string()
}

fn here(name: &str) -> (String, String, Option<String>) {
    (name.to_owned(), "eu-west-1".to_owned(), None)
}

fn plain(names: &[&str]) -> Vec<(String, Option<(usize, String)>)> {
    names.iter().map(|name| ((*name).to_owned(), None)).collect()
}

fn main_cluster() -> Vec<String> {
    vec!["main".to_owned()]
}

#[test]
fn two_environments_that_come_to_one_name_are_refused() {
    let folder = repository("shop", &[here("dev"), here("dev-x")], &main_cluster(), &plain(&["x-a", "a"]));
    insta::assert_snapshot!(validate(&folder), @r"
    error[duplicate-name]: stack `x-a` of environment `dev` and stack `a` of environment `dev-x` are both called `shop-dev-x-a` in CloudFormation
     --> stacks/all.yaml:5:1
      |
    5 | a:
      | ^ the other is at stacks/all.yaml:1
      |
      = help: rename one of the stacks or of the environments (a stack that is deployed keeps its name with `cloud_name`); where `dev` and `dev-x` are in different accounts, give both their `account`

    1 error in 25 files (N ms). Nothing was changed.
    status 2
    ");
    // The commands that would use the names refuse it too.
    let run = fleetwright(folder.path(), &["plan", "--offline"]);
    assert_eq!(run.status, Some(2), "{run}");
}

#[test]
fn environments_that_never_meet_may_come_to_one_name() {
    let elsewhere = |region: &str, account: Option<&str>| {
        ("dev-x".to_owned(), region.to_owned(), account.map(str::to_owned))
    };
    let stacks = plain(&["x-a", "a"]);
    let dev = ("dev".to_owned(), "eu-west-1".to_owned(), Some(ACCOUNT.to_owned()));
    for (other, fine) in [
        (elsewhere("eu-central-1", None), true),
        (elsewhere("eu-west-1", Some("210987654321")), true),
        (elsewhere("eu-west-1", Some(ACCOUNT)), false),
        (elsewhere("eu-west-1", None), false),
        // Who can say where that is tomorrow?
        (elsewhere("${env.ELSEWHERE:-eu-central-1}", None), false),
    ] {
        let folder = repository("shop", &[dev.clone(), other.clone()], &main_cluster(), &stacks);
        let text = validate(&folder);
        assert_eq!(text.contains("status 0"), fine, "{other:?}: {text}");
        assert_eq!(text.contains("error[duplicate-name]"), !fine, "{other:?}: {text}");
    }
}

#[test]
fn a_chosen_name_may_be_nobody_s_in_any_spelling_and_the_groups_must_differ_too() {
    let environments = [here("dev"), here("prod")];
    let chosen = |name: &str| vec![("a".to_owned(), Some((0, name.to_owned()))), ("b".to_owned(), None)];
    for name in ["shop-prod-a", "Shop-Prod-B", "shop-dev-b", "SHOP-DEV-B"] {
        let text = validate(&repository("shop", &environments, &main_cluster(), &chosen(name)));
        assert!(text.contains("error[duplicate-name]"), "{name}: {text}");
    }
    let text = validate(&repository("shop", &environments, &main_cluster(), &chosen("shop-dev-a")));
    assert!(text.contains("status 0"), "its own name: {text}");
    // Another name for the stack is none for its group.
    let stacks = vec![("x-a".to_owned(), Some((0, "Legacy".to_owned()))), ("a".to_owned(), None)];
    let folder = repository("shop", &[here("dev"), here("dev-x")], &main_cluster(), &stacks);
    let text = validate(&folder);
    assert!(text.contains("are both called `shop-dev-x-a` as an autoscaling group"), "{text}");
}

/// Names of few letters, so that many come to the same.
fn short() -> impl Strategy<Value = String> {
    "[ab](-[ab]){0,2}|[ab]{1,2}|[a-f][0-9a-f]{15}|a{38,40}"
}

/// A pattern of IAM, as IAM reads it.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            (0..=text.len()).filter(|at| text.is_char_boundary(*at)).any(|at| fits(rest, &text[at..]))
        }),
    }
}

/// Every resource that a rendered group's role allows something of, with AWS's own variables filled in.
fn patterns(stack: &RenderedStack, region: &str) -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if text.starts_with("arn:") => found.push(text.clone()),
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            Value::Object(entries) => entries.values().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let document = repo::document::read(&stack.template).expect("a template");
    let mut found = Vec::new();
    collect(&document["Resources"]["Role"]["Properties"]["Policies"], &mut found);
    let filled = found.into_iter().map(|text| {
        text.replace("${AWS::Partition}", "aws")
            .replace("${AWS::Region}", region)
            .replace("${AWS::AccountId}", ACCOUNT)
    });
    filled.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_validate_accepts_has_no_two_names_alike_and_none_in_another_s_pattern(
        project in short(),
        environments in proptest::collection::btree_set(short(), 1..4),
        regions in proptest::collection::vec(prop_oneof!["eu-west-1", "us-gov-west-1"], 4),
        clusters in proptest::collection::btree_set(short(), 1..3),
        stacks in proptest::collection::btree_map(
            short(),
            proptest::option::weighted(0.2, (0..4usize, "[AaBb]-[ab]-[ab]")),
            1..4,
        ),
    ) {
        let environments: Vec<_> =
            environments.into_iter().zip(regions).map(|(name, region)| (name, region, None)).collect();
        let clusters: Vec<String> = clusters.into_iter().collect();
        let stacks: Vec<_> = stacks.into_iter().collect();
        let folder = repository(&project, &environments, &clusters, &stacks);
        let (problems, _) = repo::check_with(folder.path(), &|_| None);
        let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
        prop_assert!(errors.iter().all(|error| error.code == "duplicate-name"), "{:?}", errors);
        if !errors.is_empty() {
            return Ok(());
        }
        let (repository, _) = repo::load_with(folder.path(), &|_| None).finish().expect("no error");
        // Every name, in what it must be unique in, and whose it is.
        let mut names: BTreeMap<(String, String), String> = BTreeMap::new();
        // Everything that a role may be allowed to touch, and the environment and stack that it belongs to.
        let mut resources: Vec<(String, String)> = Vec::new();
        let mut allowed: Vec<(String, String, Vec<String>)> = Vec::new();
        for environment in &repository.environments {
            let (name, cluster) = (environment.name.as_str(), environment.cluster.as_str());
            let region = environment.region.shown();
            let bucket = bucket::name(&project, ACCOUNT, region);
            let mut unique = |space: String, text: String, whose: &str| {
                let folded = text.to_ascii_lowercase();
                match names.insert((space.clone(), folded), whose.to_owned()) {
                    Some(other) => Err(TestCaseError::fail(format!("{space} {text}: {other} and {whose}"))),
                    None => Ok(()),
                }
            };
            let parameters = prefix(&project, name, cluster);
            unique(format!("parameters {region}"), parameters.clone(), name)?;
            unique(format!("objects {bucket}"), lock::key(name), name)?;
            let records = records::prefix(&repository.project, name, cluster);
            let audit = audit::folder(&project, name, cluster);
            unique(format!("objects {bucket}"), records.clone(), name)?;
            unique(format!("objects {bucket}"), audit.clone(), name)?;
            for below in ["control/i-1", "founding/1", "access", "join-token/worker"] {
                let arn = format!("arn:aws:ssm:{region}:{ACCOUNT}:parameter{parameters}/{below}");
                resources.push((name.to_owned(), arn));
            }
            for key in [lock::key(name), format!("{records}web.json"), format!("{audit}2026-11-28/x.ndjson")] {
                resources.push((name.to_owned(), format!("arn:aws:s3:::{bucket}/{key}")));
            }
            for stack in repo::render(&repository, environment).expect("no error") {
                let usual = repository.cloud_name(&environment.name, &stack.name);
                let whose = format!("{name}/{}", stack.name);
                unique(format!("stacks {region}"), stack.cloud_name.clone(), &whose)?;
                unique(format!("groups {region}"), usual.clone(), &whose)?;
                prop_assert!(usual.len() <= 128 && stack.cloud_name.len() <= 128, "AWS takes no longer ones");
                prop_assert!(stack.template.contains(&usual), "its group has the usual name");
                resources.push((
                    whose.clone(),
                    format!("arn:aws:autoscaling:{region}:{ACCOUNT}:autoScalingGroup:0-1:autoScalingGroupName/{usual}"),
                ));
                allowed.push((name.to_owned(), whose, patterns(&stack, region)));
            }
        }
        for (environment, stack, patterns) in &allowed {
            prop_assert!(!patterns.is_empty());
            for pattern in patterns.iter().filter(|pattern| !pattern.contains(":kms:")) {
                for (whose, resource) in &resources {
                    let own = whose == environment || whose == stack;
                    prop_assert!(own || !fits(pattern, resource), "{stack} may touch {resource}: {pattern}");
                }
            }
        }
    }
}
