use super::*;

fn which(task: &str, template: &str) -> Which {
    Which {
        task: task.to_owned(),
        service: "web".to_owned(),
        slot: "1".to_owned(),
        template: template.to_owned(),
        exclusive: false,
        on_disconnect: OnDisconnect::Keep,
    }
}

fn placeholder(task: &str) -> Placeholder {
    Placeholder { which: which(task, "t"), told: None }
}

fn instance(task: &str, state: State) -> Instance {
    Instance { which: which(task, "t"), state, stopping: None, unhealthy: false }
}

fn known(task: &str, standing: Standing) -> BTreeMap<String, Known> {
    BTreeMap::from([(task.to_owned(), Known { standing, epoch: 1 })])
}

fn decided(
    placeholders: &[Placeholder],
    instances: &[Instance],
    known: &BTreeMap<String, Known>,
) -> (Vec<Action>, Vec<String>) {
    let now = Duration::from_secs(100);
    let decision = decide(&Seen { now, placeholders, instances, known, heard: now });
    (decision.actions, decision.ask)
}

fn none() -> BTreeMap<String, Known> {
    BTreeMap::new()
}

const NOBODY: [String; 0] = [];

#[test]
fn a_placeholder_has_its_units_started_and_ends_with_them() {
    let one = [placeholder("a")];
    assert_eq!(decided(&one, &[], &none()).0, [Action::Start("a".to_owned())]);
    for state in [State::Starting, State::Active] {
        assert_eq!(decided(&one, &[instance("a", state)], &none()), (vec![], NOBODY.to_vec()), "at rest");
    }
    let failed = instance("a", State::Failed("web.service failed: exit-code".to_owned()));
    let reason = "web.service failed: exit-code".to_owned();
    let expected = [Action::End("a".to_owned(), 1, reason), Action::Stop("a".to_owned(), Why::Over)];
    assert_eq!(decided(&one, &[failed], &none()).0, expected);
}

#[test]
fn units_stop_only_where_their_task_is_over() {
    let told = [Placeholder { told: Some(Duration::from_secs(99)), ..placeholder("a") }];
    let running = [instance("a", State::Active)];
    let stop = vec![Action::Stop("a".to_owned(), Why::Over)];
    assert_eq!(decided(&told, &running, &known("a", Standing::Over)).0, stop);
    // The engine of the machine is being stopped: its placeholder may go, and the units stay.
    let end = vec![Action::Release("a".to_owned())];
    assert_eq!(decided(&told, &running, &known("a", Standing::Wanted)).0, end);
    // Nobody knows.
    assert_eq!(decided(&told, &running, &none()), (vec![], vec!["a".to_owned()]));
    let long = [Placeholder { told: Some(Duration::from_secs(90)), ..placeholder("a") }];
    assert_eq!(decided(&long, &running, &none()).0, end);
    // What the engine stops because it is unhealthy is to be stopped, whatever managers say.
    let unhealthy = [Instance { unhealthy: true, ..instance("a", State::Active) }];
    assert_eq!(decided(&told, &unhealthy, &known("a", Standing::Wanted)).0, stop);
}

#[test]
fn units_without_a_placeholder_stay_until_their_task_is_over() {
    let running = [instance("a", State::Active)];
    let asked = vec!["a".to_owned()];
    for known in [none(), known("a", Standing::Wanted), known("a", Standing::Succeeded("b".to_owned()))] {
        assert_eq!(decided(&[], &running, &known), (vec![], asked.clone()));
    }
    let (actions, _) = decided(&[], &running, &known("a", Standing::Over));
    assert_eq!(actions, [Action::Stop("a".to_owned(), Why::Over)]);
    let twice = [instance("a", State::Active), instance("b", State::Active)];
    let (actions, _) = decided(&[placeholder("b")], &twice, &known("a", Standing::Succeeded("b".to_owned())));
    assert_eq!(actions, [Action::Stop("a".to_owned(), Why::Over)], "the successor has units of its own");
    let next = [placeholder("b")];
    let adopt = [Action::Adopt("a".to_owned(), "b".to_owned())];
    assert_eq!(decided(&next, &running, &none()).0, adopt);
    let other = [Placeholder { which: which("b", "u"), told: None }];
    assert_eq!(decided(&other, &running, &none()).0, [Action::Start("b".to_owned())], "it has other units");
}

