//! From a service's file to a deployment of a certain image.

use crate::model::image::has_host;
use crate::model::name::{Digest, ServiceName};
use crate::model::project::{Elsewhere, Wanted};
use crate::model::service::{Deployed, Deployment, Origin};
use crate::plan::deploy::{ServicePlan, service_plan};
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::images::{ImageError, ImageStore};

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
    wanted: &Wanted,
    version: &Version,
) -> Result<Prepared, DeployError> {
    let name = &wanted.spec.name;
    let running = running(cluster, name).await?;
    let now = running.as_ref().map(|running| &running.deployment);
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
    let deployment = Deployment { spec: wanted.spec.clone(), registry, digest, origin, restarted };
    let plan = service_plan(running.as_ref(), &deployment);
    Ok(Prepared { deployment, plan })
}

/// Prepares the deployment of the image that another environment runs.
///
/// # Errors
/// When the registry does not hold the image, or the cluster can't be asked.
pub async fn promoted(
    cluster: &dyn Cluster,
    images: &Images<'_>,
    wanted: &Wanted,
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

fn by_hand(image: &str) -> Origin {
    Origin { subject: image.to_owned(), ..Origin::by_hand() }
}

/// The digest of a third-party image.
async fn theirs(images: &Images<'_>, wanted: &Wanted, elsewhere: &Elsewhere) -> Result<Digest, DeployError> {
    let tag = elsewhere.tag.as_deref().unwrap_or("latest");
    let reference = format!("{}/{}:{tag}", elsewhere.host, wanted.spec.image);
    look_up(images, &reference, &elsewhere.host).await
}

/// The digest of an image that was named: `NAME:TAG`, `NAME@DIGEST`, either with its registry's host,
/// or a digest alone.
async fn named(images: &Images<'_>, wanted: &Wanted, given: &str) -> Result<Digest, DeployError> {
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
    use crate::model::name::MachineId;
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
            unreachable!("nobody looks")
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

        async fn drain(&self, _: &[MachineId]) -> Result<(), ClusterError> {
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

    fn own(image: &str) -> Wanted {
        Wanted { spec: runs(image, "").spec, elsewhere: None }
    }

    fn theirs_of(host: &str, image: &str, tag: Option<&str>) -> Wanted {
        let elsewhere = Elsewhere {
            host: host.to_owned(),
            tag: tag.map(str::to_owned),
            digest: None,
            shown: "redis:7.4".to_owned(),
        };
        Wanted { elsewhere: Some(elsewhere), ..own(image) }
    }

    async fn look(
        now: Option<Deployment>,
        wanted: &Wanted,
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
}
