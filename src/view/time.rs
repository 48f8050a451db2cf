//! Times as people say them.

pub use crate::model::duration::human;
