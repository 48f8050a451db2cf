//! Users and groups.

use super::Translation;
use super::spec;
use crate::cloud_config::check::files::SYSTEM;
use crate::cloud_config::model::User;
use crate::cloud_config::target::Dialect;

/// Groups that every image has which is made for Ignition, besides those that all systems have.
const IMAGE: [&str; 1] = ["docker"];

/// The user of images that are made for Ignition.
const CORE: &str = "core";

/// Where cloud-init writes what `sudo` asks for.
const SUDOERS: &str = "/etc/sudoers.d/90-cloud-init-users";

impl Translation<'_, '_, '_, '_> {
    pub fn accounts(&mut self) {
        let config = self.config;
        let keys = config.ssh_authorized_keys.iter().map(|key| key.value.as_str());
        let keys: Vec<String> = distinct(keys);
        if !keys.is_empty() {
            self.user(CORE).ssh_authorized_keys = keys;
        }
        let mut rules = String::new();
        let mut made: Vec<String> = config.groups.iter().map(|(name, _)| name.value.clone()).collect();
        for user in &config.users {
            let Some(name) = &user.name else { continue };
            self.one(user, &name.value);
            for rule in &user.sudo {
                rules.push_str(&format!("{} {rule}\n", name.value));
            }
            // coreos-cloudinit makes no groups: useradd fails without them.
            let creates = user.rest.iter().all(|(key, value)| key != "create_groups" || value != "false");
            if config.dialect == Dialect::CloudInit && creates {
                made.extend(user.groups.iter().cloned());
            }
        }
        for (group, members) in &config.groups {
            for member in members {
                let known = config
                    .users
                    .iter()
                    .any(|user| user.name.as_ref().is_some_and(|name| name.value == *member));
                if known || member == CORE {
                    let user = self.user(member);
                    user.groups = distinct(user.groups.iter().chain([&group.value]).map(String::as_str));
                } else {
                    let message = format!(
                        "`{member}` is put into the group `{}`, but is no user of the document",
                        group.value
                    );
                    self.refuse(group.span, message, "Ignition would create the user: add it to `users`");
                }
            }
        }
        if !rules.is_empty() {
            self.write(SUDOERS, 0o440, &rules);
        }
        let made = made.iter().map(String::as_str);
        let made = distinct(made.filter(|name| !SYSTEM.contains(name) && !IMAGE.contains(name)));
        self.document.passwd.groups = made.into_iter().map(|name| spec::Group { name }).collect();
    }

    /// The user of that name, which is new if there was none.
    fn user(&mut self, name: &str) -> &mut spec::User {
        let users = &mut self.document.passwd.users;
        let at = users.iter().position(|user| user.name == name).unwrap_or_else(|| {
            users.push(spec::User { name: name.to_owned(), ..spec::User::default() });
            users.len() - 1
        });
        &mut users[at]
    }

    fn one(&mut self, user: &User, name: &str) {
        let locked = self.config.dialect == Dialect::CloudInit
            && user.rest.iter().all(|(key, value)| key != "lock_passwd" || value != "false");
        if let Some(plain) = &user.plain {
            let message = format!("the password of `{name}` is in clear, and Ignition takes a hash only");
            self.refuse(plain.span, message, "`mkpasswd --method=sha-512` makes one for `passwd`");
        }
        let mut refused = Vec::new();
        let makes_no_home = self.config.dialect == Dialect::CloudInit;
        let own = self.user(name);
        if let Some(hash) = &user.hash {
            // As `usermod --lock` does, which cloud-init runs unless told otherwise.
            let lock = if locked && !hash.value.starts_with('!') { "!" } else { "" };
            own.password_hash = Some(format!("{lock}{}", hash.value));
        }
        let keys = user.keys.iter().map(|key| key.value.as_str());
        own.ssh_authorized_keys = distinct(own.ssh_authorized_keys.iter().map(String::as_str).chain(keys));
        if user.primary_group.is_some() {
            own.primary_group.clone_from(&user.primary_group);
        }
        let others = user.groups.iter().filter(|group| own.primary_group.as_ref() != Some(group));
        own.groups = distinct(own.groups.iter().chain(others).map(String::as_str));
        for (key, value) in &user.rest {
            let text = || Some(value.clone()).filter(|value| !value.is_empty());
            match (key.as_str(), value.as_str()) {
                ("gecos", _) => own.gecos = text(),
                ("homedir", _) => own.home_dir = text(),
                ("shell", _) => own.shell = text(),
                ("no_create_home", _) => own.no_create_home = value == "true",
                ("no_user_group", _) => own.no_user_group = value == "true",
                ("no_log_init", _) => own.no_log_init = value == "true",
                ("system", _) => {
                    own.system = value == "true";
                    // cloud-init makes no home directory for these.
                    own.no_create_home |= own.system && makes_no_home;
                }
                ("uid", _) => match value.parse() {
                    Ok(uid) => own.uid = Some(uid),
                    Err(_) => refused.push(key),
                },
                // Done above, or what is the case anyway.
                ("sudo" | "lock_passwd" | "create_groups", _) | (_, "" | "false" | "[]") => {}
                _ => refused.push(key),
            }
        }
        for key in refused {
            let message = format!("Ignition has nothing like `{key}` of a user");
            self.refuse(user.span, message, "");
        }
    }
}

/// The texts without those that were there before, and without what surrounds them.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = Vec::new();
    for text in texts.map(str::trim).filter(|text| !text.is_empty()) {
        if !seen.iter().any(|known| known == text) {
            seen.push(text.to_owned());
        }
    }
    seen
}
