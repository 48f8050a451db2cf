//! Variables in texts for a shell.

/// What a variable of another system is here.
#[derive(Debug, Clone, Copy)]
pub enum Known {
    /// A variable with the same value.
    Same(&'static str),
    /// A value that is always the same.
    Fixed(&'static str),
    /// Nothing with the same value, and what to do.
    Nothing(&'static str),
}

/// A variable in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'t> {
    /// Where its `$` stands, in bytes.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Its name.
    pub name: &'t str,
    /// What follows the name in braces, such as `:-main`; empty without braces.
    pub operator: &'t str,
    /// Whether it is written with braces.
    pub braced: bool,
    /// Whether it stands in single quotes, where a shell fills nothing in.
    pub quoted: bool,
}

/// The variables of a text, in order. Those after a backslash, and all in comments, are left out.
pub fn variables(text: &str) -> Vec<Variable<'_>> {
    let mut found = Vec::new();
    let (mut single, mut double, mut before) = (false, false, ' ');
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let next = at + c.len_utf8();
        match c {
            '\\' if !single => {
                let escaped = text[next..].chars().next();
                at = next + escaped.map_or(0, char::len_utf8);
                before = 'x';
                continue;
            }
            '\'' if !double => single = !single,
            '"' if !single => double = !double,
            '#' if !single && !double && before.is_whitespace() => {
                at = text[at..].find('\n').map_or(text.len(), |end| at + end);
                before = '\n';
                continue;
            }
            '$' => {
                if let Some(variable) = variable(text, at, single) {
                    at = variable.end;
                    found.push(variable);
                    before = 'x';
                    continue;
                }
            }
            _ => {}
        }
        before = c;
        at = next;
    }
    found
}

fn variable(text: &str, start: usize, quoted: bool) -> Option<Variable<'_>> {
    let rest = &text[start + 1..];
    let braced = rest.starts_with('{');
    let inside = rest.strip_prefix('{').unwrap_or(rest);
    let length = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
    let name = &inside[..length];
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let begin = start + 1 + usize::from(braced);
    let (operator, end) = match braced {
        false => ("", begin + length),
        true => {
            let close = inside[length..].find('}')?;
            (&inside[length..length + close], begin + length + close + 1)
        }
    };
    Some(Variable { start, end, name, operator, braced, quoted })
}

/// Writes an expression that a shell expands in place of one in single quotes, in which it expands nothing: they end
/// before it. `rest` is what follows; returns how many bytes of that are written.
pub fn unquote(done: &mut String, expression: &str, rest: &str) -> usize {
    // A quote directly before it is the one that began them.
    if done.ends_with('\'') {
        done.pop();
    } else {
        done.push('\'');
    }
    done.push_str(&format!("\"{expression}\""));
    let ends = rest.starts_with('\'');
    if !ends {
        done.push('\'');
    }
    usize::from(ends)
}

/// A word that a shell reads as `text`.
pub fn quoted(text: &str) -> String {
    let plain =
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// Whether commands may change the shell that runs them: its folder, its variables, its options.
pub fn changes_shell(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "cd", "export", "set", "unset", ".", "source", "umask", "exec", "exit", "trap", "alias", "pushd",
        "popd", "return",
    ];
    let mut parts = text.split(['\n', ';', '&', '|', '(', '{']);
    let is_function = text.contains("()");
    is_function
        || parts.any(|part| {
            let word = part.split_whitespace().next().unwrap_or_default();
            let name = word.split_once('=').map(|(name, _)| name);
            let assigns = name.is_some_and(|name| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            });
            WORDS.contains(&word) || assigns
        })
}

/// Whether a command runs git, which needs the `.git` that a workspace does not have.
pub fn runs_git(text: &str) -> bool {
    let parts = text.split(['\n', ';', '&', '|', '(', '`']);
    parts.filter_map(|part| part.split_whitespace().next()).any(|word| word == "git")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_found_with_what_stands_around_them() {
        let text = r##"echo $A "${B:-x}" '${C}' \$D # $E it's
x#$F ${G##v} $1 $(H) ${"##;
        let found: Vec<_> = variables(text)
            .into_iter()
            .map(|found| (found.name, found.operator, found.braced, found.quoted))
            .collect();
        assert_eq!(
            found,
            [
                ("A", "", false, false),
                ("B", ":-x", true, false),
                ("C", "", true, true),
                ("F", "", false, false),
                ("G", "##v", true, false)
            ]
        );
    }

    #[test]
    fn what_a_shell_expands_is_not_in_single_quotes() {
        for (before, rest, expected) in [
            ("echo '", "'", "echo \"$A\""),
            ("echo 'x ", " y'", "echo 'x '\"$A\"' y'"),
            ("echo '", "!'", "echo \"$A\"'!'"),
        ] {
            let mut done = before.to_owned();
            let written = unquote(&mut done, "$A", rest);
            assert_eq!(done + &rest[written..], expected);
        }
    }

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("a/b:1"), "a/b:1");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_outlives_a_command_is_seen() {
        for text in ["cd web && make", "make\nexport A=b", "A=b", "f() { true; }", "set -x"] {
            assert!(changes_shell(text), "{text}");
        }
        for text in ["make test", "make A=b", "echo cd"] {
            assert!(!changes_shell(text), "{text}");
        }
        assert!(runs_git("make && git tag") && !runs_git("make git"));
    }
}
