//! What went wrong with a call: the one place that turns the SDK's errors into what happened, why, and (by
//! their kind) what to do.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use chrono::{DateTime, Utc};

use super::answers::{self, NotWhole};
use super::profile;
use crate::port::cloud::CloudError;

/// How much of an answer that does not come from AWS is quoted.
const QUOTED_MOST: usize = 80;

/// The services that were asked, and their addresses: errors of connections do not hold any.
static ADDRESSES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Takes note of the address of a service, `cloudformation` or `s3`.
pub fn asked(service: &str, address: &str) {
    if let Ok(mut addresses) = ADDRESSES.lock()
        && addresses.get(service).is_none_or(|known| known != address)
    {
        addresses.insert(service.to_owned(), address.to_owned());
    }
}

/// The provider's code and words, when it answered with an error at all.
pub fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<(&str, &str)> {
    match error {
        SdkError::ServiceError(service) => {
            let error = service.err();
            Some((error.code().unwrap_or("no code"), error.message().unwrap_or("no message")))
        }
        _ => None,
    }
}

/// Whether the endpoint does not know the operation at all, as emulators don't know some.
pub fn is_missing<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let codes = ["InternalFailure", "NotImplemented", "InvalidAction", "UnknownOperation"];
    refusal(error).is_some_and(|(code, _)| codes.contains(&code))
}

/// Turns the SDK's error into ours; `doing` says what was tried, on what.
pub fn failure<E>(doing: impl Into<String>, error: SdkError<E, HttpResponse>) -> CloudError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let doing = doing.into();
    let address = address(std::any::type_name::<E>());
    match &error {
        SdkError::ServiceError(service) => {
            let raw = service.raw();
            match service.err().code() {
                Some(code) => {
                    let date = raw.headers().get("date");
                    answered(doing, code, service.err().message(), raw.status().as_u16(), date)
                }
                None => strange(doing, address, raw),
            }
        }
        SdkError::ResponseError(response) => match NotWhole::of(&error) {
            Some(NotWhole::Lacks(field)) => answers::missing(doing, field),
            None if !is_cut(response.raw()) => strange(doing, address, response.raw()),
            Some(NotWhole::Cut(_)) | None => CloudError::Unreachable {
                doing,
                reason: format!("{address}: it closed the connection in the middle of its answer"),
            },
        },
        SdkError::TimeoutError(_) => {
            CloudError::Unreachable { doing, reason: format!("{address} does not answer in time") }
        }
        SdkError::ConstructionFailure(_) => unsent(doing, &address, &error),
        SdkError::DispatchFailure(dispatch) if dispatch.is_user() => unsent(doing, &address, &error),
        SdkError::DispatchFailure(_) => match credentials(&error) {
            Some(reason) => CloudError::NoCredentials { doing, reason },
            None => CloudError::Unreachable { doing, reason: format!("{address}: {}", connection(&error)) },
        },
        _ => CloudError::Unreachable { doing, reason: format!("{address}: {}", chain(&error)) },
    }
}

/// An error in the provider's own words; `date` is when it was answered, by the answer's header.
pub fn answered(
    doing: String,
    code: &str,
    message: Option<&str>,
    status: u16,
    date: Option<&str>,
) -> CloudError {
    let reason = match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => message.to_owned(),
        None => format!("it gives no reason (HTTP status {status})"),
    };
    let is = |codes: &[&str]| {
        codes.iter().any(|known| code == *known || code.strip_suffix("Exception") == Some(known))
    };
    let late = reason.contains("Signature expired") || reason.contains("Signature not yet current");
    if is(&["RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"]) || late {
        return CloudError::Clock { doing, reason: date.and_then(skew).unwrap_or(reason) };
    }
    if is(THROTTLED) {
        return CloudError::Throttled { doing, reason: format!("{reason} ({code})") };
    }
    if is(&["ExpiredToken", "ExpiredTokenError", "TokenRefreshRequired"]) {
        return CloudError::Expired { doing, reason };
    }
    if is(WRONG_CREDENTIALS) {
        return CloudError::WrongCredentials { doing, reason: format!("{reason} ({code})") };
    }
    if code.starts_with("AccessDenied")
        || is(&["UnauthorizedOperation", "NotAuthorized", "AuthorizationError"])
    {
        return CloudError::Denied { doing, reason };
    }
    if status >= 500 || is(&["ServiceUnavailable", "InternalFailure", "InternalError", "InternalServerError"])
    {
        return CloudError::Unavailable { doing, reason: format!("{reason} ({code})") };
    }
    CloudError::Refused { doing, code: code.to_owned(), reason }
}

