//! What the demo shows at its end.

use std::path::Path;

use crate::model::service::RevisionState;

use super::super::failure::Failure;
use super::journey::Outcome;
use super::probe::Report;
use super::stage::Stage;
use crate::local::home::Home;

/// Says in a line what the visitor saw so far.
pub fn visitor(stage: &Stage, report: &Report) {
    stage.say(&visitor_line(report));
}

fn visitor_line(report: &Report) -> String {
    let answers: Vec<_> = report.answers.iter().map(|(answer, count)| format!("{answer} {count}×")).collect();
    format!(
        "visitor: {} requests, {} failed, slowest {} ms   ({})",
        report.requests,
        report.failures,
        report.slowest_ms,
        answers.join(", ")
    )
}

/// The last screen: stacks, machines, the service, its history, the visitor, and what to do next.
///
/// # Errors
/// When one of the commands it shows fails.
pub async fn last(stage: &Stage, outcome: &Outcome, application: &Path) -> Result<(), Failure> {
    if stage.json() {
        stage.result(&serde_json::json!({
            "version": 1,
            "result": {
                "probe": outcome.probe,
                "service": outcome.service,
                "unit": outcome.unit,
                "failed": outcome.failed,
                "machines": outcome.machines,
                "rolled": outcome.rolled,
                "seconds": outcome.took.as_secs(),
                "page": outcome.page,
            }
        }));
        return Ok(());
    }
    stage.say("\n────────────────────────────────────────────────────────────────────────");
    stage.run(&["plan"], &[0]).await?;
    stage.run(&["local", "status"], &[0]).await?;
    stage.run(&["machines"], &[0]).await?;
    stage.run(&["status"], &[0]).await?;
    stage.say("");
    for line in &outcome.probe.failed {
        stage.say(&format!("failed: {line}"));
    }
    stage.say(&visitor_line(&outcome.probe));
    stage.say(&format!("workers rolled: {} replaced", outcome.rolled.len()));
    stage.say(&format!("the whole journey took {}", crate::view::time::human(outcome.took)));
    let home = Home::from_env()?;
    stage.say(&format!(
        "
What next
  look at the page          {page} (the token is in {password})
  speak to it yourself      export FLEETWRIGHT_HOME={home} DEMO_WEB_REPOSITORY={app}
                            eval \"$(fleetwright local env)\" && cd {infra}
  push a commit yourself    cd {app} && echo mine > www/index.html && echo ok > www/health
                            git add -A && git commit -m \"My own\" && fleetwright -C {infra} status web --watch
  start your own            fleetwright init shop
  remove all of this        make clean-local",
        page = outcome.page,
        password = outcome.password.display(),
        home = home.root().display(),
        app = application.display(),
        infra = stage.infra().display(),
    ));
    Ok(())
}

/// Whether the demo showed what it claims.
///
/// # Errors
/// When a request failed, the history is not v1, v2, v3 rolled back, or something else than its tests ended v4.
pub fn verdict(outcome: &Outcome) -> Result<(), Failure> {
    let states: Vec<_> = outcome.service.history.iter().rev().map(|revision| revision.state).collect();
    let wanted = [RevisionState::Replaced, RevisionState::Running, RevisionState::RolledBack];
    if states != wanted {
        return Err(Failure::failed(
            format!("the service's history is {states:?} and should be {wanted:?}"),
            "see `fleetwright status web`",
        ));
    }
    if !outcome.failed.starts_with("run test: ") {
        return Err(Failure::failed(
            format!("v4 should fail its tests, and its run says: {}", outcome.failed),
            "see `fleetwright pipeline list`",
        ));
    }
    if outcome.probe.failures > 0 || outcome.probe.requests == 0 {
        return Err(Failure::failed(
            format!("{} of the visitor's {} requests failed", outcome.probe.failures, outcome.probe.requests),
            "see the failed requests above and `fleetwright logs web`",
        ));
    }
    Ok(())
}
