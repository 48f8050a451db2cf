//! Who is notified of a pipeline's runs.

use super::steps::not_a_value;
use crate::model::notify::Form;
use crate::model::pipeline::{Notice, RunNews};
use crate::repo::decode::{Reader, list};
use crate::source::{Diagnostic, suggest};
use crate::yaml::Node;

/// The receivers of a pipeline.
pub(super) fn notices(reader: &mut Reader<'_>, node: &Node) -> Vec<Notice> {
    let items = reader.items(node, "`notify`");
    let mut notices: Vec<Notice> = Vec::new();
    for item in items {
        let Some(notice) = notice(reader, item) else { continue };
        if notices.iter().any(|known| known.parameter == notice.parameter) {
            let message = format!("`{}` is a receiver twice", notice.parameter);
            reader.problem(
                Diagnostic::error("duplicate-name", message),
                item.span,
                "put its events into one",
            );
            continue;
        }
        notices.push(notice);
    }
    notices
}

fn notice(reader: &mut Reader<'_>, node: &Node) -> Option<Notice> {
    let fields = reader.fields(node, node.span, "a receiver", &["url", "slack", "events"])?;
    let (form, at) = match (fields.get("url"), fields.get("slack")) {
        (Some(at), None) => (Form::Json, at),
        (None, Some(at)) => (Form::Slack, at),
        (Some(_), Some(at)) => {
            let diagnostic =
                Diagnostic::error("conflicting-keys", "a receiver has `url` or `slack`, not both");
            reader.problem(diagnostic, at.span, "remove one of them");
            return None;
        }
        (None, None) => {
            let diagnostic = Diagnostic::error("missing-key", "a receiver needs `url` or `slack`");
            reader.problem(
                diagnostic,
                node.span,
                "the SSM parameter that holds its URL, such as `/team/hook`",
            );
            return None;
        }
    };
    let parameter = reader.text(at, &format!("`{}`", form.key()))?.to_owned();
    not_a_value(reader, at);
    let on = match fields.get("events") {
        None => RunNews::USUAL.to_vec(),
        Some(node) => {
            let items = reader.items(node, "`events`");
            items.iter().filter_map(|item| event(reader, item)).collect()
        }
    };
    Some(Notice { form, parameter, on })
}

fn event(reader: &mut Reader<'_>, node: &Node) -> Option<RunNews> {
    let text = reader.text(node, "an event")?;
    let found = RunNews::ALL.iter().find(|(word, _)| *word == text).map(|(_, news)| *news);
    if found.is_none() {
        let words = RunNews::ALL.map(|(word, _)| word);
        let label = match suggest(text, words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("the events are {}", list(&words)),
        };
        reader.problem(
            Diagnostic::error("bad-value", format!("there is no event `{text}`")),
            node.span,
            label,
        );
    }
    found
}