#[test]
fn an_exclusive_copy_waits_for_the_end_of_the_one_before() {
    let exclusive = |task: &str, template: &str| Which { exclusive: true, ..which(task, template) };
    let next = [Placeholder { which: exclusive("b", "u"), told: None }];
    let stopping = Instance {
        which: exclusive("a", "t"),
        state: State::Active,
        stopping: Some(Why::Over),
        unhealthy: false,
    };
    assert_eq!(decided(&next, &[stopping], &none()).0, []);
    assert_eq!(decided(&next, &[], &none()).0, [Action::Start("b".to_owned())]);
    // It is not given up while it may still run, however long nobody answers.
    let told = [Placeholder { which: exclusive("a", "t"), told: Some(Duration::ZERO) }];
    let running = Instance { which: exclusive("a", "t"), ..instance("a", State::Active) };
    assert_eq!(decided(&told, &[running], &none()).0, []);
}

#[test]
fn units_stop_by_themselves_after_the_time_they_were_given() {
    let limit = Duration::from_secs(30);
    let limited = Which { on_disconnect: OnDisconnect::StopAfter(limit), ..which("a", "t") };
    let placeholders = [Placeholder { which: limited.clone(), told: None }];
    let now = Duration::from_secs(100);
    let at = |instances: &[Instance], heard: u64, known: &BTreeMap<String, Known>| {
        let heard = Duration::from_secs(heard);
        decide(&Seen { now, placeholders: &placeholders, instances, known, heard })
    };
    // Its epoch comes from the managers, so it does not start without them.
    assert_eq!(at(&[], 100, &none()).actions, []);
    assert_eq!(at(&[], 100, &none()).ask, ["a"]);
    assert_eq!(at(&[], 100, &known("a", Standing::Wanted)).actions, [Action::Start("a".to_owned())]);
    let running = [Instance { which: limited.clone(), ..instance("a", State::Active) }];
    assert_eq!(at(&running, 71, &none()).actions, []);
    assert_eq!(at(&running, 70, &none()).actions, [Action::Stop("a".to_owned(), Why::Disconnected)]);
    let stopped =
        [Instance { which: limited, stopping: Some(Why::Disconnected), ..instance("a", State::Stopped) }];
    let reason = "no control machine was reached for 30s".to_owned();
    assert_eq!(at(&stopped, 70, &none()).actions[0], Action::End("a".to_owned(), 1, reason));
}

#[test]
fn the_state_of_an_instance_is_that_of_all_its_units() {
    let start = ["a.service".to_owned(), "b.service".to_owned()];
    let unit = |active: &str, job: bool| UnitState {
        active: active.to_owned(),
        job,
        result: if active == "failed" { "exit-code" } else { "success" }.to_owned(),
    };
    let of = |a: (&str, bool), b: (&str, bool), stopping: bool| {
        let shown = BTreeMap::from([(start[0].clone(), unit(a.0, a.1)), (start[1].clone(), unit(b.0, b.1))]);
        state(&start, &shown, stopping)
    };
    assert_eq!(of(("active", false), ("reloading", false), false), State::Active);
    assert_eq!(of(("active", false), ("activating", false), false), State::Starting);
    assert_eq!(of(("active", false), ("inactive", true), false), State::Starting, "its turn comes");
    assert_eq!(of(("active", false), ("inactive", false), false), State::Ended("b.service".to_owned()));
    assert_eq!(of(("inactive", false), ("inactive", false), false), State::Stopped);
    let failed = State::Failed("b.service failed: its process ended with an error".to_owned());
    assert_eq!(of(("active", false), ("failed", false), false), failed);
    assert_eq!(of(("deactivating", false), ("failed", false), true), State::Active, "not yet");
    assert_eq!(of(("inactive", false), ("failed", false), true), State::Stopped);
    assert_eq!(state(&start, &BTreeMap::new(), false), State::Stopped, "systemd knows neither");
}
