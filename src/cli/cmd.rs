//! One file per command: its arguments (whose doc comments are its help) and one function.

pub mod adopt;
pub mod agent;
pub mod apply;
pub mod cloud_config;
pub mod completions;
pub mod demo;
pub mod destroy;
pub mod drain;
pub mod drift;
pub mod import;
pub mod init;
pub mod local;
pub mod logs;
pub mod machines;
pub mod pipeline;
pub mod plan;
pub mod recover;
pub mod remove;
pub mod render;
pub mod roll;
pub mod rollback;
pub mod serve;
pub mod status;
pub mod template;
pub mod unit;
pub mod validate;
