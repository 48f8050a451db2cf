//! Build contexts against the engine's own command line: what it would leave out is never sent,
//! and what it would send is in the image.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use fleetwright::adapter::docker_build::{CredentialSource, DockerImages};
use fleetwright::adapter::git::Mirrors;
use fleetwright::driver::pipeline::source;
use fleetwright::driver::pipeline::work::{At, request};
use fleetwright::model::image::EntryKind;
use fleetwright::model::name::{CommitId, RepositoryName};
use fleetwright::model::redact::Mask;
use fleetwright::model::run::BuildSpec;
use fleetwright::port::git::GitRemote;
use fleetwright::port::images::ImageStore;

use crate::support::git::{Origin, unique};

/// How many contexts are built unless FLEETWRIGHT_CONTEXTS says otherwise.
const CONTEXTS: u64 = 25;
/// The host in the names of the images; nothing is pushed.
const HOST: &str = "contexts.invalid";

/// Where the context is in the images of this process: builders keep what they have copied, with
/// its times.
static FOLDER: LazyLock<String> = LazyLock::new(|| format!("ctx/{}/", unique()));

fn dockerfile() -> Vec<u8> {
    format!("FROM scratch\nCOPY . /{}\n", *FOLDER).into_bytes()
}

const LINK: &[u8] = b".dockerignore";

/// A path, its mode in git, its content.
type Entry = (Vec<u8>, u32, Vec<u8>);

/// What an image holds: path -> type, mode and content, or what it links to.
type Files = BTreeMap<Vec<u8>, (tar::EntryType, u32, Vec<u8>)>;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

const NAMES: [&str; 24] = [
    "a", "b", "c", "docs", "sub", "target", "x.md", "a.log", "b.log", ".env", "secret", "é", "a b", "[x]",
    "a+b", "(a)", "-f", "b\"q", "b\\s", "1", "!a", "#a", "^a", "a.b",
];
const PIECES: [&str; 26] = [
    "a",
    "b",
    "docs",
    "sub",
    "target",
    "*",
    "*.md",
    "*.log",
    "**",
    ".env",
    "secret",
    "?",
    "[ab]",
    "[^a]",
    "[!a]",
    "[a-c].log",
    "\\*",
    "\\d",
    "é",
    "a*",
    "^a*",
    "**.log",
    "[*]",
    "a+b*",
    "..",
    ".",
];

fn ignore_file(random: &mut Random) -> Vec<u8> {
    let mut text = Vec::new();
    if random.chance(10) {
        text.extend("\u{feff}".bytes());
    }
    for _ in 0..random.below(7) {
        if random.chance(5) {
            text.extend(random.pick(&["# note", "", "   ", " # a", "#a"]).bytes());
        } else {
            if random.chance(35) {
                text.extend(random.pick(&["!", "! ", " !"]).bytes());
            }
            if random.chance(10) {
                text.push(b'/');
            }
            for part in 0..=random.below(3) {
                if part > 0 {
                    text.push(b'/');
                }
                text.extend(random.pick(&PIECES).bytes());
            }
            if random.chance(8) {
                text.extend(random.pick(&["/", "/**", "//", " ", "/.", "/.."]).bytes());
            }
        }
        if random.chance(2) {
            text.extend(random.pick(&["[", "\\", "[]", "!", "[b-a]", "[-a]", "caf\u{e9}"]).bytes());
        }
        if random.chance(3) {
            text.extend(b"caf\xe9*");
        }
        text.extend(random.pick(&["\n", "\n", "\r\n"]).bytes());
    }
    text
}

