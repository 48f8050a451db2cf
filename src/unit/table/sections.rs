//! Keys that stand in one section only.

use super::{Group, Value};
use crate::unit::name::Kind;

/// What a unit may do to the machine.
const EMERGENCY: &[&str] = &[
    "none",
    "reboot",
    "reboot-force",
    "reboot-immediate",
    "poweroff",
    "poweroff-force",
    "poweroff-immediate",
    "exit",
    "exit-force",
    "soft-reboot",
    "soft-reboot-force",
    "kexec",
    "kexec-force",
    "halt",
    "halt-force",
    "halt-immediate",
];

const JOB_MODES: &[&str] = &[
    "fail",
    "replace",
    "replace-irreversibly",
    "isolate",
    "flush",
    "ignore-dependencies",
    "ignore-requirements",
    "triggering",
    "restart-dependencies",
    "lenient",
];

/// systemd.unit(5), `[Unit]`.
pub const UNIT: &[Group] = &[
    (Value::Text, "Description RebootArgument JobTimeoutRebootArgument RequiresMountsFor WantsMountsFor"),
    (Value::Urls, "Documentation"),
    (Value::Raw, "SuccessActionExitStatus FailureActionExitStatus StartLimitBurst"),
    (Value::Path, "SourcePath"),
    (
        Value::Units,
        "After Before BindTo BindsTo Conflicts JoinsNamespaceOf OnFailure OnSuccess PartOf PropagateReloadFrom \
         PropagateReloadTo PropagatesReloadTo PropagatesStopTo ReloadPropagatedFrom Requires RequiresOverridable \
         Requisite RequisiteOverridable StopPropagatedFrom Upholds Wants",
    ),
    (
        Value::Bool,
        "AllowIsolate DefaultDependencies IgnoreOnIsolate IgnoreOnSnapshot OnFailureIsolate RefuseManualStart \
         RefuseManualStop StopWhenUnneeded SurviveFinalKillSignal",
    ),
    (Value::Enum(JOB_MODES), "OnFailureJobMode OnSuccessJobMode"),
    (Value::Enum(&["inactive", "inactive-or-failed"]), "CollectMode"),
    (Value::Time, "JobRunningTimeoutSec JobTimeoutSec StartLimitInterval StartLimitIntervalSec"),
    (Value::Enum(EMERGENCY), "FailureAction JobTimeoutAction StartLimitAction SuccessAction"),
    (
        Value::ConditionPath,
        "AssertDirectoryNotEmpty AssertFileIsExecutable AssertFileNotEmpty AssertNeedsUpdate \
         AssertPathExists AssertPathExistsGlob AssertPathIsDirectory AssertPathIsEncrypted AssertPathIsMountPoint \
         AssertPathIsReadWrite AssertPathIsSocket AssertPathIsSymbolicLink ConditionDirectoryNotEmpty \
         ConditionFileIsExecutable ConditionFileNotEmpty ConditionNeedsUpdate ConditionPathExists \
         ConditionPathExistsGlob ConditionPathIsDirectory ConditionPathIsEncrypted ConditionPathIsMountPoint \
         ConditionPathIsReadWrite ConditionPathIsSocket ConditionPathIsSymbolicLink",
    ),
    (Value::ConditionBool, "AssertACPower AssertFirstBoot ConditionACPower ConditionFirstBoot"),
    (
        Value::Text,
        "AssertArchitecture AssertCPUFeature AssertCPUPressure AssertCPUs AssertCapability \
         AssertControlGroupController AssertCredential AssertEnvironment AssertFirmware AssertGroup AssertHost \
         AssertIOPressure AssertKernelCommandLine AssertKernelModuleLoaded AssertKernelVersion AssertMemory \
         AssertMemoryPressure AssertNull AssertOSRelease AssertSecurity AssertUser AssertVersion \
         AssertVirtualization ConditionArchitecture ConditionCPUFeature ConditionCPUPressure ConditionCPUs \
         ConditionCapability ConditionControlGroupController ConditionCredential ConditionEnvironment \
         ConditionFirmware ConditionGroup ConditionHost ConditionIOPressure ConditionKernelCommandLine \
         ConditionKernelModuleLoaded ConditionKernelVersion ConditionMemory ConditionMemoryPressure ConditionNull \
         ConditionOSRelease ConditionSecurity ConditionUser ConditionVersion ConditionVirtualization",
    ),
];

