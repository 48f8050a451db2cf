//! What is known of CloudFormation's resource types: their properties, attributes and what may
//! change in place. Facts alone, embedded in the binary: nothing here knows of templates or plans.

mod pattern;
mod store;
mod types;

pub use pattern::Pattern;
pub use store::{Policy, Schemas, all};
pub use types::{Kinds, Later, Named, PolicySchema, Schema, Text, TypeSchema};
