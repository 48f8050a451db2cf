//! Names of units: what they may look like, and what kind of unit they say.

use std::fmt;

/// What a unit is, by the suffix of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A process.
    Service,
    /// A socket, pipe or queue that starts a service.
    Socket,
    /// A time that starts a unit.
    Timer,
    /// A path whose change starts a unit.
    Path,
    /// A mounted file system.
    Mount,
    /// A file system mounted on first use.
    Automount,
    /// Swap space.
    Swap,
    /// A group of units.
    Target,
    /// A node of the tree of resources.
    Slice,
    /// Processes that others started.
    Scope,
    /// A device of udev's.
    Device,
    /// networkd: how a network is set up.
    Network,
    /// networkd: a virtual device.
    Netdev,
    /// udev: a network device.
    Link,
}

/// All kinds with their suffixes.
const SUFFIXES: [(Kind, &str); 14] = [
    (Kind::Service, "service"),
    (Kind::Socket, "socket"),
    (Kind::Timer, "timer"),
    (Kind::Path, "path"),
    (Kind::Mount, "mount"),
    (Kind::Automount, "automount"),
    (Kind::Swap, "swap"),
    (Kind::Target, "target"),
    (Kind::Slice, "slice"),
    (Kind::Scope, "scope"),
    (Kind::Device, "device"),
    (Kind::Network, "network"),
    (Kind::Netdev, "netdev"),
    (Kind::Link, "link"),
];

impl Kind {
    /// The kind that a suffix says.
    pub fn of_suffix(suffix: &str) -> Option<Self> {
        SUFFIXES.iter().find(|(_, known)| *known == suffix).map(|(kind, _)| *kind)
    }

    /// The suffix, without the dot.
    pub fn suffix(self) -> &'static str {
        SUFFIXES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, suffix)| *suffix)
    }

    /// Whether networkd or udev reads it, and not systemd itself.
    pub fn is_network(self) -> bool {
        matches!(self, Self::Network | Self::Netdev | Self::Link)
    }

    /// The suffixes of all kinds.
    pub fn all_suffixes() -> impl Iterator<Item = &'static str> {
        SUFFIXES.iter().map(|(_, suffix)| *suffix)
    }

    /// The suffixes of systemd's own units.
    pub fn suffixes() -> impl Iterator<Item = &'static str> {
        SUFFIXES.iter().filter(|(kind, _)| !kind.is_network()).map(|(_, suffix)| *suffix)
    }
}

/// Characters in a unit's name, besides letters, digits and the `@` before an instance.
const OTHER: &str = ":-_.\\@";

/// The longest name.
const NAME_MAX: usize = 255;

/// The valid name of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnitName {
    name: String,
    kind: Kind,
}

