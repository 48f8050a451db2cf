//! What the engine keeps for containers to mount: secrets, files, and on which machine a volume lies.
//!
//! The engine's objects can't be changed, so each value and each content has an object of its own, named by a
//! hash. They are created before the service that uses them, and removed when nothing does.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bollard::errors::Error;
use bollard::models::{
    ConfigSpec, Node, Secret as EngineSecret, SecretSpec, Service, ServiceSpec, TaskSpecContainerSpec,
};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::observe::{self, Observed};
use super::placeholder::placed;
use super::{Swarm, spec};
use crate::model::image::EntryPoint;
use crate::model::mount::{FileMount, SecretRef, SecretVersion, listed};
use crate::model::name::{MachineId, VolumeName};
use crate::model::redact::Mask;
use crate::model::role::{RoleToken, TokenHash};
use crate::model::service::{Deployment, Scale};
use crate::port::cluster::ClusterError;

/// The label of secrets with where their value is kept.
const SECRET: &str = "fleetwright.secret";
/// The label of secrets with the version of their value.
const VERSION: &str = "fleetwright.secret.version";
/// The label of config objects that are files of services.
const FILE: &str = "fleetwright.file";
/// The label of secrets that are the token of a service whose containers have a role, with the service's name.
const ROLE_TOKEN: &str = "fleetwright.role-token";
/// The label of such secrets with the SHA-256 of the token.
const ROLE_TOKEN_HASH: &str = "fleetwright.role-token.sha256";
/// What the labels of nodes begin with that keep a volume.
pub const VOLUME: &str = "fleetwright-volume.";

/// How old an object must be before it is removed because nothing uses it. A deployment creates its objects
/// before its service, and a call to the engine may take 30 s.
const UNUSED: TimeDelta = TimeDelta::seconds(45);

/// The engine's ids of what a service mounts, and what its image starts.
#[derive(Debug, Default)]
pub struct Attached {
    secrets: HashMap<String, String>,
    files: HashMap<String, String>,
    entry: Option<EntryPoint>,
}

/// The name of the engine's secret with that value.
pub fn secret_name(secret: &SecretRef, version: &SecretVersion) -> String {
    named("secret", &[&secret.to_string(), version.as_str()])
}

/// The name of the engine's config object with that file.
pub fn file_name(file: &FileMount) -> String {
    named("file", &[&file.target, &file.content])
}

/// The name of the engine's volume that is a folder of an NFS server.
pub fn nfs_name(path: &str, options: &str) -> String {
    named("nfs", &[path, options])
}

/// The name of the engine's secret that is the token of a service whose containers have a role. There is one for
/// each service: it is made when it is first needed, and removed when nothing uses it.
pub fn token_name(deployment: &Deployment) -> String {
    named("role", &[deployment.spec.name.as_str()])
}

fn named(kind: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hex: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("fleetwright-{kind}-{hex}")
}

/// The constraint that places a service where its volume is.
pub fn constraint(volume: &VolumeName) -> String {
    format!("node.labels.{VOLUME}{volume} == {}", spec::YES)
}

/// The volumes that a node keeps.
pub fn volumes(node: &Node) -> Vec<VolumeName> {
    let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
    let mut found: Vec<VolumeName> =
        labels.into_iter().flatten().filter_map(|(key, _)| key.strip_prefix(VOLUME)?.parse().ok()).collect();
    found.sort();
    found
}

impl Attached {
    /// Completes a specification with what only the engine and the registry know.
    ///
    /// # Errors
    /// When something that it mounts is not there, or nothing could be started.
    pub fn complete(&self, spec: &mut ServiceSpec) -> Result<(), ClusterError> {
        let Some(container) = spec.task_template.as_mut().and_then(|task| task.container_spec.as_mut())
        else {
            return Ok(());
        };
        let absent = |name: &Option<String>| ClusterError::Refused {
            reason: format!("`{}` was removed meanwhile; try again", name.as_deref().unwrap_or_default()),
        };
        for secret in container.secrets.iter_mut().flatten() {
            let id = secret.secret_name.as_ref().and_then(|name| self.secrets.get(name));
            secret.secret_id = Some(id.ok_or_else(|| absent(&secret.secret_name))?.clone());
        }
        for file in container.configs.iter_mut().flatten() {
            let id = file.config_name.as_ref().and_then(|name| self.files.get(name));
            file.config_id = Some(id.ok_or_else(|| absent(&file.config_name))?.clone());
        }
        match &self.entry {
            Some(entry) => enter(container, entry),
            None => Ok(()),
        }
    }
}

