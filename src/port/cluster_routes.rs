//! The routes of the cluster's API: one for each operation.

use crate::model::principal::Operation;

/// How an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with its parameters in braces.
    pub path: &'static str,
}

/// The route of an operation.
pub fn route(operation: Operation) -> Route {
    let (method, path) = match operation {
        Operation::Identify => ("POST", "/v1/identity"),
        Operation::Snapshot => ("GET", "/v1/snapshot"),
        Operation::Metrics => ("GET", "/v1/metrics"),
        Operation::Watch => ("GET", "/v1/watch"),
        Operation::Deploy => ("PUT", "/v1/services/{name}"),
        Operation::Remove => ("DELETE", "/v1/services/{name}"),
        Operation::Rollback => ("POST", "/v1/services/{name}/rollback"),
        Operation::Deployed => ("GET", "/v1/services/{name}/deployment"),
        Operation::Secrets => ("GET", "/v1/secrets"),
        Operation::RollbackTo => ("POST", "/v1/services/{name}/rollback/{revision}"),
        Operation::Scale => ("PUT", "/v1/services/{name}/scale"),
        Operation::Logs => ("GET", "/v1/services/{name}/logs"),
        Operation::Exec => ("POST", "/v1/services/{name}/exec"),
        Operation::ClusterStatus => ("GET", "/v1/cluster"),
        Operation::ClusterRecover => ("POST", "/v1/cluster/recover"),
        Operation::ClusterRestore => ("POST", "/v1/cluster/restore"),
        Operation::Drain => ("POST", "/v1/drain"),
        Operation::Register => ("PUT", "/v1/machines/{id}"),
        Operation::Ports => ("PUT", "/v1/machines/{id}/ports"),
        Operation::Pressure => ("PUT", "/v1/machines/{id}/pressure"),
        Operation::EngineGone => ("PUT", "/v1/machines/{id}/engine-gone"),
        Operation::EngineBack => ("DELETE", "/v1/machines/{id}/engine-gone"),
        Operation::RebootState => ("GET", "/v1/machines/{id}/reboot"),
        Operation::RebootAsk => ("PUT", "/v1/machines/{id}/reboot"),
        Operation::RebootReturn => ("DELETE", "/v1/machines/{id}/reboot"),
        Operation::Standing => ("GET", "/v1/nodes/{id}/standing"),
        Operation::Turn => ("PUT", "/v1/machines/{id}/turn"),
        Operation::EtcdClient => ("POST", "/v1/machines/{id}/etcd-client"),
        Operation::Audit => ("GET", "/v1/audit"),
        Operation::Events => ("GET", "/v1/events"),
        Operation::TokenCreate => ("POST", "/v1/tokens"),
        Operation::TokenList => ("GET", "/v1/tokens"),
        Operation::TokenRevoke => ("DELETE", "/v1/tokens/{name}"),
        Operation::Jobs => ("GET", "/v1/jobs"),
        Operation::DeployJob => ("PUT", "/v1/jobs/{name}"),
        Operation::RemoveJob => ("DELETE", "/v1/jobs/{name}"),
        Operation::DeployedJob => ("GET", "/v1/jobs/{name}/deployment"),
        Operation::RunJob => ("PUT", "/v1/jobs/{name}/occurrences/{key}"),
        Operation::RunCommand => ("PUT", "/v1/services/{name}/commands/{key}"),
        Operation::OccurrenceLogs => ("GET", "/v1/occurrences/{occurrence}/logs"),
        Operation::Permit => ("POST", "/v1/tasks/{id}/permit"),
        Operation::TaskCredentials => ("POST", "/v1/tasks/{id}/credentials"),
        Operation::HostFiles => ("GET", "/v1/host-files"),
        Operation::DeployHostFile => ("PUT", "/v1/host-files/{name}"),
        Operation::RemoveHostFile => ("DELETE", "/v1/host-files/{name}"),
        Operation::Keys => ("POST", "/v1/keys"),
        Operation::HostFileFeed => ("GET", "/v1/machines/{id}/host-files"),
        Operation::HostFileReport => ("PUT", "/v1/machines/{id}/host-files"),
        Operation::UnitTasks => ("POST", "/v1/machines/{id}/units"),
        Operation::ReportUnhealthy => ("POST", "/v1/tasks/{id}/unhealthy"),
    };
    Route { method, path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_operations_share_a_route() {
        for (at, one) in Operation::ALL.iter().enumerate() {
            for other in &Operation::ALL[at + 1..] {
                assert_ne!(route(*one), route(*other), "{one:?} {other:?}");
            }
        }
    }
}
