//! What a deployment changes about a service, by field. Pure.
//!
//! Fields have the names of the service's file, so that a change can be found there.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::model::container::{ContainerSettings, Reservations, RestartPolicy};
use crate::model::duration::written;
use crate::model::mount::{FileMount, Owned, SecretMount, VolumeMount, VolumeSource};
use crate::model::name::ServiceName;
use crate::model::service::{
    Deployed, Deployment, HealthCheck, HealthProbe, Limits, PreDeploy, Scale, ServiceSpec, UpdatePolicy,
};
use crate::model::unit::{OnDisconnect, UnitSet};

mod job;

pub use job::{JobAction, JobPlan, job_fields, job_plan};

/// What happens to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceAction {
    /// It runs for the first time.
    Create,
    /// A new revision replaces its instances.
    Replace,
    /// Only how many there are, how rollouts go, or what is executed before them, changes.
    Adjust,
    /// Nothing.
    Nothing,
}

/// One field that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Its name, such as `image` or `env.GREETING`.
    pub field: String,
    /// The value before; `None` where there was none.
    pub before: Option<String>,
    /// The value after; `None` where there is to be none.
    pub after: Option<String>,
}

/// What a deployment of one service does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// The service.
    pub service: ServiceName,
    /// What happens.
    pub action: ServiceAction,
    /// The fields that change, sorted; all of them for a new service.
    pub changes: Vec<FieldChange>,
    /// The number of instances set manually, where the file has another one; 0 when it is stopped.
    pub by_hand: Option<u32>,
    /// Whether it is stopped, and stays stopped.
    pub stopped: bool,
}

impl ServicePlan {
    /// Whether anything happens.
    pub fn has_changes(&self) -> bool {
        self.action != ServiceAction::Nothing
    }
}

/// Compares the current deployment with the wanted one.
pub fn service_plan(running: Option<&Deployed>, wanted: &Deployment) -> ServicePlan {
    let before = running.map(|running| fields(&running.deployment)).unwrap_or_default();
    let after = fields(wanted);
    let changes = differences(&before, &after);
    let scaled = changes.iter().any(|change| is_scale(&change.field));
    let action = match (running, changes.as_slice()) {
        (None, _) => ServiceAction::Create,
        (Some(_), []) => ServiceAction::Nothing,
        (Some(_), changes) if changes.iter().all(|change| keeps_instances(&change.field)) => {
            ServiceAction::Adjust
        }
        (Some(_), _) => ServiceAction::Replace,
    };
    // A new number in the file overrides one that was set manually.
    let held = running.filter(|running| !scaled && running.live != running.deployment.spec.scale);
    let by_hand = held.and_then(|running| match running.live {
        Scale::Replicas(count) => Some(count),
        Scale::EveryMachine => None,
    });
    ServicePlan {
        service: wanted.spec.name.clone(),
        action,
        changes,
        by_hand,
        stopped: !scaled && running.is_some_and(|running| running.stopped),
    }
}

/// The fields that differ, sorted.
fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

fn is_scale(field: &str) -> bool {
    field == "replicas"
}

/// Whether a field is no part of what the engine compares instances with.
fn keeps_instances(field: &str) -> bool {
    is_scale(field) || field.starts_with("update.") || field.starts_with("pre_deploy.")
}

/// The fields of a deployment that are set, by their names in files. Every structure is destructured
/// completely, so that a new field can't be forgotten here.
pub fn fields(deployment: &Deployment) -> BTreeMap<String, String> {
    let Deployment { spec, registry, digest, origin: _, restarted, secrets, network } = deployment;
    let mut found = spec_fields(spec);
    // Units have none: their texts are compared.
    if !spec.image.is_empty() {
        found.insert("image".to_owned(), format!("{registry}/{}@{digest}", spec.image));
    }
    if let Some(at) = restarted {
        found.insert("restarted".to_owned(), at.to_rfc3339());
    }
    if *network {
        found.insert("network".to_owned(), "shared by all services: found by its name".to_owned());
    }
    for (secret, version) in secrets {
        found.insert(format!("secrets.{secret}.value"), version.to_string());
    }
    found
}

