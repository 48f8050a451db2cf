//! Verdicts on single lines, compared with those of the systemd that is installed here.

use std::process::Command;

use super::*;

/// Lines with their section; each is put into a unit that is right otherwise.
const LINES: &[(&str, &[&str])] = &[
    (
        "Service",
        &[
            "ExecStartPre=bin/a",
            "ExecStartPre=~/a",
            "ExecStartPre=$A b",
            "ExecStartPre=-",
            "ExecStartPre=--/bin/true",
            "ExecStartPre=-@:+/bin/true x",
            "ExecStartPre=!!/bin/true",
            "ExecStartPre=+!/bin/true",
            "ExecStartPre=/usr/bin/",
            "ExecStartPre=/bin/true ; /bin/true",
            "ExecStartPre=/bin/true ;",
            "ExecStartPre=/bin/true \\; x",
            "ExecStartPre=/bin/echo %F",
            "ExecStartPre=/bin/echo 100%",
            "ExecStartPre=/bin/echo %%F %n",
            "ExecStartPre=/bin/echo '",
            "ExecStartPre=/bin/echo \"a b\" 'c d'e",
            "ExecStartPre=true",
            "ExecStartPre=\"/bin/true\" x",
            "ExecStartPre=%h/a",
            "ExecStartPre=/bin/echo \\x41 \\n \\101",
            "ExecStartPre=/bin/echo % x %",
            "ExecStartPre=.",
            "ExecStartPre=-/bin/true",
            "Type=exec",
            "Type=Exec",
            "Restart=always ",
            "Restart=on-abnormal",
            "Restart=yes",
            "RestartSec=1.5",
            "RestartSec=1 h 2min",
            "RestartSec=abc",
            "TimeoutSec=infinity",
            "TimeoutStopSec=0",
            "WatchdogSec=-1",
            "RemainAfterExit=On",
            "RemainAfterExit=2",
            "GuessMainPID=y",
            "MemoryMax=1G",
            "MemoryMax=1g",
            "MemoryMax=1.5G",
            "MemoryMax=1GB",
            "MemoryMax=10%",
            "MemoryMax=110%",
            "MemoryMax=infinity",
            "MemoryHigh=1G 500M",
            "MemoryLow=1 G",
            "TasksMax=10",
            "TasksMax=10%",
            "TasksMax=-1",
            "TasksMax=infinity",
            "CPUQuota=20%",
            "CPUQuota=20",
            "CPUQuota=0%",
            "CPUQuota=12.5%",
            "CPUQuota=300%",
            "CPUWeight=100",
            "CPUWeight=idle",
            "CPUWeight=10001",
            "CPUWeight=0",
            "IOWeight=500",
            "IOWeight=idle",
            "LimitNOFILE=1024",
            "LimitNOFILE=1024:2048",
            "LimitNOFILE=1K",
            "LimitNOFILE=infinity",
            "LimitNOFILE=unlimited",
            "LimitCORE=64M",
            "LimitCPU=10s",
            "LimitCPU=10x",
            "LimitAS=1G:2G",
            "Nice=19",
            "Nice=20",
            "Nice=-20",
            "OOMScoreAdjust=-1000",
            "OOMScoreAdjust=1001",
            "UMask=0022",
            "UMask=8",
            "UMask=22",
            "UMask=77777",
            "KillSignal=TERM",
            "KillSignal=SIGTERM",
            "KillSignal=15",
            "KillSignal=65",
            "KillSignal=sigterm",
            "KillSignal=SIGRTMIN+3",
            "KillMode=mixed",
            "KillMode=all",
            "SuccessExitStatus=1 2 SIGKILL",
            "SuccessExitStatus=TEMPFAIL",
            "SuccessExitStatus=256",
            "SuccessExitStatus=foo",
            "SuccessExitStatus=USAGE EX_USAGE",
            "ProtectSystem=strict",
            "ProtectSystem=maybe",
            "ProtectHome=tmpfs",
            "ProtectHome=strict",
            "ProtectProc=invisible",
            "ProtectProc=yes",
            "PrivateTmp=yes",
            "WorkingDirectory=~",
            "WorkingDirectory=-/x",
            "WorkingDirectory=x",
            "WorkingDirectory=%h",
            "RootDirectory=x",
            "EnvironmentFile=-/x",
            "EnvironmentFile=x",
            "EnvironmentFile=\"/x\"",
            "ReadWritePaths=/a b",
            "ReadWritePaths=-/a +/b",
            "ReadWritePaths=-+/a",
            "BindPaths=/a:/b",
            "BindPaths=/a:b",
            "BindPaths=-/a:/b:rbind",
            "BindPaths=a",
            "StateDirectory=a",
            "StateDirectory=/a",
            "StateDirectory=a/../b",
            "StateDirectory=a b/c",
            "StateDirectory=a:b",
            "RuntimeDirectoryPreserve=restart",
            "RuntimeDirectoryPreserve=never",
            "Environment=A=b",
            "Environment=A=b c",
            "Environment=\"A=b c\"",
            "Environment=1A=b",
            "Environment=A",
            "Environment=A=%i B=%H",
            "Environment=A=%F",
            "Environment='A=b",
            "Environment=A-B=c",
            "PassEnvironment=A B",
            "PassEnvironment=A-B",
            "UnsetEnvironment=A=b",
            "UnsetEnvironment=A",
            "StandardOutput=journal",
            "StandardOutput=file:/x",
            "StandardOutput=file:x",
            "StandardOutput=append:/x",
            "StandardOutput=none",
            "StandardOutput=tty",
            "StandardError=kmsg+console",
            "StandardError=fd:x",
            "StandardInput=data",
            "StandardInput=tty-force",
            "StandardInput=journal",
            "StandardInput=file:/x",
            "SyslogFacility=daemon",
            "SyslogFacility=local9",
            "SyslogLevel=info",
            "SyslogLevel=8",
            "SyslogLevel=7",
            "LogLevelMax=debug",
            "LogLevelMax=verbose",
            "CapabilityBoundingSet=CAP_NET_ADMIN",
            "CapabilityBoundingSet=~CAP_NET_ADMIN",
            "CapabilityBoundingSet=cap_chown",
            "CapabilityBoundingSet=CAP_FOO",
            "CapabilityBoundingSet=CHOWN",
            "AmbientCapabilities=CAP_NET_BIND_SERVICE",
            "RestrictAddressFamilies=AF_INET AF_UNIX",
            "RestrictAddressFamilies=none",
            "RestrictAddressFamilies=~AF_PACKET",
            "RestrictAddressFamilies=INET",
            "Slice=a.slice",
            "Slice=a",
            "Slice=a.service",
            "Sockets=a.socket",
            "Sockets=a",
            "NotifyAccess=all",
            "NotifyAccess=yes",
            "OOMPolicy=stop",
            "OOMPolicy=ignore",
            "IOSchedulingClass=idle",
            "IOSchedulingClass=2",
            "IOSchedulingClass=9",
            "IOSchedulingPriority=8",
            "CPUSchedulingPolicy=rr",
            "CPUSchedulingPolicy=best",
            "DevicePolicy=closed",
            "DevicePolicy=open",
            "KeyringMode=private",
            "KeyringMode=none",
            "UtmpMode=user",
            "UtmpMode=root",
            "ExecSearchPath=/a:/b",
            "ExecSearchPath=a",
            "FileDescriptorStoreMax=10",
            "FileDescriptorStoreMax=-1",
            "ManagedOOMSwap=kill",
            "ManagedOOMSwap=yes",
            "ManagedOOMPreference=avoid",
            "CPUQuotaPeriodSec=10ms",
            "Foo=bar",
            "X-Foo=bar",
            "Restart",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "TimeoutStartFailureMode=abort",
            "TimeoutStartFailureMode=stop",
            "LogRateLimitIntervalSec=5x",
            "UMask=0o22",
            "CPUShares=1",
            "BlockIOWeight=5",
            "User=%z",
            "Group=%i",
            "LimitNOFILE=10:5:1",
            "MemoryMin=-1",
            "MemoryMax=50‰",
            "SuccessExitStatus=SIGFOO",
            "ExecStopPost=-bin/a",
        ],
    ),
    (
        "Unit",
        &[
            "After=a.service b.target",
            "After=a",
            "After=a.service,",
            "After=%i.service",
            "After=a@%i.service",
            "After=a@.service",
            "Requires=a/b.service",
            "Requires=a.foo",
            "Wants=a.network",
            "Before=\"a.service\"",
            "Documentation=man:a(1) https://a",
            "Documentation=a",
            "Documentation=http://",
            "ConditionPathExists=/a",
            "ConditionPathExists=!/a",
            "ConditionPathExists=|!/a",
            "ConditionPathExists=a",
            "ConditionPathExists=!|/a",
            "ConditionFirstBoot=yes",
            "ConditionFirstBoot=!no",
            "ConditionFirstBoot=maybe",
            "AssertPathIsDirectory=%t/a",
            "ConditionPathExistsGlob=/a*",
            "ConditionACPower=|true",
            "DefaultDependencies=no",
            "DefaultDependencies=none",
            "StartLimitIntervalSec=5min",
            "StartLimitIntervalSec=5 mins",
            "StartLimitBurst=5",
            "StartLimitAction=reboot",
            "StartLimitAction=restart",
            "OnFailureJobMode=replace",
            "OnFailureJobMode=foo",
            "CollectMode=inactive",
            "CollectMode=always",
            "JobTimeoutSec=1h",
            "SuccessAction=exit",
            "SourcePath=/a",
            "SourcePath=a",
            "OnFailure=a@%n.service",
            "Description=50% of %F",
            "Description=50%",
            "AllowIsolate=t",
            "ConditionHost=x",
            "FailureAction=none",
            "RefuseManualStart=No",
            "JoinsNamespaceOf=a.service",
            "RequiresMountsFor=/a /b",
        ],
    ),
];

