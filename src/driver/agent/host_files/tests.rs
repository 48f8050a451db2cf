//! Watched files on a machine whose agent is killed at any moment.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;

use super::*;
use crate::model::host_file::{FeedLine, Selection};
use crate::plan::dice::Dice;
use crate::plan::host_file::whole;
use crate::port::cluster::ClusterError;
use crate::port::host_files::OnDisk;

/// A machine: its disk outlives the agent, and so do its programs.
#[derive(Default)]
struct Machine {
    files: Mutex<BTreeMap<String, String>>,
    records: Mutex<BTreeMap<HostFileName, HostFileRecord>>,
    /// What each program has read, by the reload that makes it.
    loaded: Mutex<BTreeMap<Reload, BTreeMap<String, String>>>,
    candidates: Mutex<BTreeMap<String, String>>,
    reported: Mutex<HostFileStates>,
    checks: AtomicU32,
    reloads: AtomicU32,
    settled: AtomicU32,
    /// After how many more steps the agent is killed: from then on nothing that it does happens.
    left: Mutex<Option<u32>>,
    /// How many reloads fail before one succeeds.
    broken: AtomicU32,
    /// How much time has passed.
    passed: Mutex<Duration>,
}

impl Machine {
    fn pass(&self, time: Duration) {
        *self.passed.lock().expect("not poisoned") += time;
    }

    /// Whether the agent still lives; each question is a step.
    fn step(&self) -> std::io::Result<()> {
        let mut left = self.left.lock().expect("not poisoned");
        match left.as_mut() {
            None => Ok(()),
            Some(0) => Err(std::io::Error::other("killed")),
            Some(more) => {
                *more -= 1;
                Ok(())
            }
        }
    }
}

impl HostDisk for Machine {
    fn read(&self, spec: &HostFileSpec) -> std::io::Result<Option<OnDisk>> {
        self.step()?;
        let files = self.files.lock().expect("not poisoned");
        Ok(files.get(&spec.path).map(|text| OnDisk { bytes: text.clone().into_bytes(), is_owned: true }))
    }

    fn prepare(&self, spec: &HostFileSpec, text: &str) -> std::io::Result<String> {
        self.step()?;
        let name = format!("{}.new", spec.path);
        self.candidates.lock().expect("not poisoned").insert(name.clone(), text.to_owned());
        Ok(name)
    }

    fn replace(&self, candidate: &str, spec: &HostFileSpec) -> std::io::Result<()> {
        self.step()?;
        let text = self.candidates.lock().expect("not poisoned").remove(candidate).expect("it was prepared");
        self.files.lock().expect("not poisoned").insert(spec.path.clone(), text);
        Ok(())
    }

    fn discard(&self, candidate: &str) {
        self.candidates.lock().expect("not poisoned").remove(candidate);
    }

    fn records(&self) -> std::io::Result<BTreeMap<HostFileName, HostFileRecord>> {
        Ok(self.records.lock().expect("not poisoned").clone())
    }

    fn record(&self, name: &HostFileName, record: &HostFileRecord) -> std::io::Result<()> {
        self.step()?;
        self.records.lock().expect("not poisoned").insert(name.clone(), record.clone());
        Ok(())
    }

    fn forget(&self, name: &HostFileName) -> std::io::Result<()> {
        self.step()?;
        self.records.lock().expect("not poisoned").remove(name);
        Ok(())
    }

