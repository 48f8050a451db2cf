//! What documents are made of: files, units, users, commands, disks.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::Breadth;
use super::style::Value;

/// It, or nothing.
pub fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>> {
    proptest::option::of(strategy)
}

/// One of the words.
pub fn select(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::sample::select(words).prop_map(str::to_owned)
}

/// Adds an entry, if there is a value.
pub fn push(entries: &mut Vec<(&'static str, Value)>, key: &'static str, value: Option<Value>) {
    entries.extend(value.map(|value| (key, value)));
}

/// A list of texts.
pub fn texts(texts: impl IntoIterator<Item = String>) -> Value {
    Value::List(texts.into_iter().map(Value::Text).collect())
}

/// The mappings, the first of each name.
pub fn distinct(items: Vec<Value>, key: &str) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let name = |item: &Value| match item {
        Value::Map(entries) => entries.iter().find_map(|(name, value)| match value {
            Value::Text(text) if *name == key => Some(text.clone()),
            _ => None,
        }),
        _ => None,
    };
    items.into_iter().filter(|item| seen.insert(name(item))).collect()
}

/// The name of a machine.
pub fn hostname() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,4})?"
}

/// A public key.
pub fn key() -> impl Strategy<Value = String> {
    ("ssh-ed25519 AAAA[A-Za-z0-9+/]{12,20}", maybe("[a-z]{1,5}@[a-z]{1,5}"))
        .prop_map(|(key, comment)| comment.map_or(key.clone(), |comment| format!("{key} {comment}")))
}

/// Texts that a careless writer of YAML would turn into something else.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -#%-~]{0,24}",
        select(&[
            "off",
            "yes",
            "no",
            "0644",
            "1.10",
            "12:30",
            "~",
            "null",
            "2026-01-01",
            "1e3",
            "- a",
            "a: b",
            "#x",
            "'",
            "\"",
            "%",
            "@a",
            "*a",
            "&a",
            "!a",
            "{a}",
            "[a]",
            "|",
            ">",
            "? a",
            "=",
            "<<"
        ]),
        "[a-zäöß€𝄞]{1,8}",
        proptest::collection::vec("[ -#%-~ä]{0,16}", 1..5).prop_map(|lines| lines.join("\n") + "\n"),
        proptest::collection::vec("[\ta-z]{0,6}", 1..4).prop_map(|lines| lines.join("\n")),
    ]
}

/// What an engine does not mistake for one of its tokens, nor a person for a secret.
fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => text(),
        1 => (1..60_usize, "[a-z ]{10,40}").prop_map(|(times, line)| format!("{line}\n").repeat(times)),
    ]
}

/// A directory for each, so that no file is below another.
fn path() -> impl Strategy<Value = String> {
    ("(/etc|/opt|/var/lib)", "[a-z]{1,3}", "[a-z][a-z0-9._-]{0,8}")
        .prop_map(|(top, folder, name)| format!("{top}/d-{folder}/{name}.f"))
}

fn mode() -> impl Strategy<Value = String> {
    select(&["0644", "0600", "0640", "0755", "644", "0400", "0444"])
}