/// Has the helper, which is the container's command, execute what the image would.
fn enter(container: &mut TaskSpecContainerSpec, entry: &EntryPoint) -> Result<(), ClusterError> {
    let command = container.command.get_or_insert_default();
    command.extend(entry.entrypoint.iter().cloned());
    if container.args.as_ref().is_none_or(Vec::is_empty) {
        container.args = (!entry.command.is_empty()).then(|| entry.command.clone());
    }
    if entry.entrypoint.is_empty() && container.args.is_none() {
        return Err(ClusterError::Refused {
            reason: "the image names no command to start; give the service a `command`".to_owned(),
        });
    }
    Ok(())
}

impl Swarm {
    /// The newest version of each of those secrets that is set.
    ///
    /// # Errors
    /// When they can't be asked for.
    pub(super) async fn newest(
        &self,
        secrets: &[SecretRef],
    ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
        let each = secrets.iter().map(async |secret| {
            let newest = self.secrets.newest(secret).await;
            newest.map(|version| version.map(|version| (secret.clone(), version)))
        });
        let found = futures_util::future::try_join_all(each).await.map_err(|error| unread(&error))?;
        Ok(found.into_iter().flatten().collect())
    }

    /// The deployment with a version for each of its secrets: the newest where it names none.
    ///
    /// # Errors
    /// When a secret is not set.
    pub(super) async fn versioned(&self, deployment: &Deployment) -> Result<Deployment, ClusterError> {
        let wanted: Vec<SecretRef> =
            deployment.spec.container.secrets.iter().map(|secret| secret.from.clone()).collect();
        let open: Vec<SecretRef> =
            wanted.iter().filter(|secret| !deployment.secrets.contains_key(secret)).cloned().collect();
        let mut versioned = deployment.clone();
        versioned.secrets.retain(|secret, _| wanted.contains(secret));
        versioned.secrets.extend(self.newest(&open).await?);
        let missing: Vec<SecretRef> =
            wanted.into_iter().filter(|secret| !versioned.secrets.contains_key(secret)).collect();
        if missing.is_empty() { Ok(versioned) } else { Err(unset(deployment, &missing)) }
    }

    /// The same for a deployment that is restored: a version that is not kept any more gives way to the newest.
    ///
    /// # Errors
    /// When a secret is not set, or can't be read.
    pub(super) async fn restorable(&self, deployment: &Deployment) -> Result<Deployment, ClusterError> {
        let mut kept = deployment.clone();
        for (secret, version) in &deployment.secrets {
            let value = self.secrets.value(secret, version).await.map_err(|error| unread(&error))?;
            if value.is_none() {
                tracing::warn!(service = %deployment.spec.name, %secret, %version, "a secret's value is not kept any more; the newest is used");
                kept.secrets.remove(secret);
            }
        }
        self.versioned(&kept).await
    }

    /// Creates what a service mounts, and reads what its image starts where something else is started first.
    ///
    /// # Errors
    /// When a value or the image can't be read, or the engine refuses it.
    pub(super) async fn attach(
        &self,
        observed: &Observed,
        deployment: &Deployment,
    ) -> Result<Attached, ClusterError> {
        let mut attached = self.mounted(observed, deployment).await?;
        if spec::needs_entry(deployment) {
            let (registry, image) = (&deployment.registry, &deployment.spec.image);
            attached.entry = Some(self.entries.entry(registry, image, &deployment.digest).await?);
        }
        Ok(attached)
    }

