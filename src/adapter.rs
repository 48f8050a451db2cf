//! All I/O: each file implements a trait of [`crate::port`], or a small client that only one command needs.

pub mod aws;
pub mod docker_build;
pub mod git;
pub mod journal;
pub mod locks;
mod registry;
