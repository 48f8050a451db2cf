//! Units of `coreos.units`, and files that are units.

use super::Translation;
use super::spec::{DropIn, Unit};
use crate::cloud_config::{effects, model};
use crate::unit::{ItemKind, Kind, UnitName};

/// Where a file is a unit.
const FOLDER: &str = "/etc/systemd/system/";

/// Where networkd and udev read theirs.
const NETWORK: &str = "/etc/systemd/network/";

/// The longest line of a unit that Ignition reads, from go-systemd's `unit/deserialize.go`. What
/// has a longer one is written as a file, which systemd reads as well.
const LINE_MOST: usize = 2048;

/// The unit that `file` is, and the drop-in of it, if it is one that Ignition writes the same.
pub fn of_file(file: &effects::File) -> Option<(&str, Option<&str>)> {
    let rest = file.path.strip_prefix(FOLDER)?;
    let plain =
        !file.append && file.mode == 0o644 && matches!(file.owner.as_str(), "" | "root" | "root:root");
    let text = std::str::from_utf8(&file.content).ok().filter(|text| is_read(text))?;
    let (unit, drop_in) = match rest.split_once('/') {
        None => (rest, None),
        Some((folder, name)) => (folder.strip_suffix(".d")?, Some(name)),
    };
    let named = UnitName::parse(unit).is_ok_and(|name| !name.kind().is_network())
        && drop_in.is_none_or(|name| name.ends_with(".conf") && !name.contains('/'));
    // An empty unit is a masked one to systemd, and none at all to Ignition.
    (plain && named && !text.trim().is_empty()).then_some((unit, drop_in))
}

/// Whether Ignition reads the text of a unit.
fn is_read(text: &str) -> bool {
    text.lines().all(|line| line.len() < LINE_MOST)
}

impl Translation<'_, '_, '_, '_> {
    /// The unit of that name, which is new if there was none.
    pub fn unit(&mut self, name: &str) -> &mut Unit {
        let units = &mut self.document.systemd.units;
        let at = units.iter().position(|unit| unit.name == name).unwrap_or_else(|| {
            units.push(Unit { name: name.to_owned(), ..Unit::default() });
            units.len() - 1
        });
        &mut units[at]
    }

    pub fn units(&mut self) {
        let config = self.config;
        for file in effects::files(config) {
            let Some((unit, drop_in)) = of_file(&file) else { continue };
            let contents = String::from_utf8_lossy(&file.content).into_owned();
            match drop_in {
                None => self.unit(unit).contents = Some(contents),
                Some(name) => self.drop_in(unit, name, contents),
            }
        }
        for unit in &config.units {
            let Some(name) = &unit.name else { continue };
            match UnitName::parse(&name.value) {
                Ok(parsed) if parsed.kind().is_network() => self.network(unit, &name.value),
                _ => self.systemd(unit, &name.value),
            }
        }
        let started: Vec<&str> = config
            .units
            .iter()
            .filter(|unit| unit.command.is_some())
            .filter_map(|unit| unit.name.as_ref().map(|name| name.value.as_str()))
            .collect();
        for unit in &mut self.document.systemd.units {
            if unit.mask {
                // Nothing is read of a masked unit.
                unit.enabled = false;
            }
            if let Some(contents) = &mut unit.contents
                && unit.enabled
                && started.contains(&unit.name.as_str())
            {
                install(&unit.name, contents);
            }
        }
        self.too_long();
    }

    fn systemd(&mut self, unit: &model::Unit, name: &str) {
        let own = self.unit(name);
        own.mask |= unit.mask;
        // Started now and at each boot is what comes nearest to started at each boot by the engine.
        own.enabled |= unit.enable.is_some() || unit.command.is_some();
        if let Some(content) = &unit.content {
            own.contents = Some(content.value.clone());
        }
        for drop_in in &unit.drop_ins {
            let Some(file) = &drop_in.name else { continue };
            let contents = drop_in.content.as_ref().map(|content| content.value.clone()).unwrap_or_default();
            self.drop_in(name, &file.value, contents);
        }
    }

    fn drop_in(&mut self, unit: &str, name: &str, contents: String) {
        let own = self.unit(unit);
        own.dropins.retain(|known| known.name != name);
        own.dropins.push(DropIn { name: name.to_owned(), contents });
    }

    /// A file of networkd or udev; neither enabled nor started. An empty one masks the image's.
    fn network(&mut self, unit: &model::Unit, name: &str) {
        let path = format!("{NETWORK}{name}");
        if unit.mask {
            self.write(&path, 0o644, "");
        } else if let Some(content) = &unit.content {
            self.write(&path, 0o644, &content.value);
        }
        for drop_in in &unit.drop_ins {
            let Some(file) = &drop_in.name else { continue };
            let content = drop_in.content.as_ref().map_or("", |content| content.value.as_str());
            self.write(&format!("{path}.d/{}", file.value), 0o644, content);
        }
    }

    /// Texts that Ignition would refuse become files.
    fn too_long(&mut self) {
        let mut files = Vec::new();
        for unit in &mut self.document.systemd.units {
            if let Some(contents) = unit.contents.take_if(|contents| !is_read(contents)) {
                files.push((format!("{FOLDER}{}", unit.name), contents));
            }
            let (kept, long): (Vec<_>, Vec<_>) =
                std::mem::take(&mut unit.dropins).into_iter().partition(|drop_in| is_read(&drop_in.contents));
            unit.dropins = kept;
            let path = |name: &str| format!("{FOLDER}{}.d/{name}", unit.name);
            files.extend(long.into_iter().map(|drop_in| (path(&drop_in.name), drop_in.contents)));
        }
        for (path, content) in files {
            self.write(&path, 0o644, &content);
        }
        let says =
            |unit: &Unit| unit.enabled || unit.mask || unit.contents.is_some() || !unit.dropins.is_empty();
        self.document.systemd.units.retain(says);
    }
}

/// Says what starts the unit, where its text does not: without that it can't be enabled.
fn install(name: &str, contents: &mut String) {
    let unit = crate::unit::Unit::parse(name, contents.as_str());
    let installs = |kind: &ItemKind| matches!(kind, ItemKind::Section(name) if name.as_str() == "Install");
    if unit.file().items().iter().any(|item| installs(&item.kind)) {
        return;
    }
    let target = match unit.kind() {
        Some(Kind::Timer) => "timers.target",
        Some(Kind::Socket) => "sockets.target",
        Some(Kind::Path) => "paths.target",
        Some(Kind::Mount) => "local-fs.target",
        Some(Kind::Swap) => "swap.target",
        _ => "multi-user.target",
    };
    if !contents.ends_with('\n') {
        contents.push('\n');
    }
    contents.push_str(&format!("\n[Install]\nWantedBy={target}\n"));
}
