//! Access to a cluster: what `apply` publishes, and what a control machine makes of what it
//! has read. Both are pure; reading and writing happen elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::access::{Level, Policy, UnreadablePolicy};

/// How often a control machine reads the published policy.
pub const READ_EVERY: Duration = Duration::from_secs(30);
/// How long a policy counts after it was read last. Who had access keeps it through a short
/// outage of the parameter store; a change made during the outage takes effect after it.
pub const BELIEVED_FOR: Duration = Duration::from_secs(300);

/// The parameter of the policy, below the cluster's prefix.
pub const PARAMETER: &str = "access";

/// A change of who has access to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessChange {
    /// The parameter that holds the policy.
    pub parameter: String,
    /// What is published now, byte for byte; `None` when nothing is.
    pub before: Option<String>,
    /// What apply publishes; `None` when it withdraws the policy.
    pub after: Option<String>,
    /// Who gains or loses what.
    pub lines: Vec<AccessLine>,
}

/// One principal that gains or loses a level.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLine {
    /// The level.
    pub level: Level,
    /// The pattern.
    pub principal: String,
    /// Whether it gains the level.
    pub gains: bool,
}

/// What has to change so that `wanted` is published at `parameter`, where `found` is now.
/// `None` when nothing has to.
pub fn change(parameter: &str, wanted: Option<&Policy>, found: Option<&str>) -> Option<AccessChange> {
    let after = wanted.map(Policy::publish);
    if after.as_deref() == found {
        return None;
    }
    let before = found.and_then(|text| Policy::read(text).ok()).unwrap_or_default();
    let wanted = wanted.cloned().unwrap_or_default();
    let mut lines = Vec::new();
    for level in Level::ALL.into_iter().rev() {
        let (old, new) = (before.of(level), wanted.of(level));
        let line = |principal: &crate::model::access::Pattern, gains| AccessLine {
            level,
            principal: principal.to_string(),
            gains,
        };
        lines.extend(old.iter().filter(|one| !new.contains(one)).map(|one| line(one, false)));
        lines.extend(new.iter().filter(|one| !old.contains(one)).map(|one| line(one, true)));
    }
    lines.sort_by(|a, b| (b.level, &a.principal, a.gains).cmp(&(a.level, &b.principal, b.gains)));
    lines.dedup();
    Some(AccessChange { parameter: parameter.to_owned(), before: found.map(str::to_owned), after, lines })
}

/// In what way access has to change otherwise than `planned`; `None` when it is as planned.
pub fn moved(planned: Option<&AccessChange>, now: Option<&AccessChange>) -> Option<String> {
    match (planned, now) {
        (planned, now) if planned == now => None,
        (Some(planned), Some(now)) if planned.after == now.after => {
            Some(format!("another access policy is published at {}", now.parameter))
        }
        (Some(planned), None) => {
            Some(format!("the access policy at {} was published already", planned.parameter))
        }
        (_, Some(now)) => {
            Some(format!("the access policy at {} has to change in another way", now.parameter))
        }
        (None, None) => None,
    }
}

/// What a control machine has read of the policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reading {
    /// It has not been read yet.
    #[default]
    Never,
    /// There is none.
    Absent,
    /// This.
    Policy(Policy),
    /// Something that this version does not understand completely.
    Unreadable(UnreadablePolicy),
}

