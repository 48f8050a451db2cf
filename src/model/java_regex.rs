//! Java's regular expressions, which CloudFormation compares values with, as far as they can be judged.
//!
//! Patterns are translated into what `regex-lite` matches in linear time. Character classes are computed as
//! sets of characters, because nested classes, intersections and `\p{Alpha}` mean other things elsewhere. What has no
//! exact translation (backreferences, possessive quantifiers, look-around other than at the start) is not
//! judged: the caller then leaves the value to CloudFormation.

use regex_lite::RegexBuilder;

/// The most memory that a compiled pattern may take; one that would take more is not judged.
const MOST: usize = 1 << 20;

/// How deep groups and classes may be nested.
const DEPTH: usize = 50;

/// Whether `pattern` matches all of `value`, as `java.util.regex.Matcher.matches` would say; `None` where that
/// can't be told.
pub fn matches(pattern: &str, value: &str) -> Option<bool> {
    let mut parser = Parser {
        chars: pattern.chars().collect(),
        at: 0,
        out: String::new(),
        flags: Flags::default(),
        ascii: value.is_ascii(),
        lines: value.chars().any(|c| LINE_ENDS.holds(c)),
        alternatives: false,
    };
    let conditions = parser.conditions()?;
    parser.alternation(0)?;
    if parser.at < parser.chars.len() || (parser.alternatives && !conditions.is_empty()) {
        return None;
    }
    let mut met = found(&format!("^(?:{})$", parser.out), value)?;
    for (positive, text) in conditions {
        met &= found(&format!("^(?:{text})"), value)? == positive;
    }
    Some(met)
}

fn found(pattern: &str, value: &str) -> Option<bool> {
    Some(RegexBuilder::new(pattern).size_limit(MOST).build().ok()?.is_match(value))
}

/// A set of characters: ranges, both ends included, sorted and apart from each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Set(Vec<(u32, u32)>);

/// The last character there is.
const LAST: u32 = 0x10_FFFF;

/// What ends a line, and is not matched by `.`.
const LINE_ENDS: Ranges =
    Ranges(&[('\n', '\n'), ('\r', '\r'), ('\u{85}', '\u{85}'), ('\u{2028}', '\u{2029}')]);
const DIGITS: Ranges = Ranges(&[('0', '9')]);
const WORD: Ranges = Ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]);
const SPACE: Ranges = Ranges(&[('\t', '\r'), (' ', ' ')]);
const HORIZONTAL: Ranges = Ranges(&[
    ('\t', '\t'),
    (' ', ' '),
    ('\u{a0}', '\u{a0}'),
    ('\u{1680}', '\u{1680}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{2000}', '\u{200a}'),
    ('\u{202f}', '\u{202f}'),
    ('\u{205f}', '\u{205f}'),
    ('\u{3000}', '\u{3000}'),
]);
const VERTICAL: Ranges = Ranges(&[('\n', '\r'), ('\u{85}', '\u{85}'), ('\u{2028}', '\u{2029}')]);

/// A set that is known beforehand.
struct Ranges(&'static [(char, char)]);

impl Ranges {
    fn holds(&self, c: char) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&c))
    }

    fn set(&self) -> Set {
        Set::of(self.0.iter().map(|(first, last)| (u32::from(*first), u32::from(*last))).collect())
    }
}

