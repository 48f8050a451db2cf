//! Cutting the power of machines on purpose, and switching them on again.
//!
//! The order is a note among a machine's files: which boot is to end, and when the machine is
//! switched on again. Only the supervisor carries it out, so a command that is interrupted, or a
//! supervisor that is killed, leaves nothing behind that the next supervisor does not know.
//! Which machine is off for how long is a pure function of the options and a seed.

use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::event::local::LocalEvent;
use crate::event::{EventKind, Events};
use crate::model::duration;
use crate::model::machine::Role;
use crate::model::name::LocalName;

use super::emulator::Emulator;
use super::error::LocalError;
use super::home::{CloudFiles, Home, write_file};
use super::instance::Instance;
use super::machines::{self, Machines, Run};
use super::reconcile::{ContainerState, PowerCut};
use super::state::State;

/// The version of a note; one of another version is not carried out.
const NOTE_VERSION: u32 = 1;
/// The longest time that a machine may be off.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// How long the supervisor may take to carry out an order, once its time has come.
const SLACK: Duration = Duration::from_secs(60);
/// How often a machine is checked.
const PAUSE: Duration = Duration::from_millis(100);
/// The tag with a machine's role, as the shipped templates set it.
const ROLE_TAG: &str = "fleetwright:role";

/// The order to cut a machine's power.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    version: u32,
    /// The boot that is to end: when Docker started it.
    boot: String,
    /// When the machine is switched on again.
    on_at: DateTime<Utc>,
}

impl Note {
    /// The one of a machine, if there is one that can be read.
    pub fn read(files: &CloudFiles, instance: &str) -> Option<Self> {
        let path = files.power_cut(instance);
        let text = std::fs::read(&path).ok()?;
        match serde_json::from_slice::<Self>(&text) {
            Ok(note) if note.version == NOTE_VERSION => Some(note),
            Ok(note) => {
                tracing::warn!(path = %path.display(), version = note.version, "a power cut of another version");
                None
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a power cut that can't be read");
                None
            }
        }
    }

    /// What it says of a machine whose container was last started at `boot`.
    pub fn on(&self, boot: &str, now: DateTime<Utc>) -> PowerCut {
        if self.boot == boot { PowerCut::Ordered { over: now >= self.on_at } } else { PowerCut::Done }
    }

    /// Writes it. Fails when the machine's files are gone.
    fn write(&self, files: &CloudFiles, instance: &str) -> Result<(), LocalError> {
        write_file(&files.power_cut(instance), serde_json::to_vec_pretty(self).unwrap_or_default())
    }
}

/// What all notes say, to see whether that has changed.
pub(super) fn orders(files: &CloudFiles, now: DateTime<Utc>) -> Vec<(String, DateTime<Utc>, bool)> {
    let entries = std::fs::read_dir(files.machines()).into_iter().flatten().flatten();
    let mut orders: Vec<_> = entries
        .filter_map(|entry| {
            let instance = entry.file_name().to_string_lossy().into_owned();
            if !files.power_cut(&instance).exists() {
                return None;
            }
            let note = Note::read(files, &instance)?;
            Some((instance, note.on_at, now >= note.on_at))
        })
        .collect();
    orders.sort();
    orders
}

/// How long machines are off: from the least to the most, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    least: Duration,
    most: Duration,
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let parse = |text: &str| {
            duration::parse(text).ok_or_else(|| format!("`{text}` is no duration; write `10s` or `5s..2m`"))
        };
        let (least, most) = (parse(least)?, parse(most)?);
        if least > most {
            return Err("the first duration of a range is the shorter one".to_owned());
        }
        if most > LONGEST {
            return Err("a machine can be off for 24h at most".to_owned());
        }
        Ok(Self { least, most })
    }
}

/// In which order machines are switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As their delays fall.
    Random,
    /// As they are listed.
    Listed,
    /// The last of the list first.
    Reversed,
}

