//! The integration tests: one binary, a file per capability.

mod init;
mod pipeline;
mod render;
mod support;
mod validate;