/// The fields of a service's specification, named as in [`fields`].
pub fn spec_fields(spec: &ServiceSpec) -> BTreeMap<String, String> {
    let ServiceSpec {
        name: _,
        image,
        command,
        scale,
        environment,
        ports,
        health,
        limits,
        placement,
        update,
        drain,
        container,
        pre_deploy,
        units,
    } = spec;
    let mut found = Fields::default();
    if !image.is_empty() {
        found.set("image", image.clone());
    }
    if let Some(units) = units {
        found.units(units);
    }
    found.words("command", command);
    match scale {
        Scale::Replicas(count) => found.set("replicas", count.to_string()),
        Scale::EveryMachine => found.set("replicas", "every machine".to_owned()),
    }
    found.texts("env", environment);
    for port in ports {
        let protocol = port.protocol.word();
        let host = port.host.map_or_else(|| "a free port".to_owned(), |host| format!("port {host}"));
        found.set(&format!("ports.{}/{protocol}", port.container), format!("{host} of the machine"));
    }
    if let Some(check) = health {
        found.health(check);
    }
    let Limits { memory_bytes, cpu_millis } = limits;
    found.amounts("resources.limits", *memory_bytes, *cpu_millis);
    found.texts("placement", placement);
    let UpdatePolicy { parallel, monitor, deadline } = update;
    found.set("update.parallel", parallel.to_string());
    found.set("update.monitor", written(*monitor));
    found.maybe("update.deadline", deadline.map(written));
    found.set("stop_grace_period", written(*drain));
    found.container(container);
    if let Some(PreDeploy { command, timeout }) = pre_deploy {
        found.words("pre_deploy.command", command);
        found.set("pre_deploy.timeout", written(*timeout));
    }
    found.0
}

/// A text by its length and its hash.
fn summary(text: &str) -> String {
    let hash = Sha256::digest(text);
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    match text.lines().count() {
        1 => format!("1 line, sha256 {short}"),
        lines => format!("{lines} lines, sha256 {short}"),
    }
}

