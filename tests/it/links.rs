//! What is read must be a regular file of the repository, or one that a person named: no link leads
//! out of the repository, and nothing that never ends, or never begins, is waited for.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::validate::repository;

/// What stands outside of the repository.
const SECRET: &str = "what-nobody-may-see";

/// Far more than any of these commands takes.
const LIMIT: Duration = Duration::from_secs(30);

/// The exit status and everything that was printed; a command that waits is a failure.
fn run<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> (Option<i32>, String) {
    let start = Instant::now();
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_fleetwright"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("FLEETWRIGHT_HOME", folder)
        .timeout(LIMIT)
        .output()
        .expect("fleetwright can be run");
    let shown: Vec<_> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(start.elapsed() < LIMIT, "{shown:?} does not end");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn fifo(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o600)).expect("a named pipe can be made");
}

fn sparse(path: &Path) {
    std::fs::File::create(path).expect("made").set_len(1 << 30).expect("it takes no space");
}

#[test]
fn no_link_brings_a_file_from_elsewhere_into_a_template() {
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("secret"), SECRET).expect("written");
    std::fs::write(outside.path().join("other.yaml"), format!("# {SECRET}\n")).expect("written");
    let secret = outside.path().join("secret");
    let up =
        |path: &Path| PathBuf::from("../../../../../../../../../..").join(path.strip_prefix("/").unwrap());
    for (link, target) in [
        ("templates/scripts/x", secret.clone()),
        ("templates/scripts/x", up(&secret)),
        ("templates/scripts/x", PathBuf::from("y/secret")),
        ("templates/scripts", outside.path().to_owned()),
        ("templates/scripts", up(outside.path())),
        ("stacks/other.yaml", outside.path().join("other.yaml")),
        ("services", outside.path().to_owned()),
        ("fleetwright.yaml", secret.clone()),
    ] {
        let folder = repository("base");
        let template = folder.path().join("templates/cloudformation/network.yaml");
        let text = std::fs::read_to_string(&template).expect("the base has it");
        let included = if link.ends_with("scripts") { "secret" } else { "x" };
        std::fs::write(&template, format!("# <% include \"scripts/{included}\" %>\n{text}"))
            .expect("written");
        let path = folder.path().join(link);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).expect("removed");
        } else if path.exists() {
            std::fs::remove_file(&path).expect("removed");
        }
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        if target == Path::new("y/secret") {
            symlink(outside.path(), path.with_file_name("y")).expect("linked");
        }
        symlink(&target, &path).expect("linked");
        for command in ["validate", "render", "plan"] {
            let (status, text) = run(folder.path(), &[command]);
            assert_eq!(status, Some(2), "{command} with {link}: {text}");
            assert!(!text.contains(SECRET), "{command} with {link}: {text}");
            assert!(text.contains("link-outside"), "{command} with {link}: {text}");
        }
    }
}

#[test]
fn links_within_the_repository_are_followed() {
    let folder = repository("base");
    let templates = folder.path().join("templates");
    std::fs::rename(&templates, folder.path().join("real")).expect("moved");
    symlink("real", &templates).expect("linked");
    let network = folder.path().join("real/cloudformation/network.yaml");
    std::fs::rename(&network, folder.path().join("network.yaml")).expect("moved");
    symlink("../../network.yaml", &network).expect("linked");
    let (status, text) = run(folder.path(), &["validate"]);
    assert_eq!(status, Some(0), "{text}");
    // A folder that contains itself ends.
    symlink("../cloudformation", folder.path().join("real/cloudformation/again")).expect("linked");
    let (status, text) = run(folder.path(), &["validate"]);
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("templates/cloudformation/again is a link to a folder"), "{text}");
}

