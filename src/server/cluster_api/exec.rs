//! Programs in instances: the stream of the caller is joined with one to the agent of the
//! instance's machine.

use axum::Extension;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::super::strict::Strict;
use super::super::upgrade::{Promised, switching};
use super::{Api, Authorised, Problem, audit};
use crate::model::job::{Jobs, Kind, OccurrenceId, Progress};
use crate::model::machine::Machine;
use crate::model::name::ServiceName;
use crate::plan::instance::choose;
use crate::port::cluster::ClusterError;
use crate::port::cluster_wire::WireError;
use crate::port::streams::{ExecRequest, INSTANCE_HEADER, MACHINE_HEADER};

pub(super) async fn exec(
    State(api): State<Api>,
    Extension(authorised): Extension<Authorised>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Response> {
    let invalid = |error: WireError| Problem(StatusCode::UPGRADE_REQUIRED, error).into_response();
    let promised = Promised::of(&mut request).map_err(invalid)?;
    let Strict(request) = Strict::<ExecRequest>::from_request(request, &()).await?;
    open(&api, &authorised, &name, &request, promised).await.map_err(IntoResponse::into_response)
}

async fn open(
    api: &Api,
    authorised: &Authorised,
    service: &str,
    request: &ExecRequest,
    promised: Promised,
) -> Result<Response, Problem> {
    if request.command.is_empty() {
        return Err(Problem::invalid("there is no program to execute"));
    }
    let service: ServiceName = service.parse()?;
    let snapshot = api.cluster.snapshot().await?;
    let refused = |reason: String| ClusterError::Refused { reason };
    let (machine, instance, task) = match &request.occurrence {
        None => {
            let found = snapshot.services.iter().find(|one| one.name == service);
            let found = found.ok_or(ClusterError::NotFound { what: "service", name: service.to_string() })?;
            let place = choose(found, request.instance.as_deref(), &snapshot.machines)
                .map_err(|error| refused(error.to_string()))?;
            (place.machine, place.instance.name.clone(), place.instance.id.clone())
        }
        Some(id) => {
            let jobs = api.jobs.jobs().await?;
            let (machine, task) = attended(&service, id, &jobs, &snapshot.machines).map_err(refused)?;
            (machine, id.to_string(), task)
        }
    };
    let instance = &instance;
    let connection = api.agents.exec(&machine.id, machine.address, &task, request).await?;
    let program = request.command.first().cloned().unwrap_or_default();
    tracing::info!(principal = %authorised.principal, instance, program, "executing a program");
    promised.then(|caller| async move {
        let (mut caller, mut agent) = (caller, connection);
        // Either end hangs up; the other one notices when its connection is closed.
        if let Err(error) = tokio::io::copy_bidirectional(&mut caller, &mut agent).await {
            tracing::debug!(%error, "a stream broke off");
        }
    });
    let mut response = switching(&[(INSTANCE_HEADER, instance), (MACHINE_HEADER, machine.id.as_str())]);
    let details = [("instance", instance.as_str()), ("machine", machine.id.as_str())];
    response.extensions_mut().insert(audit::Found::of(&details));
    Ok(response)
}

/// The machine and the task of a command of `service` that waits for its caller.
fn attended<'a>(
    service: &ServiceName,
    id: &OccurrenceId,
    jobs: &Jobs,
    machines: &'a [Machine],
) -> Result<(&'a Machine, String), String> {
    if id.kind != Kind::Command || id.of != service.as_str() {
        return Err(format!("{id} is not a command with the image of `{service}`"));
    }
    let one = jobs.occurrence(id).ok_or_else(|| format!("there is no {id}"))?;
    let (Progress::Running, Some(task), Some(machine)) = (one.progress, &one.task, &one.machine) else {
        return Err(format!("{id} does not run"));
    };
    let machine = machines.iter().find(|known| known.id == *machine);
    let machine = machine.ok_or_else(|| format!("the machine of {id} is not in the cluster any more"))?;
    Ok((machine, task.clone()))
}
