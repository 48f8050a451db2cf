//! What callers of the pipeline server ask for: a run, another attempt, an end.

use std::collections::BTreeMap;

use super::queue::{self, Cancelled, Configure, announce, enqueue};
use super::run::{Parts, clear};
use crate::model::access::Level;
use crate::model::git_ref::GitRef;
use crate::model::name::PipelineName;
use crate::model::pipeline::{Action, Parameter, Pipeline, values};
use crate::model::run::{
    Answer, Run, RunId, RunState, RunStep, StepAction, StepState, Trigger, approve_name, job_name,
};
use crate::plan::kept::kept_until;
use crate::plan::retry_from::{Unfit, taken_over};
use crate::plan::run::Problem;
use crate::port::git::{Commit, GitError, GitSource};
use crate::port::images::ImageError;
use crate::port::journal::{JournalError, NewRun};
use crate::source::suggest;

/// The longest name of a commit, and the longest reason, in characters.
pub const TEXT_MAX: usize = 256;

/// A pipeline that this server works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its name.
    pub name: PipelineName,
    /// The repository and the branch that it runs for.
    pub source: GitSource,
    /// The names of its steps, in order.
    pub steps: Vec<String>,
    /// What its runs can be given.
    pub parameters: Vec<Parameter>,
}

/// The names that the steps of `pipeline` have in its runs.
pub fn step_names(pipeline: &Pipeline) -> Vec<String> {
    let names = pipeline.steps.iter().map(|step| match &step.action {
        Action::Build(build) => format!("build {}", build.image),
        Action::Run(script) => format!("run {}", script.name),
        Action::Approve(approve) => approve_name(&approve.name),
        Action::Job(run) => job_name(&run.job),
        Action::Infra(spec) => spec.shown(),
        Action::Rollout(rollout) => match rollout.services.as_slice() {
            [only] => format!("rollout {only}"),
            several => {
                let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
                format!("release {}", names.join(", "))
            }
        },
    });
    names.collect()
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the caller's token; `None` for the server's own.
    pub name: Option<String>,
}

