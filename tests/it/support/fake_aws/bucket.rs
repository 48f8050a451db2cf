//! S3 by paths, as far as locks and large templates need it: objects written under conditions.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method};

/// Every bucket with its objects, each with its tag.
#[derive(Debug, Default)]
pub struct Buckets {
    buckets: BTreeMap<String, BTreeMap<String, (Vec<u8>, String)>>,
    written: u32,
}

/// What is answered: status, ETag, body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The object's tag.
    pub tag: Option<String>,
    /// The object, or the error.
    pub body: Vec<u8>,
}

impl Answer {
    fn ok(tag: Option<String>, body: Vec<u8>) -> Self {
        Self { status: 200, tag, body }
    }

    fn error(status: u16, code: &str, message: &str) -> Self {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").into_bytes();
        Self { status, tag: None, body }
    }
}

/// The name of what is asked, as the API names it.
pub fn action(method: &Method, path: &str) -> String {
    let object = path.trim_matches('/').contains('/');
    let name = match (method.as_str(), object) {
        ("PUT", true) => "PutObject",
        ("GET", true) => "GetObject",
        ("PUT", false) => "CreateBucket",
        ("HEAD", false) => "HeadBucket",
        (method, _) => return format!("{method} {path}"),
    };
    name.to_owned()
}

impl Buckets {
    /// An object, by bucket and key.
    pub fn object(&self, bucket: &str, key: &str) -> Option<&[u8]> {
        self.buckets.get(bucket)?.get(key).map(|(bytes, _)| bytes.as_slice())
    }

    /// Answers one request.
    pub fn ask(&mut self, action: &str, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let path = path.trim_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked")) {
            return Answer::error(501, "NotImplemented", "the fake S3 does not read chunks");
        }
        if action == "CreateBucket" {
            self.buckets.entry(bucket.to_owned()).or_default();
            return Answer::ok(None, Vec::new());
        }
        let Some(objects) = self.buckets.get_mut(bucket) else {
            return Answer::error(404, "NoSuchBucket", "The specified bucket does not exist");
        };
        let there = objects.get(key);
        match action {
            "HeadBucket" => Answer::ok(None, Vec::new()),
            "GetObject" => match there {
                Some((bytes, tag)) => Answer::ok(Some(tag.clone()), bytes.clone()),
                None => Answer::error(404, "NoSuchKey", "The specified key does not exist."),
            },
            "PutObject" => {
                let is_there = there.is_some();
                let differs = header("if-match").is_some_and(|tag| there.is_some_and(|(_, is)| is != tag));
                if header("if-match").is_some() && !is_there {
                    return Answer::error(404, "NoSuchKey", "The specified key does not exist.");
                }
                if (header("if-none-match") == Some("*") && is_there) || differs {
                    let words = "At least one of the pre-conditions you specified did not hold";
                    return Answer::error(412, "PreconditionFailed", words);
                }
                self.written += 1;
                let tag = format!("\"{:032x}\"", self.written);
                objects.insert(key.to_owned(), (body.to_vec(), tag.clone()));
                Answer::ok(Some(tag), Vec::new())
            }
            other => Answer::error(501, "NotImplemented", &format!("the fake S3 does not serve `{other}`")),
        }
    }
}
