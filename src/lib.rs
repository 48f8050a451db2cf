//! fleetwright takes a git repository to a running fleet, without Kubernetes.
//!
//! Data flows one way: repository files become a [`model`], a pure [`plan`] compares it
//! with what was observed, a [`driver`] carries the plan out through the traits of
//! [`port`] (implemented by [`adapter`]), everything that happens is an [`event`], and a
//! [`view`] shows it. [`cli`] is the one place that puts these together.
//!
//! `docs/architecture.md` gives the reasons; `tests/architecture.rs` holds the table of
//! which module may import which.

// Tests read what they wrote.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

// These stand in for std's macros in the whole crate: text that is printed anywhere is masked.
macro_rules! println {
    () => { $crate::view::out::stdout("\n") };
    ($($text:tt)*) => { $crate::view::out::stdout_line(::std::format_args!($($text)*)) };
}
macro_rules! eprintln {
    () => { $crate::view::out::stderr("\n") };
    ($($text:tt)*) => { $crate::view::out::stderr_line(::std::format_args!($($text)*)) };
}
macro_rules! print {
    ($($text:tt)*) => { $crate::view::out::stdout(&::std::format!($($text)*)) };
}
macro_rules! eprint {
    ($($text:tt)*) => { $crate::view::out::stderr(&::std::format!($($text)*)) };
}

#[allow(clippy::disallowed_methods, reason = "adapters read the state of this machine and their own")]
pub mod adapter;
pub mod cli;
pub mod cloud_config;
pub mod compose;
pub mod driver;
pub mod event;
pub mod foreign_pipeline;
pub mod host_file;
#[allow(clippy::disallowed_methods, reason = "the local cloud reads its own state")]
pub mod local;
pub mod model;
pub mod plan;
pub mod port;
pub mod repo;
pub mod schema;
pub mod server;
pub mod source;
pub mod unit;
pub mod view;
pub mod yaml;
