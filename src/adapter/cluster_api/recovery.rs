//! Control machines, each asked by itself: without a majority no one of them stands for the others.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use reqwest::Method;

use super::identity::{NO_PATH, TOO_OLD};
use super::{Again, ClusterApi, Connected, Inner, Ready, Source, Trouble, words};
use crate::model::cluster::{Answer, Asked, LogEnd, View};
use crate::model::name::MachineId;
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
            let answer = ask(&self.0, &connected, &endpoint).await;
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

    async fn restore(&self) -> Result<RestoredServices, ClusterError> {
        self.0.answer(Method::POST, "cluster/restore", None::<&()>, Again::Always).await
    }
}

impl ClusterApi {
    async fn send_recover(&self, machine: &MachineId, wanted: RecoverRequest) -> Result<(), ClusterError> {
        let connected = self.0.connected().await?;
        for (known, endpoint) in self.known(&connected).await? {
            let is_it = known == machine.as_str()
                || matches!(ask(&self.0, &connected, &endpoint).await, Answer::View(view) if view.machine == *machine);
            if !is_it {
                continue;
            }
            let url = format!("{endpoint}/v1/cluster/recover");
            let post = |ready: &Ready, url: String| ready.calls.post(url).timeout(RECOVER).json(&wanted);
            return match self.0.try_one(&connected, &endpoint, &url, &post).await {
                Ok(_) => Ok(()),
                Err(Trouble::Answered(error) | Trouble::Unknown(error)) => Err(error),
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

async fn ask(inner: &Inner, connected: &Connected, endpoint: &str) -> Answer {
    let get = |ready: &Ready, url: String| ready.calls.get(url).timeout(ANSWER);
    let response = match inner.try_one(connected, endpoint, &format!("{endpoint}/v1/cluster"), &get).await {
        Ok(response) => response,
        Err(Trouble::Answered(ClusterError::Engine { reason, .. })) if reason.contains(NO_PATH) => {
            return Answer::TooOld;
        }
        Err(Trouble::Unsent(reason)) if reason == TOO_OLD => return Answer::TooOld,
        Err(Trouble::Unsent(reason) | Trouble::Unanswered(reason)) => return Answer::Silent(reason),
        Err(Trouble::Answered(error) | Trouble::Unknown(error)) => return Answer::Silent(error.to_string()),
    };
    match response.json::<View>().await {
        Ok(view) => Answer::View(Box::new(view)),
        Err(error) => Answer::Silent(format!("its answer is not understood: {}", words(&error))),
    }
}
