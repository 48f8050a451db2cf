//! The keys of cloud-init's dialect.
//!
//! From the JSON schema that cloud-init 22.4 ships (`schema-cloud-config-v1.json`), and what its
//! later versions have added. Modules that are not in [`TYPED`] pass through, known by name.

use super::shape::Shape::{Any, Bool, Each, Either, Integer, Like, Map, NonEmpty, Null, Text, Word};
use super::shape::{Field, Shape, deprecated, field, newer, required};

/// The modules whose values are looked into.
pub const TYPED: &[Field] = &[
    field("allow_public_ssh_keys", Bool),
    field("apt", Shape::Some(APT)),
    deprecated("apt_reboot_if_required", Bool, "use `package_reboot_if_required`"),
    deprecated("apt_update", Bool, "use `package_update`"),
    deprecated("apt_upgrade", Bool, "use `package_upgrade`"),
    field("bootcmd", NonEmpty(&COMMAND)),
    field("ca_certs", Shape::Some(CA_CERTS)),
    deprecated("ca-certs", Shape::Some(CA_CERTS), "use `ca_certs`"),
    field("chpasswd", Map(CHPASSWD)),
    field("device_aliases", Each(&Text)),
    field("disable_root", Bool),
    field("disable_root_opts", Text),
    field("disk_setup", Each(&Map(DISK))),
    field("final_message", Text),
    field("fqdn", Text),
    field("fs_setup", Shape::List(&Map(FILESYSTEM))),
    field("groups", GROUPS),
    field("growpart", Map(GROWPART)),
    field("hostname", Text),
    field("locale", Text),
    field("locale_configfile", Text),
    // A boolean, or a word: looked at by itself.
    field("manage_etc_hosts", Any),
    field("mount_default_fields", Shape::Exactly(6, &Either(&[Text, Null]))),
    field("mounts", NonEmpty(&NonEmpty(&Text))),
    field("ntp", Either(&[Null, Map(NTP)])),
    field("package_reboot_if_required", Bool),
    field("package_update", Bool),
    field("package_upgrade", Bool),
    field("packages", NonEmpty(&PACKAGE)),
    field("password", Text),
    field("power_state", Map(POWER_STATE)),
    field("prefer_fqdn_over_hostname", Bool),
    field("preserve_hostname", Bool),
    field("runcmd", NonEmpty(&RUN_COMMAND)),
    field("ssh_authorized_keys", NonEmpty(&Text)),
    field("ssh_deletekeys", Bool),
    field("ssh_genkeytypes", NonEmpty(&Word(&["dsa", "ecdsa", "ed25519", "rsa"]))),
    field("ssh_import_id", Shape::List(&Text)),
    field("ssh_keys", Map(SSH_KEYS)),
    field("ssh_publish_hostkeys", Map(&[field("enabled", Bool), field("blacklist", Shape::List(&Text))])),
    field("ssh_pwauth", Either(&[Bool, Text])),
    field("ssh_quiet_keygen", Bool),
    field("swap", Map(SWAP)),
    field("timezone", Text),
    field("user", Either(&[Text, Map(USER)])),
    field("users", USERS),
    field("write_files", NonEmpty(&Map(FILE))),
];

/// The modules that pass through.
const UNTYPED: &[&str] = &[
    "ansible",
    "apk_repos",
    "apt_pipelining",
    "authkey_hash",
    "autoinstall",
    "byobu_by_default",
    "chef",
    "cloud_config_modules",
    "cloud_final_modules",
    "cloud_init_modules",
    "create_hostname_file",
    "datasource",
    "debug",
    "disable_ec2_metadata",
    "drivers",
    "fan",
    "grub-dpkg",
    "grub_dpkg",
    "keyboard",
    "landscape",
    "launch-index",
    "lxd",
    "manage_resolv_conf",
    "mcollective",
    "merge_how",
    "merge_type",
    "migrate",
    "no_ssh_fingerprints",
    "output",
    "phone_home",
    "puppet",
    "random_seed",
    "reporting",
    "resize_rootfs",
    "resolv_conf",
    "rh_subscription",
    "rsyslog",
    "salt_minion",
    "snap",
    "spacewalk",
    "ssh",
    "ssh_fp_console_blacklist",
    "ssh_key_console_blacklist",
    "system_info",
    "ubuntu_advantage",
    "updates",
    "vendor_data",
    "version",
    "wireguard",
    "yum_repo_dir",
    "yum_repos",
    "zypper",
];

