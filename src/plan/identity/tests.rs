//! Proofs, callers and registrations, good and bad.

use proptest::prelude::*;

use super::*;
use crate::model::group::Capacity;
use crate::model::member::Manager;

const NOW: i64 = 1_795_886_006; // 2026-11-28T17:13:26Z
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";

fn expected() -> Expected<'static> {
    Expected { cluster: "c0ffee", region: "eu-west-1", now: NOW }
}

/// A machine's proof, or a person's.
fn proof(machine: bool) -> Exchange {
    let key = if machine { ";x-fleetwright-key" } else { "" };
    Exchange {
        version: VERSION,
        proof: Proof {
            region: "eu-west-1".into(),
            cluster: "c0ffee".into(),
            key: machine.then(|| hash(KEY.as_bytes())),
            date: "20261128T171326Z".into(),
            session_token: Some("a token".into()),
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261128/eu-west-1/sts/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date;x-amz-security-token;x-fleetwright-cluster{key}, \
                 Signature={}",
                "ab".repeat(32)
            ),
        },
        public_key: machine.then(|| KEY.into()),
    }
}

#[test]
fn a_proof_becomes_the_one_request_that_it_stands_for() {
    for machine in [true, false] {
        let ask = check(&proof(machine), &expected()).expect("a good proof");
        assert_eq!(ask.body, "Action=GetCallerIdentity&Version=2011-06-15");
        let names: Vec<&str> = ask.headers.iter().map(|(name, _)| *name).collect();
        let mut wanted = vec!["content-type", "x-amz-date", "x-amz-security-token", "x-fleetwright-cluster"];
        wanted.extend(machine.then_some("x-fleetwright-key"));
        wanted.push("authorization");
        assert_eq!(names, wanted);
    }
}

