//! etcd on this machine: the certificates, the environment and the data of its unit.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::authority::{Authority, ETCD_MEMBER};
use super::etcd_files::{key, write};
use crate::model::etcd::{Begin, CLIENT_PORT, Service, client_url, peer_url};
use crate::port::etcd::{EtcdError, EtcdMachine, EtcdUnit};

/// The unit, which the machine's cloud-config writes.
pub const UNIT: &str = "fleetwright-etcd.service";
/// Where data is kept.
pub const DATA: &str = "/var/lib/fleetwright/etcd";
/// How far back etcd keeps what was overwritten.
const COMPACTION: &str = "1h";

/// etcd on this machine.
pub struct EtcdOnMachine {
    /// Where certificates (in `etcd/`) and the environment (`etcd.env`) go.
    pub run: PathBuf,
    /// Where data is kept; what was put aside is beside it, with `.aside` at the end of its name.
    pub data: PathBuf,
    /// Signs for the member.
    pub authority: Authority,
    /// The unit.
    pub unit: Arc<dyn EtcdUnit>,
    /// Whether clients on this machine find it at 127.0.0.1 also.
    pub loopback: bool,
}

impl EtcdOnMachine {
    fn environment_file(&self) -> PathBuf {
        self.run.join("etcd.env")
    }

    fn write_certificates(&self, begin: &Begin) -> Result<(), EtcdError> {
        let folder = self.run.join("etcd");
        let key = key(&folder.join("member.key"))?;
        let signed = self.authority.sign_etcd_member(begin.address, &key);
        let certificate = signed.map_err(|error| EtcdError::Certificate(error.to_string()))?;
        write(&folder.join("ca.crt"), &self.authority.certificate, 0o644)?;
        write(&folder.join("member.crt"), &certificate, 0o644)
    }

    fn aside(&self) -> PathBuf {
        let mut name = self.data.as_os_str().to_owned();
        name.push(".aside");
        name.into()
    }
}

#[async_trait]
impl EtcdMachine for EtcdOnMachine {
    fn has_data(&self) -> Result<bool, EtcdError> {
        // What etcd itself goes by: a log means that there is a member.
        let folder = self.data.join("member/wal");
        match std::fs::read_dir(&folder) {
            Ok(entries) => Ok(entries
                .flatten()
                .any(|entry| entry.path().extension().is_some_and(|extension| extension == "wal"))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(EtcdError::File { doing: "reading", path: folder, source }),
        }
    }

    async fn service(&self) -> Result<Service, EtcdError> {
        self.unit.service().await
    }

    async fn start(&self, begin: &Begin) -> Result<(), EtcdError> {
        self.write_certificates(begin)?;
        let made = std::fs::create_dir_all(&self.data)
            .and_then(|()| std::fs::set_permissions(&self.data, Permissions::from_mode(0o700)));
        made.map_err(|source| EtcdError::File { doing: "making", path: self.data.clone(), source })?;
        let file = self.environment_file();
        let text = environment(begin, &self.run.join("etcd"), &self.data, self.loopback);
        let changed = !std::fs::read_to_string(&file).is_ok_and(|present| present == text);
        if changed {
            write(&file, &text, 0o644)?;
        }
        // With data it goes by that alone. Without, it may be failing on what is out of date.
        if changed && !self.has_data()? && self.unit.service().await? == Service::Running {
            self.unit.stop().await?;
        }
        self.unit.start().await
    }

    async fn start_alone(&self, begin: &Begin) -> Result<(), EtcdError> {
        self.write_certificates(begin)?;
        let mut text = environment(begin, &self.run.join("etcd"), &self.data, self.loopback);
        text.push_str("ETCD_FORCE_NEW_CLUSTER=true\n");
        self.unit.stop().await?;
        write(&self.environment_file(), &text, 0o644)?;
        self.unit.start().await
    }

    async fn stop(&self) -> Result<(), EtcdError> {
        let file = self.environment_file();
        match std::fs::remove_file(&file) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(EtcdError::File { doing: "removing", path: file, source });
            }
            _ => {}
        }
        self.unit.stop().await
    }

    async fn set_aside(&self) -> Result<(), EtcdError> {
        self.stop().await?;
        let aside = self.aside();
        match std::fs::remove_dir_all(&aside) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(EtcdError::File { doing: "removing", path: aside, source });
            }
            _ => {}
        }
        std::fs::rename(&self.data, &aside).map_err(|source| EtcdError::File {
            doing: "putting aside",
            path: self.data.clone(),
            source,
        })
    }
}

/// etcd's environment (its flags in capitals, after `ETCD_`), a line each, as systemd reads it.
fn environment(begin: &Begin, certificates: &Path, data: &Path, loopback: bool) -> String {
    let (peer, client) = (peer_url(begin.address), client_url(begin.address));
    let mut listen = client.clone();
    if loopback {
        listen.push_str(&format!(",https://{}", SocketAddr::from((Ipv4Addr::LOCALHOST, CLIENT_PORT))));
    }
    let members: Vec<String> = begin.members.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let certificate = |name: &str| certificates.join(name).display().to_string();
    let values = [
        ("NAME", begin.name.clone()),
        ("DATA_DIR", data.display().to_string()),
        ("INITIAL_CLUSTER", members.join(",")),
        ("INITIAL_CLUSTER_STATE", begin.state.word().to_owned()),
        ("INITIAL_CLUSTER_TOKEN", begin.token.clone()),
        ("LISTEN_PEER_URLS", peer.clone()),
        ("INITIAL_ADVERTISE_PEER_URLS", peer),
        ("LISTEN_CLIENT_URLS", listen),
        ("ADVERTISE_CLIENT_URLS", client),
        ("CERT_FILE", certificate("member.crt")),
        ("KEY_FILE", certificate("member.key")),
        ("TRUSTED_CA_FILE", certificate("ca.crt")),
        ("CLIENT_CERT_AUTH", "true".to_owned()),
        ("PEER_CERT_FILE", certificate("member.crt")),
        ("PEER_KEY_FILE", certificate("member.key")),
        ("PEER_TRUSTED_CA_FILE", certificate("ca.crt")),
        ("PEER_CLIENT_CERT_AUTH", "true".to_owned()),
        // The same authority signs for clients, who are no peers.
        ("PEER_CERT_ALLOWED_CN", ETCD_MEMBER.to_owned()),
        ("STRICT_RECONFIG_CHECK", "true".to_owned()),
        ("AUTO_COMPACTION_MODE", "periodic".to_owned()),
        ("AUTO_COMPACTION_RETENTION", COMPACTION.to_owned()),
    ];
    values.iter().map(|(name, value)| format!("ETCD_{name}={value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::ClusterState;

    #[test]
    fn the_environment_of_a_second_member() {
        let begin = Begin {
            name: "i-2".to_owned(),
            address: Ipv4Addr::new(10, 0, 1, 5).into(),
            state: ClusterState::Existing,
            members: vec![
                ("i-1".to_owned(), "https://10.0.1.4:2380".to_owned()),
                ("i-2".to_owned(), "https://10.0.1.5:2380".to_owned()),
            ],
            token: "fleetwright-demo-local-main-i-2".to_owned(),
        };
        let text = environment(&begin, Path::new("/run/fleetwright/etcd"), Path::new(DATA), true);
        insta::assert_snapshot!(text);
    }
}
