//! How the instances on this machine fail, as their engine sees it.
//!
//! A container that ended is read at once: the engine removes it as soon as the managers have
//! forgotten its task, and its log goes with it.

use bollard::Docker;
use bollard::models::{ContainerState, EventMessage};
use bollard::query_parameters::LogsOptions;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};

use super::spec::TASK;
use crate::adapter::container_events::of_containers;
use crate::model::line::plain;
use crate::model::service::{Ended, Symptoms};

/// How many lines of a log are kept.
const LINES: usize = 20;
/// The most characters of each.
const LINE_MAX: usize = 200;

/// The tasks whose health check begins to fail, or whose container has ended, whether or not it
/// was meant to. The stream ends when the engine does.
pub fn stream(docker: &Docker) -> BoxStream<'static, (String, Symptoms)> {
    let docker = docker.clone();
    of_containers(&docker, &["health_status", "die"], None)
        .filter_map(move |event| {
            let docker = docker.clone();
            async move { of_event(&docker, event).await }
        })
        .boxed()
}

async fn of_event(docker: &Docker, event: EventMessage) -> Option<(String, Symptoms)> {
    let action = event.action?;
    let ended = action == "die";
    if !ended && !action.ends_with("unhealthy") {
        return None;
    }
    let actor = event.actor?;
    let task = actor.attributes?.get(TASK)?.clone();
    let container = actor.id?;
    let state = docker.inspect_container(&container, None).await.ok()?.state?;
    let lines = if ended { last_lines(docker, &container).await } else { Vec::new() };
    Some((task, of_state(state, ended.then_some(lines))))
}

/// What a container's state says; `lines` are those of one that has ended.
fn of_state(state: ContainerState, lines: Option<Vec<String>>) -> Symptoms {
    // The answers to an instance that was healthy are no reason for its end.
    let failing = state.health.as_ref().and_then(|health| health.failing_streak).unwrap_or(0) > 0;
    let answer = state.health.and_then(|health| health.log?.pop()?.output);
    let probe = answer.filter(|answer| failing && !answer.trim().is_empty());
    let ended = lines.map(|lines| Ended {
        exit: state.exit_code.unwrap_or_default(),
        error: state.error.filter(|error| !error.is_empty()),
        out_of_memory: state.oom_killed.unwrap_or_default(),
        lines,
    });
    Symptoms { probe, ended }
}

async fn last_lines(docker: &Docker, container: &str) -> Vec<String> {
    let options = LogsOptions { stdout: true, stderr: true, tail: LINES.to_string(), ..Default::default() };
    collected(docker.logs(container, Some(options)).filter_map(|line| async move {
        Some(String::from_utf8_lossy(&line.ok()?.into_bytes()).into_owned())
    }))
    .await
}

/// The last lines of a log, short and without what a terminal would obey.
pub(super) async fn collected(lines: impl Stream<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = lines
        .map(|line| {
            let line = plain(line.trim_end());
            line.chars().filter(|c| !matches!(c, '\r' | '\n')).take(LINE_MAX).collect()
        })
        .collect()
        .await;
    all.drain(..all.len().saturating_sub(LINES));
    all
}

#[cfg(test)]
mod tests {
    use bollard::models::{Health, HealthcheckResult};

    use super::*;

    #[test]
    fn a_healthy_answer_is_no_cause() {
        let state = |streak: i64, answer: &str| ContainerState {
            exit_code: Some(137),
            oom_killed: Some(true),
            health: Some(Health {
                failing_streak: Some(streak),
                log: Some(vec![HealthcheckResult { output: Some(answer.into()), ..Default::default() }]),
                ..Default::default()
            }),
            ..Default::default()
        };
        assert_eq!(of_state(state(3, "404 from /health"), None).probe.as_deref(), Some("404 from /health"));
        let seen = of_state(state(0, "200 from /health"), Some(vec!["killed".into()]));
        assert_eq!(seen.probe, None);
        assert_eq!(
            seen.ended,
            Some(Ended { exit: 137, error: None, out_of_memory: true, lines: vec!["killed".into()] })
        );
    }

    #[tokio::test]
    async fn lines_are_few_and_short() {
        let lines = (0..30).map(|number| format!("{number} \u{1b}[31m{}\n", "é".repeat(500)));
        let kept = collected(futures_util::stream::iter(lines)).await;
        assert_eq!((kept.len(), kept[0].chars().count()), (LINES, LINE_MAX));
        assert!(kept[0].starts_with("10 éé"), "{}", kept[0]);
    }
}
