//! Containers that run beside a step: databases, caches, what its tests talk to.

use std::collections::HashMap;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerState, ContainerStateStatusEnum, EndpointSettings, HealthStatusEnum,
    NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder, StartContainerOptions,
};
use futures_util::StreamExt as _;

use super::{EngineSteps, HELPER, absent, confined, failed, variables_of};
use crate::adapter::swarm::health_config;
use crate::model::run::Companion;
use crate::model::step_container::ContainerRequest;
use crate::port::images::{ImageError, Lines};
use crate::port::step_containers::Attempt;

/// The label with the container that another one runs beside.
const BESIDE: &str = "fleetwright.beside";
/// Time between two looks at a container that is not healthy yet.
const LOOK: Duration = Duration::from_millis(100);
/// How long companions have to become healthy, together.
const READY: Duration = Duration::from_secs(300);
/// How many lines of one that fails are shown.
const LAST: &str = "20";

impl EngineSteps {
    /// Starts what runs beside an attempt, and waits until all of it is healthy.
    pub(super) async fn accompany(
        &self,
        attempt: Attempt,
        request: &ContainerRequest,
        network: &str,
        lines: Lines<'_>,
    ) -> Result<(), ImageError> {
        for companion in &request.companions {
            self.start(attempt, companion, network).await?;
        }
        let ready = async {
            for companion in &request.companions {
                self.healthy(attempt, companion, lines).await?;
            }
            Ok(())
        };
        match tokio::time::timeout(READY, ready).await {
            Ok(result) => result,
            Err(_) => Err(unfit(format!(
                "what runs beside it is not healthy after {} min; see `health` of its `services`",
                READY.as_secs() / 60
            ))),
        }
    }

    fn companion(&self, attempt: Attempt, companion: &Companion) -> String {
        format!("{}-{}", self.container(attempt), companion.name)
    }

    async fn start(&self, attempt: Attempt, companion: &Companion, network: &str) -> Result<(), ImageError> {
        let name = self.companion(attempt, companion);
        match self.docker().inspect_container(&name, None).await {
            Ok(found) if found.state.as_ref().and_then(|state| state.running) == Some(true) => return Ok(()),
            // It was not equipped, or an attempt before this process has seen it end.
            Ok(_) => self.remove(&name).await?,
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(failed(error, None)),
        }
        let mut labels = self.labels(attempt.run);
        labels.insert(BESIDE.to_owned(), self.container(attempt));
        let endpoint =
            EndpointSettings { aliases: Some(vec![companion.name.clone()]), ..EndpointSettings::default() };
        let body = ContainerCreateBody {
            image: Some(companion.image.clone()),
            cmd: (!companion.command.is_empty()).then(|| companion.command.clone()),
            env: Some(variables_of(&companion.env)),
            labels: Some(labels),
            healthcheck: companion.health.as_ref().map(|check| health_config(check, HELPER)),
            host_config: Some(confined(network.to_owned(), companion.limits)),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        self.docker().create_container(Some(options), body).await.map_err(|error| failed(error, None))?;
        self.equip(&name, &HashMap::new(), &[]).await?;
        let started = self.docker().start_container(&name, None::<StartContainerOptions>).await;
        started.map_err(|error| failed(error, None))
    }

    async fn healthy(
        &self,
        attempt: Attempt,
        companion: &Companion,
        lines: Lines<'_>,
    ) -> Result<(), ImageError> {
        let name = self.companion(attempt, companion);
        loop {
            let found = self.docker().inspect_container(&name, None).await;
            let state = found.map_err(|error| failed(error, None))?.state.unwrap_or_default();
            let reason = match verdict(&state) {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
                Err(reason) => reason,
            };
            let options = LogsOptionsBuilder::default().stdout(true).stderr(true).tail(LAST).build();
            let mut log = std::pin::pin!(self.docker().logs(&name, Some(options)));
            while let Some(Ok(piece)) = log.next().await {
                for line in text(&piece).lines() {
                    lines(&format!("{}: {line}", companion.name));
                }
            }
            return Err(unfit(format!("`{}`, which runs beside it, {reason}", companion.name)));
        }
    }

    /// Removes what runs beside an attempt.
    pub(super) async fn remove_companions(&self, attempt: Attempt) -> Result<(), ImageError> {
        let mut filters = self.filters(Some(attempt.run));
        let beside = format!("{BESIDE}={}", self.container(attempt));
        filters.entry("label".to_owned()).or_default().push(beside);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.docker().list_containers(Some(options)).await;
        for container in found.map_err(|error| failed(error, None))? {
            self.remove(container.id.as_deref().unwrap_or_default()).await?;
        }
        let network = self.docker().remove_network(&self.container(attempt)).await;
        // It holds the command's container, too, which has ended.
        match network {
            Err(Error::DockerResponseServerError { status_code: 403, .. }) => Ok(()),
            result => absent(result),
        }
    }
}

/// Whether a container is healthy, is not yet, or will not be, and why.
fn verdict(state: &ContainerState) -> Result<bool, String> {
    if matches!(state.status, Some(ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD)) {
        let memory =
            if state.oom_killed == Some(true) { ", for it used more memory than it may" } else { "" };
        return Err(format!("has ended with exit status {}{memory}", state.exit_code.unwrap_or(-1)));
    }
    match state.health.as_ref().and_then(|health| health.status) {
        None | Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) => Ok(state.running == Some(true)),
        Some(HealthStatusEnum::HEALTHY) => Ok(true),
        Some(HealthStatusEnum::STARTING) => Ok(false),
        Some(HealthStatusEnum::UNHEALTHY) => {
            let results = state.health.as_ref().and_then(|health| health.log.as_ref());
            let said = results.and_then(|results| results.last()?.output.clone()).unwrap_or_default();
            let said = said.trim();
            Err(if said.is_empty() { "is not healthy".to_owned() } else { format!("is not healthy: {said}") })
        }
    }
}

fn text(piece: &LogOutput) -> String {
    String::from_utf8_lossy(piece.as_ref()).into_owned()
}

fn unfit(reason: String) -> ImageError {
    ImageError::Build { reason, step: None }
}

#[cfg(test)]
mod tests {
    use bollard::models::{Health, HealthcheckResult};

    use super::*;

    #[test]
    fn what_has_no_check_need_only_run_and_what_ends_is_not_waited_for() {
        let running = ContainerState {
            status: Some(ContainerStateStatusEnum::RUNNING),
            running: Some(true),
            ..ContainerState::default()
        };
        assert_eq!(verdict(&running), Ok(true));
        let with = |status, output: &str| {
            let result = HealthcheckResult { output: Some(output.to_owned()), ..Default::default() };
            let health = Health { status: Some(status), log: Some(vec![result]), ..Health::default() };
            verdict(&ContainerState { health: Some(health), ..running.clone() })
        };
        assert_eq!(with(HealthStatusEnum::STARTING, ""), Ok(false));
        assert_eq!(with(HealthStatusEnum::HEALTHY, ""), Ok(true));
        assert_eq!(with(HealthStatusEnum::UNHEALTHY, "no\n"), Err("is not healthy: no".to_owned()));
        let ended = ContainerState {
            status: Some(ContainerStateStatusEnum::EXITED),
            exit_code: Some(3),
            oom_killed: Some(true),
            ..ContainerState::default()
        };
        assert_eq!(
            verdict(&ended),
            Err("has ended with exit status 3, for it used more memory than it may".to_owned())
        );
    }
}