impl Caller {
    /// Who it was, as a part of a sentence.
    pub fn words(&self) -> String {
        match &self.name {
            Some(name) => format!("by {name}"),
            None => "by hand".to_owned(),
        }
    }
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server works on no such pipeline.
    #[error("there is no pipeline `{name}`")]
    NoPipeline {
        /// The name.
        name: String,
        /// The pipelines that there are.
        known: Vec<String>,
    },
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// The values given are not those of the pipeline's parameters.
    #[error("{0}")]
    Parameters(String),
    /// No step of the run waits for an answer.
    #[error("no step of run {0} waits for an answer")]
    NothingAsked(RunId),
    /// Several steps of the run wait for an answer.
    #[error("several steps of run {run} wait for an answer: `{}`", .steps.join("`, `"))]
    WhichStep {
        /// The run.
        run: RunId,
        /// The steps.
        steps: Vec<String>,
    },
    /// What is asked is no longer what was shown.
    #[error("`{step}` of run {run} asks for something else than what was shown")]
    Moved {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
    },
    /// Somebody was faster.
    #[error("`{step}` of run {run} was answered by {by}")]
    Answered {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Who.
        by: String,
    },
    /// The caller may not answer.
    #[error("`{step}` of run {run} is for {level}s")]
    Level {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Who may.
        level: Level,
    },
    /// The text can't be the name of a commit, or is too long for a reason.
    #[error("{what} {rule}")]
    Unfit {
        /// The field.
        what: &'static str,
        /// What it must be.
        rule: String,
    },
    /// The run is still under way.
    #[error("run {run} is {}, and only a run that has ended can be retried", .state.word())]
    NotEnded {
        /// The run.
        run: RunId,
        /// Its state.
        state: RunState,
    },
    /// The run has ended.
    #[error("run {run} has ended: it is {}", .state.word())]
    Ended {
        /// The run.
        run: RunId,
        /// Its state.
        state: RunState,
    },
    /// The run has no such step.
    #[error("run {run} has no step `{step}`")]
    NoStep {
        /// The run.
        run: RunId,
        /// What was asked for.
        step: String,
        /// What to do.
        next: String,
    },
    /// Nothing of the run can be taken over.
    #[error(transparent)]
    NotFrom(#[from] Unfit),
    /// The workspace of the run is needed and is not there.
    #[error("the workspace of run {run}, which `{step}` needs, is gone{why}")]
    NoWorkspace {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Why, as the end of the sentence.
        why: String,
    },
    /// There is no shell in the step.
    #[error("there is no shell in `{step}` of run {run}: {why}")]
    NoShell {
        /// The run.
        run: RunId,
        /// The step.
        step: String,
        /// Why.
        why: String,
    },
    /// What the run would do now is not known.
    #[error("{0}")]
    Config(String),
    /// The engine can't be used.
    #[error(transparent)]
    Engine(ImageError),
    /// The repository has no such commit, or can't be read.
    #[error(transparent)]
    Git(GitError),
    /// What must not be shown is not known yet.
    #[error("{0}")]
    Secrets(String),
    /// The journal can't be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl RequestError {
    /// What the caller can do.
    pub fn next(&self) -> String {
        match self {
            Self::NoPipeline { name, known } => match suggest(name, known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if known.is_empty() => "add a file to pipelines/, and start the server again".to_owned(),
                None => format!(
                    "the server runs `{}`; start it again after a change of pipelines/",
                    known.join("`, `")
                ),
            },
            Self::NoRun(_) => "`fleetwright pipeline list` shows what there is".to_owned(),
            Self::Parameters(_) => "`fleetwright pipeline run --help` shows how they are given".to_owned(),
            Self::NothingAsked(run) => format!("`fleetwright pipeline show {run}` shows its steps"),
            Self::WhichStep { .. } => "name the step as well".to_owned(),
            Self::Moved { run, .. } => format!("see what is asked now: `fleetwright pipeline show {run}`"),
            Self::Answered { run, .. } => format!("`fleetwright pipeline show {run}` shows what follows"),
            Self::Level { .. } => "ask somebody who has such a token".to_owned(),
            Self::Unfit { .. } => "send another text".to_owned(),
            Self::NotEnded { run, .. } => format!("`fleetwright pipeline cancel {run}` ends it"),
            Self::NoStep { next, .. } => next.clone(),
            Self::NotFrom(Unfit::Quarantined(run)) => {
                format!("`fleetwright pipeline retry {run}` resumes it")
            }
            Self::NotFrom(Unfit::NeverBegan(run) | Unfit::Changed { run, .. })
            | Self::NoWorkspace { run, .. } => {
                format!("`fleetwright pipeline retry {run}` runs every step of its commit")
            }
            Self::NotFrom(Unfit::LeftOut { run, .. }) => {
                format!("`fleetwright pipeline show {run}` shows the others")
            }
            Self::NoShell { run, .. } => {
                format!(
                    "`fleetwright pipeline retry {run}` runs it again; its container is kept for an hour if it fails"
                )
            }
            Self::Config(_) => {
                "`fleetwright validate` on the server's machine shows what is wrong".to_owned()
            }
            Self::Engine(_) => "check that Docker runs on the server's machine".to_owned(),
            Self::Ended { .. } => "`fleetwright pipeline list` shows the others".to_owned(),
            Self::Git(GitError::NotFound { .. }) => {
                "push it first, or give another commit, branch or tag".to_owned()
            }
            Self::Git(error) => error
                .next()
                .unwrap_or("check that `git` on the server's machine can reach the repository")
                .to_owned(),
            Self::Secrets(_) => "check that the server can read the registry's credentials".to_owned(),
            Self::Journal(_) => "check that the server's data folder can be written and has space".to_owned(),
        }
    }
}

/// Puts a run of the pipeline called `name` into the queue, for `reference` or for the head of its branch.
///
/// # Errors
/// When there is no such pipeline or commit, or something can't be reached.
pub async fn start(
    parts: &Parts,
    offered: &[Offered],
    name: &str,
    wanted: Wanted,
    caller: &Caller,
) -> Result<RunId, RequestError> {
    let pipeline = find(offered, name)?;
    // Defaults are put in when the run begins; here it matters whether it could.
    values(&pipeline.parameters, &wanted.parameters).map_err(RequestError::Parameters)?;
    let source = &pipeline.source;
    let main = GitRef::branch(&source.branch);
    let named = match &wanted.commit {
        Some(named) => checked_reference(named)?,
        None => main.as_str(),
    };
    parts.git.fetch(source, &[]).await.map_err(RequestError::Git)?;
    let (reference, commit) = meant(parts, source, named).await?;
    learn(parts).await?;
    let new = NewRun {
        pipeline: pipeline.name.clone(),
        repository: pipeline.source.name.clone(),
        commit: commit.id,
        subject: commit.subject,
        trigger: Trigger::Hand,
        reference,
        parameters: wanted.parameters,
        asked_by: caller.name.clone(),
    };
    Ok(enqueue(parts, &new)?)
}

/// What a run is asked for of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The commit, branch or tag; the head of the watched branch where none is given.
    pub commit: Option<String>,
    /// Values of the pipeline's parameters, by their names.
    pub parameters: BTreeMap<String, String>,
}

