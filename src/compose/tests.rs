use super::*;

/// Every key of the specification is either read, or listed.
#[test]
fn no_key_is_lost_without_a_word() {
    let keys = "annotations attach blkio_config cap_add cap_drop cgroup cgroup_parent command configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname init ipc isolation labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports post_start pre_stop privileged profiles pull_policy read_only restart runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits user userns_mode uts volumes volumes_from working_dir";
    for key in keys.split(' ') {
        let text = format!("services:\n  web:\n    image: \"redis:7\"\n    {key}: odd\n");
        let file = SourceFile::new("compose.yaml", text);
        let converted = convert(&file, "shop", &|_| None).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let told = converted.notes.iter().any(|note| note.key.contains(key));
        let read = service::reads(key);
        assert!(told || read, "`{key}` is lost");
    }
}
