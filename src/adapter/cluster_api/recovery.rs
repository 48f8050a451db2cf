//! Control machines, each asked by itself: without a majority no one of them stands for the others.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};

use super::{Again, ClusterApi, Connected, Source, Trouble, attempt, words};
use crate::model::cluster::{Answer, Asked, LogEnd, View};
use crate::model::name::{MachineId, ServiceName};
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::{Endpoint, RecoverRequest, RestoredServices};
use crate::port::recovery::ControlMachines;

/// How long one may take to answer. Its engine takes a while to find that nobody leads.
const ANSWER: Duration = Duration::from_secs(15);
/// How long one may take to go on alone.
const RECOVER: Duration = Duration::from_secs(120);

#[async_trait]
impl ControlMachines for ClusterApi {
    async fn ask_all(&self) -> Result<Vec<Asked>, ClusterError> {
        let connected = self.0.connected().await?;
        let known = self.known(&connected).await?;
        let asked = known.into_iter().map(async |(machine, endpoint)| {
            let answer = ask(&connected, &endpoint).await;
            let machine = match &answer {
                Answer::View(view) => view.machine.to_string(),
                Answer::TooOld | Answer::Silent(_) => machine,
            };
            Asked { machine, answer }
        });
        let mut asked = join_all(asked).await;
        asked.sort_by(|a, b| a.machine.cmp(&b.machine));
        Ok(asked)
    }

    async fn recover(&self, machine: &MachineId, log: LogEnd) -> Result<(), ClusterError> {
        self.send_recover(machine, RecoverRequest { log, etcd: false }).await
    }

    async fn recover_etcd(&self, machine: &MachineId, log: LogEnd) -> Result<(), ClusterError> {
        self.send_recover(machine, RecoverRequest { log, etcd: true }).await
    }

    async fn restore(&self) -> Result<Vec<ServiceName>, ClusterError> {
        let answer: RestoredServices =
            self.0.answer(Method::POST, "cluster/restore", None::<&()>, Again::Always).await?;
        Ok(answer.services)
    }
}

impl ClusterApi {
    async fn send_recover(&self, machine: &MachineId, wanted: RecoverRequest) -> Result<(), ClusterError> {
        let connected = self.0.connected().await?;
        for (known, endpoint) in self.known(&connected).await? {
            let is_it = known == machine.as_str()
                || matches!(ask(&connected, &endpoint).await, Answer::View(view) if view.machine == *machine);
            if !is_it {
                continue;
            }
            let request = connected
                .calls
                .post(format!("{endpoint}/v1/cluster/recover"))
                .timeout(RECOVER)
                .bearer_auth(connected.token.expose())
                .json(&wanted);
            return match attempt(request, &endpoint).await {
                Ok(_) => Ok(()),
                Err(Trouble::Answered(error)) => Err(error),
                Err(Trouble::Unsent(reason) | Trouble::Unanswered(reason)) => {
                    Err(ClusterError::Unreachable { endpoint, reason })
                }
            };
        }
        Err(ClusterError::NotFound { what: "machine", name: machine.to_string() })
    }

    /// The control machines and where each serves the API.
    async fn known(&self, connected: &Connected) -> Result<Vec<(String, String)>, ClusterError> {
        let Source::Rendezvous { parameters, prefix, .. } = &self.0.source else {
            return Ok(connected.endpoints.iter().map(|url| (url.clone(), url.clone())).collect());
        };
        let found =
            parameters.list(&format!("{prefix}/control")).await.map_err(|error| ClusterError::Engine {
                doing: format!("looking control machines up under {prefix}"),
                reason: error.to_string(),
            })?;
        let known = found.iter().filter_map(|parameter| {
            let machine = parameter.name.rsplit('/').next()?.to_owned();
            Some((machine, Endpoint::read(parameter.value.expose())?.url()))
        });
        Ok(known.collect())
    }
}

async fn ask(connected: &Connected, endpoint: &str) -> Answer {
    let request = connected.calls.get(format!("{endpoint}/v1/cluster")).timeout(ANSWER);
    let response = match request.bearer_auth(connected.token.expose()).send().await {
        Ok(response) => response,
        Err(error) => return Answer::Silent(words(&error)),
    };
    match response.status() {
        StatusCode::NOT_FOUND => Answer::TooOld,
        status if status.is_success() => match response.json::<View>().await {
            Ok(view) => Answer::View(Box::new(view)),
            Err(error) => Answer::Silent(format!("its answer is not understood: {}", words(&error))),
        },
        status => Answer::Silent(format!("it answers with status {}", status.as_u16())),
    }
}
