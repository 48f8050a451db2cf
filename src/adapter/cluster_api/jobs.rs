//! Jobs, through the API.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::Method;

use super::{Again, ClusterApi};
use crate::model::feature::{self, Feature, Needs};
use crate::model::job::{JobDeployment, Jobs, OccurrenceId};
use crate::model::name::JobName;
use crate::port::cluster::{Cluster, ClusterError};
use crate::port::cluster_wire::{Changed, CommandRequest, OutputLine};
use crate::port::jobs::{JobCluster, Output};

#[async_trait]
impl JobCluster for ClusterApi {
    async fn jobs(&self) -> Result<Jobs, ClusterError> {
        self.0.answer(Method::GET, "jobs", None::<&()>, Again::Always).await
    }

    async fn deploy_job(&self, job: &JobDeployment) -> Result<u64, ClusterError> {
        let roles = job.spec.container.aws_role.as_ref().map(|_| Feature::AwsRoles);
        self.can(&format!("job `{}` was not deployed", job.spec.name), roles).await?;
        let path = format!("jobs/{}", job.spec.name);
        let changed: Changed = self.0.answer(Method::PUT, &path, Some(job), Again::Always).await?;
        Ok(changed.revision)
    }

    async fn deployed_job(&self, name: &JobName) -> Result<JobDeployment, ClusterError> {
        let path = format!("jobs/{name}/deployment");
        self.0.answer(Method::GET, &path, None::<&()>, Again::Always).await
    }

    async fn remove_job(&self, name: &JobName) -> Result<(), ClusterError> {
        let path = format!("jobs/{name}");
        self.0.call(Method::DELETE, &path, None::<&()>, Again::Always).await.map(|_: Option<()>| ())
    }

    async fn run_job(&self, id: &OccurrenceId, _: Option<&str>) -> Result<(), ClusterError> {
        // The key is the caller's own, so that asking again asks for the same occurrence.
        let path = format!("jobs/{}/occurrences/{}", id.of, id.key);
        self.0.call(Method::PUT, &path, None::<&()>, Again::Always).await.map(|_: Option<()>| ())
    }

    async fn run_command(
        &self,
        id: &OccurrenceId,
        request: &CommandRequest,
        _: Option<&str>,
    ) -> Result<(), ClusterError> {
        let attended = request.attended.then_some(Feature::AttendedRuns);
        self.can("nothing was run", attended).await?;
        let path = format!("services/{}/commands/{}", id.of, id.key);
        self.0.call(Method::PUT, &path, Some(request), Again::Always).await.map(|_: Option<()>| ())
    }

    async fn occurrence_logs(
        &self,
        id: &OccurrenceId,
        tail: u32,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<Output, ClusterError>>, ClusterError> {
        let path = format!("occurrences/{id}/logs?tail={tail}&follow={follow}");
        let lines = self.0.open(&path).await?;
        let endpoint = self.0.described().await;
        Ok(lines
            .map(move |line| {
                let endpoint = endpoint.clone();
                match line {
                    Ok(OutputLine::Out(text)) => Ok(Output::Out(text)),
                    Ok(OutputLine::Err(text)) => Ok(Output::Err(text)),
                    Ok(OutputLine::Error(error)) => Err(error.into_error(&endpoint)),
                    Err(reason) => Err(ClusterError::Unreachable { endpoint, reason }),
                }
            })
            .boxed())
    }
}

impl ClusterApi {
    /// Refuses what `left` undone when one of the control machines, any of which may lead, keeps no jobs, or
    /// lacks what else is needed.
    async fn can(&self, left: &str, also: Option<Feature>) -> Result<(), ClusterError> {
        let control = [Some(Feature::Jobs), also].into_iter().flatten().collect();
        let needs = Needs { control, ..Needs::default() };
        let machines = self.snapshot().await?.machines;
        feature::check(needs, &machines)
            .map_err(|old| ClusterError::Refused { reason: format!("{left}: {old}") })
    }
}
