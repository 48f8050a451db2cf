//! Whom a pipeline notifies of its runs, and when. Pure.

use serde::Serialize;

use super::notify::escaped;
use crate::model::git_ref::GitRef;
use crate::model::notify::Form;
use crate::model::pipeline::{Notice, RunNews};
use crate::model::run::{Run, RunId, RunState, StepState};

/// The version of the messages.
pub const NEWS_VERSION: u32 = 1;

/// How far the messages of a pipeline to a receiver have come: the last run whose end it knows, and the last question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivered {
    /// That run.
    pub ended: i64,
    /// The run and the position of the step that asked.
    pub asked: (i64, usize),
}

impl Delivered {
    /// As a text that is kept.
    pub fn text(self) -> String {
        format!("{} {} {}", self.ended, self.asked.0, self.asked.1)
    }

    /// From a text that was kept; of anything else nothing is known.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let ended = words.next()?.parse().ok()?;
        let asked = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { ended, asked })
    }

    /// Where a receiver begins that is new: with what comes from now on.
    pub fn begin(runs: &[Run]) -> Self {
        let ended = runs.iter().filter(|run| run.state.is_ended()).map(|run| run.id.0).max();
        Self { ended: ended.unwrap_or_default(), asked: (0, 0) }
    }
}

/// Something to be said, and the progress that is recorded then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// What.
    pub what: RunNews,
    /// The run.
    pub run: RunId,
    /// The step that asks.
    pub step: Option<String>,
    /// What is asked.
    pub question: Option<String>,
    /// The progress when it has arrived.
    pub then: Delivered,
}

/// What a receiver is to be sent next, and `None` for `news` where it only makes progress; `runs` are those of one pipeline, in
/// any order.
pub fn next(notice: &Notice, runs: &[Run], delivered: Delivered) -> Option<(Option<News>, Delivered)> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    sorted.sort_by_key(|run| run.id);
    for run in &sorted {
        if run.state == RunState::Running
            && let Some((index, step)) =
                run.steps.iter().enumerate().find(|(_, step)| matches!(step.state, StepState::Asking { .. }))
            && (run.id.0, index) > delivered.asked
        {
            let then = Delivered { asked: (run.id.0, index), ..delivered };
            let news = News {
                what: RunNews::Asking,
                run: run.id,
                step: Some(step.name.clone()),
                question: question(run, index),
                then,
            };
            return Some((notice.on.contains(&RunNews::Asking).then_some(news), then));
        }
    }
    // Runs of a pipeline end in their order, those that never began excepted.
    let run = sorted.iter().find(|run| run.id.0 > delivered.ended && run.state.is_ended())?;
    if sorted.iter().any(|other| other.id < run.id && other.id.0 > delivered.ended && !other.state.is_ended())
    {
        return None;
    }
    let then = Delivered { ended: run.id.0, ..delivered };
    let before = sorted.iter().rev().find(|other| {
        other.id < run.id
            && of(other) == of(run)
            && matches!(other.state, RunState::Succeeded | RunState::Failed)
    });
    let fixed = before.is_some_and(|before| before.state == RunState::Failed);
    let what = match run.state {
        RunState::Succeeded if fixed && notice.on.contains(&RunNews::Fixed) => RunNews::Fixed,
        RunState::Succeeded => RunNews::Succeeded,
        RunState::Failed | RunState::Quarantined => RunNews::Failed,
        RunState::Cancelled => RunNews::Cancelled,
        RunState::Queued | RunState::Running | RunState::Superseded => return Some((None, then)),
    };
    let news = News { what, run: run.id, step: None, question: None, then };
    Some((notice.on.contains(&what).then_some(news), then))
}

/// What runs have to share to be compared: a branch that is mended does not mend another one.
fn of(run: &Run) -> Option<&GitRef> {
    run.reference.as_ref()
}

fn question(run: &Run, index: usize) -> Option<String> {
    use crate::model::run::StepAction;
    match run.config.as_ref()?.steps.get(index)? {
        StepAction::Approve(question) => Some(question.message.clone()),
        _ => None,
    }
}

/// The JSON document, described in docs/json.md.
#[derive(Debug, Serialize)]
struct Body<'a> {
    version: u32,
    event: RunNews,
    project: &'a str,
    environment: &'a str,
    pipeline: &'a str,
    run: i64,
    repository: &'a str,
    commit: &'a str,
    subject: &'a str,
    reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<&'a str>,
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    text: String,
}

/// Where a run is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project.
    pub project: &'a str,
    /// The environment.
    pub environment: &'a str,
    /// The address of the page, where others can reach it.
    pub server: Option<&'a str>,
}