#[derive(Default)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn set(&mut self, name: &str, value: String) {
        self.0.insert(name.to_owned(), value);
    }

    fn maybe(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.maybe(name, value.then(|| "true".to_owned()));
    }

    fn words(&mut self, name: &str, words: &[String]) {
        if !words.is_empty() {
            self.set(name, format!("{words:?}"));
        }
    }

    fn texts(&mut self, name: &str, texts: &BTreeMap<String, String>) {
        for (key, value) in texts {
            self.set(&format!("{name}.{key}"), value.clone());
        }
    }

    fn amounts(&mut self, name: &str, memory_bytes: Option<u64>, cpu_millis: Option<u64>) {
        self.maybe(&format!("{name}.memory"), memory_bytes.map(size));
        self.maybe(&format!("{name}.cpu"), cpu_millis.map(|millis| (millis as f64 / 1000.0).to_string()));
    }

    fn health(&mut self, check: &HealthCheck) {
        let HealthCheck { probe, interval, timeout, retries, start_period } = check;
        match probe {
            HealthProbe::Http { port, path } => self.set("health.http", format!("{path} at port {port}")),
            HealthProbe::Tcp { port } => self.set("health.tcp", port.to_string()),
            HealthProbe::Command { command } => self.words("health.command", command),
        }
        self.set("health.interval", written(*interval));
        self.set("health.timeout", written(*timeout));
        self.set("health.retries", retries.to_string());
        self.set("health.start_period", written(*start_period));
    }

    fn units(&mut self, units: &UnitSet) {
        let UnitSet { start, files, exclusive, on_disconnect, apart } = units;
        self.set("units", start.join(", "));
        for (name, text) in files {
            self.set(&format!("units.{name}"), summary(text));
        }
        self.flag("exclusive", *exclusive);
        if let OnDisconnect::StopAfter(time) = on_disconnect {
            self.set("on_disconnect.stop_after", written(*time));
        }
        // A new neighbour that it keeps away from restarts it.
        for number in apart {
            self.set(&format!("conflicts.{number}"), "kept apart from another service".to_owned());
        }
    }

    fn container(&mut self, settings: &ContainerSettings) {
        let ContainerSettings {
            entrypoint,
            user,
            workdir,
            hostname,
            labels,
            extra_hosts,
            cap_add,
            cap_drop,
            read_only,
            tmpfs,
            ulimits,
            sysctls,
            stop_signal,
            init,
            logging,
            restart,
            reservations,
            spread,
            max_per_machine,
            secrets,
            files,
            volumes,
            aws_role,
        } = settings;
        self.words("entrypoint", entrypoint);
        self.maybe("user", user.clone());
        self.maybe("workdir", workdir.clone());
        self.maybe("hostname", hostname.clone());
        self.texts("labels", labels);
        self.texts("extra_hosts", extra_hosts);
        self.words("cap_add", cap_add);
        self.words("cap_drop", cap_drop);
        self.flag("read_only", *read_only);
        for (path, folder) in tmpfs {
            let mode = folder.mode.map_or_else(String::new, |mode| format!(", mode {mode:04o}"));
            let most = folder.size_bytes.map_or_else(|| "no limit".to_owned(), size);
            self.set(&format!("tmpfs.{path}"), format!("{most}{mode}"));
        }
        for (name, limit) in ulimits {
            self.set(&format!("ulimits.{name}"), format!("{} to {}", limit.soft, limit.hard));
        }
        self.texts("sysctls", sysctls);
        self.maybe("stop_signal", stop_signal.clone());
        self.flag("init", *init);
        self.maybe(
            "logging",
            logging.map(|limits| format!("{} files of {}", limits.max_files, size(limits.max_size_bytes))),
        );
        if let Some(RestartPolicy { condition, delay, max_attempts, window }) = restart {
            self.set("restart.condition", condition.word().to_owned());
            self.maybe("restart.delay", delay.map(written));
            self.maybe("restart.max_attempts", max_attempts.map(|count| count.to_string()));
            self.maybe("restart.window", window.map(written));
        }
        if let Some(Reservations { memory_bytes, cpu_millis }) = reservations {
            self.amounts("resources.reservations", *memory_bytes, *cpu_millis);
        }
        self.maybe("spread", spread.clone());
        self.maybe("max_per_machine", max_per_machine.map(|count| count.to_string()));
        self.maybe("aws_role", aws_role.clone());
        for SecretMount { from, target, env, owned: of } in secrets {
            let variable = env.as_ref().map_or_else(String::new, |name| format!(", and variable {name}"));
            self.set(&format!("secrets.{from}"), format!("{target}{}{variable}", owned(*of)));
        }
        for FileMount { target, content, owned: of } in files {
            self.set(&format!("files.{target}"), format!("{}{}", summary(content), owned(*of)));
        }
        for VolumeMount { target, source, read_only } in volumes {
            let source = match source {
                VolumeSource::Named(name) => format!("volume {name}"),
                VolumeSource::Nfs { server, path, options } => format!("nfs {server}:{path} ({options})"),
                VolumeSource::Host(path) => format!("{path} of the machine"),
            };
            let read_only = if *read_only { ", read-only" } else { "" };
            self.set(&format!("volumes.{target}"), format!("{source}{read_only}"));
        }
    }
}

/// The owner and the permission bits of a file, where they are not root's and readable for all.
fn owned(of: Owned) -> String {
    let Owned { uid, gid, mode } = of;
    if of == Owned::default() { String::new() } else { format!(", owner {uid}:{gid}, mode {mode:04o}") }
}

