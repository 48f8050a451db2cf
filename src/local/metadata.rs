//! The metadata service (IMDSv2): tells each machine who it is, by the address it asks from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::instance::{Instance, Instances};
use super::keys::{AccessKey, CloudKeys};
use super::registry::random_text;

const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// How long the keys of an instance's role are said to be valid.
const KEYS_VALID: Duration = Duration::from_secs(6 * 3600);

/// The service of one network.
#[derive(Clone)]
struct Service {
    vpc: String,
    instances: watch::Receiver<Arc<Instances>>,
    keys: CloudKeys,
    tokens: Arc<Mutex<HashMap<String, (String, Instant)>>>,
}

/// The service for the machines of one VPC.
pub fn router(vpc: &str, instances: watch::Receiver<Arc<Instances>>, keys: CloudKeys) -> Router {
    Router::new().fallback(answer).with_state(Service {
        vpc: vpc.to_owned(),
        instances,
        keys,
        tokens: Arc::default(),
    })
}

impl Service {
    /// The instance that has this address and is not gone. Addresses are used again, so a
    /// terminated one must not answer for its successor.
    fn caller(&self, address: SocketAddr) -> Option<Instance> {
        let std::net::IpAddr::V4(address) = address.ip() else { return None };
        let instances = self.instances.borrow();
        let is_it = |i: &&Instance| {
            let here = i.place().is_some_and(|place| place.vpc == self.vpc && place.address == address);
            here && !i.is_terminated()
        };
        instances.instances.iter().find(is_it).cloned()
    }

    fn issue(&self, instance: &str, ttl: Duration) -> Option<String> {
        let token = random_text().ok()?;
        let now = Instant::now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|_, (_, until)| *until > now);
        tokens.insert(token.clone(), (instance.to_owned(), now + ttl));
        Some(token)
    }

    fn accepts(&self, instance: &str, token: &str) -> bool {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.get(token).is_some_and(|(owner, until)| owner == instance && *until > Instant::now())
    }
}

