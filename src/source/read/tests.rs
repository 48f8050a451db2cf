use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

/// Far more than any of these reads takes, and less than a reader that waits.
const LIMIT: Duration = Duration::from_secs(20);

/// A folder with a secret beside it: the files of every kind that a repository can hold.
struct Case {
    _all: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    _socket: UnixListener,
}

fn case() -> Case {
    let all = tempfile::tempdir().expect("a folder");
    let (root, outside) = (all.path().join("root"), all.path().join("outside"));
    for folder in [root.join("templates/deep"), outside.clone()] {
        std::fs::create_dir_all(folder).expect("made");
    }
    std::fs::write(outside.join("secret"), "secret").expect("written");
    std::fs::write(root.join("templates/a"), "a").expect("written");
    std::fs::write(root.join("templates/deep/b"), "b").expect("written");
    mkfifo(&root.join("templates/fifo"), Mode::from_bits_truncate(0o600)).expect("made");
    let socket = UnixListener::bind(root.join("templates/socket")).expect("bound");
    File::create(root.join("templates/sparse")).expect("made").set_len(1 << 30).expect("sparse");
    for (link, target) in [
        ("zero", "/dev/zero"),
        ("null", "/dev/null"),
        ("passwd", "/etc/passwd"),
        ("above", "../../outside/secret"),
        ("hidden", "deep/../../../outside/secret"),
        ("folder", "../../outside"),
        ("through", "folder/secret"),
        ("inside", "deep/b"),
        ("around", "deep/../../templates/./a"),
        ("chain", "inside"),
        ("shelf", "deep"),
        ("self", "self"),
        ("one", "two"),
        ("two", "one"),
        ("nowhere", "not-there"),
        ("piped", "fifo"),
    ] {
        symlink(target, root.join("templates").join(link)).expect("linked");
    }
    symlink(root.join("templates/a"), root.join("templates/absolute")).expect("linked");
    Case { _all: all, root, outside, _socket: socket }
}

/// What `read` says, which must not wait.
fn in_time<T: Send + 'static>(read: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || send.send(read()));
    receive.recv_timeout(LIMIT).expect("reading does not wait")
}

fn read(case: &Case, name: &str) -> Result<String, String> {
    let (root, name) = (case.root.clone(), name.to_owned());
    in_time(move || {
        let bytes = Folder::open(&root).and_then(|folder| folder.read(&name, 4 << 20));
        bytes.and_then(text).map_err(|error| error.to_string())
    })
}

#[test]
fn files_within_the_folder_are_read_through_links_too() {
    let case = case();
    for (name, expected) in [
        ("templates/a", "a"),
        ("templates/deep/../a", "a"),
        ("templates/inside", "b"),
        ("templates/around", "a"),
        ("templates/chain", "b"),
        ("templates/shelf/b", "b"),
    ] {
        assert_eq!(read(&case, name).as_deref(), Ok(expected), "{name}");
    }
}

#[test]
fn no_path_and_no_link_leaves_the_folder() {
    let case = case();
    for name in [
        "templates/zero",
        "templates/null",
        "templates/passwd",
        "templates/above",
        "templates/hidden",
        "templates/folder/secret",
        "templates/through",
        "templates/absolute",
        "../outside/secret",
        "templates/../../outside/secret",
        "/etc/passwd",
    ] {
        let error = read(&case, name).expect_err(name);
        assert!(error.contains("outside of the repository"), "{name}: {error}");
    }
    let error = read(&case, "templates/through").expect_err("it leaves");
    assert_eq!(error, "`templates/folder` is a link to `../../outside`, which is outside of the repository");
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let case = case();
    for (name, expected) in [
        ("templates/fifo", "it is a named pipe, not a regular file"),
        ("templates/piped", "it is a named pipe, not a regular file"),
        ("templates/socket", "it is a socket, not a regular file"),
        ("templates/deep", "it is a folder, not a regular file"),
        ("templates", "it is a folder, not a regular file"),
        ("templates/sparse", "it is larger than 4 MiB"),
        ("templates/self", "the links on its path form a circle"),
        ("templates/one", "the links on its path form a circle"),
    ] {
        assert_eq!(read(&case, name).as_ref().map_err(String::as_str), Err(expected), "{name}");
    }
    for name in ["templates/nowhere", "templates/none", "none/a", "templates/deep/none"] {
        let error = Folder::open(&case.root).and_then(|folder| folder.read(name, 1)).expect_err(name);
        assert!(error.is_absent(), "{name}: {error}");
    }
    let error =
        Folder::open(&case.root).and_then(|folder| folder.read("templates/a/b", 1)).expect_err("a file");
    assert!(!error.is_absent() && error.to_string().contains("Not a directory"), "{error}");
}

