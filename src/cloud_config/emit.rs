//! Documents written anew: from trees and from the model.

mod yaml;

pub use yaml::{Emitted, yaml};
