//! Puts an image of this computer's Docker into the local cloud's registry.

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder};
use futures_util::StreamExt as _;

use super::error::LocalError;
use super::home::CloudFiles;
use super::machines;
use super::registry::{self, USERNAME};
use crate::model::image::{has_host, is_repository, is_tag};

/// A name in the registry, split as the engine's interface wants it.
#[derive(Debug, PartialEq, Eq)]
struct Name<'t> {
    /// `shop/postgres`, without a registry's host.
    repository: &'t str,
    /// `latest` unless given.
    tag: &'t str,
}

/// Reads `REPOSITORY[:TAG]`. A host in front of it is refused, because the registry is this cloud's.
fn parse(text: &str) -> Result<Name<'_>, &'static str> {
    if text.contains('@') {
        return Err("give a name with a tag, such as `debian:12`; an image can't be pushed by its digest");
    }
    if has_host(text) {
        return Err(
            "give `--as NAME:TAG` without a registry's host: the image goes to the local cloud's registry",
        );
    }
    let (repository, tag) = text.rsplit_once(':').unwrap_or((text, "latest"));
    if !is_repository(repository) || !is_tag(tag) {
        return Err("give a name such as `debian:12` or `shop/postgres:15`, in lower case");
    }
    Ok(Name { repository, tag })
}

/// Pushes `image`, an image of this computer's Docker, under the name `to`. Returns its digest there.
///
/// # Errors
/// When the name can't be used, Docker has no such image, or the registry does not take it.
pub async fn push(files: &CloudFiles, port: u16, image: &str, to: &str) -> Result<String, LocalError> {
    let name = parse(to).map_err(|rule| LocalError::Setting {
        setting: "the image's name",
        value: to.to_owned(),
        rule,
    })?;
    let docker = machines::connect().await?;
    docker
        .inspect_image(image)
        .await
        .map_err(LocalError::docker(format!("looking for the image {image}")))?;
    let there = format!("127.0.0.1:{port}/{}", name.repository);
    let reference = format!("{there}:{}", name.tag);
    let options = TagImageOptionsBuilder::default().repo(&there).tag(name.tag).build();
    docker.tag_image(image, Some(options)).await.map_err(LocalError::docker(format!("naming {image}")))?;
    let pushed = send(&docker, files, port, &there, name.tag).await;
    // The name was for the push only; the image keeps its own.
    let _ = docker.remove_image(&reference, None::<RemoveImageOptions>, None).await;
    pushed
}

async fn send(
    docker: &Docker,
    files: &CloudFiles,
    port: u16,
    repository: &str,
    tag: &str,
) -> Result<String, LocalError> {
    let credentials = DockerCredentials {
        username: Some(USERNAME.into()),
        password: Some(registry::password(files)?.expose().clone()),
        serveraddress: Some(format!("127.0.0.1:{port}")),
        ..DockerCredentials::default()
    };
    let options = PushImageOptionsBuilder::default().tag(tag).build();
    let mut progress = Box::pin(docker.push_image(repository, Some(options), Some(credentials)));
    let mut digest = None;
    while let Some(info) = progress.next().await {
        let info = info.map_err(LocalError::docker("pushing to the local cloud's registry"))?;
        // The last line is `12: digest: sha256:... size: 529`.
        let said = info.status.as_deref().and_then(|line| line.split_once("digest: "));
        digest = said.and_then(|(_, rest)| rest.split(' ').next()).map(str::to_owned).or(digest);
    }
    digest.ok_or(LocalError::Emulator {
        doing: "pushing to the local cloud's registry",
        reason: "Docker reported no digest".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_this_registry() {
        assert_eq!(parse("debian:12"), Ok(Name { repository: "debian", tag: "12" }));
        assert_eq!(parse("shop/db"), Ok(Name { repository: "shop/db", tag: "latest" }));
        for wrong in
            ["docker.io/x:1", "localhost/x", "r:5000/x", "a@sha256:00", "A:1", "x:", "", "a//b", "-a"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
