//! fleetwright's own commands as steps of pipelines: each in a process of its own, in a folder with the files of the
//! commit, and with the environment of `serve`.

use std::path::{Component, Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio_util::io::StreamReader;

use super::page_token::VARIABLE;
use super::stacks::{ENDS_WITH_INPUT, HAS_CHANGED};
use crate::adapter::{output, plan_file, private_file};
use crate::model::image::{ContextFile, EntryKind};
use crate::model::infra_step::{InfraWork, Planned};
use crate::model::redact::Mask;
use crate::model::run::RunId;
use crate::plan::saved::SavedPlan;
use crate::port::images::{Lines, Open};
use crate::port::infra::{Infra, InfraEnd, InfraError, InfraRequest};
use crate::port::step_containers::WorkspaceFiles;
use crate::view;
use crate::view::paint::Paint;

/// This program. The link that the kernel gives works even when the file was replaced by a new build.
const OWN: &str = "/proc/self/exe";
/// The exit status of a plan with changes, and of drift.
const CHANGES: i32 = 3;
/// The most that is kept of a command's standard output, in bytes.
const OUTPUT_MOST: usize = 4 << 20;

/// Runs the commands, and keeps the plans of runs that have not ended.
pub struct OwnCommands {
    /// Where plans are kept and files are put, its owner's alone.
    folder: PathBuf,
    mask: Mask,
}

/// How a command ended.
struct Ended {
    status: Option<i32>,
    stdout: String,
    /// The last thing that it said about a failure.
    error: Option<String>,
}

/// A process group that is asked to stop when this is dropped before its leader has ended: what it has begun in the cloud
/// continues there, and nothing else is begun.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // One that has ended meanwhile is no error.
            let _ = killpg(group, Signal::SIGINT);
        }
    }
}

/// Where one command works.
struct Place<'a> {
    root: &'a Path,
    environment: &'a str,
    lines: Lines<'a>,
}

impl OwnCommands {
    /// Keeps plans in `folder`.
    pub fn new(folder: PathBuf, mask: Mask) -> Self {
        Self { folder, mask }
    }

    fn plans(&self, run: RunId) -> PathBuf {
        self.folder.join(run.to_string())
    }

    fn plan_of(&self, run: RunId, step: usize) -> PathBuf {
        self.plans(run).join(format!("{step}.json"))
    }

    /// Puts the files into a folder that is removed with the result.
    async fn put(&self, files: &WorkspaceFiles) -> Result<tempfile::TempDir, InfraError> {
        let failed =
            |error: std::io::Error| InfraError::Failed(format!("writing the commit's files: {error}"));
        private_file::make_folder(&self.folder).map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("files-").tempdir_in(&self.folder).map_err(failed)?;
        for file in &files.files {
            write(folder.path(), file, &files.open).await.map_err(failed)?;
        }
        Ok(folder)
    }

