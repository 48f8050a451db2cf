//! Public parameters of Systems Manager that parameters of stacks refer to: their values become part of what is
//! wanted, so that a plan shows when one has changed.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Wanted;
use crate::model::name::StackName;
use crate::model::setting::Place;
use crate::port::cloud::CloudError;
use crate::port::parameters::Parameters;

/// Why a value can't be put in.
#[derive(Debug, thiserror::Error)]
pub enum PublicError {
    /// There is no such parameter.
    #[error("region {region} has no public parameter `{name}`")]
    Missing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        region: String,
        /// Where it is referred to.
        place: Option<Place>,
    },
    /// It can't be asked for.
    #[error(transparent)]
    Cloud(#[from] CloudError),
}

/// Puts the values of public parameters into the stacks that are to be worked on. Each is asked for once.
///
/// # Errors
/// When one does not exist, or can't be asked for.
pub async fn fill(wanted: &mut Wanted, parameters: &dyn Parameters) -> Result<(), PublicError> {
    let chosen: BTreeSet<StackName> = wanted.chosen().map(|wanted| wanted.stack.name.clone()).collect();
    let mut values = BTreeMap::new();
    for wanted_stack in wanted.stacks.iter_mut().filter(|wanted| chosen.contains(&wanted.stack.name)) {
        let stack = &mut wanted_stack.stack;
        for (parameter, value) in &mut stack.parameters {
            for name in value.public() {
                if values.contains_key(name) {
                    continue;
                }
                let Some(found) = parameters.get(name).await? else {
                    let (name, region) = (name.to_owned(), wanted.region.clone());
                    return Err(PublicError::Missing {
                        name,
                        region,
                        place: stack.places.get(parameter).cloned(),
                    });
                };
                values.insert(name.to_owned(), found.expose().clone());
            }
            value.fill(&values);
        }
    }
    Ok(())
}