/// Bytes in the largest unit that holds them exactly.
fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    units
        .into_iter()
        .find(|(_, bits)| bytes != 0 && bytes.is_multiple_of(1 << bits))
        .map_or_else(|| format!("{bytes} bytes"), |(unit, bits)| format!("{}{unit}", bytes >> bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The newest sample of what is deployed, which has everything that can be set.
    fn full() -> Deployment {
        let (_, text) = crate::source::samples::of("requests").pop().expect("a sample");
        let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        serde_json::from_value(sample["deployment"].clone()).expect("a deployment")
    }

    fn running(deployment: Deployment) -> Deployed {
        let live = deployment.spec.scale;
        Deployed { version: 1, revision: 3, deployment, live, stopped: false }
    }

    #[test]
    fn every_field_has_a_name_and_a_value() {
        let shown: Vec<String> =
            fields(&full()).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        insta::assert_snapshot!(shown.join("\n"));
    }

    #[test]
    fn what_runs_already_changes_nothing() {
        let plan = service_plan(Some(&running(full())), &full());
        assert!(!plan.has_changes() && plan.changes.is_empty());
        let mut other = full();
        other.origin.commit = "d".repeat(40);
        assert!(
            !service_plan(Some(&running(full())), &other).has_changes(),
            "where it came from is no field"
        );
    }

    /// Whatever is changed of what is stored, the plan shows it: nothing is rolled out unseen.
    #[test]
    fn a_change_of_any_stored_value_is_seen() {
        let value = serde_json::to_value(full()).expect("JSON");
        let mut paths = Vec::new();
        leaves(&value, String::new(), &mut paths);
        for path in paths.iter().filter(|path| !path.starts_with("/origin") && *path != "/spec/name") {
            let mut changed = value.clone();
            let leaf = changed.pointer_mut(path).expect("a leaf");
            *leaf = match &*leaf {
                serde_json::Value::Number(number) if number.as_i64() == Some(0) => 0.into(),
                serde_json::Value::Number(number) => (number.as_i64().unwrap_or(0) * 2).into(),
                serde_json::Value::Bool(flag) => (!flag).into(),
                serde_json::Value::String(text) if path == "/digest" => text.replace("aa", "bb").into(),
                serde_json::Value::String(text) if path == "/restarted" => {
                    text.replace("2026", "2027").into()
                }
                serde_json::Value::String(text) if text == "udp" => "tcp".into(),
                serde_json::Value::String(text) if text == "on-failure" => "none".into(),
                serde_json::Value::String(text) => format!("{text}-other").into(),
                other => other.clone(),
            };
            if changed == value {
                continue;
            }
            let wanted: Deployment =
                serde_json::from_value(changed).unwrap_or_else(|error| panic!("{path}: {error}"));
            let plan = service_plan(Some(&running(full())), &wanted);
            assert!(plan.has_changes(), "a change of {path} is not seen");
            let adjusts = plan.action == ServiceAction::Adjust;
            let kept = ["/spec/scale", "/spec/update", "/spec/pre_deploy"];
            assert_eq!(adjusts, kept.iter().any(|start| path.starts_with(start)), "{path}");
        }
    }

    fn leaves(value: &serde_json::Value, path: String, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    leaves(value, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found);
                }
            }
            serde_json::Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    leaves(item, format!("{path}/{at}"), found);
                }
            }
            _ => found.push(path),
        }
    }

    #[test]
    fn a_number_set_manually_is_kept_until_the_file_changes_its_own() {
        let scaled = Deployed { live: Scale::Replicas(5), ..running(full()) };
        let plan = service_plan(Some(&scaled), &full());
        assert_eq!((plan.action, plan.by_hand), (ServiceAction::Nothing, Some(5)));
        let mut wanted = full();
        wanted.spec.scale = Scale::Replicas(3);
        let plan = service_plan(Some(&scaled), &wanted);
        assert_eq!((plan.action, plan.by_hand), (ServiceAction::Adjust, None));
    }
}
