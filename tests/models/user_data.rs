//! Random documents of user data that are right, of both dialects, in many ways of writing them.
//!
//! Both the unit tests and `tests/it` include this file, so it knows nothing of the crate. A
//! document is made as values first and written in a style of its own then: blocks or flows,
//! quotes or none, keys in any order.

use proptest::prelude::*;

mod pieces;
mod style;

use pieces::{
    cloud_init_file, cloud_init_user, command, coreos_file, coreos_user, disks, distinct, hostname, key,
    maybe, mount, push, select, systemctl, text, texts, unit,
};
use style::{Value, style};

/// What a document may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breadth {
    /// All that its engine takes.
    Engine,
    /// What Ignition has a counterpart for.
    Ignition,
    /// What the engine of the other dialect has a counterpart for.
    Other,
}

/// A document of cloud-init's dialect.
pub fn cloud_init(breadth: Breadth) -> impl Strategy<Value = String> {
    let common = (
        maybe(hostname()),
        maybe(proptest::collection::vec(key(), 1..3)),
        proptest::collection::vec(cloud_init_user(breadth), 0..3),
        proptest::collection::vec(cloud_init_file(breadth), 0..5),
        maybe(proptest::bool::ANY),
    );
    let run = match breadth {
        Breadth::Engine | Breadth::Ignition => command().boxed(),
        Breadth::Other => systemctl().boxed(),
    };
    let rest = (
        maybe(proptest::collection::vec(run, 1..4)),
        maybe(proptest::collection::vec(command(), 1..3)),
        maybe(proptest::collection::vec("[a-z][a-z0-9.+-]{1,12}", 1..4)),
        maybe(proptest::bool::ANY),
        maybe(select(&["Europe/Berlin", "UTC", "America/New_York"])),
        maybe((proptest::bool::ANY, proptest::collection::vec("[a-z]{1,8}\\.example", 1..3))),
        maybe(select(&["auto", "growpart", "off"])),
        maybe(proptest::collection::vec(mount(), 1..3)),
        maybe((select(&["reboot", "poweroff"]), 1..90_u32)),
        maybe(proptest::collection::vec(text(), 1..3)),
    );
    (common, rest, maybe(disks()), style()).prop_map(move |(common, rest, disks, style)| {
        let (hostname, keys, users, files, hosts) = common;
        let mut root = Vec::new();
        push(&mut root, "hostname", hostname.clone().map(Value::Text));
        push(&mut root, "ssh_authorized_keys", keys.map(texts));
        if !users.is_empty() {
            let users = std::iter::once(Value::Text("default".into())).chain(distinct(users, "name"));
            root.push(("users", Value::List(users.collect())));
        }
        if !files.is_empty() {
            root.push(("write_files", Value::List(distinct(files, "path"))));
        }
        if let (Some(localhost), Some(_)) = (hosts, hostname) {
            root.push((
                "manage_etc_hosts",
                if localhost { Value::Text("localhost".into()) } else { Value::Flag(false) },
            ));
        }
        let (run, boot, packages, update, zone, ntp, grow, mounts, power, trusted) = rest;
        if breadth != Breadth::Ignition {
            push(&mut root, "runcmd", run.map(Value::List));
        }
        if breadth != Breadth::Other {
            push(&mut root, "mounts", mounts.map(Value::List));
            root.extend(disks.into_iter().flatten());
        }
        if breadth == Breadth::Engine {
            push(&mut root, "bootcmd", boot.map(Value::List));
            push(&mut root, "packages", packages.map(texts));
            push(&mut root, "package_update", update.map(Value::Flag));
            push(&mut root, "timezone", zone.map(Value::Text));
            let ntp = ntp.map(|(enabled, servers)| {
                vec![("enabled", Value::Flag(enabled)), ("servers", texts(servers))]
            });
            push(&mut root, "ntp", ntp.map(Value::Map));
            push(&mut root, "growpart", grow.map(|mode| Value::Map(vec![("mode", Value::Text(mode))])));
            let power = power.map(|(mode, delay)| {
                vec![("mode", Value::Text(mode)), ("delay", Value::Text(format!("+{delay}")))]
            });
            push(&mut root, "power_state", power.map(Value::Map));
            push(&mut root, "ca_certs", trusted.map(|trusted| Value::Map(vec![("trusted", texts(trusted))])));
        }
        if root.is_empty() {
            root.push(("hostname", Value::Text("a".into())));
        }
        style.document(root)
    })
}

/// A document of the CoreOS dialect.
pub fn coreos(breadth: Breadth) -> impl Strategy<Value = String> {
    let common = (
        maybe(hostname()),
        maybe(proptest::collection::vec(key(), 1..3)),
        proptest::collection::vec(coreos_user(), 0..3),
        proptest::collection::vec(coreos_file(), 0..4),
        proptest::collection::vec(unit(breadth), 0..5),
        proptest::bool::ANY,
    );
    let sections = (
        maybe((
            select(&["etcd-lock", "reboot", "off", "best-effort"]),
            maybe(select(&["stable", "beta", "alpha"])),
        )),
        maybe((
            select(&["http://10.0.0.1:2379", "https://etcd.example"]),
            maybe(select(&["Thu 04:00", "21:30"])),
        )),
        maybe((
            select(&["http://10.0.0.1:2379"]),
            maybe(select(&["eth0", "10.0.0.2"])),
            select(&["true", "false"]),
        )),
    );
    (common, sections, style()).prop_map(move |(common, sections, style)| {
        let (hostname, keys, users, files, units, hosts) = common;
        let (update, locksmith, flannel) = sections;
        let mut root = Vec::new();
        push(&mut root, "hostname", hostname.clone().map(Value::Text));
        push(&mut root, "ssh_authorized_keys", keys.map(texts));
        if hosts && hostname.is_some() {
            root.push(("manage_etc_hosts", Value::Text("localhost".into())));
        }
        if !users.is_empty() {
            root.push(("users", Value::List(distinct(users, "name"))));
        }
        if !files.is_empty() {
            root.push(("write_files", Value::List(distinct(files, "path"))));
        }
        let mut coreos = Vec::new();
        let update = update.map(|(strategy, group)| {
            let mut update = vec![("reboot_strategy", Value::Text(strategy))];
            push(&mut update, "group", group.map(Value::Text));
            update
        });
        let (update, locksmith, flannel) = match breadth {
            Breadth::Engine | Breadth::Ignition => (update, locksmith, flannel),
            Breadth::Other => (None, None, None),
        };
        push(&mut coreos, "update", update.map(Value::Map));
        let locksmith = locksmith.map(|(endpoint, window)| {
            let mut locksmith = vec![("endpoint", Value::Text(endpoint))];
            push(&mut locksmith, "window_start", window.map(Value::Text));
            locksmith
        });
        push(&mut coreos, "locksmith", locksmith.map(Value::Map));
        let flannel = flannel.map(|(endpoints, interface, masquerade)| {
            let mut flannel =
                vec![("etcd_endpoints", Value::Text(endpoints)), ("ip_masq", Value::Text(masquerade))];
            push(&mut flannel, "interface", interface.map(Value::Text));
            flannel
        });
        push(&mut coreos, "flannel", flannel.map(Value::Map));
        if !units.is_empty() {
            coreos.push(("units", Value::List(distinct(units, "name"))));
        }
        // What makes it a document of this dialect.
        root.push(("coreos", Value::Map(coreos)));
        style.document(root)
    })
}
