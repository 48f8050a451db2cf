//! What the shipped roles of machines may do: everything that their agent calls, and nothing else.
//!
//! The calls are read from the source, so that a new one fails here until it is listed with the roles that
//! make it. The policies are those that the shipped templates render.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleetwright::event::Events;
use fleetwright::local::{home::Home, venv};
use fleetwright::model::published::PublishedAgent;
use fleetwright::repo;
use serde_json::{Value, json};
use syn::visit::Visit;

use crate::support::lab::{copy_infra, home, root};

mod iam;

use iam::{Request, Statement};

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";

/// The roles of machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Control,
    Worker,
}

use Role::{Control, Worker};

/// Both of them.
const MACHINES: &[Role] = &[Control, Worker];

/// Where the traits of AWS are used on machines, and where elsewhere. A file that is in neither is a failure.
const ON_MACHINES: &[&str] = &[
    "adapter/cluster_api.rs",
    "adapter/cluster_api/recovery.rs",
    "adapter/registry_access.rs",
    "cli/cmd/agent.rs",
    "cli/cmd/agent/etcd.rs",
    "cli/cmd/agent/rights.rs",
    "driver/access.rs",
    "driver/agent.rs",
    "driver/agent/desired.rs",
    "driver/agent/identity.rs",
    "driver/agent/membership.rs",
    "driver/agent/reboot.rs",
    "driver/agent/upkeep.rs",
    "driver/audit.rs",
    "driver/etcd.rs",
    "driver/members.rs",
    "driver/notify.rs",
    "driver/rendezvous.rs",
];
const ELSEWHERE: &[&str] = &[
    "driver/deploy.rs",
    "adapter/aws.rs",
    "adapter/aws/bucket.rs",
    "adapter/aws/bucket/backups.rs",
    "adapter/aws/bucket/keys.rs",
    "adapter/aws/cloud.rs",
    "adapter/aws/groups.rs",
    "adapter/aws/parameters.rs",
    "adapter/aws/records.rs",
    // They read the credentials for pushing and the secrets of builds, on behalf of `serve`.
    "adapter/docker_build.rs",
    "adapter/registry.rs",
    "cli/cmd/agent/publish.rs",
    "cli/cmd/audit.rs",
    "cli/cmd/roll.rs",
    "cli/context/cluster.rs",
    "cli/later.rs",
    "cli/pipelines.rs",
    "cli/published.rs",
    "cli/stacks.rs",
    "driver/drift.rs",
    "driver/later.rs",
    "driver/lock.rs",
    "driver/plan.rs",
    "driver/public.rs",
    "driver/roll.rs",
    "adapter/commit_statuses.rs",
    "driver/pipeline/notices.rs",
    "cli/cmd/serve.rs",
    "cli/cmd/serve/alone.rs",
    "cli/cmd/serve/backup.rs",
    "cli/cmd/serve/restore.rs",
    "cli/cmd/serve/setup.rs",
    "server/hooks.rs",
    // What they call so is something else: archives of tar, and what runs are given.
    "adapter/backup_files.rs",
    "adapter/step_containers/collect.rs",
    "adapter/step_containers/kept.rs",
    // The secrets of a run on somebody's own computer are those that its command was given.
    "adapter/local_run.rs",
    "cli/cmd/pipeline/local.rs",
    "driver/pipeline/config.rs",
    "driver/pipeline/request.rs",
    "server/pipeline_api.rs",
];

/// What fields and variables are named that hold one of the traits.
const RECEIVERS: &[&str] = &["groups", "parameters", "store", "records", "archive"];

