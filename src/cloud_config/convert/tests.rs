//! What holds for documents that are written anew.

use proptest::prelude::*;

use super::convert;
use crate::cloud_config::{Dialect, Effects, Target, Verdict, check, effects};
use crate::source::{SourceFile, fuzz_cases};

use crate::cloud_config::user_data::{Breadth, cloud_init, coreos};

fn converted(text: &str, target: Target) -> Result<String, Verdict> {
    convert(&SourceFile::new("a.yaml", text), target)
}

/// The messages of what is refused.
fn refused(text: &str, target: Target) -> Vec<String> {
    let verdict = converted(text, target).expect_err("it is refused");
    verdict.findings.into_iter().map(|finding| format!("{}: {}", finding.code, finding.message)).collect()
}

/// What both engines would make the same: files, users, units and their commands.
fn machine(effects: &Effects) -> impl PartialEq + std::fmt::Debug + use<> {
    let units: Vec<_> = effects
        .units
        .iter()
        .map(|unit| {
            let mut commands = unit.commands.clone();
            commands.dedup();
            (unit.name.clone(), unit.masked, unit.enabled && !unit.masked, commands)
        })
        .filter(|(name, ..)| !name.contains("networkd"))
        .filter(|(_, masked, enabled, commands)| *masked || *enabled || !commands.is_empty())
        .collect();
    let users: Vec<_> = effects
        .users
        .iter()
        .map(|user| {
            let name = if user.name == "core" { "default" } else { &user.name };
            (name.to_owned(), user.keys.clone(), user.groups.clone())
        })
        .collect();
    (effects.hostname.clone(), users, units)
}

/// The files with those of units among them.
fn files(effects: &Effects) -> Vec<(String, Vec<u8>, u32)> {
    let mut files: Vec<_> =
        effects.files.iter().map(|file| (file.path.clone(), file.content.clone(), file.mode)).collect();
    for unit in effects.units.iter().filter(|unit| !unit.masked) {
        let top = if unit.runtime { "/run" } else { "/etc" };
        let network = [".network", ".netdev", ".link"].iter().any(|end| unit.name.ends_with(end));
        let folder = if network { "network" } else { "system" };
        let path = format!("{top}/systemd/{folder}/{}", unit.name);
        if let Some(content) = &unit.content {
            files.push((path.clone(), content.clone().into_bytes(), 0o644));
        }
        for (name, content) in &unit.drop_ins {
            if let Some(content) = content {
                files.push((format!("{path}.d/{name}"), content.clone().into_bytes(), 0o644));
            }
        }
    }
    files.sort();
    files
}

fn any_document() -> impl Strategy<Value = (Dialect, String)> {
    prop_oneof![
        coreos(Breadth::Engine).prop_map(|text| (Dialect::CoreOs, text)),
        cloud_init(Breadth::Engine).prop_map(|text| (Dialect::CloudInit, text)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(fuzz_cases(256)))]

    #[test]
    fn documents_made_at_random_are_right((dialect, text) in any_document()) {
        let verdict = check(&SourceFile::new("a.yaml", text.as_str()), Target::defaults(dialect));
        let errors: Vec<_> = verdict.findings.iter().filter(|finding| finding.is_error()).collect();
        prop_assert!(errors.is_empty(), "{text}\n{errors:#?}");
    }

    #[test]
    fn a_normalised_document_does_the_same_and_stays_as_it_is((dialect, text) in any_document()) {
        for target in Target::defaults(dialect) {
            let new = converted(&text, *target).map_err(|verdict| TestCaseError::fail(format!("{text}\n{:#?}", verdict.findings)))?;
            prop_assert_eq!(effects(&new), effects(&text), "{}\n{}", text, new);
            let again = converted(&new, *target).map_err(|verdict| TestCaseError::fail(format!("{new}\n{:#?}", verdict.findings)))?;
            prop_assert_eq!(&again, &new);
        }
    }

    #[test]
    fn what_the_other_engine_can_do_is_translated((dialect, text) in prop_oneof![
        coreos(Breadth::Other).prop_map(|text| (Dialect::CoreOs, text)),
        cloud_init(Breadth::Other).prop_map(|text| (Dialect::CloudInit, text)),
    ]) {
        let targets = if dialect == Dialect::CoreOs { Target::CLOUD_INIT } else { Target::COREOS };
        for target in targets {
            let new = converted(&text, target).map_err(|verdict| TestCaseError::fail(format!("{text}\n{:#?}", verdict.findings)))?;
            prop_assert_eq!(machine(&effects(&new)), machine(&effects(&text)), "{}\n{}", text, new);
        }
    }

    #[test]
    fn a_translated_document_makes_the_same_machine((dialect, text) in any_document()) {
        let target = match dialect {
            Dialect::CoreOs => Target::CloudInit22_4,
            Dialect::CloudInit => Target::Flatcar,
        };
        match converted(&text, target) {
            Ok(new) => {
                let (before, after) = (effects(&text), effects(&new));
                prop_assert_eq!(machine(&after), machine(&before), "{}\n{}", text, new);
                if dialect == Dialect::CoreOs {
                    prop_assert_eq!(files(&after), files(&before), "{}\n{}", text, new);
                }
            }
            Err(verdict) => {
                for finding in &verdict.findings {
                    prop_assert_eq!(finding.code, "not-in-target", "{}\n{:#?}", text, finding);
                }
            }
        }
    }
}