async fn answer(
    State(service): State<Service>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let text = |status: StatusCode, text: String| {
        (status, [(header::CONTENT_TYPE, "text/plain")], text).into_response()
    };
    let status = |status: StatusCode| text(status, String::new());
    let Some(instance) = service.caller(from) else { return status(StatusCode::NOT_FOUND) };
    let headers = request.headers();
    // As on EC2: a request that came through a proxy is nobody's own.
    if headers.contains_key("x-forwarded-for") {
        return status(StatusCode::FORBIDDEN);
    }
    let path = request.uri().path();
    if path == "/latest/api/token" {
        if request.method() != Method::PUT {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        let ttl = header_text(headers, TTL_HEADER).and_then(|text| text.parse::<u64>().ok());
        let Some(ttl) = ttl.filter(|ttl| (1..=21_600).contains(ttl)) else {
            return status(StatusCode::BAD_REQUEST);
        };
        return match service.issue(&instance.id, Duration::from_secs(ttl)) {
            Some(token) => ([(TTL_HEADER, ttl.to_string())], text(StatusCode::OK, token)).into_response(),
            None => status(StatusCode::INTERNAL_SERVER_ERROR),
        };
    }
    if request.method() != Method::GET {
        return status(StatusCode::METHOD_NOT_ALLOWED);
    }
    if !header_text(headers, TOKEN_HEADER).is_some_and(|token| service.accepts(&instance.id, token)) {
        return status(StatusCode::UNAUTHORIZED);
    }
    match look_up(&tree(&instance, &service.keys.machine(&instance.id), Utc::now()), path) {
        Some(value) => text(StatusCode::OK, value),
        None => status(StatusCode::NOT_FOUND),
    }
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// All that an instance can be told, by path below `/latest/`.
fn tree(instance: &Instance, key: &AccessKey, now: DateTime<Utc>) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut put = |path: &str, value: String| tree.insert(path.to_owned(), value);
    let instance_type = instance.instance_type.clone().unwrap_or_else(|| "t3.small".into());
    let image = instance.image_id.clone().unwrap_or_default();
    put("meta-data/ami-id", image.clone());
    put("meta-data/hostname", instance.id.clone());
    put("meta-data/local-hostname", instance.id.clone());
    put("meta-data/instance-id", instance.id.clone());
    put("meta-data/instance-life-cycle", "on-demand".into());
    put("meta-data/instance-type", instance_type.clone());
    put("meta-data/local-ipv4", instance.private_ip.map(|ip| ip.to_string()).unwrap_or_default());
    put("meta-data/placement/availability-zone", instance.zone.clone());
    put("meta-data/placement/region", instance.region.clone());
    put("meta-data/services/domain", "amazonaws.com".into());
    put("meta-data/services/partition", "aws".into());
    for (key, value) in instance.tags.iter().filter(|(key, _)| !key.contains('/')) {
        put(&format!("meta-data/tags/instance/{key}"), value.clone());
    }
    if instance.group.is_some() {
        let target = instance.target_lifecycle.clone().unwrap_or_else(|| "InService".into());
        put("meta-data/autoscaling/target-lifecycle-state", target);
    }
    if let Some(role) = &instance.role {
        let time = |time: DateTime<Utc>| time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        let keys = serde_json::json!({
            "Code": "Success",
            "LastUpdated": time(now),
            "Type": "AWS-HMAC",
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret.expose(),
            "Token": key.token.as_ref().map(|token| token.expose().as_str()),
            "Expiration": time(now + KEYS_VALID),
        });
        put(&format!("meta-data/iam/security-credentials/{role}"), format!("{keys:#}"));
        let arn = format!("arn:aws:iam::{}:instance-profile/{role}", instance.account);
        let info = serde_json::json!({
            "Code": "Success", "LastUpdated": time(now), "InstanceProfileArn": arn,
        });
        put("meta-data/iam/info", format!("{info:#}"));
    }
    let document = serde_json::json!({
        "accountId": instance.account,
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" },
        "availabilityZone": instance.zone,
        "imageId": image,
        "instanceId": instance.id,
        "instanceType": instance_type,
        "pendingTime": instance.launched_at,
        "privateIp": instance.private_ip,
        "region": instance.region,
        "version": "2017-09-30",
    });
    put("dynamic/instance-identity/document", format!("{document:#}"));
    if let Some(data) = &instance.user_data
        && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(data)
    {
        put("user-data", String::from_utf8_lossy(&bytes).into_owned());
    }
    tree
}

/// The value at a path, or the names below it, one a line.
fn look_up(tree: &BTreeMap<String, String>, path: &str) -> Option<String> {
    let path = path.strip_prefix("/latest")?.trim_matches('/');
    // EC2 takes encoded tag keys; `:` is the one that ours have.
    let path = path.replace("%3A", ":").replace("%3a", ":");
    if let Some(value) = tree.get(&path) {
        return Some(value.clone());
    }
    let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
    let names: BTreeSet<String> = tree
        .keys()
        .filter_map(|key| key.strip_prefix(&prefix))
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    let names: Vec<String> = names.into_iter().collect();
    (!names.is_empty()).then(|| names.join("\n"))
}

/// The address that machines ask, which leads to the gateway.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

#[cfg(test)]
mod tests {
    use super::super::instance::InstanceLife;
    use super::*;

    fn keys(folder: &std::path::Path) -> CloudKeys {
        let files = super::super::home::Home::at(folder).cloud(&"test".parse().unwrap());
        super::super::home::make_dir(files.dir()).unwrap();
        CloudKeys::open(&files).unwrap()
    }

    fn instance() -> Instance {
        Instance {
            id: "i-0abc".into(),
            state: InstanceLife::Running,
            private_ip: "127.0.0.1".parse().ok(),
            vpc_id: Some("vpc-1".into()),
            vpc_cidr: "127.0.0.0/8".parse().ok(),
            zone: "eu-west-1a".into(),
            region: "eu-west-1".into(),
            account: "000000000000".into(),
            group: Some("demo-local-workers".into()),
            lifecycle: Some("Terminating:Wait".into()),
            target_lifecycle: Some("Terminated".into()),
            image_id: Some("ami-1".into()),
            instance_type: None,
            user_data: Some("I2Nsb3VkLWNvbmZpZwo=".into()),
            tags: BTreeMap::from([("fleetwright:role".into(), "worker".into())]),
            role: Some("demo-worker".into()),
            launched_at: None,
        }
    }

    #[test]
    fn values_and_listings_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let keys = keys(folder.path());
        let tree = tree(&instance(), &keys.machine("i-0abc"), DateTime::UNIX_EPOCH);
        let get = |path: &str| look_up(&tree, path);
        assert_eq!(get("/latest/meta-data/instance-id").as_deref(), Some("i-0abc"));
        assert_eq!(get("/latest/meta-data/placement/").as_deref(), Some("availability-zone\nregion"));
        assert_eq!(get("/latest/meta-data/tags/instance/fleetwright:role").as_deref(), Some("worker"));
        assert_eq!(get("/latest/meta-data/iam/security-credentials/").as_deref(), Some("demo-worker"));
        assert_eq!(
            get("/latest/meta-data/autoscaling/target-lifecycle-state").as_deref(),
            Some("Terminated")
        );
        assert_eq!(get("/latest/user-data").as_deref(), Some("#cloud-config\n"));
        assert_eq!(get("/latest/meta-data/spot/instance-action"), None);
        assert_eq!(get("/2009-04-04/meta-data/instance-id"), None);
        assert!(get("/latest/").unwrap().contains("meta-data/"));
    }

    #[tokio::test]
    async fn nothing_is_told_without_a_token() {
        let (sender, receiver) =
            watch::channel(Arc::new(Instances { revision: 1, instances: vec![instance()] }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/latest", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let app = router("vpc-1", receiver, keys(folder.path()))
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, app).await });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();

        let id = format!("{base}/meta-data/instance-id");
        assert_eq!(client.get(&id).send().await.unwrap().status(), 401);
        assert_eq!(client.get(&id).header(TOKEN_HEADER, "x").send().await.unwrap().status(), 401);
        let put = || client.put(format!("{base}/api/token"));
        assert_eq!(put().send().await.unwrap().status(), 400);
        assert_eq!(
            put()
                .header(TTL_HEADER, "60")
                .header("x-forwarded-for", "1.1.1.1")
                .send()
                .await
                .unwrap()
                .status(),
            403
        );
        let token = put().header(TTL_HEADER, "60").send().await.unwrap().text().await.unwrap();
        let answer = client.get(&id).header(TOKEN_HEADER, &token).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "i-0abc");

        // Another instance with the address of a terminated one: the old token is not its.
        let mut gone = instance();
        gone.state = InstanceLife::Terminated;
        let mut next = instance();
        next.id = "i-0def".into();
        sender.send(Arc::new(Instances { revision: 2, instances: vec![gone, next] })).unwrap();
        assert_eq!(client.get(&id).header(TOKEN_HEADER, &token).send().await.unwrap().status(), 401);
        server.abort();
    }
}