fn generate(random: &mut Random) -> Vec<Entry> {
    let mut entries: BTreeMap<Vec<u8>, (u32, Vec<u8>)> = BTreeMap::new();
    let mut add = |path: Vec<u8>, mode: u32, content: Vec<u8>| {
        let under = |a: &[u8], b: &[u8]| a.starts_with(b) && a.get(b.len()) == Some(&b'/');
        if !entries.keys().any(|other| *other == path || under(other, &path) || under(&path, other)) {
            entries.insert(path, (mode, content));
        }
    };
    let links = random.chance(20);
    if links {
        add(b"Dockerfile".to_vec(), 0o120_000, random.pick(&["build/Dockerfile", "./build/../D"]).into());
    }
    let text = if random.chance(15) { [b"\xef\xbb\xbf", &dockerfile()[..]].concat() } else { dockerfile() };
    for name in if links { &["build/Dockerfile", "D"][..] } else { &["Dockerfile"] } {
        add(name.as_bytes().to_vec(), 0o100_644, text.clone());
    }
    let ignore = ignore_file(random);
    if random.chance(15) {
        add(
            b".dockerignore".to_vec(),
            0o120_000,
            random.pick(&["ignores/for-docker", "b2/../ignored"]).into(),
        );
        add(b"ignores/for-docker".to_vec(), 0o100_644, ignore.clone());
        add(b"ignored".to_vec(), 0o100_644, ignore);
        add(b"b2/x".to_vec(), 0o100_644, b"x".to_vec());
    } else if random.chance(90) {
        add(b".dockerignore".to_vec(), 0o100_644, ignore);
    }
    for _ in 0..2 + random.below(14) {
        let depth = random.below(3);
        let mut path = Vec::new();
        for _ in 0..depth {
            path.extend(random.pick(&NAMES).bytes());
            path.push(b'/');
        }
        path.extend(random.pick(&NAMES).bytes());
        let content = format!("{}\n", random.next()).into_bytes();
        match random.below(100) {
            0..15 => {
                let long = format!("{}/long", "d".repeat(150));
                let targets =
                    ["a", "../b", "../../b", "/etc/passwd", "./x//y/", "nowhere", "é", "../../../x", &long];
                add(path, 0o120_000, random.pick(&targets).into());
            }
            15..30 => add(path, 0o100_755, content),
            _ => add(path, 0o100_644, content),
        }
    }
    match random.below(40) {
        0 | 1 => add(random.pick(&["sub/mod", "target", "mod"]).into(), 0o160_000, Vec::new()),
        2 => {
            let pointer = format!(
                "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 123456\n",
                "ab".repeat(32)
            );
            add(random.pick(&["sub/big.bin", "a.log"]).into(), 0o100_644, pointer.into_bytes());
        }
        3 | 4 => add(b"caf\xe9.txt".to_vec(), 0o100_644, b"latin".to_vec()),
        _ => {}
    }
    entries.into_iter().map(|(path, (mode, content))| (path, mode, content)).collect()
}

fn docker(arguments: &[&str]) -> std::process::Output {
    Command::new("docker").args(arguments).env("DOCKER_BUILDKIT", "0").output().expect("docker can be run")
}

/// The files below [`FOLDER`] of an image with one layer at most, and the times of its files.
fn files(image: &str) -> (Files, Vec<u64>) {
    let saved = docker(&["save", image]);
    assert!(saved.status.success(), "{}", String::from_utf8_lossy(&saved.stderr));
    let mut files = Files::new();
    let mut times = Vec::new();
    let mut outer = tar::Archive::new(&saved.stdout[..]);
    for entry in outer.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        if !entry.path().expect("a path").ends_with("layer.tar") {
            continue;
        }
        let mut layer = Vec::new();
        entry.read_to_end(&mut layer).expect("read");
        for entry in tar::Archive::new(&layer[..]).entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            let path = entry.path_bytes().into_owned();
            let Some(path) = path.strip_prefix(FOLDER.as_bytes()).filter(|path| !path.is_empty()) else {
                continue;
            };
            let path = path.strip_suffix(b"/").unwrap_or(path).to_vec();
            let kind = entry.header().entry_type();
            let mode = entry.header().mode().expect("a mode") & 0o7777;
            let owner = (entry.header().uid().expect("an owner"), entry.header().gid().expect("a group"));
            assert_eq!(owner, (0, 0), "{path:?}");
            let content = match kind {
                tar::EntryType::Symlink => entry.link_name_bytes().expect("a link has a target").into_owned(),
                tar::EntryType::Regular => {
                    times.push(entry.header().mtime().expect("a time"));
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).expect("read");
                    content
                }
                _ => Vec::new(),
            };
            files.insert(path, (kind, mode, content));
        }
    }
    (files, times)
}

