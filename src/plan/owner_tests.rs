//! Every combination of tags.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::setting::Place;
use crate::source::{SourceFile, Span};

fn wanted(is_named: bool) -> RenderedStack {
    let tags = [(PROJECT_TAG, "shop"), (ENVIRONMENT_TAG, "dev"), (STACK_TAG, "db")];
    RenderedStack {
        name: "db".parse().expect("a name"),
        cloud_name: "shop-dev-db".to_owned(),
        is_named,
        template: String::new(),
        template_file: "templates/cloudformation/db.yaml".to_owned(),
        parameters: Vec::new(),
        values: Vec::new(),
        overridden: Vec::new(),
        hidden: Vec::new(),
        kept: BTreeMap::new(),
        forced: Vec::new(),
        rules: BTreeMap::new(),
        places: BTreeMap::new(),
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        protect: None,
        policy: None,
        hooks: Vec::new(),
        nested: Vec::new(),
        depends_on: Vec::new(),
        outputs: Vec::new(),
        user_data: Vec::new(),
        unset: Vec::new(),
        place: Place::new(&SourceFile::new("stacks/all.yaml", "db:\n"), Span::new(0, 2)),
    }
}

fn deployed(status: &str, tags: BTreeMap<String, String>) -> DeployedStack {
    DeployedStack {
        name: "shop-dev-db".to_owned(),
        status: status.to_owned(),
        tags,
        ..DeployedStack::default()
    }
}

proptest! {
    /// Whatever the tags and the status are: only those of all three tags are deleted, and only those or
    /// what the repository names are changed.
    #[test]
    fn what_lacks_one_of_our_tags_is_left_alone(
        project in proptest::option::of(prop_oneof!["shop", "sho", "shop-dev"]),
        environment in proptest::option::of(prop_oneof!["dev", "dev-x", "Dev"]),
        stack in proptest::option::of(prop_oneof!["db", "x-db"]),
        more in any::<bool>(),
        is_named in any::<bool>(),
        nested in any::<bool>(),
        status in prop_oneof![
            "CREATE_COMPLETE", "UPDATE_ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED",
            "UPDATE_IN_PROGRESS", "CREATE_FAILED",
        ],
    ) {
        let ours = project.as_deref() == Some("shop")
            && environment.as_deref() == Some("dev")
            && stack.as_deref() == Some("db");
        let given = [(PROJECT_TAG, &project), (ENVIRONMENT_TAG, &environment), (STACK_TAG, &stack)];
        let mut tags: BTreeMap<String, String> =
            given.iter().filter_map(|(key, value)| Some(((*key).to_owned(), (*value).clone()?))).collect();
        if more {
            tags.insert("team".to_owned(), "blue".to_owned());
        }
        let deployed = DeployedStack { nested, ..deployed(&status, tags) };
        let wanted = wanted(is_named);
        let (change, delete) =
            (refusal(&wanted, &deployed, Purpose::Change), refusal(&wanted, &deployed, Purpose::Delete));
        prop_assert_eq!(delete.is_none(), ours && !nested);
        prop_assert_eq!(change.is_none(), (ours || is_named) && !nested);
        for refused in [change, delete].into_iter().flatten() {
            prop_assert!(refused.why.contains("shop-dev-db"), "{}", refused.why);
            for value in given.iter().filter(|_| !nested).filter_map(|(_, value)| value.as_ref()) {
                prop_assert!(refused.why.contains(&format!("`{value}`")), "{}", refused.why);
            }
            prop_assert!(refused.next.contains("stacks/all.yaml:1"), "{}", refused.next);
        }
    }
}

#[test]
fn messages_say_whose_it_is_and_what_to_do() {
    let tags = [(PROJECT_TAG, "shop"), (ENVIRONMENT_TAG, "dev-x"), (STACK_TAG, "a")];
    let tags: BTreeMap<String, String> = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let other = refusal(&wanted(false), &deployed("CREATE_COMPLETE", tags.clone()), Purpose::Delete);
    let other = other.expect("it is another's");
    insta::assert_snapshot!(format!("{}\n{}", other.why, other.next), @r"
    `shop-dev-db` in CloudFormation belongs to stack `a` of environment `dev-x` of project `shop`; this is stack `db` of environment `dev` of project `shop`
    if it is to be taken over, write `cloud_name: {dev: shop-dev-db}` into stack `db` (stacks/all.yaml:1), or give `db` another name and run `fleetwright adopt shop-dev-db`; if not, give `db` another name
    ");
    let nobody = refusal(&wanted(false), &deployed("CREATE_COMPLETE", BTreeMap::new()), Purpose::Change);
    insta::assert_snapshot!(
        nobody.expect("it is nobody's").why,
        @"`shop-dev-db` in CloudFormation has none of fleetwright's tags: something else made it"
    );
    let named = refusal(&wanted(true), &deployed("CREATE_COMPLETE", tags), Purpose::Delete);
    insta::assert_snapshot!(
        named.expect("it has no tags of ours").next,
        @"if it is to be deleted from here, `fleetwright apply db` takes it over first; otherwise remove `db` from the repository (stacks/all.yaml:1), which leaves it as it is"
    );
}

#[test]
fn what_was_never_created_is_judged_by_its_change_sets() {
    let review = |waiting: &[&str]| DeployedStack {
        waiting: waiting.iter().map(|name| (*name).to_owned()).collect(),
        ..deployed("REVIEW_IN_PROGRESS", BTreeMap::new())
    };
    let delete = |waiting: &[&str]| refusal(&wanted(false), &review(waiting), Purpose::Delete).is_none();
    assert!(delete(&["fleetwright-1-2"]));
    assert!(!delete(&[]));
    assert!(!delete(&["fleetwright-1-2", "by-hand"]));
    assert_eq!(refusal(&wanted(false), &review(&["by-hand"]), Purpose::Change), None);
}
