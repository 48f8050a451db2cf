//! What changes from one document to another, by effect, and what of it reaches machines that run.

use std::fmt;

use similar::TextDiff;

use super::check::secrets::redacted;
use super::effects::Effects;

mod compare;

use compare::Compare;

/// One thing that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it is.
    pub what: What,
    /// Its name: a path, a unit, a command.
    pub name: String,
    /// How it changes.
    pub kind: Kind,
    /// What of it changes, such as `mode 0644 to 0600`.
    pub details: Vec<String>,
    /// The difference of its text, secrets masked.
    pub diff: Option<String>,
    /// Which machines it reaches.
    pub reach: Reach,
}

/// What a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// The user data as a whole: a script, or another dialect.
    UserData,
    /// The name of the machine.
    Hostname,
    /// A file.
    File,
    /// A unit.
    Unit,
    /// A user.
    User,
    /// A group.
    Group,
    /// A package.
    Package,
    /// A mount.
    Mount,
    /// A command.
    Command,
    /// Any other setting.
    Setting,
}

impl What {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::UserData => "user data",
            Self::Hostname => "hostname",
            Self::File => "file",
            Self::Unit => "unit",
            Self::User => "user",
            Self::Group => "group",
            Self::Package => "package",
            Self::Mount => "mount",
            Self::Command => "command",
            Self::Setting => "setting",
        }
    }
}

/// How something changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is new.
    Added,
    /// It is another.
    Changed,
    /// It is gone.
    Removed,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// Which machines a change reaches. A machine keeps the user data that it was launched with, so
/// a change of a launch template reaches none that run before a roll; what is told apart is what
/// happens once a machine's own user data is replaced and it boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// The engine does it again at each boot.
    NextBoot,
    /// Machines that have it keep it: nothing is ever undone.
    Stays,
    /// The engine does it once for each instance.
    NewMachines,
}

impl Reach {
    /// A stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::NextBoot => "next-boot",
            Self::Stays => "stays",
            Self::NewMachines => "new-machines",
        }
    }

    /// Whether machines that run must be replaced for it, even if their user data was.
    pub fn needs_roll(self) -> bool {
        self != Self::NextBoot
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NextBoot => "done again at each boot of a machine that has the new user data",
            Self::Stays => "stays on machines that have it; a roll is rid of it",
            Self::NewMachines => "reaches new machines only; a roll replaces those that run",
        })
    }
}

/// What changes from `old` to `new`, in a fixed order; nothing when they do the same.
pub fn difference(old: &Effects, new: &Effects) -> Vec<Change> {
    if old.kind != new.kind || old.dialect != new.dialect || old.script.is_some() || new.script.is_some() {
        return whole(old, new);
    }
    let compare = Compare { dialect: new.dialect };
    let mut changes = Vec::new();
    let hostname = |effects: &Effects| {
        effects.hostname.iter().map(|name| (String::new(), name.clone())).collect::<Vec<_>>()
    };
    compare.pairs(What::Hostname, &hostname(old), &hostname(new), &mut changes);
    keyed(&old.files, &new.files, |file| &file.path, |old, new| compare.file(old, new), &mut changes);
    keyed(&old.units, &new.units, |unit| &unit.name, |old, new| compare.unit(old, new), &mut changes);
    keyed(&old.users, &new.users, |user| &user.name, |old, new| compare.user(old, new), &mut changes);
    let groups = |effects: &Effects| {
        effects.groups.iter().map(|(name, members)| (name.clone(), members.join(", "))).collect::<Vec<_>>()
    };
    compare.pairs(What::Group, &groups(old), &groups(new), &mut changes);
    compare.list(What::Package, &old.packages, &new.packages, &mut changes);
    compare.list(What::Mount, &old.mounts, &new.mounts, &mut changes);
    for list in ["bootcmd", "runcmd"] {
        let lines = |effects: &Effects| {
            let own = effects.commands.iter().filter(|command| command.list == list);
            own.map(|command| command.line.clone()).collect::<Vec<_>>()
        };
        let from = changes.len();
        compare.list(What::Command, &lines(old), &lines(new), &mut changes);
        for change in &mut changes[from..] {
            change.details.insert(0, format!("of {list}"));
            // What has run once is not undone by leaving it out.
            change.reach = if list == "bootcmd" { Reach::NextBoot } else { Reach::NewMachines };
        }
    }
    compare.pairs(What::Setting, &old.settings, &new.settings, &mut changes);
    changes
}

/// The change of a text that is not looked into.
fn whole(old: &Effects, new: &Effects) -> Vec<Change> {
    if old == new {
        return Vec::new();
    }
    let mut details = Vec::new();
    if old.kind != new.kind || old.dialect != new.dialect {
        details.push("it is of another kind".to_owned());
    }
    let text = |effects: &Effects| effects.script.clone().unwrap_or_default();
    let diff = text_diff(&text(old), &text(new));
    let (what, kind, reach) = (What::UserData, Kind::Changed, Reach::NewMachines);
    vec![Change { what, name: String::new(), kind, details, diff, reach }]
}

/// The difference as a unified diff, secrets masked; `None` when nothing can be shown.
fn text_diff(old: &str, new: &str) -> Option<String> {
    let (old, new) = (redacted(old), redacted(new));
    let diff = TextDiff::from_lines(&old, &new).unified_diff().context_radius(3).to_string();
    (!diff.is_empty()).then_some(diff)
}

fn bytes_diff(old: &[u8], new: &[u8], details: &mut Vec<String>) -> Option<String> {
    if old == new {
        return None;
    }
    let (Ok(old_text), Ok(new_text)) = (std::str::from_utf8(old), std::str::from_utf8(new)) else {
        details.push(format!("content, {} to {} bytes", old.len(), new.len()));
        return None;
    };
    let diff = text_diff(old_text, new_text);
    details.push(if diff.is_some() { "content".to_owned() } else { "a secret in its content".to_owned() });
    diff
}

/// Walks two lists that are sorted by name.
fn keyed<T>(
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &str,
    compare: impl Fn(Option<&T>, Option<&T>) -> Option<Change>,
    changes: &mut Vec<Change>,
) {
    let (mut left, mut right) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => name(a).cmp(name(b)),
        };
        let a = if order.is_le() { left.next() } else { None };
        let b = if order.is_ge() { right.next() } else { None };
        changes.extend(compare(a, b));
    }
}
