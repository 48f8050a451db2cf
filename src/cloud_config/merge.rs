//! Several documents put together as one: what is common to all machines, what is a group's own.
//!
//! Later parts win. What that means for each list is in [`merge`]: a list of things that have names
//! is merged by name, a list that is done in order grows, and any other is replaced.

use std::sync::Arc;

use super::document::{Document, Kind};
use super::emit::{Emitted, yaml};
use super::model::plain;
use super::scalar::{Scalar, boolean, scalar};
use crate::source::{Diagnostic, SourceFile, Span};
use crate::yaml::{Kind as Value, Node};

/// The first line of a document.
const FIRST: &str = "#cloud-config\n";

/// What a comment begins with that names parts: at the start of a line, and the names follow.
const INCLUDE: &str = "# fleetwright: include ";

/// Several documents as one.
#[derive(Debug)]
pub struct Merged {
    /// The text.
    pub text: String,
    /// The documents it was made of, the one that wins last.
    pub parts: Vec<Arc<SourceFile>>,
    /// Scalars of the text in its order, and where each stood in the parts, one behind the other.
    places: Vec<(Span, Span)>,
}

/// The parts that a text names with `# fleetwright: include`, each with its place.
pub fn includes(text: &str) -> Vec<(&str, Span)> {
    let mut found = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(names) = line.strip_prefix(INCLUDE) {
            let mut start = at + INCLUDE.len();
            for name in names.split(char::is_whitespace) {
                if !name.is_empty() {
                    found.push((name, Span::new(start, start + name.len())));
                }
                // Every blank there is one byte long, but for those that nobody can see.
                start += name.len() + text[start + name.len()..].chars().next().map_or(0, char::len_utf8);
            }
        }
        at += line.len();
    }
    found
}

/// Puts `parts` together, the last of which wins.
///
/// Mappings are merged key by key. Files are merged by path, unless they append; users, units,
/// drop-ins and groups by name, mounts by mount point. Packages and keys are united, commands
/// follow each other. Everything else is replaced, and a key without a value takes away.
///
/// # Errors
/// What is wrong with each part that can't be read.
pub fn merge(parts: Vec<Arc<SourceFile>>) -> Result<Merged, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut root: Vec<(Node, Node)> = Vec::new();
    let mut base = 0;
    for part in &parts {
        if let Some(mut entries) = entries(part, &mut problems) {
            entries.iter_mut().for_each(|(key, value)| {
                shift(key, base);
                shift(value, base);
            });
            mapping(&mut root, entries, &at_root);
        }
        base += part.text().len();
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    if root.is_empty() {
        return Ok(Merged { text: FIRST.to_owned(), parts, places: Vec::new() });
    }
    let root = Node { span: Span::new(0, 0), tag: None, kind: Value::Mapping(root) };
    let Emitted { text, mut places } = yaml(&root);
    for (span, _) in &mut places {
        *span = Span::new(span.start + FIRST.len(), span.end + FIRST.len());
    }
    Ok(Merged { text: format!("{FIRST}{text}"), parts, places })
}

/// The entries of a part; `None` when it has none.
fn entries(part: &Arc<SourceFile>, problems: &mut Vec<Diagnostic>) -> Option<Vec<(Node, Node)>> {
    let document = Document::read(part);
    let whole = crate::yaml::first_line(part, Span::new(0, part.text().len()));
    let refuse = |span, what: &str, help: &str| {
        let message = format!("{} can't be a part of another document: {what}", part.name());
        Diagnostic::error("bad-part", message).at(part, span, "").help(help.to_owned())
    };
    if let Some(second) = document.second {
        problems.push(refuse(second, "a second document begins in it", "put it into a file of its own"));
    }
    let known = problems.len();
    problems.extend(document.problems);
    let empty = document.kind == Kind::CloudConfig
        && part.text().lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
    match document.root.map(|root| root.kind) {
        _ if problems.len() > known || empty => None,
        Some(Value::Mapping(entries)) if document.kind == Kind::CloudConfig => Some(entries),
        Some(_) if document.kind == Kind::CloudConfig => {
            problems.push(refuse(whole, "it is not a mapping", "write `key: value` pairs"));
            None
        }
        _ => {
            problems.push(refuse(whole, "it is no cloud-config", "begin it with the line `#cloud-config`"));
            None
        }
    }
}