/// The modules that pass through, and that 22.4 does not have.
const UNTYPED_NEWER: &[&str] =
    &["disable_piwiz", "enable_rpi_connect", "rpi_interfaces", "rpi_userconf", "ubuntu_pro"];

/// Whether `key` may stand at the root for any version.
pub fn is_key(key: &str) -> bool {
    names().any(|name| name == key)
}

/// Whether `key` may stand at the root, but not for 22.4.
pub fn is_newer(key: &str) -> bool {
    UNTYPED_NEWER.contains(&key)
}

/// All keys of the root.
pub fn names() -> impl Iterator<Item = &'static str> {
    let typed = TYPED.iter().map(|field| field.name);
    typed.chain(UNTYPED.iter().copied()).chain(UNTYPED_NEWER.iter().copied())
}

/// What a file's `encoding` may be.
pub const ENCODINGS: &[&str] =
    &["gz", "gzip", "gz+base64", "gzip+base64", "gz+b64", "gzip+b64", "b64", "base64", "text/plain"];

const FILE: &[Field] = &[
    required("path", Text),
    field("content", Text),
    field("owner", Text),
    // Checked with what each engine makes of it.
    field("permissions", Any),
    field("encoding", Word(ENCODINGS)),
    field("append", Bool),
    field("defer", Bool),
    newer("source", Any),
];

/// Mappings are told by themselves: most come from a colon in a command.
const COMMAND: Shape = Either(&[Text, Shape::List(&Text), Each(&Any)]);
const RUN_COMMAND: Shape = Either(&[Text, Shape::List(&Text), Null, Each(&Any)]);

const PACKAGE: Shape = Either(&[Text, Shape::List(&Text), Map(PACKAGES_OF)]);
const PACKAGES_OF: &[Field] = &[newer("apt", Any), newer("snap", Any)];

const USERS: Shape = Either(&[Text, NonEmpty(&Either(&[Text, Shape::List(&Text), Map(USER)])), Each(&Any)]);

const GROUPS: Shape = Either(&[Text, NonEmpty(&Either(&[Text, GROUP])), GROUP]);
const GROUP: Shape = Each(&Either(&[Text, Shape::List(&Text)]));

const USER: &[Field] = &[
    field("name", Text),
    newer("doas", Any),
    field("expiredate", Either(&[Text, Any])),
    field("gecos", Text),
    field("groups", Either(&[Text, NonEmpty(&Text), Each(&Null)])),
    field("homedir", Text),
    field("inactive", Text),
    deprecated("lock-passwd", Bool, "use `lock_passwd`"),
    field("lock_passwd", Bool),
    field("no_create_home", Bool),
    field("no_log_init", Bool),
    field("no_user_group", Bool),
    field("passwd", Text),
    field("hashed_passwd", Text),
    field("plain_text_passwd", Text),
    field("create_groups", Bool),
    field("primary_group", Text),
    field("selinux_user", Text),
    field("shell", Text),
    field("snapuser", Text),
    field("ssh_authorized_keys", NonEmpty(&Text)),
    deprecated("ssh-authorized-keys", NonEmpty(&Text), "use `ssh_authorized_keys`"),
    field("ssh_import_id", NonEmpty(&Text)),
    field("ssh_redirect_user", Bool),
    field("system", Bool),
    field("sudo", Either(&[Text, Null, Bool, Shape::List(&Text)])),
    field("uid", Either(&[Integer, Text])),
];

const SSH_KEYS: &[Field] = &[
    field("dsa_public", Text),
    field("dsa_private", Text),
    field("dsa_certificate", Text),
    field("ecdsa_public", Text),
    field("ecdsa_private", Text),
    field("ecdsa_certificate", Text),
    field("ed25519_public", Text),
    field("ed25519_private", Text),
    field("ed25519_certificate", Text),
    field("rsa_public", Text),
    field("rsa_private", Text),
    field("rsa_certificate", Text),
];

const NTP: &[Field] = &[
    field("pools", Shape::List(&Text)),
    field("servers", Shape::List(&Text)),
    newer("peers", Shape::List(&Text)),
    newer("allow", Shape::List(&Text)),
    field("ntp_client", Text),
    field("enabled", Bool),
    field(
        "config",
        Map(&[
            field("confpath", Text),
            field("check_exe", Text),
            field("packages", Shape::List(&Text)),
            field("service_name", Text),
            field("template", Text),
        ]),
    ),
];

