//! The `fleetwright` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetwright::cli::run()
}
