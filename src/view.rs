//! What people see: terminal lines, tables, progress, JSON.

pub mod access;
pub mod ansi;
pub mod audit;
pub mod boot;
pub mod cloud_config;
pub mod cluster;
pub mod compose;
pub mod deploy;
pub mod diagnostics;
pub mod drift;
pub mod exec;
pub mod foreign_pipeline;
pub mod host_file;
pub mod import;
pub mod jobs;
pub mod json;
pub mod lint;
pub mod live;
pub mod local;
pub mod logs;
pub mod machines;
pub mod notify;
pub mod out;
pub mod paint;
pub mod pipeline;
pub mod plan;
pub mod plan_markdown;
mod publication;
pub mod published;
pub mod recover;
pub mod render;
pub mod roll;
pub mod rollout;
pub mod run;
pub mod secrets;
pub mod stacks;
pub mod status;
pub mod table;
pub mod time;
pub mod timeline;
pub mod tokens;
pub mod warnings;
pub mod why;
pub mod words;

#[cfg(test)]
mod secret_tests;
