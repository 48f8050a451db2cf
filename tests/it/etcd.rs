//! etcd on control machines, with real members: what it says of them and takes, and how the
//! agents keep it whole while machines come and go.

use std::collections::BTreeSet;
use std::time::Instant;

use fleetwright::adapter::authority::{self, Authority};
use fleetwright::adapter::etcd::Gateway;
use fleetwright::adapter::raft_log;
use fleetwright::model::etcd::peer_url;
use fleetwright::port::etcd::{EtcdError, EtcdMembers};
use fleetwright::port::recovery::EtcdSurvivor as _;

use crate::support::etcd::{Control, Machine, id, until};

/// The machines whose members answer and have a vote; `None` unless that is all of them.
async fn whole(gateway: &Gateway, via: &Machine) -> Option<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for member in gateway.members(&via.url()).await.ok()? {
        if member.learner || !gateway.is_healthy(member.client_urls.first()?).await {
            return None;
        }
        names.insert(member.name?);
    }
    Some(names)
}

/// Waits until etcd has those members, whole.
async fn has(gateway: &Gateway, via: &Machine, numbers: &[u8]) {
    let wanted: BTreeSet<String> = numbers.iter().map(|number| id(*number).to_string()).collect();
    let begun = Instant::now();
    let what = format!("etcd has the members {wanted:?}");
    until(&what, async || (whole(gateway, via).await? == wanted).then_some(())).await;
    println!("{} {what} after {:.1} s", chrono::Utc::now().format("%T"), begun.elapsed().as_secs_f64());
}

