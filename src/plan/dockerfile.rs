//! What must be known of a Dockerfile before it is built: the images it starts from, what it
//! needs of the builder, and which line each of the builder's steps stands on.

mod lines;

use std::collections::BTreeMap;
use std::ops::Range;

use lines::{Directive, Line};

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
    /// A variable is used in a form that only the builder can evaluate.
    #[error(
        "line {line}: `{image}`: an image can be named with `${{NAME}}`, `${{NAME:-default}}` and `${{NAME:+other}}` only: set the whole name in an `ARG` before the first `FROM`, or under `args`"
    )]
    Form {
        /// The line, from 1.
        line: usize,
        /// The image as it stands there.
        image: String,
    },
    /// A heredoc has no end.
    #[error("line {line}: the heredoc `<<{name}` is not closed: a line that is only `{name}` ends it")]
    OpenHeredoc {
        /// The line it begins on, from 1.
        line: usize,
        /// Its name.
        name: String,
    },
    /// The file asks for a frontend of its own.
    #[error(
        "line {line}: `# syntax={image}` names a frontend that is not Docker's: only `docker/dockerfile` is supported, and the engine's own is used for it"
    )]
    Frontend {
        /// The line, from 1.
        line: usize,
        /// The frontend's image.
        image: String,
    },
    /// The stage to build is not there.
    #[error("there is no stage `{target}`, which the step's `target` names; {}", if stages.is_empty() { "no stage has a name".to_owned() } else { format!("the stages are {stages}") })]
    NoStage {
        /// What was asked for.
        target: String,
        /// The names that there are.
        stages: String,
    },
    /// The engine's builder is too old.
    #[error(
        "line {line}: {feature} needs Docker {needed} or newer, and the engine here is {engine}: update Docker on the machine that runs `fleetwright serve`, or write the step without it"
    )]
    EngineTooOld {
        /// The line, from 1.
        line: usize,
        /// What needs it.
        feature: &'static str,
        /// The first version that has it.
        needed: String,
        /// The engine's version.
        engine: String,
    },
}

/// What only newer engines understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Feature {
    name: &'static str,
    /// The first version of Docker whose own frontend has it.
    since: (u32, u32),
}

const HEREDOC: Feature = Feature { name: "a heredoc", since: (23, 0) };
/// Flags of instructions: keyword, flag, feature.
const FLAGS: [(&str, &str, Feature); 10] = [
    ("COPY", "--link", Feature { name: "`COPY --link`", since: (23, 0) }),
    ("ADD", "--link", Feature { name: "`ADD --link`", since: (23, 0) }),
    ("RUN", "--network", Feature { name: "`RUN --network`", since: (23, 0) }),
    ("ADD", "--checksum", Feature { name: "`ADD --checksum`", since: (25, 0) }),
    ("ADD", "--keep-git-dir", Feature { name: "`ADD --keep-git-dir`", since: (25, 0) }),
    ("ADD", "--unpack", Feature { name: "`ADD --unpack`", since: (28, 3) }),
    ("COPY", "--exclude", Feature { name: "`COPY --exclude`", since: (28, 5) }),
    ("ADD", "--exclude", Feature { name: "`ADD --exclude`", since: (28, 5) }),
    ("COPY", "--parents", Feature { name: "`COPY --parents`", since: (29, 1) }),
    ("RUN", "--security", Feature { name: "`RUN --security`", since: (29, 1) }),
];
const SECRET_ENV: Feature = Feature { name: "a secret's `env=`", since: (27, 3) };

/// A Dockerfile, read as far as is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dockerfile {
    text: String,
    instructions: Vec<Instruction>,
    bases: Vec<Base>,
    stages: Vec<Stage>,
    features: Vec<(usize, Feature)>,
    directives: Vec<Directive>,
}

/// An instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instruction {
    /// The line it begins on, from 1.
    pub line: usize,
    /// Its first line.
    pub text: String,
    /// The stage it belongs to, and its number there as the builder counts; 0 where it does not.
    place: (usize, usize),
}

