//! The texts of units, in `coreos.units` and in files, each by itself and against each other.

use std::collections::HashMap;
use std::sync::Arc;

use super::units::{UNITS, kind, unit_of_file};
use crate::cloud_config::finding::{Finding, Report};
use crate::cloud_config::model::{Config, Spanned};
use crate::cloud_config::target::{Dialect, Target};
use crate::source::{Diagnostic, Span};
use crate::unit::{self, Kind};

/// A text with the name of its unit, or of its drop-in, `docker.service.d/10-limits.conf`.
struct Text {
    name: String,
    content: Spanned<String>,
    targets: &'static [Target],
}

/// Checks every text.
pub fn check(config: &Config<'_>, report: &mut Report<'_>) {
    let texts = texts(config);
    let units: Vec<unit::Unit> =
        texts.iter().map(|text| unit::Unit::parse(&text.name, &text.content.value)).collect();
    // What a package, a command or an image of one's own brings is not known here; images of the
    // CoreOS family are what they are.
    let known = |_: &str| config.dialect == Dialect::CloudInit;
    let numbers: HashMap<_, usize> =
        units.iter().enumerate().map(|(number, unit)| (Arc::as_ptr(unit.file().source()), number)).collect();
    let mut found: Vec<Vec<Diagnostic>> = texts.iter().map(|_| Vec::new()).collect();
    for problem in unit::check_all(&units, &known) {
        // Names are checked where they stand, and so is what is given twice.
        if matches!(problem.code, "bad-unit-name" | "duplicate-name") {
            continue;
        }
        let of = problem.label.as_ref().and_then(|label| numbers.get(&Arc::as_ptr(&label.file)).copied());
        if let Some(of) = of {
            found[of].push(problem);
        }
    }
    for (text, problems) in texts.iter().zip(found) {
        tell(text, problems, report);
    }
}

fn texts(config: &Config<'_>) -> Vec<Text> {
    let mut texts = Vec::new();
    let mut add = |name: &str, content: Spanned<String>, targets| {
        // networkd's files have another grammar.
        if !kind(name).is_some_and(Kind::is_network) {
            texts.push(Text { name: name.to_owned(), content, targets });
        }
    };
    for unit in &config.units {
        let Some(name) = &unit.name else { continue };
        if let Some(content) = &unit.content {
            add(&name.value, content.clone(), &UNITS[..]);
        }
        for drop_in in &unit.drop_ins {
            if let (Some(own), Some(content)) = (&drop_in.name, &drop_in.content) {
                add(&format!("{}.d/{}", name.value, own.value), content.clone(), &UNITS[..]);
            }
        }
    }
    for file in &config.files {
        let name = file.path.as_ref().and_then(|path| unit_of_file(&path.value));
        if let (Some(name), Ok(data), Some(content)) = (name, &file.data, file.content)
            && let Ok(value) = std::str::from_utf8(data)
        {
            add(name, Spanned { value: value.to_owned(), span: content.span }, &Target::ALL[..]);
        }
    }
    texts
}

/// Tells what is wrong with a unit's text at the line that it is about, where the document has it
/// line for line; else at its first, and says which one.
fn tell(text: &Text, problems: Vec<Diagnostic>, report: &mut Report<'_>) {
    let Text { name, content, targets } = text;
    let lines = if problems.is_empty() { None } else { report.lines(content) };
    for problem in problems {
        let found = problem.label.as_ref().map(|label| {
            let line = label.file.position(label.span.start).line;
            let start = lines.as_ref().and_then(|lines| lines.get(line - 1).copied());
            let begin = label.file.offset(line, 1);
            let place = start.map(|start| {
                Span::new(start + label.span.start - begin, start + label.span.end.max(begin) - begin)
            });
            (line, place, label.text.clone())
        });
        let mut finding = Finding::error(problem.code, content.span, format!("{name}: {}", problem.message));
        match found {
            Some((_, Some(place), label)) => (finding.span, finding.label) = (place, label),
            Some((line, None, _)) => finding.message = format!("line {line} of {}", finding.message),
            None => {}
        }
        (finding.severity, finding.help) = (problem.severity, problem.help);
        report.add(targets, finding);
    }
}
