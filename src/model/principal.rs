//! Who asks something of the cluster's API, and what can be asked.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use super::access::Level;
use super::machine::Role;
use super::name::{HostFileName, JobName, MachineId, ServiceName, TokenName};

/// Who a request comes from, once that is proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Principal {
    /// A machine of the cluster, by its certificate.
    Machine {
        /// Its instance, which is in one of the cluster's groups.
        instance: MachineId,
        /// The role of its group.
        role: Role,
    },
    /// A worker whose agent is of the version before machines had certificates. It bears the
    /// workers' shared token and is recognised by the address of its node.
    FormerWorker {
        /// Its instance, as its node was registered; `None` when no node has its address.
        instance: Option<MachineId>,
        /// The address that it calls from.
        address: IpAddr,
    },
    /// A person or a program with an identity of AWS.
    Person {
        /// The user, or the role without the session: `arn:aws:iam::ACCOUNT:role/NAME`.
        /// AWS does not report the path of a role, so there is none in it.
        arn: String,
        /// The name of the role's session, where the identity is a role.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// The bearer of a token that was made with `fleetwright cluster token create`.
    Token {
        /// The token's name.
        name: String,
    },
    /// The bearer of the cluster's own token, kept for the day when nothing else works.
    BreakGlass,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine { instance, role } => write!(f, "{} machine {instance}", role.word()),
            Self::FormerWorker { instance: Some(instance), .. } => write!(f, "worker machine {instance}"),
            Self::FormerWorker { instance: None, address } => write!(f, "the worker at {address}"),
            Self::Person { arn, session: Some(session) } => write!(f, "{arn}/{session}"),
            Self::Person { arn, session: None } => f.write_str(arn),
            Self::Token { name } => write!(f, "token `{name}`"),
            Self::BreakGlass => f.write_str("the cluster's break-glass token"),
        }
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident => $words:literal,)*) => {
        /// Everything that can be asked of the API, one for each route. The routes are made from
        /// this list, so none can exist that the table of rights does not know.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What it does, after `may`.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $words,)*
                }
            }
        }
    };
}

