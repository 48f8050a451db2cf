//! Documents of Ignition, and that nothing gets lost on the way.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::Value;

use crate::cloud_config::packed::gunzip;
use crate::cloud_config::{Target, convert, effects};
use crate::source::{SourceFile, fuzz_cases};

use crate::cloud_config::user_data::{Breadth, cloud_init, coreos};

fn ignition(text: &str) -> String {
    convert(&SourceFile::new("a.yaml", text), Target::Ignition3_3)
        .unwrap_or_else(|verdict| panic!("{text}\n{:#?}", verdict.findings))
}

fn refused(text: &str) -> String {
    let verdict = convert(&SourceFile::new("a.yaml", text), Target::Ignition3_3).expect_err("it is refused");
    let findings = verdict.findings.into_iter();
    findings.map(|finding| format!("{}: {}\n", finding.code, finding.message)).collect()
}

/// The bytes that a resource stands for.
fn bytes(resource: &Value) -> Vec<u8> {
    let source = resource["source"].as_str().expect("a URL");
    let data = match source.strip_prefix("data:;base64,") {
        Some(data) => STANDARD.decode(data).expect("base64"),
        None => unescaped(source.strip_prefix("data:,").expect("data")),
    };
    if resource["compression"] == "gzip" { gunzip(&data).expect("gzip") } else { data }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'%' {
            let hex = std::str::from_utf8(&rest[..2]).expect("digits");
            out.push(u8::from_str_radix(hex, 16).expect("digits"));
            rest = &rest[2..];
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Every file that a document of Ignition writes, its units' among them.
fn files(json: &Value) -> BTreeMap<String, Vec<u8>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut files = BTreeMap::new();
    for file in list(&json["storage"]["files"]) {
        let mut content = if file["contents"].is_null() { Vec::new() } else { bytes(&file["contents"]) };
        list(&file["append"]).iter().for_each(|more| content.extend(bytes(more)));
        files.insert(file["path"].as_str().expect("a path").to_owned(), content);
    }
    for unit in list(&json["systemd"]["units"]) {
        let path = format!("/etc/systemd/system/{}", unit["name"].as_str().expect("a name"));
        for drop_in in list(&unit["dropins"]) {
            let path = format!("{path}.d/{}", drop_in["name"].as_str().expect("a name"));
            files.insert(path, drop_in["contents"].as_str().expect("a text").as_bytes().to_vec());
        }
        if let Some(contents) = unit["contents"].as_str() {
            files.insert(path, contents.as_bytes().to_vec());
        }
    }
    files
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases(256)))]

    #[test]
    fn files_and_users_are_all_there(text in prop_oneof![coreos(Breadth::Ignition), cloud_init(Breadth::Ignition)]) {
        let json: Value = serde_json::from_str(&ignition(&text)).expect("JSON");
        let effects = effects(&text);
        let files = files(&json);
        for file in &effects.files {
            prop_assert_eq!(files.get(&file.path), Some(&file.content), "{}\n{}", text, file.path);
        }
        for unit in effects.units.iter().filter(|unit| !unit.masked) {
            let network = [".network", ".netdev", ".link"].iter().any(|end| unit.name.ends_with(end));
            let path = format!("/etc/systemd/{}/{}", if network { "network" } else { "system" }, unit.name);
            if let Some(content) = &unit.content {
                let written = files.get(&path).map(|content| String::from_utf8_lossy(content).into_owned());
                prop_assert!(written.is_some_and(|written| written.starts_with(content)), "{}\n{}", text, path);
            }
        }
        let names: Vec<_> = json["passwd"]["users"].as_array().into_iter().flatten().map(|user| user["name"].as_str()).collect();
        for user in effects.users.iter().filter(|user| user.name != "default") {
            prop_assert!(names.contains(&Some(&user.name)), "{}\n{}", text, user.name);
        }
    }
}

