//! Runs of pipelines: a line for each thing that happens, and the list of the last ones.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::paint::{BAD, BOLD, CHANGE, DIM, GOOD, Paint};
use super::table::table;
use super::time::human;
use super::words::count;
use crate::event::pipeline::PipelineEvent;
use crate::event::rollout::RolloutEvent;
use crate::model::name::{CommitId, PipelineName};
use crate::model::run::{Run, RunId, RunState};
use crate::model::service::RevisionState;

/// Turns events into lines; it remembers which pipeline a run belongs to.
#[derive(Debug)]
pub struct Lines {
    paint: Paint,
    pipelines: BTreeMap<RunId, PipelineName>,
}

impl Lines {
    /// With or without colour.
    pub fn new(paint: Paint) -> Self {
        Self { paint, pipelines: BTreeMap::new() }
    }

    /// The line for an event; `None` when it says nothing that the others don't.
    pub fn line(&mut self, event: &PipelineEvent) -> Option<String> {
        let paint = self.paint;
        let run = event.run();
        if let PipelineEvent::Queued { pipeline, .. }
        | PipelineEvent::Started { pipeline, .. }
        | PipelineEvent::Resumed { pipeline, .. }
        | PipelineEvent::Finished { pipeline, .. } = event
        {
            self.pipelines.insert(run, pipeline.clone());
        }
        let who = match self.pipelines.get(&run) {
            Some(pipeline) => format!("{pipeline} #{run}"),
            None => format!("#{run}"),
        };
        let text = match event {
            PipelineEvent::Queued { commit, subject, trigger, by, .. } => match by {
                Some(by) => format!("queued by {}: {}", printable(by), change(commit, subject)),
                None => format!("queued {}: {}", trigger.words(), change(commit, subject)),
            },
            PipelineEvent::Started { commit, subject, .. } => format!("started: {}", change(commit, subject)),
            PipelineEvent::Resumed { step: Some(step), .. } => format!("is resumed at {step}"),
            PipelineEvent::Resumed { step: None, .. } => "is resumed".to_owned(),
            PipelineEvent::StepStarted { .. } => return None,
            PipelineEvent::NothingToBuild { step, digest, same_as, .. } => format!(
                "{step}   nothing to build: same tree as {} (run {}), {}",
                same_as.commit.short(),
                same_as.run,
                digest.short()
            ),
            PipelineEvent::Building { step, key, files, .. } => {
                format!("{step}   building {} from {}", key.short(), count(*files, "file"))
            }
            PipelineEvent::Pushing { step, reference, .. } => {
                let (name, tag) = reference.rsplit_once(':').unwrap_or((reference, ""));
                format!("{step}   pushing {name}:{}", tag.get(..10).unwrap_or(tag))
            }
            PipelineEvent::Pushed { step, digest, .. } => format!("{step}   pushed {}", digest.short()),
            PipelineEvent::Rollout { step, rollout, .. } => format!("{step}   {}", rollout_words(rollout)?),
            PipelineEvent::Log { step, text, .. } => {
                format!("{step}   {}", paint.paint(DIM, &format!("| {}", printable(text))))
            }
            PipelineEvent::Asking { step, message, .. } => {
                let answer = format!("`fleetwright pipeline approve {run}` or `reject {run}`");
                format!("{step}   {}", paint.paint(CHANGE, &format!("{}; {answer}", printable(message))))
            }
            PipelineEvent::Retrying { step, reason, attempt, seconds, .. } => paint.paint(
                CHANGE,
                &match *seconds > 0.0 {
                    true => {
                        let time = human_seconds(*seconds);
                        format!("{step}   {}; try {attempt} in {time}", printable(reason))
                    }
                    false => format!("{step}   {}; try {attempt}", printable(reason)),
                },
            ),
            PipelineEvent::StepFinished { step, outcome, seconds, reason, .. } => {
                let took = human_seconds(*seconds);
                match (outcome.as_str(), reason) {
                    ("succeeded", Some(reason)) => {
                        format!("{step}   {} {}", paint.paint(GOOD, "✓"), printable(reason))
                    }
                    ("succeeded", None) => format!("{step}   {} {took}", paint.paint(GOOD, "✓")),
                    (outcome, Some(reason)) => {
                        let words = format!("✗ {outcome}: {}", printable(reason));
                        format!("{step}   {} {took}", paint.paint(BAD, &words))
                    }
                    (outcome, None) => format!("{step}   {outcome} {took}"),
                }
            }
            PipelineEvent::Shell { step, by, program, .. } => {
                let text = format!("{} runs `{}` in its container", printable(by), printable(program));
                format!("{step}   {}", paint.paint(CHANGE, &text))
            }
            PipelineEvent::Finished { state, seconds, reason, .. } => {
                let (mark, style) = mark(*state);
                let took = human_seconds(*seconds);
                let words = paint.paint(style, &format!("{mark} {}", state.word()));
                // Of a failure the step has just said why.
                match reason {
                    Some(reason) if *state != RunState::Failed || *seconds == 0.0 => {
                        format!("{words}: {}", printable(reason))
                    }
                    _ => format!("{words} after {took}"),
                }
            }
        };
        Some(format!("{}  {text}", paint.paint(BOLD, &who)))
    }
}