const APT: &[Field] = &[
    field("preserve_sources_list", Bool),
    field("generate_mirrorlists", Bool),
    field("disable_suites", NonEmpty(&Text)),
    field("primary", NonEmpty(&Map(MIRROR))),
    field("security", NonEmpty(&Map(MIRROR))),
    field("add_apt_repo_match", Text),
    field("debconf_selections", Each(&Text)),
    field("sources_list", Text),
    field("conf", Text),
    field("https_proxy", Text),
    field("http_proxy", Text),
    field("proxy", Text),
    field("ftp_proxy", Text),
    field(
        "sources",
        Each(&Shape::Some(&[
            field("source", Text),
            field("keyid", Text),
            field("key", Text),
            field("keyserver", Text),
            field("filename", Text),
            field("append", Bool),
        ])),
    ),
];

const MIRROR: &[Field] = &[
    required("arches", NonEmpty(&Text)),
    field("uri", Text),
    field("search", NonEmpty(&Text)),
    field("search_dns", Bool),
    field("keyid", Text),
    field("key", Text),
    field("keyserver", Text),
];

const CA_CERTS: &[Field] = &[
    deprecated("remove-defaults", Bool, "use `remove_defaults`"),
    field("remove_defaults", Bool),
    field("trusted", NonEmpty(&Text)),
];

const CHPASSWD: &[Field] = &[
    field("expire", Bool),
    field(
        "users",
        Shape::List(&Map(&[
            required("name", Text),
            field("type", Word(&["RANDOM", "hash", "text"])),
            field("password", Text),
        ])),
    ),
    deprecated("list", Either(&[Text, NonEmpty(&Text)]), "use `users`"),
];

const DISK: &[Field] = &[
    field("table_type", Word(&["mbr", "gpt"])),
    field(
        "layout",
        Either(&[Word(&["remove"]), Bool, Shape::List(&Either(&[Integer, Shape::List(&Integer)]))]),
    ),
    field("overwrite", Bool),
];

const FILESYSTEM: &[Field] = &[
    field("label", Text),
    field("filesystem", Text),
    field("device", Text),
    field("partition", Either(&[Text, Integer])),
    field("overwrite", Bool),
    field("replace_fs", Text),
    field("extra_opts", Either(&[Text, Shape::List(&Text)])),
    field("cmd", Either(&[Text, Shape::List(&Text)])),
];

const GROWPART: &[Field] = &[
    field("mode", Either(&[Word(&["auto", "growpart", "gpart", "off"]), Bool])),
    field("devices", Shape::List(&Text)),
    field("ignore_growroot_disabled", Bool),
];

const POWER_STATE: &[Field] = &[
    field("delay", Either(&[Integer, Like(is_delay, "a text such as `now` or `+5`")])),
    required("mode", Word(&["poweroff", "reboot", "halt"])),
    field("message", Text),
    field("timeout", Integer),
    field("condition", Either(&[Text, Bool, Shape::List(&Any)])),
];

const SWAP: &[Field] = &[
    field("filename", Text),
    field("size", Either(&[Integer, Word(&["auto"]), Like(is_size, "a size such as `2G`")])),
    field("maxsize", Either(&[Integer, Like(is_size, "a size such as `2G`")])),
];

fn is_delay(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    text == "now" || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_size(text: &str) -> bool {
    let Some(number) = text.strip_suffix(['B', 'K', 'M', 'G', 'T']) else { return false };
    let (whole, fraction) = number.split_once('.').unwrap_or(("", number));
    !fraction.is_empty() && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_once() {
        let mut seen = std::collections::HashSet::new();
        assert!(names().all(|name| seen.insert(name)));
        assert!(is_key("runcmd") && is_key("ubuntu_pro") && !is_key("coreos"));
    }

    #[test]
    fn sizes_and_delays() {
        assert!(
            ["2G", "512M", "1.5G"].into_iter().all(is_size) && !["2GB", "G", "2"].into_iter().any(is_size)
        );
        assert!(["+5", "10"].into_iter().all(is_delay) && !["5m", ""].into_iter().any(is_delay));
    }
}
