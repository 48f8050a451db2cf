//! From a service's file to a deployment of a certain image.

use std::collections::BTreeMap;

use crate::model::feature::{Feature, all_have};
use crate::model::image::has_host;
use crate::model::job::{JobDeployment, JobImage, Runs};
use crate::model::later::{ReadyJob, ReadyService};
use crate::model::mount::{SecretRef, SecretVersion, listed};
use crate::model::name::{Digest, JobName, ServiceName};
use crate::model::project::{Elsewhere, Wanted};
use crate::model::service::{Deployed, Deployment, Origin, Revision, RevisionState, ServiceSpec};
use crate::plan::deploy::{JobPlan, ServicePlan, job_plan, service_plan};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::images::{ImageError, ImageStore};
use crate::port::jobs::JobCluster;

/// Which image a service is to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The digest that is running; for a third-party image, the one that its file names.
    Kept,
    /// An image that was named.
    Image(String),
    /// The image of one of its revisions.
    Revision(u64),
}

/// Why a deployment can't be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The cluster did not answer, or refused.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The registry did not answer, or refused.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// There is no such image.
    #[error("there is no image `{reference}` at {host}")]
    NoImage {
        /// What was looked for.
        reference: String,
        /// Where.
        host: String,
    },
    /// It runs nothing yet, so there is no version to keep.
    #[error("service `{0}` has never been deployed here, and its image `{1}` is built by a pipeline")]
    NoVersion(ServiceName, String),
    /// A job's image has no version, and no service runs it.
    #[error(
        "job `{0}` has the image `{1}`, which a pipeline builds, and no service of that image is running"
    )]
    NoJobVersion(JobName, String),
    /// What was named is another image than the service's.
    #[error("`{given}` is not an image of service `{service}`, which runs `{image}`")]
    OtherImage {
        /// The service.
        service: ServiceName,
        /// Its image.
        image: String,
        /// What was named.
        given: String,
    },
    /// It is made of units, and an image was named.
    #[error("service `{0}` is made of units, and has no image")]
    NoImageOfUnits(ServiceName),
    /// Secrets that it needs are not set.
    #[error("service `{service}` needs secrets that are not set: {}", listed(missing))]
    Unset {
        /// The service.
        service: ServiceName,
        /// The secrets.
        missing: Vec<SecretRef>,
    },
    /// The environment has no registry.
    #[error("image `{0}` is kept in the environment's registry, and it has none")]
    NoRegistry(String),
}

/// Where images of the environment are.
pub struct Images<'a> {
    /// Looks digests up.
    pub store: &'a dyn ImageStore,
    /// The hosts of the environment's registry: where it is pushed to, and where machines pull from.
    pub registry: Option<(&'a str, &'a str)>,
}

/// A deployment, and what it would change.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What would be deployed.
    pub deployment: Deployment,
    /// What that changes.
    pub plan: ServicePlan,
    /// The revision that the service is at; `None` where it does not exist.
    pub before: Option<u64>,
    /// Whether the rollout of that revision is still under way.
    pub rolls: bool,
}

