//! What a cluster's state means for a person, and which machine a cluster whose majority is lost
//! goes on from. Pure: it judges what the control machines answered.

use std::collections::BTreeSet;

use crate::model::cluster::{Answer, Asked, EngineState, LogEnd, View};
use crate::model::feature::Feature;
use crate::model::name::MachineId;

/// The state of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// A majority decides, and one more machine can be lost.
    Whole,
    /// A majority decides, and it is lost with the next machine.
    Fragile,
    /// No machine that answered has a majority behind it.
    NoMajority,
    /// No machine answered.
    Silent,
}

impl Health {
    /// Its label.
    pub fn words(self) -> &'static str {
        match self {
            Self::Whole => "a majority decides",
            Self::Fragile => "a majority decides, and is lost with the next control machine",
            Self::NoMajority => "no majority: nothing can be changed, and what runs goes on running",
            Self::Silent => "no control machine answers",
        }
    }
}

/// Judges what the control machines answered.
pub fn health(asked: &[Asked]) -> Health {
    let mut views = asked.iter().filter_map(Asked::view).peekable();
    if views.peek().is_none() {
        return Health::Silent;
    }
    let Some(view) = views.find(|view| view.has_majority()) else { return Health::NoMajority };
    let reachable = view.managers.iter().filter(|one| one.reachable).count();
    let needed = view.managers.len() / 2 + 1;
    if reachable > needed { Health::Whole } else { Health::Fragile }
}

/// The answer of the leader, or of any machine that has a majority behind it.
pub fn best(asked: &[Asked]) -> Option<&View> {
    let views = || asked.iter().filter_map(Asked::view);
    views()
        .find(|view| view.leads())
        .or_else(|| views().find(|view| view.has_majority()))
        .or_else(|| views().next())
}

/// How a cluster is brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The machine that it goes on from.
    pub machine: MachineId,
    /// Where its log ends.
    pub log: LogEnd,
    /// Control machines that answered; they join again with nothing of their own.
    pub join_again: Vec<String>,
    /// Those that did not; they are removed from the cluster, and must not come back as they are.
    pub gone: Vec<String>,
}

/// Why a cluster is not brought back in this way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It has a majority.
    Majority(MachineId),
    /// Nobody answered.
    NobodyAnswers,
    /// Nobody who answered has a log.
    NoLog,
    /// Machines that must answer can't do this.
    TooOld(Vec<String>),
    /// Machines answered that belong to different clusters.
    SeveralClusters(BTreeSet<String>),
}

/// Chooses the machine that a cluster goes on from: the one with the newest log of those that
/// answered.
///
/// # Errors
/// When it must not be done, or can't.
pub fn recover(asked: &[Asked]) -> Result<Recovery, Refusal> {
    let old = |one: &&Asked| match &one.answer {
        Answer::TooOld => true,
        Answer::View(view) => !view.features.has(Feature::ClusterRecovery),
        Answer::Silent(_) => false,
    };
    let old: Vec<String> = asked.iter().filter(old).map(|one| one.machine.clone()).collect();
    if !old.is_empty() {
        return Err(Refusal::TooOld(old));
    }
    let views: Vec<&View> = asked.iter().filter_map(Asked::view).collect();
    if views.is_empty() {
        return Err(Refusal::NobodyAnswers);
    }
    if let Some(view) = views.iter().find(|view| view.has_majority()) {
        return Err(Refusal::Majority(view.machine.clone()));
    }
    let ids: BTreeSet<String> = views.iter().filter_map(|view| view.id.clone()).collect();
    if ids.len() > 1 {
        return Err(Refusal::SeveralClusters(ids));
    }
    let holds = |view: &&&View| {
        matches!(view.engine, EngineState::Alone | EngineState::Waiting | EngineState::Broken)
    };
    // Of equal logs, the lowest id: whoever asks gets the same answer.
    let newest = views
        .iter()
        .filter(holds)
        .filter_map(|view| Some((view.log?, &view.machine)))
        .max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.cmp(one)));
    let Some((log, machine)) = newest else { return Err(Refusal::NoLog) };
    let others = |answered: bool| {
        asked
            .iter()
            .filter(|one| one.view().is_some() == answered && one.machine != machine.as_str())
            .map(|one| one.machine.clone())
            .collect()
    };
    Ok(Recovery { machine: machine.clone(), log, join_again: others(true), gone: others(false) })
}

