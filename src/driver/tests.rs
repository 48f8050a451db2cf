//! The drivers against the in-memory cloud and cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use super::apply::{Report, Shell, apply, settle};
use super::destroy::destroy;
use super::fake::{FakeCloud, FakeFleet, FakeHooks};
use super::follow::Pace;
use super::plan::{Found, PlanError, Wanted, WantedStack, look, plan};
use super::prune::prune;
use super::roll::{Roll, RollFailure};
use crate::event::stack::{Failure, Outcome, StackEvent};
use crate::event::{Event, EventKind, Events};
use crate::model::group::{Capacity, Group, GroupInstance, LaunchTemplate, Lifecycle};
use crate::model::machine::Role;
use crate::model::setting::Place;
use crate::model::stack::{
    ENVIRONMENT_TAG, Hook, Moment, PROJECT_TAG, ParameterValue, Piece, Reference, RenderedStack, STACK_TAG,
};
use crate::model::stack_policy::{Chosen, StackPolicy, Statement};
use crate::plan::roll::{INTENT_TAG, Options};
use crate::plan::stack::{Plan, StackAction};
use crate::source::{SourceFile, Span};

/// A stack with one resource that uses an output of each of `uses`.
pub(super) fn stack(name: &str, uses: &[&str], size: u32) -> WantedStack {
    let parameters: Vec<(String, ParameterValue)> = uses
        .iter()
        .map(|other| {
            let reference = Reference { stack: other.parse().expect("a name"), output: "Id".to_owned() };
            (format!("From{other}"), ParameterValue { pieces: vec![Piece::Output(reference)] })
        })
        .collect();
    let declared: serde_json::Map<_, _> =
        parameters.iter().map(|(name, _)| (name.clone(), json!({"Type": "String"}))).collect();
    let used: serde_json::Map<_, _> =
        parameters.iter().map(|(name, _)| (name.clone(), json!({"Ref": name}))).collect();
    let template = json!({
        "Parameters": declared,
        "Resources": {"Thing": {"Type": "AWS::Fake::Thing", "Properties": {"Size": size, "Uses": used}}},
        "Outputs": {"Id": {"Value": {"Ref": "Thing"}}},
    });
    let source = SourceFile::new("templates/cloudformation/t.yaml", "Resources:\n  Thing:\n    Type: x\n");
    let rendered = RenderedStack {
        name: name.parse().expect("a name"),
        cloud_name: format!("demo-local-{name}"),
        is_named: false,
        values: Vec::new(),
        overridden: Vec::new(),
        template: template.to_string(),
        template_file: source.name().to_owned(),
        parameters,
        tags: BTreeMap::new(),
        protect: None,
        policy: None,
        hooks: Vec::new(),
        nested: Vec::new(),
        depends_on: uses.iter().map(|other| other.parse().expect("a name")).collect(),
        outputs: vec!["Id".to_owned()],
        user_data: Vec::new(),
        hidden: Vec::new(),
        kept: BTreeMap::new(),
        forced: Vec::new(),
        rules: BTreeMap::new(),
        places: BTreeMap::new(),
        unset: Vec::new(),
        place: Place::new(&SourceFile::new("stacks/main.yaml", "x:"), Span::new(0, 1)),
    };
    WantedStack::new(rendered, Some(source)).expect("a template")
}

pub(super) fn wanted(stacks: Vec<WantedStack>) -> Arc<Wanted> {
    Arc::new(Wanted {
        project: "demo".parse().expect("a name"),
        environment: "local".parse().expect("a name"),
        region: "eu-west-1".to_owned(),
        stacks,
        selected: Vec::new(),
    })
}

fn three(size: u32) -> Arc<Wanted> {
    wanted(vec![
        stack("network", &[], size),
        stack("control", &["network"], 1),
        stack("workers", &["network"], 1),
    ])
}

fn group(versions: &[&str]) -> Group {
    let template = |version: &str| {
        let (id, name) = ("lt-1".to_owned(), "t".to_owned());
        Some(LaunchTemplate { id, name, version: version.to_owned() })
    };
    let instances = versions.iter().enumerate().map(|(number, version)| GroupInstance {
        id: format!("i-{:04}", number + 1).parse().expect("an id"),
        lifecycle: Lifecycle::InService,
        healthy: true,
        zone: "a".to_owned(),
        launch_template: template(version),
    });
    let desired = u32::try_from(versions.len()).expect("a small group");
    Group {
        name: "demo-local-workers".to_owned(),
        capacity: Capacity { min: desired, max: desired, desired },
        launch_template: template("2"),
        instances: instances.collect(),
        tags: BTreeMap::new(),
    }
}

