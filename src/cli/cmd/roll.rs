//! `fleetwright roll`.

use std::sync::Arc;

use crate::cli::Done;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::stacks::{Session, ask, cloud_failure};
use crate::driver::follow::Pace;
use crate::driver::roll::{Roll, RollFailure};
use crate::model::group::Group;
use crate::model::machine::Role;
use crate::model::name::VolumeName;
use crate::model::stack::{ENVIRONMENT_TAG, PROJECT_TAG};
use crate::plan::roll::{Options, RollError, candidates, intent};
use crate::port::cluster::{Cluster, ClusterError};
use crate::source::suggest;
use crate::view;

/// The tag that says what a group's machines do in their cluster.
const ROLE_TAG: &str = "fleetwright:role";

/// Replaces a group's machines, new ones first, each drained before it goes
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Replaces the machines that were launched from another launch template version than the group's
present one. A batch of new machines comes first; when they are ready members of the cluster, as
many old ones are drained, and terminated once they run nothing and every service is whole.
Control machines are replaced one at a time. Stopped or killed, it can be run again and goes on.

Examples:
  fleetwright roll workers
  fleetwright roll workers --batch 3     three at a time
  fleetwright roll control --all -y      every machine, without asking")]
pub struct Args {
    /// The stack whose group is rolled
    #[arg(value_name = "GROUP")]
    group: String,

    /// How many machines are replaced at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,

    /// A volume on these machines whose data may be lost; may be given several times
    #[arg(long, value_name = "VOLUME")]
    lose_volume: Vec<VolumeName>,

    /// Replace every machine, not only those of another version
    #[arg(long)]
    all: bool,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> Result<Done, Failure> {
    let session = Session::changing(context, &[], &format!("fleetwright roll {}", args.group)).await?;
    let group = find(&session, &args.group).await?;
    let role = role(&group)?;
    let undecided = |error: RollError| failure(&args.group, RollFailure::Undecided(error));
    let under_way = intent(&group).map_err(undecided)?.is_some();
    let old = candidates(&group, args.all).map_err(undecided)?;
    if old.is_empty() && !under_way {
        if !context.json() {
            let version = group.launch_template.as_ref().map_or("its", |t| t.version.as_str());
            eprintln!(
                "Every machine of {} has launch template version {version}: nothing to roll.",
                args.group
            );
        }
        return Ok(Done::Ok);
    }
    if !context.json() {
        let names: Vec<String> = old.iter().map(ToString::to_string).collect();
        eprintln!("{}", view::roll::question(&group.name, &names, args.batch, role == Role::Control));
    }
    if !args.yes {
        let command = format!("fleetwright roll {}", args.group);
        match ask("Roll them? [y/N]", &command, &session.stop).await? {
            Some(answer) if matches!(answer.as_str(), "y" | "Y" | "yes") => {}
            Some(_) | None => return Err(Failure::Interrupted { left: "nothing was changed".to_owned() }),
        }
    }
    let cluster: Arc<dyn Cluster> = context.cluster_of(&session.repository, session.environment()?).await?;
    let roll = Roll {
        lose: args.lose_volume,
        groups: Arc::clone(&session.groups),
        cluster,
        events: session.events.clone(),
        group: group.name.clone(),
        role,
        options: Options { batch: args.batch, all: args.all },
        pace: Pace::adaptive(),
        stop: session.stop.clone(),
    };
    let rolled = roll.run().await;
    drop(roll);
    drop(session.flush(context).await);
    match rolled {
        Ok(_) => Ok(Done::Ok),
        Err(error) => Err(failure(&args.group, error)),
    }
}

async fn find(session: &Session, name: &str) -> Result<Group, Failure> {
    let known: Vec<&str> = session.wanted.stacks.iter().map(|wanted| wanted.stack.name.as_str()).collect();
    let Some(wanted) = session.wanted.stacks.iter().find(|wanted| wanted.stack.name.as_str() == name) else {
        let next = match suggest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the stacks are `{}`", known.join("`, `")),
        };
        return Err(Failure::usage(format!("there is no stack `{name}`"), next));
    };
    let cloud_name = &wanted.stack.cloud_name;
    let group = session.groups.group(cloud_name).await.map_err(cloud_failure)?.ok_or_else(|| {
        Failure::usage(
            format!("stack `{name}` has no autoscaling group `{cloud_name}`"),
            "name the stack of a group; if it is one, `fleetwright apply` creates it",
        )
    })?;
    ours(session, &group)?;
    Ok(group)
}

/// Refuses a group of that name that is not this environment's.
fn ours(session: &Session, group: &Group) -> Result<(), Failure> {
    let wanted = [
        (PROJECT_TAG, session.wanted.project.as_str()),
        (ENVIRONMENT_TAG, session.wanted.environment.as_str()),
    ];
    let other = wanted.iter().find_map(|(key, value)| match group.tags.get(*key) {
        Some(tag) if tag == value => None,
        Some(tag) => Some(format!("its tag `{key}` is `{tag}`, not `{value}`")),
        None => Some(format!("it has no tag `{key}`")),
    });
    match other {
        None => Ok(()),
        Some(why) => Err(Failure::failed(
            format!("group `{}` is not this environment's: {why}; nothing was changed", group.name),
            format!(
                "if it is to be, give it the tags `{PROJECT_TAG}` and `{ENVIRONMENT_TAG}` in its template, and apply"
            ),
        )),
    }
}

fn role(group: &Group) -> Result<Role, Failure> {
    match group.tags.get(ROLE_TAG).map(String::as_str) {
        Some("control") => Ok(Role::Control),
        Some("worker") => Ok(Role::Worker),
        other => Err(Failure::failed(
            format!(
                "group `{}` does not say what its machines do: its tag `{ROLE_TAG}` is {}",
                group.name,
                other.map_or("missing".to_owned(), |value| format!("`{value}`"))
            ),
            format!("give the group the tag `{ROLE_TAG}` (`control` or `worker`) in its template, and apply"),
        )),
    }
}

fn failure(group: &str, error: RollFailure) -> Failure {
    let again = format!("`fleetwright roll {group}` goes on from here");
    let message = error.to_string();
    let next = match error {
        RollFailure::Stopped => {
            return Failure::Interrupted { left: format!("nothing is half done; {again}") };
        }
        RollFailure::NoGroup(_) => "`fleetwright plan` shows what became of it".to_owned(),
        RollFailure::Cloud(error) => format!("{}: {again}", error.next()),
        RollFailure::Cluster(ClusterError::Unreachable { .. }) => {
            format!("see that control machines run (`fleetwright plan`), then {again}")
        }
        RollFailure::Cluster(_) => format!("remove the cause, then {again}"),
        RollFailure::Undecided(RollError::FollowsLatest { .. }) => {
            "`--all` replaces every machine; or give the group a version, as `!GetAtt LaunchTemplate.LatestVersionNumber`".to_owned()
        }
        RollFailure::Undecided(RollError::BadIntent { .. }) => {
            "set the group's capacity as you want it and delete the tag; a new roll then begins".to_owned()
        }
        RollFailure::Stuck { .. } => {
            format!("`fleetwright machines` and `fleetwright status` show what keeps it; then {again}")
        }
    };
    Failure::failed(message, next)
}
