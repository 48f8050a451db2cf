//! Documents written anew: from trees and from the model.

mod ignition;
mod yaml;

pub use ignition::ignition;
pub use yaml::{Emitted, yaml};