    /// Creates what a deployment mounts, where the engine does not have it yet.
    ///
    /// # Errors
    /// When a value can't be read, or the engine refuses it.
    pub(super) async fn mounted(
        &self,
        observed: &Observed,
        deployment: &Deployment,
    ) -> Result<Attached, ClusterError> {
        let placed = placed(deployment);
        let settings = &placed.spec.container;
        let mut attached = Attached::default();
        if !settings.secrets.is_empty() || settings.aws_role.is_some() {
            attached.secrets = self.engine_secrets().await?.into_iter().filter_map(identified).collect();
        }
        for secret in &settings.secrets {
            let Some(version) = deployment.secrets.get(&secret.from) else {
                return Err(unset(deployment, std::slice::from_ref(&secret.from)));
            };
            let name = secret_name(&secret.from, version);
            if let Entry::Vacant(entry) = attached.secrets.entry(name) {
                let id = self.create_secret(entry.key(), &secret.from, version).await?;
                entry.insert(id);
            }
        }
        if settings.aws_role.is_some()
            && let Entry::Vacant(entry) = attached.secrets.entry(token_name(deployment))
        {
            let id = self.create_token(entry.key(), deployment).await?;
            entry.insert(id);
        }
        let known = |name: &str| {
            let named = observed
                .configs
                .iter()
                .find(|config| config.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name));
            named.and_then(|config| config.id.clone())
        };
        for file in &settings.files {
            let name = file_name(file);
            let id = match known(&name) {
                Some(id) => id,
                None => self.create_file(&name, file).await?,
            };
            attached.files.insert(name, id);
        }
        Ok(attached)
    }

    /// Creates the token of a service whose containers have a role.
    async fn create_token(&self, name: &str, deployment: &Deployment) -> Result<String, ClusterError> {
        let random = crate::adapter::authority::random().map_err(|error| ClusterError::Engine {
            doing: "making a token for the containers of a service".to_owned(),
            reason: error.to_string(),
        })?;
        let token = RoleToken::new(random.iter().map(|byte| format!("{byte:02x}")).collect());
        let labels = [(ROLE_TOKEN, deployment.spec.name.to_string()), (ROLE_TOKEN_HASH, token.hash().0)];
        let created = SecretSpec {
            name: Some(name.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            data: Some(STANDARD.encode(token.expose())),
            ..Default::default()
        };
        self.created(name, created, "creating the token of a service").await
    }

    /// The hashes of the tokens that a container mounts.
    pub(super) async fn token_hashes(
        &self,
        container: &TaskSpecContainerSpec,
    ) -> Result<Vec<TokenHash>, ClusterError> {
        let mounted = |secret: &EngineSecret| {
            let mut ids = container.secrets.iter().flatten().map(|mounted| mounted.secret_id.as_ref());
            secret.id.is_some() && ids.any(|id| id == secret.id.as_ref())
        };
        let hash = |secret: EngineSecret| secret.spec?.labels?.remove(ROLE_TOKEN_HASH).map(TokenHash);
        Ok(self.engine_secrets().await?.into_iter().filter(mounted).filter_map(hash).collect())
    }

    async fn engine_secrets(&self) -> Result<Vec<EngineSecret>, ClusterError> {
        let listed = self.engine.docker().list_secrets(None::<bollard::query_parameters::ListSecretsOptions>);
        listed.await.map_err(|error| self.engine.error("listing secrets", error))
    }

    async fn create_secret(
        &self,
        name: &str,
        secret: &SecretRef,
        version: &SecretVersion,
    ) -> Result<String, ClusterError> {
        let value = self.secrets.value(secret, version).await.map_err(|error| unread(&error))?;
        let value = value.ok_or_else(|| ClusterError::Refused {
            reason: format!(
                "{version} of secret `{secret}` is not kept any more; deploy again to use the newest"
            ),
        })?;
        if let Ok(text) = std::str::from_utf8(value.expose()) {
            Mask::process().learn(text.trim_end());
        }
        let labels = [(SECRET, secret.to_string()), (VERSION, version.as_str().to_owned())];
        let created = SecretSpec {
            name: Some(name.to_owned()),
            labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
            data: Some(STANDARD.encode(value.expose())),
            ..Default::default()
        };
        self.created(name, created, &format!("creating secret `{secret}`")).await
    }

    /// Creates a secret of the engine, unless there is one of that name.
    async fn created(&self, name: &str, spec: SecretSpec, doing: &str) -> Result<String, ClusterError> {
        match self.engine.docker().create_secret(spec).await {
            Ok(created) => Ok(created.id),
            // Another control machine was faster.
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                let there = self.engine_secrets().await?.into_iter().filter_map(identified);
                let found = there.into_iter().find(|(known, _)| known == name).map(|(_, id)| id);
                found.ok_or_else(|| super::busy(name))
            }
            Err(error) => Err(self.engine.error(doing, error)),
        }
    }

    async fn create_file(&self, name: &str, file: &FileMount) -> Result<String, ClusterError> {
        let created = ConfigSpec {
            name: Some(name.to_owned()),
            labels: Some(HashMap::from([(FILE.to_owned(), file.target.clone())])),
            data: Some(STANDARD.encode(&file.content)),
            ..Default::default()
        };
        if let Some(id) = self.engine.create_config(created).await? {
            return Ok(id);
        }
        let configs = self.engine.configs().await?;
        let named = |config: &bollard::models::Config| {
            config.spec.as_ref().and_then(|spec| spec.name.as_deref()) == Some(name)
        };
        configs.into_iter().find(named).and_then(|config| config.id).ok_or_else(|| super::busy(name))
    }

    /// Removes secrets and files that no service uses any more.
    ///
    /// # Errors
    /// When they can't be listed or removed.
    pub(super) async fn sweep(&self, observed: &Observed) -> Result<(), ClusterError> {
        let mut used = used(&observed.services);
        let old = |created: Option<DateTime<Utc>>| created.is_some_and(|at| observed.at - at > UNUSED);
        let secrets = self.engine_secrets().await?.into_iter().filter_map(|secret| {
            let labels = secret.spec.as_ref()?.labels.as_ref()?;
            let ours = labels.contains_key(SECRET) || labels.contains_key(ROLE_TOKEN);
            let is_old = old(secret.created_at);
            identified(secret).filter(|_| ours && is_old)
        });
        let mut secrets: Vec<(String, String)> = secrets.collect();
        let files = observed.configs.iter().filter_map(|config| {
            let spec = config.spec.as_ref()?;
            let ours = spec.labels.as_ref()?.contains_key(FILE);
            (ours && old(config.created_at)).then(|| Some((spec.name.clone()?, config.id.clone()?))).flatten()
        });
        let mut files: Vec<(String, String)> = files.collect();
        let unused = |used: &HashSet<String>, objects: &mut Vec<(String, String)>| {
            objects.retain(|(name, _)| !used.contains(name));
        };
        unused(&used, &mut secrets);
        unused(&used, &mut files);
        if secrets.is_empty() && files.is_empty() {
            return Ok(());
        }
        // The engine's own way back from a rollout needs what was there before it.
        used = self.engine.mounted_before().await?;
        unused(&used, &mut secrets);
        unused(&used, &mut files);
        for (name, id) in &secrets {
            tracing::info!(name, "removing a secret that nothing uses");
            self.delete_secret(id).await?;
        }
        for (_, id) in &files {
            self.engine.delete_config(id).await?;
        }
        Ok(())
    }

    /// The names of the engine's secrets of which there is a newer version.
    pub(super) async fn outdated_secrets(&self) -> Result<HashSet<String>, ClusterError> {
        Ok(outdated(self.engine_secrets().await?))
    }

    async fn delete_secret(&self, id: &str) -> Result<(), ClusterError> {
        match self.engine.docker().delete_secret(id).await {
            Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
            Err(error) => Err(self.engine.error("removing a secret that nothing uses", error)),
        }
    }

    /// Chooses a machine for each of a deployment's volumes that lies on none yet.
    ///
    /// # Errors
    /// When no machine fits, or a volume that the service had is lost.
    pub(super) async fn settle_volumes(
        &self,
        observed: &Observed,
        deployment: &Deployment,
    ) -> Result<(), ClusterError> {
        if deployment.spec.scale == Scale::EveryMachine {
            return Ok(());
        }
        let wanted: Vec<&VolumeName> = deployment.spec.container.named_volumes().collect();
        let holders = |volume: &VolumeName| {
            observed.nodes.iter().filter(|node| volumes(node).contains(volume)).collect::<Vec<_>>()
        };
        let placed = wanted.iter().flat_map(|volume| holders(volume)).next();
        for volume in wanted.iter().filter(|volume| holders(volume).is_empty()) {
            let name = &deployment.spec.name;
            let had = observed.service(name.as_str()).is_some_and(|service| asks_for(service, volume));
            if had {
                return Err(ClusterError::Refused {
                    reason: format!(
                        "the machine that kept volume `{volume}` of service `{name}` is gone, and its data with \
                         it. To begin with an empty volume, `fleetwright rm {name}` and deploy it again"
                    ),
                });
            }
            let constraints = spec::placement_without_volumes(deployment);
            let fits = |node: &&Node| {
                let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
                observe::takes_work(node) && labels.is_some_and(|labels| spec::fits(&constraints, labels))
            };
            let chosen =
                placed.or_else(|| observed.nodes.iter().filter(fits).min_by_key(|node| load(observed, node)));
            let Some(id) = chosen.and_then(|node| node.id.as_deref()) else {
                return Err(ClusterError::Refused {
                    reason: format!(
                        "no machine that takes work fits service `{name}`, so its volume `{volume}` can't be \
                         placed; `fleetwright machines` lists them"
                    ),
                });
            };
            self.place(id, volume).await?;
        }
        Ok(())
    }

    /// Refuses machines that keep volumes which are not in `lose`, and has the services of those that are begin
    /// elsewhere.
    ///
    /// # Errors
    /// When a volume would be lost, has nowhere to go, or the nodes can't be changed.
    pub(super) async fn leave_volumes(
        &self,
        machines: &[MachineId],
        lose: &[VolumeName],
    ) -> Result<(), ClusterError> {
        let observed = self.engine.observe().await?;
        let leaving: Vec<(&MachineId, &Node)> =
            machines.iter().filter_map(|machine| Some((machine, observed.node(machine)?))).collect();
        for (machine, node) in &leaving {
            if let Some(volume) = volumes(node).into_iter().find(|volume| !lose.contains(volume)) {
                return Err(ClusterError::Refused { reason: keeps(&observed, machine, &volume) });
            }
        }
        for (_, node) in &leaving {
            for volume in volumes(node) {
                let user = observed.services.iter().find(|service| asks_for(service, &volume));
                if let Some(service) = user {
                    let away = |other: &&Node| leaving.iter().all(|(_, node)| node.id != other.id);
                    let others = observed.nodes.iter().filter(away);
                    let id = others
                        .filter(|node| observe::takes_work(node) && fits_without(service, node, &volume))
                        .min_by_key(|node| load(&observed, node))
                        .and_then(|node| node.id.as_deref());
                    let id = id.ok_or_else(|| ClusterError::Refused {
                        reason: format!("volume `{volume}` has no other machine to go to; add one"),
                    })?;
                    self.place(id, &volume).await?;
                }
                let key = format!("{VOLUME}{volume}");
                let id = node.id.as_deref().unwrap_or_default();
                self.change(id, |spec| spec.labels.get_or_insert_default().remove(&key).is_some()).await?;
            }
        }
        Ok(())
    }

    /// Notes that a node keeps a volume.
    async fn place(&self, node: &str, volume: &VolumeName) -> Result<(), ClusterError> {
        let key = format!("{VOLUME}{volume}");
        self.change(node, |spec| {
            spec.labels.get_or_insert_default().insert(key.clone(), spec::YES.to_owned()).is_none()
        })
        .await
    }
}

