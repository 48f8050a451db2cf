//! Every status that CloudFormation has, brought to rest.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::driver::fake::{FakeCloud, FakeHooks};
use crate::driver::follow::Pace;
use crate::event::Events;
use crate::model::deployed::Phase;

const NAME: &str = "demo-local-db";

/// CloudFormation's statuses, each with what a stack in it turns into by itself.
/// (`StackStatus` in its API reference; a test of the adapter holds the list against the SDK's.)
pub const STATUSES: &[(&str, Option<&str>)] = &[
    ("CREATE_COMPLETE", None),
    ("CREATE_FAILED", None),
    ("CREATE_IN_PROGRESS", Some("CREATE_COMPLETE")),
    ("DELETE_COMPLETE", None),
    ("DELETE_FAILED", None),
    ("DELETE_IN_PROGRESS", Some("DELETE_COMPLETE")),
    ("IMPORT_COMPLETE", None),
    ("IMPORT_IN_PROGRESS", Some("IMPORT_COMPLETE")),
    ("IMPORT_ROLLBACK_COMPLETE", None),
    ("IMPORT_ROLLBACK_FAILED", None),
    ("IMPORT_ROLLBACK_IN_PROGRESS", Some("IMPORT_ROLLBACK_COMPLETE")),
    ("REVIEW_IN_PROGRESS", None),
    ("ROLLBACK_COMPLETE", None),
    ("ROLLBACK_FAILED", None),
    ("ROLLBACK_IN_PROGRESS", Some("ROLLBACK_COMPLETE")),
    ("UPDATE_COMPLETE", None),
    ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", Some("UPDATE_COMPLETE")),
    ("UPDATE_FAILED", None),
    ("UPDATE_IN_PROGRESS", Some("UPDATE_ROLLBACK_FAILED")),
    ("UPDATE_ROLLBACK_COMPLETE", None),
    ("UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", Some("UPDATE_ROLLBACK_COMPLETE")),
    ("UPDATE_ROLLBACK_FAILED", None),
    ("UPDATE_ROLLBACK_IN_PROGRESS", Some("UPDATE_ROLLBACK_FAILED")),
];

fn resource(name: &str, status: &str) -> StackResource {
    StackResource {
        resource: name.to_owned(),
        resource_type: "AWS::SQS::Queue".to_owned(),
        physical_id: format!("{name}-1"),
        status: status.to_owned(),
    }
}

/// Steps until the stack is at rest, gone, or nothing helps; how it ended, and what was done.
async fn recovered(cloud: Arc<FakeCloud>, allowed: &Allowed) -> (Option<String>, Stepped, Vec<String>) {
    let (events, _receiver) = Events::channel();
    let pace = Pace::between(Duration::from_millis(1), Duration::from_millis(1));
    let (stop, slots) = (CancellationToken::new(), Arc::new(tokio::sync::Semaphore::new(1)));
    let hooks = Arc::new(FakeHooks::default());
    let watch = stop.clone();
    let shell = Shell { cloud: Arc::clone(&cloud) as _, events, pace, stop, watch, hooks, slots };
    let wanted = crate::driver::tests::stack("db", &[], 1).stack;
    let recover = Recover { shell, repair: Arc::clone(&cloud) as _, wanted };
    let mut ended = Stepped::Moved;
    for _ in 0..6 {
        let look = recover.look(allowed).await.expect("the cloud answers");
        if matches!(look.recovery, Recovery::Nothing | Recovery::Person { .. }) {
            return (look.stack.map(|stack| stack.status), ended, cloud.log());
        }
        ended = recover.step(&look).await.expect("the cloud answers");
        if ended == Stepped::Failed {
            let now = recover.look(allowed).await.expect("the cloud answers");
            return (now.stack.map(|stack| stack.status), ended, cloud.log());
        }
    }
    panic!("it goes in circles: {:?}", cloud.log());
}

#[tokio::test]
async fn every_status_comes_to_rest() {
    for (status, becoming) in STATUSES {
        let cloud = Arc::new(FakeCloud::default());
        cloud.stand(NAME, status, *becoming, Vec::new());
        let (end, _, _) = recovered(cloud, &Allowed::default()).await;
        let phase = end.as_ref().map(|status| {
            let stack = DeployedStack {
                name: NAME.to_owned(),
                id: NAME.to_owned(),
                status: status.clone(),
                ..DeployedStack::default()
            };
            stack.phase()
        });
        let at_rest = matches!(phase, None | Some(Phase::Settled | Phase::Gone));
        // The one that CloudFormation itself offers no way out of.
        assert!(at_rest || *status == "IMPORT_ROLLBACK_FAILED", "{status} ended as {end:?}");
    }
}

#[tokio::test]
async fn a_step_is_not_the_one_that_was_confirmed_once_the_stack_has_moved() {
    let look = |status: &str, id: &str, lost: &[&str]| Look {
        stack: Some(DeployedStack { id: id.to_owned(), status: status.to_owned(), ..Default::default() }),
        recovery: Recovery::Delete {
            lost: lost.iter().map(|name| resource(name, "CREATE_COMPLETE")).collect(),
            retain: Vec::new(),
        },
    };
    let confirmed = look("CREATE_FAILED", "arn:1", &["Queue"]);
    assert!(confirmed.clone().is_like(&confirmed));
    for moved in [
        look("CREATE_COMPLETE", "arn:1", &["Queue"]),
        look("CREATE_FAILED", "arn:2", &["Queue"]),
        look("CREATE_FAILED", "arn:1", &["Queue", "Bucket"]),
    ] {
        assert!(!moved.is_like(&confirmed), "{moved:?}");
    }
}

#[tokio::test]
async fn a_rollback_that_fails_again_names_what_to_pass_over_and_then_passes_over_it() {
    let resources = || vec![resource("Bad", "UPDATE_FAILED"), resource("Good", "UPDATE_COMPLETE")];
    let cloud = Arc::new(FakeCloud::default());
    cloud.stand(NAME, "UPDATE_ROLLBACK_FAILED", None, resources());
    let (end, ended, _) = recovered(Arc::clone(&cloud), &Allowed::default()).await;
    assert_eq!((end.as_deref(), ended), (Some("UPDATE_ROLLBACK_FAILED"), Stepped::Failed));
    let allowed = Allowed { skip: vec!["Bad".to_owned()], ..Allowed::default() };
    let (end, _, log) = recovered(cloud, &allowed).await;
    assert_eq!(end.as_deref(), Some("UPDATE_ROLLBACK_COMPLETE"));
    assert_eq!(log.last().map(String::as_str), Some("continue demo-local-db without [\"Bad\"]"));
}

#[tokio::test]
async fn a_deletion_that_fails_is_not_tried_again_by_itself() {
    let resources = || vec![resource("Bucket", "DELETE_FAILED")];
    let cloud = Arc::new(FakeCloud::default());
    cloud.stand(NAME, "ROLLBACK_FAILED", None, resources());
    let (end, ended, log) = recovered(Arc::clone(&cloud), &Allowed::default()).await;
    assert_eq!((end.as_deref(), ended, log.len()), (Some("DELETE_FAILED"), Stepped::Failed, 1));
    let allowed = Allowed { retain: vec!["Bucket".to_owned()], ..Allowed::default() };
    let (end, _, log) = recovered(cloud, &allowed).await;
    assert_eq!(end, None);
    assert_eq!(log.last().map(String::as_str), Some("delete demo-local-db without Bucket"));
}
