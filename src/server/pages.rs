//! The pages: templates in files, with one style and one script, both in the page, whose hashes the content security
//! policy names. Everything that is not ours is escaped by the template engine.

use std::io::Write;
use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tera::{Context, Tera};

pub(super) mod cluster;
pub(super) mod home;
pub(super) mod log_pages;
pub(super) mod stacks;
pub(super) mod views;

const STYLE: &str = include_str!("pages/style.css");
const SCRIPT: &str = include_str!("pages/script.js");

/// The templates, by their names.
const TEMPLATES: &[(&str, &str)] = &[
    ("layout.html", include_str!("pages/layout.html")),
    ("deployed.html", include_str!("pages/deployed.html")),
    ("events.html", include_str!("pages/events.html")),
    ("home.html", include_str!("pages/home.html")),
    ("instances.html", include_str!("pages/instances.html")),
    ("login.html", include_str!("pages/login.html")),
    ("machine.html", include_str!("pages/machine.html")),
    ("machine_rows.html", include_str!("pages/machine_rows.html")),
    ("machines.html", include_str!("pages/machines.html")),
    ("refused.html", include_str!("pages/refused.html")),
    ("rollback.html", include_str!("pages/rollback.html")),
    ("run.html", include_str!("pages/run.html")),
    ("run_rows.html", include_str!("pages/run_rows.html")),
    ("runs.html", include_str!("pages/runs.html")),
    ("service.html", include_str!("pages/service.html")),
    ("service_list.html", include_str!("pages/service_list.html")),
    ("service_logs.html", include_str!("pages/service_logs.html")),
    ("services.html", include_str!("pages/services.html")),
    ("stacks.html", include_str!("pages/stacks.html")),
];

/// Nothing from elsewhere, and only this style and this script.
pub(super) fn content_security_policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        format!(
            "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
            hash(STYLE),
            hash(SCRIPT)
        )
    });
    &POLICY
}

fn templates() -> &'static Tera {
    static PARSED: LazyLock<Tera> = LazyLock::new(|| {
        let mut tera = Tera::new();
        tera.autoescape_on([".html"]);
        tera.set_escape_fn(escape);
        tera.add_raw_templates(TEMPLATES.iter().copied()).expect("a test parses them all");
        tera
    });
    &PARSED
}

/// Text that is not ours, harmless in HTML and in quoted attributes.
fn escape(text: &str, out: &mut dyn Write) -> std::io::Result<()> {
    for byte in text.bytes() {
        match byte {
            b'&' => out.write_all(b"&amp;")?,
            b'<' => out.write_all(b"&lt;")?,
            b'>' => out.write_all(b"&gt;")?,
            b'"' => out.write_all(b"&quot;")?,
            b'\'' => out.write_all(b"&#39;")?,
            byte => out.write_all(&[byte])?,
        }
    }
    Ok(())
}

/// What every page has around it.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Frame {
    /// The project.
    pub project: String,
    /// The environment.
    pub environment: String,
    /// Whether the pages are linked.
    pub nav: bool,
    /// The name of the caller's token.
    pub who: Option<String>,
    /// What forms bear; `None` where there is no session.
    pub csrf: Option<String>,
    /// Whether there are buttons.
    pub may_change: bool,
    /// What is wrong with the server itself, for those who have logged in.
    pub notices: Vec<String>,
    /// Whether the logs of services, and what they are configured with, may be read.
    pub may_read: bool,
}

/// Renders a page; `section` is the link that leads to it.
pub(super) fn render(template: &str, frame: &Frame, title: &str, section: &str, mut more: Context) -> String {
    more.insert("style", STYLE);
    more.insert("script", SCRIPT);
    more.insert("project", &frame.project);
    more.insert("environment", &frame.environment);
    more.insert("frame", frame);
    more.insert("section", section);
    more.insert("title", &format!("{title} · {}", frame.project));
    templates().render(template, &more).unwrap_or_else(|error| {
        // A test renders each of them.
        tracing::error!(template, %error, "a page was not rendered");
        "<!doctype html><title>fleetwright</title><p>this page can't be shown; the server's log says why"
            .to_owned()
    })
}

/// A page for a request that was not carried out.
pub(super) fn refused(frame: &Frame, status: StatusCode, message: &str, next: Option<&str>) -> Response {
    let mut more = Context::new();
    let heading = status.canonical_reason().unwrap_or("Refused");
    more.insert("heading", heading);
    more.insert("message", message);
    more.insert("next", &next);
    (status, Html(render("refused.html", frame, heading, "", more))).into_response()
}

