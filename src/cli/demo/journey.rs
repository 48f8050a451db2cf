//! The steps of the demo, in order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::model::machine::{Machine, MachineState, Role};
use crate::model::name::{LocalName, MachineId};
use crate::model::service::{RevisionState, ServiceStatus};
use crate::port::cluster::Snapshot;

use super::super::context::Context;
use super::super::failure::Failure;
use super::super::page_token::page_token_file;
use super::super::pipelines::state_folder;
use super::application::{Application, Version, commit_all};
use super::probe::{Probe, Report};
use super::stage::Stage;
use super::{infra, screen, server};

/// How many steps are shown.
const STEPS: usize = 11;
/// The service that the demo's application is.
const SERVICE: &str = "web";
/// The service that is a unit of systemd on every worker.
const UNIT: &str = "load";
/// Where the fleet is described.
const STACKS: &str = "stacks/cluster.yaml";
/// The workers' setting, a line of their cloud-config, that the demo changes.
const EDIT: (&str, &str) = ("log_max_size: 10m", "log_max_size: 50m");
/// The fleet that stacks/ describes.
const CONTROL_MACHINES: usize = 3;
const WORKERS: usize = 2;

/// What the demo found at its end.
#[derive(Debug)]
pub struct Outcome {
    /// What the visitor saw.
    pub probe: Report,
    /// The service.
    pub service: ServiceStatus,
    /// The service that is a unit.
    pub unit: ServiceStatus,
    /// Why the run of the commit that fails its tests has failed.
    pub failed: String,
    /// The machines.
    pub machines: Vec<Machine>,
    /// The workers before the roll; none of them is left.
    pub rolled: Vec<MachineId>,
    /// How long it took.
    pub took: Duration,
    /// Where the page is.
    pub page: String,
    /// The file with what it asks for.
    pub password: PathBuf,
}

