//! Shells in steps that have failed, for as long as their containers are kept.

use std::future::Future;

use chrono::Utc;

use super::request::{Caller, RequestError, step_called};
use super::run::Parts;
use crate::driver::stream::{StreamError, serve};
use crate::event::pipeline::PipelineEvent;
use crate::model::run::{Run, RunId, StepAction};
use crate::plan::kept::{failed_commands, kept_until};
use crate::plan::run::Change;
use crate::port::step_containers::Program;
use crate::port::streams::{Connection, Process};

/// What is run where nothing else is asked for.
const SHELL: &str = "sh";

/// A shell that is open.
pub struct Open {
    /// The step, by its whole name.
    pub step: String,
    process: Process,
}

impl Open {
    /// Connects the caller with it until it ends; its container is removed then, however it ends.
    pub fn serve(self, connection: Connection) -> impl Future<Output = Result<i32, StreamError>> {
        let handle = self.process.handle.clone();
        async move {
            let ended = serve(connection, self.process).await;
            handle.end().await;
            ended
        }
    }
}

/// Opens a shell in a container like that of a step that has failed. The run records who does.
///
/// # Errors
/// When there is no such run or step, it has not failed, or its container is not kept any more.
pub async fn open(
    parts: &Parts,
    id: RunId,
    step: &str,
    mut program: Program,
    caller: &Caller,
) -> Result<Open, RequestError> {
    let run = parts.journal.run(id)?.ok_or(RequestError::NoRun(id))?;
    let (index, name) = step_called(&run, step)?;
    let name = name.to_owned();
    let refused = |why: String| RequestError::NoShell { run: id, step: name.clone(), why };
    let Some(until) = kept_until(&run) else {
        return Err(refused(format!(
            "the run is {}, and only containers of failed runs are kept",
            run.state.word()
        )));
    };
    if !failed_commands(&run).contains(&index) {
        return Err(refused(other_steps(&run, index)));
    }
    let secrets = match run.config.as_ref().and_then(|config| config.steps.get(index)) {
        Some(StepAction::Run(script)) => script.secrets.clone(),
        _ => return Err(refused("it is no command".to_owned())),
    };
    if program.command.is_empty() {
        program.command = vec![SHELL.to_owned()];
    }
    let opened = parts.steps.shell(id, index, &secrets, &program).await.map_err(RequestError::Engine)?;
    let Some(process) = opened else {
        let why = match until < Utc::now() {
            true => format!("its container was kept until {}", until.format("%Y-%m-%d %H:%M UTC")),
            false => "it had no container, or the disk was full and it was removed".to_owned(),
        };
        return Err(refused(why));
    };
    let by = caller.name.clone().unwrap_or_else(|| "the server's own token".to_owned());
    let first = program.command.first().cloned().unwrap_or_default();
    let event = PipelineEvent::Shell { run: id, step: name.clone(), by, program: first };
    if let Err(error) = parts.record(id, vec![Change::Event(event)]) {
        // Nobody works in it without a record of that.
        process.handle.end().await;
        return Err(error.into());
    }
    Ok(Open { step: name, process })
}

/// Why a step has no shell, and which have.
fn other_steps(run: &Run, index: usize) -> String {
    let state = run.steps.get(index).map_or("unknown", |step| step.state.word());
    let failed: Vec<&str> = failed_commands(run)
        .into_iter()
        .filter_map(|index| run.steps.get(index).map(|step| step.name.as_str()))
        .collect();
    match failed.as_slice() {
        [] => format!("it is {state}, and no command of the run has failed"),
        failed => format!("it is {state}; those that failed are `{}`", failed.join("`, `")),
    }
}
