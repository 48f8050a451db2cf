//! What holds for every document.

use std::sync::Arc;

use proptest::prelude::*;

use super::{ChangeKind, Reach, Target, What, check, convert, difference, effects};
use crate::source::SourceFile;

/// Texts that look enough like documents to get far into the checks.
fn document() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        proptest::sample::select(vec![
            "write_files:",
            "- path: /etc/x",
            "  path: etc/x",
            "  content: |",
            "    $private_ipv4$private_ipv4",
            "  content: !!binary aGVsbG8=",
            "  encoding: gzip+base64",
            "  permissions: 0644",
            "  permissions: \"0644\"",
            "  owner: app:app",
            "users: [default, {name: app, passwd: x}]",
            "runcmd:",
            "- echo done: ok",
            "- [systemctl, enable, x.service]",
            "bootcmd: [[], '', ~, {}]",
            "packages: [curl, [a, b]]",
            "groups: {a: [b], c: d}",
            "mounts: [[/dev/x, /etc]]",
            "hostname: größe",
            "coreos:",
            "  units:",
            "  - name: x.service",
            "    enable: yes",
            "    drop-ins: [{name: a}]",
            "  update: {reboot-strategy: off}",
            "password: hunter2 https://a:b@c",
            "-----BEGIN RSA PRIVATE KEY-----",
            "a: &a {b: c}",
            "b: *a",
            "<<: *a",
            "---",
            "...",
            "# comment $public_ipv6",
            "",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,20}",
        "[äß€𝄞\u{0}\u{85}\u{feff}\r\t $:-]{0,6}",
    ];
    let start =
        proptest::sample::select(vec!["#cloud-config\n", "", "\u{feff}#cloud-config\n", "# Cloud-Config\n"]);
    (start, proptest::collection::vec(line, 0..14))
        .prop_map(|(start, lines)| start.to_owned() + &lines.join("\n"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_checked_and_findings_lie_in_it(text in document()) {
        let file = SourceFile::new("a.yaml", text.as_str());
        let verdict = check(&file, &Target::ALL);
        prop_assert_eq!(verdict.shown.text().len(), text.len());
        for finding in &verdict.findings {
            prop_assert!(text.get(finding.span.start..finding.span.end).is_some(), "{:?}", finding);
            prop_assert!(!finding.targets.is_empty());
        }
    }

    #[test]
    fn any_text_is_written_anew_or_refused_without_panic(text in document()) {
        let file = SourceFile::new("a.yaml", text.as_str());
        for target in Target::ALL {
            match convert(&file, target) {
                Ok(new) => {
                    let errors = check(&SourceFile::new("b.yaml", new.as_str()), &[target]);
                    let own = target == Target::Ignition3_3 || !errors.refused_by(target);
                    prop_assert!(own, "{}: {}\n{:?}", target, new, errors.findings);
                }
                Err(verdict) => prop_assert!(verdict.findings.iter().any(super::Finding::is_error)),
            }
        }
    }

    #[test]
    fn a_document_does_not_differ_from_itself(text in document()) {
        let effects = effects(&text);
        prop_assert_eq!(difference(&effects, &effects), []);
    }

    #[test]
    fn order_comments_and_quotes_are_no_difference(
        order in Just((0..8).collect::<Vec<usize>>()).prop_shuffle(),
        comments: [bool; 8],
    ) {
        let old = effects(&assembled(&(0..8).collect::<Vec<_>>(), &[false; 8], false));
        let new = effects(&assembled(&order, &comments, true));
        prop_assert!(old.script.is_none());
        prop_assert_eq!(difference(&old, &new), []);
    }

    #[test]
    fn what_is_added_is_removed_the_other_way(a in document(), b in document()) {
        let (a, b) = (effects(&a), effects(&b));
        let count = |changes: &[super::Change], kind| changes.iter().filter(|change| change.kind == kind).count();
        let (there, back) = (difference(&a, &b), difference(&b, &a));
        prop_assert_eq!(count(&there, ChangeKind::Added), count(&back, ChangeKind::Removed));
        prop_assert_eq!(there.is_empty(), back.is_empty());
    }
}

/// One document from eight parts, each in one of two ways of writing it.
fn assembled(order: &[usize], comments: &[bool; 8], other: bool) -> String {
    let parts: [[&str; 2]; 8] = [
        ["hostname: web\n", "hostname: \"web\"\n"],
        [
            "write_files:\n  - path: /etc/a\n    permissions: \"0644\"\n    content: hello\n",
            "write_files:\n- content: !!binary aGVsbG8=\n  permissions: '0644'\n  path: \"/etc/a\"\n",
        ],
        ["packages: [b, a]\n", "packages:\n  - a\n  - 'b'\n"],
        ["ntp: {enabled: true, servers: [a]}\n", "ntp:\n  servers:\n    - a\n  enabled: yes\n"],
        [
            "users:\n  - name: a\n    groups: [x, y]\n  - default\n",
            "users: [default, {groups: \"y, x\", name: a}]\n",
        ],
        ["runcmd:\n  - echo a\n  - [echo, b]\n", "runcmd: [\"echo a\", [\"echo\", 'b']]\n"],
        ["package_update: true\n", "package_update: on\n"],
        ["mounts: [[/dev/x, /data]]\n", "mounts:\n  - - /dev/x\n    - /data\n"],
    ];
    let mut text = "#cloud-config\n".to_owned();
    for part in order {
        if comments[*part] {
            text.push_str("# a comment\n\n");
        }
        text.push_str(parts[*part][usize::from(other)]);
    }
    text
}

#[test]
fn a_large_document_takes_linear_time() {
    let file = |number: usize| {
        format!(
            "  - path: /opt/{number}\n    owner: user{number}\n    content: $private_ipv4 $ip://a:b@c AKIA\n"
        )
    };
    let of = |number: usize| -> Arc<SourceFile> {
        let files: String = (0..number).map(file).collect();
        SourceFile::new("a.yaml", format!("#cloud-config\nwrite_files:\n{files}"))
    };
    let time = |file: &Arc<SourceFile>| {
        let run = || {
            let start = std::time::Instant::now();
            check(file, &Target::ALL);
            start.elapsed()
        };
        (0..3).map(|_| run()).min().unwrap_or_default()
    };
    let (small, large) = (of(400), of(3200));
    let (quick, slow) = (time(&small), time(&large));
    assert!(
        slow < quick * 8 * 4,
        "{} bytes took {quick:?}, {} bytes {slow:?}",
        small.text().len(),
        large.text().len()
    );
}

#[test]
fn nonsense_takes_no_longer() {
    let texts = [
        format!("#cloud-config\na: {}\n", "$".repeat(500_000)),
        format!("#cloud-config\na: |\n{}", "  -----BEGIN RSA PRIVATE KEY-----\n".repeat(2000)),
        format!("#cloud-config\na: {}\n", "AKIA".repeat(100_000)),
        format!("#cloud-config\n{}", (0..20_000).map(|number| format!("k{number}: 1\n")).collect::<String>()),
    ];
    for text in texts {
        let start = std::time::Instant::now();
        check(&SourceFile::new("a.yaml", text.as_str()), &Target::ALL);
        assert!(start.elapsed().as_secs() < 10, "{:?}: {}", start.elapsed(), &text[..60]);
    }
}

#[test]
fn changes_say_what_they_reach() {
    let coreos = |rest: &str| effects(&format!("#cloud-config\ncoreos: {{}}\n{rest}"));
    let changes = difference(
        &coreos("write_files: [{path: /a, content: x}, {path: /b}]\nusers: [{name: u, groups: [a]}]\n"),
        &coreos("write_files: [{path: /a, content: y}, {path: /c}]\nusers: [{name: u, groups: [b]}]\n"),
    );
    let said: Vec<_> =
        changes.iter().map(|change| (change.what, change.name.as_str(), change.reach)).collect();
    let expected = [
        (What::File, "/a", Reach::NextBoot),
        (What::File, "/b", Reach::Stays),
        (What::File, "/c", Reach::NextBoot),
        (What::User, "u", Reach::NewMachines),
    ];
    assert_eq!(said, expected);
    assert_eq!(changes[0].diff.as_deref().map(|diff| diff.contains("-x") && diff.contains("+y")), Some(true));

    let cloud_init = |rest: &str| effects(&format!("#cloud-config\n{rest}"));
    let changes = difference(
        &cloud_init("bootcmd: [a]\nruncmd: [b, c]\n"),
        &cloud_init("bootcmd: [x]\nruncmd: [c, b]\n"),
    );
    let said: Vec<_> = changes.iter().map(|change| (change.name.as_str(), change.reach)).collect();
    assert_eq!(said, [("a", Reach::NextBoot), ("x", Reach::NextBoot), ("", Reach::NewMachines)]);
}

#[test]
fn secrets_are_in_no_difference() {
    let of = |password: &str| {
        effects(&format!(
            "#cloud-config\npassword: {password}\nusers: [{{name: a, plain_text_passwd: {password}}}]\nwrite_files: [{{path: /a, content: 'https://a:{password}@b'}}]\n"
        ))
    };
    let changes = difference(&of("hunter2"), &of("hunter3"));
    assert_eq!(changes.len(), 3);
    assert!(!format!("{changes:?}").contains("hunter"), "{changes:?}");
}
