//! Services that are rolled out together, or not at all.

use std::sync::Arc;

use super::context::Context;
use super::context::cluster::failure;
use super::failure::Failure;
use super::rollouts::{Begun, Voice, begin, follow_all};
use crate::driver::deploy::Prepared;
use crate::driver::release::{Returned, take_back};
use crate::event::rollout::RolloutEvent;
use crate::plan::release::Member;
use crate::port::cluster::Cluster;

/// Rolls services out, one after the other. If one fails, those before it go back to what they ran.
///
/// # Errors
/// When one fails: why, and the outcome for the others.
pub async fn release(
    context: &Context,
    cluster: &Arc<dyn Cluster>,
    services: Vec<&Prepared>,
) -> Result<(), Failure> {
    let voice = Voice::new(context);
    let mut members: Vec<Member> = Vec::new();
    for one in &services {
        let rolled_out = async {
            let begun = begin(cluster.as_ref(), &voice, one, &[]).await?;
            let Begun { service, revision, .. } = begun.clone();
            members.push(Member { service, before: one.before, revision });
            follow_all(context, cluster, vec![begun]).await
        };
        let outcome = rolled_out.await;
        match outcome {
            Ok(_) => {}
            Err(Failure::Interrupted { .. }) => return Err(interrupted(&members, &services)),
            Err(error) => return Err(back(cluster, &voice, &members, error).await),
        }
    }
    Ok(())
}

/// Takes the release back, and says so with what made it fail.
async fn back(cluster: &Arc<dyn Cluster>, voice: &Voice, members: &[Member], error: Failure) -> Failure {
    let message = match &error {
        Failure::Failed { message, .. } | Failure::Usage { message, .. } if !members.is_empty() => message,
        _ => return error,
    };
    voice.note("the release failed; taking back what was rolled out");
    let tell = |event: RolloutEvent| voice.tell(event);
    let taken = tokio::select! {
        taken = take_back(cluster.as_ref(), members, &tell) => taken,
        _ = tokio::signal::ctrl_c() => {
            return Failure::Interrupted { left: format!("{message}; {}", by_hand(members)) };
        }
    };
    match taken {
        Ok(returned) => {
            let words: Vec<String> =
                returned.iter().zip(members).map(|(returned, member)| returned.words(member)).collect();
            let whole = !returned.iter().any(|one| matches!(one, Returned::Failed { .. } | Returned::Left));
            let how = if whole { "" } else { " in part" };
            Failure::failed(
                format!("{message}\nthe release was taken back{how}: {}", words.join("; ")),
                "see `fleetwright status`, and deploy again once the cause is removed",
            )
        }
        Err(other) => {
            let cause = match failure(&other) {
                Failure::Failed { message, .. } => message,
                _ => other.to_string(),
            };
            Failure::failed(
                format!("{message}\nthe release could not be taken back: {cause}"),
                by_hand(members),
            )
        }
    }
}

/// What is left after an interrupt.
fn interrupted(members: &[Member], services: &[&Prepared]) -> Failure {
    let rest: Vec<&str> =
        services[members.len()..].iter().map(|one| one.deployment.spec.name.as_str()).collect();
    let rest = if rest.is_empty() { String::new() } else { format!("; not begun: {}", rest.join(", ")) };
    let last = members.last().map_or_else(String::new, |member| {
        format!("the cluster continues with revision {} of `{}` on its own", member.revision, member.service)
    });
    Failure::Interrupted { left: format!("{last}{rest}; {}", by_hand(members)) }
}

/// How the services of a release are taken back by hand.
fn by_hand(members: &[Member]) -> String {
    let commands: Vec<String> = members
        .iter()
        .rev()
        .map(|member| match member.before {
            Some(before) => format!("`fleetwright rollback {} --to {before}`", member.service),
            None => format!("`fleetwright remove {}`", member.service),
        })
        .collect();
    format!("{} takes the release back", commands.join(", then "))
}
