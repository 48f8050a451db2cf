//! The machine images: Debian with systemd, cloud-init and Docker, one for each release, made here
//! from Debian's packages and named after their recipes.

use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

use bollard::Docker;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use nix::unistd::Uid;
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::event::local::LocalEvent;
use crate::event::{EventKind, Events};

use super::error::LocalError;
use super::home::{Home, last_words, make_dir, open_log, remove_dir};
use super::venv::{exclusive, hash, run};

const STEP: &str = "machine image";
const REPOSITORY: &str = "fleetwright-machine";

/// A release of Debian that machines can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Release {
    /// Debian 12.
    #[default]
    Bookworm,
    /// Debian 13.
    Trixie,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Its name, which is debootstrap's suite.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Bookworm => "Debian 12",
            Self::Trixie => "Debian 13",
        }
    }

    /// The public parameters that name its newest image on AWS, and name this computer's in the emulated SSM.
    fn public_parameters(self) -> [String; 4] {
        let number = match self {
            Self::Bookworm => "12",
            Self::Trixie => "13",
        };
        let name =
            |release, architecture| format!("/aws/service/debian/release/{release}/latest/{architecture}");
        [name(number, "amd64"), name(number, "arm64"), name(self.name(), "amd64"), name(self.name(), "arm64")]
    }

    /// The release whose image has this id in the emulated EC2.
    pub fn of_ami(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|release| ami(*release) == id)
    }

    /// The version of its cloud-init, as far as it matters for what user data means.
    pub fn cloud_init(self) -> &'static str {
        match self {
            Self::Bookworm => "22.4",
            Self::Trixie => "25.1",
        }
    }

    /// Packages that are parts of others in Debian 12, each after a space.
    fn more_packages(self) -> &'static str {
        match self {
            Self::Bookworm => "",
            Self::Trixie => " docker-cli",
        }
    }
}

impl FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|release| release.name() == text);
        found.ok_or_else(|| "use `bookworm` (Debian 12) or `trixie` (Debian 13)".to_owned())
    }
}

const BASE_PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,ca-certificates";

const DOCKERFILE: &str = include_str!("image/Dockerfile");
const FILES: &[(&str, &str)] = &[
    ("Dockerfile", DOCKERFILE),
    ("90-local-cloud.cfg", include_str!("image/90-local-cloud.cfg")),
    ("local-cloud-metadata.service", include_str!("image/local-cloud-metadata.service")),
];

fn recipe(release: Release) -> String {
    let base = hash(&[("suite", release.name()), ("packages", BASE_PACKAGES)]);
    let files = files(release);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    hash(&[&[("base", base.as_str())], files.as_slice()].concat())
}

/// What the image is built from; only the name of the base is missing.
fn files(release: Release) -> Vec<(&'static str, String)> {
    FILES.iter().map(|(path, text)| (*path, text.replace("@MORE@", release.more_packages()))).collect()
}

/// The image's name in Docker.
pub fn tag(release: Release) -> String {
    format!("{REPOSITORY}:{}", &recipe(release)[..12])
}

/// The image's id in the emulated EC2.
pub fn ami(release: Release) -> String {
    format!("ami-{}", &recipe(release)[..17])
}

/// The public parameters of all images, `NAME=ID`, with spaces between them.
pub fn public_parameters() -> String {
    let of = |release: Release| {
        let id = ami(release);
        release.public_parameters().map(|name| format!("{name}={id}")).join(" ")
    };
    Release::ALL.map(of).join(" ")
}

