//! `[X-Fleet]`: on which machines a unit may run. systemd does not read it; a scheduler does.

use super::Unit;
use super::check::Check;
use super::name::UnitName;
use super::parse::{Entry, Text};
use super::scalar;
use super::words::words;
use crate::source::suggest;

const KEYS: [&str; 6] = ["MachineID", "MachineOf", "MachineMetadata", "Conflicts", "Global", "Replaces"];

/// Names that fleet once had.
const OLD: [(&str, &str); 6] = [
    ("X-Conflicts", "Conflicts"),
    ("X-ConditionMachineID", "MachineID"),
    ("X-ConditionMachineBootID", "MachineID"),
    ("X-ConditionMachineOf", "MachineOf"),
    ("X-ConditionMachineMetadata", "MachineMetadata"),
    ("ConditionMachineOf", "MachineOf"),
];

/// Keys that can't stand together.
const PAIRS: [(&str, &str); 7] = [
    ("MachineID", "MachineOf"),
    ("MachineID", "Conflicts"),
    ("MachineID", "Global"),
    ("MachineID", "Replaces"),
    ("Global", "MachineOf"),
    ("Global", "Replaces"),
    ("Conflicts", "Replaces"),
];

/// The options of a unit's `[X-Fleet]` section, old names replaced by present ones.
pub fn options(unit: &Unit) -> impl Iterator<Item = (&str, &Entry)> {
    let entries = unit.file().entries().filter(|(section, _)| *section == "X-Fleet");
    entries.map(|(_, entry)| {
        let name = entry.key.as_str();
        (OLD.iter().find(|(old, _)| *old == name).map_or(name, |(_, now)| *now), entry)
    })
}

/// What follows `i-` where a machine is named as an instance of EC2.
pub fn instance(id: &str) -> Option<&str> {
    id.strip_prefix("i-").filter(|rest| !rest.is_empty())
}

impl<'u> Check<'u> {
    /// The section, if there is one.
    pub fn fleet(&mut self) {
        let entries = self.unit.file().entries().filter(|(section, _)| *section == "X-Fleet");
        let entries: Vec<&'u Entry> = entries.map(|(_, entry)| entry).collect();
        let mut seen: Vec<(&'u str, &'u Entry)> = Vec::new();
        for entry in entries {
            let name = entry.key.as_str();
            self.key = name;
            self.path = format!("X-Fleet/{name}");
            let span = entry.key.mark(0..name.len());
            let key = match (KEYS.iter().find(|key| **key == name), OLD.iter().find(|(old, _)| *old == name))
            {
                (Some(key), _) => *key,
                (None, Some((_, now))) => {
                    self.warn(
                        "deprecated-key",
                        format!("`{name}=` is an old name"),
                        span,
                        format!("use `{now}=`"),
                    );
                    now
                }
                (None, None) => {
                    let near = suggest(name, KEYS).map(|near| format!("did you mean `{near}`?"));
                    let problem = self.error(
                        "unknown-key",
                        format!("[X-Fleet] has no key `{name}`"),
                        span,
                        near.clone().unwrap_or_default(),
                    );
                    if near.is_none() {
                        problem
                            .help
                            .push(format!("it has {}", KEYS.map(|key| format!("`{key}`")).join(", ")));
                    }
                    continue;
                }
            };
            if entry.value.as_str().is_empty() {
                self.error("bad-value", format!("`{name}=` has no value"), span, "");
                continue;
            }
            self.fleet_value(key, &entry.value);
            let no_global = key == "Global" && !is_true(entry.value.as_str());
            if !no_global {
                seen.push((key, entry));
            }
        }
        for (one, other) in PAIRS {
            let find = |key: &str| seen.iter().find(|(name, _)| *name == key).map(|(_, entry)| *entry);
            let (Some(first), Some(second)) = (find(one), find(other)) else { continue };
            // The later of both is in the way.
            let (first, second) =
                if first.key.span() > second.key.span() { (second, first) } else { (first, second) };
            let (before, key) = (first.key.as_str(), second.key.as_str());
            self.path = format!("X-Fleet/{key}");
            let line = self.file.position(first.key.span().start).line;
            self.error(
                "conflicting-keys",
                format!("`{key}=` can't stand with `{before}=`"),
                second.key.span(),
                format!("`{before}=` is in line {line}"),
            );
        }
        self.peers(&seen);
        self.path.clear();
    }

    /// A unit can't follow one that it keeps away from itself.
    fn peers(&mut self, seen: &[(&'u str, &'u Entry)]) {
        let of = |key: &'static str| seen.iter().filter(move |(name, _)| *name == key);
        for (_, entry) in of("MachineOf") {
            for peer in words(entry.value.as_str()).unwrap_or_default() {
                let keeps_away = of("Conflicts")
                    .chain(of("Replaces"))
                    .flat_map(|(_, entry)| words(entry.value.as_str()).unwrap_or_default())
                    .find(|pattern| !peer.text.contains('%') && glob(&pattern.text, &peer.text));
                if let Some(pattern) = keeps_away {
                    self.path = "X-Fleet/MachineOf".into();
                    let message = format!("`{}` can't be followed: it matches `{}`", peer.text, pattern.text);
                    self.error(
                        "conflicting-keys",
                        message,
                        entry.value.mark(peer.range),
                        "the unit keeps away from it",
                    );
                }
            }
        }
    }

