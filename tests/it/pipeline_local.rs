//! `pipeline run --local`: the work tree on this computer's engine, without a server.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::pipeline_serve::{Site, busybox};

const STEPS: &str = r#"NAME:
  repository: web
  parameters:
    LEVEL: {default: low}
  steps:
    - build: {image: demo/web}
    - run:
        name: check
        image: demo/web
        secrets: {LOGIN: /team/login}
        caches: [/cache]
        command: |
          cat greeting
          echo "level $LEVEL on $FLEETWRIGHT_BRANCH"
          echo "secret: $LOGIN"
          test ! -e ignored && echo nothing ignored
          echo x > /cache/x
          test ! -e slow || sleep 1000
          test ! -e broken || exit 4
    - run: {name: other, image: demo/web, needs: [demo/web], command: "echo other"}
    - approve: {message: "Go?"}
    - rollout: {service: web}
"#;

struct Tree {
    site: Site,
    folder: PathBuf,
    name: String,
}

fn tree() -> Tree {
    let site = Site::new();
    let name = format!(
        "local{}",
        crate::support::git::unique().chars().filter(char::is_ascii_alphanumeric).collect::<String>()
    );
    let name = name.to_lowercase();
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), STEPS.replace("NAME", &name))
        .expect("written");
    let folder = site.folder.path().join("app");
    std::fs::create_dir(&folder).expect("a folder");
    let dockerfile = format!(
        "FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n# {name}\n"
    );
    let tree = Tree { site, folder, name };
    tree.write("Dockerfile", dockerfile.as_bytes());
    tree.write("busybox", &busybox());
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program).args(arguments).current_dir(&tree.folder).output().expect("it runs");
        assert!(done.status.success(), "{done:?}");
    };
    run("chmod", &["755", "busybox"]);
    tree.write("greeting", b"hello\n");
    tree.write(".gitignore", b"ignored\n");
    run("git", &["init", "--quiet", "-b", "main"]);
    run("git", &["add", "."]);
    run("git", &["-c", "user.name=a", "-c", "user.email=a", "commit", "--quiet", "-m", "first"]);
    // Neither is committed, and one is not wanted.
    tree.write("greeting", b"hello, changed\n");
    tree.write("ignored", b"x");
    tree
}

