//! Sections of `coreos` as the files and drop-ins that coreos-cloudinit makes of them.

use super::Translation;
use super::spec::DropIn;

/// Flatcar's own; `/etc/coreos` is a link to its directory there. What is not in it comes from
/// `/usr/share/flatcar/update.conf`.
const UPDATE: &str = "/etc/flatcar/update.conf";

/// flanneld reads `/run/flannel/options.env`, which is made anew at each boot: systemd-tmpfiles
/// copies it there.
const FLANNEL: (&str, &str) = ("/etc/flannel/options.env", "/etc/tmpfiles.d/flannel-options.conf");

/// The drop-in's name, as coreos-cloudinit calls its own.
const DROP_IN: &str = "20-cloudinit.conf";

impl Translation<'_, '_, '_, '_> {
    /// `coreos.update`, `coreos.locksmith` and `coreos.flannel`; the check refuses the others.
    pub fn settings(&mut self) {
        let config = self.config;
        for section in &config.sections {
            let given: Vec<(&str, &str)> = section
                .options
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .filter(|(_, value)| !value.is_empty())
                .collect();
            if given.is_empty() {
                continue;
            }
            match section.name.value.as_str() {
                "update" => self.update(&given),
                "locksmith" => self.locksmith(&given),
                "flannel" => {
                    let lines = given.iter().map(|(key, value)| match *key {
                        "interface" => format!("FLANNELD_IFACE={value}\n"),
                        key => format!("FLANNELD_{}={value}\n", key.to_uppercase()),
                    });
                    let (options, copy) = FLANNEL;
                    self.write(options, 0o644, &lines.collect::<String>());
                    let line = format!("C /run/flannel/options.env 0644 root root - {options}\n");
                    self.write(copy, 0o644, &line);
                }
                _ => {}
            }
        }
    }

    fn update(&mut self, given: &[(&str, &str)]) {
        let lines = given.iter().map(|(key, value)| format!("{}={value}\n", key.to_uppercase()));
        self.write(UPDATE, 0o644, &lines.collect::<String>());
        if given.contains(&("reboot_strategy", "off")) {
            self.unit("locksmithd.service").mask = true;
        }
    }

    fn locksmith(&mut self, given: &[(&str, &str)]) {
        let mut contents = String::from("[Service]\n");
        for (key, value) in given {
            let name = match *key {
                "window_start" | "window_length" => format!("REBOOT_{}", key.to_uppercase()),
                key => format!("LOCKSMITHD_{}", key.to_uppercase()),
            };
            // A quote or a backslash must not end the word, and a percent sign is a specifier's.
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
            contents.push_str(&format!("Environment=\"{name}={value}\"\n"));
        }
        self.unit("locksmithd.service").dropins.push(DropIn { name: DROP_IN.to_owned(), contents });
    }
}
