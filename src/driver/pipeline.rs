//! Runs of pipelines: [`crate::plan::run`] decides what happens, [`run`] is the shell around it, [`queue`] decides which
//! run is next, [`poll`] watches branches.

pub mod causes;
pub mod config;
mod infra;
mod jobs;
pub mod masked;
pub mod notices;
pub mod poll;
pub mod queue;
pub mod request;
pub mod run;
pub mod source;
pub mod statuses;
pub mod work;
