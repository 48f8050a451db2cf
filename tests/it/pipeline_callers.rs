//! Who may do what on the page and the API of `serve`: tokens with roles, sessions of browsers, forms.

use reqwest::header::{ACCEPT, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::pipeline_serve::{Site, assert_no_secret};

const GOOD: &[u8] = b"FROM scratch\nCOPY . /srv\n";

/// A token that `serve token create` prints.
fn token(site: &Site, name: &str, role: &str) -> String {
    let (good, stdout, stderr) = site.run(&["serve", "token", "create", name, "--role", role]);
    assert!(good && stderr.contains("is not shown again"), "{stderr}");
    stdout.trim().to_owned()
}

async fn sent(request: RequestBuilder) -> Response {
    request.send().await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_says_what_a_token_may_do_and_its_name_is_recorded() {
    let site = Site::new();
    let (viewer, deployer) = (token(&site, "wall", "viewer"), token(&site, "anna", "deployer"));
    let (good, _, stderr) = site.run(&["serve", "token", "create", "anna", "--role", "admin"]);
    assert!(!good && stderr.contains("there is a token `anna` already"), "{stderr}");
    let serve = site.serve_quietly();
    site.origin.commit("first", &[("Dockerfile", GOOD)]);
    let client = Client::new();
    let url = |path: &str| format!("{}v1/{path}", serve.page);
    let list = |token: &str| client.get(url("runs")).bearer_auth(token);
    let start = |token: &str| client.post(url("pipelines/web/runs")).bearer_auth(token).json(&json!({}));

    assert_eq!(sent(list(&viewer)).await.status(), 200);
    let denied = sent(start(&viewer)).await;
    assert_eq!(denied.status(), StatusCode::FORBIDDEN);
    let denied: Value = denied.json().await.expect("JSON");
    assert_eq!(
        denied["error"]["message"],
        "token `wall` has the role viewer, and this needs the role deployer"
    );
    let queued = sent(start(&deployer)).await;
    assert_eq!(queued.status(), StatusCode::CREATED);
    site.wait_for("succeeded", |run| run["id"] == 1 && run["state"] == "succeeded");
    let log = sent(client.get(url("runs/1/log?follow=false")).bearer_auth(&viewer)).await;
    let log = log.text().await.expect("text");
    assert!(log.contains("\"what\":\"queued\"") && log.contains("\"by\":\"anna\""), "{log}");
    let page = sent(site.client().get(format!("{}runs/1", serve.page))).await.text().await.expect("text");
    assert!(page.contains("by anna") && !page.contains("method=\"post\""), "{page}");

    let (good, listed, _) = site.run(&["serve", "token", "list", "-o", "json"]);
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    assert!(good && listed["tokens"][0]["name"] == "anna" && listed["tokens"][1]["level"] == "viewer");
    assert!(!listed.to_string().contains(&deployer[9..]));
    let (good, _, stderr) = site.run(&["serve", "token", "revoke", "ana"]);
    assert!(!good && stderr.contains("did you mean `anna`?"), "{stderr}");
    assert!(site.run(&["serve", "token", "revoke", "anna"]).0);
    assert_eq!(sent(list(&deployer)).await.status(), StatusCode::UNAUTHORIZED, "at once");
    let (_, _, stderr) =
        site.run(&["serve", "token", "create", "late", "--role", "viewer", "--expires", "900d"]);
    assert!(stderr.contains("at most 366 days"), "{stderr}");
    assert_no_secret(site.folder.path());
}

/// The cookie that an answer sets, as a browser sends it back.
fn cookie(answer: &Response) -> String {
    let set = answer.headers()[SET_COOKIE].to_str().expect("text");
    assert!(set.contains("; HttpOnly") && set.contains("; SameSite=Strict"), "{set}");
    set.split(';').next().expect("a pair").to_owned()
}

/// What the forms of a page bear.
fn csrf(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("a form");
    rest.split_once('"').expect("its end").0.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_logs_in_and_only_its_own_forms_change_something() {
    let site = Site::new();
    let (deployer, late) = (token(&site, "anna", "deployer"), token(&site, "late", "deployer"));
    let serve = site.serve_quietly();
    site.origin.commit("first", &[("Dockerfile", GOOD)]);
    let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().expect("a client");
    let url = |path: &str| format!("{}{path}", serve.page);
    let page = |path: &str| client.get(url(path)).header(ACCEPT, "text/html");
    let form = |path: &str, body: &str| client.post(url(path)).body(body.to_owned());

    let away = sent(page("runs?state=failed")).await;
    assert_eq!(away.status(), StatusCode::SEE_OTHER);
    assert_eq!(away.headers()[LOCATION], "/login?next=/runs%3Fstate%3Dfailed");
    // A link on another site: its request bears no cookie, the next one does.
    let linked = sent(page("runs/1").header("sec-fetch-site", "cross-site")).await;
    assert_eq!(linked.status(), 200);
    assert!(linked.text().await.expect("text").contains("content=\"0;url=/runs/1\""));
    let asks = sent(page("login?next=/runs")).await.text().await.expect("text");
    assert!(asks.contains("name=\"next\" value=\"/runs\""), "{asks}");
    let asks = sent(page("login?next=https://evil.example")).await.text().await.expect("text");
    assert!(!asks.contains("evil.example"), "{asks}");

    let wrong = sent(form("login", "token=guessed&next=/runs")).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(wrong.text().await.expect("text").contains("the token is not valid"));
    let foreign = form("login", &format!("token={deployer}")).header("origin", "https://evil.example");
    assert_eq!(sent(foreign).await.status(), StatusCode::FORBIDDEN);
    let opened = sent(form("login", &format!("token={deployer}&next=//evil.example"))).await;
    assert_eq!(
        (opened.status(), &opened.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &"/".parse().expect("a value"))
    );
    let session = cookie(&opened);
    let home = sent(page("").header(COOKIE, &session)).await;
    assert_eq!(home.status(), 200);
    let home = home.text().await.expect("text");
    assert!(home.contains("Log out anna") && home.contains("action=\"/pipelines/web/runs\""), "{home}");
    let csrf = csrf(&home);

    // Without the session's mark, from another site, or through the API with the cookie alone.
    for body in ["", "csrf=", "csrf=guessed"] {
        let forged = form("pipelines/web/runs", body).header(COOKIE, &session);
        assert_eq!(sent(forged).await.status(), StatusCode::FORBIDDEN, "{body}");
    }
    let body = format!("csrf={csrf}&commit=");
    for (name, value) in
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-site"), ("origin", "null")]
    {
        let forged = form("pipelines/web/runs", &body).header(COOKIE, &session).header(name, value);
        assert_eq!(sent(forged).await.status(), StatusCode::FORBIDDEN, "{value}");
    }
    let api = || {
        client.post(url("v1/pipelines/web/runs")).header(COOKIE, &session).json(&json!({"commit": "none"}))
    };
    assert_eq!(sent(api()).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        sent(api().header("x-csrf-token", &csrf)).await.status(),
        StatusCode::NOT_FOUND,
        "no such commit"
    );
    let basic = form("pipelines/web/runs", &body).basic_auth("me", Some(&deployer));
    assert_eq!(sent(basic).await.status(), StatusCode::FORBIDDEN, "a browser repeats a password on its own");
    assert_eq!(site.runs().len(), 0);

    let started = sent(form("pipelines/web/runs", &body).header(COOKIE, &session)).await;
    assert_eq!(
        (started.status(), &started.headers()[LOCATION]),
        (StatusCode::SEE_OTHER, &"/runs/1".parse().expect("a value"))
    );
    site.wait_for("succeeded", |run| run["id"] == 1 && run["state"] == "succeeded");
    let refused = sent(form("runs/1/cancel", &body).header(COOKIE, &session)).await;
    assert_eq!(refused.status(), StatusCode::CONFLICT);
    assert!(refused.text().await.expect("text").contains("run 1 has ended: it is succeeded"));
    let again = sent(form("runs/1/retry", &body).header(COOKIE, &session)).await;
    assert_eq!(again.headers()[LOCATION], "/runs/2");
    site.wait_for("succeeded", |run| run["id"] == 2 && run["state"] == "succeeded");

    let shown = async |path: &str| {
        let answer = sent(page(path).header(COOKIE, &session)).await;
        (answer.status().as_u16(), answer.text().await.expect("text"))
    };
    for (path, part) in [
        ("runs", "href=\"/runs/2\""),
        ("runs?pipeline=web&state=succeeded", "<option selected>succeeded</option>"),
        ("runs?pipeline=web&state=failed", "There are no such runs."),
        ("runs/1", "built and pushed"),
        ("runs/2", "href=\"/runs/1\""),
        ("services", "2/2 healthy"),
        ("machines", "<h1>Machines</h1>"),
    ] {
        let (status, html) = shown(path).await;
        assert!(status == 200 && html.contains(part), "{path}: {html}");
    }
    assert_eq!(shown("runs?state=odd").await.0, 400);
    assert_eq!(shown("runs/99").await.0, 404);
    let (status, raw) = shown("runs/1/steps/1/log").await;
    assert!(status == 200 && raw.contains("COPY . /srv") && !raw.contains("data:"), "{raw}");
    assert_eq!(shown("runs/1/steps/9/log").await.0, 404);

    let ended = sent(form("logout", &body).header(COOKIE, &session)).await;
    assert_eq!(ended.headers()[LOCATION], "/login");
    assert_eq!(sent(page("").header(COOKIE, &session)).await.status(), StatusCode::SEE_OTHER);
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(sent(form("login", "token=guessed")).await.status().as_u16());
    }
    assert!(statuses.starts_with(&[401, 401]) && statuses.ends_with(&[429, 429]), "{statuses:?}");
    // Whoever guesses locks nobody out whose token was right from there before, and gets in with no other.
    let login = async |token: &str| sent(form("login", &format!("token={token}"))).await.status();
    assert_eq!(login(&deployer).await, StatusCode::SEE_OTHER);
    assert_eq!(login(&late).await, StatusCode::TOO_MANY_REQUESTS);
    assert_no_secret(site.folder.path());
}
