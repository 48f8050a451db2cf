//! What must be known of a Dockerfile before it is built: the images it starts from,
//! and which line each of the builder's numbered steps stands on.

use std::collections::BTreeMap;
use std::ops::Range;

/// What is wrong with a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// It has no instruction `FROM`.
    #[error("it has no `FROM`")]
    NoBase,
    /// `FROM` has no image.
    #[error("line {line}: `FROM` needs an image")]
    NoImage {
        /// The line, from 1.
        line: usize,
    },
    /// The image's name has a variable without a value.
    #[error(
        "line {line}: `{image}` holds the variable `{variable}`, which has no value here: give it a default in an `ARG` before the first `FROM`, or a value under `args`"
    )]
    NoValue {
        /// The line, from 1.
        line: usize,
        /// The image as it stands in the file.
        image: String,
        /// The variable.
        variable: String,
    },
}

/// A Dockerfile, read as far as is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    text: String,
    instructions: Vec<Instruction>,
    bases: Vec<Base>,
}

/// An instruction; the builder's step N is the Nth of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line it begins on, from 1.
    pub line: usize,
    /// Its first line.
    pub text: String,
}

/// An image that the build starts or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The line, from 1.
    pub line: usize,
    /// The image, variables replaced.
    pub image: String,
    span: Range<usize>,
}

impl Dockerfile {
    /// Reads `text`; `args` are the values given to the build.
    ///
    /// # Errors
    /// When what the build starts from can't be told.
    pub fn parse(text: &str, args: &BTreeMap<String, String>) -> Result<Self, DockerfileError> {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        let mut stages: Vec<String> = Vec::new();
        let mut instructions = Vec::new();
        let mut bases = Vec::new();
        for logical in logical_lines(text) {
            let words = words(text, logical.range.clone());
            let Some(keyword) = words.first() else { continue };
            let first_line = text[logical.range.clone()].lines().next().unwrap_or("");
            instructions.push(Instruction { line: logical.line, text: first_line.trim().to_owned() });
            match text[keyword.clone()].to_ascii_uppercase().as_str() {
                "ARG" if stages.is_empty() => {
                    for word in &words[1..] {
                        declare(&text[word.clone()], args, &mut values);
                    }
                }
                "FROM" => {
                    let operands: Vec<&Range<usize>> =
                        words[1..].iter().filter(|word| !text[(*word).clone()].starts_with("--")).collect();
                    let Some(image) = operands.first() else {
                        return Err(DockerfileError::NoImage { line: logical.line });
                    };
                    push_base(&mut bases, text, logical.line, (*image).clone(), &values, &stages)?;
                    stages.push(match operands.get(1..3) {
                        Some([word, name]) if text[(*word).clone()].eq_ignore_ascii_case("as") => {
                            text[(*name).clone()].to_ascii_lowercase()
                        }
                        _ => String::new(),
                    });
                }
                "COPY" => {
                    for word in &words[1..] {
                        if let Some(source) = text[word.clone()].strip_prefix("--from=")
                            && source.parse::<usize>().is_err()
                        {
                            let span = word.end - source.len()..word.end;
                            push_base(&mut bases, text, logical.line, span, &BTreeMap::new(), &stages)?;
                        }
                    }
                }
                _ => {}
            }
        }
        if stages.is_empty() {
            return Err(DockerfileError::NoBase);
        }
        Ok(Self { text: text.to_owned(), instructions, bases })
    }

    /// The images it starts from, but for `scratch` and its own stages; each place once.
    pub fn bases(&self) -> &[Base] {
        &self.bases
    }

    /// The instruction that the builder calls step `number` (from 1).
    pub fn step(&self, number: usize) -> Option<&Instruction> {
        self.instructions.get(number.checked_sub(1)?)
    }

    /// The text with every base replaced by what `pinned` gives for its name; lines keep their numbers.
    pub fn pinned(&self, pinned: &BTreeMap<String, String>) -> String {
        let mut text = self.text.clone();
        for base in self.bases.iter().rev() {
            if let Some(reference) = pinned.get(&base.image) {
                text.replace_range(base.span.clone(), reference);
            }
        }
        text
    }
}

/// Takes in one word of an `ARG`: `NAME` or `NAME=default`.
fn declare(word: &str, args: &BTreeMap<String, String>, values: &mut BTreeMap<String, String>) {
    let (name, default) = match word.split_once('=') {
        Some((name, default)) => (name, Some(default)),
        None => (word, None),
    };
    let value = args.get(name).cloned().or_else(|| {
        default.map(|default| expand(default.trim_matches(['"', '\'']), values).unwrap_or_default())
    });
    if let Some(value) = value {
        values.insert(name.to_owned(), value);
    }
}

fn push_base(
    bases: &mut Vec<Base>,
    text: &str,
    line: usize,
    span: Range<usize>,
    values: &BTreeMap<String, String>,
    stages: &[String],
) -> Result<(), DockerfileError> {
    let written = &text[span.clone()];
    let image = expand(written, values).map_err(|variable| DockerfileError::NoValue {
        line,
        image: written.to_owned(),
        variable,
    })?;
    let stage = image.to_ascii_lowercase();
    if image != "scratch" && !stages.contains(&stage) {
        bases.push(Base { line, image, span });
    }
    Ok(())
}