/// A call of a trait's method on a machine: the receiver and method, the first text among its arguments (or the
/// file, where there is none), the roles that make it, and what it names below the cluster's prefix.
type Use = (&'static str, &'static str, &'static [Role], &'static [&'static str]);

/// Every call that the agent makes.
const USES: &[Use] = &[
    ("groups.groups", "driver/agent.rs", MACHINES, &[]),
    ("groups.groups", "driver/agent/membership.rs", MACHINES, &[]),
    ("groups.groups", "driver/agent/reboot.rs", MACHINES, &[]),
    ("groups.groups", "driver/etcd.rs", &[Control], &[]),
    ("groups.groups", "driver/members.rs", &[Control], &[]),
    ("groups.group", "driver/agent.rs", MACHINES, &[]),
    ("groups.group", "driver/agent/identity.rs", MACHINES, &[]),
    ("groups.termination_hooks", "driver/agent.rs", MACHINES, &[]),
    ("groups.complete_lifecycle", "driver/agent.rs", MACHINES, &[]),
    ("groups.heartbeat", "driver/agent.rs", MACHINES, &[]),
    ("parameters.get", "adapter/cluster_api.rs", &[Control], &["ca-cert", "api-token"]),
    ("parameters.get", "adapter/cluster_api.rs", &[Worker], &["ca-cert", "worker-token"]),
    ("parameters.get", "adapter/registry_access.rs", MACHINES, &["/fleetwright/registry"]),
    ("parameters.get", "driver/agent.rs", &[Control], &["ca-cert", "ca-key", "api-token"]),
    ("parameters.get", "driver/agent/upkeep.rs", &[Control], &["control/i-1"]),
    ("parameters.get", "driver/notify.rs", &[Control], &["notify", "notified"]),
    ("parameters.get", "driver/rendezvous.rs", &[Control], &["initialiser", "etcd/initialiser"]),
    ("parameters.get", "join-token/manager", &[Control], &["join-token/manager"]),
    ("parameters.get", "join-token/{role}", &[Control], &["join-token/manager", "join-token/worker"]),
    ("parameters.get", "join-token/{role}", &[Worker], &["join-token/worker"]),
    ("parameters.get", "restored/{generation}", &[Control], &["restored/1"]),
    ("parameters.get", "worker-token", &[Control], &["worker-token"]),
    ("parameters.get", "{}/{PARAMETER}", &[Control], &["access"]),
    ("parameters.list", "adapter/cluster_api.rs", MACHINES, &["control"]),
    ("parameters.list", "control", MACHINES, &["control"]),
    ("parameters.list", "{prefix}/control", MACHINES, &["control"]),
    ("parameters.list", "driver/rendezvous.rs", &[Worker], &["founding"]),
    ("parameters.list", "driver/rendezvous.rs", &[Control], &["founding", "etcd/founding"]),
    ("parameters.list", "members", &[Control], &["members"]),
    ("parameters.list", "etcd/members", &[Control], &["etcd/members"]),
    ("parameters.list", "{}/{FOLDER}", &[Control], &["tokens"]),
    ("parameters.create_if_absent", "driver/access.rs", &[Control], &["tokens/ci"]),
    (
        "parameters.create_if_absent",
        "driver/rendezvous.rs",
        &[Control],
        &["founding/1", "etcd/founding/1", "restored/1"],
    ),
    (
        "parameters.put",
        "driver/agent.rs",
        &[Control],
        &["ca-cert", "ca-key", "api-token", "worker-token", "join-token/worker", "join-token/manager"],
    ),
    ("parameters.put", "driver/agent/upkeep.rs", &[Control], &["control/i-1"]),
    ("parameters.put", "driver/notify.rs", &[Control], &["notified"]),
    ("parameters.put", "driver/etcd.rs", &[Control], &["etcd/members/i-1"]),
    (
        "parameters.put",
        "driver/rendezvous.rs",
        &[Control],
        &["initialiser", "members/i-1/18a", "join-token/worker", "join-token/manager"],
    ),
    ("parameters.delete", "control/{machine}", &[Control], &["control/i-2"]),
    ("parameters.delete", "driver/access.rs", &[Control], &["tokens/ci"]),
    ("parameters.delete", "driver/agent.rs", &[Control], &["control/i-1"]),
    ("parameters.delete", "etcd/members/{machine}", &[Control], &["etcd/members/i-2"]),
    ("parameters.delete", "members/{machine}/{key}", &[Control], &["members/i-2/18a"]),
    ("records.read", "driver/agent/desired.rs", &[Control], &[]),
    ("records.write", "driver/agent/desired.rs", &[Control], &[]),
    ("archive.create", "driver/audit.rs", &[Control], &[]),
];

/// Parameters that are encrypted; a parameter without a secret needs no key.
const ENCRYPTED: &[&str] = &[
    "ca-key",
    "api-token",
    "worker-token",
    "join-token/worker",
    "join-token/manager",
    "/fleetwright/registry",
];

/// What records and archive come down to in the project's bucket: action, key, and what is known besides.
fn bucket_requests() -> Vec<Request> {
    let service = bucket("shop", "/clusters/shop/prod/c/services/web.json");
    vec![
        Request::new("s3:GetObject", &service),
        Request::new("s3:PutObject", &service),
        Request::new("s3:ListBucket", &bucket("shop", ""))
            .with("s3:prefix", "clusters/shop/prod/c/services/"),
        Request::new("s3:PutObject", &bucket("shop", "/audit/shop/prod/c/1")).with("s3:if-none-match", "*"),
    ]
}

fn arn(service: &str, resource: &str) -> String {
    let global = service == "s3";
    let (region, account) = if global { ("", "") } else { (REGION, ACCOUNT) };
    format!("arn:aws:{service}:{region}:{account}:{resource}")
}

fn parameter(name: &str) -> String {
    let full =
        if name.starts_with('/') { name.to_owned() } else { format!("/fleetwright/shop/prod/c/{name}") };
    arn("ssm", &format!("parameter{full}"))
}

fn group(name: &str) -> String {
    arn(
        "autoscaling",
        &format!("autoScalingGroup:930d940e-891e-4781-a11a-7b0acd480f03:autoScalingGroupName/{name}"),
    )
}

fn bucket(project: &str, key: &str) -> String {
    arn("s3", &format!("fleetwright-{project}-{ACCOUNT}-{REGION}{key}"))
}

/// An agent that was published.
fn agent() -> PublishedAgent {
    PublishedAgent {
        version: "1.4.0".parse().expect("a version"),
        sha256: "0a".repeat(32).parse().expect("a checksum"),
    }
}

/// A role of the account, with its path.
fn iam_role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// The group of a role's machines.
fn own_group(role: Role) -> &'static str {
    match role {
        Control => "shop-prod-control",
        Worker => "shop-prod-workers",
    }
}

/// What the key service is asked for a parameter that is encrypted.
fn key(action: &str, parameter: &str) -> Request {
    Request::new(action, &arn("kms", "key/1234abcd-12ab-34cd-56ef-1234567890ab"))
        .with("kms:ViaService", &format!("ssm.{REGION}.amazonaws.com"))
        .with("kms:EncryptionContext:PARAMETER_ARN", parameter)
}

/// The statements of each role, as the shipped templates render them.
fn policies() -> BTreeMap<Role, Vec<Statement>> {
    let folder = tempfile::tempdir().expect("a folder");
    copy_infra(folder.path());
    let file = folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&file).expect("it was copied");
    let project = text.lines().find(|line| line.starts_with("project: ")).expect("a project").to_owned();
    let text = text.replace(&project, "project: shop").replace("\n  local:\n", "\n  prod:\n");
    let text = text.replace("cluster: main", "cluster: c").replace("\n  main:\n", "\n  c:\n");
    std::fs::write(&file, text).expect("written");
    let loaded = repo::load_with(folder.path(), &|_| None);
    let (repository, _) = loaded.finish().unwrap_or_else(|problems| panic!("{problems:#?}"));
    let environment = repository.environment("prod").expect("the environment");
    let stacks = repo::render(&repository, environment).unwrap_or_else(|problems| panic!("{problems:#?}"));
    let of = |name: &str| {
        let stack = stacks.iter().find(|stack| stack.name.as_str() == name).expect("the stack");
        let document = repo::document::read(&stack.template).expect("a template");
        let policies =
            document["Resources"]["Role"]["Properties"]["Policies"].as_array().expect("policies").clone();
        let statements =
            policies.iter().flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array().cloned());
        statements.flatten().map(|statement| Statement::read(&substituted(&statement))).collect()
    };
    BTreeMap::from([(Control, of("control")), (Worker, of("workers"))])
}

