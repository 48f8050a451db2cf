//! When a revision is rolled out that runs a command before: its `pre_deploy`.
//!
//! The revision's record says that it waits. The command is an occurrence whose name follows from the
//! service and the revision, so [`super::jobs`] decides that it runs at most once. What is decided here may
//! be carried out late or twice: the claim is created once, a record changes only as it was seen, and the
//! service is updated only if it has not changed since.

use crate::model::before::{Action, Command, Waiting, Waits};
use crate::model::job::Outcome;

/// What is to be done about the revisions of a service that wait.
pub fn decide(service: &Waits) -> Vec<Action> {
    service.waiting.iter().filter_map(|one| next(service, *one)).collect()
}

fn next(service: &Waits, Waiting { revision, command }: Waiting) -> Option<Action> {
    if revision == service.current {
        return Some(Action::Begun { revision });
    }
    match (service.is_wanted(revision), command) {
        (true, Command::Unclaimed) => Some(Action::Claim { revision }),
        // One that runs is not stopped halfway, and the next one waits for its end.
        (true | false, Command::Open) => None,
        (true, Command::Ended(Outcome::Succeeded)) => Some(Action::RollOut { revision }),
        (true, Command::Ended(outcome)) => Some(Action::Fail { revision, outcome }),
        (false, Command::Unclaimed | Command::Ended(_)) => Some(Action::Replace { revision }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_is_rolled_out_and_only_after_its_command_has_succeeded() {
        let ended = |outcome| Command::Ended(outcome);
        let others = [
            Outcome::Failed,
            Outcome::TimedOut,
            Outcome::Skipped,
            Outcome::Missed,
            Outcome::Replaced,
            Outcome::Unknown,
        ];
        for current in 0..4 {
            for newest in 1..6 {
                for revision in 1..=newest {
                    let service = Waits { current, newest, waiting: Vec::new() };
                    let next = |command| next(&service, Waiting { revision, command });
                    let wanted = revision == newest && revision > current;
                    assert_eq!(
                        next(ended(Outcome::Succeeded)) == Some(Action::RollOut { revision }),
                        wanted,
                        "{current} {newest} {revision}"
                    );
                    for command in
                        [Command::Unclaimed, Command::Open].into_iter().chain(others.map(Command::Ended))
                    {
                        assert_ne!(next(command), Some(Action::RollOut { revision }), "{command:?}");
                    }
                    assert_eq!(next(Command::Unclaimed) == Some(Action::Claim { revision }), wanted);
                }
            }
        }
        let two = [
            Waiting { revision: 2, command: Command::Open },
            Waiting { revision: 3, command: Command::Unclaimed },
        ];
        let decide = |current, newest, waiting: &[Waiting]| {
            decide(&Waits { current, newest, waiting: waiting.to_vec() })
        };
        assert_eq!(decide(1, 3, &two), [Action::Claim { revision: 3 }], "2 runs on, and 3 waits for its end");
        assert_eq!(decide(1, 4, &two), [Action::Replace { revision: 3 }], "4 is a removal");
        assert_eq!(decide(3, 3, &two[1..]), [Action::Begun { revision: 3 }]);
    }
}
