//! The pages: plain HTML with one style and one script, both in the page, whose hashes
//! the content security policy names. Everything that is not ours is escaped.

use std::fmt::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::pipeline::Seen;
use crate::model::machine::{Machine, MachineState};
use crate::model::run::{ReleaseStage, Run, RunState, RunStep, StepResult, StepState};
use crate::model::service::{
    Instance, InstanceState, PreDeployState, Revision, RevisionState, ServiceStatus,
};
use crate::view::pipeline::took;
use crate::view::time::human;
use crate::view::words::count;

const STYLE: &str = include_str!("pages.css");
const SCRIPT: &str = include_str!("pages.js");

/// Nothing from elsewhere, and only this style and this script.
pub(super) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        )
    });
    &POLICY
}

/// Text that is not ours, harmless in HTML and in quoted attributes.
fn esc(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(title: &str, project: &str, environment: &str, main: &str) -> String {
    // A small filled square: without one, browsers ask for /favicon.ico.
    let icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Cpath fill='%231456b8' d='M1 1h2v6H1zM4 3h3v1H4zM4 5h2v1H4z'/%3E%3C/svg%3E";
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><link rel=\"icon\" href=\"{icon}\"><style>{STYLE}</style></head>\n<body>\
         <header><div><a href=\"/\">{project}</a><span class=\"soft\">environment {environment}</span></div></header>\n\
         <main>{main}</main>\n<script>{SCRIPT}</script></body></html>\n",
        title = esc(title),
        project = esc(project),
        environment = esc(environment),
    )
}

/// What runs, where, and what happened last.
pub(super) fn home(
    project: &str,
    environment: &str,
    runs: &[Run],
    seen: &Seen,
    now: DateTime<Utc>,
) -> String {
    let mut main = String::from("<h1>Services</h1><section id=\"cluster\" data-live>");
    if let Some(lost) = &seen.lost {
        let since =
            seen.snapshot.as_ref().map(|(_, at)| format!(" Below is what it said {}.", ago(*at, now)));
        let _ = write!(
            main,
            "<p class=\"notice\">The cluster does not answer: {}.{}</p>",
            esc(lost.trim_end_matches('.')),
            since.unwrap_or_default()
        );
    }
    match &seen.snapshot {
        None if seen.lost.is_none() => main.push_str("<p class=\"soft\">Asking the cluster…</p>"),
        None => {}
        Some((snapshot, _)) => {
            if snapshot.services.is_empty() {
                main.push_str("<p class=\"soft\">No service runs yet.</p>");
            }
            for status in &snapshot.services {
                service(&mut main, status, now);
            }
            machines(&mut main, &snapshot.machines);
        }
    }
    main.push_str("</section><h2>Runs</h2><section id=\"runs\" data-live>");
    if runs.is_empty() {
        main.push_str("<p class=\"soft\">No pipeline has run yet. The next commit starts one.</p>");
    } else {
        main.push_str(
            "<div class=\"wrap\"><table class=\"rows\"><thead><tr><th>Run</th><th class=\"less\">Pipeline</th><th>State</th><th class=\"less\">Commit</th>\
             <th>Subject</th><th class=\"number less\">Took</th><th class=\"number\">Begun</th></tr></thead><tbody>",
        );
        for run in runs {
            run_row(&mut main, run, now);
        }
        main.push_str("</tbody></table></div>");
    }
    main.push_str("</section>");
    page(&format!("{project} · fleetwright"), project, environment, &main)
}