impl Set {
    fn of(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    fn one(c: char) -> Self {
        Self(vec![(u32::from(c), u32::from(c))])
    }

    fn with(self, other: Self) -> Self {
        Self::of([self.0, other.0].concat())
    }

    fn negated(&self) -> Self {
        let mut next = 0;
        let mut ranges = Vec::new();
        for (first, last) in &self.0 {
            if *first > next {
                ranges.push((next, first - 1));
            }
            next = last + 1;
        }
        if next <= LAST {
            ranges.push((next, LAST));
        }
        Self(ranges)
    }

    fn within(&self, other: &Self) -> Self {
        self.negated().with(other.negated()).negated()
    }

    /// The same with both cases of every ASCII letter in it, which is what Java's `(?i)` stands for.
    fn folded(self) -> Self {
        let shifted = |from: char, to: char, by: i64| {
            let (from, to) = (u32::from(from), u32::from(to));
            let letters = self.0.iter().filter_map(move |(first, last)| {
                let (first, last) = ((*first).max(from), (*last).min(to));
                let moved = |c: u32| u32::try_from(i64::from(c) + by).ok();
                if first <= last { Some((moved(first)?, moved(last)?)) } else { None }
            });
            letters.collect::<Vec<_>>()
        };
        let more = [shifted('a', 'z', -32), shifted('A', 'Z', 32)].concat();
        self.with(Self(more))
    }

    /// The class that matches it.
    fn write(&self, out: &mut String) {
        // Surrogates are no characters of a text.
        let mut parts = String::new();
        for (first, last) in &self.0 {
            for (first, last) in [(*first, (*last).min(0xD7FF)), ((*first).max(0xE000), *last)] {
                if first <= last {
                    parts.push_str(&format!("\\x{{{first:x}}}-\\x{{{last:x}}}"));
                }
            }
        }
        if parts.is_empty() {
            out.push_str("[^\\x{0}-\\x{10ffff}]");
        } else {
            out.push('[');
            out.push_str(&parts);
            out.push(']');
        }
    }
}

/// What `(?is)` switches on.
#[derive(Debug, Clone, Copy, Default)]
struct Flags {
    ignore_case: bool,
    dot_all: bool,
}

/// What an escape stands for.
enum Escape {
    Char(char),
    Set(Set),
}

/// Translates a pattern; every method gives `None` for what can't be judged or is no pattern.
struct Parser {
    chars: Vec<char>,
    at: usize,
    out: String,
    flags: Flags,
    /// Whether the value is ASCII: only then classes of Unicode can be told.
    ascii: bool,
    /// Whether the value holds an end of line, which `$` may stand before.
    lines: bool,
    /// Whether there is a `|` outside all groups.
    alternatives: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, text: &str) -> bool {
        let long = text.chars().count();
        let here = self.chars.get(self.at..self.at + long);
        let found = here.is_some_and(|here| here.iter().copied().eq(text.chars()));
        self.at += if found { long } else { 0 };
        found
    }

    /// `(?=...)` and `(?!...)` that the pattern begins with: each is a pattern of its own for the
    /// start of the value, with whether it must match.
    fn conditions(&mut self) -> Option<Vec<(bool, String)>> {
        let mut conditions = Vec::new();
        let start = self.at;
        if self.take("^") {
            while matches!(self.peek(), Some('^')) {
                self.at += 1;
            }
        }
        loop {
            let positive = if self.take("(?=") {
                true
            } else if self.take("(?!") {
                false
            } else {
                break;
            };
            self.alternation(1)?;
            if !self.take(")") || matches!(self.peek(), Some('*' | '+' | '?' | '{')) {
                return None;
            }
            conditions.push((positive, std::mem::take(&mut self.out)));
        }
        if conditions.is_empty() {
            self.at = start;
        }
        Some(conditions)
    }

    fn alternation(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        loop {
            self.sequence(depth)?;
            if self.peek() != Some('|') {
                return Some(());
            }
            self.alternatives |= depth == 0;
            self.at += 1;
            self.out.push('|');
        }
    }

