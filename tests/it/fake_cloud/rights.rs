//! docs/provisioning.md says what each command may call in AWS. Here each command is run in all its ways, and what it
//! calls is compared with that table: a call that is not in it fails, and so does a right that nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use super::{CONFIRM, Lab, TEMPLATE};
use crate::support::fake_aws::When;

/// The IAM action that allows a call.
fn right(call: &str) -> String {
    let service = match call {
        "HeadBucket" | "ListObjectsV2" => return "s3:ListBucket".to_owned(),
        "PutBucketEncryption" => return "s3:PutEncryptionConfiguration".to_owned(),
        "PutPublicAccessBlock" => return "s3:PutBucketPublicAccessBlock".to_owned(),
        "GetObject" | "PutObject" | "CreateBucket" | "GetBucketPolicy" | "PutBucketPolicy" => "s3",
        "GetParameter" | "PutParameter" | "DeleteParameter" | "GetParametersByPath" => "ssm",
        "GetCallerIdentity" => "sts",
        "DescribeLaunchTemplateVersions" => "ec2",
        call if call.contains("AutoScalingGroup") || call.contains("Tags") || call.contains("Lifecycle") => {
            "autoscaling"
        }
        _ => "cloudformation",
    };
    format!("{service}:{call}")
}

/// The table of the document: the rights by command.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let text = include_str!("../../../docs/provisioning.md");
    let (_, section) = text.split_once("## What each command may do in AWS").expect("the section");
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let mut table = BTreeMap::new();
    for row in rows {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let command = cells.next().unwrap_or_default().trim_matches('`').to_owned();
        let rights =
            cells.next().unwrap_or_default().split(", ").map(|right| right.trim_matches('`').to_owned());
        table.insert(command, rights.collect());
    }
    table
}

const PROJECT: &str = "project: shop\naccess:\n  admin: [role/boss]\nenvironments:\n  local:\n    region: eu-west-1\n    \
                       account: \"123456789012\"\n    cluster: main\nclusters:\n  main:\n    engine: swarm\n";

/// A template with a launch template in it, which `drift` asks EC2 about.
fn with_launch_template() -> String {
    TEMPLATE.replace(
        "Outputs:",
        "  Machines:\n    Type: AWS::EC2::LaunchTemplate\n    Properties:\n      LaunchTemplateData:\n        ImageId: ami-0a1b2c3d\nOutputs:",
    )
}

const POLICY: &str = "db:\n  template: db.yaml\n  protect: true\n  policy:\n    Statement:\n      - {Effect: Allow, Principal: \"*\", Action: \"Update:*\", Resource: \"*\"}\n";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("fleetwright.yaml", PROJECT);
    lab.write("templates/cloudformation/db.yaml", &with_launch_template());
    lab
}

/// What a command called since the last time.
fn calls(lab: &Lab) -> BTreeSet<String> {
    lab.aws.take_calls().keys().map(|call| right(call)).collect()
}

/// Runs `prepare`, then the command, and adds what that called.
fn tried(found: &mut BTreeMap<String, BTreeSet<String>>, lab: &Lab, arguments: &[&str]) {
    lab.aws.take_calls();
    let _ = lab.run(arguments);
    found.entry(arguments[0].to_owned()).or_default().extend(calls(lab));
}