const LISTENS: &[&str] = &[
    "ListenStream=80",
    "ListenStream=0",
    "ListenStream=65535",
    "ListenStream=70000",
    "ListenStream=127.0.0.1:80",
    "ListenStream=[::1]:80",
    "ListenStream=::1:80",
    "ListenStream=localhost:80",
    "ListenStream=/run/a",
    "ListenStream=@a",
    "ListenStream=run/a",
    "ListenStream=*:80",
    "ListenStream=vsock:2:1234",
    "ListenStream=127.0.0.1",
    "ListenStream=%t/a",
    "ListenDatagram=/a",
    "ListenDatagram=514",
    "ListenFIFO=/a",
    "ListenFIFO=a",
    "SocketMode=0660",
    "SocketMode=rw",
    "Backlog=10",
    "Backlog=-1",
    "BindIPv6Only=both",
    "BindIPv6Only=yes",
    "Accept=yes",
    "Accept=maybe",
    "Service=a.service",
    "Service=a.timer",
    "Service=a",
    "MaxConnections=5",
    "MaxConnections=x",
    "ReceiveBuffer=8M",
    "ReceiveBuffer=8MB",
    "Mark=5",
    "Priority=x",
    "SocketProtocol=sctp",
    "SocketProtocol=tcp",
    "Timestamping=us",
    "Timestamping=ms",
    "DirectoryMode=755",
    "KeepAliveTimeSec=2h",
    "TriggerLimitBurst=5",
    "Symlinks=/a /b",
    "Symlinks=a",
    "IPTTL=64",
    "IPTOS=low-delay",
    "IPTOS=fast",
    "NoDelay=1",
];

