//! Percent-encoding of texts in addresses (RFC 3986).

/// `text` as one part of a path, or as a value in a query: everything but unreserved characters is escaped.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_has_a_meaning_in_addresses_is_escaped() {
        assert_eq!(super::encoded("a-b._~9"), "a-b._~9");
        assert_eq!(super::encoded("run test (a/b)?&=+%é"), "run%20test%20%28a%2Fb%29%3F%26%3D%2B%25%C3%A9");
    }
}