/// Makes the image if Docker does not have it.
///
/// # Errors
/// When debootstrap is missing or fails, or Docker refuses.
pub async fn ensure(
    docker: &Docker,
    home: &Home,
    release: Release,
    events: &Events,
) -> Result<String, LocalError> {
    let tag = tag(release);
    if exists(docker, &tag).await? {
        return Ok(tag);
    }
    let _lock = exclusive(&home.root().join("image.lock")).await?;
    if exists(docker, &tag).await? {
        return Ok(tag);
    }
    let begun = Instant::now();
    events.emit(EventKind::Local(LocalEvent::Started {
        step: STEP.into(),
        detail: format!("{} with systemd, cloud-init and Docker as {tag}, about 3 min", release.title()),
    }));
    let log = home.log("image");
    let _ = std::fs::remove_file(&log);
    let base = format!("{REPOSITORY}:base-{}", &hash(&[("s", release.name()), ("p", BASE_PACKAGES)])[..12]);
    let progress = |detail: &str| {
        events.emit(EventKind::Local(LocalEvent::Progress {
            step: STEP.into(),
            detail: detail.into(),
            bytes: None,
        }));
    };
    if !exists(docker, &base).await? {
        progress("debootstrap");
        bootstrap(docker, home, release, &base, &log).await?;
    }
    progress("packages");
    let bytes = build(docker, release, &base, &tag, &log).await?;
    let bytes = bytes.map(|bytes| bytes + DEBOOTSTRAP_BYTES);
    events.emit(EventKind::Local(LocalEvent::Finished {
        step: STEP.into(),
        outcome: tag.clone(),
        seconds: begun.elapsed().as_secs_f64(),
        bytes,
    }));
    Ok(tag)
}

/// What debootstrap downloads for [`BASE_PACKAGES`]; it does not say so itself.
const DEBOOTSTRAP_BYTES: u64 = 40_000_000;

async fn exists(docker: &Docker, name: &str) -> Result<bool, LocalError> {
    match docker.inspect_image(name).await {
        Ok(_) => Ok(true),
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => Ok(false),
        Err(error) => Err(LocalError::docker(format!("looking for the image {name}"))(error)),
    }
}

/// Removes every machine image, of older recipes too, with the layers only they use. One that
/// machines of another cloud run on is kept.
///
/// # Errors
/// When Docker does not answer or refuses for another reason.
pub async fn remove(docker: &Docker) -> Result<(), LocalError> {
    let filter = std::collections::HashMap::from([("reference", vec![REPOSITORY])]);
    let options = ListImagesOptionsBuilder::default().filters(&filter).build();
    let images = docker.list_images(Some(options)).await.map_err(LocalError::docker("listing images"))?;
    // Layers before the base that they stand on.
    let mut tags: Vec<String> = images.into_iter().flat_map(|image| image.repo_tags).collect();
    tags.sort_by_key(|tag| tag.contains(":base-"));
    for tag in tags {
        match docker.remove_image(&tag, None::<RemoveImageOptions>, None).await {
            Ok(_) | Err(bollard::errors::Error::DockerResponseServerError { status_code: 404 | 409, .. }) => {
            }
            Err(error) => return Err(LocalError::docker(format!("removing the image {tag}"))(error)),
        }
    }
    Ok(())
}

/// Makes the root file system and imports it as an image.
async fn bootstrap(
    docker: &Docker,
    home: &Home,
    release: Release,
    name: &str,
    log: &Path,
) -> Result<(), LocalError> {
    let suite = release.name();
    let root = home.scratch("machine");
    make_dir(&root)?;
    let tarball = root.join("root.tar");
    let tree = root.join("root");
    // Root is needed for device nodes and owners; everything stays in the scratch folder.
    let sudo = if Uid::effective().is_root() { "" } else { "sudo -n " };
    let script = format!(
        "set -e; rm -rf \"$2\"; {sudo}debootstrap --variant=minbase --include={BASE_PACKAGES} {suite} \"$2\" $3 >&2; \
         {sudo}tar --numeric-owner -C \"$2\" -cf \"$1\" .; {sudo}rm -rf \"$2\""
    );
    if !on_path("debootstrap") {
        return Err(LocalError::Missing {
            program: "debootstrap",
            why: "for the machine image",
            get: "on Debian: `apt-get install debootstrap` (`scripts/setup run` does)",
        });
    }
    let mirror = std::env::var("FLEETWRIGHT_DEBIAN_MIRROR").unwrap_or_default();
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(&tarball).arg(&tree).arg(&mirror);
    command.env("PATH", path_with_sbin());
    run(&mut command, log, |_| {}).await?;

    let file = tokio::fs::File::open(&tarball).await.map_err(LocalError::file("opening", &tarball))?;
    let body = tokio_util::io::ReaderStream::with_capacity(file, 1 << 20);
    let (repository, version) = name.split_once(':').unwrap_or((name, "latest"));
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(repository).tag(version).build();
    let mut answers =
        std::pin::pin!(docker.create_image(Some(options), Some(bollard::body_try_stream(body)), None));
    while let Some(answer) = answers.next().await {
        answer.map_err(LocalError::docker("importing the machine's base image"))?;
    }
    remove_dir(&root)
}