pub(super) struct Stage {
    cloud: Arc<FakeCloud>,
    shell: Shell,
    events: UnboundedReceiver<Event>,
}

fn fast() -> Pace {
    Pace::between(Duration::from_millis(1), Duration::from_millis(1))
}

impl Stage {
    pub(super) fn new(cloud: Arc<FakeCloud>) -> Self {
        let (events, receiver) = Events::channel();
        let stop = CancellationToken::new();
        let shell = Shell {
            cloud: Arc::clone(&cloud) as _,
            events,
            pace: fast(),
            watch: stop.clone(),
            stop,
            hooks: Arc::new(FakeHooks::default()),
            slots: Arc::new(Semaphore::new(Shell::STACKS_AT_ONCE)),
        };
        Self { cloud, shell, events: receiver }
    }

    pub(super) async fn plan(&self, wanted: &Wanted) -> (Plan, Found) {
        let fleet = FakeFleet::new(group(&["2"]));
        let found = look(self.cloud.as_ref(), &fleet, wanted).await.expect("it can be looked at");
        let plan =
            plan(self.cloud.as_ref(), wanted, &found, &self.shell.events, fast(), false, &self.shell.stop)
                .await;
        (plan.expect("it can be planned"), found)
    }

    pub(super) async fn apply(&self, wanted: &Arc<Wanted>) -> Report {
        let (plan, found) = self.plan(wanted).await;
        apply(&self.shell, Arc::clone(wanted), Arc::new(plan), Arc::new(found)).await
    }

    pub(super) fn shell(&self) -> &Shell {
        &self.shell
    }

    pub(super) fn failures(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let EventKind::Stack(StackEvent::Finished { failure: Some(failure), .. }) = event.kind {
                failures.push(failure);
            }
        }
        failures
    }
}

fn outcomes(report: &Report) -> Vec<(&str, Outcome)> {
    report.stacks.iter().map(|(name, outcome)| (name.as_str(), *outcome)).collect()
}

#[tokio::test]
async fn right_after_apply_there_is_nothing_to_do() {
    let stage = Stage::new(Arc::default());
    let wanted = three(1);
    let report = stage.apply(&wanted).await;
    assert!(report.is_complete());
    assert_eq!(stage.cloud.log()[0], "create demo-local-network");
    assert_eq!(stage.cloud.log().len(), 3);
    let (plan, _) = stage.plan(&wanted).await;
    assert!(!plan.has_changes());
    assert_eq!(stage.cloud.change_sets(), 0);
}

#[tokio::test]
async fn a_parent_that_changes_does_not_change_what_only_uses_it() {
    let stage = Stage::new(Arc::default());
    stage.apply(&three(1)).await;
    let wanted = three(2);
    let (plan, _) = stage.plan(&wanted).await;
    // The fake's type is not in our table, so it may be replaced, and its output with it.
    assert_eq!(plan.stacks[0].action, StackAction::Update);
    assert_eq!(stage.cloud.change_sets(), 0, "a plan leaves nothing behind");
    let report = stage.apply(&wanted).await;
    assert_eq!(
        outcomes(&report),
        [("network", Outcome::Updated), ("control", Outcome::Unchanged), ("workers", Outcome::Unchanged)]
    );
    assert_eq!(stage.cloud.log().len(), 4);
}

#[tokio::test]
async fn a_failure_names_its_first_cause_and_skips_only_what_is_behind_it() {
    let mut stage = Stage::new(Arc::default());
    stage.cloud.fail("demo-local-control", "Thing", "the limit is 5");
    let wanted = wanted(vec![
        stack("network", &[], 1),
        stack("control", &["network"], 1),
        stack("late", &["control"], 1),
        stack("workers", &["network"], 1),
    ]);
    let report = stage.apply(&wanted).await;
    assert_eq!(
        outcomes(&report),
        [
            ("network", Outcome::Created),
            ("control", Outcome::Failed),
            ("late", Outcome::Skipped),
            ("workers", Outcome::Created),
        ]
    );
    let failures = stage.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].cause, "Thing: the limit is 5");
    assert_eq!(failures[0].at.as_deref(), Some("templates/cloudformation/t.yaml:2"));
    assert!(failures[0].next.contains("`fleetwright recover control`"), "{}", failures[0].next);
    let (plan, _) = stage.plan(&wanted).await;
    let blocked: Vec<&str> = plan.blocked().map(|(stack, _)| stack.stack.as_str()).collect();
    assert_eq!(blocked, ["control", "late"], "what depends on it waits with it, and nothing else");
}

