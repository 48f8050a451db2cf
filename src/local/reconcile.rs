//! Decides, without doing anything, what must happen so that machines equal instances.
//!
//! The rules, in order of weight:
//! 1. A machine that ran once and is gone or stopped is a terminated instance: that is
//!    reported, and no machine is ever started again for that instance. Only one that ended
//!    itself in order to reboot is started again: an instance that reboots stays the same.
//!    So does one whose power was cut on purpose: a note says so before it is cut.
//! 2. An instance that is pending or running has exactly one machine.
//! 3. A machine without an instance, or of a terminated one, is removed.
//! 4. A network lives as long as an instance or a machine uses it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;

use super::instance::Instance;

/// What Docker says of a machine's container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Running, or paused.
    Running,
    /// Exited or dead.
    Stopped,
    /// Ended by its own init, which asked for a reboot.
    Rebooting,
    /// Being removed now.
    Removing,
}

/// What the note of a power cut says of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCut {
    /// There is no note.
    None,
    /// The boot that was to end has ended, and the machine was started again after it.
    Done,
    /// The machine must be off.
    Ordered {
        /// Whether the time to switch it on again has come.
        over: bool,
    },
}

impl PowerCut {
    /// Whether the machine must be off, or be switched on again by the same order.
    fn is_ordered(self) -> bool {
        matches!(self, Self::Ordered { .. })
    }
}

/// What is left or there of one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The instance it was made for.
    pub instance: String,
    /// Its container; `None` when only its volume or files are left.
    pub container: Option<ContainerState>,
    /// Whether starting its container was ever tried (noted on disk before it is).
    pub started: bool,
    /// Whether its power was cut on purpose.
    pub power: PowerCut,
}

/// A network of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The VPC it stands for.
    pub vpc: String,
    /// Its range.
    pub cidr: Ipv4Net,
}

/// What is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Machines, whole or in pieces.
    pub machines: Vec<Machine>,
    /// Networks.
    pub networks: Vec<Network>,
}

/// Why a machine is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoveReason {
    /// Its instance is terminated.
    Terminated,
    /// The emulator does not know its instance.
    Unknown,
}

/// Why an instance is reported as vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VanishReason {
    /// Its container is not there any more.
    Gone,
    /// Its container is there and does not run.
    Stopped,
}

/// One thing to do. They are done in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the emulator that the instance's machine is gone.
    ReportVanished {
        /// The instance.
        instance: String,
        /// What was seen.
        reason: VanishReason,
    },
    /// Kill the container of a machine without a shutdown.
    CutPower {
        /// The instance.
        instance: String,
    },
    /// Start the container of a machine whose power was cut, with all that is on its disks.
    SwitchOn {
        /// The instance.
        instance: String,
    },
    /// Remove the note of a power cut that is over.
    ForgetPowerCut {
        /// The instance.
        instance: String,
    },
    /// Remove container, volume and files of a machine.
    Remove {
        /// The instance.
        instance: String,
        /// Why.
        reason: RemoveReason,
    },
    /// Remove a network that nothing uses.
    RemoveNetwork {
        /// Its VPC.
        vpc: String,
    },
    /// Make the network of a VPC.
    CreateNetwork(Network),
    /// Start the container of a machine that reboots, with all that is on its disks.
    Restart {
        /// The instance.
        instance: String,
    },
    /// Make and start the machine of an instance; what is left of a start that failed is removed first.
    Start {
        /// The instance.
        instance: String,
    },
}