fn run_row(main: &mut String, run: &Run, now: DateTime<Utc>) {
    let why = run.reason.as_deref().map(|why| format!("<div class=\"why\">{}</div>", esc(why)));
    let _ = write!(
        main,
        "<tr><td class=\"tight\"><a href=\"/runs/{id}\">#{id}</a></td><td class=\"tight less\">{pipeline}</td>\
         <td>{state}</td><td class=\"tight less\"><code>{commit}</code></td>\
         <td class=\"wide\">{subject}{why}</td><td class=\"number less\">{took}</td><td class=\"number\">{begun}</td></tr>",
        id = run.id,
        pipeline = esc(run.pipeline.as_str()),
        state = run_state(run.state),
        commit = run.commit.short(),
        subject = esc(&run.subject),
        why = why.unwrap_or_default(),
        took = took(run, now).map_or_else(|| "–".to_owned(), human),
        begun = ago(run.started.unwrap_or(run.queued), now),
    );
}

fn service(main: &mut String, status: &ServiceStatus, now: DateTime<Utc>) {
    let health = if status.is_whole() { "good" } else { "bad" };
    let _ = write!(
        main,
        "<div class=\"service\"><b>{}</b><span class=\"state {health}\">{}/{} healthy</span>",
        esc(status.name.as_str()),
        status.healthy(),
        status.desired
    );
    if let Some(running) = status.history.iter().find(|revision| revision.state == RevisionState::Running) {
        let _ = write!(
            main,
            "<span>revision {}</span><code title=\"{}\">{}</code><span class=\"soft\">{}</span>",
            running.number,
            running.digest.as_ref().map_or("", |digest| digest.as_str()),
            running.image(),
            from(running, now)
        );
    }
    if let Some(newest) = status.history.first().filter(|revision| revision.state != RevisionState::Running) {
        let (class, words) = match newest.state {
            RevisionState::RollingOut
                if matches!(newest.pre_deploy, Some(PreDeployState::Waiting | PreDeployState::Running)) =>
            {
                ("busy", "runs its pre_deploy")
            }
            RevisionState::RollingOut => ("busy", "is rolling out"),
            RevisionState::RolledBack => ("bad", "was rolled back"),
            RevisionState::Failed => ("bad", "failed"),
            RevisionState::Replaced | RevisionState::Running => ("", "was replaced"),
        };
        let why = newest.reason.as_deref().map(|why| format!("<span class=\"{class}\">{}</span>", esc(why)));
        let _ = write!(
            main,
            "<span class=\"state {class}\">revision {} {words}</span>{}<span class=\"soft\">{}</span>",
            newest.number,
            why.unwrap_or_default(),
            from(newest, now)
        );
    }
    main.push_str("</div>");
    if status.instances.is_empty() {
        return;
    }
    main.push_str(
        "<div class=\"wrap\"><table class=\"rows\"><thead><tr><th>Instance</th><th>State</th><th>Machine</th><th>Address</th>\
         <th class=\"less\">Image</th><th class=\"number\">Since</th></tr></thead><tbody>",
    );
    for instance in &status.instances {
        instance_row(main, instance, now);
    }
    main.push_str("</tbody></table></div>");
}

fn from(revision: &Revision, now: DateTime<Utc>) -> String {
    let origin = &revision.origin;
    let commit = origin.commit.get(..7).unwrap_or("");
    let what = if commit.is_empty() {
        "by hand".to_owned()
    } else {
        format!("{}@{commit} “{}”", esc(&origin.repository), esc(&origin.subject))
    };
    format!("{what}, {}", ago(revision.since, now))
}

fn instance_row(main: &mut String, instance: &Instance, now: DateTime<Utc>) {
    let class = match instance.state {
        InstanceState::Healthy => "good",
        InstanceState::Starting | InstanceState::Stopping | InstanceState::Pending => "busy",
        InstanceState::Failed => "bad",
    };
    let addresses: Vec<String> = instance.addresses.iter().map(ToString::to_string).collect();
    let message = instance.message.as_deref().map(|why| format!("<div class=\"why\">{}</div>", esc(why)));
    let _ = write!(
        main,
        "<tr><td class=\"tight\">{}</td><td class=\"wide\"><span class=\"state {class}\">{}</span>{}</td>\
         <td class=\"tight\"><code>{}</code></td><td class=\"tight\"><code>{}</code></td>\
         <td class=\"tight less\"><code>{}</code></td><td class=\"number\">{}</td></tr>",
        esc(&instance.name),
        instance.state.word(),
        message.unwrap_or_default(),
        instance.machine.as_ref().map_or("–", |machine| machine.as_str()),
        if addresses.is_empty() { "–".to_owned() } else { addresses.join("<br>") },
        instance.digest.as_ref().map_or_else(|| "–".to_owned(), |digest| digest.short()),
        ago(instance.since, now),
    );
}