/// Which machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// Those of these instances, in this order.
    Named(Vec<String>),
    /// Those of one role.
    Role(Role),
    /// All.
    All,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which machines.
    pub which: Which,
    /// How long each is off; with an order, how long after the one before it is switched on.
    pub delay: Delay,
    /// In which order they are switched on.
    pub order: Order,
    /// Whether each is cut only when the one before it is on again.
    pub one_at_a_time: bool,
    /// What decides everything that is random.
    pub seed: u64,
}

/// One machine that is off for a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its instance.
    pub instance: String,
    /// How long it is off.
    pub off: Duration,
}

/// Which machine is off for how long, in the order in which they are switched on. The same options
/// and machines give the same answer.
pub fn schedule(instances: &[String], options: &Options) -> Vec<Turn> {
    let mut random = Random(options.seed);
    let mut listed = instances.to_vec();
    match options.order {
        Order::Listed => {}
        Order::Reversed => listed.reverse(),
        Order::Random => {
            for at in (1..listed.len()).rev() {
                listed.swap(at, random.below(at as u64 + 1) as usize);
            }
        }
    }
    let span = (options.delay.most - options.delay.least).as_millis() as u64;
    let mut before = Duration::ZERO;
    let mut turns: Vec<Turn> = listed
        .into_iter()
        .map(|instance| {
            let delay = options.delay.least + Duration::from_millis(random.below(span + 1));
            let off = if options.order == Order::Random || options.one_at_a_time {
                delay
            } else {
                before += delay;
                before
            };
            Turn { instance, off }
        })
        .collect();
    if options.order == Order::Random && !options.one_at_a_time {
        turns.sort_by_key(|turn| turn.off);
    }
    turns
}

/// SplitMix64: all that is asked of it is that a seed gives the same numbers on every computer.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Cuts the power of machines, and returns when all are on again.
///
/// # Errors
/// When a machine that is named is not there or does not run, when nothing fits, and when the
/// supervisor does not carry the order out.
pub async fn cycle(
    home: &Home,
    name: &LocalName,
    state: &State,
    options: &Options,
    events: &Events,
) -> Result<(), LocalError> {
    let files = home.cloud(name);
    let machines = Machines::new(machines::connect().await?, name.clone(), files.clone());
    let instances = Emulator::new(state.ports.emulator).instances(None, Duration::ZERO).await?.instances;
    let instances: Vec<Instance> = instances.into_iter().filter(Instance::wants_machine).collect();
    let chosen = choose(&instances, &options.which)?;
    for machine in machines.observe().await?.machines {
        if !chosen.contains(&machine.instance) {
            continue;
        }
        let why = match (machine.container, machine.power) {
            (Some(ContainerState::Running), PowerCut::None | PowerCut::Done) => continue,
            (_, PowerCut::Ordered { .. }) => "its power is cut already",
            _ => "it does not run",
        };
        return Err(LocalError::NoMachine { instance: machine.instance, why });
    }
    let turns = schedule(&chosen, options);
    events.emit(EventKind::Local(LocalEvent::PowerCycle {
        machines: turns.iter().map(|turn| turn.instance.clone()).collect(),
        seed: options.seed,
    }));
    let cycle = Cycle { machines, files, events };
    if options.one_at_a_time {
        for turn in &turns {
            let ordered = cycle.order(turn).await?;
            cycle.follow(ordered).await?;
        }
        return Ok(());
    }
    let mut ordered = Vec::new();
    for turn in &turns {
        ordered.push(cycle.order(turn).await?);
    }
    let followed = ordered.into_iter().map(|order| cycle.follow(order));
    futures_util::future::join_all(followed).await.into_iter().collect()
}

