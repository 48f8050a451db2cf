//! Shared by the commands that roll services out: reporting progress until the rollouts have ended.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Done;
use super::context::Context;
use super::context::cluster::failure;
use super::failure::Failure;
use super::stacks::ask;
use crate::driver::deploy::Prepared;
use crate::driver::rollout::{Outcome, follow, follow_number};
use crate::event::rollout::RolloutEvent;
use crate::event::{EventKind, Events};
use crate::model::mount::SecretRef;
use crate::model::name::{Digest, ServiceName};
use crate::model::service::{Deployment, RevisionState};
use crate::port::cluster::Cluster;
use crate::view;

/// A rollout that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The service.
    pub service: ServiceName,
    /// The revision.
    pub revision: u64,
    /// Its image, where that is known.
    pub digest: Option<Digest>,
}

impl Begun {
    /// The rollout of a service that is as its file says, if somebody began it earlier and it has not ended.
    pub fn under_way(one: &Prepared) -> Option<Self> {
        let revision = one.before.filter(|_| one.rolls && !one.plan.has_changes())?;
        let Deployment { spec, digest, .. } = &one.deployment;
        Some(Self { service: spec.name.clone(), revision, digest: Some(digest.clone()) })
    }
}

/// Reports events of rollouts: lines for people on stderr, or events on stdout.
#[derive(Debug, Clone)]
pub struct Voice {
    json: bool,
}

impl Voice {
    /// In the output format of the command.
    pub fn new(context: &Context) -> Self {
        Self { json: context.json() }
    }

    /// Reports an event.
    pub fn tell(&self, event: RolloutEvent) {
        if self.json {
            self.emit(EventKind::Rollout(event));
        } else if let Some(line) = view::rollout::line(&event) {
            eprintln!("{line}");
        }
    }

    /// Reports that a rollout has begun.
    pub fn began(&self, begun: &Begun) {
        let Begun { service, revision, digest } = begun.clone();
        match digest {
            Some(digest) => self.tell(RolloutEvent::Started { service, revision, digest }),
            None if self.json => {
                self.emit(EventKind::Note { text: format!("{service} revision {revision} rolling out") });
            }
            None => eprintln!("{service}   revision {revision}   rolling out"),
        }
    }

    /// Reports something else that was done.
    pub fn note(&self, text: &str) {
        if self.json {
            self.emit(EventKind::Note { text: text.to_owned() });
        } else {
            eprintln!("{text}");
        }
    }

    fn emit(&self, kind: EventKind) {
        let (events, mut heard) = Events::channel();
        events.emit(kind);
        while let Ok(event) = heard.try_recv() {
            if let Ok(value) = serde_json::to_value(&event) {
                view::json::line(&value);
            }
        }
    }
}

/// Follows rollouts until all of them have ended.
///
/// # Errors
/// When one has not ended well: why, and what its first failed instance printed last.
pub async fn follow_all(
    context: &Context,
    cluster: &Arc<dyn Cluster>,
    begun: Vec<Begun>,
) -> Result<Done, Failure> {
    let voice = Voice::new(context);
    let tell = |event: RolloutEvent| voice.tell(event);
    let tell = &tell;
    let mut following: FuturesUnordered<_> = begun
        .iter()
        .map(|one| async move { (one, follow(cluster.as_ref(), &one.service, one.revision, tell).await) })
        .collect();
    let mut failures = Vec::new();
    let mut open: Vec<&ServiceName> = begun.iter().map(|one| &one.service).collect();
    loop {
        let (one, outcome) = tokio::select! {
            next = following.next() => match next {
                Some(next) => next,
                None => break,
            },
            _ = tokio::signal::ctrl_c() => return Err(interrupted(&open)),
        };
        open.retain(|service| **service != one.service);
        let outcome = outcome.map_err(|error| failure(&error))?;
        voice.tell(ended(one, &outcome));
        failures.extend(failed(one, &outcome));
    }
    conclude(failures)
}

