//! One pattern of a `.dockerignore`.
//!
//! Docker checks a pattern with one set of rules (Go's `filepath.Match`) and then matches with
//! another: it rewrites the pattern to a regular expression, in which `\d` is a digit, `[!a]` is
//! no negation, and `[*]` is a class, a repetition and a bracket. Files that Docker leaves out
//! must stay out, so both are followed here, oddities included.

/// A pattern, ready to be compared with paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    text: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// The path equals the pattern.
    Exact,
    /// `x**`: the path begins with `x`.
    Prefix,
    /// `**x`: the path ends with `x`.
    Suffix,
    /// Everything else.
    Nodes(Vec<Node>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// One character of a set.
    One(Set),
    /// Any number of them.
    Many(Set),
    /// `**/`: any number of folders.
    Folders,
    /// A `^` that stands inside the pattern.
    Start,
}

/// A set of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    ranges: Vec<(char, char)>,
    negated: bool,
}

impl Set {
    fn of(c: char) -> Self {
        Self { ranges: vec![(c, c)], negated: false }
    }

    fn not(c: char) -> Self {
        Self { ranges: vec![(c, c)], negated: true }
    }

    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != self.negated
    }
}

const SYNTAX: &str = "a bracket is not closed, is empty or holds a bare `-`, or `\\` is the last character";

impl Pattern {
    /// Reads a cleaned pattern, without its `!`.
    ///
    /// # Errors
    /// What Docker's command line refuses.
    pub(super) fn new(text: &[u8]) -> Result<Self, String> {
        let chars = decode(text);
        check(&chars)?;
        let kind = compile(&chars)?;
        Ok(Self { text: text.to_vec(), kind })
    }

    /// The pattern as text.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    /// Whether all of `path` matches.
    pub(super) fn matches(&self, path: &[u8]) -> bool {
        match &self.kind {
            Kind::Exact => path == self.text,
            Kind::Prefix => path.starts_with(&self.text[..self.text.len() - 2]),
            Kind::Suffix => {
                let suffix = &self.text[2..];
                path.ends_with(suffix) || suffix.first() == Some(&b'/') && path == &suffix[1..]
            }
            Kind::Nodes(nodes) => run(nodes, &decode(path)),
        }
    }
}

/// The characters of a text; each byte that is not UTF-8 counts as U+FFFD, as in Go.
fn decode(bytes: &[u8]) -> Vec<char> {
    let mut chars = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chars.extend(chunk.valid().chars());
        chars.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    chars
}

/// Docker's check: the pattern is compared with `.` by `filepath.Match`, which sees no error that
/// stands after the first `*` unless everything before it matches.
fn check(pattern: &[char]) -> Result<(), String> {
    let (mut pattern, mut name) = (pattern, &['.'][..]);
    'chunks: while !pattern.is_empty() {
        let from = pattern.iter().position(|&c| c != '*').unwrap_or(pattern.len());
        let (chunk, rest) = pattern[from..].split_at(chunk_length(&pattern[from..]));
        let star = from > 0;
        if star && chunk.is_empty() {
            return Ok(());
        }
        // A `*` takes any number of characters first, none of them a slash.
        let longest = if star { name.len() } else { 0 };
        for skipped in 0..=longest {
            match match_chunk(chunk, &name[skipped..])? {
                Some(after) if after.is_empty() || !rest.is_empty() => {
                    (pattern, name) = (rest, after);
                    continue 'chunks;
                }
                _ => {}
            }
        }
        return Ok(());
    }
    Ok(())
}

/// How long the part before the next `*` outside of brackets is.
fn chunk_length(pattern: &[char]) -> usize {
    let (mut bracket, mut at) = (false, 0);
    while let Some(&c) = pattern.get(at) {
        match c {
            '\\' => at += 1,
            '[' => bracket = true,
            ']' => bracket = false,
            '*' if !bracket => return at,
            _ => {}
        }
        at += 1;
    }
    pattern.len()
}

