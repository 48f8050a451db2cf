//! What every command needs to know of how it was called.

use std::io::IsTerminal;

pub mod cluster;
mod repository;

use super::failure::Failure;
use super::{Global, Output};
use crate::adapter::aws::Aws;
use crate::model::project::Environment;
use crate::model::redact::Mask;
use crate::model::setting::Setting;

/// How the process was called, read once.
#[derive(Debug, Clone)]
pub struct Context {
    /// The global options; the environment may come from FLEETWRIGHT_ENVIRONMENT.
    pub global: Global,
    /// The environment that was named with `-e`.
    pub named: Option<String>,
    /// Whether results may be coloured: stdout is a terminal and NO_COLOR is not set.
    pub colour_out: bool,
    /// Whether progress and diagnostics may be coloured.
    pub colour_err: bool,
    /// Whether progress may be redrawn: stderr is a terminal and CI is not set.
    pub live: bool,
    /// Masks what is never shown, as far as it is known by now.
    mask: Mask,
}

impl Context {
    /// Reads the environment.
    pub fn new(mut global: Global) -> Self {
        let named = global.environment.clone();
        if named.is_none() {
            global.environment =
                std::env::var("FLEETWRIGHT_ENVIRONMENT").ok().filter(|name| !name.is_empty());
        }
        let plain = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty())
            || std::env::var_os("TERM").is_some_and(|v| v == "dumb");
        let out = std::io::stdout().is_terminal();
        let err = std::io::stderr().is_terminal();
        let ci = std::env::var_os("CI").is_some();
        let (colour_out, colour_err, live) = (out && !plain, err && !plain, err && !ci && !plain);
        Self { global, named, colour_out, colour_err, live, mask: Mask::process() }
    }

    /// The same for another environment, which is named.
    pub fn of_environment(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.global.environment = Some(name.to_owned());
        other.named = Some(name.to_owned());
        other
    }

    /// Never shows `value` from now on.
    pub fn hide(&self, value: &str) {
        self.mask.learn(value);
    }

    /// The mask of everything that is hidden by now.
    pub fn mask(&self) -> Mask {
        self.mask.clone()
    }

    /// The cloud provider of `environment`: in its region, as its role. Made once per command;
    /// its clients share credentials and connections. Nothing is asked of it yet.
    ///
    /// # Errors
    /// When a variable that the environment needs is not set.
    pub async fn aws(&self, environment: &Environment) -> Result<Aws, Failure> {
        let region = environment.region.get()?;
        let role = environment.role.as_ref().map(Setting::get).transpose()?;
        let aws = Aws::connect(Some(region), role).await;
        aws.usable().map_err(|error| Failure::usage(error.to_string(), error.next()))?;
        Ok(aws)
    }

    /// Refuses an account that is not the environment's.
    ///
    /// # Errors
    /// When it is another one, or can't be asked.
    pub async fn check_account(&self, aws: &Aws, environment: &Environment) -> Result<(), Failure> {
        let Some(wanted) = &environment.account else { return Ok(()) };
        let wanted = wanted.get()?;
        let found = aws.account().await.map_err(|error| Failure::failed(error.to_string(), error.next()))?;
        if found == wanted {
            return Ok(());
        }
        Err(Failure::failed(
            format!(
                "environment `{}` is account {wanted}, and the credentials are of {found}",
                environment.name
            ),
            "use the credentials of that account (AWS_PROFILE), or give the environment a `role` in it; \
             nothing was asked or changed",
        ))
    }

    /// Whether results are to be JSON.
    pub fn json(&self) -> bool {
        self.global.output == Output::Json
    }
}
