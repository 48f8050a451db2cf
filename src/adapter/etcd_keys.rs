//! Keys in etcd, read and watched through the JSON gateway that each member has.
//!
//! The messages are those of `rpc.proto` of etcd 3.4, in the JSON form of Protocol Buffers: bytes are base64,
//! and 64-bit numbers are texts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;

use super::cluster_api as api;
use super::etcd::Gateway;
use crate::port::cluster::ClusterError;
use crate::port::etcd::EtcdError;
use crate::port::host_files::Keys;

/// How many keys are read at most below one prefix.
const KEYS_MOST: u32 = 10_000;
/// How long etcd may be silent on a watch before it is asked again: its connection may be dead.
const SILENT: Duration = Duration::from_secs(30);

/// The etcd that the members with these client URLs keep.
#[derive(Clone)]
pub struct EtcdKeys {
    gateway: Arc<Gateway>,
    endpoints: watch::Receiver<Vec<String>>,
}

#[derive(Deserialize)]
struct Header {
    #[serde(default)]
    revision: String,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<Pair>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Watched {
    #[serde(default)]
    result: Option<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    canceled: bool,
    #[serde(default)]
    events: Vec<Happened>,
}

#[derive(Deserialize)]
struct Happened {
    #[serde(default, rename = "type")]
    kind: Option<String>,
    kv: Pair,
}

/// What is below a prefix, in terms of etcd: from this key to before that one.
fn range(prefix: &str) -> (String, String) {
    let clean = prefix.trim_end_matches('/');
    // `/app` itself, and what begins with `/app/`; what lies between is left out when it is read.
    let mut end = format!("{clean}/").into_bytes();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    let start = if clean.is_empty() { "/" } else { clean };
    (STANDARD.encode(start), STANDARD.encode(end))
}

fn text(encoded: &str) -> Option<String> {
    STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok())
}

impl EtcdKeys {
    /// Keys behind `gateway`, of the members whose client URLs `endpoints` has.
    pub fn new(gateway: Arc<Gateway>, endpoints: watch::Receiver<Vec<String>>) -> Self {
        Self { gateway, endpoints }
    }

    /// The keys below the prefixes, by the first member that answers: its URL, and the revision.
    async fn read(
        &self,
        prefixes: &[String],
    ) -> Result<(String, u64, BTreeMap<String, String>), ClusterError> {
        let endpoints = self.endpoints.borrow().clone();
        let mut last = EtcdError::Unreachable {
            endpoint: "etcd".to_owned(),
            reason: "no member is known yet".to_owned(),
        };
        for endpoint in endpoints {
            match self.read_from(&endpoint, prefixes).await {
                Ok((revision, keys)) => return Ok((endpoint, revision, keys)),
                Err(error) => last = error,
            }
        }
        Err(unavailable(&last))
    }

    async fn read_from(
        &self,
        endpoint: &str,
        prefixes: &[String],
    ) -> Result<(u64, BTreeMap<String, String>), EtcdError> {
        let mut keys = BTreeMap::new();
        let mut revision = 0;
        for prefix in prefixes {
            let (key, end) = range(prefix);
            let mut request = json!({ "key": key, "range_end": end, "limit": KEYS_MOST.to_string() });
            if revision > 0 {
                // All of them at one moment.
                request["revision"] = revision.to_string().into();
            }
            let found: Range = self.gateway.ask(endpoint, "kv/range", &request, "reading keys").await?;
            if found.more {
                return Err(EtcdError::Refused {
                    endpoint: endpoint.to_owned(),
                    doing: format!("reading the keys below `{prefix}`"),
                    reason: format!("there are more than {KEYS_MOST}; name a longer prefix"),
                });
            }
            if revision == 0 {
                revision = found.header.revision.parse().unwrap_or_default();
            }
            keys.extend(found.kvs.iter().filter_map(|pair| named(pair, prefix)));
        }
        Ok((revision, keys))
    }
}