/// The instances that are meant, each once.
fn choose(instances: &[Instance], which: &Which) -> Result<Vec<String>, LocalError> {
    let mut sorted: Vec<&Instance> = instances.iter().collect();
    sorted.sort_by(|a, b| (&a.group, a.private_ip).cmp(&(&b.group, b.private_ip)));
    let chosen: Vec<String> = match which {
        Which::All => sorted.iter().map(|instance| instance.id.clone()).collect(),
        Which::Role(role) => sorted
            .iter()
            .filter(|instance| instance.tags.get(ROLE_TAG).is_some_and(|tag| tag == role.word()))
            .map(|instance| instance.id.clone())
            .collect(),
        Which::Named(names) => {
            let mut chosen: Vec<String> = Vec::new();
            for name in names {
                if !sorted.iter().any(|instance| &instance.id == name) {
                    return Err(LocalError::NoMachine {
                        instance: name.clone(),
                        why: "no such instance has a machine",
                    });
                }
                if !chosen.contains(name) {
                    chosen.push(name.clone());
                }
            }
            chosen
        }
    };
    if chosen.is_empty() {
        let which = match which {
            Which::Role(role) => format!("with the tag `{ROLE_TAG}` = `{}`", role.word()),
            Which::All | Which::Named(_) => "at all".to_owned(),
        };
        return Err(LocalError::NoMachines { which });
    }
    Ok(chosen)
}

/// A machine with a note.
struct Ordered {
    turn: Turn,
    boot: String,
}

struct Cycle<'a> {
    machines: Machines,
    files: CloudFiles,
    events: &'a Events,
}