/// The branch or tag of that name with its commit, or else the commit.
async fn meant(
    parts: &Parts,
    source: &GitSource,
    named: &str,
) -> Result<(Option<GitRef>, Commit), RequestError> {
    for prefix in ["", "refs/heads/", "refs/tags/"] {
        let Ok(reference) = GitRef::try_from(format!("{prefix}{named}")) else { continue };
        match parts.git.commit(&source.name, reference.as_str()).await {
            Ok(commit) => return Ok((Some(reference), commit)),
            Err(GitError::NotFound { .. }) => {}
            Err(error) => return Err(RequestError::Git(error)),
        }
    }
    Ok((None, parts.git.commit(&source.name, named).await.map_err(RequestError::Git)?))
}

/// An answer to a step that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The step, as `pipeline show` names it, where several ask.
    pub step: Option<String>,
    /// Whether it may go on.
    pub approved: bool,
    /// The hash of what the caller was shown; `None` for what is asked now.
    pub shown: Option<String>,
}

/// Answers a step of a run that asks; gives the step's name.
///
/// # Errors
/// When there is no such run or step, it asks for something else, or somebody has answered.
pub fn answer(
    parts: &Parts,
    id: RunId,
    reply: &Reply,
    (caller, level): (&Caller, Level),
) -> Result<String, RequestError> {
    let run = parts.journal.run(id)?.ok_or(RequestError::NoRun(id))?;
    let asking: Vec<(usize, &RunStep, &str)> = run
        .steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| match &step.state {
            StepState::Asking { shown, .. } => Some((index, step, shown.as_str())),
            _ => None,
        })
        .filter(|(_, step, _)| reply.step.as_deref().is_none_or(|wanted| is_called(&step.name, wanted)))
        .collect();
    let (index, step, shown) = match asking.as_slice() {
        [] => return Err(RequestError::NothingAsked(id)),
        [one] => *one,
        several => {
            let steps = several.iter().map(|(_, step, _)| step.name.clone()).collect();
            return Err(RequestError::WhichStep { run: id, steps });
        }
    };
    let name = step.name.clone();
    let question = run.config.as_ref().and_then(|config| config.steps.get(index));
    if let Some(StepAction::Approve(question)) = question
        && question.level > level
    {
        return Err(RequestError::Level { run: id, step: name, level: question.level });
    }
    if reply.shown.as_deref().is_some_and(|seen| seen != shown) {
        return Err(RequestError::Moved { run: id, step: name });
    }
    let by = caller.name.clone().unwrap_or_else(|| "the server's own token".to_owned());
    let answer = Answer { approved: reply.approved, shown: shown.to_owned(), by, at: chrono::Utc::now() };
    if !parts.journal.answer(id, index, &answer)? {
        let by = parts.journal.answered(id, index)?.map_or_else(String::new, |answer| answer.by);
        return Err(RequestError::Answered { run: id, step: name, by });
    }
    parts.ring();
    Ok(name)
}

/// Whether a step is meant: `production` is `approve production`.
pub fn is_called(step: &str, wanted: &str) -> bool {
    step == wanted || step.split_once(' ').is_some_and(|(_, short)| short == wanted)
}