/// What a hostile caller changes, and what it is refused with.
#[test]
fn a_proof_for_anything_else_is_refused() {
    type Change = fn(&mut Exchange);
    let changes: &[(Change, &str)] = &[
        (|e| e.version = 2, "version 2"),
        (|e| e.proof.region = "us-east-1".into(), "signed for STS in `us-east-1`"),
        (|e| e.proof.cluster = "another".into(), "another cluster"),
        (|e| e.public_key = Some("another key".into()), "not bound"),
        (|e| e.public_key = None, "not bound"),
        (|e| e.proof.key = None, "not bound"),
        (|e| (e.proof.key, e.public_key) = (None, None), "exactly the headers"),
        (|e| e.proof.date = "20261128T170826Z".into(), ""),
        (|e| e.proof.date = "20261128T170825Z".into(), "more than 300 s"),
        (|e| e.proof.date = "20261128T171827Z".into(), "more than 300 s"),
        (|e| e.proof.date = "20261128T1713260Z".into(), "date"),
        (|e| e.proof.date = "yesterday".into(), "date"),
        (|e| e.proof.session_token = None, "exactly the headers"),
        (|e| e.proof.session_token = Some("a\r\nx-evil: 1".into()), "characters"),
        (|e| e.proof.session_token = Some("a".repeat(20_000)), "too long"),
        (|e| swap(e, ";x-fleetwright-key", ""), "exactly the headers"),
        (|e| swap(e, ";x-fleetwright-cluster", ""), "exactly the headers"),
        (|e| swap(e, "host;", ""), "exactly the headers"),
        (|e| swap(e, "content-type;", ""), "exactly the headers"),
        (|e| swap(e, "content-type;", "a;content-type;"), "exactly the headers"),
        (|e| swap(e, "/sts/", "/s3/"), "something else than STS"),
        (|e| swap(e, "/eu-west-1/", "/us-east-1/"), "something else than STS"),
        (|e| swap(e, "/20261128/", "/20261127/"), "something else than STS"),
        (|e| swap(e, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "AWS4-HMAC-SHA256"),
        (|e| swap(e, "ASIAEXAMPLE", "A/B"), "something else than STS"),
        (|e| swap(e, "ASIAEXAMPLE", "a b-c"), "access key"),
        (|e| swap(e, "abab", "ABAB"), "not one"),
        (|e| swap(e, "abab", "ab"), "not one"),
        (|e| e.proof.authorization.push_str(", Signature=x"), "three parts"),
        (|e| e.proof.authorization.clear(), "AWS4-HMAC-SHA256"),
    ];
    for (at, (change, wanted)) in changes.iter().enumerate() {
        let mut exchange = proof(true);
        change(&mut exchange);
        match check(&exchange, &expected()) {
            Err(error) => {
                assert!(!wanted.is_empty() && error.to_string().contains(wanted), "{at}: {error}");
            }
            Ok(_) => assert_eq!(*wanted, "", "{at} is accepted"),
        }
    }
}

fn swap(exchange: &mut Exchange, from: &str, to: &str) {
    exchange.proof.authorization = exchange.proof.authorization.replacen(from, to, 1);
}

proptest! {
    /// Whatever is sent, nothing panics, and what is asked of STS has the fixed form.
    #[test]
    fn nothing_but_the_fixed_request_is_ever_asked(
        region in ".{0,20}", cluster in ".{0,20}", key in proptest::option::of(".{0,80}"),
        date in "(.{0,20}|2026[0-9]{4}T[0-9]{6}Z)", token in proptest::option::of(".{0,40}"),
        authorization in ".{0,300}", public in proptest::option::of(".{0,40}"), version in 0..3_u32,
    ) {
        let proof = Proof { region, cluster, key, date, session_token: token, authorization };
        let checked = check(&Exchange { version, proof, public_key: public }, &expected());
        prop_assert!(checked.is_err());
    }

    /// Any one byte of a good proof, changed: refused, or a request that differs from the good
    /// one only where AWS will find the signature wrong, or the session's token.
    #[test]
    fn a_changed_proof_is_refused_or_left_to_aws(at in 0..2000_usize, with in any::<char>(), machine: bool) {
        let good = proof(machine);
        let mut text: Vec<char> = serde_json::to_string(&good).expect("JSON").chars().collect();
        let at = at % text.len();
        text[at] = with;
        let text: String = text.into_iter().collect();
        if let Ok(changed) = serde_json::from_str::<Exchange>(&text)
            && let Ok(ask) = check(&changed, &expected())
        {
            let wanted = check(&good, &expected()).expect("a good proof");
            prop_assert_eq!(ask.body, wanted.body);
            prop_assert_eq!(ask.headers.len(), wanted.headers.len());
            for ((name, value), (same, good)) in ask.headers.iter().zip(&wanted.headers) {
                prop_assert_eq!(name, same);
                prop_assert!(
                    value == good || ["authorization", "x-amz-security-token", "x-amz-date"].contains(name)
                );
                prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            }
        }
    }
}

fn id(text: &str) -> MachineId {
    text.parse().expect("an id")
}

pub(super) fn group(name: &str, role: &str, instances: &[(&str, Lifecycle)]) -> Group {
    Group {
        name: name.into(),
        capacity: Capacity { min: 1, max: 9, desired: 2 },
        launch_template: None,
        instances: instances
            .iter()
            .map(|(id, lifecycle)| GroupInstance {
                id: id.parse().expect("an id"),
                lifecycle: *lifecycle,
                healthy: true,
                zone: "eu-west-1a".into(),
                launch_template: None,
            })
            .collect(),
        tags: BTreeMap::from([
            (ROLE_TAG.to_owned(), role.to_owned()),
            (IAM_ROLE_TAG.to_owned(), format!("{name}-role")),
            (format!("{METADATA_TAG}disk"), "ssd".to_owned()),
            (format!("{METADATA_TAG}role"), "control".to_owned()),
            (format!("{METADATA_TAG}instance"), "i-9".to_owned()),
            (METADATA_TAG.to_owned(), "nothing".to_owned()),
            ("Name".to_owned(), name.to_owned()),
        ]),
    }
}

fn groups() -> Vec<Group> {
    vec![
        group("control", "control", &[("i-1", Lifecycle::InService)]),
        group(
            "workers",
            "worker",
            &[
                ("i-2", Lifecycle::InService),
                ("i-3", Lifecycle::TerminatingWait),
                ("i-4", Lifecycle::Terminated),
            ],
        ),
    ]
}

fn caller(role: &str, session: &str) -> Caller {
    Caller::read(&format!("arn:aws:sts::111122223333:assumed-role/{role}/{session}")).expect("a caller")
}

#[test]
fn a_machine_is_what_its_group_makes_it() {
    let account = "111122223333";
    let worker = machine(&caller("workers-role", "i-2"), account, &groups()).expect("a machine");
    assert_eq!(
        (worker.role, worker.group.as_str(), worker.zone.as_str()),
        (Role::Worker, "workers", "eu-west-1a")
    );
    // A machine that is to be terminated has to leave first.
    machine(&caller("workers-role", "i-3"), account, &groups()).expect("still a machine");
    let control = machine(&caller("control-role", "i-1"), account, &groups()).expect("a machine");
    assert_eq!(control.role, Role::Control);
}

#[test]
fn nobody_else_is_a_machine() {
    let refused = |caller: &Caller, groups: &[Group]| {
        machine(caller, "111122223333", groups).expect_err("no machine").to_string()
    };
    let all = groups();
    // Another role of the account that may name its own sessions.
    assert!(refused(&caller("ci", "i-2"), &all).contains("has role `ci`"));
    assert!(
        refused(&caller("workers-role", "i-1"), &all)
            .contains("machines of group control have `control-role`")
    );
    assert!(refused(&caller("workers-role", "i-4"), &all).contains("in no group"), "terminated");
    assert!(refused(&caller("workers-role", "i-5"), &all).contains("in no group"));
    assert!(refused(&caller("workers-role", "ann"), &all).contains("not the role of an instance"));
    let user = Caller::read("arn:aws:iam::111122223333:user/i-2").expect("a caller");
    assert!(refused(&user, &all).contains("not the role of an instance"));
    let foreign = Caller::read("arn:aws:sts::999922223333:assumed-role/workers-role/i-2").expect("a caller");
    assert!(refused(&foreign, &all).contains("account 999922223333"));
    let mut untagged = groups();
    untagged[1].tags.remove(IAM_ROLE_TAG);
    assert!(refused(&caller("workers-role", "i-2"), &untagged).contains("fleetwright:iam-role"));
    untagged[1].tags.insert(IAM_ROLE_TAG.into(), String::new());
    assert!(refused(&caller("workers-role", "i-2"), &untagged).contains("fleetwright:iam-role"));
    let mut odd = groups();
    odd[1].tags.insert(ROLE_TAG.into(), "both".into());
    assert!(refused(&caller("workers-role", "i-2"), &odd).contains("`control` or `worker`"));
}

#[test]
fn a_machine_is_no_person() {
    let account = "111122223333";
    let known = |caller: &Caller| known_person(caller, account, &groups());
    let machine = known(&caller("workers-role", "i-2")).expect_err("a machine");
    assert!(machine.to_string().contains("i-2"), "{machine}");
    let server = known(&caller("serve", "i-77")).expect("`serve` on an instance of its own");
    assert_eq!(server.to_string(), "arn:aws:iam::111122223333:role/serve/i-77");
    let ann = known(&Caller::read("arn:aws:iam::111122223333:user/team/ann").expect("a caller"));
    assert_eq!(ann.expect("a person").to_string(), "arn:aws:iam::111122223333:user/team/ann");
}

#[test]
fn labels_come_from_the_group_and_what_was_seen() {
    let member = member(&groups(), &id("i-2")).expect("a member");
    let labels = labels(&member, "::ffff:10.0.0.2".parse().expect("an address"));
    let wanted = [
        ("address", "10.0.0.2"),
        ("disk", "ssd"),
        ("group", "workers"),
        ("instance", "i-2"),
        ("role", "worker"),
        ("zone", "eu-west-1a"),
    ];
    let labels: Vec<(&str, &str)> =
        labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(labels, wanted);
}

fn node(name: &str, address: &str, instance: Option<&str>, up: bool) -> Node {
    Node {
        id: name.into(),
        instance: instance.map(id),
        address: address.parse().ok(),
        manager: None::<Manager>,
        up,
        labels: BTreeMap::new(),
        unchanged_s: 0,
    }
}

#[test]
fn a_machine_registers_the_one_node_that_runs_on_it() {
    let peer: IpAddr = "10.0.0.2".parse().expect("an address");
    let nodes = [
        node("n1", "10.0.0.1", Some("i-1"), true),
        node("n2", "10.0.0.2", None, true),
        node("n3", "10.0.0.3", None, true),
        node("n4", "", None, true),
        node("n5", "10.0.0.2", Some("i-3"), false),
    ];
    let try_it =
        |nodes: &[Node], name: &str| register(nodes, name, &id("i-2"), peer).map(|one| one.id.clone());
    assert_eq!(try_it(&nodes, "n2"), Ok("n2".into()));
    assert!(matches!(try_it(&nodes, "n9"), Err(NotRegistered::NoNode { .. })));
    for other in ["n1", "n3", "n4"] {
        assert!(matches!(try_it(&nodes, other), Err(NotRegistered::Elsewhere { .. })), "{other}");
    }
    // An address is used again; the node of the machine before is not.
    assert!(matches!(try_it(&nodes, "n5"), Err(NotRegistered::Others { .. })));
}

#[test]
fn a_second_node_waits_for_the_first_to_be_gone() {
    let peer: IpAddr = "10.0.0.2".parse().expect("an address");
    let nodes =
        |first_is_up| [node("n1", "10.0.0.2", Some("i-2"), first_is_up), node("n2", "10.0.0.2", None, true)];
    let second = register(&nodes(true), "n2", &id("i-2"), peer).map(|one| one.id.clone());
    assert!(matches!(second, Err(NotRegistered::Second { .. })), "{second:?}");
    let again = register(&nodes(true), "n1", &id("i-2"), peer).map(|one| one.id.clone());
    assert_eq!(again, Ok("n1".into()), "the first registers as often as it likes");
    let second = register(&nodes(false), "n2", &id("i-2"), peer).map(|one| one.id.clone());
    assert_eq!(second, Ok("n2".into()));
}
