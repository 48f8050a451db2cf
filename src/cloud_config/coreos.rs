//! The keys of the CoreOS dialect.
//!
//! From coreos-cloudinit's `config/*.go`, with the last state of Container Linux. Flatcar's fork
//! has the same keys.

use super::shape::Shape::{Any, Bool, Integer, Like, List, Map, Number, Text, Word};
use super::shape::{Field, deprecated, field};

const NOT_SHIPPED: &str = "no image has it any more: Flatcar has `etcd-member.service`, run by Docker";
const OLD: &str = "it has no effect on etcd 0.4";
const REMOTE: &str = "fetching keys at boot fails too often: write them down";
const OBSOLETE_CA: &str = "use `trusted_ca_file` and `client_cert_auth`";
const OBSOLETE_PEER_CA: &str = "use `peer_trusted_ca_file` and `peer_client_cert_auth`";

/// What may stand at the root.
pub const ROOT: &[Field] = &[
    field("coreos", Map(COREOS)),
    field("hostname", Text),
    field("manage_etc_hosts", Any),
    field("ssh_authorized_keys", List(&Text)),
    field("users", List(&Map(USER))),
    field("write_files", List(&Map(FILE))),
];

/// What a file's `encoding` may be, empty for none.
pub const ENCODINGS: &[&str] =
    &["", "b64", "base64", "gz", "gzip", "gz+b64", "gz+base64", "gzip+b64", "gzip+base64"];

