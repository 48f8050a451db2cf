//! The checks of a document, a file for each thing they look at.

pub mod accounts;
pub mod commands;
pub mod files;
pub mod header;
pub mod ignition;
pub mod secrets;
pub mod size;
pub mod syntax;
pub mod tokens;
pub mod units;
