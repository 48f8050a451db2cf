//! The traits behind which all I/O stands. Adapters implement them for real, tests fake them.

pub mod access;
pub mod archive;
pub mod audit;
pub mod cloud;
pub mod cluster;
pub mod cluster_routes;
pub mod cluster_wire;
pub mod desired;
pub mod drift;
pub mod engine_host;
pub mod etcd;
pub mod git;
pub mod groups;
pub mod hooks;
pub mod images;
pub mod journal;
pub mod locks;
pub mod membership;
pub mod parameters;
pub mod reboot;
pub mod recovery;
pub mod repair;
pub mod standing;
pub mod store;
pub mod tokens;
