//! What people see: terminal lines, tables, progress, JSON.

pub mod diagnostics;
pub mod json;
pub mod render;
pub mod time;