/// A key that is below a prefix, with its value. One that is no text can't be in a template.
fn named(pair: &Pair, prefix: &str) -> Option<(String, String)> {
    let key = text(&pair.key)?;
    let clean = prefix.trim_end_matches('/');
    let rest = key.strip_prefix(clean)?;
    if !rest.is_empty() && !rest.starts_with('/') {
        return None;
    }
    Some((key, text(&pair.value)?))
}

fn unavailable(error: &EtcdError) -> ClusterError {
    ClusterError::Unreachable { endpoint: "etcd".to_owned(), reason: error.to_string() }
}

#[async_trait]
impl Keys for EtcdKeys {
    async fn watch(
        &self,
        prefixes: &[String],
    ) -> Result<BoxStream<'static, Result<BTreeMap<String, String>, ClusterError>>, ClusterError> {
        let (endpoint, revision, keys) = self.read(prefixes).await?;
        let mut opened = Vec::new();
        for prefix in prefixes {
            let (key, end) = range(prefix);
            let next = (revision + 1).to_string();
            let create =
                json!({ "key": key, "range_end": end, "start_revision": next, "progress_notify": true });
            let body = json!({ "create_request": create });
            let lines = self.gateway.open(&endpoint, "watch", &body, "watching keys").await;
            let lines = lines.map_err(|error| unavailable(&error))?;
            let prefix = prefix.clone();
            opened.push(api::lines::<Watched>(lines).map(move |line| (prefix.clone(), line)).boxed());
        }
        let changes = stream::select_all(opened);
        let first = stream::iter([Ok(keys.clone())]);
        let rest = stream::unfold(Some((changes, keys, endpoint)), |state| async move {
            let (mut changes, mut keys, endpoint) = state?;
            loop {
                // The other end may have gone without a word: a new watch finds out.
                let lost = |reason: &str| {
                    let error =
                        EtcdError::Unreachable { endpoint: endpoint.clone(), reason: reason.to_owned() };
                    Some((Err(unavailable(&error)), None))
                };
                let (prefix, line) = match tokio::time::timeout(SILENT, changes.next()).await {
                    Ok(Some((prefix, Ok(line)))) => (prefix, line),
                    Ok(Some((_, Err(reason)))) => return lost(&reason),
                    Ok(None) => return lost("the watch has ended"),
                    Err(_) => return lost("nothing was heard for too long"),
                };
                let Watched { result: Some(reply) } = line else {
                    return lost("the watch was refused");
                };
                if reply.canceled {
                    return lost("the watch was cancelled");
                }
                let before = keys.clone();
                for happened in reply.events {
                    let Some(key) = text(&happened.kv.key) else { continue };
                    if happened.kind.as_deref() == Some("DELETE") {
                        keys.remove(&key);
                    } else if let Some((key, value)) = named(&happened.kv, &prefix) {
                        keys.insert(key, value);
                    } else {
                        keys.remove(&key);
                    }
                }
                if keys != before {
                    return Some((Ok(keys.clone()), Some((changes, keys, endpoint))));
                }
            }
        });
        Ok(first.chain(rest).boxed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_what_is_below_it_and_nothing_beside() {
        let decoded = |prefix: &str| {
            let (start, end) = range(prefix);
            (text(&start).expect("text"), text(&end).expect("text"))
        };
        assert_eq!(decoded("/app"), ("/app".to_owned(), "/app0".to_owned()));
        assert_eq!(decoded("/app/"), ("/app".to_owned(), "/app0".to_owned()));
        assert_eq!(decoded("/"), ("/".to_owned(), "0".to_owned()));
        let pair = |key: &str| Pair { key: STANDARD.encode(key), value: STANDARD.encode("v") };
        for (key, prefix, is_below) in
            [("/app", "/app", true), ("/app/a", "/app/", true), ("/app-b", "/app", false), ("/x", "/", true)]
        {
            assert_eq!(named(&pair(key), prefix).is_some(), is_below, "{key} below {prefix}");
        }
        let binary = Pair { key: STANDARD.encode("/app"), value: STANDARD.encode([0xff]) };
        assert_eq!(named(&binary, "/app"), None);
    }
}