impl Merged {
    /// Where the text under `span` came from: the part's number and the place in it. What stands
    /// between two scalars, a list say, is told by the first of them.
    pub fn origin(&self, span: Span) -> Option<(usize, Span)> {
        let next = self.places.partition_point(|(new, _)| new.end <= span.start);
        let (new, old) = self.places.get(next).or_else(|| self.places.last())?;
        let mut base = 0;
        for (number, part) in self.parts.iter().enumerate() {
            let end = base + part.text().len();
            if old.start < end || number + 1 == self.parts.len() {
                let start = old.start.saturating_sub(base);
                let stop = old.end.saturating_sub(base).min(part.text().len());
                let place = self.within(*new, Span::new(start, stop), span, part);
                return Some((number, place));
            }
            base = end;
        }
        None
    }

    /// The line of a text that `span` is in, where the text is written line by line in both.
    fn within(&self, new: Span, old: Span, span: Span, part: &SourceFile) -> Span {
        let lines = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
        let before = self.text.get(new.start..span.start).unwrap_or("");
        let (ours, theirs) = (self.text.get(new.start..new.end).unwrap_or(""), part.slice(old));
        let same = lines(ours.trim_end()) == lines(theirs.trim_end());
        if !same || lines(ours.trim_end()) == 0 {
            return old;
        }
        let skipped = lines(before);
        let mut at = old.start;
        for line in theirs.split_inclusive('\n').take(skipped) {
            at += line.len();
        }
        let line = part.text()[at..].lines().next().unwrap_or_default();
        let blanks = line.len() - line.trim_start().len();
        Span::new(at + blanks, at + line.trim_end().len().max(blanks))
    }
}

fn shift(node: &mut Node, by: usize) {
    node.span = Span::new(node.span.start + by, node.span.end + by);
    match &mut node.kind {
        Value::Scalar { .. } => {}
        Value::Sequence(items) => items.iter_mut().for_each(|item| shift(item, by)),
        Value::Mapping(entries) => entries.iter_mut().for_each(|(key, value)| {
            shift(key, by);
            shift(value, by);
        }),
    }
}

