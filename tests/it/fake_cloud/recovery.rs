//! `recover`, from every way in which a stack can be stuck; reached by what leads there wherever
//! `apply` can be led there.

use super::{CONFIRM, Lab, has};
use crate::support::fake_aws::When;

const DB: &str = "shop-local-db";

#[test]
fn rollback_complete_is_deleted_and_created_anew() {
    let lab = Lab::new();
    lab.aws.fail(DB, "Topic", When::Create, "Topic is not wanted");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(
        &failed,
        &["cause: Topic: Topic is not wanted", "the stack is ROLLBACK_COMPLETE: `fleetwright recover db`"],
    );
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_COMPLETE"));
    has(&lab.ends(&["plan"], 1), &["blocked: ROLLBACK_COMPLETE", "`fleetwright recover db`"]);
    has(&lab.ends(&["apply", "-y"], 1), &["stack `db` is ROLLBACK_COMPLETE"]);
    has(&lab.ends(&["recover", "db", "--dry-run"], 0), &["is ROLLBACK_COMPLETE: it will be deleted"]);
    // It holds nothing any more, so that a yes is enough.
    let recovered = lab.recover(&[], 0);
    has(&recovered, &["it holds nothing any more", "✓ deleted", "db does not exist: nothing to recover"]);
    assert_eq!(lab.status(), None);
    lab.aws.mend();
    has(&lab.ends(&["apply", "-y"], 0), &["✓ created"]);
}

#[test]
fn rollback_failed_names_what_is_left_and_deletes_it() {
    let lab = Lab::new();
    lab.aws.fail(DB, "Topic", When::Create, "Topic is not wanted");
    lab.aws.fail(DB, "Queue", When::Rollback, "Queue is in use");
    let failed = lab.ends(&["apply", "-y"], 1);
    has(&failed, &["cause: Topic: Topic is not wanted", "the stack is ROLLBACK_FAILED"]);
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_FAILED"));
    let refused = lab.recover(&[], 2);
    has(
        &refused,
        &["1 resource with it:", "AWS::SQS::Queue", "`-y` alone does not allow", "--confirm shop-local-db"],
    );
    assert_eq!(lab.status().as_deref(), Some("ROLLBACK_FAILED"), "nothing was done");
    has(&lab.recover(&CONFIRM, 0), &["✓ deleted"]);
    assert_eq!(lab.status(), None);
}
