use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;
use crate::model::member::NodeCertificate;
use crate::model::standing::STANDING_VERSION;

/// What is known of the cluster.
#[derive(Debug, Clone, PartialEq)]
struct Knowledge {
    label: &'static str,
    published: Published,
    standing: Option<Standing>,
    said_for_s: u64,
}

/// One cell of the table.
#[derive(Debug, Clone)]
struct Cell {
    role: Role,
    engine: (&'static str, Option<Membership>, bool),
    leader: bool,
    store: (&'static str, Option<Stored>),
    known: Knowledge,
    for_s: u64,
    restarts: u32,
    restarted_s: Option<u64>,
}

impl Cell {
    fn action(&self) -> Action {
        let engine = match (&self.engine.1, self.engine.2) {
            (Some(state), _) => Engine::Reports(state),
            (None, true) => Engine::Failed,
            (None, false) => Engine::Silent,
        };
        decide(&Seen {
            role: self.role,
            engine,
            leader: self.leader,
            stored: self.store.1.as_ref(),
            published: self.known.published,
            standing: self.known.standing.as_ref(),
            said_for_s: self.known.said_for_s,
            for_s: self.for_s,
            restarts: self.restarts,
            restarted_s: self.restarted_s,
        })
    }

    fn place(&self) -> Option<Place> {
        self.known.standing.as_ref().map(|standing| standing.node)
    }

    fn is_removed(&self) -> bool {
        self.known.published == Published::Same
            && self.place() == Some(Place::Unknown)
            && self.known.said_for_s >= REMOVED_S
    }

    fn holds_state(&self) -> bool {
        self.store.0 != "empty" && self.store.0 != "certificate"
    }
}

fn swarm(text: &str) -> SwarmId {
    text.parse().expect("an id")
}

fn standing(node: Place, restored: bool) -> Option<Standing> {
    Some(Standing { version: STANDING_VERSION, cluster: swarm("published"), restored, node })
}

fn engines() -> Vec<(&'static str, Option<Membership>, bool)> {
    let member = |manager| Some(Membership::In { node: "n1".into(), manager });
    vec![
        ("silent", None, false),
        ("unit failed", None, true),
        ("inactive", Some(Membership::Out), false),
        ("pending", Some(Membership::Pending), false),
        ("active manager", member(true), false),
        ("active worker", member(false), false),
        ("error", Some(Membership::Broken { reason: "no such address".into() }), false),
        ("locked", Some(Membership::Locked), false),
    ]
}

fn stores() -> Vec<(&'static str, Option<Stored>)> {
    let certificate = |manager| Some(NodeCertificate { node: "n1".into(), cluster: swarm("own"), manager });
    vec![
        ("unreadable", None),
        ("empty", Some(Stored::default())),
        ("certificate", Some(Stored { raft: false, certificate: certificate(false) })),
        ("raft", Some(Stored { raft: true, certificate: certificate(true) })),
        // Its certificate was lost, or replaced when it was demoted.
        ("raft alone", Some(Stored { raft: true, certificate: None })),
    ]
}

fn knowledge() -> Vec<Knowledge> {
    let known = |label, published, standing, said_for_s| Knowledge { label, published, standing, said_for_s };
    let mut all = vec![
        known("rendezvous unreadable", Published::Unknown, None, 0),
        known("nothing published", Published::None, None, 0),
        known("same, no answer", Published::Same, None, 0),
        known("other, no answer", Published::Other, None, 0),
        known("same, just removed", Published::Same, standing(Place::Unknown, true), REMOVED_S - 1),
        known("same, removed", Published::Same, standing(Place::Unknown, true), REMOVED_S),
        known("same, a worker", Published::Same, standing(Place::Worker, true), 1_000),
        known("same, a manager", Published::Same, standing(Place::Manager, true), 1_000),
        known("other, not restored", Published::Other, standing(Place::Unknown, false), 1_000),
        known("other, restored", Published::Other, standing(Place::Unknown, true), 1_000),
    ];
    // An answer never counts where it is not known whose it is.
    all.push(known("unreadable, an answer", Published::Unknown, standing(Place::Unknown, true), 1_000));
    all.push(known("none, an answer", Published::None, standing(Place::Unknown, true), 1_000));
    all
}

fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for role in [Role::Control, Role::Worker] {
        for engine in engines() {
            for store in stores() {
                for leader in [false, true] {
                    for known in knowledge() {
                        for for_s in [0, SETTLED_S, 10_000] {
                            for (restarts, restarted_s) in
                                [(0, None), (1, Some(1)), (1, Some(10_000)), (9, Some(1)), (9, Some(10_000))]
                            {
                                let (engine, store, known) = (engine.clone(), store.clone(), known.clone());
                                cells.push(Cell {
                                    role,
                                    engine,
                                    leader,
                                    store,
                                    known,
                                    for_s,
                                    restarts,
                                    restarted_s,
                                });
                            }
                        }
                    }
                }
            }
        }
    }
    cells
}

fn deletes(action: Action) -> bool {
    matches!(action, Action::Rejoin(_) | Action::StartOver)
}

/// At e1e3c77 `pending` for 90 s and `error` at once deleted the managers' log.
#[test]
fn what_a_manager_holds_is_deleted_only_when_a_majority_says_that_its_node_was_removed() {
    for cell in cells().iter().filter(|cell| cell.holds_state() && deletes(cell.action())) {
        assert_eq!(cell.action(), Action::Rejoin(Rejoin::Removed), "{cell:?}");
        assert!(cell.is_removed(), "{cell:?}");
    }
}

#[test]
fn nobody_leaves_a_swarm_that_it_was_a_member_of_unless_a_cluster_answers_that_can_take_it() {
    for cell in cells().iter().filter(|cell| deletes(cell.action())) {
        let answers = cell.known.standing.as_ref();
        match cell.action() {
            Action::StartOver => assert_eq!(cell.store.0, "empty", "{cell:?}"),
            Action::Rejoin(Rejoin::Removed) => assert!(cell.is_removed(), "{cell:?}"),
            Action::Rejoin(Rejoin::Replaced) => {
                assert_eq!(cell.known.published, Published::Other, "{cell:?}");
                assert!(answers.is_some_and(|standing| standing.restored), "{cell:?}");
            }
            Action::Rejoin(Rejoin::NoManager) => {
                assert_eq!(cell.role, Role::Control, "{cell:?}");
                assert_eq!(cell.known.published, Published::Same, "{cell:?}");
                assert!(answers.is_some_and(|standing| standing.node != Place::Unknown), "{cell:?}");
            }
            action => panic!("{action:?}: {cell:?}"),
        }
    }
}

#[test]
fn a_worker_is_never_disturbed_while_no_cluster_answers() {
    let cells = cells();
    let workers = cells.iter().filter(|cell| cell.role == Role::Worker && cell.known.standing.is_none());
    for cell in workers.filter(|cell| cell.store.0 == "certificate") {
        match cell.engine.0 {
            "active worker" => assert_eq!(cell.action(), Action::Stay, "{cell:?}"),
            // Its containers ended with its unit, or whoever stopped it wanted that.
            "unit failed" => assert!(!deletes(cell.action()), "{cell:?}"),
            "inactive" => assert_eq!(cell.action(), Action::Enter, "{cell:?}"),
            "locked" => assert_eq!(cell.action(), Action::Report(Trouble::Locked), "{cell:?}"),
            _ => {
                let idle = matches!(cell.action(), Action::Wait(_) | Action::Demote | Action::Report(_));
                assert!(idle, "{:?}: {cell:?}", cell.action());
            }
        }
    }
}

#[test]
fn an_engine_that_gave_up_is_restarted_with_growing_pauses() {
    let cells = cells();
    for cell in
        cells.iter().filter(|cell| cell.engine.0 == "error" && cell.store.0 == "raft" && !cell.is_removed())
    {
        let due = cell.restarted_s.map_or(cell.for_s >= SETTLED_S, |ago| ago >= RESTART_MOST_S);
        match cell.action() {
            Action::Restart(Cause::Error) => assert!(due, "{cell:?}"),
            Action::Wait(Waiting::Restart) | Action::Report(Trouble::Restarts) => assert!(!due, "{cell:?}"),
            action => panic!("{action:?}: {cell:?}"),
        }
    }
    let state = Membership::Broken { reason: String::new() };
    let mut seen = Seen {
        role: Role::Control,
        engine: Engine::Reports(&state),
        leader: false,
        stored: None,
        published: Published::Same,
        standing: None,
        said_for_s: 0,
        for_s: 10_000,
        restarts: 0,
        restarted_s: None,
    };
    let mut pauses = Vec::new();
    for restarts in 1..=7 {
        seen.restarts = restarts;
        let due = (0..=RESTART_MOST_S).find(|ago| {
            seen.restarted_s = Some(*ago);
            decide(&seen) == Action::Restart(Cause::Error)
        });
        pauses.push(due.expect("a restart"));
    }
    assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
}

/// Whatever the engine says, a machine that the cluster knows does not wait for ever, and neither
/// does one that holds nothing.
#[test]
fn where_the_cluster_answers_nothing_waits_for_ever() {
    for cell in cells().iter().filter(|cell| cell.for_s == 10_000 && cell.restarted_s != Some(1)) {
        let answers = cell.known.published == Published::Same && cell.known.standing.is_some();
        let known = answers && (cell.place() != Some(Place::Unknown) || cell.is_removed());
        let engine = ["pending", "active worker", "error"].contains(&cell.engine.0);
        if known && engine {
            assert!(!matches!(cell.action(), Action::Wait(_)), "{:?}: {cell:?}", cell.action());
        }
        if cell.store.0 == "empty" && ["inactive", "pending", "error"].contains(&cell.engine.0) {
            let begins = matches!(cell.action(), Action::Enter | Action::StartOver | Action::Rejoin(_));
            assert!(begins, "{:?}: {cell:?}", cell.action());
        }
    }
}

#[test]
fn the_engine_s_own_swarm_is_compared_with_the_published_one() {
    let (own, other) = (swarm("own"), swarm("other"));
    assert_eq!(published(Some(&own), Ok(Some(&own))), Published::Same);
    assert_eq!(published(Some(&own), Ok(Some(&other))), Published::Other);
    assert_eq!(published(Some(&own), Ok(None)), Published::None);
    assert_eq!(published(Some(&own), Err(())), Published::Unknown);
    assert_eq!(published(None, Ok(Some(&other))), Published::Unknown);
}

/// The table for people: what is done when a state has lasted, and nothing was restarted yet.
#[test]
fn the_table_of_states_and_what_is_known() {
    let mut rows: BTreeMap<(&str, usize, usize), BTreeMap<Action, Vec<String>>> = BTreeMap::new();
    let engines: Vec<_> = engines().iter().map(|engine| engine.0).collect();
    let stores: Vec<_> = stores().iter().map(|store| store.0).collect();
    for cell in cells().iter().filter(|cell| cell.for_s == 10_000 && cell.restarts == 0) {
        let engine = engines.iter().position(|name| *name == cell.engine.0).expect("an engine");
        let store = stores.iter().position(|name| *name == cell.store.0).expect("a store");
        let leader = if cell.leader { " (leader)" } else { "" };
        rows.entry((cell.role.word(), engine, store))
            .or_default()
            .entry(cell.action())
            .or_default()
            .push(format!("{}{leader}", cell.known.label));
    }
    let mut text = String::new();
    for ((role, engine, store), actions) in rows {
        let _ = writeln!(text, "{} | {} | {}", role, engines[engine], stores[store]);
        let whole = actions.len() == 1;
        for (action, when) in actions {
            let mut when: Vec<String> = when;
            // What does not depend on the leader is listed once.
            let both: BTreeSet<String> =
                when.iter().filter(|one| when.contains(&format!("{one} (leader)"))).cloned().collect();
            when.retain(|one| !both.iter().any(|other| *one == format!("{other} (leader)")));
            let when: Vec<String> = when
                .into_iter()
                .map(|one| {
                    if both.contains(&one) || one.ends_with("(leader)") {
                        one
                    } else {
                        format!("{one} (no leader)")
                    }
                })
                .collect();
            let when = if whole { "always".to_owned() } else { when.join("; ") };
            let _ = writeln!(text, "    {action:?}: {when}");
        }
    }
    insta::assert_snapshot!(text);
}
