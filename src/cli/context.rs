//! What every command needs to know of how it was called.

use std::io::IsTerminal;
use std::sync::{Arc, PoisonError, RwLock};

pub mod cluster;
mod repository;

use super::{Global, Output};
use crate::adapter::aws::Aws;
use crate::view::redact::Redactor;

/// How the process was called, read once.
#[derive(Debug, Clone)]
pub struct Context {
    /// The global options.
    pub global: Global,
    /// Whether results may be coloured: stdout is a terminal and NO_COLOR is not set.
    pub colour_out: bool,
    /// Whether progress and diagnostics may be coloured.
    pub colour_err: bool,
    /// Whether progress may be redrawn: stderr is a terminal and CI is not set.
    pub live: bool,
    /// Masks what is never shown, as far as it is known by now.
    hidden: Arc<RwLock<Redactor>>,
}

impl Context {
    /// Reads the environment.
    pub fn new(global: Global) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let out = std::io::stdout().is_terminal();
        let err = std::io::stderr().is_terminal();
        let ci = std::env::var_os("CI").is_some();
        let (colour_out, colour_err, live) = (out && !plain, err && !plain, err && !ci && !plain);
        Self { global, colour_out, colour_err, live, hidden: Arc::default() }
    }

    /// Never shows `value` from now on.
    pub fn hide(&self, value: &str) {
        self.hidden.write().unwrap_or_else(PoisonError::into_inner).learn(value);
    }

    /// The mask of everything that is hidden by now.
    pub fn mask(&self) -> Redactor {
        self.hidden.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The cloud provider in `region` (from fleetwright.yaml; by default the ordinary
    /// settings decide). Made once per command; its clients share credentials and connections.
    pub async fn aws(&self, region: Option<&str>) -> Aws {
        Aws::connect(region).await
    }

    /// Whether results are to be JSON.
    pub fn json(&self) -> bool {
        self.global.output == Output::Json
    }
}