impl Cycle<'_> {
    /// Leaves the note with which the supervisor cuts the machine's power.
    async fn order(&self, turn: &Turn) -> Result<Ordered, LocalError> {
        let why = "it does not run";
        let Some(Run { running: true, boot, .. }) = self.machines.run(&turn.instance).await? else {
            return Err(LocalError::NoMachine { instance: turn.instance.clone(), why });
        };
        let note = Note { version: NOTE_VERSION, boot: boot.clone(), on_at: Utc::now() + turn.off };
        note.write(&self.files, &turn.instance)?;
        Ok(Ordered { turn: turn.clone(), boot })
    }

    /// Waits until the machine is off, and until it is on again.
    async fn follow(&self, ordered: Ordered) -> Result<(), LocalError> {
        let Ordered { turn: Turn { instance, off }, boot } = ordered;
        let late = |doing: &'static str| LocalError::NotSwitched { instance: instance.clone(), doing };
        self.until(&instance, SLACK, |run| !run.running || run.boot != boot)
            .await?
            .ok_or_else(|| late("cut the power"))?;
        let cut = std::time::Instant::now();
        self.events.emit(EventKind::Local(LocalEvent::PowerCut {
            instance: instance.clone(),
            seconds: off.as_secs_f64(),
        }));
        self.until(&instance, off + SLACK, |run| run.running && run.boot != boot)
            .await?
            .ok_or_else(|| late("switched the machine on again"))?;
        self.events.emit(EventKind::Local(LocalEvent::PowerOn {
            instance: instance.clone(),
            seconds: cut.elapsed().as_secs_f64(),
        }));
        Ok(())
    }

    /// Asks until the machine is as wanted; `None` when the time is up.
    async fn until(
        &self,
        instance: &str,
        limit: Duration,
        wanted: impl Fn(&Run) -> bool,
    ) -> Result<Option<()>, LocalError> {
        let end = tokio::time::Instant::now() + limit;
        while tokio::time::Instant::now() < end {
            match self.machines.run(instance).await? {
                Some(run) if wanted(&run) => return Ok(Some(())),
                Some(_) => {}
                None => return Err(LocalError::Removed { instance: instance.to_owned() }),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn options(delay: &str, order: Order, one_at_a_time: bool, seed: u64) -> Options {
        Options { which: Which::All, delay: delay.parse().unwrap(), order, one_at_a_time, seed }
    }

    fn instances() -> Vec<String> {
        ["i-1", "i-2", "i-3"].map(str::to_owned).to_vec()
    }

    /// Written by version 1; it must load for ever.
    #[test]
    fn the_first_version_still_loads() {
        let (_, text) = crate::source::samples::of("power-note").remove(0);
        let note: Note = serde_json::from_str(&text).unwrap();
        let before = "2026-11-28T17:01:29Z".parse().unwrap();
        let after = "2026-11-28T17:01:30Z".parse().unwrap();
        let boot = "2026-11-28T17:00:00.123456789Z";
        assert_eq!(note.on(boot, before), PowerCut::Ordered { over: false });
        assert_eq!(note.on(boot, after), PowerCut::Ordered { over: true });
        assert_eq!(note.on("2026-11-28T17:01:31Z", after), PowerCut::Done);
    }

    #[test]
    fn a_note_is_read_as_it_was_written_and_one_of_another_version_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let files = Home::at(folder.path()).cloud(&"local".parse().unwrap());
        assert_eq!(Note::read(&files, "i-1"), None);
        let note = Note { version: NOTE_VERSION, boot: "b".into(), on_at: DateTime::UNIX_EPOCH };
        assert!(note.write(&files, "i-1").is_err(), "it has no files");
        super::super::home::make_dir(&files.machine("i-1")).unwrap();
        note.write(&files, "i-1").unwrap();
        assert_eq!(Note::read(&files, "i-1"), Some(note.clone()));
        assert_eq!(orders(&files, Utc::now()), [("i-1".to_owned(), DateTime::UNIX_EPOCH, true)]);
        Note { version: 2, ..note }.write(&files, "i-1").unwrap();
        assert_eq!(Note::read(&files, "i-1"), None);
    }

    #[test]
    fn delays_are_one_duration_or_a_range() {
        let delay = |least, most| {
            Ok(Delay { least: Duration::from_millis(least), most: Duration::from_millis(most) })
        };
        assert_eq!("10s".parse(), delay(10_000, 10_000));
        assert_eq!("500ms..2m".parse(), delay(500, 120_000));
        for bad in ["", "10", "..", "5s..", "..5s", "2m..5s", "1s..25h", "1s...2s", "ä..5s"] {
            assert!(bad.parse::<Delay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn in_an_order_each_follows_the_one_before_it_after_the_delay() {
        let seconds = |turns: Vec<Turn>| -> Vec<(String, u64)> {
            turns.into_iter().map(|turn| (turn.instance, turn.off.as_secs())).collect()
        };
        let named = |list: [(&str, u64); 3]| list.map(|(name, off)| (name.to_owned(), off)).to_vec();
        let turns = schedule(&instances(), &options("2m", Order::Listed, false, 7));
        assert_eq!(seconds(turns), named([("i-1", 120), ("i-2", 240), ("i-3", 360)]));
        let turns = schedule(&instances(), &options("2m", Order::Reversed, false, 7));
        assert_eq!(seconds(turns), named([("i-3", 120), ("i-2", 240), ("i-1", 360)]));
        // One at a time, no outage is longer than its own.
        let turns = schedule(&instances(), &options("2m", Order::Reversed, true, 7));
        assert_eq!(seconds(turns), named([("i-3", 120), ("i-2", 120), ("i-1", 120)]));
    }

    #[test]
    fn every_order_comes_up() {
        let orders: std::collections::BTreeSet<Vec<String>> = (0..100)
            .map(|seed| {
                let turns = schedule(&instances(), &options("0s..1m", Order::Random, false, seed));
                turns.into_iter().map(|turn| turn.instance).collect()
            })
            .collect();
        assert_eq!(orders.len(), 6);
    }

    proptest! {
        #[test]
        fn a_seed_gives_every_machine_one_turn_within_the_delay(
            seed: u64, count in 1_usize..12, least in 0_u64..50_000, more in 0_u64..50_000, one: bool,
        ) {
            let listed: Vec<String> = (0..count).map(|n| format!("i-{n}")).collect();
            let delay = format!("{least}ms..{}ms", least + more);
            let options = options(&delay, Order::Random, one, seed);
            let turns = schedule(&listed, &options);
            prop_assert_eq!(&turns, &schedule(&listed, &options));
            let mut names: Vec<String> = turns.iter().map(|turn| turn.instance.clone()).collect();
            if !one {
                prop_assert!(turns.is_sorted_by_key(|turn| turn.off));
            }
            names.sort();
            let mut expected = listed.clone();
            expected.sort();
            prop_assert_eq!(names, expected);
            for turn in turns {
                let off = turn.off.as_millis() as u64;
                prop_assert!((least..=least + more).contains(&off));
            }
        }
    }
}
