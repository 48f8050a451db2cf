//! Texts of the repository that may hold `${env.NAME}`, and where they came from.

use std::fmt;
use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile, Span};

/// Where something stands in the repository's files.
#[derive(Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: Arc<SourceFile>,
    /// The bytes.
    pub span: Span,
}

impl Place {
    /// The span of `file`.
    pub fn new(file: &Arc<SourceFile>, span: Span) -> Self {
        Self { file: Arc::clone(file), span }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.name(), self.file.position(self.span.start).line)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

/// An environment variable that a setting needs, and that is not set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place} needs the environment variable `{variable}`, which is not set")]
pub struct Unset {
    /// The variable's name.
    pub variable: String,
    /// Where it is asked for.
    pub place: Place,
}

impl Unset {
    /// The same as a diagnostic.
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::error(
            "unset-variable",
            format!("the environment variable `{}` is not set", self.variable),
        )
        .at(&self.place.file, self.place.span, "needed here")
        .help(format!(
            "set it (`export {0}=...`), or give it a default: `${{env.{0}:-default}}`",
            self.variable
        ))
    }
}

/// A text of the repository, with `${env.NAME}` filled in.
///
/// It remembers where it stands and which variables went into it, so that a command that
/// can't go on without one can say which, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    shown: String,
    unset: Vec<Unset>,
    variables: Vec<String>,
    place: Place,
}

impl Setting {
    /// The text `shown`, made with `variables`, of which `unset` have no value; it
    /// holds `<unset NAME>` where they belong.
    pub fn new(shown: String, variables: Vec<String>, unset: Vec<Unset>, place: Place) -> Self {
        Self { shown, unset, variables, place }
    }

    /// The text, for use.
    ///
    /// # Errors
    /// When a variable it is made of is not set.
    pub fn get(&self) -> Result<&str, Unset> {
        match self.unset.first() {
            None => Ok(&self.shown),
            Some(unset) => Err(unset.clone()),
        }
    }

    /// Whether it is the same wherever the repository is read: no variable is in it.
    pub fn is_fixed(&self) -> bool {
        self.variables.is_empty()
    }

    /// The text for people, with `<unset NAME>` where a variable is not set.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The variables that are not set.
    pub fn unset(&self) -> &[Unset] {
        &self.unset
    }

    /// Where it stands in the repository.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Where its text came from: the file and line, and the environment variables in it.
    pub fn origin(&self) -> String {
        if self.variables.is_empty() {
            self.place.to_string()
        } else {
            format!("{} and the environment variable `{}`", self.place, self.variables.join("`, `"))
        }
    }
}
