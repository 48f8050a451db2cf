//! What must stand together in a unit, kind by kind: what systemd refuses when it loads one.

use std::collections::HashMap;

use super::check::Check;
use super::name::{Kind, escape_path};
use super::parse::Entry;
use super::{Options, Unit, table};

/// The assignments of a unit with its drop-ins that are in force, by section and key.
pub struct Effective<'u> {
    keys: HashMap<(&'u str, &'u str), Vec<(&'u Unit, &'u Entry)>>,
}

impl<'u> Effective<'u> {
    /// Reads the unit, then its drop-ins.
    pub fn new(unit: &'u Unit, drop_ins: &[&'u Unit]) -> Self {
        let mut keys: HashMap<_, Vec<_>> = HashMap::new();
        for unit in std::iter::once(&unit).chain(drop_ins) {
            for (section, entry) in unit.file().entries() {
                let list = keys.entry((section, entry.key.as_str())).or_default();
                if entry.value.as_str().is_empty() {
                    if !table::ignores_nothing(section, entry.key.as_str()) {
                        list.clear();
                    }
                } else {
                    list.push((*unit, entry));
                }
            }
        }
        Self { keys }
    }

    /// The values of a key.
    pub fn all(&self, section: &'static str, key: &'static str) -> &[(&'u Unit, &'u Entry)] {
        self.keys.get(&(section, key)).map_or(&[], Vec::as_slice)
    }

    /// The last value of a key.
    pub fn last(&self, section: &'static str, key: &'static str) -> Option<&'u Entry> {
        self.all(section, key).last().map(|(_, entry)| *entry)
    }

    /// The last value of a key, as a text.
    pub fn text(&self, section: &'static str, key: &'static str) -> &'u str {
        self.last(section, key).map_or("", |entry| entry.value.as_str())
    }

    /// Whether any of these keys has a value.
    fn any(&self, section: &'static str, keys: &[&'static str]) -> bool {
        keys.iter().any(|key| !self.all(section, key).is_empty())
    }
}

impl<'u> Check<'u> {
    /// What the unit lacks as a whole.
    pub fn required(&mut self, options: &Options<'u>) {
        if self.unit.is_drop_in() {
            self.second_command_of_a_drop_in();
            return;
        }
        let Some(kind) = self.unit.kind().filter(|_| !self.unsure) else { return };
        let effective = Effective::new(self.unit, options.drop_ins);
        match kind {
            Kind::Service => self.service(&effective),
            Kind::Socket => self.socket(&effective),
            Kind::Timer => self.needs_one(
                &effective,
                "Timer",
                &[
                    "OnCalendar",
                    "OnBootSec",
                    "OnActiveSec",
                    "OnStartupSec",
                    "OnUnitActiveSec",
                    "OnUnitInactiveSec",
                    "OnClockChange",
                    "OnTimezoneChange",
                ],
                "when to elapse",
            ),
            Kind::Path => self.needs_one(
                &effective,
                "Path",
                &["PathExists", "PathExistsGlob", "PathChanged", "PathModified", "DirectoryNotEmpty"],
                "what to watch",
            ),
            Kind::Mount => {
                self.needs_one(&effective, "Mount", &["What"], "what to mount");
                self.named_for(&effective, "Mount", "Where");
            }
            Kind::Automount => self.named_for(&effective, "Automount", "Where"),
            Kind::Swap => {
                self.needs_one(&effective, "Swap", &["What"], "what to swap to");
                self.named_for(&effective, "Swap", "What");
            }
            Kind::Target
            | Kind::Slice
            | Kind::Scope
            | Kind::Device
            | Kind::Network
            | Kind::Netdev
            | Kind::Link => {}
        }
        let installs = ["WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"];
        if options.enabled && !kind.is_network() && !effective.any("Install", &installs) {
            let span = self.unit.header("Install").unwrap_or_default();
            self.warn(
                "missing-install",
                "the unit is enabled, but nothing says in [Install] what that means",
                span,
                "",
            )
            .help
            .push("most often `[Install]` with `WantedBy=multi-user.target`".into());
        }
    }

    fn missing(&mut self, section: &str, message: String) -> &mut crate::source::Diagnostic {
        let span = self.unit.header(section).unwrap_or_default();
        self.path = section.to_owned();
        self.error("missing-key", message, span, "")
    }

