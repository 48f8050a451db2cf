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

/// Where the demo keeps its repositories and the server's journal.
pub fn folder() -> PathBuf {
    crate::local::home().join(format!("demo-{}", crate::local::name()))
}
