//! Builds by the engine's BuildKit, through the session of our own. Nothing is pushed.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::Command;
use std::sync::{Arc, Mutex};

use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::driver::pipeline::source;
use fleetwright::driver::pipeline::work::{At, request};
use fleetwright::model::name::CommitId;
use fleetwright::model::redact::Mask;
use fleetwright::model::run::BuildSpec;
use fleetwright::port::git::GitRemote;
use fleetwright::port::images::{ImageError, ImageStore};

use crate::support::git::Origin;
use crate::support::lab::poll;
use crate::support::parameters::OneParameter;

const HOST: &str = "builds.invalid";

/// A repository, and what its builds have shown.
struct Bench {
    origin: Origin,
    _home: tempfile::TempDir,
    git: Arc<dyn GitRemote>,
    images: DockerImages,
    name: String,
}

impl Bench {
    fn new(name: &str) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        Self {
            origin: Origin::new(),
            git: Arc::new(Mirrors::new(home.path())),
            images: DockerImages::new(HOST, CredentialSource::None, Mask::default()).expect("Docker"),
            name: format!("{name}-{}", std::process::id()),
            _home: home,
        }
    }

    /// Commits the files and builds them; the lines that were shown.
    async fn build(
        &self,
        files: &[(&str, &[u8])],
        change: impl FnOnce(&mut BuildSpec),
    ) -> (Result<(), ImageError>, Vec<String>) {
        let commit: CommitId = self.origin.commit("files", files).parse().expect("an id");
        let web = self.origin.source();
        self.git.fetch(&web, &[]).await.expect("fetched");
        let mut spec = BuildSpec {
            image: self.name.clone(),
            context: ".".into(),
            dockerfile: "Dockerfile".into(),
            args: BTreeMap::new(),
            target: None,
            secrets: BTreeMap::new(),
        };
        change(&mut spec);
        let at = At { repository: &web.name, commit: &commit };
        let source = source::read(&*self.git, at, &spec).await.map_err(|problem| problem.reason);
        let request = request(&self.git, at, &spec, source.expect("a source"), "test").await;
        let request = request.map_err(|problem| problem.reason).expect("a request");
        let shown = Mutex::new(Vec::new());
        let result =
            self.images.build(request, &|line| shown.lock().expect("lines").push(line.to_owned())).await;
        (result, shown.into_inner().expect("lines"))
    }

    /// The content of a file in the image.
    fn file(&self, path: &str) -> Option<Vec<u8>> {
        let image = format!("{HOST}/{}:test", self.name);
        let made = Command::new("docker").args(["create", &image, "x"]).output().expect("docker");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let id = String::from_utf8(made.stdout).expect("an id").trim().to_owned();
        let copied =
            Command::new("docker").args(["cp", &format!("{id}:{path}"), "-"]).output().expect("docker");
        let _ = Command::new("docker").args(["rm", "-f", &id]).output();
        let mut archive = tar::Archive::new(&copied.stdout[..]);
        let mut entry = archive.entries().ok()?.next()?.ok()?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content).ok()?;
        Some(content)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", &format!("{HOST}/{}:test", self.name)]).output();
    }
}

