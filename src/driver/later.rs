//! Looks up the values that variables of services and jobs take from stacks and parameters.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::try_join_all;

use crate::model::later::{Known, LaterFor, LaterVariable};
use crate::model::name::StackName;
use crate::model::role::{AwsRole, BadRole};
use crate::model::setting::Place;
use crate::model::stack::{Piece, Reference};
use crate::port::cloud::{Cloud, CloudError};
use crate::port::parameters::{Parameters, Readable};

/// Why a value can't be looked up.
#[derive(Debug, thiserror::Error)]
pub enum LaterError {
    /// The stack does not exist, or does not have the output yet.
    #[error("{of} needs output `{}` of stack `{}`, {}", reference.output, reference.stack, match exists {
        true => "which the deployed stack does not have",
        false => "which has not been deployed",
    })]
    Output {
        /// What needs it.
        of: LaterFor,
        /// The output.
        reference: Reference,
        /// Whether there is such a stack.
        exists: bool,
        /// Where the variable's value stands.
        place: Place,
    },
    /// There is no such parameter.
    #[error("{of} needs parameter `{name}`, which does not exist in {region}")]
    Parameter {
        /// What needs it.
        of: LaterFor,
        /// The parameter.
        name: String,
        /// The region.
        region: String,
        /// Where the variable's value stands.
        place: Place,
    },
    /// The parameter is encrypted, and variables are shown in plans.
    #[error("{of} needs parameter `{name}`, which is encrypted (SecureString)")]
    Encrypted {
        /// What needs it.
        of: LaterFor,
        /// The parameter.
        name: String,
        /// Where the variable's value stands.
        place: Place,
    },
    /// The value is not a role.
    #[error("{of}: {error}")]
    Role {
        /// What was to get it.
        of: LaterFor,
        /// What is wrong.
        error: BadRole,
        /// Where it stands.
        place: Place,
    },
    /// AWS can't be asked.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

impl LaterError {
    /// Where the variable's value stands.
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Output { place, .. }
            | Self::Parameter { place, .. }
            | Self::Encrypted { place, .. }
            | Self::Role { place, .. } => Some(place),
            Self::Cloud(_) => None,
        }
    }

    /// What to do about it.
    pub fn next(&self) -> String {
        match self {
            Self::Output { reference, .. } => {
                format!("deploy the stack first: `fleetwright apply {}`", reference.stack)
            }
            Self::Parameter { name, .. } => format!(
                "create it, for example with `aws ssm put-parameter --name {name} --type String --value ...`"
            ),
            Self::Encrypted { .. } => "pass it as a secret: `fleetwright secret set NAME`, and `secrets: \
                                       [{name: NAME, env: VARIABLE}]` in the service"
                .to_owned(),
            Self::Role { .. } => BadRole::HELP.to_owned(),
            Self::Cloud(error) => error.next().to_owned(),
        }
    }
}

/// Where values are looked up, in one environment.
pub struct Sources<'a> {
    /// CloudFormation.
    pub cloud: &'a dyn Cloud,
    /// Parameters of Systems Manager.
    pub parameters: &'a dyn Parameters,
    /// The name of a stack in CloudFormation.
    pub cloud_name: &'a (dyn Fn(&StackName) -> String + Sync),
    /// The region, for messages.
    pub region: &'a str,
}

