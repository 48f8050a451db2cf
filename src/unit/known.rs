//! Units that are on most machines without being told: systemd's own, cloud-init's, Docker's.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Targets.
const TARGETS: &str = "basic blockdev@ bluetooth boot-complete cloud-config cloud-init cryptsetup cryptsetup-pre \
    ctrl-alt-del default emergency exit factory-reset final first-boot-complete getty getty-pre graphical halt hibernate \
    hybrid-sleep initrd initrd-fs initrd-root-device initrd-root-fs initrd-switch-root initrd-usr-fs integritysetup \
    integritysetup-pre kexec local-fs local-fs-pre machines multi-user network network-online network-pre nss-lookup \
    nss-user-lookup paths poweroff printer reboot remote-cryptsetup remote-fs remote-fs-pre remote-veritysetup rescue \
    rescue-ssh rpcbind runlevel0 runlevel1 runlevel2 runlevel3 runlevel4 runlevel5 runlevel6 shutdown sigpwr sleep slices smartcard \
    sockets soft-reboot sound ssh-access storage-target-mode suspend suspend-then-hibernate swap sysinit system-update \
    system-update-pre time-set time-sync timers tpm2 umount usb-gadget user-runtime-dir-ready veritysetup veritysetup-pre \
    ignition-complete ignition-diskful coreos-units user-config system-config oem-cloudinit docker-registry network-up \
    nfs-client integrity";

/// Services, without their suffix.
const SERVICES: &str = "autovt@ console-getty container-getty@ dbus dbus-broker debug-shell dm-event emergency getty@ \
    initrd-cleanup initrd-parse-etc initrd-switch-root initrd-udevadm-cleanup-db kmod kmod-static-nodes ldconfig \
    lvm2-lvmpolld lvm2-monitor modprobe@ quotaon quotaon@ rc-local rescue serial-getty@ user-runtime-dir@ user@ \
    systemd-ask-password-console systemd-ask-password-wall systemd-backlight@ systemd-battery-check \
    systemd-binfmt systemd-bless-boot systemd-boot-check-no-failures systemd-boot-random-seed systemd-boot-update \
    systemd-bsod systemd-confext systemd-coredump@ systemd-cryptsetup@ systemd-exit systemd-firstboot systemd-fsck-root \
    systemd-fsck@ systemd-growfs-root systemd-growfs@ systemd-halt systemd-hibernate systemd-hibernate-resume systemd-hibernate-resume@ systemd-fsckd \
    systemd-homed systemd-homed-activate systemd-hostnamed systemd-hwdb-update systemd-hybrid-sleep systemd-importd \
    systemd-initctl systemd-integritysetup@ systemd-journal-catalog-update systemd-journal-flush systemd-journal-gatewayd \
    systemd-journal-remote systemd-journal-upload systemd-journald systemd-journald@ systemd-kexec systemd-localed \
    systemd-logind systemd-machine-id-commit systemd-machined systemd-modules-load systemd-mountfsd \
    systemd-network-generator systemd-networkd systemd-networkd-persistent-storage systemd-networkd-wait-online \
    systemd-networkd-wait-online@ systemd-nspawn@ systemd-nsresourced systemd-oomd systemd-pcrlock systemd-pcrmachine \
    systemd-pcrphase systemd-pcrphase-initrd systemd-pcrphase-sysinit systemd-portabled systemd-poweroff systemd-pstore \
    systemd-quotacheck systemd-quotacheck-root systemd-random-seed systemd-reboot systemd-remount-fs systemd-repart \
    systemd-resolved systemd-rfkill systemd-soft-reboot systemd-storagetm systemd-suspend \
    systemd-suspend-then-hibernate systemd-sysctl systemd-sysext systemd-sysupdate systemd-sysupdate-reboot \
    systemd-sysusers systemd-time-wait-sync systemd-timedated systemd-timesyncd systemd-tmpfiles-clean \
    systemd-tmpfiles-setup systemd-tmpfiles-setup-dev systemd-tmpfiles-setup-dev-early systemd-tpm2-setup \
    systemd-tpm2-setup-early systemd-udev-load-credentials systemd-udev-settle systemd-udev-trigger systemd-udevd \
    systemd-update-done systemd-update-utmp systemd-update-utmp-runlevel systemd-user-sessions systemd-userdbd \
    systemd-vconsole-setup systemd-veritysetup@ systemd-volatile-root \
    cloud-config cloud-final cloud-init cloud-init-hotplugd cloud-init-local cloud-init-main cloud-init-network \
    coreos-metadata coreos-metadata-sshkeys@ afterburn coreos-cloudinit system-cloudinit@ user-cloudinit@ \
    user-configdrive flanneld fleet etcd etcd2 etcd-member locksmithd update-engine update-engine-stub \
    ignition-files ignition-firstboot-complete zincati rpm-ostreed docker containerd podman crio kubelet \
    docker-early flannel-docker-opts nomad consul vault haproxy nginx apache2 httpd postgresql mysql mariadb redis \
    redis-server memcached rabbitmq-server ssh sshd ssh@ sshd@ sshd-keygen sshd-keygen@ cron crond anacron atd rsyslog \
    syslog syslog-ng chrony chronyd chrony-wait ntp ntpd ntpsec ntpdate systemd-timesync openntpd NetworkManager \
    NetworkManager-dispatcher NetworkManager-wait-online networking network connman dhcpcd dhcpcd5 dnsmasq unbound named bind9 \
    nscd nslcd sssd winbind rpcbind rpc-statd nfs-server nfs-kernel-server nfs-mountd autofs iptables ip6tables nftables \
    netfilter-persistent firewalld ufw shorewall fail2ban apparmor auditd selinux-autorelabel polkit accounts-daemon \
    avahi-daemon bluetooth wpa_supplicant wpa_supplicant@ iwd ModemManager cups smartd mdadm multipathd iscsid iscsi \
    open-iscsi lvm2-activation-early zfs-import-cache zfs-import-scan zfs-mount open-vm-tools vmtoolsd qemu-guest-agent \
    amazon-ssm-agent amazon-cloudwatch-agent google-guest-agent walinuxagent snapd snapd.seeded apt-daily \
    apt-daily-upgrade unattended-upgrades dnf-makecache packagekit man-db logrotate plymouth-quit plymouth-quit-wait \
    plymouth-start plymouth-boot display-manager gdm lightdm sddm keyboard-setup console-setup ifup@ rngd haveged \
    irqbalance acpid tuned libvirtd virtlogd lxd lxc lxcfs wg-quick@ openvpn openvpn@ tailscaled prometheus \
    node_exporter prometheus-node-exporter opensmd elasticsearch postfix exim4 mongod zookeeper kafka cassandra \
    grub-common e2scrub_all e2scrub_reap fstrim dracut-initqueue dracut-pre-mount setvtrgb";

