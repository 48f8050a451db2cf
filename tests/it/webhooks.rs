//! Notifications arrive at a real HTTP server, once each, whoever leads.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use fleetwright::adapter::webhook::Webhooks;
use fleetwright::driver::notify::Notifier;
use fleetwright::model::mount::{SecretRef, SecretVersion};
use fleetwright::model::secret::Secret;
use fleetwright::model::service::ScaleTo;
use fleetwright::port::cloud::CloudError;
use fleetwright::port::cluster::Cluster as _;
use fleetwright::port::notify::{SendError, SendMessage as _};
use fleetwright::port::parameters::{Parameters as _, Protection};
use fleetwright::port::secrets::SecretValues;
use serde_json::Value;

use crate::access_api::deployment;
use crate::identity::World;
use crate::support::cluster::{FakeCluster, Mood};
use crate::support::rights::{PREFIX, Store};

/// What the server got: a path and a body.
type Got = Arc<Mutex<Vec<(String, Value)>>>;

/// What of it is served how.
#[derive(Clone, Default)]
struct Served {
    got: Got,
    /// With what `/pager` answers.
    status: Arc<Mutex<Option<StatusCode>>>,
}

impl Served {
    fn of(&self, path: &str) -> Vec<Value> {
        let got = self.got.lock().expect("what it got");
        got.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }
}

async fn pager(State(served): State<Served>, headers: HeaderMap, body: String) -> Response {
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    if let Some(status) = *served.status.lock().expect("a status") {
        return status.into_response();
    }
    let body = serde_json::from_str(&body).expect("JSON");
    served.got.lock().expect("what it got").push(("pager".to_owned(), body));
    StatusCode::NO_CONTENT.into_response()
}

async fn slack(State(served): State<Served>, body: String) -> &'static str {
    let body = serde_json::from_str(&body).expect("JSON");
    served.got.lock().expect("what it got").push(("slack".to_owned(), body));
    "ok"
}

async fn server() -> (SocketAddr, Served) {
    let served = Served::default();
    let routes = Router::new()
        .route("/pager", post(pager))
        .route("/slack", post(slack))
        .route("/elsewhere", post(async || (StatusCode::FOUND, [(header::LOCATION, "/pager")])))
        .route("/slow", post(async || tokio::time::sleep(Duration::from_secs(60)).await))
        .with_state(served.clone());
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (address, served)
}

/// Secrets that hold the URLs of the server, by its paths.
struct Urls(SocketAddr);

#[async_trait]
impl SecretValues for Urls {
    async fn newest(&self, secret: &SecretRef) -> Result<Option<SecretVersion>, CloudError> {
        Ok((secret.to_string() != "unset").then(|| SecretVersion::of_parameter(1, 1)))
    }

    async fn value(
        &self,
        secret: &SecretRef,
        _: &SecretVersion,
    ) -> Result<Option<Secret<Vec<u8>>>, CloudError> {
        Ok(Some(Secret::new(format!("http://{}/{secret}\n", self.0).into_bytes())))
    }
}

const RECEIVERS: &str = r#"{"version":1,"receivers":[
    {"form":"json","secret":"pager","events":["service-not-whole","rollout-failed"],"after":{"secs":0,"nanos":0}},
    {"form":"slack","secret":"slack","events":["service-not-whole"],"after":{"secs":0,"nanos":0}},
    {"form":"json","secret":"unset","events":["service-not-whole"],"after":{"secs":0,"nanos":0}}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_sent_once_whoever_leads_and_again_when_it_is_over() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (address, served) = server().await;
    let parameters = Arc::new(Store::default());
    let published = Secret::new(RECEIVERS.to_owned());
    parameters.put(&format!("{PREFIX}/notify"), &published, Protection::Plain).await.expect("written");
    let cluster = FakeCluster::new(Mood::Healthy);
    let leader = || {
        Notifier::new(
            Arc::new(cluster.clone()),
            Arc::new(World::new(&["i-1"], &[], vec![])),
            parameters.clone(),
            Arc::new(Urls(address)),
            Arc::new(Webhooks::new().expect("a sender")),
            PREFIX.to_owned(),
        )
    };
    let (one, two) = (leader(), leader());
    let web = "web".parse().expect("a name");
    cluster.deploy(&deployment()).await.expect("deployed");
    one.once().await.expect("checked");
    assert_eq!(served.of("pager"), [Value::Null; 0], "it is whole");

    // The receiver is away at first; what it missed is sent when it is back, and to the other one only once.
    cluster.scale(&web, ScaleTo::Replicas(3)).await.expect("scaled");
    *served.status.lock().expect("a status") = Some(StatusCode::SERVICE_UNAVAILABLE);
    one.once().await.expect("checked");
    one.once().await.expect("checked");
    assert_eq!((served.of("pager").len(), served.of("slack").len()), (0, 1));
    assert_eq!(served.of("slack")[0]["text"], "[shop/production/main] 1 of 3 instances of web are healthy");
    *served.status.lock().expect("a status") = None;
    // Another machine leads: what was sent is not sent again, and the rest is.
    one.rest().await;
    two.once().await.expect("checked");
    two.once().await.expect("checked");
    assert_eq!((served.of("pager").len(), served.of("slack").len()), (1, 1));
    let body = &served.of("pager")[0];
    assert_eq!(
        (&body["version"], &body["event"], &body["state"], &body["subject"], &body["cluster"]),
        (
            &Value::from(1),
            &Value::from("service-not-whole"),
            &Value::from("begun"),
            &Value::from("service/web"),
            &Value::from("shop/production/main")
        )
    );

    // It is over, and the first one leads again.
    two.rest().await;
    cluster.scale(&web, ScaleTo::Replicas(1)).await.expect("scaled");
    one.once().await.expect("checked");
    one.once().await.expect("checked");
    let states: Vec<Value> = served.of("pager").iter().map(|body| body["state"].clone()).collect();
    assert_eq!(states, ["begun", "passed"]);
    assert_eq!(served.of("slack").len(), 2);
    // What is kept for the next leader names no URL.
    assert!(parameters.values().iter().all(|value| !value.contains("http")), "{:?}", parameters.values());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirects_are_not_followed_and_no_error_holds_the_url() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (address, served) = server().await;
    let sender = Webhooks::new().expect("a sender");
    let send = async |url: String| {
        sender.send(&Secret::new(url), "{}", Duration::from_millis(300)).await.expect_err("not accepted")
    };
    let errors = [
        send(format!("http://{address}/elsewhere?token=hunter2")).await,
        send(format!("http://{address}/slow?token=hunter2")).await,
        send("http://127.0.0.1:1/?token=hunter2".to_owned()).await,
        send("file:///etc/hunter2".to_owned()).await,
        send("hunter2".to_owned()).await,
    ];
    assert_eq!(
        errors,
        [
            SendError::Status(302),
            SendError::Unanswered("it took too long"),
            SendError::Unanswered("the connection was not established"),
            SendError::BadUrl,
            SendError::BadUrl,
        ]
    );
    assert!(errors.iter().all(|error| !format!("{error} {error:?}").contains("hunter2")));
    assert_eq!(served.of("pager"), [Value::Null; 0]);
}
