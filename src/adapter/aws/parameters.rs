//! The parameter store of Systems Manager.

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::types::ParameterType;

use super::answers::{Pages, missing};
use super::{failure, refusal};
use crate::model::secret::Secret;
use crate::port::cloud::CloudError;
use crate::port::parameters::{Parameter, Parameters, Protection, Readable};

/// The parameter store behind the SDK's client.
#[derive(Debug)]
pub struct ParameterStore {
    client: Client,
}

impl ParameterStore {
    /// Wraps `client`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// `Ok(false)` when `overwrite` is not set and the parameter exists.
    async fn write(
        &self,
        name: &str,
        value: &Secret<String>,
        protection: Protection,
        overwrite: bool,
    ) -> Result<bool, CloudError> {
        let kind = match protection {
            Protection::Plain => ParameterType::String,
            Protection::Encrypted => ParameterType::SecureString,
        };
        let request = self.client.put_parameter().name(name).value(value.expose());
        match request.r#type(kind).overwrite(overwrite).send().await {
            Ok(_) => Ok(true),
            Err(error) => match refusal(&error) {
                Some(("ParameterAlreadyExists", _)) if !overwrite => Ok(false),
                _ => Err(failure(format!("writing parameter `{name}`"), error)),
            },
        }
    }
}

#[async_trait]
impl Parameters for ParameterStore {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        match self.client.get_parameter().name(name).with_decryption(true).send().await {
            // One that does not exist is an error of its own: without a value, nothing is known of it.
            Ok(answer) => match answer.parameter.and_then(|parameter| parameter.value) {
                Some(value) => Ok(Some(Secret::new(value))),
                None => Err(missing(format!("reading parameter `{name}`"), "Value")),
            },
            Err(error) => match refusal(&error) {
                Some(("ParameterNotFound", _)) => Ok(None),
                _ => Err(failure(format!("reading parameter `{name}`"), error)),
            },
        }
    }

    async fn readable(&self, name: &str) -> Result<Option<Readable>, CloudError> {
        let doing = || format!("reading parameter `{name}`");
        match self.client.get_parameter().name(name).with_decryption(false).send().await {
            Ok(answer) => {
                let parameter = answer.parameter.ok_or_else(|| missing(doing(), "Parameter"))?;
                match (parameter.r#type, parameter.value) {
                    (Some(ParameterType::String | ParameterType::StringList), Some(value)) => {
                        Ok(Some(Readable::Plain(value)))
                    }
                    (Some(ParameterType::String | ParameterType::StringList), None) => {
                        Err(missing(doing(), "Value"))
                    }
                    (None, _) => Err(missing(doing(), "Type")),
                    // A type that is not known may be secret.
                    (Some(_), _) => Ok(Some(Readable::Encrypted)),
                }
            }
            Err(error) => match refusal(&error) {
                Some(("ParameterNotFound", _)) => Ok(None),
                _ => Err(failure(doing(), error)),
            },
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        let path = format!("/{}", prefix.trim_matches('/'));
        let mut pages = self
            .client
            .get_parameters_by_path()
            .path(&path)
            .recursive(true)
            .with_decryption(true)
            .into_paginator()
            .send();
        let doing = format!("listing parameters below `{path}`");
        let (mut found, mut read) = (Vec::new(), Pages::default());
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failure(&doing, error))?;
            read.read(page.next_token());
            for parameter in page.parameters.ok_or_else(|| missing(&doing, "Parameters"))? {
                let name = parameter.name.ok_or_else(|| missing(&doing, "Name"))?;
                let value = parameter.value.ok_or_else(|| missing(&doing, "Value"))?;
                found.push(Parameter { name, value: Secret::new(value) });
            }
        }
        read.finish(doing)?;
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        protection: Protection,
    ) -> Result<bool, CloudError> {
        self.write(name, value, protection, false).await
    }

    async fn put(
        &self,
        name: &str,
        value: &Secret<String>,
        protection: Protection,
    ) -> Result<(), CloudError> {
        self.write(name, value, protection, true).await.map(|_| ())
    }

    async fn delete(&self, name: &str) -> Result<bool, CloudError> {
        match self.client.delete_parameter().name(name).send().await {
            Ok(_) => Ok(true),
            Err(error) => match refusal(&error) {
                Some(("ParameterNotFound", _)) => Ok(false),
                _ => Err(failure(format!("deleting parameter `{name}`"), error)),
            },
        }
    }
}
