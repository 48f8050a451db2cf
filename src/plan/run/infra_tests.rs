//! Plans, questions and applies, cut off after any effect.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::tests::{at, commands, done, queued_run, write};
use super::*;
use crate::model::access::Level;
use crate::model::infra_step::InfraWork;
use crate::model::run::{Answer, Question};

fn infra(work: InfraWork) -> StepAction {
    let name = work.word().to_owned();
    StepAction::Infra(InfraSpec { name, folder: ".".to_owned(), work })
}

/// Plan, ask, apply and deploy.
fn config(services: bool) -> RunConfig {
    let question =
        Question { name: "approve".to_owned(), message: "Apply this?".to_owned(), level: Level::Deployer };
    let steps = vec![
        infra(InfraWork::Plan { stacks: Vec::new(), services }),
        StepAction::Approve(question),
        infra(InfraWork::Apply { plan: "plan".to_owned() }),
        infra(InfraWork::Deploy { services: Vec::new() }),
    ];
    RunConfig { steps, needs: Vec::new(), after: Vec::new(), ..commands(&[], &[]) }
}

/// A cloud that outlives the machine.
struct Cloud {
    stacks: bool,
    services: Option<bool>,
    /// How often something was applied without knowing that it may have been begun.
    applied: u32,
    deployed: u32,
    asked: bool,
    /// Whether people say yes.
    approve: bool,
}

impl Cloud {
    fn perform(&mut self, action: &Action) -> Outcome {
        match action {
            Action::Ask { shown } => {
                self.asked = true;
                Outcome::Answered(Answer {
                    approved: self.approve,
                    shown: shown.clone(),
                    by: "ada".to_owned(),
                    at: at(0),
                })
            }
            Action::Infra { spec, planned, approved, resumed } => match &spec.work {
                InfraWork::Plan { .. } => Outcome::Planned(Planned {
                    hash: "h".to_owned(),
                    stacks: self.stacks,
                    services: self.services,
                    summary: "1 stack to update.".to_owned(),
                }),
                InfraWork::Apply { .. } => {
                    let (step, planned) = planned.as_ref().expect("it was planned");
                    assert_eq!((*step, planned.hash.as_str()), (0, "h"));
                    assert!(self.stacks, "there is something to apply");
                    assert_eq!(*approved, self.asked, "whether people were asked is known");
                    self.applied += u32::from(!*resumed);
                    Outcome::InfraDone { summary: "done".to_owned() }
                }
                InfraWork::Deploy { .. } => {
                    self.deployed += 1;
                    Outcome::InfraDone { summary: "deployed".to_owned() }
                }
                InfraWork::Drift { .. } => panic!("no drift is looked for"),
            },
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    /// Killed after any effects: people are asked exactly when something follows that changes something, nothing is
    /// applied that they have refused, and what was begun is only ever resumed.
    #[test]
    fn what_was_planned_is_applied_once_and_only_if_it_was_approved(
        cuts in prop::collection::vec(0_usize..8, 0..8),
        stacks in any::<bool>(),
        services in prop::option::of(any::<bool>()),
        approve in any::<bool>(),
    ) {
        let mut cloud = Cloud { stacks, services, applied: 0, deployed: 0, asked: false, approve };
        let mut run = queued_run(1);
        let mut second = 0;
        for lives in cuts.into_iter().chain([usize::MAX]) {
            if run.state.is_ended() {
                break;
            }
            let mut machine = RunMachine::new(&run, config(services.is_some()));
            let (mut inputs, mut left) = (vec![Input::Begin], lives);
            'life: while let Some(input) = inputs.pop() {
                second += 1;
                for effect in machine.handle(at(second), input) {
                    if left == 0 {
                        break 'life;
                    }
                    left -= 1;
                    match effect {
                        Effect::Record(changes) => write(&mut run, at(second), &changes, &mut BTreeSet::new()),
                        Effect::Perform { index, action } => {
                            inputs.push(done(index, Ok(cloud.perform(&action))));
                        }
                        Effect::Wait { .. } | Effect::Drop { .. } | Effect::Halt { .. } => panic!("nothing waits"),
                        Effect::End(_) => {}
                    }
                }
            }
        }
        let settled = !stacks && services == Some(false);
        prop_assert_eq!(cloud.asked, !settled);
        prop_assert!(cloud.applied <= 1);
        if settled || approve {
            prop_assert_eq!(run.state, RunState::Succeeded, "{:?}", run.reason);
            // What stacks give to services may have changed since the plan: `deploy` compares them itself.
            prop_assert!(cloud.deployed > 0);
        } else {
            prop_assert_eq!(run.state, RunState::Failed);
            prop_assert_eq!((cloud.applied, cloud.deployed), (0, 0));
        }
    }
}
