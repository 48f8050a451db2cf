//! `notify:` of `fleetwright.yaml` and of its environments: whom a cluster notifies of what.

use std::sync::Arc;
use std::time::Duration;

use super::decode::Reader;
use crate::model::mount::SecretRef;
use crate::model::notify::{AFTER, Alert, Form, NOTIFY_VERSION, Receiver, Receivers};
use crate::source::{Diagnostic, SourceFile, Span, suggest};
use crate::yaml::Node;

/// The section's key.
pub const KEY: &str = "notify";

/// The code of whatever is wrong with the section.
const BAD: &str = "bad-notify";
/// The code of a URL that stands in the file.
const IN_FILE: &str = "secret-in-file";
/// How many receivers there can be.
const MOST: usize = 10;
/// The longest time that a service may not be whole before somebody is notified.
const AFTER_MOST: Duration = Duration::from_secs(24 * 3600);

/// Decodes a `notify` section.
pub fn decode(reader: &mut Reader<'_>, node: &Node, place: Span) -> Option<Receivers> {
    let items = reader.items(node, "`notify`");
    let first = reader.problems.len();
    let mut receivers: Vec<Receiver> = Vec::new();
    for item in items {
        let Some(receiver) = receiver(reader, item) else { continue };
        if receivers.iter().any(|known| known.secret == receiver.secret) {
            let message = format!("`{}` is a receiver already", receiver.secret);
            let help = "list all that it is to be notified of in one place";
            reader.problem(Diagnostic::error(BAD, message).help(help), item.span, "this is the second");
            continue;
        }
        receivers.push(receiver);
    }
    if receivers.len() > MOST {
        let message = format!("`notify` has {} receivers, and {MOST} are possible", receivers.len());
        let help = "send to one program that passes messages on";
        reader.problem(Diagnostic::error(BAD, message).help(help), place, "");
    }
    (reader.problems.len() == first).then_some(Receivers { version: NOTIFY_VERSION, receivers })
}

fn receiver(reader: &mut Reader<'_>, node: &Node) -> Option<Receiver> {
    let fields = reader.fields(node, node.span, "a receiver", &["url", "slack", "events", "after"])?;
    let (form, target) = match (fields.get("url"), fields.get("slack")) {
        (Some(url), None) => (Form::Json, url),
        (None, Some(slack)) => (Form::Slack, slack),
        (Some(_), Some(slack)) => {
            let diagnostic = Diagnostic::error(BAD, "a receiver has `url` or `slack`, not both")
                .help("make two receivers of it");
            reader.problem(diagnostic, slack.span, "the second of the two");
            return None;
        }
        (None, None) => {
            let diagnostic = Diagnostic::error(BAD, "a receiver needs `url` or `slack`")
                .help("such as `- slack: {secret: slack-hook}`");
            reader.problem(diagnostic, node.span, "neither is here");
            return None;
        }
    };
    let secret = secret(reader, target, form);
    let events = match fields.get("events") {
        None => Some(Alert::ALL.to_vec()),
        Some(list) => events(reader, list),
    };
    let after = match fields.get("after") {
        None => Some(AFTER),
        Some(given) => reader.duration(given, "`after`").filter(|after| {
            let fits = *after <= AFTER_MOST;
            if !fits {
                let diagnostic = Diagnostic::error("out-of-range", "`after` must be at most `24h`");
                reader.problem(diagnostic, given.span, "too long");
            }
            fits
        }),
    };
    Some(Receiver { form, secret: secret?, events: events?, after: after? })
}

fn events(reader: &mut Reader<'_>, list: &Node) -> Option<Vec<Alert>> {
    let items = reader.items(list, "`events`");
    let words = Alert::ALL.map(Alert::word);
    let mut events = Vec::new();
    for item in items {
        let text = reader.text(item, "an event")?;
        match text.parse::<Alert>() {
            Ok(alert) if !events.contains(&alert) => events.push(alert),
            Ok(_) => {}
            Err(()) => {
                let message = format!("there is no notification `{text}`");
                let help = format!("there are {}", words.join(", "));
                let label =
                    suggest(text, words).map_or_else(String::new, |near| format!("did you mean `{near}`?"));
                reader.problem(Diagnostic::error(BAD, message).help(help), item.span, label);
                return None;
            }
        }
    }
    if events.is_empty() {
        let diagnostic = Diagnostic::error(BAD, "`events` is empty: the receiver would get nothing")
            .help("leave `events` out for all of them");
        reader.problem(diagnostic, list.span, "");
        return None;
    }
    Some(events)
}