impl Tree {
    fn write(&self, path: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join(path), bytes).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let all = [&["-C", "..", "pipeline", "run", &self.name, "--local"][..], arguments].concat();
        let mut command = self.site.command_in(&self.folder, &all);
        let tmp = self.site.folder.path().join("tmp");
        std::fs::create_dir_all(&tmp).expect("a folder");
        command.env("TMPDIR", tmp);
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(arguments).output().expect("fleetwright can be run");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// Nothing of the run is on the engine, and nothing of it in the folder for temporary files.
    fn nothing_is_left(&self) {
        let docker = |arguments: &[&str]| {
            let done = Command::new("docker").args(arguments).output().expect("docker runs");
            assert!(done.status.success(), "{done:?}");
            String::from_utf8(done.stdout).expect("text")
        };
        let caches = docker(&[
            "volume",
            "ls",
            "-q",
            "--filter",
            &format!("label=fleetwright.cache={} /cache", self.name),
        ]);
        assert_eq!(caches, "", "caches");
        let host = self.site.registry.host();
        let images = docker(&["image", "ls", "--format", "{{.Repository}}"]);
        assert!(!images.contains(&host), "{images}");
        // Containers are labelled with what their folder's name gives; their variables name the pipeline.
        let all = docker(&["ps", "-aq", "--filter", "label=fleetwright.pipelines"]);
        for id in all.lines() {
            let seen = Command::new("docker").args(["inspect", id]).output().expect("docker runs");
            let seen = String::from_utf8_lossy(&seen.stdout).into_owned();
            assert!(!seen.contains(&format!("FLEETWRIGHT_PIPELINE={}\"", self.name)), "{seen}");
        }
        let left = self.site.folder.path().join("tmp");
        let left: Vec<_> =
            std::fs::read_dir(left).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_tree_runs_with_its_changes_and_nothing_is_left() {
    let tree = tree();
    let (status, _, stderr) = tree.run(&[]);
    assert_eq!(status, Some(2), "{stderr}");
    assert!(stderr.contains("error: secrets are missing: `LOGIN` of `run check`"), "{stderr}");
    assert!(stderr.contains("next: pass `--secret LOGIN=FILE`, or set the variable LOGIN"), "{stderr}");
    let (status, _, stderr) = tree.run(&["--secret", "LOGNI=x"]);
    assert!(status == Some(2) && stderr.contains("no step that is run has a secret `LOGNI`"), "{stderr}");
    let (status, _, stderr) = tree.run(&["--step", "chekc"]);
    assert!(status == Some(2) && stderr.contains("did you mean"), "{stderr}");
    let (status, _, stderr) = tree.run(&["--param", "LVL=x"]);
    assert!(status == Some(2) && stderr.contains("there is no parameter `LVL`"), "{stderr}");

    tree.write("ignored", b"a-secret-of-mine\n");
    let (status, stdout, stderr) = tree.run(&["--secret", "LOGIN=ignored", "--param", "LEVEL=high"]);
    assert_eq!((status, stdout.as_str()), (Some(0), ""), "{stderr}");
    for said in [
        "| hello, changed",
        "| level high on main",
        "| nothing ignored",
        "run other   | other",
        "; it is not pushed",
        "approve   ✗ skipped: a local run asks nobody",
        "rollout web   ✗ skipped: a local run changes nothing outside of this computer",
        "✓ succeeded after",
        "first, with uncommitted changes",
    ] {
        assert!(stderr.contains(said), "{said}: {stderr}");
    }
    assert!(stderr.contains("| secret: ") && !stderr.contains("a-secret-of-mine"), "{stderr}");
    assert!(tree.site.cluster.deployments().is_empty());
    tree.nothing_is_left();

    // One step with what it needs; as JSON.
    let (status, stdout, stderr) = tree.run(&["--step", "other", "-o", "json"]);
    assert_eq!(status, Some(0), "{stderr}");
    let events: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = &events.last().expect("events")["kind"]["pipeline"];
    assert_eq!((&last["what"], &last["state"]), (&"finished".into(), &"succeeded".into()), "{stdout}");
    assert!(stdout.contains("it is not among the steps that were asked for"), "{stdout}");
    assert!(!stdout.contains("hello, changed"), "{stdout}");

    tree.write("broken", b"x");
    let (status, _, stderr) = tree.run(&["--secret", "LOGIN=ignored"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("run check   ✗ failed: exit status 4"), "{stderr}");
    tree.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_run_and_leaves_nothing() {
    let tree = tree();
    tree.write("slow", b"x");
    let mut command = tree.command(&["--secret", "LOGIN=ignored", "-o", "json"]);
    let log = tree.site.folder.path().join("said");
    let file = std::fs::File::create(&log).expect("a file");
    let mut process = command.stdout(file).stderr(std::process::Stdio::null()).spawn().expect("it starts");
    let limit = Instant::now() + Duration::from_secs(90);
    while !std::fs::read_to_string(&log).expect("read").contains("nothing ignored") {
        assert!(Instant::now() < limit, "it never printed: {}", std::fs::read_to_string(&log).expect("read"));
        std::thread::sleep(Duration::from_millis(50));
    }
    Command::new("kill").args(["-INT", &process.id().to_string()]).status().expect("kill runs");
    let status = process.wait().expect("it ends");
    assert_eq!(status.code(), Some(1));
    let said = std::fs::read_to_string(&log).expect("read");
    assert!(said.contains("\"state\":\"cancelled\"") && said.contains("stopped at the terminal"), "{said}");
    tree.nothing_is_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_no_work_tree_is_refused() {
    let tree = tree();
    let outside = tree.site.folder.path().join("outside");
    std::fs::create_dir(&outside).expect("a folder");
    let arguments = ["-C", "..", "pipeline", "run", &tree.name, "--local"];
    let output = tree.site.command_in(&outside, &arguments).output().expect("it runs");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("not a git repository")
            && stderr.contains("change to a work tree of repository `web`"),
        "{stderr}"
    );
}
