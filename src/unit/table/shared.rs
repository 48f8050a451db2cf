//! Keys that several sections share: how processes run, are killed, and are limited.

use super::{Group, Value};
use crate::unit::name::Kind;

/// Levels of syslog.
pub const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// systemd.exec(5).
pub const EXEC: &[Group] = &[
    (
        Value::Bool,
        "CPUSchedulingResetOnFork DynamicUser IgnoreSIGPIPE LockPersonality LogsDirectoryAccounting \
         MemoryDenyWriteExecute MountAPIVFS NoNewPrivileges PrivateDevices PrivateIPC PrivateMounts \
         PrivateNetwork PrivatePIDs ProtectClock ProtectKernelLogs ProtectKernelModules ProtectKernelTunables \
         RemoveIPC RestrictRealtime RestrictSUIDSGID RootEphemeral SetLoginEnvironment \
         SyslogLevelPrefix TTYReset TTYVHangup TTYVTDisallocate MemoryKSM BindLogSockets StateDirectoryAccounting \
         CacheDirectoryAccounting PrivateBPF",
    ),
    (Value::BoolOr(&["full", "strict"]), "ProtectSystem"),
    (Value::BoolOr(&["read-only", "tmpfs"]), "ProtectHome"),
    (Value::BoolOr(&["disconnected"]), "PrivateTmp"),
    (Value::BoolOr(&["self", "identity", "full", "managed"]), "PrivateUsers"),
    (Value::BoolOr(&["private", "strict"]), "ProtectControlGroups"),
    (Value::BoolOr(&["restart"]), "RuntimeDirectoryPreserve"),
    (Value::Enum(&["noaccess", "invisible", "ptraceable", "default"]), "ProtectProc"),
    (Value::Enum(&["all", "pid"]), "ProcSubset"),
    (Value::Enum(&["inherit", "private", "shared"]), "KeyringMode"),
    (Value::Enum(&["init", "login", "user"]), "UtmpMode"),
    (Value::EnumOr(LEVELS, 7), "LogLevelMax SyslogLevel"),
    (Value::EnumOr(FACILITIES, 184), "SyslogFacility"),
    (Value::EnumOr(&["none", "realtime", "best-effort", "idle"], 3), "IOSchedulingClass"),
    (Value::EnumOr(&["other", "batch", "idle", "fifo", "rr", "ext"], 7), "CPUSchedulingPolicy"),
    (Value::Number(0, 7), "IOSchedulingPriority"),
    (Value::Number(0, 99), "CPUSchedulingPriority"),
    (Value::Number(-20, 19), "Nice"),
    (Value::Number(-1000, 1000), "OOMScoreAdjust"),
    (
        Value::Mode,
        "UMask RuntimeDirectoryMode StateDirectoryMode CacheDirectoryMode LogsDirectoryMode ConfigurationDirectoryMode",
    ),
    (Value::WorkingDirectory, "WorkingDirectory"),
    (Value::Path, "RootDirectory RootImage TTYPath"),
    (Value::PathOrDash, "EnvironmentFile"),
    (
        Value::Paths,
        "ReadWritePaths ReadOnlyPaths InaccessiblePaths ExecPaths NoExecPaths ReadWriteDirectories \
         ReadOnlyDirectories InaccessibleDirectories",
    ),
    (Value::SearchPath, "ExecSearchPath"),
    (Value::Binds, "BindPaths BindReadOnlyPaths"),
    (
        Value::Directories,
        "RuntimeDirectory StateDirectory CacheDirectory LogsDirectory ConfigurationDirectory",
    ),
    (Value::Environment, "Environment"),
    (Value::Names, "PassEnvironment UnsetEnvironment"),
    (Value::Output, "StandardOutput StandardError"),
    (Value::Input, "StandardInput"),
    (Value::Capabilities, "CapabilityBoundingSet AmbientCapabilities"),
    (Value::Families, "RestrictAddressFamilies"),
    (
        Value::LimitSize,
        "LimitAS LimitCORE LimitDATA LimitFSIZE LimitMEMLOCK LimitMSGQUEUE LimitRSS LimitSTACK",
    ),
    (Value::LimitNumber, "LimitLOCKS LimitNOFILE LimitNPROC LimitRTPRIO LimitSIGPENDING"),
    (Value::LimitTime, "LimitCPU LimitRTTIME"),
    (Value::Time, "LogRateLimitIntervalSec TimeoutCleanSec"),
    (
        Value::Text,
        "User Group SupplementaryGroups PAMName AppArmorProfile SELinuxContext SmackProcessLabel SyslogIdentifier \
         UtmpIdentifier LogNamespace LogExtraFields LoadCredential LoadCredentialEncrypted ImportCredential \
         SetCredential SetCredentialEncrypted NetworkNamespacePath IPCNamespacePath UserNamespacePath MountImages \
         ExtensionImages ExtensionDirectories TemporaryFileSystem RootVerity RootHash RootHashSignature \
         RootImageOptions StandardInputText LogFilterPatterns RootImagePolicy MountImagePolicy \
         ExtensionImagePolicy StateDirectoryQuota CacheDirectoryQuota LogsDirectoryQuota ProtectHostname RootMStack \
         PrivateTmpQuota",
    ),
    (
        Value::Raw,
        "Capabilities CPUAffinity LimitNICE LogRateLimitBurst MountFlags NUMAMask NUMAPolicy Personality \
         RestrictNamespaces RestrictFileSystems SecureBits StandardInputData SystemCallArchitectures \
         SystemCallErrorNumber SystemCallFilter SystemCallLog TTYColumns TTYRows TimerSlackNSec CoredumpFilter \
         MemoryTHP DelegateNamespaces",
    ),
];