#[tokio::test]
async fn nothing_is_applied_that_was_not_planned() {
    let mut stage = Stage::new(Arc::default());
    stage.apply(&three(1)).await;
    let wanted = three(2);
    let (plan, found) = stage.plan(&wanted).await;
    // Meanwhile somebody adds a resource, which our template would then delete.
    stage.cloud.meddle("demo-local-network", |_, template| {
        *template =
            template.replace(r#""Thing":{"Type""#, r#""Other":{"Type":"AWS::Fake::Thing"},"Thing":{"Type""#);
    });
    let report = apply(&stage.shell, Arc::clone(&wanted), Arc::new(plan), Arc::new(found)).await;
    assert_eq!(outcomes(&report)[0], ("network", Outcome::Failed));
    assert!(stage.failures()[0].cause.contains("delete `Other`"));
    assert_eq!(stage.cloud.change_sets(), 0);
    assert_eq!(stage.cloud.log().len(), 3, "nothing was executed");
}

#[tokio::test]
async fn a_stopped_apply_leaves_what_is_under_way_and_the_next_one_waits_for_it() {
    let stage = Stage::new(Arc::default());
    stage.cloud.hold("demo-local-network");
    let wanted = three(1);
    let stop = stage.shell.stop.clone();
    let cloud = Arc::clone(&stage.cloud);
    let (report, ()) = tokio::join!(stage.apply(&wanted), async move {
        while cloud.log().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    });
    assert_eq!(
        outcomes(&report),
        [("network", Outcome::LeftRunning), ("control", Outcome::NotBegun), ("workers", Outcome::NotBegun)]
    );
    let stage = Stage::new(stage.cloud);
    stage.cloud.release();
    let settled = settle(&stage.shell, &wanted).await.expect("it settles");
    assert!(settled.is_complete());
    assert!(stage.apply(&wanted).await.is_complete());
    let (plan, _) = stage.plan(&wanted).await;
    assert!(!plan.has_changes());
}

#[tokio::test]
async fn a_creation_killed_before_it_was_executed_is_taken_up_again() {
    use crate::port::cloud::Cloud as _;
    let stage = Stage::new(Arc::default());
    let wanted = wanted(vec![stack("network", &[], 1)]);
    let request = super::plan::request(&wanted.stacks[0].stack, BTreeMap::new(), true);
    stage.cloud.create_change_set(&request).await.expect("it is created");
    assert!(stage.apply(&wanted).await.is_complete());
    assert_eq!(stage.cloud.log(), ["create demo-local-network"]);
}

#[tokio::test]
async fn a_stopped_plan_deletes_its_change_sets() {
    let stage = Stage::new(Arc::default());
    stage.apply(&three(1)).await;
    stage.shell.stop.cancel();
    let wanted = three(2);
    let fleet = FakeFleet::new(group(&["2"]));
    let found = look(stage.cloud.as_ref(), &fleet, &wanted).await.expect("it can be looked at");
    let planned =
        plan(stage.cloud.as_ref(), &wanted, &found, &stage.shell.events, fast(), false, &stage.shell.stop)
            .await;
    assert!(matches!(planned, Ok(_) | Err(PlanError::Stopped)));
    assert_eq!(stage.cloud.change_sets(), 0);
}

#[tokio::test]
async fn destroy_goes_backwards_and_can_be_repeated() {
    let stage = Stage::new(Arc::default());
    let wanted = three(1);
    stage.apply(&wanted).await;
    let (_, found) = stage.plan(&wanted).await;
    let report = destroy(&stage.shell, Arc::clone(&wanted), &found).await;
    assert!(report.is_complete());
    assert_eq!(stage.cloud.log().last().map(String::as_str), Some("delete demo-local-network"));
    let (_, found) = stage.plan(&wanted).await;
    assert!(found.stacks.is_empty());
    assert!(destroy(&stage.shell, wanted, &found).await.is_complete());
}

fn roll(fleet: &Arc<FakeFleet>, batch: u32) -> Roll {
    Roll {
        lose: Vec::new(),
        groups: Arc::clone(fleet) as _,
        cluster: Arc::clone(fleet) as _,
        events: Events::channel().0,
        group: "demo-local-workers".to_owned(),
        role: Role::Worker,
        options: Options { batch, all: false },
        pace: fast(),
        stop: CancellationToken::new(),
    }
}

#[tokio::test]
async fn a_roll_replaces_the_old_machines_and_leaves_no_trace() {
    for batch in 1..3 {
        let before = group(&["1", "1", "2"]);
        let fleet = Arc::new(FakeFleet::new(before.clone()));
        let replaced = roll(&fleet, batch).run().await.expect("it ends");
        assert_eq!(replaced.len(), 2);
        let after = fleet.now();
        assert_eq!((after.capacity, &after.tags), (before.capacity, &before.tags));
        assert_eq!(fleet.fewest_ready(), 3, "capacity never fell");
        assert!(roll(&fleet, batch).run().await.expect("it ends").is_empty());
    }
}

#[tokio::test]
async fn a_roll_that_is_killed_after_any_moment_goes_on_when_run_again() {
    for moment in 1..60 {
        let before = group(&["1", "1", "1"]);
        let fleet = Arc::new(FakeFleet::new(before.clone()));
        let killed = tokio::time::timeout(Duration::from_millis(moment), roll(&fleet, 2).run()).await;
        let begun = fleet.now().tags.contains_key(INTENT_TAG);
        if killed.is_err() && begun {
            assert_eq!(fleet.now().capacity.min, before.capacity.min);
        }
        roll(&fleet, 2).run().await.expect("it ends");
        let after = fleet.now();
        assert_eq!((after.capacity, &after.tags), (before.capacity, &before.tags));
        assert!(after.instances.iter().all(|i| i.launch_template == after.launch_template));
        assert_eq!(fleet.fewest_ready(), 3);
    }
}

#[tokio::test]
async fn a_signal_stops_a_roll_between_two_steps() {
    let fleet = Arc::new(FakeFleet::new(group(&["1"])));
    let roll = roll(&fleet, 1);
    roll.stop.cancel();
    assert!(matches!(roll.run().await, Err(RollFailure::Stopped)));
    assert!(fleet.now().tags.is_empty());
}

#[tokio::test]
async fn a_stack_that_left_the_repository_is_kept_until_it_is_asked_for() {
    let cloud = Arc::new(FakeCloud::default());
    let tagged = |name: &str, environment: &str, nested: bool| {
        cloud.stand(name, "UPDATE_COMPLETE", None, Vec::new());
        cloud.meddle(name, |stack, _| {
            stack.tags = BTreeMap::from([
                (PROJECT_TAG.to_owned(), "demo".to_owned()),
                (ENVIRONMENT_TAG.to_owned(), environment.to_owned()),
                (STACK_TAG.to_owned(), "old".to_owned()),
            ]);
            stack.nested = nested;
        });
    };
    tagged("demo-local-old", "local", false);
    tagged("demo-local-older-Inner", "local", true);
    tagged("demo-local-eu-web", "local-eu", false);
    tagged("demo-local-copied", "local", false);
    cloud.meddle("demo-local-copied", |stack, _| drop(stack.tags.remove(STACK_TAG)));
    cloud.stand("demo-local-strange", "UPDATE_COMPLETE", None, Vec::new());
    let stage = Stage::new(Arc::clone(&cloud));
    let wanted = three(1);
    let fleet = FakeFleet::new(group(&["2"]));
    let found = look(stage.cloud.as_ref(), &fleet, &wanted).await.expect("it can be looked at");
    let make = async |prune: bool| {
        let (events, stop) = (&stage.shell.events, &stage.shell.stop);
        plan(stage.cloud.as_ref(), &wanted, &found, events, fast(), prune, stop).await.expect("a plan")
    };
    let kept = make(false).await;
    let names: Vec<&str> = kept.left.iter().map(|left| left.cloud_name.as_str()).collect();
    assert_eq!((names, kept.deleted().count()), (vec!["demo-local-old"], 0));
    let pruned = make(true).await;
    let outcomes = prune(&stage.shell, pruned.deleted()).await;
    assert_eq!(outcomes, [Outcome::Deleted]);
    assert_eq!(cloud.log(), ["delete demo-local-old"]);
}

#[tokio::test]
async fn no_more_stacks_are_worked_on_at_once_than_cloudformation_bears() {
    let stage = Stage::new(Arc::default());
    let wanted = wanted((0..30).map(|number| stack(&format!("s{number}"), &[], 1)).collect());
    let report = stage.apply(&wanted).await;
    assert!(report.is_complete());
    assert_eq!(stage.cloud.busiest(), Shell::STACKS_AT_ONCE);
}

fn hook(when: Moment, command: &[&str]) -> Hook {
    let place = Place::new(&SourceFile::new("stacks/main.yaml", "x:"), Span::new(0, 1));
    Hook { when, command: command.iter().map(|word| (*word).to_owned()).collect(), place }
}

fn hooked(size: u32, hooks: Vec<Hook>) -> Arc<Wanted> {
    let mut one = stack("network", &[], size);
    one.stack.hooks = hooks;
    wanted(vec![one, stack("control", &["network"], 1)])
}

#[tokio::test]
async fn hooks_run_around_a_change_and_not_without_one() {
    let mut stage = Stage::new(Arc::default());
    let hooks = Arc::new(FakeHooks::default());
    stage.shell.hooks = Arc::clone(&hooks) as _;
    let own = || {
        vec![
            hook(Moment::BeforeApply, &["before"]),
            hook(Moment::AfterApply, &["after"]),
            hook(Moment::BeforeDestroy, &["going"]),
            hook(Moment::AfterDestroy, &["gone"]),
        ]
    };
    assert!(stage.apply(&hooked(1, own())).await.is_complete());
    assert!(stage.apply(&hooked(1, own())).await.is_complete());
    assert!(stage.apply(&hooked(2, own())).await.is_complete());
    let wanted = hooked(2, own());
    let (_, found) = stage.plan(&wanted).await;
    assert!(destroy(&stage.shell, wanted, &found).await.is_complete());
    assert_eq!(
        hooks.was_run(),
        [
            "create before -",
            "create after demo-local-network.Id",
            "update before demo-local-network.Id",
            "update after demo-local-network.Id",
            "delete going demo-local-network.Id",
            "delete gone demo-local-network.Id",
        ]
    );
}

#[tokio::test]
async fn a_hook_that_fails_keeps_the_stack_from_being_changed_and_those_behind_it() {
    let mut stage = Stage::new(Arc::default());
    stage.shell.hooks = Arc::new(FakeHooks::default());
    let report = stage.apply(&hooked(1, vec![hook(Moment::BeforeApply, &["check", "fail"])])).await;
    let outcomes: Vec<Outcome> = report.stacks.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Skipped]);
    assert_eq!(stage.cloud.log(), Vec::<String>::new());
    let report = stage.apply(&hooked(1, vec![hook(Moment::AfterApply, &["fail"])])).await;
    assert!(!report.is_complete());
    assert_eq!(stage.cloud.log().last().map(String::as_str), Some("create demo-local-network"));
    let failures: Vec<String> = stage.failures().into_iter().map(|failure| failure.cause).collect();
    assert_eq!(
        failures,
        [
            "the hook `check fail` failed: it ended with status 3",
            "the hook `fail` failed: it ended with status 3",
        ]
    );
}