    fn settled(&self) -> std::io::Result<()> {
        self.settled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[async_trait]
impl Programs for Machine {
    async fn check(&self, command: &[String]) -> Result<(), String> {
        self.step().map_err(|error| error.to_string())?;
        self.checks.fetch_add(1, Ordering::Relaxed);
        let candidates = self.candidates.lock().expect("not poisoned");
        let text = candidates.get(&command[1]).ok_or("there is no such file")?;
        if text.contains("bad") { Err(format!("{}: bad line", command[1])) } else { Ok(()) }
    }

    async fn reload(&self, reload: &Reload) -> Result<(), String> {
        self.step().map_err(|error| error.to_string())?;
        self.reloads.fetch_add(1, Ordering::Relaxed);
        let fails =
            self.broken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if fails.is_ok() {
            return Err("exit status 1: not now".to_owned());
        }
        let files = self.files.lock().expect("not poisoned").clone();
        self.loaded.lock().expect("not poisoned").insert(reload.clone(), files);
        Ok(())
    }
}

#[async_trait]
impl Feeds for Machine {
    async fn feed(&self, _: &MachineId) -> Result<Lines, ClusterError> {
        Ok(futures_util::stream::pending().boxed())
    }

    async fn report(&self, _: &MachineId, states: &HostFileStates) -> Result<(), ClusterError> {
        *self.reported.lock().expect("not poisoned") = states.clone();
        Ok(())
    }
}

static BEGUN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

fn keeper(machine: &Arc<Machine>) -> HostFiles {
    HostFiles {
        me: "i-1".parse().expect("an id"),
        feeds: machine.clone(),
        disk: machine.clone(),
        programs: machine.clone(),
        clock: {
            let (machine, begun) = (machine.clone(), *BEGUN);
            Arc::new(move || begun + *machine.passed.lock().expect("not poisoned"))
        },
        surroundings: Surroundings::still("demo", "test", "main", chrono::DateTime::UNIX_EPOCH),
    }
}

fn definition(name: &str, number: u64, template: &str, reload: Option<&str>) -> Definition {
    let reload = reload.map(|program| Reload::Command(vec![program.to_owned()]));
    Definition {
        number,
        spec: HostFileSpec {
            name: name.parse().expect("a name"),
            path: format!("/etc/{name}"),
            source: format!("templates/host_files/{name}"),
            template: template.to_owned(),
            mode: 0o644,
            owner: None,
            keys: vec!["/k".to_owned()],
            services: Selection::default(),
            machines: false,
            check: vec!["check".to_owned(), CANDIDATE.to_owned()],
            reload,
            placement: BTreeMap::new(),
        },
    }
}

fn line(files: Vec<Definition>, key: &str) -> FeedLine {
    let mut feed = Feed { files: files.into_iter().map(Arc::new).collect(), ..Feed::default() };
    feed.facts.keys.insert("/k".to_owned(), key.to_owned());
    whole(&feed)
}

const TEMPLATE: &str = "<{ getv(key=\"/k\") }>";

fn name(text: &str) -> HostFileName {
    text.parse().expect("a name")
}

#[tokio::test]
async fn a_file_is_checked_replaced_and_its_program_reloaded_once() {
    let machine = Arc::new(Machine::default());
    let keeper = keeper(&machine);
    let mut progress = keeper.begin().expect("begun");
    let files = || vec![definition("a", 1, TEMPLATE, Some("p")), definition("b", 1, TEMPLATE, Some("p"))];
    progress.take(line(files(), "one"), (keeper.clock)());
    keeper.round(&mut progress).await;
    let file = |path: &str| machine.files.lock().expect("not poisoned").get(path).cloned();
    assert_eq!((file("/etc/a"), file("/etc/b")), (Some("one".into()), Some("one".into())));
    assert_eq!(machine.reloads.load(Ordering::Relaxed), 1, "one program with two files");
    assert_eq!(machine.settled.load(Ordering::Relaxed), 1);
    assert_eq!(
        machine.reported.lock().expect("not poisoned")[&name("a")],
        HostFileState { number: 1, problem: None }
    );
    // Nothing has changed: nothing is done.
    keeper.round(&mut progress).await;
    assert_eq!((machine.checks.load(Ordering::Relaxed), machine.reloads.load(Ordering::Relaxed)), (2, 1));
    // A new file that its check refuses: the old one stays, and it is said why.
    progress.take(line(files(), "bad"), (keeper.clock)());
    keeper.round(&mut progress).await;
    assert_eq!(file("/etc/a"), Some("one".into()));
    let state = machine.reported.lock().expect("not poisoned")[&name("a")].clone();
    let problem = state.problem.expect("a problem");
    assert_eq!((problem.at, problem.reason.as_str()), (FileStep::Check, "/etc/a: bad line"));
    assert!(machine.candidates.lock().expect("not poisoned").is_empty());
    // It is not checked again at once, another text is.
    let checks = machine.checks.load(Ordering::Relaxed);
    keeper.round(&mut progress).await;
    assert_eq!(machine.checks.load(Ordering::Relaxed), checks);
    machine.pass(Duration::from_secs(2));
    keeper.round(&mut progress).await;
    assert_eq!(machine.checks.load(Ordering::Relaxed), checks + 2, "what the check needs may have come");
    progress.take(line(files(), "two"), (keeper.clock)());
    keeper.round(&mut progress).await;
    assert_eq!(file("/etc/a"), Some("two".into()));
    assert!(machine.reported.lock().expect("not poisoned").values().all(|state| state.problem.is_none()));
    // Somebody edits it.
    machine.files.lock().expect("not poisoned").insert("/etc/a".into(), "edited".into());
    keeper.round(&mut progress).await;
    assert_eq!(file("/etc/a"), Some("two".into()));
    // A file that is no longer this machine's stays as it is.
    progress.take(line(vec![definition("b", 1, TEMPLATE, Some("p"))], "two"), (keeper.clock)());
    machine.pass(Duration::from_secs(3));
    keeper.round(&mut progress).await;
    keeper.round(&mut progress).await;
    assert_eq!(file("/etc/a"), Some("two".into()));
    assert_eq!(machine.records.lock().expect("not poisoned").len(), 1);
}

#[tokio::test]
async fn a_reload_that_fails_is_tried_again_until_it_succeeds() {
    let machine = Arc::new(Machine::default());
    machine.broken.store(3, Ordering::Relaxed);
    let keeper = keeper(&machine);
    let mut progress = keeper.begin().expect("begun");
    progress.take(line(vec![definition("a", 1, TEMPLATE, Some("p"))], "one"), (keeper.clock)());
    keeper.round(&mut progress).await;
    let state = machine.reported.lock().expect("not poisoned")[&name("a")].clone();
    assert_eq!(state.problem.expect("a problem").reason, "p: exit status 1: not now");
    let mut rounds = 0;
    while machine.loaded.lock().expect("not poisoned").is_empty() {
        let now = (keeper.clock)();
        machine.pass(progress.due(now).saturating_duration_since(now));
        keeper.round(&mut progress).await;
        rounds += 1;
        assert!(rounds < 10, "it is tried when it is due");
    }
    assert_eq!(machine.reloads.load(Ordering::Relaxed), 4);
    assert_eq!(machine.records.lock().expect("not poisoned")[&name("a")].due, None);
    assert!(machine.reported.lock().expect("not poisoned")[&name("a")].problem.is_none());
}

fn small(dice: &mut Dice, limit: u32) -> u32 {
    u32::try_from(dice.below(limit.into())).expect("below the limit")
}

/// The agent is killed at generated moments, with generated files, programs and changes: in the end every file is what it should be,
/// and every program has read what is in place.
#[tokio::test]
async fn whatever_moment_the_agent_is_killed_at_no_reload_is_forgotten() {
    let seeds = if crate::source::fuzz_cases(64) > 64 { 20_000 } else { 2_000 };
    for seed in 0..seeds {
        let mut dice = Dice(seed);
        let machine = Arc::new(Machine::default());
        machine.broken.store(small(&mut dice, 3), Ordering::Relaxed);
        let mut keeper = keeper(&machine);
        let mut progress = keeper.begin().expect("begun");
        let mut last = None;
        for round in 1..=2 + dice.below(4) {
            let text = ["one", "two", "bad", "three"][small(&mut dice, 4) as usize];
            let mut files = vec![definition("a", round, TEMPLATE, Some("p"))];
            if dice.below(2) == 0 {
                files.push(definition(
                    "b",
                    round,
                    "<{ getv(key=\"/k\") }>!",
                    Some(["p", "q"][small(&mut dice, 2) as usize]),
                ));
            }
            let sent = line(files, text);
            *machine.left.lock().expect("not poisoned") = Some(small(&mut dice, 24));
            progress.take(sent.clone(), (keeper.clock)());
            for _ in 0..dice.below(3) {
                keeper.round(&mut progress).await;
                machine.pass(Duration::from_secs(3));
            }
            last = Some(sent);
            if dice.below(2) == 0 {
                // The next agent knows what was remembered and nothing else.
                *machine.left.lock().expect("not poisoned") = None;
                machine.candidates.lock().expect("not poisoned").clear();
                keeper = self::keeper(&machine);
                progress = keeper.begin().expect("begun");
            }
        }
        *machine.left.lock().expect("not poisoned") = None;
        let Some(mut sent) = last else { continue };
        // At last there is something that every check accepts.
        sent.keys.insert("/k".to_owned(), Some("last".to_owned()));
        progress = keeper.begin().expect("begun");
        progress.take(sent.clone(), (keeper.clock)());
        for _ in 0..12 {
            keeper.round(&mut progress).await;
            machine.pass(Duration::from_secs(61));
        }
        let records = machine.records.lock().expect("not poisoned").clone();
        assert!(records.values().all(|record| record.due.is_none()), "seed {seed}: {records:?}");
        let files = machine.files.lock().expect("not poisoned").clone();
        for file in sent.files.expect("files") {
            let path = &file.spec.path;
            assert!(files[path].starts_with("last"), "seed {seed}: {files:?}");
            let loaded = machine.loaded.lock().expect("not poisoned").clone();
            let program =
                loaded.get(file.spec.reload.as_ref().expect("one")).unwrap_or_else(|| panic!("seed {seed}"));
            assert_eq!(program.get(path), files.get(path), "seed {seed}: {path}");
        }
    }
}
