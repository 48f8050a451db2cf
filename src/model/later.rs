//! Variables and roles of services and jobs whose values are known only when they are deployed: outputs of stacks, and
//! parameters of Systems Manager.

use std::collections::BTreeMap;
use std::fmt;

use super::job::JobSpec;
use super::mount::FileMount;
use super::project::{Elsewhere, Wanted, WantedJob};
use super::service::ServiceSpec;
use super::setting::Place;
use super::stack::{ParameterValue, Piece, Reference};

/// What gets a value that is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaterFor {
    /// The variable of that name.
    Variable(String),
    /// The role of the containers.
    AwsRole,
}

impl fmt::Display for LaterFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "variable `{name}`"),
            Self::AwsRole => f.write_str("`aws_role`"),
        }
    }
}

/// A value that is looked up when it is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaterVariable {
    /// What gets it.
    pub of: LaterFor,
    /// What its value consists of.
    pub value: ParameterValue,
    /// Where the value stands.
    pub place: Place,
}

/// Values that were looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Outputs of stacks.
    pub outputs: BTreeMap<Reference, String>,
    /// Parameters of Systems Manager, by name.
    pub parameters: BTreeMap<String, String>,
}

impl Known {
    fn piece<'a>(&'a self, piece: &'a Piece) -> Option<&'a str> {
        match piece {
            Piece::Text(text) => Some(text),
            Piece::Output(reference) => self.outputs.get(reference).map(String::as_str),
            Piece::Public(name) => self.parameters.get(name).map(String::as_str),
        }
    }

    /// The value.
    ///
    /// # Errors
    /// The first piece whose value is not known.
    pub fn value<'v>(&self, later: &'v LaterVariable) -> Result<String, &'v Piece> {
        later.value.pieces.iter().map(|piece| self.piece(piece).ok_or(piece)).collect()
    }
}

/// A service with the values of all its variables: only such a service can be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyService {
    /// What is to run.
    pub spec: ServiceSpec,
    /// Where its image is kept, if it is a third-party image.
    pub elsewhere: Option<Elsewhere>,
}

/// A job with the values of all its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyJob {
    /// What is to run, and when.
    pub spec: JobSpec,
    /// Where its image is kept, if it is a third-party image.
    pub elsewhere: Option<Elsewhere>,
}

/// Puts the value of a variable into the files whose templates inserted its reference.
fn insert(files: &mut [FileMount], later: &LaterVariable, value: &str) {
    let reference = later.value.to_string();
    for file in files {
        if file.content.contains(&reference) {
            file.content = file.content.replace(&reference, value);
        }
    }
}

impl Wanted {
    /// The service with values in its variables and files. In a file, a value takes the place of its reference
    /// as the file's template inserted it.
    ///
    /// # Errors
    /// The first piece whose value is not known.
    pub fn ready(&self, known: &Known) -> Result<ReadyService, &Piece> {
        let mut spec = self.spec.clone();
        for later in &self.later {
            let value = known.value(later)?;
            insert(&mut spec.container.files, later, &value);
            match &later.of {
                LaterFor::Variable(name) => drop(spec.environment.insert(name.clone(), value)),
                LaterFor::AwsRole => spec.container.aws_role = Some(value),
            }
        }
        Ok(ReadyService { spec, elsewhere: self.elsewhere.clone() })
    }
}

impl WantedJob {
    /// The job with values in its variables and files, as [`Wanted::ready`].
    ///
    /// # Errors
    /// The first piece whose value is not known.
    pub fn ready(&self, known: &Known) -> Result<ReadyJob, &Piece> {
        let mut spec = self.spec.clone();
        for later in &self.later {
            let value = known.value(later)?;
            insert(&mut spec.container.files, later, &value);
            match &later.of {
                LaterFor::Variable(name) => drop(spec.environment.insert(name.clone(), value)),
                LaterFor::AwsRole => spec.container.aws_role = Some(value),
            }
        }
        Ok(ReadyJob { spec, elsewhere: self.elsewhere.clone() })
    }
}