/// systemd.unit(5), `[Install]`.
pub const INSTALL: &[Group] =
    &[(Value::Units, "Alias Also RequiredBy UpheldBy WantedBy"), (Value::Text, "DefaultInstance")];

/// systemd.service(5).
pub const SERVICE: &[Group] = &[
    (
        Value::Enum(&["simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"]),
        "Type",
    ),
    (Value::Enum(&["main", "cgroup"]), "ExitType"),
    (
        Value::Enum(&["no", "on-success", "on-failure", "on-abnormal", "on-watchdog", "on-abort", "always"]),
        "Restart",
    ),
    (Value::Enum(&["normal", "direct", "debug"]), "RestartMode"),
    (Value::Enum(&["continue", "stop", "kill"]), "OOMPolicy"),
    (Value::Enum(&["none", "main", "exec", "all"]), "NotifyAccess"),
    (Value::Enum(&["terminate", "abort", "kill"]), "TimeoutStartFailureMode TimeoutStopFailureMode"),
    (Value::BoolOr(&["restart"]), "FileDescriptorStorePreserve"),
    (Value::Bool, "GuessMainPID NonBlocking PermissionsStartOnly RemainAfterExit RootDirectoryStartOnly"),
    (
        Value::Time,
        "RestartMaxDelaySec RestartSec RuntimeMaxSec RuntimeRandomizedExtraSec StartLimitInterval TimeoutAbortSec \
         TimeoutSec TimeoutStartSec TimeoutStopSec WatchdogSec",
    ),
    (
        Value::Command,
        "ExecCondition ExecReload ExecReloadPost ExecStart ExecStartPost ExecStartPre ExecStop ExecStopPost",
    ),
    (Value::Signal, "ReloadSignal"),
    (Value::ExitStatus, "RestartForceExitStatus RestartPreventExitStatus SuccessExitStatus"),
    (Value::Number(0, u32::MAX as i64), "FileDescriptorStoreMax RestartSteps StartLimitBurst"),
    (Value::Enum(EMERGENCY), "FailureAction StartLimitAction"),
    (Value::Units, "Sockets"),
    (Value::Text, "BusName OpenFile PIDFile RebootArgument USBFunctionDescriptors USBFunctionStrings"),
    (Value::Raw, "BusPolicy SysVStartPriority RefreshOnReload"),
];

/// systemd.socket(5).
pub const SOCKET: &[Group] = &[
    (Value::Listen, "ListenDatagram ListenSequentialPacket ListenStream"),
    (Value::Path, "ListenFIFO ListenUSBFunction"),
    (Value::Text, "ListenMessageQueue ListenNetlink ListenSpecial"),
    (Value::BoolOr(&["default", "both", "ipv6-only"]), "BindIPv6Only"),
    (Value::Enum(&["udplite", "sctp", "mptcp"]), "SocketProtocol"),
    (Value::BoolOr(&["us", "usec", "µs", "μs", "ns", "nsec"]), "Timestamping"),
    (
        Value::Bool,
        "Accept AcceptFileDescriptors Broadcast FlushPending FreeBind KeepAlive NoDelay PassCredentials \
         PassFileDescriptorsToExec PassPIDFD PassPacketInfo PassSecurity RemoveOnStop ReusePort SELinuxContextFromNet \
         Transparent Writable",
    ),
    (
        Value::Time,
        "DeferAcceptSec DeferTriggerMaxSec KeepAliveIntervalSec KeepAliveTimeSec PollLimitIntervalSec TimeoutSec \
         TriggerLimitIntervalSec",
    ),
    (
        Value::Number(0, u32::MAX as i64),
        "Backlog KeepAliveProbes MaxConnections MaxConnectionsPerSource PollLimitBurst TriggerLimitBurst",
    ),
    (Value::BoolOr(&["patient"]), "DeferTrigger"),
    (Value::Number(1, 255), "IPTTL"),
    (Value::Number(1, i64::MAX), "MessageQueueMaxMessages MessageQueueMessageSize"),
    (Value::Number(i32::MIN as i64, i32::MAX as i64), "Mark Priority"),
    (Value::EnumOr(&["low-delay", "throughput", "reliability", "low-cost"], 255), "IPTOS"),
    (Value::Size, "PipeSize ReceiveBuffer SendBuffer"),
    (Value::Mode, "DirectoryMode SocketMode"),
    (Value::Command, "ExecStartPost ExecStartPre ExecStopPost ExecStopPre"),
    (Value::Paths, "Symlinks"),
    (Value::UnitOf(Kind::Service), "Service"),
    (
        Value::Text,
        "BindToDevice FileDescriptorName SmackLabel SmackLabelIPIn SmackLabelIPOut SocketGroup SocketUser \
         TCPCongestion",
    ),
];

