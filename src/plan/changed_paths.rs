//! Whether changed files set a pipeline off. Pure.

use super::ignore_pattern::Pattern;

/// Whether one of the `changed` files fits `patterns`: `*` stays within a folder, `**` does not, a folder means everything
/// in it, and the last pattern that fits decides, `!` against it.
pub fn fit(patterns: &[String], changed: &[Vec<u8>]) -> bool {
    let rules: Result<Vec<(bool, Pattern)>, String> = patterns
        .iter()
        .map(|text| {
            let (fits, pattern) = text.strip_prefix('!').map_or((true, &**text), |rest| (false, rest));
            Pattern::new(pattern.trim_end_matches('/').as_bytes()).map(|pattern| (fits, pattern))
        })
        .collect();
    match rules {
        // What can't be read can't keep a push from being run.
        Err(_) => true,
        Ok(rules) => rules.is_empty() || changed.iter().any(|path| decides(&rules, path)),
    }
}

fn decides(rules: &[(bool, Pattern)], path: &[u8]) -> bool {
    let folders = || path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at]);
    let fitting = |(_, pattern): &&(bool, Pattern)| {
        pattern.matches(path) || folders().any(|folder| pattern.matches(folder))
    };
    rules.iter().rev().find(fitting).is_some_and(|(fits, _)| *fits)
}

/// Whether the file of that path fits a pattern, which has no `!`.
pub fn fit_one(pattern: &str, path: &str) -> bool {
    Pattern::new(pattern.trim_end_matches('/').as_bytes())
        .is_ok_and(|pattern| decides(&[(true, pattern)], path.as_bytes()))
}

/// The folders below which all files are that fit one of the patterns; the empty path is everything.
pub fn roots(patterns: &[String]) -> Vec<String> {
    let fixed = patterns.iter().map(|pattern| {
        let parts: Vec<&str> = pattern.trim_end_matches('/').split('/').collect();
        // What the last part names may be a file.
        let folders = parts.iter().take(parts.len() - 1).take_while(|part| !part.contains(['*', '?']));
        folders.copied().collect::<Vec<_>>().join("/")
    });
    let mut roots: Vec<String> = fixed.collect();
    roots.sort();
    let mut kept: Vec<String> = Vec::new();
    for root in roots {
        let is_inside = |outer: &String| {
            outer.is_empty()
                || root == *outer
                || root.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
        };
        if !kept.iter().any(is_inside) {
            kept.push(root);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_its_exceptions_and_files_anywhere_fit() {
        let fits = |patterns: &[&str], changed: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            let changed: Vec<Vec<u8>> = changed.iter().map(|path| path.as_bytes().to_vec()).collect();
            fit(&patterns, &changed)
        };
        assert!(fits(&[], &["README.md"]));
        assert!(fits(&["web/**"], &["README.md", "web/a/b.rs"]));
        assert!(fits(&["web"], &["web/a/b.rs"]));
        assert!(!fits(&["web/**"], &["website/a", "lib/web/a"]));
        assert!(!fits(&["web", "!**/*.md"], &["web/README.md", "web/docs/more.md"]));
        assert!(fits(&["web", "!**/*.md"], &["web/README.md", "web/main.rs"]));
        assert!(fits(&["**/*.proto"], &["deep/down/x.proto"]));
        assert!(!fits(&["*.proto"], &["deep/x.proto"]));
        assert!(!fits(&["web"], &[]));
    }

    #[test]
    fn files_are_looked_for_where_their_patterns_begin() {
        let roots = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            super::roots(&patterns)
        };
        assert_eq!(
            roots(&["target/report/*.xml", "target/report/sub/**", "dist/app"]),
            ["dist", "target/report"]
        );
        assert_eq!(roots(&["build/a/**", "build-b/x/y"]), ["build-b/x", "build/a"]);
        assert_eq!(roots(&["**/*.xml", "a/b/c"]), [""]);
        assert_eq!(roots(&["coverage.html"]), [""]);
        assert!(fit_one("report/*.xml", "report/a.xml") && !fit_one("report/*.xml", "report/a/b.xml"));
        assert!(fit_one("dist", "dist/a/b") && fit_one("dist/", "dist/a") && !fit_one("dist", "distant"));
    }
}