/// Compares instances with what is there.
pub fn reconcile(instances: &[Instance], observed: &Observed) -> Vec<Action> {
    let known: BTreeMap<&str, &Instance> = instances.iter().map(|i| (i.id.as_str(), i)).collect();
    let machines: BTreeMap<&str, &Machine> =
        observed.machines.iter().map(|m| (m.instance.as_str(), m)).collect();
    let (mut reports, mut removals) = (Vec::new(), Vec::new());
    let (mut restarts, mut starts) = (Vec::new(), Vec::new());
    let (mut forgets, mut cuts, mut switched) = (Vec::new(), Vec::new(), Vec::new());

    for (id, machine) in &machines {
        let instance = (*id).to_owned();
        if machine.power == PowerCut::Done {
            forgets.push(Action::ForgetPowerCut { instance: instance.clone() });
        }
        match known.get(id) {
            None => removals.push(Action::Remove { instance, reason: RemoveReason::Unknown }),
            Some(i) if i.is_terminated() => {
                removals.push(Action::Remove { instance, reason: RemoveReason::Terminated });
            }
            Some(i) if i.wants_machine() => match (machine.container, machine.started) {
                (Some(ContainerState::Running), _) if machine.power.is_ordered() => {
                    cuts.push(Action::CutPower { instance });
                }
                (Some(ContainerState::Stopped | ContainerState::Rebooting), _)
                    if machine.power.is_ordered() =>
                {
                    if machine.power == (PowerCut::Ordered { over: true }) {
                        switched.push(Action::SwitchOn { instance });
                    }
                }
                (Some(ContainerState::Running | ContainerState::Removing), _) => {}
                (Some(ContainerState::Rebooting), _) => restarts.push(Action::Restart { instance }),
                (Some(ContainerState::Stopped), _) => {
                    reports.push(Action::ReportVanished { instance, reason: VanishReason::Stopped });
                }
                (None, true) => {
                    reports.push(Action::ReportVanished { instance, reason: VanishReason::Gone });
                }
                // A container that was only made has never run: starting it resurrects nothing.
                (Some(ContainerState::Created), _) | (None, false) => starts.push(Action::Start { instance }),
            },
            // Stopping or shutting down: wait for the emulator's last word.
            Some(_) => {}
        }
    }
    for (id, instance) in &known {
        if instance.wants_machine() && !machines.contains_key(id) {
            starts.push(Action::Start { instance: (*id).to_owned() });
        }
    }

    let starting: BTreeSet<&str> = starts
        .iter()
        .filter_map(|action| match action {
            Action::Start { instance } => Some(instance.as_str()),
            _ => None,
        })
        .collect();
    let mut removed_networks = Vec::new();
    let mut kept: BTreeMap<&str, Ipv4Net> = BTreeMap::new();
    for network in &observed.networks {
        // A machine whose instance the emulator does not list any more may be on any network:
        // the network is then removed in the next round, when the machine is gone.
        let used = instances.iter().any(|i| {
            i.vpc_id.as_deref() == Some(&network.vpc)
                && (i.wants_machine() || machines.contains_key(i.id.as_str()))
        }) || observed.machines.iter().any(|m| !known.contains_key(m.instance.as_str()));
        if used {
            kept.insert(&network.vpc, network.cidr);
        } else {
            removed_networks.push(Action::RemoveNetwork { vpc: network.vpc.clone() });
        }
    }
    let mut created_networks = Vec::new();
    for place in known.values().filter(|i| starting.contains(i.id.as_str())).filter_map(|i| i.place()) {
        if kept.insert(place.vpc, place.cidr).is_none() {
            let network = Network { vpc: place.vpc.to_owned(), cidr: place.cidr };
            created_networks.push(Action::CreateNetwork(network));
        }
    }

    [forgets, reports, cuts, removals, restarts, switched, removed_networks, created_networks, starts]
        .concat()
}

#[cfg(test)]
mod tests {
    use super::super::instance::InstanceLife;
    use super::*;

    use proptest::prelude::*;

    fn instance(id: &str, state: InstanceLife) -> Instance {
        Instance {
            id: id.into(),
            state,
            private_ip: "10.0.1.4".parse().ok(),
            vpc_id: Some("vpc-1".into()),
            vpc_cidr: "10.0.0.0/16".parse().ok(),
            zone: "eu-west-1a".into(),
            region: "eu-west-1".into(),
            account: "000000000000".into(),
            group: None,
            lifecycle: None,
            target_lifecycle: None,
            image_id: None,
            instance_type: None,
            user_data: None,
            tags: BTreeMap::new(),
            role: None,
            launched_at: None,
        }
    }

    fn machine(id: &str, container: Option<ContainerState>, started: bool) -> Machine {
        Machine { instance: id.into(), container, started, power: PowerCut::None }
    }

    fn cut(id: &str, container: Option<ContainerState>, power: PowerCut) -> Machine {
        Machine { power, ..machine(id, container, true) }
    }

    fn network() -> Network {
        Network { vpc: "vpc-1".into(), cidr: "10.0.0.0/16".parse().unwrap() }
    }

