//! What values look like, kind by kind.

use std::ops::Range;

use super::check::Check;
use super::parse::Text;
use super::scalar;
use super::table::Value;
use super::time;
use super::words::{Word, unknown_specifier, words};
use crate::source::suggest;

impl Check<'_> {
    /// Holds a value, which is not empty, against what its key takes.
    pub fn value(&mut self, value: Value, text: &Text) {
        let all = text.as_str();
        let key = self.key;
        match value {
            Value::Raw => {}
            Value::Text => {
                self.specifiers(text);
            }
            Value::Bool => {
                if !scalar::is_bool(all) {
                    self.no_bool(text, &[]);
                }
            }
            Value::BoolOr(known) => {
                // Lists of more than one word are not judged.
                if !scalar::is_bool(all) && !known.contains(&all) {
                    self.no_bool(text, known);
                }
            }
            Value::Time | Value::Times => {
                self.result(text, time::span(all), "no span of time, such as `90s` or `5min 20s`")
            }
            Value::Size => self.result(text, scalar::size(all), "no size, such as `64K`, `512M` or `2G`"),
            Value::Memory => {
                let fine = all == "infinity" || scalar::is_percent(all, Some(100.0));
                let result = if fine { Ok(()) } else { scalar::size(all) };
                self.result(text, result, "no amount of memory, such as `512M`, `50%` or `infinity`");
            }
            Value::Tasks => {
                let fine =
                    all == "infinity" || scalar::is_percent(all, Some(100.0)) || all.parse::<u64>().is_ok();
                let result = if fine { Ok(()) } else { Err(String::new()) };
                self.result(text, result, "no number of tasks, such as `512`, `10%` or `infinity`");
            }
            Value::Percent => {
                let bare = !all.is_empty() && all.bytes().all(|byte| byte.is_ascii_digit());
                let label = if bare { format!("did you mean `{all}%`?") } else { String::new() };
                let result = if scalar::is_percent(all, None) { Ok(()) } else { Err(label) };
                self.result(text, result, "no percentage of one CPU, such as `50%` or `200%`");
            }
            Value::LimitSize => self.result(
                text,
                scalar::limit(all, scalar::size),
                "no limit, such as `64M`, `1G:2G` or `infinity`",
            ),
            Value::LimitNumber => self.result(
                text,
                scalar::limit(all, scalar::number),
                "no limit, such as `1024`, `1024:4096` or `infinity`",
            ),
            Value::LimitTime => self.result(
                text,
                scalar::limit(all, time::span),
                "no limit of time, such as `10s`, `10s:1min` or `infinity`",
            ),
            Value::Number(low, high) => {
                if scalar::whole(all).is_none_or(|number| number < low || number > high) {
                    let label = if high >= i64::from(u32::MAX) {
                        format!("a whole number from {low} on")
                    } else {
                        format!("a whole number from {low} to {high}")
                    };
                    self.bad(text, 0..all.len(), format!("`{all}` is no value of `{key}=`"), label);
                }
            }
            Value::Weight | Value::WeightOrIdle => {
                let idle = value == Value::WeightOrIdle && all == "idle";
                if !idle && scalar::whole(all).is_none_or(|number| !(1..=10_000).contains(&number)) {
                    self.bad(
                        text,
                        0..all.len(),
                        format!("`{all}` is no value of `{key}=`"),
                        "a weight is from 1 to 10000",
                    );
                }
            }
            Value::Mode => {
                if !scalar::is_mode(all) {
                    self.bad(
                        text,
                        0..all.len(),
                        format!("`{all}` is no mode"),
                        "an octal number of at most 7777, such as `0644`",
                    );
                }
            }
            Value::Enum(known) => {
                if !known.contains(&all) {
                    self.unlisted(
                        format!("`{all}` is no value of `{key}=`"),
                        text.mark(0..all.len()),
                        all,
                        known,
                    );
                }
            }
            Value::EnumOr(known, high) => {
                let number = scalar::whole(all).is_some_and(|number| (0..=high).contains(&number));
                if !number && !known.contains(&all) {
                    self.unlisted(
                        format!("`{all}` is no value of `{key}=`"),
                        text.mark(0..all.len()),
                        all,
                        known,
                    );
                }
            }
            Value::Signal => self.signal(text),
            Value::ExitStatus => self.exit_status(text),
            Value::Path => self.path(text, 0),
            Value::PathOrDash => self.path(text, usize::from(all.starts_with('-'))),
            Value::WorkingDirectory => {
                let start = usize::from(all.starts_with('-'));
                if &all[start..] != "~" {
                    self.path(text, start);
                }
            }
            Value::ConditionPath => {
                let plain = all.trim_start_matches('|').trim_start().trim_start_matches('!').trim_start();
                self.path(text, all.len() - plain.len());
            }
            Value::ConditionBool => {
                let plain = all.trim_start_matches('|').trim_start().trim_start_matches('!').trim_start();
                if !scalar::is_bool(plain) {
                    self.no_bool(text, &[]);
                }
            }
            Value::Paths | Value::Binds | Value::SearchPath => self.paths(value, text),
            Value::Directories => self.directories(text),
            Value::Command => self.command(text),
            Value::Unit => self.unit_name(text, 0..all.len(), None),
            Value::UnitOf(kind) => self.unit_name(text, 0..all.len(), Some(kind)),
            Value::Units => {
                for word in self.words(text) {
                    self.unit_name(text, word.range, None);
                }
            }
            Value::Environment => self.environment(text),
            Value::Urls => {
                for word in self.words(text) {
                    let fine = URLS
                        .iter()
                        .any(|start| word.text.strip_prefix(start).is_some_and(|rest| !rest.is_empty()));
                    if !fine && !word.text.starts_with('%') {
                        let message =
                            format!("`{}` is no address of documentation, so systemd ignores it", word.text);
                        self.bad(
                            text,
                            word.range,
                            message,
                            "it begins with `https://`, `http://`, `file:`, `man:` or `info:`",
                        );
                    }
                }
            }
            Value::Names => {
                for word in self.words(text) {
                    if unknown_specifier(&word.text).is_none()
                        && !word.text.contains('%')
                        && !word.text.contains('=')
                        && !is_variable(&word.text)
                    {
                        self.bad(
                            text,
                            word.range,
                            format!("`{}` is no name of a variable", word.text),
                            "letters, digits and `_`, no digit first",
                        );
                    }
                }
            }
            Value::Calendar => {
                if self.specifiers(text) && !all.contains('%') {
                    self.result(
                        text,
                        time::calendar(all),
                        "no calendar event, such as `daily` or `Mon..Fri 10:00`",
                    );
                }
            }
            Value::Listen => self.listen(text),
            Value::Output | Value::Input => self.stream(value, text),
            Value::Capabilities => {
                for word in self.words(text) {
                    let name = word.text.trim_start_matches('~').to_uppercase();
                    let number = name.parse::<u8>().is_ok_and(|number| number < 64);
                    if !number
                        && !name.is_empty()
                        && !scalar::CAPABILITIES
                            .split_whitespace()
                            .any(|known| name.strip_prefix("CAP_") == Some(known))
                    {
                        let known: Vec<_> = scalar::CAPABILITIES
                            .split_whitespace()
                            .map(|known| format!("CAP_{known}"))
                            .collect();
                        let known: Vec<_> = known.iter().map(String::as_str).collect();
                        self.unlisted(
                            format!("`{}` is no capability", word.text),
                            text.mark(word.range),
                            &name,
                            &known,
                        );
                    }
                }
            }
            Value::Families => {
                for word in self.words(text) {
                    let name = word.text.trim_start_matches('~');
                    if !name.starts_with("AF_") && name != "none" && !name.is_empty() {
                        self.bad(
                            text,
                            word.range,
                            format!("`{name}` is no address family"),
                            "such as `AF_UNIX`, `AF_INET`, `AF_INET6`, or `none`",
                        );
                    }
                }
            }
        }
    }

    /// A value, or a part of it, that systemd does not take.
    pub fn bad(&mut self, text: &Text, range: Range<usize>, message: String, label: impl Into<String>) {
        let span = text.mark(range);
        self.error("bad-value", message, span, label);
    }

    fn result(&mut self, text: &Text, result: Result<(), String>, what: &str) {
        if let Err(why) = result {
            let all = text.as_str();
            self.bad(text, 0..all.len(), format!("`{all}` is {what}"), why);
        }
    }

    fn no_bool(&mut self, text: &Text, known: &[&str]) {
        let all = text.as_str();
        let near = suggest(all, known.iter().copied().chain(["yes", "no", "true", "false"]));
        let label = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if known.is_empty() => "`yes` or `no`".to_owned(),
            None => format!(
                "`yes`, `no`, {}",
                known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            ),
        };
        self.bad(text, 0..all.len(), format!("`{all}` is no value of `{}=`", self.key), label);
    }

    /// Unknown specifiers make systemd ignore the line. Says whether there are none.
    pub fn specifiers(&mut self, text: &Text) -> bool {
        let Some(range) = unknown_specifier(text.as_str()) else { return true };
        let word = &text.as_str()[range.clone()];
        let message = format!("there is no specifier `{word}`, so systemd ignores the line");
        let span = text.mark(range);
        self.error("unknown-specifier", message, span, format!("a percent sign itself is `%{word}`"));
        false
    }

    /// The words of a value; none when its quotes are not balanced, which is said.
    pub fn words(&mut self, text: &Text) -> Vec<Word> {
        words(text.as_str()).unwrap_or_else(|open| {
            let span = text.mark(open.start..open.start + 1);
            self.error(
                "unbalanced-quotes",
                "the quote is not closed, so systemd ignores the line",
                span,
                "opened here",
            );
            Vec::new()
        })
    }

    fn environment(&mut self, text: &Text) {
        if !self.specifiers(text) {
            return;
        }
        let all = self.words(text);
        for word in &all {
            let (name, assigns) =
                word.text.split_once('=').map_or((&*word.text, false), |(name, _)| (name, true));
            if assigns && (is_variable(name) || name.contains('%')) {
                continue;
            }
            let message = format!("`{}` is no assignment, so systemd ignores it", word.text);
            let label = if assigns { "names have letters, digits and `_`, no digit first" } else { "" };
            let span = text.mark(word.range.clone());
            let problem = self.error("bad-value", message, span, label);
            if !assigns && all.len() > 1 {
                problem.help.push(
                    "a value with spaces needs quotes around the whole: `Environment=\"NAME=two words\"`"
                        .into(),
                );
            }
        }
    }
}

/// How addresses of documentation begin.
const URLS: [&str; 5] = ["https://", "http://", "file:/", "info:", "man:"];

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
