//! What must hold for any text, and what depends on more than one part of the checks.

use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn codes(name: &str, text: &str) -> Vec<&'static str> {
    check_text(name, text, &Options::default()).iter().map(|problem| problem.code).collect()
}

fn messages(name: &str, text: &str) -> Vec<String> {
    check_text(name, text, &Options::default()).into_iter().map(|problem| problem.message).collect()
}

#[test]
fn names_of_files_say_what_they_are() {
    let unit = |name: &str| Unit::parse(name, "");
    assert_eq!(unit("etc/docker.service").kind(), Some(Kind::Service));
    let drop_in = unit("etc/docker.service.d/proxy.conf");
    assert!(drop_in.is_drop_in());
    assert_eq!(drop_in.name().map(UnitName::as_str), Some("docker.service"));
    assert!(unit("service.d/all.conf").name().is_none());
    assert_eq!(unit("service.d/all.conf").kind(), Some(Kind::Service));
    assert_eq!(unit("all.conf").kind(), None);
    let name = UnitName::parse("web-api@1.service").expect("valid");
    assert!(unit("web-api@.service.d/a.conf").adds_to(&name));
    assert!(unit("web-.service.d/a.conf").adds_to(&name));
    assert!(unit("service.d/a.conf").adds_to(&name));
    assert!(!unit("web.service.d/a.conf").adds_to(&name));
}

#[test]
fn drop_ins_complete_their_unit() {
    let unit = Unit::parse("a.service", "[Service]\nType=simple\n");
    let more = Unit::parse("a.service.d/b.conf", "[Service]\nExecStart=/bin/a\n");
    assert_eq!(check(&unit, &Options::default())[0].code, "missing-key");
    assert!(check(&unit, &Options { enabled: false, drop_ins: &[&more] }).is_empty());
}

#[test]
fn an_enabled_unit_needs_an_install_section() {
    let text = "[Service]\nExecStart=/bin/a\n";
    let options = Options { enabled: true, drop_ins: &[] };
    let codes = |text: &str| -> Vec<_> {
        check_text("a.service", text, &options).iter().map(|problem| problem.code).collect()
    };
    assert_eq!(codes(text), ["missing-install"]);
    assert_eq!(codes(&format!("{text}[Install]\nWantedBy=multi-user.target\n")), Vec::<&str>::new());
}

#[test]
fn labels_count_from_the_begin_of_the_text() {
    let text = "[Service]\nExecStart=/bin/a\nRestrt=always\n";
    let problems = check_text("a.service", text, &Options::default());
    let label = problems[0].label.as_ref().expect("a place");
    assert_eq!(&text[label.span.start..label.span.end], "Restrt");
    assert_eq!(problems[0].path.as_deref(), Some("Service/Restrt"));
}

#[test]
fn values_are_checked_where_they_continue() {
    let text = "[Service]\nExecStart=/bin/a \\\n  # a comment\n  --at %F\n";
    let problems = check_text("a.service", text, &Options::default());
    let label = problems[0].label.as_ref().expect("a place");
    assert_eq!(&text[label.span.start..label.span.end], "%F");
}

#[test]
fn what_systemd_ignores_by_design_is_no_finding() {
    let text = "[X-Ours]\nAny=thing\n[Service]\nX-Note=1\nExecStart=/bin/a\n";
    assert_eq!(codes("a.service", text), Vec::<&str>::new());
}

