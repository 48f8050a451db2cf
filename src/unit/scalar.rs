//! Values that are one thing: numbers, sizes, modes, signals, addresses, streams.

use super::check::Check;
use super::parse::Text;
use super::table::Value;
use crate::source::suggest;

/// Whether systemd reads it as a boolean.
pub fn is_bool(text: &str) -> bool {
    const WORDS: [&str; 12] = ["1", "yes", "y", "true", "t", "on", "0", "no", "n", "false", "f", "off"];
    WORDS.iter().any(|word| word.eq_ignore_ascii_case(text))
}

/// Whether it is a percentage of at most `most`.
pub fn is_percent(text: &str, most: Option<f64>) -> bool {
    let parts = [('%', 1.0), ('‰', 10.0), ('‱', 100.0)];
    parts.iter().any(|(sign, part)| {
        let number = text.strip_suffix(*sign).filter(|number| !number.is_empty());
        let plain = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
        plain.and_then(|number| number.parse::<f64>().ok()).is_some_and(|number| match most {
            Some(most) => number <= most * part,
            None => number > 0.0,
        })
    })
}

/// A whole number, also in systemd's other bases.
pub fn whole(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let digits = digits.strip_prefix('+').unwrap_or(digits);
    let parsed = if let Some(hex) = digits.strip_prefix("0x") {
        i64::from_str_radix(hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b") {
        i64::from_str_radix(binary, 2)
    } else if digits.starts_with(|c: char| c.is_ascii_digit()) {
        digits.parse()
    } else {
        return None;
    };
    parsed.ok().map(|number| sign * number)
}

/// Reads `512M`, `1.5G`, `1G 500M`.
///
/// # Errors
/// What is wrong with it.
pub fn size(text: &str) -> Result<(), String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("nothing is given".into());
    }
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        if after.len() == rest.len() {
            return Err("a number was expected".into());
        }
        let after = match after.strip_prefix('.') {
            Some(fraction) => fraction.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => after,
        };
        let after = after.trim_start();
        let unit = after.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        if !unit.is_empty() && !matches!(unit, "B" | "K" | "M" | "G" | "T" | "P" | "E") {
            let upper = unit.chars().next().unwrap_or('B').to_ascii_uppercase();
            let near =
                if "BKMGTPE".contains(upper) { format!("; did you mean `{upper}`?") } else { String::new() };
            return Err(format!("`{unit}` is no unit; there are K, M, G, T, P and E{near}"));
        }
        let next = after[unit.len()..].trim_start();
        if next.len() == rest.len() {
            return Err("a number was expected".into());
        }
        rest = next;
    }
    Ok(())
}

/// A whole number that is not negative.
pub fn number(text: &str) -> Result<(), String> {
    match whole(text) {
        Some(0..) => Ok(()),
        _ => Err("a whole number was expected".into()),
    }
}

/// A limit: one value, or a soft and a hard one with a colon between.
pub fn limit(text: &str, one: fn(&str) -> Result<(), String>) -> Result<(), String> {
    let mut parts = text.splitn(2, ':').map(str::trim);
    parts.try_for_each(|part| match part {
        "infinity" => Ok(()),
        "unlimited" => Err("no limit is `infinity`".into()),
        part => one(part),
    })
}

/// Whether it is an octal mode.
pub fn is_mode(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
        && u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777)
}

/// Linux's capabilities, without `CAP_`.
pub const CAPABILITIES: &str = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN \
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE \
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_BOOT \
    SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG SYSLOG \
    WAKE_ALARM";

const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS", "IOT", "POLL", "CLD",
];

/// The names of exit codes: systemd's own, sysexits.h's and LSB's.
const EXITS: &str = "SUCCESS FAILURE INVALIDARGUMENT NOTIMPLEMENTED NOPERMISSION NOTINSTALLED NOTCONFIGURED NOTRUNNING \
    USAGE DATAERR NOINPUT NOUSER NOHOST UNAVAILABLE SOFTWARE OSERR OSFILE CANTCREAT IOERR TEMPFAIL PROTOCOL NOPERM \
    CONFIG CHDIR NICE FDS EXEC MEMORY LIMITS OOM_ADJUST SIGNAL_MASK STDIN STDOUT CHROOT IOPRIO TIMERSLACK SECUREBITS \
    SETSCHEDULER CPUAFFINITY GROUP USER CAPABILITIES CGROUP SETSID CONFIRM STDERR PAM NETWORK NAMESPACE \
    NO_NEW_PRIVILEGES SECCOMP SELINUX_CONTEXT PERSONALITY APPARMOR ADDRESS_FAMILIES RUNTIME_DIRECTORY CHOWN \
    SMACK_PROCESS_LABEL KEYRING STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY CONFIGURATION_DIRECTORY NUMA_POLICY \
    CREDENTIALS EXCEPTION BPF";

fn is_signal(text: &str) -> bool {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    SIGNALS.contains(&name)
        || real.is_some_and(|rest| {
            let offset = rest.strip_prefix(['+', '-']);
            rest.is_empty()
                || offset.is_some_and(|offset| offset.parse::<u8>().is_ok_and(|offset| offset <= 30))
        })
}

