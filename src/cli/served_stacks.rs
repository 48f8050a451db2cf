//! The stacks that `serve` shows. It only reads, and where it can't, says why: a server without rights in AWS works on
//! runs all the same.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::failure::Failure;
use super::pipelines::read;
use super::stacks::{all_set, wanted};
use crate::adapter::aws::Aws;
use crate::driver::drift::Looker;
use crate::driver::follow::Pace;
use crate::driver::plan::{Found, Wanted, look};
use crate::driver::stack_board::{ReadStacks, StackNow, Unread};
use crate::event::Events;
use crate::local::home::Home;
use crate::model::name::EnvironmentName;
use crate::plan::drift::DriftReport;
use crate::plan::owner::{Purpose, refusal};
use crate::port::cloud::CloudError;

/// How long a list may take.
const LIST: Duration = Duration::from_secs(60);
/// How long a check for drift may take: CloudFormation takes minutes for large stacks.
const CHECK: Duration = Duration::from_secs(1800);

/// Reads the stacks of one environment.
pub struct ServedStacks {
    context: Context,
    root: PathBuf,
    environment: EnvironmentName,
}

impl ServedStacks {
    /// Those of `environment`, in the repository in `root`. Nothing is read yet.
    pub fn new(context: &Context, root: PathBuf, environment: EnvironmentName) -> Self {
        Self { context: context.clone(), root, environment }
    }

    /// The stacks of the repository, and the account; `None` where it has no stacks.
    async fn open(&self) -> Result<Option<(Wanted, Aws)>, Unread> {
        let repository = read(&self.root).map_err(|reason| {
            let next = "correct it; `fleetwright validate` shows every problem with its place";
            Unread { reason, next: next.to_owned() }
        })?;
        let Some(environment) = repository.environment(self.environment.as_str()) else {
            return Err(Unread {
                reason: format!("fleetwright.yaml no longer has an environment `{}`", self.environment),
                next: "add it again, or start `fleetwright serve` for another one".to_owned(),
            });
        };
        let rendered = self.context.rendered(&repository, environment).map_err(unread)?;
        if rendered.is_empty() {
            return Ok(None);
        }
        let wanted = wanted(&repository, environment, rendered, &[]).map_err(unread)?;
        all_set(&repository, &wanted).map_err(unread)?;
        let aws = self.context.aws(environment).await.map_err(unread)?;
        self.context.check_account(&aws, environment).await.map_err(unread)?;
        Ok(Some((wanted, aws)))
    }

    async fn found(wanted: &Wanted, aws: &Aws) -> Result<Found, Unread> {
        let store = aws.store(&wanted.project);
        let found = look(aws.cloud(store, known()).as_ref(), aws.groups().as_ref(), wanted).await;
        found.map_err(|error| cloud(&error))
    }

    async fn listed(&self) -> Result<Vec<StackNow>, Unread> {
        let Some((wanted, aws)) = self.open().await? else { return Ok(Vec::new()) };
        let mut found = Self::found(&wanted, &aws).await?;
        let mut stacks = Vec::new();
        for one in &wanted.stacks {
            let deployed = found.stacks.remove(&one.stack.name);
            let blocked = deployed.as_ref().and_then(|stack| refusal(&one.stack, stack, Purpose::Change));
            stacks.push(StackNow {
                name: Some(one.stack.name.clone()),
                cloud_name: one.stack.cloud_name.clone(),
                not_ours: blocked.map(|blocked| blocked.why),
                deployed,
                group: found.groups.remove(&one.stack.name),
            });
        }
        stacks.extend(found.left.into_iter().map(|stack| StackNow {
            name: None,
            cloud_name: stack.name.clone(),
            deployed: Some(stack),
            group: None,
            not_ours: None,
        }));
        Ok(stacks)
    }

    async fn checked(&self) -> Result<DriftReport, Unread> {
        let Some((wanted, aws)) = self.open().await? else {
            return Err(Unread {
                reason: "the repository has no stacks".to_owned(),
                next: "add one below stacks/".to_owned(),
            });
        };
        let found = Self::found(&wanted, &aws).await?;
        // Its progress is shown nowhere.
        let (events, _) = Events::channel();
        let looker = Looker {
            drift: aws.drift(known()),
            repair: aws.repair(),
            groups: aws.groups(),
            events,
            pace: Pace::adaptive(),
            stop: CancellationToken::new(),
        };
        let report = looker.look(&wanted, &found, &[]).await.map_err(|error| cloud(&error))?;
        let mut report = report.ok_or_else(|| Unread {
            reason: "the check was stopped".to_owned(),
            next: "ask for it again".to_owned(),
        })?;
        let mask = self.context.mask();
        report.map_values(|value| mask.mask(value));
        Ok(report)
    }
}

#[async_trait(?Send)]
impl ReadStacks for ServedStacks {
    async fn stacks(&self) -> Result<Vec<StackNow>, Unread> {
        tokio::time::timeout(LIST, self.listed()).await.unwrap_or_else(|_| Err(silent(LIST)))
    }

    async fn drift(&self) -> Result<DriftReport, Unread> {
        tokio::time::timeout(CHECK, self.checked()).await.unwrap_or_else(|_| Err(silent(CHECK)))
    }
}

/// Where templates that are known are kept.
fn known() -> Option<PathBuf> {
    Home::from_env().ok().map(|home| home.root().join("templates"))
}

fn silent(limit: Duration) -> Unread {
    Unread {
        reason: format!("AWS has not answered within {}", crate::view::time::human(limit)),
        next: "check the network between `serve` and AWS, and load the page again".to_owned(),
    }
}

fn cloud(error: &CloudError) -> Unread {
    Unread { reason: error.to_string(), next: error.next().into() }
}

/// What a command would have printed.
fn unread(failure: Failure) -> Unread {
    match failure {
        Failure::Usage { message, next } | Failure::Failed { message, next } => {
            Unread { reason: message, next }
        }
        Failure::Invalid { diagnostics, .. } => Unread {
            reason: diagnostics.first().map_or_else(
                || "the infra repository is not valid".to_owned(),
                |first| first.message.clone(),
            ),
            next: "`fleetwright plan` on the server's machine shows every problem with its place".to_owned(),
        },
        Failure::Interrupted { .. } | Failure::Reported | Failure::Refused => Unread {
            reason: "the stacks can't be read".to_owned(),
            next: "`fleetwright plan` on the server's machine shows why".to_owned(),
        },
    }
}
