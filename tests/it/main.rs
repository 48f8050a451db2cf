//! The integration tests: one binary, a file per capability.

mod faults;
mod init;
mod journey;
mod pipeline;
mod render;
mod support;
mod validate;