fn machines(main: &mut String, machines: &[Machine]) {
    if machines.is_empty() {
        return;
    }
    main.push_str(
        "<h2>Machines</h2><div class=\"wrap\"><table class=\"rows\"><thead><tr><th>Machine</th><th>State</th><th>Role</th>\
         <th>Address</th><th class=\"less\">Zone</th><th class=\"less\">Group</th></tr></thead><tbody>",
    );
    for machine in machines {
        let class = match machine.state {
            MachineState::Ready => "good",
            MachineState::Paused | MachineState::Draining | MachineState::Rebooting => "busy",
            MachineState::Down => "bad",
        };
        let _ = write!(
            main,
            "<tr><td class=\"tight\"><code>{}</code></td><td><span class=\"state {class}\">{}</span></td>\
             <td class=\"tight\">{}{}</td><td class=\"tight\"><code>{}</code></td>\
             <td class=\"tight less\">{}</td><td class=\"wide less\">{}</td></tr>",
            esc(machine.id.as_str()),
            machine.state.word(),
            machine.role.word(),
            if machine.leader { ", leader" } else { "" },
            machine.address,
            esc(machine.metadata.get("zone").map_or("–", String::as_str)),
            esc(&machine.group),
        );
    }
    main.push_str("</tbody></table></div>");
}

/// One run: what it is, its steps, its log.
pub(super) fn run(project: &str, environment: &str, run: &Run, now: DateTime<Utc>) -> String {
    let mut main = String::from("<section id=\"summary\" data-live>");
    let _ = write!(
        main,
        "<h1>{} #{} <span class=\"soft\">{}</span></h1><p>{} &nbsp; <code>{}</code> of {} &nbsp; \
         <span class=\"soft\">{}, {}{}</span></p>",
        esc(run.pipeline.as_str()),
        run.id,
        esc(&run.subject),
        run_state(run.state),
        run.commit.short(),
        esc(run.repository.as_str()),
        run.trigger.words(),
        ago(run.started.unwrap_or(run.queued), now),
        took(run, now).map(|took| format!(", took {}", human(took))).unwrap_or_default(),
    );
    if let Some(reason) = &run.reason {
        let bad = matches!(run.state, RunState::Failed | RunState::Quarantined);
        let class = if bad { "notice failed" } else { "notice" };
        let _ = write!(main, "<p class=\"{class}\">{}</p>", esc(reason));
    }
    if !run.steps.is_empty() {
        main.push_str(
            "<div class=\"wrap\"><table class=\"rows\"><thead><tr><th>Step</th><th>State</th><th>Result</th>\
             <th class=\"number\">Took</th></tr></thead><tbody>",
        );
        for step in &run.steps {
            step_row(&mut main, step, now);
        }
        main.push_str("</tbody></table></div>");
    }
    let follow = if run.state.is_ended() { "" } else { " data-follow=\"1\"" };
    let _ = write!(
        main,
        "</section><h2>Log</h2><noscript><p><a href=\"/v1/runs/{id}/log\">The log as a stream of JSON</a></p></noscript>\
         <div id=\"log\" role=\"log\" data-run=\"{id}\"{follow}></div>",
        id = run.id
    );
    page(&format!("{} #{} · {project}", run.pipeline, run.id), project, environment, &main)
}

