//! git over ssh as a forge serves it: Debian's sshd, run by the user of the tests, with a deploy key for one repository.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::unistd::{Uid, User};

use super::git::Origin;
use super::lab::poll;

const SSHD: &str = "/usr/sbin/sshd";

/// A server with one repository. It has no key to let in, and nobody knows its own key, until the test says so.
pub struct GitSsh {
    folder: tempfile::TempDir,
    port: u16,
    user: String,
    process: Option<Child>,
}

impl GitSsh {
    pub fn serve() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // The listener is gone before sshd listens there.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let user = User::from_uid(Uid::current()).expect("users").expect("this user").name;
        let mut server = Self { folder, port, user, process: None };
        run(Command::new("git").args(["init", "--quiet", "--bare"]).arg(server.path("web.git")));
        for key in ["host", "deploy"] {
            server.make_key(key);
        }
        for file in ["authorized_keys", "known_hosts"] {
            std::fs::write(server.path(file), "").expect("written");
        }
        let file = |name: &str| server.path(name).display().to_string();
        // The folders above are not this user's alone, which sshd otherwise insists on.
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nPidFile none\nUsePAM no\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\n",
            file("host"),
            file("authorized_keys"),
        );
        std::fs::write(server.path("config"), config).expect("written");
        server.start();
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_key(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name));
        let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"];
        run(Command::new("ssh-keygen").args(arguments).arg(self.path(name)));
    }

    /// Starts it again, where it was.
    pub fn start(&mut self) {
        if Uid::current().is_root() {
            // systemd makes it for Debian's own server.
            std::fs::create_dir_all("/run/sshd").expect("a folder");
        }
        let log = std::fs::File::create(self.path("log")).expect("a file");
        let mut command = Command::new(SSHD);
        command.args(["-D", "-e", "-f"]).arg(self.path("config"));
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(process.expect("sshd (package openssh-server) is installed"));
        let port = self.port;
        let answers =
            poll(Duration::from_secs(30), || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok().map(drop));
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(answers.is_some(), "sshd does not answer: {}", log());
    }

    /// Stops it.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Gives it another key of its own.
    pub fn replace_host_key(&mut self) {
        self.stop();
        self.make_key("host");
        self.start();
    }

    /// Lets the deploy key read the repository, and nothing else.
    pub fn authorise(&self) {
        let key = std::fs::read_to_string(self.path("deploy.pub")).expect("a key");
        let line = format!("restrict,command=\"git upload-pack '{}'\" {key}", self.path("web.git").display());
        std::fs::write(self.path("authorized_keys"), line).expect("written");
    }

    /// Makes the server's key known, as `ssh-keyscan` prints it.
    pub fn know(&self) {
        let port = self.port.to_string();
        let scanned = Command::new("ssh-keyscan").args(["-p", &port, "127.0.0.1"]).output();
        let scanned = scanned.expect("ssh-keyscan runs").stdout;
        let log = || std::fs::read_to_string(self.path("log")).unwrap_or_default();
        assert!(!scanned.is_empty(), "the server shows no key: {}", log());
        std::fs::write(self.path("known_hosts"), scanned).expect("written");
    }

    /// The command that uses the deploy key, and the known hosts.
    pub fn command(&self) -> String {
        format!(
            "ssh -o BatchMode=yes -i {} -o IdentitiesOnly=yes -o UserKnownHostsFile={}",
            self.path("deploy").display(),
            self.path("known_hosts").display()
        )
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The repository's address.
    pub fn url(&self) -> String {
        format!("ssh://{}@127.0.0.1:{}/shop/web.git", self.user, self.port)
    }

    /// Pushes the branch of `origin`, as somebody does who may.
    pub fn push(&self, origin: &Origin) {
        let to = self.path("web.git");
        push(origin.folder(), &to);
    }
}

impl Drop for GitSsh {
    fn drop(&mut self) {
        self.stop();
    }
}

fn push(from: &Path, to: &Path) {
    run(Command::new("git").arg("-C").arg(from).args(["push", "--quiet"]).arg(to).arg("main"));
}

fn run(command: &mut Command) {
    let output = command.output().expect("it can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
