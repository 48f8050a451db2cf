//! The description of the API, for programs: `GET /v1/openapi.json`.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const DOCUMENT: &str = include_str!("openapi.json");

/// `GET /v1/openapi.json`.
pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::pipeline::api_routes;
    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(DOCUMENT).expect("JSON")
    }

    fn operations(document: &Value) -> Vec<(String, String, Value)> {
        let paths = document["paths"].as_object().expect("paths");
        let each = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().expect("methods").clone();
            let path = path.clone();
            methods.into_iter().map(move |(method, operation)| (path.clone(), method, operation))
        };
        paths.iter().flat_map(each).collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let document = parsed();
        let described: BTreeSet<(String, String)> =
            operations(&document).into_iter().map(|(path, method, _)| (path, method)).collect();
        let served = api_routes().into_iter().map(|route| (route.path.to_owned(), route.method.to_owned()));
        assert_eq!(described, served.collect());
    }

    #[test]
    fn every_operation_names_its_parameters_and_its_errors() {
        let document = parsed();
        let mut names = BTreeSet::new();
        for (path, method, operation) in operations(&document) {
            let at = format!("{method} {path}");
            assert!(names.insert(operation["operationId"].to_string()), "{at} shares its name");
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for part in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let is_it =
                    |one: &Value| one["name"] == part && one["in"] == "path" && one["required"] == true;
                assert!(parameters.iter().any(is_it), "{at} lacks `{part}`");
            }
            let responses = operation["responses"].as_object().expect("responses");
            // One becomes a stream.
            let is_good = |status: &String| status.starts_with('2') || status == "101";
            assert!(responses.keys().any(is_good), "{at}");
            let mut wanted = vec!["401", "408"];
            if operation["security"].is_null() {
                wanted.extend(["403", "421", "500"]);
            }
            for status in wanted {
                assert!(responses.contains_key(status), "{at} lacks {status}");
            }
            for (status, response) in responses.iter().filter(|(status, _)| !is_good(status)) {
                let target =
                    response["$ref"].as_str().unwrap_or_else(|| panic!("{at} {status} is no reference"));
                let found = document.pointer(target.trim_start_matches('#')).expect(target);
                let schema = &found["content"]["application/json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Error", "{at} {status}");
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(fields) => {
                    found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                    fields.values().for_each(|value| references(value, found));
                }
                Value::Array(items) => items.iter().for_each(|value| references(value, found)),
                _ => {}
            }
        }
        let document = parsed();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for target in found {
            let path = target.strip_prefix('#').expect("a place in the document");
            assert!(document.pointer(path).is_some(), "{target} leads nowhere");
        }
    }
}