/// Puts a quarantined run back into the queue, or a new run of the same commit where it has ended otherwise; gives
/// the run.
///
/// # Errors
/// When there is no such run, it has not ended, or the server does not work on its pipeline any more.
pub async fn retry(
    parts: &Parts,
    offered: &[Offered],
    id: RunId,
    caller: &Caller,
) -> Result<RunId, RequestError> {
    let run = parts.journal.run(id)?.ok_or(RequestError::NoRun(id))?;
    find(offered, run.pipeline.as_str())?;
    if !run.state.is_ended() {
        return Err(RequestError::NotEnded { run: id, state: run.state });
    }
    learn(parts).await?;
    let Run { pipeline, repository, commit, subject, reference, parameters, .. } = run;
    // Who asks says nothing about who has pushed the commit.
    let own = run.trigger == Trigger::OwnPullRequest;
    let trigger = if own { Trigger::OwnPullRequest } else { Trigger::Hand };
    let asked_by = caller.name.clone();
    let again = NewRun { pipeline, repository, commit, subject, trigger, reference, parameters, asked_by };
    if queue::retry(parts, id)? {
        announce(parts, id, &again)?;
        return Ok(id);
    }
    Ok(enqueue(parts, &again)?)
}

/// Puts a new run of the same commit into the queue that takes over what the step called `from` does not touch; gives
/// the run.
///
/// # Errors
/// When there is no such run or step, the run has not ended, the pipeline has changed, or the workspace is gone.
pub async fn retry_from(
    parts: &Parts,
    offered: &[Offered],
    configure: &dyn Configure,
    (id, from): (RunId, &str),
    caller: &Caller,
) -> Result<RunId, RequestError> {
    let run = parts.journal.run(id)?.ok_or(RequestError::NoRun(id))?;
    find(offered, run.pipeline.as_str())?;
    if !run.state.is_ended() {
        return Err(RequestError::NotEnded { run: id, state: run.state });
    }
    let (index, _) = step_called(&run, from)?;
    learn(parts).await?;
    // As the run itself began: its conditions are judged by what had started it.
    let fresh = Run { config: None, trigger: first_trigger(parts, &run)?, ..run.clone() };
    let mut config = configure.config(&fresh).await.map_err(RequestError::Config)?;
    let taken = taken_over(&run, &config, index)?;
    if taken.workspace && !parts.steps.has_workspace(id).await.map_err(RequestError::Engine)? {
        let why = match kept_until(&run) {
            None => format!(": run {id} is {}, and only that of a failed run is kept", run.state.word()),
            Some(until) if until < chrono::Utc::now() => {
                format!(": it was kept until {}", until.format("%Y-%m-%d %H:%M UTC"))
            }
            Some(_) => " from this engine: the disk was full, or another engine has run it".to_owned(),
        };
        return Err(RequestError::NoWorkspace { run: id, step: taken.from, why });
    }
    config.taken = Some(taken);
    let Run { pipeline, repository, commit, subject, reference, parameters, .. } = run;
    let (trigger, asked_by) = (Trigger::Hand, caller.name.clone());
    let again = NewRun { pipeline, repository, commit, subject, trigger, reference, parameters, asked_by };
    let new = parts.journal.enqueue_as(chrono::Utc::now(), &again, &config)?;
    announce(parts, new, &again)?;
    Ok(new)
}

/// What started the run whose results a chain of retries from steps has taken over.
fn first_trigger(parts: &Parts, run: &Run) -> Result<Trigger, JournalError> {
    let mut first = run.clone();
    while let Some(taken) = first.config.as_ref().and_then(|config| config.taken.as_ref()) {
        match parts.journal.run(taken.run)? {
            // Runs are taken over by later ones only, so this ends.
            Some(earlier) if earlier.id < first.id => first = earlier,
            _ => break,
        }
    }
    Ok(first.trigger)
}

/// The position and the name of the step that is meant: `test` is `run test`, where no step is called `test`.
///
/// # Errors
/// When there is none.
pub fn step_called<'r>(run: &'r Run, name: &str) -> Result<(usize, &'r str), RequestError> {
    let names: Vec<&str> = run.steps.iter().map(|step| step.name.as_str()).collect();
    let whole = names.iter().position(|known| *known == name);
    if let Some(index) = whole.or_else(|| names.iter().position(|known| is_called(known, name))) {
        return Ok((index, names[index]));
    }
    let shorts = names.iter().filter_map(|name| Some(name.split_once(' ')?.1));
    let next = match suggest(name, shorts.chain(names.iter().copied())) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => "it has not begun; `fleetwright pipeline list` shows it".to_owned(),
        None => format!("it has `{}`", names.join("`, `")),
    };
    Err(RequestError::NoStep { run: run.id, step: name.to_owned(), next })
}

