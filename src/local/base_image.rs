//! A base image that the local cloud puts into its registry: nothing can be pulled from
//! outside, and an image from scratch has no shell to build upon.
//!
//! It holds this machine's static busybox and a server of files that keeps on serving
//! for three seconds after it was told to stop. The same busybox makes the same digest.

use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, Config, ImageLayer};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, IMAGE_LAYER_MEDIA_TYPE};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use sha2::{Digest as _, Sha256};

use crate::model::secret::Secret;

/// Where it is in the registry.
const NAME: &str = "demo/base";
/// Its tag.
const TAG: &str = "1";
/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";

/// What is linked to busybox: enough for a Dockerfile's `RUN` and for the server.
const APPLETS: [&str; 14] =
    ["sh", "httpd", "sleep", "cat", "ls", "echo", "cp", "mv", "rm", "mkdir", "chmod", "sed", "true", "false"];

/// Runs as the container's first process, which ignores signals it has no handler for.
const SERVE: &str = "\
#!/bin/sh
# Serves /www on port 8080, and for 3 seconds more after it was told to stop: by then its address
# has long been withdrawn, but whoever was just given it still gets an answer.
httpd -f -p 8080 -h /www &
server=$!
trap 'sleep 3; kill $server; exit 0' TERM INT
wait $server
";

/// Why the base image is not in the registry.
#[derive(Debug, thiserror::Error)]
pub enum BaseImageError {
    /// This machine has no static busybox.
    #[error("reading {BUSYBOX}: {0}; install busybox-static (`scripts/setup` does)")]
    Busybox(#[source] std::io::Error),
    /// The layer could not be put together.
    #[error("putting the base image together: {0}")]
    Layer(#[source] std::io::Error),
    /// The registry did not take it.
    #[error("pushing {NAME}:{TAG} to {registry}: {source}")]
    Push {
        /// The registry.
        registry: String,
        /// What it said.
        source: oci_client::errors::OciDistributionError,
    },
}

/// How to get into a registry.
#[derive(Debug)]
pub struct Access<'a> {
    /// `host:port`.
    pub registry: &'a str,
    /// The user.
    pub username: &'a str,
    /// The password.
    pub password: &'a Secret<String>,
    /// The certificate, in PEM, that its own is signed by.
    pub ca_pem: &'a str,
}

/// Puts the base image into the registry; what is there already is not sent again.
///
/// # Errors
/// When busybox is missing or the registry does not take it.
pub async fn publish(access: &Access<'_>) -> Result<(), BaseImageError> {
    let busybox = tokio::fs::read(BUSYBOX).await.map_err(BaseImageError::Busybox)?;
    let layer = layer(&busybox).map_err(BaseImageError::Layer)?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/serve"], "ExposedPorts": {"8080/tcp": {}}},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&Sha256::digest(&layer)))]},
    });
    let pushing = |source| BaseImageError::Push { registry: access.registry.to_owned(), source };
    let client = Client::try_from(ClientConfig {
        extra_root_certificates: vec![Certificate {
            encoding: CertificateEncoding::Pem,
            data: access.ca_pem.as_bytes().to_vec(),
        }],
        ..ClientConfig::default()
    })
    .map_err(pushing)?;
    let auth = RegistryAuth::Basic(access.username.to_owned(), access.password.expose().clone());
    let reference = Reference::with_tag(access.registry.to_owned(), NAME.to_owned(), TAG.to_owned());
    client.auth(&reference, &auth, RegistryOperation::Push).await.map_err(pushing)?;
    let layers = [ImageLayer::new(layer, IMAGE_LAYER_MEDIA_TYPE.to_owned(), None)];
    let config = Config::new(config.to_string(), IMAGE_CONFIG_MEDIA_TYPE.to_owned(), None);
    client.push(&reference, &layers, config, &auth, None).await.map_err(pushing)?;
    Ok(())
}

fn layer(busybox: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let header = |mode: u32, size: usize| {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(size as u64);
        header.set_mtime(0);
        header
    };
    for (folder, mode) in [("bin/", 0o755), ("tmp/", 0o1777), ("www/", 0o755)] {
        let mut header = header(mode, 0);
        header.set_entry_type(tar::EntryType::Directory);
        tar.append_data(&mut header, folder, std::io::empty())?;
    }
    tar.append_data(&mut header(0o755, busybox.len()), "bin/busybox", busybox)?;
    tar.append_data(&mut header(0o755, SERVE.len()), "bin/serve", SERVE.as_bytes())?;
    for applet in APPLETS {
        let mut header = header(0o777, 0);
        header.set_entry_type(tar::EntryType::Symlink);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_busybox_makes_the_same_layer() {
        assert_eq!(layer(b"busybox").expect("a layer"), layer(b"busybox").expect("a layer"));
    }
}
