//! Calls that are under way: which, since when, and how their last attempt ended. What takes long is not silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_cloudformation::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_cloudformation::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_cloudformation::error::BoxError;
use aws_sdk_ssm::config::http::HttpRequest;
use aws_smithy_types::config_bag::{Storable, StoreReplace};

use super::failure;

/// The header that all attempts of a call have in common.
const INVOCATION: &str = "amz-sdk-invocation-id";

/// A call that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderWay {
    /// The operation, such as `DescribeStacks`.
    pub operation: String,
    /// Where it was sent to.
    pub address: String,
    /// How long it has been under way.
    pub time: Duration,
    /// How often it was sent.
    pub attempts: u32,
    /// How the last attempt ended, when it did.
    pub last: Option<String>,
}

#[derive(Debug)]
struct Call {
    operation: String,
    address: String,
    since: Instant,
    attempts: u32,
    last: Option<String>,
}

/// The calls of all clients of an account.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<HashMap<String, Call>>>);

impl Watch {
    /// The call that has been under way longest.
    pub fn longest(&self) -> Option<UnderWay> {
        let calls = self.0.lock().ok()?;
        let now = Instant::now();
        let call = calls.values().min_by_key(|call| call.since)?;
        Some(UnderWay {
            operation: call.operation.clone(),
            address: call.address.clone(),
            time: now.duration_since(call.since),
            attempts: call.attempts,
            last: call.last.clone(),
        })
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "watch"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let address = address(request.uri());
        if let Some(service) = service(request) {
            failure::asked(service, &address);
        }
        if let (Some(id), Ok(mut calls)) = (request.headers().get(INVOCATION), self.0.lock()) {
            let now = Instant::now();
            let operation = operation(request);
            let call = calls.entry(id.to_owned()).or_insert(Call {
                operation,
                address,
                since: now,
                attempts: 0,
                last: None,
            });
            call.attempts += 1;
            if bag.load::<Kept>().is_none() {
                bag.interceptor_state().store_put(Kept { id: id.to_owned(), calls: self.clone() });
            }
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let id = context.request().and_then(|request| request.headers().get(INVOCATION));
        if let (Some(id), Ok(mut calls)) = (id, self.0.lock())
            && let Some(call) = calls.get_mut(id)
        {
            call.last = match (context.response(), context.output_or_error()) {
                (_, Some(Ok(_)) | None) => None,
                (Some(response), Some(Err(_))) => Some(format!("HTTP status {}", response.status().as_u16())),
                (None, Some(Err(_))) => Some("no answer".to_owned()),
            };
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let id = context.request().and_then(|request| request.headers().get(INVOCATION));
        if let (Some(id), Ok(mut calls)) = (id, self.0.lock()) {
            calls.remove(id);
        }
        Ok(())
    }
}

/// Lies with the state of a call, and goes with it, also when whoever made the call drops it.
#[derive(Debug)]
struct Kept {
    id: String,
    calls: Watch,
}

impl Storable for Kept {
    type Storer = StoreReplace<Self>;
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Ok(mut calls) = self.calls.0.lock() {
            calls.remove(&self.id);
        }
    }
}

/// Scheme, host and port of an address.
fn address(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// The service that a request is signed for, from the scope of its signature.
fn service(request: &HttpRequest) -> Option<&str> {
    let signature = request.headers().get("authorization")?;
    // `Credential=KEY/20260101/eu-west-1/cloudformation/aws4_request, ...`
    let scope = signature.split("Credential=").nth(1)?.split(',').next()?;
    let mut parts = scope.rsplit('/');
    (parts.next() == Some("aws4_request")).then(|| parts.next()).flatten()
}

/// What a request asks for: the action of a form, the target of a JSON call, or the method and the path.
fn operation(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        return target.rsplit('.').next().unwrap_or(target).to_owned();
    }
    let body = request.body().bytes().unwrap_or_default();
    let form = body.strip_prefix(b"Action=").and_then(|rest| rest.split(|b| *b == b'&').next());
    if let Some(action) = form.and_then(|action| std::str::from_utf8(action).ok()) {
        return action.to_owned();
    }
    let uri = request.uri();
    let path =
        uri.split_once("://").map_or(uri, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    format!("{} /{}", request.method(), path.split('?').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_sdk_ssm::config::{BehaviorVersion, Region};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_call_that_is_dropped_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let watch = Watch::default();
        let config = aws_sdk_ssm::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(format!("http://{}", silent.local_addr().expect("an address")))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .interceptor(watch.clone())
            .build();
        let call = aws_sdk_ssm::Client::from_conf(config).get_parameter().name("/a").send();
        let sent = async {
            while watch.longest().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = call => panic!("nobody answers: {answer:?}"),
            () = sent => {}
        }
        assert_eq!(watch.longest(), None);
    }

    #[test]
    fn a_request_is_told_by_its_action_target_or_path() {
        let request = |uri: &str, header: Option<(&'static str, &'static str)>, body: &'static str| {
            let mut request = HttpRequest::new(body.into());
            request.set_uri(uri.to_owned()).expect("an address");
            if let Some((name, value)) = header {
                request.headers_mut().insert(name, value);
            }
            request
        };
        let form = request("http://a:1/", None, "Action=DescribeStacks&Version=1");
        assert_eq!(operation(&form), "DescribeStacks");
        let json = request("http://a:1/", Some(("x-amz-target", "AmazonSSM.GetParameter")), "{}");
        assert_eq!(operation(&json), "GetParameter");
        assert_eq!(operation(&request("http://a:1/bucket/key?x=y", None, "")), "GET /bucket/key");
        assert_eq!(address("https://a.b:1/c?d"), "https://a.b:1");
        let signed = "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-west-1/cloudformation/aws4_request, SignedHeaders=host, Signature=0";
        let signed = request("http://a:1/", Some(("authorization", signed)), "");
        assert_eq!(service(&signed), Some("cloudformation"));
    }
}