    fn needs_one(
        &mut self,
        effective: &Effective<'_>,
        section: &'static str,
        keys: &[&'static str],
        what: &str,
    ) {
        if effective.any(section, keys) {
            return;
        }
        let list: Vec<_> = keys.iter().map(|key| format!("`{key}=`")).collect();
        let message = format!("[{section}] does not say {what}, so systemd refuses the unit");
        let help = if keys.len() == 1 {
            format!("give {}", list[0])
        } else {
            format!("give one of {}", list.join(", "))
        };
        self.missing(section, message).help.push(help);
    }

    /// Mounts and swaps have the name of their path.
    fn named_for(&mut self, effective: &Effective<'u>, section: &'static str, key: &'static str) {
        let Some((unit, entry)) = effective.all(section, key).last() else { return };
        let (path, Some(name)) = (entry.value.as_str(), self.unit.name()) else { return };
        if !path.starts_with('/') || path.contains('%') || !std::ptr::eq(*unit, self.unit) {
            return;
        }
        let wanted = escape_path(path);
        if wanted != name.stem() {
            self.path = format!("{section}/{key}");
            let message = format!("the unit's name does not say `{path}`, so systemd refuses it");
            let span = entry.value.mark(0..path.len());
            self.error(
                "bad-unit-name",
                message,
                span,
                format!("its file must be `{wanted}.{}`", name.kind().suffix()),
            );
        }
    }

    fn service(&mut self, effective: &Effective<'u>) {
        let get = |key: &'static str| effective.text("Service", key);
        let commands = effective.all("Service", "ExecStart");
        let starts: usize = commands.iter().map(|(_, entry)| count(entry.value.as_str())).sum();
        let action = effective.text("Unit", "SuccessAction");
        let acts = !action.is_empty() && action != "none";
        let kind = match get("Type") {
            "" if !get("BusName").is_empty() => "dbus",
            "" if starts > 0 => "simple",
            "" => "oneshot",
            kind => kind,
        };
        let remains = ["1", "yes", "y", "true", "t", "on"].contains(&&*get("RemainAfterExit").to_lowercase());
        if starts == 0 {
            let stops = !effective.all("Service", "ExecStop").is_empty();
            let why = if !stops && !acts {
                "the service has no `ExecStart=`, no `ExecStop=` and no `SuccessAction=`"
            } else if kind != "oneshot" {
                "the service has no `ExecStart=`, which only `Type=oneshot` can do without"
            } else if !remains && !acts {
                "the service has no `ExecStart=`, and no `RemainAfterExit=yes`"
            } else {
                ""
            };
            if !why.is_empty() {
                self.missing("Service", format!("{why}, so systemd refuses it"));
            }
        }
        if starts > 1 && kind != "oneshot" {
            let (at, entry) = commands[commands.len() - 1];
            self.path = "Service/ExecStart".into();
            let span = if std::ptr::eq(at, self.unit) {
                entry.key.span()
            } else {
                self.unit.header("Service").unwrap_or_default()
            };
            self.error("second-command", format!("`Type={kind}` starts one command, but there are {starts}, so systemd refuses the service"), span, "")
                .help
                .push("`ExecStart=` with nothing behind it takes back those before; `Type=oneshot` runs one after the other".into());
        }
        if kind == "dbus" && get("BusName").is_empty() {
            self.missing("Service", "`Type=dbus` needs `BusName=`, so systemd refuses the service".into());
        }
        if kind == "oneshot" {
            if let Some(entry) = effective.last("Service", "Restart")
                && matches!(entry.value.as_str(), "always" | "on-success")
            {
                self.conflict(
                    entry,
                    "`Type=oneshot` can't be restarted when it did well, so systemd refuses the service",
                    "`on-failure` is possible",
                );
            }
            if let Some(entry) =
                effective.last("Service", "ExitType").filter(|entry| entry.value.as_str() == "cgroup")
            {
                self.conflict(
                    entry,
                    "`ExitType=cgroup` can't stand with `Type=oneshot`, so systemd refuses the service",
                    "",
                );
            }
        }
        if let Some(entry) = effective.last("Service", "KillMode")
            && matches!(entry.value.as_str(), "process" | "none")
            && !get("PAMName").is_empty()
        {
            self.conflict(
                entry,
                "`PAMName=` needs `KillMode=control-group` or `mixed`, so systemd refuses the service",
                "",
            );
        }
    }

    fn conflict(&mut self, entry: &Entry, message: &str, label: &str) {
        // What a drop-in says has no place in this file.
        let own = self.unit.file().entries().any(|(_, other)| std::ptr::eq(other, entry));
        let span = if own {
            entry.value.mark(0..entry.value.as_str().len())
        } else {
            self.unit.header("Service").unwrap_or_default()
        };
        self.path = format!("Service/{}", entry.key.as_str());
        self.error("conflicting-keys", message, span, label);
    }

    fn socket(&mut self, effective: &Effective<'u>) {
        self.needs_one(
            effective,
            "Socket",
            &[
                "ListenStream",
                "ListenDatagram",
                "ListenSequentialPacket",
                "ListenFIFO",
                "ListenSpecial",
                "ListenNetlink",
                "ListenMessageQueue",
                "ListenUSBFunction",
            ],
            "what to listen on",
        );
        let accepts = ["1", "yes", "y", "true", "t", "on"]
            .contains(&&*effective.text("Socket", "Accept").to_lowercase());
        if accepts && let Some(entry) = effective.last("Socket", "Service") {
            self.conflict(entry, "`Accept=yes` starts an instance of the template of its own name and takes no `Service=`, so systemd refuses the socket", "");
        }
    }

    /// A drop-in that adds an `ExecStart=` without taking back the one of its unit.
    fn second_command_of_a_drop_in(&mut self) {
        if self.unit.kind().is_some_and(|kind| kind != Kind::Service) {
            return;
        }
        let mut reset = false;
        let mut oneshot = false;
        let mut found = None;
        for (section, entry) in self.unit.file().entries() {
            match (section, entry.key.as_str(), entry.value.as_str()) {
                ("Service", "ExecStart", "") => reset = true,
                ("Service", "ExecStart", _) if !reset && found.is_none() => found = Some(entry),
                ("Service", "Type", "oneshot") => oneshot = true,
                _ => {}
            }
        }
        if let Some(entry) = found.filter(|_| !oneshot) {
            self.path = "Service/ExecStart".into();
            self.warn(
                "second-command",
                "the drop-in adds a command to that of its unit, which only `Type=oneshot` takes",
                entry.key.span(),
                "",
            )
            .help
            .push("to replace it, put a line `ExecStart=` with nothing behind it before this one".into());
        }
    }
}

/// How many commands stand in a line.
fn count(line: &str) -> usize {
    let words = super::words::words(line).unwrap_or_default();
    1 + words.iter().rev().skip(1).filter(|word| word.plain && word.text == ";").count()
}
