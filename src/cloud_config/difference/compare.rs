//! How one thing is compared with what it was.

use super::{Change, Kind, Reach, What, bytes_diff, text_diff};
use crate::cloud_config::check::secrets::{redacted, shown_setting};
use crate::cloud_config::effects::{File, Unit, User};
use crate::cloud_config::target::Dialect;

/// Compares for one dialect.
pub struct Compare {
    /// The dialect of both.
    pub dialect: Dialect,
}

impl Compare {
    /// What is done again at each boot of coreos-cloudinit, and once by cloud-init; neither undoes.
    fn reach(&self, kind: Kind) -> Reach {
        match (self.dialect, kind) {
            (Dialect::CoreOs, Kind::Added | Kind::Changed) => Reach::NextBoot,
            (Dialect::CoreOs | Dialect::CloudInit, Kind::Removed) => Reach::Stays,
            (Dialect::CloudInit, Kind::Added | Kind::Changed) => Reach::NewMachines,
        }
    }

    fn change(&self, what: What, name: &str, kind: Kind) -> Change {
        let (name, reach) = (name.to_owned(), self.reach(kind));
        Change { what, name, kind, details: Vec::new(), diff: None, reach }
    }

    /// The change of a file.
    pub fn file(&self, old: Option<&File>, new: Option<&File>) -> Option<Change> {
        let facts = |file: &File| {
            format!("{} bytes, mode {:04o}, owner {}", file.content.len(), file.mode, file.owner)
        };
        Some(match (old, new) {
            (None, None) => return None,
            (None, Some(new)) => {
                let mut change = self.change(What::File, &new.path, Kind::Added);
                change.details.push(facts(new));
                change.diff = std::str::from_utf8(&new.content).ok().and_then(|text| text_diff("", text));
                change
            }
            (Some(old), None) => {
                let mut change = self.change(What::File, &old.path, Kind::Removed);
                change.details.push(facts(old));
                change
            }
            (Some(old), Some(new)) => {
                let mut change = self.change(What::File, &new.path, Kind::Changed);
                change.diff = bytes_diff(&old.content, &new.content, &mut change.details);
                if old.mode != new.mode {
                    change.details.push(format!("mode {:04o} to {:04o}", old.mode, new.mode));
                }
                if old.owner != new.owner {
                    change.details.push(format!("owner {} to {}", old.owner, new.owner));
                }
                if old.append != new.append {
                    change.details.push("how it is written, anew or at its end".to_owned());
                }
                if change.details.is_empty() {
                    return None;
                }
                change
            }
        })
    }

    /// The change of a unit.
    pub fn unit(&self, old: Option<&Unit>, new: Option<&Unit>) -> Option<Change> {
        let none = Unit::default();
        let (kind, name) = match (old, new) {
            (None, None) => return None,
            (None, Some(unit)) => (Kind::Added, &unit.name),
            (Some(unit), None) => (Kind::Removed, &unit.name),
            (Some(unit), Some(_)) => (Kind::Changed, &unit.name),
        };
        let mut change = self.change(What::Unit, name, kind);
        if kind == Kind::Removed {
            return Some(change);
        }
        let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
        let flags = [
            (old.enabled, new.enabled, "enabled", "not enabled"),
            (old.masked, new.masked, "masked", "not masked"),
            (old.runtime, new.runtime, "until the next boot", "for good"),
        ];
        for (was, is, yes, no) in flags {
            if was != is {
                change.details.push(if is { yes } else { no }.to_owned());
            }
        }
        if old.commands != new.commands {
            let list = |commands: &[String]| match commands {
                [] => "nothing".to_owned(),
                some => some.join(", "),
            };
            change.details.push(format!("command {} to {}", list(&old.commands), list(&new.commands)));
        }
        if old.content != new.content {
            let text = |unit: &Unit| unit.content.clone().unwrap_or_default();
            change.diff = bytes_diff(text(old).as_bytes(), text(new).as_bytes(), &mut change.details);
        }
        for (name, text) in &new.drop_ins {
            let known = old.drop_ins.iter().find(|(known, _)| known == name);
            if known.is_none_or(|(_, known)| known != text) {
                let verb = if known.is_none() { "added" } else { "changed" };
                change.details.push(format!("drop-in {name} {verb}"));
                let before = known.and_then(|(_, text)| text.clone()).unwrap_or_default();
                let diff = text_diff(&before, text.as_deref().unwrap_or_default());
                change.diff = Some(change.diff.unwrap_or_default() + &diff.unwrap_or_default())
                    .filter(|diff| !diff.is_empty());
            }
        }
        for (name, _) in &old.drop_ins {
            if !new.drop_ins.iter().any(|(known, _)| known == name) {
                change.details.push(format!("drop-in {name} removed"));
                change.reach = change.reach.max(self.reach(Kind::Removed));
            }
        }
        // What was enabled or masked stays so.
        if old.enabled && !new.enabled || old.masked && !new.masked {
            change.reach = change.reach.max(self.reach(Kind::Removed));
        }
        (kind == Kind::Added || !change.details.is_empty()).then_some(change)
    }

