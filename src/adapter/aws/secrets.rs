//! Secrets of an environment: parameters of Systems Manager, and secrets of Secrets Manager that services name.

use async_trait::async_trait;
use aws_sdk_ssm::primitives::DateTime as Stamp;
use aws_sdk_ssm::types::{Parameter, ParameterTier, ParameterType};
use chrono::{DateTime, Utc};

use super::answers::{Pages, missing};
use super::{failure, refusal};
use crate::model::mount::{SecretRef, SecretVersion};
use crate::model::name::SecretName;
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::secrets::{KeptSecret, SecretKeeper, SecretValues};

/// The folder of secrets below a cluster's prefix.
const FOLDER: &str = "secrets";

/// The stage of the newest value in Secrets Manager.
const CURRENT: &str = "AWSCURRENT";

/// Secrets behind the SDK's clients.
#[derive(Debug)]
pub struct EnvironmentSecrets {
    parameters: aws_sdk_ssm::Client,
    manager: aws_sdk_secretsmanager::Client,
    /// The folder, `/fleetwright/PROJECT/ENVIRONMENT/CLUSTER/secrets`.
    folder: String,
}

impl EnvironmentSecrets {
    /// The secrets below `prefix`.
    pub fn new(
        parameters: aws_sdk_ssm::Client,
        manager: aws_sdk_secretsmanager::Client,
        prefix: &str,
    ) -> Self {
        Self { parameters, manager, folder: format!("{}/{FOLDER}", prefix.trim_end_matches('/')) }
    }

    fn parameter(&self, name: &SecretName) -> String {
        format!("{}/{name}", self.folder)
    }

    /// A parameter, by its name with or without `:VERSION`.
    async fn read(&self, selector: &str, decrypted: bool) -> Result<Option<Parameter>, CloudError> {
        let request = self.parameters.get_parameter().name(selector).with_decryption(decrypted);
        match request.send().await {
            Ok(answer) => match answer.parameter {
                Some(parameter) => Ok(Some(parameter)),
                None => Err(missing(format!("reading parameter `{selector}`"), "Parameter")),
            },
            Err(error) => match refusal(&error) {
                Some(("ParameterNotFound" | "ParameterVersionNotFound", _)) => Ok(None),
                _ => Err(failure(format!("reading parameter `{selector}`"), error)),
            },
        }
    }
}

fn version(parameter: &Parameter) -> SecretVersion {
    SecretVersion::of_parameter(parameter.version, parameter.last_modified_date.map_or(0, |at| at.secs()))
}

#[async_trait]
impl SecretValues for EnvironmentSecrets {
    async fn newest(&self, secret: &SecretRef) -> Result<Option<SecretVersion>, CloudError> {
        match secret {
            SecretRef::Parameter(name) => {
                Ok(self.read(&self.parameter(name), false).await?.as_ref().map(version))
            }
            SecretRef::Manager(name) => {
                let doing = || format!("reading secret `{name}` of Secrets Manager");
                match self.manager.describe_secret().secret_id(name).send().await {
                    Ok(answer) => {
                        let stages = answer.version_ids_to_stages.unwrap_or_default();
                        let current = stages.iter().find(|(_, of)| of.iter().any(|stage| stage == CURRENT));
                        Ok(current
                            .filter(|_| answer.deleted_date.is_none())
                            .map(|(id, _)| SecretVersion::of_manager(id)))
                    }
                    Err(error) => match refusal(&error) {
                        Some(("ResourceNotFoundException", _)) => Ok(None),
                        _ => Err(failure(doing(), error)),
                    },
                }
            }
        }
    }

    async fn value(
        &self,
        secret: &SecretRef,
        wanted: &SecretVersion,
    ) -> Result<Option<Secret<Vec<u8>>>, CloudError> {
        match secret {
            SecretRef::Parameter(name) => {
                let Some(number) = wanted.number() else { return Ok(None) };
                let selector = format!("{}:{number}", self.parameter(name));
                // Numbers start at 1 again when a parameter is deleted: the time distinguishes the two.
                let found = self.read(&selector, true).await?.filter(|found| version(found) == *wanted);
                Ok(found.and_then(|found| found.value).map(|value| Secret::new(value.into_bytes())))
            }
            SecretRef::Manager(name) => {
                let request = self.manager.get_secret_value().secret_id(name).version_id(wanted.as_str());
                match request.send().await {
                    Ok(answer) => {
                        let text = answer.secret_string.map(String::into_bytes);
                        let bytes =
                            answer.secret_binary.map(aws_sdk_secretsmanager::primitives::Blob::into_inner);
                        Ok(text.or(bytes).map(Secret::new))
                    }
                    Err(error) => match refusal(&error) {
                        Some(("ResourceNotFoundException", _)) => Ok(None),
                        _ => Err(failure(format!("reading secret `{name}` of Secrets Manager"), error)),
                    },
                }
            }
        }
    }
}

#[async_trait]
impl SecretKeeper for EnvironmentSecrets {
    async fn set(&self, name: &SecretName, value: &Secret<String>) -> Result<SecretVersion, CloudError> {
        let full = self.parameter(name);
        let request = self.parameters.put_parameter().name(&full).value(value.expose()).overwrite(true);
        // More than 4 KiB need the advanced tier, which costs money: it is used only where it must.
        let request = request.r#type(ParameterType::SecureString).tier(ParameterTier::IntelligentTiering);
        request.send().await.map_err(|error| failure(format!("writing parameter `{full}`"), error))?;
        let written = self.read(&full, false).await?;
        written
            .as_ref()
            .map(version)
            .ok_or_else(|| missing(format!("reading parameter `{full}`"), "Parameter"))
    }

    async fn list(&self) -> Result<Vec<KeptSecret>, CloudError> {
        let request = self.parameters.get_parameters_by_path().path(&self.folder).with_decryption(false);
        let mut pages = request.into_paginator().send();
        let doing = format!("listing parameters below `{}`", self.folder);
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(&doing, error))?;
            read.read(page.next_token());
            for parameter in page.parameters.ok_or_else(|| missing(&doing, "Parameters"))? {
                let full = parameter.name.as_deref().ok_or_else(|| missing(&doing, "Name"))?;
                // Somebody else's parameter there is not one of ours.
                let Some(Ok(name)) = full.rsplit('/').next().map(str::parse::<SecretName>) else { continue };
                let set = parameter.last_modified_date.and_then(time);
                let set = set.ok_or_else(|| missing(&doing, "LastModifiedDate"))?;
                found.push(KeptSecret { name, version: version(&parameter), set });
            }
        }
        read.finish(doing)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn remove(&self, name: &SecretName) -> Result<bool, CloudError> {
        let full = self.parameter(name);
        match self.parameters.delete_parameter().name(&full).send().await {
            Ok(_) => Ok(true),
            Err(error) => match refusal(&error) {
                Some(("ParameterNotFound", _)) => Ok(false),
                _ => Err(failure(format!("deleting parameter `{full}`"), error)),
            },
        }
    }
}

fn time(stamp: Stamp) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(stamp.secs(), stamp.subsec_nanos())
}
