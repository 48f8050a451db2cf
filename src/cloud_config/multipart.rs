//! User data of several parts: a MIME message (RFC 2046), as cloud-init and Flatcar take it.
//!
//! The same parts always give the same message: its boundary is a hash of them.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The longest line that may stand as it is; RFC 5322 allows 998 bytes.
const LINE_MOST: usize = 998;

/// The longest line of what is written as quoted-printable, without its end.
const QUOTED_MOST: usize = 76;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The name of its file.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The type that both engines know a part by: how it begins says what it is.
///
/// # Errors
/// When it is neither a cloud-config nor a script.
pub fn media_type(text: &str) -> Result<&'static str, &'static str> {
    match text.lines().next().map(str::trim_end) {
        Some("#cloud-config") => Ok("text/cloud-config"),
        Some(line) if line.starts_with("#!") => Ok("text/x-shellscript"),
        _ => Err("a part begins with `#cloud-config` or `#!`"),
    }
}

/// The message of `parts`.
///
/// # Errors
/// The name of the part that is neither a cloud-config nor a script, and why.
pub fn multipart(parts: &[Part]) -> Result<String, (String, &'static str)> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.name.len().to_le_bytes());
        hash.update(&part.name);
        hash.update(part.text.len().to_le_bytes());
        hash.update(&part.text);
    }
    // `=_` can't stand in quoted-printable; in what stands as it is, only who knows the hash could
    // have written it.
    let mut boundary = String::from("=_");
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(boundary, "{byte:02x}");
    }
    let mut out = format!("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"{boundary}\"\n");
    for part in parts {
        let media = media_type(&part.text).map_err(|why| (part.name.clone(), why))?;
        let name: String = part
            .name
            .chars()
            .map(|c| if c.is_ascii_graphic() && !"\"\\".contains(c) { c } else { '_' })
            .collect();
        let plain = part.text.bytes().all(|byte| byte.is_ascii() && byte != b'\r' && byte != 0)
            && part.text.lines().all(|line| line.len() <= LINE_MOST);
        let (encoding, body) =
            if plain { ("7bit", part.text.clone()) } else { ("quoted-printable", quoted(&part.text)) };
        let _ = write!(
            out,
            "\n--{boundary}\nContent-Type: {media}; charset=\"utf-8\"\nContent-Transfer-Encoding: {encoding}\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{body}"
        );
    }
    let _ = write!(out, "\n--{boundary}--\n");
    Ok(out)
}

/// A text as quoted-printable (RFC 2045).
fn quoted(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let (line, end) = line.strip_suffix('\n').map_or((line, ""), |line| (line, "\n"));
        let mut length = 0;
        for (at, byte) in line.bytes().enumerate() {
            let last = at + 1 == line.len();
            // A blank at the end of a line may get lost on the way.
            let plain =
                (b'!'..=b'~').contains(&byte) && byte != b'=' || matches!(byte, b' ' | b'\t') && !last;
            let width = if plain { 1 } else { 3 };
            if length + width >= QUOTED_MOST {
                out.push_str("=\n");
                length = 0;
            }
            length += width;
            if plain {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "={byte:02X}");
            }
        }
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, text: &str) -> Part {
        Part { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_message_is_the_same_every_time() {
        let parts = [
            part("worker.yaml", "#cloud-config\nhostname: a\n"),
            part("setup.sh", "#!/bin/sh\necho größe= \n"),
        ];
        insta::assert_snapshot!(multipart(&parts).expect("a message"));
        assert_eq!(multipart(&parts), multipart(&parts));
    }

    #[test]
    fn a_part_that_is_neither_is_refused() {
        let refused = multipart(&[part("a.txt", "hello\n")]);
        assert_eq!(refused, Err(("a.txt".to_owned(), "a part begins with `#cloud-config` or `#!`")));
    }

    #[test]
    fn lines_of_quoted_printable_are_short() {
        let long = quoted(&"ä= ".repeat(100));
        assert!(long.lines().all(|line| line.len() <= QUOTED_MOST), "{long}");
    }
}