    fn sequence(&mut self, depth: usize) -> Option<()> {
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            self.at += 1;
            match c {
                '(' => self.group(depth)?,
                '^' => {
                    self.out.push('^');
                    continue;
                }
                '$' => {
                    self.end()?;
                    continue;
                }
                '.' => {
                    let set =
                        if self.flags.dot_all { Set(vec![(0, LAST)]) } else { LINE_ENDS.set().negated() };
                    set.write(&mut self.out);
                }
                '[' => {
                    let set = self.class(depth)?;
                    set.write(&mut self.out);
                }
                '\\' => {
                    if !self.escaped()? {
                        continue;
                    }
                }
                '*' | '+' | '?' | '{' => return None,
                c => self.literal(c),
            }
            self.quantifier()?;
        }
        Some(())
    }

    fn literal(&mut self, c: char) {
        let set = Set::one(c);
        let set = if self.flags.ignore_case { set.folded() } else { set };
        set.write(&mut self.out);
    }

    /// `$`: the end, or before the last end of line. At the pattern's end, both are the same: all of the
    /// value must match.
    fn end(&mut self) -> Option<()> {
        if self.lines && self.at < self.chars.len() {
            return None;
        }
        self.out.push('$');
        Some(())
    }

    fn group(&mut self, depth: usize) -> Option<()> {
        let before = self.flags;
        if self.take("?") && !self.take(":") {
            if self.take("<") {
                // A name, unless it looks behind.
                while let Some(c) = self.peek().filter(char::is_ascii_alphanumeric) {
                    self.at += usize::from(c.is_ascii());
                }
                if !self.take(">") {
                    return None;
                }
            } else if self.switch()? {
                self.out.push_str("(?:)");
                return Some(());
            }
        }
        self.out.push_str("(?:");
        self.alternation(depth + 1)?;
        self.flags = before;
        if !self.take(")") {
            return None;
        }
        self.out.push(')');
        Some(())
    }

    /// `(?i)` or `(?i:`, behind the `?`; whether it was the former, which holds to the end of the group around it.
    fn switch(&mut self) -> Option<bool> {
        let mut on = true;
        loop {
            let c = self.peek()?;
            self.at += 1;
            match c {
                'i' => self.flags.ignore_case = on,
                's' => self.flags.dot_all = on,
                '-' if on => on = false,
                ')' => return Some(true),
                ':' => return Some(false),
                _ => return None,
            }
        }
    }

    fn quantifier(&mut self) -> Option<()> {
        let c = match self.peek() {
            Some(c @ ('*' | '+' | '?' | '{')) => c,
            _ => return Some(()),
        };
        self.at += 1;
        self.out.push(c);
        if c == '{' {
            loop {
                let c = self.peek()?;
                if !c.is_ascii_digit() && !matches!(c, ',' | '}') {
                    return None;
                }
                self.at += 1;
                self.out.push(c);
                if c == '}' {
                    break;
                }
            }
        }
        match self.peek() {
            // Whether it takes much or little makes no difference where all must match.
            Some('?') => self.at += 1,
            Some('+') => return None,
            _ => {}
        }
        match self.peek() {
            Some('*' | '+' | '?' | '{') => None,
            _ => Some(()),
        }
    }

    /// What stands behind a `\` outside a class; whether a quantifier may follow.
    fn escaped(&mut self) -> Option<bool> {
        match self.peek()? {
            'Q' => {
                self.at += 1;
                let rest: String = self.chars[self.at..].iter().collect();
                let quoted = rest.split("\\E").next().unwrap_or_default();
                let long = quoted.chars().count();
                quoted.chars().for_each(|c| self.literal(c));
                self.at += long;
                self.take("\\E");
                Some(long > 0)
            }
            'b' | 'B' if !self.ascii => None,
            c @ ('b' | 'B') => {
                self.at += 1;
                if self.peek() == Some('{') {
                    return None;
                }
                self.out.push('\\');
                self.out.push(c);
                Some(false)
            }
            'A' => {
                self.at += 1;
                self.out.push('^');
                Some(false)
            }
            'Z' => {
                self.at += 1;
                self.end()?;
                Some(false)
            }
            'z' => {
                self.at += 1;
                self.out.push('$');
                Some(false)
            }
            'R' => {
                self.at += 1;
                self.out.push_str("(?:\\r\\n|");
                VERTICAL.set().write(&mut self.out);
                self.out.push(')');
                Some(true)
            }
            _ => {
                match self.escape()? {
                    Escape::Char(c) => self.literal(c),
                    Escape::Set(set) => set.write(&mut self.out),
                }
                Some(true)
            }
        }
    }

    /// What stands behind a `\`, in a class or outside.
    fn escape(&mut self) -> Option<Escape> {
        let c = self.peek()?;
        self.at += 1;
        let set = |ranges: Ranges, plain: bool| {
            let set = ranges.set();
            Some(Escape::Set(if plain { set } else { set.negated() }))
        };
        match c {
            'd' | 'D' => set(DIGITS, c == 'd'),
            'w' | 'W' => set(WORD, c == 'w'),
            's' | 'S' => set(SPACE, c == 's'),
            'h' | 'H' => set(HORIZONTAL, c == 'h'),
            'v' | 'V' => set(VERTICAL, c == 'v'),
            't' => Some(Escape::Char('\t')),
            'n' => Some(Escape::Char('\n')),
            'r' => Some(Escape::Char('\r')),
            'f' => Some(Escape::Char('\u{c}')),
            'a' => Some(Escape::Char('\u{7}')),
            'e' => Some(Escape::Char('\u{1b}')),
            'x' if self.take("{") => {
                let mut digits = String::new();
                while let Some(c) = self.peek().filter(|c| *c != '}') {
                    digits.push(c);
                    self.at += 1;
                }
                self.take("}").then_some(())?;
                self.hex(&digits)
            }
            'x' | 'u' => {
                let long = if c == 'x' { 2 } else { 4 };
                let digits: String = self.chars.get(self.at..self.at + long)?.iter().collect();
                self.at += long;
                self.hex(&digits)
            }
            'p' | 'P' => self.property(c == 'p'),
            c if c.is_ascii_alphanumeric() => None,
            c => Some(Escape::Char(c)),
        }
    }

    fn hex(&self, digits: &str) -> Option<Escape> {
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        Some(Escape::Char(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?))
    }

    /// `\p{Alpha}`. The classes of POSIX are ASCII in Java; those of Unicode can be told for ASCII values alone.
    fn property(&mut self, plain: bool) -> Option<Escape> {
        let mut name = String::new();
        if self.take("{") {
            while let Some(c) = self.peek().filter(|c| *c != '}') {
                name.push(c);
                self.at += 1;
            }
            self.take("}").then_some(())?;
        } else {
            name.push(self.peek()?);
            self.at += 1;
        }
        if self.flags.ignore_case {
            return None;
        }
        let within = |test: fn(&u8) -> bool| {
            Set::of((0..128_u8).filter(test).map(|b| (u32::from(b), u32::from(b))).collect())
        };
        let posix = match name.as_str() {
            "Lower" => Some(within(u8::is_ascii_lowercase)),
            "Upper" => Some(within(u8::is_ascii_uppercase)),
            "ASCII" => Some(within(u8::is_ascii)),
            "Alpha" => Some(within(u8::is_ascii_alphabetic)),
            "Digit" => Some(within(u8::is_ascii_digit)),
            "Alnum" => Some(within(u8::is_ascii_alphanumeric)),
            "Punct" => Some(within(u8::is_ascii_punctuation)),
            "Graph" => Some(within(u8::is_ascii_graphic)),
            "Print" => Some(within(|b| b.is_ascii_graphic() || *b == b' ')),
            "Blank" => Some(within(|b| matches!(b, b' ' | b'\t'))),
            "Cntrl" => Some(within(u8::is_ascii_control)),
            "XDigit" => Some(within(u8::is_ascii_hexdigit)),
            "Space" => Some(SPACE.set()),
            _ => None,
        };
        let set = match (posix, name.as_str()) {
            (Some(set), _) => set,
            (None, _) if !self.ascii => return None,
            (None, "L" | "IsL" | "IsAlphabetic" | "IsLatin") => within(u8::is_ascii_alphabetic),
            (None, "Lu" | "IsLu" | "IsUppercase") => within(u8::is_ascii_uppercase),
            (None, "Ll" | "IsLl" | "IsLowercase") => within(u8::is_ascii_lowercase),
            (None, "N" | "IsN" | "Nd" | "IsNd" | "IsDigit") => within(u8::is_ascii_digit),
            (None, _) => return None,
        };
        Some(Escape::Set(if plain { set } else { set.negated() }))
    }

    /// A class, behind its `[`.
    fn class(&mut self, depth: usize) -> Option<Set> {
        if depth > DEPTH {
            return None;
        }
        let negated = self.take("^");
        let mut set = self.operand(depth, true)?;
        while self.take("&&") {
            // What a negation stands for here differs between Java's versions.
            if negated {
                return None;
            }
            set = set.within(&self.operand(depth, false)?);
        }
        if !self.take("]") {
            return None;
        }
        Some(if negated { set.negated() } else { set })
    }

    /// What a class holds, up to its end or an `&&`. A `]` that a class begins with is one of its characters.
    fn operand(&mut self, depth: usize, first: bool) -> Option<Set> {
        let mut set = Set(Vec::new());
        let mut empty = true;
        loop {
            let c = self.peek()?;
            if c == ']' && !(empty && first) || c == '&' && self.chars.get(self.at + 1) == Some(&'&') {
                return (!empty).then_some(set);
            }
            empty = false;
            self.at += 1;
            let item = match c {
                '[' => {
                    set = set.with(self.class(depth + 1)?);
                    continue;
                }
                '\\' => self.escape()?,
                c => Escape::Char(c),
            };
            let from = match item {
                Escape::Char(c) => c,
                Escape::Set(found) => {
                    set = set.with(found);
                    continue;
                }
            };
            let mut to = from;
            let next = self.chars.get(self.at + 1).copied();
            if self.peek() == Some('-') && !matches!(next, Some(']' | '[') | None) {
                self.at += 2;
                to = match next {
                    Some('\\') => match self.escape()? {
                        Escape::Char(c) => c,
                        Escape::Set(_) => return None,
                    },
                    Some(c) => c,
                    None => return None,
                };
            }
            if to < from {
                return None;
            }
            let range = Set(vec![(u32::from(from), u32::from(to))]);
            set = set.with(if self.flags.ignore_case { range.folded() } else { range });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_the_value_must_match() {
        let cases = [
            ("[a-z]+", "abc", true),
            ("[a-z]+", "abc1", false),
            ("a|b", "ab", false),
            ("^[a-z]+$", "abc", true),
            ("^[a-z]+$", "abc\n", false),
            ("", "", true),
            ("", "a", false),
            (".*", "a\nb", false),
            ("(?s).*", "a\nb", true),
            (".", "\u{2028}", false),
            (r"\d{1,3}(\.\d{1,3}){3}/\d+", "10.0.0.0/16", true),
            (r"\d{1,3}(\.\d{1,3}){3}/\d+", "10.0.0.0", false),
            ("(?i)prod|dev", "PROD", true),
            ("((?i)a)b", "AB", false),
            ("(?i)[^a]", "A", false),
            (r"\Qa.b\E", "a.b", true),
            (r"\Qa.b\E", "axb", false),
            (r"[\w-.]+", "a-b.c", true),
            ("[]a]+", "]a", true),
            ("[a-c&&[^b]]+", "ac", true),
            ("[a-c&&[^b]]+", "abc", false),
            ("[a[0-9]]+", "a7", true),
            // Java has no `[:alpha:]`: these are a class within a class, of six characters.
            ("[[:alpha:]]+", "alpha:", true),
            ("[[:alpha:]]+", "x", false),
            (r"\p{Alpha}\p{Upper}\P{Digit}", "aB-", true),
            (r"\p{L}+", "abc1", false),
            ("(?=.*[A-Z])(?=.*[0-9])[A-Za-z0-9]{8,}", "abcdefgh", false),
            ("^(?=.*[A-Z])(?=.*[0-9]).{8,}$", "Abcdefg1", true),
            ("(?!root$)[a-z]+", "root", false),
            ("(?!root$)[a-z]+", "roots", true),
            ("a.*?b", "axxb", true),
            (r"^$|^sg-[0-9a-f]+$", "", true),
            (r"\x41\u0042\x{43}", "ABC", true),
            ("größe", "größe", true),
        ];
        for (pattern, value, expected) in cases {
            assert_eq!(matches(pattern, value), Some(expected), "{pattern} {value:?}");
        }
    }

    #[test]
    fn what_has_no_exact_translation_is_not_judged() {
        for (pattern, value) in [
            (r"(a)\1", "aa"),
            ("a++b", "ab"),
            ("(?>a|ab)c", "abc"),
            ("a(?=b)b", "ab"),
            ("(?<=a)b", "b"),
            ("(?x)a b", "ab"),
            ("(?m)^a$", "a"),
            (r"\p{L}+", "größe"),
            (r"\p{IsGreek}", "a"),
            ("[^a-d&&c-h]", "e"),
            ("a$\n", "a\n"),
            ("(?=a)a|b", "b"),
            // No patterns of Java's at all: CloudFormation refuses the template.
            ("[a-z", "a"),
            ("(a", "a"),
            ("a)", "a"),
            ("*a", "a"),
            ("[z-a]", "a"),
            (r"\y", "y"),
            ("{", "{"),
        ] {
            assert_eq!(matches(pattern, value), None, "{pattern}");
        }
    }

    /// What Java 17 says of generated patterns and values: a line has its verdict, and both as JSON.
    #[test]
    fn java_says_the_same() {
        let mut judged = 0;
        let mut cases = 0;
        for line in include_str!("java_verdicts.txt").lines() {
            let (verdict, case) = line.split_once('\t').expect("a verdict and a case");
            let (pattern, value): (String, String) = serde_json::from_str(case).expect("a case");
            cases += 1;
            if let Some(verdict_of_ours) = matches(&pattern, &value) {
                judged += 1;
                assert_eq!(verdict_of_ours, verdict == "yes", "{case}");
            }
        }
        assert!(judged * 10 > cases * 6, "{judged} of {cases} were judged");
    }

    proptest::proptest! {
        #[test]
        fn any_pattern_is_read_without_panic(pattern in r"[\[\]()^$|\\&a-z0-9{},.?*+:=!<>-]{0,24}", value in "\\PC{0,8}") {
            let _ = matches(&pattern, &value);
        }
    }
}
