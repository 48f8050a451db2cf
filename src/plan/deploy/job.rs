//! What a deployment changes about a job, by field.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{FieldChange, Fields, differences};
use crate::model::duration::written;
use crate::model::job::{JobDeployment, JobSpec, Runs};
use crate::model::name::JobName;
use crate::model::service::Limits;

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobAction {
    /// It is deployed for the first time.
    Create,
    /// Later occurrences follow another definition; a running one continues.
    Change,
    /// Nothing.
    Nothing,
}

/// What a deployment of one job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JobPlan {
    /// The job.
    pub job: JobName,
    /// What happens.
    pub action: JobAction,
    /// The fields that change, sorted; all of them for a new job.
    pub changes: Vec<FieldChange>,
}

impl JobPlan {
    /// Whether anything happens.
    pub fn has_changes(&self) -> bool {
        self.action != JobAction::Nothing
    }
}

/// Compares what a job is deployed as with what is wanted.
pub fn job_plan(deployed: Option<&JobDeployment>, wanted: &JobDeployment) -> JobPlan {
    let fields = |job: &JobDeployment| {
        let JobDeployment { spec, image, origin: _ } = job;
        let mut fields = job_fields(spec);
        if let (Runs::Image(name), Some(at)) = (&spec.runs, image) {
            fields.insert("image".to_owned(), format!("{}/{name}@{}", at.registry, at.digest));
        }
        fields
    };
    let changes = differences(&deployed.map(fields).unwrap_or_default(), &fields(wanted));
    let action = match (deployed, changes.as_slice()) {
        (None, _) => JobAction::Create,
        (Some(_), []) => JobAction::Nothing,
        (Some(_), _) => JobAction::Change,
    };
    JobPlan { job: wanted.spec.name.clone(), action, changes }
}

/// The fields of a job's specification, by their names in files. Every structure is destructured
/// completely, so that a new field can't be forgotten here.
pub fn job_fields(spec: &JobSpec) -> BTreeMap<String, String> {
    let JobSpec {
        name: _,
        runs,
        command,
        environment,
        limits,
        placement,
        stop_grace_period,
        container,
        schedule,
        overlap,
        catch_up,
        timeout,
        retries,
    } = spec;
    let mut found = Fields::default();
    match runs {
        Runs::Image(image) => found.set("image", image.clone()),
        Runs::Service(service) => found.set("service", service.to_string()),
    }
    found.words("command", command);
    found.texts("env", environment);
    let Limits { memory_bytes, cpu_millis } = limits;
    found.amounts("resources.limits", *memory_bytes, *cpu_millis);
    found.texts("placement", placement);
    found.maybe("stop_grace_period", stop_grace_period.map(written));
    found.container(container);
    if let Some(schedule) = schedule {
        found.set("schedule", schedule.cron.clone());
        found.set("timezone", schedule.timezone.clone());
        found.set("overlap", overlap.word().to_owned());
    }
    found.maybe("catch_up", catch_up.map(written));
    found.maybe("timeout", timeout.map(written));
    found.maybe("retries", (*retries > 0).then(|| retries.to_string()));
    found.0
}