impl UnitName {
    /// Reads a name, by systemd's rules.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, String> {
        let Some((stem, suffix)) = name.rsplit_once('.') else {
            return Err("it has no suffix, such as `.service`".into());
        };
        let Some(kind) = Kind::of_suffix(suffix) else {
            return Err(format!("`.{suffix}` is no kind of unit"));
        };
        if stem.is_empty() || stem.starts_with('@') {
            return Err(format!("nothing stands before `{}`", &name[..1]));
        }
        if name.len() > NAME_MAX {
            return Err(format!("it has {} bytes, and at most {NAME_MAX} are allowed", name.len()));
        }
        // Files of networkd and udev may be called anything.
        let bad = stem.chars().find(|c| !c.is_ascii_alphanumeric() && !OTHER.contains(*c));
        match bad {
            Some(bad) if !kind.is_network() || bad == '/' || bad.is_control() => Err(if bad == '/' {
                "it has a slash; names of units stand for themselves, without a folder".into()
            } else {
                format!("{bad:?} can't stand in it; only letters, digits and `:-_.\\@` can")
            }),
            _ => Ok(Self { name: name.to_owned(), kind }),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name without the suffix.
    pub fn stem(&self) -> &str {
        self.name.rsplit_once('.').map_or(&*self.name, |(stem, _)| stem)
    }

    /// What stands before the `@`, or before the suffix.
    pub fn prefix(&self) -> &str {
        self.stem().split('@').next().unwrap_or_default()
    }

    /// What stands behind the `@`, if there is one and something stands there.
    pub fn instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance).filter(|instance| !instance.is_empty())
    }

    /// Whether it is `foo@.service`.
    pub fn is_template(&self) -> bool {
        self.stem().split_once('@').is_some_and(|(_, instance)| instance.is_empty())
    }

    /// `foo@.service` of `foo@bar.service`.
    pub fn template(&self) -> Option<String> {
        self.instance().map(|_| format!("{}@.{}", self.prefix(), self.kind.suffix()))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The name of the mount, automount or swap unit of an absolute path, without its suffix:
/// `/var/lib/docker` is `var-lib-docker`.
pub fn escape_path(path: &str) -> String {
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.is_empty() {
        return "-".into();
    }
    let mut name = String::new();
    for (index, byte) in parts.join("/").bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if index == 0 => name.push_str("\\x2e"),
            _ if byte.is_ascii_alphanumeric() || b":_.".contains(&byte) => name.push(char::from(byte)),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

/// The path that a mount, automount or swap unit is for, by its name without the suffix; what has no
/// valid escape in it stays as it is.
pub fn unescape_path(stem: &str) -> String {
    if stem == "-" {
        return "/".to_owned();
    }
    let mut path = vec![b'/'];
    let mut rest = stem.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = after
            .strip_prefix(b"x")
            .and_then(|hex| std::str::from_utf8(hex.get(..2)?).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .filter(|_| *first == b'\\');
        rest = match escaped {
            Some(_) => &after[3..],
            None => after,
        };
        path.push(escaped.unwrap_or(if *first == b'-' { b'/' } else { *first }));
    }
    String::from_utf8_lossy(&path).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_plain_templates_or_instances() {
        let plain = UnitName::parse("docker.service").expect("valid");
        assert_eq!((plain.kind(), plain.prefix(), plain.instance()), (Kind::Service, "docker", None));
        assert!(!plain.is_template());
        let template = UnitName::parse("etcd@.service").expect("valid");
        assert!(template.is_template());
        let instance = UnitName::parse("etcd@a@b.service").expect("valid");
        assert_eq!(instance.instance(), Some("a@b"));
        assert_eq!(instance.template().as_deref(), Some("etcd@.service"));
        assert_eq!(UnitName::parse("10 eth.network").map(|name| name.kind()), Ok(Kind::Network));
        assert!(UnitName::parse("dev-disk-by\\x2dlabel-data.swap").is_ok());
    }

    #[test]
    fn what_is_no_name_is_told_why() {
        for (name, why) in [
            ("docker", "it has no suffix, such as `.service`"),
            ("docker.svc", "`.svc` is no kind of unit"),
            (".service", "nothing stands before `.`"),
            ("@a.service", "nothing stands before `@`"),
            ("a b.service", "' ' can't stand in it; only letters, digits and `:-_.\\@` can"),
            ("a/b.service", "it has a slash; names of units stand for themselves, without a folder"),
        ] {
            assert_eq!(UnitName::parse(name), Err(why.to_owned()), "{name}");
        }
        assert!(UnitName::parse(&format!("{}.service", "a".repeat(247))).is_ok());
        assert!(UnitName::parse(&format!("{}.service", "a".repeat(248))).is_err());
    }

    #[test]
    fn paths_are_escaped_as_systemd_does() {
        for (path, name) in [
            ("/", "-"),
            ("/var/lib/docker", "var-lib-docker"),
            ("//var//lib/", "var-lib"),
            ("/srv/my-data", "srv-my\\x2ddata"),
            ("/.snapshots", "\\x2esnapshots"),
            ("/mnt/ä", "mnt-\\xc3\\xa4"),
        ] {
            assert_eq!(escape_path(path), name);
        }
        assert_eq!(unescape_path("var-lib-docker"), "/var/lib/docker");
        assert_eq!(unescape_path("a\\x2"), "/a\\x2");
        assert_eq!(unescape_path("-"), "/");
    }

    proptest! {
        #[test]
        fn a_path_is_read_back(parts in proptest::collection::vec("[a-z.\u{e4} %_-]{1,6}", 0..4)) {
            prop_assume!(parts.iter().all(|part| part != "."));
            let path = format!("/{}", parts.join("/"));
            prop_assert_eq!(unescape_path(&escape_path(&path)), path);
        }
    }
}
