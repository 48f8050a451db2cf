//! One unit, line by line: its name, its sections, its keys. What values look like is checked in
//! `value`, what must stand together in `required`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::parse::{Broken, Entry, ItemKind, Text, WHITESPACE};
use super::table;
use super::{Kind, Unit};
use crate::source::{Diagnostic, SourceFile, Span, suggest};

/// A check that is going on.
pub struct Check<'u> {
    pub unit: &'u Unit,
    pub file: &'u Arc<SourceFile>,
    /// Where we are, `Service/ExecStart`.
    pub path: String,
    /// The key we are at.
    pub key: &'u str,
    pub problems: Vec<Diagnostic>,
    /// A section is misspelt or broken, so that nothing can be said to be missing.
    pub unsure: bool,
}

/// What the lines of a section are held against.
#[derive(Clone, Copy, PartialEq)]
enum Section<'u> {
    /// No section began yet.
    None,
    /// One of systemd's that this unit may have.
    Known(&'u str),
    /// `[X-Fleet]`.
    Fleet,
    /// Nobody reads it, or its keys are not known here.
    Ignored,
}

impl<'u> Check<'u> {
    pub fn new(unit: &'u Unit) -> Self {
        let file = unit.file().source();
        Self { unit, file, path: String::new(), key: "", problems: Vec::new(), unsure: false }
    }

