//! `.dockerignore`: which files of a build context stay out of it.
//!
//! The rules are those of Docker's command line. The last pattern that matches a path or one of
//! its folders decides, and every pattern is anchored at the context's root. A folder that is
//! ignored is entered only when a `!` pattern begins with its name: `!**/*.md` finds nothing in it.

use std::collections::HashMap;

use super::ignore_pattern::Pattern;

/// The longest line that Docker reads.
const LINE_MAX: usize = 65_535;

/// The patterns of one `.dockerignore`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Pattern,
    keep: bool,
}

/// A pattern that Docker refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: `{pattern}` is not a pattern: {reason}")]
pub struct IgnoreError {
    /// The line, from 1.
    pub line: usize,
    /// The pattern as it stands there.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Dockerignore {
    /// Reads the patterns.
    ///
    /// # Errors
    /// When `docker build` refuses one of them, or would as soon as it applies it.
    pub fn parse(text: &[u8]) -> Result<Self, IgnoreError> {
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        let mut rules = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let bad = |reason: String| {
                let shown = String::from_utf8_lossy(line).trim().chars().take(80).collect();
                IgnoreError { line: number + 1, pattern: shown, reason }
            };
            if line.len() > LINE_MAX {
                return Err(bad(format!("the line has {} bytes; {LINE_MAX} are allowed", line.len())));
            }
            // Comments are recognised before blanks are removed.
            if line.starts_with(b"#") {
                continue;
            }
            // Docker cleans every line twice: what the first time leaves may begin with a blank or a `!`.
            let read = once(trim(line));
            let read = trim(&read);
            if read.is_empty() {
                continue;
            }
            let cleaned = clean(read);
            let (keep, pattern) = match cleaned.strip_prefix(b"!") {
                Some(b"") => return Err(bad("nothing follows the `!`".into())),
                Some(rest) => (true, rest),
                None => (false, &cleaned[..]),
            };
            rules.push(Rule { pattern: Pattern::new(pattern).map_err(bad)?, keep });
        }
        Ok(Self { rules })
    }

    /// Begins to go through a tree.
    pub fn walk(&self) -> Walk<'_> {
        Walk { rules: &self.rules, folders: HashMap::new() }
    }

    /// Whether a `!` pattern may name something within `folder`, so that it is entered although
    /// it is ignored.
    pub fn keeps_within(&self, folder: &[u8]) -> bool {
        keeps_within(&self.rules, folder)
    }
}

fn keeps_within(rules: &[Rule], folder: &[u8]) -> bool {
    rules.iter().filter(|rule| rule.keep).any(|rule| {
        let pattern = rule.pattern.text();
        pattern == folder || pattern.starts_with(folder) && pattern.get(folder.len()) == Some(&b'/')
    })
}

/// What is known of the folders of a tree, so that each is decided once.
#[derive(Debug)]
pub struct Walk<'a> {
    rules: &'a [Rule],
    folders: HashMap<Vec<u8>, Folder>,
}

#[derive(Debug, Clone)]
struct Folder {
    /// It is ignored, and so is all within.
    closed: bool,
    /// Which patterns have matched the folder.
    matched: Vec<bool>,
}

impl Walk<'_> {
    /// Whether the file, link or folder at `path` (relative, forward slashes) stays out.
    pub fn ignores(&mut self, path: &[u8]) -> bool {
        match parent(path) {
            None => self.decide(path, &[]).0,
            Some(folder) => {
                let folder = self.folder(folder);
                folder.closed || self.decide(path, &folder.matched).0
            }
        }
    }

    fn folder(&mut self, path: &[u8]) -> Folder {
        if let Some(known) = self.folders.get(path) {
            return known.clone();
        }
        let above = parent(path).map(|above| self.folder(above));
        let state = match above {
            Some(above) if above.closed => Folder { closed: true, matched: Vec::new() },
            above => {
                let (ignored, matched) =
                    self.decide(path, above.as_ref().map_or(&[][..], |above| &above.matched));
                Folder { closed: ignored && !keeps_within(self.rules, path), matched }
            }
        };
        self.folders.insert(path.to_owned(), state.clone());
        state
    }

    /// Decides a path by what is known of its folder. As in Docker, a pattern that made no
    /// difference to the folder counts as one that did not match it.
    fn decide(&self, path: &[u8], above: &[bool]) -> (bool, Vec<bool>) {
        let mut ignored = false;
        let mut matched = vec![false; self.rules.len()];
        for (at, rule) in self.rules.iter().enumerate() {
            let matches =
                above.get(at).copied().unwrap_or(false) || rule.keep == ignored && rule.pattern.matches(path);
            matched[at] = matches;
            if matches {
                ignored = !rule.keep;
            }
        }
        (ignored, matched)
    }
}

