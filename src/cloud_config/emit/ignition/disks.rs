//! `disk_setup`, `fs_setup` and `mounts`: partitions, file systems, and units that mount them.

use super::Translation;
use super::spec::{Disk, Filesystem, Partition, Unit};
use crate::cloud_config::model::{Mount, Spanned, entry, plain};
use crate::cloud_config::scalar::boolean;
use crate::source::Span;
use crate::unit::escape_path;
use crate::yaml::Node;

/// The file systems that Ignition makes, with the longest label of each, from the specification.
const FORMATS: [(&str, usize); 5] = [("btrfs", 256), ("ext4", 16), ("swap", 15), ("vfat", 11), ("xfs", 12)];

/// Types of partitions: the number in an MBR, as `disk_setup` has it, and the GUID in a GPT.
const TYPES: [(&str, &str); 4] = [
    ("82", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"),
    ("83", "0fc63daf-8483-4772-8e79-3d69d8477de4"),
    ("8e", "e6d6d379-f507-44c2-a23c-238f2a3df928"),
    ("fd", "a19d880f-05fc-4d3b-a006-743f0f84911e"),
];

/// File systems that need the network.
const REMOTE: [&str; 6] = ["nfs", "nfs4", "cifs", "ceph", "glusterfs", "9p"];

/// What cloud-init gives a mount that does not say; its own unit is left out of the options.
const OPTIONS: &str = "defaults,nofail";

impl<'n> Translation<'_, 'n, '_, '_> {
    pub fn disks(&mut self) {
        for (device, node) in self.section("disk_setup").and_then(Node::entries).unwrap_or_default() {
            self.disk(device, node);
        }
        for node in self.section("fs_setup").and_then(Node::items).unwrap_or_default() {
            self.filesystem(node);
        }
        let config = self.config;
        for mount in &config.mounts {
            self.mount(mount);
        }
    }

    fn section(&self, name: &str) -> Option<&'n Node> {
        let own = |(key, _): &&(Spanned<String>, &'n Node)| key.value.replace('-', "_") == name;
        self.config.rest.iter().find(own).map(|(_, node)| *node)
    }

    /// The path of a device, which may have another name in the document.
    fn device(&mut self, name: &str, span: Span) -> Option<String> {
        let alias = self.section("device_aliases").and_then(|aliases| aliases.get(name)).and_then(Node::text);
        let name = alias.unwrap_or(name);
        let by = |folder: &str, name: &str| {
            // udev writes these characters otherwise.
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
            plain.then(|| format!("/dev/disk/{folder}/{name}"))
        };
        let device = match name.split_once('=') {
            Some(("LABEL", label)) => by("by-label", label),
            Some(("UUID", uuid)) => by("by-uuid", uuid),
            Some(("PARTUUID", uuid)) => by("by-partuuid", uuid),
            Some(("PARTLABEL", label)) => by("by-partlabel", label),
            _ if name.starts_with("/dev/") => Some(name.to_owned()),
            // As cloud-init: the short name of a disk.
            _ if ["sd", "xvd", "vd", "nvme"].iter().any(|start| name.starts_with(start)) => {
                Some(format!("/dev/{name}"))
            }
            _ => None,
        };
        if device.is_none() {
            let message = format!("which device `{name}` is can't be told: only cloud-init knows such names");
            self.refuse(span, message, "write its path below /dev");
        }
        device
    }

    /// What is mounted of a device: the partition behind its dot, or the first one it gets.
    fn mounted_device(&mut self, name: &str, span: Span) -> Option<String> {
        let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some((disk, number)) =
            name.rsplit_once('.').filter(|(_, rest)| number(rest) && !name.contains('='))
        {
            return self.device(disk, span).map(|disk| partition(&disk, number));
        }
        let device = self.device(name, span)?;
        let parted = |disk: &&Disk| disk.device == device && !disk.partitions.is_empty();
        let whole = self.document.storage.disks.iter().any(|disk| parted(&disk));
        Some(if whole { partition(&device, "1") } else { device })
    }

    fn disk(&mut self, device: &Node, node: &Node) {
        let Some(path) = self.device(device.text().unwrap_or_default(), device.span) else { return };
        let table = entry(node, "table_type").and_then(Node::text).unwrap_or("gpt");
        if table != "gpt" {
            let message = format!("Ignition makes a GPT on `{path}`, and no `{table}`");
            self.refuse(node.span, message, "write `table_type: gpt`");
        }
        let wipe = entry(node, "overwrite").and_then(boolean).unwrap_or(false);
        let layout = entry(node, "layout");
        let whole = |node: &Node| match (node.items(), node.text()) {
            (Some([size, kind]), _) if size.text() == Some("100") => Some(kind.text().map(str::to_lowercase)),
            (Some([size]), _) if size.text() == Some("100") => Some(None),
            (None, Some("100")) => Some(None),
            _ => None,
        };
        let all = |type_guid| vec![Partition { number: 1, type_guid }];
        let (wipe_table, partitions) = match layout {
            None => (wipe, Vec::new()),
            Some(node) if boolean(node) == Some(true) => (wipe, all(None)),
            Some(node) if boolean(node) == Some(false) => (wipe, Vec::new()),
            Some(node) if node.text() == Some("remove") => (true, Vec::new()),
            Some(node) => match node.items() {
                Some([]) => (wipe, Vec::new()),
                Some([item]) if let Some(kind) = whole(item) => {
                    let guid = kind.as_ref().map(|kind| TYPES.iter().find(|(number, _)| number == kind));
                    match guid {
                        None => (wipe, all(None)),
                        Some(Some((_, guid))) => (wipe, all(Some(*guid))),
                        Some(None) => {
                            let kind = kind.unwrap_or_default();
                            let message =
                                format!("which type of partition `{kind}` is in a GPT can't be told");
                            self.refuse(item.span, message, "");
                            return;
                        }
                    }
                }
                _ => {
                    let message = "the sizes of partitions are shares of the disk, and Ignition wants MiB";
                    self.refuse(node.span, message, "give the whole disk to one partition, or none");
                    return;
                }
            },
        };
        if !wipe_table && partitions.is_empty() {
            return;
        }
        self.document.storage.disks.retain(|disk| disk.device != path);
        self.document.storage.disks.push(Disk { device: path, wipe_table, partitions });
    }

    fn filesystem(&mut self, node: &Node) {
        let text = |name: &str| entry(node, name).map(plain).filter(|text| !text.is_empty());
        for key in ["cmd", "replace_fs"] {
            if let Some(value) = entry(node, key).filter(|node| !plain(node).is_empty()) {
                self.refuse(value.span, format!("Ignition has nothing like `{key}` of a file system"), "");
            }
        }
        let (Some(device), Some(format)) = (text("device"), text("filesystem")) else {
            self.refuse(node.span, "a file system without `device` and `filesystem` can't be made", "");
            return;
        };
        let Some(path) = self.device(&device, node.span) else { return };
        let path = match text("partition").as_deref().unwrap_or("any") {
            "none" => path,
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => partition(&path, number),
            // Without a table there is one place only.
            _ if !self.document.storage.disks.iter().any(|disk| disk.device == path)
                && entry(node, "partition").is_none()
                && path.ends_with(|c: char| c.is_ascii_digit()) =>
            {
                path
            }
            _ => {
                let message =
                    format!("which partition of `{path}` is meant can't be told before the machine boots");
                self.refuse(node.span, message, "write its number, or `none` for the whole disk");
                return;
            }
        };
        let label = text("label");
        match FORMATS.iter().find(|(known, _)| *known == format) {
            None => {
                let names = FORMATS.map(|(name, _)| name).join(", ");
                self.refuse(node.span, format!("Ignition makes no `{format}`"), &format!("it makes {names}"));
                return;
            }
            Some((_, most)) if label.as_ref().is_some_and(|label| label.len() > *most) => {
                let message = format!("a label of {format} has {most} bytes at most");
                self.refuse(node.span, message, "");
                return;
            }
            Some(_) => {}
        }
        let options = match entry(node, "extra_opts") {
            Some(node) => match node.items() {
                Some(items) => items.iter().map(plain).collect(),
                None => plain(node).split_whitespace().map(str::to_owned).collect(),
            },
            None => Vec::new(),
        };
        let wipe_filesystem = entry(node, "overwrite").and_then(boolean).unwrap_or(false);
        self.document.storage.filesystems.retain(|known| known.device != path);
        self.document.storage.filesystems.push(Filesystem {
            device: path,
            format,
            label,
            wipe_filesystem,
            options,
        });
    }

    fn mount(&mut self, mount: &Mount) {
        let field = |at: usize| mount.fields.get(at).map(String::as_str).filter(|field| !field.is_empty());
        let (Some(device), Some(point)) = (field(0), field(1)) else {
            let message = "a mount without a mount point takes one of the image's away, which Ignition can't";
            return self.refuse(mount.span, message, "mask its unit instead");
        };
        let kind = field(2).unwrap_or("auto");
        let remote = REMOTE.contains(&kind);
        let own = |option: &&str| !option.starts_with("x-systemd.requires=cloud-init");
        let options: Vec<&str> = field(3).unwrap_or(OPTIONS).split(',').filter(own).collect();
        let what = if remote || kind == "tmpfs" || options.contains(&"bind") {
            device.to_owned()
        } else {
            match self.mounted_device(device, mount.span) {
                Some(device) => device,
                None => return,
            }
        };
        // A line break or a percent sign would be read as something else.
        if mount.fields.iter().any(|field| field.contains(['%', '\n', '\r', '\\', '"', '\''])) {
            return self.refuse(mount.span, "the mount can't be written as a unit", "");
        }
        let optional = options.contains(&"nofail");
        let started = !options.contains(&"noauto");
        let wanted = if optional { "WantedBy" } else { "RequiredBy" };
        if kind == "swap" {
            let contents = format!("[Swap]\nWhat={what}\n\n[Install]\n{wanted}=swap.target\n");
            return self.mounted(format!("{}.swap", escape_path(&what)), contents, started);
        }
        if !point.starts_with('/') || point.split('/').any(|part| matches!(part, "." | "..")) {
            return self.refuse(mount.span, format!("`{point}` is no mount point"), "");
        }
        let options: Vec<&str> = options
            .into_iter()
            .filter(|option| !matches!(*option, "defaults" | "nofail" | "noauto" | "auto"))
            .collect();
        let mut contents = String::new();
        let checked =
            !remote && kind != "tmpfs" && !options.contains(&"bind") && field(5).unwrap_or("2") != "0";
        if checked {
            let check = format!("systemd-fsck@{}.service", escape_path(&what));
            contents.push_str(&format!("[Unit]\nRequires={check}\nAfter={check}\n\n"));
        }
        let point =
            format!("/{}", point.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/"));
        contents.push_str(&format!("[Mount]\nWhat={what}\nWhere={point}\n"));
        if kind != "auto" {
            contents.push_str(&format!("Type={kind}\n"));
        }
        if !options.is_empty() {
            contents.push_str(&format!("Options={}\n", options.join(",")));
        }
        let target =
            if remote || options.contains(&"_netdev") { "remote-fs.target" } else { "local-fs.target" };
        contents.push_str(&format!("\n[Install]\n{wanted}={target}\n"));
        self.mounted(format!("{}.mount", escape_path(&point)), contents, started);
    }

    fn mounted(&mut self, name: String, contents: String, enabled: bool) {
        let unit = self.unit(&name);
        *unit = Unit { name, enabled, contents: Some(contents), ..Unit::default() };
    }
}

/// The path of a disk's partition: a name that ends in a digit has a letter before the number.
fn partition(disk: &str, number: &str) -> String {
    let letter = if disk.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    format!("{disk}{letter}{number}")
}