#[test]
fn nothing_in_a_repository_is_waited_for_or_read_without_end() {
    let places = [
        "templates/x",
        "stacks/x.yaml",
        "services/x.yaml",
        "pipelines/x.yaml",
        "templates",
        "fleetwright.yaml",
    ];
    for place in places {
        for (kind, expected) in [
            ("fifo", "a named pipe"),
            ("zero", "link-outside"),
            ("socket", "a socket"),
            ("sparse", "larger than"),
        ] {
            let folder = repository("base");
            let path = folder.path().join(place);
            if path.is_dir() {
                std::fs::remove_dir_all(&path).expect("removed");
            }
            let _ = std::fs::remove_file(&path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            let mut socket = None;
            match kind {
                "fifo" => fifo(&path),
                "zero" => symlink("/dev/zero", &path).expect("linked"),
                "socket" => socket = Some(UnixListener::bind(&path).expect("bound")),
                _ => sparse(&path),
            }
            let (status, text) = run(folder.path(), &["validate"]);
            drop(socket);
            assert_eq!(status, Some(2), "{kind} as {place}: {text}");
            // What is no folder has no files, whatever it is.
            let said = [expected, "it is not a folder"].into_iter().any(|said| text.contains(said));
            assert!(said || place == "templates", "{kind} as {place}: {text}");
        }
    }
}

#[test]
fn files_that_a_person_names_are_files() {
    let folder = repository("base");
    let pipe = folder.path().join("pipe");
    fifo(&pipe);
    sparse(&folder.path().join("sparse"));
    let socket = UnixListener::bind(folder.path().join("socket")).expect("bound");
    std::fs::write(folder.path().join("good.yaml"), "#cloud-config\n{}\n").expect("written");
    for (file, expected) in [
        ("pipe", "it is a named pipe, not a regular file"),
        ("/dev/zero", "it is a device, not a regular file"),
        ("socket", "it is a socket, not a regular file"),
        ("stacks", "it is a folder, not a regular file"),
        ("none", "No such file"),
    ] {
        for command in [
            "template check FILE",
            "unit check FILE",
            "cloud-config check FILE",
            "cloud-config show FILE",
            "cloud-config diff FILE good.yaml",
            "cloud-config diff good.yaml FILE",
            "cloud-config convert --target cloud-init-22.4 FILE",
            "cloud-config convert --target cloud-init-22.4 --multipart --part FILE good.yaml",
            "cloud-config boot --expect FILE good.yaml",
            "apply FILE",
            "agent --config FILE",
        ] {
            // A bare word may be a stack.
            let is_bare = command.starts_with("apply") && !file.contains('/');
            let command =
                command.replace("FILE", &if is_bare { format!("./{file}") } else { file.to_owned() });
            let arguments: Vec<&str> = command.split(' ').collect();
            let (status, text) = run(folder.path(), &arguments);
            assert_eq!(status, Some(2), "{arguments:?}: {text}");
            assert!(text.contains(expected), "{arguments:?}: {text}");
        }
    }
    for command in ["template check sparse", "cloud-config check sparse", "unit check sparse", "apply sparse"]
    {
        let (status, text) = run(folder.path(), &command.split(' ').collect::<Vec<_>>());
        assert_eq!(status, Some(2), "{command}: {text}");
        assert!(text.contains("it is larger than"), "{command}: {text}");
    }
    drop(socket);
}

#[test]
fn standard_input_has_a_limit_and_may_be_a_pipe() {
    let folder = repository("base");
    let shell = |script: &str| {
        let output = assert_cmd::Command::new("bash")
            .args(["-c", script])
            .current_dir(folder.path())
            .env("FLEETWRIGHT", env!("CARGO_BIN_EXE_fleetwright"))
            .timeout(LIMIT)
            .output()
            .expect("bash can be run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    for command in ["template check -", "cloud-config check -", "cloud-config show -"] {
        let (status, text) = shell(&format!("$FLEETWRIGHT {command} </dev/zero"));
        assert_eq!(status, Some(2), "{command}: {text}");
        assert!(text.contains("it is larger than 4 MiB"), "{command}: {text}");
    }
    let document = "(echo '#cloud-config'; sleep 0.3; echo 'hostname: web')";
    for from in [format!("- < <{document}"), format!("<{document}"), format!("/dev/stdin < <{document}")] {
        let (status, text) = shell(&format!("$FLEETWRIGHT cloud-config check {from}"));
        assert_eq!(status, Some(0), "{from}: {text}");
    }
}