    #[test]
    fn a_new_instance_gets_its_network_and_then_its_machine() {
        let actions = reconcile(&[instance("i-1", InstanceLife::Running)], &Observed::default());
        assert_eq!(actions, [Action::CreateNetwork(network()), Action::Start { instance: "i-1".into() }]);
    }

    #[test]
    fn a_vanished_machine_is_reported_and_not_started_again() {
        let observed = Observed { machines: vec![machine("i-1", None, true)], networks: vec![network()] };
        let actions = reconcile(&[instance("i-1", InstanceLife::Running)], &observed);
        assert_eq!(actions, [Action::ReportVanished { instance: "i-1".into(), reason: VanishReason::Gone }]);
    }

    #[test]
    fn a_stopped_machine_is_a_vanished_one() {
        let observed = Observed {
            machines: vec![machine("i-1", Some(ContainerState::Stopped), true)],
            networks: vec![network()],
        };
        let actions = reconcile(&[instance("i-1", InstanceLife::Running)], &observed);
        assert_eq!(
            actions,
            [Action::ReportVanished { instance: "i-1".into(), reason: VanishReason::Stopped }]
        );
    }

    #[test]
    fn a_machine_that_reboots_is_started_again_unless_its_instance_is_to_go() {
        let observed = Observed {
            machines: vec![machine("i-1", Some(ContainerState::Rebooting), true)],
            networks: vec![network()],
        };
        let actions = reconcile(&[instance("i-1", InstanceLife::Running)], &observed);
        assert_eq!(actions, [Action::Restart { instance: "i-1".into() }]);
        assert_eq!(reconcile(&[instance("i-1", InstanceLife::ShuttingDown)], &observed), []);
        assert_eq!(
            reconcile(&[instance("i-1", InstanceLife::Terminated)], &observed),
            [Action::Remove { instance: "i-1".into(), reason: RemoveReason::Terminated }]
        );
    }

    /// Every state of a container, with every state of the note.
    #[test]
    fn a_machine_that_is_off_on_purpose_is_not_a_terminated_instance() {
        use ContainerState::{Created, Rebooting, Removing, Running, Stopped};
        let instance = || "i-1".to_owned();
        let cut_power = Action::CutPower { instance: instance() };
        let switch_on = Action::SwitchOn { instance: instance() };
        let forget = Action::ForgetPowerCut { instance: instance() };
        let start = Action::Start { instance: instance() };
        let restart = Action::Restart { instance: instance() };
        let gone = Action::ReportVanished { instance: instance(), reason: VanishReason::Gone };
        let stopped = Action::ReportVanished { instance: instance(), reason: VanishReason::Stopped };
        let off = PowerCut::Ordered { over: false };
        let over = PowerCut::Ordered { over: true };
        let table: [(Option<ContainerState>, PowerCut, Vec<&Action>); 18] = [
            (Some(Running), off, vec![&cut_power]),
            // Nobody was there to cut it in time: the machine still loses its power once.
            (Some(Running), over, vec![&cut_power]),
            (Some(Stopped), off, vec![]),
            (Some(Stopped), over, vec![&switch_on]),
            // It was rebooting when its power was cut.
            (Some(Rebooting), off, vec![]),
            (Some(Rebooting), over, vec![&switch_on]),
            (Some(Removing), off, vec![]),
            (Some(Removing), over, vec![]),
            (Some(Created), off, vec![&start]),
            (Some(Created), over, vec![&start]),
            // Removed by another hand while it was off.
            (None, off, vec![&gone]),
            (None, over, vec![&gone]),
            // Switched on again by a supervisor that was killed before it removed the note.
            (Some(Running), PowerCut::Done, vec![&forget]),
            (Some(Stopped), PowerCut::Done, vec![&forget, &stopped]),
            (Some(Rebooting), PowerCut::Done, vec![&forget, &restart]),
            (Some(Removing), PowerCut::Done, vec![&forget]),
            (Some(Created), PowerCut::Done, vec![&forget, &start]),
            (None, PowerCut::Done, vec![&forget, &gone]),
        ];
        for (container, power, expected) in table {
            let observed =
                Observed { machines: vec![cut("i-1", container, power)], networks: vec![network()] };
            let actions = reconcile(&[self::instance("i-1", InstanceLife::Running)], &observed);
            assert_eq!(actions.iter().collect::<Vec<_>>(), expected, "{container:?} {power:?}");
        }
    }