/// Debian puts debootstrap where only root looks.
fn path_with_sbin() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default())
}

/// Whether a program is there.
pub(super) fn on_path(program: &str) -> bool {
    std::env::split_paths(&path_with_sbin()).any(|dir| dir.join(program).is_file())
}

/// Builds the layer with cloud-init and Docker; returns the bytes that apt downloaded.
async fn build(
    docker: &Docker,
    release: Release,
    base: &str,
    tag: &str,
    log: &Path,
) -> Result<Option<u64>, LocalError> {
    use std::io::Write;
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in files(release) {
        let text = text.replace("@BASE@", base);
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        tar.append_data(&mut header, path, text.as_bytes())
            .map_err(LocalError::file("packing", Path::new(path)))?;
    }
    let context = tar.into_inner().map_err(LocalError::file("packing", Path::new("Dockerfile")))?;
    // The proxies that this machine needs, the build needs too.
    let proxies: std::collections::HashMap<String, String> = ["http_proxy", "https_proxy", "no_proxy"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    let options = BuildImageOptionsBuilder::default()
        .t(tag)
        .networkmode("host")
        .rm(true)
        .forcerm(true)
        .buildargs(&proxies)
        .build();
    let mut out = open_log(log)?;
    let mut bytes = None;
    let mut answers =
        std::pin::pin!(docker.build_image(options, None, Some(bollard::body_full(Bytes::from(context)))));
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(|error| LocalError::Program {
            doing: "building the machine image",
            program: "docker build".into(),
            reason: format!("{error}: {}", last_words(log, 5)),
            log: log.to_owned(),
        })?;
        if let Some(text) = answer.stream {
            let _ = out.write_all(text.as_bytes());
            bytes = fetched(&text).or(bytes);
        }
        if let Some(error) = answer.error_detail.and_then(|detail| detail.message) {
            return Err(LocalError::Program {
                doing: "building the machine image",
                program: "docker build".into(),
                reason: error,
                log: log.to_owned(),
            });
        }
    }
    Ok(bytes)
}

/// The size in apt's `Need to get 92.1 MB of archives.` or `92.1 MB/100 MB`.
fn fetched(text: &str) -> Option<u64> {
    let rest = text.split("Need to get ").nth(1)?;
    let mut words = rest.split([' ', '/']);
    let number: f64 = words.next()?.replace(',', "").parse().ok()?;
    let factor = match words.next()? {
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    Some((number * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apt_says_how_much_it_downloads() {
        assert_eq!(fetched("Need to get 92.1 MB of archives.\n"), Some(92_100_000));
        assert_eq!(fetched("Get:1"), None);
    }

    #[test]
    fn the_image_is_named_after_its_recipe() {
        for release in Release::ALL {
            let tag = tag(release);
            assert!(tag.starts_with("fleetwright-machine:") && tag.len() == 32);
            assert_eq!(ami(release).len(), "ami-0d3c1f2a9b8e7d6c5".len());
            assert_eq!(Release::of_ami(&ami(release)), Some(release));
        }
        assert_ne!(tag(Release::Bookworm), tag(Release::Trixie));
        assert_eq!(Release::of_ami("ami-0d3c1f2a9b8e7d6c5"), None);
    }
}