#[test]
fn values_of_every_kind_are_judged() {
    let service = |line: &str| format!("[Service]\nExecStart=/bin/a\n{line}\n");
    for fine in [
        "RemainAfterExit=TRUE",
        "TimeoutStartSec=infinity",
        "MemoryMax=50%",
        "MemoryHigh=1.5G",
        "TasksMax=80%",
        "CPUQuota=250%",
        "LimitNOFILE=1024:65536",
        "LimitCORE=infinity",
        "Nice=-5",
        "CPUWeight=idle",
        "UMask=0022",
        "Restart=on-failure",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "KillSignal=SIGINT",
        "KillSignal=9",
        "SuccessExitStatus=143 TEMPFAIL SIGKILL",
        "WorkingDirectory=-~",
        "WorkingDirectory=%h/x",
        "EnvironmentFile=-/etc/default/a",
        "ReadWritePaths=-+/var/lib/a /run",
        "BindPaths=/a:/b:rbind -/c",
        "StateDirectory=a a/b",
        "Slice=system-a.slice",
        "Environment=\"A=b c\" D=%i",
        "Environment=",
        "PassEnvironment=A B",
        "StandardOutput=append:/var/log/a",
        "StandardError=journal+console",
        "CapabilityBoundingSet=~CAP_SYS_ADMIN cap_net_raw",
        "RestrictAddressFamilies=AF_INET AF_UNIX",
        "SyslogFacility=local3",
        "LogLevelMax=5",
        "ExecStartPre=-/bin/sh -c 'a && b | c'",
        "ExecReload=kill -HUP $MAINPID",
        "ExecStartPost=+/bin/a \"b c\" \\; d",
        "ExecStop=@/bin/a name -x",
        "OOMScoreAdjust=-1000",
        "IOSchedulingClass=2",
        "PrivateTmp=disconnected",
        "MemoryPressureWatch=auto",
        "ExecStartPre=/bin/echo 100%% ${A} %n",
        "ReadWritePaths=\"/a b\"",
        "RuntimeDirectoryPreserve=restart",
        "SystemCallFilter=~@clock foo",
    ] {
        assert_eq!(messages("a.service", &service(fine)), Vec::<String>::new(), "{fine}");
    }
    for (wrong, code) in [
        ("RemainAfterExit=maybe", "bad-value"),
        ("TimeoutStartSec=5 minuts", "bad-value"),
        ("MemoryMax=512MB", "bad-value"),
        ("MemoryMax=150%", "bad-value"),
        ("TasksMax=many", "bad-value"),
        ("CPUQuota=50", "bad-value"),
        ("LimitNOFILE=unlimited", "bad-value"),
        ("Nice=20", "bad-value"),
        ("CPUWeight=0", "bad-value"),
        ("UMask=0999", "bad-value"),
        ("Restart=allways", "bad-value"),
        ("ProtectSystem=fulll", "bad-value"),
        ("KillSignal=SIGTREM", "bad-value"),
        ("SuccessExitStatus=256", "bad-value"),
        ("WorkingDirectory=srv", "relative-path"),
        ("EnvironmentFile=-etc/a", "relative-path"),
        ("ReadWritePaths=/a var", "relative-path"),
        ("BindPaths=/a:b", "relative-path"),
        ("StateDirectory=/var/lib/a", "bad-value"),
        ("StateDirectory=../a", "bad-value"),
        ("Slice=system", "bad-unit-name"),
        ("Slice=a.service", "bad-unit-name"),
        ("Environment=A=b c", "bad-value"),
        ("Environment=\"A=b", "unbalanced-quotes"),
        ("PassEnvironment=1A", "bad-value"),
        ("StandardOutput=append:log", "relative-path"),
        ("StandardOutput=jornal", "bad-value"),
        ("CapabilityBoundingSet=CAP_NET", "bad-value"),
        ("RestrictAddressFamilies=INET", "bad-value"),
        ("ExecStartPre=bin/a", "relative-path"),
        ("ExecStartPre=./a", "relative-path"),
        ("ExecStartPre=-", "bad-value"),
        ("ExecStartPre=--/bin/a", "bad-value"),
        ("ExecStartPre=/bin/a '", "unbalanced-quotes"),
        ("ExecStartPre=/bin/date +%F", "unknown-specifier"),
        ("ExecStartPre=/bin/a && /bin/b", "shell-syntax"),
        ("ExecStartPre=/bin/a \\d", "bad-escape"),
        ("ExecStartPre=/bin/", "bad-value"),
        ("User=%z", "unknown-specifier"),
        ("StandardOutput=syslog", "deprecated-key"),
        ("MemoryLimit=1G", "deprecated-key"),
    ] {
        assert_eq!(
            codes("a.service", &service(wrong)),
            [code],
            "{wrong}: {:?}",
            messages("a.service", &service(wrong))
        );
    }
}

fn set(units: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let units: Vec<_> = units.iter().map(|(name, text)| Unit::parse(name, *text)).collect();
    check_set(&units, &|name| name == "known.service")
        .into_iter()
        .map(|problem| (problem.code, problem.help.first().cloned().unwrap_or(problem.message)))
        .collect()
}

