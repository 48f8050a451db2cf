//! Programs in instances, through the API.

use async_trait::async_trait;
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{Method, StatusCode};

use super::{Again, ClusterApi, words};
use crate::model::frame::PROTOCOL;
use crate::model::name::ServiceName;
use crate::port::cluster::ClusterError;
use crate::port::streams::{Attached, Exec, ExecRequest, INSTANCE_HEADER, MACHINE_HEADER};

#[async_trait]
impl Exec for ClusterApi {
    async fn exec(&self, service: &ServiceName, request: &ExecRequest) -> Result<Attached, ClusterError> {
        let path = format!("services/{service}/exec");
        // No limit of time: the connection lasts as long as the program.
        let response = self
            .0
            .send(&path, Again::OnlyUnsent, |ready, url| {
                let call = ready.calls.request(Method::POST, url);
                call.header(CONNECTION, "Upgrade").header(UPGRADE, PROTOCOL).json(request)
            })
            .await?;
        let failed =
            |reason: String| ClusterError::Engine { doing: format!("opening a stream to {service}"), reason };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(failed(format!("it was answered with status {}", response.status().as_u16())));
        }
        let header = |name: &str| {
            let value = response.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or("-").to_owned()
        };
        let (instance, machine) = (header(INSTANCE_HEADER), header(MACHINE_HEADER));
        let connection = response.upgrade().await.map_err(|error| failed(words(&error)))?;
        Ok(Attached { instance, machine, connection: Box::new(connection) })
    }
}
