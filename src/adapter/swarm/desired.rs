//! The swarm's services as documents that are kept outside of it, and back.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::history::{self, Record};
use super::observe::{self, Observed};
use super::spec::OnFailure;
use super::{Change, Swarm};
use crate::model::desired::{Document, Held, HeldState};
use crate::model::name::ServiceName;
use crate::model::service::RevisionState;
use crate::port::cluster::ClusterError;
use crate::port::desired::Holder;

#[async_trait]
impl Holder for Swarm {
    async fn held(&self) -> Result<Vec<Held>, ClusterError> {
        Ok(held(&self.engine.observe().await?))
    }

    async fn restore(&self, document: &Document) -> Result<(), ClusterError> {
        let name = document.service.as_str();
        let observed = self.engine.observe().await?;
        let records = observed.records(name);
        let missing = |number: u64| !records.iter().any(|record| record.number == number);
        for kept in document.revisions.iter().rev().filter(|kept| missing(kept.number)) {
            // One that is there by now was made by this same call, made before.
            self.engine.create_config(Record::restored(name, kept)).await?;
        }
        let Some(wanted) = document.to_restore() else {
            if missing(document.number) {
                self.engine.create_config(Record::removal(name, document.number)).await?;
            }
            return Ok(());
        };
        let service = observed.service(name);
        if service.is_some_and(|service| observed.now(service).current >= wanted.number) {
            return Ok(());
        }
        let deployment = history::deployment(wanted).map_err(|reason| ClusterError::Engine {
            doing: format!("restoring service `{name}` in revision {}", wanted.number),
            reason,
        })?;
        let pull = self.pull(&deployment.registry).await?;
        let deployment = self.restorable(&deployment).await?;
        let spec = self.specified(&observed, &deployment, wanted.number, OnFailure::RollBack, None).await?;
        let changed = match service {
            Some(service) => self.engine.update_service(service, spec, pull).await,
            None => self.create(spec, pull).await,
        };
        match changed {
            Ok(()) => Ok(()),
            Err(Change::Outdated) => Err(ClusterError::Refused {
                reason: format!("service `{name}` was changed while it was restored; try again"),
            }),
            Err(Change::Failed(error)) => Err(error),
        }
    }
}

/// What the swarm holds of every service.
pub fn held(observed: &Observed) -> Vec<Held> {
    let mut names: BTreeSet<ServiceName> =
        observed.services.iter().filter_map(observe::name_of).filter_map(|name| name.parse().ok()).collect();
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    for record in observed.configs.iter().filter_map(Record::read) {
        records.entry(record.service.clone()).or_default().push(record);
    }
    // A service that is not there is only believed to be removed where that is recorded.
    names.extend(
        records.values().filter_map(|of| history::removal(of)).filter_map(|one| one.service.parse().ok()),
    );
    names
        .into_iter()
        .map(|name| {
            let of = records.remove(name.as_str()).unwrap_or_default();
            one(observed, name, &of)
        })
        .collect()
}

fn one(observed: &Observed, name: ServiceName, records: &[Record]) -> Held {
    let number = records.iter().map(|record| record.number).max().unwrap_or(0);
    let newest = records.iter().map(|record| record.version).max().unwrap_or(0);
    if history::removal(records).is_some() {
        return Held { service: name, number, index: newest, state: HeldState::Removed };
    }
    let Some(service) = observed.service(name.as_str()) else {
        return Held { service: name, number, index: newest, state: HeldState::Moving };
    };
    let now = observed.now(service);
    let derived = history::derive(records, &now);
    // A record that is not derived belongs to a deployment that has not begun.
    let moving = derived.iter().any(|(_, state)| *state == RevisionState::RollingOut)
        || derived.iter().all(|(record, _)| record.number != number);
    let index = service.version.as_ref().and_then(|version| version.index).unwrap_or(0).max(newest);
    let state = if moving {
        HeldState::Moving
    } else {
        let replicas = |record: &Record| observe::replicas(service).filter(|_| record.number == now.current);
        let kept = derived.iter().filter_map(|(record, state)| record.kept(*state, replicas(record)));
        HeldState::Settled(kept.collect())
    };
    Held { service: name, number, index, state }
}
