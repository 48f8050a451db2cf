//! Whether a task gets the credentials of its role, under which name, and when an agent asks for new ones.

use chrono::{DateTime, TimeDelta, Utc};
use subtle::ConstantTimeEq as _;

use crate::model::name::MachineId;
use crate::model::role::{RoleHome, RoleTask, TokenHash};

/// The most characters of the name of a session.
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const SESSION_MOST: usize = 64;

/// How long before their expiry credentials are asked for again. Some SDKs do so 15 minutes before the expiry, and
/// must get others than they have.
const RENEW: TimeDelta = TimeDelta::minutes(20);
/// How long credentials must be valid to be given out where others can't be had.
const LEAST: TimeDelta = TimeDelta::minutes(1);

/// Why a task gets no credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such task.
    #[error("there is no such task")]
    Unknown,
    /// Its container has no role.
    #[error("its service has no `aws_role`")]
    NoRole,
    /// It runs on another machine.
    #[error("it does not run on the machine that asks")]
    Elsewhere,
    /// It has ended, or is to stop.
    #[error("it has ended, or is to stop")]
    Ended,
    /// What was shown is not the token of its service.
    #[error("what was shown is not the token of its service")]
    WrongToken,
}

/// Decides whether a machine, whose node is `node`, gets the credentials of a task for which `shown` was shown.
///
/// # Errors
/// Why not.
pub fn decide<'t>(
    task: Option<&'t RoleTask>,
    node: Option<&str>,
    shown: &TokenHash,
) -> Result<&'t RoleTask, Refusal> {
    let task = task.ok_or(Refusal::Unknown)?;
    if node.is_none() || task.node.as_deref() != node {
        return Err(Refusal::Elsewhere);
    }
    if task.role.is_empty() {
        return Err(Refusal::NoRole);
    }
    if !task.runs {
        return Err(Refusal::Ended);
    }
    let same = |known: &TokenHash| bool::from(known.0.as_bytes().ct_eq(shown.0.as_bytes()));
    if task.tokens.iter().any(same) { Ok(task) } else { Err(Refusal::WrongToken) }
}

/// The name of a session: which project and environment, which instance, and on which machine. What is too long loses
/// its beginning, and then the end of the service's name.
pub fn session(home: &RoleHome, task: &str, machine: &MachineId) -> String {
    let legal = |text: &str| -> String {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_=,.@-".contains(c);
        text.chars().map(|c| if legal(c) { c } else { '-' }).collect()
    };
    let machine = legal(machine.as_str());
    let task = legal(task);
    let whole = format!("{}.{}.{task}@{machine}", legal(&home.project), legal(&home.environment));
    if whole.len() <= SESSION_MOST {
        return whole;
    }
    let room = SESSION_MOST.saturating_sub(machine.len() + 1);
    if task.len() <= room {
        return format!("{task}@{machine}");
    }
    let (name, number) = task.rsplit_once('.').unwrap_or((task.as_str(), ""));
    let kept: String = name.chars().take(room.saturating_sub(number.len() + 1)).collect();
    let short = format!("{kept}.{number}@{machine}");
    short.chars().take(SESSION_MOST).collect()
}

/// What an agent does with the credentials that it has for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It gives them out.
    Fresh,
    /// It asks for others, and gives these out where there are none.
    Old,
    /// It asks for others.
    Useless,
}

/// Judges credentials that expire at `expires`.
pub fn validity(expires: DateTime<Utc>, now: DateTime<Utc>) -> Validity {
    match expires - now {
        left if left > RENEW => Validity::Fresh,
        left if left > LEAST => Validity::Old,
        _ => Validity::Useless,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::role::RoleToken;

    fn task() -> RoleTask {
        RoleTask {
            name: "web.2".into(),
            role: "uploads".into(),
            node: Some("n1".into()),
            runs: true,
            tokens: vec![RoleToken::new("t".into()).hash()],
        }
    }

    #[test]
    fn only_the_machine_of_a_running_task_that_shows_its_token_gets_credentials() {
        let (right, wrong) = (RoleToken::new("t".into()).hash(), RoleToken::new("u".into()).hash());
        let one = task();
        assert_eq!(decide(Some(&one), Some("n1"), &right).map(|task| task.role.as_str()), Ok("uploads"));
        assert_eq!(decide(None, Some("n1"), &right), Err(Refusal::Unknown));
        assert_eq!(decide(Some(&one), Some("n2"), &right), Err(Refusal::Elsewhere));
        assert_eq!(decide(Some(&one), None, &right), Err(Refusal::Elsewhere));
        assert_eq!(decide(Some(&one), Some("n1"), &wrong), Err(Refusal::WrongToken));
        let placed_nowhere = RoleTask { node: None, ..task() };
        assert_eq!(decide(Some(&placed_nowhere), None, &right), Err(Refusal::Elsewhere));
        let without = RoleTask { role: String::new(), ..task() };
        assert_eq!(decide(Some(&without), Some("n1"), &right), Err(Refusal::NoRole));
        let ended = RoleTask { runs: false, ..task() };
        assert_eq!(decide(Some(&ended), Some("n1"), &right), Err(Refusal::Ended));
        let unknown = RoleTask { tokens: Vec::new(), ..task() };
        assert_eq!(decide(Some(&unknown), Some("n1"), &right), Err(Refusal::WrongToken));
    }

    #[test]
    fn a_session_says_which_instance_on_which_machine() {
        let home = |project: &str| RoleHome {
            partition: "aws".into(),
            account: "111122223333".into(),
            project: project.into(),
            environment: "prod".into(),
        };
        let machine: MachineId = "i-0123456789abcdef0".parse().expect("an id");
        let name = |project: &str, task: &str| session(&home(project), task, &machine);
        assert_eq!(name("shop", "web.2"), "shop.prod.web.2@i-0123456789abcdef0");
        let long = "a-project-with-a-name-of-its-own-kind";
        assert_eq!(name(long, "web.2"), "web.2@i-0123456789abcdef0");
        let service = "x".repeat(60);
        let short = name("shop", &format!("{service}.12"));
        assert_eq!((short.len(), short.ends_with(".12@i-0123456789abcdef0")), (64, true), "{short}");
        assert_eq!(name("a/b", "web.2"), "a-b.prod.web.2@i-0123456789abcdef0");
        let job = name("shop", "job.nightly.202611290200");
        assert_eq!(job, "shop.prod.job.nightly.202611290200@i-0123456789abcdef0");
    }

    #[test]
    fn credentials_are_renewed_before_an_sdk_asks_for_others() {
        let now = DateTime::UNIX_EPOCH;
        let left = |minutes: i64| validity(now + TimeDelta::minutes(minutes), now);
        assert_eq!([left(60), left(21)], [Validity::Fresh; 2]);
        assert_eq!([left(20), left(2)], [Validity::Old; 2]);
        assert_eq!([left(1), left(-5)], [Validity::Useless; 2]);
    }
}
