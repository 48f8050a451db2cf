//! Finding, reading and rendering the infra repository that a command works on.

use std::path::PathBuf;

use super::Context;
use crate::cli::failure::Failure;
use crate::model::project::{Environment, Repository};
use crate::model::stack::RenderedStack;
use crate::repo::{self, Loaded, PROJECT_FILE};
use crate::source::suggest;
use crate::view;

impl Context {
    /// The repository's root: `-C`, or else the nearest folder upwards that holds a fleetwright.yaml.
    ///
    /// # Errors
    /// When there is none.
    pub fn root(&self) -> Result<PathBuf, Failure> {
        let start = match &self.global.repo {
            Some(given) if given.is_dir() => given.clone(),
            Some(given) => {
                return Err(Failure::usage(
                    format!("there is no folder {}", given.display()),
                    "give the folder of an infra repository with `-C DIR`",
                ));
            }
            None => std::env::current_dir().map_err(|error| {
                Failure::usage(
                    format!("reading the current folder: {error}"),
                    "change to an infra repository",
                )
            })?,
        };
        let absolute = std::path::absolute(&start).unwrap_or_else(|_| start.clone());
        match absolute.ancestors().find(|folder| folder.join(PROJECT_FILE).symlink_metadata().is_ok()) {
            Some(root) => Ok(root.to_owned()),
            None => Err(Failure::usage(
                format!("there is no {PROJECT_FILE} in {} or above", start.display()),
                "change to an infra repository or name one with `-C DIR`; `fleetwright init DIR` makes a new one",
            )),
        }
    }

    /// The repository, without errors; warnings are printed.
    ///
    /// # Errors
    /// When there is none, or every error in it.
    pub fn repository(&self) -> Result<Repository, Failure> {
        self.finished(repo::load(&self.root()?))
    }

    /// The repository with what stands in fleetwright.yaml alone, for commands that need nothing else of it: they
    /// must work while another file is broken.
    ///
    /// # Errors
    /// When there is none, or every error in that file.
    pub fn project(&self) -> Result<Repository, Failure> {
        self.finished(repo::load_project(&self.root()?))
    }

    /// The repository, where there is one: some commands need none.
    ///
    /// # Errors
    /// Every error in it.
    pub fn repository_if_any(&self) -> Result<Option<Repository>, Failure> {
        self.root().ok().map(|root| self.finished(repo::load(&root))).transpose()
    }

    fn finished(&self, loaded: Loaded) -> Result<Repository, Failure> {
        let files = loaded.files();
        match loaded.finish() {
            Ok((repository, warnings)) => {
                view::diagnostics::draw(&warnings, self.colour_err);
                Ok(repository)
            }
            Err(diagnostics) => Err(Failure::Invalid { diagnostics, files }),
        }
    }

    /// The environment that was asked for, or the first.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn environment<'r>(&self, repository: &'r Repository) -> Result<&'r Environment, Failure> {
        let Some(name) = &self.global.environment else {
            return repository.environments.first().ok_or_else(|| {
                Failure::usage(
                    "the project has no environment",
                    format!("add one to `environments` of {PROJECT_FILE}"),
                )
            });
        };
        repository.environment(name).ok_or_else(|| {
            let names: Vec<&str> = repository.environments.iter().map(|known| known.name.as_str()).collect();
            let next = match suggest(name, names.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("{PROJECT_FILE} has `{}`", names.join("`, `")),
            };
            Failure::usage(format!("there is no environment `{name}`"), next)
        })
    }

    /// The stacks of `environment`, rendered, in the order of their dependency. Variables
    /// that are not set may be missing in them.
    ///
    /// # Errors
    /// Every error found.
    pub fn rendered(
        &self,
        repository: &Repository,
        environment: &Environment,
    ) -> Result<Vec<RenderedStack>, Failure> {
        let stacks = repo::render(repository, environment)
            .map_err(|diagnostics| Failure::Invalid { diagnostics, files: repository.files })?;
        stacks.iter().flat_map(RenderedStack::hidden_values).for_each(|value| self.hide(&value));
        Ok(stacks)
    }
}
