//! Imports against the in-memory cloud.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Importing;
use crate::driver::fake::FakeCloud;
use crate::driver::plan::WantedStack;
use crate::driver::tests::{Stage, stack};
use crate::event::stack::{Failure, Outcome};
use crate::model::deployed::Import;
use crate::model::stack::STACK_TAG;

/// A stack that has a tag, as rendered ones have.
fn wanted() -> WantedStack {
    let mut wanted = stack("data", &[], 1);
    wanted.stack.tags.insert(STACK_TAG.to_owned(), "data".to_owned());
    wanted
}

async fn imported(cloud: &Arc<FakeCloud>) -> (Outcome, Option<Failure>) {
    let mut stage = Stage::new(Arc::clone(cloud));
    let wanted = wanted();
    let import = Import {
        resource: "Thing".to_owned(),
        resource_type: "AWS::Fake::Thing".to_owned(),
        identifier: BTreeMap::from([("Id".to_owned(), "thing-1".to_owned())]),
    };
    let template = wanted.stack.template.clone();
    let importing = Importing {
        shell: stage.shell(),
        wanted: &wanted,
        existing: None,
        template,
        parameters: BTreeMap::new(),
        imports: vec![import],
    };
    let outcome = importing.run().await.expect("the cloud answers");
    let failure = stage.failures().into_iter().next();
    (outcome, failure)
}

#[tokio::test]
async fn a_new_stack_gets_its_tags() {
    let cloud = Arc::new(FakeCloud::default());
    assert_eq!(imported(&cloud).await, (Outcome::Imported, None));
    assert_eq!(cloud.log(), ["import demo-local-data", "update demo-local-data"]);
    cloud.meddle("demo-local-data", |stack, _| {
        assert_eq!(stack.tags.get(STACK_TAG).map(String::as_str), Some("data"));
    });
}

#[tokio::test]
async fn a_new_stack_without_its_tags_is_a_failure_that_says_how_to_get_them() {
    let cloud = Arc::new(FakeCloud::default());
    cloud.fail("demo-local-data", "Thing", "no");
    let (outcome, failure) = imported(&cloud).await;
    assert_eq!(outcome, Outcome::Failed);
    let failure = failure.expect("it says why");
    assert_eq!(
        failure.cause,
        "the resources are imported, but their new stack did not get its tags: Thing: no"
    );
    assert!(failure.next.contains("cloud_name: {") && failure.next.contains("`fleetwright apply data`"));
    assert_eq!(cloud.change_sets(), 0);
}
