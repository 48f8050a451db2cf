//! A parameter store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use fleetwright::model::secret::Secret;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::parameters::{Parameter, Parameters, Protection, Readable};

/// Parameters; clones share them.
#[derive(Clone, Default)]
pub struct Memory {
    parameters: Arc<Mutex<BTreeMap<String, Secret<String>>>>,
}

#[async_trait]
impl Parameters for Memory {
    async fn get(&self, name: &str) -> Result<Option<Secret<String>>, CloudError> {
        Ok(self.parameters.lock().expect("parameters").get(name).cloned())
    }

    async fn readable(&self, _: &str) -> Result<Option<Readable>, CloudError> {
        unreachable!("no plain parameter is read")
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Parameter>, CloudError> {
        let prefix = format!("{}/", prefix.trim_end_matches('/'));
        let parameters = self.parameters.lock().expect("parameters");
        let below = parameters.iter().filter(|(name, _)| name.starts_with(&prefix));
        Ok(below.map(|(name, value)| Parameter { name: name.clone(), value: value.clone() }).collect())
    }

    async fn create_if_absent(
        &self,
        name: &str,
        value: &Secret<String>,
        _: Protection,
    ) -> Result<bool, CloudError> {
        let mut parameters = self.parameters.lock().expect("parameters");
        let new = !parameters.contains_key(name);
        parameters.entry(name.to_owned()).or_insert_with(|| value.clone());
        Ok(new)
    }

    async fn put(&self, name: &str, value: &Secret<String>, _: Protection) -> Result<(), CloudError> {
        self.parameters.lock().expect("parameters").insert(name.to_owned(), value.clone());
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<bool, CloudError> {
        Ok(self.parameters.lock().expect("parameters").remove(name).is_some())
    }
}
