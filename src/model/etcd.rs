//! etcd on control machines: its members, and what a machine knows of its own.

use std::net::{IpAddr, SocketAddr};

/// Where members listen for each other.
pub const PEER_PORT: u16 = 2380;
/// Where members listen for clients.
pub const CLIENT_PORT: u16 = 2379;

/// The URL at which the member on the machine with that address is found by other members.
pub fn peer_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, PEER_PORT))
}

/// The URL at which the member on the machine with that address is found by clients.
pub fn client_url(address: IpAddr) -> String {
    format!("https://{}", SocketAddr::new(address, CLIENT_PORT))
}

/// A member, as the members have agreed on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// etcd's id of it, never given twice.
    pub id: u64,
    /// The id of its instance; `None` until it has started for the first time.
    pub name: Option<String>,
    /// Where other members find it.
    pub peer_urls: Vec<String>,
    /// Where clients find it; none until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it only follows: it has no vote yet, and nothing waits for it.
    pub learner: bool,
}

/// A member, and whether it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The member.
    pub member: Member,
    /// Whether it answered just now, with a majority behind it.
    pub healthy: bool,
}

/// The unit of etcd on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// There is no such unit.
    Missing,
    /// It does not run, and is not about to.
    Stopped,
    /// It runs, is starting, or is about to be started again after a failure.
    Running,
}

/// What etcd is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Its name: the id of its instance.
    pub name: String,
    /// The machine's address.
    pub address: IpAddr,
    /// Whether it founds a cluster or becomes a member of one; without effect where data is.
    pub state: ClusterState,
    /// The name and the peer URL of every member.
    pub members: Vec<(String, String)>,
    /// What distinguishes a cluster that is founded from all others.
    pub token: String,
}

/// Whether there is a cluster already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusterState {
    /// It is founded.
    New,
    /// It is there.
    Existing,
}

impl ClusterState {
    /// etcd's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Existing => "existing",
        }
    }
}
