//! The Docker Engine on a machine with systemd: its unit, and what it keeps of its membership.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::process::Command;

use super::SystemdHost;
use crate::model::member::{NodeCertificate, Stored};
use crate::model::pressure::Pressure;
use crate::port::engine_host::{EngineHost, EngineUnit};

/// Where the engine keeps its data unless its configuration says otherwise.
const DATA: &str = "/var/lib/docker";
/// The engine's configuration.
const CONFIGURATION: &str = "/etc/docker/daemon.json";
/// Exists while logins are forbidden; systemd creates it at the beginning of a shutdown. See
/// `systemd-user-sessions.service(8)`.
const NO_LOGIN: &str = "/run/nologin";
/// The engine's unit, and the socket that starts it.
const UNITS: [&str; 2] = ["docker.service", "docker.socket"];
/// How long the engine may take to end and to start: it stops its containers before.
const RESTART: std::time::Duration = std::time::Duration::from_secs(180);

/// Reads the folder `swarm` of the engine's data.
///
/// # Errors
/// When anything in it cannot be read: it must not be taken for empty then.
pub fn stored(swarm: &Path) -> io::Result<Stored> {
    let raft = match std::fs::read_dir(swarm.join("raft")) {
        // A manager that has never been let in has made the folder and nothing in it.
        Ok(mut entries) => entries.next().transpose()?.is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    let certificate = match std::fs::read(swarm.join("certificates/swarm-node.crt")) {
        Ok(pem) => Some(certificate(&pem)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Stored { raft, certificate })
}

/// Reads the subject of a node's certificate: the node is its common name, the swarm its
/// organisation, and the role its unit.
fn certificate(pem: &[u8]) -> io::Result<NodeCertificate> {
    let bad = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, format!("swarm-node.crt: {reason}"));
    let der = CertificateDer::from_pem_slice(pem).map_err(|error| bad(&error.to_string()))?;
    let subject = subject(&der).ok_or_else(|| bad("it is no X.509 certificate"))?;
    let part = |kind: u8| {
        let found = subject.iter().find(|(found, _)| *found == kind);
        found.map(|(_, text)| text.clone()).ok_or_else(|| bad("its subject lacks a part"))
    };
    Ok(NodeCertificate {
        node: part(COMMON_NAME)?,
        cluster: part(ORGANISATION)?.parse().map_err(io::Error::other)?,
        manager: part(ORGANISATIONAL_UNIT)? == "swarm-manager",
    })
}

/// The last number of the object ids 2.5.4.x, of which names are made.
const COMMON_NAME: u8 = 3;
const ORGANISATION: u8 = 10;
const ORGANISATIONAL_UNIT: u8 = 11;

/// The parts of a certificate's subject.
fn subject(der: &[u8]) -> Option<Vec<(u8, String)>> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    // The version is optional; then come the serial number, the algorithm, the issuer, the time.
    if fields.first() == Some(&0xa0) {
        fields = element(fields)?.2;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (_, mut names, _) = element(fields)?;
    let mut parts = Vec::new();
    while !names.is_empty() {
        let (_, set, rest) = element(names)?;
        let (_, pair, _) = element(set)?;
        let (_, id, value) = element(pair)?;
        let (_, text, _) = element(value)?;
        if let [0x55, 0x04, kind] = id {
            parts.push((*kind, String::from_utf8(text.to_vec()).ok()?));
        }
        names = rest;
    }
    Some(parts)
}

/// The first element of DER: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, mut rest) = rest.split_first()?;
    let mut length = usize::from(*first);
    if length & 0x80 != 0 {
        let count = length & 0x7f;
        if count == 0 || count > 4 {
            return None;
        }
        let (bytes, after) = rest.split_at_checked(count)?;
        length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
        rest = after;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

impl SystemdHost {
    fn engine_data(&self) -> io::Result<PathBuf> {
        let text = match std::fs::read_to_string(self.path(CONFIGURATION)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.path(DATA)),
            Err(error) => return Err(error),
        };
        let configuration: serde_json::Value = serde_json::from_str(&text)?;
        let data = configuration.get("data-root").and_then(|value| value.as_str()).unwrap_or(DATA);
        Ok(self.path(data))
    }

    async fn systemctl(arguments: &[&str]) -> io::Result<String> {
        let mut command = Command::new("systemctl");
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(RESTART, command.output())
            .await
            .map_err(|_| io::Error::other(format!("systemctl did not end in {} s", RESTART.as_secs())))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let text =
                format!("systemctl {} failed with {}: {}", arguments.join(" "), output.status, said.trim());
            return Err(io::Error::other(text));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[async_trait]
impl EngineHost for SystemdHost {
    fn pressure(&self) -> io::Result<Pressure> {
        super::pressure::pressure()
    }

    async fn stored(&self) -> io::Result<Stored> {
        stored(&self.engine_data()?.join("swarm"))
    }

    async fn unit(&self) -> io::Result<EngineUnit> {
        Ok(state(&Self::systemctl(&["show", "--property=ActiveState", "--", UNITS[0]]).await?))
    }

    async fn is_shutting_down(&self) -> io::Result<bool> {
        let state = Self::systemctl(&["show", "--property=SystemState"]).await;
        // During a shutdown systemd may fail to answer, but it has forbidden logins by then.
        let forbidden = tokio::fs::try_exists(NO_LOGIN).await.unwrap_or(false);
        match state {
            Ok(state) => Ok(forbidden || state.trim() == "SystemState=stopping"),
            Err(_) if forbidden => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn restart(&self) -> io::Result<()> {
        // A unit that failed too often in a row is not started before that is forgotten. One that
        // never failed has nothing to forget, which systemctl calls a failure.
        let _ = Self::systemctl(&["reset-failed", UNITS[0], UNITS[1]]).await;
        Self::systemctl(&["restart", "--no-block", UNITS[0]]).await.map(|_| ())
    }
}

fn state(properties: &str) -> EngineUnit {
    match properties.trim().strip_prefix("ActiveState=") {
        Some("failed") => EngineUnit::Failed,
        Some("active" | "reloading") => EngineUnit::Running,
        Some("activating" | "deactivating") => EngineUnit::Changing,
        _ => EngineUnit::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    /// A certificate as swarmkit writes it.
    fn node_certificate(unit: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "k0or7ykzbqv1xyqfkrfkpvkvd");
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.distinguished_name.push(DnType::CommonName, "v6yq0cy5yk9v3n1nqzc0vbnzd");
        params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate").pem()
    }

    fn folder() -> (tempfile::TempDir, SystemdHost, PathBuf) {
        let root = tempfile::tempdir().expect("a folder");
        let host = SystemdHost { root: root.path().to_owned() };
        let swarm = root.path().join("var/lib/docker/swarm");
        std::fs::create_dir_all(&swarm).expect("made");
        (root, host, swarm)
    }

    #[tokio::test]
    async fn what_the_engine_keeps_is_read() {
        let (_root, host, swarm) = folder();
        assert_eq!(host.stored().await.expect("read"), Stored::default());
        // A manager on its way in makes the folder before it has anything to keep.
        std::fs::create_dir(swarm.join("raft")).expect("made");
        assert!(!host.stored().await.expect("read").raft);
        std::fs::create_dir(swarm.join("raft/wal-v3-encrypted")).expect("made");
        assert!(host.stored().await.expect("read").raft);
        std::fs::create_dir(swarm.join("certificates")).expect("made");
        for (unit, manager) in [("swarm-manager", true), ("swarm-worker", false)] {
            std::fs::write(swarm.join("certificates/swarm-node.crt"), node_certificate(unit))
                .expect("written");
            let certificate = host.stored().await.expect("read").certificate.expect("a certificate");
            assert_eq!(certificate.manager, manager);
            assert_eq!(certificate.cluster.as_str(), "k0or7ykzbqv1xyqfkrfkpvkvd");
            assert_eq!(certificate.node, "v6yq0cy5yk9v3n1nqzc0vbnzd");
        }
    }

    #[tokio::test]
    async fn the_engine_s_data_is_found_where_its_configuration_says() {
        let (root, host, _) = folder();
        std::fs::create_dir_all(root.path().join("etc/docker")).expect("made");
        std::fs::write(root.path().join("etc/docker/daemon.json"), r#"{"data-root": "/srv/docker"}"#)
            .expect("written");
        std::fs::create_dir_all(root.path().join("srv/docker/swarm/raft/wal")).expect("made");
        assert!(host.stored().await.expect("read").raft);
    }

    #[tokio::test]
    async fn what_can_t_be_read_is_not_taken_for_nothing() {
        let (_root, host, swarm) = folder();
        std::fs::create_dir(swarm.join("certificates")).expect("made");
        let file = swarm.join("certificates/swarm-node.crt");
        let whole = node_certificate("swarm-manager");
        let der = CertificateDer::from_pem_slice(whole.as_bytes()).expect("a certificate");
        for length in 0..der.len() {
            assert!(subject(&der[..length]).is_none(), "{length} bytes");
        }
        for text in ["", "no certificate", &whole[..whole.len() / 2]] {
            std::fs::write(&file, text).expect("written");
            host.stored().await.expect_err(text);
        }
        std::fs::remove_file(&file).expect("removed");
        // A file where the folder should be.
        std::fs::write(swarm.join("raft"), "").expect("written");
        host.stored().await.expect_err("no folder");
    }

    #[test]
    fn the_unit_s_state_is_read() {
        assert_eq!(state("ActiveState=failed\n"), EngineUnit::Failed);
        assert_eq!(state("ActiveState=active\n"), EngineUnit::Running);
        assert_eq!(state("ActiveState=activating\n"), EngineUnit::Changing);
        assert_eq!(state("ActiveState=deactivating\n"), EngineUnit::Changing);
        assert_eq!(state("ActiveState=inactive\n"), EngineUnit::Stopped);
        assert_eq!(state(""), EngineUnit::Stopped);
    }
}