/// The folder that `path` lies in.
fn parent(path: &[u8]) -> Option<&[u8]> {
    path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at])
}

/// Without blanks at both ends.
fn trim(line: &[u8]) -> &[u8] {
    match std::str::from_utf8(line) {
        Ok(line) => line.trim().as_bytes(),
        Err(_) => line.trim_ascii(),
    }
}

/// A line as Docker's reader of the file hands it on: cleaned behind its `!`, and relative to the root.
fn once(line: &[u8]) -> Vec<u8> {
    let (mark, pattern) = match line.strip_prefix(b"!") {
        Some(rest) => (&b"!"[..], trim(rest)),
        None => (&b""[..], line),
    };
    if pattern.is_empty() {
        return mark.to_vec();
    }
    let pattern = clean(pattern);
    let pattern = pattern.strip_prefix(b"/").filter(|rest| !rest.is_empty()).unwrap_or(&pattern);
    [mark, pattern].concat()
}

/// Go's `filepath.Clean`.
fn clean(pattern: &[u8]) -> Vec<u8> {
    let rooted = pattern.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in pattern.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (parts.is_empty(), rooted) {
        (true, false) => b".".to_vec(),
        (_, true) => [&b"/"[..], &parts.join(&b'/')].concat(),
        (false, false) => parts.join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let ignore = Dockerignore::parse(rules.as_bytes()).expect("patterns");
        let mut walk = ignore.walk();
        paths.iter().copied().filter(|path| walk.ignores(path.as_bytes())).collect()
    }

    #[test]
    fn patterns_are_anchored_at_the_root_and_cover_what_is_below() {
        let paths = ["target", "target/debug/a", "sub/target/x", "targets"];
        assert_eq!(ignored("target\n", &paths), ["target", "target/debug/a"]);
        assert_eq!(ignored("/target/\n", &paths), ["target", "target/debug/a"]);
        assert_eq!(ignored("**/target\n", &paths), ["target", "target/debug/a", "sub/target/x"]);
    }

    #[test]
    fn the_last_match_wins_and_an_ignored_folder_is_entered_by_its_name_only() {
        let paths = ["docs/a.md", "docs/README.md", "docs/b.txt"];
        assert_eq!(ignored("docs\n!docs/*.md\n", &paths), ["docs/b.txt"]);
        assert_eq!(ignored("docs/*\n!docs/*.md\ndocs/README.md\n", &paths), ["docs/README.md", "docs/b.txt"]);
        assert_eq!(ignored("*\n!docs\n", &["a", "docs/a", "b/c"]), ["a", "b/c"]);
        // Docker does not look into `docs` for what `**` might find there.
        assert_eq!(ignored("docs\n!**/*.md\n", &paths), paths);
        assert_eq!(ignored("*\n!**/*.md\n", &["a", "a.md", "docs/a.md"]), ["a", "docs/a.md"]);
    }

    #[test]
    fn what_a_line_becomes_when_it_is_cleaned_is_read_again() {
        for refused in ["!", "!/", "! /", "/./!", "/!/", "a/../!", "/ !"] {
            let error = Dockerignore::parse(refused.as_bytes()).expect_err(refused);
            assert_eq!(error.reason, "nothing follows the `!`", "{refused}");
        }
        let paths = ["a", "b", "!b", "y"];
        assert_eq!(ignored("*\n/./!b\n", &paths), ["a", "!b", "y"], "it is an exception");
        assert_eq!(ignored("*\n!!b\n", &paths), ["a", "b", "y"]);
        assert_eq!(ignored("/ y\n./ /\n", &paths), ["y"], "blanks go, and nothing is left of the second");
        assert_eq!(ignored("/ /y\n", &paths), Vec::<&str>::new(), "a rooted pattern names nothing");
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        let paths = ["a.log", "x/a.log", "x/y/a.log", "a.logs"];
        assert_eq!(ignored("*.log\n", &paths), ["a.log"]);
        assert_eq!(ignored("*/*.log\n", &paths), ["x/a.log"]);
        assert_eq!(ignored("**/*.log\n", &paths), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(ignored("**.log\n", &paths), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(ignored("x/**\n", &paths), ["x/a.log", "x/y/a.log"]);
        assert_eq!(ignored("a.log?\n", &paths), ["a.logs"]);
        assert_eq!(ignored("[a-c].log\n", &paths), ["a.log"]);
        assert_eq!(ignored("[^a].log\n", &paths), [""; 0]);
        // `!` negates in no bracket, and `\d` is a digit: Docker makes a regular expression of it.
        assert_eq!(ignored("[!a].log\n", &["a.log", "b.log", "!.log"]), ["a.log", "!.log"]);
        assert_eq!(ignored("\\d.log\n", &["d.log", "1.log"]), ["1.log"]);
        assert_eq!(ignored("a+(b)\n", &["a+(b)", "aab"]), ["a+(b)"]);
        // After a `*` that its check does not get past, Docker takes what it refuses elsewhere.
        assert_eq!(ignored("a*[-b]\n", &["ax-", "ab", "ac"]), ["ax-", "ab"]);
        assert_eq!(ignored("a*[]b]\n", &["a]", "ab", "ac"]), ["a]", "ab"]);
    }

    #[test]
    fn comments_blank_lines_and_odd_forms_are_read_as_docker_reads_them() {
        assert_eq!(ignored("# a\n\n  b  \n! c\n./d/../e\n", &["a", "b", "c", "d", "e"]), ["b", "e"]);
        assert_eq!(ignored("\u{feff}a\r\n", &["a"]), ["a"]);
        assert_eq!(ignored(" #a\n", &["#a"]), ["#a"]);
        assert_eq!(ignored("\\*\n", &["*", "x"]), ["*"]);
        // Nothing lies above the root.
        assert_eq!(ignored("a\n!../a\n", &["a"]), ["a"]);
        assert_eq!(ignored("../a\n.\n/\n", &["a"]), [""; 0]);
    }

    #[test]
    fn what_docker_refuses_is_refused_with_its_line() {
        // Docker does not notice the last three until it applies them.
        let late = ["a*\\", "!a*[", "*/[b-a]"];
        for bad in ["!", "! ", "!/", "[a", "[]a]", "a\\", "[-a]", "[a-]", "[b-a]", "\\p", "*[-a]"]
            .iter()
            .chain(&late)
        {
            let error = Dockerignore::parse(format!("ok\n{bad}\n").as_bytes()).expect_err(bad);
            assert_eq!((error.line, error.pattern.as_str()), (2, bad.trim()), "{error}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_can_be_ignored() {
        for rules in [&b"caf*"[..], b"caf\xe9", b"caf\xe9*", b"caf?", b"*"] {
            let ignore = Dockerignore::parse(rules).expect("patterns");
            assert!(ignore.walk().ignores(b"caf\xe9"), "{rules:?}");
        }
        let ignore = Dockerignore::parse(b"caf\xe9").expect("patterns");
        assert!(!ignore.walk().ignores(b"caf\xe8"));
    }

    proptest! {
        #[test]
        fn matching_always_ends_and_is_without_panic(
            rules in "[a/*?!\\[\\]\\\\\\-äd^.\n]{0,40}", path in "[aä/*]{0,30}"
        ) {
            if let Ok(ignore) = Dockerignore::parse(rules.as_bytes()) {
                ignore.walk().ignores(path.as_bytes());
            }
        }

        #[test]
        fn a_star_ignores_everything(path in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            prop_assert!(Dockerignore::parse(b"*\n").expect("patterns").walk().ignores(path.as_bytes()));
            let kept = Dockerignore::parse(b"*\n!*\n").expect("patterns");
            prop_assert!(!kept.walk().ignores(path.as_bytes()));
        }
    }
}
