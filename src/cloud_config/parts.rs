//! What is in user data that holds other documents: the parts of a MIME message, and what stands
//! below the first line of a Jinja template.
//!
//! RFC 2045 and 2046 as far as cloud-init's writers go: headers with continued lines, boundaries,
//! parts as they are or in base64, messages within messages. cloud-init's own list of types is in
//! its `handlers/__init__.py`; a part of type text/plain is told by how it begins.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::document::{Kind, kind};
use crate::source::{SourceFile, Span};

/// The first line of a Jinja template.
const TEMPLATE: &str = "## template: jinja";

/// How deep messages may stand in each other.
const DEPTH_MOST: usize = 8;

/// The types of parts that cloud-init has a handler for, or opens.
pub const TYPES: [&str; 13] = [
    "text/cloud-boothook",
    "text/cloud-config",
    "text/cloud-config-archive",
    "text/cloud-config-jsonp",
    "text/jinja2",
    "text/part-handler",
    "text/plain",
    "text/x-include-once-url",
    "text/x-include-url",
    "text/x-shellscript",
    "text/x-shellscript-per-boot",
    "text/x-shellscript-per-instance",
    "text/x-shellscript-per-once",
];

/// A document within another.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its type in small letters, `text/cloud-config`.
    pub content_type: String,
    /// Its name, where it was given one.
    pub name: Option<String>,
    /// Its text.
    pub file: Arc<SourceFile>,
    /// Where its text begins in the whole; `None` where it is written in base64.
    pub start: Option<usize>,
    /// The line that says what it is, or its first.
    pub span: Span,
}

impl Part {
    /// What kind of user data it is.
    pub fn kind(&self) -> Kind {
        match self.content_type.as_str() {
            "text/cloud-config" => Kind::CloudConfig,
            "text/plain" => kind(self.file.text()),
            kind if kind.starts_with("text/x-shellscript") => Kind::Script,
            _ => Kind::CloudInitOnly,
        }
    }
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where.
    pub span: Span,
    /// What, in words.
    pub what: String,
}

/// The parts of the MIME message `file`, those of messages in it included.
///
/// # Errors
/// What is wrong with the message.
pub fn of_message(file: &SourceFile) -> Result<Vec<Part>, Broken> {
    let mut parts = Vec::new();
    message(file.name(), file.text(), 0, 0, &mut parts)?;
    Ok(parts)
}

/// What a header says: its value in front of the first semicolon, and a parameter.
struct Headers<'t> {
    fields: Vec<(String, String, Span)>,
    body: &'t str,
    body_at: usize,
}

impl<'t> Headers<'t> {
    fn read(text: &'t str, at: usize) -> Self {
        let mut fields: Vec<(String, String, Span)> = Vec::new();
        let mut seen = 0;
        for line in text.split_inclusive('\n') {
            let span = Span::new(at + seen, at + seen + line.trim_end().len());
            seen += line.len();
            if line.trim().is_empty() {
                break;
            }
            match (line.starts_with([' ', '\t']), fields.last_mut(), line.split_once(':')) {
                (true, Some((_, value, _)), _) => {
                    value.push(' ');
                    value.push_str(line.trim());
                }
                (_, _, Some((name, value))) => {
                    fields.push((name.trim().to_lowercase(), value.trim().to_owned(), span));
                }
                // No header: the text begins here, as it does for Python's reader.
                _ => {
                    seen -= line.len();
                    break;
                }
            }
        }
        Self { fields, body: &text[seen..], body_at: at + seen }
    }

    fn get(&self, name: &str) -> Option<(&str, Span)> {
        let field = self.fields.iter().find(|(known, _, _)| known == name)?;
        Some((&field.1, field.2))
    }

    fn parameter(&self, header: &str, name: &str) -> Option<String> {
        let (value, _) = self.get(header)?;
        value.split(';').skip(1).find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"').to_owned())
        })
    }
}