#[test]
fn what_is_mended_by_writing_is_no_error() {
    let text = "# cloud-config\nusers: [{name: a, ssh-authorized-keys: [ssh-rsa a]}]\nwrite_files: [{path: /a, permissions: 0644}]\n";
    insta::assert_snapshot!(converted(text, Target::CloudInit22_4).expect("converted"));
    let text = "#cloud-config\ncoreos: {update: {reboot-strategy: off}}\nwrite-files: [{path: /a, permissions: 644}]\n";
    insta::assert_snapshot!(converted(text, Target::Flatcar).expect("converted"));
}

#[test]
fn aliases_and_merge_keys_are_resolved() {
    let text = "#cloud-config\nusers:\n- &a {name: a, shell: /bin/sh, groups: &g [adm]}\n- {<<: *a, name: b, groups: *g}\n";
    insta::assert_snapshot!(converted(text, Target::CloudInit22_4).expect("converted"));
}

#[test]
fn coreos_is_translated_for_cloud_init() {
    let text = "#cloud-config
hostname: core-1
ssh_authorized_keys: [ssh-rsa a]
users: [{name: app, passwd: $6$a$b, groups: [docker]}]
write_files: [{path: /etc/app, owner: app, permissions: 0600, content: x}]
coreos:
  units:
  - {name: app.service, enable: true, command: start, content: \"[Service]\\nExecStart=/app\\n[Install]\\nWantedBy=multi-user.target\\n\"}
  - {name: docker.service, drop_ins: [{name: a.conf, content: \"[Service]\\nLimitNOFILE=1\\n\"}], command: restart}
  - {name: cups.service, mask: true}
  - {name: 10-a.network, content: \"[Match]\\nName=eth0\\n\"}
";
    insta::assert_snapshot!(converted(text, Target::CloudInit22_4).expect("converted"));
}

#[test]
fn cloud_init_is_translated_for_coreos() {
    let text = "#cloud-config
fqdn: web.example
users: [default, {name: app, passwd: $6$a$b, groups: adm, sudo: ALL=(ALL) ALL}]
write_files:
- {path: /etc/systemd/system/app.service, content: \"[Service]\\nExecStart=/app\\n[Install]\\nWantedBy=multi-user.target\\n\"}
- {path: /etc/systemd/system/docker.service.d/a.conf, content: \"[Service]\\nLimitNOFILE=1\\n\"}
- {path: /etc/app, content: aGVsbG8=, encoding: base64, permissions: '0600', owner: 'app:app', defer: true}
runcmd:
- systemctl daemon-reload
- [systemctl, enable, --now, app]
- systemctl restart --no-block docker
- systemctl mask cups.service
";
    insta::assert_snapshot!(converted(text, Target::CoreosLegacy).expect("converted"));
}

#[test]
fn what_has_no_counterpart_is_refused_with_a_reason() {
    let text = "#cloud-config
packages: [a]
bootcmd: [a]
runcmd: [echo a, systemctl start a b, systemctl stop a]
ntp: {enabled: true}
groups: [g]
mounts: [[/dev/b, /b]]
swap: {size: 1}
users: [{name: a, uid: 1000, plain_text_passwd: x, groups: [zoo]}]
write_files: [{path: /a, append: true, content: $private_ipv4}]
hostname: a
fqdn: a.b
";
    insta::assert_snapshot!(refused(text, Target::Flatcar).join("\n"));
    let text = "#cloud-config
coreos: {update: {group: stable}, units: [{name: a.network, mask: true}]}
users: [{name: a, coreos_ssh_import_url: http://x}]
write_files: [{path: /a, content: $private_ipv4}]
";
    insta::assert_snapshot!(refused(text, Target::CloudInit22_4).join("\n"));
    assert_eq!(
        refused("#!/bin/sh\n", Target::CloudInit22_4),
        ["not-in-target: only a cloud-config can be converted"]
    );
}

#[test]
fn what_is_wrong_with_the_document_itself_is_told_first() {
    let text =
        "#cloud-config\nhostname: [a]\nwrite_files: [{path: /a, permissions: 420}]\nruncmd: [{a: b}]\n";
    insta::assert_snapshot!(refused(text, Target::Ignition3_3).join("\n"));
}