/// The entries of a file but for its encoding, and its content.
fn file() -> impl Strategy<Value = (Vec<(&'static str, Value)>, String)> {
    (
        path(),
        maybe(content()),
        maybe(mode()),
        maybe(select(&["root:root", "root", "daemon:daemon", "nobody:nogroup"])),
    )
        .prop_map(|(path, content, mode, owner)| {
            let mut file = vec![("path", Value::Text(path))];
            push(&mut file, "permissions", mode.map(Value::Text));
            push(&mut file, "owner", owner.map(Value::Text));
            (file, content.unwrap_or_default())
        })
}

fn encoded(mut file: Vec<(&'static str, Value)>, content: &str, packed: bool) -> Value {
    if packed {
        file.push(("encoding", Value::Text("b64".into())));
        file.push(("content", Value::Text(base64(content.as_bytes()))));
    } else {
        file.push(("content", Value::Text(content.to_owned())));
    }
    Value::Map(file)
}

/// An entry of `write_files`.
pub fn coreos_file() -> impl Strategy<Value = Value> {
    (file(), proptest::bool::weighted(0.2))
        .prop_map(|((file, content), packed)| encoded(file, &content, packed))
}

/// An entry of `write_files`, some of them units.
pub fn cloud_init_file(breadth: Breadth) -> impl Strategy<Value = Value> {
    let plain =
        (file(), proptest::bool::weighted(0.2), maybe(proptest::bool::ANY), proptest::bool::weighted(0.3));
    let plain = plain.prop_map(move |((mut file, content), packed, append, defer)| {
        push(&mut file, "append", append.filter(|_| breadth != Breadth::Other).map(Value::Flag));
        push(&mut file, "defer", defer.then_some(Value::Flag(true)));
        encoded(file, &content, packed)
    });
    let unit = (service(), unit_text()).prop_map(|(name, content)| {
        let path = format!("/etc/systemd/system/{name}");
        Value::Map(vec![("path", Value::Text(path)), ("content", Value::Text(content))])
    });
    prop_oneof![5 => plain, 1 => unit]
}

fn service() -> impl Strategy<Value = String> {
    "[a-z]{2,6}(-[a-z]{1,4})?@?\\.service".prop_map(|name| name.replace("@.", "."))
}

fn unit_text() -> impl Strategy<Value = String> {
    (
        maybe("[A-Za-z][ A-Za-z0-9.-]{0,20}"),
        "/opt/bin/[a-z]{1,8}( --[a-z]{1,6}(=[a-z0-9]{1,6})?){0,3}",
        maybe(select(&["always", "on-failure", "no"])),
        proptest::bool::ANY,
    )
        .prop_map(|(description, command, restart, installed)| {
            let mut text = String::new();
            if let Some(description) = description {
                let _ = write!(text, "# A comment.\n[Unit]\nDescription={description}\n\n");
            }
            let _ = writeln!(text, "[Service]\nExecStart={}", command.replacen(" --", " \\\n  --", 1));
            if let Some(restart) = restart {
                let _ = writeln!(text, "Restart={restart}");
            }
            if installed {
                text.push_str("\n[Install]\nWantedBy=multi-user.target\n");
            }
            text
        })
}

/// An entry of `coreos.units`.
pub fn unit(breadth: Breadth) -> impl Strategy<Value = Value> {
    let command = match breadth {
        Breadth::Engine | Breadth::Other => {
            select(&["start", "restart", "reload-or-restart", "try-restart", "start"]).boxed()
        }
        Breadth::Ignition => select(&["start"]).boxed(),
    };
    let drop_in = ("[0-9]{2}-[a-z]{1,6}\\.conf", "[A-Z]{1,6}=[a-z0-9]{1,6}").prop_map(|(name, setting)| {
        let content = format!("[Service]\nEnvironment=\"{setting}\"\n");
        Value::Map(vec![("name", Value::Text(name)), ("content", Value::Text(content))])
    });
    let service = (
        service(),
        maybe(unit_text()),
        maybe(command),
        proptest::bool::ANY,
        maybe(proptest::bool::ANY),
        proptest::bool::weighted(0.2),
        proptest::collection::vec(drop_in, 0..3),
    );
    let service = service.prop_map(|(name, content, command, enable, runtime, mask, drop_ins)| {
        let mut unit = vec![("name", Value::Text(name))];
        if mask {
            unit.push(("mask", Value::Flag(true)));
            return Value::Map(unit);
        }
        let installed = content.as_ref().is_none_or(|content| content.contains("[Install]"));
        push(&mut unit, "enable", (enable && installed).then_some(Value::Flag(true)));
        push(&mut unit, "runtime", runtime.map(Value::Flag));
        let nothing = content.is_none() && command.is_none() && drop_ins.is_empty();
        push(&mut unit, "content", content.map(Value::Text));
        let command = if nothing { Some("start".to_owned()) } else { command };
        push(&mut unit, "command", command.map(Value::Text));
        if !drop_ins.is_empty() {
            unit.push(("drop_ins", Value::List(distinct(drop_ins, "name"))));
        }
        Value::Map(unit)
    });
    let network =
        ("[0-9]{2}-[a-z]{1,5}\\.(network|netdev|link)", "eth[0-9]").prop_map(|(name, interface)| {
            let content = format!("[Match]\nName={interface}\n");
            Value::Map(vec![("name", Value::Text(name)), ("content", Value::Text(content))])
        });
    prop_oneof![6 => service, 1 => network]
}

/// A hash of the form that crypt(5) has.
fn hash() -> impl Strategy<Value = String> {
    "\\$6\\$[a-zA-Z0-9./]{8}\\$[a-zA-Z0-9./]{30,40}"
}

fn user() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    (
        "u[a-z0-9]{1,6}",
        maybe(hash()),
        maybe(proptest::collection::vec(key(), 1..3)),
        maybe(proptest::sample::subsequence(vec!["adm", "audio", "docker", "users", "video"], 1..4)),
        maybe("[A-Z][a-z]{1,8} [A-Z][a-z]{1,8}"),
        maybe(select(&["/bin/bash", "/bin/sh", "/usr/sbin/nologin"])),
        maybe(select(&["/home/x", "/var/lib/y"])),
        proptest::collection::vec(proptest::bool::ANY, 4),
    )
        .prop_map(|(name, hash, keys, groups, gecos, shell, home, flags)| {
            let mut user = vec![("name", Value::Text(name))];
            push(&mut user, "passwd", hash.map(Value::Text));
            push(&mut user, "ssh_authorized_keys", keys.map(texts));
            push(&mut user, "groups", groups.map(|groups| texts(groups.into_iter().map(str::to_owned))));
            push(&mut user, "gecos", gecos.map(Value::Text));
            push(&mut user, "shell", shell.map(Value::Text));
            push(&mut user, "homedir", home.map(Value::Text));
            let names = ["no_create_home", "no_user_group", "no_log_init", "system"];
            user.extend(
                names
                    .into_iter()
                    .zip(flags)
                    .filter(|(_, flag)| *flag)
                    .map(|(name, _)| (name, Value::Flag(true))),
            );
            user
        })
}

/// An entry of `users`.
pub fn coreos_user() -> impl Strategy<Value = Value> {
    user().prop_map(Value::Map)
}

/// An entry of `users`.
pub fn cloud_init_user(breadth: Breadth) -> impl Strategy<Value = Value> {
    let more = (
        maybe(proptest::bool::ANY),
        maybe(prop_oneof![
            select(&["ALL=(ALL) NOPASSWD:ALL"]).prop_map(Value::Text),
            Just(Value::Flag(false)),
        ]),
        maybe(1000..60_000_u32),
        proptest::bool::ANY,
    );
    (user(), more).prop_map(move |(mut user, (locked, sudo, uid, one_text))| {
        push(&mut user, "lock_passwd", locked.map(Value::Flag));
        push(&mut user, "sudo", sudo);
        push(&mut user, "uid", uid.filter(|_| breadth != Breadth::Other).map(Value::Number));
        // cloud-init takes the groups in one text, too.
        for (key, value) in &mut user {
            if let (true, "groups", Value::List(groups)) = (one_text, *key, &*value) {
                let names: Vec<&str> = groups
                    .iter()
                    .filter_map(|group| if let Value::Text(name) = group { Some(&**name) } else { None })
                    .collect();
                *value = Value::Text(names.join(", "));
            }
        }
        Value::Map(user)
    })
}

/// An entry of `runcmd`.
pub fn command() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z]{1,6}( [a-z0-9./-]{1,8}){0,3}".prop_map(Value::Text),
        select(&[
            "echo done: ok",
            "test -e /a && echo b > /c",
            "sh -c 'a | b'",
            "systemctl enable --now docker"
        ])
        .prop_map(Value::Text),
        proptest::collection::vec("[a-z0-9./=-]{1,8}", 1..4).prop_map(texts),
        proptest::collection::vec(text(), 1..3)
            .prop_map(|words| texts(std::iter::once("printf".to_owned()).chain(words))),
    ]
}

