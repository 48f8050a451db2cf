//! The health probe that machines keep for their containers.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The static program that `src/probe/main.rs` is compiled to.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/probe"));

/// Puts the probe at `path`, if it isn't there already. Containers that use the one before keep it.
///
/// # Errors
/// When the file can't be written.
pub fn install(path: &Path) -> io::Result<()> {
    if fs::read(path).is_ok_and(|present| present == PROBE) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Containers have the old file mounted: it is replaced, not written over.
    let new = path.with_extension("new");
    fs::write(&new, PROBE)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::process::Command;

    fn ask(arguments: &[&str]) -> (bool, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/probe");
        install(&path).expect("installed");
        install(&path).expect("installed again");
        let output = Command::new(&path).args(arguments).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn answering(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
            }
        });
        address
    }

    #[test]
    fn a_status_below_400_is_healthy() {
        let (healthy, words) = ask(&["http", &answering("204 No Content"), "/health"]);
        assert!(healthy && words.starts_with("204 in "), "{words}");
    }

    #[test]
    fn a_status_of_500_is_not() {
        let address = answering("500 Internal Server Error");
        assert_eq!(ask(&["http", &address, "/health"]), (false, "500 from /health".to_owned()));
        assert!(ask(&["tcp", &address]).0, "its port is open all the same");
    }

    #[test]
    fn a_closed_port_is_not() {
        let (healthy, words) = ask(&["tcp", "127.0.0.1:1"]);
        assert_eq!((healthy, words.as_str()), (false, "no connection to port 1: connection refused"));
    }
}