/// How the value of a key is merged.
#[derive(Clone, Copy)]
enum Rule {
    /// Mappings key by key, everything else replaced.
    Plain,
    /// The CoreOS section.
    CoreOs,
    /// A list that is done in order: the later behind the earlier.
    Append,
    /// A list of scalars, each once.
    Unite,
    /// A list of things, the same where `same` gives the same, merged with the rules of their keys.
    Named(fn(&Node) -> Option<String>, &'static dyn Fn(&str) -> Rule),
    /// The same, but the later takes the earlier's place.
    Replaced(fn(&Node) -> Option<String>),
}

fn at_root(key: &str) -> Rule {
    match key {
        "coreos" => Rule::CoreOs,
        "write_files" => Rule::Replaced(path),
        "users" => Rule::Named(name, &of_user),
        "groups" => Rule::Named(name, &plainly),
        "mounts" => Rule::Replaced(mount_point),
        "packages" | "ssh_authorized_keys" | "ssh_import_id" => Rule::Unite,
        "runcmd" | "bootcmd" => Rule::Append,
        _ => Rule::Plain,
    }
}

fn of_coreos(key: &str) -> Rule {
    match key {
        "units" => Rule::Named(name, &of_unit),
        _ => Rule::Plain,
    }
}

fn of_unit(key: &str) -> Rule {
    match key {
        "drop_ins" => Rule::Named(name, &plainly),
        _ => Rule::Plain,
    }
}

fn of_user(key: &str) -> Rule {
    match key {
        "ssh_authorized_keys" | "ssh_import_id" => Rule::Unite,
        _ => Rule::Plain,
    }
}

fn plainly(_: &str) -> Rule {
    Rule::Plain
}

/// Two files with one path are one, unless the second adds to the first.
fn path(item: &Node) -> Option<String> {
    if item.get("append").and_then(boolean) == Some(true) {
        return None;
    }
    item.get("path").map(plain)
}

/// The name of a user, a unit or a group: its `name`, the text itself, or the only key.
fn name(item: &Node) -> Option<String> {
    match item.entries() {
        Some([(key, _)]) if item.get("name").is_none() => Some(plain(key)),
        Some(_) => item.get("name").map(plain),
        None => item.text().map(str::to_owned),
    }
}

fn mount_point(item: &Node) -> Option<String> {
    let point = plain(item.items()?.get(1)?);
    // Swap has none, and there may be more than one.
    point.starts_with('/').then_some(point)
}

/// Merges `over` into `under`.
fn mapping(under: &mut Vec<(Node, Node)>, over: Vec<(Node, Node)>, rule: &dyn Fn(&str) -> Rule) {
    for (key, value) in over {
        let name = key.text().unwrap_or_default().replace('-', "_");
        let same = |known: &(Node, Node)| known.0.text().is_some_and(|text| text.replace('-', "_") == name);
        let Some(at) = under.iter().position(same) else {
            under.push((key, value));
            continue;
        };
        if scalar(&value) == Some(Scalar::Null) {
            under.remove(at);
            continue;
        }
        let (known, old) = &mut under[at];
        *known = key;
        self::value(old, value, rule(&name));
    }
}

fn value(old: &mut Node, new: Node, rule: Rule) {
    let Node { span, tag, kind } = new;
    match (&mut old.kind, kind, rule) {
        (Value::Mapping(under), Value::Mapping(over), Rule::CoreOs) => mapping(under, over, &of_coreos),
        (Value::Mapping(under), Value::Mapping(over), _) => mapping(under, over, &plainly),
        (Value::Sequence(under), Value::Sequence(over), Rule::Append) => under.extend(over),
        (Value::Sequence(under), Value::Sequence(over), Rule::Unite) => {
            for item in over {
                if !under.iter().any(|known| plain(known) == plain(&item)) {
                    under.push(item);
                }
            }
        }
        (Value::Sequence(under), Value::Sequence(over), Rule::Named(name, rules)) => {
            for item in over {
                match place(under, &item, name) {
                    None => under.push(item),
                    Some(at) => named(&mut under[at], item, rules),
                }
            }
        }
        (Value::Sequence(under), Value::Sequence(over), Rule::Replaced(name)) => {
            for item in over {
                match place(under, &item, name) {
                    None => under.push(item),
                    Some(at) => under[at] = item,
                }
            }
        }
        (_, kind, _) => *old = Node { span, tag, kind },
    }
}

fn place(items: &[Node], item: &Node, name: fn(&Node) -> Option<String>) -> Option<usize> {
    let wanted = name(item)?;
    items.iter().position(|known| name(known).as_ref() == Some(&wanted))
}

fn named(old: &mut Node, new: Node, rules: &dyn Fn(&str) -> Rule) {
    match (&mut old.kind, new) {
        (Value::Mapping(under), Node { kind: Value::Mapping(over), .. }) => mapping(under, over, rules),
        // A name alone says nothing new of what has more to it.
        (Value::Mapping(_), Node { kind: Value::Scalar { .. }, .. }) => {}
        (_, new) => *old = new,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cloud_config::effects;

    fn merged(parts: &[&str]) -> Merged {
        let files = parts.iter().enumerate();
        let files = files.map(|(number, text)| SourceFile::new(format!("{number}.yaml"), *text));
        merge(files.collect()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    #[test]
    fn the_later_part_wins_and_nothing_else_is_lost() {
        let base = "#cloud-config\nhostname: base\npackages: [curl, jq]\nwrite_files:\n\
                    - {path: /a, content: base}\n- {path: /b, content: base}\nruncmd:\n- [echo, base]\n\
                    users:\n- default\n- name: ops\n  shell: /bin/sh\n  ssh_authorized_keys: [ssh-ed25519 a]\n\
                    mounts:\n- [/dev/sdb, /data]\nswap: {size: 1G}\nntp: {servers: [a], enabled: true}\n";
        let own = "#cloud-config\nhostname: own\npackages: [jq, git]\nwrite_files:\n\
                   - {path: /a, content: own, permissions: \"0600\"}\n- {path: /b, content: more, append: true}\n\
                   runcmd:\n- [echo, own]\nusers:\n- name: ops\n  shell: /bin/bash\n\
                   \x20 ssh_authorized_keys: [ssh-ed25519 b]\n- name: ci\nmounts:\n- [/dev/sdc, /data]\nswap:\n\
                   ntp: {servers: [b]}\n";
        insta::assert_snapshot!(merged(&[base, own]).text, @r#"
        #cloud-config
        hostname: own
        packages:
          - curl
          - jq
          - git
        write_files:
          - path: /a
            content: own
            permissions: "0600"
          - path: /b
            content: base
          - path: /b
            content: more
            append: true
        runcmd:
          - [echo, base]
          - [echo, own]
        users:
          - default
          - name: ops
            shell: /bin/bash
            ssh_authorized_keys:
              - ssh-ed25519 a
              - ssh-ed25519 b
          - name: ci
        mounts:
          - [/dev/sdc, /data]
        ntp:
          servers:
            - b
          enabled: true
        "#);
    }

    #[test]
    fn units_are_merged_by_name_and_their_drop_ins_too() {
        let base = "#cloud-config\ncoreos:\n  update: {reboot_strategy: \"off\", group: stable}\n  units:\n\
                    \x20 - name: docker.service\n    enable: true\n    drop_ins:\n    - {name: 10-a.conf, content: a}\n\
                    \x20 - {name: a.service, command: start}\n";
        let own = "#cloud-config\ncoreos:\n  update: {group: beta}\n  units:\n  - name: docker.service\n\
                   \x20   command: start\n    drop-ins:\n    - {name: 10-a.conf, content: b}\n    - {name: 20-c.conf, content: c}\n";
        insta::assert_snapshot!(merged(&[base, own]).text, @r#"
        #cloud-config
        coreos:
          update:
            reboot_strategy: "off"
            group: beta
          units:
            - name: docker.service
              enable: true
              drop-ins:
                - name: "10-a.conf"
                  content: b
                - name: "20-c.conf"
                  content: c
              command: start
            - name: a.service
              command: start
        "#);
    }

    #[test]
    fn a_place_in_the_whole_leads_to_its_part() {
        let base = "#cloud-config\nwrite_files:\n- path: /a\n  content: |\n    one\n    two\n";
        let own = "#cloud-config\nhostname: 'x'\n";
        let merged = merged(&[base, own]);
        let origin = |text: &str| {
            let start = merged.text.find(text).expect("it is there");
            let (part, span) = merged.origin(Span::new(start, start + text.len())).expect("it has one");
            (part, merged.parts[part].slice(span).to_owned())
        };
        assert_eq!(origin("two"), (0, "two".to_owned()));
        assert_eq!(origin("/a"), (0, "/a".to_owned()));
        assert_eq!(origin("x"), (1, "'x'".to_owned()));
    }

    #[test]
    fn what_is_no_part_is_refused() {
        let refused = |text: &str| {
            let problems = merge(vec![SourceFile::new("part.yaml", text)]).expect_err("it is none");
            problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
        };
        insta::assert_snapshot!(refused("#!/bin/sh\n"), @"part.yaml can't be a part of another document: it is no cloud-config");
        insta::assert_snapshot!(refused("#cloud-config\n- a\n"), @"part.yaml can't be a part of another document: it is not a mapping");
        insta::assert_snapshot!(refused("#cloud-config\na: 1\n---\nb: 1\n"), @"part.yaml can't be a part of another document: a second document begins in it");
        insta::assert_snapshot!(refused("#cloud-config\na: [\n"), @"this is not valid YAML");
    }

    #[test]
    fn names_behind_the_comment_are_found_with_their_places() {
        let text = "#cloud-config\n# fleetwright: include a.yaml  b.yaml\n  # fleetwright: include no.yaml\n";
        let found = includes(text);
        assert_eq!(found.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a.yaml", "b.yaml"]);
        assert!(found.iter().all(|(name, span)| &text[span.start..span.end] == *name));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(64)))]

        /// One document by itself does what it did before.
        #[test]
        fn a_document_alone_stays_what_it_does(
            files in proptest::collection::vec(("/[a-c]", "[a-c: #\n]{0,12}"), 0..4),
            commands in proptest::collection::vec("[a-z ]{1,8}", 0..3),
        ) {
            let mut text = "#cloud-config\nhostname: a\nwrite_files:\n".to_owned();
            for (path, content) in &files {
                text += &format!("- path: {path}\n  content: {content:?}\n");
            }
            text += "runcmd:\n";
            commands.iter().for_each(|command| text += &format!("- {command:?}\n"));
            prop_assert_eq!(effects(&merged(&[&text]).text), effects(&text));
        }

        #[test]
        fn any_texts_are_merged_or_refused_without_panic(one in "[a-c:\\[\\] \n#-]{0,30}", two in any::<String>()) {
            let parts = [one, two].map(|text| SourceFile::new("a.yaml", format!("#cloud-config\n{text}")));
            if let Ok(merged) = merge(parts.to_vec()) {
                for start in 0..merged.text.len() {
                    if let Some((part, span)) = merged.origin(Span::new(start, start)) {
                        prop_assert!(merged.parts[part].text().get(span.start..span.end).is_some());
                    }
                }
            }
        }
    }
}
