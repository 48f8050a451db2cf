//! The registry: Debian's docker-registry with TLS and a password, storage on disk.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::model::secret::Secret;

use super::error::LocalError;
use super::home::{CloudFiles, make_dir, write_file};
use super::process::Running;
use super::{HOST_NAME, venv};

/// The user that pushes and pulls.
pub const USERNAME: &str = "fleetwright";

/// Who may use the registry, and how to trust it.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The password of [`USERNAME`].
    pub password: Secret<String>,
    /// The authority that signed its certificate.
    pub ca_pem: String,
}

/// The parameter `/fleetwright/registry`.
#[derive(Serialize, Deserialize)]
pub(super) struct Parameter {
    username: String,
    password: String,
    hosts: Vec<String>,
    ca_pem: String,
}

impl Credentials {
    /// The text of the parameter `/fleetwright/registry` for a registry on `port`.
    pub fn parameter(&self, port: u16) -> Secret<String> {
        let parameter = Parameter {
            username: USERNAME.into(),
            password: self.password.expose().clone(),
            hosts: vec![format!("127.0.0.1:{port}"), format!("{HOST_NAME}:{port}")],
            ca_pem: self.ca_pem.clone(),
        };
        Secret::new(serde_json::to_string(&parameter).unwrap_or_default())
    }
}

/// The password of a registry that was prepared.
///
/// # Errors
/// When its file can't be read.
pub fn password(files: &CloudFiles) -> Result<Secret<String>, LocalError> {
    let file = files.registry().join("password");
    fs::read_to_string(&file).map(Secret::new).map_err(LocalError::file("reading", &file))
}

/// Makes certificate, password and configuration, unless an earlier supervisor of this cloud did.
///
/// # Errors
/// When they can't be made or written.
pub fn prepare(files: &CloudFiles, port: u16) -> Result<Credentials, LocalError> {
    let dir = files.registry();
    make_dir(&dir.join("storage"))?;
    let (password_file, ca_file) = (dir.join("password"), dir.join("ca.pem"));
    let known = (fs::read_to_string(&password_file), fs::read_to_string(&ca_file));
    let credentials = match known {
        (Ok(password), Ok(ca_pem)) if dir.join("config.yml").exists() => {
            Credentials { password: Secret::new(password), ca_pem }
        }
        _ => {
            let password = random_text()?;
            let htpasswd = bcrypt::hash(&password, 6)
                .map_err(|e| LocalError::Credentials { what: "password file", reason: e.to_string() })?;
            write_file(&dir.join("htpasswd"), format!("{USERNAME}:{htpasswd}\n"))?;
            let (ca_pem, certificate, key) = certificates()
                .map_err(|e| LocalError::Credentials { what: "certificate", reason: e.to_string() })?;
            write_file(&dir.join("registry.pem"), certificate)?;
            write_file(&dir.join("registry.key"), key)?;
            write_file(&ca_file, &ca_pem)?;
            write_file(&password_file, &password)?;
            Credentials { password: Secret::new(password), ca_pem }
        }
    };
    write_file(&dir.join("config.yml"), config(&dir, port)?)?;
    Ok(credentials)
}

/// The registry's configuration; YAML takes JSON, which quotes paths rightly.
fn config(dir: &std::path::Path, port: u16) -> Result<String, LocalError> {
    // Clouds that share one salt could use each other's upload sessions.
    let secret = random_text()?;
    let config = serde_json::json!({
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": true}},
        "storage": {
            "filesystem": {"rootdirectory": dir.join("storage")},
            "delete": {"enabled": true},
            "maintenance": {"uploadpurging": {"enabled": false}},
        },
        "http": {
            "addr": format!("127.0.0.1:{port}"),
            "secret": secret,
            "tls": {"certificate": dir.join("registry.pem"), "key": dir.join("registry.key")},
        },
        "auth": {"htpasswd": {"realm": "fleetwright", "path": dir.join("htpasswd")}},
    });
    Ok(config.to_string())
}

/// Starts it.
///
/// # Errors
/// When the program is not installed.
pub fn start(files: &CloudFiles) -> Result<Running, LocalError> {
    if !super::image::on_path("docker-registry") {
        return Err(LocalError::Missing {
            program: "docker-registry",
            why: "as the local cloud's registry",
            get: "on Debian: `apt-get install docker-registry` (`scripts/setup run` does)",
        });
    }
    let mut command = Command::new("docker-registry");
    command.arg("serve").arg(files.registry().join("config.yml")).current_dir(files.registry());
    // Settings of another registry, given by variables, would win over the file.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("REGISTRY_") {
            command.env_remove(name);
        }
    }
    Running::start(command, &files.log("registry"))
}

/// Whether it answers, over TLS and asking for the password.
pub async fn answers(client: &reqwest::Client, port: u16) -> bool {
    let answer = client.get(format!("https://127.0.0.1:{port}/v2/")).send().await;
    answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::UNAUTHORIZED)
}

/// A client that trusts the registry's authority.
///
/// # Errors
/// When the authority's certificate is damaged.
pub fn client(credentials: &Credentials) -> Result<reqwest::Client, LocalError> {
    let broken = |e: reqwest::Error| LocalError::Credentials { what: "certificate", reason: e.to_string() };
    let ca = reqwest::Certificate::from_pem(credentials.ca_pem.as_bytes()).map_err(broken)?;
    reqwest::Client::builder()
        .tls_certs_only([ca])
        .no_proxy()
        .timeout(std::time::Duration::from_secs(2))
        .build()
        .map_err(broken)
}

/// An authority of this cloud's own, and a certificate for the registry's names. The
/// authority's key is forgotten: nothing else will ever be signed with it.
fn certificates() -> Result<(String, String, String), rcgen::Error> {
    let mut ca = CertificateParams::new(Vec::default())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.distinguished_name.push(DnType::CommonName, "fleetwright local cloud");
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_key = KeyPair::generate()?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), HOST_NAME.to_owned()];
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, HOST_NAME);
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = leaf.signed_by(&key, &issuer)?;
    Ok((ca_pem, certificate.pem(), key.serialize_pem()))
}

/// 192 random bits as text.
pub(super) fn random_text() -> Result<String, LocalError> {
    let path = PathBuf::from("/dev/urandom");
    let mut bytes = [0; 24];
    fs::File::open(&path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(LocalError::file("reading", &path))?;
    Ok(venv::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_supervisor_finds_the_same_password() {
        let home = tempfile::tempdir().unwrap();
        // Nothing else in this process reads the variable.
        let files = crate::local::home::Home::at(home.path()).cloud(&"local".parse().unwrap());
        let first = prepare(&files, 5000).unwrap();
        let second = prepare(&files, 5000).unwrap();
        assert_eq!(first.password, second.password);
        assert_eq!(first.ca_pem, second.ca_pem);
        let htpasswd = fs::read_to_string(files.registry().join("htpasswd")).unwrap();
        let hash = htpasswd.trim().strip_prefix("fleetwright:").unwrap();
        assert!(bcrypt::verify(first.password.expose(), hash).unwrap());
    }

    #[test]
    fn the_password_does_not_print() {
        let credentials = Credentials { password: Secret::new("hunter2".into()), ca_pem: String::new() };
        assert!(!format!("{credentials:?} {:?}", credentials.parameter(1)).contains("hunter2"));
    }
}
