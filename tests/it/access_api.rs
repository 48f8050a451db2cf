//! Who may do what through the API of a control machine, and the record of it: the real API
//! over TLS, the real policy, tokens and audit log.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use fleetwright::adapter::authority::Authority;
use fleetwright::adapter::cluster_api::ClusterApi;
use fleetwright::model::access::Level;
use fleetwright::model::audit::{Change, Filter, merge};
use fleetwright::model::name::{MachineId, ServiceName};
use fleetwright::model::principal::Operation;
use fleetwright::model::service::{Deployment, Limits, Origin, Scale, ScaleTo, ServiceSpec, UpdatePolicy};
use fleetwright::model::timeline::{EventKind, EventQuery, TimelineEvent};
use fleetwright::plan::audit::{is_change, name};
use fleetwright::port::cluster::{Cluster as _, ClusterError};
use fleetwright::port::cluster_routes::route;
use fleetwright::port::membership::Control as _;
use fleetwright::port::reboot::AskLeave as _;
use fleetwright::port::tokens::{NewToken, Tokens};
use serde_json::json;

use crate::support::rights::{BREAK_GLASS, ControlMachine, WORKER, boot};

pub fn deployment() -> Deployment {
    Deployment {
        spec: ServiceSpec {
            name: "web".parse().expect("a name"),
            image: "team/web".to_owned(),
            command: vec!["--key=hunter2".to_owned()],
            scale: Scale::Replicas(1),
            environment: BTreeMap::from([("PASSWORD".to_owned(), "hunter2".to_owned())]),
            ports: vec![],
            health: None,
            limits: Limits::default(),
            placement: BTreeMap::new(),
            update: UpdatePolicy { parallel: 1, monitor: Duration::from_secs(1), deadline: None },
            drain: Duration::from_secs(1),
            container: fleetwright::model::container::ContainerSettings::default(),
            pre_deploy: None,
            units: None,
        },
        registry: "registry.example.com".to_owned(),
        digest: format!("sha256:{}", "a".repeat(64)).parse().expect("a digest"),
        origin: Origin {
            repository: "web".to_owned(),
            commit: "c".repeat(40),
            subject: "hunter2 in a subject".to_owned(),
        },
        restarted: None,
        secrets: BTreeMap::new(),
        network: false,
    }
}

async fn token(control: &ControlMachine, name: &str, level: Level, valid_s: u64) -> String {
    let new = NewToken { name: name.parse().expect("a name"), level, valid_s };
    let created = control.caller(BREAK_GLASS, &[]).create(&new).await.expect("created");
    created.text.expose().clone()
}

async fn changes(caller: &ClusterApi) -> Vec<Change> {
    merge(caller.audit(&Filter::default(), 1_000).await.expect("an audit log").events)
}