impl Check<'_> {
    pub fn signal(&mut self, text: &Text) {
        let all = text.as_str();
        if is_signal(all) || whole(all).is_some_and(|number| (1..=64).contains(&number)) {
            return;
        }
        let names: Vec<_> = SIGNALS.iter().map(|name| format!("SIG{name}")).collect();
        let known: Vec<_> = names.iter().map(String::as_str).chain(SIGNALS.iter().copied()).collect();
        self.unlisted(format!("`{all}` is no signal"), text.mark(0..all.len()), all, &known);
    }

    pub fn exit_status(&mut self, text: &Text) {
        for word in self.words(text) {
            let all = word.text.as_str();
            let code = whole(all);
            if is_signal(all)
                || code.is_some_and(|code| (0..=255).contains(&code))
                || EXITS.split_whitespace().any(|known| known == all)
            {
                continue;
            }
            let names: Vec<_> = SIGNALS.iter().map(|name| format!("SIG{name}")).collect();
            let known = names.iter().map(String::as_str).chain(EXITS.split_whitespace());
            let label = match suggest(all, known) {
                _ if code.is_some() => "exit codes are from 0 to 255".to_owned(),
                Some(near) => format!("did you mean `{near}`?"),
                None => "a code from 0 to 255, the name of one, or a signal".to_owned(),
            };
            self.bad(text, word.range, format!("`{all}` is no exit status"), label);
        }
    }

    /// An address of a socket.
    pub fn listen(&mut self, text: &Text) {
        let all = text.as_str();
        if !self.specifiers(text)
            || all.contains('%')
            || all.starts_with(['/', '@'])
            || all.starts_with("vsock")
        {
            return;
        }
        let (host, port) = all.rsplit_once(':').map_or((None, all), |(host, port)| (Some(host), port));
        let host_fits = host.is_none_or(|host| {
            let six = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match six {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => host.parse::<std::net::Ipv4Addr>().is_ok(),
            }
        });
        let port_fits = port.parse::<u16>().is_ok_and(|port| port > 0);
        if !host_fits {
            let what = host.unwrap_or_default();
            self.bad(
                text,
                0..all.len(),
                format!("`{what}` is no address: systemd looks up no names here"),
                "such as `80`, `127.0.0.1:80`, `[::1]:80`",
            );
        } else if !port_fits {
            self.bad(
                text,
                0..all.len(),
                format!("`{all}` is nothing to listen on"),
                "a port, an address with a port, `/a/path` or `@abstract`",
            );
        }
    }

    /// Where input comes from, or output goes.
    pub fn stream(&mut self, value: Value, text: &Text) {
        if !self.specifiers(text) {
            return;
        }
        let all = text.as_str();
        let (known, files): (&[&str], &[&str]) = if value == Value::Input {
            (&["null", "tty", "tty-force", "tty-fail", "data", "socket", "fd"], &["file"])
        } else {
            (
                &[
                    "inherit",
                    "null",
                    "tty",
                    "journal",
                    "kmsg",
                    "journal+console",
                    "kmsg+console",
                    "socket",
                    "fd",
                ],
                &["file", "append", "truncate"],
            )
        };
        if let Some((what, path)) = all.split_once(':') {
            if what == "fd" {
                return;
            }
            if files.contains(&what) {
                if !path.starts_with(['/', '%']) {
                    let span = text.mark(what.len() + 1..all.len());
                    self.error(
                        "relative-path",
                        format!("`{path}` is no absolute path"),
                        span,
                        "it must begin with `/`",
                    );
                }
                return;
            }
        }
        if matches!(all, "syslog" | "syslog+console") && value == Value::Output {
            let span = text.mark(0..all.len());
            let now = all.replace("syslog", "journal");
            self.warn(
                "deprecated-key",
                format!("`{}={all}` is deprecated", self.key),
                span,
                format!("use `{now}`, which goes to syslog as well"),
            );
            return;
        }
        if !known.contains(&all) {
            self.unlisted(
                format!("`{all}` is no value of `{}=`", self.key),
                text.mark(0..all.len()),
                all,
                known,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_large_letters() {
        for fine in ["512", "512M", "1.5G", "1G 500M", "4 K", "0", "1024B"] {
            assert_eq!(size(fine), Ok(()), "{fine}");
        }
        for (wrong, why) in [
            ("512m", "`m` is no unit; there are K, M, G, T, P and E; did you mean `M`?"),
            ("512MB", "`MB` is no unit; there are K, M, G, T, P and E; did you mean `M`?"),
            ("-1", "a number was expected"),
            ("", "nothing is given"),
        ] {
            assert_eq!(size(wrong), Err(why.to_owned()), "{wrong}");
        }
    }

    #[test]
    fn limits_are_one_or_two() {
        assert_eq!(limit("1024:infinity", number), Ok(()));
        assert_eq!(limit("unlimited", number), Err("no limit is `infinity`".into()));
        assert!(limit("64k", size).is_err());
    }

    #[test]
    fn percentages_have_their_sign() {
        assert!(
            is_percent("50%", Some(100.0))
                && is_percent("12.5%", Some(100.0))
                && is_percent("500‰", Some(100.0))
        );
        assert!(!is_percent("150%", Some(100.0)) && is_percent("150%", None));
        assert!(!is_percent("50", None) && !is_percent("0%", None) && !is_percent("%", None));
    }

    #[test]
    fn modes_are_octal() {
        assert!(is_mode("0644") && is_mode("7777"));
        assert!(!is_mode("0888") && !is_mode("17777") && !is_mode("rw") && !is_mode(""));
    }

    #[test]
    fn signals_have_names_in_large_letters() {
        assert!(is_signal("SIGTERM") && is_signal("TERM") && is_signal("SIGRTMIN+3") && is_signal("RTMAX"));
        assert!(!is_signal("sigterm") && !is_signal("SIGRTMIN+99") && !is_signal("SIG"));
    }
}
