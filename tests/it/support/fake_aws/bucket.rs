//! S3 by paths, as far as locks and large templates need it: objects written under conditions.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, Method};

use super::ACCOUNT;

/// Every bucket.
#[derive(Debug, Default)]
pub struct Buckets {
    buckets: BTreeMap<String, Bucket>,
    written: u32,
    /// What is replaced in every object that is written: somebody else does that, at once.
    exchanged: Option<(String, String)>,
    /// The actions that S3 has trouble with.
    down: Vec<&'static str>,
}

/// One bucket.
#[derive(Debug, Default)]
struct Bucket {
    /// The account that it belongs to.
    owner: String,
    /// Whether others may use it.
    open: bool,
    /// Objects by key, each with its tag.
    objects: BTreeMap<String, (Vec<u8>, String)>,
    /// What was set to protect it, in order: the action and the document.
    protections: Vec<(String, String)>,
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
pub fn action(method: &Method, path: &str, query: &str) -> String {
    let object = path.trim_matches('/').contains('/');
    let name = match (method.as_str(), object, query.split('&').next().unwrap_or_default()) {
        ("GET", false, "policy") => "GetBucketPolicy",
        ("PUT", false, "policy") => "PutBucketPolicy",
        ("PUT", false, "publicAccessBlock") => "PutPublicAccessBlock",
        ("PUT", false, "encryption") => "PutBucketEncryption",
        ("PUT", true, _) => "PutObject",
        ("GET", true, _) => "GetObject",
        ("DELETE", true, _) => "DeleteObject",
        ("PUT", false, _) => "CreateBucket",
        ("HEAD", false, _) => "HeadBucket",
        (method, ..) => return format!("{method} {path}?{query}"),
    };
    name.to_owned()
}

impl Buckets {
    /// An object, by bucket and key.
    pub fn object(&self, bucket: &str, key: &str) -> Option<&[u8]> {
        self.buckets.get(bucket)?.objects.get(key).map(|(bytes, _)| bytes.as_slice())
    }

    /// Makes an object that is there hold something else, as another writer does.
    pub fn set(&mut self, bucket: &str, key: &str, bytes: Vec<u8>) {
        if let Some(object) = self.buckets.get_mut(bucket).and_then(|bucket| bucket.objects.get_mut(key)) {
            self.written += 1;
            *object = (bytes, format!("\"{:032x}\"", self.written));
        }
    }

    /// Removes an object.
    pub fn remove(&mut self, bucket: &str, key: &str) {
        if let Some(bucket) = self.buckets.get_mut(bucket) {
            bucket.objects.remove(key);
        }
    }

    /// Answers these actions with HTTP status 503 from now on, and no others.
    pub fn take_down(&mut self, actions: &[&'static str]) {
        self.down = actions.to_vec();
    }

    /// Makes a bucket as if `owner` had; others may use it when it is `open`.
    pub fn make(&mut self, bucket: &str, owner: &str, open: bool) {
        let made = Bucket { owner: owner.to_owned(), open, ..Bucket::default() };
        self.buckets.insert(bucket.to_owned(), made);
    }

    /// Lets somebody replace `from` by `to` in everything that is written from now on.
    pub fn exchange(&mut self, from: &str, to: &str) {
        self.exchanged = Some((from.to_owned(), to.to_owned()));
    }

    /// What was set to protect a bucket, and how many objects it has.
    pub fn protections(&self, bucket: &str) -> (&[(String, String)], usize) {
        self.buckets.get(bucket).map_or((&[], 0), |bucket| (&bucket.protections, bucket.objects.len()))
    }

    /// Answers one request.
    pub fn ask(&mut self, action: &str, path: &str, headers: &HeaderMap, body: &[u8]) -> Answer {
        let path = path.trim_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        if header("content-encoding").is_some_and(|encoding| encoding.contains("aws-chunked")) {
            return Answer::error(501, "NotImplemented", "the fake S3 does not read chunks");
        }
        if self.down.contains(&action) {
            return Answer::error(503, "ServiceUnavailable", "Reduce your request rate.");
        }
        let there = self.buckets.get_mut(bucket);
        if action == "CreateBucket" {
            return match there {
                Some(bucket) if bucket.owner == ACCOUNT => {
                    Answer::error(409, "BucketAlreadyOwnedByYou", "It is yours")
                }
                Some(_) => {
                    Answer::error(409, "BucketAlreadyExists", "The requested bucket name is not available")
                }
                None => {
                    self.make(bucket, ACCOUNT, false);
                    Answer::ok(None, Vec::new())
                }
            };
        }
        // S3 does not ask for it, but who leaves it out may talk to anybody.
        let expected = header("x-amz-expected-bucket-owner");
        if expected.is_none() && action != "HeadBucket" {
            return Answer::error(400, "NoExpectedOwner", "every request must name the owner of the bucket");
        }
        let Some(bucket) = there else {
            return Answer::error(404, "NoSuchBucket", "The specified bucket does not exist");
        };
        if expected.is_some_and(|owner| owner != bucket.owner) || (bucket.owner != ACCOUNT && !bucket.open) {
            return Answer::error(403, "AccessDenied", "Access Denied");
        }
        let there = bucket.objects.get(key);
        match action {
            "HeadBucket" => Answer::ok(None, Vec::new()),
            "GetBucketPolicy" => match bucket.protections.iter().find(|(set, _)| set == "PutBucketPolicy") {
                Some((_, policy)) => Answer::ok(None, policy.clone().into_bytes()),
                None => Answer::error(404, "NoSuchBucketPolicy", "The bucket policy does not exist"),
            },
            "PutBucketPolicy" | "PutPublicAccessBlock" | "PutBucketEncryption" => {
                bucket.protections.push((action.to_owned(), String::from_utf8_lossy(body).into_owned()));
                Answer::ok(None, Vec::new())
            }
            "GetObject" => match there {
                Some((bytes, tag)) => Answer::ok(Some(tag.clone()), bytes.clone()),
                None => Answer::error(404, "NoSuchKey", "The specified key does not exist."),
            },
            "DeleteObject" => {
                bucket.objects.remove(key);
                Answer::ok(None, Vec::new())
            }
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
                let bytes = match &self.exchanged {
                    Some((from, to)) => String::from_utf8_lossy(body).replace(from, to).into_bytes(),
                    None => body.to_vec(),
                };
                bucket.objects.insert(key.to_owned(), (bytes, tag.clone()));
                Answer::ok(Some(tag), Vec::new())
            }
            other => Answer::error(501, "NotImplemented", &format!("the fake S3 does not serve `{other}`")),
        }
    }
}