    async fn command(&self, place: &Place<'_>, arguments: &[&str]) -> Result<Ended, InfraError> {
        let failed = |error: std::io::Error| InfraError::Failed(format!("running fleetwright: {error}"));
        let mut command = Command::new(OWN);
        command
            .arg("-C")
            .arg(place.root)
            .args(["-e", place.environment])
            .args(arguments)
            .current_dir(place.root)
            .env_remove(VARIABLE)
            .env("CI", "true")
            // Held open until the command has ended: one whose server is killed stops, and what it has begun continues.
            .env(ENDS_WITH_INPUT, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let (out, err, held) = (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let mut error: Option<String> = None;
        let mut said = |line: &str| {
            (place.lines)(line);
            if let Some(reason) = line.trim().strip_prefix("error: ") {
                error = Some(reason.to_owned());
            }
        };
        let (stdout, (), status) = tokio::join!(
            output::bounded(out, OUTPUT_MOST),
            output::read(err, &self.mask, &mut said),
            child.wait()
        );
        drop(held);
        group.0 = None;
        let status = status.map_err(failed)?.code();
        Ok(Ended { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), error })
    }

    fn say(&self, place: &Place<'_>, text: &str) {
        text.lines().for_each(|line| (place.lines)(&self.mask.mask(line)));
    }

    /// Makes a plan and keeps it at `file`.
    async fn plan(
        &self,
        place: &Place<'_>,
        file: &Path,
        stacks: &[String],
    ) -> Result<(SavedPlan, String), InfraError> {
        let shown = file.display().to_string();
        let mut arguments = vec!["plan", "--markdown", "--out", &shown];
        arguments.extend(stacks.iter().map(String::as_str));
        let ended = self.command(place, &arguments).await?;
        if !matches!(ended.status, Some(0 | CHANGES)) {
            self.say(place, &ended.stdout);
            return Err(InfraError::Failed(ended.reason("plan")));
        }
        Ok((kept(file)?, ended.stdout))
    }

    async fn planned(
        &self,
        place: &Place<'_>,
        file: &Path,
        stacks: &[String],
        services: bool,
    ) -> Result<InfraEnd, InfraError> {
        let (saved, mut markdown) = self.plan(place, file, stacks).await?;
        self.say(place, &view::plan::human(&saved.plan, Paint(false)));
        let mut hash = saved.content_hash();
        let mut summary = view::plan::summary(&saved.plan).trim_start_matches("Plan: ").to_owned();
        let mut compared = None;
        if services {
            let ended = self.command(place, &["deploy", "--plan"]).await?;
            if !matches!(ended.status, Some(0 | CHANGES)) {
                self.say(place, &ended.stdout);
                return Err(InfraError::Failed(ended.reason("deploy --plan")));
            }
            self.say(place, &ended.stdout);
            let changes = ended.status == Some(CHANGES);
            compared = Some(changes);
            let text = self.mask.mask(ended.stdout.trim_end());
            hash.push_str(&short_hash(&text));
            if changes {
                summary.push_str(" Services change.");
                markdown.push_str(&format!("\n#### Services\n\n{}\n", fenced(&text)));
            }
        }
        let stacks = saved.plan.has_changes();
        Ok(InfraEnd::Planned { planned: Planned { hash, stacks, services: compared, summary }, markdown })
    }

    async fn apply(&self, place: &Place<'_>, request: &InfraRequest<'_>) -> Result<InfraEnd, InfraError> {
        let Some((step, planned)) = request.planned else {
            return Err(InfraError::Failed("nothing was planned".to_owned()));
        };
        let mut file = self.plan_of(request.run, *step);
        let first = kept(&file)?;
        if !planned.hash.starts_with(&first.content_hash()) {
            return Err(InfraError::Failed("the kept plan is not the one that was shown".to_owned()));
        }
        if request.resumed {
            // What was applied before the server stopped has moved, and only that may have.
            (place.lines)("looking at what is left of the plan");
            file = self.plan_of(request.run, request.step);
            let stacks: Vec<String> = first.plan.selected.iter().map(ToString::to_string).collect();
            let made = self.plan(place, &file, &stacks).await;
            let (rest, _) = made.map_err(|error| InfraError::Busy(error.to_string()))?;
            let beyond = rest.beyond(&first);
            if !beyond.is_empty() {
                return Err(InfraError::Failed(format!(
                    "what is left is more than was planned, in `{}`; `fleetwright pipeline retry {}` plans again",
                    beyond.join("`, `"),
                    request.run
                )));
            }
            if !rest.plan.has_changes() {
                return Ok(InfraEnd::Done { summary: planned.summary.clone() });
            }
        }
        let shown = file.display().to_string();
        let name = format!("{}-{}", first.plan.project, first.plan.environment);
        let mut arguments = vec!["apply", shown.as_str(), "--yes"];
        // Where people were asked, they have seen what is deleted; without that nothing is.
        if request.approved {
            arguments.extend(["--confirm", name.as_str()]);
        }
        let ended = self.command(place, &arguments).await?;
        self.say(place, &ended.stdout);
        match ended.status {
            Some(0) => Ok(InfraEnd::Done { summary: planned.summary.clone() }),
            // The command of a server that was killed has not stopped yet.
            _ if ended.reason("apply").contains(&format!(") {HAS_CHANGED} `{}`", place.environment)) => {
                Err(InfraError::Busy(ended.reason("apply")))
            }
            _ => Err(InfraError::Failed(ended.reason("apply"))),
        }
    }
}

impl Ended {
    fn reason(&self, command: &str) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => error.clone(),
            (None, Some(status)) => format!("`fleetwright {command}` ended with exit status {status}"),
            (None, None) => format!("`fleetwright {command}` was ended by a signal"),
        }
    }
}

