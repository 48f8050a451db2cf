//! The fields of a form that a browser has sent.

use serde::Serialize;

/// The fields, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Fields(Vec<(String, String)>);

impl Fields {
    /// Reads `application/x-www-form-urlencoded`. What is not UTF-8 becomes a replacement character.
    pub fn parse(body: &[u8]) -> Self {
        let pairs = body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        let fields = pairs.map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            (decoded(name), decoded(value))
        });
        Self(fields.collect())
    }

    /// The first field of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The same, if it is filled in.
    pub fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).map(str::trim).filter(|value| !value.is_empty())
    }
}

fn decoded(text: &[u8]) -> String {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escaped = match (byte, text.get(at + 1), text.get(at + 2)) {
            (b'%', Some(&high), Some(&low)) => digit(high).zip(digit(low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match escaped {
            Some(byte) => {
                bytes.push(byte);
                at += 3;
            }
            None => {
                bytes.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A path of this server, where a log-in leads; the first page for everything else.
pub fn local_path(text: &str) -> &str {
    let is_local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.starts_with("/login")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_local { text } else { "/" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_browsers_write_them() {
        let fields =
            Fields::parse(b"csrf=abc&commit=feature%2Fx+y&empty=&reason=%C3%A4%zz%4&flag&csrf=other");
        assert_eq!(fields.get("csrf"), Some("abc"));
        assert_eq!(fields.get("commit"), Some("feature/x y"));
        assert_eq!((fields.get("empty"), fields.filled("empty")), (Some(""), None));
        assert_eq!(fields.get("reason"), Some("ä%zz%4"));
        assert_eq!((fields.get("flag"), fields.get("none")), (Some(""), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_fields(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Fields::parse(&body);
        }
    }

    #[test]
    fn a_log_in_leads_nowhere_else() {
        for good in ["/", "/runs/7", "/runs?pipeline=web&state=failed"] {
            assert_eq!(local_path(good), good);
        }
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "runs",
            "/a\r\nset-cookie: x",
            "/login?next=/",
            "/\tx",
        ] {
            assert_eq!(local_path(bad), "/", "{bad}");
        }
    }
}