/// What remains of `name` after `chunk`, or `None` when it does not begin with it; either way all
/// of the chunk is checked.
fn match_chunk<'a>(chunk: &[char], name: &'a [char]) -> Result<Option<&'a [char]>, String> {
    let bad = || SYNTAX.to_owned();
    let mut rest = chunk.iter().copied().peekable();
    let mut name = Some(name);
    while let Some(c) = rest.next() {
        let (first, after) = match name.and_then(<[char]>::split_first) {
            Some((&first, after)) => (Some(first), Some(after)),
            None => (None, None),
        };
        let matches = match c {
            '?' => first.is_some_and(|first| first != '/'),
            '\\' => Some(rest.next().ok_or_else(bad)?) == first,
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let (mut within, mut empty) = (false, true);
                while empty || rest.next_if_eq(&']').is_none() {
                    let mut bound = || match rest.next()? {
                        '-' | ']' => None,
                        '\\' => rest.next(),
                        c => Some(c),
                    };
                    let low = bound().ok_or_else(bad)?;
                    let mut high = low;
                    if rest.next_if_eq(&'-').is_some() {
                        let mut bound = || match rest.next()? {
                            '-' | ']' => None,
                            '\\' => rest.next(),
                            c => Some(c),
                        };
                        high = bound().ok_or_else(bad)?;
                    }
                    if rest.peek().is_none() {
                        return Err(bad());
                    }
                    within |= first.is_some_and(|first| (low..=high).contains(&first));
                    empty = false;
                }
                within != negated
            }
            c => Some(c) == first,
        };
        name = after.filter(|_| matches);
    }
    Ok(name)
}

/// Which way the pattern is compared, by the same steps as in Docker.
fn compile(pattern: &[char]) -> Result<Kind, String> {
    let mut kind = Kind::Exact;
    let mut regex = Vec::new();
    let mut add = |text: &str| regex.extend(text.chars());
    let many = || Kind::Nodes(Vec::new());
    let mut at = 0;
    while let Some(&c) = pattern.get(at) {
        let first = at == 0;
        at += 1;
        match c {
            '*' if pattern.get(at) == Some(&'*') => {
                at += 1;
                if pattern.get(at) == Some(&'/') {
                    at += 1;
                }
                if at < pattern.len() {
                    add("(.*/)?");
                    kind = many();
                } else if kind == Kind::Exact {
                    kind = Kind::Prefix;
                } else {
                    add(".*");
                    kind = many();
                }
                if first {
                    kind = Kind::Suffix;
                }
            }
            '*' => {
                add("[^/]*");
                kind = many();
            }
            '?' => {
                add("[^/]");
                kind = many();
            }
            '.' | '+' | '(' | ')' | '|' | '{' | '}' | '$' => {
                add("\\");
                add(c.encode_utf8(&mut [0; 4]));
            }
            '\\' => {
                add("\\");
                if let Some(next) = pattern.get(at) {
                    at += 1;
                    add(next.encode_utf8(&mut [0; 4]));
                    kind = many();
                }
            }
            '[' | ']' => {
                add(c.encode_utf8(&mut [0; 4]));
                kind = many();
            }
            c => add(c.encode_utf8(&mut [0; 4])),
        }
    }
    match kind {
        Kind::Nodes(_) => parse(&regex).map(Kind::Nodes),
        kind => Ok(kind),
    }
}

/// Parses the regular expressions that [`compile`] makes, as Go does.
fn parse(regex: &[char]) -> Result<Vec<Node>, String> {
    let mut nodes = Vec::new();
    let mut at = 0;
    while let Some(&c) = regex.get(at) {
        if regex[at..].starts_with(&['(', '.', '*', '/', ')', '?']) {
            nodes.push(Node::Folders);
            at += 6;
            continue;
        }
        at += 1;
        let set = match c {
            '^' => {
                nodes.push(Node::Start);
                continue;
            }
            '[' => class(regex, &mut at)?,
            '\\' => escape(regex, &mut at)?,
            // Only as `.*`, which does not cross lines.
            '.' => Set::not('\n'),
            c => Set::of(c),
        };
        if regex.get(at) == Some(&'*') {
            at += 1;
            nodes.push(Node::Many(set));
        } else {
            nodes.push(Node::One(set));
        }
    }
    Ok(nodes)
}

