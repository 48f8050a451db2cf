//! A cloud-config of either dialect as typed values, each with its place.
//!
//! Reading never fails: what has the wrong type is left out here and found by the check of the
//! structure. Keys are taken with hyphens too, as coreos-legacy takes them.

use super::content::Encoding;
use super::target::Dialect;
use crate::source::Span;
use crate::yaml::Node;

mod read;

pub use read::{entry, options, plain};

/// A value and the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// A cloud-config.
#[derive(Debug)]
pub struct Config<'n> {
    /// Which dialect it is read as.
    pub dialect: Dialect,
    /// `hostname`.
    pub hostname: Option<Spanned<String>>,
    /// `fqdn`; cloud-init only.
    pub fqdn: Option<Spanned<String>>,
    /// `write_files`.
    pub files: Vec<File<'n>>,
    /// `coreos.units`.
    pub units: Vec<Unit>,
    /// `users`, without `default`.
    pub users: Vec<User>,
    /// Whether the image's default user stays: no `users`, or `default` among them.
    pub default_user: bool,
    /// Top-level `groups` with their members; cloud-init only.
    pub groups: Vec<(Spanned<String>, Vec<String>)>,
    /// `ssh_authorized_keys`, of user core or the default user.
    pub ssh_authorized_keys: Vec<Spanned<String>>,
    /// `bootcmd`; cloud-init only.
    pub boot_commands: Vec<Command>,
    /// `runcmd`; cloud-init only.
    pub run_commands: Vec<Command>,
    /// `packages`, with their version where one is asked for; cloud-init only.
    pub packages: Vec<Spanned<String>>,
    /// `mounts`; cloud-init only.
    pub mounts: Vec<Mount>,
    /// `swap`; cloud-init only.
    pub swap: Option<Swap>,
    /// Sections of `coreos` that are settings of a program.
    pub sections: Vec<Section>,
    /// Every other key of the root, `manage_etc_hosts` included.
    pub rest: Vec<(Spanned<String>, &'n Node)>,
}

/// A section of `coreos` that is settings of a program.
#[derive(Debug)]
pub struct Section {
    /// Its name.
    pub name: Spanned<String>,
    /// Its options as written, sorted by key.
    pub options: Vec<(String, String)>,
}

/// An entry of `write_files`.
#[derive(Debug)]
pub struct File<'n> {
    /// The whole entry.
    pub span: Span,
    /// `path`.
    pub path: Option<Spanned<String>>,
    /// `content` as written.
    pub content: Option<&'n Node>,
    /// What `content` holds once decoded, or why it can't be.
    pub data: Result<Vec<u8>, &'static str>,
    /// `encoding`.
    pub encoding: Encoding,
    /// `permissions` as written.
    pub permissions: Option<&'n Node>,
    /// `owner`, such as `root:root`.
    pub owner: Option<Spanned<String>>,
    /// `append`; cloud-init only.
    pub append: bool,
    /// `defer`: written after users and packages; cloud-init only.
    pub defer: bool,
}

/// An entry of `coreos.units`.
#[derive(Debug)]
pub struct Unit {
    /// The whole entry.
    pub span: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `mask`.
    pub mask: bool,
    /// `enable`, and where it stands.
    pub enable: Option<Spanned<bool>>,
    /// `runtime`: below `/run` instead of `/etc`.
    pub runtime: bool,
    /// `content`.
    pub content: Option<Spanned<String>>,
    /// `command`.
    pub command: Option<Spanned<String>>,
    /// `drop_ins`.
    pub drop_ins: Vec<DropIn>,
}

/// A drop-in of a unit.
#[derive(Debug)]
pub struct DropIn {
    /// The whole entry.
    pub span: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `content`.
    pub content: Option<Spanned<String>>,
}

/// An entry of `users`.
#[derive(Debug)]
pub struct User {
    /// The whole entry.
    pub span: Span,
    /// `name`.
    pub name: Option<Spanned<String>>,
    /// `groups`, and `primary_group` first.
    pub groups: Vec<String>,
    /// `primary_group`.
    pub primary_group: Option<String>,
    /// The rules of `sudo`, which are among the `rest` too; cloud-init only.
    pub sudo: Vec<String>,
    /// `passwd` or `hashed_passwd`.
    pub hash: Option<Spanned<String>>,
    /// `plain_text_passwd`.
    pub plain: Option<Spanned<String>>,
    /// `ssh_authorized_keys`.
    pub keys: Vec<Spanned<String>>,
    /// The rest, as written, sorted by key.
    pub rest: Vec<(String, String)>,
}

/// An entry of `runcmd` or `bootcmd`.
#[derive(Debug)]
pub struct Command {
    /// Where it stands.
    pub span: Span,
    /// What it is.
    pub kind: CommandKind,
}

/// What a command is.
#[derive(Debug, PartialEq, Eq)]
pub enum CommandKind {
    /// A line for the shell.
    Shell(String),
    /// A program and its arguments.
    Words(Vec<String>),
    /// A mapping, which no engine runs; its first key and value.
    Mapping(String, String),
    /// Something else that can't be run, or nothing.
    Other,
}

impl CommandKind {
    /// As it would be typed.
    pub fn line(&self) -> String {
        match self {
            Self::Shell(line) => line.trim_end().to_owned(),
            Self::Words(words) => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            Self::Mapping(key, value) => format!("{key}: {value}"),
            Self::Other => String::new(),
        }
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// An entry of `mounts`.
#[derive(Debug)]
pub struct Mount {
    /// Where it stands.
    pub span: Span,
    /// The fields of its line in fstab: device, mount point, type, options, dump, pass.
    pub fields: Vec<String>,
}

/// `swap`.
#[derive(Debug)]
pub struct Swap {
    /// Where it stands.
    pub span: Span,
    /// Its options as written.
    pub options: Vec<(String, String)>,
}
