//! An AWS within the test's process: CloudFormation with failures, throttling and stuck stacks that
//! emulators don't have, and the little of S3, STS and Auto Scaling that goes with it.
//!
//! It speaks the real protocols on a port of 127.0.0.1, so the program under test is the real one.
//! Work goes on as time passes, some hundredths of a second a step, unless the test stops the clock.

mod actions;
mod answers;
mod bucket;
mod changes;
mod policy;
mod serve;
mod ssm;
mod stack;
mod template;
mod wire;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;

pub use changes::Dialect;
pub use stack::Stack;
use wire::{Form, Refusal};

/// The account and region of everything.
pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-west-1";
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a resource fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While it is created.
    Create,
    /// While it is changed or replaced.
    Update,
    /// While its change is undone, or its creation.
    Rollback,
    /// While it is deleted.
    Delete,
}

/// A failure to come.
#[derive(Debug, Clone)]
pub struct Failing {
    stack: String,
    resource: String,
    when: When,
    reason: String,
}

/// Calls that will not be answered as they should.
#[derive(Debug)]
struct Refusing {
    /// The action; `*` is any but S3's.
    action: String,
    /// The stack it is about, where it is about one.
    stack: Option<String>,
    /// What is said.
    refusal: Refusal,
    /// How many more times.
    left: u32,
    /// Whether what was asked is done nevertheless.
    done: bool,
}

