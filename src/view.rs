//! What people see: terminal lines, tables, progress, JSON.

pub mod diagnostics;
pub mod time;
