//! The credentials of containers' roles: issued on control machines, kept on each machine until they are old.
//!
//! Who gets them is decided in [`crate::plan::role`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::model::name::MachineId;
use crate::model::role::{AwsRole, RoleCredentials, RoleHome, TokenHash};
use crate::plan::role::{Validity, decide, session, validity};
use crate::port::cloud::CloudError;
use crate::port::cluster::ClusterError;
use crate::port::roles::{AskCredentials, AssumeRole, IssueCredentials, IssuedRole, RoleTasks};

/// How long after a refusal the next question of the same container is answered, so that guessing a token keeps no
/// control machine busy.
pub const AFTER_REFUSAL: Duration = Duration::from_millis(500);
/// How long control machines are asked where the credentials at hand are still valid.
const RENEWAL: Duration = Duration::from_secs(2);

/// Issues credentials with the role of a control machine.
pub struct Issuer {
    tasks: Arc<dyn RoleTasks>,
    sts: Arc<dyn AssumeRole>,
    home: RoleHome,
}

impl Issuer {
    /// Issues for `tasks` through `sts`.
    pub fn new(tasks: Arc<dyn RoleTasks>, sts: Arc<dyn AssumeRole>, home: RoleHome) -> Self {
        Self { tasks, sts, home }
    }
}

#[async_trait]
impl IssueCredentials for Issuer {
    async fn issue(
        &self,
        id: &str,
        shown: &TokenHash,
        machine: &MachineId,
        node: Option<&str>,
    ) -> Result<IssuedRole, ClusterError> {
        let found = self.tasks.role_task(id).await?;
        let task = decide(found.as_ref(), node, shown).map_err(|reason| ClusterError::Refused {
            reason: format!("task {id} gets no credentials: {reason}"),
        })?;
        let role: AwsRole = task.role.parse().map_err(|error: crate::model::role::BadRole| {
            ClusterError::Refused { reason: format!("`aws_role` of {}: {error}", task.name) }
        })?;
        let role = self.home.arn(&role);
        let session = session(&self.home, &task.name, machine);
        let credentials = self.sts.assume(&role, &session).await.map_err(|error| match error {
            CloudError::Denied { .. } => ClusterError::Refused {
                reason: format!(
                    "{error}. The policy of the control machines' role must allow `sts:AssumeRole` on {role}, and the \
                     role's trust policy must name the control machines' role: see docs/services.md"
                ),
            },
            error => ClusterError::Engine {
                doing: format!("assuming {role}"),
                reason: error.to_string(),
            },
        })?;
        Ok(IssuedRole { credentials, session, task: task.name.clone() })
    }
}

/// Why a container gets no credentials.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoCredentials {
    /// It has shown nothing, or something else than its token.
    #[error("the token is not that of this container's service")]
    Token,
    /// It is to get none.
    #[error("{0}")]
    Refused(String),
    /// Whether it is to get some is not known.
    #[error("{0}")]
    Later(String),
}

/// Credentials, and the token for which they were issued.
struct Held {
    credentials: RoleCredentials,
    token: TokenHash,
}

/// The credentials of one container, on its machine.
pub struct TaskRole {
    task: String,
    control: Arc<dyn AskCredentials>,
    held: Mutex<Option<Held>>,
}

impl TaskRole {
    /// Those of the container of a task.
    pub fn new(task: String, control: Arc<dyn AskCredentials>) -> Self {
        Self { task, control, held: Mutex::default() }
    }