/// How an answer is changed on its way.
#[derive(Debug, Clone)]
pub enum Spoil {
    /// It ends in the middle, where this text stands.
    CutBefore(&'static str),
    /// Elements of this name are left out.
    Without(&'static str),
}

impl Spoil {
    fn apply(&self, answer: &str) -> String {
        match self {
            Self::CutBefore(text) => answer.split(text).next().unwrap_or_default().to_owned(),
            Self::Without(name) => {
                let (open, close) = (format!("<{name}>"), format!("</{name}>"));
                let mut left = answer.to_owned();
                while let (Some(from), Some(to)) = (left.find(&open), left.find(&close)) {
                    left.replace_range(from..to + close.len(), "");
                }
                left
            }
        }
    }
}

/// How many calls are answered: as many as there are tokens, which come back with time.
#[derive(Debug)]
struct Limit {
    a_second: f64,
    most: f64,
    left: f64,
    since: Instant,
}

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub stacks: Vec<Stack>,
    change_sets: Vec<changes::ChangeSet>,
    buckets: bucket::Buckets,
    /// The parameter store.
    pub parameters: ssm::ParameterStore,
    dialect: Dialect,
    failing: Vec<Failing>,
    refusing: Vec<Refusing>,
    limit: Option<Limit>,
    /// Answers that are changed on their way: whose, how many more, and how.
    spoiling: Vec<(String, u32, Spoil)>,
    /// Whether repeated requests are not known by their tokens.
    forgets_tokens: bool,
    /// Tokens of requests that were done, by stack.
    tokens: BTreeSet<(String, String)>,
    gates: Vec<Arc<Gate>>,
    calls: BTreeMap<String, u32>,
    serial: u32,
    /// Autoscaling groups, as they are listed.
    pub groups: Vec<String>,
    /// Who imports what: the export, and the stack.
    pub imports: Vec<(String, String)>,
    stopped: bool,
    /// Whether change sets are never computed.
    stalled: bool,
}

/// Where requests of one action end: they are never answered.
#[derive(Debug)]
pub struct Gate {
    action: String,
    /// Whether they are not even looked at, or done and then not answered.
    before: bool,
    reached: Mutex<bool>,
}

/// The server; it ends with this value.
pub struct FakeAws {
    shared: Arc<Shared>,
    port: u16,
    runtime: Option<tokio::runtime::Runtime>,
}

struct Shared {
    world: Mutex<World>,
    /// Told after every request.
    news: Condvar,
}

impl FakeAws {
    /// Starts one that tells changes in `dialect`.
    pub fn start(dialect: Dialect) -> Self {
        let world = World {
            stacks: Vec::new(),
            change_sets: Vec::new(),
            buckets: bucket::Buckets::default(),
            parameters: ssm::ParameterStore::default(),
            dialect,
            failing: Vec::new(),
            refusing: Vec::new(),
            limit: None,
            spoiling: Vec::new(),
            forgets_tokens: false,
            tokens: BTreeSet::new(),
            gates: Vec::new(),
            calls: BTreeMap::new(),
            serial: 0,
            groups: Vec::new(),
            imports: Vec::new(),
            stopped: false,
            stalled: false,
        };
        let shared = Arc::new(Shared { world: Mutex::new(world), news: Condvar::new() });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let app = Router::new().fallback(serve::serve).with_state(Arc::clone(&shared));
        runtime.spawn(async move { axum::serve(listener, app).await });
        Self { shared, port, runtime: Some(runtime) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What the program needs in its environment to use this AWS.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// Everything there is, as of now; the server waits while this is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.shared.world.lock().expect("the server does not panic");
        world.advance();
        world
    }

    /// Makes a resource of a stack fail from now on.
    pub fn fail(&self, stack: &str, resource: &str, when: When, reason: &str) {
        let (stack, resource, reason) = (stack.to_owned(), resource.to_owned(), reason.to_owned());
        self.world().failing.push(Failing { stack, resource, when, reason });
    }

    /// Takes all failures to come back.
    pub fn mend(&self) {
        self.world().failing.clear();
    }

    /// Answers the next `count` calls of `action` (`*` is any but S3's) as CloudFormation does when there are too many.
    pub fn throttle(&self, action: &str, count: u32) {
        self.refuse(action, Refusal::new("Throttling", "Rate exceeded"), count, false);
    }

    /// Answers no more than `a_second` calls of CloudFormation each second, after a burst of `most`.
    pub fn limit(&self, a_second: f64, most: f64) {
        self.world().limit = Some(Limit { a_second, most, left: most, since: Instant::now() });
    }

    /// Answers the next `count` calls of `action` with HTTP status 503.
    pub fn unavailable(&self, action: &str, count: u32) {
        self.refuse(action, Refusal::unavailable(), count, false);
    }

    /// Does what the next call of `action` asks for, and answers it with HTTP status 503.
    pub fn lose_answer(&self, action: &str) {
        self.refuse(action, Refusal::unavailable(), 1, true);
    }

    /// Accepts the next `count` calls of `action`, and does nothing.
    pub fn swallow(&self, action: &str, count: u32) {
        let refusal = Refusal { status: 200, ..Refusal::new("", "") };
        self.refuse(action, refusal, count, false);
    }

    /// Refuses the credentials of every call of CloudFormation from now on.
    pub fn expire(&self) {
        let words = "The security token included in the request is expired";
        self.refuse("*", Refusal { status: 403, ..Refusal::new("ExpiredToken", words) }, u32::MAX, false);
    }

    /// Takes credentials again.
    pub fn renew(&self) {
        self.world().refusing.clear();
    }

    /// Changes the next `count` answers of `action` on their way.
    pub fn spoil(&self, action: &str, count: u32, how: Spoil) {
        self.world().spoiling.push((action.to_owned(), count, how));
    }

    /// Knows no repeated request by its token from now on.
    pub fn forget_tokens(&self) {
        self.world().forgets_tokens = true;
    }

    /// Makes a bucket as if the account `owner` had; others may use it when it is `open`.
    pub fn make_bucket(&self, bucket: &str, owner: &str, open: bool) {
        self.world().buckets.make(bucket, owner, open);
    }

    /// Lets somebody replace `from` by `to` in every object, as soon as it is written.
    pub fn exchange_objects(&self, from: &str, to: &str) {
        self.world().buckets.exchange(from, to);
    }

    /// What was set to protect a bucket, in order, and how many objects it has.
    pub fn protections(&self, bucket: &str) -> (Vec<(String, String)>, usize) {
        let world = self.world();
        let (protections, objects) = world.buckets.protections(bucket);
        (protections.to_vec(), objects)
    }

    /// Refuses the next `count` calls of `action` for `stack`, as CloudFormation does when it finds the request wrong.
    pub fn refuse_of(&self, stack: &str, action: &str, reason: &str, count: u32) {
        let (action, stack) = (action.to_owned(), Some(stack.to_owned()));
        let refusal = Refusal::validation(reason);
        self.world().refusing.push(Refusing { action, stack, refusal, left: count, done: false });
    }

    fn refuse(&self, action: &str, refusal: Refusal, left: u32, done: bool) {
        self.world().refusing.push(Refusing { action: action.to_owned(), stack: None, refusal, left, done });
    }

    /// Lets no time pass for stacks, until [`FakeAws::go_on`].
    pub fn stop_time(&self) {
        self.world().stopped = true;
    }

    /// Lets time pass again.
    pub fn go_on(&self) {
        let mut world = self.world();
        world.stopped = false;
        world.stacks.iter_mut().for_each(Stack::resume);
    }

    /// Lets no change set be computed from now on.
    pub fn stall_change_sets(&self) {
        self.world().stalled = true;
    }

    /// Keeps calls of `action` from being looked at (`before`), or only from being answered.
    pub fn gate(&self, action: &str, before: bool) -> Arc<Gate> {
        let gate = Arc::new(Gate { action: action.to_owned(), before, reached: Mutex::new(false) });
        self.world().gates.push(Arc::clone(&gate));
        gate
    }

    /// Waits until a call stands before `gate`.
    pub fn wait_at(&self, gate: &Gate) {
        self.wait_until(&gate.action, |_| *gate.reached.lock().expect("a flag"));
    }

    /// Lets later calls pass; those that wait are never answered.
    pub fn lift(&self, gate: &Arc<Gate>) {
        self.world().gates.retain(|other| !Arc::ptr_eq(other, gate));
    }

    /// Waits until `what` has come about.
    pub fn wait_until(&self, what: &str, is: impl Fn(&World) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut world = self.world();
        while !is(&world) {
            assert!(
                Instant::now() < until,
                "{what}: it does not come about; calls so far: {:?}",
                world.calls
            );
            // Time alone also brings things about, so it is looked again before long.
            let wait = Duration::from_millis(20);
            world = self.shared.news.wait_timeout(world, wait).expect("the server does not panic").0;
            world.advance();
        }
    }

    /// Asks the server itself, as somebody else would; nothing is counted.
    pub fn ask(&self, action: &str, fields: &[(&str, &str)]) -> String {
        let answer = self.world().answer(action, &Form::of(fields));
        answer.unwrap_or_else(|refusal| panic!("{action} is refused: {refusal:?}"))
    }

    /// Puts a stack into a status that nothing done to this AWS leads to.
    pub fn put_into(&self, stack: &str, status: &str) {
        let mut world = self.world();
        let at = world.find(stack).expect("the stack exists");
        status.clone_into(&mut world.stacks[at].status);
        world.stacks[at].stack_event(status, "");
    }

    /// How often `action` was called.
    pub fn calls(&self, action: &str) -> u32 {
        self.world().calls.get(action).copied().unwrap_or(0)
    }

    /// Every action that was called, and how often, since the last time.
    pub fn take_calls(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.world().calls)
    }

