//! What an agent can do that earlier ones could not. Each published feature is a promise to
//! those who send it something: a machine without it must not get what needs it.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::machine::{Machine, Role};
use super::name::MachineId;
use super::service::Deployment;

/// A feature of an agent. New ones are added at the end and none is ever taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Feature {
    /// Refuses a request with a field that it does not know, instead of leaving the field out.
    StrictRequests,
    /// Carries records of other versions without changing them.
    CarriedRecords,
    /// Keeps what the cluster runs in the project's bucket, and restores it.
    DurableServices,
    /// Answers `cluster status` and `cluster recover` without a majority.
    ClusterRecovery,
    /// Ends rollouts at a deadline.
    RolloutDeadlines,
    /// Gives containers settings beyond those of the first version, and scales, stops and restarts services.
    ContainerSettings,
    /// Gives containers secrets, files and volumes.
    Mounts,
    /// Reports the ports of its containers, so that services can share a network.
    Names,
    /// Keeps jobs and runs each occurrence once: helpers ask for a permit before they execute it.
    Jobs,
    /// Listens for control machines, and executes programs in instances and reads logs for them.
    Streams,
    /// Keeps events and sends them to other control machines.
    Events,
    /// Runs a service's `pre_deploy` command once for each revision, before it is rolled out.
    PreDeploy,
    /// Keeps a one-off command's container for its caller, and connects the two.
    AttendedRuns,
    /// Gives containers the credentials of their `aws_role`.
    AwsRoles,
    /// Runs systemd units that the cluster has placed.
    Units,
    /// Keeps watched files: renders them from what the cluster knows.
    HostFiles,
}

impl Feature {
    /// All of them, oldest first.
    pub const ALL: [Self; 16] = [
        Self::StrictRequests,
        Self::CarriedRecords,
        Self::DurableServices,
        Self::ClusterRecovery,
        Self::RolloutDeadlines,
        Self::ContainerSettings,
        Self::Mounts,
        Self::Names,
        Self::Jobs,
        Self::Streams,
        Self::Events,
        Self::PreDeploy,
        Self::AttendedRuns,
        Self::AwsRoles,
        Self::Units,
        Self::HostFiles,
    ];

    /// The word in labels and messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::StrictRequests => "strict-requests",
            Self::CarriedRecords => "carried-records",
            Self::DurableServices => "durable-services",
            Self::ClusterRecovery => "cluster-recovery",
            Self::RolloutDeadlines => "rollout-deadlines",
            Self::ContainerSettings => "container-settings",
            Self::Mounts => "mounts",
            Self::Names => "names",
            Self::Jobs => "jobs",
            Self::Streams => "streams",
            Self::Events => "events",
            Self::PreDeploy => "pre-deploy",
            Self::AttendedRuns => "attended-runs",
            Self::AwsRoles => "aws-roles",
            Self::Units => "units",
            Self::HostFiles => "host-files",
        }
    }

    fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Feature {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|feature| feature.word() == text).ok_or(())
    }
}

/// What one agent can do. Features of later versions are passed over: nobody here asks for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(u64);

impl Features {
    /// What this program can do.
    pub fn own() -> Self {
        Feature::ALL.into_iter().collect()
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `feature` is among them.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & feature.bit() != 0
    }

    /// The features, oldest first.
    pub fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }

    /// Those of `self` that `other` lacks, oldest first.
    pub fn beyond(self, other: Self) -> impl Iterator<Item = Feature> {
        self.iter().filter(move |feature| !other.has(*feature))
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<I: IntoIterator<Item = Feature>>(features: I) -> Self {
        Self(features.into_iter().fold(0, |bits, feature| bits | feature.bit()))
    }
}