/// What a rollout event says.
fn rollout_words(event: &RolloutEvent) -> Option<String> {
    Some(match event {
        RolloutEvent::Started { service, revision, digest } => {
            format!("`{service}` revision {revision}, {}", digest.short())
        }
        RolloutEvent::PreDeploy { revision, state, .. } => {
            format!("revision {revision}: pre_deploy {}", state.label())
        }
        RolloutEvent::Progress { revision, healthy, desired, .. } => {
            format!("revision {revision}: {healthy}/{desired} healthy")
        }
        RolloutEvent::Ended { revision, state: RevisionState::RolledBack, reason, .. } => {
            let why = reason.as_deref().map(|reason| format!(": {}", printable(reason))).unwrap_or_default();
            format!("revision {revision} is rolled back{why}")
        }
        // The step's own end says the rest.
        RolloutEvent::Ended { .. } => return None,
    })
}

fn mark(state: RunState) -> (&'static str, anstyle::Style) {
    match state {
        RunState::Succeeded => ("✓", GOOD),
        RunState::Failed | RunState::Quarantined => ("✗", BAD),
        RunState::Cancelled | RunState::Superseded => ("-", DIM),
        RunState::Queued | RunState::Running => ("…", CHANGE),
    }
}

fn change(commit: &CommitId, subject: &str) -> String {
    format!("{} \"{}\"", commit.short(), printable(subject))
}

/// What others wrote, without characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

fn human_seconds(seconds: f64) -> String {
    human(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// How long a run has taken, or has taken so far.
pub fn took(run: &Run, now: DateTime<Utc>) -> Option<Duration> {
    let started = run.started?;
    (run.ended.unwrap_or(now) - started).to_std().ok()
}

/// The last runs, one a line, in columns.
pub fn list(runs: &[Run], now: DateTime<Utc>) -> String {
    if runs.is_empty() {
        return "No pipeline has run yet; `fleetwright serve` or `fleetwright pipeline run NAME` begins.\n"
            .to_owned();
    }
    let mut rows = Vec::new();
    for run in runs {
        let ago = (now - run.started.unwrap_or(run.queued)).to_std().unwrap_or_default();
        let subject = printable(&run.subject);
        rows.push(vec![
            run.id.to_string(),
            run.pipeline.to_string(),
            run.commit.short().to_owned(),
            run.state.word().to_owned(),
            format!("{} ago", human(ago)),
            took(run, now).map_or_else(|| "-".to_owned(), human),
            match &run.reason {
                Some(reason) => format!("{subject}   ({})", printable(reason)),
                None => subject,
            },
        ]);
    }
    table(&["RUN", "PIPELINE", "COMMIT", "STATE", "STARTED", "TOOK", "SUBJECT"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::run::{SameAs, Trigger};

    fn run(id: i64, state: RunState, reason: Option<&str>) -> Run {
        let at = |second| DateTime::from_timestamp(1_700_000_000 + second, 0);
        Run {
            id: RunId(id),
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "4b1d0e7".repeat(6)[..40].replace('h', "a").parse().expect("a commit"),
            subject: "faster search".into(),
            trigger: Trigger::Poll,
            reference: None,
            parameters: Default::default(),
            asked_by: None,
            state,
            reason: reason.map(str::to_owned),
            queued: at(id).expect("a time"),
            started: if state == RunState::Queued { None } else { at(id + 1) },
            ended: if state.is_ended() { at(id + 9) } else { None },
            config: None,
            steps: Vec::new(),
        }
    }

    #[test]
    fn a_run_reads_as_lines() {
        let step = || "build demo/web".to_owned();
        let one = run(12, RunState::Running, None);
        let digest: crate::model::name::Digest =
            format!("sha256:{}41ab", "9f2c".repeat(15)).parse().expect("a digest");
        let key: crate::model::name::ImageKey = format!("k-{}", "5b63".repeat(16)).parse().expect("a key");
        let events = [
            PipelineEvent::Queued {
                run: one.id,
                pipeline: one.pipeline.clone(),
                commit: one.commit.clone(),
                subject: "faster \u{1b}[31msearch".into(),
                trigger: Trigger::Poll,
                by: None,
            },
            PipelineEvent::Building { run: one.id, step: step(), key: key.clone(), files: 1 },
            PipelineEvent::Log { run: one.id, step: step(), text: "Step 1/2 : FROM scratch".into() },
            PipelineEvent::Pushing {
                run: one.id,
                step: step(),
                reference: format!("127.0.0.1:5/demo/web:{key}"),
            },
            PipelineEvent::Retrying {
                run: one.id,
                step: step(),
                reason: "the registry is away".into(),
                attempt: 2,
                seconds: 1.0,
            },
            PipelineEvent::Pushed { run: one.id, step: step(), digest: digest.clone() },
            PipelineEvent::NothingToBuild {
                run: one.id,
                step: step(),
                key,
                digest,
                same_as: SameAs { run: RunId(3), commit: one.commit.clone() },
            },
            PipelineEvent::StepFinished {
                run: one.id,
                step: step(),
                outcome: "failed".into(),
                seconds: 3.2,
                reason: Some("Dockerfile:5: `RUN x`: it failed".into()),
            },
            PipelineEvent::Finished {
                run: one.id,
                pipeline: one.pipeline.clone(),
                state: RunState::Failed,
                seconds: 14.0,
                reason: Some("build demo/web: Dockerfile:5: `RUN x`: it failed".into()),
            },
        ];
        let mut lines = Lines::new(Paint(false));
        let text: Vec<_> = events.iter().filter_map(|event| lines.line(event)).collect();
        insta::assert_snapshot!(text.join("\n"));
    }

    #[test]
    fn the_last_runs_are_a_table() {
        let runs = [
            run(13, RunState::Queued, None),
            run(12, RunState::Failed, Some("build demo/web: Dockerfile:5: `RUN x`: it failed")),
            run(9, RunState::Succeeded, None),
        ];
        let now = DateTime::from_timestamp(1_700_000_060, 0).expect("a time");
        insta::assert_snapshot!(list(&runs, now));
    }
}
