//! A parameter store with one parameter.

use async_trait::async_trait;
use fleetwright::model::secret::Secret;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::parameters::{Parameter, Parameters, Protection, Readable};

/// One SSM parameter.
pub struct OneParameter {
    name: &'static str,
    value: String,
}

impl OneParameter {
    /// A parameter of that name.
    pub fn new(name: &'static str, value: &str) -> Self {
        Self { name, value: value.to_owned() }
    }
}

#[async_trait]
impl Parameters for OneParameter {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        Ok((name == self.name).then(|| Secret::new(self.value.clone())))
    }
    async fn readable(&self, _: &str) -> Result<Option<Readable>, CloudError> {
        unreachable!("no plain parameter is read")
    }

    async fn list(&self, _prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        Ok(Vec::new())
    }
    async fn create_if_absent(
        &self,
        _name: &str,
        _value: &Secret<String>,
        _protection: Protection,
    ) -> Result<bool, CloudError> {
        Ok(false)
    }
    async fn put(
        &self,
        _name: &str,
        _value: &Secret<String>,
        _protection: Protection,
    ) -> Result<(), CloudError> {
        Ok(())
    }
    async fn delete(&self, _name: &str) -> Result<bool, CloudError> {
        Ok(false)
    }
}