operations! {
    /// Exchange a proof of identity for a certificate or a token. Nobody is known before it.
    Identify => "prove who they are",
    /// Read machines and services.
    Snapshot => "read the status",
    /// Read the state of machines and services as metrics.
    Metrics => "read metrics",
    /// Follow machines and services.
    Watch => "follow the status",
    /// Read a service's logs.
    Logs => "read logs",
    /// Execute a program in an instance of a service.
    Exec => "execute programs in instances",
    /// Deploy a service.
    Deploy => "deploy a service",
    /// Roll a service back.
    Rollback => "roll a service back",
    /// Read what a service runs, with its environment variables.
    Deployed => "read a deployment",
    /// Read which versions of secrets there are, not their values.
    Secrets => "read versions of secrets",
    /// Roll a service back to a revision of a given number.
    RollbackTo => "roll a service back to a revision",
    /// Change the number of a service's instances, stop or start it.
    Scale => "scale a service",
    /// Remove a service.
    Remove => "remove a service",
    /// Read what a control machine knows of its cluster.
    ClusterStatus => "read the cluster's status",
    /// Make a control machine the cluster's only one.
    ClusterRecover => "recover the cluster",
    /// Restore services from the bucket.
    ClusterRestore => "restore services from the bucket",
    /// Empty machines.
    Drain => "drain machines",
    /// Register a node as a machine.
    Register => "register a node",
    /// Report why a task is unhealthy.
    ReportUnhealthy => "report a task as unhealthy",
    /// Report the published ports of a machine's tasks.
    Ports => "report the ports of a machine's tasks",
    /// Report how full a machine is.
    Pressure => "report how full a machine is",
    /// Say that the engine of a machine has stopped.
    EngineGone => "say that a machine's engine has stopped",
    /// Say that the engine of a machine runs again.
    EngineBack => "say that a machine's engine runs again",
    /// Read what is known of a machine's reboot.
    RebootState => "read a machine's leave to reboot",
    /// Ask for leave to reboot.
    RebootAsk => "ask for leave to reboot",
    /// Give leave to reboot back.
    RebootReturn => "give leave to reboot back",
    /// Ask what a node is to the cluster.
    Standing => "ask about a node",
    /// Ask for the turn to join again.
    Turn => "ask for the turn to join again",
    /// Get a certificate for etcd.
    EtcdClient => "get a certificate for etcd",
    /// Read the record of changes.
    Audit => "read the audit log",
    /// Read what happened.
    Events => "read events",
    /// Create a token.
    TokenCreate => "create a token",
    /// List tokens.
    TokenList => "list tokens",
    /// Revoke a token.
    TokenRevoke => "revoke a token",
    /// Read jobs and the outcomes of their occurrences.
    Jobs => "read jobs",
    /// Deploy a job.
    DeployJob => "deploy a job",
    /// Read what a job is deployed as, with its environment variables.
    DeployedJob => "read a job's deployment",
    /// Remove a job.
    RemoveJob => "remove a job",
    /// Run a job outside of its schedule.
    RunJob => "run a job",
    /// Run a command with a service's image and settings.
    RunCommand => "run a command",
    /// Read the output of an occurrence of a job, or of a command.
    OccurrenceLogs => "read the output of jobs",
    /// Permit the attempt that a task is to run.
    Permit => "permit a task to run",
    /// Get the credentials of the role of a task's container.
    TaskCredentials => "get the credentials of a task's role",
    /// Read the definitions of watched files.
    HostFiles => "read watched files",
    /// Deploy a watched file.
    DeployHostFile => "deploy a watched file",
    /// Remove a watched file.
    RemoveHostFile => "remove a watched file",
    /// Read keys in etcd.
    Keys => "read keys in etcd",
    /// Follow the watched files of a machine.
    HostFileFeed => "follow a machine's watched files",
    /// Report how far a machine's watched files have come.
    HostFileReport => "report a machine's watched files",
    /// Ask what is to become of the units of a machine.
    UnitTasks => "ask about a machine's units",
}

/// What an operation acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The cluster as a whole.
    Cluster,
    /// A service.
    Service(ServiceName),
    /// A job.
    Job(JobName),
    /// A watched file.
    HostFile(HostFileName),
    /// Machines.
    Machines(Vec<MachineId>),
    /// A token.
    Token(TokenName),
    /// A task.
    Task {
        /// The engine's id of it.
        id: String,
        /// The machine that runs it; `None` when there is no such task, or its machine is unknown.
        machine: Option<MachineId>,
    },
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the cluster"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Job(name) => write!(f, "job {name}"),
            Self::HostFile(name) => write!(f, "watched file {name}"),
            Self::Machines(machines) => {
                let names: Vec<&str> = machines.iter().map(MachineId::as_str).collect();
                write!(f, "machine {}", names.join(", "))
            }
            Self::Token(name) => write!(f, "token {name}"),
            Self::Task { id, .. } => write!(f, "task {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_keep_their_stored_form() {
        let samples = [
            (
                Principal::Machine { instance: "i-1".parse().expect("an id"), role: Role::Worker },
                r#"{"kind":"machine","instance":"i-1","role":"worker"}"#,
            ),
            (
                Principal::Person { arn: "arn:aws:iam::1:role/ops".into(), session: Some("ann".into()) },
                r#"{"kind":"person","arn":"arn:aws:iam::1:role/ops","session":"ann"}"#,
            ),
            (Principal::Token { name: "ci".into() }, r#"{"kind":"token","name":"ci"}"#),
            (Principal::BreakGlass, r#"{"kind":"break-glass"}"#),
        ];
        for (principal, text) in samples {
            assert_eq!(serde_json::to_string(&principal).expect("JSON"), text);
            assert_eq!(serde_json::from_str::<Principal>(text).expect("JSON"), principal);
        }
    }
}