fn message(name: &str, text: &str, at: usize, depth: usize, parts: &mut Vec<Part>) -> Result<(), Broken> {
    let headers = Headers::read(text, at);
    let first = Span::new(at, at + text.lines().next().unwrap_or("").len());
    let broken = |span, what: &str| Err(Broken { span, what: what.to_owned() });
    let (value, span) = headers.get("content-type").unwrap_or(("text/plain", first));
    let content_type = value.split(';').next().unwrap_or("").trim().to_lowercase();
    if !content_type.starts_with("multipart/") {
        parts.push(part(name, &headers, content_type, span, parts.len() + 1)?);
        return Ok(());
    }
    if depth == DEPTH_MOST {
        return broken(span, "messages stand too deep in each other");
    }
    let Some(boundary) = headers.parameter("content-type", "boundary").filter(|text| !text.is_empty()) else {
        return broken(span, "the message names no `boundary` between its parts");
    };
    let delimiter = format!("--{boundary}");
    let mut begun: Option<usize> = None;
    let mut seen = 0;
    let mut ended = false;
    for line in headers.body.split_inclusive('\n') {
        let here = seen;
        seen += line.len();
        let Some(rest) = line.trim_end().strip_prefix(&delimiter) else { continue };
        if !rest.is_empty() && rest != "--" {
            continue;
        }
        if let Some(begin) = begun {
            // The line's end in front of a delimiter belongs to the delimiter.
            let inner = &headers.body[begin..here];
            let inner =
                inner.strip_suffix('\n').map_or(inner, |inner| inner.strip_suffix('\r').unwrap_or(inner));
            message(name, inner, headers.body_at + begin, depth + 1, parts)?;
        }
        begun = Some(seen);
        if rest == "--" {
            ended = true;
            break;
        }
    }
    match begun {
        None => broken(span, "the boundary that the message names does not stand in it"),
        Some(begin) if !ended => {
            message(name, &headers.body[begin..], headers.body_at + begin, depth + 1, parts)
        }
        Some(_) => Ok(()),
    }
}

