//! Reboots that a machine wants for itself: in its window, with the cluster's leave, and empty.
//!
//! What to do is decided in [`crate::plan::agent::reboot::turn`]; this asks and does.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::time::{sleep, timeout};

use super::{Agent, AgentError};
use crate::model::name::BootId;
use crate::model::reboot::{Answer, Returned};
use crate::model::window::Window;
use crate::plan::agent::reboot::turn::{EMPTYING, Outcome, Seen, Step, Turn};
use crate::plan::roll::INTENT_TAG;
use crate::port::cluster::ClusterError;
use crate::port::reboot::{AskLeave, Host};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(5);

/// What an agent needs for reboots of its own machine.
pub struct Reboots {
    /// When the machine may; without one it never does by itself.
    pub window: Option<Window>,
    /// The boot it is in.
    pub boot: BootId,
    /// The machine.
    pub host: Arc<dyn Host>,
    /// The cluster's leave.
    pub leave: Arc<dyn AskLeave>,
}

impl Reboots {
    /// Says on the machine whether work is taken off it. That nobody there hears of it is no reason
    /// to keep the work.
    pub(super) fn set_draining(&self, draining: bool) {
        if let Err(error) = self.host.set_draining(draining) {
            tracing::warn!(%error, "saying that this machine is drained, or not");
        }
    }

    fn seen(&self) -> Seen {
        let now = Utc::now();
        Seen {
            now,
            wanted: self.host.wants_reboot().is_some(),
            opened: self.window.as_ref().and_then(|window| window.opened(now)),
        }
    }
}

impl Agent {
    /// Reboots the machine when it wants that and may, and finishes what an earlier reboot
    /// left. Never returns: the machine goes down, or nothing is to be done.
    pub(super) async fn reboot_when_wanted(&self) {
        let mut turn = Turn::new(self.reboots.boot.clone());
        // What the log said last, so that it says everything once.
        let mut said = String::new();
        loop {
            let step = turn.next(self.reboots.seen());
            match self.take(step, &turn, &mut said).await {
                Ok(Some(outcome)) => {
                    let waits = matches!(outcome, Outcome::Answered(Answer::Wait { .. }));
                    turn.took(&outcome, self.reboots.seen());
                    if !waits {
                        continue;
                    }
                }
                Ok(None) => {}
                Err(error) => say(&mut said, format!("{}: {error}", doing(step))),
            }
            sleep(LOOK).await;
        }
    }

    /// Carries a step out; `None` when nothing came of it yet.
    async fn take(&self, step: Step, turn: &Turn, said: &mut String) -> Result<Option<Outcome>, AgentError> {
        let (me, reboots) = (&self.me.instance, &self.reboots);
        Ok(Some(match step {
            Step::Rest => return Ok(None),
            Step::Look => Outcome::Looked(reboots.leave.mark(me).await?),
            Step::Ask => {
                if turn.is_apart()
                    && let Some(group) = self.rolled_group().await?
                {
                    say(said, format!("this machine waits for its turn: group `{group}` is being rolled"));
                    return Ok(None);
                }
                let answer = reboots.leave.ask(me, &reboots.boot).await?;
                match &answer {
                    Answer::Granted { alone, .. } => {
                        let because = reboots.host.wants_reboot().unwrap_or_default();
                        say(
                            said,
                            format!("this machine has leave, as {because} asks for it (alone: {alone})"),
                        );
                    }
                    Answer::Lapsed => say(said, "the leave of this machine counts no more".to_owned()),
                    Answer::Wait { reason } => {
                        say(said, format!("this machine waits for its turn: {reason}"))
                    }
                }
                Outcome::Answered(answer)
            }
            Step::Empty => {
                reboots.set_draining(true);
                let limit = EMPTYING.to_std().unwrap_or_default();
                match timeout(limit, self.control.empty(std::slice::from_ref(me), false)).await {
                    Ok(Ok(())) => Outcome::Emptied,
                    Ok(Err(ClusterError::Refused { reason })) => {
                        say(said, format!("this machine can't be emptied: {reason}"));
                        Outcome::NotEmptied
                    }
                    Ok(Err(error)) => return Err(error.into()),
                    // It has taken longer than it may, which the next look finds.
                    Err(_) => return Ok(None),
                }
            }
            Step::Reboot => match reboots.host.reboot().await {
                Ok(()) => {
                    say(said, "this machine reboots now".to_owned());
                    Outcome::Told
                }
                Err(error) => {
                    say(said, format!("this machine can't reboot: {error}"));
                    Outcome::NotTold
                }
            },
            Step::GiveBack(reason) => match reboots.leave.give_back(me).await? {
                Returned::Done => {
                    reboots.set_draining(false);
                    say(said, format!("this machine takes work: {}", reason.words()));
                    Outcome::GivenBack
                }
                Returned::Wait { reason: why } => {
                    say(said, format!("this machine keeps its leave: {}, but {why}", reason.words()));
                    return Ok(None);
                }
            },
        }))
    }

    /// A group of the cluster that is being rolled. Machines come and go in it, and some must be whole.
    async fn rolled_group(&self) -> Result<Option<String>, AgentError> {
        let groups = self.groups.groups(&self.tags()).await?;
        Ok(groups.into_iter().find(|group| group.tags.contains_key(INTENT_TAG)).map(|group| group.name))
    }
}

/// What failed when a step did.
fn doing(step: Step) -> &'static str {
    match step {
        Step::Look => "asking what the cluster knows of an earlier reboot",
        Step::Ask => "asking for leave to reboot",
        Step::Empty => "emptying this machine for its reboot",
        Step::Reboot => "rebooting",
        Step::GiveBack(_) => "giving the leave to reboot back",
        Step::Rest => "waiting",
    }
}

fn say(said: &mut String, text: String) {
    if *said != text {
        tracing::info!("reboot: {text}");
        *said = text;
    }
}