/// The body of a message.
pub fn body(form: Form, place: Place<'_>, run: &Run, news: &News) -> String {
    let link = place.server.map(|server| format!("{}/runs/{}", server.trim_end_matches('/'), run.id));
    let text = sentence(run, news);
    let value = match form {
        Form::Slack => {
            let mut text = escaped(&format!("[{} {}] {text}", place.project, place.environment));
            if let Some(link) = &link {
                text.push_str(&format!(" <{link}|run {}>", run.id));
            }
            serde_json::json!({ "text": text })
        }
        Form::Json => serde_json::json!(Body {
            version: NEWS_VERSION,
            event: news.what,
            project: place.project,
            environment: place.environment,
            pipeline: run.pipeline.as_str(),
            run: run.id.0,
            repository: run.repository.as_str(),
            commit: run.commit.as_str(),
            subject: &run.subject,
            reference: run.reference.as_ref().map(GitRef::as_str),
            step: news.step.as_deref(),
            question: news.question.as_deref(),
            reason: run.reason.as_deref(),
            link,
            text,
        }),
    };
    value.to_string()
}

fn sentence(run: &Run, news: &News) -> String {
    let short: String = run.commit.as_str().chars().take(10).collect();
    let of = match &run.reference {
        Some(reference) => format!("{short} ({reference}): {}", run.subject),
        None => format!("{short}: {}", run.subject),
    };
    let reason = run.reason.as_deref().map(|reason| format!(". {reason}")).unwrap_or_default();
    let name = &run.pipeline;
    match news.what {
        RunNews::Asking => {
            let question = news.question.as_deref().unwrap_or("somebody has to approve it");
            format!("`{name}` waits for approval: {question} {of}")
        }
        RunNews::Failed => format!("`{name}` failed at {of}{reason}"),
        RunNews::Fixed => format!("`{name}` succeeds again at {of}"),
        RunNews::Succeeded => format!("`{name}` succeeded at {of}"),
        RunNews::Cancelled => format!("`{name}` was cancelled at {of}{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::run::tests::queued_run;

    fn run(id: i64, state: RunState) -> Run {
        Run { state, reason: None, ..queued_run(id) }
    }

    fn notice(on: &[RunNews]) -> Notice {
        Notice { form: Form::Json, parameter: "/team/hook".to_owned(), on: on.to_vec() }
    }

    /// What is sent of runs until nothing is left.
    fn all(notice: &Notice, runs: &[Run]) -> Vec<(i64, RunNews)> {
        let (mut delivered, mut sent) = (Delivered::default(), Vec::new());
        while let Some((news, then)) = next(notice, runs, delivered) {
            assert_ne!(then, delivered, "it makes progress");
            sent.extend(news.map(|news| (news.run.0, news.what)));
            delivered = then;
        }
        sent
    }

    #[test]
    fn each_end_is_said_once_and_a_success_after_a_failure_is_a_fix() {
        use RunState::{Failed, Running, Succeeded, Superseded};
        let runs: Vec<Run> = [Succeeded, Failed, Superseded, Failed, Succeeded, Succeeded, Running]
            .into_iter()
            .zip(1..8_i32)
            .map(|(state, id)| run(id.into(), state))
            .rev()
            .collect();
        let usual = notice(&[RunNews::Failed, RunNews::Fixed]);
        assert_eq!(all(&usual, &runs), [(2, RunNews::Failed), (4, RunNews::Failed), (5, RunNews::Fixed)]);
        let every = notice(&[RunNews::Succeeded]);
        assert_eq!(
            all(&every, &runs),
            [(1, RunNews::Succeeded), (5, RunNews::Succeeded), (6, RunNews::Succeeded)]
        );
        assert_eq!(next(&usual, &runs, Delivered::begin(&runs)), None, "what was before is not news");
    }

    #[test]
    fn an_end_waits_for_that_of_an_earlier_run() {
        let runs = [run(1, RunState::Running), run(2, RunState::Cancelled)];
        assert_eq!(all(&notice(&[RunNews::Cancelled]), &runs), []);
    }

    #[test]
    fn how_far_it_is_can_be_kept() {
        let delivered = Delivered { ended: 7, asked: (8, 2) };
        assert_eq!(Delivered::read(&delivered.text()), Some(delivered));
        for bad in ["", "1", "1 2", "1 2 3 4", "a b c"] {
            assert_eq!(Delivered::read(bad), None);
        }
    }

    #[test]
    fn messages_have_a_sentence_and_a_link() {
        let failed = Run { reason: Some("run test: exit status 1".into()), ..run(7, RunState::Failed) };
        let news = News {
            what: RunNews::Failed,
            run: failed.id,
            step: None,
            question: None,
            then: Delivered::default(),
        };
        let place = Place { project: "shop", environment: "test", server: Some("https://ci.example/") };
        insta::assert_snapshot!(body(Form::Slack, place, &failed, &news));
        insta::assert_snapshot!(body(Form::Json, place, &failed, &news));
    }
}
