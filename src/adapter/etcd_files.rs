//! What the programs of a machine find etcd with: the authority, a key of the machine's own
//! with a certificate, and `etcd-client.env`, whose names are etcdctl's. And the part of a
//! control machine that signs for them.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::sync::watch;

use super::authority::{self, Authority, CLIENT_VALID};
use crate::model::name::MachineId;
use crate::model::secret::Secret;
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::EtcdClient;
use crate::port::etcd::{EtcdAccess, EtcdClientFiles, EtcdError};

/// Where what is needed at run time goes: it is gone after a restart, and made anew.
pub const RUN: &str = "/run/fleetwright";

/// The files below a folder, usually [`RUN`].
#[derive(Debug, Clone)]
pub struct ClientFiles {
    run: PathBuf,
}

impl ClientFiles {
    /// Those below `run`; nothing is written yet.
    pub fn new(run: &Path) -> Self {
        Self { run: run.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.run.join("etcd").join(name)
    }

    fn environment(&self, endpoints: &[String]) -> String {
        format!(
            "ETCDCTL_API=3\nETCDCTL_ENDPOINTS={}\nETCDCTL_CACERT={}\nETCDCTL_CERT={}\nETCDCTL_KEY={}\n",
            endpoints.join(","),
            self.path("ca.crt").display(),
            self.path("client.crt").display(),
            self.path("client.key").display(),
        )
    }
}

impl EtcdClientFiles for ClientFiles {
    fn public_key(&self) -> Result<String, EtcdError> {
        let key = key(&self.path("client.key"))?;
        authority::public_key(&key).map_err(|error| EtcdError::Certificate(error.to_string()))
    }

    fn install(&self, client: &EtcdClient, renew: bool) -> Result<bool, EtcdError> {
        let present = |path: &Path, text: &str| std::fs::read_to_string(path).is_ok_and(|have| have == text);
        let (ca, certificate) = (self.path("ca.crt"), self.path("client.crt"));
        let renew = renew || !present(&ca, &client.authority) || !certificate.exists();
        if renew {
            write(&ca, &client.authority, 0o644)?;
            write(&certificate, &client.certificate, 0o644)?;
        }
        // Last: whoever finds it finds the others.
        let (file, text) = (self.run.join("etcd-client.env"), self.environment(&client.endpoints));
        if !present(&file, &text) {
            write(&file, &text, 0o644)?;
        }
        Ok(renew)
    }
}

/// The part of a control machine that signs for the programs of all machines.
pub struct Signer {
    /// Signs.
    pub authority: Authority,
    /// Where members are; empty while that is not known.
    pub endpoints: watch::Receiver<Vec<String>>,
}

#[async_trait]
impl EtcdAccess for Signer {
    async fn client(&self, machine: &MachineId, public_key: &str) -> Result<EtcdClient, ClusterError> {
        let endpoints = self.endpoints.borrow().clone();
        if endpoints.is_empty() {
            return Err(ClusterError::NotFound { what: "etcd", name: self.authority.cluster.clone() });
        }
        let certificate = self.authority.sign_etcd_client(machine, public_key);
        let certificate = certificate.map_err(|error| ClusterError::Refused { reason: error.to_string() })?;
        Ok(EtcdClient {
            authority: self.authority.certificate.clone(),
            certificate,
            valid_s: CLIENT_VALID.as_secs(),
            endpoints,
        })
    }
}

/// The key in that file; a new one when there is none that can be read. It is kept when
/// certificates are renewed, since two files can't be exchanged at once.
pub(super) fn key(path: &Path) -> Result<Secret<String>, EtcdError> {
    if let Ok(text) = std::fs::read_to_string(path) {
        let key = Secret::new(text);
        if authority::public_key(&key).is_ok() {
            return Ok(key);
        }
    }
    let key = authority::new_key().map_err(|error| EtcdError::Certificate(error.to_string()))?;
    write(path, key.expose(), 0o600)?;
    Ok(key)
}

/// Writes a file with that mode, whole or not at all, and its folder.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), EtcdError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // Made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| EtcdError::File { doing: "writing", path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("a file").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_machine_keeps_its_key_and_renews_its_certificate() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ClientFiles::new(folder.path());
        let authority = Authority::create("main").expect("an authority");
        let (tell, endpoints) = watch::channel(Vec::new());
        let signer = Signer { authority, endpoints };
        let machine = "i-1".parse().expect("an id");
        let public = files.public_key().expect("a key");
        let none = signer.client(&machine, &public).await.expect_err("no etcd yet");
        assert!(matches!(none, ClusterError::NotFound { what: "etcd", .. }), "{none}");

        tell.send_replace(vec!["https://10.0.0.1:2379".to_owned()]);
        let client = signer.client(&machine, &public).await.expect("access");
        assert!(files.install(&client, false).expect("written"), "there was no certificate");
        assert_eq!(files.public_key().expect("a key"), public, "the key is kept");
        let path = |name: &str| folder.path().join(name);
        assert_eq!(mode(&path("etcd/client.key")), 0o600);
        assert_eq!(mode(&path("etcd/client.crt")), 0o644);
        let text = std::fs::read_to_string(path("etcd-client.env")).expect("readable");
        insta::assert_snapshot!(text.replace(&folder.path().display().to_string(), "/run/fleetwright"));

        tell.send_replace(vec!["https://10.0.0.2:2379".to_owned()]);
        let moved = signer.client(&machine, &public).await.expect("access");
        assert!(!files.install(&moved, false).expect("written"), "the certificate is good still");
        let certificate = std::fs::read_to_string(path("etcd/client.crt")).expect("readable");
        assert_eq!(certificate, client.certificate);
        assert!(std::fs::read_to_string(path("etcd-client.env")).expect("readable").contains("10.0.0.2"));
        assert!(files.install(&moved, true).expect("written"));
        let other = EtcdClient { authority: "another".to_owned(), ..moved };
        assert!(files.install(&other, false).expect("written"), "its authority is another");
    }
}
