//! What the engine keeps, read and written back as JSON.
//!
//! A specification that is read into types and written back loses what the types do not know. The
//! engine's description of its own API calls a service's health check `HealthCheck`, for example, and
//! the engine writes `Healthcheck`: the check was gone from everything that was written back, and
//! with the check every instance, since it was another template then.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::auth::DockerCredentials;
use bollard::errors::Error;
use bollard::models::Service;
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Client, RequestBuilder, StatusCode, Upgraded};
use serde_json::Value;

/// The engine's API without types.
#[derive(Debug, Clone)]
pub struct Raw {
    client: Client,
    /// Everything before the path, with the version of the API.
    base: String,
}

impl Raw {
    /// Calls to `endpoint` in `version` of the API, each of which may take as long as `timeout`.
    ///
    /// # Errors
    /// When there can be no such client.
    pub fn new(endpoint: &str, version: &str, timeout: Duration) -> Result<Self, Error> {
        let client = Client::builder().timeout(timeout).no_proxy();
        let (client, host) = match endpoint.strip_prefix("unix://") {
            Some(path) => (client.unix_socket(path), "http://engine".to_owned()),
            None => (client, endpoint.replacen("tcp://", "http://", 1)),
        };
        Ok(Self { client: client.build().map_err(failed)?, base: format!("{host}/v{version}") })
    }

    /// Reads the object or list at `path`.
    ///
    /// # Errors
    /// What the engine answered, or that it did not.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        answer(self.client.get(format!("{}/{path}", self.base))).await
    }

    /// Writes `body` to `path`, which holds the query.
    ///
    /// # Errors
    /// What the engine answered, or that it did not.
    pub async fn post(
        &self,
        path: &str,
        body: &Value,
        credentials: Option<&DockerCredentials>,
    ) -> Result<(), Error> {
        let mut request = self.client.post(format!("{}/{path}", self.base)).json(body);
        if let Some(credentials) = credentials {
            request = request.header("X-Registry-Auth", URL_SAFE.encode(serde_json::to_string(credentials)?));
        }
        answer(request).await.map(drop)
    }

    /// Creates what `body` describes at `path`, and gives the engine's answer.
    ///
    /// # Errors
    /// What the engine answered, or that it did not.
    pub async fn create(&self, path: &str, body: &Value) -> Result<Value, Error> {
        answer(self.client.post(format!("{}/{path}", self.base)).json(body)).await
    }

    /// Opens the stream that a request to `path` begins.
    ///
    /// # Errors
    /// What the engine answered, or that it did not.
    pub async fn hijack(&self, path: &str, body: &Value) -> Result<Upgraded, Error> {
        let request = self.client.post(format!("{}/{path}", self.base)).json(body);
        let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, "tcp");
        let response = request.send().await.map_err(failed)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response.status(), &response.bytes().await.map_err(failed)?));
        }
        response.upgrade().await.map_err(failed)
    }
}

async fn answer(request: RequestBuilder) -> Result<Value, Error> {
    let response = request.send().await.map_err(failed)?;
    let status = response.status();
    let body = response.bytes().await.map_err(failed)?;
    if status.is_success() {
        return if body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&body)?) };
    }
    Err(refusal(status, &body))
}

fn refusal(status: StatusCode, body: &[u8]) -> Error {
    let message = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let message = message["message"].as_str().map(str::to_owned);
    Error::DockerResponseServerError {
        status_code: status.as_u16(),
        message: message.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned()),
    }
}

fn failed(error: reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::RequestTimeoutError;
    }
    // The outermost words only say that a request failed.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    Error::IOError { err: std::io::Error::other(cause.to_string()) }
}

/// The services in a list of the engine, with their health checks.
///
/// # Errors
/// When it is not a list of services.
pub fn services(mut list: Value) -> Result<Vec<Service>, Error> {
    for service in list.as_array_mut().into_iter().flatten() {
        for spec in ["/Spec", "/PreviousSpec"] {
            let container = service.pointer_mut(&format!("{spec}/TaskTemplate/ContainerSpec"));
            if let Some(container) = container.and_then(Value::as_object_mut)
                && let Some(check) = container.remove("Healthcheck")
            {
                container.insert("HealthCheck".to_owned(), check);
            }
        }
    }
    Ok(serde_json::from_value(list)?)
}

/// The names of secrets and configs in the specifications that services had before a rollout that has not ended.
pub fn mounted_before(services: &Value) -> HashSet<String> {
    let mut found = HashSet::new();
    for service in services.as_array().into_iter().flatten() {
        let state = service.pointer("/UpdateStatus/State").and_then(Value::as_str).unwrap_or_default();
        if matches!(state, "" | "completed" | "rollback_completed") {
            continue;
        }
        for (list, key) in [("Secrets", "SecretName"), ("Configs", "ConfigName")] {
            let mounted = service.pointer(&format!("/PreviousSpec/TaskTemplate/ContainerSpec/{list}"));
            let mounted = mounted.and_then(Value::as_array).into_iter().flatten();
            found.extend(mounted.filter_map(|one| one[key].as_str()).map(str::to_owned));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_read_with_its_health_check() {
        let list = serde_json::json!([{
            "ID": "s1",
            "Spec": { "TaskTemplate": { "ContainerSpec": { "Healthcheck": { "Test": ["CMD", "/probe"] } } } },
        }]);
        let read = services(list).expect("a list").remove(0);
        let container = read.spec.and_then(|spec| spec.task_template).and_then(|task| task.container_spec);
        let check = container.and_then(|container| container.health_check).and_then(|check| check.test);
        assert_eq!(check, Some(vec!["CMD".to_owned(), "/probe".to_owned()]));
        assert!(services(Value::Null).is_err());
    }

    #[test]
    fn what_a_rollout_may_go_back_to_is_kept() {
        let service = |state: &str| {
            serde_json::json!([{
                "UpdateStatus": { "State": state },
                "PreviousSpec": { "TaskTemplate": { "ContainerSpec": {
                    "Secrets": [{ "SecretName": "s" }], "Configs": [{ "ConfigName": "c" }],
                } } },
            }])
        };
        for state in ["updating", "paused", "rollback_started", "rollback_paused"] {
            assert_eq!(mounted_before(&service(state)).len(), 2, "{state}");
        }
        for state in ["completed", "rollback_completed"] {
            assert!(mounted_before(&service(state)).is_empty(), "{state}");
        }
        assert!(mounted_before(&serde_json::json!([{}])).is_empty());
    }
}
