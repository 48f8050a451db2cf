//! Watched files: what a machine is sent, what changes of it, and when a machine acts on it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::model::host_file::{
    Definition, Endpoint, Facts, Feed, FeedLine, HOST_FILE_VERSION, Host, Selection,
};
use crate::model::machine::Machine;
use crate::model::name::{MachineId, ServiceName};
use crate::model::service::ServiceStatus;

mod compare;
mod pace;

pub use compare::{HostFileAction, HostFilePlan, MachineEffect, Rendered, compare, fields};
pub use pace::{BETWEEN_RELOADS, retry_after};

/// A cluster, as watched files see it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct World {
    /// The definitions, sorted by name.
    pub files: Vec<Arc<Definition>>,
    /// The machines, sorted by role, then id.
    pub machines: Vec<Machine>,
    /// The same, as templates see them.
    pub hosts: Arc<Vec<Host>>,
    /// The instances of the services.
    pub services: BTreeMap<ServiceName, Arc<Vec<Endpoint>>>,
    /// The keys in etcd that definitions name.
    pub keys: BTreeMap<String, String>,
}

impl World {
    /// The same with other machines and services. What has not changed is shared with this one, which makes it cheap
    /// to compare.
    #[must_use]
    pub fn observed(&self, machines: &[Machine], services: &[ServiceStatus]) -> Self {
        let hosts: Vec<Host> = machines.iter().map(Host::from).collect();
        let hosts = if *self.hosts == hosts { Arc::clone(&self.hosts) } else { Arc::new(hosts) };
        let services = endpoints(services, machines).into_iter().map(|(name, endpoints)| {
            let held = self.services.get(&name).filter(|held| ***held == endpoints);
            let endpoints = held.map_or_else(|| Arc::new(endpoints), Arc::clone);
            (name, endpoints)
        });
        let (files, keys) = (self.files.clone(), self.keys.clone());
        Self { files, machines: machines.to_vec(), hosts, services: services.collect(), keys }
    }
}

/// The instances of services that have a place, by service.
pub fn endpoints(services: &[ServiceStatus], machines: &[Machine]) -> BTreeMap<ServiceName, Vec<Endpoint>> {
    let of = |service: &ServiceStatus| {
        let mut found: Vec<Endpoint> =
            service.instances.iter().filter_map(|one| Endpoint::of(one, machines)).collect();
        found.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        found
    };
    services.iter().map(|service| (service.name.clone(), of(service))).collect()
}

/// The prefixes of keys that definitions name.
pub fn prefixes(files: &[Arc<Definition>]) -> BTreeSet<String> {
    files.iter().flat_map(|file| file.spec.keys.iter().cloned()).collect()
}

/// The files of a machine, and only what they name. A machine that is not known has none.
pub fn feed(world: &World, id: &MachineId) -> Feed {
    let Some(machine) = world.machines.iter().find(|machine| machine.id == *id) else {
        return Feed::default();
    };
    let files: Vec<Arc<Definition>> =
        world.files.iter().filter(|file| file.spec.is_on(machine)).cloned().collect();
    let services = |file: &Arc<Definition>| match &file.spec.services {
        Selection::All => world.services.keys().cloned().collect(),
        Selection::Named(names) => names.clone(),
    };
    let names: BTreeSet<ServiceName> = files.iter().flat_map(services).collect();
    let services =
        names.into_iter().filter_map(|name| Some((name.clone(), Arc::clone(world.services.get(&name)?))));
    let prefixes = prefixes(&files);
    let is_named = |key: &str| prefixes.iter().any(|prefix| crate::host_file::is_under(key, prefix));
    let keys = world.keys.iter().filter(|(key, _)| is_named(key));
    let machines = files.iter().any(|file| file.spec.machines);
    Feed {
        facts: Facts {
            machine: Some(Host::from(machine)),
            machines: if machines { Arc::clone(&world.hosts) } else { Arc::default() },
            services: services.collect(),
            keys: keys.map(|(key, value)| (key.clone(), value.clone())).collect(),
        },
        files,
    }
}

/// The whole of a feed, as its first line.
pub fn whole(feed: &Feed) -> FeedLine {
    FeedLine { whole: true, files: Some(definitions(feed)), ..difference(&Feed::default(), feed) }
}

/// The line that makes `before` into `after`.
pub fn difference(before: &Feed, after: &Feed) -> FeedLine {
    let (old, new) = (&before.facts, &after.facts);
    FeedLine {
        version: HOST_FILE_VERSION,
        whole: false,
        files: (before.files != after.files).then(|| definitions(after)),
        machine: if old.machine == new.machine { None } else { new.machine.clone() },
        machines: (old.machines != new.machines).then(|| new.machines.as_ref().clone()),
        services: changes(&old.services, &new.services, |endpoints| endpoints.as_ref().clone()),
        keys: changes(&old.keys, &new.keys, String::clone),
    }
}

/// Whether a line says anything.
pub fn is_empty(line: &FeedLine) -> bool {
    let FeedLine { version: _, whole, files, machine, machines, services, keys } = line;
    !whole
        && files.is_none()
        && machine.is_none()
        && machines.is_none()
        && services.is_empty()
        && keys.is_empty()
}

fn definitions(feed: &Feed) -> Vec<Definition> {
    feed.files.iter().map(|file| file.as_ref().clone()).collect()
}

fn changes<K: Ord + Clone, V: PartialEq, S>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    sent: impl Fn(&V) -> S,
) -> BTreeMap<K, Option<S>> {
    let gone = before.keys().filter(|key| !after.contains_key(key)).map(|key| (key.clone(), None));
    let new = after.iter().filter(|(key, value)| before.get(key) != Some(value));
    gone.chain(new.map(|(key, value)| (key.clone(), Some(sent(value))))).collect()
}

/// Makes a feed what a line says.
pub fn apply(feed: &mut Feed, line: FeedLine) {
    let FeedLine { version: _, whole, files, machine, machines, services, keys } = line;
    if whole {
        *feed = Feed::default();
    }
    if let Some(files) = files {
        feed.files = files.into_iter().map(Arc::new).collect();
    }
    if let Some(machine) = machine {
        feed.facts.machine = Some(machine);
    }
    if let Some(machines) = machines {
        feed.facts.machines = Arc::new(machines);
    }
    let shared = services.into_iter().map(|(name, endpoints)| (name, endpoints.map(Arc::new)));
    put(&mut feed.facts.services, shared.collect());
    put(&mut feed.facts.keys, keys);
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, changes: BTreeMap<K, Option<V>>) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(map.insert(key, value)),
            None => drop(map.remove(&key)),
        }
    }
}

/// How long nothing must have changed before files are rendered, and how long that is waited for at most.
pub const QUIET: Duration = Duration::from_millis(150);
/// See [`QUIET`].
pub const LATEST: Duration = Duration::from_secs(1);

/// How long to wait before files are rendered, `since_first` after the first change that was not, and
/// `since_last` after the last.
pub fn wait(since_first: Duration, since_last: Duration) -> Duration {
    QUIET.saturating_sub(since_last).min(LATEST.saturating_sub(since_first))
}

#[cfg(test)]
mod tests;
