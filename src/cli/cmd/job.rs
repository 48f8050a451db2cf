//! `fleetwright job`.

use chrono::Utc;
use futures_util::StreamExt;
use serde_json::json;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::context::cluster::failure;
use crate::cli::failure::Failure;
use crate::cli::occurrences::{Followed, ended, follow, key, show};
use crate::model::job::{JobStatus, Jobs, Kind, Occurrence, OccurrenceId};
use crate::model::name::JobName;
use crate::port::cluster::ClusterError;
use crate::port::jobs::{JobCluster, Output};
use crate::view;

/// Lists and runs jobs, and shows their outcomes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Lists the jobs of the cluster: when they are due, and how they ended last
    #[command(after_long_help = "\
Examples:
  fleetwright job ls
  fleetwright job ls -o json     described in docs/json.md")]
    Ls,
    /// Runs a job now, outside of its schedule, and follows it
    #[command(after_long_help = "\
The job's own rules apply: its overlap with an occurrence that runs, its timeout and retries.
Exit status: 0 if it succeeded, 1 if not. Ctrl-C stops following; the job continues.

Examples:
  fleetwright job run nightly-report
  fleetwright job run nightly-report --no-wait")]
    Run {
        /// The job
        #[arg(value_name = "JOB")]
        job: JobName,

        /// Return as soon as it was accepted
        #[arg(long)]
        no_wait: bool,
    },
    /// Prints the output of a job's last occurrence, or of another one
    #[command(after_long_help = "\
The whole output of the last occurrence is kept for a day, as long as its machine lives; of earlier
ones the last lines are.

Examples:
  fleetwright job logs nightly-report
  fleetwright job logs nightly-report --occurrence 202611290200
  fleetwright job logs nightly-report --follow")]
    Logs {
        /// The job
        #[arg(value_name = "JOB")]
        job: JobName,

        /// The occurrence, as `job history` shows it
        #[arg(long, value_name = "ID")]
        occurrence: Option<String>,

        /// Follow it to its end
        #[arg(short, long)]
        follow: bool,
    },
    /// Shows the outcomes of a job's occurrences
    #[command(after_long_help = "\
Examples:
  fleetwright job history nightly-report
  fleetwright job history --commands         what `fleetwright run` ran
  fleetwright job history nightly-report -o json")]
    History {
        /// The job
        #[arg(value_name = "JOB", required_unless_present = "commands")]
        job: Option<JobName>,

        /// Show the commands that were run with services' images instead
        #[arg(long, conflicts_with = "job")]
        commands: bool,
    },
    /// Removes a job from the cluster; an occurrence that is running continues to its end
    #[command(
        visible_alias = "rm",
        after_long_help = "\
Needs the level admin. Remove it from jobs/ as well, or the next `deploy` deploys it again.

Examples:
  fleetwright job rm nightly-report"
    )]
    Remove {
        /// The job
        #[arg(value_name = "JOB")]
        job: JobName,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    match args.action {
        Action::Ls => ls(context).await,
        Action::Run { job, no_wait } => run_now(context, &job, no_wait).await,
        Action::Logs { job, occurrence, follow } => logs(context, &job, occurrence.as_deref(), follow).await,
        Action::History { job, .. } => history(context, job.as_ref()).await,
        Action::Remove { job } => remove(context, &job).await,
    }
}

async fn all(context: &Context) -> Result<Jobs, Failure> {
    context.cluster_api().await?.jobs().await.map_err(|error| failure(&error))
}

async fn ls(context: &Context) -> Result<Done, Failure> {
    let jobs = all(context).await?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "jobs": jobs.jobs }));
    } else {
        view::out::stdout(&view::jobs::list(&jobs.jobs, Utc::now()));
    }
    Ok(Done::Ok)
}

fn find<'j>(jobs: &'j Jobs, name: &JobName) -> Result<&'j JobStatus, Failure> {
    jobs.jobs
        .iter()
        .find(|job| job.name == *name)
        .ok_or_else(|| failure(&ClusterError::NotFound { what: "job", name: name.to_string() }))
}

async fn run_now(context: &Context, job: &JobName, no_wait: bool) -> Result<Done, Failure> {
    let cluster = context.cluster_api_to_change(&format!("fleetwright job run {job}")).await?;
    let id = OccurrenceId::asked(Kind::Job, job.as_str(), &key())
        .map_err(|error| Failure::failed(error.to_string(), "report this"))?;
    cluster.run_job(&id, None).await.map_err(|error| failure(&error))?;
    if no_wait {
        if !context.json() {
            eprintln!("{id} was accepted; `fleetwright job history {job}` shows its outcome");
        }
        return Ok(Done::Ok);
    }
    match follow(context, cluster.as_ref(), &id).await? {
        Followed::Ended(one) => ended(context, &one, &format!("job `{job}`")),
        Followed::Interrupted => Err(Failure::Interrupted {
            left: format!("job `{job}` continues; `fleetwright job logs {job} --follow` follows it again"),
        }),
    }
}

async fn logs(context: &Context, job: &JobName, key: Option<&str>, follows: bool) -> Result<Done, Failure> {
    let cluster = context.cluster_api().await?;
    let jobs = cluster.jobs().await.map_err(|error| failure(&error))?;
    let status = find(&jobs, job)?;
    let wanted = |one: &&Occurrence| match key {
        Some(key) => one.id.key == key || one.id.to_string() == key,
        None => one.attempts > 0,
    };
    let Some(one) = status.occurrences.iter().find(wanted) else {
        let message = match key {
            Some(key) => format!("job `{job}` has no occurrence `{key}`"),
            None => format!("job `{job}` has not run yet"),
        };
        return Err(Failure::usage(
            message,
            format!("`fleetwright job history {job}` lists those that are kept"),
        ));
    };
    if follows {
        return match follow(context, cluster.as_ref(), &one.id).await? {
            Followed::Ended(one) => ended(context, &one, &format!("job `{job}`")),
            Followed::Interrupted => Ok(Done::Ok),
        };
    }
    match cluster.occurrence_logs(&one.id, 100_000, false).await {
        Ok(mut lines) => {
            while let Some(line) = lines.next().await {
                show(context, &line.map_err(|error| failure(&error))?);
            }
        }
        Err(ClusterError::NotFound { .. }) => {
            if !context.json() {
                eprintln!("The container of {} is gone. Its last lines:", one.id);
            }
            one.lines.iter().for_each(|line| show(context, &Output::Out(line.clone())));
        }
        Err(error) => return Err(failure(&error)),
    }
    Ok(Done::Ok)
}

async fn history(context: &Context, job: Option<&JobName>) -> Result<Done, Failure> {
    let jobs = all(context).await?;
    let occurrences = match job {
        Some(job) => &find(&jobs, job)?.occurrences,
        None => &jobs.commands,
    };
    if context.json() {
        view::json::document(&json!({ "version": 1, "job": job, "occurrences": occurrences }));
    } else {
        view::out::stdout(&view::jobs::history(occurrences, Utc::now()));
    }
    Ok(Done::Ok)
}

async fn remove(context: &Context, job: &JobName) -> Result<Done, Failure> {
    let cluster = context.cluster_api_to_change(&format!("fleetwright job rm {job}")).await?;
    cluster.remove_job(job).await.map_err(|error| failure(&error))?;
    if context.json() {
        view::json::document(&json!({ "version": 1, "job": job, "removed": true }));
    } else {
        eprintln!("{job}   removed");
    }
    Ok(Done::Ok)
}