    /// Something that systemd ignores, refuses or misreads.
    pub fn error(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Diagnostic::error(code, message).at(self.file, span, label))
    }

    /// Something that was hardly meant.
    pub fn warn(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) -> &mut Diagnostic {
        self.push(Diagnostic::warning(code, message).at(self.file, span, label))
    }

    fn push(&mut self, mut problem: Diagnostic) -> &mut Diagnostic {
        problem.path = Some(self.path.clone()).filter(|path| !path.is_empty());
        self.problems.push(problem);
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    /// A word is none of `known`: the nearest is suggested, or all are listed.
    pub fn unlisted(&mut self, message: String, span: Span, word: &str, known: &[&str]) {
        let near = suggest(word, known.iter().copied());
        let label = near.map(|near| format!("did you mean `{near}`?")).unwrap_or_default();
        let problem = self.error("bad-value", message, span, label);
        if near.is_none() && known.len() <= 24 {
            let list: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            problem.help.push(format!("one of {}", list.join(", ")));
        }
    }

    /// The file's name.
    pub fn name(&mut self) {
        let start = Span::new(0, 0);
        let file = self.file.name().rsplit('/').next().unwrap_or_default();
        if let Some(drop_in) = &self.unit.drop_in
            && !drop_in.ends_with(".conf")
        {
            self.error(
                "bad-unit-name",
                format!("`{file}` is no drop-in: its name must end in `.conf`"),
                start,
                "",
            );
        }
        match &self.unit.name {
            Some(Err(why)) => {
                let near = file.rsplit_once('.').and_then(|(stem, suffix)| {
                    let near = suggest(suffix, Kind::suffixes())?;
                    (near != suffix).then(|| format!("did you mean `{stem}.{near}`?"))
                });
                let message = if self.unit.is_drop_in() {
                    format!("the folder of `{file}` is named for no unit: {why}")
                } else {
                    format!("`{file}` is no name of a unit: {why}")
                };
                let problem = self.error("bad-unit-name", message, start, "");
                problem.help.extend(near);
            }
            None if self.unit.kind.is_none() && self.unit.is_drop_in() => {
                self.warn(
                    "bad-unit-name",
                    format!("`{file}` stands in no folder that says which unit it adds to"),
                    start,
                    "",
                )
                .help
                .push("drop-ins are named like `docker.service.d/proxy.conf`".into());
            }
            Some(Ok(_)) | None => {}
        }
    }

    /// Every line.
    pub fn lines(&mut self) {
        let mut section = Section::None;
        let mut single: HashMap<(&str, &str), Span> = HashMap::new();
        for item in self.unit.file().items() {
            self.path.clear();
            match &item.kind {
                ItemKind::Blank | ItemKind::Comment => {}
                ItemKind::Section(name) => section = self.section(name),
                ItemKind::Broken(broken, line) => {
                    self.broken(*broken, line);
                    if *broken == Broken::Header {
                        section = Section::Ignored;
                    }
                }
                ItemKind::Entry(entry) => {
                    let key = entry.key.as_str();
                    self.key = key;
                    match section {
                        Section::None => {
                            let span = entry.key.span();
                            self.error(
                                "unit-syntax",
                                format!("`{key}=` stands before any section, so systemd ignores it"),
                                span,
                                "put it below a section, such as `[Unit]`",
                            );
                        }
                        Section::Known(name) => {
                            self.path = format!("{name}/{key}");
                            self.entry(name, entry, &mut single);
                        }
                        Section::Fleet | Section::Ignored => {}
                    }
                }
            }
        }
        self.path.clear();
    }

    fn broken(&mut self, broken: Broken, line: &Text) {
        let span = line.mark(0..line.as_str().len());
        self.unsure |= broken != Broken::NoEquals;
        let problem = match broken {
            Broken::Header => self.error(
                "unit-syntax",
                "the line begins with `[` but is no section, so systemd refuses the file",
                span,
                "a section is `[Name]`, with nothing behind it",
            ),
            Broken::NoEquals => {
                self.error("unit-syntax", "the line has no `=`, so systemd ignores it", span, "")
            }
            Broken::TooLong => self.error(
                "unit-syntax",
                "the line is longer than 1 MiB, so systemd refuses the file",
                Span::new(span.start, span.start),
                "",
            ),
        };
        if broken == Broken::NoEquals {
            let help = "a line that goes on in the next ends in `\\`; a comment begins with `#`";
            problem.help.push(help.into());
        }
    }

    fn section(&mut self, name: &'u Text) -> Section<'u> {
        let (word, span) = (name.as_str(), name.mark(0..name.as_str().len()));
        self.path = word.to_owned();
        let known = match self.unit.kind() {
            Some(kind) => table::sections(kind),
            None => table::all_sections().collect(),
        };
        if let Some(known) = known.iter().find(|known| **known == word) {
            let ours = !self.unit.kind().is_some_and(Kind::is_network);
            return if ours { Section::Known(known) } else { Section::Ignored };
        }
        if word == "X-Fleet" {
            return Section::Fleet;
        }
        if word.starts_with("X-") {
            if word.eq_ignore_ascii_case("X-Fleet") {
                self.error(
                    "unknown-section",
                    format!("nothing reads the section `[{word}]`"),
                    span,
                    "did you mean `X-Fleet`?",
                );
            }
            return Section::Ignored;
        }
        let what = self.unit.kind().map_or("unit", Kind::suffix);
        let message = format!("a {what} has no section `[{word}]`, so systemd ignores all below it");
        if self.unit.kind().is_some_and(Kind::is_network) {
            // Their sections grow with every version.
            let label = suggest(word, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            self.warn(
                "unknown-section",
                message.replace("systemd ignores", "it ignores"),
                span,
                label.unwrap_or_default(),
            );
            return Section::Ignored;
        }
        if table::all_sections().any(|section| section == word) {
            let kind = word.to_lowercase();
            self.error("unknown-section", message, span, format!("only a {kind} unit has it"));
            return Section::Ignored;
        }
        let near = suggest(word.trim(), known.iter().copied().chain(["X-Fleet"]));
        match near {
            Some(near) => {
                self.unsure = true;
                self.error("unknown-section", message, span, format!("did you mean `{near}`?"));
                // What stands below is checked as if it had been written so.
                known.into_iter().find(|section| *section == near).map_or(Section::Fleet, Section::Known)
            }
            None => {
                let list: Vec<_> = known.iter().map(|name| format!("[{name}]")).collect();
                self.error("unknown-section", message, span, "")
                    .help
                    .push(format!("it has {}; sections of your own begin with `X-`", list.join(", ")));
                Section::Ignored
            }
        }
    }

    fn entry(&mut self, section: &'u str, entry: &'u Entry, single: &mut HashMap<(&'u str, &'u str), Span>) {
        let key = entry.key.as_str();
        if key.starts_with("X-") {
            return;
        }
        let Some(value) = table::value(section, key) else { return self.unknown_key(section, entry) };
        let span = entry.key.mark(0..key.len());
        if let Some(replacement) = table::replacement(section, key) {
            self.warn("deprecated-key", format!("`{key}=` in [{section}] is deprecated"), span, replacement);
        }
        self.continuation(section, &entry.value);
        if entry.value.as_str().is_empty() {
            if table::ignores_nothing(section, key) {
                self.warn("bad-value", format!("`{key}=` has no value, so systemd ignores it"), span, "")
                    .help
                    .push(
                        "nothing takes back what was given before here; write the value that is wanted"
                            .into(),
                    );
            } else {
                single.remove(&(section, key));
            }
            return;
        }
        if value.is_single()
            && let Some(before) = single.insert((section, key), span)
        {
            let line = self.file.position(before.start).line;
            self.warn(
                "duplicate-key",
                format!("`{key}=` is given twice in [{section}]; the one in line {line} has no effect"),
                span,
                "",
            );
        }
        self.value(value, &entry.value);
    }

    fn unknown_key(&mut self, section: &str, entry: &Entry) {
        let key = entry.key.as_str();
        let span = entry.key.mark(0..key.len());
        let message = format!("[{section}] has no key `{key}`, so systemd ignores it");
        if key.is_empty() {
            self.error("unit-syntax", "nothing stands before the `=`, so systemd ignores the line", span, "");
            return;
        }
        let kind = self.unit.kind();
        let allowed = |name: &str| kind.is_none_or(|kind| table::sections(kind).contains(&name));
        let places: Vec<_> = table::sections_of(key).collect();
        if let Some(place) = places.iter().find(|place| allowed(place)) {
            self.error("misplaced-key", message, span, format!("it belongs in [{place}]"));
            return;
        }
        if let [first, ..] = places[..] {
            self.error(
                "unknown-key",
                message,
                span,
                format!("only [{first}] has it, in other kinds of units"),
            );
            return;
        }
        let elsewhere = || table::all_sections().filter(|name| *name != section && allowed(name));
        if let Some(near) = suggest(key, table::keys(section)) {
            self.error("unknown-key", message, span, format!("did you mean `{near}`?"));
        } else if let Some((place, near)) =
            elsewhere().find_map(|place| suggest(key, table::keys(place)).map(|near| (place, near)))
        {
            self.error("unknown-key", message, span, format!("did you mean `{near}`, in [{place}]?"));
        } else {
            self.error("unknown-key", message, span, "");
        }
    }

    /// Lines that were joined, or not, against what they look like.
    fn continuation(&mut self, section: &str, value: &Text) {
        let text = value.as_str();
        let mut starts = value.lines().peekable();
        while let Some(at) = starts.next() {
            let line = &text[at..starts.peek().copied().unwrap_or(text.len())];
            let end = line.find('=').unwrap_or(line.len());
            let key = line[..end].trim_matches(WHITESPACE);
            let header = line.starts_with('[') && line.trim_end().ends_with(']');
            if header
                || (end < line.len() && !line.starts_with(WHITESPACE) && table::value(section, key).is_some())
            {
                let length = if header { line.len() } else { key.len() };
                self.warn(
                    "swallowed-line",
                    format!("the line before ends in `\\`, so this belongs to the value of `{}=`", self.key),
                    value.mark(at..at + length),
                    "",
                );
            }
        }
        // systemd strips the line only after it looked for the backslash at its end.
        let span = value.span();
        let rest = &self.file.text()[span.end..];
        if text.ends_with('\\') && rest.starts_with([' ', '\t']) {
            let range: Range<usize> = text.len() - 1..text.len();
            self.warn(
                "unit-syntax",
                "white space follows the `\\`, so the line does not go on in the next",
                value.mark(range),
                "remove the white space behind it",
            );
        }
    }
}