#[test]
fn a_file_of_exactly_the_limit_is_read() {
    let case = case();
    let folder = Folder::open(&case.root).expect("open");
    std::fs::write(case.root.join("five"), "12345").expect("written");
    assert_eq!(folder.read("five", 5).expect("read"), b"12345");
    assert!(matches!(folder.read("five", 4), Err(ReadError::Large { most: 4 })));
}

#[test]
fn a_reader_stops_at_its_limit_whatever_the_file_claims_to_hold() {
    // Files of /proc have a length of 0, and a device never ends.
    assert!(matches!(named(Path::new("/proc/self/status"), 16), Err(ReadError::Large { most: 16 })));
    let zero = File::open("/dev/zero").expect("a device");
    assert!(matches!(capped(zero, 1 << 20), Err(ReadError::Large { .. })));
}

#[test]
fn names_are_sorted_and_a_folder_outside_has_none() {
    let case = case();
    let folder = Folder::open(&case.root).expect("open");
    assert_eq!(folder.names("templates/shelf").expect("names"), ["b"]);
    assert_eq!(folder.names(".").expect("names"), ["templates"]);
    assert!(matches!(folder.names("templates/folder"), Err(ReadError::Outside { .. })));
    assert!(matches!(folder.names("templates/a"), Err(ReadError::NoFolder)));
    assert!(folder.names("none").expect_err("nothing").is_absent());
    std::fs::write(case.root.join(".hidden"), "").expect("written");
    assert_eq!(folder.names("").expect("names"), ["templates"]);
}

#[test]
fn named_files_may_be_links_but_nothing_else_than_files() {
    let case = case();
    let read = |path: PathBuf| in_time(move || named(&path, 4 << 20).map_err(|error| error.to_string()));
    assert_eq!(read(case.root.join("templates/above")), Ok(b"secret".to_vec()));
    for (path, expected) in [
        (case.root.join("templates/fifo"), "it is a named pipe, not a regular file"),
        (case.root.join("templates/socket"), "it is a socket, not a regular file"),
        (case.root.join("templates/zero"), "it is a device, not a regular file"),
        (case.root.join("templates"), "it is a folder, not a regular file"),
        (case.root.join("templates/sparse"), "it is larger than 4 MiB"),
    ] {
        assert_eq!(read(path.clone()), Err(expected.to_owned()), "{}", path.display());
    }
}

#[test]
fn a_pipe_that_was_inherited_is_read_to_its_end() {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    let (from, into) = nix::unistd::pipe().expect("a pipe");
    let path = PathBuf::from(format!("/dev/fd/{}", from.as_raw_fd()));
    let writer = std::thread::spawn(move || {
        let mut into = File::from(into);
        for _ in 0..3 {
            into.write_all(&[b'x'; 50_000]).expect("written");
        }
    });
    assert_eq!(in_time(move || named(&path, 1 << 20)).expect("read").len(), 150_000);
    writer.join().expect("ended");
}

#[test]
fn a_link_that_is_swapped_in_while_reading_never_leads_outside() {
    let case = case();
    let stop = AtomicBool::new(false);
    let (deep, target) = (case.root.join("templates/deep"), case.outside.clone());
    std::fs::write(case.outside.join("b"), "secret").expect("written");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let aside = deep.with_extension("aside");
            while !stop.load(Ordering::Relaxed) {
                std::fs::rename(&deep, &aside).expect("moved");
                symlink(&target, &deep).expect("linked");
                std::fs::remove_file(&deep).expect("removed");
                std::fs::rename(&aside, &deep).expect("moved back");
            }
        });
        let folder = Folder::open(&case.root).expect("open");
        let (mut good, mut refused) = (0, 0);
        for _ in 0..20_000 {
            match folder.read("templates/deep/b", 100) {
                Ok(bytes) => {
                    assert_eq!(bytes, b"b");
                    good += 1;
                }
                Err(_) => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(good > 0 && refused > 0, "{good} read, {refused} refused");
    });
}
