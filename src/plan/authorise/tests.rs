//! Every operation, asked by everybody.

use super::*;
use crate::model::machine::Role;

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

fn worker(name: &str) -> Principal {
    Principal::Machine { instance: id(name), role: Role::Worker }
}

fn person() -> Principal {
    Principal::Person { arn: "arn:aws:iam::1:user/ann".into(), session: None }
}

/// Targets of every kind; the first two are machine `i-1`'s own.
fn targets() -> Vec<Target> {
    vec![
        Target::Machines(vec![id("i-1")]),
        Target::Task { id: "t1".into(), machine: Some(id("i-1")) },
        Target::Task { id: "t2".into(), machine: Some(id("i-2")) },
        Target::Task { id: "t3".into(), machine: None },
        Target::Machines(vec![]),
        Target::Machines(vec![id("i-2")]),
        Target::Machines(vec![id("i-1"), id("i-2")]),
        Target::Service("web".parse().expect("a name")),
        Target::Job("report".parse().expect("a name")),
        Target::Token("ci".parse().expect("a name")),
        Target::Cluster,
    ]
}

/// Operations that no row is about, or that every machine needs before it is known.
fn unjudged(operation: Operation) -> bool {
    matches!(operation, Operation::Identify | Operation::Standing | Operation::Turn)
}

#[test]
fn a_machine_in_doubt_may_ask_whether_it_is_a_member() {
    let address = "10.0.0.1".parse().expect("an address");
    let former = Principal::FormerWorker { instance: None, address };
    assert!(may(&worker("i-1"), None, Operation::Standing, &Target::Cluster));
    // A certificate says which machine asks, so nobody takes the turn of another.
    let [own, others] = ["i-1", "i-2"].map(|name| Target::Machines(vec![id(name)]));
    assert!(may(&worker("i-1"), None, Operation::Turn, &own));
    assert!(!may(&worker("i-1"), None, Operation::Turn, &others));
    // Workers of the version before never ask for either.
    for operation in [Operation::Standing, Operation::Turn] {
        assert!(!may(&former, None, operation, &own), "{operation:?}");
    }
    for operation in [Operation::Standing, Operation::Turn] {
        assert!(!may(&person(), Some(Level::Admin), operation, &own), "{operation:?}");
    }
}

fn may(principal: &Principal, level: Option<Level>, operation: Operation, target: &Target) -> bool {
    authorise(&Asked { principal, level, operation, target }).is_ok()
}

#[test]
fn a_machine_does_what_concerns_itself_and_nothing_else() {
    let own = [
        Operation::Drain,
        Operation::Register,
        Operation::ReportUnhealthy,
        Operation::EngineGone,
        Operation::Ports,
        Operation::Pressure,
        Operation::EngineBack,
        Operation::RebootState,
        Operation::RebootAsk,
        Operation::RebootReturn,
        Operation::Permit,
        Operation::TaskCredentials,
        Operation::UnitTasks,
        Operation::HostFileFeed,
        Operation::HostFileReport,
        Operation::EtcdClient,
    ];
    for role in [Role::Worker, Role::Control] {
        let machine = Principal::Machine { instance: id("i-1"), role };
        for operation in Operation::ALL.iter().filter(|one| !unjudged(**one)) {
            for (at, target) in targets().iter().enumerate() {
                let wanted = at < 2 && own.contains(operation);
                // No level makes a machine more than it is.
                for level in [None, Some(Level::Admin)] {
                    assert_eq!(may(&machine, level, *operation, target), wanted, "{operation:?} {target}");
                }
            }
        }
    }
}

#[test]
fn a_former_worker_can_leave_and_no_more() {
    let leaving =
        [Operation::Drain, Operation::ReportUnhealthy, Operation::RebootState, Operation::RebootReturn];
    let address = "10.0.0.1".parse().expect("an address");
    let known = Principal::FormerWorker { instance: Some(id("i-1")), address };
    let unknown = Principal::FormerWorker { instance: None, address };
    for operation in Operation::ALL.iter().filter(|one| !unjudged(**one)) {
        for (at, target) in targets().iter().enumerate() {
            let wanted = at < 2 && leaving.contains(operation);
            assert_eq!(may(&known, None, *operation, target), wanted, "{operation:?} {target}");
            assert!(!may(&unknown, Some(Level::Admin), *operation, target), "{operation:?} {target}");
        }
    }
}

