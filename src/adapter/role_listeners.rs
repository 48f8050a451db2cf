//! Listens for a container within its own network namespace, on its loopback.
//!
//! What is served there never leaves the container: no neighbour can connect to it, pretend to be it, or read along,
//! whatever it may do with the bridge that they share. Which container it is follows from where the socket is, and
//! from nothing that a caller says.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::thread;

use bollard::Docker;
use bollard::query_parameters::ListContainersOptions;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use nix::sched::{CloneFlags, setns};

use super::container_events::of_containers;
use super::swarm::{ROLE, TASK};
use crate::model::role::{ROLE_PORT, RoleToken, TOKEN_FILE, TokenHash};

/// The longest token, in bytes.
const TOKEN_MOST: u64 = 256;

/// A container with a role, that runs on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoleContainer {
    /// The engine's id of it.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Its first process, as the machine numbers it. Another one is another run of the container.
    pub process: i64,
}

/// Why nothing listens for a container.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The engine.
    #[error("asking the engine about a container: {0}")]
    Engine(#[from] bollard::errors::Error),
    /// It has ended meanwhile.
    #[error("the container has ended")]
    Ended,
    /// It shares the network of the machine.
    #[error("the container has no network namespace of its own")]
    Shared,
    /// The kernel.
    #[error("listening at port {ROLE_PORT} of the container: {0}")]
    Kernel(#[from] io::Error),
}

/// Something that may be a reason to look for containers again. It ends when the engine does.
pub fn changes(docker: &Docker) -> BoxStream<'static, ()> {
    of_containers(docker, &["start", "die"], Some(ROLE)).map(drop).boxed()
}

/// The containers with a role.
///
/// # Errors
/// When the engine can't be asked.
pub async fn containers(docker: &Docker) -> Result<Vec<RoleContainer>, ListenError> {
    let filters = HashMap::from([("label".to_owned(), vec![ROLE.to_owned(), TASK.to_owned()])]);
    let options = ListContainersOptions { filters: Some(filters), ..Default::default() };
    let found = docker.list_containers(Some(options)).await?;
    let each = found.into_iter().filter_map(|one| one.id).map(|id| async move {
        match container(docker, &id).await {
            Ok(found) => Ok(Some(found)),
            Err(ListenError::Ended) => Ok(None),
            Err(error) => Err(error),
        }
    });
    let found: Vec<_> = stream::iter(each).buffered(8).try_collect().await?;
    Ok(found.into_iter().flatten().collect())
}

async fn container(docker: &Docker, id: &str) -> Result<RoleContainer, ListenError> {
    let found = match docker.inspect_container(id, None).await {
        Err(bollard::errors::Error::DockerResponseServerError { status_code: 404, .. }) => {
            return Err(ListenError::Ended);
        }
        found => found?,
    };
    let task = found.config.and_then(|config| config.labels?.remove(TASK));
    let process = found.state.and_then(|state| state.pid.filter(|_| state.running == Some(true)));
    match (task, process) {
        (Some(task), Some(process)) if process > 0 => Ok(RoleContainer { id: id.to_owned(), task, process }),
        _ => Err(ListenError::Ended),
    }
}

/// Listens at [`ROLE_PORT`] of a container's loopback. The socket stays there; whoever holds it must close it when the
/// container ends.
///
/// # Errors
/// When the container has ended, has no network of its own, or something else listens there.
pub async fn listen(docker: &Docker, wanted: &RoleContainer) -> Result<TcpListener, ListenError> {
    let namespace = open(&format!("/proc/{}/ns/net", wanted.process)).map_err(|_| ListenError::Ended)?;
    // Processes end, and their numbers are used again: it is this container's if that runs still.
    if container(docker, &wanted.id).await? != *wanted {
        return Err(ListenError::Ended);
    }
    if namespace.metadata()?.ino() == open("/proc/self/ns/net")?.metadata()?.ino() {
        return Err(ListenError::Shared);
    }
    // A thread of its own, which ends: it never comes back to the machine's network.
    let bound = thread::Builder::new().name("role-listener".to_owned()).spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, ROLE_PORT))
    })?;
    let bound = tokio::task::spawn_blocking(move || bound.join());
    let listener = match bound.await {
        Ok(Ok(listener)) => listener?,
        Ok(Err(_)) | Err(_) => return Err(io::Error::other("the thread that listens has failed").into()),
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Listens at [`ROLE_PORT`] of the machine's own loopback, for all that share it.
///
/// # Errors
/// When something else listens there.
pub fn listen_shared() -> Result<TcpListener, ListenError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, ROLE_PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The hash of the token that a container has.
///
/// # Errors
/// When the container has ended meanwhile, or has none.
pub async fn token(docker: &Docker, wanted: &RoleContainer) -> Result<TokenHash, ListenError> {
    let path = format!("/proc/{}/root/run/secrets/{TOKEN_FILE}", wanted.process);
    let mut text = String::new();
    open(&path)?.take(TOKEN_MOST).read_to_string(&mut text)?;
    // Processes end, and their numbers are used again: it is this container's if that runs still.
    if container(docker, &wanted.id).await? != *wanted {
        return Err(ListenError::Ended);
    }
    Ok(RoleToken::new(text).hash())
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own files of a process")]
fn open(path: &str) -> io::Result<File> {
    File::open(path)
}
