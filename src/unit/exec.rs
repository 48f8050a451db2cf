//! Command lines: prefixes, the program, quotes, escapes, specifiers; and what looks as if a
//! shell would read it.

use super::check::Check;
use super::parse::Text;
use super::words::{Word, unknown_specifier, words};

/// What only a shell understands.
const OPERATORS: [&str; 12] = ["&&", "||", "|", "&", ">", ">>", "<", "2>", "2>&1", "&>", ">&2", ">/dev/null"];

/// Programs whose arguments may be for a shell.
const SHELLS: [&str; 9] = ["sh", "bash", "dash", "ash", "zsh", "ksh", "busybox", "ssh", "env"];

/// A command of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Command {
    words: Vec<Word>,
}

impl Check<'_> {
    /// A command line. Several commands may stand in one, with ` ; ` between them.
    pub fn command(&mut self, text: &Text) {
        let all = match words(text.as_str()) {
            Ok(all) => all,
            Err(open) => {
                let message = format!("the quote is not closed, so systemd refuses the `{}=`", self.key);
                let span = text.mark(open.start..open.start + 1);
                self.error("unbalanced-quotes", message, span, "opened here");
                return;
            }
        };
        let mut commands = vec![Command { words: Vec::new() }];
        for word in all {
            // A semicolon that is quoted or escaped is an argument.
            if word.plain && word.text == ";" {
                commands.push(Command { words: Vec::new() });
            } else if let Some(command) = commands.last_mut() {
                command.words.push(word);
            }
        }
        // One at the end is taken.
        if commands.len() > 1 && commands.last().is_some_and(|command| command.words.is_empty()) {
            commands.pop();
        }
        for command in &commands {
            self.one_command(text, command);
        }
    }

    fn one_command(&mut self, text: &Text, command: &Command) {
        let Some(first) = command.words.first() else {
            self.error(
                "bad-value",
                format!("`{}=` has an empty command", self.key),
                text.mark(0..text.as_str().len()),
                "a `;` by itself ends a command",
            );
            return;
        };
        let (program, repeated) = without_prefixes(&first.text);
        let span = text.mark(first.range.clone());
        if program.is_empty() {
            self.error(
                "bad-value",
                format!("`{}=` has no program", self.key),
                span,
                "only a prefix stands here",
            );
            return;
        }
        if repeated {
            self.error(
                "bad-value",
                format!("`{}` has a prefix twice", first.text),
                span,
                "each of `-`, `@`, `:` and one of `+`, `!`, `!!` may stand once",
            );
            return;
        }
        for word in &command.words {
            if let Some(range) = unknown_specifier(&text.as_str()[word.range.clone()]) {
                let range = word.range.start + range.start..word.range.start + range.end;
                let name = &text.as_str()[range.clone()];
                let message = format!("there is no specifier `{name}`, so systemd refuses the line");
                let label = format!("a percent sign itself is `%{name}`");
                let span = text.mark(range);
                self.error("unknown-specifier", message, span, label);
                return;
            }
        }
        if !self.program(program, span) {
            return;
        }
        let at = program.rsplit('/').next().unwrap_or(program);
        let shell = SHELLS.contains(&at);
        for word in &command.words {
            for range in &word.unknown_escapes {
                let name = &text.as_str()[range.clone()];
                let message = format!("`{name}` is no escape systemd knows; it keeps the backslash");
                let span = text.mark(range.clone());
                self.warn("bad-escape", message, span, format!("a backslash itself is `\\{name}`"));
            }
        }
        if !shell {
            self.shell(text, &command.words[1..]);
        }
    }

    /// Whether the program can be found at all.
    fn program(&mut self, program: &str, span: crate::source::Span) -> bool {
        let key = self.key;
        if program.starts_with('%') {
            return true;
        }
        if program.ends_with('/') {
            self.error("bad-value", format!("`{program}` is a folder, no program"), span, "");
        } else if program.starts_with('/') {
            return true;
        } else if program.starts_with('$') {
            self.error(
                "relative-path",
                format!("`{program}`: variables don't stand for the program"),
                span,
                "an absolute path, or a name from the search path",
            );
        } else if program.starts_with('~') {
            self.error(
                "relative-path",
                format!("`{program}`: no shell reads the `~`"),
                span,
                "the home is `%h`",
            );
        } else if program.contains('/') {
            self.error("relative-path", format!("`{program}` is neither an absolute path nor a plain name, so systemd refuses the `{key}=`"), span, "it must begin with `/`");
        } else if program.chars().any(char::is_control) || program == "." || program == ".." {
            self.error("bad-value", format!("`{}` is no program", program.escape_debug()), span, "");
        } else {
            return true;
        }
        false
    }

    /// Arguments that are handed on as they are, though they look as if a shell read them.
    fn shell(&mut self, text: &Text, arguments: &[Word]) {
        let found = arguments.iter().find(|word| {
            word.plain
                && (OPERATORS.contains(&&*word.text)
                    || word.text.starts_with("$(")
                    || word.text.starts_with('`'))
        });
        if let Some(word) = found {
            let message =
                format!("no shell reads `{}=`; `{}` is an argument as any other", self.key, word.text);
            let span = text.mark(word.range.clone());
            self.warn("shell-syntax", message, span, "").help.push("a shell is `/bin/sh -c '...'`".into());
        }
    }
}

/// The program without the prefixes, and whether one stands there twice.
fn without_prefixes(word: &str) -> (&str, bool) {
    let mut rest = word;
    let (mut seen, mut privilege) = (String::new(), 0);
    loop {
        let Some(c) = rest.chars().next() else { return (rest, false) };
        match c {
            '-' | '@' | ':' | '|' if !seen.contains(c) => seen.push(c),
            '+' if privilege == 0 => privilege = 3,
            '!' if privilege < 2 => privilege += 1,
            '-' | '@' | ':' | '|' | '+' | '!' => return (rest, true),
            _ => return (rest, false),
        }
        rest = &rest[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stand_once_each() {
        assert_eq!(without_prefixes("-/bin/a"), ("/bin/a", false));
        assert_eq!(without_prefixes("@-:!!/bin/a"), ("/bin/a", false));
        assert_eq!(without_prefixes("--/bin/a"), ("-/bin/a", true));
        assert_eq!(without_prefixes("+!/bin/a"), ("!/bin/a", true));
        assert_eq!(without_prefixes("-"), ("", false));
    }
}
