//! What a file of the document holds once its encoding is undone.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};

use super::packed;
use crate::yaml::Node;

/// Padding may be left out: Go's decoder wants it, Python's wants it, so it is asked for.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// How a content is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it stands.
    Plain,
    /// Base64.
    Base64,
    /// Gzip; bytes that only a `!!binary` can hold.
    Gzip,
    /// Base64 of gzip.
    GzipBase64,
}

impl Encoding {
    /// The encoding of that name; cloud-init takes an unknown one for a plain text.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "" | "text/plain" => Self::Plain,
            "b64" | "base64" => Self::Base64,
            "gz" | "gzip" => Self::Gzip,
            "gz+b64" | "gz+base64" | "gzip+b64" | "gzip+base64" => Self::GzipBase64,
            _ => return None,
        })
    }
}

/// The bytes that a `content` node gives before any encoding is undone: YAML's `!!binary` is base64.
///
/// # Errors
/// When it says `!!binary` and is no base64.
pub fn raw(node: &Node) -> Result<Vec<u8>, &'static str> {
    let text = node.text().unwrap_or_default();
    if node.tag.as_deref() == Some("!!binary") {
        base64(text.as_bytes())
    } else {
        Ok(text.as_bytes().to_vec())
    }
}

/// Undoes `encoding`.
///
/// # Errors
/// What is wrong with the data, in words.
pub fn decode(data: &[u8], encoding: Encoding) -> Result<Vec<u8>, &'static str> {
    match encoding {
        Encoding::Plain => Ok(data.to_vec()),
        Encoding::Base64 => base64(data),
        Encoding::Gzip => packed::gunzip(data),
        Encoding::GzipBase64 => packed::gunzip(&base64(data)?),
    }
}

/// Base64 as written in a block text: line ends are left out.
fn base64(data: &[u8]) -> Result<Vec<u8>, &'static str> {
    let data: Vec<u8> = data.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&data).map_err(|_| match general_purpose::STANDARD_NO_PAD.decode(data) {
        Ok(_) => "its padding (`=` at the end) is missing",
        Err(_) => "it is not base64",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_undone() {
        assert_eq!(decode(b"aGVs\nbG8=\n", Encoding::Base64).as_deref(), Ok(b"hello".as_slice()));
        assert_eq!(decode(b"aGVsbG8", Encoding::Base64), Err("its padding (`=` at the end) is missing"));
        assert_eq!(decode(b"?", Encoding::Base64), Err("it is not base64"));
        assert_eq!(decode(b"plain", Encoding::Gzip), Err("it does not start as gzip does"));
        assert_eq!(Encoding::of("gzip+base64"), Some(Encoding::GzipBase64));
        assert_eq!(Encoding::of("zip"), None);
    }
}