/// What a person reads who drains a machine that keeps a volume.
fn keeps(observed: &Observed, machine: &MachineId, volume: &VolumeName) -> String {
    let user = observed.services.iter().find(|service| asks_for(service, volume)).and_then(observe::name_of);
    let whose = user.map_or_else(String::new, |name| format!(" of service `{name}`"));
    format!(
        "machine {machine} keeps volume `{volume}`{whose}, and nothing was drained. To give its data up, name it: \
         `--lose-volume {volume}`"
    )
}

/// Whether a node would take a service if the volume lay there.
fn fits_without(service: &Service, node: &Node, volume: &VolumeName) -> bool {
    let task = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    let placement = task.and_then(|task| task.placement.as_ref());
    let constraints = placement.and_then(|placement| placement.constraints.clone()).unwrap_or_default();
    let own = constraint(volume);
    let others: Vec<String> = constraints.into_iter().filter(|one| *one != own).collect();
    let labels = node.spec.as_ref().and_then(|spec| spec.labels.as_ref());
    labels.is_some_and(|labels| spec::fits(&others, labels))
}

/// How many tasks a node runs, and its id, so that the least loaded is always the same.
fn load(observed: &Observed, node: &Node) -> (usize, Option<String>) {
    let here = |task: &&bollard::models::Task| task.node_id == node.id && observe::is_alive(task);
    (observed.tasks.iter().filter(here).count(), node.id.clone())
}

