//! The image of a service: one that a pipeline builds, or a third-party image.

use crate::model::image::{at_docker_hub, has_host, is_repository, is_tag};
use crate::model::name::Digest;
use crate::model::project::Elsewhere;
use crate::repo::decode::Reader;
use crate::source::Diagnostic;
use crate::yaml::Node;

/// An image's repository, without registry host, tag or digest: one that a pipeline builds.
pub fn image(reader: &mut Reader<'_>, node: &Node) -> Option<String> {
    let text = reader.text(node, "`image`")?;
    let host = has_host(text);
    if !host && is_repository(text) {
        return Some(text.to_owned());
    }
    let diagnostic = Diagnostic::error("bad-image", format!("`{text}` is not the name of an image"));
    let (label, help) = if host {
        ("it names a registry", "where images are kept is the environment's `registry` in fleetwright.yaml")
    } else if text.contains([':', '@']) {
        ("it has a tag or digest", "a rollout uses the digest that its pipeline has built")
    } else {
        ("", "use lower-case letters, digits, `-`, `_`, `.` and `/`, such as `team/web`")
    };
    reader.problem(diagnostic.help(help), node.span, label);
    None
}

/// The image of a service: its repository without a host, and where it is kept if it is a third-party
/// image. A name with neither host nor version is the environment's own.
pub fn reference(reader: &mut Reader<'_>, node: &Node) -> Option<(String, Option<Elsewhere>)> {
    let text = reader.text(node, "`image`")?;
    if !has_host(text) && !text.contains([':', '@']) {
        return image(reader, node).map(|image| (image, None));
    }
    match elsewhere(text) {
        Ok((repository, elsewhere)) => Some((repository, Some(elsewhere))),
        Err(help) => {
            let diagnostic = Diagnostic::error("bad-image", format!("`{text}` is not the name of an image"));
            reader.problem(diagnostic.help(help), node.span, "");
            None
        }
    }
}

/// Reads the name of an image that has a host or a version.
///
/// # Errors
/// What it should look like.
pub fn elsewhere(text: &str) -> Result<(String, Elsewhere), &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => {
            let digest: Digest =
                digest.parse().map_err(|_| "a digest is `sha256:` and 64 hexadecimal digits")?;
            (name, Some(digest))
        }
        None => (text, None),
    };
    let (name, tag) = match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    };
    if !tag.is_none_or(is_tag) {
        return Err("a tag is made of letters, digits, `_`, `.` and `-`");
    }
    let full = if has_host(name) { name.to_owned() } else { at_docker_hub(name) };
    let full = match full.strip_prefix("docker.io/") {
        // Docker Hub's own images are in `library`.
        Some(rest) if !rest.contains('/') => format!("docker.io/library/{rest}"),
        _ => full,
    };
    let Some((host, repository)) = full.split_once('/').filter(|(_, repository)| is_repository(repository))
    else {
        return Err(
            "use lower-case letters, digits, `-`, `_`, `.` and `/`, such as `docker.io/library/redis:7.4`",
        );
    };
    let tag = tag.map(str::to_owned);
    let shown = text.to_owned();
    Ok((repository.to_owned(), Elsewhere { host: host.to_owned(), tag, digest, shown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let read = |text: &str| {
            let (repository, found) = elsewhere(text).expect("a name");
            format!("{} {repository} {}", found.host, found.tag.as_deref().unwrap_or("-"))
        };
        assert_eq!(read("redis:7.4"), "docker.io library/redis 7.4");
        assert_eq!(read("docker.io/redis"), "docker.io library/redis -");
        assert_eq!(read("docker.io/library/redis:7"), "docker.io library/redis 7");
        assert_eq!(read("bitnami/redis:7"), "docker.io bitnami/redis 7");
        assert_eq!(read("public.ecr.aws/nginx/nginx:1.27"), "public.ecr.aws nginx/nginx 1.27");
        assert_eq!(read("localhost:5000/web"), "localhost:5000 web -");
        let digest = format!("sha256:{}", "a".repeat(64));
        let (_, found) = elsewhere(&format!("redis:7@{digest}")).expect("a name");
        assert_eq!(found.digest.map(|digest| digest.to_string()), Some(digest));
        for bad in ["redis:", "redis:-1", "Redis:7", "redis@sha256:12", "a.example//b:1", ":7"] {
            assert!(elsewhere(bad).is_err(), "{bad}");
        }
    }
}
