//! What each engine makes of a document, frozen: coreos-cloudinit, Flatcar's fork and cloud-init
//! 23.4 can't be run by these tests. The columns are coreos-legacy, flatcar, cloud-init-22.4,
//! cloud-init-23.4 and ignition-3.3; `E` is an error, `w` a warning, `.` neither.

use super::{Target, check};
use crate::source::SourceFile;

const TABLE: &[(&str, &str)] = &[
    // The first line. coreos-cloudinit: config/config.go, IsCloudConfig; Flatcar's main goes on
    // without user data that it does not know. cloud-init: handlers/__init__.py.
    ("#cloud-config\nhostname: a\n", "....."),
    ("#cloud-config \t\r\nhostname: a\n", "....."),
    ("# cloud-config\nhostname: a\n", "EEEE."),
    ("\u{feff}#cloud-config\nhostname: a\n", "EEEE."),
    ("\n#cloud-config\nhostname: a\n", "EEww."),
    ("#cloud-config x\nhostname: a\n", "EE..."),
    ("#!/bin/sh\n", "....E"),
    ("MIME-Version: 1.0\n", "EEEEE"),
    (
        "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/cloud-config\n\n#cloud-config\na: b\n--x--\n",
        "EEEEE",
    ),
    ("Content-Type: multipart/mixed; boundary=x\n\n--x\n\n#cloud-config\nhostname: a\n--x--\n", "E...E"),
    ("## template: jinja\n#cloud-config\nhostname: {{ v1.region }}\n", "EE..E"),
    ("#include\nx\n", "EEwwE"),
    ("{\"ignition\": {}}\n", "E.EE."),
    // YAML. go-yaml reads the first document; PyYAML refuses two, and keeps the last of two keys.
    ("#cloud-config\na: [\n", "EEEEE"),
    ("#cloud-config\nhostname: a\n---\nhostname: b\n", "EEEEE"),
    ("#cloud-config\nhostname: a\nhostname: b\n", "EEEEE"),
    // Keys. Legacy puts underscores for hyphens in all of them; Flatcar's yaml.v3 does not. cloud-init
    // 22.4's schema takes any key at the root, 23.4's has additionalProperties: false.
    ("#cloud-config\nssh-authorized-keys: [ssh-rsa a]\n", ".EEE."),
    ("#cloud-config\ncoreos: {update: {reboot-strategy: reboot}}\n", ".EEE."),
    ("#cloud-config\npakages: [a]\n", "EEEEE"),
    ("#cloud-config\nruncmd: [a]\n", "EE..E"),
    ("#cloud-config\ncoreos: {units: []}\n", "..EE."),
    ("#cloud-config\nubuntu_pro: {}\n", "EEE.E"),
    // Types. go-yaml v1 leaves out what has the wrong one, yaml.v3 fails.
    ("#cloud-config\nhostname: 12\n", "..EE."),
    ("#cloud-config\nssh_authorized_keys: ssh-rsa a\n", "EEEE."),
    // A list of rules came into the schema with 24.2 (pull request 5417).
    ("#cloud-config\nusers: [{name: u, sudo: [a]}]\n", "EEEw."),
    // Modes. config/file.go: a text that is octal; cc_write_files.py: a number as it is.
    ("#cloud-config\nwrite_files: [{path: /a, permissions: \"0644\"}]\n", "....."),
    ("#cloud-config\nwrite_files: [{path: /a, permissions: 0644}]\n", "..EE."),
    ("#cloud-config\nwrite_files: [{path: /a, permissions: 420}]\n", "EEEEE"),
    ("#cloud-config\nwrite_files: [{path: /a, permissions: \"u=r\"}]\n", "EEEEE"),
    // Files. config/validate/rules.go has /usr; the system package joins relative paths to the root.
    ("#cloud-config\nwrite_files: [{path: /usr/a}]\n", "EE..E"),
    ("#cloud-config\nwrite_files: [{path: a}]\n", "wwwwE"),
    ("#cloud-config\nwrite_files: [{content: a}]\n", "EEEEE"),
    ("#cloud-config\nwrite_files: [{path: /a, encoding: b64, content: \"?\"}]\n", "EEEEE"),
    ("#cloud-config\nusers: [{name: u}]\nwrite_files: [{path: /a, owner: u}]\n", "..EE."),
    // manage_etc_hosts. config/etc_hosts.go takes any text, system/etc_hosts.go only `localhost`.
    ("#cloud-config\nmanage_etc_hosts: true\n", "EE..."),
    ("#cloud-config\nmanage_etc_hosts: localhost\n", "....."),
    // Tokens. initialize/env.go.
    ("#cloud-config\nwrite_files: [{path: /a, content: $private_ipv4}]\n", "..wwE"),
    ("#cloud-config\nwrite_files: [{path: /a, content: $private_ipv6}]\n", "EEwwE"),
    ("#cloud-config\nwrite_files: [{path: /a, content: '\\$private_ipv4 ${private_ipv4}'}]\n", "....."),
    // Commands. util.py, shellify.
    ("#cloud-config\nruncmd: [{echo a: b}]\n", "EEEEE"),
    // Ignition's specification 3.3 has neither.
    ("#cloud-config\npackages: [a]\n", "EE..E"),
];

#[test]
fn verdicts_are_those_of_the_engines() {
    for (text, expected) in TABLE {
        let verdict = check(&SourceFile::new("a.yaml", *text), &Target::ALL);
        let letter = |target: &Target| {
            let mut own = verdict.findings.iter().filter(|finding| finding.targets.contains(target));
            match (verdict.refused_by(*target), own.next()) {
                (true, _) => 'E',
                (false, Some(_)) => 'w',
                (false, None) => '.',
            }
        };
        let letters: String = Target::ALL.iter().map(letter).collect();
        assert_eq!(&letters, expected, "{text}\n{:#?}", verdict.findings);
    }
}