/// Codes for too many calls.
const THROTTLED: &[&str] = &[
    "Throttling",
    "ThrottledException",
    "Throttled",
    "RequestThrottled",
    "TooManyRequests",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "SlowDown",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceeded",
];

/// Codes for credentials that AWS does not know, or whose signature is wrong.
const WRONG_CREDENTIALS: &[&str] = &[
    "UnrecognizedClient",
    "InvalidClientTokenId",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "InvalidSignature",
    "IncompleteSignature",
    "MissingAuthenticationToken",
    "AuthFailure",
    "InvalidToken",
];

/// An answer that does not come from AWS: most often a proxy's page.
fn strange(doing: String, address: String, raw: &HttpResponse) -> CloudError {
    let kind = raw.headers().get("content-type");
    page(doing, address, raw.status().as_u16(), raw.body().bytes().unwrap_or_default(), kind)
}

/// Whether an answer ended before all of it was there: then none of its body is.
fn is_cut(raw: &HttpResponse) -> bool {
    let promised = raw.headers().get("content-length").and_then(|length| length.parse::<u64>().ok());
    promised.is_some_and(|length| length > 0) && raw.body().bytes().is_none_or(<[u8]>::is_empty)
}

/// The same, from its parts.
pub fn page(doing: String, address: String, status: u16, body: &[u8], kind: Option<&str>) -> CloudError {
    // HEAD requests are answered without a body, also by AWS.
    if body.is_empty() && matches!(status, 401 | 403) {
        return CloudError::Denied { doing, reason: format!("HTTP status {status}, without a reason") };
    }
    CloudError::Strange { doing, address, status, words: words(body, kind) }
}

/// No answer to a request that was made without the SDK.
pub fn unanswered(doing: String, address: &str, error: &(dyn std::error::Error + 'static)) -> CloudError {
    CloudError::Unreachable { doing, reason: format!("{address}: {}", connection(error)) }
}

/// No credentials for a request that is made without the SDK.
pub fn uncredentialed(doing: String, error: &CredentialsError) -> CloudError {
    CloudError::NoCredentials { doing, reason: why_none(error) }
}

/// The first words of an answer, without markup.
fn words(bytes: &[u8], kind: Option<&str>) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned();
    // A page's title says what it is about, and nobody reads its scripts.
    let title = text.find("<title>").and_then(|at| text[at + 7..].split("</title>").next());
    let plain = match title.filter(|title| !title.trim().is_empty()) {
        Some(title) => title.to_owned(),
        None if text.trim_start().starts_with('<') => {
            let mut plain = String::new();
            let mut within = false;
            for letter in text.chars() {
                match letter {
                    '<' => within = true,
                    '>' => {
                        within = false;
                        plain.push(' ');
                    }
                    letter if !within => plain.push(letter),
                    _ => {}
                }
            }
            plain
        }
        None => text,
    };
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = plain.chars().filter(|c| !c.is_control()).take(QUOTED_MOST).collect();
    let kind = kind.map_or(String::new(), |kind| format!(", {kind}"));
    match cut.is_empty() {
        true => format!("an empty answer{kind}"),
        false if cut.len() < plain.len() => format!("`{cut}...`{kind}"),
        false => format!("`{cut}`{kind}"),
    }
}

/// How far the clock of this machine is from the endpoint's.
fn skew(date: &str) -> Option<String> {
    let date = DateTime::parse_from_rfc2822(date).ok()?.with_timezone(&Utc);
    let here: DateTime<Utc> = SystemTime::now().into();
    let apart = here.signed_duration_since(date);
    let minutes = apart.num_minutes().abs();
    let (amount, unit) =
        if minutes > 0 { (minutes, "minute") } else { (apart.num_seconds().abs(), "second") };
    let plural = if amount == 1 { "" } else { "s" };
    let way = if apart.num_seconds() < 0 { "behind" } else { "ahead of" };
    Some(format!("the clock of this machine is {amount} {unit}{plural} {way} the endpoint's"))
}