    #[test]
    fn a_machine_whose_instance_is_terminated_while_it_is_off_is_removed() {
        let observed = Observed {
            machines: vec![cut("i-1", Some(ContainerState::Stopped), PowerCut::Ordered { over: true })],
            networks: vec![network()],
        };
        assert_eq!(
            reconcile(&[instance("i-1", InstanceLife::Terminated)], &observed),
            [Action::Remove { instance: "i-1".into(), reason: RemoveReason::Terminated }]
        );
        assert_eq!(reconcile(&[instance("i-1", InstanceLife::ShuttingDown)], &observed), []);
    }

    #[test]
    fn a_start_that_failed_half_way_is_tried_again() {
        let observed = Observed {
            machines: vec![machine("i-1", Some(ContainerState::Created), true)],
            networks: vec![network()],
        };
        let actions = reconcile(&[instance("i-1", InstanceLife::Pending)], &observed);
        assert_eq!(actions, [Action::Start { instance: "i-1".into() }]);
    }

    #[test]
    fn the_last_machine_goes_before_its_network() {
        let observed = Observed {
            machines: vec![machine("i-1", Some(ContainerState::Running), true)],
            networks: vec![network()],
        };
        let gone = [instance("i-1", InstanceLife::Terminated)];
        let first = reconcile(&gone, &observed);
        assert_eq!(first, [Action::Remove { instance: "i-1".into(), reason: RemoveReason::Terminated }]);
        let observed = Observed { machines: vec![], networks: vec![network()] };
        assert_eq!(reconcile(&gone, &observed), [Action::RemoveNetwork { vpc: "vpc-1".into() }]);
    }

    #[test]
    fn an_instance_in_its_termination_hook_keeps_its_machine() {
        let mut waiting = instance("i-1", InstanceLife::Running);
        waiting.lifecycle = Some("Terminating:Wait".into());
        waiting.target_lifecycle = Some("Terminated".into());
        let observed = Observed {
            machines: vec![machine("i-1", Some(ContainerState::Running), true)],
            networks: vec![network()],
        };
        assert_eq!(reconcile(&[waiting], &observed), []);
    }

    /// What the shell and the emulator do with an action.
    fn perform(actions: &[Action], instances: &mut [Instance], observed: &mut Observed) {
        for action in actions {
            match action {
                Action::ReportVanished { instance, .. } => {
                    if let Some(i) = instances.iter_mut().find(|i| &i.id == instance) {
                        i.state = InstanceLife::Terminated;
                    }
                }
                Action::Remove { instance, .. } => {
                    observed.machines.retain(|m| &m.instance != instance);
                }
                Action::Restart { instance } => {
                    for machine in observed.machines.iter_mut().filter(|m| &m.instance == instance) {
                        machine.container = Some(ContainerState::Running);
                    }
                }
                Action::CutPower { instance } => {
                    for machine in observed.machines.iter_mut().filter(|m| &m.instance == instance) {
                        machine.container = Some(ContainerState::Stopped);
                    }
                }
                Action::SwitchOn { instance } => {
                    for machine in observed.machines.iter_mut().filter(|m| &m.instance == instance) {
                        machine.container = Some(ContainerState::Running);
                        machine.power = PowerCut::None;
                    }
                }
                Action::ForgetPowerCut { instance } => {
                    for machine in observed.machines.iter_mut().filter(|m| &m.instance == instance) {
                        machine.power = PowerCut::None;
                    }
                }
                Action::RemoveNetwork { vpc } => observed.networks.retain(|n| &n.vpc != vpc),
                Action::CreateNetwork(network) => observed.networks.push(network.clone()),
                Action::Start { instance } => {
                    observed.machines.retain(|m| &m.instance != instance);
                    observed.machines.push(machine(instance, Some(ContainerState::Running), true));
                }
            }
        }
    }

    fn any_life() -> impl Strategy<Value = InstanceLife> {
        prop_oneof![
            Just(InstanceLife::Pending),
            Just(InstanceLife::Running),
            Just(InstanceLife::ShuttingDown),
            Just(InstanceLife::Terminated),
        ]
    }

