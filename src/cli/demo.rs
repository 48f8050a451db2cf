//! The demo: the whole journey on this machine, by the commands a person would type.
//!
//! It drives this very binary as child processes, shows each command before it runs, and
//! asks the service 20 times a second throughout, to count what a visitor would notice.

pub mod application;
pub mod infra;
pub mod journey;
pub mod probe;
pub mod screen;
pub mod server;
pub mod stage;

use std::path::PathBuf;

use super::failure::Failure;
use crate::local::home::Home;

/// Where the demo on the local cloud `name` keeps its repositories and the server's log.
///
/// # Errors
/// When there is no place for it.
pub fn folder(name: &str) -> Result<PathBuf, Failure> {
    Ok(Home::from_env()?.root().join(format!("demo-{name}")))
}