    /// A stack's status; `None` where there is none of that name.
    pub fn status(&self, stack: &str) -> Option<String> {
        let world = self.world();
        world.find(stack).map(|at| world.stacks[at].status.clone())
    }
}

impl Drop for FakeAws {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl World {
    /// What an object holds.
    pub fn object(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.buckets.object(bucket, key).map(<[u8]>::to_vec)
    }

    /// Makes an object hold something else.
    pub fn set_object(&mut self, bucket: &str, key: &str, bytes: Vec<u8>) {
        self.buckets.set(bucket, key, bytes);
    }

    /// Removes an object.
    pub fn remove_object(&mut self, bucket: &str, key: &str) {
        self.buckets.remove(bucket, key);
    }

    /// Answers these actions of S3 with HTTP status 503 from now on, and no others.
    pub fn take_down(&mut self, actions: &[&'static str]) {
        self.buckets.take_down(actions);
    }

    fn next(&mut self) -> u32 {
        self.serial += 1;
        self.serial
    }

    fn advance(&mut self) {
        if !self.stopped {
            let now = Instant::now();
            self.stacks.iter_mut().for_each(|stack| stack.advance(now));
        }
    }

    /// How often `action` was called.
    pub fn called(&self, action: &str) -> u32 {
        self.calls.get(action).copied().unwrap_or(0)
    }

    /// The stack of that name.
    pub fn stack(&self, name: &str) -> &Stack {
        let at = self.find(name).unwrap_or_else(|| panic!("there is no stack `{name}`"));
        &self.stacks[at]
    }

    /// The names of the change sets that are left and were not executed.
    pub fn waiting(&self) -> Vec<&str> {
        self.change_sets.iter().filter(|set| set.executed.is_none()).map(|set| set.name.as_str()).collect()
    }

    /// The answer as it arrives.
    fn spoiled(&mut self, action: &str, answer: String) -> String {
        let Some((_, left, how)) = self.spoiling.iter_mut().find(|(of, left, _)| of == action && *left > 0)
        else {
            return answer;
        };
        *left -= 1;
        how.apply(&answer)
    }

    /// Answers a call, or refuses it where a test wants that.
    fn answer_or_refuse(&mut self, action: &str, form: &Form) -> Result<String, Refusal> {
        if self.limit.as_mut().is_some_and(|limit| !limit.allows()) {
            *self.calls.entry("throttled".to_owned()).or_default() += 1;
            return Err(Refusal::new("Throttling", "Rate exceeded"));
        }
        let fits = |r: &&mut Refusing| {
            let of = r.stack.is_none() || r.stack.as_deref() == form.get("StackName");
            (r.action == action || r.action == "*") && of && r.left > 0
        };
        let Some(refusing) = self.refusing.iter_mut().find(fits) else { return self.answer(action, form) };
        refusing.left -= 1;
        let (refusal, done) = (refusing.refusal.clone(), refusing.done);
        if done {
            self.answer(action, form)?;
        }
        if refusal.status == 200 { Ok(String::new()) } else { Err(refusal) }
    }

    fn answer(&mut self, action: &str, form: &Form) -> Result<String, Refusal> {
        match action {
            "DescribeStacks" => self.describe_stacks(form),
            "GetTemplate" => self.get_template(form),
            "CreateChangeSet" => self.create_change_set(form),
            "DescribeChangeSet" => self.describe_change_set(form),
            "ExecuteChangeSet" => self.execute_change_set(form),
            "DeleteChangeSet" => self.delete_change_set(form),
            "ListChangeSets" => self.list_change_sets(form),
            "DeleteStack" => self.delete_stack(form),
            "DescribeStackEvents" => self.describe_stack_events(form),
            "ListStackResources" => self.list_stack_resources(form),
            "RollbackStack" => self.rollback_stack(form),
            "ContinueUpdateRollback" => self.continue_update_rollback(form),
            "UpdateTerminationProtection" => self.update_termination_protection(form),
            "SetStackPolicy" => self.set_stack_policy(form),
            "GetStackPolicy" => self.get_stack_policy(form),
            "ListImports" => self.list_imports(form),
            "DescribeAutoScalingGroups" => Ok(self.describe_groups()),
            "GetCallerIdentity" => Ok(wire::text("Account", ACCOUNT)),
            other => Err(Refusal::new("InvalidAction", format!("the fake AWS does not serve `{other}`"))),
        }
    }
}

impl Limit {
    fn allows(&mut self) -> bool {
        let now = Instant::now();
        let come = (now - self.since).as_secs_f64() * self.a_second;
        (self.left, self.since) = ((self.left + come).min(self.most), now);
        let allows = self.left >= 1.0;
        if allows {
            self.left -= 1.0;
        }
        allows
    }
}
