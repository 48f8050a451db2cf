//! The parameter store of Systems Manager: JSON, unlike the other services here.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde_json::{Value, json};

/// The parameters by name.
#[derive(Debug, Default)]
pub struct ParameterStore(pub BTreeMap<String, String>);

/// What a request asks for; `None` for another service's.
pub fn action(headers: &HeaderMap) -> Option<String> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    target.strip_prefix("AmazonSSM.").map(str::to_owned)
}

impl ParameterStore {
    /// The status and the document that answer a request.
    pub fn ask(&mut self, action: &str, body: &[u8]) -> (u16, String) {
        let body: Value = serde_json::from_slice(body).expect("a request in JSON");
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let name = text("Name");
        let missing = (400, json!({"__type": "ParameterNotFound", "message": "it is not there"}));
        let (status, document) = match action {
            "GetParameter" => match self.0.get(&name) {
                Some(value) => (200, json!({"Parameter": {"Name": name, "Value": value, "Type": "String"}})),
                None => missing,
            },
            "PutParameter" => {
                self.0.insert(name, text("Value"));
                (200, json!({"Version": 1}))
            }
            "DeleteParameter" if self.0.remove(&name).is_some() => (200, json!({})),
            "DeleteParameter" => missing,
            other => (400, json!({"__type": "InvalidAction", "message": other})),
        };
        (status, document.to_string())
    }
}