/// Whether the instances of a service are bound to a volume.
pub fn asks_for(service: &Service, volume: &VolumeName) -> bool {
    let placement = service
        .spec
        .as_ref()
        .and_then(|spec| spec.task_template.as_ref())
        .and_then(|task| task.placement.as_ref())
        .and_then(|placement| placement.constraints.as_ref());
    placement.is_some_and(|all| all.contains(&constraint(volume)))
}

/// The names of the engine's objects that services mount.
pub fn used(services: &[Service]) -> HashSet<String> {
    let mut found = HashSet::new();
    for service in services {
        let task = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
        let Some(container) = task.and_then(|task| task.container_spec.as_ref()) else { continue };
        let secrets = container.secrets.iter().flatten().filter_map(|secret| secret.secret_name.clone());
        let files = container.configs.iter().flatten().filter_map(|file| file.config_name.clone());
        found.extend(secrets.chain(files));
    }
    found
}

/// Those of which a version was created later.
fn outdated(secrets: Vec<EngineSecret>) -> HashSet<String> {
    let mut versions = HashMap::new();
    for secret in secrets {
        let created = secret.created_at;
        let Some(spec) = secret.spec else { continue };
        let of = spec.labels.and_then(|mut labels| labels.remove(SECRET));
        if let (Some(of), Some(name)) = (of, spec.name) {
            versions.entry(of).or_insert_with(Vec::new).push((created, name));
        }
    }
    let earlier = versions.into_values().flat_map(|mut all| {
        all.sort();
        all.pop();
        all
    });
    earlier.map(|(_, name)| name).collect()
}

