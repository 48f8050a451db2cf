//! What happens over time: each file is a state machine, and the async shell that performs its effects.

pub mod access;
pub mod agent;
pub mod apply;
pub mod audit;
mod cause;
pub mod cluster;
pub mod deploy;
pub mod destroy;
pub mod drift;
pub mod etcd;
pub mod follow;
pub mod graph;
mod hook;
pub mod host_files;
pub mod import;
pub mod jobs;
pub mod later;
pub mod leave;
pub mod lock;
pub mod logs;
pub mod members;
pub mod notify;
pub mod pipeline;
pub mod plan;
pub mod prune;
pub mod public;
pub mod recover;
pub mod release;
pub mod rendezvous;
pub mod role;
pub mod roll;
pub mod rollout;
pub mod stack_board;
pub mod standing;
pub mod stream;
pub mod timeline;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