fn step_row(main: &mut String, step: &RunStep, now: DateTime<Utc>) {
    let (class, result) = match &step.state {
        StepState::Waiting | StepState::Skipped => ("", String::new()),
        StepState::Inspecting | StepState::Building { .. } | StepState::Pushing { .. } => {
            ("busy", String::new())
        }
        StepState::Preparing | StepState::Creating { .. } | StepState::Executing { attempt: 1, .. } => {
            ("busy", String::new())
        }
        StepState::Executing { attempt, .. } => ("busy", format!("try {attempt}")),
        StepState::Collecting { .. } | StepState::Asking { .. } | StepState::Deploying { .. } => {
            ("busy", String::new())
        }
        StepState::Following { revision } => ("busy", format!("revision {revision}")),
        StepState::Releasing { revisions, stage: ReleaseStage::Back { reason }, .. } => {
            ("bad", format!("taking {} back: {}", revisions.len(), esc(reason)))
        }
        StepState::Releasing { before, revisions, .. } => {
            ("busy", format!("{} of {}", revisions.len(), before.len()))
        }
        StepState::Succeeded { result: StepResult::Release(services) } => {
            let each =
                services.iter().map(|one| format!("{} revision {}", esc(one.service.as_str()), one.revision));
            ("good", each.collect::<Vec<_>>().join(", "))
        }
        StepState::Succeeded { result: StepResult::Image(image) } => {
            let how = match &image.same_as {
                Some(same) => format!(
                    "nothing to build: same tree as <a href=\"/runs/{0}\">run {0}</a> ({1})",
                    same.run,
                    same.commit.short()
                ),
                None => "built and pushed".to_owned(),
            };
            ("good", format!("<code title=\"{}\">{}</code> {how}", image.digest, image.digest.short()))
        }
        StepState::Succeeded { result: StepResult::Source { files } } => ("good", count(*files, "file")),
        StepState::Succeeded { result: StepResult::Approved { by } } => ("good", format!("by {}", esc(by))),
        StepState::Succeeded { result: StepResult::Run { attempts: 1 } } => ("good", String::new()),
        StepState::Succeeded { result: StepResult::Run { attempts } } => {
            ("good", format!("at try {attempts}"))
        }
        StepState::Succeeded { result: StepResult::Rollout { service, revision } } => {
            ("good", format!("{} revision {revision}", esc(service.as_str())))
        }
        StepState::Failed { reason } => ("bad", esc(reason)),
    };
    let took = step.started.and_then(|started| (step.ended.unwrap_or(now) - started).to_std().ok());
    let _ = write!(
        main,
        "<tr><td class=\"tight\">{}</td><td><span class=\"state {class}\">{}</span></td>\
         <td class=\"wide\">{result}</td><td class=\"number\">{}</td></tr>",
        esc(&step.name),
        step.state.word(),
        took.map_or_else(|| "–".to_owned(), human),
    );
}

fn run_state(state: RunState) -> String {
    let class = match state {
        RunState::Succeeded => "good",
        RunState::Failed | RunState::Quarantined => "bad",
        RunState::Running | RunState::Queued => "busy",
        RunState::Cancelled | RunState::Superseded => "",
    };
    format!("<span class=\"state {class}\">{}</span>", state.word())
}

fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let since = (now - at).to_std().unwrap_or(Duration::ZERO);
    // Tenths of a second would only flicker.
    if since < Duration::from_secs(10) { "now".to_owned() } else { format!("{} ago", human(since)) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::run::{RunId, Trigger};
    use crate::port::cluster::Snapshot;

    fn run_named(subject: &str) -> Run {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        Run {
            id: RunId(7),
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "a".repeat(40).parse().expect("a commit"),
            subject: subject.to_owned(),
            trigger: Trigger::Poll,
            reference: None,
            parameters: Default::default(),
            asked_by: None,
            state: RunState::Failed,
            reason: Some(format!("build: {subject}")),
            queued: at,
            started: Some(at),
            ended: Some(at),
            config: None,
            steps: vec![RunStep {
                name: format!("build {subject}"),
                state: StepState::Failed { reason: subject.to_owned() },
                started: Some(at),
                ended: Some(at),
                files: Vec::new(),
                tests: None,
            }],
        }
    }

    /// Everything that can be long, `long` in each place.
    fn seen_with(long: &str) -> Seen {
        let since = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let service: ServiceStatus = serde_json::from_value(serde_json::json!({
            "name": "web",
            "desired": 2,
            "instances": [{
                "id": "x", "name": "web@1", "machine": "10-0-0-1", "addresses": ["10.0.0.1:8080"],
                "state": "failed", "digest": null, "message": long, "since": since,
            }],
            "history": [{
                "number": 2, "digest": null, "state": "failed", "reason": long, "since": since,
                "origin": {"repository": "web", "commit": "a".repeat(40), "subject": long},
            }],
        }))
        .expect("a service");
        let snapshot = Snapshot { version: 1, revision: 1, machines: Vec::new(), services: vec![service] };
        Seen { snapshot: Some((Arc::new(snapshot), since)), lost: Some(long.to_owned()) }
    }

    /// The classes and elements whose text the style keeps on one line.
    fn unbroken() -> Vec<&'static str> {
        let rules = STYLE.split('}').filter(|rule| rule.contains("white-space:nowrap"));
        let selectors = rules.filter_map(|rule| rule.split_once('{')).flat_map(|(list, _)| list.split(','));
        // In the header, what is too long ends in an ellipsis.
        let selectors = selectors.map(str::trim).filter(|selector| !selector.starts_with("header"));
        selectors.map(|selector| selector.rsplit('.').next().unwrap_or(selector)).collect()
    }

    #[test]
    fn what_may_be_long_is_never_kept_on_one_line() {
        let kept = unbroken();
        assert!(["state", "tight", "number", "th"].iter().all(|name| kept.contains(name)), "{kept:?}");
        let mut run_of = run_named("short");
        run_of.reason = Some("LONG".into());
        run_of.subject = "LONG".into();
        run_of.steps[0].state = StepState::Failed { reason: "LONG".into() };
        let now = DateTime::from_timestamp(1_700_000_100, 0).expect("a time");
        let pages = [
            home("p", "e", std::slice::from_ref(&run_of), &seen_with("LONG"), now),
            run("p", "e", &run_of, now),
        ];
        let mut found = 0;
        for html in pages {
            let body = html.split_once("<main>").expect("a main part").1;
            let mut open: Vec<&str> = Vec::new();
            for piece in body.split('<').skip(1) {
                let (tag, text) = piece.split_once('>').expect("a tag ends");
                match tag.strip_prefix('/') {
                    Some(_) => drop(open.pop()),
                    None => open.push(tag),
                }
                if text.contains("LONG") {
                    found += 1;
                    let classes = open.iter().flat_map(|tag| tag.split(['"', ' ']));
                    let bad: Vec<_> = classes.filter(|word| kept.contains(word)).collect();
                    assert!(bad.is_empty(), "{text} is in {open:?}");
                }
            }
        }
        assert_eq!(found, 9, "each place is looked at");
    }

    #[test]
    fn nothing_of_others_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'&";
        let now = DateTime::from_timestamp(1_700_000_100, 0).expect("a time");
        let seen = Seen { snapshot: None, lost: Some(evil.to_owned()) };
        for html in [home(evil, evil, &[run_named(evil)], &seen, now), run(evil, evil, &run_named(evil), now)]
        {
            let body = html.replace(SCRIPT, "").replace(STYLE, "");
            assert!(!body.contains("<script>alert"), "{body}");
            assert_eq!(body.matches("<script>").count(), 1);
            assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
        }
    }

    #[test]
    fn the_policy_names_the_style_and_script_of_the_page() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"));
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