/// What systemd is told of a unit.
pub const COMMANDS: &[&str] =
    &["", "start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "reload-or-try-restart"];

const FILE: &[Field] = &[
    field("path", Text),
    field("content", Text),
    field("owner", Text),
    // Checked with what each engine makes of it.
    field("permissions", Any),
    field("encoding", Word(ENCODINGS)),
];

const USER: &[Field] = &[
    field("name", Text),
    field("passwd", Text),
    field("ssh_authorized_keys", List(&Text)),
    field("gecos", Text),
    field("homedir", Text),
    field("no_create_home", Bool),
    field("primary_group", Text),
    field("groups", List(&Text)),
    field("no_user_group", Bool),
    field("system", Bool),
    field("no_log_init", Bool),
    field("shell", Text),
    deprecated("coreos_ssh_import_github", Text, REMOTE),
    deprecated("coreos_ssh_import_github_users", List(&Text), REMOTE),
    deprecated("coreos_ssh_import_url", Text, REMOTE),
];

const COREOS: &[Field] = &[
    deprecated("etcd", Map(ETCD), NOT_SHIPPED),
    deprecated("etcd2", Map(ETCD2), NOT_SHIPPED),
    field("flannel", Map(FLANNEL)),
    deprecated("fleet", Map(FLEET), "no image has it any more"),
    field("locksmith", Map(LOCKSMITH)),
    field("oem", Map(OEM)),
    field("units", List(&Map(UNIT))),
    field("update", Map(UPDATE)),
];

const UNIT: &[Field] = &[
    field("name", Text),
    field("mask", Bool),
    field("enable", Bool),
    field("runtime", Bool),
    field("content", Text),
    field("command", Word(COMMANDS)),
    field("drop_ins", List(&Map(&[field("name", Text), field("content", Text)]))),
];

const UPDATE: &[Field] = &[
    field("reboot_strategy", Word(&["", "best-effort", "etcd-lock", "reboot", "off"])),
    field("group", Text),
    field("server", Text),
];

const OEM: &[Field] = &[
    field("id", Text),
    field("name", Text),
    field("version_id", Text),
    field("home_url", Text),
    field("bug_report_url", Text),
];

const LOCKSMITH: &[Field] = &[
    field("endpoint", Text),
    field("etcd_cafile", Text),
    field("etcd_certfile", Text),
    field("etcd_keyfile", Text),
    field("etcd_username", Text),
    field("etcd_password", Text),
    field("group", Text),
    field("window_start", Like(is_window_start, "a time, such as `Thu 04:00` or `21:30`")),
    field("window_length", Like(is_window_length, "a duration, such as `1h30m`")),
];

const FLANNEL: &[Field] = &[
    field("etcd_endpoints", Text),
    field("etcd_cafile", Text),
    field("etcd_certfile", Text),
    field("etcd_keyfile", Text),
    field("etcd_prefix", Text),
    field("etcd_username", Text),
    field("etcd_password", Text),
    field("ip_masq", Text),
    field("subnet_file", Text),
    field("interface", Text),
    field("public_ip", Text),
];

const FLEET: &[Field] = &[
    field("agent_ttl", Text),
    field("authorized_keys_file", Text),
    field("disable_engine", Bool),
    field("engine_reconcile_interval", Number),
    field("etcd_cafile", Text),
    field("etcd_certfile", Text),
    field("etcd_keyfile", Text),
    field("etcd_key_prefix", Text),
    field("etcd_request_timeout", Number),
    field("etcd_servers", Text),
    field("etcd_username", Text),
    field("etcd_password", Text),
    field("metadata", Text),
    field("public_ip", Text),
    field("token_limit", Integer),
    field("verbosity", Integer),
    field("verify_units", Bool),
];

const ETCD: &[Field] = &[
    field("addr", Text),
    deprecated("advertise_client_urls", Text, OLD),
    field("bind_addr", Text),
    field("ca_file", Text),
    field("cert_file", Text),
    field("cluster_active_size", Integer),
    field("cluster_remove_delay", Number),
    field("cluster_sync_interval", Number),
    field("cors", Text),
    field("data_dir", Text),
    field("discovery", Text),
    deprecated("discovery_fallback", Text, OLD),
    deprecated("discovery_srv", Text, OLD),
    deprecated("discovery_proxy", Text, OLD),
    deprecated("election_timeout", Integer, OLD),
    deprecated("force_new_cluster", Bool, OLD),
    field("graphite_host", Text),
    deprecated("heartbeat_interval", Integer, OLD),
    field("http_read_timeout", Number),
    field("http_write_timeout", Number),
    deprecated("initial_advertise_peer_urls", Text, OLD),
    deprecated("initial_cluster", Text, OLD),
    deprecated("initial_cluster_state", Text, OLD),
    deprecated("initial_cluster_token", Text, OLD),
    field("key_file", Text),
    deprecated("listen_client_urls", Text, OLD),
    deprecated("listen_peer_urls", Text, OLD),
    field("max_result_buffer", Integer),
    field("max_retry_attempts", Integer),
    deprecated("max_snapshots", Integer, OLD),
    deprecated("max_wals", Integer, OLD),
    field("name", Text),
    field("peer_addr", Text),
    field("peer_bind_addr", Text),
    field("peer_ca_file", Text),
    field("peer_cert_file", Text),
    field("peer_election_timeout", Integer),
    field("peer_heartbeat_interval", Integer),
    field("peer_key_file", Text),
    field("peers", Text),
    field("peers_file", Text),
    deprecated("proxy", Text, OLD),
    field("retry_interval", Number),
    field("snapshot", Bool),
    field("snapshot_count", Integer),
    field("trace", Text),
    field("verbose", Bool),
    field("very_verbose", Bool),
    field("very_very_verbose", Bool),
];

const ETCD2: &[Field] = &[
    field("advertise_client_urls", Text),
    deprecated("ca_file", Text, OBSOLETE_CA),
    field("cert_file", Text),
    field("client_cert_auth", Bool),
    field("cors", Text),
    field("data_dir", Text),
    field("debug", Bool),
    field("discovery", Text),
    field("discovery_fallback", Text),
    field("discovery_srv", Text),
    field("discovery_proxy", Text),
    field("election_timeout", Integer),
    field("enable_pprof", Bool),
    field("force_new_cluster", Bool),
    field("heartbeat_interval", Integer),
    field("initial_advertise_peer_urls", Text),
    field("initial_cluster", Text),
    field("initial_cluster_state", Text),
    field("initial_cluster_token", Text),
    field("key_file", Text),
    field("listen_client_urls", Text),
    field("listen_peer_urls", Text),
    field("log_package_levels", Text),
    field("max_snapshots", Integer),
    field("max_wals", Integer),
    field("name", Text),
    deprecated("peer_ca_file", Text, OBSOLETE_PEER_CA),
    field("peer_cert_file", Text),
    field("peer_key_file", Text),
    field("peer_client_cert_auth", Bool),
    field("peer_trusted_ca_file", Text),
    field("proxy", Word(&["", "on", "off", "readonly"])),
    field("proxy_dial_timeout", Integer),
    field("proxy_failure_wait", Integer),
    field("proxy_read_timeout", Integer),
    field("proxy_refresh_interval", Integer),
    field("proxy_write_timeout", Integer),
    field("snapshot_count", Integer),
    field("strict_reconfig_check", Bool),
    field("trusted_ca_file", Text),
    field("wal_dir", Text),
];

/// Whether an option of a section of `coreos` is a text, which is taken as it was written.
pub fn is_text(section: &str, option: &str) -> bool {
    let find = |fields: &'static [Field], name: &str| fields.iter().find(|field| field.name == name);
    match find(COREOS, section).map(|field| &field.shape) {
        Some(Map(fields)) => {
            find(fields, option).is_some_and(|field| matches!(field.shape, Text | Word(_) | Like(..)))
        }
        _ => false,
    }
}

fn is_window_start(text: &str) -> bool {
    let time = match text.split_once(' ') {
        Some((day, time)) => {
            let day = day.to_ascii_lowercase();
            if !["sun", "mon", "tue", "wed", "thu", "fri", "sat"].contains(&day.as_str()) {
                return false;
            }
            time
        }
        None => text,
    };
    let number = |text: &str, below: u32| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|value| value < below)
    };
    text.is_empty()
        || time.split_once(':').is_some_and(|(hour, minute)| number(hour, 24) && number(minute, 60))
}

fn is_window_length(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = 0;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let next = unit.trim_start_matches(|c: char| c.is_ascii_lowercase());
        if next.len() == unit.len() {
            return false;
        }
        rest = next;
        parts += 1;
    }
    text.is_empty() || parts > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_have_as_many_fields_as_the_engine() {
        assert_eq!((ETCD.len(), ETCD2.len(), FLEET.len(), LOCKSMITH.len()), (49, 41, 17, 9));
    }

    #[test]
    fn windows_are_times_and_durations() {
        assert!(["Thu 04:00", "21:30", "sun 0:5"].into_iter().all(is_window_start));
        assert!(!["Thurs 04:00", "25:00", "4", "04:60"].into_iter().any(is_window_start));
        assert!(["1h", "1h30m", "1.5h"].into_iter().all(is_window_length));
        assert!(!["60", "1 hour", "h-"].into_iter().any(is_window_length));
    }
}
