//! The image of placeholders in this machine's engine.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::sleep;

use crate::adapter::swarm::{placeholder_archive, placeholder_image};

/// Time between two checks that it is there.
const CHECK: Duration = Duration::from_secs(30);

/// Keeps the image of placeholders in the engine, until dropped.
pub async fn keep_image(docker: Docker) -> std::convert::Infallible {
    let image = placeholder_image();
    loop {
        match docker.inspect_image(&image).await {
            Ok(_) => {}
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {
                if let Err(reason) = load(&docker).await {
                    tracing::warn!(reason, "making the image of placeholders for units");
                }
            }
            Err(error) => tracing::debug!(%error, "asking for the image of placeholders"),
        }
        sleep(CHECK).await;
    }
}

async fn load(docker: &Docker) -> Result<(), String> {
    let archive = placeholder_archive().map_err(|error| error.to_string())?;
    let body = bollard::body_full(Bytes::from(archive));
    let mut loading = std::pin::pin!(docker.import_image(ImportImageOptions::default(), body, None));
    while let Some(step) = loading.next().await {
        step.map_err(|error| error.to_string())?;
    }
    Ok(())
}
