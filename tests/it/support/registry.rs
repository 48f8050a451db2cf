//! A real docker-registry with TLS and a password, for one test.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// The user.
pub const USER: &str = "builder";
/// The password; nothing that is printed may hold it.
pub const PASSWORD: &str = "pipeline-test-password-7Qz";

/// The same for the registry, as `htpasswd -nbB` prints it.
const HTPASSWD: &str = "builder:$2y$05$QQDmD120bbEjNAj5WQeYwu0HwJIlP7Y5ENVCNAeNMgcsTNtM7gnie\n";

/// A registry that ends with this value.
pub struct Registry {
    folder: tempfile::TempDir,
    /// Its port on 127.0.0.1.
    pub port: u16,
    ca: String,
    process: Mutex<Option<Child>>,
}

impl Registry {
    /// Starts one on a free port and waits until it answers.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let ca = certificates(folder.path());
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).expect("written");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '127.0.0.1:{port}', tls: {{certificate: {}, key: {}}}}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            path("data"),
            path("cert.pem"),
            path("key.pem"),
            path("htpasswd"),
        );
        std::fs::write(folder.path().join("config.yml"), config).expect("written");
        let registry = Self { folder, port, ca, process: Mutex::new(None) };
        registry.resume();
        registry
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The credentials as the SSM parameter holds them.
    pub fn credentials(&self) -> String {
        serde_json::json!({
            "username": USER, "password": PASSWORD, "hosts": [self.host()], "ca_pem": self.ca,
        })
        .to_string()
    }

    /// Takes it away, with all that it holds kept.
    pub fn pause(&self) {
        if let Some(mut process) = self.process.lock().expect("the process").take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Brings it back.
    pub fn resume(&self) {
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(self.folder.path().join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (package docker-registry) can be run");
        *self.process.lock().expect("the process") = Some(process);
        let limit = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            assert!(Instant::now() < limit, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.pause();
    }
}

/// Takes the images of that registry from the Docker daemon, which keeps what it built.
pub fn forget_images(host: &str) {
    let list = Command::new("docker").args(["images", "--format", "{{.Repository}}:{{.Tag}}"]).output();
    let Ok(list) = list else { return };
    for image in String::from_utf8_lossy(&list.stdout).lines().filter(|image| image.starts_with(host)) {
        let _ = Command::new("docker").args(["rmi", "-f", image]).output();
    }
}

/// A port of 127.0.0.1 that nothing listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Writes cert.pem and key.pem for 127.0.0.1, and gives the authority that signed them.
pub fn certificates(folder: &Path) -> String {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(folder.join("cert.pem"), certificate.pem()).expect("written");
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
    ca_certificate.pem()
}
