//! `--explain CODE`, which every command that checks files takes.

use serde_json::json;

use super::Done;
use super::context::Context;
use super::failure::Failure;
use crate::repo::check::codes;
use crate::view;

/// Prints what a diagnostic's code means.
///
/// # Errors
/// When there is no such code.
pub fn explain(context: &Context, code: &str) -> Result<Done, Failure> {
    let found = codes::find(code).map_err(|near| {
        let next = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => "codes stand in brackets behind `error` and `warning`".to_owned(),
        };
        Failure::usage(format!("there is no code `{code}`"), next)
    })?;
    if context.json() {
        view::json::document(&json!({
            "version": 1, "code": found.code, "text": found.text, "example": found.example,
        }));
    } else {
        print!("{}", view::diagnostics::explanation(found.code, found.text, found.example));
    }
    Ok(Done::Ok)
}