/// systemd.kill(5).
pub const KILL: &[Group] = &[
    (Value::Bool, "SendSIGHUP SendSIGKILL"),
    (Value::Enum(&["control-group", "mixed", "process", "none"]), "KillMode"),
    (Value::Signal, "KillSignal RestartKillSignal FinalKillSignal WatchdogSignal"),
];

/// systemd.resource-control(5).
pub const RESOURCES: &[Group] = &[
    (
        Value::Bool,
        "BlockIOAccounting CPUAccounting IOAccounting IPAccounting MemoryAccounting MemoryZSwapWriteback \
         TasksAccounting CoredumpReceive",
    ),
    (
        Value::Memory,
        "DefaultMemoryLow DefaultMemoryMin DefaultStartupMemoryLow MemoryHigh MemoryLimit MemoryLow MemoryMax \
         MemoryMin MemorySwapMax MemoryZSwapMax StartupMemoryHigh StartupMemoryLow StartupMemoryMax \
         StartupMemorySwapMax StartupMemoryZSwapMax",
    ),
    (Value::Tasks, "TasksMax"),
    (Value::Percent, "CPUQuota"),
    (Value::Time, "CPUQuotaPeriodSec ManagedOOMMemoryPressureDurationSec MemoryPressureThresholdSec"),
    (Value::WeightOrIdle, "CPUWeight StartupCPUWeight"),
    (Value::Weight, "IOWeight StartupIOWeight"),
    (Value::Number(2, 262_144), "CPUShares StartupCPUShares"),
    (Value::Number(10, 1000), "BlockIOWeight StartupBlockIOWeight"),
    (Value::Enum(&["auto", "closed", "strict"]), "DevicePolicy"),
    (Value::Enum(&["auto", "kill"]), "ManagedOOMMemoryPressure ManagedOOMSwap"),
    (Value::Enum(&["none", "avoid", "omit"]), "ManagedOOMPreference"),
    (Value::BoolOr(&["auto", "skip"]), "MemoryPressureWatch"),
    (Value::UnitOf(Kind::Slice), "Slice"),
    (
        Value::Text,
        "AllowedCPUs AllowedMemoryNodes BPFProgram BlockIODeviceWeight BlockIOReadBandwidth BlockIOWriteBandwidth \
         DeviceAllow IODeviceLatencyTargetSec IODeviceWeight IOReadBandwidthMax IOReadIOPSMax IOWriteBandwidthMax \
         IOWriteIOPSMax IPEgressFilterPath IPIngressFilterPath NFTSet StartupAllowedCPUs \
         StartupAllowedMemoryNodes DelegateSubgroup",
    ),
    (
        Value::Raw,
        "Delegate DisableControllers IPAddressAllow IPAddressDeny ManagedOOMMemoryPressureLimit NetClass \
         RestrictNetworkInterfaces SocketBindAllow SocketBindDeny \
         BindNetworkInterface",
    ),
];