fn denied<T: std::fmt::Debug>(result: Result<T, ClusterError>) -> String {
    match result {
        Err(ClusterError::Denied { reason }) => reason,
        other => panic!("not denied: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_recorded_with_who_what_when_and_from_where() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let ci = token(&control, "ci", Level::Deployer, 3600).await;
    let before = chrono::Utc::now();
    let caller = control.caller(&ci, &[]);
    assert_eq!(caller.deploy(&deployment()).await.expect("deployed"), 1);
    let web: ServiceName = "web".parse().expect("a name");
    caller.rollback(&web, None).await.expect_err("this cluster has nothing to go back to");
    let machine: MachineId = "i-9".parse().expect("an id");
    caller.drain(std::slice::from_ref(&machine), &[]).await.expect("drained");
    let worker = control.caller(WORKER, &[]);
    worker.empty(std::slice::from_ref(&machine), false).await.expect("drained by its own agent");
    worker.give_back(&machine).await.expect("given back");

    let viewer = token(&control, "eye", Level::Viewer, 3600).await;
    let changes = changes(&control.caller(&viewer, &[])).await;
    let seen: Vec<_> = changes
        .iter()
        .map(|change| {
            let begun = &change.begun;
            (begun.by.as_str(), begun.operation.as_str(), begun.target.as_str(), change.outcome())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("break-glass", "token-create", "token/ci", "done"),
            ("token/ci", "deploy", "service/web", "done"),
            ("token/ci", "rollback", "service/web", "failed"),
            ("token/ci", "drain", "machine/i-9", "done"),
            ("machine/i-9", "drain", "machine/i-9", "done"),
            ("machine/i-9", "reboot-return", "machine/i-9", "done"),
            ("break-glass", "token-create", "token/eye", "done"),
        ]
    );
    let deploy = &changes[1];
    assert_eq!(deploy.begun.level, Some(Level::Deployer));
    assert_eq!(deploy.begun.from.map(|from| from.to_string()).as_deref(), Some("127.0.0.1"));
    assert!(deploy.begun.at >= before && deploy.begun.at <= chrono::Utc::now());
    assert_eq!(deploy.begun.details["image"], "team/web");
    assert_eq!(deploy.begun.details["commit"], "c".repeat(40));
    assert_eq!(deploy.ended.as_ref().expect("an end").details["revision"], "1");
    assert_eq!(deploy.begun.recorded_by, "i-1");
    let text = serde_json::to_string(&changes).expect("JSON");
    for secret in ["hunter2", ci.as_str(), viewer.as_str(), BREAK_GLASS] {
        assert!(!text.contains(secret), "a secret is in the record: {text}");
        assert!(control.store.values().iter().all(|value| !value.contains(secret)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_viewer_is_refused_with_the_level_that_it_takes_and_how_to_get_it() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let viewer = token(&control, "eye", Level::Viewer, 3600).await;
    let viewer = control.caller(&viewer, &[]);
    viewer.snapshot().await.expect("a viewer reads");
    let web: ServiceName = "web".parse().expect("a name");
    for reason in [
        denied(viewer.deploy(&deployment()).await),
        denied(viewer.rollback(&web, None).await),
        denied(viewer.logs(&web, 1, false).await.map(drop)),
        denied(viewer.drain(&["i-9".parse().expect("an id")], &[]).await),
    ] {
        assert!(reason.contains("needs the level deployer, and it is a viewer"), "{reason}");
        assert!(reason.contains("cluster token create --name NAME --level deployer"), "{reason}");
    }
    let deployer = token(&control, "ci", Level::Deployer, 3600).await;
    let deployer = control.caller(&deployer, &[]);
    assert!(denied(deployer.remove(&web).await).contains("needs the level admin"));
    assert!(denied(Tokens::list(&deployer).await).contains("needs the level admin"));
    let machine: MachineId = "i-9".parse().expect("an id");
    assert!(denied(deployer.empty(&[machine], true).await).contains("needs the level admin"));
    assert!(control.cluster.deployments().is_empty(), "nothing was deployed");
    let refused = changes(&viewer).await.into_iter().filter(|change| change.outcome() == "refused");
    let refused: Vec<_> = refused.map(|change| (change.begun.by, change.begun.operation)).collect();
    let by = |who: &str, what: &str| (who.to_owned(), what.to_owned());
    assert_eq!(
        refused,
        [
            by("token/eye", "deploy"),
            by("token/eye", "rollback"),
            by("token/eye", "logs"),
            by("token/eye", "drain"),
            by("token/ci", "remove"),
            by("token/ci", "token-list"),
            by("token/ci", "drain"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_has_the_level_of_the_published_policy() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let (ada, bob) = (control.person("ada"), control.person("bob"));
    let reason = denied(ada.snapshot().await);
    assert!(reason.contains("has not been read"), "{reason}");
    control.keeper.refresh().await.expect("read");
    let reason = denied(ada.snapshot().await);
    assert!(reason.contains("no access policy has been published"), "{reason}");
    control.publish(r#"{"version":1,"admin":[],"deployer":["user/ada"],"viewer":["*"]}"#).await;
    ada.deploy(&deployment()).await.expect("deployed");
    bob.snapshot().await.expect("a viewer reads");
    let reason = denied(bob.deploy(&deployment()).await);
    assert!(reason.contains("user/bob may not deploy a service: this needs the level deployer"), "{reason}");
    assert!(
        reason.contains("add `arn:aws:iam::000000000000:user/bob` to `deployer` of `access:`"),
        "{reason}"
    );
    assert!(reason.contains("run `fleetwright apply`"), "{reason}");
    // What is taken away is gone at once, though the caller's token is good for an hour.
    control.publish(r#"{"version":1,"admin":[],"deployer":[],"viewer":["user/bob"]}"#).await;
    assert!(denied(ada.deploy(&deployment()).await).contains("has no access"));
    let seen: Vec<_> = changes(&bob)
        .await
        .into_iter()
        .map(|change| (change.begun.by.clone(), change.begun.operation.clone(), change.outcome()))
        .collect();
    let by =
        |who: &str, what: &str, how| (format!("arn:aws:iam::000000000000:user/{who}"), what.to_owned(), how);
    assert_eq!(
        seen,
        [
            by("ada", "identify", "done"),
            by("ada", "deploy", "done"),
            by("bob", "identify", "done"),
            by("bob", "deploy", "refused"),
            by("ada", "deploy", "refused"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_has_expired_or_was_revoked_is_refused() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let short = token(&control, "short", Level::Deployer, 1).await;
    let ci = token(&control, "ci", Level::Deployer, 3600).await;
    let (short, caller) = (control.caller(&short, &[]), control.caller(&ci, &[]));
    caller.snapshot().await.expect("it is valid");
    control.caller(BREAK_GLASS, &[]).revoke(&"ci".parse().expect("a name")).await.expect("revoked");
    for reason in [denied(caller.snapshot().await), denied(caller.deploy(&deployment()).await)] {
        assert!(reason.contains("expired or was revoked"), "{reason}");
    }
    let limit = std::time::Instant::now() + Duration::from_secs(10);
    while short.snapshot().await.is_ok() {
        assert!(std::time::Instant::now() < limit, "it does not expire");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(denied(short.snapshot().await).contains("expired"));
    // A made-up token with the name of a valid one.
    let eye = token(&control, "eye", Level::Admin, 3600).await;
    let forged = format!("fwt_eye_{}", "0".repeat(64));
    assert_ne!(forged, eye);
    assert!(denied(control.caller(&forged, &[]).snapshot().await).contains("not known"));
    assert!(denied(control.caller("guessed", &[]).snapshot().await).contains("certificate or a token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_records_of_all_control_machines_are_merged_and_a_silent_one_is_named() {
    let authority = Authority::create("main").expect("an authority");
    let one = ControlMachine::start("i-1", &authority, None).await;
    let two = ControlMachine::start("i-2", &authority, Some(&one)).await;
    let ci = token(&one, "ci", Level::Deployer, 3600).await;
    let machine: MachineId = "i-9".parse().expect("an id");
    one.caller(&ci, &[]).deploy(&deployment()).await.expect("deployed");
    two.caller(&ci, &[]).drain(&[machine], &[]).await.expect("drained");
    let reader = one.caller(&ci, &[&two.endpoint, &one.endpoint]);
    let recorded = reader.audit(&Filter::default(), 1_000).await.expect("an audit log");
    assert_eq!(recorded.silent, []);
    let seen: Vec<_> = merge(recorded.events)
        .into_iter()
        .map(|change| (change.begun.recorded_by, change.begun.operation))
        .collect();
    let by = |who: &str, what: &str| (who.to_owned(), what.to_owned());
    assert_eq!(seen, [by("i-1", "token-create"), by("i-1", "deploy"), by("i-2", "drain")]);

    let gone = two.endpoint.clone();
    drop(two);
    let reader = one.caller(&ci, &[&gone]);
    let recorded = reader.audit(&Filter::default(), 1_000).await.expect("the other one answers");
    assert_eq!(merge(recorded.events).len(), 2);
    assert_eq!(recorded.silent.iter().map(|(who, _)| who.clone()).collect::<Vec<_>>(), [gone]);
    let web = Filter { target: Some("web".to_owned()), ..Filter::default() };
    assert_eq!(merge(reader.audit(&web, 1_000).await.expect("an audit log").events).len(), 1);
    let nobody = Filter { by: Some("nobody".to_owned()), ..Filter::default() };
    assert_eq!(reader.audit(&nobody, 1_000).await.expect("an audit log").events, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_an_event_with_who_asked_and_lines_of_logs_are_for_deployers() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let ci = token(&control, "ci", Level::Deployer, 3600).await;
    let eye = token(&control, "eye", Level::Viewer, 3600).await;
    let caller = control.caller(&ci, &[]);
    caller.deploy(&deployment()).await.expect("deployed");
    caller.scale(&"web".parse().expect("a name"), ScaleTo::Replicas(4)).await.expect("scaled");
    let query = EventQuery { of: vec!["web".to_owned()], limit: 10, ..EventQuery::default() };
    let page = caller.events(&query).await.expect("events");
    let seen: Vec<_> = page.events.iter().map(|event| (event.kind, event.by.as_deref())).collect();
    assert_eq!(seen, [(EventKind::Deployed, Some("token/ci")), (EventKind::Scaled, Some("token/ci"))]);
    assert!(page.events[1].text.contains("to 4 instances"), "{:?}", page.events);

    let printed = TimelineEvent::new("x".into(), Utc::now(), EventKind::Ended, "exited with status 1");
    let printed = printed.of(&"web".parse().expect("a name")).printed(&["a secret, perhaps".to_owned()]);
    control.events.record(vec![printed]).await;
    let lines = async |token: &str| -> usize {
        let page = control.caller(token, &[]).events(&query).await.expect("events");
        page.events.iter().map(|event| event.lines.len()).sum()
    };
    assert_eq!((lines(&ci).await, lines(&eye).await), (1, 0));
    let nobody = EventQuery { of: vec!["db".to_owned()], ..query.clone() };
    assert_eq!(caller.events(&nobody).await.expect("events").events, []);
}

/// Whatever is added to the API is recorded, too, unless it only reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_operation_that_changes_something_leaves_a_record() {
    let authority = Authority::create("main").expect("an authority");
    let control = ControlMachine::start("i-1", &authority, None).await;
    let certificate = reqwest::Certificate::from_pem(control.authority.as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder().tls_certs_only([certificate]).build().expect("a client");
    let reader = control.caller(BREAK_GLASS, &[]);
    // What takes a machine's certificate, or a task that exists, is denied to both callers.
    let mut denied_to_both = Vec::new();
    for operation in Operation::ALL.iter().filter(|one| **one != Operation::Identify) {
        let before = changes(&reader).await.len();
        let body = match operation {
            Operation::Deploy => serde_json::to_value(deployment()).expect("JSON"),
            Operation::Drain => json!({"machines": ["i-9"]}),
            Operation::Register => json!({"node": "n2", "labels": {}}),
            Operation::RebootAsk => json!({"boot": boot()}),
            Operation::EtcdClient => json!({"public_key": "PEM"}),
            Operation::ReportUnhealthy => json!({"output": "x"}),
            Operation::TokenCreate => json!({"name": "ci", "level": "viewer", "valid_s": 60}),
            _ => json!(null),
        };
        let id = if route(*operation).path.contains("tokens") { "ci" } else { "web" };
        let path = route(*operation).path.replace("{name}", id).replace("{id}", "i-9");
        let method = route(*operation).method.parse().expect("a method");
        for token in [BREAK_GLASS, WORKER] {
            // Streams do not end: their beginning is enough.
            let request = client.request(Clone::clone(&method), format!("{}{path}", control.endpoint));
            let request = request.bearer_auth(token).timeout(Duration::from_secs(5));
            let request = if body.is_null() { request } else { request.json(&body) };
            let answer = request.send().await.expect("an answer");
            assert_ne!(answer.status(), reqwest::StatusCode::METHOD_NOT_ALLOWED, "{operation:?}");
        }
        let all = changes(&reader).await;
        let own = all[before..].iter().filter(|change| change.begun.operation == name(*operation));
        let reasons = own.map(|change| change.ended.as_ref().and_then(|ended| ended.reason.clone()));
        let (denied, carried_out): (Vec<_>, Vec<_>) =
            reasons.partition(|reason| reason.as_ref().is_some_and(|reason| reason.contains("may not")));
        if denied.len() == 2 {
            denied_to_both.push(*operation);
            continue;
        }
        assert_eq!(!carried_out.is_empty(), is_change(*operation), "{operation:?}: {:#?}", &all[before..]);
        assert!(all.iter().all(|change| change.ended.is_some()), "{operation:?} has no outcome");
    }
    assert_eq!(
        denied_to_both,
        [
            Operation::Register,
            Operation::ReportUnhealthy,
            Operation::Ports,
            Operation::Pressure,
            Operation::EngineGone,
            Operation::EngineBack,
            Operation::RebootAsk,
            Operation::Standing,
            Operation::Turn,
            Operation::EtcdClient,
            Operation::Permit,
            Operation::TaskCredentials,
            Operation::HostFileFeed,
            Operation::HostFileReport,
            Operation::UnitTasks,
        ]
    );
}
