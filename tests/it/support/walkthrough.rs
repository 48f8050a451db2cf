//! A document that is run as it stands: its commands, the lines that they are said to print, and its files.

/// What a document asks of its reader, one after the other.
pub enum Step<'d> {
    /// A command of a `console` block, and the lines that are shown below it.
    Run { command: &'d str, lines: Vec<&'d str> },
    /// A block below a line that is nothing but a path, such as "`services/web.yaml`:".
    Write { path: &'d str, text: String },
}

/// The steps in their order.
pub fn steps(document: &str) -> Vec<Step<'_>> {
    let mut all: Vec<Step<'_>> = Vec::new();
    let mut path = None;
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.strip_prefix("```") else {
            let named = line.strip_prefix('`').and_then(|rest| rest.strip_suffix("`:"));
            if named.is_some() || !line.is_empty() {
                path = named;
            }
            continue;
        };
        let block = lines.by_ref().take_while(|line| *line != "```");
        match path.take() {
            Some(path) => {
                let text = block.map(|line| format!("{line}\n")).collect();
                all.push(Step::Write { path, text });
            }
            None if language == "console" => {
                for line in block {
                    match (line.strip_prefix("$ "), all.last_mut()) {
                        (Some(command), _) => all.push(Step::Run { command, lines: Vec::new() }),
                        (None, Some(Step::Run { lines, .. })) => lines.push(line),
                        (None, _) => panic!("a block begins with a command, not with `{line}`"),
                    }
                }
            }
            None => block.for_each(drop),
        }
    }
    all
}

/// Asserts that what a command printed has the lines that are shown, in their order.
pub fn assert_shown(command: &str, lines: &[&str], printed: &str) {
    let mut rest = printed.lines();
    for line in lines {
        assert!(
            rest.any(|printed| is_like(printed.trim_end(), line)),
            "`{command}` does not print `{line}`, or not there:\n{printed}"
        );
    }
}

/// Whether a printed line is the one shown, in which `…` stands for anything.
fn is_like(line: &str, wanted: &str) -> bool {
    let mut pieces = wanted.split('…');
    let Some(mut rest) = pieces.next().and_then(|first| line.strip_prefix(first)) else { return false };
    for piece in pieces {
        let piece = piece.trim();
        match rest.find(piece) {
            Some(at) => rest = &rest[at + piece.len()..],
            None => return false,
        }
    }
    rest.is_empty() || wanted.ends_with('…')
}

#[test]
fn three_dots_stand_for_anything() {
    assert!(is_like("workers  ✓ created   0.4 s", "workers  ✓ created …"));
    assert!(is_like("0 errors in 9 files (3 ms).", "0 errors in … files …"));
    assert!(is_like("  ~ A   B   c", "  ~ A … B … c"));
    assert!(!is_like("  ~ A   B   c", "  ~ A … C … c") && !is_like("a b", "a") && !is_like("b a", "a"));
}
