//! Whether a webhook comes from somebody who knows its secret. Pure.
//!
//! GitHub signs the body with HMAC-SHA256 in `X-Hub-Signature-256` (`sha256=HEX`), Gitea and Forgejo in
//! `X-Gitea-Signature` and `X-Forgejo-Signature` (`HEX`). Everybody else sends `X-Fleetwright-Signature: t=UNIX,v1=HEX`,
//! the HMAC-SHA256 of the time in seconds, a full stop and the body: as Stripe does it.

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::secret::Secret;

/// How far the time in a signature may be from ours, in seconds.
const SKEW: i64 = 300;
/// Headers of forges, and what stands before the signature in them.
const FORGES: [(&str, &str); 3] =
    [("x-hub-signature-256", "sha256="), ("x-forgejo-signature", ""), ("x-gitea-signature", "")];
/// The header of everybody else.
const OWN: &str = "x-fleetwright-signature";

/// Why a webhook is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has no signature.
    #[error(
        "it is not signed: send X-Hub-Signature-256, X-Forgejo-Signature, X-Gitea-Signature or X-Fleetwright-Signature"
    )]
    Unsigned,
    /// The signature is none.
    #[error("its signature can't be read")]
    Malformed,
    /// It was signed too long ago, or in the future.
    #[error("it was not signed within the last {} minutes", SKEW / 60)]
    Stale,
    /// It was signed with another secret, or changed since.
    #[error("its signature is wrong")]
    Forged,
}

/// The signature of a webhook, by which a repeated one is recognised.
pub type Signature = [u8; 32];

/// Checks a webhook against all secrets that are valid now.
///
/// # Errors
/// Why it is refused.
pub fn check<'h>(
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    secrets: &[Secret<String>],
    now: DateTime<Utc>,
) -> Result<Signature, Refusal> {
    let (time, text) = match header(OWN) {
        Some(text) => own(text).map(|(time, text)| (Some(time), text)).ok_or(Refusal::Malformed)?,
        None => {
            let found = FORGES.iter().find_map(|(name, before)| Some((header(name)?, before)));
            let (text, before) = found.ok_or(Refusal::Unsigned)?;
            (None, text.strip_prefix(before).ok_or(Refusal::Malformed)?)
        }
    };
    let signature = bytes(text).ok_or(Refusal::Malformed)?;
    if let Some(time) = time {
        let seconds: i64 = time.parse().map_err(|_| Refusal::Malformed)?;
        if now.timestamp().saturating_sub(seconds).saturating_abs() > SKEW {
            return Err(Refusal::Stale);
        }
    }
    let is_right = |secret: &Secret<String>| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).ok()?;
        if let Some(time) = time {
            mac.update(time.as_bytes());
            mac.update(b".");
        }
        mac.update(body);
        mac.verify_slice(&signature).ok()
    };
    // An empty secret is known to everybody.
    let mut valid = secrets.iter().filter(|secret| !secret.expose().is_empty());
    if valid.any(|secret| is_right(secret).is_some()) { Ok(signature) } else { Err(Refusal::Forged) }
}

/// The time and the signature of `t=UNIX,v1=HEX`.
fn own(text: &str) -> Option<(&str, &str)> {
    let (time, signature) = text.split_once(',')?;
    Some((time.trim().strip_prefix("t=")?, signature.trim().strip_prefix("v1=")?))
}

fn bytes(text: &str) -> Option<Signature> {
    let text = text.trim().as_bytes();
    let mut found = [0; 32];
    if text.len() != found.len() * 2 {
        return None;
    }
    for (byte, pair) in found.iter_mut().zip(text.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_795_514_400;

    fn secrets(texts: &[&str]) -> Vec<Secret<String>> {
        texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
    }

    fn checked(headers: &[(&str, &str)], body: &[u8], secrets: &[Secret<String>]) -> Result<(), Refusal> {
        let header = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        check(header, body, secrets, DateTime::from_timestamp(NOW, 0).expect("a time")).map(drop)
    }

    fn sign(secret: &str, parts: &[&[u8]]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The example in GitHub's documentation of webhooks, "Validating webhook deliveries".
    #[test]
    fn a_signature_of_github_is_taken() {
        let secret = secrets(&["It's a Secret to Everybody"]);
        let signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let header = [("x-hub-signature-256", signature)];
        assert_eq!(checked(&header, b"Hello, World!", &secret), Ok(()));
        assert_eq!(checked(&header, b"Hello, World?", &secret), Err(Refusal::Forged));
        assert_eq!(checked(&header, b"Hello, World!", &secrets(&["another"])), Err(Refusal::Forged));
        assert_eq!(checked(&header, b"Hello, World!", &[]), Err(Refusal::Forged));
        let bare = [("x-hub-signature-256", &signature[7..])];
        assert_eq!(checked(&bare, b"Hello, World!", &secret), Err(Refusal::Malformed));
    }

    #[test]
    fn both_secrets_are_valid_while_one_replaces_the_other() {
        let two = secrets(&["new", "old"]);
        for name in ["x-gitea-signature", "x-forgejo-signature"] {
            for secret in ["new", "old"] {
                assert_eq!(checked(&[(name, &sign(secret, &[b"{}"]))], b"{}", &two), Ok(()));
            }
            assert_eq!(checked(&[(name, &sign("older", &[b"{}"]))], b"{}", &two), Err(Refusal::Forged));
        }
        assert_eq!(
            checked(&[("x-gitea-signature", &sign("", &[b"{}"]))], b"{}", &secrets(&[""])),
            Err(Refusal::Forged)
        );
    }

    #[test]
    fn a_signature_with_its_time_is_taken_for_five_minutes() {
        let secret = secrets(&["s"]);
        let at = |time: i64| {
            let signature = sign("s", &[time.to_string().as_bytes(), b".", b"{}"]);
            checked(&[(OWN, &format!("t={time},v1={signature}"))], b"{}", &secret)
        };
        assert_eq!((at(NOW), at(NOW - 299), at(NOW + 299)), (Ok(()), Ok(()), Ok(())));
        assert_eq!((at(NOW - 301), at(NOW + 301)), (Err(Refusal::Stale), Err(Refusal::Stale)));
        let moved = sign("s", &[NOW.to_string().as_bytes(), b".", b"{}"]);
        let moved = format!("t={},v1={moved}", NOW + 1);
        assert_eq!(checked(&[(OWN, &moved)], b"{}", &secret), Err(Refusal::Forged));
        assert_eq!(checked(&[], b"{}", &secret), Err(Refusal::Unsigned));
        for text in ["", "t=1", "v1=00,t=1", "t=x,v1=00"] {
            assert_eq!(checked(&[(OWN, text)], b"{}", &secret), Err(Refusal::Malformed), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_taken_without_the_secret(
            name in proptest::sample::select(vec![OWN, "x-hub-signature-256", "x-gitea-signature"]),
            value in "\\PC{0,90}",
        ) {
            let taken = checked(&[(name, &value)], b"{}", &secrets(&["s"])).is_ok();
            prop_assert!(!taken);
        }
    }
}
