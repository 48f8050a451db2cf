//! `fleetwright pipeline show`, `approve`, `reject`, `files` and `logs --search`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use chrono::Utc;
use futures_util::StreamExt as _;
use serde_json::json;

use super::understood;
use crate::adapter::pipeline_api::PipelineApi;
use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::pipeline_server::{Finder, failure};
use crate::cli::rollouts::confirm;
use crate::model::run::{Run, RunId, RunStep, StepAction, StepState};
use crate::port::pipeline_wire::{AnswerRequest, AnsweredAnswer};
use crate::view;
use crate::view::paint::Paint;

async fn read(context: &Context, id: RunId) -> Result<(PipelineApi, Run), Failure> {
    let api = Finder::new(context)?.find(context)?;
    let answer = api.get(&format!("runs/{id}"), &[]).await.map_err(|error| failure(&error))?;
    let run = understood(&api, answer["run"].clone())?;
    Ok((api, run))
}

/// Shows a run.
pub async fn show(context: &Context, id: RunId) -> Result<Done, Failure> {
    let (_, run) = read(context, id).await?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "run": run }));
    } else {
        print!("{}", view::run::shown(&run, Utc::now(), Paint(context.colour_out)));
    }
    Ok(Done::Ok)
}

/// Prints the lines of a step that have a text.
pub async fn search(
    context: &Context,
    id: RunId,
    step: &str,
    text: &str,
    any_case: bool,
) -> Result<Done, Failure> {
    let api = Finder::new(context)?.find(context)?;
    let mut from = 1;
    loop {
        let query = [
            ("step", step.to_owned()),
            ("text", text.to_owned()),
            ("any_case", any_case.to_string()),
            ("from", from.to_string()),
            ("limit", "1000".to_owned()),
        ];
        let found =
            api.get(&format!("runs/{id}/log/search"), &query).await.map_err(|error| failure(&error))?;
        for line in found["lines"].as_array().into_iter().flatten() {
            let (number, words) = (&line["number"], line["text"].as_str().unwrap_or_default());
            let shown = match context.json() {
                true => json!({
                    "version": 1, "at": line["at"], "step": found["step"], "number": number, "line": words,
                })
                .to_string(),
                false => format!("{number}: {words}"),
            };
            if view::out::try_stdout(&format!("{shown}\n")).is_err() {
                return Ok(Done::Ok);
            }
        }
        match found["next"].as_u64() {
            Some(next) => from = next,
            None => return Ok(Done::Ok),
        }
    }
}

/// Shows what a run asks, and approves it.
pub async fn approve(context: &Context, id: RunId, step: Option<String>, yes: bool) -> Result<Done, Failure> {
    let command = format!("fleetwright pipeline approve {id}");
    context.may_change(&command)?;
    let (api, run) = read(context, id).await?;
    let asking: Vec<(usize, &RunStep)> = run
        .steps
        .iter()
        .enumerate()
        .filter(|(_, step)| matches!(step.state, StepState::Asking { .. }))
        .collect();
    let meant = |(_, found): &&(usize, &RunStep)| {
        step.as_deref().is_none_or(|wanted| crate::driver::pipeline::request::is_called(&found.name, wanted))
    };
    let meant: Vec<_> = asking.iter().filter(meant).collect();
    // The server has words for everything else.
    let mut shown = None;
    if let [(index, found)] = meant.as_slice()
        && let StepState::Asking { shown: hash, .. } = &found.state
        && let Some(StepAction::Approve(question)) =
            run.config.as_ref().and_then(|config| config.steps.get(*index))
    {
        shown = Some(hash.clone());
        eprint!("{}", view::run::proposal(&run, *index, question, Paint(context.colour_err)));
        confirm("Approve?", yes, &command).await?;
    }
    answer(context, &api, id, AnswerRequest { step, approved: true, shown }).await
}

/// Rejects what a run asks.
pub async fn reject(context: &Context, id: RunId, step: Option<String>) -> Result<Done, Failure> {
    context.may_change(&format!("fleetwright pipeline reject {id}"))?;
    let api = Finder::new(context)?.find(context)?;
    answer(context, &api, id, AnswerRequest { step, approved: false, shown: None }).await
}

async fn answer(
    context: &Context,
    api: &PipelineApi,
    id: RunId,
    request: AnswerRequest,
) -> Result<Done, Failure> {
    let answer = api.post(&format!("runs/{id}/answer"), &request).await.map_err(|error| failure(&error))?;
    let answered: AnsweredAnswer = understood(api, answer)?;
    if context.json() {
        view::json::document(&json!({
            "version": 1, "run": id, "step": answered.step, "approved": answered.approved,
        }));
    } else {
        let how = if answered.approved { "approved" } else { "rejected" };
        println!("`{}` of run {id} is {how}.", answered.step);
    }
    Ok(Done::Ok)
}

/// Lists the files that steps have kept, or fetches them.
pub async fn files(
    context: &Context,
    id: RunId,
    step: Option<&str>,
    into: Option<PathBuf>,
) -> Result<Done, Failure> {
    let (api, run) = read(context, id).await?;
    let meant = |found: &&RunStep| {
        step.is_none_or(|wanted| crate::driver::pipeline::request::is_called(&found.name, wanted))
    };
    let steps: Vec<&RunStep> = run.steps.iter().filter(meant).collect();
    if let (Some(step), true) = (step, steps.is_empty()) {
        let names: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
        let next = format!("it has `{}`", names.join("`, `"));
        return Err(Failure::usage(format!("run {id} has no step `{step}`"), next));
    }
    let kept = || steps.iter().flat_map(|step| step.files.iter().map(|file| (step.name.as_str(), file)));
    if let Some(folder) = into {
        for (step, file) in kept() {
            fetch(&api, id, (step, &file.path), &folder).await?;
        }
        let count = kept().count();
        if context.json() {
            view::json::document(&json!({ "version": 1, "run": id, "files": count, "folder": folder }));
        } else {
            println!("{} in {}.", view::words::count(count, "file"), folder.display());
        }
        return Ok(Done::Ok);
    }
    if context.json() {
        let files = kept().map(|(step, file)| json!({ "step": step, "path": file.path, "size": file.size }));
        view::json::document(&json!({ "version": 1, "run": id, "files": files.collect::<Vec<_>>() }));
    } else {
        print!("{}", view::run::files(id, kept()));
    }
    Ok(Done::Ok)
}

async fn fetch(
    api: &PipelineApi,
    id: RunId,
    (step, path): (&str, &str),
    folder: &Path,
) -> Result<(), Failure> {
    let inside = Path::new(path);
    // Whoever runs the server could send any name.
    if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(Failure::failed(format!("`{path}` is no path of a file"), "see what the server runs"));
    }
    let target = folder.join(step.replace(['/', ' '], "-")).join(inside);
    let query = [("step", step), ("path", path)];
    let mut pieces = api.bytes(&format!("runs/{id}/file"), &query).await.map_err(|error| failure(&error))?;
    let written = |error: std::io::Error| {
        Failure::failed(
            format!("writing {}: {error}", target.display()),
            "see that the folder can be written and has space",
        )
    };
    if let Some(parent) = target.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent).map_err(written)?;
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(&target)
        .map_err(written)?;
    while let Some(piece) = pieces.next().await {
        file.write_all(&piece.map_err(|error| failure(&error))?).map_err(written)?;
    }
    Ok(())
}
