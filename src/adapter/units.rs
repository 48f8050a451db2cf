//! The units of services on this machine: systemd, its files, its journal, and the placeholders of the engine.

mod bus;
mod checks;
mod image;
mod journal;
mod placeholders;
mod store;

pub use bus::SystemBus;
pub use checks::Checks;
pub use image::keep_image;
pub use journal::{Entry, follow};
pub use placeholders::{Placeholders, serve};
pub use store::RunFolder;

use crate::port::units::UnitError;

fn failed(doing: impl Into<String>, reason: impl std::fmt::Display) -> UnitError {
    UnitError { doing: doing.into(), reason: reason.to_string() }
}
