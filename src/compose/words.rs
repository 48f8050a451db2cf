//! Words of Compose files in ours.

use std::time::Duration;

/// A name of ours that is like `name`.
pub fn name(name: &str) -> String {
    let lower = name.to_lowercase();
    let clean: String =
        lower.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let clean = clean.trim_matches('-');
    let clean = if clean.starts_with(|c: char| c.is_ascii_lowercase()) {
        clean.to_owned()
    } else {
        format!("s-{clean}")
    };
    clean.chars().take(40).collect::<String>().trim_end_matches('-').to_owned()
}

/// A text with `$$` as `$`, and `${NAME:-default}` as its default; and the variables that have none.
/// The forms are those of the Compose Specification, "Interpolation".
pub fn interpolated(text: &str) -> (String, Vec<String>) {
    let (mut done, mut open) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix('$') {
            done.push('$');
            rest = behind;
        } else if let Some((inside, behind)) = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
            let end = inside.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inside.len());
            let (name, operator) = inside.split_at(end);
            let default = operator.strip_prefix(":-").or_else(|| operator.strip_prefix('-'));
            match default {
                Some(default) => done.push_str(default),
                None => {
                    open.push(name.to_owned());
                    done.push_str(&format!("<{name}>"));
                }
            }
            rest = behind;
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
                done.push('$');
            } else {
                open.push(rest[..end].to_owned());
                done.push_str(&format!("<{}>", &rest[..end]));
                rest = &rest[end..];
            }
        }
    }
    done.push_str(rest);
    (done, open)
}

/// A command line as the words that a shell would see, without expansions; `None` where it needs a shell.
pub fn split(text: &str) -> Option<Vec<String>> {
    let (mut words, mut word): (Vec<String>, Option<String>) = (Vec::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => into.push(c),
                    }
                }
            }
            '"' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => into.push(c),
                            c => into.extend(['\\', c]),
                        },
                        c => into.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// A duration such as `1m30s`, `500ms` or `90`.
pub fn duration(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0_f64, text.trim());
    if let Ok(seconds) = rest.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "us" | "µs" => 0.001,
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    Some(Duration::from_millis(total.round() as u64))
}

/// A size such as `512m`, `1.5gb` or `65536`, as our files have it.
pub fn size(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().ok()?;
    let bits = match lower[end..].trim().trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let bytes = (number
        * f64::from(1_u32 << (bits % 30))
        * if bits >= 30 { f64::from(1_u32 << 30) } else { 1.0 }) as u64;
    let kib = bytes.div_ceil(1 << 10);
    Some(match kib {
        _ if kib.is_multiple_of(1 << 20) && kib > 0 => format!("{}GiB", kib >> 20),
        _ if kib.is_multiple_of(1 << 10) && kib > 0 => format!("{}MiB", kib >> 10),
        _ => format!("{kib}KiB"),
    })
}

/// Whether the name of a variable says that it holds what nobody should read.
pub fn is_secret(name: &str) -> bool {
    let upper = name.to_uppercase();
    let words: Vec<&str> = upper.split(['_', '-', '.']).collect();
    let secret = |word: &&str| {
        ["PASSWORD", "PASSWD", "PASS", "SECRET", "TOKEN", "CREDENTIALS", "APIKEY"].contains(word)
    };
    // `POSTGRES_PASSWORD_FILE` names a file.
    let file = words.last() == Some(&"FILE");
    let key = words.len() > 1 && words.last() == Some(&"KEY") && !words.contains(&"PUBLIC");
    !file && (words.iter().any(secret) || key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::duration::written;

    #[test]
    fn names_become_names_of_ours() {
        for (given, ours) in
            [("web", "web"), ("My_App.db", "my-app-db"), ("3scale", "s-3scale"), ("_x_", "x")]
        {
            assert_eq!(name(given), ours);
            assert!(name(given).parse::<crate::model::name::ServiceName>().is_ok(), "{given}");
        }
    }

    #[test]
    fn variables_have_defaults_or_are_told() {
        let told = |text: &str| interpolated(text);
        assert_eq!(told("a$$b ${X:-y} ${Z-1}"), ("a$b y 1".to_owned(), vec![]));
        assert_eq!(
            told("${TAG} $HOME/x $1"),
            ("<TAG> <HOME>/x $1".to_owned(), vec!["TAG".into(), "HOME".into()])
        );
        assert_eq!(told("${NEEDED:?no} 5$"), ("<NEEDED> 5$".to_owned(), vec!["NEEDED".into()]));
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        let words = split(r#"sh -c "echo \"a b\"" 'c d' e\ f"#).expect("it ends");
        assert_eq!(words, ["sh", "-c", "echo \"a b\"", "c d", "e f"]);
        assert_eq!(split("a ''"), Some(vec!["a".to_owned(), String::new()]));
        assert_eq!(split("a 'b"), None);
    }

    #[test]
    fn times_and_sizes_are_ours() {
        let time = |text: &str| duration(text).map(written);
        assert_eq!(time("1m30s").as_deref(), Some("90s"));
        assert_eq!(time("1.5s").as_deref(), Some("1500ms"));
        assert_eq!(time("2h").as_deref(), Some("2h"));
        assert_eq!(time("10").as_deref(), Some("10s"));
        assert_eq!(time("soon"), None);
        for (given, ours) in
            [("512m", "512MiB"), ("1gb", "1GiB"), ("1.5g", "1536MiB"), ("65536", "64KiB"), ("20M", "20MiB")]
        {
            assert_eq!(size(given).as_deref(), Some(ours), "{given}");
        }
        assert_eq!(size("many"), None);
    }

    #[test]
    fn what_nobody_should_read_is_known_by_its_name() {
        for name in ["POSTGRES_PASSWORD", "API_KEY", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "db-password"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["POSTGRES_PASSWORD_FILE", "KEY", "PUBLIC_KEY", "MONKEY", "LOG_LEVEL"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
