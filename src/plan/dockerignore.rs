//! `.dockerignore`: which files of a build context stay out of it.
//!
//! The rules are the builder's, not git's: the last pattern that matches a path or one
//! of its parents wins, and every pattern is anchored at the context's root.

/// The patterns of one `.dockerignore`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dockerignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Vec<char>,
    keep: bool,
}

impl Dockerignore {
    /// Reads the patterns; lines that can't match anything are left out, as the builder does.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let rules = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| {
                let line = line.trim();
                let (keep, pattern) = match line.strip_prefix('!') {
                    Some(rest) => (true, rest.trim()),
                    None => (false, line),
                };
                let pattern = clean(pattern);
                (!pattern.is_empty()).then(|| Rule { pattern: pattern.chars().collect(), keep })
            })
            .collect();
        Self { rules }
    }

    /// Whether the file at `path` (relative, forward slashes) stays out of the context.
    pub fn ignores(&self, path: &str) -> bool {
        let chars: Vec<char> = path.chars().collect();
        let ends: Vec<usize> = chars
            .iter()
            .enumerate()
            .filter(|(_, c)| **c == '/')
            .map(|(at, _)| at)
            .chain(std::iter::once(chars.len()))
            .collect();
        self.rules
            .iter()
            .rev()
            .find(|rule| ends.iter().any(|&end| matches(&rule.pattern, &chars[..end])))
            .is_some_and(|rule| !rule.keep)
    }
}

/// Takes `.`, `..`, double and outer slashes out of a pattern.
fn clean(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Whether the whole of `path` matches `pattern`. What is known of a pair of positions
/// is kept, so that patterns such as `**/**/**/x` can't take exponential time.
fn matches(pattern: &[char], path: &[char]) -> bool {
    let mut known = vec![None; (pattern.len() + 1) * (path.len() + 1)];
    matches_from(pattern, 0, path, 0, &mut known)
}

fn matches_from(pattern: &[char], p: usize, path: &[char], at: usize, known: &mut [Option<bool>]) -> bool {
    let slot = p * (path.len() + 1) + at;
    if let Some(answer) = known[slot] {
        return answer;
    }
    let answer = match pattern.get(p) {
        None => at == path.len(),
        Some('*') if pattern.get(p + 1) == Some(&'*') => {
            let mut next = p + 2;
            if pattern.get(next) == Some(&'/') {
                next += 1;
            }
            // Whole folders, none included.
            next == pattern.len()
                || (at..=path.len())
                    .filter(|&start| start == at || path[start - 1] == '/')
                    .any(|start| matches_from(pattern, next, path, start, known))
        }
        Some('*') => {
            let stop = path[at..].iter().position(|&c| c == '/').map_or(path.len(), |n| at + n);
            (at..=stop).any(|start| matches_from(pattern, p + 1, path, start, known))
        }
        Some('?') => {
            path.get(at).is_some_and(|&c| c != '/') && matches_from(pattern, p + 1, path, at + 1, known)
        }
        // An unclosed bracket is a pattern that matches nothing.
        Some('[') => class(pattern, p).is_some_and(|class| {
            path.get(at).is_some_and(|&c| c != '/' && class.holds(c))
                && matches_from(pattern, class.next, path, at + 1, known)
        }),
        Some('\\') if p + 1 < pattern.len() => {
            path.get(at) == pattern.get(p + 1) && matches_from(pattern, p + 2, path, at + 1, known)
        }
        Some(wanted) => path.get(at) == Some(wanted) && matches_from(pattern, p + 1, path, at + 1, known),
    };
    known[slot] = Some(answer);
    answer
}

/// A class of characters, `[a-z]`.
struct Class {
    /// Where the pattern goes on.
    next: usize,
    ranges: Vec<(char, char)>,
    negated: bool,
}

impl Class {
    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != self.negated
    }
}

/// The class that opens at `pattern[start]`.
fn class(pattern: &[char], start: usize) -> Option<Class> {
    let mut at = start + 1;
    let negated = matches!(pattern.get(at), Some('^' | '!'));
    if negated {
        at += 1;
    }
    let mut ranges = Vec::new();
    loop {
        let low = match *pattern.get(at)? {
            ']' if !ranges.is_empty() => return Some(Class { next: at + 1, ranges, negated }),
            '\\' => {
                at += 1;
                *pattern.get(at)?
            }
            c => c,
        };
        at += 1;
        if pattern.get(at) == Some(&'-') && pattern.get(at + 1).is_some_and(|&c| c != ']') {
            ranges.push((low, pattern[at + 1]));
            at += 2;
        } else {
            ranges.push((low, low));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ignored<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let ignore = Dockerignore::parse(rules);
        paths.iter().copied().filter(|path| ignore.ignores(path)).collect()
    }

    #[test]
    fn patterns_are_anchored_at_the_root_and_cover_what_is_below() {
        let paths = ["target", "target/debug/a", "sub/target/x", "targets"];
        assert_eq!(ignored("target\n", &paths), ["target", "target/debug/a"]);
        assert_eq!(ignored("/target/\n", &paths), ["target", "target/debug/a"]);
        assert_eq!(ignored("**/target\n", &paths), ["target", "target/debug/a", "sub/target/x"]);
    }

    #[test]
    fn the_last_match_wins_even_below_an_ignored_folder() {
        let paths = ["docs/a.md", "docs/README.md", "docs/b.txt"];
        assert_eq!(ignored("docs\n!docs/*.md\n", &paths), ["docs/b.txt"]);
        assert_eq!(ignored("docs\n!docs/*.md\ndocs/README.md\n", &paths), ["docs/README.md", "docs/b.txt"]);
        assert_eq!(ignored("*\n!docs\n", &["a", "docs/a", "b/c"]), ["a", "b/c"]);
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        let paths = ["a.log", "x/a.log", "x/y/a.log", "a.logs"];
        assert_eq!(ignored("*.log\n", &paths), ["a.log"]);
        assert_eq!(ignored("*/*.log\n", &paths), ["x/a.log"]);
        assert_eq!(ignored("**/*.log\n", &paths), ["a.log", "x/a.log", "x/y/a.log"]);
        assert_eq!(ignored("x/**\n", &paths), ["x/a.log", "x/y/a.log"]);
        assert_eq!(ignored("a.log?\n", &paths), ["a.logs"]);
        assert_eq!(ignored("[a-c].log\n", &paths), ["a.log"]);
        assert_eq!(ignored("[^a].log\n", &paths), [""; 0]);
    }

    #[test]
    fn comments_blank_lines_and_odd_forms_are_read_as_the_builder_reads_them() {
        assert_eq!(ignored("# a\n\n  b  \n! c\n./d/../e\n", &["a", "b", "c", "d", "e"]), ["b", "e"]);
        assert_eq!(ignored("\\*\n", &["*", "x"]), ["*"]);
        assert_eq!(ignored("[a\n", &["a", "[a"]), [""; 0]);
    }

    proptest! {
        #[test]
        fn matching_always_ends_and_never_panics(rules in "[a/*?!\\[\\]\\\\\\-ä\n]{0,40}", path in "[aä/*]{0,30}") {
            Dockerignore::parse(&rules).ignores(&path);
        }

        #[test]
        fn a_star_ignores_everything(path in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            prop_assert!(Dockerignore::parse("*\n").ignores(&path));
            prop_assert!(!Dockerignore::parse("*\n!**\n").ignores(&path));
        }
    }
}