/// systemd.timer(5).
pub const TIMER: &[Group] = &[
    (Value::Calendar, "OnCalendar"),
    (Value::Times, "OnActiveSec OnBootSec OnStartupSec OnUnitActiveSec OnUnitInactiveSec"),
    (Value::Time, "AccuracySec RandomizedDelaySec RandomizedOffsetSec"),
    (
        Value::Bool,
        "DeferReactivation FixedRandomDelay OnClockChange OnTimezoneChange Persistent RemainAfterElapse WakeSystem",
    ),
    (Value::Unit, "Unit"),
];

/// systemd.path(5).
pub const PATH: &[Group] = &[
    (Value::Path, "DirectoryNotEmpty PathChanged PathExists PathExistsGlob PathModified"),
    (Value::Bool, "MakeDirectory"),
    (Value::Mode, "DirectoryMode"),
    (Value::Time, "TriggerLimitIntervalSec"),
    (Value::Number(0, u32::MAX as i64), "TriggerLimitBurst"),
    (Value::Unit, "Unit"),
];

/// systemd.mount(5).
pub const MOUNT: &[Group] = &[
    (Value::Text, "Options Type What"),
    (Value::Path, "Where"),
    (Value::Bool, "ForceUnmount LazyUnmount ReadWriteOnly SloppyOptions"),
    (Value::Mode, "DirectoryMode"),
    (Value::Time, "TimeoutSec"),
];

/// systemd.automount(5).
pub const AUTOMOUNT: &[Group] = &[
    (Value::Path, "Where"),
    (Value::Text, "ExtraOptions"),
    (Value::Mode, "DirectoryMode"),
    (Value::Time, "TimeoutIdleSec"),
];

/// systemd.swap(5).
pub const SWAP: &[Group] =
    &[(Value::Text, "What Options"), (Value::Number(-1, 32_767), "Priority"), (Value::Time, "TimeoutSec")];

/// systemd.slice(5).
pub const SLICE: &[Group] = &[(Value::Number(0, u32::MAX as i64), "ConcurrencyHardMax ConcurrencySoftMax")];

/// systemd.scope(5).
pub const SCOPE: &[Group] = &[
    (Value::Time, "RuntimeMaxSec RuntimeRandomizedExtraSec TimeoutStopSec"),
    (Value::Enum(&["continue", "stop", "kill"]), "OOMPolicy"),
    (Value::Text, "User Group"),
];

/// systemd.network(5).
pub const NETWORK: &str = "Match Link SR-IOV Network Address Neighbor IPv6AddressLabel RoutingPolicyRule NextHop Route \
    DHCPv4 DHCP DHCPv6 DHCPPrefixDelegation DHCPv6PrefixDelegation IPv6AcceptRA DHCPServer DHCPServerStaticLease \
    IPv6SendRA IPv6PrefixDelegation IPv6Prefix IPv6RoutePrefix IPv6PREF64Prefix Bridge BridgeFDB BridgeMDB LLDP CAN \
    IPoIB QDisc NetworkEmulator TokenBucketFilter PIE FlowQueuePIE StochasticFairBlue StochasticFairnessQueueing BFIFO \
    PFIFO PFIFOHeadDrop PFIFOFast CAKE ControlledDelay DeficitRoundRobinScheduler DeficitRoundRobinSchedulerClass \
    EnhancedTransmissionSelection GenericRandomEarlyDetection FairQueueingControlledDelay FairQueueing \
    TrivialLinkEqualizer HierarchyTokenBucket HierarchyTokenBucketClass HeavyHitterFilter QuickFairQueueing \
    QuickFairQueueingClass BridgeVLAN MobileNetwork";

/// systemd.netdev(5).
pub const NETDEV: &str = "Match NetDev Bridge VLAN MACVLAN MACVTAP IPVLAN IPVTAP VXLAN GENEVE BareUDP L2TP L2TPSession \
    MACsec MACsecReceiveChannel MACsecTransmitAssociation MACsecReceiveAssociation Tunnel FooOverUDP Peer VXCAN Tun \
    Tap WireGuard WireGuardPeer Bond Xfrm VRF BatmanAdvanced IPoIB WLAN HSR";

/// systemd.link(5).
pub const LINK: &str = "Match Link SR-IOV EnergyEfficientEthernet";