/// The class whose `[` has been read.
fn class(regex: &[char], at: &mut usize) -> Result<Set, String> {
    let open = || "a bracket is not closed".to_owned();
    let mut set = Set { ranges: Vec::new(), negated: false };
    if regex.get(*at) == Some(&'^') {
        set.negated = true;
        *at += 1;
    }
    let mut first = true;
    loop {
        let c = *regex.get(*at).ok_or_else(open)?;
        *at += 1;
        if c == ']' && !first {
            return Ok(set);
        }
        first = false;
        if c == '[' && regex.get(*at) == Some(&':') && regex[*at..].windows(2).any(|two| two == [':', ']']) {
            return Err("named classes such as `[:alpha:]` are not supported; name the range".into());
        }
        let low = match c {
            '\\' => escape(regex, at)?,
            c => Set::of(c),
        };
        let single = |set: &Set| match set.ranges[..] {
            [(low, high)] if low == high && !set.negated => Some(low),
            _ => None,
        };
        let range = regex.get(*at) == Some(&'-') && regex.get(*at + 1).is_some_and(|&c| c != ']');
        match (single(&low), range) {
            (Some(low), true) => {
                *at += 1;
                let c = *regex.get(*at).ok_or_else(open)?;
                *at += 1;
                let high = match c {
                    '\\' => single(&escape(regex, at)?),
                    c => Some(c),
                };
                match high {
                    Some(high) if low <= high => set.ranges.push((low, high)),
                    _ => return Err("a range in a bracket runs backwards".into()),
                }
            }
            (None, _) if low.negated => {
                return Err("a class such as `\\D` cannot stand in a bracket".into());
            }
            _ => set.ranges.extend(low.ranges),
        }
    }
}

/// What follows a `\`.
fn escape(regex: &[char], at: &mut usize) -> Result<Set, String> {
    let c = *regex.get(*at).ok_or_else(|| SYNTAX.to_owned())?;
    *at += 1;
    let set = |ranges: &[(char, char)], negated| Ok(Set { ranges: ranges.to_vec(), negated });
    let word = [('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let space = [('\t', '\n'), ('\u{c}', '\r'), (' ', ' ')];
    match c {
        'd' => set(&[('0', '9')], false),
        'D' => set(&[('0', '9')], true),
        'w' => set(&word, false),
        'W' => set(&word, true),
        's' => set(&space, false),
        'S' => set(&space, true),
        'a' => Ok(Set::of('\u{7}')),
        'f' => Ok(Set::of('\u{c}')),
        'n' => Ok(Set::of('\n')),
        'r' => Ok(Set::of('\r')),
        't' => Ok(Set::of('\t')),
        'v' => Ok(Set::of('\u{b}')),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(Set::of(c)),
        c => Err(format!("`\\{c}` has no meaning that can be relied on; write `{c}`")),
    }
}

/// Whether all of `path` matches. The positions reached so far are kept as a set, so that
/// patterns such as `**/**/**/x` can't take exponential time.
fn run(nodes: &[Node], path: &[char]) -> bool {
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for node in nodes {
        let mut next = vec![false; path.len() + 1];
        match node {
            Node::Start => next[0] = reached[0],
            Node::One(set) => {
                for (at, &c) in path.iter().enumerate() {
                    next[at + 1] = reached[at] && set.holds(c);
                }
            }
            Node::Many(set) => {
                for at in 0..=path.len() {
                    next[at] = reached[at] || at > 0 && next[at - 1] && set.holds(path[at - 1]);
                }
            }
            Node::Folders => {
                // `.*` does not cross lines.
                let mut within = false;
                for at in 0..=path.len() {
                    next[at] = reached[at] || within && path[at - 1] == '/';
                    within = reached[at] || within && path[at - 1] != '\n';
                }
            }
        }
        reached = next;
    }
    reached[path.len()]
}