/// What systemd takes without a word when it loads the unit, and fails of, or forgets, later.
const LATER: &[&str] = &[
    "ExecStartPre=$A b",
    "CapabilityBoundingSet=CAP_FOO",
    "CapabilityBoundingSet=CHOWN",
    "ConditionFirstBoot=maybe",
];

/// The lines that systemd complains of; `None` where there is no systemd.
fn complaints<'l>(name: &str, before: &str, after: &str, lines: &[&'l str]) -> Option<Vec<&'l str>> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    let mut rest = lines.to_vec();
    let mut found = Vec::new();
    // Some lines make it give up the whole file: they are taken out, one by one.
    loop {
        std::fs::write(&path, format!("{before}{}\n{after}", rest.join("\n"))).expect("a file");
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&path)
            .envs([
                ("SYSTEMD_LOG_TARGET", "console"),
                ("SYSTEMD_LOG_LEVEL", "notice"),
                ("SYSTEMD_COLORS", "0"),
            ])
            .output()
            .ok()?;
        let start = format!("{}:", path.display());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let numbers =
            text.lines().filter_map(|line| line.strip_prefix(&start)?.split(':').next()?.parse().ok());
        let numbers: Vec<usize> = numbers.collect();
        let line = |number: &usize| number - before.lines().count() - 1;
        let Some(last) = numbers.last().map(line).filter(|_| text.contains("has a bad unit file setting"))
        else {
            found.extend(numbers.iter().map(|number| rest[line(number)]));
            return Some(found);
        };
        found.push(rest.remove(last));
    }
}