    /// The change of a user.
    pub fn user(&self, old: Option<&User>, new: Option<&User>) -> Option<Change> {
        let (old, new) = match (old, new) {
            (None, None) => return None,
            (None, Some(user)) => return Some(self.change(What::User, &user.name, Kind::Added)),
            (Some(user), None) => return Some(self.change(What::User, &user.name, Kind::Removed)),
            (Some(old), Some(new)) => (old, new),
        };
        let mut change = self.change(What::User, &new.name, Kind::Changed);
        if old.password != new.password {
            change.details.push("password".to_owned());
        }
        if old.keys != new.keys {
            let added = new.keys.iter().filter(|key| !old.keys.contains(key)).count();
            let removed = old.keys.iter().filter(|key| !new.keys.contains(key)).count();
            change.details.push(format!("public keys: {added} added, {removed} removed"));
        }
        let mut once = Vec::new();
        if old.groups != new.groups {
            once.push(format!("groups {} to {}", old.groups.join(", "), new.groups.join(", ")));
        }
        if old.options != new.options {
            let differs = |(key, value): &&(String, String)| {
                old.options.iter().find(|(known, _)| known == key).is_none_or(|(_, known)| known != value)
            };
            let gone =
                old.options.iter().filter(|(key, _)| !new.options.iter().any(|(known, _)| known == key));
            let mut keys: Vec<&str> =
                new.options.iter().filter(differs).chain(gone).map(|(key, _)| key.as_str()).collect();
            keys.sort_unstable();
            keys.dedup();
            once.push(keys.join(", "));
        }
        // Of a user that is there, coreos-cloudinit changes the password and the keys only.
        if !once.is_empty() {
            change.reach = Reach::NewMachines;
            change.details.extend(once);
        }
        (!change.details.is_empty()).then_some(change)
    }

    /// Names with a value, each of which may change.
    pub fn pairs(
        &self,
        what: What,
        old: &[(String, String)],
        new: &[(String, String)],
        changes: &mut Vec<Change>,
    ) {
        let mut found: Vec<Change> = Vec::new();
        for (name, value) in new {
            let change = match old.iter().find(|(known, _)| known == name) {
                None => Change {
                    details: vec![shown_setting(name, value)],
                    ..self.change(what, name, Kind::Added)
                },
                Some((_, before)) if before != value => {
                    let details =
                        vec![format!("{} to {}", shown_setting(name, before), shown_setting(name, value))];
                    Change { details, ..self.change(what, name, Kind::Changed) }
                }
                Some(_) => continue,
            };
            found.push(change);
        }
        for (name, value) in old.iter().filter(|(name, _)| !new.iter().any(|(known, _)| known == name)) {
            found.push(Change {
                details: vec![shown_setting(name, value)],
                ..self.change(what, name, Kind::Removed)
            });
        }
        for change in &mut found {
            if each_boot(&change.name) {
                change.reach = Reach::NextBoot;
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        changes.extend(found);
    }

    /// Lines, of which some may be gone, some new, or all the same in another order.
    pub fn list(&self, what: What, old: &[String], new: &[String], changes: &mut Vec<Change>) {
        let missing = |from: &[String], of: &[String]| {
            let mut left = of.to_vec();
            let mut missing = Vec::new();
            for line in from {
                match left.iter().position(|known| known == line) {
                    Some(at) => drop(left.swap_remove(at)),
                    None => missing.push(redacted(line).into_owned()),
                }
            }
            missing
        };
        let (added, removed) = (missing(new, old), missing(old, new));
        if added.is_empty() && removed.is_empty() && old != new {
            let mut change = self.change(what, "", Kind::Changed);
            change.details.push("the order".to_owned());
            change.diff = text_diff(&(old.join("\n") + "\n"), &(new.join("\n") + "\n"));
            changes.push(change);
        }
        changes.extend(removed.iter().map(|line| self.change(what, line, Kind::Removed)));
        changes.extend(added.iter().map(|line| self.change(what, line, Kind::Added)));
    }
}

/// Settings whose module cloud-init runs at every boot (`PER_ALWAYS` in 22.4).
fn each_boot(name: &str) -> bool {
    let module = name.split('.').next().unwrap_or_default();
    ["growpart", "resize_rootfs", "final_message", "manage_etc_hosts", "preserve_hostname", "chef"]
        .contains(&module)
}