/// Waits until programs on the machine know that many members.
async fn has_access(machine: &Machine, members: usize) {
    let file = machine.run().join("etcd-client.env");
    let knows = |text: String| text.matches("https").count() == members;
    let what = format!("{} knows {members} members", file.display());
    until(&what, async || std::fs::read_to_string(&file).is_ok_and(knows).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_stays_whole_while_machines_come_and_go() {
    let control = Control::new();
    let gateway = control.gateway();
    let mut one = control.launch(1);
    let mut two = control.launch(2);
    let mut three = control.launch(3);
    for machine in [&mut three, &mut two, &mut one] {
        control.start(machine);
    }
    has(&gateway, &one, &[1, 2, 3]).await;
    let expected = ["1", "2", "3"].map(|number| format!("/etcd/members/i-{number}"));
    assert!(expected.iter().all(|name| control.parameters().contains(name)), "{:?}", control.parameters());

    // What programs on the machines do.
    for machine in [&one, &two, &three] {
        has_access(machine, 3).await;
    }
    assert_eq!(one.etcdctl(&["put", "color", "blue"]).trim(), "OK");
    assert_eq!(three.etcdctl(&["get", "--print-value-only", "color"]).trim(), "blue");

    // A client is no peer.
    let client = |name: &str| std::fs::read_to_string(one.run().join("etcd").join(name)).expect("a file");
    assert!(ask_a_peer(&control, &one, &client("client.crt"), &client("client.key")).await.is_err());
    let member = ask_a_peer(&control, &one, &client("member.crt"), &client("member.key")).await;
    assert!(member.expect("an answer").contains("i-1"));

    // A machine is lost with its data, and its group puts another in its place.
    two.kill_agent();
    two.unit.kill();
    control.forget(2);
    drop(two);
    let mut four = control.launch(4);
    control.start(&mut four);
    has(&gateway, &one, &[1, 3, 4]).await;
    has_access(&four, 3).await;
    assert_eq!(four.etcdctl(&["get", "--print-value-only", "color"]).trim(), "blue");
    until("what it wrote down is taken back", async || {
        (!control.parameters().contains("/etcd/members/i-2")).then_some(())
    })
    .await;

    // A disk is lost, and the machine goes on.
    three.kill_agent();
    three.unit.kill();
    std::fs::remove_dir_all(three.data()).expect("removed");
    control.start(&mut three);
    let before = gateway.members(&one.url()).await.expect("members");
    until("it is another member", async || {
        let now = gateway.members(&one.url()).await.ok()?;
        let own = |members: &[fleetwright::model::etcd::Member]| {
            members.iter().find(|one| one.name.as_deref() == Some("i-3")).map(|one| one.id)
        };
        (own(&now).is_some() && own(&now) != own(&before)).then_some(())
    })
    .await;
    has(&gateway, &one, &[1, 3, 4]).await;

    // All are started again at once, the founder among them.
    for machine in [&mut one, &mut three, &mut four] {
        machine.kill_agent();
        machine.unit.kill();
    }
    for machine in [&mut one, &mut three, &mut four] {
        control.start(machine);
    }
    has(&gateway, &one, &[1, 3, 4]).await;
    assert_eq!(three.etcdctl(&["get", "--print-value-only", "color"]).trim(), "blue");

    // The founder, which leads the managers, is told to go.
    control.terminate(1);
    one.leave().await;
    assert!(!one.unit.runs());
    control.forget(1);
    has(&gateway, &three, &[3, 4]).await;
    assert!(!control.parameters().contains("/etcd/members/i-1"));
    assert_eq!(four.etcdctl(&["get", "--print-value-only", "color"]).trim(), "blue");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_goes_before_others_joined_is_taken_over() {
    let control = Control::new();
    let gateway = control.gateway();
    let mut one = control.launch(1);
    control.start(&mut one);
    has(&gateway, &one, &[1]).await;
    let mut two = control.launch(2);
    drop(one);
    control.forget(1);
    control.start(&mut two);
    has(&gateway, &two, &[2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_etcd_keeps_the_contract() {
    let control = Control::new();
    let gateway = control.gateway();
    let nowhere = control.launch(9);
    assert!(!gateway.is_healthy(&nowhere.url()).await);
    let error = gateway.members(&nowhere.url()).await.expect_err("nobody listens");
    assert!(matches!(error, EtcdError::Unreachable { .. }), "{error}");
    control.forget(9);

    let mut machine = control.launch(1);
    control.start(&mut machine);
    has(&gateway, &machine, &[1]).await;
    let url = machine.url();
    // Alone, it would join what is added.
    machine.kill_agent();

    let stranger = Authority::create("main").expect("an authority");
    let key = authority::new_key().expect("a key");
    let certificate = stranger.sign_etcd_member(control.address(7), &key).expect("a certificate");
    let stranger = Gateway::new(&control.authority.certificate, &certificate, &key).expect("a client");
    assert!(!stranger.is_healthy(&url).await, "another authority signed for it");

    let peer = peer_url(control.address(2));
    gateway.add_learner(&url, &peer).await.expect("added");
    let members = gateway.members(&url).await.expect("members");
    assert_eq!(members.len(), 2);
    let learner = members.iter().find(|one| one.learner).expect("the new one");
    assert_eq!((&learner.name, learner.client_urls.len()), (&None, 0));
    assert_eq!(learner.peer_urls, std::slice::from_ref(&peer));
    assert!(gateway.is_healthy(&url).await, "one without a vote that never starts takes nothing away");

    let refused = |error: EtcdError| {
        assert!(matches!(error, EtcdError::Refused { .. }), "{error}");
        error.to_string()
    };
    let other = peer_url(control.address(3));
    let text = refused(gateway.add_learner(&url, &other).await.expect_err("one at a time"));
    assert!(text.contains("too many learner members"), "{text}");
    let text = refused(gateway.promote(&url, learner.id).await.expect_err("it has not started"));
    assert!(text.contains("in sync"), "{text}");

    gateway.remove(&url, learner.id).await.expect("removed");
    gateway.remove(&url, learner.id).await.expect("removed before");
    assert_eq!(gateway.members(&url).await.expect("members").len(), 1);
    // Ids are made of addresses and seconds, and one that was removed is refused.
    until("it is added again", async || gateway.add_learner(&url, &peer).await.ok()).await;
    let again = gateway.members(&url).await.expect("members");
    assert!(again.iter().all(|one| one.id != learner.id), "an id is never given twice");
}

/// Asks the member on the peers' port, with that certificate.
async fn ask_a_peer(
    control: &Control,
    machine: &Machine,
    certificate: &str,
    key: &str,
) -> Result<String, reqwest::Error> {
    let authority = reqwest::Certificate::from_pem(control.authority.certificate.as_bytes())?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .identity(reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes())?)
        .build()?;
    client
        .get(format!("{}/members", peer_url(machine.address)))
        .send()
        .await?
        .error_for_status()?
        .text()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_goes_on_alone_when_the_majority_is_lost_and_the_others_join_again() {
    let control = Control::new();
    let gateway = control.gateway();
    let mut machines: Vec<Machine> = (1..=4).map(|number| control.launch(number)).collect();
    machines.iter_mut().for_each(|machine| control.start(machine));
    has(&gateway, &machines[0], &[1, 2, 3, 4]).await;
    has_access(&machines[3], 4).await;
    // A member that goes on alone gives up what it did not know to be committed. It learns that with
    // the next write, which a majority of four cannot have without one of the two that stay.
    assert_eq!(machines[3].etcdctl(&["put", "color", "blue"]).trim(), "OK");
    assert_eq!(machines[3].etcdctl(&["put", "shape", "round"]).trim(), "OK");

    // Two of four are lost for good, and two are no majority.
    for number in 1..=2 {
        let mut lost = machines.remove(0);
        lost.kill_agent();
        lost.unit.kill();
        control.forget(number);
    }
    let ends: Vec<_> =
        machines.iter().map(|machine| raft_log::end(&machine.data().join("member/wal"))).collect();
    let ends: Vec<_> =
        ends.into_iter().map(|end| end.expect("it is read").expect("there is a log")).collect();
    assert!(ends.iter().all(|end| end.index > 4), "{ends:?}");
    // A write is with a majority, which need not include both: the newer log has it.
    if ends[1] > ends[0] {
        machines.swap(0, 1);
    }
    let survivor = machines[0].keeper();
    until("nobody has a majority", async || (!survivor.is_healthy().await).then_some(())).await;

    survivor.go_on_alone().await.expect("it goes on");
    // The other finds that its member was removed, and begins again with what the first one has.
    has(&gateway, &machines[0], &[3, 4]).await;
    has_access(&machines[1], 2).await;
    assert_eq!(machines[1].etcdctl(&["get", "--print-value-only", "color"]).trim(), "blue");
    assert!(!std::fs::read_to_string(machines[0].run().join("etcd.env")).expect("a file").contains("FORCE"));
    // Started again, it is the member that it was.
    machines[0].unit.kill();
    has(&gateway, &machines[1], &[3, 4]).await;
}