fn part(
    name: &str,
    headers: &Headers<'_>,
    content_type: String,
    span: Span,
    number: usize,
) -> Result<Part, Broken> {
    let encoding = headers.get("content-transfer-encoding");
    let (text, start) = match encoding.map(|(value, span)| (value.to_lowercase(), span)) {
        Some((encoding, span)) if encoding == "base64" => {
            let packed: String = headers.body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
            let text = STANDARD.decode(packed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let what = "what the part holds is not base64 of a text".to_owned();
            (text.ok_or(Broken { span, what })?, None)
        }
        Some((encoding, span)) if !matches!(encoding.as_str(), "7bit" | "8bit" | "binary" | "") => {
            return Err(Broken { span, what: format!("a part in `{encoding}` is not looked into") });
        }
        _ => (headers.body.to_owned(), Some(headers.body_at)),
    };
    let own = headers.parameter("content-disposition", "filename");
    let file = SourceFile::new(own.clone().unwrap_or_else(|| format!("part {number} of {name}")), text);
    Ok(Part { content_type, name: own, file, start, span })
}

/// What a Jinja template comes to, as far as can be told without an instance: a text of the same
/// length, with something where a value is put in and blanks for what is no output. `None` when
/// `text` is none.
pub fn of_template(file: &SourceFile) -> Option<Part> {
    let text = file.text();
    let line = text.lines().next().filter(|line| line.trim_end().eq_ignore_ascii_case(TEMPLATE))?;
    let start = text.find('\n').map_or(text.len(), |end| end + 1);
    let mut rest = text[start..].to_owned().into_bytes();
    for (inner, is_value) in pieces(text, start) {
        for byte in &mut rest[inner.start - start..inner.end - start] {
            if *byte != b'\n' {
                *byte = if is_value { b'x' } else { b' ' };
            }
        }
    }
    // Whole characters were replaced by as many bytes.
    let rest = String::from_utf8(rest).ok()?;
    Some(Part {
        content_type: "text/jinja2".to_owned(),
        name: None,
        file: SourceFile::new(file.name(), rest),
        start: Some(start),
        span: Span::new(0, line.len()),
    })
}

/// Expressions, statements and comments behind `start`, and whether each is an expression.
pub fn pieces(text: &str, start: usize) -> Vec<(Span, bool)> {
    let mut found = Vec::new();
    let mut at = start;
    while let Some(open) = text[at..].find('{').map(|open| at + open) {
        let end = match text[open + 1..].chars().next() {
            Some('{') => "}}",
            Some('%') => "%}",
            Some('#') => "#}",
            _ => {
                at = open + 1;
                continue;
            }
        };
        let Some(close) = text[open + 2..].find(end).map(|close| open + 2 + close + 2) else { break };
        found.push((Span::new(open, close), end == "}}"));
        at = close;
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MESSAGE: &str = "Content-Type: multipart/mixed;\n boundary=\"==x==\"\nMIME-Version: 1.0\n\npreamble\n\
        --==x==\nContent-Type: text/cloud-config; charset=\"utf-8\"\nContent-Disposition: attachment; filename=\"a.yaml\"\n\n\
        #cloud-config\nhostname: a\n\n--==x==\nContent-Type: text/x-shellscript\nContent-Transfer-Encoding: base64\n\n\
        IyEvYmlu\nL3NoCg==\n--==x==--\nepilogue\n";

    #[test]
    fn parts_are_found_with_their_types_and_places() {
        let parts = of_message(&SourceFile::new("m", MESSAGE)).expect("it is a message");
        let shown: Vec<_> = parts
            .iter()
            .map(|part| (part.content_type.as_str(), part.file.name(), part.file.text()))
            .collect();
        assert_eq!(
            shown,
            [
                ("text/cloud-config", "a.yaml", "#cloud-config\nhostname: a\n"),
                ("text/x-shellscript", "part 2 of m", "#!/bin/sh\n"),
            ]
        );
        let start = parts[0].start.expect("it is as it is");
        assert!(MESSAGE[start..].starts_with("#cloud-config\nhostname"));
        assert_eq!(parts[1].start, None);
    }

    #[test]
    fn broken_messages_are_told_and_messages_within_messages_opened() {
        let of = |text: &str| of_message(&SourceFile::new("m", text));
        let what = |text: &str| of(text).map(|parts| parts.len()).map_err(|broken| broken.what);
        assert_eq!(
            what("Content-Type: multipart/mixed\n\n--x\n"),
            Err("the message names no `boundary` between its parts".into())
        );
        assert_eq!(
            what("Content-Type: multipart/mixed; boundary=y\n\n--x\n"),
            Err("the boundary that the message names does not stand in it".into())
        );
        let inner = "Content-Type: multipart/mixed; boundary=y\n\n--y\n\na\n--y\n\nb\n--y--";
        let outer = format!("Content-Type: multipart/mixed; boundary=x\n\n--x\n{inner}\n--x\n\nc\n--x--\n");
        assert_eq!(what(&outer), Ok(3));
    }

    #[test]
    fn a_template_keeps_its_length_and_lines() {
        let text =
            "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n{% if a\n %}b: {# c #}1\n";
        let part = of_template(&SourceFile::new("t", text)).expect("it is one");
        assert_eq!(
            part.file.text(),
            "#cloud-config\nhostname: xxxxxxxxxxxxxxxxxxxxxxx\n       \n   b:        1\n"
        );
        assert!(of_template(&SourceFile::new("t", "#cloud-config\n")).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::source::fuzz_cases(128)))]

        #[test]
        fn any_text_is_taken_apart_or_refused_without_panic(text in any::<String>(), lines in "[-:=x;\" \t\n]{0,40}") {
            for text in [text.clone(), format!("Content-Type: multipart/a; boundary=x\n{lines}\n--x\n{text}\n--x--")] {
                for part in of_message(&SourceFile::new("m", text.as_str())).into_iter().flatten() {
                    if let Some(start) = part.start {
                        prop_assert!(text[start..].starts_with(part.file.text()));
                    }
                }
            }
            let template = format!("{TEMPLATE}\n{text}{{{{ {lines} }}}}");
            let part = of_template(&SourceFile::new("t", template.as_str())).expect("it is one");
            prop_assert_eq!(part.file.text().len() + TEMPLATE.len() + 1, template.len());
        }
    }
}
