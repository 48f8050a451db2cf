//! Why a command did not do its work, what that prints, and its exit status.

use std::process::ExitCode;

use crate::model::setting::Unset;
use crate::source::Diagnostic;

use super::context::Context;

/// Why a command did not do its work.
#[derive(Debug)]
pub enum Failure {
    /// The input was refused; nothing was changed. Status 2.
    Invalid {
        /// Every problem found.
        diagnostics: Vec<Diagnostic>,
        /// How many files were read.
        files: usize,
    },
    /// The command was called wrongly, or names what is not there. Status 2.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        next: String,
    },
    /// It was tried and did not work. Status 1.
    Failed {
        /// What was tried, on what, and what happened.
        message: String,
        /// What to do.
        next: String,
    },
    /// A signal stopped it. Status 1.
    Interrupted {
        /// What is left, and how to go on.
        left: String,
    },
    /// It failed and has said so already. Status 1.
    Reported,
    /// The input was refused, and its problems are printed already. Status 2.
    Refused,
}

impl Failure {
    /// Something was tried and did not work.
    pub fn failed(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), next: next.into() }
    }

    /// The command was called wrongly.
    pub fn usage(message: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), next: next.into() }
    }

    /// Prints the failure on stderr and gives the exit status.
    pub fn report(self, context: &Context) -> ExitCode {
        match self {
            Self::Invalid { diagnostics, files } => {
                crate::view::diagnostics::print(&diagnostics, files, context.colour_err);
                ExitCode::from(2)
            }
            Self::Usage { message, next } => {
                eprintln!("error: {message}\n next: {next}");
                ExitCode::from(2)
            }
            Self::Failed { message, next } => {
                eprintln!("error: {message}\n next: {next}");
                ExitCode::FAILURE
            }
            Self::Interrupted { left } => {
                eprintln!("stopped: {left}");
                ExitCode::FAILURE
            }
            Self::Reported => ExitCode::FAILURE,
            Self::Refused => ExitCode::from(2),
        }
    }
}

impl From<Unset> for Failure {
    fn from(unset: Unset) -> Self {
        Self::Invalid { diagnostics: vec![unset.diagnostic()], files: 1 }
    }
}
