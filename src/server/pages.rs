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

pub(super) mod log_pages;
pub(super) mod views;

const STYLE: &str = include_str!("pages/style.css");
const SCRIPT: &str = include_str!("pages/script.js");

/// The templates, by their names.
const TEMPLATES: &[(&str, &str)] = &[
    ("layout.html", include_str!("pages/layout.html")),
    ("home.html", include_str!("pages/home.html")),
    ("login.html", include_str!("pages/login.html")),
    ("machine_rows.html", include_str!("pages/machine_rows.html")),
    ("machines.html", include_str!("pages/machines.html")),
    ("refused.html", include_str!("pages/refused.html")),
    ("run.html", include_str!("pages/run.html")),
    ("run_rows.html", include_str!("pages/run_rows.html")),
    ("runs.html", include_str!("pages/runs.html")),
    ("service_list.html", include_str!("pages/service_list.html")),
    ("services.html", include_str!("pages/services.html")),
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

    use super::super::page_routes::{
        home_page, list_page, login_page, machines_page, run_page_of, services_page,
    };
    use super::super::pipeline::Seen;
    use super::*;
    use crate::driver::pipeline::request::Offered;
    use crate::model::run::{Question, RunConfig, StepAction};
    use crate::model::run::{Run, RunId, RunState, RunStep, StepState, Trigger};
    use crate::model::service::ServiceStatus;
    use crate::model::step_files::{FailedTest, StepFile, TestReport};
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
        let snapshot = Snapshot { version: 1, revision: 1, machines: Vec::new(), services: vec![service] };
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
        }
    }

    fn offered() -> Offered {
        let source =
            GitSource { name: "web".parse().expect("a name"), url: "x".into(), branch: "main".into() };
        Offered { name: "web".parse().expect("a name"), source, steps: Vec::new(), parameters: Vec::new() }
    }

    /// Every page, with `text` wherever others may have written something.
    fn all(frame: &Frame, run: &Run, seen: &Seen, text: &str) -> Vec<String> {
        let now = DateTime::from_timestamp(1_700_000_100, 0).expect("a time");
        let pipelines = vec![views::PipelineView::new(&offered(), Some(run), vec![8, 9], seen, now)];
        vec![
            home_page(frame, pipelines, std::slice::from_ref(run), seen, now),
            run_page_of(frame, run, &log_pages::tests::of(run, text), now),
            list_page(frame, &["web".to_owned()], std::slice::from_ref(run), &Default::default(), None, now),
            services_page(frame, seen, now),
            machines_page(frame, seen, now),
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
