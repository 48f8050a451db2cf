//! The traits behind which all I/O stands. Adapters implement them for real, tests fake them.

pub mod cloud;
pub mod cluster;
pub mod groups;
pub mod parameters;