/// Sockets, timers, paths.
const OTHERS: &str = "cloud-init-hotplugd.socket containerd.socket cups.socket dbus.socket dm-event.socket docker.socket \
    libvirtd.socket lvm2-lvmpolld.socket podman.socket rpcbind.socket snapd.socket ssh.socket sshd.socket syslog.socket \
    fleet.socket iscsid.socket systemd-coredump.socket systemd-creds.socket systemd-fsckd.socket systemd-hostnamed.socket \
    systemd-importd.socket systemd-initctl.socket systemd-journal-gatewayd.socket systemd-journal-remote.socket \
    systemd-journald-audit.socket systemd-journald-dev-log.socket systemd-journald-varlink@.socket systemd-journald.socket \
    systemd-journald@.socket systemd-networkd.socket systemd-oomd.socket systemd-pcrextend.socket \
    systemd-resolved-monitor.socket systemd-resolved-varlink.socket systemd-rfkill.socket systemd-sysext.socket \
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udevd-varlink.socket systemd-userdbd.socket \
    uuidd.socket virtlogd.socket apt-daily-upgrade.timer apt-daily.timer dnf-makecache.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer logrotate.timer man-db.timer snapd.snap-repair.timer systemd-sysupdate.timer \
    systemd-sysupdate-reboot.timer systemd-tmpfiles-clean.timer cups.path systemd-ask-password-console.path \
    systemd-ask-password-wall.path systemd-ask-password-plymouth.path";

/// Whether most machines have a unit of that name; instances are known by their template.
pub fn is_well_known(name: &str) -> bool {
    let Some((stem, suffix)) = name.rsplit_once('.') else { return false };
    let stem = match stem.split_once('@') {
        Some((prefix, instance)) if !instance.is_empty() => format!("{prefix}@"),
        _ => stem.to_owned(),
    };
    match suffix {
        "service" if stem.starts_with("dbus-org.freedesktop.") => true,
        // The kernel, udev, /etc/fstab and the tree of resources make these.
        "device" | "mount" | "automount" | "swap" | "slice" | "scope" => true,
        _ => ALL.contains(&format!("{stem}.{suffix}")),
    }
}

static ALL: LazyLock<HashSet<String>> = LazyLock::new(|| names().collect());

/// Well-known units, for suggestions.
pub fn names() -> impl Iterator<Item = String> {
    let targets = TARGETS.split_whitespace().map(|name| format!("{name}.target"));
    let services = SERVICES.split_whitespace().map(|name| format!("{name}.service"));
    targets.chain(services).chain(OTHERS.split_whitespace().map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_known_by_their_template() {
        assert!(is_well_known("getty@tty1.service") && is_well_known("network-online.target"));
        assert!(is_well_known("docker.socket") && is_well_known("var-lib-docker.mount"));
        assert!(!is_well_known("network-online.service") && !is_well_known("dokcer.service"));
    }

    #[test]
    fn the_units_of_the_systemd_here_are_known() {
        let Ok(folder) = std::fs::read_dir("/usr/lib/systemd/system") else {
            eprintln!("skipped: there is no /usr/lib/systemd/system");
            return;
        };
        let names = folder.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let ours = names.filter(|name| name.starts_with("systemd-") || name.ends_with(".target"));
        let unknown: Vec<_> = ours
            .filter(|name| !name.ends_with(".d") && !name.contains(".wants") && !is_well_known(name))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}