/// The current deployment of a service, if it has one.
///
/// # Errors
/// When the cluster can't be asked.
pub async fn running(cluster: &dyn Cluster, service: &ServiceName) -> Result<Option<Deployed>, ClusterError> {
    match cluster.deployed(service, None).await {
        Ok(deployed) => Ok(Some(deployed)),
        Err(ClusterError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Prepares the deployment of a service, and plans what it changes.
///
/// # Errors
/// When its image can't be found, or the cluster can't be asked.
pub async fn prepare(
    cluster: &dyn Cluster,
    images: &Images<'_>,
    wanted: &ReadyService,
    version: &Version,
) -> Result<Prepared, DeployError> {
    let name = &wanted.spec.name;
    let snapshot = async { Ok(cluster.snapshot().await?) };
    let running = async { Ok(running(cluster, name).await?) };
    let (running, snapshot, secrets) = tokio::try_join!(running, snapshot, secrets(cluster, &wanted.spec))?;
    let status = snapshot.services.iter().find(|status| status.name == *name);
    let prepared = |deployment: Deployment| {
        let plan = service_plan(running.as_ref(), &deployment);
        let before = running.as_ref().map(|running| running.revision);
        let rolls =
            |known: &Revision| Some(known.number) == before && known.state == RevisionState::RollingOut;
        let rolls = status.is_some_and(|status| status.history.iter().any(rolls));
        Prepared { deployment, plan, before, rolls }
    };
    let now = running.as_ref().map(|running| &running.deployment);
    if let Some(units) = &wanted.spec.units {
        if *version != Version::Kept {
            return Err(DeployError::NoImageOfUnits(name.clone()));
        }
        let deployment = Deployment {
            spec: wanted.spec.clone(),
            registry: String::new(),
            digest: units.digest(),
            origin: now.map_or_else(Origin::by_hand, |now| now.origin.clone()),
            restarted: now.and_then(|now| now.restarted),
            secrets,
            // They are on the network of their machine.
            network: false,
        };
        return Ok(prepared(deployment));
    }
    let (digest, origin) = match version {
        Version::Revision(number) => {
            let deployed = cluster.deployed(name, Some(*number)).await?.deployment;
            if deployed.spec.image != wanted.spec.image {
                let (service, image) = (name.clone(), wanted.spec.image.clone());
                return Err(DeployError::OtherImage { service, image, given: deployed.spec.image });
            }
            (deployed.digest, deployed.origin)
        }
        Version::Image(given) => {
            let digest = named(images, wanted, given).await?;
            (digest, by_hand(given))
        }
        Version::Kept => match (&wanted.elsewhere, now) {
            (Some(elsewhere), now) => {
                let keeps = now.filter(|now| {
                    elsewhere.tag.is_none()
                        && now.spec.image == wanted.spec.image
                        && now.registry == elsewhere.host
                });
                match (keeps, &elsewhere.digest) {
                    (_, Some(digest)) => (digest.clone(), by_hand(&elsewhere.shown)),
                    (Some(now), None) => (now.digest.clone(), now.origin.clone()),
                    (None, None) => (theirs(images, wanted, elsewhere).await?, by_hand(&elsewhere.shown)),
                }
            }
            (None, Some(now)) if now.spec.image == wanted.spec.image => {
                (now.digest.clone(), now.origin.clone())
            }
            (None, _) => return Err(DeployError::NoVersion(name.clone(), wanted.spec.image.clone())),
        },
    };
    let registry = match (&wanted.elsewhere, images.registry) {
        (Some(elsewhere), _) => elsewhere.host.clone(),
        (None, Some((_, pull))) => pull.to_owned(),
        (None, None) => return Err(DeployError::NoRegistry(wanted.spec.image.clone())),
    };
    // Deploying an image again does not change where it came from.
    let origin = now.filter(|now| now.digest == digest).map_or(origin, |now| now.origin.clone());
    let restarted = now.and_then(|now| now.restarted);
    let network = all_have(&snapshot.machines, Feature::Names);
    let spec = wanted.spec.clone();
    let deployment = Deployment { spec, registry, digest, origin, restarted, secrets, network };
    Ok(prepared(deployment))
}

/// The newest versions of the secrets of a service, all of which must be set.
async fn secrets(
    cluster: &dyn Cluster,
    spec: &ServiceSpec,
) -> Result<BTreeMap<SecretRef, SecretVersion>, DeployError> {
    let wanted: Vec<SecretRef> = spec.container.secrets.iter().map(|secret| secret.from.clone()).collect();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found = cluster.secret_versions(&wanted).await?;
    let missing: Vec<SecretRef> = wanted.into_iter().filter(|secret| !found.contains_key(secret)).collect();
    if missing.is_empty() {
        Ok(found)
    } else {
        Err(DeployError::Unset { service: spec.name.clone(), missing })
    }
}

/// Prepares the deployment of the image that another environment runs.
///
/// # Errors
/// When the registry does not hold the image, or the cluster can't be asked.
pub async fn promoted(
    cluster: &dyn Cluster,
    images: &Images<'_>,
    wanted: &ReadyService,
    there: &Deployment,
) -> Result<Prepared, DeployError> {
    if there.spec.image != wanted.spec.image {
        return Err(DeployError::OtherImage {
            service: wanted.spec.name.clone(),
            image: wanted.spec.image.clone(),
            given: there.spec.image.clone(),
        });
    }
    let version = Version::Image(there.digest.to_string());
    let mut prepared = prepare(cluster, images, wanted, &version).await?;
    prepared.deployment.origin = there.origin.clone();
    Ok(prepared)
}

/// A job's deployment, and what it would change.
#[derive(Debug, Clone)]
pub struct PreparedJob {
    /// What would be deployed.
    pub deployment: JobDeployment,
    /// What that changes.
    pub plan: JobPlan,
}

/// Prepares the deployment of a job, and plans what it changes. An image that a pipeline builds is the
/// one that a service of the same image runs; `services` are those that there are in the repository.
///
/// # Errors
/// When its image can't be found, or the cluster can't be asked.
pub async fn prepare_job(
    jobs: &dyn JobCluster,
    cluster: &dyn Cluster,
    images: &Images<'_>,
    wanted: &ReadyJob,
    services: &[&Wanted],
) -> Result<PreparedJob, DeployError> {
    let spec = &wanted.spec;
    let deployed = match jobs.deployed_job(&spec.name).await {
        Ok(deployed) => Some(deployed),
        Err(ClusterError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let (image, origin) = match (&spec.runs, &wanted.elsewhere) {
        (Runs::Service(_), _) => (None, Origin::by_hand()),
        (Runs::Image(name), Some(elsewhere)) => {
            let same = |job: &JobDeployment| job.spec.runs == spec.runs;
            let held = deployed.as_ref().filter(|job| same(job)).and_then(|job| job.image.clone());
            let held = held.filter(|at| elsewhere.tag.is_none() && at.registry == elsewhere.host);
            let digest = match (&elsewhere.digest, held) {
                (Some(digest), _) => digest.clone(),
                (None, Some(held)) => held.digest,
                (None, None) => {
                    let tag = elsewhere.tag.as_deref().unwrap_or("latest");
                    look_up(images, &format!("{}/{name}:{tag}", elsewhere.host), &elsewhere.host).await?
                }
            };
            (Some(JobImage { registry: elsewhere.host.clone(), digest }), by_hand(&elsewhere.shown))
        }
        (Runs::Image(name), None) => {
            let mut found = None;
            for service in services.iter().filter(|service| service.spec.image == *name) {
                found = running(cluster, &service.spec.name).await?.map(|running| running.deployment);
                if found.is_some() {
                    break;
                }
            }
            let found = found.ok_or_else(|| DeployError::NoJobVersion(spec.name.clone(), name.clone()))?;
            (Some(JobImage { registry: found.registry, digest: found.digest }), found.origin)
        }
    };
    let deployment = JobDeployment { spec: spec.clone(), image, origin };
    let plan = job_plan(deployed.as_ref(), &deployment);
    Ok(PreparedJob { deployment, plan })
}

fn by_hand(image: &str) -> Origin {
    Origin { subject: image.to_owned(), ..Origin::by_hand() }
}

/// The digest of a third-party image.
async fn theirs(
    images: &Images<'_>,
    wanted: &ReadyService,
    elsewhere: &Elsewhere,
) -> Result<Digest, DeployError> {
    let tag = elsewhere.tag.as_deref().unwrap_or("latest");
    let reference = format!("{}/{}:{tag}", elsewhere.host, wanted.spec.image);
    look_up(images, &reference, &elsewhere.host).await
}

/// The digest of an image that was named: `NAME:TAG`, `NAME@DIGEST`, either with its registry's host,
/// or a digest alone.
async fn named(images: &Images<'_>, wanted: &ReadyService, given: &str) -> Result<Digest, DeployError> {
    let (host, pull) = match (&wanted.elsewhere, images.registry) {
        (Some(elsewhere), _) => (elsewhere.host.as_str(), elsewhere.host.as_str()),
        (None, Some((push, pull))) => (push, pull),
        (None, None) => return Err(DeployError::NoRegistry(wanted.spec.image.clone())),
    };
    let own = [host, pull].into_iter().find_map(|host| given.strip_prefix(host)?.strip_prefix('/'));
    let name = own.unwrap_or(given);
    let image = wanted.spec.image.as_str();
    let version = match name.parse::<Digest>() {
        Ok(digest) => format!("@{digest}"),
        Err(_) => {
            let short = image.strip_prefix("library/").unwrap_or(image);
            let version = name.strip_prefix(image).or_else(|| name.strip_prefix(short));
            match version {
                Some("") => ":latest".to_owned(),
                Some(version) if version.starts_with([':', '@']) && !has_host(name) => version.to_owned(),
                _ => {
                    let (service, image) = (wanted.spec.name.clone(), image.to_owned());
                    return Err(DeployError::OtherImage { service, image, given: given.to_owned() });
                }
            }
        }
    };
    look_up(images, &format!("{host}/{image}{version}"), host).await
}

async fn look_up(images: &Images<'_>, reference: &str, host: &str) -> Result<Digest, DeployError> {
    images
        .store
        .digest(reference)
        .await?
        .ok_or_else(|| DeployError::NoImage { reference: reference.to_owned(), host: host.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use async_trait::async_trait;
    use futures_util::stream::BoxStream;

    use super::*;
    use crate::model::machine::Machine;
    use crate::model::name::{MachineId, VolumeName};
    use crate::model::secret::Secret;
    use crate::model::service::{Scale, ScaleTo};
    use crate::plan::deploy::ServiceAction;
    use crate::port::cluster::Snapshot;
    use crate::port::images::{BuildRequest, Lines};

    /// A cluster that runs what it is told to run, in revision 3, and knows revision 2.
    struct Runs(Option<Deployment>);

    #[async_trait]
    impl Cluster for Runs {
        async fn deployed(&self, name: &ServiceName, number: Option<u64>) -> Result<Deployed, ClusterError> {
            let missing = |what| ClusterError::NotFound { what, name: name.to_string() };
            let mut deployment = self.0.clone().ok_or_else(|| missing("service"))?;
            match number {
                None | Some(3) => {}
                Some(2) => {
                    deployment.digest = digest('2');
                    deployment.origin.subject = "the second".to_owned();
                }
                Some(_) => return Err(missing("revision")),
            }
            let (revision, live) = (number.unwrap_or(3), deployment.spec.scale);
            Ok(Deployed { version: 1, revision, deployment, live, stopped: false })
        }

        async fn snapshot(&self) -> Result<Snapshot, ClusterError> {
            // A machine whose agent is too old for the network.
            let old = Machine {
                id: "i-1".parse().expect("an id"),
                address: "10.0.0.1".parse().expect("an address"),
                role: crate::model::machine::Role::Control,
                state: crate::model::machine::MachineState::Ready,
                leader: true,
                group: String::new(),
                metadata: BTreeMap::new(),
                features: Default::default(),
                pressure: None,
                host_files: Default::default(),
            };
            Ok(Snapshot { version: 1, revision: 1, machines: vec![old], services: vec![] })
        }

        async fn watch(&self) -> Result<BoxStream<'static, Result<Snapshot, ClusterError>>, ClusterError> {
            unreachable!("nobody looks")
        }

        async fn deploy(&self, _: &Deployment) -> Result<u64, ClusterError> {
            unreachable!("nothing is deployed")
        }

        async fn rollback(&self, _: &ServiceName, _: Option<u64>) -> Result<u64, ClusterError> {
            unreachable!("nothing is deployed")
        }

        async fn secret_versions(
            &self,
            secrets: &[SecretRef],
        ) -> Result<BTreeMap<SecretRef, SecretVersion>, ClusterError> {
            let set = secrets.iter().filter(|secret| secret.to_string() != "unset");
            Ok(set.map(|secret| (secret.clone(), SecretVersion::of_parameter(2, 0))).collect())
        }

        async fn scale(&self, _: &ServiceName, _: ScaleTo) -> Result<(), ClusterError> {
            unreachable!("nothing is scaled")
        }

        async fn remove(&self, _: &ServiceName) -> Result<(), ClusterError> {
            unreachable!("nothing is removed")
        }

        async fn logs(
            &self,
            _: &ServiceName,
            _: u32,
            _: bool,
        ) -> Result<BoxStream<'static, Result<String, ClusterError>>, ClusterError> {
            unreachable!("nobody reads")
        }

        async fn drain(&self, _: &[MachineId], _: &[VolumeName]) -> Result<(), ClusterError> {
            unreachable!("nothing is drained")
        }
    }

    /// Registries that hold these images.
    struct Holds(BTreeMap<&'static str, Digest>);

    #[async_trait]
    impl ImageStore for Holds {
        fn host(&self) -> &str {
            "push.example"
        }

        async fn platform(&self) -> Result<String, ImageError> {
            unreachable!("nothing is built")
        }

        async fn engine(&self) -> Result<String, ImageError> {
            unreachable!("nothing is built")
        }

        async fn digest(&self, reference: &str) -> Result<Option<Digest>, ImageError> {
            Ok(self.0.get(reference).cloned())
        }

        async fn build(&self, _: BuildRequest, _: Lines<'_>) -> Result<(), ImageError> {
            unreachable!("nothing is built")
        }

        async fn push(&self, _: &str, _: &str, _: Lines<'_>) -> Result<Digest, ImageError> {
            unreachable!("nothing is pushed")
        }

        async fn secrets(&self) -> Result<Vec<Secret<String>>, ImageError> {
            unreachable!("nothing is read")
        }
    }

    fn digest(hex: char) -> Digest {
        format!("sha256:{}", hex.to_string().repeat(64)).parse().expect("a digest")
    }

    fn runs(image: &str, registry: &str) -> Deployment {
        let (_, text) = crate::source::samples::of("requests").remove(0);
        let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mut one: Deployment = serde_json::from_value(sample["deployment"].clone()).expect("a deployment");
        image.clone_into(&mut one.spec.image);
        registry.clone_into(&mut one.registry);
        one.digest = digest('1');
        one
    }

    fn own(image: &str) -> ReadyService {
        ReadyService { spec: runs(image, "").spec, elsewhere: None }
    }

    fn theirs_of(host: &str, image: &str, tag: Option<&str>) -> ReadyService {
        let elsewhere = Elsewhere {
            host: host.to_owned(),
            tag: tag.map(str::to_owned),
            digest: None,
            shown: "redis:7.4".to_owned(),
        };
        ReadyService { elsewhere: Some(elsewhere), ..own(image) }
    }

    async fn look(
        now: Option<Deployment>,
        wanted: &ReadyService,
        version: Version,
    ) -> Result<Prepared, DeployError> {
        let held = [
            ("push.example/team/web:1.4", '4'),
            ("push.example/team/web:latest", '5'),
            ("docker.io/library/redis:7.4", '6'),
            ("docker.io/library/redis:latest", '7'),
        ];
        let mut held: BTreeMap<&'static str, Digest> =
            held.into_iter().map(|(name, hex)| (name, digest(hex))).collect();
        let by_digest: &'static str = Box::leak(format!("push.example/team/web@{}", digest('4')).into());
        held.insert(by_digest, digest('4'));
        let store = Arc::new(Holds(held));
        let images = Images { store: store.as_ref(), registry: Some(("push.example", "pull.example")) };
        prepare(&Runs(now), &images, wanted, &version).await
    }

    #[tokio::test]
    async fn what_a_pipeline_built_keeps_the_digest_that_runs() {
        let now = runs("team/web", "pull.example");
        let kept = look(Some(now.clone()), &own("team/web"), Version::Kept).await.expect("known");
        assert_eq!(
            (kept.deployment.digest, kept.deployment.origin),
            (now.digest.clone(), now.origin.clone())
        );
        assert!(!kept.plan.has_changes());
        let first = look(None, &own("team/web"), Version::Kept).await;
        assert!(matches!(first, Err(DeployError::NoVersion(..))), "{first:?}");
        let renamed = look(Some(now), &own("team/other"), Version::Kept).await;
        assert!(matches!(renamed, Err(DeployError::NoVersion(..))), "{renamed:?}");
    }

    #[tokio::test]
    async fn secrets_get_their_newest_version_and_must_be_set() {
        let mut wanted = own("team/web");
        let secret = |name: &str| crate::model::mount::SecretMount {
            from: name.parse().expect("a name"),
            target: format!("/run/secrets/{name}"),
            env: None,
            owned: Default::default(),
        };
        wanted.spec.container.secrets = vec![secret("db")];
        let now = runs("team/web", "pull.example");
        let kept = look(Some(now.clone()), &wanted, Version::Kept).await.expect("it is set");
        assert_eq!(kept.deployment.secrets.len(), 1);
        assert!(!kept.deployment.network, "a machine is too old for it");
        wanted.spec.container.secrets.push(secret("unset"));
        let refused = look(Some(now), &wanted, Version::Kept).await.expect_err("one is not set");
        assert_eq!(refused.to_string(), "service `web` needs secrets that are not set: `unset`");
    }

    #[tokio::test]
    async fn a_version_is_named_in_any_of_its_forms() {
        let now = || Some(runs("team/web", "pull.example"));
        let by_digest = digest('4').to_string();
        let names = [
            ("team/web:1.4", '4'),
            ("pull.example/team/web:1.4", '4'),
            ("push.example/team/web:1.4", '4'),
            (by_digest.as_str(), '4'),
            ("team/web", '5'),
        ];
        for (name, hex) in names {
            let version = Version::Image(name.to_owned());
            let found = look(now(), &own("team/web"), version).await.expect(name).deployment;
            assert_eq!((found.digest, found.registry.as_str()), (digest(hex), "pull.example"), "{name}");
        }
        for other in ["team/website:1.4", "team/other:1", "elsewhere.example/team/web:1.4", "web:1.4"] {
            let found = look(now(), &own("team/web"), Version::Image(other.to_owned())).await;
            assert!(matches!(found, Err(DeployError::OtherImage { .. })), "{other}: {found:?}");
        }
        let gone = look(now(), &own("team/web"), Version::Image("team/web:9".to_owned())).await;
        assert!(matches!(gone, Err(DeployError::NoImage { .. })), "{gone:?}");
        let second =
            look(now(), &own("team/web"), Version::Revision(2)).await.expect("it is kept").deployment;
        assert_eq!((second.digest, second.origin.subject.as_str()), (digest('2'), "the second"));
        let missing = look(now(), &own("team/web"), Version::Revision(9)).await;
        assert!(matches!(missing, Err(DeployError::Cluster(ClusterError::NotFound { .. }))), "{missing:?}");
    }

    #[tokio::test]
    async fn a_third_party_image_is_resolved_by_its_tag() {
        let wanted = theirs_of("docker.io", "library/redis", Some("7.4"));
        let first = look(None, &wanted, Version::Kept).await.expect("known");
        assert_eq!((first.plan.action, first.deployment.digest), (ServiceAction::Create, digest('6')));
        assert_eq!(first.deployment.registry, "docker.io");
        let now = || Some(runs("library/redis", "docker.io"));
        let moved = look(now(), &wanted, Version::Kept).await.expect("known");
        assert_eq!(moved.deployment.digest, digest('6'), "the tag has moved");
        // Without a tag, what runs is kept.
        let any = theirs_of("docker.io", "library/redis", None);
        assert_eq!(look(None, &any, Version::Kept).await.expect("known").deployment.digest, digest('7'));
        let kept = look(now(), &any, Version::Kept).await.expect("known");
        assert!(kept.deployment.digest == digest('1') && !kept.plan.has_changes());
        let named = look(now(), &any, Version::Image("redis:7.4".to_owned())).await.expect("known");
        assert_eq!(named.deployment.digest, digest('6'));
    }

    #[tokio::test]
    async fn what_is_promoted_is_the_same_image_with_the_files_settings_for_here() {
        let mut there = runs("team/web", "pull.example");
        (there.digest, there.origin.subject) = (digest('4'), "tried in staging".to_owned());
        let mut wanted = own("team/web");
        wanted.spec.scale = Scale::Replicas(6);
        let store = Holds(BTreeMap::from([(
            &*Box::leak(format!("push.example/team/web@{}", digest('4')).into_boxed_str()),
            digest('4'),
        )]));
        let images = Images { store: &store, registry: Some(("push.example", "pull.example")) };
        let here = Runs(Some(runs("team/web", "pull.example")));
        let found = promoted(&here, &images, &wanted, &there).await.expect("the registry holds it");
        assert_eq!((found.deployment.digest, found.deployment.spec.scale), (digest('4'), Scale::Replicas(6)));
        assert_eq!(found.deployment.origin.subject, "tried in staging");
        let empty = Holds(BTreeMap::new());
        let images = Images { store: &empty, registry: Some(("push.example", "pull.example")) };
        let missing = promoted(&here, &images, &wanted, &there).await;
        assert!(matches!(missing, Err(DeployError::NoImage { .. })), "{missing:?}");
    }

    /// Keys of a service, each in the forms that it can have. A service has at most one of each.
    const KEYS: &[&[&str]] = &[
        &["replicas: 3", "every_machine: true", "replicas: 0"],
        &["command: [serve, \"--name=a b\"]", "command: []"],
        &["entrypoint: [/bin/sh, -c, \"echo $$HOME\"]"],
        &["env: {A: \"1\", EMPTY: \"\", TEXT: \"${HOME} 'x'\"}", "environment: {A: b}"],
        &["secrets: [db]", "secrets: [db, {name: api, env: API, target: api-key, mode: \"0400\", uid: 7}]"],
        &[
            "volumes: [{type: tmpfs, target: /t, size: 64MiB}]",
            "volumes: [{type: nfs, source: \"10.0.0.9:/e\", target: /n}]",
        ],
        &["ports: [8080]", "ports: [{container: 53, host: 53, protocol: udp}, \"80:8080\"]"],
        &[
            "health: {http: /health, port: 8080, interval: 1500ms}",
            "health: {tcp: 8080, retries: 7}",
            "health: {command: [test, -e, /x], start_period: 0s}",
        ],
        &[
            "resources: {limits: {memory: 64MiB, cpu: 0.25}, reservations: {memory: 32MiB}}",
            "resources: {limits: {cpu: 1.5}}",
        ],
        &["placement: {role: worker}"],
        &["spread: zone"],
        &["max_per_machine: 2"],
        &["update: {parallel: 2, monitor: 0s}", "update: {deadline: 10m}"],
        &["pre_deploy: {command: [migrate]}", "pre_deploy: {command: [migrate, \"\"], timeout: 90s}"],
        &["stop_grace_period: 90s", "drain: 1s"],
        &["stop_signal: SIGINT"],
        &["restart: none", "restart: {condition: on-failure, delay: 2s, max_attempts: 3, window: 1m}"],
        &["user: \"1000:1000\""],
        &["workdir: /srv"],
        &["hostname: web"],
        &["labels: {a.b: c, empty: \"\"}"],
        &["extra_hosts: {db.internal: 10.0.0.9}"],
        &["cap_drop: [ALL]"],
        &["cap_add: [NET_BIND_SERVICE]"],
        &["read_only: true", "read_only: false"],
        &["tmpfs: [/tmp]", "tmpfs: {/tmp: {size: 16MiB, mode: \"1777\"}}"],
        &["ulimits: {nofile: 1024}", "ulimits: {nofile: {soft: 10, hard: 20}}"],
        &["sysctls: {net.core.somaxconn: 128}"],
        &["init: true"],
        &["logging: {max_size: 1MiB, max_files: 2}"],
        &[
            "environments: {local: {replicas: 5, env: {MORE: here}}}",
            "environments: {local: {command: null}}",
        ],
    ];

    fn repository(text: &str) -> crate::model::project::Repository {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("services")).expect("created");
        let project = "project: shop\nenvironments: {local: {region: eu-west-1, cluster: main}}\n\
            clusters: {main: {engine: swarm}}\n";
        std::fs::write(folder.path().join("fleetwright.yaml"), project).expect("written");
        std::fs::write(folder.path().join("services/web.yaml"), text).expect("written");
        let loaded = crate::repo::load_with(folder.path(), &|_| None);
        let (repository, _) = loaded.finish().unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
        repository
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]
        /// What was deployed from a file, stored and read back, is what the file says.
        #[test]
        fn after_a_deployment_the_plan_is_empty(
            chosen in KEYS
                .iter()
                .map(|forms| proptest::option::of(0..forms.len()))
                .collect::<Vec<_>>(),
        ) {
            let mut lines: Vec<&str> =
                KEYS.iter().zip(chosen).filter_map(|(forms, form)| Some(forms[form?])).collect();
            if lines.contains(&"every_machine: true") {
                // One on each machine leaves no choice of how many, and where.
                let chooses = ["max_per_machine", "spread", "replicas"];
                lines.retain(|line| !chooses.iter().any(|key| line.contains(key)));
            }
            let text: String = lines.iter().map(|line| format!("  {line}\n")).collect();
            let repository = repository(&format!("web:\n  image: team/web\n{text}"));
            let local = "local".parse().expect("a name");
            let wanted = repository.services[0].in_environment(&local).ready(&Default::default());
            let wanted = wanted.expect("no values are looked up");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let first = look(None, &wanted, Version::Image("team/web:1.4".to_owned()));
            let first = runtime.block_on(first).expect("it can be deployed");
            proptest::prop_assert_eq!(first.plan.action, ServiceAction::Create);
            let stored = serde_json::to_string(&first.deployment).expect("JSON");
            let stored: Deployment = serde_json::from_str(&stored).expect("what was written is read");
            let again = runtime.block_on(look(Some(stored.clone()), &wanted, Version::Kept));
            let again = again.expect("it can be deployed again");
            proptest::prop_assert!(!again.plan.has_changes(), "{:#?}", again.plan);
            proptest::prop_assert_eq!(again.deployment, stored);
        }
    }
}