fn identified(secret: EngineSecret) -> Option<(String, String)> {
    Some((secret.spec?.name?, secret.id?))
}

/// Says which secrets a service lacks.
fn unset(deployment: &Deployment, missing: &[SecretRef]) -> ClusterError {
    let next = missing.first().map(SecretRef::how_to_set).unwrap_or_default();
    let (name, secrets) = (&deployment.spec.name, listed(missing));
    ClusterError::Refused {
        reason: format!("service `{name}` needs secrets that are not set: {secrets}; {next}"),
    }
}

fn unread(error: &crate::port::cloud::CloudError) -> ClusterError {
    ClusterError::Engine { doing: "reading the environment's secrets".to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_a_secret_is_outdated_once_there_is_a_later_one() {
        let version = |of: &str, name: &str, minute: u32| {
            let secret = serde_json::json!({
                "ID": name,
                "CreatedAt": format!("2026-11-29T22:{minute:02}:00Z"),
                "Spec": {"Name": name, "Labels": {SECRET: of}},
            });
            serde_json::from_value::<EngineSecret>(secret).expect("as the engine writes it")
        };
        let found = outdated(vec![
            version("db", "db-2", 2),
            version("db", "db-1", 1),
            version("api", "api-1", 1),
            EngineSecret::default(),
        ]);
        assert_eq!(found, HashSet::from(["db-1".to_owned()]));
    }
}