/// Looks up what `variables` need. Each stack and each parameter is asked for once.
///
/// # Errors
/// When a value does not exist or is encrypted, or AWS can't be asked.
pub async fn look_up(variables: &[&LaterVariable], sources: &Sources<'_>) -> Result<Known, LaterError> {
    let pieces = || variables.iter().flat_map(|variable| &variable.value.pieces);
    let stacks: BTreeSet<&StackName> = pieces()
        .filter_map(|piece| match piece {
            Piece::Output(reference) => Some(&reference.stack),
            Piece::Text(_) | Piece::Public(_) => None,
        })
        .collect();
    let names: BTreeSet<&str> = pieces()
        .filter_map(|piece| match piece {
            Piece::Public(name) => Some(name.as_str()),
            Piece::Text(_) | Piece::Output(_) => None,
        })
        .collect();
    let stacks = try_join_all(stacks.into_iter().map(|stack| async move {
        let found = sources.cloud.stack(&(sources.cloud_name)(stack)).await?;
        // One that waits for its first change set has no resources yet.
        let outputs = found.filter(|found| found.status != "REVIEW_IN_PROGRESS").map(|found| found.outputs);
        Ok::<_, CloudError>((stack, outputs))
    }));
    let parameters =
        try_join_all(names.into_iter().map(|name| async move {
            Ok::<_, CloudError>((name, sources.parameters.readable(name).await?))
        }));
    let (stacks, parameters) = tokio::try_join!(stacks, parameters)?;
    let stacks: BTreeMap<_, _> = stacks.into_iter().collect();
    let parameters: BTreeMap<_, _> = parameters.into_iter().collect();
    let mut known = Known::default();
    for variable in variables {
        let (of, place) = (&variable.of, &variable.place);
        for piece in &variable.value.pieces {
            match piece {
                Piece::Text(_) => {}
                Piece::Output(reference) => {
                    let outputs = stacks.get(&reference.stack).and_then(Option::as_ref);
                    let Some(value) = outputs.and_then(|outputs| outputs.get(&reference.output)) else {
                        return Err(LaterError::Output {
                            of: of.clone(),
                            reference: reference.clone(),
                            exists: outputs.is_some(),
                            place: place.clone(),
                        });
                    };
                    known.outputs.insert(reference.clone(), value.clone());
                }
                Piece::Public(parameter) => match parameters.get(parameter.as_str()).cloned().flatten() {
                    Some(Readable::Plain(value)) => {
                        known.parameters.insert(parameter.clone(), value);
                    }
                    Some(Readable::Encrypted) => {
                        let (of, name, place) = (of.clone(), parameter.clone(), place.clone());
                        return Err(LaterError::Encrypted { of, name, place });
                    }
                    None => {
                        return Err(LaterError::Parameter {
                            of: of.clone(),
                            name: parameter.clone(),
                            region: sources.region.to_owned(),
                            place: place.clone(),
                        });
                    }
                },
            }
        }
        // All its pieces are known now.
        if *of == LaterFor::AwsRole
            && let Ok(value) = known.value(variable)
            && let Err(error) = value.parse::<AwsRole>()
        {
            return Err(LaterError::Role { of: of.clone(), error, place: place.clone() });
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::super::fake::FakeCloud;
    use super::*;
    use crate::model::secret::Secret;
    use crate::model::stack::ParameterValue;
    use crate::port::parameters::{Parameter, Protection};
    use crate::source::{SourceFile, Span};

    /// Three parameters, of which one is encrypted.
    struct Store;

    #[async_trait]
    impl Parameters for Store {
        async fn get(&self, _: &str) -> Result<Option<Secret<String>>, CloudError> {
            unreachable!("nothing is decrypted")
        }

        async fn readable(&self, name: &str) -> Result<Option<Readable>, CloudError> {
            Ok(match name {
                "/shop/host" => Some(Readable::Plain("db.internal".to_owned())),
                "/shop/port" => Some(Readable::Plain("5432".to_owned())),
                "/shop/password" => Some(Readable::Encrypted),
                _ => None,
            })
        }

        async fn list(&self, _: &str) -> Result<Vec<Parameter>, CloudError> {
            unreachable!("nothing is listed")
        }

        async fn create_if_absent(
            &self,
            _: &str,
            _: &Secret<String>,
            _: Protection,
        ) -> Result<bool, CloudError> {
            unreachable!("nothing is written")
        }

        async fn put(&self, _: &str, _: &Secret<String>, _: Protection) -> Result<(), CloudError> {
            unreachable!("nothing is written")
        }

        async fn delete(&self, _: &str) -> Result<bool, CloudError> {
            unreachable!("nothing is deleted")
        }
    }

    fn variable(name: &str, pieces: Vec<Piece>) -> LaterVariable {
        let place = Place::new(&SourceFile::new("services/web.yaml", "web:"), Span::new(0, 3));
        LaterVariable { of: LaterFor::Variable(name.to_owned()), value: ParameterValue { pieces }, place }
    }

    fn output(stack: &str, output: &str) -> Piece {
        Piece::Output(Reference { stack: stack.parse().expect("a name"), output: output.to_owned() })
    }

    async fn find(variables: &[LaterVariable]) -> Result<Known, LaterError> {
        let cloud = FakeCloud::default();
        cloud.stand("demo-local-data", "CREATE_COMPLETE", None, Vec::new());
        cloud.output("demo-local-data", "Endpoint", "db.example");
        cloud.stand("demo-local-begun", "REVIEW_IN_PROGRESS", None, Vec::new());
        let sources = Sources {
            cloud: &cloud,
            parameters: &Store,
            cloud_name: &|stack| format!("demo-local-{stack}"),
            region: "eu-west-1",
        };
        look_up(&variables.iter().collect::<Vec<_>>(), &sources).await
    }

    #[tokio::test]
    async fn outputs_and_plain_parameters_become_values() {
        let text = |text: &str| Piece::Text(text.to_owned());
        let parameter = |name: &str| Piece::Public(name.to_owned());
        let variables = [
            variable("URL", vec![text("postgres://"), output("data", "Endpoint"), text("/shop")]),
            variable("ADDRESS", vec![parameter("/shop/host"), text(":"), parameter("/shop/port")]),
        ];
        let known = find(&variables).await.expect("all of it exists");
        assert_eq!(known.outputs.values().collect::<Vec<_>>(), ["db.example"]);
        assert_eq!(known.parameters.values().collect::<Vec<_>>(), ["db.internal", "5432"]);
    }

    #[tokio::test]
    async fn what_does_not_exist_or_is_encrypted_is_named_with_the_next_step() {
        let parameter = |name: &str| Piece::Public(name.to_owned());
        let mut told = String::new();
        let bad = [
            output("data", "Port"),
            output("begun", "Port"),
            output("missing", "Port"),
            parameter("/shop/user"),
            parameter("/shop/password"),
        ];
        for piece in bad {
            let error = find(&[variable("V", vec![piece])]).await.expect_err("it has no value");
            told.push_str(&format!("{error}\n next: {}\n", error.next()));
        }
        insta::assert_snapshot!(told);
    }
}
