//! Users, their passwords and keys.

use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{Config, Spanned, User};
use crate::cloud_config::scalar::{Scalar, scalar};
use crate::cloud_config::target::Target;

/// The beginnings of public keys, from sshd(8).
const KEYS: [&str; 4] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];

/// Checks users, and the keys and settings of the machine's own.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    for user in &config.users {
        self::user(user, report);
    }
    config.ssh_authorized_keys.iter().for_each(|key| public_key(key, report));
    if let Some(key) = config.ssh_authorized_keys.first().filter(|_| !config.default_user) {
        let message = "these keys are nobody's: `users` leaves out `default`";
        let finding = Finding::warning("no-default-user", key.span, message);
        report.add(&Target::CLOUD_INIT, finding.help("add `default` to `users`, or give the keys to a user"));
    }
    if let Some((_, node)) =
        config.rest.iter().find(|(name, _)| name.value.replace('-', "_") == "manage_etc_hosts")
    {
        let text = node.text().unwrap_or_default();
        if text != "localhost" {
            let message = "`manage_etc_hosts` must be `localhost`";
            let finding = Finding::error("bad-value", node.span, message);
            report.add(
                &Target::COREOS,
                finding.help("its validator takes others, and applying the document then stops"),
            );
        }
        match (scalar(node), text) {
            (Some(Scalar::Bool(_)), _) | (_, "localhost") => {}
            (_, "template") => {
                let finding =
                    Finding::warning("deprecated-key", node.span, "the value `template` is deprecated");
                report.add(&Target::CLOUD_INIT, finding.label("write `true`"));
            }
            _ => {
                let message = "`manage_etc_hosts` must be a boolean or `localhost`";
                report.add(&Target::CLOUD_INIT, Finding::error("bad-value", node.span, message));
            }
        }
    }
    if let Some(name) = &config.hostname {
        hostname(name, report);
    }
}

fn hostname(name: &Spanned<String>, report: &mut Report<'_>) {
    let value = &name.value;
    let short = value.split('.').next().unwrap_or_default();
    let warning = |message: String| Finding::warning("bad-hostname", name.span, message);
    // A token stands for what is not known yet.
    if value.contains('$') {
        return;
    }
    if value.contains('.') {
        let message = format!("the hostname `{value}` is cut at its first dot");
        report.add(&[Target::Flatcar], warning(message));
    }
    if short.len() > 63 {
        report.add(&[Target::Flatcar], warning("the hostname is cut after 63 characters".to_owned()));
    }
    if value.len() > 64 {
        let finding = Finding::error("bad-hostname", name.span, "Linux takes 64 characters of a hostname");
        let targets =
            [Target::CoreosLegacy, Target::CloudInit22_4, Target::CloudInit23_4, Target::Ignition3_3];
        report.add(&targets, finding);
    }
    if value.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-' && c != '.') {
        let message = format!("`{value}` is no hostname: letters, digits and `-` are allowed");
        report.add(&Target::ALL, warning(message));
    }
}

fn user(user: &User, report: &mut Report<'_>) {
    if user.name.is_none() && !user.rest.iter().any(|(key, _)| key == "snapuser") {
        let finding = Finding::error("missing-key", user.span, "the user has no `name`");
        report.add(&Target::ALL, finding.help("no user is created"));
    }
    user.keys.iter().for_each(|key| public_key(key, report));
    if user.rest.iter().any(|(key, value)| key == "sudo" && value.starts_with('[')) {
        let message = "`sudo` must be a text, but this is a list";
        let finding = Finding::error("wrong-type", user.span, message);
        let help = "`cloud-init schema` refuses it before 24.2; at boot it works";
        report.add(&[Target::CloudInit22_4], finding.help(help));
        let finding = Finding::warning("wrong-type", user.span, message);
        report.add(&[Target::CloudInit23_4], finding.help(help));
    }
    let Some(hash) = &user.hash else { return };
    if !is_hash(&hash.value) {
        let finding =
            Finding::error("not-a-hash", hash.span, "`passwd` is no hash, so that nobody can log in with it");
        let help = "`mkpasswd --method=sha-512` makes one; a password in clear can be read by anything on the machine";
        report.add(&Target::ALL, finding.help(help));
    } else if user.rest.iter().all(|(key, _)| key != "lock_passwd") {
        let message = "the password is locked, as `lock_passwd` is not given";
        let finding = Finding::warning("locked-password", hash.span, message);
        report.add(&Target::CLOUD_INIT, finding.help("`lock_passwd: false` lets the user log in with it"));
    }
}

/// Whether `text` may stand in /etc/shadow, by crypt(5): `$id$...`, DES, or nothing that matches.
pub fn is_hash(text: &str) -> bool {
    let des =
        text.len() == 13 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    let modern = text.starts_with('$') && text[1..].contains('$') && !text.contains([':', ' ']);
    text.is_empty() || text.starts_with(['!', '*']) || des || modern
}

fn public_key(key: &Spanned<String>, report: &mut Report<'_>) {
    let word = |word: &str| KEYS.iter().any(|start| word.starts_with(start));
    let mut words = key.value.split_whitespace();
    if !words.any(word) {
        let finding = Finding::warning("bad-ssh-key", key.span, "this is no public key of SSH");
        report.add(&Target::ALL, finding.help("a public key starts with its type, such as `ssh-ed25519`"));
    }
}