/// Ends a run; says whether the cluster had been asked for a rollout, which continues.
///
/// # Errors
/// When there is no such run, or it has ended.
pub async fn cancel(
    parts: &Parts,
    id: RunId,
    reason: Option<&str>,
    caller: &Caller,
) -> Result<bool, RequestError> {
    let who = format!("cancelled {}", caller.words());
    let reason = match reason.map(str::trim).filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{who}: {}", checked_reason(reason)?),
        None => who,
    };
    match queue::cancel(parts, id, &reason)? {
        Cancelled::Unknown => Err(RequestError::NoRun(id)),
        Cancelled::Ended(state) => Err(RequestError::Ended { run: id, state }),
        Cancelled::Done { rolls_out } => {
            // Where no process works on it, as on a quarantined one, nothing else stops its commands.
            if let Some(run) = parts.journal.run(id)? {
                clear(parts, &run).await;
            }
            Ok(rolls_out)
        }
    }
}

fn find<'o>(offered: &'o [Offered], name: &str) -> Result<&'o Offered, RequestError> {
    let found = offered.iter().find(|pipeline| pipeline.name.as_str() == name);
    found.ok_or_else(|| RequestError::NoPipeline {
        name: name.to_owned(),
        known: offered.iter().map(|pipeline| pipeline.name.to_string()).collect(),
    })
}

async fn learn(parts: &Parts) -> Result<(), RequestError> {
    // The commit's subject goes into the journal.
    parts.learn().await.map_err(|Problem { reason, .. }| RequestError::Secrets(reason))
}

/// A commit, branch or tag. Expressions such as `main@{1}` or `:/text` are not names.
fn checked_reference(text: &str) -> Result<&str, RequestError> {
    let fits = !text.is_empty()
        && text.chars().count() <= TEXT_MAX
        && !text.starts_with(['-', '/', '.'])
        && !text.contains("..")
        && !text.contains("@{")
        && text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !"~^:?*[\\".contains(c));
    match fits {
        true => Ok(text),
        false => Err(RequestError::Unfit {
            what: "`commit`",
            rule: format!("must be a commit, a branch or a tag of at most {TEXT_MAX} characters"),
        }),
    }
}

fn checked_reason(text: &str) -> Result<&str, RequestError> {
    let fits = text.chars().count() <= TEXT_MAX && !text.chars().any(char::is_control);
    match fits {
        true => Ok(text),
        false => Err(RequestError::Unfit {
            what: "`reason`",
            rule: format!("must be one line of at most {TEXT_MAX} characters"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(names: &[&str]) -> Vec<Offered> {
        let one = |name: &&str| Offered {
            name: name.parse().expect("a name"),
            source: GitSource {
                name: "web".parse().expect("a name"),
                url: "https://git.example/web".into(),
                branch: "main".into(),
            },
            steps: Vec::new(),
            parameters: Vec::new(),
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn a_pipeline_is_found_by_its_name_and_a_near_one_is_suggested() {
        let all = offered(&["web", "api"]);
        assert_eq!(find(&all, "api").expect("it is there").name.as_str(), "api");
        let error = find(&all, "wep").expect_err("there is none");
        assert_eq!(error.to_string(), "there is no pipeline `wep`");
        assert_eq!(error.next(), "did you mean `web`?");
        assert!(find(&all, "zzzzzz").expect_err("none").next().contains("`web`, `api`"));
        assert!(find(&[], "web").expect_err("none").next().contains("pipelines/"));
    }

    #[test]
    fn only_names_of_commits_reach_git() {
        for good in ["main", "v1.2", "feature/x", "4b1d0e7", "refs/tags/v1", "HEAD", "müller"] {
            assert!(checked_reference(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-x",
            "a b",
            "main@{1}",
            "main..x",
            ":/fix",
            "v1^{}",
            "HEAD~1",
            "a\n",
            "/etc",
            &"x".repeat(300),
        ] {
            assert!(checked_reference(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reason_is_one_line() {
        assert!(checked_reason("wrong branch, sorry").is_ok());
        assert!(checked_reason("two\nlines").is_err());
        assert!(checked_reason(&"x".repeat(257)).is_err());
    }
}