/// A part of a template with its pseudo parameters filled in.
fn substituted(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get("Fn::Sub").and_then(Value::as_str) {
            Some(text) => {
                let text = text
                    .replace("${AWS::Partition}", "aws")
                    .replace("${AWS::Region}", REGION)
                    .replace("${AWS::AccountId}", ACCOUNT);
                assert!(!text.contains("${"), "{text}");
                text.into()
            }
            None => map
                .iter()
                .map(|(key, value)| (key.clone(), substituted(value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        },
        Value::Array(items) => items.iter().map(substituted).collect(),
        other => other.clone(),
    }
}

/// Every request that a role's agent makes of AWS.
fn requests(role: Role) -> Vec<Request> {
    let operations = operations();
    let mut requests = Vec::new();
    for (call, _, _, names) in USES.iter().filter(|(_, _, roles, _)| roles.contains(&role)) {
        let (receiver, method) = call.split_once('.').expect("receiver and method");
        if !["groups", "parameters"].contains(&receiver) {
            continue;
        }
        let file = if receiver == "groups" { "groups.rs" } else { "parameters.rs" };
        let made = operations.get(&(file.to_owned(), method.to_owned()));
        let made = made.unwrap_or_else(|| panic!("{call} makes no call of AWS"));
        for operation in made {
            let action =
                format!("{}:{}", if receiver == "groups" { "autoscaling" } else { "ssm" }, camel(operation));
            if receiver == "groups" {
                let resource =
                    if operation.starts_with("describe") { "*".to_owned() } else { group(own_group(role)) };
                requests.push(Request::new(&action, &resource));
            }
            for name in *names {
                let parameter = parameter(name);
                requests.push(Request::new(&action, &parameter));
                let keys: &[&str] = match operation.as_str() {
                    "get_parameter" if ENCRYPTED.contains(name) => &["kms:Decrypt"],
                    "put_parameter" if ENCRYPTED.contains(name) => &["kms:Encrypt", "kms:GenerateDataKey"],
                    _ => &[],
                };
                requests.extend(keys.iter().map(|action| key(action, &parameter)));
            }
        }
    }
    // The machine's installer fetches the agent.
    requests.push(Request::new("s3:GetObject", &bucket("shop", &format!("/{}", agent().key()))));
    if role == Control {
        requests.extend(bucket_requests());
        // `adapter/aws/sts.rs`, for the containers of services and jobs.
        requests.push(Request::new("sts:AssumeRole", &iam_role("fleetwright/shop/prod/web")));
    }
    // A role's rights change at once, and agents when their machines are replaced: those before the founding log
    // read who founds the cluster.
    requests.push(Request::new("ssm:GetParameter", &parameter("initialiser")));
    requests
}

fn camel(operation: &str) -> String {
    operation.split('_').map(|word| format!("{}{}", word[..1].to_uppercase(), &word[1..])).collect()
}

#[test]
fn a_machine_may_do_what_its_agent_calls() {
    let policies = policies();
    for role in MACHINES {
        for request in requests(*role) {
            assert!(iam::is_allowed(&policies[role], &request), "{role:?} lacks {request:?}");
        }
    }
}

#[test]
fn a_role_grants_nothing_that_is_called_by_nobody() {
    let policies = policies();
    for role in MACHINES {
        let requests = requests(*role);
        for statement in &policies[role] {
            for action in &statement.actions {
                let one = Statement { actions: vec![action.clone()], ..statement.clone() };
                let used = requests.iter().any(|request| one.applies(request));
                assert!(
                    used,
                    "{role:?} is granted {action} on {:?}, which nobody calls",
                    statement.resources
                );
                for resource in &statement.resources {
                    let one = Statement { resources: vec![resource.clone()], ..statement.clone() };
                    assert!(
                        requests.iter().any(|request| one.applies(request)),
                        "{role:?}: {resource} is never used"
                    );
                }
            }
        }
    }
}

/// What no machine may reach, whoever is root on it.
fn forbidden(role: Role) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut add = |action: &str, resources: &[String]| {
        requests.extend(resources.iter().map(|resource| Request::new(action, resource)));
    };
    // Other groups: of another environment, project, cluster, role, and with names that begin or end alike.
    let others: Vec<String> = [
        "shop-prod-eu-control",
        "shop-prod-eu-workers",
        "shop-prod-control-2",
        "shop-prod-workers2",
        "shop-prod",
        "shop-prod-",
        "other-prod-control",
        "my-shop-prod-control",
        "x/shop-prod-control",
        "shop-prod-db",
    ]
    .iter()
    .map(|name| group(name))
    .chain([group(own_group(if role == Control { Worker } else { Control }))])
    .chain(["*".to_owned()])
    .collect();
    add("autoscaling:CompleteLifecycleAction", &others);
    add("autoscaling:RecordLifecycleActionHeartbeat", &others);
    let every: Vec<String> = others.iter().cloned().chain([group(own_group(role))]).collect();
    for action in [
        "SetInstanceHealth",
        "TerminateInstanceInAutoScalingGroup",
        "UpdateAutoScalingGroup",
        "SetDesiredCapacity",
        "SetInstanceProtection",
        "DetachInstances",
        "EnterStandby",
        "DeleteAutoScalingGroup",
        "PutLifecycleHook",
        "DeleteLifecycleHook",
        "SuspendProcesses",
        "StartInstanceRefresh",
        "CreateOrUpdateTags",
        "DeleteTags",
    ] {
        add(&format!("autoscaling:{action}"), &every);
    }
    // Other clusters' parameters, and those of whoever else uses the account.
    let foreign: Vec<String> = [
        "/fleetwright/shop/prod/c2/ca-key",
        "/fleetwright/shop/prod/c2/join-token/worker",
        "/fleetwright/shop/prod/c",
        "/fleetwright/shop/prod/d/control/i-1",
        "/fleetwright/shop/prod-eu/c/initialiser",
        "/fleetwright/shop2/prod/c/ca-cert",
        "/fleetwright/shop/prod",
        "/fleetwright/shop",
        "/fleetwright",
        "/",
        "/fleetwright/registry/push",
        "/database/password",
        "/x/fleetwright/shop/prod/c/ca-cert",
    ]
    .iter()
    .map(|name| parameter(name))
    .collect();
    for action in ["GetParameter", "GetParametersByPath", "PutParameter", "DeleteParameter"] {
        add(&format!("ssm:{action}"), &foreign);
    }
    let all: Vec<String> = [
        "initialiser",
        "ca-cert",
        "ca-key",
        "api-token",
        "worker-token",
        "join-token/worker",
        "join-token/manager",
        "control/i-1",
        "etcd/initialiser",
        "etcd/members/i-1",
        "/fleetwright/registry",
    ]
    .iter()
    .map(|name| parameter(name))
    .collect();
    for action in [
        "LabelParameterVersion",
        "AddTagsToResource",
        "GetParameterHistory",
        "GetParameters",
        "DeleteParameters",
    ] {
        add(&format!("ssm:{action}"), &all);
    }
    if role == Worker {
        for action in ["PutParameter", "DeleteParameter"] {
            add(&format!("ssm:{action}"), &all);
        }
        let secrets = ["ca-key", "api-token", "join-token/manager", "etcd/initialiser", "etcd/members/i-1"]
            .map(parameter);
        add("ssm:GetParameter", &secrets);
        // Whoever may list a path may read everything below it.
        let paths = ["", "join-token", "join-token/worker", "etcd", "etcd/members", "control/i-1"];
        add("ssm:GetParametersByPath", &paths.map(|path| parameter(path.trim_end_matches('/'))));
        add("ssm:GetParametersByPath", &[arn("ssm", "parameter/fleetwright/shop/prod/c/")]);
        requests.extend(secrets.iter().map(|name| key("kms:Decrypt", name)));
        for action in ["kms:Encrypt", "kms:GenerateDataKey"] {
            requests.push(key(action, &parameter("ca-cert")));
        }
    } else {
        let registry = [parameter("/fleetwright/registry")];
        for action in ["ssm:PutParameter", "ssm:DeleteParameter"] {
            requests.extend(registry.iter().map(|name| Request::new(action, name)));
        }
    }
    for name in &foreign {
        requests.push(key("kms:Decrypt", name));
    }
    // A key may be used through the parameter store alone.
    let direct = |service: &str| {
        key("kms:Decrypt", &parameter("ca-cert"))
            .with("kms:ViaService", &format!("{service}.{REGION}.amazonaws.com"))
    };
    requests.extend([
        direct("s3"),
        direct("secretsmanager"),
        Request::new("kms:Decrypt", &arn("kms", "key/1")),
    ]);
    requests
        .extend(["kms:CreateGrant", "kms:ReEncryptFrom"].map(|action| key(action, &parameter("ca-cert"))));
    // Records of other clusters, and what else the bucket holds: locks, and templates that are applied.
    let keys = [
        "/clusters/shop/prod/c/x",
        "/clusters/shop/prod/c2/services/x",
        // Neither read nor overwritten.
        "/audit/shop/prod/c/1",
        "/audit/shop/prod/c2/1",
        "/clusters/shop/prod-eu/c/x",
        "/clusters/shop/prod/x",
        "/locks/prod",
        "/templates/1",
        "/agent",
        "/agents/1.4.0/x",
        "/clusters/agent/x",
        "/x",
        "",
    ];
    for key in keys {
        for action in ["s3:GetObject", "s3:PutObject"] {
            requests.push(Request::new(action, &bucket("shop", key)));
        }
    }
    for project in ["shop2", "other", "shop-prod"] {
        for action in ["s3:GetObject", "s3:PutObject"] {
            requests.push(Request::new(action, &bucket(project, "/clusters/shop/prod/c/x")));
        }
        requests.push(
            Request::new("s3:ListBucket", &bucket(project, "")).with("s3:prefix", "clusters/shop/prod/c/"),
        );
    }
    // Machines read the agent that was published, and replace it nowhere.
    let published = format!("/{}", agent().key());
    for action in ["PutObject", "PutObjectAcl", "DeleteObject", "GetObjectVersion"] {
        requests.push(Request::new(&format!("s3:{action}"), &bucket("shop", &published)));
    }
    for project in ["shop2", "other", "shop-prod"] {
        requests.push(Request::new("s3:GetObject", &bucket(project, &published)));
    }
    let list = Request::new("s3:ListBucket", &bucket("shop", ""));
    let prefixes = [
        "",
        "clusters/",
        "clusters/shop/",
        "clusters/shop/prod/",
        "clusters/shop/prod/c/",
        "clusters/shop/prod/c2/services/",
        "clusters/shop/prod-eu/c/services/",
        "locks/",
        "agent/",
    ];
    requests.extend(prefixes.map(|prefix| list.clone().with("s3:prefix", prefix)));
    requests.push(list);
    for action in [
        "DeleteObject",
        "PutObjectAcl",
        "PutBucketPolicy",
        "DeleteBucket",
        "GetObjectVersion",
        "PutLifecycleConfiguration",
    ] {
        requests.push(Request::new(
            &format!("s3:{action}"),
            &bucket("shop", "/clusters/shop/prod/c/services/web.json"),
        ));
    }
    for action in [
        "iam:PassRole",
        "iam:CreateAccessKey",
        "sts:AssumeRole",
        "ec2:RunInstances",
        "ec2:TerminateInstances",
        "ec2:DescribeInstances",
        "cloudformation:UpdateStack",
        "cloudformation:GetTemplate",
        "ssm:SendCommand",
        "ssm:StartSession",
        "secretsmanager:GetSecretValue",
        "ec2:CreateTags",
    ] {
        requests.push(Request::new(action, "*"));
    }
    // Roles of other environments and projects, and those that no service is meant to have.
    let roles = [
        "shop-prod-control",
        "fleetwright/web",
        "fleetwright/shop/web",
        "fleetwright/shop/prod-eu/web",
        "fleetwright/shop2/prod/web",
        "x/fleetwright/shop/prod/web",
        "Administrator",
    ];
    requests.extend(roles.map(|name| Request::new("sts:AssumeRole", &iam_role(name))));
    let another = "arn:aws:iam::999999999999:role/fleetwright/shop/prod/web";
    requests.push(Request::new("sts:AssumeRole", another));
    if role == Worker {
        // A worker takes no role on: control machines do, for tasks that run on it.
        requests.push(Request::new("sts:AssumeRole", &iam_role("fleetwright/shop/prod/web")));
        let own = ["s3:GetObject", "s3:PutObject"]
            .map(|action| Request::new(action, &bucket("shop", "/clusters/shop/prod/c/services/web.json")));
        requests.extend(own);
        requests.push(
            Request::new("s3:ListBucket", &bucket("shop", "")).with("s3:prefix", "clusters/shop/prod/c/"),
        );
    }
    requests
}

#[test]
fn a_machine_can_do_no_more_than_its_role_needs() {
    let policies = policies();
    for role in MACHINES {
        for request in forbidden(*role) {
            assert!(!iam::is_allowed(&policies[role], &request), "{role:?} may {request:?}");
        }
    }
}

/// The verdicts of moto's own reading of policies. It knows one kind of condition only, and takes a missing key
/// for one that meets it, so that policies are read without their conditions here.
#[tokio::test]
async fn moto_reads_the_policies_as_these_tests_do() {
    let prepared = std::env::var_os("FLEETWRIGHT_HOME").is_some() || std::env::var_os("CI").is_some();
    if !prepared && !home().join("venv/bin/python").exists() {
        println!("skipped: the emulator is not installed; `make test` installs it");
        return;
    }
    // The local cloud's own environment has moto; whoever needs it first installs it.
    let python =
        venv::ensure(&Home::at(&home()), &Events::channel().0).await.expect("the emulator is installed");
    let mut policies = policies();
    policies.values_mut().flatten().for_each(Statement::drop_conditions);
    let mut cases = Vec::new();
    let mut ours = Vec::new();
    for role in MACHINES {
        for request in requests(*role).into_iter().chain(forbidden(*role)) {
            ours.push((*role, request.clone(), iam::is_allowed(&policies[role], &request)));
            cases.push(json!({
                "statements": policies[role].iter().map(Statement::json).collect::<Vec<_>>(),
                "action": request.action,
                "resource": request.resource,
            }));
        }
    }
    let mut child = Command::new(python)
        .arg(root().join("tests/localstack/policies.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Python can be run");
    let input = serde_json::to_vec(&cases).expect("JSON");
    child.stdin.take().expect("a pipe").write_all(&input).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let verdicts: Vec<bool> = serde_json::from_slice(&output.stdout).expect("its verdicts");
    assert_eq!(verdicts.len(), ours.len());
    for ((role, request, own), moto) in ours.iter().zip(verdicts) {
        assert_eq!(*own, moto, "{role:?}: {request:?}");
    }
}

/// The files below `src`, by their path there.
fn sources() -> BTreeMap<String, syn::File> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("the sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    walk(&src, &mut found);
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a source");
        let name = path.strip_prefix(&src).expect("below").to_string_lossy().into_owned();
        (name, syn::parse_file(&text).expect("it compiles"))
    };
    found.into_iter().map(read).collect()
}

/// The method calls in a file, each with the function that it is in.
#[derive(Default)]
struct Calls {
    within: Vec<String>,
    /// Function, the last name of the receiver, method, first text among the arguments.
    found: Vec<(String, String, String, Option<String>)>,
    /// Traits of AWS that are named.
    traits: BTreeSet<String>,
    /// What is called and awaited through a field or variable that is named for such a trait.
    awaited: BTreeSet<String>,
}

/// The last name of a receiver: `client` of `self.client`, and of `client!(..)`.
fn last_name(expression: &syn::Expr) -> Option<String> {
    match expression {
        syn::Expr::Field(field) => match &field.member {
            syn::Member::Named(name) => Some(name.to_string()),
            syn::Member::Unnamed(_) => None,
        },
        syn::Expr::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        syn::Expr::Macro(call) => call.mac.path.segments.last().map(|segment| segment.ident.to_string()),
        syn::Expr::MethodCall(call) if call.method == "as_ref" || call.method == "clone" => {
            last_name(&call.receiver)
        }
        syn::Expr::Reference(reference) => last_name(&reference.expr),
        syn::Expr::Paren(paren) => last_name(&paren.expr),
        _ => None,
    }
}

struct FirstText(Option<String>);

impl<'ast> Visit<'ast> for FirstText {
    fn visit_lit_str(&mut self, text: &'ast syn::LitStr) {
        self.0.get_or_insert_with(|| text.value());
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // `format!` keeps its text in tokens.
        for token in call.tokens.clone() {
            if let Ok(text) = syn::parse2::<syn::LitStr>(token.into()) {
                self.0.get_or_insert_with(|| text.value());
            }
        }
    }
}

impl<'ast> Visit<'ast> for Calls {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        // Tests in the file make calls of their own.
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.within.push(item.sig.ident.to_string());
        syn::visit::visit_item_fn(self, item);
        self.within.pop();
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.within.push(item.sig.ident.to_string());
        syn::visit::visit_impl_item_fn(self, item);
        self.within.pop();
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        if let syn::Expr::MethodCall(call) = &*expression.base
            && let Some(receiver) = last_name(&call.receiver)
            && RECEIVERS.contains(&receiver.as_str())
        {
            self.awaited.insert(format!("{receiver}.{}", call.method));
        }
        syn::visit::visit_expr_await(self, expression);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if let Some(last) = path.segments.last().map(|segment| segment.ident.to_string())
            && ["Groups", "Parameters", "Store", "Records", "Archive"].contains(&last.as_str())
        {
            self.traits.insert(last);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if let Some(receiver) = last_name(&call.receiver) {
            let mut text = FirstText(None);
            call.args.iter().for_each(|argument| text.visit_expr(argument));
            let within = self.within.last().cloned().unwrap_or_default();
            self.found.push((within, receiver, call.method.to_string(), text.0));
        }
        syn::visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // `tokio::try_join!` and the like hold expressions, separated by commas.
        let parser = syn::punctuated::Punctuated::<syn::Expr, syn::Token![,]>::parse_terminated;
        if let Ok(expressions) = syn::parse::Parser::parse2(parser, call.tokens.clone()) {
            expressions.iter().for_each(|expression| self.visit_expr(expression));
        }
    }
}

impl Calls {
    fn of(file: &syn::File) -> Self {
        let mut calls = Self::default();
        calls.visit_file(file);
        calls
    }
}

/// The operations of AWS that each function of the adapters calls, directly or through another of its file.
fn operations() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut operations: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (name, file) in sources() {
        let Some(name) = name.strip_prefix("adapter/aws/") else { continue };
        let calls = Calls::of(&file);
        let functions: BTreeSet<&String> = calls.found.iter().map(|(within, ..)| within).collect();
        let mut within: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut inner: Vec<(String, String)> = Vec::new();
        for (function, receiver, method, _) in &calls.found {
            if receiver == "client" {
                within.entry(function.clone()).or_default().insert(method.clone());
            } else if receiver == "self" && functions.contains(method) {
                inner.push((function.clone(), method.clone()));
            }
        }
        for _ in 0..inner.len() {
            for (outer, called) in &inner {
                let more = within.get(called).cloned().unwrap_or_default();
                within.entry(outer.clone()).or_default().extend(more);
            }
        }
        operations.extend(within.into_iter().map(|(function, made)| ((name.to_owned(), function), made)));
    }
    operations
}