impl Serialize for Features {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.iter().count()))?;
        for feature in self.iter() {
            list.serialize_element(feature.word())?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Features;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of features")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Features, A::Error> {
                let mut found = Features::default();
                while let Some(word) = list.next_element::<String>()? {
                    if let Ok(feature) = word.parse::<Feature>() {
                        found.0 |= feature.bit();
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

/// Whether the agents of all machines have `feature`.
pub fn all_have(machines: &[Machine], feature: Feature) -> bool {
    machines.iter().all(|machine| machine.features.has(feature))
}

/// The metadata that says what a machine's agent can do, one for each feature.
pub fn feature_labels(features: Features) -> impl Iterator<Item = (String, String)> {
    features.iter().map(|feature| (format!("feature.{feature}"), "yes".to_owned()))
}

/// What a deployment needs of the machines that have to do with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of every control machine: any of them may answer, and any may lead.
    pub control: Features,
    /// Of the machines that run its instances.
    pub machines: Features,
}

/// A field of a deployment, as a JSON pointer in which `*` stands for any item of a list, and what it
/// needs where it is set.
#[derive(Debug, Clone, Copy)]
struct Field {
    path: &'static str,
    control: Option<Feature>,
    machines: Option<Feature>,
}

/// A field that the first version knows.
const fn first(path: &'static str) -> Field {
    Field { path, control: None, machines: None }
}

/// A field that only control machines act on.
const fn control(path: &'static str, feature: Feature) -> Field {
    Field { path, control: Some(feature), machines: None }
}

/// Every field of a deployment. A field that a later version adds is added here with the features
/// that it needs; a test fails until it is.
const FIELDS: &[Field] = &[
    first("/registry"),
    first("/digest"),
    first("/origin"),
    first("/spec/name"),
    first("/spec/image"),
    first("/spec/command"),
    first("/spec/scale"),
    first("/spec/environment"),
    first("/spec/ports"),
    first("/spec/health"),
    first("/spec/limits"),
    first("/spec/placement"),
    first("/spec/update"),
    control("/spec/update/deadline", Feature::RolloutDeadlines),
    first("/spec/drain"),
    control("/spec/pre_deploy", Feature::PreDeploy),
    control("/spec/container", Feature::ContainerSettings),
    control("/spec/ports/*/protocol", Feature::ContainerSettings),
    control("/spec/health/probe/command", Feature::ContainerSettings),
    control("/restarted", Feature::ContainerSettings),
    control("/spec/container/secrets", Feature::Mounts),
    // The program that sets the variable lies on the machine.
    Field { path: "/spec/container/secrets/*/env", control: None, machines: Some(Feature::Mounts) },
    control("/spec/container/files", Feature::Mounts),
    control("/spec/container/volumes", Feature::Mounts),
    Field {
        path: "/spec/container/aws_role",
        control: Some(Feature::AwsRoles),
        machines: Some(Feature::AwsRoles),
    },
    Field { path: "/spec/units", control: Some(Feature::Units), machines: Some(Feature::Units) },
    control("/secrets", Feature::Mounts),
    Field { path: "/network", control: Some(Feature::Names), machines: Some(Feature::Names) },
];

impl Needs {
    /// What a deployment needs.
    pub fn of(deployment: &Deployment) -> Self {
        // It holds nothing that JSON can't.
        Self::by(FIELDS, &serde_json::to_value(deployment).unwrap_or_default())
    }

    fn by(fields: &[Field], deployment: &Value) -> Self {
        let used = || fields.iter().filter(|field| used(deployment, field.path));
        Self {
            control: used().filter_map(|field| field.control).collect(),
            machines: used().filter_map(|field| field.machines).collect(),
        }
    }
}

/// Whether the field at `path` says anything.
fn used(value: &Value, path: &str) -> bool {
    match path.split_once("/*") {
        Some((list, rest)) => {
            let items = value.pointer(list).and_then(Value::as_array);
            items.is_some_and(|items| items.iter().any(|item| used(item, rest)))
        }
        None => value.pointer(path).is_some_and(is_set),
    }
}

/// Whether a field says anything: what is left out is written as nothing.
fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(true) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Machines that lack what a deployment needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooOld {
    /// The machines, and what each lacks.
    pub machines: Vec<(MachineId, Vec<Feature>)>,
}

impl fmt::Display for TooOld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the agents of these control machines are too old for it: ")?;
        for (at, (machine, lacking)) in self.machines.iter().enumerate() {
            let lacking: Vec<&str> = lacking.iter().map(|feature| feature.word()).collect();
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{machine} (lacks {})", lacking.join(", "))?;
        }
        f.write_str(". Upgrade them: give their group's cloud-config this version, then `fleetwright apply` and `fleetwright roll`")
    }
}

