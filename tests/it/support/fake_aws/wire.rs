//! AWS's Query protocol: forms come in, XML goes out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A request that is refused, or fails, in AWS's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code.
    pub code: String,
    /// The words.
    pub message: String,
}

impl Refusal {
    /// One with HTTP status 400.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { status: 400, code: code.to_owned(), message: message.into() }
    }

    /// CloudFormation's most frequent one.
    pub fn validation(message: impl Into<String>) -> Self {
        Self::new("ValidationError", message)
    }

    /// What is said when a service is down.
    pub fn unavailable() -> Self {
        let words = "The service is unavailable. Please try again.";
        Self { status: 503, ..Self::new("ServiceUnavailable", words) }
    }

    /// The document that says so.
    pub fn document(&self) -> String {
        let sender = if self.status < 500 { "Sender" } else { "Receiver" };
        let error = text("Type", sender) + &text("Code", &self.code) + &text("Message", &self.message);
        tag("ErrorResponse", &(tag("Error", &error) + &text("RequestId", "fake")))
    }
}

/// The fields of a request.
#[derive(Debug)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a request's body.
    pub fn read(body: &str) -> Self {
        let url =
            reqwest::Url::parse(&format!("http://form/?{body}")).expect("a form can stand in an address");
        Self(url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The same from fields.
    pub fn of(fields: &[(&str, &str)]) -> Self {
        Self(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    /// A field that may be left out.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A field that must be there.
    pub fn need(&self, name: &str) -> Result<&str, Refusal> {
        self.get(name).ok_or_else(|| {
            let at = name.to_lowercase();
            Refusal::validation(format!(
                "1 validation error detected: Value null at '{at}' failed to satisfy constraint: Member must not be null"
            ))
        })
    }

    /// Whether a field is `true`.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// A list of texts.
    pub fn list(&self, name: &str) -> Vec<String> {
        (1..).map_while(|at| self.get(&format!("{name}.member.{at}")).map(str::to_owned)).collect()
    }

    /// A list of names and values.
    pub fn pairs(&self, list: &str, name: &str, value: &str) -> BTreeMap<String, String> {
        let field = |at: u32, field: &str| self.get(&format!("{list}.member.{at}.{field}"));
        (1..)
            .map_while(|at| {
                Some((field(at, name)?.to_owned(), field(at, value).unwrap_or_default().to_owned()))
            })
            .collect()
    }

    /// One page of `items`: `most` of them from where the request's token says, and the next token.
    pub fn page<'i, T>(&self, items: &'i [T], most: usize) -> (&'i [T], String) {
        let from = self.get("NextToken").and_then(|token| token.parse().ok()).unwrap_or(0).min(items.len());
        let to = items.len().min(from + most);
        let next = if to < items.len() { text("NextToken", &to.to_string()) } else { String::new() };
        (&items[from..to], next)
    }
}

/// The document that answers `action`.
pub fn answer(action: &str, result: &str) -> String {
    let inner =
        tag(&format!("{action}Result"), result) + &tag("ResponseMetadata", &text("RequestId", "fake"));
    tag(&format!("{action}Response"), &inner)
}

/// An element that holds elements.
pub fn tag(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// An element that holds a text.
pub fn text(name: &str, inner: &str) -> String {
    let mut escaped = String::new();
    for letter in inner.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#13;"),
            letter => escaped.push(letter),
        }
    }
    tag(name, &escaped)
}

/// The same, or nothing where there is no text.
pub fn maybe(name: &str, inner: Option<&str>) -> String {
    inner.filter(|inner| !inner.is_empty()).map_or_else(String::new, |inner| text(name, inner))
}

/// A list.
pub fn members(name: &str, items: impl IntoIterator<Item = String>) -> String {
    let mut inner = String::new();
    for item in items {
        let _ = write!(inner, "<member>{item}</member>");
    }
    tag(name, &inner)
}

/// A list of names and values.
pub fn pairs(list: &str, name: &str, value: &str, map: &BTreeMap<String, String>) -> String {
    members(list, map.iter().map(|(n, v)| text(name, n) + &text(value, v)))
}
