//! Webhooks to `serve`, true signatures and forged ones, and what it reports to forges.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::{Json, Router};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::StatusCode;
use serde_json::Value;
use sha2::Sha256;

use crate::pipeline_serve::Site;

fn sign(secret: &str, parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_makes_the_server_look_and_nothing_else_does() {
    let site = Site::new();
    let path = site.folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&path).expect("the project's file");
    let text = text.replace("poll: 1s", "poll: 1h\n    webhook: [/team/hook-new, /team/hook]");
    std::fs::write(&path, text).expect("written");
    let dockerfile: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /srv\n");
    site.origin.commit("first", &[dockerfile, ("a", b"1")]);
    let serve = site.serve();
    site.wait_for("what was pushed before", |run| run["id"] == 1 && run["state"] == "succeeded");

    // The played SSM has one value, whatever the parameter.
    let secret = site.registry.credentials();
    let client = reqwest::Client::new();
    let url = format!("{}v1/hooks/web", serve.page);
    let body = r#"{"ref": "refs/heads/main", "after": "0000"}"#;
    let post = async |url: &str, header: Option<(&str, String)>, body: String| {
        let mut request = client.post(url).body(body);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.send().await.expect("an answer").status()
    };
    site.origin.commit("second", &[dockerfile, ("a", b"2")]);
    let forged = format!("sha256={}", sign("guessed", &[body.as_bytes()]));
    for (header, wanted) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some(("x-hub-signature-256", forged)), StatusCode::UNAUTHORIZED),
        (Some(("x-hub-signature-256", "sha256=xyz".to_owned())), StatusCode::UNAUTHORIZED),
        (Some(("authorization", format!("Bearer {secret}"))), StatusCode::UNAUTHORIZED),
    ] {
        assert_eq!(post(&url, header.clone(), body.to_owned()).await, wanted, "{header:?}");
    }
    let nowhere = format!("{}v1/hooks/other", serve.page);
    assert_eq!(post(&nowhere, None, body.to_owned()).await, StatusCode::NOT_FOUND);
    // The server hangs up when it has heard enough, which a client may notice before it reads the answer.
    let large = client.post(&url).body("x".repeat(6 << 20)).send().await;
    assert!(large.is_err() || large.is_ok_and(|answer| answer.status() == StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(client.get(&url).send().await.expect("an answer").status(), StatusCode::METHOD_NOT_ALLOWED);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.runs().len(), 1, "none of them was believed");

    let signed = ("x-hub-signature-256", format!("sha256={}", sign(&secret, &[body.as_bytes()])));
    assert_eq!(post(&url, Some(signed.clone()), body.to_owned()).await, StatusCode::ACCEPTED);
    site.wait_for("the second commit", |run| run["id"] == 2 && run["state"] == "succeeded");
    assert_eq!(post(&url, Some(signed), body.to_owned()).await, StatusCode::CONFLICT);

    site.origin.commit("third", &[dockerfile, ("a", b"3")]);
    let time = chrono::Utc::now().timestamp().to_string();
    let own = format!("t={time},v1={}", sign(&secret, &[time.as_bytes(), b".", body.as_bytes()]));
    assert_eq!(
        post(&url, Some(("x-fleetwright-signature", own)), body.to_owned()).await,
        StatusCode::ACCEPTED
    );
    site.wait_for("the third commit", |run| run["id"] == 3 && run["state"] == "succeeded");
    crate::pipeline_serve::assert_no_secret(site.folder.path());
}

/// What a forge was sent.
type Sent = Arc<Mutex<Vec<(String, String, Value)>>>;