    fn any_world() -> impl Strategy<Value = (Vec<Instance>, Observed)> {
        let container = prop_oneof![
            Just(None),
            Just(Some(ContainerState::Created)),
            Just(Some(ContainerState::Running)),
            Just(Some(ContainerState::Stopped)),
            Just(Some(ContainerState::Rebooting)),
        ];
        let power = prop_oneof![
            3 => Just(PowerCut::None),
            1 => Just(PowerCut::Done),
            1 => any::<bool>().prop_map(|over| PowerCut::Ordered { over }),
        ];
        let instances = prop::collection::btree_map(0_u8..8, (any_life(), 0_u8..3), 0..8);
        let machines = prop::collection::btree_map(0_u8..8, (container, any::<bool>(), power), 0..8);
        let networks = prop::collection::btree_set(0_u8..4, 0..4);
        (instances, machines, networks).prop_map(|(instances, machines, networks)| {
            let cidr = |n: u8| -> Ipv4Net { format!("10.{n}.0.0/16").parse().unwrap() };
            let instances = instances
                .into_iter()
                .map(|(id, (state, vpc))| {
                    let mut i = instance(&format!("i-{id}"), state);
                    i.vpc_id = Some(format!("vpc-{vpc}"));
                    i.vpc_cidr = Some(cidr(vpc));
                    i
                })
                .collect();
            let machines = machines
                .into_iter()
                .map(|(id, (container, started, power))| Machine {
                    power,
                    ..machine(&format!("i-{id}"), container, started)
                })
                .collect();
            let networks =
                networks.into_iter().map(|n| Network { vpc: format!("vpc-{n}"), cidr: cidr(n) }).collect();
            (instances, Observed { machines, networks })
        })
    }

    proptest! {
        #[test]
        fn what_ran_once_is_never_started_again((instances, observed) in any_world()) {
            for action in reconcile(&instances, &observed) {
                if let Action::SwitchOn { instance } = &action {
                    let over = PowerCut::Ordered { over: true };
                    prop_assert!(observed.machines.iter().any(|m| m.instance == *instance
                        && m.power == over && m.container != Some(ContainerState::Running)));
                    prop_assert!(instances.iter().any(|i| i.id == *instance && i.wants_machine()));
                }
                if let Action::Restart { instance } = &action {
                    prop_assert!(observed.machines.iter().any(|m| m.instance == *instance
                        && m.container == Some(ContainerState::Rebooting)));
                    prop_assert!(instances.iter().any(|i| i.id == *instance && i.wants_machine()));
                }
                if let Action::Start { instance } = action {
                    let before = observed.machines.iter().find(|m| m.instance == instance);
                    prop_assert!(before.is_none_or(|m| m.container == Some(ContainerState::Created)
                        || (m.container.is_none() && !m.started)));
                    prop_assert!(instances.iter().any(|i| i.id == instance && i.wants_machine()));
                }
            }
        }

        #[test]
        fn a_started_machine_has_its_network((instances, mut observed) in any_world()) {
            let mut instances = instances;
            let actions = reconcile(&instances, &observed);
            perform(&actions, &mut instances, &mut observed);
            for i in instances.iter().filter(|i| i.wants_machine()) {
                if observed.machines.iter().any(|m| m.instance == i.id) && actions.contains(&Action::Start { instance: i.id.clone() }) {
                    prop_assert!(observed.networks.iter().any(|n| Some(&n.vpc) == i.vpc_id.as_ref()));
                }
            }
        }

        #[test]
        fn it_settles_and_then_does_nothing((instances, observed) in any_world()) {
            let (mut instances, mut observed) = (instances, observed);
            let mut rounds = 0;
            loop {
                let actions = reconcile(&instances, &observed);
                if actions.is_empty() {
                    break;
                }
                perform(&actions, &mut instances, &mut observed);
                rounds += 1;
                prop_assert!(rounds <= 4, "still {actions:?}");
            }
            for i in instances.iter().filter(|i| i.wants_machine()) {
                let there: Vec<&Machine> = observed.machines.iter().filter(|m| m.instance == i.id).collect();
                prop_assert_eq!(there.len(), 1);
                // What is off on purpose stays off until its time has come.
                let off = there[0].power == PowerCut::Ordered { over: false };
                prop_assert_eq!(there[0].container == Some(ContainerState::Running), !off);
            }
            for i in instances.iter().filter(|i| i.is_terminated()) {
                prop_assert!(observed.machines.iter().all(|m| m.instance != i.id));
            }
        }
    }
}