/// A request that could not even be made.
fn unsent<E>(doing: String, address: &str, error: &SdkError<E, HttpResponse>) -> CloudError
where
    E: std::error::Error + 'static,
{
    // The SDK's words hold the whole request, signature and all.
    let words = chain(error);
    let first = words.lines().next().unwrap_or_default();
    let reason: String = first.split(" Request {").next().unwrap_or_default().chars().take(200).collect();
    match credentials(error) {
        Some(reason) => CloudError::NoCredentials { doing, reason },
        None => {
            CloudError::Unreachable { doing, reason: format!("{address}: no request can be made: {reason}") }
        }
    }
}

/// Why there are no credentials, where that is why.
fn credentials(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = error.source();
    let mut found = None;
    while let Some(error) = next {
        found = found.or(error.downcast_ref::<CredentialsError>());
        next = error.source();
    }
    found.map(why_none)
}

fn why_none(found: &CredentialsError) -> String {
    if let Some(missing) = profile::missing() {
        return missing;
    }
    match found {
        CredentialsError::CredentialsNotLoaded(_) => {
            "no variable, profile, process or metadata service gives any".to_owned()
        }
        CredentialsError::ProviderTimedOut(_) => "what gives them does not answer in time".to_owned(),
        CredentialsError::InvalidConfiguration(_) => format!("they are set up wrongly: {}", chain(found)),
        _ => chain(found),
    }
}

/// Why no answer came, in plain words where the chain of causes says it in the library's.
fn connection(error: &(dyn std::error::Error + 'static)) -> String {
    let words = chain(error);
    let lower = words.to_lowercase();
    let has = |part: &str| lower.contains(part);
    let plain = if has("dns error") || has("failed to lookup address") {
        "its name can't be resolved"
    } else if has("connection refused") {
        "nothing listens there (connection refused)"
    } else if has("network is unreachable") || has("no route to host") || has("host is unreachable") {
        "there is no route to it"
    } else if has("wrong version number") || has("invalidcontenttype") || has("corrupt message") {
        "it does not speak TLS: is its address `http://`?"
    } else if has("certificate") || has("unknownissuer") {
        return format!("its certificate is not accepted: {words}");
    } else if has("connection reset")
        || has("connection closed")
        || has("incompletemessage")
        || has("broken pipe")
        || has("unexpected eof")
        || has("close_notify")
    {
        "it closed the connection without an answer"
    } else if has("invalid http") || has("parse error") || has("parsed") {
        "what answers there does not speak HTTP"
    } else if has("timed out") || has("timeout") {
        "it does not answer in time"
    } else {
        return words;
    };
    plain.to_owned()
}

/// The innermost causes of an error, where the SDK's outer layers say only "dispatch failure".
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let text = error.to_string();
        if !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

/// The address of the service whose error has this type, as far as it was asked; else its name.
fn address(type_name: &str) -> String {
    let service = type_name.split("::").find_map(|part| part.strip_prefix("aws_sdk_"));
    let service = service.unwrap_or("the service");
    let known = ADDRESSES.lock().ok().and_then(|addresses| addresses.get(service).cloned());
    known.unwrap_or_else(|| service.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_page_the_title_or_the_text_is_quoted() {
        let page = "<html><head><title>502 Bad\n Gateway</title></head><body>x</body></html>";
        assert_eq!(words(page.as_bytes(), Some("text/html")), "`502 Bad Gateway`, text/html");
        assert_eq!(words(b"<html><b>Sign</b> in</html>", None), "`Sign in`");
        assert_eq!(words(b"upstream\tfailed", None), "`upstream failed`");
        assert_eq!(words(b"", Some("text/plain")), "an empty answer, text/plain");
        assert_eq!(words("ä".repeat(100).as_bytes(), None), format!("`{}...`", "ä".repeat(80)));
    }
}