#[tokio::test]
async fn a_policy_is_set_after_creation_and_before_an_update_and_holds_back_what_it_denies() {
    let stage = Stage::new(Arc::default());
    let policed = |size: u32, allow: bool| {
        let mut one = stack("network", &[], size);
        let all = |name: &str| Chosen { others: false, patterns: vec![name.to_owned()] };
        let place = one.stack.place.clone();
        let statement =
            Statement { allow, actions: all("Update:*"), resources: all("*"), types: None, place };
        one.stack.policy = Some(StackPolicy { statements: vec![statement] });
        wanted(vec![one])
    };
    assert!(stage.apply(&policed(1, true)).await.is_complete());
    assert!(stage.plan(&policed(1, true)).await.0.stacks.iter().all(|s| s.action == StackAction::Unchanged));
    // A change of nothing but the policy needs no change set.
    assert!(stage.apply(&policed(1, false)).await.is_complete());
    let (plan, _) = stage.plan(&policed(2, false)).await;
    let blocked: Vec<&str> = plan.blocked().map(|(_, blocked)| blocked.why.as_str()).collect();
    assert_eq!(blocked, ["statement 1 of its policy denies Update:Modify of Thing (AWS::Fake::Thing)"]);
    assert!(stage.apply(&policed(2, true)).await.is_complete());
    assert_eq!(
        stage.cloud.log(),
        [
            "create demo-local-network",
            "policy demo-local-network",
            "policy demo-local-network",
            "policy demo-local-network",
            "update demo-local-network",
        ]
    );
}
