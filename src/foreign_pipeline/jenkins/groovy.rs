//! As much of Groovy as declarative Jenkinsfiles are made of. Any other code is kept as its place.

use std::sync::Arc;

use crate::source::{Diagnostic, SourceFile, Span};

/// How deep blocks and brackets may be nested.
const DEPTH_MOST: usize = 60;
/// Words that begin code of another kind.
const CODE: [&str; 20] = [
    "def", "if", "else", "for", "while", "do", "try", "catch", "finally", "switch", "return", "throw",
    "import", "class", "new", "assert", "static", "final", "void", "package",
];

/// A statement.
#[derive(Debug, Clone)]
pub struct Statement {
    /// Its name, with dots; empty for code of another kind.
    pub name: String,
    /// Where it stands, arguments and block included.
    pub span: Span,
    /// What it is given.
    pub arguments: Vec<Argument>,
    /// What is in its braces.
    pub block: Option<Vec<Statement>>,
    /// What is assigned to its name.
    pub assigned: Option<Expression>,
}

/// Something that a statement is given.
#[derive(Debug, Clone)]
pub struct Argument {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Its value.
    pub value: Expression,
}

/// A value.
#[derive(Debug, Clone)]
pub struct Expression {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A text.
    Text(Vec<Part>),
    /// A number, a boolean or a name with dots, as it stands.
    Word(String),
    /// A list.
    List(Vec<Expression>),
    /// A call.
    Call(Box<Statement>),
    /// Other code.
    Code,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is.
    Literal(String),
    /// The value of a variable or of its property, such as `env.HOME`.
    Variable(String),
    /// The value of other code.
    Code(String),
}

impl Statement {
    /// The argument of that name.
    pub fn named(&self, name: &str) -> Option<&Expression> {
        let named = self.arguments.iter().find(|argument| argument.name.as_deref() == Some(name));
        named.map(|argument| &argument.value)
    }

    /// The first argument without a name.
    pub fn first(&self) -> Option<&Expression> {
        self.arguments.iter().find(|argument| argument.name.is_none()).map(|argument| &argument.value)
    }

    /// The statements in its braces.
    pub fn inside(&self) -> &[Statement] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The statement of that name in its braces.
    pub fn get(&self, name: &str) -> Option<&Statement> {
        self.inside().iter().find(|statement| statement.name == name)
    }
}

impl Expression {
    /// The text, if it is one into which nothing is filled in.
    pub fn literal(&self) -> Option<String> {
        match &self.kind {
            Kind::Text(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Literal(text) => Some(text.as_str()),
                    Part::Variable(_) | Part::Code(_) => None,
                })
                .collect(),
            Kind::Word(_) | Kind::List(_) | Kind::Call(_) | Kind::Code => None,
        }
    }

    /// The number, boolean or name, as it stands.
    pub fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            Kind::Text(_) | Kind::List(_) | Kind::Call(_) | Kind::Code => None,
        }
    }
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

/// The statements of a file.
///
/// # Errors
/// Where a text, a comment or a bracket does not end, or ends what was not begun.
pub fn parse(file: &Arc<SourceFile>) -> Parsed<Vec<Statement>> {
    let mut parser = Parser { file, text: file.text(), at: 0, depth: 0 };
    if parser.text.starts_with("#!") {
        parser.at = parser.text.find('\n').unwrap_or(parser.text.len());
    }
    parser.statements(None)
}