#[test]
fn the_coreos_dialect_has_its_counterparts() {
    insta::assert_snapshot!(ignition("#cloud-config
hostname: core-1
manage_etc_hosts: localhost
ssh_authorized_keys: [ssh-ed25519 AAAA a, ssh-ed25519 AAAA a]
users:
  - {name: app, passwd: $6$a$b, groups: [docker, wheel], primary_group: adm, gecos: App, homedir: /opt/app,
     no_create_home: true, no_user_group: true, no_log_init: true, shell: /bin/sh, ssh_authorized_keys: [ssh-rsa b]}
  - {name: daemon2, system: true}
write_files:
  - {path: /etc//app/./conf, permissions: \"0640\", owner: \"app:docker\", content: \"a=1\\n\"}
  - {path: /opt/bin/run, permissions: \"0755\", encoding: base64, content: AP8=}
coreos:
  update: {reboot_strategy: off, group: stable}
  locksmith: {endpoint: 'http://a', window_start: 'Thu 04:00'}
  flannel: {etcd_endpoints: 'http://b', interface: eth0}
  units:
    - {name: app.service, command: start, content: \"[Service]\\nExecStart=/opt/bin/run\"}
    - {name: app.timer, command: start, content: \"[Timer]\\nOnCalendar=daily\\n\"}
    - {name: docker.service, enable: true, drop_ins: [{name: 10-a.conf, content: \"[Service]\\nLimitNOFILE=1\\n\"}]}
    - {name: cups.service, mask: true, enable: true}
    - {name: 10-eth.network, content: \"[Match]\\nName=eth0\\n\", drop_ins: [{name: a.conf, content: \"[Network]\\nDHCP=yes\\n\"}]}
    - {name: 20-x.link, mask: true}
"));
}

#[test]
fn cloud_init_has_its_counterparts() {
    insta::assert_snapshot!(ignition("#cloud-config
hostname: web
fqdn: web.example
manage_etc_hosts: localhost
groups: [ops, {dev: [app, core]}, docker]
users:
  - default
  - {name: app, passwd: $6$a$b, groups: 'adm, apps', uid: 1500, sudo: ['ALL=(ALL) NOPASSWD:ALL', '/bin/true']}
  - {name: free, passwd: $6$a$b, lock_passwd: false, sudo: false}
ssh_authorized_keys: [ssh-rsa a]
write_files:
  - {path: /etc/motd, content: one, append: true}
  - {path: /etc/motd, content: two, append: true}
  - {path: /etc/systemd/system/app.service, content: \"[Service]\\nExecStart=/app\\n\"}
  - {path: /etc/systemd/system/docker.service.d/a.conf, content: \"[Service]\\nLimitNOFILE=1\\n\"}
  - {path: /etc/systemd/system/secret.service, permissions: '0600', content: \"[Service]\\nExecStart=/app\\n\"}
device_aliases: {data: /dev/xvdf}
disk_setup:
  data: {table_type: gpt, layout: true, overwrite: true}
  /dev/xvdg: {table_type: gpt, layout: [[100, 82]]}
fs_setup:
  - {label: data, filesystem: ext4, device: data, partition: 1, overwrite: true, extra_opts: [-m, '0']}
  - {label: logs, filesystem: xfs, device: /dev/nvme1n1, partition: none}
mounts:
  - [data, /var/lib/my-data]
  - [LABEL=logs, /var/log/app, xfs, 'noatime', '0', '0']
  - ['fs.example:/x', /srv/x, nfs, 'nofail,_netdev']
  - [/dev/xvdg1, none, swap, sw]
"));
}

#[test]
fn what_ignition_can_t_do_is_refused() {
    insta::assert_snapshot!(refused("#cloud-config
users: [{name: a, plain_text_passwd: x, expiredate: '2030-01-01', ssh_import_id: [gh:a]}]
groups: [{ops: [nobody2]}]
write_files:
  - {path: /run/a, content: x}
  - {path: /etc/b/, content: x}
  - {path: /etc/c, content: x, permissions: '4755'}
  - {path: /etc/d, content: x}
  - {path: /etc/d/e, content: x}
manage_etc_hosts: true
disk_setup: {ephemeral0: {layout: true}, /dev/sdb: {table_type: mbr}, /dev/sdc: {layout: [50, 50]}, /dev/sdd: {layout: [[100, 7]]}}
fs_setup: [{filesystem: ext3, device: /dev/sdb, partition: none}, {filesystem: ext4, device: /dev/sdb}, {device: /dev/sdb, cmd: mkfs},
  {filesystem: xfs, label: much-too-long-a-label, device: /dev/sdb1, partition: none}]
mounts: [[ephemeral0, /mnt], [/dev/sdb], [/dev/sdb, data]]
"));
}

#[test]
fn a_unit_with_a_long_line_is_written_as_a_file() {
    let text = format!(
        "#cloud-config\ncoreos:\n  units:\n  - name: a.service\n    command: start\n    content: \"[Service]\\nExecStart=/a {}\\n\"\n",
        "x".repeat(2100)
    );
    let json: Value = serde_json::from_str(&ignition(&text)).expect("JSON");
    assert_eq!(json["systemd"]["units"], serde_json::json!([{"name": "a.service", "enabled": true}]));
    let written = files(&json);
    let unit = String::from_utf8_lossy(&written["/etc/systemd/system/a.service"]).into_owned();
    assert!(unit.ends_with("\n[Install]\nWantedBy=multi-user.target\n"), "{unit}");
}
