//! The helper that machines keep for their containers: see `src/probe/main.rs`.

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
    fn variables_are_set_from_files_and_the_program_takes_the_helpers_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, value: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, value).expect("written");
            path.display().to_string()
        };
        let (plain, ended, bytes) =
            (write("a", b"s3cret=x"), write("b", b"two\nlines\r\n"), write("c", b"\xff\n"));
        let probe = folder.path().join("probe");
        install(&probe).expect("installed");
        let run =
            |arguments: &[&str]| Command::new(&probe).arg("exec").args(arguments).output().expect("it runs");
        let (a, b, c) = (format!("A={plain}"), format!("B={ended}"), format!("C={bytes}"));
        let out = run(&[
            &a,
            &b,
            &c,
            "--",
            "sh",
            "-c",
            "printf '%s|%s|%s|%s' \"$A\" \"$B\" \"$C\" \"$0\"; exit 7",
            "-- x",
        ]);
        assert_eq!(
            (out.status.code(), out.stdout.as_slice()),
            (Some(7), &b"s3cret=x|two\nlines|\xff|-- x"[..])
        );
        assert_eq!(run(&["--", "true"]).status.code(), Some(0));
        let words = |out: &std::process::Output| String::from_utf8_lossy(&out.stderr).trim().to_owned();
        let absent = run(&["--", "no-such-program"]);
        assert_eq!(
            (absent.status.code(), words(&absent).as_str()),
            (Some(127), "fleetwright: starting `no-such-program`: no such file or directory")
        );
        let unread = run(&["A=/no/such/file", "--", "true"]);
        assert_eq!(
            (unread.status.code(), words(&unread).as_str()),
            (Some(126), "fleetwright: variable A: reading /no/such/file: no such file or directory")
        );
        let nul = run(&[&format!("A={}", write("d", b"a\0b")), "--", "true"]);
        assert_eq!(nul.status.code(), Some(126));
        for usage in [&["true"][..], &["--"]] {
            assert!(!run(usage).status.success(), "{usage:?}");
        }
    }

    #[test]
    fn a_closed_port_is_not() {
        let (healthy, words) = ask(&["tcp", "127.0.0.1:1"]);
        assert_eq!((healthy, words.as_str()), (false, "no connection to port 1: connection refused"));
    }
}
