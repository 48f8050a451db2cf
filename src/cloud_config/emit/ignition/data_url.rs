//! Contents as URLs of scheme `data` (RFC 2397).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spec::Resource;
use crate::cloud_config::packed::gzip;

/// A text up to this long stays readable, even if base64 were shorter.
const READABLE_MOST: usize = 256;

/// What holds `data`: as text where it is short and printable, else in base64, packed with gzip
/// where that saves a quarter at least.
pub fn resource(data: &[u8]) -> Resource {
    let base64 = |data: &[u8]| format!("data:;base64,{}", STANDARD.encode(data));
    let whole = match escaped(data) {
        Some(text) if data.len() <= READABLE_MOST => return Resource { compression: None, source: text },
        Some(text) if text.len() <= base64(data).len() => text,
        _ => base64(data),
    };
    let packed = base64(&gzip(data));
    if packed.len() * 4 <= whole.len() * 3 {
        Resource { compression: Some("gzip"), source: packed }
    } else {
        Resource { compression: None, source: whole }
    }
}

/// A printable text with all but plain characters as `%XX`.
fn escaped(data: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(data).ok()?;
    let printable = |c: char| matches!(c, '\n' | '\t') || !c.is_control();
    if !text.chars().all(printable) {
        return None;
    }
    let mut url = String::from("data:,");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/:=+@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_readable_and_the_rest_is_packed() {
        let plain = |source: &str| Resource { compression: None, source: source.to_owned() };
        assert_eq!(resource(b""), plain("data:,"));
        assert_eq!(resource(b"a=b, 100%\n"), plain("data:,a=b%2C%20100%25%0A"));
        assert_eq!(resource("ä".as_bytes()), plain("data:,%C3%A4"));
        assert_eq!(resource(&[0, 255]), plain("data:;base64,AP8="));
        let long = resource("the same line again and again\n".repeat(40).as_bytes());
        assert_eq!(long.compression, Some("gzip"));
        assert!(long.source.len() < 200, "{}", long.source);
    }
}
