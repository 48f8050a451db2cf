//! The model as a document of Ignition, specification 3.3.0.
//!
//! Ignition runs once, at the first boot and before the machine's own systemd: what a document
//! asks to be written, made and enabled has a counterpart there, what it asks to be run has none.
//! The same document always gives the same text.

use std::collections::BTreeMap;

use super::super::effects;
use super::super::finding::{Finding, Report};
use super::super::model::{Config, Spanned};
use super::super::scalar::boolean;
use super::super::target::{Dialect, Target};
use crate::source::Span;

mod accounts;
mod data_url;
mod disks;
mod settings;
mod spec;
mod units;

use spec::{Document, File, Owner};

/// The one target of this module.
const TARGETS: [Target; 1] = [Target::Ignition3_3];

/// Directories that are in memory: what Ignition writes there is gone when the machine boots on.
const VOLATILE: [&str; 5] = ["run", "tmp", "dev", "proc", "sys"];

/// Writes `config`. What has no counterpart, and the check of the document does not find, goes to
/// `report`; with an error there, the text is not the whole document.
pub fn ignition(config: &Config<'_>, report: &mut Report<'_>) -> String {
    let mut translation =
        Translation { config, report, files: BTreeMap::new(), document: Document::default() };
    translation.accounts();
    translation.hostname();
    translation.settings();
    translation.disks();
    translation.files();
    translation.units();
    let Translation { mut document, files, .. } = translation;
    document.storage.files = files.into_values().collect();
    // Writing plain values does not fail; were it to, the validator would refuse the empty text.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

struct Translation<'a, 'n, 'r, 't> {
    config: &'a Config<'n>,
    report: &'r mut Report<'t>,
    /// Files by path; what is written later takes the place of what was there.
    files: BTreeMap<String, File>,
    document: Document,
}

impl Translation<'_, '_, '_, '_> {
    fn refuse(&mut self, span: Span, message: impl Into<String>, help: &str) {
        let finding = Finding::error("not-in-ignition", span, message);
        self.report.add(&TARGETS, if help.is_empty() { finding } else { finding.help(help) });
    }

    /// A file of root's that is written whole.
    fn write(&mut self, path: &str, mode: u32, content: &str) {
        let file = File {
            path: path.to_owned(),
            user: None,
            group: None,
            overwrite: true,
            contents: Some(data_url::resource(content.as_bytes())),
            append: Vec::new(),
            mode,
        };
        self.files.insert(file.path.clone(), file);
    }

    fn hostname(&mut self) {
        let config = self.config;
        let short = |name: &Spanned<String>| name.value.split('.').next().unwrap_or_default().to_owned();
        let name = match (&config.hostname, &config.fqdn) {
            (Some(name), _) => Some(name.value.clone()),
            (None, fqdn) => fqdn.as_ref().map(short),
        };
        if let Some(name) = &name {
            self.write("/etc/hostname", 0o644, &format!("{name}\n"));
        }
        let managed = |(key, _): &&(Spanned<String>, _)| key.value.replace('-', "_") == "manage_etc_hosts";
        let Some((key, value)) = config.rest.iter().find(managed) else { return };
        match (value.text().unwrap_or_default(), name) {
            ("localhost", Some(name)) if config.dialect == Dialect::CoreOs => {
                self.write("/etc/hosts", 0o644, &format!("127.0.0.1 {name}\n"));
            }
            ("localhost", Some(name)) => {
                let names = config.fqdn.iter().map(|fqdn| fqdn.value.clone()).chain([name]);
                let line = format!("127.0.1.1 {}\n", names.collect::<Vec<_>>().join(" "));
                let append = vec![data_url::resource(line.as_bytes())];
                let path = "/etc/hosts".to_owned();
                let (user, group, contents) = (None, None, None);
                let file = File { path, user, group, overwrite: false, contents, append, mode: 0o644 };
                self.files.insert(file.path.clone(), file);
            }
            ("localhost", None) => {
                let message = "`manage_etc_hosts` needs a `hostname`: Ignition does not know the machine's";
                self.refuse(key.span, message, "");
            }
            _ if boolean(value) == Some(false) => {}
            _ => {
                let message = "`manage_etc_hosts` makes the file from a template that only cloud-init has";
                self.refuse(key.span, message, "write `localhost`, or /etc/hosts with `write_files`");
            }
        }
    }

    /// `write_files`, but for what is a unit.
    fn files(&mut self) {
        let config = self.config;
        for file in effects::files(config) {
            if units::of_file(&file).is_some() {
                continue;
            }
            let written = |other: &&super::super::model::File<'_>| {
                other.path.as_ref().is_some_and(|path| path.value == file.path)
            };
            let span = config.files.iter().rfind(written).map_or_else(Span::default, |file| file.span);
            let Some(path) = self.path(&file.path, span) else { continue };
            let mode = self.mode(file.mode, span);
            let resource = data_url::resource(&file.content);
            let (contents, append) =
                if file.append { (None, vec![resource]) } else { (Some(resource), Vec::new()) };
            let (user, group) = file.owner.split_once(':').unwrap_or((&file.owner, ""));
            let (user, group) = (owner(user), owner(group));
            let file = File { path, user, group, overwrite: !file.append, contents, append, mode };
            self.add(file, span);
        }
    }

    /// Adds a file; two names of one path are one file to Ignition.
    fn add(&mut self, file: File, span: Span) {
        let below =
            |one: &str, other: &str| other.strip_prefix(one).is_some_and(|rest| rest.starts_with('/'));
        let clash = self.files.keys().find(|path| below(path, &file.path) || below(&file.path, path));
        if let Some(clash) = clash {
            let message = format!("`{}` and `{clash}` can't both be files", file.path);
            self.refuse(span, message, "");
        }
        match self.files.get_mut(&file.path) {
            // What the translation itself wrote there stays, and the rest is added to it.
            Some(known) if file.contents.is_none() => known.append.extend(file.append),
            _ => {
                self.files.insert(file.path.clone(), file);
            }
        }
    }

    /// The path as Ignition wants it, without what says nothing.
    fn path(&mut self, path: &str, span: Span) -> Option<String> {
        let mut parts: Vec<&str> = Vec::new();
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        if !path.starts_with('/') || path.ends_with('/') || parts.is_empty() {
            self.refuse(span, format!("`{path}` is not the path of a file"), "");
            return None;
        }
        if parts.first().is_some_and(|first| VOLATILE.contains(first)) {
            let message =
                format!("`{path}` is in memory: Ignition would write it, and it is gone after that");
            self.refuse(span, message, "write it below /etc, or from a unit at each boot");
            return None;
        }
        Some(format!("/{}", parts.join("/")))
    }

    fn mode(&mut self, mode: u32, span: Span) -> u32 {
        if mode > 0o777 {
            let message = format!("Ignition 3.3 leaves out the special bits of the mode {mode:04o}");
            self.refuse(span, message, "set them from a unit");
        }
        mode & 0o777
    }
}

/// An owner that is not root, nor nobody in particular.
fn owner(name: &str) -> Option<Owner> {
    match name {
        "" | "root" | "0" | "-1" => None,
        name => Some(name.parse().map_or_else(|_| Owner::Name(name.to_owned()), Owner::Id)),
    }
}

#[cfg(test)]
mod tests;