fn busybox() -> Vec<u8> {
    std::fs::read("/bin/busybox").expect("busybox (package busybox-static) is installed")
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_modes_platforms_and_targets_work_and_steps_show_while_they_run() {
    let bench = Bench::new("features");
    let busybox = busybox();
    let dockerfile = br#"FROM --platform=$BUILDPLATFORM scratch AS tools
COPY --chmod=0755 plain /bin/busybox
FROM tools AS build
ARG BUILDPLATFORM
ARG GREETING
RUN --mount=type=cache,target=/cache --mount=type=bind,source=data,target=/data ["/bin/busybox", "sh", "-c", "/bin/busybox cat /data/x > /out; echo $BUILDPLATFORM $GREETING >> /out; echo shown; echo; echo after"]
FROM scratch AS final
COPY --from=build /out /out
FROM scratch
COPY . /last
"#;
    let files: [(&str, &[u8]); 3] =
        [("Dockerfile", dockerfile), ("plain", &busybox), ("data/x", b"from data\n")];
    let unique = crate::support::git::unique();
    let (result, shown) = bench
        .build(&files, |spec| {
            spec.target = Some("final".into());
            spec.args.insert("GREETING".into(), format!("a b&c=d/ä {unique}"));
        })
        .await;
    result.unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    let out = String::from_utf8(bench.file("/out").expect("it is there")).expect("text");
    assert_eq!(out, format!("from data\nlinux/amd64 a b&c=d/ä {unique}\n"));
    let at = shown.iter().position(|line| line == "shown").unwrap_or_else(|| panic!("{shown:?}"));
    assert_eq!(shown[at + 1..at + 3], ["", "after"], "blank lines are lines: {shown:?}");
    assert!(shown.iter().any(|line| line.contains("RUN --mount=type=cache")), "{shown:?}");

    // A step that fails is named, and lines of its output come before the error.
    let broken = br#"FROM scratch
COPY --chmod=0755 plain /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "echo why; exit 3"]
"#;
    let files: [(&str, &[u8]); 2] = [("Dockerfile", broken), ("plain", &busybox)];
    let (result, shown) = bench.build(&files, |_| {}).await;
    let Err(ImageError::Build { reason, step }) = result else { panic!("{shown:?}") };
    assert!(reason.contains('3') && shown.iter().any(|line| line == "why"), "{reason} {shown:?}");
    assert!(step.as_deref().is_some_and(|step| step.starts_with("[2/2] RUN")), "{step:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_is_never_taken_from_an_earlier_build_and_the_dockerfile_is_the_repositorys() {
    let bench = Bench::new("fresh");
    let large = vec![b'x'; 3 << 20];
    for content in [b"one", b"two", b"six"] {
        // Same size, and mostly the same second.
        let dockerfile = "\u{feff}FROM scratch\nCOPY . /ctx/\n".as_bytes();
        let files: [(&str, &[u8]); 4] =
            [("Dockerfile", dockerfile), ("file", content), ("large", &large), ("empty", b"")];
        let (result, shown) = bench.build(&files, |_| {}).await;
        result.unwrap_or_else(|error| panic!("{error}: {shown:?}"));
        assert_eq!(bench.file("/ctx/file").as_deref(), Some(&content[..]));
        assert_eq!(bench.file("/ctx/Dockerfile").as_deref(), Some(dockerfile));
        assert_eq!(bench.file("/ctx/large").as_deref(), Some(&large[..]));
        assert_eq!(bench.file("/ctx/empty").as_deref(), Some(&b""[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_mounted_from_memory_and_never_shown() {
    let mut bench = Bench::new("secrets");
    let images = DockerImages::new(HOST, CredentialSource::None, Mask::default()).expect("Docker");
    bench.images = images.with_secrets(Arc::new(OneParameter::new("/team/npm", "token-of-the-test-9Xq")));
    let busybox = busybox();
    let dockerfile = br#"FROM scratch
COPY busybox /bin/busybox
RUN --mount=type=secret,id=npm ["/bin/busybox", "sh", "-c", "/bin/busybox wc -c < /run/secrets/npm > /size; /bin/busybox cat /run/secrets/npm"]
"#;
    let files: [(&str, &[u8]); 2] = [("Dockerfile", dockerfile), ("busybox*", &busybox)];
    let give = |name: &str| {
        let name = name.to_owned();
        move |spec: &mut BuildSpec| drop(spec.secrets.insert("npm".into(), name))
    };
    let (result, shown) = bench.build(&files, give("/team/npm")).await;
    result.unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    assert_eq!(bench.file("/size").as_deref(), Some(&b"21\n"[..]));
    assert!(!shown.join("\n").contains("token-of-the-test"), "{shown:?}");
    let (result, _) = bench.build(&files, give("/team/gone")).await;
    let refusal = result.expect_err("it is not there").to_string();
    assert!(
        refusal.contains("secret `npm`, parameter `/team/gone`: there is no such SSM parameter"),
        "{refusal}"
    );
}

/// An address of this machine that is given back.
struct Address(&'static str);

impl Address {
    fn new(address: &'static str) -> Self {
        let _ = Command::new("ip").args(["addr", "add", &format!("{address}/32"), "dev", "lo"]).status();
        Self(address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["addr", "del", &format!("{}/32", self.0), "dev", "lo"]).status();
    }
}

/// bash and its libraries, as executables in their places.
fn bash() -> Vec<(String, Vec<u8>)> {
    let list = Command::new("ldd").arg("/bin/bash").output().expect("ldd");
    let list = String::from_utf8(list.stdout).expect("text");
    let libraries = list.split_whitespace().filter(|word| word.starts_with('/'));
    libraries
        .chain(["/bin/bash"])
        .map(|path| (format!("{}*", path.trim_start_matches('/')), std::fs::read(path).expect("a file")))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_reaches_the_network_but_no_metadata_address() {
    let address = Address::new("169.254.77.7");
    let listener = std::net::TcpListener::bind("0.0.0.0:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\ncredentials\n");
        }
    });
    let gateway = Command::new("docker")
        .args(["network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"])
        .output()
        .expect("docker");
    let gateway = String::from_utf8(gateway.stdout).expect("text").trim().to_owned();
    let gateway = if gateway.is_empty() { "172.17.0.1".to_owned() } else { gateway };
    // busybox crashes when it connects, because it is linked statically.
    let get = |host: &str| {
        format!(
            "(exec 3<>/dev/tcp/{host}/{port} && echo >&3 && while read -r x <&3; do echo $x; done) \
             || echo refused {host}"
        )
    };
    let script = format!("{}; {}", get(&gateway), get(address.0));
    let dockerfile = format!("FROM scratch\nCOPY . /\nRUN [\"/bin/bash\", \"-c\", \"{script}\"]\n");
    let bench = Bench::new("metadata");
    let bash = bash();
    let mut files: Vec<(&str, &[u8])> = vec![("Dockerfile", dockerfile.as_bytes())];
    files.extend(bash.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
    let (result, shown) = bench.build(&files, |_| {}).await;
    result.unwrap_or_else(|error| panic!("{error}: {shown:?}"));
    let told: Vec<_> =
        shown.iter().filter(|line| *line == "credentials" || line.starts_with("refused")).collect();
    assert_eq!(told, ["credentials", "refused 169.254.77.7"], "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_dropped_ends() {
    let bench = Bench::new("dropped");
    let busybox = busybox();
    let mark = format!("77{}", std::process::id());
    let dockerfile =
        format!("FROM scratch\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sleep\", \"{mark}\"]\n");
    let files: [(&str, &[u8]); 2] = [("Dockerfile", dockerfile.as_bytes()), ("busybox*", &busybox)];
    let running = || {
        let list = Command::new("ps").args(["-eo", "args"]).output().expect("ps");
        String::from_utf8_lossy(&list.stdout).contains(&format!("/bin/busybox sleep {mark}"))
    };
    {
        let build = bench.build(&files, |_| {});
        tokio::pin!(build);
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !running() {
            assert!(std::time::Instant::now() < until, "the step never ran");
            let tick = tokio::time::timeout(std::time::Duration::from_millis(100), &mut build).await;
            assert!(tick.is_err(), "the build ended");
        }
    }
    let ended = poll(std::time::Duration::from_secs(20), || (!running()).then_some(()));
    assert!(ended.is_some(), "the step still runs");
}