/// The machine that etcd goes on from: the one with its newest log. `None` while it has a majority,
/// or where there is none.
pub fn recover_etcd(asked: &[Asked]) -> Option<(MachineId, LogEnd)> {
    let views: Vec<&View> = asked.iter().filter_map(Asked::view).collect();
    if views.iter().any(|view| view.etcd.is_some_and(|etcd| etcd.healthy)) {
        return None;
    }
    let newest = views.iter().filter_map(|view| Some((view.etcd?.log?, &view.machine)));
    let (log, machine) = newest.max_by(|(a, one), (b, other)| a.cmp(b).then_with(|| other.cmp(one)))?;
    Some((machine.clone(), log))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::cluster::{Durability, Manager};
    use crate::model::feature::Features;

    pub(crate) fn view(id: &str, engine: EngineState, log: Option<(u64, u64)>) -> View {
        View {
            version: 1,
            machine: id.parse().expect("an id"),
            address: "10.0.0.1".parse().expect("an address"),
            features: Features::own(),
            engine,
            message: None,
            id: Some("c1".into()),
            node: Some(format!("n-{id}")),
            generation: 1,
            restored: true,
            log: log.map(|(term, index)| LogEnd { term, index }),
            managers: vec![],
            durability: Durability::default(),
            etcd: None,
        }
    }

    fn answered(view: View) -> Asked {
        Asked { machine: view.machine.to_string(), answer: Answer::View(Box::new(view)) }
    }

    fn silent(id: &str) -> Asked {
        Asked { machine: id.into(), answer: Answer::Silent("no route".into()) }
    }

    fn manager(id: &str, leader: bool, reachable: bool) -> Manager {
        Manager { node: format!("n-{id}"), machine: id.parse().ok(), leader, reachable }
    }

    #[test]
    fn the_newest_log_wins_the_term_before_the_length() {
        let asked = [
            answered(view("i-1", EngineState::Alone, Some((3, 900)))),
            answered(view("i-2", EngineState::Waiting, Some((4, 20)))),
            silent("i-3"),
        ];
        let recovery = recover(&asked).expect("it can be done");
        assert_eq!(recovery.machine.as_str(), "i-2");
        assert_eq!(recovery.join_again, ["i-1"]);
        assert_eq!(recovery.gone, ["i-3"]);
        let equal = [
            answered(view("i-2", EngineState::Alone, Some((3, 9)))),
            answered(view("i-1", EngineState::Alone, Some((3, 9)))),
        ];
        assert_eq!(recover(&equal).expect("it can be done").machine.as_str(), "i-1");
    }

    #[test]
    fn a_cluster_with_a_majority_is_left_alone() {
        let asked = [
            answered(view("i-1", EngineState::Alone, Some((3, 900)))),
            answered(view("i-2", EngineState::Manager, Some((3, 900)))),
        ];
        assert_eq!(recover(&asked), Err(Refusal::Majority("i-2".parse().expect("an id"))));
    }

    #[test]
    fn what_can_t_be_judged_is_refused() {
        assert_eq!(recover(&[silent("i-1")]), Err(Refusal::NobodyAnswers));
        assert_eq!(recover(&[answered(view("i-1", EngineState::Alone, None))]), Err(Refusal::NoLog));
        assert_eq!(recover(&[answered(view("i-1", EngineState::Out, Some((1, 1))))]), Err(Refusal::NoLog));
        let mut other = view("i-2", EngineState::Alone, Some((1, 1)));
        other.id = Some("c2".into());
        let asked = [answered(view("i-1", EngineState::Alone, Some((1, 1)))), answered(other)];
        assert!(matches!(recover(&asked), Err(Refusal::SeveralClusters(_))));
        let mut old = view("i-1", EngineState::Alone, Some((1, 1)));
        old.features = Features::default();
        assert!(matches!(recover(&[answered(old)]), Err(Refusal::TooOld(_))));
    }

    #[test]
    fn etcd_goes_on_from_its_own_newest_log() {
        let with = |id: &str, healthy, log: Option<(u64, u64)>| {
            let mut one = view(id, EngineState::Manager, None);
            let log = log.map(|(term, index)| LogEnd { term, index });
            one.etcd = Some(crate::model::cluster::EtcdView { healthy, log });
            answered(one)
        };
        let asked =
            [with("i-1", false, Some((3, 9))), with("i-2", false, Some((4, 2))), with("i-3", false, None)];
        assert_eq!(recover_etcd(&asked).map(|(machine, _)| machine.to_string()).as_deref(), Some("i-2"));
        let whole = [with("i-1", true, Some((3, 9))), with("i-2", false, Some((4, 2)))];
        assert_eq!(recover_etcd(&whole), None, "it has a majority");
        assert_eq!(recover_etcd(&[answered(view("i-1", EngineState::Manager, None))]), None, "there is none");
    }

    #[test]
    fn health_says_what_the_next_loss_costs() {
        let with = |reachable: [bool; 3]| {
            let mut one = view("i-1", EngineState::Manager, None);
            one.managers = ["i-1", "i-2", "i-3"]
                .iter()
                .zip(reachable)
                .map(|(id, reachable)| manager(id, *id == "i-1", reachable))
                .collect();
            health(&[answered(one)])
        };
        assert_eq!(with([true, true, true]), Health::Whole);
        assert_eq!(with([true, true, false]), Health::Fragile);
        assert_eq!(health(&[silent("i-1")]), Health::Silent);
        assert_eq!(health(&[answered(view("i-1", EngineState::Waiting, None))]), Health::NoMajority);
    }
}