fn compare(name: &str, before: &str, after: &str, lines: &[&str], differences: &mut Vec<String>) {
    let number = before.lines().count() + 1;
    let Some(complaints) = complaints(name, before, after, lines) else {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    };
    println!("{} lines compared, {} of them wrong", lines.len(), complaints.len());
    for line in lines.iter().filter(|line| !LATER.contains(line)) {
        let problems = check_text(name, &format!("{before}{line}\n{after}"), &Options::default());
        let at = |problem: &&Diagnostic| {
            problem.label.as_ref().is_some_and(|label| label.file.position(label.span.start).line == number)
        };
        let ours: Vec<_> = problems.iter().filter(at).collect();
        let said = ours.first().map_or("nothing", |problem| &problem.message);
        // Warnings are ours to give, whatever systemd says.
        match complaints.contains(line) {
            true if ours.is_empty() => differences.push(format!("{line:?}: systemd complains")),
            false if ours.iter().any(|problem| problem.is_error()) => {
                differences.push(format!("{line:?}: systemd takes it, we say: {said}"));
            }
            _ => {}
        }
    }
}

#[test]
fn lines_are_judged_as_systemd_does() {
    let mut differences = Vec::new();
    for (section, lines) in LINES {
        let (before, after) = match *section {
            "Unit" => ("[Unit]\n".to_owned(), "[Service]\nExecStart=/bin/true\n"),
            _ => (format!("[{section}]\nExecStart=/bin/true\n"), ""),
        };
        compare("a@i.service", &before, after, lines, &mut differences);
    }
    compare("a.socket", "[Socket]\nListenStream=/run/z\n", "", LISTENS, &mut differences);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn nothing_is_ignored_where_systemd_ignores_it() {
    let mut differences = Vec::new();
    let units = [
        ("Service", "a.service", "[Service]\nExecStart=/bin/true\n"),
        ("Unit", "a.service", "[Service]\nExecStart=/bin/true\n[Unit]\n"),
        ("Socket", "a.socket", "[Socket]\nListenStream=/run/a\n"),
        ("Timer", "a.timer", "[Timer]\nOnBootSec=1\n"),
        ("Path", "a.path", "[Path]\nPathExists=/a\n"),
    ];
    for (section, name, before) in units {
        let keys = table::keys(section).filter(|key| table::ignores_nothing(section, key));
        let lines: Vec<String> = keys.map(|key| format!("{key}=")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let Some(theirs) = complaints(name, before, "", &lines) else {
            eprintln!("skipped: there is no systemd-analyze");
            return;
        };
        differences.extend(
            lines.iter().filter(|line| !theirs.contains(line)).map(|line| format!("{section}/{line}")),
        );
    }
    assert!(differences.is_empty(), "systemd takes {differences:?}");
}