/// Builds with the command line from a checkout without `.git`; `None` when it refuses.
fn theirs(mirror: &Path, commit: &str, tag: &str) -> Option<Files> {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = folder.path().join("tree");
    std::fs::create_dir(&tree).expect("made");
    for arguments in [vec!["read-tree", commit], vec!["checkout-index", "--all", "--force"]] {
        let status = Command::new("git")
            .arg("-c")
            .arg("core.quotePath=false")
            .arg("-c")
            .arg("core.bare=false")
            .arg(format!("--git-dir={}", mirror.display()))
            .arg(format!("--work-tree={}", tree.display()))
            .args(&arguments)
            .env("GIT_INDEX_FILE", folder.path().join("index"))
            .status()
            .expect("git can be run");
        assert!(status.success(), "git {arguments:?}");
    }
    let built = docker(&["build", "--no-cache", "--quiet", "--tag", tag, &tree.display().to_string()]);
    let told = String::from_utf8_lossy(&built.stderr).into_owned();
    if !built.status.success() {
        let known = ["syntax error in pattern", "illegal exclusion pattern", "COPY failed", "can't stat"];
        assert!(known.iter().any(|known| told.contains(known)), "docker build failed: {told}");
        return None;
    }
    let (files, _) = files(tag);
    docker(&["rmi", "--force", tag]);
    Some(files)
}

/// Builds as a run does; the error when the source is refused.
async fn ours(
    git: &Arc<dyn GitRemote>,
    images: &DockerImages,
    name: &RepositoryName,
    commit: &str,
    build: &BuildSpec,
) -> Result<(Files, Vec<u64>, i64), String> {
    let commit: CommitId = commit.parse().expect("an id");
    let at = At { repository: name, commit: &commit };
    let source = source::read(&**git, at, build).await.map_err(|problem| problem.reason)?;
    let time = source.time.timestamp();
    let request = request(git, at, build, source, "generated").await.map_err(|problem| problem.reason)?;
    images.build(request, &|_| {}).await.map_err(|error| error.to_string())?;
    let tag = format!("{HOST}/{}:generated", build.image);
    let (files, times) = files(&tag);
    docker(&["rmi", "--force", &tag]);
    Ok((files, times, time))
}

fn images() -> DockerImages {
    DockerImages::new(HOST, CredentialSource::None, Mask::default()).expect("Docker")
}

fn spec(image: &str) -> BuildSpec {
    BuildSpec {
        image: image.into(),
        context: ".".into(),
        dockerfile: "Dockerfile".into(),
        args: BTreeMap::new(),
        target: None,
        secrets: BTreeMap::new(),
    }
}

