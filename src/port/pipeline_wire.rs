//! What travels between the pipeline server and its callers, as JSON under /v1.
//!
//! Requests refuse fields that are not known. Answers may gain fields: an older caller passes them over.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::streams::Terminal;
use crate::model::name::{PipelineName, RepositoryName};
use crate::model::run::{Run, RunId, RunState};
use crate::model::step_log::LogLine;

/// The version of every answer.
pub const VERSION: u32 = 1;

/// Asks for a run of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The commit, branch or tag; the head of the watched branch where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Values of the pipeline's parameters, by their names; those that are not given have their defaults.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Asks for another try of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryRequest {
    /// The step to begin at, in a new run that takes over what it does not touch; all of the run where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Asks for a program in a container like that of a step that has failed. The answer begins a stream of
/// [frames](crate::model::frame).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShellRequest {
    /// The step.
    pub step: String,
    /// The program and its arguments; a shell where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Whether it gets a standard input.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub input: bool,
    /// Its terminal, if it gets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
}

/// Asks for the end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Why, in one line; shown with the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Answers a step that asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerRequest {
    /// The step, where several of the run ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Whether it may go on.
    pub approved: bool,
    /// `shown` of the step's state, as the caller has seen it; an answer to something else is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

/// A step was answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// Whether it may go on.
    pub approved: bool,
}

/// A pipeline that the server runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelineAnswer {
    /// Its name.
    pub name: PipelineName,
    /// The git repository that it runs for.
    pub repository: RepositoryName,
    /// The branch that is watched.
    pub branch: String,
    /// The names of its steps, in order, as they were when the server started.
    pub steps: Vec<String>,
    /// Its newest run.
    pub last: Option<Run>,
}

/// The pipelines, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PipelinesAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The pipelines.
    pub pipelines: Vec<PipelineAnswer>,
}

/// Runs, newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunsAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The runs.
    pub runs: Vec<Run>,
    /// What `before` is for those that follow; `None` when there are none.
    pub next: Option<RunId>,
}

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RunAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: Run,
}

/// A line of what a step has printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LineAnswer {
    /// Its number in the step's log, from 1.
    pub number: u64,
    /// When it came.
    pub at: DateTime<Utc>,
    /// Its text, without colours.
    pub text: String,
}

impl From<&LogLine> for LineAnswer {
    fn from(line: &LogLine) -> Self {
        Self { number: line.number, at: line.at, text: line.words() }
    }
}

/// Lines of a step, or those among them that were searched for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LinesAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// The step.
    pub step: String,
    /// How many lines the step's log has by now.
    pub total: u64,
    /// The lines, in order.
    pub lines: Vec<LineAnswer>,
    /// What `from` is for those that follow; `None` when there are none.
    pub next: Option<u64>,
}

/// A run was put into the queue, or back into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
}

/// A run was cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelledAnswer {
    /// [`VERSION`].
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// `cancelled`.
    pub state: RunState,
    /// Whether the cluster had been asked for a rollout, which continues.
    pub rollout_continues: bool,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The error.
    pub error: RefusalError,
}

/// The error of a [`Refusal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalError {
    /// Its kind, such as `not-found`.
    pub code: String,
    /// What happened, for people.
    pub message: String,
    /// What to do, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads<T: serde::de::DeserializeOwned + Serialize>(sample: &serde_json::Value) {
        let read: T = serde_json::from_value(sample.clone()).expect("an old sample loads");
        assert_eq!(&serde_json::to_value(read).expect("JSON"), sample);
    }

    #[test]
    fn every_sample_loads() {
        for (_, text) in crate::source::samples::of("pipeline-api") {
            let samples: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            loads::<RunRequest>(&samples["run_request"]);
            loads::<CancelRequest>(&samples["cancel_request"]);
            loads::<QueuedAnswer>(&samples["queued"]);
            // Answers came with the second sample.
            if let Some(sample) = samples.get("answer_request") {
                loads::<AnswerRequest>(sample);
                loads::<AnsweredAnswer>(&samples["answered"]);
            }
            // Retries from a step, and shells, came with the third.
            if let Some(sample) = samples.get("retry_request") {
                loads::<RetryRequest>(sample);
                loads::<ShellRequest>(&samples["shell_request"]);
            }
            loads::<CancelledAnswer>(&samples["cancelled"]);
            loads::<Refusal>(&samples["refusal"]);
        }
    }

    #[test]
    fn requests_refuse_what_they_do_not_know() {
        assert!(serde_json::from_str::<RunRequest>(r#"{"commit": "v1", "ref": "v1"}"#).is_err());
        assert!(serde_json::from_str::<CancelRequest>(r#"{"force": true}"#).is_err());
        assert_eq!(serde_json::from_str::<RunRequest>("{}").expect("all is optional"), RunRequest::default());
    }
}