/// Waits until services have as many instances as they should.
///
/// # Errors
/// When one does not get there.
pub async fn follow_numbers(
    context: &Context,
    cluster: &Arc<dyn Cluster>,
    services: &[ServiceName],
) -> Result<Done, Failure> {
    let mut following: FuturesUnordered<_> = services
        .iter()
        .map(|service| async move { (service, follow_number(cluster.as_ref(), service).await) })
        .collect();
    let mut failures = Vec::new();
    let mut open: Vec<&ServiceName> = services.iter().collect();
    loop {
        let (service, outcome) = tokio::select! {
            next = following.next() => match next {
                Some(next) => next,
                None => break,
            },
            _ = tokio::signal::ctrl_c() => return Err(interrupted(&open)),
        };
        open.retain(|known| *known != service);
        match outcome.map_err(|error| failure(&error))? {
            Outcome::Short { reason } => failures.push((
                format!("not all instances of `{service}` are healthy: {reason}"),
                format!("the cluster keeps trying; see `fleetwright status {service}`"),
            )),
            Outcome::Removed => failures.push(removed(service)),
            Outcome::Running | Outcome::Undone { .. } | Outcome::Superseded { .. } => {}
        }
    }
    if !context.json() && failures.is_empty() {
        let snapshot = cluster.snapshot().await.map_err(|error| failure(&error))?;
        for status in snapshot.services.iter().filter(|status| services.contains(&status.name)) {
            eprintln!("{}   {}/{} healthy", status.name, status.healthy(), status.desired);
        }
    }
    conclude(failures)
}

fn interrupted(open: &[&ServiceName]) -> Failure {
    let names: Vec<&str> = open.iter().map(|name| name.as_str()).collect();
    Failure::Interrupted {
        left: format!(
            "the cluster continues with {} on its own; `fleetwright status` shows the progress",
            names.join(", ")
        ),
    }
}

/// A failure's message and next step.
type Ill = (String, String);

/// Prints all failures but the last, which becomes the command's own.
fn conclude(mut failures: Vec<Ill>) -> Result<Done, Failure> {
    let Some((message, next)) = failures.pop() else { return Ok(Done::Ok) };
    for (message, next) in failures {
        eprintln!("error: {message}\n next: {next}");
    }
    Err(Failure::failed(message, next))
}

fn ended(one: &Begun, outcome: &Outcome) -> RolloutEvent {
    let (state, reason) = match outcome {
        Outcome::Running => (RevisionState::Running, None),
        Outcome::Short { reason } => (RevisionState::Running, Some(reason.clone())),
        Outcome::Undone { state, reason, .. } => (*state, Some(reason.clone())),
        Outcome::Superseded { by } => (RevisionState::Replaced, Some(format!("superseded by revision {by}"))),
        Outcome::Removed => (RevisionState::Replaced, Some("the service was removed".to_owned())),
    };
    RolloutEvent::Ended { service: one.service.clone(), revision: one.revision, state, reason }
}

fn failed(one: &Begun, outcome: &Outcome) -> Option<Ill> {
    let Begun { service, revision, .. } = one;
    Some(match outcome {
        Outcome::Running => return None,
        Outcome::Short { reason } => (
            format!(
                "revision {revision} of `{service}` is running, but not all instances are healthy: {reason}"
            ),
            format!("the cluster keeps trying; see `fleetwright status {service}`"),
        ),
        Outcome::Undone { reason, before: true, failed, .. } => {
            let report: String =
                failed.iter().flat_map(|failed| failed.report()).map(|line| format!("\n  {line}")).collect();
            (
                format!("revision {revision} of `{service}` was not rolled out: {reason}{report}"),
                format!(
                    "no instance was replaced; see `fleetwright status {service}`, and deploy again once the \
                     cause is removed"
                ),
            )
        }
        Outcome::Undone { state, reason, failed, before: false } => {
            let report: String =
                failed.iter().flat_map(|failed| failed.report()).map(|line| format!("\n  {line}")).collect();
            let after = match state {
                RevisionState::RolledBack => "the previous revision is running again; ",
                _ => "",
            };
            (
                format!("revision {revision} of `{service}` did not become healthy: {reason}{report}"),
                format!("{after}see `fleetwright logs {service}` and `fleetwright status {service}`"),
            )
        }
        Outcome::Superseded { by } => (
            format!("revision {revision} of `{service}` was superseded by revision {by}"),
            format!("see `fleetwright status {service}`"),
        ),
        Outcome::Removed => removed(service),
    })
}

