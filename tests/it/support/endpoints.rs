//! What `serve` reaches over the network, played by this process: the cluster's API over
//! TLS, and SSM's GetParameter.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path as Folder;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use fleetwright::model::name::ServiceName;
use fleetwright::model::service::{Deployed, Deployment};
use fleetwright::model::timeline::EventPage;
use fleetwright::port::cluster::{Cluster, ClusterError};
use fleetwright::port::cluster_wire::{Changed, Line, WireError};
use fleetwright::port::streams::LogLine;
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::cluster::FakeCluster;
use super::registry::certificates;

/// The value of the parameters whose names end with `/step-token`.
pub const STEP_TOKEN: &str = "wxyz-of-a-step-4711";
/// The cluster's token.
pub const TOKEN: &str = "cluster-test-token";

/// Serves `cluster` over TLS with a certificate whose authority is written to
/// `folder`/ca.pem; gives its URL.
pub fn cluster_api(cluster: FakeCluster, folder: &Folder) -> String {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    std::fs::create_dir_all(folder).expect("a folder");
    let ca = certificates(folder);
    std::fs::write(folder.join("ca.pem"), ca).expect("written");
    let (listener, address) = listener();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let routes = Router::new()
        .route("/v1/snapshot", get(snapshot))
        .route("/v1/watch", get(watch))
        .route("/v1/services/{name}", put(deploy))
        .route("/v1/services/{name}/deployment", get(deployed))
        .route("/v1/services/{name}/rollback/{revision}", post(rollback))
        .route("/v1/services/{name}/logs", get(logs))
        .route("/v1/events", get(events))
        .with_state(cluster);
    tokio::spawn(async move {
        let tls = RustlsConfig::from_pem_file(cert, key).await.expect("a certificate");
        let server = axum_server::from_tcp_rustls(listener, tls).expect("a listener");
        server.serve(routes.into_make_service()).await.expect("it serves");
    });
    format!("https://{address}")
}

/// Serves one SSM parameter, and a secret of steps; gives the endpoint's URL.
pub fn parameters(value: String) -> String {
    let (listener, address) = listener();
    let routes = Router::new().route("/", post(get_parameter)).with_state(value);
    tokio::spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        axum::serve(listener, routes).await.expect("it serves");
    });
    format!("http://{address}")
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn snapshot(State(cluster): State<FakeCluster>) -> Json<Value> {
    let snapshot = cluster.snapshot().await.expect("a snapshot");
    Json(serde_json::to_value(snapshot).expect("JSON"))
}

async fn watch(State(cluster): State<FakeCluster>) -> impl IntoResponse {
    let lines = cluster.watch().await.expect("a stream").map(|snapshot| {
        let line = Line::Snapshot(snapshot.expect("a snapshot"));
        Ok::<_, std::convert::Infallible>(serde_json::to_string(&line).expect("JSON") + "\n")
    });
    Body::from_stream(lines)
}

async fn deploy(State(cluster): State<FakeCluster>, Json(deployment): Json<Deployment>) -> Json<Changed> {
    Json(Changed { revision: cluster.deploy(&deployment).await.expect("deployed") })
}

/// What a query says of a field.
fn field(query: Option<String>, name: &str) -> Option<String> {
    let query = query.unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Value>)>;

fn refused(error: &ClusterError) -> (StatusCode, Json<Value>) {
    let error = WireError::from(error);
    (StatusCode::NOT_FOUND, Json(json!({ "error": error })))
}

async fn deployed(
    State(cluster): State<FakeCluster>,
    Path(name): Path<ServiceName>,
    RawQuery(query): RawQuery,
) -> Answer<Deployed> {
    let revision = field(query, "revision").map(|number| number.parse().expect("a number"));
    cluster.deployed(&name, revision).await.map(Json).map_err(|error| refused(&error))
}

async fn rollback(
    State(cluster): State<FakeCluster>,
    Path((name, revision)): Path<(ServiceName, u64)>,
) -> Answer<Changed> {
    let revision = cluster.rollback(&name, Some(revision)).await.map_err(|error| refused(&error))?;
    Ok(Json(Changed { revision }))
}

async fn logs(State(cluster): State<FakeCluster>, RawQuery(query): RawQuery) -> String {
    let lines = cluster.printed(&field(query, "grep").unwrap_or_default()).into_iter();
    lines.map(|line| serde_json::to_string(&LogLine::Entry(line)).expect("JSON") + "\n").collect()
}

async fn events(State(cluster): State<FakeCluster>, RawQuery(query): RawQuery) -> Json<EventPage> {
    Json(cluster.happened(&field(query, "of").unwrap_or_default()))
}

async fn get_parameter(State(value): State<String>, body: String) -> impl IntoResponse {
    let headers = [("content-type", "application/x-amz-json-1.1")];
    let Ok(asked) = serde_json::from_str::<Value>(&body) else {
        // Another service: these credentials may do nothing there.
        let refusal =
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>";
        return (StatusCode::FORBIDDEN, [("content-type", "text/xml")], refusal.to_owned());
    };
    let name = asked["Name"].clone();
    assert_eq!(asked["WithDecryption"], json!(true), "it is encrypted");
    if name.as_str().is_some_and(|name| name.ends_with("/nothing")) {
        let refusal = json!({ "__type": "ParameterNotFound", "message": "there is none" });
        return (StatusCode::BAD_REQUEST, headers, refusal.to_string());
    }
    // Steps have a secret of their own, so that nothing else masks it.
    let value = match name.as_str() {
        Some(name) if name.ends_with("/step-token") => STEP_TOKEN.to_owned(),
        // Where a receiver of notifications listens, which a test knows only when it runs.
        Some(name) if name.starts_with("/url/") => format!("http://{}/news", &name["/url/".len()..]),
        _ => value,
    };
    let answer =
        json!({ "Parameter": { "Name": name, "Type": "SecureString", "Value": value, "Version": 1 } });
    (StatusCode::OK, headers, answer.to_string())
}
