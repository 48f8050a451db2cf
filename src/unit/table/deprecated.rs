//! Keys that still work, or are at least known, and what is written now.

/// What replaces `key` in `section`, as a half sentence; `None` where it is not deprecated.
pub fn replacement(section: &str, key: &str) -> Option<&'static str> {
    Some(match (section, key) {
        ("Unit", "StartLimitInterval") => "use `StartLimitIntervalSec=`",
        ("Unit", "BindTo") => "use `BindsTo=`",
        ("Unit", "PropagateReloadTo") => "use `PropagatesReloadTo=`",
        ("Unit", "PropagateReloadFrom") => "use `ReloadPropagatedFrom=`",
        ("Unit", "RequiresOverridable") => "use `Requires=`",
        ("Unit", "RequisiteOverridable") => "use `Requisite=`",
        ("Unit", "OnFailureIsolate") => "use `OnFailureJobMode=isolate`",
        ("Unit", "IgnoreOnSnapshot") => "there are no snapshots any more; remove it",
        ("Service", "StartLimitInterval") => "use `StartLimitIntervalSec=` in [Unit]",
        ("Service", "StartLimitBurst") => "use `StartLimitBurst=` in [Unit]",
        ("Service", "StartLimitAction") => "use `StartLimitAction=` in [Unit]",
        ("Service", "FailureAction") => "use `FailureAction=` in [Unit]",
        ("Service", "RebootArgument") => "use `RebootArgument=` in [Unit]",
        ("Service", "PermissionsStartOnly") => "put `+` or `!` before the commands that need privileges",
        ("Service", "BusPolicy" | "SysVStartPriority") | ("Socket", "AcceptFileDescriptors") => {
            "systemd ignores it; remove it"
        }
        (_, "MemoryLimit") => "use `MemoryMax=`",
        (_, "CPUShares") => "use `CPUWeight=`, from 1 to 10000, 100 by default",
        (_, "StartupCPUShares") => "use `StartupCPUWeight=`, from 1 to 10000, 100 by default",
        (_, "BlockIOAccounting") => "use `IOAccounting=`",
        (_, "BlockIOWeight") => "use `IOWeight=`, from 1 to 10000, 100 by default",
        (_, "StartupBlockIOWeight") => "use `StartupIOWeight=`, from 1 to 10000, 100 by default",
        (_, "BlockIODeviceWeight") => "use `IODeviceWeight=`",
        (_, "BlockIOReadBandwidth") => "use `IOReadBandwidthMax=`",
        (_, "BlockIOWriteBandwidth") => "use `IOWriteBandwidthMax=`",
        (_, "NetClass" | "Capabilities") => "systemd ignores it; remove it",
        (_, "ReadWriteDirectories") => "use `ReadWritePaths=`",
        (_, "ReadOnlyDirectories") => "use `ReadOnlyPaths=`",
        (_, "InaccessibleDirectories") => "use `InaccessiblePaths=`",
        _ => return None,
    })
}