struct Parser<'f> {
    file: &'f Arc<SourceFile>,
    text: &'f str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn error<T>(&self, span: Span, message: &str, help: &str) -> Parsed<T> {
        let diagnostic = Diagnostic::error("groovy-syntax", message).at(self.file, span, "");
        Err(Box::new(diagnostic.help(help)))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Skips blanks and comments, and with `lines` line ends.
    fn skip(&mut self, lines: bool) -> Parsed<()> {
        loop {
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let start = self.at;
                match rest.find("*/") {
                    Some(end) if end >= 2 => self.at += end + 2,
                    _ => {
                        return self.error(
                            Span::new(start, start + 2),
                            "a comment does not end",
                            "end it with `*/`",
                        );
                    }
                }
            } else if rest.starts_with("\\\n") {
                self.at += 2;
            } else {
                match self.peek() {
                    Some('\n') if !lines => return Ok(()),
                    Some(c) if c.is_whitespace() => self.at += c.len_utf8(),
                    _ => return Ok(()),
                }
            }
        }
    }

    fn deeper(&mut self, span: Span) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEPTH_MOST {
            let message = format!("this is nested more than {DEPTH_MOST} levels deep");
            return self.error(span, &message, "use fewer levels");
        }
        Ok(())
    }

    /// Statements up to the brace that ends them, or up to the end of the file where none was opened.
    fn statements(&mut self, open: Option<Span>) -> Parsed<Vec<Statement>> {
        let mut all = Vec::new();
        loop {
            self.skip(true)?;
            match self.peek() {
                Some(';') => self.at += 1,
                Some('}') if open.is_some() => {
                    self.at += 1;
                    return Ok(all);
                }
                Some(c @ ('}' | ')' | ']')) => {
                    let message = format!("`{c}` ends what was not begun");
                    let span = Span::new(self.at, self.at + 1);
                    return self.error(span, &message, "remove it, or begin what it ends");
                }
                None => {
                    return match open {
                        None => Ok(all),
                        Some(span) => self.error(span, "a block does not end", "end it with `}`"),
                    };
                }
                Some(_) => all.push(self.statement()?),
            }
        }
    }

    fn identifier(&mut self) -> Option<&str> {
        let rest = &self.text[self.at..];
        if !rest.starts_with(|c: char| c.is_alphabetic() || c == '_') {
            return None;
        }
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        Some(&rest[..end])
    }

    /// Names with dots between them.
    fn path(&mut self) -> Option<String> {
        let mut path = self.identifier()?.to_owned();
        while self.rest().starts_with('.') {
            let before = self.at;
            self.at += 1;
            match self.identifier() {
                Some(next) => path = format!("{path}.{next}"),
                None => {
                    self.at = before;
                    break;
                }
            }
        }
        Some(path)
    }

    fn statement(&mut self) -> Parsed<Statement> {
        let start = self.at;
        self.deeper(Span::new(start, start))?;
        let statement = self.statement_at(start)?;
        self.depth -= 1;
        Ok(statement)
    }

    fn statement_at(&mut self, start: usize) -> Parsed<Statement> {
        let named = self.path().filter(|name| !CODE.contains(&name.as_str()));
        let Some(name) = named else { return self.code_statement(start) };
        let mut statement = Statement {
            name,
            span: Span::new(start, self.at),
            arguments: Vec::new(),
            block: None,
            assigned: None,
        };
        self.skip(false)?;
        match self.peek() {
            Some('=') if !self.rest().starts_with("==") => {
                self.at += 1;
                self.skip(true)?;
                statement.assigned = Some(self.expression()?);
            }
            Some('(') => {
                self.at += 1;
                statement.arguments = self.arguments(Some(Span::new(self.at - 1, self.at)))?;
            }
            Some('{' | '}' | ';' | '\n') | None => {}
            Some(_) => statement.arguments = self.arguments(None)?,
        }
        statement.span.end = self.at;
        self.skip(false)?;
        if self.peek() == Some('{') && statement.assigned.is_none() {
            let open = Span::new(self.at, self.at + 1);
            self.at += 1;
            statement.block = Some(self.statements(Some(open))?);
            statement.span.end = self.at;
            self.skip(false)?;
        }
        match self.peek() {
            None | Some('\n' | ';' | '}') => Ok(statement),
            // Something like a call of what was returned.
            Some(_) => self.code_statement(start),
        }
    }

    fn code_statement(&mut self, start: usize) -> Parsed<Statement> {
        let before = self.at;
        self.code(false)?;
        if self.at == before && self.at == start {
            // A bracket that ends nothing is an error of the caller's; any other character is part of the code.
            self.bump();
        }
        let span = Span::new(start, self.at);
        Ok(Statement { name: String::new(), span, arguments: Vec::new(), block: None, assigned: None })
    }

    /// Arguments: up to a bracket, or up to the end of the line.
    fn arguments(&mut self, open: Option<Span>) -> Parsed<Vec<Argument>> {
        let mut all = Vec::new();
        let lines = open.is_some();
        loop {
            self.skip(lines)?;
            match (self.peek(), open) {
                (Some(')'), Some(_)) => {
                    self.at += 1;
                    return Ok(all);
                }
                (None, Some(span)) => return self.error(span, "a bracket does not end", "end it with `)`"),
                (Some(c @ ('}' | ']')), Some(_)) => {
                    let message = format!("`{c}` ends what was not begun");
                    let span = Span::new(self.at, self.at + 1);
                    return self.error(span, &message, "remove it, or begin what it ends");
                }
                (None | Some('\n' | ';' | '}' | '{' | ')' | ']'), None) => return Ok(all),
                (Some(','), _) => {
                    self.at += 1;
                    self.skip(true)?;
                    continue;
                }
                _ => {}
            }
            let before = self.at;
            let name = self.label();
            self.skip(true)?;
            let value = self.expression()?;
            all.push(Argument { name, value });
            if self.at == before {
                self.bump();
            }
        }
    }

    /// `name:`, if that is what comes.
    fn label(&mut self) -> Option<String> {
        let before = self.at;
        let name = self.identifier().map(str::to_owned);
        let end = self.at;
        let blanks = self.rest().len() - self.rest().trim_start_matches([' ', '\t']).len();
        self.at = end + blanks;
        if name.is_some() && self.rest().starts_with(':') && !self.rest().starts_with("::") {
            self.at += 1;
            return name;
        }
        self.at = before;
        None
    }

    fn expression(&mut self) -> Parsed<Expression> {
        let start = self.at;
        self.deeper(Span::new(start, start))?;
        let kind = self.value()?;
        let end = self.at;
        self.skip(false)?;
        self.depth -= 1;
        match self.peek() {
            None | Some(',' | ')' | ']' | '}' | '{' | '\n' | ';') if self.at > start => {
                Ok(Expression { kind, span: Span::new(start, end) })
            }
            // An operator, or a property.
            _ => {
                self.code(true)?;
                Ok(Expression { kind: Kind::Code, span: Span::new(start, self.at.max(end)) })
            }
        }
    }

    fn value(&mut self) -> Parsed<Kind> {
        match self.peek() {
            Some('\'' | '"') => Ok(Kind::Text(self.string()?)),
            Some('[') => {
                let open = Span::new(self.at, self.at + 1);
                self.at += 1;
                self.list(open)
            }
            Some(c) if c.is_ascii_digit() => {
                let rest = self.rest();
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
                let word = rest[..end].to_owned();
                self.at += end;
                Ok(Kind::Word(word))
            }
            _ => {
                let start = self.at;
                let Some(name) = self.path() else { return Ok(Kind::Code) };
                if CODE.contains(&name.as_str()) {
                    return Ok(Kind::Code);
                }
                if self.rest().starts_with('(') {
                    let open = Span::new(self.at, self.at + 1);
                    self.at += 1;
                    let arguments = self.arguments(Some(open))?;
                    let span = Span::new(start, self.at);
                    return Ok(Kind::Call(Box::new(Statement {
                        name,
                        span,
                        arguments,
                        block: None,
                        assigned: None,
                    })));
                }
                Ok(Kind::Word(name))
            }
        }
    }

    /// A list after its bracket; a mapping is code.
    fn list(&mut self, open: Span) -> Parsed<Kind> {
        let (mut items, mut is_map) = (Vec::new(), false);
        loop {
            self.skip(true)?;
            match self.peek() {
                Some(']') => {
                    self.at += 1;
                    return Ok(if is_map { Kind::Code } else { Kind::List(items) });
                }
                Some(',' | ';') => self.at += 1,
                Some(':') => {
                    is_map = true;
                    self.at += 1;
                }
                None => return self.error(open, "a bracket does not end", "end it with `]`"),
                Some(c @ ('}' | ')')) => {
                    let message = format!("`{c}` ends what was not begun");
                    let span = Span::new(self.at, self.at + 1);
                    return self.error(span, &message, "remove it, or begin what it ends");
                }
                Some(_) => {
                    let before = self.at;
                    is_map |= self.label().is_some();
                    self.skip(true)?;
                    items.push(self.expression()?);
                    if self.at == before {
                        self.bump();
                    }
                }
            }
        }
    }

    /// Code of another kind: up to the end of the line, and with `inner` up to a comma; never past a bracket that
    /// ends what it is in.
    fn code(&mut self, inner: bool) -> Parsed<()> {
        let mut open: Vec<(char, Span)> = Vec::new();
        let mut before = '=';
        while let Some(c) = self.peek() {
            let span = Span::new(self.at, self.at + c.len_utf8());
            match c {
                '\n' | ';' if open.is_empty() => return Ok(()),
                ',' if open.is_empty() && inner => return Ok(()),
                '\'' | '"' => {
                    self.string()?;
                    before = 'x';
                    continue;
                }
                '/' if self.rest().starts_with("//") || self.rest().starts_with("/*") => {
                    self.skip(false)?;
                    continue;
                }
                '/' if "(,=~:[!&|?{};".contains(before) => {
                    // A pattern between slashes.
                    let line = self.rest().lines().next().unwrap_or_default();
                    let end =
                        line.char_indices().skip(1).find(|(at, c)| *c == '/' && !line[..*at].ends_with('\\'));
                    self.at += end.map_or(1, |(at, _)| at + 1);
                    before = 'x';
                    continue;
                }
                '(' | '[' | '{' => open.push((c, span)),
                ')' | ']' | '}' => {
                    let begins = match c {
                        ')' => '(',
                        ']' => '[',
                        _ => '{',
                    };
                    match open.pop() {
                        None => return Ok(()),
                        Some((known, _)) if known == begins => {}
                        Some((known, span)) => {
                            let message = format!("`{known}` does not end before `{c}`");
                            return self.error(span, &message, "end it");
                        }
                    }
                }
                _ => {}
            }
            if !c.is_whitespace() {
                before = c;
            }
            self.at += c.len_utf8();
        }
        match open.pop() {
            None => Ok(()),
            Some((c, span)) => self.error(span, &format!("`{c}` does not end"), "end it"),
        }
    }

    /// A text in quotes of any kind.
    fn string(&mut self) -> Parsed<Vec<Part>> {
        let start = self.at;
        let quote = if self.rest().starts_with('\'') { '\'' } else { '"' };
        let triple = if quote == '\'' { "'''" } else { "\"\"\"" };
        let is_triple = self.rest().starts_with(triple);
        self.at += if is_triple { 3 } else { 1 };
        let open = Span::new(start, self.at);
        let (mut parts, mut text) = (Vec::new(), String::new());
        loop {
            if is_triple && self.rest().starts_with(triple) {
                self.at += 3;
                break;
            }
            match self.bump() {
                Some(c) if c == quote && !is_triple => break,
                Some('\n') | None if !is_triple || self.at >= self.text.len() => {
                    let help = if is_triple {
                        "end it with three quotes"
                    } else {
                        "end it with a quote on its line"
                    };
                    return self.error(open, "a text does not end", help);
                }
                Some('\\') => self.escape(&mut text),
                Some('$') if quote == '"' => {
                    if let Some(part) = self.filled()? {
                        if !text.is_empty() {
                            parts.push(Part::Literal(std::mem::take(&mut text)));
                        }
                        parts.push(part);
                    } else {
                        text.push('$');
                    }
                }
                Some('\r') if self.peek() == Some('\n') => {}
                Some(c) => text.push(c),
                None => {}
            }
        }
        if !text.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(text));
        }
        Ok(parts)
    }

    fn escape(&mut self, text: &mut String) {
        match self.bump() {
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('r') => text.push('\r'),
            Some('b') => text.push('\u{8}'),
            Some('f') => text.push('\u{c}'),
            Some('\n') => {}
            Some(c @ ('\\' | '\'' | '"' | '$')) => text.push(c),
            Some('u') => {
                let digits = self.rest().get(..4).unwrap_or_default();
                match u32::from_str_radix(digits, 16).ok().and_then(char::from_u32) {
                    Some(c) => {
                        text.push(c);
                        self.at += 4;
                    }
                    None => text.push_str("\\u"),
                }
            }
            Some(c) => {
                text.push('\\');
                text.push(c);
            }
            None => {}
        }
    }

    /// What stands after a `$`; `None` when that stands for itself.
    fn filled(&mut self) -> Parsed<Option<Part>> {
        if !self.rest().starts_with('{') {
            return Ok(self.path().map(Part::Variable));
        }
        let open = Span::new(self.at - 1, self.at + 1);
        self.at += 1;
        let start = self.at;
        self.deeper(open)?;
        loop {
            self.code(false)?;
            match self.peek() {
                Some('}') => break,
                Some(_) => {
                    self.bump();
                }
                None => return self.error(open, "`${` does not end", "end it with `}`"),
            }
        }
        self.depth -= 1;
        let code = self.text[start..self.at].trim();
        self.at += 1;
        let is_path = !code.is_empty()
            && code.split('.').all(|name| {
                name.starts_with(|c: char| c.is_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_alphanumeric() || c == '_')
            });
        let code = code.to_owned();
        Ok(Some(if is_path { Part::Variable(code) } else { Part::Code(code) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Statement> {
        parse(&SourceFile::new("Jenkinsfile", text)).unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    #[test]
    fn texts_of_every_kind_are_read() {
        let found = parsed("a 'it\\'s $x', \"\"\"b ${env.C}\n\\$d $e.f ${g()}\"\"\"\n");
        let texts: Vec<&Kind> = found[0].arguments.iter().map(|argument| &argument.value.kind).collect();
        let Kind::Text(first) = texts[0] else { panic!("a text") };
        assert_eq!(first, &[Part::Literal("it's $x".to_owned())]);
        let Kind::Text(second) = texts[1] else { panic!("a text") };
        assert_eq!(
            second,
            &[
                Part::Literal("b ".to_owned()),
                Part::Variable("env.C".to_owned()),
                Part::Literal("\n$d ".to_owned()),
                Part::Variable("e.f".to_owned()),
                Part::Literal(" ".to_owned()),
                Part::Code("g()".to_owned()),
            ]
        );
    }

    #[test]
    fn calls_blocks_and_code_are_distinguished() {
        let found = parsed(
            "@Library('x') _\npipeline {\n  agent any // c\n  a(b: 1, c: ['d', 'e']) { f() }\n  X = credentials('y')\n  docker.build('a').push()\n  if (x ==~ /a\"{/) { y } else { z }\n  k 'a' + b\n}\n",
        );
        let names: Vec<&str> = found.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["", "pipeline"]);
        let inside: Vec<&str> = found[1].inside().iter().map(|one| one.name.as_str()).collect();
        assert_eq!(inside, ["agent", "a", "X", "", "", "k"]);
        assert!(matches!(found[1].inside()[5].arguments[0].value.kind, Kind::Code));
        assert!(found[1].inside()[1].named("c").is_some() && found[1].inside()[1].get("f").is_some());
    }

    #[test]
    fn what_does_not_end_is_reported_where_it_begins() {
        for (text, line, column) in [
            ("a {\n  b 'c\n}", 2, 5),
            ("a {\n  b {\n}", 1, 3),
            ("a (b\n", 1, 3),
            ("a '''b\n'", 1, 3),
            ("a }", 1, 3),
            ("a [1, 2", 1, 3),
            ("/* a", 1, 1),
            ("a \"${b", 1, 4),
            ("a \"${b\"", 1, 7),
            ("def a = (b]", 1, 9),
        ] {
            let file = SourceFile::new("Jenkinsfile", text);
            let problem = parse(&file).expect_err(text);
            let label = problem.label.as_ref().expect("a place");
            let at = file.position(label.span.start);
            assert_eq!((at.line, at.column), (line, column), "{text}: {}", problem.message);
        }
    }
}