struct Logical {
    line: usize,
    range: Range<usize>,
}

/// Instructions with their continuation lines; comments and blank lines are left out.
fn logical_lines(text: &str) -> Vec<Logical> {
    let mut logical: Vec<Logical> = Vec::new();
    let mut open = false;
    let mut offset = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        match logical.last_mut() {
            Some(last) if open => last.range.end = offset,
            _ => logical.push(Logical { line: number + 1, range: start..offset }),
        }
        open = trimmed.ends_with('\\');
    }
    logical
}

/// The words of an instruction, without continuation marks and comment lines between.
fn words(text: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut offset = range.start;
    for line in text[range].split_inclusive('\n') {
        if !line.trim_start().starts_with('#') {
            let mut start = None;
            for (at, c) in line.char_indices() {
                match (c.is_whitespace(), start) {
                    (false, None) => start = Some(at),
                    (true, Some(from)) => {
                        words.push(offset + from..offset + at);
                        start = None;
                    }
                    _ => {}
                }
            }
            if let Some(from) = start {
                words.push(offset + from..offset + line.len());
            }
        }
        offset += line.len();
    }
    words.retain(|word| &text[word.clone()] != "\\");
    words
}

/// Replaces `$NAME`, `${NAME}`, `${NAME:-default}` and `${NAME:+other}`; gives the name that has no value.
fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (inner, after) = match rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(split) => split,
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        rest = after;
        let (name, default, alternative) = if let Some((name, default)) = inner.split_once(":-") {
            (name, Some(default), None)
        } else if let Some((name, other)) = inner.split_once(":+") {
            (name, Some(""), Some(other))
        } else {
            (inner, None, None)
        };
        match (values.get(name).filter(|value| !value.is_empty()), alternative, default) {
            (Some(_), Some(other), _) => out.push_str(other),
            (Some(value), None, _) => out.push_str(value),
            (None, _, Some(default)) => out.push_str(default),
            (None, _, None) => return Err(name.to_owned()),
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Dockerfile {
        Dockerfile::parse(text, &BTreeMap::new()).expect("a Dockerfile")
    }

    fn images(file: &Dockerfile) -> Vec<&str> {
        file.bases().iter().map(|base| base.image.as_str()).collect()
    }

    #[test]
    fn bases_are_images_not_stages() {
        let file = parse(
            "FROM demo/base AS build\nRUN x\nFROM scratch\nCOPY --from=build /a /a\nCOPY --from=0 /a /b\n\
             COPY --from=host:5000/tools:1 /t /t\n",
        );
        assert_eq!(images(&file), ["demo/base", "host:5000/tools:1"]);
    }

    #[test]
    fn pinning_keeps_every_line_in_its_place() {
        let file = parse(
            "# first\nfrom --platform=linux/amd64 demo/base \\\n  AS b\nRUN a \\\n # why\n  b\nFROM b\n",
        );
        let pins = BTreeMap::from([("demo/base".to_owned(), "r:1/demo/base@sha256:00".to_owned())]);
        assert_eq!(
            file.pinned(&pins),
            "# first\nfrom --platform=linux/amd64 r:1/demo/base@sha256:00 \\\n  AS b\nRUN a \\\n # why\n  b\nFROM b\n"
        );
        assert_eq!(file.step(2), Some(&Instruction { line: 4, text: "RUN a \\".into() }));
        assert_eq!(file.step(3).map(|step| step.line), Some(7));
        assert_eq!(file.step(0), None);
    }

    #[test]
    fn arguments_before_the_first_from_name_the_base() {
        let text = "ARG BASE=demo/base\nARG TAG=\"1\"\nFROM ${BASE}:$TAG\n";
        assert_eq!(images(&parse(text)), ["demo/base:1"]);
        let args = BTreeMap::from([("TAG".to_owned(), "2".to_owned())]);
        assert_eq!(images(&Dockerfile::parse(text, &args).expect("a Dockerfile")), ["demo/base:2"]);
        assert_eq!(images(&parse("FROM a:${TAG:-3}\n")), ["a:3"]);
        assert_eq!(
            Dockerfile::parse("\nFROM a:$TAG\n", &args).expect_err("no ARG").to_string(),
            "line 2: `a:$TAG` holds the variable `TAG`, which has no value here: give it a default in an `ARG` \
             before the first `FROM`, or a value under `args`"
        );
    }

    #[test]
    fn what_is_no_dockerfile_says_so() {
        assert_eq!(Dockerfile::parse("RUN x\n", &BTreeMap::new()), Err(DockerfileError::NoBase));
        assert_eq!(
            Dockerfile::parse("\nFROM\n", &BTreeMap::new()),
            Err(DockerfileError::NoImage { line: 2 })
        );
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_pinning_nothing_changes_nothing(
            text in "(FROM |COPY --from=|ARG A=|\\\\\n|#|\\$\\{|[ a-zä}:\n]){0,30}"
        ) {
            if let Ok(file) = Dockerfile::parse(&text, &BTreeMap::new()) {
                prop_assert_eq!(file.pinned(&BTreeMap::new()), text);
            }
        }
    }
}
