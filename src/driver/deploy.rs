//! From what a service's file wants to a deployment of a certain image.

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
    /// What runs now; of somebody else's image, what its file names.
    Kept,
    /// What somebody named.
    Image(String),
    /// What one of its revisions runs.
    Revision(u64),
}

/// Why it is not known what to deploy.
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

/// What a service runs now, if it runs.
///
/// # Errors
/// When the cluster does not say.
pub async fn running(cluster: &dyn Cluster, service: &ServiceName) -> Result<Option<Deployed>, ClusterError> {
    match cluster.deployed(service, None).await {
        Ok(deployed) => Ok(Some(deployed)),
        Err(ClusterError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds out what would be deployed of a service, and what that changes.
///
/// # Errors
/// When its image can't be found, or the cluster does not say what runs.
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
    // The same image has the origin that it had: what deploys it again did not make it.
    let origin = now.filter(|now| now.digest == digest).map_or(origin, |now| now.origin.clone());
    let restarted = now.and_then(|now| now.restarted);
    let deployment = Deployment { spec: wanted.spec.clone(), registry, digest, origin, restarted };
    let plan = service_plan(running.as_ref(), &deployment);
    Ok(Prepared { deployment, plan })
}

/// What would be deployed of a service to run what runs of it elsewhere.
///
/// # Errors
/// When the registry does not hold its image, or the cluster does not say what runs.
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

/// The digest behind somebody else's image.
async fn theirs(images: &Images<'_>, wanted: &Wanted, elsewhere: &Elsewhere) -> Result<Digest, DeployError> {
    let tag = elsewhere.tag.as_deref().unwrap_or("latest");
    let reference = format!("{}/{}:{tag}", elsewhere.host, wanted.spec.image);
    look_up(images, &reference, &elsewhere.host).await
}

/// The digest behind what somebody named: `NAME:TAG`, `NAME@DIGEST`, either with its registry's host,
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
