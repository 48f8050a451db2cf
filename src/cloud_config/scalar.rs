//! Scalars as the engines read them: YAML 1.1, where `off` is a boolean and `0644` is 420.
//!
//! PyYAML's resolvers are the source (`yaml/resolver.py`); go-yaml's differ where the document
//! asks for a text, which `Node::text` gives as it was written.

use crate::yaml::{Kind, Node};

/// What a scalar is to a reader of YAML 1.1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'n> {
    /// Nothing.
    Null,
    /// `true`, `yes`, `on` and their opposites.
    Bool(bool),
    /// A whole number; `0644` is 420, `12:30` is 750.
    Integer(i64),
    /// Another number, or one too large.
    Float,
    /// `2026-01-01`, with a time or without.
    Date,
    /// A text.
    Text(&'n str),
}

/// What `node` is, if it is a scalar.
pub fn scalar(node: &Node) -> Option<Scalar<'_>> {
    let Kind::Scalar { text, plain } = &node.kind else { return None };
    Some(match node.tag.as_deref() {
        None if *plain => resolve(text),
        Some("!!int" | "!!float" | "!!bool" | "!!null") => resolve(text),
        _ => Scalar::Text(text),
    })
}

/// The boolean that `node` is.
pub fn boolean(node: &Node) -> Option<bool> {
    match scalar(node) {
        Some(Scalar::Bool(value)) => Some(value),
        _ => None,
    }
}

/// What a plain scalar is.
pub fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => return Scalar::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Scalar::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "-.inf" | ".nan" | ".NaN" | ".NAN" => return Scalar::Float,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Scalar::Text(text);
    }
    if is_date(text) {
        return Scalar::Date;
    }
    let sign = if text.starts_with('-') { -1 } else { 1 };
    if let Some(value) = integer(unsigned) {
        return value.checked_mul(sign).map_or(Scalar::Float, Scalar::Integer);
    }
    if is_float(unsigned) { Scalar::Float } else { Scalar::Text(text) }
}

fn integer(text: &str) -> Option<i64> {
    let digits = text.replace('_', "");
    let all = |text: &str, radix: u32| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let parse = |text: &str, radix: u32| {
        all(text, radix).then(|| i64::from_str_radix(text, radix).unwrap_or(i64::MAX))
    };
    if text.starts_with('_') {
        return None;
    }
    if let Some(binary) = digits.strip_prefix("0b") {
        return parse(binary, 2);
    }
    if let Some(hex) = digits.strip_prefix("0x") {
        return parse(hex, 16);
    }
    if let Some(octal) = digits.strip_prefix('0').filter(|rest| !rest.is_empty()) {
        return parse(octal, 8);
    }
    let mut parts = digits.split(':');
    let mut value = parse(parts.next()?, 10)?;
    for part in parts {
        let place = parse(part, 10).filter(|place| *place < 60 && part.len() <= 2)?;
        value = value.saturating_mul(60).saturating_add(place);
    }
    Some(value)
}

fn is_float(text: &str) -> bool {
    let Some((whole, rest)) = text.split_once('.') else { return false };
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (&rest[..at], Some(&rest[at + 1..])),
        None => (rest, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    let exponent = exponent.is_none_or(|exponent| {
        exponent.strip_prefix(['-', '+']).is_some_and(|rest| !rest.is_empty() && digits(rest))
    });
    // `1.2.3` is a text, and so is `.`.
    let digit = whole.bytes().chain(fraction.bytes()).any(|byte| byte.is_ascii_digit());
    digits(whole) && digits(fraction) && exponent && digit
}

fn is_date(text: &str) -> bool {
    let Some(date) = text.get(..10) else { return false };
    let shape = date.bytes().enumerate().all(|(at, byte)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    });
    let rest = &text[10..];
    let time = rest.strip_prefix(['T', 't', ' ']).is_some_and(|time| {
        let time = time.trim_start();
        time.len() >= 7 && time.bytes().take(2).any(|byte| byte.is_ascii_digit()) && time.contains(':')
    });
    shape && (rest.is_empty() || time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_what_pyyaml_makes_of_them() {
        let cases = [
            ("off", Scalar::Bool(false)),
            ("Yes", Scalar::Bool(true)),
            ("y", Scalar::Text("y")),
            ("0644", Scalar::Integer(420)),
            ("0o644", Scalar::Text("0o644")),
            ("0889", Scalar::Text("0889")),
            ("644", Scalar::Integer(644)),
            ("1_000", Scalar::Integer(1000)),
            ("-12", Scalar::Integer(-12)),
            ("12:30", Scalar::Integer(750)),
            ("22:99", Scalar::Text("22:99")),
            ("1.5", Scalar::Float),
            ("1e3", Scalar::Text("1e3")),
            ("1.2.3", Scalar::Text("1.2.3")),
            ("2026-01-01", Scalar::Date),
            ("2026-01-01T00:00:00Z", Scalar::Date),
            ("99999999999999999999", Scalar::Integer(i64::MAX)),
            ("~", Scalar::Null),
            ("10.0.0.1", Scalar::Text("10.0.0.1")),
        ];
        for (text, expected) in cases {
            assert_eq!(resolve(text), expected, "{text}");
        }
    }
}