#[test]
fn people_need_the_level_of_the_operation() {
    let needs = |operation| match operation {
        Operation::Snapshot
        | Operation::Metrics
        | Operation::Watch
        | Operation::Audit
        | Operation::ClusterStatus
        | Operation::Events
        | Operation::Jobs => Some(Level::Viewer),
        Operation::Logs
        | Operation::Exec
        | Operation::Deployed
        | Operation::Deploy
        | Operation::Rollback
        | Operation::RollbackTo
        | Operation::Scale
        | Operation::Secrets
        | Operation::DeployJob
        | Operation::DeployedJob
        | Operation::RunJob
        | Operation::RunCommand
        | Operation::OccurrenceLogs
        | Operation::HostFiles
        | Operation::DeployHostFile
        | Operation::Keys
        | Operation::Drain => Some(Level::Deployer),
        Operation::Remove
        | Operation::RemoveJob
        | Operation::RemoveHostFile
        | Operation::TokenCreate
        | Operation::TokenList
        | Operation::TokenRevoke
        | Operation::ClusterRecover
        | Operation::ClusterRestore => Some(Level::Admin),
        Operation::Identify
        | Operation::Standing
        | Operation::Turn
        | Operation::Register
        | Operation::ReportUnhealthy
        | Operation::EngineGone
        | Operation::Ports
        | Operation::Pressure
        | Operation::EngineBack
        | Operation::RebootState
        | Operation::RebootAsk
        | Operation::RebootReturn
        | Operation::EtcdClient
        | Operation::Permit
        | Operation::TaskCredentials
        | Operation::HostFileFeed
        | Operation::HostFileReport
        | Operation::UnitTasks => None,
    };
    let levels = [None, Some(Level::Viewer), Some(Level::Deployer), Some(Level::Admin)];
    for operation in Operation::ALL.iter().filter(|one| !unjudged(**one)) {
        for target in targets() {
            for level in levels {
                let wanted = needs(*operation).is_some_and(|needs| level.is_some_and(|has| has >= needs));
                for principal in [person(), Principal::Token { name: "ci".into() }] {
                    assert_eq!(
                        may(&principal, level, *operation, &target),
                        wanted,
                        "{operation:?} {level:?}"
                    );
                }
            }
            let breaks_glass = needs(*operation).is_some();
            assert_eq!(may(&Principal::BreakGlass, None, *operation, &target), breaks_glass, "{operation:?}");
        }
    }
}

#[test]
fn a_denial_says_who_what_and_why() {
    let target = Target::Machines(vec![id("i-2")]);
    let denied = |principal: &Principal, level, operation| {
        authorise(&Asked { principal, level, operation, target: &target }).expect_err("denied").to_string()
    };
    assert_eq!(
        denied(&worker("i-1"), None, Operation::Drain),
        "worker machine i-1 may not drain machines: a machine speaks for its own machine only, not for machine i-2"
    );
    assert_eq!(
        denied(&person(), Some(Level::Viewer), Operation::Drain),
        "arn:aws:iam::1:user/ann may not drain machines: this needs the level deployer, and it is a viewer. \
         To change that, add `arn:aws:iam::1:user/ann` to `deployer` of `access:` in fleetwright.yaml and run \
         `fleetwright apply`"
    );
    assert_eq!(
        denied(&person(), None, Operation::Snapshot),
        "arn:aws:iam::1:user/ann has no access. To change that, add `arn:aws:iam::1:user/ann` to `viewer` of \
         `access:` in fleetwright.yaml and run `fleetwright apply`"
    );
}

#[test]
fn machines_may_do_what_the_table_says() {
    let text = include_str!("../../../docs/security.md");
    let (_, section) = text.split_once("## What a worker may do").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let (name, rest) = line.trim_matches(['|', ' ']).split_once(" | ").expect("a row");
        rows.push((name.trim_matches('`').to_owned(), rest.to_owned()));
    }
    let own = |may: Machines| match may {
        Machines::Own => "own",
        Machines::Any => "any",
        Machines::Never => "no",
    };
    let mut wanted: Vec<(String, String)> = Operation::ALL
        .iter()
        .filter_map(|operation| {
            let right = right(*operation)?;
            let name = serde_json::to_string(operation).expect("JSON").trim_matches('"').to_owned();
            let people = right.people.map_or("no", Level::word);
            Some((name, format!("{people} | {} | {}", own(right.machines), own(right.former_workers))))
        })
        .collect();
    rows.sort();
    wanted.sort();
    assert_eq!(rows, wanted);
}
