//! User data of several parts: a MIME message (RFC 2046), as cloud-init and Flatcar take it.
//!
//! The same parts always give the same message: its boundary is a hash of them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::target::Target;

/// The longest line that may stand as it is; RFC 5322 allows 998 bytes.
const LINE_MOST: usize = 998;

/// The length of a line of base64, without its end.
const BASE64_LINE: usize = 76;

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

/// The message of `parts` for `target`. What is not plain ASCII is in base64 for cloud-init, which
/// reads the rest as if it were ISO 8859-1, and as it is for Flatcar: Go's reader of messages
/// leaves base64 to its caller.
///
/// # Errors
/// The name of the part that is neither a cloud-config nor a script, and why.
pub fn multipart(parts: &[Part], target: Target) -> Result<String, (String, &'static str)> {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.name.len().to_le_bytes());
        hash.update(&part.name);
        hash.update(part.text.len().to_le_bytes());
        hash.update(&part.text);
    }
    // `=_` can't stand in base64; in what stands as it is, only who knows the hash could have
    // written it.
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
        let (encoding, body) = match (plain, Target::CLOUD_INIT.contains(&target)) {
            (true, _) => ("7bit", part.text.clone()),
            (false, true) => ("base64", base64(&part.text)),
            (false, false) => ("8bit", part.text.clone()),
        };
        let _ = write!(
            out,
            "\n--{boundary}\nContent-Type: {media}; charset=\"utf-8\"\nContent-Transfer-Encoding: {encoding}\n\
             Content-Disposition: attachment; filename=\"{name}\"\n\n{body}"
        );
    }
    let _ = write!(out, "\n--{boundary}--\n");
    Ok(out)
}

/// Base64 in lines (RFC 2045).
fn base64(text: &str) -> String {
    let whole = STANDARD.encode(text);
    let mut out = String::with_capacity(whole.len() + whole.len() / BASE64_LINE + 1);
    for (at, c) in whole.chars().enumerate() {
        if at > 0 && at % BASE64_LINE == 0 {
            out.push('\n');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud_config::parts::of_message;
    use crate::source::SourceFile;

    fn part(name: &str, text: &str) -> Part {
        Part { name: name.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_message_is_the_same_every_time() {
        let parts = [
            part("worker.yaml", "#cloud-config\nhostname: a\n"),
            part("setup.sh", &format!("#!/bin/sh\necho größe{}\n", " x".repeat(40))),
        ];
        for target in [Target::CloudInit22_4, Target::Flatcar] {
            let message = multipart(&parts, target).expect("a message");
            insta::assert_snapshot!(format!("message_for_{target}"), message);
            assert_eq!(multipart(&parts, target).as_ref(), Ok(&message));
            let read = of_message(&SourceFile::new("message", message)).expect("it is read");
            let texts: Vec<&str> = read.iter().map(|part| part.file.text().trim_end()).collect();
            assert_eq!(texts, parts.each_ref().map(|part| part.text.trim_end()));
        }
    }

    #[test]
    fn a_part_that_is_neither_is_refused() {
        let refused = multipart(&[part("a.txt", "hello\n")], Target::Flatcar);
        assert_eq!(refused, Err(("a.txt".to_owned(), "a part begins with `#cloud-config` or `#!`")));
    }
}