/// Checks that every control machine can do what a deployment needs.
///
/// # Errors
/// Which of them can't.
pub fn check(needs: Needs, machines: &[Machine]) -> Result<(), TooOld> {
    let control = machines.iter().filter(|machine| machine.role == Role::Control);
    let old: Vec<(MachineId, Vec<Feature>)> = control
        .map(|machine| (machine.id.clone(), needs.control.beyond(machine.features).collect::<Vec<_>>()))
        .filter(|(_, lacking)| !lacking.is_empty())
        .collect();
    if old.is_empty() { Ok(()) } else { Err(TooOld { machines: old }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each field of a deployment is in the table, so that nobody adds one without saying what it needs.
    #[test]
    fn every_field_of_a_deployment_says_what_it_needs() {
        let samples = crate::source::samples::of("requests");
        let sample: Value = serde_json::from_str(&samples.last().expect("a sample").1).expect("JSON");
        let deployment: Deployment =
            serde_json::from_value(sample["deployment"].clone()).expect("a deployment");
        let written = serde_json::to_value(&deployment).expect("JSON");
        let mut fields: Vec<String> = Vec::new();
        for (key, value) in written.as_object().expect("an object") {
            match (key.as_str(), value.as_object()) {
                ("spec", Some(spec)) => fields.extend(spec.keys().map(|key| format!("/spec/{key}"))),
                (key, _) => fields.push(format!("/{key}")),
            }
        }
        for field in &fields {
            assert!(FIELDS.iter().any(|known| known.path == field), "`{field}` is not in FIELDS");
        }
        // The newest sample has everything that may be left out, at any depth.
        for field in FIELDS {
            assert!(used(&written, field.path), "the newest sample has no `{}`", field.path);
        }
        let all = [
            Feature::RolloutDeadlines,
            Feature::ContainerSettings,
            Feature::Mounts,
            Feature::Names,
            Feature::PreDeploy,
            Feature::AwsRoles,
            Feature::Units,
        ];
        assert_eq!(Needs::of(&deployment).control, all.into_iter().collect());
        let first: Value = serde_json::from_str(&samples[0].1).expect("JSON");
        let first: Deployment = serde_json::from_value(first["deployment"].clone()).expect("a deployment");
        assert_eq!(Needs::of(&first), Needs::default(), "the first version can run it");
    }

    #[test]
    fn a_field_that_is_set_needs_its_feature() {
        let fields = [Field {
            path: "/spec/secrets",
            control: Some(Feature::StrictRequests),
            machines: Some(Feature::CarriedRecords),
        }];
        let needs = |deployment: Value| Needs::by(&fields, &deployment);
        assert_eq!(needs(serde_json::json!({"spec": {}})), Needs::default());
        assert_eq!(needs(serde_json::json!({"spec": {"secrets": []}})), Needs::default());
        let needs = needs(serde_json::json!({"spec": {"secrets": ["password"]}}));
        assert!(needs.control.has(Feature::StrictRequests) && needs.machines.has(Feature::CarriedRecords));
        let machine = |id: &str, role, features: Features| Machine {
            id: id.parse().expect("an id"),
            address: "10.0.0.1".parse().expect("an address"),
            role,
            state: crate::model::machine::MachineState::Ready,
            leader: false,
            group: String::new(),
            metadata: std::collections::BTreeMap::new(),
            features,
            pressure: None,
            host_files: Default::default(),
        };
        let old = machine("i-old", Role::Control, Features::default());
        let new = machine("i-new", Role::Control, Features::own());
        let worker = machine("i-worker", Role::Worker, Features::default());
        assert_eq!(check(needs, &[new.clone(), worker]), Ok(()));
        let refused = check(needs, &[new, old]).expect_err("one is too old").to_string();
        assert!(
            refused.contains("i-old (lacks strict-requests)")
                && refused.contains("fleetwright roll")
                && !refused.contains("i-new"),
            "{refused}"
        );
    }

    #[test]
    fn features_survive_the_wire_and_unknown_ones_are_passed_over() {
        let text = serde_json::to_string(&Features::own()).expect("JSON");
        assert_eq!(serde_json::from_str::<Features>(&text).expect("features"), Features::own());
        let later = r#"["strict-requests", "of-a-later-version"]"#;
        let later: Features = serde_json::from_str(later).expect("features");
        assert!(later.has(Feature::StrictRequests) && !later.has(Feature::CarriedRecords));
        assert_eq!(Features::own().beyond(later).count(), Feature::ALL.len() - 1);
    }

    #[test]
    fn each_feature_has_a_word_and_a_bit_of_its_own() {
        for (at, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature.word().parse(), Ok(feature));
            assert_eq!(feature.bit(), 1 << at);
        }
    }
}
