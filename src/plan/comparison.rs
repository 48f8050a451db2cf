//! What is deployed in an environment, beside what its files say. Pure.

use serde::Serialize;

use super::deploy::{JobPlan, ServicePlan};
use super::host_file::{HostFilePlan, Rendered};

/// Services, jobs and watched files of an environment, compared with what is running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The services, in the repository's order.
    pub services: Vec<ServicePlan>,
    /// The jobs, in the repository's order.
    pub jobs: Vec<JobPlan>,
    /// The watched files, in the repository's order.
    pub host_files: Vec<HostFilePlan>,
    /// What could not be compared or may change later, and why.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Puts `value` of each shown value in its place.
    pub fn map_values(&mut self, value: impl Fn(&str) -> String) {
        let of_jobs = self.jobs.iter_mut().flat_map(|plan| &mut plan.changes);
        let of_files = self.host_files.iter_mut().flat_map(|plan| &mut plan.changes);
        let of_services = self.services.iter_mut().flat_map(|plan| &mut plan.changes);
        for change in of_services.chain(of_jobs).chain(of_files) {
            for shown in [&mut change.before, &mut change.after].into_iter().flatten() {
                *shown = value(shown);
            }
        }
        let effects = self.host_files.iter_mut().flat_map(|plan| &mut plan.machines);
        for effect in effects {
            if let Rendered::Changed { diff: text } | Rendered::Failed { reason: text } = &mut effect.change {
                *text = value(text);
            }
        }
    }

    /// Whether `deploy` would change anything.
    pub fn has_changes(&self) -> bool {
        self.services.iter().any(ServicePlan::has_changes)
            || self.jobs.iter().any(JobPlan::has_changes)
            || self.host_files.iter().any(HostFilePlan::has_changes)
    }
}
