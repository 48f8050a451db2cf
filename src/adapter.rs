//! All I/O: each file implements a trait of [`crate::port`], or a small client that only one command needs.

pub mod aws;
pub mod git;
pub mod journal;
