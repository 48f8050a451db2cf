//! All I/O: each file implements a trait of [`crate::port`], or a small client that only one command needs.

pub mod audit_log;
pub mod authority;
pub mod aws;
mod child;
pub mod cluster_api;
pub mod docker_build;
pub mod etcd;
pub mod etcd_files;
pub mod etcd_machine;
pub mod git;
mod git_command;
pub mod hooks;
pub mod host;
pub mod issuer;
pub mod journal;
pub mod locks;
pub mod metadata;
pub mod output;
pub mod plan_file;
pub mod private_file;
pub mod probe;
pub mod raft_log;
mod registry;
pub mod registry_access;
pub mod swarm;
pub mod systemd;
pub mod this_process;