#[test]
fn circles_of_order_are_found() {
    let found =
        set(&[("a.service", "[Unit]\nAfter=b.service\n"), ("b.service", "[Unit]\nAfter=a.service\n")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "ordering-cycle");
    // Through a unit that is not in the set.
    let net = "[Unit]\nAfter=network.target\nBefore=network-pre.target\n";
    assert_eq!(set(&[("a.service", net)])[0].0, "ordering-cycle");
    // Through what systemd adds by itself.
    assert_eq!(set(&[("a.service", "[Unit]\nBefore=sysinit.target\n")])[0].0, "ordering-cycle");
    assert_eq!(set(&[("a.service", "[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n")]), []);
    let timer = "[Unit]\nAfter=a.service\n[Timer]\nOnCalendar=daily\n";
    assert_eq!(set(&[("a.timer", timer), ("a.service", "")])[0].0, "ordering-cycle");
    // A drop-in closes it.
    let drop_in = ("b.service.d/x.conf", "[Unit]\nBefore=a.service\n");
    assert_eq!(
        set(&[("a.service", "[Unit]\nBefore=b.service\n"), ("b.service", ""), drop_in])[0].0,
        "ordering-cycle"
    );
    // Instances of one template may be in order.
    assert_eq!(set(&[("a@.service", "[Unit]\nAfter=a@1.service\n")]), []);
}

#[test]
fn what_is_not_there_is_a_warning() {
    let unit = "[Unit]\nAfter=known.service docker.service gone.service b@1.service var-lib.mount %i.service\nWants=gone.service\n";
    let found = set(&[("a.service", unit), ("b@.service", "")]);
    assert_eq!(
        found,
        [("unresolved-reference", "there is no unit `gone.service` here, nor on most machines".into())]
    );
    let timer = ("a.timer", "[Timer]\nOnCalendar=daily\n");
    assert_eq!(set(&[timer])[0].0, "unresolved-reference");
    assert_eq!(set(&[timer, ("a.service", "")]), []);
    assert_eq!(set(&[("a.service", ""), ("x/a.service", "")])[0].0, "duplicate-name");
}

/// Texts that look enough like units to get far into the checks.
fn fragment() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        "[ -~]{0,3}",
        "[äß€𝄞µ\u{0}\u{85}\u{feff}\r]{1,2}",
        proptest::sample::select(vec![
            "\n",
            "\n",
            "\\\n",
            " \\\n# x\n",
            "\\ \n",
            "[Unit]\n",
            "[Service]\n",
            "[X-Fleet]\n",
            "[Install]\n",
            "[Timer]\n",
            "[Sock]\n",
            "After=",
            "ExecStart=",
            "Environment=",
            "TimeoutSec=",
            "MemoryMax=",
            "Type=",
            "Restart=",
            "Conflicts=",
            "MachineOf=",
            "OnCalendar=",
            "ListenStream=",
            "LimitNOFILE=",
            "KillSignal=",
            "Nope=",
            "BindPaths=",
            "ExecSearchPath=",
            "ReadWritePaths=",
            "WorkingDirectory=",
            "StandardOutput=",
            "StateDirectory=",
            "a.service",
            " a@%i.service",
            "/bin/a",
            "%",
            "%%n",
            "\"",
            "'",
            "\\",
            ";",
            " ; ",
            "-",
            "@",
            "+",
            "!",
            ":",
            "1.5h",
            "512M",
            "infinity",
            "*-*-*",
            "..",
            "/",
            "~",
            "[",
            "]",
            "=",
            "oneshot",
        ])
        .prop_map(str::to_owned),
    ];
    proptest::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_text_is_given_back(text in prop_oneof![fragment(), any::<String>()]) {
        let file = UnitFile::parse(&SourceFile::new("a.service", text.as_str()));
        prop_assert_eq!(file.emit(), text.as_str());
        let mut end = 0;
        for item in file.items() {
            prop_assert_eq!(item.span.start, end);
            end = item.span.end;
        }
        prop_assert_eq!(end, text.len());
    }

    #[test]
    fn spans_of_any_text_lie_between_characters(text in fragment(), name in proptest::sample::select(vec![
        "a.service", "a@.socket", "a.timer", "a.mount", "a.network", "a.service.d/b.conf", "b.conf", "ä", "x.d/y",
    ])) {
        let unit = Unit::parse(name, text.as_str());
        for item in unit.file().items() {
            let parts = match &item.kind {
                ItemKind::Section(name) | ItemKind::Broken(_, name) => vec![name],
                ItemKind::Entry(entry) => vec![&entry.key, &entry.value],
                ItemKind::Blank | ItemKind::Comment => vec![],
            };
            for part in parts {
                let span = part.span();
                prop_assert!(text.get(span.start..span.end).is_some());
                prop_assert!(item.span.start <= span.start && span.end <= item.span.end);
            }
        }
        let units = [unit, Unit::parse("b.service", text.as_str())];
        for problem in check_all(&units, &|_| false) {
            if let Some(label) = &problem.label {
                prop_assert!(text.get(label.span.start..label.span.end).is_some(), "{:?}", problem);
            }
        }
    }
}

#[test]
fn time_grows_with_the_text_and_not_with_its_square() {
    let entry =
        "ExecStartPre=/bin/a \"b c\" \\\n  # comment\n  %n \\\n  d\nAfter=a.service\nEnvironment=A=b\n";
    let took = |count: usize| {
        let text = format!("[Service]\nExecStart=/bin/a\n{}", entry.repeat(count));
        let long = format!("[Service]\nExecStart=/bin/a {}\n", "a\\\n".repeat(count * 8));
        let start = Instant::now();
        check_text("a.service", &text, &Options::default());
        check_text("a.service", &long, &Options::default());
        start.elapsed()
    };
    took(50);
    let (short, long) = (took(200), took(2000));
    // A square would be a hundred times; a busy machine makes it no more than thirty.
    assert!(long < short * 40, "{short:?} {long:?}");
}

#[test]
fn a_large_set_takes_no_more_than_its_size() {
    let text = |number: usize| {
        let names: Vec<_> = (0..100).map(|other| format!("gone-{number}-{other}.service")).collect();
        format!(
            "[Unit]\nAfter={}\nBefore={}\n[Service]\nExecStart=/bin/a\n",
            names.join(" "),
            names.join(" ")
        )
    };
    let units: Vec<_> =
        (0..30).map(|number| Unit::parse(&format!("a{number}.service"), text(number))).collect();
    let start = Instant::now();
    let problems = check_all(&units, &|_| false);
    assert!(problems.len() >= 3_000, "{}", problems.len());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
}