#[async_trait]
impl Infra for OwnCommands {
    async fn perform(&self, request: InfraRequest<'_>, lines: Lines<'_>) -> Result<InfraEnd, InfraError> {
        let folder = self.put(&request.files).await?;
        let root = inside(folder.path(), &request.spec.folder)
            .map_err(|error| InfraError::Failed(error.to_string()))?;
        if !root.join("fleetwright.yaml").exists() {
            return Err(InfraError::Failed(format!(
                "the commit has no fleetwright.yaml in `{}`; the step's `folder` says where it lies",
                request.spec.folder
            )));
        }
        let place = Place { root: &root, environment: request.environment, lines };
        match &request.spec.work {
            InfraWork::Plan { stacks, services } => {
                let failed = |error: std::io::Error| InfraError::Failed(format!("keeping the plan: {error}"));
                private_file::make_folder(&self.plans(request.run)).map_err(failed)?;
                let file = self.plan_of(request.run, request.step);
                self.planned(&place, &file, stacks, *services).await
            }
            InfraWork::Apply { .. } => self.apply(&place, &request).await,
            InfraWork::Deploy { services } => {
                let mut arguments = vec!["deploy", "--yes"];
                arguments.extend(services.iter().map(String::as_str));
                let ended = self.command(&place, &arguments).await?;
                self.say(&place, &ended.stdout);
                match ended.status {
                    Some(0) => Ok(InfraEnd::Done { summary: "deployed".to_owned() }),
                    _ => Err(InfraError::Failed(ended.reason("deploy"))),
                }
            }
            InfraWork::Drift { stacks } => {
                let mut arguments = vec!["drift"];
                arguments.extend(stacks.iter().map(String::as_str));
                let ended = self.command(&place, &arguments).await?;
                self.say(&place, &ended.stdout);
                match ended.status {
                    Some(0) => Ok(InfraEnd::Done { summary: "no drift".to_owned() }),
                    Some(CHANGES) => {
                        let last = ended.stdout.lines().rfind(|line| !line.trim().is_empty());
                        let last = last.map(|line| format!(": {}", line.trim())).unwrap_or_default();
                        Err(InfraError::Failed(format!(
                            "something was changed behind CloudFormation's back{last}"
                        )))
                    }
                    _ => Err(InfraError::Failed(ended.reason("drift"))),
                }
            }
        }
    }

    fn kept(&self) -> Vec<RunId> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok().map(RunId)).collect()
    }

    fn clear(&self, run: RunId) {
        match std::fs::remove_dir_all(self.plans(run)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(run = run.0, %error, "removing the plans of a run");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

/// Reads a plan that is kept.
fn kept(file: &Path) -> Result<SavedPlan, InfraError> {
    plan_file::read(file).map_err(|problem| InfraError::Failed(problem.message.clone()))
}

fn short_hash(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// `text` as a block of code, with a fence that is longer than any inside.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{text}\n{fence}")
}

/// A path of the commit in `root`, which it does not leave.
fn inside(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    let relative = Path::new(path);
    let stays = relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays {
        Ok(root.join(relative))
    } else {
        Err(std::io::Error::other(format!("`{path}` leaves the commit")))
    }
}

/// Writes one entry. A link that leads out of the commit would show the machine's own files in a plan, and is left out.
async fn write(root: &Path, file: &ContextFile, open: &Open) -> std::io::Result<()> {
    let path = inside(root, &file.path)?;
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    let mode = match file.kind {
        EntryKind::File => 0o600,
        EntryKind::Executable => 0o700,
        EntryKind::Link if stays(&file.path, &file.target) => {
            return tokio::fs::symlink(&file.target, path).await;
        }
        EntryKind::Folder => return tokio::fs::create_dir_all(path).await,
        EntryKind::Link | EntryKind::Submodule => return Ok(()),
    };
    let mut written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).await?;
    tokio::io::copy(&mut StreamReader::new(open(&file.blob)), &mut written).await?;
    written.flush().await
}

/// Whether a link at `path` leads to something in the commit. `..` may stand only at the beginning: behind a name it is
/// where that leads which counts, and that can be another link.
fn stays(path: &str, target: &str) -> bool {
    let mut depth = Path::new(path).components().count().saturating_sub(1);
    let mut named = false;
    Path::new(target).components().all(|part| match part {
        Component::Normal(_) => {
            named = true;
            true
        }
        Component::CurDir => true,
        Component::ParentDir => {
            let up = depth.checked_sub(1);
            depth = up.unwrap_or_default();
            up.is_some() && !named
        }
        Component::RootDir | Component::Prefix(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_commit() {
        for (path, target, fine) in [
            ("a", "b", true),
            ("a/b", "../c", true),
            ("a/b", "./c/d", true),
            ("a", "../c", false),
            ("a", "/etc/passwd", false),
            ("a/b", "../../c", false),
            // `d` may be a link to `.`.
            ("a", "d/../c", false),
            ("a/b/c", "../d/..", false),
        ] {
            assert_eq!(stays(path, target), fine, "{path} -> {target}");
        }
    }

    #[test]
    fn paths_do_not_leave_the_commit() {
        let root = Path::new("/root");
        assert!(inside(root, ".").is_ok() && inside(root, "infra/aws").is_ok());
        assert!(inside(root, "../x").is_err() && inside(root, "/etc").is_err());
    }

    #[test]
    fn a_fence_is_longer_than_any_inside() {
        assert_eq!(fenced("a"), "```\na\n```");
        assert_eq!(fenced("````"), "`````\n````\n`````");
    }
}
