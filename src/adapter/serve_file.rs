//! Where the pipeline server of an environment listens on this machine: a small file beside its journal, which the
//! server writes once it listens and removes when it stops. One that was killed leaves it, so a reader asks the
//! address before it believes the file.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::private_file;

/// The version that this program writes and reads.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    address: SocketAddr,
    pid: u32,
}

/// The file of a running server; removed when this is dropped.
#[derive(Debug)]
pub struct ServeFile(PathBuf);

impl ServeFile {
    /// Writes that this process listens at `address`.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(folder: &Path, address: SocketAddr) -> std::io::Result<Self> {
        let path = path(folder);
        let stored = Stored { version: VERSION, address: local(address), pid: std::process::id() };
        let text = serde_json::to_vec(&stored).map_err(std::io::Error::other)?;
        private_file::make_folder(folder)?;
        private_file::write(&path, &text).map_err(|error| error.source)?;
        Ok(Self(path))
    }
}

impl Drop for ServeFile {
    fn drop(&mut self) {
        // A reader that still finds it gets no answer at its address.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Where the server of the environment whose journal is in `folder` said that it listens.
#[allow(clippy::disallowed_methods, reason = "it reads what it wrote")]
pub fn read(folder: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(path(folder)).ok()?;
    let stored: Stored = serde_json::from_str(&text).ok()?;
    (stored.version == VERSION).then_some(stored.address)
}

fn path(folder: &Path) -> PathBuf {
    folder.join("serve.json")
}

/// The address that a caller on this machine uses.
fn local(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_file_is_there_while_the_server_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("environments/test");
        assert_eq!(read(&inner), None);
        let file = ServeFile::write(&inner, "0.0.0.0:7070".parse().expect("an address")).expect("written");
        assert_eq!(read(&inner), Some("127.0.0.1:7070".parse().expect("an address")));
        let mode = std::fs::metadata(path(&inner)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        assert_eq!(read(&inner), None);
    }

    #[test]
    fn every_sample_loads_and_a_later_version_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        for (_, text) in crate::source::samples::of("serve") {
            std::fs::write(path(folder.path()), &text).expect("written");
            assert_eq!(read(folder.path()), Some("127.0.0.1:7070".parse().expect("an address")));
            std::fs::write(path(folder.path()), text.replace("\"version\":1", "\"version\":2"))
                .expect("written");
            assert_eq!(read(folder.path()), None);
        }
    }
}