/// Runs the demo from its beginning, whatever an earlier one left.
///
/// # Errors
/// When a step fails, or the visitor saw a failure.
pub async fn run(context: &Context, name: &LocalName) -> Result<(), Failure> {
    let folder = super::folder(name.as_str())?;
    let root = context.root()?;
    std::fs::create_dir_all(&folder).map_err(|error| {
        Failure::failed(
            format!("making {}: {error}", folder.display()),
            "set FLEETWRIGHT_HOME to another folder",
        )
    })?;
    server::stop(&folder);
    infra::copy(&root, &folder.join("infra"))?;
    let application = Application::create(&folder.join("web"))?;
    let mut stage = Stage::new(context, folder.join("infra"), STEPS)?;
    stage.extend_env([
        ("DEMO_WEB_REPOSITORY".into(), application.path().display().to_string()),
        ("FLEETWRIGHT_LOCAL_NAME".into(), name.to_string()),
    ]);

    prepare(&mut stage, &folder).await?;
    fleet(&mut stage).await?;

    let port = server::free_port()?;
    let page = format!("http://127.0.0.1:{port}/");
    stage.step("A commit becomes a running service");
    let first = application.commit(Version::First)?;
    server::start(&folder, stage.command(&["serve", "--listen", &format!("127.0.0.1:{port}")]))?;
    stage.say(&format!("$ fleetwright serve      page: {page}"));
    wait_for_revision(&stage, &first, RevisionState::Running).await?;
    stage.run(&["status", SERVICE], &[0]).await?;

    let probe = {
        let watch = stage.command(&["status", SERVICE, "--watch", "--output", "json"]);
        let template = watch.as_std();
        let program = template.get_program().to_owned();
        let arguments: Vec<_> = template.get_args().map(ToOwned::to_owned).collect();
        let env: Vec<_> =
            template.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
        let cwd = stage.infra().to_owned();
        Probe::start(move || {
            let mut command = tokio::process::Command::new(&program);
            command.args(&arguments).envs(env.iter().cloned()).current_dir(&cwd);
            command
        })
    };
    stage.say("From here on a visitor asks the service 20 times a second, each time on a new connection.");

    stage.step("A systemd unit runs on every worker");
    stage.run(&["deploy", UNIT, "--yes"], &[0]).await?;
    stage.run(&["logs", UNIT], &[0]).await?;

    stage.step("A second commit rolls out");
    let second = application.commit(Version::Second)?;
    stage.say(&format!("$ git commit -m v2       {}", &second[..7]));
    wait_for_revision(&stage, &second, RevisionState::Running).await?;
    screen::visitor(&stage, &probe.report());

    stage.step("A broken third commit rolls back by itself");
    let third = application.commit(Version::Broken)?;
    stage.say(&format!("$ git commit -m v3       {}", &third[..7]));
    wait_for_revision(&stage, &third, RevisionState::RolledBack).await?;
    stage.run(&["status", SERVICE], &[0]).await?;
    screen::visitor(&stage, &probe.report());

    stage.step("A fourth commit fails its tests and is not deployed");
    let fourth = application.commit(Version::Untested)?;
    stage.say(&format!("$ git commit -m v4       {}", &fourth[..7]));
    let failed = wait(&stage, &format!("{} to fail its tests", &fourth[..7]), || async {
        let runs = stage.ask(&["pipeline", "list", "--output", "json"]).await?;
        let runs: serde_json::Value = serde_json::from_str(&runs).ok()?;
        let run = runs["runs"].as_array()?.iter().find(|run| run["commit"] == fourth.as_str())?.clone();
        (run["state"] == "failed").then(|| run["reason"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    stage.run(&["pipeline", "list"], &[0]).await?;
    screen::visitor(&stage, &probe.report());

    let rolled = roll(&mut stage).await?;
    let report = probe.finish().await;
    let unit = wait(&stage, "the unit to run on the new workers", || async {
        named(&snapshot(&stage).await?, UNIT).filter(ServiceStatus::is_whole)
    })
    .await?;
    let snapshot = snapshot(&stage).await.ok_or_else(unreachable_cluster)?;
    let service = named(&snapshot, SERVICE)
        .ok_or_else(|| Failure::failed("the service is gone from the cluster", "see `fleetwright status`"))?;
    let project = context.project()?.project;
    let password = page_token_file(&state_folder(project.as_str())?);
    let outcome = Outcome {
        probe: report,
        service,
        unit,
        failed,
        machines: snapshot.machines,
        rolled,
        took: stage.elapsed(),
        page,
        password,
    };
    screen::last(&stage, &outcome, application.path()).await?;
    screen::verdict(&outcome)
}

/// Steps 1 and 2: what needs no cloud is shown while the cloud is prepared.
async fn prepare(stage: &mut Stage, folder: &Path) -> Result<(), Failure> {
    let log_path = folder.join("local-up.log");
    let log =
        std::fs::File::create(&log_path).and_then(|log| Ok((log.try_clone()?, log))).map_err(|error| {
            Failure::failed(format!("writing {}: {error}", log_path.display()), "free some space")
        })?;
    let mut up =
        stage.command(&["local", "up"]).stdout(log.0).stderr(log.1).kill_on_drop(true).spawn().map_err(
            |error| Failure::failed(format!("starting `fleetwright local up`: {error}"), "run it by hand"),
        )?;

    stage.step("A repository that describes a fleet");
    stage.run(&["validate"], &[0]).await?;
    stage.run(&["plan", "--offline"], &[0, 3]).await?;

    stage.step("A cloud on this machine");
    stage.say("$ fleetwright local up");
    let mut shown = 0;
    let status = loop {
        let status = tokio::time::timeout(Duration::from_millis(300), up.wait()).await;
        let text = std::fs::read_to_string(&log_path).unwrap_or_default();
        let complete = text.rfind('\n').map_or(0, |at| at + 1);
        if complete > shown {
            stage.say(text[shown..complete].trim_end());
            shown = complete;
        }
        if let Ok(status) = status {
            break status;
        }
    };
    if !status.is_ok_and(|status| status.success()) {
        return Err(Failure::failed(
            "`fleetwright local up` failed; what it said stands above",
            "do what it asks for, then run the demo again",
        ));
    }
    let env = stage
        .ask(&["local", "env"])
        .await
        .ok_or_else(|| Failure::failed("`fleetwright local env` failed", "run it by hand to see why"))?;
    stage.extend_env(parse_exports(&env));
    Ok(())
}

fn commit(stage: &Stage, subject: &str) -> Result<(), Failure> {
    commit_all(stage.infra(), subject).map(drop).map_err(|error| {
        Failure::failed(format!("committing to the demo's infra repository: {error}"), "free some space")
    })
}

/// Steps 3 and 4: stacks, machines, a cluster.
async fn fleet(stage: &mut Stage) -> Result<(), Failure> {
    stage.step("Stacks and groups are planned and applied");
    stage.run(&["agent", "publish"], &[0]).await?;
    commit(stage, "The agent that machines run")?;
    stage.run(&["apply", "--yes"], &[0]).await?;

    stage.step("Machines boot from their cloud-config and form a cluster by themselves");
    wait(stage, "three control machines and two workers to be ready", || async {
        let snapshot = snapshot(stage).await?;
        let ready = |role| {
            snapshot.machines.iter().filter(|m| m.role == role && m.state == MachineState::Ready).count()
        };
        (ready(Role::Control) >= CONTROL_MACHINES && ready(Role::Worker) >= WORKERS).then_some(())
    })
    .await?;
    stage.run(&["machines"], &[0]).await?;
    // An earlier demo's service would not begin at revision 1.
    if snapshot(stage).await.is_some_and(|s| s.services.iter().any(|s| s.name.as_str() == SERVICE)) {
        stage.run(&["remove", SERVICE, "--yes"], &[0]).await?;
    }
    Ok(())
}

/// The last two steps: a line of cloud-config, planned down to the machines, and rolled.
async fn roll(stage: &mut Stage) -> Result<Vec<MachineId>, Failure> {
    stage.step("A changed line of cloud-config is planned down to the machines");
    infra::edit(stage.infra(), STACKS, "workers:", EDIT.0, EDIT.1)?;
    commit(stage, "Keep longer logs")?;
    stage.say(&format!("$ sed -i '/^workers:/,$ s/{}/{}/' {STACKS}", EDIT.0, EDIT.1));
    stage.run(&["plan"], &[3]).await?;

    stage.step("The workers are rolled");
    stage.run(&["apply", "--yes"], &[0]).await?;
    let before = workers(&snapshot(stage).await.ok_or_else(unreachable_cluster)?);
    stage.run(&["roll", "workers", "--yes"], &[0]).await?;
    let after = workers(&snapshot(stage).await.ok_or_else(unreachable_cluster)?);
    match before.intersection(&after).next() {
        Some(left) => Err(Failure::failed(
            format!("worker {left} was there before the roll and still is"),
            "see `fleetwright machines` and run `fleetwright roll workers` again",
        )),
        None => Ok(before.into_iter().collect()),
    }
}

fn workers(snapshot: &Snapshot) -> BTreeSet<MachineId> {
    snapshot.machines.iter().filter(|m| m.role == Role::Worker).map(|m| m.id.clone()).collect()
}

fn named(snapshot: &Snapshot, name: &str) -> Option<ServiceStatus> {
    snapshot.services.iter().find(|service| service.name.as_str() == name).cloned()
}

fn unreachable_cluster() -> Failure {
    Failure::failed(
        "the cluster does not answer",
        "see `fleetwright machines` and `fleetwright local status`",
    )
}

async fn snapshot(stage: &Stage) -> Option<Snapshot> {
    serde_json::from_str(&stage.ask(&["status", "--output", "json"]).await?).ok()
}

/// Waits until the commit's revision is in `state` and the service is whole.
async fn wait_for_revision(stage: &Stage, commit: &str, state: RevisionState) -> Result<(), Failure> {
    let what = format!("{} to be {}", &commit[..7], state.words());
    wait(stage, &what, || async {
        let snapshot = snapshot(stage).await?;
        let service = named(&snapshot, SERVICE)?;
        let revision = service.history.iter().find(|revision| revision.origin.commit == commit)?;
        (revision.state == state && service.is_whole()).then_some(())
    })
    .await
}

/// Asks twice a second until there is an answer, and gives up after five minutes.
async fn wait<T, F: Future<Output = Option<T>>>(
    stage: &Stage,
    what: &str,
    ask: impl Fn() -> F,
) -> Result<T, Failure> {
    const LIMIT: Duration = Duration::from_secs(300);
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            stage.say(&format!("✓ {what}   {}", crate::view::time::human(begun.elapsed())));
            return Ok(answer);
        }
        if begun.elapsed() > LIMIT {
            return Err(Failure::failed(
                format!("waited {} for {what}", crate::view::time::human(LIMIT)),
                "see `fleetwright local status`, `fleetwright status` and the log serve.log beside the demo's repositories",
            ));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Reads the `export NAME='value'` lines of `local env`.
fn parse_exports(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports_are_read_back() {
        let text = "# comment\nexport A='1'\nexport B='http://x:1/?a=b'\n";
        assert_eq!(
            parse_exports(text),
            [("A".to_owned(), "1".to_owned()), ("B".to_owned(), "http://x:1/?a=b".to_owned())]
        );
    }
}
