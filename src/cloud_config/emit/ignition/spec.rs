//! The parts of a document of Ignition, as its specification 3.3.0 names them.
//!
//! Fields are written in this order, and left out where nothing is asked for.

use serde::Serialize;

/// The version that documents say they are of.
pub const VERSION: &str = "3.3.0";

/// A document.
#[derive(Debug, Default, Serialize)]
pub struct Document {
    /// The version.
    pub ignition: Ignition,
    /// Users and groups.
    #[serde(skip_serializing_if = "Passwd::is_empty")]
    pub passwd: Passwd,
    /// Disks and files.
    #[serde(skip_serializing_if = "Storage::is_empty")]
    pub storage: Storage,
    /// Units.
    #[serde(skip_serializing_if = "Systemd::is_empty")]
    pub systemd: Systemd,
}

/// `ignition`.
#[derive(Debug, Serialize)]
pub struct Ignition {
    /// Of the specification.
    pub version: &'static str,
}

impl Default for Ignition {
    fn default() -> Self {
        Self { version: VERSION }
    }
}

/// `passwd`.
#[derive(Debug, Default, Serialize)]
pub struct Passwd {
    /// By name, in the order of the document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// By name, in the order of the document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<User>,
}

impl Passwd {
    fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.users.is_empty()
    }
}

/// A group.
#[derive(Debug, Serialize)]
pub struct Group {
    /// Its name.
    pub name: String,
}

/// A user.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The name.
    pub name: String,
    /// The number, if one is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// As in `/etc/shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// Public keys; none twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
    /// The comment in `/etc/passwd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gecos: Option<String>,
    /// The home directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_dir: Option<String>,
    /// Makes no home directory.
    #[serde(skip_serializing_if = "is_false")]
    pub no_create_home: bool,
    /// The first group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary_group: Option<String>,
    /// The others; none twice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Makes no group of the user's name.
    #[serde(skip_serializing_if = "is_false")]
    pub no_user_group: bool,
    /// Leaves the user out of lastlog and faillog.
    #[serde(skip_serializing_if = "is_false")]
    pub no_log_init: bool,
    /// The login shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// A user of the system, not a person.
    #[serde(skip_serializing_if = "is_false")]
    pub system: bool,
}

/// `storage`.
#[derive(Debug, Default, Serialize)]
pub struct Storage {
    /// Disks to be partitioned.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// File systems to be made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filesystems: Vec<Filesystem>,
    /// Files, by path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<File>,
}

impl Storage {
    fn is_empty(&self) -> bool {
        self.disks.is_empty() && self.filesystems.is_empty() && self.files.is_empty()
    }
}

/// A disk.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Its path.
    pub device: String,
    /// Forgets the partitions that are there.
    #[serde(skip_serializing_if = "is_false")]
    pub wipe_table: bool,
    /// The partitions to be there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<Partition>,
}

/// A partition; without a start and a size it takes all that is free.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Partition {
    /// From 1.
    pub number: u32,
    /// Its type, a GUID of GPT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub type_guid: Option<&'static str>,
}

/// A file system.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filesystem {
    /// The path of its device.
    pub device: String,
    /// Its type.
    pub format: String,
    /// Its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Makes it anew, whatever is there.
    #[serde(skip_serializing_if = "is_false")]
    pub wipe_filesystem: bool,
    /// Arguments for mkfs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// A file.
#[derive(Debug, Serialize)]
pub struct File {
    /// Where it is: absolute, without `//`, `.` and `..`.
    pub path: String,
    /// Its owner, if not root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Owner>,
    /// Its group, if not root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<Owner>,
    /// Takes the place of what is there.
    #[serde(skip_serializing_if = "is_false")]
    pub overwrite: bool,
    /// What is in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<Resource>,
    /// What is added to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub append: Vec<Resource>,
    /// Its mode. JSON has no octal numbers.
    pub mode: u32,
}

/// Whose a file is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// Contents.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// `gzip`, where they are packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<&'static str>,
    /// A URL of scheme `data`.
    pub source: String,
}

/// `systemd`.
#[derive(Debug, Default, Serialize)]
pub struct Systemd {
    /// By name, in the order of the document.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub units: Vec<Unit>,
}

impl Systemd {
    fn is_empty(&self) -> bool {
        self.units.is_empty()
    }
}

/// A unit.
#[derive(Debug, Default, Serialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Starts it at each boot, as its section `[Install]` says.
    #[serde(skip_serializing_if = "is_false")]
    pub enabled: bool,
    /// Makes it impossible to start.
    #[serde(skip_serializing_if = "is_false")]
    pub mask: bool,
    /// Its text, where the image has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// What is added to its text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dropins: Vec<DropIn>,
}

/// A drop-in.
#[derive(Debug, Serialize)]
pub struct DropIn {
    /// Its name; ends in `.conf`.
    pub name: String,
    /// Its text.
    pub contents: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}
