//! The lines of a Dockerfile: directives, instructions over several lines, heredocs.

use std::ops::Range;

use super::DockerfileError;

/// A directive, such as `# escape=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    /// In small letters.
    pub(super) name: String,
    pub(super) value: String,
    /// The line, from 1.
    pub(super) line: usize,
    /// The whole line.
    pub(super) range: Range<usize>,
}

/// An instruction with its continuation lines, without its heredocs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Where it begins, from 1.
    pub(super) number: usize,
    pub(super) range: Range<usize>,
    /// Its words, without continuation marks and the comments between.
    pub(super) words: Vec<Range<usize>>,
    /// Whether heredocs follow.
    pub(super) heredoc: bool,
}

/// Reads the lines of a Dockerfile.
///
/// # Errors
/// When a heredoc is not closed.
pub(super) fn read(text: &str) -> Result<(Vec<Directive>, Vec<Line>), DockerfileError> {
    let mut physical = Vec::new();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        physical.push(offset..offset + line.len());
        offset += line.len();
    }
    let directives = directives(text, &physical);
    let escape = directives
        .iter()
        .find(|directive| directive.name == "escape")
        .and_then(|directive| directive.value.chars().next())
        .filter(|escape| *escape == '`')
        .unwrap_or('\\');
    let mut lines = Vec::new();
    let mut at = 0;
    while at < physical.len() {
        let first = text[physical[at].clone()].trim();
        if first.is_empty() || first.starts_with('#') {
            at += 1;
            continue;
        }
        let number = at + 1;
        let mut range = physical[at].clone();
        let mut open = continues(first, escape);
        at += 1;
        while open && at < physical.len() {
            let line = text[physical[at].clone()].trim();
            if !line.is_empty() && !line.starts_with('#') {
                range.end = physical[at].end;
                open = continues(line, escape);
            }
            at += 1;
        }
        let words = words(text, range.clone(), escape);
        let keyword = words.first().map(|word| text[word.clone()].to_ascii_uppercase());
        let mut heredoc = false;
        if matches!(keyword.as_deref(), Some("RUN" | "COPY" | "ADD")) {
            for (name, tabs) in heredocs(&text[range.clone()]) {
                heredoc = true;
                let ends = |line: &Range<usize>| {
                    let line = text[line.clone()].trim_end_matches(['\n', '\r']);
                    if tabs { line.trim_start_matches('\t') == name } else { line == name }
                };
                let end = physical[at..].iter().position(ends);
                let end = end.ok_or(DockerfileError::OpenHeredoc { line: number, name })?;
                at += end + 1;
            }
        }
        lines.push(Line { number, range, words, heredoc });
    }
    Ok((directives, lines))
}

/// The directives; the first line that is none ends them.
fn directives(text: &str, physical: &[Range<usize>]) -> Vec<Directive> {
    let mut found: Vec<Directive> = Vec::new();
    for (at, range) in physical.iter().enumerate() {
        let Some(rest) = text[range.clone()].trim().strip_prefix('#') else { break };
        let Some((name, value)) = rest.split_once('=') else { break };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if !matches!(name.as_str(), "syntax" | "escape" | "check") || value.is_empty() {
            break;
        }
        found.push(Directive { name, value: value.to_owned(), line: at + 1, range: range.clone() });
    }
    found
}

fn continues(line: &str, escape: char) -> bool {
    line.ends_with(escape)
}

fn words(text: &str, range: Range<usize>, escape: char) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
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
    let mut mark = [0; 4];
    let mark = escape.encode_utf8(&mut mark);
    words.retain(|word| text[word.clone()] != *mark);
    words
}

/// The heredocs that an instruction opens: their names, and whether tabs before the end count.
fn heredocs(instruction: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for word in shell_words(instruction) {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(rest) = rest.strip_prefix("<<") else { continue };
        let (rest, tabs) = match rest.strip_prefix('-') {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let name: String = rest.chars().filter(|c| !matches!(c, '"' | '\'' | '\\')).collect();
        if !name.is_empty() && !rest.contains('<') && !name.contains('$') {
            found.push((name, tabs));
        }
    }
    found
}

/// The words of a shell command, quotes kept: what is quoted is no heredoc.
fn shell_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            Some(open) => {
                if c == open {
                    quote = None;
                }
                word.push(c);
                if c == '\\' && open == '"' {
                    word.extend(chars.next());
                }
            }
            None if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            None => {
                if matches!(c, '"' | '\'') {
                    quote = Some(c);
                }
                word.push(c);
                if c == '\\' {
                    word.extend(chars.next());
                }
            }
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    words
}