    fn fleet_value(&mut self, key: &str, text: &Text) {
        let all = text.as_str();
        if let Some(range) = unknown(all) {
            let name = all[range.clone()].to_owned();
            let span = text.mark(range);
            self.error(
                "unknown-specifier",
                format!("[X-Fleet] has no specifier `{name}`"),
                span,
                "it has `%n`, `%N`, `%p` and `%i`",
            );
            return;
        }
        match key {
            "Global" => {
                if !scalar::is_bool(all) {
                    self.bad(
                        text,
                        0..all.len(),
                        format!("`{all}` is no value of `Global=`"),
                        "`true` or `false`",
                    );
                }
            }
            "MachineID" => {
                let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let of_fleet = matches!(all.len(), 8 | 32) && is_hex(all);
                let of_aws = instance(all).is_some_and(is_hex);
                if !of_fleet && !of_aws && !all.contains('%') {
                    self.bad(
                        text,
                        0..all.len(),
                        format!("`{all}` is no machine's id"),
                        "such as `i-0abc12345678def00`, or fleet's 32 hexadecimal digits or the first 8 of them",
                    );
                }
            }
            "MachineMetadata" => {
                for word in self.words(text) {
                    let fine = word
                        .text
                        .split_once('=')
                        .is_some_and(|(name, value)| !name.trim().is_empty() && !value.trim().is_empty());
                    if !fine {
                        self.bad(
                            text,
                            word.range,
                            format!("`{}` is no pair of a name and a value", word.text),
                            "such as `region=eu-west-1`",
                        );
                    }
                }
            }
            "MachineOf" => {
                let words = words(all).unwrap_or_default();
                for word in words {
                    self.peer(text, word.range, &word.text);
                }
            }
            _ => {
                // Globs: only what no name of a unit can be is surely wrong.
                for word in self.words(text) {
                    let open = word.text.matches('[').count();
                    if open != word.text.matches(']').count() {
                        self.bad(
                            text,
                            word.range,
                            format!("`{}` is no pattern", word.text),
                            "a `[` is not closed",
                        );
                    } else if !word.text.contains(['*', '?', '[', '%']) {
                        self.peer(text, word.range, &word.text);
                    }
                }
            }
        }
    }

    fn peer(&mut self, text: &Text, range: std::ops::Range<usize>, name: &str) {
        if name.contains('%') {
            return;
        }
        let span = text.mark(range);
        match UnitName::parse(name) {
            Err(why) => {
                self.error("bad-unit-name", format!("`{name}` is no name of a unit: {why}"), span, "");
            }
            Ok(peer) if self.unit.name() == Some(&peer) && self.key != "Conflicts" => {
                self.error("bad-value", format!("`{}=` names the unit itself", self.key), span, "");
            }
            Ok(_) => {}
        }
    }
}

/// Whether fleet, as systemd does, reads a value as true.
pub fn is_true(text: &str) -> bool {
    ["true", "t", "yes", "y", "1", "on"].iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Whether a pattern of `*` and `?` matches. Sets in brackets are taken for no match, since only
/// what surely matches is told.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    if pattern.iter().any(|c| matches!(c, '[' | '\\' | '%')) {
        return false;
    }
    let (mut at, mut next) = (0, 0);
    // Where to go on when it does not fit: behind the last star, with one character more in it.
    let mut star = None;
    while next < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, next));
                at += 1;
            }
            Some(c) if *c == '?' || *c == text[next] => {
                at += 1;
                next += 1;
            }
            _ => match star {
                Some((begin, taken)) => {
                    star = Some((begin, taken + 1));
                    at = begin + 1;
                    next = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

/// A specifier that fleet does not have.
fn unknown(text: &str) -> Option<std::ops::Range<usize>> {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '%'
            && let Some((next, letter)) = chars.next()
            && letter.is_ascii_alphanumeric()
            && !"nNpi".contains(letter)
        {
            return Some(at..next + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{Options, check_text};

    fn codes(name: &str, text: &str) -> Vec<&'static str> {
        check_text(name, text, &Options::default()).iter().map(|problem| problem.code).collect()
    }

    #[test]
    fn patterns_match_whole_names() {
        assert!(glob("web@*.service", "web@1.service") && glob("*", "a") && glob("a?c*", "abcd"));
        assert!(!glob("web", "web.service") && !glob("a?", "a") && !glob("[a]", "a"));
    }

    #[test]
    fn fleet_sections_are_checked() {
        let fleet =
            |lines: &str| codes("a@.service", &format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{lines}\n"));
        for fine in [
            "MachineID=148a18ff",
            "MachineOf=b@%i.service",
            "MachineMetadata=region=a disk=ssd\nMachineMetadata=\"a=b\"",
            "Conflicts=a@*.service",
            "Global=true\nMachineMetadata=a=b",
            "Replaces=b.service",
            "Global=false\nMachineOf=b.service",
            "Conflicts=a@*.service b?.service\nMachineOf=b.service",
        ] {
            assert_eq!(fleet(fine), Vec::<&str>::new(), "{fine}");
        }
        for (wrong, code) in [
            ("MachineID=xyz", "bad-value"),
            ("MachineOf=b", "bad-unit-name"),
            ("MachineMetadata=region", "bad-value"),
            ("Global=true\nMachineOf=b.service", "conflicting-keys"),
            ("MachineID=148a18ff\nConflicts=a*", "conflicting-keys"),
            ("Conflicts=x*\nReplaces=y.service", "conflicting-keys"),
            ("Global=perhaps", "bad-value"),
            ("X-ConditionMachineID=148a18ff", "deprecated-key"),
            ("MachineMetdata=a=b", "unknown-key"),
            ("MachineMetadata=a=%H", "unknown-specifier"),
            ("MachineOf=a@.service", "bad-value"),
            ("MachineOf=b-1.service\nConflicts=b-*.service", "conflicting-keys"),
        ] {
            assert_eq!(fleet(wrong), [code], "{wrong}");
        }
    }
}