/// What counts now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'r> {
    /// The policy.
    Policy(&'r Policy),
    /// Nobody has access through a policy, and why.
    Nobody(&'static str),
}

/// What counts, when `reading` was the last that succeeded, `age` ago.
pub fn verdict(reading: &Reading, age: Duration) -> Verdict<'_> {
    match reading {
        Reading::Never => {
            Verdict::Nobody("the access policy has not been read yet; try again in a few seconds")
        }
        _ if age > BELIEVED_FOR => {
            Verdict::Nobody("the access policy could not be read from the parameter store for 5 minutes")
        }
        Reading::Absent => Verdict::Nobody(
            "no access policy has been published: add `access:` to fleetwright.yaml and run `fleetwright apply`",
        ),
        Reading::Unreadable(_) => Verdict::Nobody(
            "the access policy is damaged or was published by a later version of fleetwright: run `fleetwright apply` with the version of the control machines",
        ),
        Reading::Policy(policy) => Verdict::Policy(policy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"{"version":1,"admin":["role/boss"],"deployer":["role/deploy"],"viewer":["*"]}"#;

    fn policy(text: &str) -> Policy {
        Policy::read(text).expect("a policy")
    }

    #[test]
    fn nothing_changes_when_the_same_is_published() {
        let mut same = policy(OLD);
        same.admin.push("role/boss".parse().expect("a pattern"));
        assert_eq!(change("/x/access", Some(&same), Some(OLD)), None);
        assert_eq!(change("/x/access", None, None), None);
    }

    #[test]
    fn a_change_names_who_gains_and_who_loses() {
        let new = policy(&OLD.replace("role/deploy", "user/ada"));
        let found = change("/x/access", Some(&new), Some(OLD)).expect("a change");
        let lines: Vec<_> =
            found.lines.iter().map(|line| (line.level, line.principal.as_str(), line.gains)).collect();
        assert_eq!(lines, [(Level::Deployer, "role/deploy", false), (Level::Deployer, "user/ada", true)]);
        assert_eq!(found.before.as_deref(), Some(OLD));
        assert_eq!(found.after, Some(new.publish()));
    }

    #[test]
    fn a_plan_holds_only_while_access_is_what_it_was() {
        let new = policy(&OLD.replace("role/deploy", "user/ada"));
        let planned = change("/x/access", Some(&new), Some(OLD));
        assert_eq!(moved(planned.as_ref(), planned.as_ref()), None);
        assert_eq!(moved(None, None), None);
        let elsewhere = change("/x/access", Some(&new), None);
        let said = moved(planned.as_ref(), elsewhere.as_ref()).expect("another was published");
        assert!(said.contains("another access policy"), "{said}");
        assert!(moved(planned.as_ref(), None).is_some_and(|said| said.contains("already")));
        assert!(moved(None, planned.as_ref()).is_some());
        let edited = change("/x/access", Some(&policy(OLD)), None);
        assert!(moved(planned.as_ref(), edited.as_ref()).is_some_and(|said| said.contains("another way")));
    }

    #[test]
    fn a_section_that_is_gone_withdraws_the_policy() {
        let found = change("/x/access", None, Some(OLD)).expect("a change");
        assert_eq!((found.after, found.lines.len()), (None, 3));
        assert!(found.lines.iter().all(|line| !line.gains));
    }

    #[test]
    fn what_is_damaged_is_published_again() {
        for damaged in ["", "{", &OLD.replace("\"version\":1", "\"version\":7")] {
            let found = change("/x/access", Some(&policy(OLD)), Some(damaged)).expect("a change");
            assert_eq!((found.after.as_deref(), found.lines.len()), (Some(OLD), 3), "{damaged}");
        }
    }

    /// Every reading at every age: a policy counts only when it was read, and not too long ago.
    #[test]
    fn it_fails_closed() {
        let good = Reading::Policy(policy(OLD));
        let readings = [
            Reading::Never,
            Reading::Absent,
            Reading::Unreadable(UnreadablePolicy::Newer { found: 2 }),
            good,
        ];
        for reading in &readings {
            for age in [Duration::ZERO, READ_EVERY, BELIEVED_FOR, BELIEVED_FOR + Duration::from_millis(1)] {
                let counts = matches!(verdict(reading, age), Verdict::Policy(_));
                let may = matches!(reading, Reading::Policy(_)) && age <= BELIEVED_FOR;
                assert_eq!(counts, may, "{reading:?} {age:?}");
            }
        }
        assert!(BELIEVED_FOR >= 2 * READ_EVERY);
    }
}
