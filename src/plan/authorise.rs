//! Who may do what through the cluster's API. Pure; the one place where it is decided.

use crate::model::name::MachineId;
use crate::model::principal::{Level, Operation, Principal, Target};

/// What machines may do with an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machines {
    /// Nothing.
    Never,
    /// What concerns the machine itself: its node, and the tasks on it.
    Own,
    /// What any of them needs that is not known to be a member.
    Any,
}

/// The right to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    /// The level that people need; `None` for what is not theirs to do at any level.
    pub people: Option<Level>,
    /// What machines may.
    pub machines: Machines,
    /// What workers may whose agent is of the version before machines had certificates: enough
    /// to leave while the cluster is upgraded.
    pub former_workers: Machines,
}

/// The table of rights. [`Operation::Identify`] has no row: it is how a caller becomes known, and
/// judges the proof that it is given itself.
pub fn right(operation: Operation) -> Option<Right> {
    let people =
        |level| Right { people: Some(level), machines: Machines::Never, former_workers: Machines::Never };
    let machines = Right { people: None, machines: Machines::Own, former_workers: Machines::Never };
    let leaving = Right { former_workers: Machines::Own, ..machines };
    Some(match operation {
        Operation::Identify => return None,
        Operation::Snapshot
        | Operation::Metrics
        | Operation::Watch
        | Operation::Audit
        | Operation::Events
        | Operation::ClusterStatus
        | Operation::Jobs => people(Level::Viewer),
        // Logs may hold what a service should not have printed, and variables what should be a secret.
        Operation::Logs
        | Operation::Exec
        | Operation::Deployed
        | Operation::Secrets
        | Operation::Deploy
        | Operation::Rollback
        | Operation::RollbackTo
        | Operation::Scale
        | Operation::DeployJob
        | Operation::DeployedJob
        | Operation::RunJob
        | Operation::RunCommand
        | Operation::OccurrenceLogs
        // Templates, keys and checks say what programs are configured with, and a check is executed as root.
        | Operation::HostFiles
        | Operation::DeployHostFile
        | Operation::Keys => people(Level::Deployer),
        Operation::Remove
        | Operation::RemoveJob
        | Operation::RemoveHostFile
        | Operation::TokenCreate
        | Operation::TokenList
        | Operation::TokenRevoke
        | Operation::ClusterRecover
        | Operation::ClusterRestore => people(Level::Admin),
        // A machine that the engine does not list asks whether it is still a member.
        Operation::Standing => Right { machines: Machines::Any, ..machines },
        Operation::Drain => Right { people: Some(Level::Deployer), ..leaving },
        Operation::Turn
        | Operation::Register
        | Operation::EngineGone
        | Operation::Ports
        | Operation::Pressure
        | Operation::EngineBack
        | Operation::RebootAsk
        | Operation::EtcdClient
        | Operation::Permit
        | Operation::TaskCredentials
        | Operation::HostFileFeed
        | Operation::HostFileReport
        | Operation::UnitTasks => machines,
        Operation::ReportUnhealthy | Operation::RebootState | Operation::RebootReturn => leaving,
    })
}

/// A request whose caller is known.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What `access:` gives a person or a token; without effect on others.
    pub level: Option<Level>,
    /// What for.
    pub operation: Operation,
    /// On what.
    pub target: &'a Target,
}

/// Why a request is denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The caller has no level in this environment.
    #[error("{principal} has no access. {}", get(.principal, Level::Viewer))]
    NoAccess {
        /// Who asked.
        principal: Principal,
    },
    /// Another level is needed.
    #[error("{principal} may not {}: this needs the level {needs}, and it is a {has}. {}", .operation.words(), get(.principal, *.needs))]
    Level {
        /// Who asked.
        principal: Principal,
        /// What for.
        operation: Operation,
        /// The caller's level.
        has: Level,
        /// The level it takes.
        needs: Level,
    },
    /// Machines do not do this.
    #[error("{principal} may not {}: that is for people and `fleetwright serve`", .operation.words())]
    NotForMachines {
        /// Who asked.
        principal: Principal,
        /// What for.
        operation: Operation,
    },
    /// Only machines do this.
    #[error("{principal} may not {}: only a machine's own agent does that", .operation.words())]
    OnlyForMachines {
        /// Who asked.
        principal: Principal,
        /// What for.
        operation: Operation,
    },
    /// A machine acts on something else than itself.
    #[error("{principal} may not {}: a machine speaks for its own machine only, not for {target}", .operation.words())]
    NotOwn {
        /// Who asked.
        principal: Principal,
        /// What for.
        operation: Operation,
        /// What it was to act on.
        target: String,
    },
}

/// How a principal gets a level.
fn get(principal: &Principal, level: Level) -> String {
    match principal {
        Principal::Person { arn, .. } => format!(
            "To change that, add `{arn}` to `{level}` of `access:` in fleetwright.yaml and run `fleetwright apply`"
        ),
        Principal::Token { .. }
        | Principal::Machine { .. }
        | Principal::FormerWorker { .. }
        | Principal::BreakGlass => format!(
            "An admin can create a token with that level: `fleetwright cluster token create --name NAME --level {level}`"
        ),
    }
}

/// Decides whether a request is carried out.
///
/// # Errors
/// When it is not, with the reason.
pub fn authorise(asked: &Asked<'_>) -> Result<(), Denied> {
    let (principal, operation) = (asked.principal.clone(), asked.operation);
    let Some(right) = right(operation) else { return Ok(()) };
    let own = |may: Machines, instance: Option<&MachineId>| match may {
        Machines::Any => Ok(()),
        Machines::Never => Err(Denied::NotForMachines { principal: principal.clone(), operation }),
        Machines::Own if instance.is_some_and(|instance| is_own(asked.target, instance)) => Ok(()),
        Machines::Own => {
            Err(Denied::NotOwn { principal: principal.clone(), operation, target: asked.target.to_string() })
        }
    };
    let level = match asked.principal {
        Principal::Machine { instance, .. } => return own(right.machines, Some(instance)),
        Principal::FormerWorker { instance, .. } => return own(right.former_workers, instance.as_ref()),
        Principal::Person { .. } | Principal::Token { .. } => asked.level,
        Principal::BreakGlass => Some(Level::Admin),
    };
    let Some(needs) = right.people else { return Err(Denied::OnlyForMachines { principal, operation }) };
    match level {
        None => Err(Denied::NoAccess { principal }),
        Some(has) if has < needs => Err(Denied::Level { principal, operation, has, needs }),
        Some(_) => Ok(()),
    }
}

/// Whether everything that is acted on belongs to the machine.
fn is_own(target: &Target, instance: &MachineId) -> bool {
    match target {
        Target::Machines(machines) => !machines.is_empty() && machines.iter().all(|one| one == instance),
        Target::Task { machine, .. } => machine.as_ref() == Some(instance),
        Target::Cluster | Target::Service(_) | Target::Job(_) | Target::HostFile(_) | Target::Token(_) => {
            false
        }
    }
}

#[cfg(test)]
mod tests;
