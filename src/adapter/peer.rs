//! The agent's sockets for helpers in containers, and which container a process is in that has connected.
//!
//! Nothing that it says about itself is believed: the kernel reports which process has connected, its control group
//! names the container, and the container's labels the engine's task.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::{fs, io};

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::ContainerInspectResponse;
use tokio::net::{UnixListener, UnixStream};

/// Listens at the socket `name` in `folder`, with permission bits for the socket.
///
/// # Errors
/// When the socket can't be made.
pub fn listen(folder: &Path, name: &str, mode: u32) -> io::Result<UnixListener> {
    // Containers have the folder mounted: it stays, and only the socket is made again.
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let path = folder.join(name);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// A text that fits into one line of an answer.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect()
}

/// A process in a container.
#[derive(Debug)]
pub struct Peer {
    /// The process, as this machine numbers it.
    pub process: i32,
    /// Its container.
    pub container: ContainerInspectResponse,
}

impl Peer {
    /// A label of the container.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.container.config.as_ref()?.labels.as_ref()?;
        labels.get(key).map(String::as_str)
    }
}

/// Why it is not known.
#[derive(Debug)]
pub enum Unknown {
    /// It is in no container of this engine, or the kernel does not say.
    Nobody(&'static str),
    /// The engine or the kernel could not be asked.
    Later(String),
}

/// Finds out who has connected.
///
/// # Errors
/// When that is not known.
pub async fn peer(stream: &UnixStream, docker: &Docker) -> Result<Peer, Unknown> {
    let later = |error: io::Error| Unknown::Later(error.to_string());
    let Some(process) = stream.peer_cred().map_err(later)?.pid() else {
        return Err(Unknown::Nobody("the kernel does not say who asks"));
    };
    let groups = tokio::task::spawn_blocking(move || control_groups(process)).await;
    let groups = groups.map_err(|error| Unknown::Later(error.to_string()))?.map_err(later)?;
    // The first that this engine knows: what is within it may be named by whoever runs there.
    for container in containers(&groups) {
        match docker.inspect_container(container, None).await {
            Ok(container) => return Ok(Peer { process, container }),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => {
                return Err(Unknown::Later(format!("asking the engine about a container: {error}")));
            }
        }
    }
    Err(Unknown::Nobody("who asks is in no container of the cluster"))
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own file about a process")]
fn control_groups(process: i32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{process}/cgroup"))
}

/// The ids in the control groups of a process that may be those of containers, the outermost first.
fn containers(groups: &str) -> Vec<&str> {
    let is_id = |text: &&str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    // systemd's driver calls it `docker-ID.scope`.
    let mut found = Vec::new();
    for path in groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
        for part in path.split('/') {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let part = part.rsplit('-').next().filter(is_id);
            found.extend(part.filter(|part| !found.contains(part)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_found_from_the_outermost() {
        let (outer, inner) = ("a".repeat(64), "b".repeat(64));
        let first = format!(
            "12:pids:/docker/{outer}/docker/{inner}\n1:name=systemd:/docker/{outer}/docker/{inner}\n"
        );
        assert_eq!(containers(&first), [outer.as_str(), &inner]);
        let second = format!("0::/system.slice/docker-{inner}.scope\n");
        assert_eq!(containers(&second), [inner.as_str()]);
        for none in ["0::/user.slice/user-0.slice\n", "", "0::/\n", "12:pids:/docker/abc\n"] {
            assert!(containers(none).is_empty(), "{none}");
        }
    }
}