/// An image that the build starts or copies from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The line, from 1.
    pub line: usize,
    /// The image, variables replaced.
    pub image: String,
    stage: usize,
    span: Range<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Stage {
    /// In small letters; empty for one without a name.
    name: String,
    /// The stages it starts or copies from.
    uses: Vec<usize>,
    /// How many of the builder's steps it has so far.
    steps: usize,
}

impl Dockerfile {
    /// Reads `text`; `args` are the values given to the build, `platform` is what it is built on
    /// and for, such as `linux/amd64`.
    ///
    /// # Errors
    /// When what the build starts from can't be told.
    pub fn parse(
        text: &str,
        args: &BTreeMap<String, String>,
        platform: &str,
    ) -> Result<Self, DockerfileError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (directives, lines) = lines::read(text)?;
        let mut file = Self {
            text: text.to_owned(),
            instructions: Vec::new(),
            bases: Vec::new(),
            stages: Vec::new(),
            features: Vec::new(),
            directives,
        };
        file.check_frontend()?;
        let mut values = platform_values(platform);
        for line in &lines {
            file.take(line, args, &mut values)?;
        }
        if file.stages.is_empty() {
            return Err(DockerfileError::NoBase);
        }
        Ok(file)
    }

    fn take(
        &mut self,
        line: &Line,
        args: &BTreeMap<String, String>,
        values: &mut BTreeMap<String, String>,
    ) -> Result<(), DockerfileError> {
        let Some(keyword) = line.words.first() else { return Ok(()) };
        let keyword = self.text[keyword.clone()].to_ascii_uppercase();
        if line.heredoc {
            self.features.push((line.number, HEREDOC));
        }
        let flags: Vec<Range<usize>> = line.words[1..]
            .iter()
            .take_while(|word| self.text[(*word).clone()].starts_with("--"))
            .cloned()
            .collect();
        for flag in &flags {
            self.notice(&keyword, line.number, flag);
        }
        match keyword.as_str() {
            "ARG" if self.stages.is_empty() => {
                for word in &line.words[1..] {
                    declare(&self.text[word.clone()], args, values);
                }
            }
            "FROM" => self.begin_stage(line, flags.len(), values)?,
            "COPY" => {
                for flag in flags {
                    if let Some(image) = self.text[flag.clone()].strip_prefix("--from=") {
                        let span = flag.end - image.len()..flag.end;
                        self.use_image(line.number, span, &BTreeMap::new())?;
                    }
                }
            }
            "RUN" => {
                for flag in flags {
                    if let Some(span) = mount_from(&self.text, &flag) {
                        self.use_image(line.number, span, &BTreeMap::new())?;
                    }
                }
            }
            _ => {}
        }
        let mut place = (0, 0);
        if let Some(stage) = self.stages.len().checked_sub(1) {
            if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD" | "WORKDIR") {
                self.stages[stage].steps += 1;
                place = (stage, self.stages[stage].steps);
            } else if keyword == "FROM" {
                place = (stage, self.stages[stage].steps);
            }
        }
        let first = self.text[line.range.clone()].lines().next().unwrap_or("").trim().to_owned();
        self.instructions.push(Instruction { line: line.number, text: first, place });
        Ok(())
    }

    fn begin_stage(
        &mut self,
        line: &Line,
        flags: usize,
        values: &BTreeMap<String, String>,
    ) -> Result<(), DockerfileError> {
        let operands = &line.words[1 + flags..];
        let image = operands.first().ok_or(DockerfileError::NoImage { line: line.number })?.clone();
        let name = match operands.get(1..3) {
            Some([word, name]) if self.text[word.clone()].eq_ignore_ascii_case("as") => {
                self.text[name.clone()].to_ascii_lowercase()
            }
            _ => String::new(),
        };
        // Stages that follow can be named, this one can't name itself.
        self.stages.push(Stage::default());
        let bases = self.bases.len();
        self.use_image(line.number, image, values)?;
        let stage = self.stages.last_mut().expect("one was pushed");
        stage.name = name;
        // The builder counts an image that it fetches, and neither `scratch` nor a stage.
        stage.steps = self.bases.len() - bases;
        Ok(())
    }

    /// Notes that the last stage uses an image or an earlier stage.
    fn use_image(
        &mut self,
        line: usize,
        span: Range<usize>,
        values: &BTreeMap<String, String>,
    ) -> Result<(), DockerfileError> {
        let written = &self.text[span.clone()];
        let image = expand(written, values).map_err(|unknown| {
            let image = written.to_owned();
            match unknown {
                Unknown::Value(variable) => DockerfileError::NoValue { line, image, variable },
                Unknown::Form => DockerfileError::Form { line, image },
            }
        })?;
        let Some(stage) = self.stages.len().checked_sub(1) else { return Ok(()) };
        if image == "scratch" {
            return Ok(());
        }
        let name = image.to_ascii_lowercase();
        let earlier = self.stages[..stage].iter().rposition(|stage| !name.is_empty() && stage.name == name);
        // `--from=0` is the first stage; no image has a number for a name.
        let number = image.parse().ok().filter(|number| *number < stage);
        match earlier.or(number) {
            Some(used) => self.stages[stage].uses.push(used),
            None if image.bytes().all(|byte| byte.is_ascii_digit()) => {}
            None => self.bases.push(Base { line, image, stage, span }),
        }
        Ok(())
    }

    fn notice(&mut self, keyword: &str, line: usize, flag: &Range<usize>) {
        let flag = &self.text[flag.clone()];
        let name = flag.split('=').next().unwrap_or(flag);
        let known = FLAGS.iter().find(|(word, known, _)| *word == keyword && *known == name);
        self.features.extend(known.map(|(.., feature)| (line, *feature)));
        if keyword == "RUN" && name == "--mount" && flag.contains("type=secret") {
            let env = flag.split(',').any(|part| part == "env" || part.starts_with("env="));
            self.features.extend(env.then_some((line, SECRET_ENV)));
        }
    }

    fn check_frontend(&self) -> Result<(), DockerfileError> {
        for directive in self.directives.iter().filter(|directive| directive.name == "syntax") {
            let image = directive.value.as_str();
            let name = image.strip_prefix("docker.io/").unwrap_or(image);
            let name = name.split(['@', ':']).next().unwrap_or(name);
            if !matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream") {
                return Err(DockerfileError::Frontend { line: directive.line, image: image.to_owned() });
            }
        }
        Ok(())
    }

    /// Checks that an engine of `version`, such as `20.10.24`, understands the file.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_engine(&self, version: &str) -> Result<(), DockerfileError> {
        let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().ok());
        // A version that is none is one that was built by hand: the builder says what it lacks.
        let (Some(Some(major)), Some(Some(minor))) = (numbers.next(), numbers.next()) else { return Ok(()) };
        match self.features.iter().find(|(_, feature)| feature.since > (major, minor)) {
            Some((line, feature)) => Err(DockerfileError::EngineTooOld {
                line: *line,
                feature: feature.name,
                needed: format!("{}.{}", feature.since.0, feature.since.1),
                engine: version.to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// The images that `target` (the last stage when `None`) is built from, but for `scratch` and
    /// stages; each place once.
    ///
    /// # Errors
    /// When there is no such stage.
    pub fn bases(&self, target: Option<&str>) -> Result<Vec<&Base>, DockerfileError> {
        let last = self.stages.len() - 1;
        let start = match target {
            None => last,
            Some(target) => {
                let name = target.to_ascii_lowercase();
                let named = self.stages.iter().rposition(|stage| stage.name == name);
                let number = target.parse().ok().filter(|number| *number <= last);
                named.or(number).ok_or_else(|| DockerfileError::NoStage {
                    target: target.to_owned(),
                    stages: self.stage_names(),
                })?
            }
        };
        let mut needed = vec![false; self.stages.len()];
        let mut waiting = vec![start];
        while let Some(stage) = waiting.pop() {
            if !std::mem::replace(&mut needed[stage], true) {
                waiting.extend(&self.stages[stage].uses);
            }
        }
        Ok(self.bases.iter().filter(|base| needed[base.stage]).collect())
    }

    fn stage_names(&self) -> String {
        let names = self.stages.iter().filter(|stage| !stage.name.is_empty());
        names.map(|stage| format!("`{}`", stage.name)).collect::<Vec<_>>().join(", ")
    }

    /// The instruction behind a step that the builder calls `[build 2/3] RUN make`.
    pub fn step(&self, name: &str) -> Option<&Instruction> {
        let (label, text) = name.strip_prefix('[')?.split_once(']')?;
        let mut words = label.split(' ').rev();
        let number: usize = words.next()?.split_once('/')?.0.trim().parse().ok()?;
        // A label that is not a stage's is a platform.
        let stage = words.next().and_then(|word| {
            let numbered = word.strip_prefix("stage-").and_then(|number| number.parse().ok());
            self.stages.iter().rposition(|stage| stage.name == word).or(numbered)
        });
        let keyword = text.split_whitespace().next()?;
        let same = |at: &&Instruction| {
            at.place.1 == number
                && number > 0
                && at.text.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(keyword))
        };
        match stage {
            Some(stage) => self.instructions.iter().filter(same).find(|at| at.place.0 == stage),
            None => self.instructions.iter().rfind(same),
        }
    }

    /// The text with every base replaced by what `pinned` gives for its name, and without
    /// `# syntax=`, whose image the engine would fetch; lines keep their numbers.
    pub fn pinned(&self, pinned: &BTreeMap<String, String>) -> String {
        let mut text = self.text.clone();
        for base in self.bases.iter().rev() {
            if let Some(reference) = pinned.get(&base.image) {
                text.replace_range(base.span.clone(), reference);
            }
        }
        // Directives end at the first line that is none, so the others move up.
        if self.directives.iter().any(|directive| directive.name == "syntax") {
            let others: Vec<_> =
                self.directives.iter().filter(|directive| directive.name != "syntax").collect();
            for (at, directive) in self.directives.iter().enumerate().rev() {
                let line = others.get(at).map_or("#", |other| self.text[other.range.clone()].trim_end());
                let end = text[directive.range.clone()].trim_end().len() + directive.range.start;
                text.replace_range(directive.range.start..end, line);
            }
        }
        text
    }
}

/// The variables of the platform, which the builder knows without an `ARG`.
fn platform_values(platform: &str) -> BTreeMap<String, String> {
    let mut parts = platform.split('/');
    let (os, arch, variant) =
        (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let mut values = BTreeMap::new();
    for prefix in ["BUILD", "TARGET"] {
        for (name, value) in [("PLATFORM", platform), ("OS", os), ("ARCH", arch), ("VARIANT", variant)] {
            values.insert(format!("{prefix}{name}"), value.to_owned());
        }
    }
    values
}

/// Where `--mount=type=bind,from=image` names its image.
fn mount_from(text: &str, flag: &Range<usize>) -> Option<Range<usize>> {
    let mut at = flag.start + text[flag.clone()].strip_prefix("--mount=").map(|_| "--mount=".len())?;
    for part in text[at..flag.end].split(',') {
        let value = part.trim_matches('"');
        if let Some(image) = value.strip_prefix("from=") {
            let start = at + part.find(image).filter(|_| !image.is_empty())?;
            return Some(start..start + image.len());
        }
        at += part.len() + 1;
    }
    None
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

/// Why a variable can't be replaced here.
enum Unknown {
    /// The variable of this name has no value.
    Value(String),
    /// It is used as in `${NAME#prefix}`.
    Form,
}

/// Replaces `$NAME`, `${NAME}`, and `${NAME:-default}` and `${NAME:+other}` with and without the
/// colon.
fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, Unknown> {
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
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, operator) = inner.split_at(end);
        let strict = operator.starts_with(':');
        let operator = operator.strip_prefix(':').unwrap_or(operator);
        let value = values.get(name).filter(|value| !(value.is_empty() && (strict || operator.is_empty())));
        match (value, operator.chars().next()) {
            (Some(_), Some('+')) => out.push_str(&operator[1..]),
            (Some(value), None | Some('-' | '?')) => out.push_str(value),
            (None, Some('-')) => out.push_str(&operator[1..]),
            (None, Some('+')) => {}
            // `TARGETVARIANT` is empty on most platforms.
            (None, None) if name.ends_with("VARIANT") && values.contains_key(name) => {}
            (None, None | Some('?')) => return Err(Unknown::Value(name.to_owned())),
            (_, Some(_)) => return Err(Unknown::Form),
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests;
