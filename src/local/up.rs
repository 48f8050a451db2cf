//! `local up` and `local down`: preparing what is slow, starting and ending the supervisor.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use crate::event::local::LocalEvent;
use crate::event::{EventKind, Events};
use crate::model::name::LocalName;

use super::error::LocalError;
use super::home::{CloudFiles, Home, last_words, make_dir, open_log, remove_dir};
use super::image::{self, Release};
use super::machines::{self, Machines};
use super::state::{SERVES, State};
use super::{executable, venv};

/// How a cloud came to be up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Up {
    /// It was up before.
    Already,
    /// It was started.
    Started,
}

/// Prepares what is missing, starts the cloud unless it is up, and returns when it answers. The
/// images of all `releases` are prepared; the first is the one that machines run by default.
///
/// # Errors
/// When something can't be prepared or started; the error says what to do.
pub async fn up(
    home: &Home,
    name: &LocalName,
    releases: &[Release],
    events: &Events,
) -> Result<(Up, State), LocalError> {
    let release = releases.first().copied().unwrap_or_default();
    let files = home.cloud(name);
    make_dir(files.dir())?;
    // A newly built program is what new machines shall fetch, also when all else is up.
    executable::ensure(home, &files).await?;
    if State::is_supervised(&files) {
        replace_older_supervisor(&files).await;
    }
    if State::is_supervised(&files) {
        if !releases.is_empty() {
            images(home, releases, events).await?;
        }
        if let Some(state) = State::read(&files)
            && (state.ready || state.broken.is_some())
        {
            return unless_broken(name, Up::Already, state);
        }
        let state = wait_until_ready(&files, name, None).await?;
        return unless_broken(name, Up::Already, state);
    }
    let wanted = if releases.is_empty() { &[release] } else { releases };
    // The emulator waits for the network, the images for Docker: side by side.
    let (python, images) = tokio::join!(venv::ensure(home, events), images(home, wanted, events));
    let _python = python?;
    images?;

    let begun = std::time::Instant::now();
    let mut child = start_supervisor(&files, name, release)?;
    let state = wait_until_ready(&files, name, Some(&mut child)).await?;
    events.emit(EventKind::Local(LocalEvent::Finished {
        step: "local cloud".into(),
        outcome: format!(
            "AWS at http://127.0.0.1:{}, registry at 127.0.0.1:{}",
            state.ports.emulator, state.ports.registry
        ),
        seconds: begun.elapsed().as_secs_f64(),
        bytes: None,
    }));
    unless_broken(name, Up::Started, state)
}

/// Makes the images that are missing.
async fn images(home: &Home, releases: &[Release], events: &Events) -> Result<(), LocalError> {
    let docker = machines::connect().await?;
    for release in releases {
        image::ensure(&docker, home, *release, events).await?;
    }
    Ok(())
}

fn unless_broken(name: &LocalName, up: Up, state: State) -> Result<(Up, State), LocalError> {
    match &state.broken {
        Some(reason) => Err(LocalError::Broken { name: name.to_string(), reason: reason.clone() }),
        None => Ok((up, state)),
    }
}

/// Ends a supervisor of an earlier version that lacks what this program needs. It gets no chance to
/// stop its parts: they hold the cloud's state, and the next supervisor takes them over.
async fn replace_older_supervisor(files: &CloudFiles) {
    let Some(state) = State::read(files).filter(|state| state.serves < SERVES) else { return };
    let _ = kill(Pid::from_raw(state.supervisor.pid), Signal::SIGKILL);
    // Its lock is released with its last thread, after the process has stopped being listed as alive.
    let end = Instant::now() + Duration::from_secs(10);
    while State::is_supervised(files) && Instant::now() < end {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Starts the supervisor as a process that outlives this one.
fn start_supervisor(files: &CloudFiles, name: &LocalName, release: Release) -> Result<Child, LocalError> {
    let log = files.log("supervisor");
    let out = open_log(&log)?;
    let err = out.try_clone().map_err(LocalError::file("opening", &log))?;
    let program = std::env::current_exe()
        .map_err(LocalError::file("finding", std::path::Path::new("/proc/self/exe")))?;
    Command::new(&program)
        .args(["local", "supervise", "--name", name.as_str(), "--release", release.name()])
        .current_dir(files.dir())
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .map_err(LocalError::file("starting", &program))
}

async fn wait_until_ready(
    files: &CloudFiles,
    name: &LocalName,
    mut child: Option<&mut Child>,
) -> Result<State, LocalError> {
    let log = files.log("supervisor");
    let not_started = |reason: String| LocalError::NotStarted { reason, log: log.clone() };
    let end = Instant::now() + Duration::from_secs(150);
    loop {
        let supervised = State::is_supervised(files);
        // What the supervisor before this one wrote says nothing of this one.
        if supervised
            && let Some(state) = State::read(files)
            && state.supervisor.is_alive()
            && (state.ready || state.broken.is_some())
        {
            return Ok(state);
        }
        let ended = match &mut child {
            // One that found another at work ends well; that other one is waited for.
            Some(child) => child.try_wait().ok().flatten().is_some() && !State::is_supervised(files),
            None => !supervised,
        };
        if ended {
            return Err(not_started(last_words(&log, 3)));
        }
        if Instant::now() > end {
            return Err(not_started(format!("`{name}` was not up after 150 s")));
        }
        sleep(Duration::from_millis(25)).await;
    }
}

/// What `local down` removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Whether a supervisor was ended.
    pub supervisor: bool,
    /// How many machines were removed.
    pub machines: usize,
    /// Whether the environment and the image were removed as well.
    pub purged: bool,
}

/// Ends a cloud and removes all it started. With `purge` also what `up` prepared, unless
/// another cloud of this home is up. May be called again after any failure.
///
/// # Errors
/// When Docker does not answer while there may be machines, or files can't be removed.
pub async fn down(home: &Home, name: &LocalName, purge: bool) -> Result<Removed, LocalError> {
    let files = home.cloud(name);
    let mut removed = Removed { supervisor: end_supervisor(&files).await, ..Removed::default() };
    // Parts that a killed supervisor left.
    if let Some(state) = State::read(&files) {
        for part in [&state.registry, &state.emulator] {
            if let Some(process) = &part.process {
                process.stop(Duration::from_secs(3)).await;
            }
        }
    }
    let docker = match machines::connect().await {
        Ok(docker) => docker,
        // Nothing was ever started: there is nothing to remove in Docker either.
        Err(_) if !files.dir().exists() && !purge => return Ok(removed),
        Err(error) => return Err(error),
    };
    removed.machines = Machines::new(docker.clone(), name.clone(), files.clone()).remove_all().await?;
    remove_dir(files.dir())?;
    if purge {
        image::remove(&docker).await?;
        for dir in ["venv", "agent", "logs", "tmp"].map(|dir| home.root().join(dir)) {
            remove_dir(&dir)?;
        }
        removed.purged = true;
    }
    Ok(removed)
}

/// Ends the supervisor, which stops its parts; returns whether there was one.
async fn end_supervisor(files: &CloudFiles) -> bool {
    let Some(state) = State::read(files).filter(|_| State::is_supervised(files)) else { return false };
    let _ = kill(Pid::from_raw(state.supervisor.pid), Signal::SIGTERM);
    let end = Instant::now() + Duration::from_secs(15);
    while State::is_supervised(files) {
        if Instant::now() > end {
            state.supervisor.stop(Duration::ZERO).await;
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}