fn removed(service: &ServiceName) -> Ill {
    let next = "`fleetwright audit` shows who removed it; deploy it again if that was a mistake";
    (format!("service `{service}` was removed in the meantime"), next.to_owned())
}

/// Asks for confirmation, unless `yes`.
///
/// # Errors
/// When it can't be asked, or the answer is not yes.
pub async fn confirm(question: &str, yes: bool, command: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let answer = ask(&format!("{question} [y/N]"), command, &super::stacks::signals()).await?;
    match answer.as_deref() {
        Some("y" | "Y" | "yes") => Ok(()),
        _ => {
            Err(Failure::failed("not confirmed; nothing was changed", "answer `y` to continue, or pass `-y`"))
        }
    }
}

/// The image of a revision, where it is known.
pub async fn digest(cluster: &dyn Cluster, service: &ServiceName, revision: u64) -> Option<Digest> {
    let snapshot = cluster.snapshot().await.ok()?;
    let status = snapshot.services.into_iter().find(|status| status.name == *service)?;
    status.history.into_iter().find(|known| known.number == revision)?.digest
}

/// The failure for a service that does not exist, with the names of those that do.
pub fn not_there(service: &ServiceName, known: &[&str]) -> Failure {
    let next = match crate::source::suggest(service.as_str(), known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "services/ is empty".to_owned(),
        None => format!("services/ has `{}`", known.join("`, `")),
    };
    Failure::usage(format!("there is no service `{service}`"), next)
}

/// Begins the rollout of a service; `before` were begun before it.
pub async fn begin(
    cluster: &dyn Cluster,
    voice: &Voice,
    one: &Prepared,
    before: &[Begun],
) -> Result<Begun, Failure> {
    let deployment = &one.deployment;
    let revision = cluster.deploy(deployment).await.map_err(|error| {
        let others: Vec<&str> = before.iter().map(|begun| begun.service.as_str()).collect();
        match (failure(&error), others.is_empty()) {
            (Failure::Failed { message, next }, false) => Failure::failed(
                format!(
                    "service `{}`: {message}; {} was begun before",
                    deployment.spec.name,
                    others.join(", ")
                ),
                next,
            ),
            (other, _) => other,
        }
    })?;
    let service = deployment.spec.name.clone();
    let begun = Begun { service, revision, digest: Some(deployment.digest.clone()) };
    voice.began(&begun);
    Ok(begun)
}

/// A failure to find out what to deploy, with its next step.
pub fn deploy_failure(error: &crate::driver::deploy::DeployError) -> Failure {
    use crate::driver::deploy::DeployError;
    let next = match error {
        DeployError::Cluster(error) => return failure(error),
        DeployError::Image(_) => "see `registry` in fleetwright.yaml, and that this machine reaches it",
        DeployError::NoImage { .. } => {
            "pass a tag or digest that exists with `--image`, or run the pipeline that builds it"
        }
        DeployError::NoVersion(..) => {
            "run its pipeline (`fleetwright pipeline run`), or pass an image that exists: `--image NAME:TAG`"
        }
        DeployError::Unset { missing, .. } => {
            let next = missing.first().map(SecretRef::how_to_set).unwrap_or_default();
            return Failure::failed(error.to_string(), next);
        }
        DeployError::NoJobVersion(..) => {
            "write `service: NAME` instead of `image` in jobs/, or deploy a service of that image first"
        }
        DeployError::NoImageOfUnits(_) => {
            "leave `--image` and `--revision` out: its units are in templates/units/; `fleetwright rollback` goes back"
        }
        DeployError::OtherImage { .. } => "pass an image of the service, or change `image` in services/",
        DeployError::NoRegistry(_) => "add `registry` to the environment in fleetwright.yaml",
    };
    Failure::failed(error.to_string(), next)
}