/// What a unit of the CoreOS dialect can say.
pub fn systemctl() -> impl Strategy<Value = Value> {
    // Each has units of its own, so that none gets two commands.
    let commands = prop_oneof![
        select(&["systemctl daemon-reload", "systemctl enable --now a b", "systemctl mask cups.service"]),
        select(&[
            "systemctl start c.service",
            "/bin/systemctl restart --no-block d.timer",
            "systemctl enable a"
        ]),
    ];
    (commands, proptest::bool::ANY).prop_map(|(line, list)| {
        if list { texts(line.split(' ').map(str::to_owned)) } else { Value::Text(line) }
    })
}

/// A disk with one partition and a file system on it, and another one that is a file system.
pub fn disks() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let format = || (select(&["ext4", "xfs", "btrfs"]), maybe("[a-z]{1,8}"), maybe(proptest::bool::ANY));
    let filesystem = |device: &str,
                      (format, label, overwrite): (String, Option<String>, Option<bool>),
                      partition: Option<&str>| {
        let mut entries =
            vec![("device", Value::Text(device.to_owned())), ("filesystem", Value::Text(format))];
        push(&mut entries, "partition", partition.map(|partition| Value::Text(partition.to_owned())));
        push(&mut entries, "label", label.map(Value::Text));
        push(&mut entries, "overwrite", overwrite.map(Value::Flag));
        Value::Map(entries)
    };
    (maybe(proptest::bool::ANY), format(), format(), proptest::bool::ANY).prop_map(
        move |(overwrite, one, two, numbered)| {
            let mut disk = vec![("table_type", Value::Text("gpt".into())), ("layout", Value::Flag(true))];
            push(&mut disk, "overwrite", overwrite.map(Value::Flag));
            // Of a device whose name says the partition, none is asked for.
            let one = if numbered {
                filesystem("/dev/xvdf1", one, None)
            } else {
                filesystem("/dev/nvme1n1p1", one, Some("none"))
            };
            let two = filesystem("/dev/xvdg", two, Some("none"));
            vec![
                ("disk_setup", Value::Map(vec![("/dev/xvdf", Value::Map(disk))])),
                ("fs_setup", Value::List(vec![one, two])),
            ]
        },
    )
}

/// Below a directory where no file is.
pub fn mount() -> impl Strategy<Value = Value> {
    (
        "/dev/(sd|vd|xvd)[b-e]",
        "/mnt/[a-z]{1,6}",
        select(&["ext4", "xfs", "auto"]),
        maybe(select(&["defaults", "noatime,nofail"])),
    )
        .prop_map(|(device, point, kind, options)| texts([device, point, kind].into_iter().chain(options)))
}

fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in data.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}