#[test]
fn every_command_calls_what_the_document_says_and_nothing_else() {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let large = "# a line that makes the template larger than a request may be\n".repeat(1000);

    // From nothing, through updates of every kind, to nothing.
    let lab = lab();
    for command in [&["plan"][..], &["apply", "-y"], &["plan"], &["drift"]] {
        tried(&mut found, &lab, command);
    }
    lab.edit("DelaySeconds: 5", "DelaySeconds: 6");
    lab.write("stacks/all.yaml", POLICY);
    for command in [&["plan"][..], &["apply", "-y"], &["drift"]] {
        tried(&mut found, &lab, command);
    }
    lab.edit("Outputs:", &format!("{large}Outputs:"));
    lab.edit("DelaySeconds: 6", "DelaySeconds: 7");
    for command in [&["plan"][..], &["apply", "-y"]] {
        tried(&mut found, &lab, command);
    }
    lab.write("stacks/all.yaml", "db:\n  template: db.yaml\n  protect: false\n");
    lab.write("fleetwright.yaml", &PROJECT.replace("access:\n  admin: [role/boss]\n", ""));
    tried(&mut found, &lab, &["apply", "-y"]);
    tried(&mut found, &lab, &["destroy", "-y"]);

    // An export that goes.
    let lab = self::lab();
    lab.edit("Outputs:\n", "Outputs:\n  Queue:\n    Value: !Ref Queue\n    Export: {Name: shop-queue}\n");
    lab.ends(&["apply", "-y"], 0);
    lab.edit("    Export: {Name: shop-queue}\n", "");
    for command in [&["plan"][..], &["apply", "-y"]] {
        tried(&mut found, &lab, command);
    }

    // What fails, and what is brought back to rest.
    let lab = self::lab();
    lab.aws.fail("shop-local-db", "Queue", When::Create, "it fails");
    tried(&mut found, &lab, &["apply", "-y"]);
    lab.aws.mend();
    tried(&mut found, &lab, &[&["recover", "db", "-y"][..], &CONFIRM[..]].concat());
    lab.ends(&["apply", "-y"], 0);
    lab.aws.put_into("shop-local-db", "REVIEW_IN_PROGRESS");
    tried(&mut found, &lab, &["plan"]);
    tried(&mut found, &lab, &["recover", "db", "-y"]);
    tried(&mut found, &lab, &["apply", "-y"]);
    lab.edit("DelaySeconds: 5", "DelaySeconds: 6");
    lab.aws.fail("shop-local-db", "Queue", When::Update, "it fails");
    lab.aws.fail("shop-local-db", "Queue", When::Rollback, "it fails");
    tried(&mut found, &lab, &["apply", "-y"]);
    tried(&mut found, &lab, &["recover", "db", "-y"]);
    lab.aws.mend();
    tried(&mut found, &lab, &["recover", "db", "-y"]);
    lab.aws.fail("shop-local-db", "Queue", When::Delete, "it fails");
    tried(&mut found, &lab, &["destroy", "-y"]);
    tried(&mut found, &lab, &[&["recover", "db", "-y", "--retain", "Queue"][..], &CONFIRM[..]].concat());
    for (status, name) in [("UPDATE_FAILED", "db"), ("REVIEW_IN_PROGRESS", "db")] {
        let lab = self::lab();
        lab.ends(&["apply", "-y", "--no-lock"], 0);
        lab.aws.put_into("shop-local-db", status);
        tried(&mut found, &lab, &["recover", name, "-y"]);
    }

    // A stack of another tool, and one that the repository no longer has.
    let lab = self::lab();
    lab.ends(&["apply", "-y"], 0);
    lab.write("stacks/all.yaml", "{}\n");
    tried(&mut found, &lab, &["adopt", "shop-local-db", "--as", "taken"]);
    let lab = self::lab();
    lab.ends(&["apply", "-y"], 0);
    lab.write("stacks/all.yaml", "{}\n");
    tried(&mut found, &lab, &["apply", "-y", "--prune"]);
    // Where neither the bucket nor anything known of the stack is there yet.
    for command in [&["destroy", "-y"][..], &["plan"], &["apply", "-y"]] {
        let lab = self::lab();
        lab.ends(&["apply", "-y", "--no-lock"], 0);
        lab.edit("DelaySeconds: 5", "DelaySeconds: 6");
        if command[0] == "plan" {
            lab.edit("Outputs:", &format!("{large}Outputs:"));
        } else if command[0] == "apply" {
            lab.write("stacks/all.yaml", POLICY);
        }
        tried(&mut found, &lab, command);
    }
    let lab = self::lab();
    lab.ends(&["apply", "-y", "--no-lock"], 0);
    lab.aws.put_into("shop-local-db", "CREATE_FAILED");
    tried(&mut found, &lab, &[&["recover", "db", "-y"][..], &CONFIRM[..]].concat());
    let lab = self::lab();
    lab.ends(&["apply", "-y", "--no-lock"], 0);
    lab.aws.put_into("shop-local-db", "REVIEW_IN_PROGRESS");
    tried(&mut found, &lab, &["apply", "-y"]);

    // The agent. The second time it is there.
    let lab = self::lab();
    std::fs::write(lab.path("agent"), b"\x7fELF").expect("written");
    for _ in 0..2 {
        tried(&mut found, &lab, &["agent", "publish", "--file", "agent", "--release", "1.4.0"]);
    }

    // What exists is taken into a stack: the fake AWS serves no import beyond its first calls. An apply with the lock
    // leaves its record, which is read.
    for apply in [&["apply", "-y", "--no-lock"][..], &["apply", "-y"]] {
        let lab = self::lab();
        lab.ends(apply, 0);
        lab.edit("Outputs:", "  Taken:\n    Type: AWS::SNS::Topic\n    DeletionPolicy: Retain\nOutputs:");
        tried(&mut found, &lab, &["import", "db", "-y", "Taken=arn:aws:sns:eu-west-1:123456789012:t"]);
    }

    let documented = documented();
    let mut wrong = Vec::new();
    for (command, called) in &found {
        let allowed = documented.get(command).cloned().unwrap_or_default();
        let missing: Vec<_> = called.difference(&allowed).cloned().collect();
        if !missing.is_empty() {
            wrong.push(format!("`{command}` calls what the table lacks: `{}`", missing.join("`, `")));
        }
        let unused: Vec<_> = allowed
            .difference(called)
            .filter(|right| !UNTRIED.contains(&(command.as_str(), right.as_str())))
            .cloned()
            .collect();
        if !unused.is_empty() {
            wrong.push(format!("`{command}` was given what it did not call: `{}`", unused.join("`, `")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rights that the fake AWS has no use for: change sets never fail there for a reason that only `DescribeEvents` gives,
/// drift detection is not served, and no import is carried out.
const UNTRIED: &[(&str, &str)] = &[
    ("adopt", "cloudformation:DescribeEvents"),
    ("apply", "cloudformation:DescribeEvents"),
    ("destroy", "cloudformation:DescribeEvents"),
    ("drift", "cloudformation:DescribeStackDriftDetectionStatus"),
    ("drift", "cloudformation:DescribeStackResourceDrifts"),
    ("import", "cloudformation:DeleteChangeSet"),
    ("import", "cloudformation:DescribeEvents"),
    ("plan", "cloudformation:DescribeEvents"),
    ("recover", "cloudformation:DescribeEvents"),
];

/// Calls that only machines and `audit` make, or that only make a message say more.
const OF_OTHERS: &[&str] = &[
    "autoscaling:CompleteLifecycleAction",
    "autoscaling:DescribeLifecycleHooks",
    "autoscaling:RecordLifecycleActionHeartbeat",
    "s3:ListBucket",
    "ssm:GetParametersByPath",
];

#[test]
fn every_call_of_the_source_is_in_the_document() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/adapter/aws");
    let mut files = vec![folder.with_extension("rs")];
    for entry in std::fs::read_dir(&folder).expect("the adapter").flatten() {
        files.push(entry.path());
    }
    let text: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    let documented: BTreeSet<String> = documented().into_values().flatten().collect();
    let clients = ["client", "s3", "cloudformation", "sts"];
    let mut called = BTreeSet::new();
    for (at, _) in text.match_indices("()") {
        let name =
            text[..at].rsplit(|c: char| !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit()).next();
        let name = name.unwrap_or_default();
        let before = text[..at - name.len()].trim_end_matches(['.', ' ', '\n']);
        let verbs = [
            "describe_",
            "list_",
            "get_",
            "put_",
            "create_",
            "delete_",
            "execute_",
            "update_",
            "set_",
            "continue_",
            "rollback_",
            "detect_",
            "head_",
            "terminate_",
            "complete_",
            "record_",
        ];
        let is_client = clients.iter().any(|client| before.ends_with(client)) || before.ends_with(')');
        if is_client && verbs.iter().any(|verb| name.starts_with(verb)) && name.contains('_') {
            let camel: String = name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
            called.insert(right(&camel));
        }
    }
    assert!(called.len() > 25, "the source was not read: {called:?}");
    let unlisted: Vec<&String> = called
        .iter()
        .filter(|right| !documented.contains(*right) && !OF_OTHERS.contains(&right.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "docs/provisioning.md has no command that may do {unlisted:?}");
}