/// Leads to `path` from a page of another site, whose requests bear no cookie of ours.
pub(super) fn again(path: &str) -> Response {
    let mut escaped = Vec::new();
    let written = escape(path, &mut escaped);
    let path = String::from_utf8(escaped).ok().filter(|_| written.is_ok()).unwrap_or_else(|| "/".to_owned());
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>fleetwright</title>\
         <meta http-equiv=\"refresh\" content=\"0;url={path}\"></head><body><a href=\"{path}\">Continue</a></body></html>\n"
    );
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use serde_json::json;

    use super::super::page_routes::{home_page, list_page, login_page, run_page_of};
    use super::super::pipeline::Seen;
    use super::super::service_pages::{
        Lines, logs_page, machine_page, machines_page, rollback_page, service_page, services_page,
        tests::read,
    };
    use super::super::stack_pages;
    use super::*;
    use crate::driver::pipeline::request::Offered;
    use crate::driver::stack_board::{Board, Checked, Listed, StackNow};
    use crate::model::deployed::{DeployedStack, PropertyChange};
    use crate::model::drift::DriftState;
    use crate::model::machine::Machine;
    use crate::model::name::StackName;
    use crate::model::run::{Question, RunConfig, StepAction};
    use crate::model::run::{Run, RunId, RunState, RunStep, StepState, Trigger};
    use crate::model::service::ServiceStatus;
    use crate::model::step_files::{FailedTest, StepFile, TestReport};
    use crate::model::timeline::{EventKind, EventPage, TimelineEvent};
    use crate::plan::drift::{DriftReport, Drifted, FoundBy, StackDrift};
    use crate::plan::run::tests::config;
    use crate::port::cluster::Snapshot;
    use crate::port::git::GitSource;

    fn run_named(subject: &str) -> Run {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        Run {
            id: RunId(7),
            pipeline: "web".parse().expect("a name"),
            repository: "web".parse().expect("a name"),
            commit: "a".repeat(40).parse().expect("a commit"),
            subject: subject.to_owned(),
            trigger: Trigger::Poll,
            reference: Some(format!("refs/heads/{subject}").try_into().expect("a branch")),
            parameters: [("VERSION".to_owned(), subject.to_owned())].into(),
            asked_by: Some(subject.to_owned()),
            state: RunState::Failed,
            reason: Some(format!("build: {subject}")),
            queued: at,
            started: Some(at),
            ended: Some(at),
            config: Some(RunConfig {
                steps: vec![StepAction::Source, StepAction::Approve(question(subject))],
                ..config()
            }),
            steps: vec![
                RunStep {
                    name: format!("build {subject}"),
                    state: StepState::Failed { reason: subject.to_owned() },
                    started: Some(at),
                    ended: Some(at),
                    files: vec![StepFile { path: format!("out/{subject}"), size: 7 }],
                    tests: Some(TestReport {
                        tests: 2,
                        failed: 1,
                        failures: vec![FailedTest { name: subject.to_owned(), message: subject.to_owned() }],
                        ..TestReport::default()
                    }),
                },
                RunStep {
                    name: "approve".to_owned(),
                    state: StepState::Asking { since: at, shown: "0f1e".to_owned() },
                    started: Some(at),
                    ended: None,
                    files: Vec::new(),
                    tests: None,
                },
            ],
        }
    }

    fn question(message: &str) -> Question {
        let level = crate::model::access::Level::Admin;
        Question { name: "approve".to_owned(), message: message.to_owned(), level }
    }

    /// Everything that can be long, `long` in each place.
    fn seen_with(long: &str) -> Seen {
        let since = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let origin = json!({"repository": "web", "commit": "a".repeat(40), "subject": long});
        let service: ServiceStatus = serde_json::from_value(json!({
            "name": "web",
            "desired": 2,
            "instances": [{
                "id": "x", "name": "web@1", "machine": "10-0-0-1", "addresses": ["10.0.0.1:8080"],
                "state": "failed", "digest": null, "message": long, "since": since,
            }],
            "history": [
                {"number": 2, "digest": null, "state": "failed", "reason": long, "since": since, "origin": origin},
                {"number": 1, "digest": null, "state": "running", "reason": null, "since": since, "origin": origin},
            ],
        }))
        .expect("a service");
        let machines = vec![machine(long)];
        let snapshot = Snapshot { version: 1, revision: 1, machines, services: vec![service] };
        Seen { snapshot: Some((Arc::new(snapshot), since)), lost: Some(long.to_owned()) }
    }

    fn frame(name: &str) -> Frame {
        Frame {
            project: name.to_owned(),
            environment: name.to_owned(),
            nav: true,
            who: Some(name.to_owned()),
            csrf: Some("token".to_owned()),
            may_change: true,
            notices: vec![name.to_owned()],
            may_read: true,
        }
    }

    fn offered() -> Offered {
        let source =
            GitSource { name: "web".parse().expect("a name"), url: "x".into(), branch: "main".into() };
        Offered { name: "web".parse().expect("a name"), source, steps: Vec::new(), parameters: Vec::new() }
    }

    fn machine(text: &str) -> Machine {
        serde_json::from_value(json!({
            "id": "10-0-0-1", "address": "10.0.0.1", "role": "worker", "state": "down", "leader": false,
            "group": "shop-test-workers", "metadata": {"zone": "a", "note": text},
            "pressure": {"disk": 99, "inodes": 3, "memory_available": 50},
        }))
        .expect("a machine")
    }

    fn page_of_events(text: &str) -> EventPage {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let event = TimelineEvent::new("x".into(), at, EventKind::Ended, text);
        let event = event.of(&"web".parse().expect("a name")).instance("web@1").by(text);
        let event = event.on(Some(&"10-0-0-1".parse().expect("an id"))).printed(&[text.to_owned()]);
        EventPage { version: 1, events: vec![event], missing: Vec::new() }
    }

    /// A stack that drifted, and one that can't be said anything of.
    fn board(text: &str) -> Board {
        let at = DateTime::from_timestamp(1_700_000_000, 0).expect("a time");
        let name: StackName = "workers".parse().expect("a name");
        let stack = StackNow {
            name: Some(name.clone()),
            cloud_name: "shop-test-workers".to_owned(),
            deployed: Some(DeployedStack {
                status: "UPDATE_ROLLBACK_FAILED".to_owned(),
                status_reason: text.to_owned(),
                updated: Some(at),
                ..DeployedStack::default()
            }),
            group: None,
            not_ours: None,
        };
        let drifted = Drifted {
            resource: "Group".to_owned(),
            resource_type: "AWS::AutoScaling::AutoScalingGroup".to_owned(),
            physical_id: text.to_owned(),
            state: DriftState::Modified,
            found_by: FoundBy::Fleetwright,
            differences: vec![PropertyChange {
                path: "MaxSize".to_owned(),
                before: Some(text.to_owned()),
                after: None,
            }],
            user_data: Some(text.to_owned()),
            note: Some(text.to_owned()),
        };
        let drift = StackDrift {
            stack: name,
            cloud_name: "shop-test-workers".to_owned(),
            checked: 2,
            drifted: vec![drifted],
            not_checked: Vec::new(),
        };
        let report = DriftReport {
            version: 1,
            project: "shop".parse().expect("a name"),
            environment: "test".parse().expect("a name"),
            region: "eu-west-1".to_owned(),
            stacks: vec![drift],
            absent: Vec::new(),
            not_ours: Vec::new(),
        };
        Board {
            listed: Some(Listed { at, result: Ok(vec![stack]) }),
            checking: Some((at, text.to_owned())),
            checked: Some(Checked { at, by: text.to_owned(), result: Ok(report) }),
        }
    }

    fn value(view: &impl Serialize) -> serde_json::Value {
        serde_json::to_value(view).expect("JSON")
    }

    /// Every page, with `text` wherever others may have written something.
    fn all(frame: &Frame, run: &Run, seen: &Seen, text: &str) -> Vec<String> {
        let now = DateTime::from_timestamp(1_700_000_100, 0).expect("a time");
        let offered = offered();
        let open = vec![Run { state: RunState::Running, ..run.clone() }];
        let pipelines = [home::PipelineRuns { offered: &offered, last: Some(run.clone()), open }];
        let home = value(&home::HomeView::new(&pipelines, seen, &board(text), now));
        let (snapshot, _) = seen.snapshot.clone().expect("a snapshot");
        let service = &snapshot.services[0];
        let web = &service.name;
        let events = page_of_events(text);
        let machines = [machine(text)];
        let why = crate::plan::why::why(&crate::plan::why::Known {
            service,
            machines: &machines,
            events: &events.events,
            placement: None,
        });
        let why = value(&cluster::WhyView::new(&why));
        let happened = value(&cluster::EventsView::new(&Ok(events), frame.may_read));
        let runs = [(2, 7)].into();
        let (lines, instances) = (read(text), ["web@1"].into());
        let chosen = Lines::default();
        let deployed = json!({
            "revision": 1, "image": "sha256:0", "digest": "sha256:0",
            "origin": {"repository": "web", "short": "aaaaaaa", "commit": "a".repeat(40), "subject": text},
        });
        let changes = json!([{"field": "env.A", "before": text, "after": "not set"}]);
        let stacks = stacks::StacksView::new(&board(text), seen, frame.may_read, now);
        let found = [("web".to_owned(), 1)];
        vec![
            home_page(frame, &home, std::slice::from_ref(run), seen, now),
            run_page_of(frame, run, &log_pages::tests::of(run, text), now),
            list_page(
                frame,
                &["web".to_owned()],
                (std::slice::from_ref(run), &found),
                &Default::default(),
                None,
                now,
            ),
            services_page(frame, seen, now),
            service_page(frame, seen, service, &runs, (why, happened.clone()), now),
            logs_page(frame, web, &chosen, &instances, &lines),
            rollback_page(frame, web, (deployed.clone(), deployed), &changes),
            machines_page(frame, seen, now),
            machine_page(frame, seen, &board(text), &machines[0], happened, now),
            stack_pages::render(frame, &value(&stacks)),
            login_page(frame, "/runs/7", Some(text)),
        ]
    }

    #[test]
    fn every_page_is_rendered_with_landmarks_and_without_what_nobody_may_do() {
        for html in all(&frame("shop"), &run_named("x"), &seen_with("x"), "x") {
            for part in [
                "<html lang=\"en\">",
                "class=\"skip\" href=\"#main\"",
                "<nav aria-label",
                "<main id=\"main\"",
                "<h1>",
            ] {
                assert!(html.contains(part), "no {part}: {html}");
            }
            assert!(!html.contains("can't be shown") && !html.contains("{{"), "{html}");
            assert!(!html.contains(" onclick=") && !html.contains(" style="), "{html}");
        }
        let viewer = Frame { may_change: false, ..frame("shop") };
        for html in all(&viewer, &run_named("x"), &seen_with("x"), "x") {
            assert!(
                !html.contains("/retry")
                    && !html.contains("/cancel")
                    && !html.contains("action=\"/pipelines")
                    && !html.contains("method=\"post\" action=\"/services")
                    && !html.contains("action=\"/stacks")
            );
        }
        let changing = all(&frame("shop"), &run_named("x"), &seen_with("x"), "x");
        assert!(changing[0].contains("action=\"/pipelines/web/runs\""));
        assert!(
            changing[1].contains("action=\"/runs/7/retry\"")
                && changing[1].contains("name=\"csrf\" value=\"token\"")
        );
        assert!(STYLE.len() + SCRIPT.len() < 100_000, "it loads at once");
    }

    /// The classes and elements whose text the style keeps on one line.
    fn unbroken() -> Vec<&'static str> {
        let rules = STYLE.split('}').filter(|rule| rule.contains("white-space:nowrap"));
        let selectors = rules.filter_map(|rule| rule.split_once('{')).flat_map(|(list, _)| list.split(','));
        selectors.map(|selector| selector.trim().rsplit('.').next().unwrap_or(selector)).collect()
    }

    #[test]
    fn what_may_be_long_is_never_kept_on_one_line() {
        let kept = unbroken();
        assert!(["state", "tight", "number", "th"].iter().all(|name| kept.contains(name)), "{kept:?}");
        let mut run_of = run_named("short");
        run_of.reason = Some("LONG".into());
        run_of.subject = "LONG".into();
        run_of.steps[0].state = StepState::Failed { reason: "LONG".into() };
        let mut found = 0;
        for html in all(&frame("shop"), &run_of, &seen_with("LONG"), "LONG") {
            let body = html.split_once("<main").expect("a main part").1.split_once('>').expect("a tag").1;
            let body = body.split_once("<script>").expect("the script comes last").0;
            let mut open: Vec<&str> = Vec::new();
            for piece in body.split('<').skip(1) {
                let (tag, text) = piece.split_once('>').expect("a tag ends");
                match tag.strip_prefix('/') {
                    Some(_) => drop(open.pop()),
                    None if tag.starts_with("br") || tag.starts_with("input") => {}
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
        assert!(found > 20, "each place is checked: {found}");
    }

    #[test]
    fn nothing_of_others_becomes_markup() {
        let evil = "<script>alert(1)</script>\"'&";
        let seen = seen_with(evil);
        for html in all(&frame(evil), &run_named(evil), &seen, evil) {
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