#[test]
fn the_list_of_calls_is_that_of_the_source() {
    let mut unlisted = BTreeSet::new();
    let mut stale: BTreeSet<(&str, &str)> = USES.iter().map(|(call, what, ..)| (*call, *what)).collect();
    for (name, file) in sources() {
        let module = name.split('/').next().unwrap_or_default();
        let is_test = ["tests.rs", "fake.rs"].iter().any(|end| name.ends_with(end));
        // The other modules do no I/O, which tests/architecture.rs holds.
        if is_test || !["adapter", "cli", "driver", "local", "server"].contains(&module) {
            continue;
        }
        // An archive of git is another thing.
        let calls = Calls::of(&file);
        if (calls.traits.is_empty() && calls.awaited.is_empty()) || name == "adapter/git.rs" {
            continue;
        }
        if !ON_MACHINES.contains(&name.as_str()) {
            if !ELSEWHERE.contains(&name.as_str()) {
                let what = calls.traits.iter().chain(&calls.awaited).collect::<Vec<_>>();
                unlisted.insert(format!("{name} uses {what:?}: is it on machines?"));
            }
            continue;
        }
        for (_, receiver, method, text) in &calls.found {
            if !RECEIVERS.contains(&receiver.as_str()) {
                continue;
            }
            // What a list of groups or parameters is asked.
            if ["iter", "clone", "as_ref", "is_empty", "len", "into_iter"].contains(&method.as_str()) {
                continue;
            }
            let call = format!("{receiver}.{method}");
            let what = text.as_deref().unwrap_or(&name);
            stale.retain(|(known, at)| (*known, *at) != (call.as_str(), what));
            if !USES.iter().any(|(known, at, ..)| (*known, *at) == (call.as_str(), what)) {
                unlisted.insert(format!("{name}: {call} of `{what}`"));
            }
        }
    }
    assert!(unlisted.is_empty(), "say which roles make these calls, in USES: {unlisted:#?}");
    assert!(stale.is_empty(), "nobody makes these calls: {stale:#?}");
}
