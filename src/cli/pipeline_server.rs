//! The pipeline server that a command talks to: the one of `environments.NAME.server`, or the `serve` that runs on this
//! machine for the environment.

use std::net::IpAddr;
use std::path::PathBuf;

use super::context::Context;
use super::failure::Failure;
use super::page_token::{self, VARIABLE};
use super::pipelines::{journal_folder, state_folder};
use crate::adapter::pipeline_api::{ApiError, PipelineApi};
use crate::adapter::serve_file;
use crate::model::secret::Secret;

/// How a pipeline server is started.
const START: &str = "start one with `fleetwright serve`, or give the address of one that runs elsewhere as `server` of \
                     the environment in fleetwright.yaml";

/// Where the server is found, again for every connection: one that was started again may have another port.
#[derive(Debug)]
pub struct Finder {
    environment: String,
    /// What fleetwright.yaml says.
    configured: Option<String>,
    /// The folder of the environment's journal on this machine.
    journal: PathBuf,
    /// The project's folder on this machine.
    folder: PathBuf,
    given: Option<Secret<String>>,
}

impl Finder {
    /// For the environment that was asked for; nothing is asked yet.
    ///
    /// # Errors
    /// When fleetwright.yaml is not right, or a variable that it needs is not set.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let repository = context.project()?;
        let environment = context.environment(&repository)?;
        let configured = environment.server.as_ref().map(|server| server.get()).transpose()?;
        let folder = state_folder(repository.project.as_str())?;
        let given = std::env::var(VARIABLE).ok().filter(|token| !token.is_empty()).map(Secret::new);
        if let Some(token) = &given {
            context.hide(token.expose());
        }
        Ok(Self {
            environment: environment.name.to_string(),
            configured: configured.map(str::to_owned),
            journal: journal_folder(&folder, &repository, environment),
            folder,
            given,
        })
    }

    /// A client of the server.
    ///
    /// # Errors
    /// When none is known, or there is no token for it.
    pub fn find(&self, context: &Context) -> Result<PipelineApi, Failure> {
        let (base, here) = match &self.configured {
            Some(base) => (base.clone(), is_here(base)),
            None => match serve_file::read(&self.journal) {
                Some(address) => (format!("http://{address}"), true),
                None => {
                    return Err(Failure::failed(
                        format!(
                            "no pipeline server runs on this machine for environment `{}`",
                            self.environment
                        ),
                        START,
                    ));
                }
            },
        };
        let kept = || page_token::kept(&page_token::page_token_file(&self.folder)).filter(|_| here);
        let Some(token) = self.given.clone().or_else(kept) else {
            return Err(Failure::usage(
                format!("the pipeline server {base} needs a token, and {VARIABLE} is not set"),
                "`fleetwright serve token create NAME --role deployer` on the server's machine prints one",
            ));
        };
        context.hide(token.expose());
        PipelineApi::new(&base, token).map_err(|error| failure(&error))
    }
}

/// Whether the server at `base` runs on this machine, so that its token may be read from its folder.
fn is_here(base: &str) -> bool {
    let Some((_, rest)) = base.split_once("://") else { return false };
    let rest = rest.trim_end_matches('/');
    let host = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, _)) => host,
        None => rest.split_once(':').map_or(rest, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a command says when the server did not do what it asked.
pub fn failure(error: &ApiError) -> Failure {
    match error {
        ApiError::Unreachable { .. } => {
            Failure::failed(format!("the pipeline server {error}"), format!("check that it runs, or {START}"))
        }
        ApiError::Unreadable { .. } => Failure::failed(
            error.to_string(),
            "check that it is a fleetwright server of this version or a later one",
        ),
        ApiError::Refused { status: 401, .. } => Failure::failed(
            "the pipeline server does not accept the token",
            format!(
                "set {VARIABLE} to a valid one: `fleetwright serve token create NAME --role deployer` on the server's \
                 machine prints one"
            ),
        ),
        ApiError::Refused { status, error } => {
            let next = error.next.clone().unwrap_or_else(|| "see the log of `fleetwright serve`".to_owned());
            match *status {
                400 | 404 | 422 => Failure::usage(error.message.clone(), next),
                409 if error.code == "not-ended" => Failure::usage(error.message.clone(), next),
                _ => Failure::failed(error.message.clone(), next),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_get_its_token() {
        for here in ["http://127.0.0.1:7070", "http://localhost:1/", "http://[::1]:7070", "https://localhost"]
        {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in
            ["https://ci.example.com", "https://127.0.0.1.example.com", "https://localhost.example"]
        {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }
}
