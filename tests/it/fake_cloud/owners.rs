//! Stacks that have a name of ours and are not ours.

use super::{CONFIRM, Lab, has};

const DB: &str = "shop-local-db";

type Tags<'t> = &'t [(&'t str, &'t str)];

const PROJECT: (&str, &str) = ("fleetwright:project", "shop");
const ENVIRONMENT: (&str, &str) = ("fleetwright:environment", "local");
const STACK: (&str, &str) = ("fleetwright:stack", "db");

/// Every way in which a stack is not ours, and what is said of it.
const FOREIGN: [(Tags<'_>, &str); 7] = [
    (&[], "has none of fleetwright's tags"),
    (&[("team", "blue")], "has none of fleetwright's tags"),
    (&[("fleetwright:project", "other"), ENVIRONMENT, STACK], "of project `other`"),
    (&[PROJECT, ("fleetwright:environment", "local-db"), STACK], "of environment `local-db`"),
    (&[PROJECT, ENVIRONMENT, ("fleetwright:stack", "legacy")], "belongs to stack `legacy`"),
    (&[PROJECT, ENVIRONMENT], "has no tag `fleetwright:stack`"),
    (&[PROJECT], "has no tags `fleetwright:environment` and `fleetwright:stack`"),
];

/// Calls that change something.
const CHANGES: [&str; 8] = [
    "CreateChangeSet",
    "ExecuteChangeSet",
    "DeleteStack",
    "RollbackStack",
    "ContinueUpdateRollback",
    "UpdateTerminationProtection",
    "SetStackPolicy",
    "PutObject",
];

#[test]
fn no_command_changes_a_stack_that_is_not_ours() {
    for (tags, whose) in FOREIGN {
        let lab = Lab::new();
        lab.stranger(DB, tags);
        let before = lab.aws.world().stack(DB).is.clone();
        lab.aws.take_calls();
        let commands: [(&[&str], i32); 10] = [
            (&["plan"], 1),
            (&["apply", "-y"], 1),
            (&["apply", "-y", "db"], 1),
            (&["apply", "-y", "--prune"], 1),
            (&["destroy", "-y"], 1),
            (&["recover", "db", "-y"], 1),
            (&["recover", "db", "-y", CONFIRM[0], CONFIRM[1]], 1),
            (&["import", "db", "Queue=queue-1", "-y"], 1),
            (&["drift", "db"], 1),
            (&["adopt", DB], 2),
        ];
        for (command, status) in commands {
            let text = lab.ends(command, status);
            has(&text, &[whose, DB, "cloud_name: {local: shop-local-db}", "stacks/all.yaml:1"]);
        }
        for action in CHANGES {
            assert_eq!(lab.aws.calls(action), 0, "{action}, with {tags:?}");
        }
        assert_eq!(lab.status().as_deref(), Some("CREATE_COMPLETE"));
        assert_eq!(lab.aws.world().stack(DB).is.tags, before.tags);
    }
}

#[test]
fn a_stack_that_is_stuck_and_not_ours_is_not_recovered() {
    for status in ["ROLLBACK_COMPLETE", "DELETE_FAILED", "UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"] {
        let lab = Lab::new();
        lab.stranger(DB, &[]);
        lab.aws.put_into(DB, status);
        lab.aws.take_calls();
        has(&lab.ends(&["recover", "db", "-y", CONFIRM[0], CONFIRM[1]], 1), &["none of fleetwright's tags"]);
        has(&lab.ends(&["recover", "db", "--dry-run"], 0), &["none of fleetwright's tags"]);
        for action in CHANGES {
            assert_eq!(lab.aws.calls(action), 0, "{action}, in {status}");
        }
        assert_eq!(lab.status().as_deref(), Some(status));
    }
}

#[test]
fn cloud_name_takes_a_stack_over_and_only_then_it_can_be_deleted() {
    for (tags, _) in FOREIGN {
        let lab = Lab::new();
        lab.stranger(DB, tags);
        lab.write("stacks/all.yaml", "db:\n  template: db.yaml\n  cloud_name: {local: shop-local-db}\n");
        has(
            &lab.ends(&["destroy", "-y"], 1),
            &["nothing was deleted", "`fleetwright apply db` takes it over first"],
        );
        lab.aws.put_into(DB, "ROLLBACK_COMPLETE");
        has(&lab.ends(&["recover", "db", "-y", CONFIRM[0], CONFIRM[1]], 1), &["takes it over first"]);
        lab.aws.put_into(DB, "CREATE_COMPLETE");
        has(&lab.ends(&["plan"], 3), &["tag fleetwright:", "1 stack to update"]);
        has(&lab.ends(&["apply", "-y"], 0), &["✓ updated"]);
        for (key, value) in [PROJECT, ENVIRONMENT, STACK] {
            assert_eq!(lab.aws.world().stack(DB).is.tags.get(key).map(String::as_str), Some(value));
        }
        has(&lab.ends(&["plan"], 0), &["no change"]);
        has(&lab.ends(&["destroy", "-y"], 0), &["✓ deleted"]);
        assert_eq!(lab.status(), None);
    }
}

#[test]
fn a_stack_with_the_usual_name_is_adopted_under_another_or_the_same() {
    let lab = Lab::new();
    lab.stranger(DB, &[("team", "blue")]);
    lab.write("stacks/all.yaml", "other:\n  template: db.yaml\n");
    has(&lab.ends(&["adopt", DB, "--as", "data"], 0), &["wrote stacks/data.yaml", "tag fleetwright:project"]);
    has(&lab.ends(&["apply", "-y", "data"], 0), &["✓ updated"]);
    // What it would be called anyway is named too: without its tags it would be left alone.
    let lab = Lab::new();
    lab.stranger("shop-local-cache", &[]);
    has(&lab.ends(&["adopt", "shop-local-cache", "--as", "cache"], 0), &["wrote stacks/cache.yaml"]);
    has(&lab.ends(&["apply", "-y", "cache"], 0), &["✓ updated"]);
    has(&lab.ends(&["destroy", "-y"], 0), &["✓ deleted"]);
}

#[test]
fn prune_deletes_what_has_all_of_our_tags_and_nothing_else() {
    let lab = Lab::new();
    for (number, (tags, _)) in FOREIGN.iter().enumerate() {
        // One with another stack's tag is one that the repository had.
        if number != 4 {
            lab.stranger(&format!("shop-local-old-{number}"), tags);
        }
    }
    lab.stranger("shop-local-gone", &[PROJECT, ENVIRONMENT, ("fleetwright:stack", "gone")]);
    let text = lab.ends(&["apply", "-y", "--prune"], 0);
    has(&text, &["shop-local-gone", "1 deleted"]);
    assert_eq!(lab.aws.status("shop-local-gone"), None);
    for number in [0, 1, 2, 3, 5, 6] {
        let name = format!("shop-local-old-{number}");
        assert_eq!(lab.aws.status(&name).as_deref(), Some("CREATE_COMPLETE"), "{name}");
    }
}

#[test]
fn a_creation_of_another_project_that_is_under_review_is_left_alone() {
    let lab = Lab::new();
    let theirs = [
        ("StackName", DB),
        ("ChangeSetType", "CREATE"),
        // Named as fleetwright names them.
        ("ChangeSetName", "fleetwright-1764360000000-7"),
        ("TemplateBody", super::TEMPLATE),
        ("Tags.member.1.Key", "fleetwright:project"),
        ("Tags.member.1.Value", "other"),
    ];
    lab.aws.ask("CreateChangeSet", &theirs);
    for (command, status) in [
        (&["apply", "-y"][..], 1),
        (&["destroy", "-y"], 1),
        (&["recover", "db", "-y", CONFIRM[0], CONFIRM[1]], 1),
    ] {
        has(&lab.ends(command, status), &["belongs to project `other`"]);
    }
    assert_eq!(lab.status().as_deref(), Some("REVIEW_IN_PROGRESS"));
    assert_eq!(lab.aws.world().waiting().len(), 1);
}