    /// The credentials, for a container that has shown a token. One question at a time: an SDK that many threads use
    /// asks as often at once.
    ///
    /// # Errors
    /// When it gets none.
    pub async fn get(&self, shown: &TokenHash, now: DateTime<Utc>) -> Result<RoleCredentials, NoCredentials> {
        let mut held = self.held.lock().await;
        let mut at_hand = None;
        if let Some(known) = held.as_ref() {
            if known.token != *shown {
                sleep(AFTER_REFUSAL).await;
                return Err(NoCredentials::Token);
            }
            match validity(known.credentials.expires, now) {
                Validity::Fresh => return Ok(known.credentials.clone()),
                Validity::Old => at_hand = Some(known.credentials.clone()),
                Validity::Useless => {}
            }
        }
        let question = self.control.credentials(&self.task, shown);
        let asked = match at_hand {
            None => question.await,
            Some(_) => timeout(RENEWAL, question).await.unwrap_or_else(|_| {
                let (endpoint, reason) = ("the control machines".to_owned(), "no answer in time".to_owned());
                Err(ClusterError::Unreachable { endpoint, reason })
            }),
        };
        match (asked, at_hand) {
            (Ok(credentials), _) => {
                tracing::info!(
                    task = self.task,
                    role = credentials.role,
                    expires = %credentials.expires,
                    "credentials of a role"
                );
                *held = Some(Held { credentials: credentials.clone(), token: shown.clone() });
                Ok(credentials)
            }
            (Err(error @ (ClusterError::Refused { .. } | ClusterError::Denied { .. })), _) => {
                tracing::warn!(task = self.task, %error, "no credentials of a role");
                *held = None;
                sleep(AFTER_REFUSAL).await;
                Err(NoCredentials::Refused(error.to_string()))
            }
            (Err(error), Some(credentials)) => {
                tracing::warn!(task = self.task, %error, "credentials of a role could not be renewed yet");
                Ok(credentials)
            }
            (Err(error), None) => {
                tracing::warn!(task = self.task, %error, "no credentials of a role");
                Err(NoCredentials::Later(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as Std;

    use chrono::TimeDelta;

    use super::*;
    use crate::model::role::{RoleTask, RoleToken};
    use crate::model::secret::Secret;

    fn credentials(number: usize, expires: DateTime<Utc>) -> RoleCredentials {
        RoleCredentials {
            role: "arn:aws:iam::111122223333:role/fleetwright/shop/prod/uploads".into(),
            key: format!("ASIA{number}"),
            secret: Secret::new("s".into()),
            token: Secret::new("t".into()),
            expires,
        }
    }

    /// A control machine that gives what the test sets, and counts.
    #[derive(Default)]
    struct Control {
        away: Std<bool>,
        asked: Std<usize>,
    }

    const VALID: TimeDelta = TimeDelta::hours(1);

    fn hash(text: &str) -> TokenHash {
        RoleToken::new(text.to_owned()).hash()
    }

    #[async_trait]
    impl AskCredentials for Control {
        async fn credentials(&self, _: &str, shown: &TokenHash) -> Result<RoleCredentials, ClusterError> {
            if *self.away.lock().expect("unpoisoned") {
                let (endpoint, reason) = ("there".into(), "no answer".into());
                return Err(ClusterError::Unreachable { endpoint, reason });
            }
            let mut asked = self.asked.lock().expect("unpoisoned");
            *asked += 1;
            if *shown != hash("right") {
                return Err(ClusterError::Refused { reason: "wrong".into() });
            }
            Ok(credentials(*asked, DateTime::UNIX_EPOCH + VALID * i32::try_from(*asked).expect("few")))
        }
    }

    #[tokio::test]
    async fn credentials_are_kept_until_they_are_old_and_given_out_while_they_are_valid() {
        let control = Arc::new(Control::default());
        let role = TaskRole::new("t1".into(), control.clone());
        let at = |minutes: i64| DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes);
        let key = async |minutes| role.get(&hash("right"), at(minutes)).await.map(|found| found.key);
        assert_eq!(key(0).await, Ok("ASIA1".to_owned()));
        assert_eq!(key(30).await, Ok("ASIA1".to_owned()));
        // Another token never gets what is kept, and the control machines are not asked.
        assert_eq!(role.get(&hash("wrong"), at(30)).await, Err(NoCredentials::Token));
        assert_eq!(*control.asked.lock().expect("unpoisoned"), 1);
        *control.away.lock().expect("unpoisoned") = true;
        assert_eq!(key(45).await, Ok("ASIA1".to_owned()), "old ones are better than none");
        assert!(matches!(key(60).await, Err(NoCredentials::Later(_))), "expired ones are not");
        *control.away.lock().expect("unpoisoned") = false;
        assert_eq!(key(45).await, Ok("ASIA2".to_owned()));
    }

    /// One task, of which everything is known.
    struct One(RoleTask);

    #[async_trait]
    impl RoleTasks for One {
        async fn role_task(&self, id: &str) -> Result<Option<RoleTask>, ClusterError> {
            Ok((id == "t1").then(|| self.0.clone()))
        }
    }

    #[async_trait]
    impl AssumeRole for One {
        async fn assume(&self, role: &str, session: &str) -> Result<RoleCredentials, CloudError> {
            if role.ends_with("/forbidden") {
                let (doing, reason) = ("assuming a role".into(), "AccessDenied".into());
                return Err(CloudError::Denied { doing, reason });
            }
            assert_eq!(session, "shop.prod.web.1@i-1");
            Ok(RoleCredentials { role: role.to_owned(), ..credentials(1, DateTime::UNIX_EPOCH) })
        }
    }

    #[tokio::test]
    async fn the_role_is_the_recorded_one_and_a_refusal_says_what_to_change() {
        let home = RoleHome {
            partition: "aws".into(),
            account: "111122223333".into(),
            project: "shop".into(),
            environment: "prod".into(),
        };
        let issuer = |role: &str| {
            let one = || {
                Arc::new(One(RoleTask {
                    name: "web.1".into(),
                    role: role.to_owned(),
                    node: Some("n1".into()),
                    runs: true,
                    tokens: vec![hash("right")],
                }))
            };
            Issuer::new(one(), one(), home.clone())
        };
        let machine: MachineId = "i-1".parse().expect("an id");
        let ask = async |role: &str, task: &str, node: &str, token: &str| {
            let issued = issuer(role).issue(task, &hash(token), &machine, Some(node)).await;
            issued.map(|issued| issued.credentials.role).map_err(|error| error.to_string())
        };
        let arn = "arn:aws:iam::111122223333:role/fleetwright/shop/prod/uploads".to_owned();
        assert_eq!(ask("uploads", "t1", "n1", "right").await, Ok(arn));
        for (role, task, node, token, why) in [
            ("uploads", "t2", "n1", "right", "no such task"),
            ("uploads", "t1", "n2", "right", "does not run on the machine"),
            ("uploads", "t1", "n1", "wrong", "not the token"),
            ("a/b", "t1", "n1", "right", "is not a role"),
            ("forbidden", "t1", "n1", "right", "trust policy"),
        ] {
            let error = ask(role, task, node, token).await.expect_err(why);
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
