//! The demo: the whole journey on this machine, by the commands a person would type.
//!
//! It drives this very binary as child processes, shows each command before it runs, and
//! asks the service 20 times a second throughout, to count what a visitor would notice.

pub mod application;
pub mod infra;
pub mod probe;
pub mod stage;