async fn take(
    State((sent, refusals)): State<(Sent, Arc<AtomicUsize>)>,
    uri: Uri,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    if refusals.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
        return StatusCode::BAD_GATEWAY;
    }
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    sent.lock().expect("no panic").push((uri.path().to_owned(), token.to_owned(), body));
    StatusCode::CREATED
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forge_shows_the_state_of_each_run_also_when_it_was_away() {
    let (sent, refusals) = (Sent::default(), Arc::new(AtomicUsize::new(1)));
    let forge = Router::new().fallback(take).with_state((Arc::clone(&sent), refusals));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, forge).await });
    let site = Site::new();
    let path = site.folder.path().join("fleetwright.yaml");
    let text = std::fs::read_to_string(&path).expect("read");
    let status = format!(
        "poll: 1s\n    status: {{forge: gitea, server: \"http://{address}\", project: shop/web, token: /team/step-token}}"
    );
    std::fs::write(&path, text.replace("poll: 1s", &status)).expect("written");
    let commit = site.origin.commit("first", &[("Dockerfile", b"FROM scratch\nCOPY . /\n" as &[u8])]);
    let _serve = site.serve();
    site.wait_for("succeeded", |run| run["state"] == "succeeded");
    let limit = Instant::now() + Duration::from_secs(60);
    let states = || -> Vec<String> {
        let sent = sent.lock().expect("no panic");
        sent.iter().map(|(.., body)| body["state"].as_str().unwrap_or_default().to_owned()).collect()
    };
    while states().last().map(String::as_str) != Some("success") {
        assert!(Instant::now() < limit, "{:?}", states());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sent = sent.lock().expect("no panic").clone();
    let (path, token, body) = sent.last().expect("there is one");
    assert_eq!(*path, format!("/api/v1/repos/shop/web/statuses/{commit}"));
    assert_eq!(*token, format!("token {}", crate::support::endpoints::STEP_TOKEN));
    assert_eq!(
        (&body["context"], &body["description"]),
        (&"fleetwright/web".into(), &"run 1: succeeded".into())
    );
    let successes = states().iter().filter(|state| *state == "success").count();
    assert_eq!(successes, 1, "nothing is reported twice: {:?}", states());
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_are_notified_of_failures_and_of_what_mends_them_once_each() {
    let (sent, refusals) = (Sent::default(), Arc::new(AtomicUsize::new(1)));
    let receiver = Router::new().fallback(take).with_state((Arc::clone(&sent), refusals));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, receiver).await });
    let site = Site::new();
    let text = format!(
        "web:\n  repository: web\n  notify: [{{url: '/url/{address}'}}]\n  steps:\n    - build: {{image: demo/web}}\n    \
         - approve: {{message: Ready?, when: {{branches: [main]}}}}\n"
    );
    std::fs::write(site.folder.path().join("pipelines/web.yaml"), text).expect("written");
    let good: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY . /\n");
    let bad: (&str, &[u8]) = ("Dockerfile", b"FROM scratch\nCOPY missing /\n");
    let news = || -> Vec<(String, i64)> {
        let sent = sent.lock().expect("no panic");
        let each = sent.iter().map(|(.., body)| {
            (body["event"].as_str().unwrap_or_default().to_owned(), body["run"].as_i64().unwrap_or_default())
        });
        each.collect()
    };
    let wait = async |wanted: &[(&str, i64)]| {
        let wanted: Vec<(String, i64)> =
            wanted.iter().map(|(event, run)| ((*event).to_owned(), *run)).collect();
        let limit = Instant::now() + Duration::from_secs(60);
        while news() != wanted {
            assert!(Instant::now() < limit, "{:?}", news());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let server = site.serve();
    site.origin.commit("breaks", &[bad]);
    site.wait_for("failed", |run| run["state"] == "failed");
    wait(&[("failed", 1)]).await;
    // What was sent is not sent again by the next server, and what happened meanwhile is.
    drop(server);
    site.origin.commit("mends", &[good]);
    let _server = site.serve();
    wait(&[("failed", 1), ("asking", 2)]).await;
    let (good, _, errors) = site.run(&["pipeline", "approve", "2", "--yes"]);
    assert!(good, "{errors}");
    wait(&[("failed", 1), ("asking", 2), ("fixed", 2)]).await;
    let sent = sent.lock().expect("no panic").clone();
    assert_eq!(sent[1].2["question"], "Ready?");
    assert_eq!((&sent[2].2["pipeline"], &sent[2].2["subject"]), (&"web".into(), &"mends".into()));
}
