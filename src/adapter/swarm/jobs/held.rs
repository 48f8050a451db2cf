//! Jobs as documents that are kept outside of the swarm, and back. A definition is kept as services are:
//! one document, whose revision is the definition. Occurrences are not kept: a cluster that is founded
//! again starts what is due from then on.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::Utc;

use super::objects::{Definition, Objects, Recorded};
use crate::adapter::swarm::Swarm;
use crate::model::desired::{Document, Held, HeldState, Kept};
use crate::model::job::JobDeployment;
use crate::model::name::JobName;
use crate::model::service::RevisionState;
use crate::port::cluster::ClusterError;
use crate::port::desired::Holder;

/// The version of what a document holds of a job.
const FORMAT: u32 = 1;

/// The jobs of a swarm.
pub struct JobHolder(pub Swarm);

#[async_trait]
impl Holder for JobHolder {
    async fn held(&self) -> Result<Vec<Held>, ClusterError> {
        Ok(held(&Objects::read(&self.0.engine.configs().await?)))
    }

    async fn restore(&self, document: &Document) -> Result<(), ClusterError> {
        let bad = |reason: String| ClusterError::Engine {
            doing: format!("restoring job `{}`", document.service),
            reason,
        };
        // Both kinds of names have the same rule.
        let name: JobName = document
            .service
            .as_str()
            .parse()
            .map_err(|error: crate::model::name::BadName| bad(error.to_string()))?;
        let objects = Objects::read(&self.0.engine.configs().await?);
        if objects.definition(&name).is_some_and(|known| known.number >= document.number) {
            return Ok(());
        }
        let definition = match document.to_restore() {
            None => Definition::removal(&name, document.number),
            Some(kept) if kept.format != FORMAT => {
                return Err(bad(format!("it has version {}, and version {FORMAT} is known", kept.format)));
            }
            Some(kept) => {
                let job: JobDeployment = serde_json::from_value(kept.deployment.clone())
                    .map_err(|error| bad(error.to_string()))?;
                // What was due before belonged to the cluster that was lost.
                let now = Utc::now();
                self.0.engine.create_config(Recorded::create(&name, now)).await?;
                Definition::create(&job, document.number, now)
            }
        };
        // One that is there by now was created by the same call, made before.
        self.0.engine.create_config(definition).await.map(drop)
    }
}

fn held(objects: &Objects) -> Vec<Held> {
    let mut newest: BTreeMap<&JobName, &Definition> = BTreeMap::new();
    for definition in &objects.definitions {
        let known = newest.entry(&definition.name).or_insert(definition);
        if known.number < definition.number {
            *known = definition;
        }
    }
    let one = |(name, definition): (&JobName, &Definition)| {
        let state = match &definition.content {
            None => HeldState::Removed,
            // What can't be read here was written by a later version, whose leader keeps it.
            Some(Err(_)) => HeldState::Moving,
            Some(Ok(stored)) => HeldState::Settled(vec![Kept {
                number: definition.number,
                state: RevisionState::Running,
                ran: true,
                reason: None,
                since: definition.object.created,
                format: FORMAT,
                deployment: serde_json::to_value(&stored.job).unwrap_or_default(),
            }]),
        };
        let index = definition.object.version;
        let service = name.as_str().parse().ok()?;
        Some(Held { service, number: definition.number, index, state })
    };
    newest.into_iter().filter_map(one).collect()
}
