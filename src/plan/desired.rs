//! Which services' documents are written to the bucket, and which services are restored from it.
//!
//! Several leaders may write at a time: one that was replaced does not notice at once, and a
//! request may arrive late. So a document is only replaced by one of a higher rank, and only if
//! the object is still the one that was compared.

use crate::model::desired::{Bucket, DOCUMENT_VERSION, Document, Held, HeldState, KEPT, Kept};
use crate::model::name::ServiceName;

/// A document to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// The document.
    pub document: Document,
    /// The tag of the object that it replaces; `None` where there must be none.
    pub replaces: Option<String>,
}

/// How the bucket compares with the engine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keeping {
    /// What to write.
    pub writes: Vec<Write>,
    /// Services whose document is newer than what this engine holds.
    pub newer: Vec<ServiceName>,
    /// Services whose document can't be read, and why. They are left as they are.
    pub unreadable: Vec<(ServiceName, String)>,
    /// Services in the bucket that the engine does not hold.
    pub unknown: Vec<ServiceName>,
}

/// What to write so that the bucket holds what the engine has settled. `generation` is the
/// cluster's own.
pub fn keep(generation: u64, held: &[Held], bucket: &Bucket) -> Keeping {
    let mut keeping = Keeping::default();
    for one in held {
        let Some(document) = document(generation, one) else { continue };
        let replaces = match bucket.get(&one.service) {
            None => None,
            Some(stored) => match &stored.document {
                Err(reason) => {
                    keeping.unreadable.push((one.service.clone(), reason.clone()));
                    continue;
                }
                Ok(there) if there.rank() > document.rank() => {
                    keeping.newer.push(one.service.clone());
                    continue;
                }
                Ok(there) if there.generation == generation && there.says_the_same(&document) => continue,
                Ok(_) => Some(stored.tag.clone()),
            },
        };
        keeping.writes.push(Write { document, replaces });
    }
    keeping.unknown = bucket
        .iter()
        .filter(|(service, _)| !held.iter().any(|one| one.service == **service))
        .filter(|(_, stored)| stored.document.as_ref().map_or(true, |document| !document.removed))
        .map(|(service, _)| service.clone())
        .collect();
    keeping
}

/// The document of a service; `None` while a rollout is under way.
fn document(generation: u64, held: &Held) -> Option<Document> {
    let (removed, revisions) = match &held.state {
        HeldState::Moving => return None,
        HeldState::Settled(revisions) => (false, revisions.clone()),
        HeldState::Removed => (true, Vec::new()),
    };
    let mut document = Document {
        version: DOCUMENT_VERSION,
        service: held.service.clone(),
        generation,
        number: held.number,
        index: held.index,
        removed,
        revisions,
    };
    let restored = document.to_restore().map(|one| one.number);
    let newest = document.revisions.iter().map(|one| one.number).max().unwrap_or(0);
    document.revisions.sort_by_key(|one| std::cmp::Reverse(one.number));
    let mut left = KEPT;
    document.revisions.retain(|one| {
        left = left.saturating_sub(1);
        left > 0 || Some(one.number) == restored || one.number == newest
    });
    Some(document)
}

/// What a cluster gets from the bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Restoring {
    /// The documents of services that the cluster lacks, or has in an older revision.
    pub restore: Vec<Document>,
    /// Services whose document can't be read, and why.
    pub unreadable: Vec<(ServiceName, String)>,
}

/// What to restore to an engine that holds `held`.
pub fn restore(held: &[Held], bucket: &Bucket) -> Restoring {
    let mut restoring = Restoring { restore: Vec::new(), unreadable: Vec::new() };
    for (service, stored) in bucket {
        let there = held.iter().find(|one| one.service == *service);
        match &stored.document {
            Err(reason) => restoring.unreadable.push((service.clone(), reason.clone())),
            Ok(document) if there.is_some_and(|there| there.number >= document.number) => {}
            Ok(document) => restoring.restore.push(document.clone()),
        }
    }
    restoring
}

/// The revision of `document` that a cluster gets, in words.
pub fn described(document: &Document) -> Option<(&Kept, Option<String>, String)> {
    let kept = document.to_restore()?;
    let text = |pointer: &str| kept.deployment.pointer(pointer).and_then(|text| text.as_str());
    // A job names its own image, or the service whose image it runs.
    let service = || text("/spec/runs/service").map(|service| format!("of service {service}"));
    let own = text("/spec/image").or_else(|| text("/spec/runs/image")).map(str::to_owned);
    let image = own.or_else(service).unwrap_or_else(|| "an image that can't be read".to_owned());
    Some((kept, text("/digest").or_else(|| text("/image/digest")).map(str::to_owned), image))
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