/// Whether a refusal has its reason in what the command line would have sent.
fn justified(reason: &str, theirs: &Files, entries: &[Entry]) -> bool {
    let submodule = entries.iter().find(|(_, mode, _)| *mode == 0o160_000).map(|(path, ..)| path);
    reason.contains("is a git submodule") && submodule.is_some_and(|path| theirs.contains_key(path))
        || reason.contains("Git LFS pointer")
            && theirs.values().any(|(_, _, content)| content.starts_with(b"version https://git-lfs"))
        // Docker may not apply a pattern that it could not compile, or takes a `\` at the end for
        // an escaped end.
        || ["[` is not a pattern", "[]` is not a pattern", "\\` is not a pattern", "[b-a]` is not a pattern"]
            .iter()
            .any(|broken| reason.contains(broken))
        || reason.contains("not UTF-8") && theirs.keys().any(|path| std::str::from_utf8(path).is_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_contexts_hold_what_the_engines_own_command_line_sends() {
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    };
    let (count, seed) =
        (number("FLEETWRIGHT_CONTEXTS", CONTEXTS), number("FLEETWRIGHT_CONTEXTS_SEED", 20_261_128));
    let home = tempfile::tempdir().expect("a folder");
    let git: Arc<dyn GitRemote> = Arc::new(Mirrors::new(home.path()));
    let images = images();
    let origin = Origin::new();
    let image = format!("generated-{}", std::process::id());
    let (mut same, mut refused) = (0, 0);
    for round in 0..count {
        let mut random = Random(seed + round);
        let entries = generate(&mut random);
        let commit = origin.commit_modes(&format!("round {round}"), &entries);
        let source = origin.source();
        git.fetch(&source, &[]).await.expect("fetched");
        let theirs = theirs(&home.path().join("web.git"), &commit, &format!("{HOST}/{image}:theirs"));
        let ours = ours(&git, &images, &source.name, &commit, &spec(&image)).await;
        let shown = || {
            let show = |(path, mode, content): &Entry| {
                let short = String::from_utf8_lossy(&content[..content.len().min(300)]).into_owned();
                format!("{mode:o} {} {short:?}\n", path.escape_ascii())
            };
            let told = entries.iter().map(show).collect::<String>();
            format!("FLEETWRIGHT_CONTEXTS_SEED={} FLEETWRIGHT_CONTEXTS=1\n{told}", seed + round)
        };
        match (theirs, ours) {
            (Some(mut theirs), Ok((ours, times, time))) => {
                let sent: Vec<_> = ours.keys().filter(|path| !theirs.contains_key(*path)).collect();
                assert!(sent.is_empty(), "docker build leaves out {sent:?}\n{}", shown());
                // A `.dockerignore` that is a link to an ignored file is sent with the Dockerfile for
                // the engine's sake, and the engine can't read it to find that both are ignored.
                if theirs.get(LINK).is_some_and(|(kind, ..)| *kind == tar::EntryType::Symlink)
                    && !ours.contains_key(LINK)
                {
                    for name in [LINK, &b"Dockerfile"[..], &b"D"[..], &b"build"[..], &b"build/Dockerfile"[..]]
                    {
                        if !ours.contains_key(name) {
                            theirs.remove(name);
                        }
                    }
                }
                // The folder of a Dockerfile that is ignored stays behind when the engine removes it.
                if !ours.contains_key(&b"build"[..]) && !theirs.keys().any(|path| path.starts_with(b"build/"))
                {
                    theirs.remove(&b"build"[..]);
                }
                let missing: Vec<_> = theirs.keys().filter(|path| !ours.contains_key(*path)).collect();
                assert!(missing.is_empty(), "docker build has {missing:?}\n{}", shown());
                assert_eq!(ours, theirs, "{}", shown());
                assert!(times.iter().all(|&at| i64::try_from(at) == Ok(time)), "{times:?} {time}");
                same += 1;
            }
            (None, Err(_)) => refused += 1,
            (Some(theirs), Err(reason)) => {
                assert!(justified(&reason, &theirs, &entries), "refused: {reason}\n{}", shown());
                refused += 1;
            }
            (None, Ok(_)) => panic!("docker build refuses it\n{}", shown()),
        }
    }
    println!("{same} contexts held the same files, {refused} were refused");
    assert!(count < 20 || same * 2 > count, "most contexts can be built: {same} of {count}");
}

/// Reads the source of a commit of these entries.
async fn read(entries: &[Entry], build: &BuildSpec) -> Result<Vec<(String, EntryKind)>, String> {
    let (home, origin) = (tempfile::tempdir().expect("a folder"), Origin::new());
    let git: Arc<dyn GitRemote> = Arc::new(Mirrors::new(home.path()));
    let commit: CommitId = origin.commit_modes("files", entries).parse().expect("an id");
    let web = origin.source();
    git.fetch(&web, &[]).await.expect("fetched");
    let at = At { repository: &web.name, commit: &commit };
    let source = source::read(&*git, at, build).await.map_err(|problem| problem.reason)?;
    let kept = source.entries.iter().map(|entry| (entry.path.clone(), entry.kind)).collect();
    request(&git, at, build, source, "x").await.map_err(|problem| problem.reason)?;
    Ok(kept)
}

fn entry(path: &str, mode: u32, content: &str) -> Entry {
    (path.as_bytes().to_vec(), mode, content.as_bytes().to_vec())
}

#[tokio::test]
async fn links_lead_where_a_checkout_leads_and_those_that_lead_nowhere_are_named() {
    let in_app = BuildSpec { context: "app".into(), ..spec("x") };
    let dockerfile = entry("app/Dockerfile", 0o100_644, "FROM scratch\n");
    let secret = entry("app/secret", 0o100_644, "s");
    let with_ignore = |target: &str, more: &[Entry]| {
        let link = entry("app/.dockerignore", 0o120_000, target);
        [&[dockerfile.clone(), secret.clone(), link][..], more].concat()
    };
    // Outside of the context, but in the repository; through a linked folder; a chain of links.
    let rules = entry("ignores/docker", 0o100_644, "secret\n");
    for (target, more) in [
        ("../ignores/docker", vec![rules.clone()]),
        ("../linked/docker", vec![rules.clone(), entry("linked", 0o120_000, "ignores")]),
        (".first", vec![entry("app/.first", 0o120_000, "../ignores/docker"), rules.clone()]),
    ] {
        let kept = read(&with_ignore(target, &more), &in_app).await.expect("a context");
        assert!(!kept.iter().any(|(path, _)| path == "secret"), "{target}: {kept:?}");
    }
    for (target, more, reason) in [
        ("gone", vec![], "`app/.dockerignore` is a symbolic link to `gone`, where the commit has no file"),
        ("/etc/ignore", vec![], "a symbolic link to `/etc/ignore`, outside of the repository"),
        ("../../x", vec![], "a symbolic link to `../../x`, outside of the repository"),
        (".dockerignore", vec![], "through more than 40 links"),
        ("sub", vec![entry("app/sub/x", 0o100_644, "x")], "`app/sub` is a folder, not a file"),
    ] {
        let refusal = read(&with_ignore(target, &more), &in_app).await.expect_err("it is refused");
        assert!(refusal.contains(reason), "{refusal}");
    }

    // The Dockerfile and the context themselves.
    let linked = [
        entry("app/Dockerfile", 0o120_000, "../common/Dockerfile"),
        entry("common/Dockerfile", 0o100_644, "\u{feff}FROM scratch\n"),
        entry("here", 0o120_000, "app"),
        entry("app/etc", 0o120_000, "/etc/localtime"),
        entry("app/up", 0o120_000, "../../../x"),
    ];
    let through_link = BuildSpec { context: "here".into(), ..spec("x") };
    for build in [&in_app, &through_link] {
        let kept = read(&linked, build).await.expect("a context");
        assert!(kept.contains(&("Dockerfile".into(), EntryKind::Link)), "{kept:?}");
        assert!(kept.contains(&("etc".into(), EntryKind::Link)), "{kept:?}");
        assert!(kept.contains(&("up".into(), EntryKind::Link)), "{kept:?}");
    }
    // One that belongs to a Dockerfile replaces the context's, as BuildKit has it.
    let own = [
        dockerfile.clone(),
        secret.clone(),
        entry("app/other", 0o100_644, "o"),
        entry("app/.dockerignore", 0o100_644, "other\n"),
        entry("app/Dockerfile.dockerignore", 0o100_644, "secret\n"),
    ];
    let kept = read(&own, &in_app).await.expect("a context");
    let names: Vec<_> = kept.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, [".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "other"]);
}

#[tokio::test]
async fn what_git_has_no_content_for_is_refused_unless_it_is_ignored() {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5\n", "0".repeat(64));
    let kinds: [(&[u8], u32, &str, &str); 3] = [
        (b"data/big.bin", 0o100_644, &pointer, "`data/big.bin`: it is a Git LFS pointer"),
        (b"data/module", 0o160_000, "", "`data/module` is a git submodule"),
        (b"data/caf\xe9", 0o100_644, "x", "the file's name is not UTF-8 (`data/caf\\xe9`)"),
    ];
    for (path, mode, content, reason) in kinds {
        let mut entries = vec![
            entry("Dockerfile", 0o100_644, "FROM scratch\n"),
            (path.to_vec(), mode, content.as_bytes().to_vec()),
        ];
        let refusal = read(&entries, &spec("x")).await.expect_err("it is refused");
        assert!(refusal.contains(reason), "{refusal}");
        for ignored in ["data", "data/*", "**/[bcm]*"] {
            entries.push(entry(".dockerignore", 0o100_644, ignored));
            read(&entries, &spec("x")).await.expect("it is ignored");
            entries.pop();
        }
        // A file that a `!` pattern keeps in a submodule is not at hand either.
        if mode == 0o160_000 {
            entries.push(entry(".dockerignore", 0o100_644, "data\n!data/module/keep\n"));
            assert!(read(&entries, &spec("x")).await.expect_err("it is refused").contains(reason));
        }
    }
    let in_module = [entry("lib", 0o160_000, ""), entry("Dockerfile", 0o100_644, "FROM scratch\n")];
    let build = BuildSpec { context: "lib/app".into(), ..spec("x") };
    let refusal = read(&in_module, &build).await.expect_err("it is refused");
    assert!(refusal.contains("lies in `lib`, a git submodule"), "{refusal}");
    let lfs = [entry("Dockerfile", 0o100_644, &pointer)];
    let refusal = read(&lfs, &spec("x")).await.expect_err("it is refused");
    assert!(refusal.contains("is a Git LFS pointer"), "{refusal}");
}