/// The secret that holds a receiver's URL.
fn secret(reader: &mut Reader<'_>, node: &Node, form: Form) -> Option<SecretRef> {
    if node.text().is_some() {
        // It is the secret itself, in all likelihood, and must not reach a log.
        let file = masked(reader.file, node.span);
        let key = form.key();
        let diagnostic = Diagnostic::error(IN_FILE, format!("`{key}` must name a secret that holds the URL"))
            .at(&file, node.span, format!("write `{key}: {{secret: NAME}}`"))
            .help("whoever knows the URL can write there: keep it with `fleetwright secret set NAME`");
        reader.problems.push(diagnostic);
        return None;
    }
    let fields = reader.fields(node, node.span, "the URL of a receiver", &["secret"])?;
    let node = reader.required(&fields, "secret")?;
    let text = reader.text(node, "`secret`")?;
    match text.parse() {
        Ok(secret) => Some(secret),
        Err(error) => {
            let error: crate::model::name::BadName = error;
            reader.problem(Diagnostic::error("bad-name", error.to_string()), node.span, "");
            None
        }
    }
}

/// The file with stars in place of `span`.
fn masked(file: &Arc<SourceFile>, span: Span) -> Arc<SourceFile> {
    let mut text = file.text().to_owned();
    text.replace_range(span.start..span.end, &"*".repeat(span.end - span.start));
    SourceFile::new(file.name(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Receivers, Vec<Diagnostic>> {
        let file = SourceFile::new("fleetwright.yaml", text);
        let mut problems = Vec::new();
        let node = crate::yaml::parse(&file, &mut problems).expect("YAML");
        let found = decode(&mut Reader { file: &file, problems: &mut problems }, &node, node.span);
        if problems.is_empty() { Ok(found.expect("receivers")) } else { Err(problems) }
    }

    #[test]
    fn receivers_are_read_with_what_is_usual() {
        let found = read(
            "- slack: {secret: slack-hook}\n- url: {secret: \"secretsmanager:pager\"}\n  events: [machine-lost]\n  after: 2m\n",
        );
        let receivers = found.expect("receivers").receivers;
        assert_eq!((receivers[0].form, receivers[0].after), (Form::Slack, AFTER));
        assert_eq!(receivers[0].events, Alert::ALL);
        assert_eq!(receivers[1].events, [Alert::MachineLost]);
        assert_eq!(
            (receivers[1].after.as_secs(), receivers[1].secret.to_string().as_str()),
            (120, "secretsmanager:pager")
        );
        assert_eq!(read("[]").expect("none").receivers, []);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_remedy() {
        for (text, code) in [
            ("- events: [machine-lost]\n", BAD),
            ("- {slack: {secret: a}, url: {secret: b}}\n", BAD),
            ("- slack: {secret: a}\n  events: [machine-lots]\n", BAD),
            ("- slack: {secret: a}\n  events: []\n", BAD),
            ("- slack: {secret: a}\n- url: {secret: a}\n", BAD),
            ("- slack: {secret: a}\n  after: 25h\n", "out-of-range"),
            ("- slack: {secret: \"A B\"}\n", "bad-name"),
            ("- slack: {parameter: a}\n", "unknown-key"),
            ("- slack: {secret: a}\n  when: now\n", "unknown-key"),
        ] {
            let problems = read(text).expect_err(text);
            assert!(problems.iter().any(|problem| problem.code == code), "{text}: {problems:?}");
        }
        let near =
            format!("{:?}", read("- slack: {secret: a}\n  events: [machine-lots]\n").expect_err("a word"));
        assert!(near.contains("did you mean `machine-lost`?"), "{near}");
    }

    #[test]
    fn a_url_in_the_file_is_an_error_that_does_not_repeat_it() {
        let url = "https://hooks.slack.example/services/T0/B0/hunter2";
        for text in [format!("- slack: {url}\n"), format!("- url: \"{url}\"\n")] {
            let problems = read(&text).expect_err("it stands there");
            assert_eq!(problems[0].code, IN_FILE);
            assert!(!format!("{problems:?}").contains("hunter2"), "{problems:?}");
        }
    }
}
